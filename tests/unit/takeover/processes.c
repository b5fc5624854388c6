/* Sockets on their way from process to process: under clients that never stop connecting, over
 * generations, and with either process killed at each stage. */

#include <errno.h>
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

#include <event2/listener.h>

#include "children.h"
#include "listening.h"
#include "recorder.h"
#include "test.h"

enum { KINDS = 4 };

static const char *const kinds[KINDS] = {"control", "local", "www", "hidden"};
static int sockets[KINDS];   /* the test makes them, and the first process gets them */
static char local_path[160]; /* the file of "local"; socket_path is that of "control" */

static void open_sockets(void)
{
	snprintf(local_path, sizeof(local_path), "%s2", socket_path);
	sockets[0] = listen_unix(socket_path);
	sockets[1] = listen_unix(local_path);
	sockets[2] = listen_tcp();
	sockets[3] = listen_abstract();
}

static void close_sockets(void)
{
	for (int i = 0; i < KINDS; i++)
		close(sockets[i]);
}

static struct ferry_socket_set *make_set(void)
{
	struct ferry_socket_set *set = NULL;
	ck_assert_int_eq(ferry_socket_set_new(&set), 0);
	for (int i = 0; i < KINDS; i++)
		ck_assert_int_eq(ferry_socket_set_add(set, kinds[i], sockets[i], FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_socket_set_own_path(set, "control"), 0);
	ck_assert_int_eq(ferry_socket_set_own_path(set, "local"), 0);
	return set;
}

/* ---- a daemon ---- */

/* The memory that all processes share. */
struct shared {
	atomic_uint owned;  /* generations that have become owners */
	atomic_uint gone;   /* generations that have ended after that */
	atomic_uint rounds; /* of the client, with one connection of each kind */
	atomic_bool stop;   /* asks the client to exit after its round */
	atomic_int failure; /* of the client: the errno and the place of a failure */
	atomic_int failed_kind;
	atomic_int open_fds[64]; /* of each generation, counted when it has become the owner */
};
static struct shared *shared;

static void make_shared(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
}

static void unmake_shared(void)
{
	munmap(shared, sizeof(*shared));
}

static struct {
	struct ferry_socket_set *set;
	struct ferry_listener *control, *local;
	struct evconnlistener *www, *hidden;
	struct takeover_end asking, serving;
	unsigned int connections; /* accepted, and not closed */
	bool replaced;
} self;

static void on_served(struct ferry_transport *transport, int reason, void *context)
{
	(void)reason, (void)context;
	ferry_transport_free(transport);
	self.connections--;
}

static const struct ferry_protocol serving_protocol = {.connection_lost = on_served};

static void on_local(struct ferry_listener *listener, struct ferry_transport *transport,
                     void *context)
{
	(void)listener, (void)context;
	self.connections++;
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &serving_protocol, NULL), 0);
	ck_assert_int_eq(ferry_transport_write(transport, "x", 1), 0);
	ferry_transport_lose_connection(transport);
}

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd,
                          struct sockaddr *address, int length, void *context)
{
	(void)listener, (void)address, (void)length, (void)context;
	ck_assert_int_eq(send(fd, "x", 1, MSG_NOSIGNAL), 1);
	close(fd);
}

static void on_replaced(struct takeover_end *end)
{
	ck_assert_int_eq(end->status, 0);
	ferry_listener_free(self.control);
	ferry_listener_free(self.local);
	evconnlistener_free(self.www);
	evconnlistener_free(self.hidden);
	self.replaced = true;
}

static void on_control(struct ferry_listener *listener, struct ferry_transport *transport,
                       void *context)
{
	(void)listener, (void)context;
	self.serving.on_ended = on_replaced;
	ck_assert_int_eq(ferry_takeover_serve(&self.serving.takeover, self.set, transport,
	                                      &takeover_end_callbacks, &self.serving),
	                 0);
}

static void begin_to_accept(void)
{
	ck_assert_int_eq(ferry_listener_new_fd(&self.control, base,
	                                       ferry_socket_set_find(self.set, "control"), on_control,
	                                       NULL),
	                 0);
	ck_assert_int_eq(ferry_listener_new_fd(&self.local, base,
	                                       ferry_socket_set_find(self.set, "local"), on_local,
	                                       NULL),
	                 0);
	self.www =
	    evconnlistener_new(base, on_connection, NULL, 0, 0, ferry_socket_set_find(self.set, "www"));
	self.hidden = evconnlistener_new(base, on_connection, NULL, 0, 0,
	                                 ferry_socket_set_find(self.set, "hidden"));
	ck_assert(self.www != NULL && self.hidden != NULL);
}

static void on_received(struct takeover_end *end)
{
	self.set = end->set;
	begin_to_accept();
	commit_takeover(end);
}

