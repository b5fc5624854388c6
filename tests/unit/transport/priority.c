/* What waits for a transport follows bufferevent_priority_set(), also if that is called while it waits: the watch over
 * the peer, and a file without bytes. */

#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "recorder.h"
#include "test.h"
#include "transport/fields.h"

enum { TURNS_MAX = 1000, TURNS_FEW = 8 };

static struct recorder recorder;
static int far;
static struct event *other; /* of priority 1, ready in every turn of the loop */
static unsigned int turns, turns_until_done;
static bool (*is_done)(void);

static void on_other(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	if (turns_until_done == 0 && is_done())
		turns_until_done = turns;
	if (++turns < TURNS_MAX && turns_until_done == 0)
		event_active(other, EV_READ, 0);
}

static struct bufferevent *bev_of(void)
{
	return ferry_transport_get_bufferevent(recorder.transport);
}

static void open_at(int priority)
{
	int ends[2];

	ck_assert_int_eq(event_base_priority_init(base, 3), 0);
	make_pair(PAIR_UNIX, ends);
	far = ends[1];
	recorder_open(&recorder, ends[0], &recorder_protocol);
	ck_assert_int_eq(bufferevent_priority_set(bev_of(), priority), 0);
	pump_turns(3);
	other = event_new(base, -1, 0, on_other, NULL);
	event_priority_set(other, 1);
	turns = turns_until_done = 0;
}

static void close_all(void)
{
	recorder_close(&recorder);
	if (far >= 0)
		close(far);
	event_free(other);
	pump_turns(3);
}

/* Counts the turns of the loop in which `other` runs, until this is done. */
static unsigned int count_turns(bool (*done)(void))
{
	is_done = done;
	event_active(other, EV_READ, 0);
	while (turns < TURNS_MAX && turns_until_done == 0)
		pump_turns(1);
	return turns;
}

static bool bytes_have_left(void)
{
	return stats_of(recorder.transport).bytes_sent > 0;
}

TEST(a_file_that_waits_goes_on_at_the_priority_that_the_bufferevent_has_now)
{
	int ends[2];

	open_at(2);
	make_pipe(ends);
	ck_assert_int_eq(ferry_transport_send_file(NULL, recorder.transport, ends[0], FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, 0, NULL, NULL),
	                 0);
	pump_turns(3);
	ck_assert_int_eq(bufferevent_priority_set(bev_of(), 0), 0);
	ck_assert_int_eq(write(ends[1], "x", 1), 1);
	ck_assert_uint_le(count_turns(bytes_have_left), TURNS_FEW);
	close(ends[1]);
	close_all();
}

static bool end_was_notified(void)
{
	return recorder.read_lost > 0;
}

/* The end of the peer, while reading is paused: the watch finds it. */
static void meet_peers_end(int first, int then)
{
	open_at(first);
	ck_assert_int_eq(ferry_transport_pause_reading(recorder.transport), 0);
	close(far);
	far = -1;
	ck_assert_int_eq(bufferevent_priority_set(bev_of(), then), 0);
	/* Makes the watch, if the transport has not needed it yet. */
	ck_assert_int_eq(
	    ferry_transport_set_close_timeout(recorder.transport, &(struct timeval){1000, 0}), 0);
	event_active(recorder.transport->watch->event, EV_TIMEOUT, 0);
}

TEST(the_watch_over_the_peer_is_promoted_with_the_bufferevent)
{
	meet_peers_end(2, 0);
	ck_assert_uint_le(count_turns(end_was_notified), TURNS_FEW);
	close_all();
}

TEST(the_watch_over_the_peer_is_demoted_with_the_bufferevent)
{
	meet_peers_end(0, 2);
	ck_assert_uint_eq(count_turns(end_was_notified), TURNS_MAX);
	pump_turns(4);
	ck_assert_uint_eq(recorder.read_lost, 1);
	close_all();
}
