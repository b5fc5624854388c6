/* Eight workers, of which one is killed every 50 ms, and which are replaced five times meanwhile: no unclaimed
 * connection is lost, and nothing is left. FERRY_STORM_SECONDS sets how long; 5 at first. */

#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "supervised.h"

enum { WORKERS = 8, CLIENTS = 32, KILL_USEC = 50000, REPLACEMENTS = 5 };

struct client {
	struct event *event;
	int fd;
};

static struct client clients[CLIENTS];
static unsigned int served, cut, connections, kills;
static bool ending;

static void connect_client(struct client *client);

/* The connection has ended. It may only be cut if a process had claimed it. */
static void on_client(evutil_socket_t fd, short what, void *context)
{
	struct client *client = context;
	char byte;

	(void)what;
	if (recv(fd, &byte, 1, 0) == 1)
		served++;
	else
		cut++;
	event_free(client->event);
	close(client->fd);
	client->event = NULL;
	if (!ending)
		connect_client(client);
}

static void connect_client(struct client *client)
{
	client->fd = hand_client_off();
	connections++;
	ck_assert_int_eq(send(client->fd, "x", 1, MSG_NOSIGNAL), 1);
	client->event = event_new(base, client->fd, EV_READ, on_client, client);
	event_add(client->event, NULL);
}

static void on_kill(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what, (void)context;
	struct ferry_supervisor_place_info info = place_info(support_random_below(WORKERS));

	if (info.pid > 0 && kill(info.pid, SIGKILL) == 0)
		kills++;
}

static void on_replace(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what, (void)context;
	ferry_supervisor_replace(supervisor);
}

static bool all_are_done(void *argument)
{
	(void)argument;
	for (int i = 0; i < CLIENTS; i++)
		if (clients[i].event != NULL)
			return false;
	return true;
}

/* A replacement may be under way. */
static bool has_settled(void *argument)
{
	(void)argument;
	return supervisor_stats().ready == WORKERS && notes.started - notes.ended == WORKERS;
}

/* What a worker has done with its last connections arrives when the worker runs. */
static bool descriptors_are_closed(void *argument)
{
	return count_open_fds() == *(int *)argument;
}

static struct timeval usec_time(long long usec)
{
	return (struct timeval){.tv_sec = (time_t)(usec / 1000000),
	                        .tv_usec = (suseconds_t)(usec % 1000000)};
}

TEST(no_unclaimed_connection_is_lost_in_a_storm)
{
	const char *text = getenv("FERRY_STORM_SECONDS");
	const long long seconds = text != NULL ? atoll(text) : 5;
	const struct timeval queue = {1000, 0}, answer = {1000, 0}, kill_time = usec_time(KILL_USEC);
	const struct timeval replace_time = usec_time(seconds * 1000000 / (REPLACEMENTS + 1));
	const struct timeval end = usec_time(seconds * 1000000);
	use_worker();
	options.workers = WORKERS;
	options.replace_step = 2;
	open_supervisor();
	ferry_dispatcher_set_timeouts(dispatcher, &queue, &answer);
	wait_until_ready(WORKERS);
	int fds = count_open_fds();
	struct event *killer = event_new(base, -1, EV_PERSIST, on_kill, NULL);
	struct event *replacer = event_new(base, -1, EV_PERSIST, on_replace, NULL);
	event_add(killer, &kill_time);
	event_add(replacer, &replace_time);
	for (int i = 0; i < CLIENTS; i++)
		connect_client(&clients[i]);
	event_base_loopexit(base, &end);
	event_base_dispatch(base);
	event_free(killer);
	event_free(replacer);
	ending = true;
	pump_until(all_are_done, NULL);
	pump_until(has_settled, NULL);
	struct ferry_dispatcher_stats stats;
	ferry_dispatcher_get_stats(dispatcher, &stats);
	printf("connections %u\nserved %u\ncut %u\nkept %u\nexpired %u\nkills %u\nstarts %llu\n"
	       "replacements %u\nreplaced %llu\n",
	       connections, served, cut, notes.outcomes[FERRY_HANDOFF_KEPT],
	       notes.outcomes[FERRY_HANDOFF_EXPIRED], kills,
	       (unsigned long long)supervisor_stats().starts, notes.replaced,
	       (unsigned long long)supervisor_stats().replacements);
	ck_assert_uint_eq(served + cut, connections);
	ck_assert_uint_gt(served, 0);
	ck_assert_uint_gt(kills, 0);
	/* Somebody else kills: the program is not to blame. */
	ck_assert_uint_gt(supervisor_stats().replacements, 0);
	/* Each that was cut had been claimed by a process that died: its outcome is KEPT. */
	ck_assert_uint_le(cut, notes.outcomes[FERRY_HANDOFF_KEPT]);
	ck_assert_uint_eq(notes.outcomes[FERRY_HANDOFF_EXPIRED], 0);
	ck_assert_uint_eq(notes.outcomes[FERRY_HANDOFF_REJECTED], 0);
	pump_until(descriptors_are_closed, &fds);
	stop_supervisor(FERRY_SUPERVISOR_DRAIN);
	ck_assert_uint_eq(notes.started, notes.ended);
	close_supervisor();
}