static void on_connected(struct ferry_connector *connector, int status,
                         struct ferry_transport *transport, void *context)
{
	(void)connector, (void)context;
	ck_assert_int_eq(status, 0);
	self.asking.on_received = on_received;
	ck_assert_int_eq(ferry_takeover_request(&self.asking.takeover, transport, NULL, 0,
	                                        &takeover_end_callbacks, &self.asking),
	                 0);
}

static bool is_idle(void *argument)
{
	(void)argument;
	return self.connections == 0;
}

static _Noreturn void be_daemon(unsigned int generation)
{
	memset(&self, 0, sizeof(self));
	if (generation == 0) {
		self.set = make_set();
		close_sockets();
		begin_to_accept();
	} else {
		ck_assert_int_eq(
		    ferry_connector_new_unix(NULL, base, socket_path, NULL, on_connected, NULL), 0);
		pump_until_count(&self.asking.ended, 1);
		ck_assert_int_eq(self.asking.status, 0);
		ferry_takeover_free(self.asking.takeover);
		pump_turns(3);
	}
	atomic_store(&shared->open_fds[generation], count_open_fds());
	atomic_fetch_add(&shared->owned, 1);

	while (!self.replaced)
		event_base_loop(base, EVLOOP_ONCE);
	pump_until(is_idle, NULL);
	ferry_takeover_free(self.serving.takeover);
	ferry_socket_set_free(self.set);
	pump_turns(3);
	atomic_fetch_add(&shared->gone, 1);
	die();
}

static bool count_reached(const atomic_uint *counter, unsigned int value)
{
	return atomic_load(counter) >= value || atomic_load(&shared->failure) != 0;
}

/* Reads the counter each millisecond, without a deadline: the time limit of check ends a test that hangs. */
static void wait_for(const atomic_uint *counter, unsigned int value)
{
	while (!count_reached(counter, value))
		poll(NULL, 0, 1);
	ck_assert_msg(atomic_load(&shared->failure) == 0, "a client of %s: %s",
	              kinds[atomic_load(&shared->failed_kind)],
	              strerror(atomic_load(&shared->failure)));
}

/* ---- a client that never stops ---- */

static void client_failed(int kind, int error)
{
	atomic_store(&shared->failed_kind, kind);
	atomic_store(&shared->failure, error);
	die();
}

