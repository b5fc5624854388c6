/* Watermarks may be smaller than a message, and a stream may reserve descriptor slots. */

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "message_inbox.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

static const size_t high_marks[] = {1, 15, 16, 17, 100, 315};

enum { HIGH_MARKS = sizeof(high_marks) / sizeof(high_marks[0]) };

TEST_CASE("watermarks");

/* _i: the mark, with and without deferred callbacks */
LOOP_TEST(a_high_water_mark_below_a_message_does_not_stop_the_reading, 2 * HIGH_MARKS)
{
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], _i < HIGH_MARKS ? 0 : BEV_OPT_DEFER_CALLBACKS);
	bufferevent_setwatermark(inbox_bufferevent(&inbox), EV_READ, 0, high_marks[_i % HIGH_MARKS]);
	for (unsigned int i = 0; i < 6; i++)
		far_frame(i, i % 2 == 0 ? 300 : 3, i, i % 3);
	pump_until_count(&inbox.count, 6);
	for (unsigned int i = 0; i < 6; i++)
		expect_note(i, i, i % 2 == 0 ? 300 : 3, i % 3, i);
	expect_payload(&inbox, 0);
	close_messages();
}

TEST(a_high_water_mark_still_bounds_a_read)
{
	unsigned char frame[INBOX_HEADER + 1000];
	open_messages();
	bufferevent_setwatermark(inbox_bufferevent(&inbox), EV_READ, 0, 10);
	far_send_marked(frame, put_message_frame(frame, 1, 1000, 0), 0, 0);
	pump_until_count(&inbox.count, 1);
	expect_payload(&inbox, 0);
	ck_assert_uint_ge(stats_of(inbox_transport(&inbox)).receive_calls, sizeof(frame) / 10);
	close_messages();
}

static bool has_read_some(void *unused)
{
	(void)unused;
	return stats_of(inbox_transport(&inbox)).bytes_received >= 100;
}

/* The mark is lower than the number of bytes of the message that have arrived. _i: deferred callbacks */
LOOP_TEST(a_high_water_mark_may_be_set_in_the_middle_of_a_message, 2)
{
	unsigned char frame[INBOX_HEADER + 300];
	put_message_frame(frame, 5, 300, 2);
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], _i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	far_send_marked(frame, 100, 7, 2);
	pump_until(has_read_some, NULL);
	pump_turns(2);
	bufferevent_setwatermark(inbox_bufferevent(&inbox), EV_READ, 0, 20);
	far_send_marked(frame + 100, sizeof(frame) - 100, 0, 0);
	pump_until_count(&inbox.count, 1);
	expect_note(0, 5, 300, 2, 7);
	expect_payload(&inbox, 0);
	close_messages();
}

static void set_low_high_mark(struct inbox *box, struct ferry_message *message)
{
	(void)message;
	bufferevent_setwatermark(inbox_bufferevent(box), EV_READ, 0, 20);
}

TEST(a_high_water_mark_may_be_set_in_a_callback)
{
	unsigned char frames[INBOX_HEADER + 10 + INBOX_HEADER + 300];
	size_t length = put_message_frame(frames, 1, 10, 0);
	put_message_frame(frames + length, 2, 300, 0);
	open_messages();
	inbox.hook = set_low_high_mark;
	far_send_marked(frames, length + 100, 0, 0);
	pump_until_count(&inbox.count, 1);
	far_send_marked(frames + length + 100, sizeof(frames) - length - 100, 0, 0);
	pump_until_count(&inbox.count, 2);
	expect_payload(&inbox, 0);
	close_messages();
}

/* _i: deferred callbacks */
LOOP_TEST(a_low_water_mark_does_not_defer_messages, 2)
{
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], _i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	bufferevent_setwatermark(inbox_bufferevent(&inbox), EV_READ, 1000000, 0);
	inbox.hook = pause_inbox;
	for (unsigned int i = 0; i < 3; i++)
		far_frame(i, 10, i, i);
	for (unsigned int i = 0; i < 3; i++) {
		pump_until_count(&inbox.count, i + 1);
		ck_assert_int_eq(ferry_transport_resume_reading(inbox_transport(&inbox)), 0);
	}
	close_messages();
}

/* The beginning of a message is in the stream's partial buffer. _i + 1: its bytes */
LOOP_TEST(an_end_inside_a_message_is_an_error_under_a_high_water_mark_too, INBOX_HEADER + 20 - 1)
{
	unsigned char frame[INBOX_HEADER + 20];
	put_message_frame(frame, 1, 20, 1);
	open_messages();
	bufferevent_setwatermark(inbox_bufferevent(&inbox), EV_READ, 0, 5);
	far_send_marked(frame, (size_t)_i + 1, 0, 1);
	close_inbox_far();
	expect_inbox_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 0);
	close_messages();
}

