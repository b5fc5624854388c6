/* What the service manager gives to a process by its environment: the socket for notifications, the interval of the
 * watchdog, and sockets of activation. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ends.h"
#include "fake_manager.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"

/* ---- notifications ---- */

static int receiver;
static struct ferry_service_manager *manager;
static unsigned int messages, stored;

/* Signs of life come when the loop turns; they do not count. */
static void read_messages(void)
{
	char text[200], first;
	disarm();
	while (recv(receiver, &first, 1, MSG_PEEK) > 0) {
		int fd = fake_manager_read(receiver, text, sizeof(text));
		messages += strcmp(text, "WATCHDOG=1") != 0;
		stored += fd >= 0;
		close_quietly(fd);
	}
	arm();
}

static bool none_waits(void)
{
	read_messages();
	return ferry_service_manager_get_waiting(manager) == 0;
}

/* Whether all were accepted. */
static bool notify_all(void)
{
	int fd = STDERR_FILENO;
	return called(ferry_service_manager_start_watchdog(manager)) == 0 &&
	       called(ferry_service_manager_ready(manager)) == 0 &&
	       called(ferry_service_manager_reloading(manager)) == 0 &&
	       called(ferry_service_manager_set_status(manager, "serves")) == 0 &&
	       called(ferry_service_manager_set_main_pid(manager, 1)) == 0 &&
	       called(ferry_service_manager_store_fds(manager, "name", &fd, 1)) == 0 &&
	       called(ferry_service_manager_remove_fds(manager, "name")) == 0 &&
	       called(ferry_service_manager_notify(manager, "X=1", NULL, 0)) == 0 &&
	       called(ferry_service_manager_stopping(manager)) == 0;
}

enum { MESSAGES = 8, FILLING = 40 };

static void notify(struct event_base *loop, int kind)
{
	(void)kind;
	manager = NULL;
	messages = stored = 0;
	if (called(ferry_service_manager_new(&manager, loop, false)) == 0 &&
	    ferry_service_manager_is_present(manager) && notify_all()) {
		pump_swept(loop, none_waits);
		if (messages == MESSAGES && stored == 1)
			completed();
	}
	ferry_service_manager_free(manager);
	read_messages();
}

/* The manager does not read at first: messages wait, with duplicates of their descriptors. */
static void notify_a_busy_manager(struct event_base *loop, int kind)
{
	int fd = STDERR_FILENO;
	unsigned int accepted = 0;
	(void)kind;
	manager = NULL;
	messages = stored = 0;
	int status = called(ferry_service_manager_new(&manager, loop, false));
	while (status == 0 && accepted < 10000 && ferry_service_manager_get_waiting(manager) < 3) {
		status = called(ferry_service_manager_store_fds(manager, "name", &fd, 1));
		accepted += status == 0;
	}
	if (status == 0) {
		pump_swept(loop, none_waits);
		read_messages();
		if (messages == accepted && stored == accepted)
			completed();
		else
			told(-ECONNRESET); /* a line in the log */
	}
	ferry_service_manager_free(manager);
	read_messages();
}

/* ---- socket activation ---- */

enum { FIRST = 3 }; /* which belongs to something else before and after a run */

static void take_activated(struct event_base *loop, int kind)
{
	struct ferry_socket_set *set = NULL;
	(void)loop, (void)kind;
	int fd = make_listening();
	disarm();
	int other = dup(FIRST);
	dup2(fd, FIRST);
	close(fd);
	arm();
	if (called(ferry_socket_set_from_environment(&set, false)) == 0 &&
	    ferry_socket_set_find(set, "www") == FIRST)
		completed();
	if (set == NULL)
		close_quietly(FIRST);
	ferry_socket_set_free(set);
	disarm();
	if (other >= 0) {
		dup2(other, FIRST);
		close(other);
	}
	arm();
}

/* A kernel may have room for hundreds of messages. */
static const struct large_scenario busy = {.first = 16, .parts = 16};

static const struct scenario notifications[] = {
    {"service manager", notify, 0, CALL_SENDMSG, CALL_NONE, NULL},
    {"service manager, busy", notify_a_busy_manager, 0, CALL_FCNTL, CALL_NONE, &busy},
};

static const struct scenario activation = {"socket activation", take_activated, 0,
                                           CALL_FCNTL,          CALL_NONE,      NULL};

static void set_up(void)
{
	char pid[20];
	receiver = fake_manager_start();
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	setenv("LISTEN_PID", pid, 1);
	setenv("LISTEN_FDS", "1", 1);
	setenv("LISTEN_FDNAMES", "www", 1);
	setenv("WATCHDOG_USEC", "1000000", 1);
}

static void tear_down(void)
{
	fake_manager_stop(receiver);
}

TEST_CASE("environment", set_up, tear_down);

LOOP_TEST(every_call_may_fail, COUNT(notifications))
{
	sweep_scenario_of(&notifications[_i], 0);
}

TEST(every_call_may_fail_in_activation)
{
	sweep_scenario_of(&activation, PAIRS_OF);
}

BEFORE_ALL
{
	heap_take_over();
}
