#include "supervised.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

const char worker_program[] = FERRY_TESTS_WORKER;
struct supervised_notes notes;
struct ferry_supervisor *supervisor;
struct ferry_dispatcher *dispatcher;
struct ferry_supervisor_options options;

/* The times of workers that a busy machine never exceeds. */
static const struct timeval patience = {.tv_sec = 600};

static void on_callback(const char *name)
{
	if (notes.on != NULL)
		notes.on(name);
}

/* ---- callbacks ---- */

static void worker_started(struct ferry_supervisor *from, struct ferry_supervisor_worker *worker,
                           void *context)
{
	(void)from, (void)context;
	notes.started++;
	notes.last = worker;
	on_callback("worker_started");
}

static void channel_opened(struct ferry_supervisor *from, struct ferry_supervisor_worker *worker,
                           struct ferry_transport *transport, void *context)
{
	(void)from, (void)worker, (void)context;
	notes.channels++;
	ferry_transport_free(notes.transport);
	notes.transport = transport;
	on_callback("channel_opened");
}

static void worker_ready(struct ferry_supervisor *from, struct ferry_supervisor_worker *worker,
                         void *context)
{
	(void)from, (void)context;
	notes.ready++;
	notes.last = worker;
	on_callback("worker_ready");
}

static void worker_leaving(struct ferry_supervisor *from, struct ferry_supervisor_worker *worker,
                           void *context)
{
	(void)from, (void)context;
	notes.leaving++;
	notes.last = worker;
	on_callback("worker_leaving");
}

static void worker_ended(struct ferry_supervisor *from, struct ferry_supervisor_worker *worker,
                         int status, void *context)
{
	(void)from, (void)context;
	notes.ended++;
	notes.status = status;
	notes.last = worker;
	on_callback("worker_ended");
	notes.last = NULL;
}

static void start_failed(struct ferry_supervisor *from, unsigned int place, int error,
                         void *context)
{
	(void)from, (void)place, (void)context;
	notes.failed_starts++;
	notes.error = error;
	on_callback("start_failed");
}

static void replaced(struct ferry_supervisor *from, int status, void *context)
{
	(void)from, (void)context;
	notes.replaced++;
	notes.replacement = status;
	on_callback("replaced");
}

static void state_changed(struct ferry_supervisor *from, enum ferry_supervisor_state state,
                          void *context)
{
	(void)from, (void)context;
	notes.states++;
	notes.heard[state]++;
	notes.state = state;
	on_callback("state_changed");
}

static const struct ferry_supervisor_callbacks callbacks = {
    .worker_started = worker_started,
    .channel_opened = channel_opened,
    .worker_ready = worker_ready,
    .worker_leaving = worker_leaving,
    .worker_ended = worker_ended,
    .start_failed = start_failed,
    .replaced = replaced,
    .state_changed = state_changed,
};

static void log_line(enum ferry_log_level level, const char *line)
{
	size_t length = strlen(notes.log);

	if (level < FERRY_LOG_WARNING)
		return;
	notes.log_lines++;
	snprintf(notes.log + length, sizeof(notes.log) - length, "%s\n", line);
}

/* ---- the dispatcher ---- */

static void on_outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)from, (void)handoff, (void)reason, (void)context;
	notes.outcomes[outcome]++;
}

static void handoff_returned(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                             struct ferry_handoff *handoff, void *context)
{
	(void)worker, (void)context;
	notes.returned++;
	ck_assert_int_eq(ferry_dispatcher_hand_off(from, handoff, on_outcome, NULL), 0);
}

static const struct ferry_dispatcher_callbacks dispatcher_callbacks = {.handoff_returned =
                                                                           handoff_returned};

/* ---- opened and closed ---- */

void use_program(const char *const *argv)
{
	options = (struct ferry_supervisor_options)FERRY_SUPERVISOR_OPTIONS_INIT;
	options.name = "w";
	options.argv = argv;
	options.first_pause = (struct timeval){0, 10000};
	/* A test that waits for one of these sets its own. */
	options.start_timeout = options.drain_timeout = options.kill_timeout = patience;
}

void use_script(const char *script)
{
	static const char *argv[] = {"sh", "-c", NULL, NULL};

	argv[2] = script;
	use_program(argv);
}

void use_worker(void)
{
	static const char *const argv[] = {worker_program, "returns", NULL};

	use_program(argv);
}

static void open_with(struct ferry_dispatcher *with)
{
	notes = (struct supervised_notes){.on = notes.on};
	ferry_log_set_cb(log_line);
	options.dispatcher = with;
	ck_assert_int_eq(ferry_supervisor_new(&supervisor, base, &options, &callbacks, NULL), 0);
}

void open_supervisor(void)
{
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, &dispatcher_callbacks, NULL), 0);
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &patience, &patience), 0);
	open_with(dispatcher);
}

void open_plain_supervisor(void)
{
	dispatcher = NULL;
	open_with(NULL);
}

static bool has_stopped(void *argument)
{
	(void)argument;
	return supervisor_stats().state == FERRY_SUPERVISOR_STOPPED;
}

void stop_supervisor(enum ferry_supervisor_stop how)
{
	ck_assert_int_eq(ferry_supervisor_stop(supervisor, how), 0);
	pump_until(has_stopped, NULL);
}

void close_supervisor(void)
{
	siginfo_t info;

	ferry_supervisor_free(supervisor);
	supervisor = NULL;
	ferry_transport_free(notes.transport);
	notes.transport = NULL;
	ferry_dispatcher_free(dispatcher);
	dispatcher = NULL;
	pump_turns(4);
	ck_assert(waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD);
}

struct ferry_supervisor_place_info place_info(unsigned int place)
{
	struct ferry_supervisor_place_info info;

	ck_assert_int_eq(ferry_supervisor_get_place(supervisor, place, &info), 0);
	return info;
}

struct ferry_supervisor_stats supervisor_stats(void)
{
	struct ferry_supervisor_stats stats;

	ck_assert_int_eq(ferry_supervisor_get_stats(supervisor, &stats), 0);
	return stats;
}

static bool are_ready(void *argument)
{
	unsigned int wanted = *(unsigned int *)argument, count = 0;

	for (unsigned int i = 0; i < supervisor_stats().places; i++)
		count += place_info(i).state == FERRY_SUPERVISOR_READY;
	return count == wanted;
}

void wait_until_ready(unsigned int count)
{
	pump_until(are_ready, &count);
}

/* ---- clients ---- */

int hand_client_off(void)
{
	struct ferry_handoff *handoff;
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	ck_assert_int_eq(ferry_handoff_new(&handoff, fds[1]), 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, NULL), 0);
	return fds[0];
}

static bool has_input(void *argument)
{
	char byte;

	return recv(*(int *)argument, &byte, 1, MSG_PEEK) >= 0 || errno != EAGAIN;
}

bool client_echoes(int client)
{
	char byte = 'x';

	if (send(client, &byte, 1, MSG_NOSIGNAL) != 1)
		return false;
	pump_until(has_input, &client);
	return recv(client, &byte, 1, 0) == 1;
}