static void expect_nothing_yet(void)
{
	uint64_t before = stats_of(inbox_transport(&inbox)).bytes_received;
	pump_turns(10);
	ck_assert_uint_eq(stats_of(inbox_transport(&inbox)).bytes_received, before);
	ck_assert_uint_eq(inbox.lost, 0);
}

/* pump_until() could not report a failure at the descriptor limit. */
static void turn_until(const unsigned int *counter, unsigned int value)
{
	while (*counter < value)
		event_base_loop(base, EVLOOP_ONCE);
}

static bool has_bytes(void *argument)
{
	return stats_of(inbox_transport(&inbox)).bytes_received >= *(size_t *)argument;
}

static void pump_until_bytes(size_t count)
{
	pump_until(has_bytes, &count);
}

TEST_CASE("the reserve");

TEST(nothing_is_read_while_fewer_slots_than_the_reserve_are_free)
{
	open_messages();
	pump_turns(2);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 10), 0);
	far_frame(1, 5, 0, 10);
	far_frame(2, 5, 50, 10);
	limit_descriptors(9);
	expect_nothing_yet();
	int calls = (int)stats_of(inbox_transport(&inbox)).receive_calls;
	unlimit_descriptors();
	ck_assert_int_eq(calls, 0);

	pump_until_count(&inbox.count, 2);
	expect_note(0, 1, 5, 10, 0);
	expect_note(1, 2, 5, 10, 50);
	ck_assert_uint_eq(inbox.notes[0].lost + inbox.notes[1].lost, 0);
	close_messages();
}

static void steal_into_list(struct inbox *box, struct ferry_message *message)
{
	for (size_t i = 0; i < 5; i++)
		box->stolen[(box->count - 1) * 5 + i] = ferry_message_steal_fd(message, i);
}

TEST(frames_come_one_by_one_as_slots_become_free)
{
	open_messages();
	pump_turns(2);
	inbox.hook = steal_into_list;
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 5), 0);
	for (unsigned int i = 0; i < 6; i++)
		far_frame(i, 5, 10 * i, 5);
	limit_descriptors(11);
	size_t lost = 0;
	for (unsigned int i = 0; i < 6; i += 2) {
		turn_until(&inbox.count, i + 2);
		expect_nothing_yet();
		lost += inbox.notes[i].lost + inbox.notes[i + 1].lost;
		for (unsigned int j = 0; j < 10; j++)
			close(inbox.stolen[5 * i + j]);
	}
	unlimit_descriptors();
	ck_assert_uint_eq(inbox.count, 6);
	ck_assert_uint_eq(lost, 0);
	close_messages();
}

/* _i: 1: the reserve is one more than the free slots */
LOOP_TEST(slots_below_used_ones_count_as_free, 2)
{
	int numbers[20];
	open_messages();
	pump_turns(2);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 15 + (unsigned int)_i), 0);
	far_frame(1, 5, 0, 15);
	limit_descriptors(20);
	/* Uses the upper end of the descriptor table. */
	for (int i = 0; i < 20; i++)
		numbers[i] = dup(inbox_ends[1]);
	for (int i = 0; i < 15; i++)
		close(numbers[i]);
	if (_i == 1) {
		expect_nothing_yet();
		close(numbers[19]);
	}
	turn_until(&inbox.count, 1);
	unlimit_descriptors();
	ck_assert_uint_eq(inbox.notes[0].lost, 0);
	for (int i = 15; i < 20 - _i; i++)
		close(numbers[i]);
	close_messages();
}

TEST(a_suspended_stream_can_be_paused_resumed_and_freed)
{
	open_messages();
	pump_turns(2);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 10), 0);
	far_frame(1, 5, 0, 1);
	far_frame(2, 5, 0, 1);
	limit_descriptors(9);
	expect_nothing_yet();
	ferry_transport_pause_reading(inbox_transport(&inbox));
	expect_nothing_yet();
	ferry_transport_resume_reading(inbox_transport(&inbox));
	expect_nothing_yet();
	/* Enabling reading by libevent's own function does not read either. */
	bufferevent_enable(inbox_bufferevent(&inbox), EV_READ);
	expect_nothing_yet();
	ferry_transport_pause_reading(inbox_transport(&inbox));
	unlimit_descriptors();
	expect_nothing_yet();
	ferry_transport_resume_reading(inbox_transport(&inbox));
	pump_until_count(&inbox.count, 2);

	far_frame(3, 5, 0, 1);
	limit_descriptors(9);
	expect_nothing_yet();
	free_messages(&inbox);
	pump_turns(3);
	unlimit_descriptors();
	close_inbox_far();
}

