/* A process replaces another one: both are in this process, and find each other by the path of a socket. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "ends.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"

/* One of the two processes. */
struct process {
	struct ferry_upgrade *upgrade;
	bool started, serving, rejected, replaced, finished, failed, received;
};
static struct process old, new;
static struct event_base *base_of_both;
static char path[110]; /* where the old one listens */
static int client;

static bool add_socket(struct ferry_socket_set *set, const char *name, int fd)
{
	if (called(ferry_socket_set_add(set, name, fd, FERRY_FD_TAKE)) == 0)
		return true;
	close_quietly(fd);
	return false;
}

static int listen_for_the_new_one(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t length = sizeof(address);
	int fd = make_listening();
	disarm();
	getsockname(fd, (struct sockaddr *)&address, &length);
	snprintf(path, sizeof(path), "@%.*s", (int)(length - sizeof(sa_family_t)) - 1,
	         address.sun_path + 1);
	arm();
	return fd;
}

static void on_started(struct ferry_upgrade *upgrade, struct ferry_socket_set *set, void *context)
{
	struct process *process = context;
	once(&process->started);
	if (ferry_socket_set_find(set, "www") < 0 && !add_socket(set, "www", make_listening()))
		return;
	if (process == &old && (!add_socket(set, "control", listen_for_the_new_one()) ||
	                        called(ferry_upgrade_listen(upgrade, "control")) < 0))
		return;
	called(ferry_upgrade_ready(upgrade));
}

static void on_serving(struct ferry_upgrade *upgrade, void *context)
{
	struct process *process = context;
	(void)upgrade;
	once(&process->serving);
}

static void on_rejected(struct ferry_upgrade *upgrade, int status, void *context)
{
	struct process *process = context;
	(void)upgrade;
	once(&process->rejected);
	told(status);
}

static void on_connection(struct ferry_upgrade *upgrade, struct ferry_handoff *handoff,
                          void *context)
{
	struct process *process = context;
	(void)upgrade;
	once(&process->received);
	ferry_handoff_free(handoff);
}

static void on_state_requested(struct ferry_upgrade *upgrade, struct evbuffer *state, void *context)
{
	(void)upgrade, (void)context;
	called(evbuffer_add(state, "state", 5) == 0 ? 0 : -ENOMEM);
}

static void on_failed(struct ferry_upgrade *upgrade, const struct ferry_upgrade_failure *failure,
                      void *context)
{
	struct process *process = context;
	(void)upgrade;
	once(&process->failed);
	told(failure->status);
}

static void on_replaced(struct ferry_upgrade *upgrade, void *context)
{
	struct process *process = context;
	struct ferry_handoff *handoff = NULL;
	int ends[2];
	once(&process->replaced);
	disarm();
	make_pair(PAIR_UNIX, ends);
	arm();
	client = ends[1];
	if (called(ferry_handoff_new(&handoff, ends[0])) < 0)
		close_quietly(ends[0]);
	else if (called(ferry_upgrade_give(upgrade, handoff)) < 0)
		ferry_handoff_free(handoff);
	called(ferry_upgrade_finish(upgrade));
}

static void on_finished(struct ferry_upgrade *upgrade, void *context)
{
	struct process *process = context;
	(void)upgrade;
	once(&process->finished);
}

static const struct ferry_upgrade_callbacks callbacks = {.started = on_started,
                                                         .serving = on_serving,
                                                         .rejected = on_rejected,
                                                         .connection_received = on_connection,
                                                         .state_requested = on_state_requested,
                                                         .failed = on_failed,
                                                         .replaced = on_replaced,
                                                         .finished = on_finished};

static bool begin(struct process *process, const char *predecessor)
{
	static char *const argv[] = {(char *)(uintptr_t) "unused", NULL};
	const struct ferry_upgrade_options options = {
	    .size = sizeof(options), .argv = argv, .predecessor = predecessor};
	return called(ferry_upgrade_new(&process->upgrade, base_of_both, &options, &callbacks,
	                                process)) == 0;
}

/* What the old process does for itself is reported by a line in the log alone. */
static bool is_logged;

static void on_log(enum ferry_log_level level, const char *line)
{
	(void)line;
	is_logged |= level == FERRY_LOG_WARNING;
}

static bool old_serves(void)
{
	return old.serving || old.rejected;
}

static bool is_over(void)
{
	return (is_logged && !new.started) || new.rejected || old.failed ||
	       (old.finished && new.serving);
}

static bool has_all(void)
{
	struct ferry_upgrade_stats stats = {0};
	size_t length;
	const char *state = ferry_upgrade_get_state(new.upgrade, &length);
	called(ferry_upgrade_get_stats(old.upgrade, &stats));
	return old.finished && new.serving &&new.received &&length == 5 &&
	       memcmp(state, "state", 5) == 0 && stats.taken == 1 &&
	       ferry_socket_set_find(ferry_upgrade_get_set(new.upgrade), "www") >= 0;
}

static void join(struct event_base *loop, int kind)
{
	(void)kind;
	memset(&old, 0, sizeof(old));
	memset(&new, 0, sizeof(new));
	base_of_both = loop;
	client = -1;
	is_logged = false;
	ferry_log_set_cb(on_log);
	if (begin(&old, NULL)) {
		pump_swept(loop, old_serves);
		if (old.serving && begin(&new, path)) {
			pump_swept(loop, is_over);
			if (has_all())
				completed();
			else if (is_logged)
				told(-EIO);
			else if (new.received && !old.finished)
				told(-ETIMEDOUT); /* after the time for an answer */
		}
	}
	ferry_upgrade_free(new.upgrade);
	ferry_upgrade_free(old.upgrade);
	close_quietly(client);
}

static void describe(void)
{
	printf("old %d%d%d%d%d%d, new %d%d%d%d\n", old.started, old.serving, old.rejected, old.replaced,
	       old.finished, old.failed, new.started, new.serving, new.rejected, new.received);
}

static const struct large_scenario large = {.describe = describe, .first = 30, .parts = 60};

static const struct scenario scenario = {"upgrade", join, 0, CALL_CONNECT, CALL_NONE, &large};

TEST(every_call_may_fail)
{
	sweep_scenario_of(&scenario, 0);
}

BEFORE_ALL
{
	heap_take_over();
}
