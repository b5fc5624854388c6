/* Each allocation fails in turn: a call fails and changes nothing; a relay under way ends, or goes on. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/ferry.h"

#include "heap.h"
#include "heap_sweep.h"
#include "test.h"
#include "wire.h"

BEFORE_ALL
{
	heap_take_over();
}

static struct ferry_relay *relay;
static struct ferry_transport *ends[2];
static int peers[2];
static unsigned int ended;
static int reason;

static void on_ended(struct ferry_relay *which, enum ferry_relay_side side, int why, void *context)
{
	(void)which, (void)side, (void)context;
	ended++;
	reason = why;
}

static int pass(struct ferry_relay *which, enum ferry_relay_side from, struct evbuffer *bytes,
                void *context)
{
	(void)which, (void)from, (void)bytes, (void)context;
	return 0;
}

static const struct ferry_relay_callbacks callbacks = {.filter_bytes = pass,
                                                       .relay_ended = on_ended};

static void make_ends(void)
{
	for (int i = 0; i < 2; i++) {
		int pair[2];
		make_pair(PAIR_UNIX, pair);
		peers[i] = pair[1];
		struct bufferevent *bev = bufferevent_socket_new(base, pair[0], BEV_OPT_CLOSE_ON_FREE);
		ck_assert_int_eq(ferry_transport_new(&ends[i], bev), 0);
	}
}

static void check_passes(int from)
{
	char text[3];

	ck_assert_int_eq(write(peers[from], "abc", 3), 3);
	for (int i = 0; i < 6; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_int_eq(read(peers[1 - from], text, 3), 3);
	ck_assert_mem_eq(text, "abc", 3);
}

static void joined(void)
{
	check_passes(0);
	check_passes(1);
}

static void clean_up(void)
{
	ferry_relay_free(relay);
	relay = NULL;
	close(peers[0]);
	close(peers[1]);
	for (int i = 0; i < 3; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

/* ---- calls that fail ---- */

static int join(void)
{
	return ferry_relay_new(&relay, ends[0], ends[1], &callbacks, NULL);
}

/* The transports still work; their protocol may have been set. */
static void no_relay(void)
{
	ck_assert_ptr_null(relay);
	for (int i = 0; i < 2; i++) {
		char byte;
		ck_assert_int_eq(ferry_transport_write(ends[i], "x", 1), 0);
		for (int k = 0; k < 3; k++)
			event_base_loop(base, EVLOOP_NONBLOCK);
		ck_assert_int_eq(read(peers[i], &byte, 1), 1);
	}
}

static void make_half(void)
{
	make_ends();
	ck_assert_int_eq(ferry_relay_new(&relay, ends[0], NULL, &callbacks, NULL), 0);
}

static int set_server(void)
{
	return ferry_relay_set_server(relay, ends[1]);
}

static void no_server(void)
{
	ck_assert_ptr_null(ferry_relay_get_transport(relay, FERRY_RELAY_SERVER));
}

TEST(a_call_that_fails_for_want_of_memory_changes_nothing)
{
	const struct swept_function functions[] = {
	    {"ferry_relay_new", make_ends, join, no_relay, joined, 3, 0},
	    {"ferry_relay_set_server", make_half, set_server, no_server, joined, 1, 0},
	};

	for (int i = 0; i < COUNT(functions); i++)
		sweep_function(&functions[i], clean_up);
}

/* ---- a relay under way ---- */

enum { BYTES = 300000 };

static char block[BYTES];
static size_t arrived;
static unsigned int arrived_fds;
static int fd;

static void take(int side)
{
	static char buffer[65536];
	struct wire_read result;

	for (;;) {
		wire_receive(peers[side], buffer, sizeof(buffer), &result);
		for (size_t i = 0; i < result.fd_count; i++)
			close(result.fds[i]);
		arrived_fds += (unsigned int)result.fd_count;
		if (result.bytes <= 0)
			return;
		arrived += (size_t)result.bytes;
	}
}

static void scenario(struct event_base *loop)
{
	size_t sent = 0;

	ended = 0;
	arrived = 0;
	arrived_fds = 0;
	heap_suspend();
	relay = NULL;
	fd = make_marked_fd(1);
	base = loop;
	make_ends();
	must(ferry_relay_new(&relay, ends[0], ends[1], &callbacks, NULL) == 0);
	heap_continue();
	for (int i = 0; i < 200 && ended == 0; i++) {
		heap_suspend();
		if (sent < BYTES) {
			ssize_t more = wire_send(peers[0], block + sent,
			                         BYTES - sent < 30000 ? BYTES - sent : 30000, &fd, 1);
			sent += more > 0 ? (size_t)more : 0;
		} else {
			shutdown(peers[0], SHUT_WR);
		}
		heap_continue();
		event_base_loop(loop, EVLOOP_NONBLOCK);
		heap_suspend();
		take(1);
		heap_continue();
	}
}

static void judge(unsigned long failing)
{
	/* All of it, or an end that is no clean one. */
	if (failing == 0)
		ck_assert_uint_gt(arrived_fds, 9);
	ck_assert(ended == 0 || reason < 0);
	if (ended == 0)
		ck_assert_uint_eq(arrived, BYTES);
	ferry_relay_free(relay);
	relay = NULL;
	close(peers[0]);
	close(peers[1]);
	close(fd);
}

TEST(a_relay_without_memory_ends_or_goes_on)
{
	struct event_base *mine = base;

	sweep_scenario(scenario, judge, 10);
	base = mine;
}
