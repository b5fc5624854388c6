/* A listening socket goes from a dispatcher to a worker in another process, which serves HTTP on it by
 * libevent's evhttp (libevent_extra); curl is the client. The first process never accepts. */

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <netinet/in.h>

#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/listener.h>

#include "ferry/ferry.h"

#include "listening.h"
#include "recorder.h"
#include "test.h"

enum { MIB = 1024 * 1024, WORKERS_MAX = 2 };

/* Memory shared by the processes: the workers write it, and the test reads it. */
struct board {
	atomic_uint ended; /* workers that have ended in order */
	atomic_int leaked; /* descriptors that these had too many */
};
static struct board *board;

/* ---- a worker process ---- */

static struct evhttp *http;

static void say_who(struct evhttp_request *request, void *context)
{
	(void)context;
	struct evbuffer *body = evhttp_request_get_output_buffer(request);
	evbuffer_add_printf(body, "%ld", (long)getpid());
	evhttp_send_reply(request, HTTP_OK, NULL, NULL);
}

static void echo(struct evhttp_request *request, void *context)
{
	(void)context;
	evhttp_send_reply(request, HTTP_OK, NULL, evhttp_request_get_input_buffer(request));
}

static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	(void)context;
	struct evconnlistener *listener = NULL;
	struct ferry_handoff_info info;
	if (ferry_handoff_get_info(handoff, &info) < 0 || strcmp(info.name, "www") != 0 ||
	    info.kind != FERRY_DESCRIPTOR_SOCKET)
		abort();
	if (ferry_handoff_to_listener(&listener, handoff, base, NULL, NULL,
	                              LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC) < 0)
		abort();
	/* The listener is evhttp's from here on. */
	if (evhttp_bind_listener(http, listener) == NULL)
		abort();
	if (ferry_worker_done(worker, info.id) < 0)
		abort();
}

static void dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	(void)context;
	if (reason != 0)
		abort();
	ferry_worker_free(worker);
	event_base_loopbreak(base);
}

static const struct ferry_worker_callbacks worker_callbacks = {
    .handoff_received = handoff_received,
    .dispatcher_lost = dispatcher_lost,
};

/* Ends by a signal, because nothing of the test's own that it has is to be looked through for leaks. */
static _Noreturn void work(int channel)
{
	static struct event_base *parents;
	parents = base; /* kept, for valgrind */
	(void)parents;
	const int fds_before = count_open_fds() - 1;
	struct ferry_worker *worker = NULL;

	base = event_base_new();
	http = evhttp_new(base);
	if (http == NULL)
		abort();
	evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_POST);
	evhttp_set_cb(http, "/who", say_who, NULL);
	evhttp_set_cb(http, "/echo", echo, NULL);
	if (ferry_worker_new(&worker, make_transport(channel), &worker_callbacks, NULL) < 0)
		abort();
	event_base_dispatch(base);

	evhttp_free(http);
	pump_turns(3);
	event_base_free(base);
	atomic_fetch_add(&board->leaked, count_open_fds() - fds_before);
	atomic_fetch_add(&board->ended, 1);
	raise(SIGKILL);
	abort();
}

/* ---- the dispatcher's process ---- */

static struct ferry_dispatcher *dispatcher;
static pid_t workers[WORKERS_MAX];
static unsigned int worker_count, workers_ready, workers_lost, done;

static void worker_ready(struct ferry_dispatcher *d, struct ferry_dispatcher_worker *worker,
                         void *context)
{
	(void)d, (void)worker, (void)context;
	workers_ready++;
}

static void worker_lost(struct ferry_dispatcher *d, struct ferry_dispatcher_worker *worker,
                        int reason, void *context)
{
	(void)d, (void)worker, (void)reason, (void)context;
	workers_lost++;
}

static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {
    .worker_ready = worker_ready,
    .worker_lost = worker_lost,
};

static void start_worker(void)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	const pid_t pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		close(fds[0]);
		work(fds[1]);
	}
	close(fds[1]);
	workers[worker_count++] = pid;
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, dispatcher, make_transport(fds[0]), NULL),
	                 0);
	pump_until_count(&workers_ready, worker_count);
}

static void open_dispatcher(void)
{
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(board, MAP_FAILED);
	make_directory();
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, &dispatcher_callbacks, NULL), 0);
	/* The workers are processes, on a machine that may be busy. */
	const struct timeval hour = {3600, 0};
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &hour, &hour), 0);
}

static void wait_for_death(pid_t pid)
{
	int status;
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %x",
	              (unsigned)status);
}

