/* A filter answers by itself, or lets a connection stay, without a wake-up and without a spin. */

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handoff_info.h"
#include "parking_place.h"
#include "test.h"
#include "wire.h"

static enum ferry_parking_verdict verdict;
static ssize_t to_read; /* bytes that the filter reads; -1: all */

static void put(unsigned int number, const char *text)
{
	ck_assert_int_eq(wire_send(clients[number], text, strlen(text), NULL, 0),
	                 (ssize_t)strlen(text));
}

static enum ferry_parking_verdict answer_ping(struct ferry_handoff *handoff,
                                              const struct ferry_parking_event *event)
{
	char bytes[64];
	int fd = ferry_handoff_get_fd(handoff);
	eventfd_t count;

	if (event->reason == FERRY_PARKING_WAKE_FD) {
		if (to_read != 0)
			eventfd_read(event->wake_fd, &count);
		return verdict;
	}
	ssize_t length = read(fd, bytes, to_read < 0 ? sizeof(bytes) : (size_t)to_read);
	if (length == 4 && memcmp(bytes, "ping", 4) == 0)
		ck_assert_int_eq(wire_send(fd, "pong", 4, NULL, 0), 4);
	return verdict;
}

static void open_filter(enum ferry_parking_verdict decision, ssize_t length)
{
	open_parking();
	parking_notes.on_filter = answer_ping;
	verdict = decision;
	to_read = length;
}

static void expect_pong(unsigned int number)
{
	char bytes[8];

	ck_assert_int_eq(read(clients[number], bytes, sizeof(bytes)), 4);
	ck_assert_mem_eq(bytes, "pong", 4);
}

/* _i: enum ferry_parking_verdict */
LOOP_TEST_FROM(a_ping_is_answered_and_the_connection_stays, FERRY_PARKING_STAY,
               FERRY_PARKING_RENEW + 1)
{
	enum { PINGS = 5 };

	open_filter((enum ferry_parking_verdict)_i, -1);
	ck_assert_int_eq(park_client(make_client(PAIR_TCP, 0), 0, 100000), 0);
	for (unsigned int i = 1; i <= PINGS; i++) {
		put(0, "ping");
		pump_until_count(&parking_notes.filtered, i);
		expect_pong(0);
	}
	pump_turns(3);
	ck_assert_uint_eq(parking_notes.filtered, PINGS);
	ck_assert_uint_eq(parking_notes.woken, 0);
	ck_assert_uint_eq(parking_stats().stayed, PINGS);
	ck_assert_uint_eq(parking_stats().idle, 1);
	shutdown(clients[0], SHUT_WR);
	expect_wake_up(0, 0, FERRY_PARKING_ENDED, 0);
	close_parking();
	close_all_clients(1);
}

TEST(input_that_the_filter_leaves_wakes)
{
	open_filter(FERRY_PARKING_STAY, 2);
	park_new_client(0);
	put(0, "ping");
	pump_until_count(&parking_notes.woken, 1);
	ck_assert_uint_eq(parking_notes.filtered, 1);
	ck_assert_uint_eq(wire_drain(ferry_handoff_get_fd(parking_notes.of[0].handoff)), 2);
	expect_wake_up(0, 0, FERRY_PARKING_INPUT, 0);
	close_parking();
	close_all_clients(1);
}

/* _i: whether the filter reads it */
LOOP_TEST(a_second_descriptor_stays_readable_only_once, 2)
{
	open_filter(FERRY_PARKING_STAY, _i);
	int wake_fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
	ck_assert_int_eq(ferry_parking_park(parking, handoff, wake_fd, NULL, &clients[0]), 0);
	pump_until_count(&parking_notes.filtered, 1);
	ck_assert_int_eq(parking_notes.filtered_for, FERRY_PARKING_WAKE_FD);
	pump_turns(3);
	ck_assert_uint_eq(parking_notes.filtered, 1);
	ck_assert_uint_eq(parking_notes.woken, _i == 0 ? 1 : 0);
	if (_i == 0) {
		expect_wake_up(0, 0, FERRY_PARKING_WAKE_FD, 0);
		close(wake_fd);
	}
	close_parking();
	close_all_clients(1);
}

static enum ferry_parking_verdict keep_half(struct ferry_handoff *handoff,
                                            const struct ferry_parking_event *event)
{
	char bytes[64];
	size_t kept;

	ck_assert_int_eq(event->reason, FERRY_PARKING_INPUT);
	const void *before = ferry_handoff_get_bytes(handoff, &kept);
	memcpy(bytes, before, kept);
	ssize_t length = read(ferry_handoff_get_fd(handoff), bytes + kept, sizeof(bytes) - kept);
	if (length > 0)
		kept += (size_t)length;
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, bytes, kept), 0);
	ck_assert_int_eq(ferry_handoff_set_blob(handoff, "half", 4), 0);
	return bytes[kept - 1] == '\n' ? FERRY_PARKING_WAKE : FERRY_PARKING_STAY;
}

/* _i: whether the first half comes with the handoff */
LOOP_TEST(half_a_request_stays_until_the_rest_comes, 2)
{
	size_t length;

	open_parking();
	parking_notes.on_filter = keep_half;
	struct ferry_handoff *handoff = make_client(PAIR_UNIX, 0);
	if (_i == 1)
		ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "GET", 3), 0);
	ck_assert_int_eq(park_client(handoff, 0, 0), 0);
	if (_i == 0)
		put(0, "GET");
	pump_until_count(&parking_notes.filtered, 1);
	pump_turns(3);
	ck_assert_uint_eq(parking_notes.filtered, 1);
	ck_assert_uint_eq(parking_stats().idle, 1);
	put(0, " /\n");
	pump_until_count(&parking_notes.woken, 1);
	handoff = parking_notes.of[0].handoff;
	ck_assert_mem_eq(ferry_handoff_get_bytes(handoff, &length), "GET /\n", 6);
	ck_assert_uint_eq(length, 6);
	ck_assert_mem_eq(ferry_handoff_get_blob(handoff, &length), "half", 4);
	expect_wake_up(0, 0, FERRY_PARKING_INPUT, 0);
	close_parking();
	close_all_clients(1);
}

/* _i: enum ferry_parking_verdict */
LOOP_TEST_FROM(only_a_renewed_connection_counts_as_new, FERRY_PARKING_STAY, FERRY_PARKING_RENEW + 1)
{
	open_filter((enum ferry_parking_verdict)_i, -1);
	park_new_client(0);
	park_new_client(1);
	put(0, "ping");
	pump_until_count(&parking_notes.filtered, 1);
	ck_assert_int_eq(ferry_parking_evict(parking, 1), 1);
	expect_wake_up(0, _i == FERRY_PARKING_STAY ? 0 : 1, FERRY_PARKING_EVICTED, -ECANCELED);
	expect_pong(0);
	close_parking();
	close_all_clients(2);
}

/* A peer that sends again and again does not keep its place. */
TEST(staying_leaves_the_deadline_as_it_was)
{
	open_filter(FERRY_PARKING_STAY, -1);
	ck_assert_int_eq(park_client(make_client(PAIR_UNIX, 0), 0, 50), 0);
	while (parking_notes.woken == 0) {
		put(0, "ping");
		ck_assert_int_ge(event_base_loop(base, EVLOOP_ONCE), 0);
		wire_drain(clients[0]);
	}
	ck_assert_int_eq(parking_notes.of[0].event.reason, FERRY_PARKING_TIMEOUT);
	ferry_handoff_free(parking_notes.of[0].handoff);
	close_parking();
	wire_drain(clients[0]);
	close_all_clients(1);
}