/* Never returns. The client reads the addresses of the sockets, and connects to them again and again. */
static _Noreturn void be_client(void)
{
	struct sockaddr_storage addresses[KINDS];
	socklen_t lengths[KINDS];
	memset(addresses, 0, sizeof(addresses));
	for (int i = 1; i < KINDS; i++) {
		lengths[i] = sizeof(addresses[i]);
		getsockname(sockets[i], (struct sockaddr *)&addresses[i], &lengths[i]);
	}
	close_sockets();
	while (!atomic_load(&shared->stop)) {
		for (int i = 1; i < KINDS; i++) {
			char byte = 0;
			int fd = socket(addresses[i].ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
			if (connect(fd, (struct sockaddr *)&addresses[i], lengths[i]) < 0)
				client_failed(i, errno);
			ssize_t n = read(fd, &byte, 1);
			if (n != 1 || byte != 'x')
				client_failed(i, n < 0 ? errno : ENODATA);
			close(fd);
			if (!path_exists(socket_path) || !path_exists(local_path))
				client_failed(i, ENOENT);
		}
		atomic_fetch_add(&shared->rounds, 1);
	}
	die();
}

static void run_generations(unsigned int count, bool clients)
{
	pid_t daemons[64];
	pid_t client = -1;
	open_sockets();
	make_shared();
	for (unsigned int i = 0; i < count; i++) {
		daemons[i] = start_child();
		if (daemons[i] == 0)
			be_daemon(i);
		wait_for(&shared->owned, i + 1);
		if (i == 0 && clients) {
			client = start_child();
			if (client == 0)
				be_client();
		}
		if (i == 0)
			close_sockets();
		if (clients)
			wait_for(&shared->rounds, atomic_load(&shared->rounds) + 2);
		wait_for(&shared->gone, i);
		if (i > 0)
			wait_for_death(daemons[i - 1]);
	}
	if (clients) {
		atomic_store(&shared->stop, true);
		wait_for_death(client);
		wait_for(&shared->rounds, 1); /* fails if the client has reported a failure */
	}
	kill(daemons[count - 1], SIGKILL); /* its files are not removed */
	wait_for_death(daemons[count - 1]);
	ck_assert_int_eq(unlink(socket_path), 0);
	ck_assert_int_eq(unlink(local_path), 0);
}

TEST_CASE("generations", make_directory, remove_directory);

TEST(no_client_is_refused_during_fifty_takeovers)
{
	run_generations(51, true);
	unmake_shared();
}

TEST(twenty_generations_have_no_more_descriptors_than_one)
{
	run_generations(21, false);
	for (int i = 1; i < 21; i++)
		ck_assert_int_eq(atomic_load(&shared->open_fds[i]), atomic_load(&shared->open_fds[0]));
	unmake_shared();
}

/* ---- the old process is killed ---- */

static int ends[2];
static struct takeover_end end;

static void die_in(struct takeover_end *which)
{
	(void)which;
	die();
}

/* Starts an old process. With `serves` it serves the takeover on ends[0], and dies in its `ended` callback
 * if that runs. */
static pid_t start_old(bool serves)
{
	memset(&end, 0, sizeof(end));
	open_sockets();
	make_pair(PAIR_UNIX, ends);
	pid_t child = start_child();
	if (child == 0) {
		char byte;
		struct ferry_socket_set *set = make_set();
		close_sockets();
		close(ends[1]);
		if (serves) {
			end.on_ended = die_in;
			serve_on(&end, set, ends[0]);
			event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
		}
		poll(&(struct pollfd){.fd = ends[0], .events = POLLIN}, 1, -1);
		ck_assert_int_eq(recv(ends[0], &byte, 1, 0), 1);
		die();
	}
	close_sockets();
	close(ends[0]);
	request_on(&end, ends[1], NULL, 0);
	return child;
}

/* This process owns all sockets and files: the sockets are reachable, and closing the set removes the files. */
static void expect_owned(void)
{
	pump_until_count(&end.ended, 1);
	ck_assert_int_eq(end.status, 0);
	ck_assert(path_exists(socket_path));
	ck_assert(path_exists(local_path));
	for (int i = 0; i < KINDS; i++)
		ck_assert(is_reachable(ferry_socket_set_find(end.set, kinds[i])));
	takeover_end_close(&end);
	ck_assert(!path_exists(socket_path));
	ck_assert(!path_exists(local_path));
}

TEST_CASE("deaths", make_directory, remove_directory);

TEST(an_old_process_that_dies_before_it_answers_ends_the_takeover)
{
	pid_t old = start_old(false);
	pump_until_count(&end.ended, 1);
	ck_assert(end.status == -ECONNRESET || end.status == -EPIPE);
	ck_assert_uint_eq(end.received, 0);
	wait_for_death(old);
	takeover_end_close(&end);
	ck_assert_int_eq(unlink(socket_path), 0);
	ck_assert_int_eq(unlink(local_path), 0);
}

/* _i: 1: the loop has noticed the death before the commit */
LOOP_TEST(an_old_process_that_dies_before_the_new_one_accepts_leaves_it_all, 2)
{
	pid_t old = start_old(true);
	pump_until_count(&end.received, 1);
	kill(old, SIGKILL);
	wait_for_death(old);
	pump_turns(_i * 20);
	ck_assert_uint_eq(end.ended, 0);
	commit_takeover(&end);
	ck_assert_uint_eq(end.ended, 0); /* the loop calls `ended` */
	ck_assert_int_eq(ferry_takeover_commit(end.takeover), _i > 0 ? -ENOTCONN : -EINVAL);
	expect_owned();
}

TEST(an_old_process_that_dies_before_it_reads_leaves_it_all)
{
	int status;
	pid_t old = start_old(true);
	pump_until_count(&end.received, 1);
	kill(old, SIGSTOP);
	ck_assert_int_eq(waitpid(old, &status, WUNTRACED), old);
	ck_assert(WIFSTOPPED(status));
	commit_takeover(&end);
	pump_turns(20);
	ck_assert_uint_eq(end.ended, 0);
	kill(old, SIGKILL);
	wait_for_death(old);
	expect_owned();
}

TEST(an_old_process_that_dies_before_it_releases_leaves_it_all)
{
	pid_t old = start_old(true); /* it dies in its `ended` callback */
	pump_until_count(&end.received, 1);
	commit_takeover(&end);
	expect_owned();
	wait_for_death(old);
}

TEST(a_takeover_given_up_after_the_old_process_died_leaves_the_files)
{
	pid_t old = start_old(true);
	pump_until_count(&end.received, 1);
	kill(old, SIGKILL);
	wait_for_death(old);
	pump_turns(20);
	takeover_end_close(&end);
	ck_assert_int_eq(unlink(socket_path), 0);
	ck_assert_int_eq(unlink(local_path), 0);
}

/* ---- the new process is killed ---- */

enum stage { AT_ONCE, RECEIVED, ACCEPTED };

static pid_t start_new(enum stage stage)
{
	memset(&end, 0, sizeof(end));
	make_pair(PAIR_UNIX, ends);
	pid_t child = start_child();
	if (child == 0) {
		close(ends[0]);
		close_sockets();
		if (stage == AT_ONCE)
			die();
		end.on_received = stage == RECEIVED ? die_in : commit_takeover;
		end.on_ended = die_in;
		request_on(&end, ends[1], NULL, 0);
		event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
		abort();
	}
	close(ends[1]);
	return child;
}

LOOP_TEST(a_new_process_that_dies_before_it_accepts_changes_nothing, 2)
{
	open_sockets();
	struct ferry_socket_set *set = make_set();
	pid_t new = start_new(_i == 0 ? AT_ONCE : RECEIVED);
	serve_on(&end, set, ends[0]);
	pump_until_count(&end.ended, 1);
	ck_assert(end.status == -ECONNRESET || end.status == -EPIPE);
	wait_for_death(new);
	takeover_end_close(&end);
	ck_assert_uint_eq(ferry_socket_set_count(set), KINDS);
	close_sockets();
	for (int i = 0; i < KINDS; i++)
		ck_assert(is_reachable(ferry_socket_set_find(set, kinds[i])));
	ferry_socket_set_free(set);
	ck_assert(!path_exists(socket_path));
	ck_assert(!path_exists(local_path));
}

TEST(sockets_that_a_new_process_accepts_are_its_own_even_if_it_dies)
{
	open_sockets();
	struct ferry_socket_set *set = make_set();
	pid_t new = start_new(ACCEPTED);
	serve_on(&end, set, ends[0]);
	pump_until_count(&end.ended, 1);
	ck_assert_int_eq(end.status, 0);
	ck_assert_uint_eq(ferry_socket_set_count(set), 0);
	takeover_end_close(&end);
	ferry_socket_set_free(set);
	wait_for_death(new);
	close_sockets();
	ck_assert_int_eq(unlink(socket_path), 0);
	ck_assert_int_eq(unlink(local_path), 0);
}

/* ---- the users that may request a takeover ---- */

enum { NOBODY = 65534 };

/* Connects this process with a child that runs as another user. ends[1] is the end that connects: the
 * child's with `child_connects`, else this process's. ends[0] is the accepted end in the other process. */
static pid_t start_other_user(bool child_connects)
{
	int listener = listen_abstract();
	pid_t child = start_child();
	if (child == 0)
		ck_assert_int_eq(setresuid(NOBODY, NOBODY, NOBODY), 0);
	if ((child == 0) == child_connects) {
		ends[1] = connect_to(listener);
		ck_assert_int_ge(ends[1], 0);
	} else {
		poll(&(struct pollfd){.fd = listener, .events = POLLIN}, 1, -1);
		ends[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		ck_assert_int_ge(ends[0], 0);
	}
	close(listener);
	return child;
}

TEST_CASE("users", make_directory, remove_directory);

TEST(another_user_is_refused)
{
	char byte;
	struct ferry_takeover *takeover = NULL;
	if (!is_root())
		return;
	open_sockets();
	struct ferry_socket_set *set = make_set();
	pid_t child = start_other_user(true);
	if (child == 0) { /* it reads nothing but the end of the stream */
		ck_assert_int_eq(read(ends[1], &byte, 1), 0);
		die();
	}
	struct ferry_transport *transport = make_transport(ends[0]);
	ck_assert_int_eq(ferry_takeover_serve(&takeover, set, transport, &takeover_end_callbacks, NULL),
	                 -EACCES);
	ferry_transport_free(transport);
	pump_turns(3);
	wait_for_death(child);
	close_sockets();
	ferry_socket_set_free(set);
}

TEST(root_may_ask_anybody)
{
	if (!is_root())
		return;
	open_sockets();
	memset(&end, 0, sizeof(end));
	pid_t child = start_other_user(false);
	if (child == 0) {
		struct ferry_socket_set *set = NULL;
		ck_assert_int_eq(ferry_socket_set_new(&set), 0);
		ck_assert_int_eq(ferry_socket_set_add(set, "www", sockets[2], FERRY_FD_DUP), 0);
		serve_on(&end, set, ends[0]);
		pump_until_count(&end.ended, 1);
		ck_assert_int_eq(end.status, 0);
		die();
	}
	end.on_received = commit_takeover;
	request_on(&end, ends[1], NULL, 0);
	pump_until_count(&end.ended, 1);
	ck_assert_int_eq(end.status, 0);
	ck_assert_uint_eq(ferry_socket_set_count(end.set), 1);
	wait_for_death(child);
	takeover_end_close(&end);
	close_sockets();
	ck_assert_int_eq(unlink(socket_path), 0);
	ck_assert_int_eq(unlink(local_path), 0);
}