/* The workers notice that the dispatcher is gone, and end; those that the test has killed have ended. */
static void close_dispatcher(void)
{
	ferry_dispatcher_free(dispatcher);
	pump_turns(3);
	for (unsigned int i = 0; i < worker_count; i++)
		if (workers[i] != 0)
			wait_for_death(workers[i]);
	ck_assert_uint_eq(atomic_load(&board->ended) + workers_lost, worker_count);
	ck_assert_int_eq(atomic_load(&board->leaked), 0);
	unlink(socket_path);
	remove_directory();
	munmap(board, sizeof(*board));
}

/* ---- the listener ---- */

enum { ON_TCP, ON_UNIX, KINDS };

static struct evconnlistener *listener;
static char url[64];

static void never_accepts(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *address,
                          int length, void *context)
{
	(void)l, (void)fd, (void)address, (void)length, (void)context;
	ck_abort_msg("the dispatcher has accepted a client");
}

static void open_listener(int kind)
{
	const int fd = kind == ON_TCP ? listen_tcp() : listen_unix(socket_path);
	struct sockaddr_in address = {.sin_port = 0};
	socklen_t length = sizeof(address);
	snprintf(url, sizeof(url), "http://localhost");
	if (kind == ON_TCP) {
		ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
		snprintf(url, sizeof(url), "http://127.0.0.1:%u", ntohs(address.sin_port));
	}
	ck_assert_int_eq(evutil_make_socket_nonblocking(fd), 0);
	listener =
	    evconnlistener_new(base, never_accepts, NULL,
	                       LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_DISABLED, 0, fd);
	ck_assert_ptr_nonnull(listener);
}

static void on_outcome(struct ferry_dispatcher *d, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)d, (void)handoff, (void)context;
	ck_assert_int_eq(outcome, FERRY_HANDOFF_DONE);
	ck_assert_int_eq(reason, 0);
	done++;
}

/* Gives the listener to so many workers, one after the other, and keeps no copy. */
static void hand_listener_over(unsigned int times)
{
	for (unsigned int i = 0; i < times; i++) {
		struct ferry_handoff *handoff = NULL;
		ck_assert_int_eq(ferry_handoff_from_listener(&handoff, listener), 0);
		ck_assert_int_eq(ferry_handoff_set_name(handoff, "www"), 0);
		ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, NULL), 0);
		pump_until_count(&done, i + 1);
	}
	evconnlistener_free(listener);
	listener = NULL;
}

/* ---- curl ---- */

/* A curl that runs, and what it prints. */
struct curl {
	pid_t pid; /* 0 once it has ended */
	int output;
	int status;
};

static void start_curl(struct curl *curl, int kind, const char *path, const char *const *options)
{
	const char *arguments[24] = {"curl",      "-q", "-sS",        "--fail",
	                             "--noproxy", "*",  "--max-time", "200"};
	size_t count = 8;
	char whole[96];

	snprintf(whole, sizeof(whole), "%s%s", url, path);
	if (kind == ON_UNIX) {
		arguments[count++] = "--unix-socket";
		arguments[count++] = socket_path;
	}
	for (; options != NULL && *options != NULL; options++)
		arguments[count++] = strcmp(*options, "AGAIN") == 0 ? whole : *options;
	arguments[count++] = whole;
	curl->output = memfd_create("curl", MFD_CLOEXEC);
	ck_assert_int_ge(curl->output, 0);
	curl->pid = fork();
	ck_assert_int_ge(curl->pid, 0);
	if (curl->pid == 0) {
		dup2(curl->output, STDOUT_FILENO);
		execvp("curl", (char *const *)(uintptr_t)arguments);
		_exit(127);
	}
}

static bool has_ended(void *argument)
{
	struct curl *curl = argument;
	if (curl->pid != 0 && waitpid(curl->pid, &curl->status, WNOHANG) == curl->pid)
		curl->pid = 0;
	return curl->pid == 0;
}

/* Its exit status. */
static int wait_for_curl(struct curl *curl)
{
	pump_until(has_ended, curl);
	ck_assert(WIFEXITED(curl->status));
	return WEXITSTATUS(curl->status);
}

/* Returns curl's output as a number. */
static long printed_number(struct curl *curl)
{
	char text[64] = "";
	ck_assert_int_gt(pread(curl->output, text, sizeof(text) - 1, 0), 0);
	close(curl->output);
	return strtol(text, NULL, 10);
}

/* Which worker answers. */
static long who(int kind)
{
	struct curl curl;
	start_curl(&curl, kind, "/who", NULL);
	ck_assert_int_eq(wait_for_curl(&curl), 0);
	return printed_number(&curl);
}

/* ---- the tests ---- */

TEST_CASE("evhttp", open_dispatcher, close_dispatcher);