/* _i: 1: the user has paused reading too */
LOOP_TEST(a_suspended_stream_gets_everything_when_the_peer_is_gone, 2)
{
	open_messages();
	pump_turns(2);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 10), 0);
	for (unsigned int i = 0; i < 4; i++)
		far_frame(i, 5, 0, 10);
	limit_descriptors(9);
	expect_nothing_yet();
	if (_i == 1)
		ferry_transport_pause_reading(inbox_transport(&inbox));
	/* close() would not do: the process that sets the limits has a copy. */
	ck_assert_int_eq(shutdown(inbox_ends[1], SHUT_RDWR), 0);
	int status = send_plain(1, "x", 1);
	pump_turns(10);
	unsigned int lost = inbox.lost;
	unlimit_descriptors();
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(lost, 0);
	if (_i == 1) {
		pump_turns(5);
		ck_assert_uint_eq(inbox.lost, 0);
		ck_assert_int_eq(ferry_transport_resume_reading(inbox_transport(&inbox)), 0);
	}

	expect_inbox_lost(-EPIPE);
	ck_assert_uint_eq(inbox.count, 4);
	for (unsigned int i = 0; i < 4; i++)
		ck_assert_uint_eq(inbox.notes[i].lost, 0);
	close_messages();
}

/* The descriptors of a message that has begun keep the slots that its stream would wait for. _i: the bytes that have
 * arrived */
LOOP_TEST(a_message_that_has_begun_is_read_to_its_end, INBOX_HEADER + 20 - 1)
{
	unsigned char frame[INBOX_HEADER + 20];
	size_t begun = (size_t)_i + 1;
	put_message_frame(frame, 1, 20, 5);
	open_messages();
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 10), 0);
	far_send_marked(frame, begun, 7, 5);
	pump_until_bytes(begun);
	far_send_marked(frame + begun, sizeof(frame) - begun, 0, 0);
	far_frame(2, 5, 50, 5);
	limit_descriptors(4);
	turn_until(&inbox.count, 1);
	/* Its descriptors are closed; 9 slots are free, and the next message waits. */
	expect_nothing_yet();
	unlimit_descriptors();
	pump_until_count(&inbox.count, 2);
	expect_note(0, 1, 20, 5, 7);
	expect_note(1, 2, 5, 5, 50);
	ck_assert_uint_eq(inbox.notes[1].lost, 0);
	close_messages();
}

/* _i: 0: it ends; 1: it sends descriptors with the rest; 2: it is silent, until the read timeout */
LOOP_TEST(a_peer_that_does_not_finish_its_message_keeps_no_slots, 3)
{
	static const int reasons[] = {-EPROTO, -EPROTO, -ETIMEDOUT};
	unsigned char frame[INBOX_HEADER + 20];
	put_message_frame(frame, 1, 20, 5);
	open_messages();
	int opened = count_open_fds();
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 10), 0);
	far_send_marked(frame, 1, 7, 5);
	pump_until_bytes(1);
	if (_i == 2)
		bufferevent_set_timeouts(inbox_bufferevent(&inbox), &(struct timeval){.tv_usec = 50000},
		                         NULL);
	if (_i == 1)
		far_send_marked(frame + 1, 1, 7, 3);
	limit_descriptors(4);
	if (_i == 0)
		shutdown(inbox_ends[1], SHUT_RDWR);
	turn_until(&inbox.lost, 1);
	unlimit_descriptors();
	int after = count_open_fds();
	ck_assert_int_eq(inbox.reason, reasons[_i]);
	ck_assert_uint_eq(inbox.count, 0);
	ck_assert_int_le(after, opened);
	close_messages();
}

/* The slots for one message are enough, so that connections of peers that are gone end. */
TEST(a_peer_that_is_gone_is_read_to_its_end_below_the_reserve)
{
	open_messages();
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, 100, 5), 0);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 10), 0);
	pump_turns(2);
	far_frame(1, 5, 0, 5);
	far_frame(2, 5, 50, 5);
	limit_descriptors(9);
	expect_nothing_yet();
	shutdown(inbox_ends[1], SHUT_RDWR);
	turn_until(&inbox.lost, 1);
	unlimit_descriptors();
	ck_assert_uint_eq(inbox.count, 2);
	ck_assert_int_eq(inbox.reason, 0);
	ck_assert_uint_eq(inbox.notes[0].lost + inbox.notes[1].lost, 0);
	close_messages();
}