LOOP_TEST(curl_is_served_by_the_worker_that_got_the_listener, KINDS)
{
	start_worker();
	open_listener(_i);
	hand_listener_over(1);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(who(_i), workers[0]);
}

static bool has_client(void *unused)
{
	(void)unused;
	struct pollfd waiting = {.fd = evconnlistener_get_fd(listener), .events = POLLIN};
	return poll(&waiting, 1, 0) == 1;
}

LOOP_TEST(a_client_in_the_backlog_is_served_by_the_worker, KINDS)
{
	struct curl curl;
	open_listener(_i);
	start_curl(&curl, _i, "/who", NULL);
	pump_until(has_client, NULL);
	start_worker();
	hand_listener_over(1);
	ck_assert_int_eq(wait_for_curl(&curl), 0);
	ck_assert_int_eq(printed_number(&curl), workers[0]);
}

LOOP_TEST(a_mebibyte_goes_there_and_back, KINDS)
{
	struct curl curl;
	char name[64];
	static unsigned char back[MIB + 1];
	const int file = make_file(MIB);

	/* curl's own, because it inherits nothing but its output. */
	snprintf(name, sizeof(name), "@/proc/%ld/fd/%d", (long)getpid(), file);
	start_worker();
	open_listener(_i);
	hand_listener_over(1);
	start_curl(&curl, _i, "/echo", (const char *const[]){"--data-binary", name, NULL});
	ck_assert_int_eq(wait_for_curl(&curl), 0);
	ck_assert_int_eq(pread(curl.output, back, sizeof(back), 0), MIB);
	size_t right = 0;
	while (right < MIB && back[right] == support_byte(right))
		right++;
	ck_assert_uint_eq(right, MIB);
	close(curl.output);
	close(file);
}

LOOP_TEST(a_persistent_connection_is_served_twice, KINDS)
{
	struct curl curl;
	char text[64] = "", expected[64];
	start_worker();
	open_listener(_i);
	hand_listener_over(1);
	start_curl(&curl, _i, "/who", (const char *const[]){"-w", " %{num_connects} ", "AGAIN", NULL});
	ck_assert_int_eq(wait_for_curl(&curl), 0);
	ck_assert_int_gt(pread(curl.output, text, sizeof(text) - 1, 0), 0);
	snprintf(expected, sizeof(expected), "%ld 1 %ld 0 ", (long)workers[0], (long)workers[0]);
	ck_assert_str_eq(text, expected);
	close(curl.output);
}

LOOP_TEST(a_missing_path_is_not_found, KINDS)
{
	struct curl curl;
	start_worker();
	open_listener(_i);
	hand_listener_over(1);
	start_curl(&curl, _i, "/nothing", NULL);
	ck_assert_int_eq(wait_for_curl(&curl), 22); /* an HTTP status of 400 or more */
	close(curl.output);
}

LOOP_TEST(many_clients_at_once_are_served, KINDS)
{
	struct curl curls[8];
	start_worker();
	open_listener(_i);
	hand_listener_over(1);
	for (int i = 0; i < 8; i++)
		start_curl(&curls[i], _i, "/who", NULL);
	for (int i = 0; i < 8; i++) {
		ck_assert_int_eq(wait_for_curl(&curls[i]), 0);
		ck_assert_int_eq(printed_number(&curls[i]), workers[0]);
	}
}

LOOP_TEST(a_listener_that_two_workers_have_outlives_one_of_them, KINDS)
{
	start_worker();
	start_worker();
	open_listener(_i);
	hand_listener_over(2);
	const long first = who(_i);
	ck_assert(first == workers[0] || first == workers[1]);

	const int killed = first == workers[0] ? 0 : 1;
	ck_assert_int_eq(kill(workers[killed], SIGKILL), 0);
	wait_for_death(workers[killed]);
	workers[killed] = 0;
	pump_until_count(&workers_lost, 1);
	ck_assert_int_eq(who(_i), workers[1 - killed]);
}

LOOP_TEST(once_the_worker_has_ended_no_process_listens, KINDS)
{
	struct curl curl;
	start_worker();
	open_listener(_i);
	hand_listener_over(1);
	ck_assert_int_eq(who(_i), workers[0]);
	ck_assert_int_eq(kill(workers[0], SIGKILL), 0);
	wait_for_death(workers[0]);
	workers[0] = 0;
	pump_until_count(&workers_lost, 1);
	start_curl(&curl, _i, "/who", NULL);
	ck_assert_int_eq(wait_for_curl(&curl), 7); /* refused: the dispatcher's process has no copy */
	close(curl.output);
}

BEFORE_ALL
{
	if (system("curl --version >/dev/null 2>&1") != 0) { /* NOLINT(cert-env33-c) */
		puts("skipped: curl is missing");
		exit(77);
	}
}