/* The end brings no descriptors: it needs no slot. _i: 1: a message is unread before it, which waits for the reserve */
LOOP_TEST(a_peer_that_ends_its_half_is_noticed_below_the_reserve, 2)
{
	open_messages();
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 10), 0);
	pump_turns(2);
	if (_i == 1)
		far_frame(1, 5, 0, 5);
	limit_descriptors(_i == 0 ? 0 : 9);
	expect_nothing_yet();
	shutdown(inbox_ends[1], SHUT_WR);
	if (_i == 1) {
		expect_nothing_yet();
		ferry_message_stream_set_fd_reserve(inbox.stream, 9);
	}
	turn_until(&inbox.lost, 1);
	unlimit_descriptors();
	ck_assert_uint_eq(inbox.count, (unsigned int)_i);
	ck_assert_int_eq(inbox.reason, 0);
	ck_assert_uint_eq(inbox.notes[0].lost, 0);
	close_messages();
}

TEST(a_reserve_may_be_larger_than_one_look_and_than_the_limit)
{
	raise_descriptor_limit();
	open_messages();
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 700), 0);
	far_frame(1, 5, 0, 10);
	pump_until_count(&inbox.count, 1);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, UINT32_MAX), 0);
	far_frame(2, 5, 0, 10);
	expect_nothing_yet();
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 0), 0);
	pump_until_count(&inbox.count, 2);
	close_messages();
}

TEST_CASE("the backlog of descriptors");

/* Others get their turn between messages with many descriptors. */
TEST(one_wake_up_takes_one_message_with_the_most_descriptors)
{
	open_messages();
	pump_turns(2);
	for (unsigned int i = 0; i < 4; i++)
		far_frame(i, 10, i, WIRE_MAX_FDS);
	for (unsigned int i = 1; i <= 4; i++) {
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		ck_assert_uint_le(inbox.count, i);
	}
	pump_until_count(&inbox.count, 4);
	close_messages();
}

static int open_before, open_at_first;

static void count_at_first(struct inbox *box, struct ferry_message *message)
{
	(void)message;
	if (box->count == 1)
		open_at_first = count_open_fds();
}

enum { CYCLES = 20 };

static const struct {
	unsigned int fds;      /* of a message */
	unsigned int messages; /* that the peer sends between two turns of the loop */
	int most;              /* descriptors that have arrived and are undelivered */
} piles[] = {{1, 70, 64}, {23, 12, WIRE_MAX_FDS}};

static int most_open;

static void count_and_pause(struct inbox *box, struct ferry_message *message)
{
	int open = count_open_fds();

	most_open = open > most_open ? open : most_open;
	pause_inbox(box, message);
}

/* False if the socket is full. */
static bool far_sends(unsigned int count)
{
	unsigned char frame[INBOX_HEADER];
	int fds[WIRE_MAX_FDS];

	open_marked(fds, 0, count);
	ssize_t length =
	    wire_send(inbox_ends[1], frame, put_message_frame(frame, 1, 0, count), fds, count);
	close_fds(fds, count);
	return length > 0;
}

/* The owner takes one message, pauses, and resumes while the loop does not run: with deferred callbacks, each turn then
 * reads before it delivers. */
LOOP_TEST(an_owner_that_takes_one_message_a_turn_has_no_pile_of_descriptors, COUNT(piles))
{
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], BEV_OPT_DEFER_CALLBACKS);
	inbox.hook = count_and_pause;
	most_open = open_before = count_open_fds();
	for (unsigned int i = 0; i < CYCLES; i++) {
		for (unsigned int j = 0; j < piles[_i].messages && far_sends(piles[_i].fds); j++)
			continue;
		pump_turns(1);
		ck_assert_int_eq(ferry_transport_resume_reading(inbox_transport(&inbox)), 0);
	}
	ck_assert_uint_gt(inbox.count, CYCLES / 2);
	ck_assert_int_le(most_open - open_before, piles[_i].most);
	close_messages();
}

/* Without the bound, the turn would read all three messages before it delivers one. */
TEST(a_peer_fills_no_more_than_two_messages_of_descriptor_slots_before_a_delivery)
{
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], BEV_OPT_DEFER_CALLBACKS);
	inbox.hook = count_at_first;
	for (unsigned int i = 0; i < 3; i++)
		far_frame(i, 10, i * WIRE_MAX_FDS, WIRE_MAX_FDS);
	open_before = count_open_fds();
	pump_until_count(&inbox.count, 3);
	ck_assert_int_le(open_at_first, open_before + 2 * WIRE_MAX_FDS);
	for (unsigned int i = 0; i < 3; i++)
		expect_note(i, i, 10, WIRE_MAX_FDS, i * WIRE_MAX_FDS);
	close_messages();
}
