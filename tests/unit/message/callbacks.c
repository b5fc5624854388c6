/* Callbacks of a stream of messages free, end or pause it, and send messages. */

#include <errno.h>
#include <unistd.h>

#include "message_inbox.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

static void steal_some(struct inbox *box, struct ferry_message *message)
{
	int first = ferry_message_get_fd(message, 0);
	ck_assert_int_eq(ferry_message_steal_fd(message, 0), first);
	ck_assert_int_eq(ferry_message_steal_fd(message, 0), -ENOENT);
	ck_assert_int_eq(ferry_message_get_fd(message, 0), -ENOENT);
	box->stolen[0] = first;
	box->stolen[1] = ferry_message_steal_fd(message, 2);
	ck_assert_int_ge(ferry_message_get_fd(message, 1), 0);
	box->stolen[2] = ferry_message_get_fd(message, 1);
	ck_assert_uint_eq(ferry_message_get_fd_count(message), 3);
	ck_assert_uint_eq(ferry_message_get_fds_lost(message), 0);
}

TEST(stolen_descriptors_are_the_callers_and_the_others_are_closed)
{
	open_messages();
	inbox.hook = steal_some;
	far_frame(1, 0, 20, 3);
	pump_until_count(&inbox.count, 1);
	ck_assert_uint_eq(marked_number(inbox.stolen[0]), 20);
	ck_assert_uint_eq(marked_number(inbox.stolen[1]), 22);
	ck_assert(!fd_is_open(inbox.stolen[2]));
	ck_assert_uint_eq(stats_of(inbox_transport(&inbox)).fds_unclaimed, 1);
	close_fds(inbox.stolen, 2);
	close_messages();
}

TEST(without_callbacks_everything_is_closed)
{
	static const struct ferry_message_callbacks none = {0};
	struct ferry_transport *transport;
	struct ferry_message_stream *stream;
	make_pair(PAIR_UNIX, inbox_ends);
	transport = make_transport(inbox_ends[0]);
	ck_assert_int_eq(ferry_message_stream_new(&stream, transport, &none, NULL), 0);
	far_frame(1, 10, 0, 2);
	far_frame(1, 10, 0, 2);
	close_inbox_far();
	pump_turns(5);
	ck_assert_uint_eq(stats_of(transport).fds_unclaimed, 4);
	ferry_message_stream_free(stream);
}

static void free_it(struct inbox *box, struct ferry_message *message)
{
	size_t length;
	free_messages(box);
	/* The message is valid until the callback returns. */
	const unsigned char *payload = ferry_message_get_payload(message, &length);
	for (size_t i = 0; i < length; i++)
		ck_assert_uint_eq(payload[i], support_byte(i));
	if (ferry_message_get_fd_count(message) > 0)
		box->stolen[0] = ferry_message_steal_fd(message, 1);
}

/* _i: 1: with deferred callbacks; all pending messages were read already */
LOOP_TEST(the_stream_may_be_freed_with_more_messages_and_descriptors_waiting, 2)
{
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], _i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	inbox.hook = free_it;
	for (unsigned int i = 0; i < 5; i++)
		far_frame(i, 100, 0, 3);
	pump_until_count(&inbox.count, 1);
	pump_turns(5);
	ck_assert_uint_eq(inbox.count, 1);
	ck_assert_uint_eq(marked_number(inbox.stolen[0]), 1);
	close(inbox.stolen[0]);
	close_inbox_far();
}

static void free_when_lost(struct inbox *box)
{
	free_messages(box);
}

TEST(the_stream_may_be_freed_in_connection_lost)
{
	unsigned char frame[INBOX_HEADER];
	open_messages();
	inbox.on_lost = free_when_lost;
	put_message_frame(frame, 1, 0, 1);
	far_send_marked(frame, 3, 0, 1);
	pump_turns(3);
	close_inbox_far();
	pump_until_count(&inbox.lost, 1);
	pump_turns(3);
	close_messages();
}

static void abort_it(struct inbox *box, struct ferry_message *message)
{
	(void)message;
	ck_assert_int_eq(ferry_transport_abort_connection(inbox_transport(box)), 0);
}

static void lose_it(struct inbox *box, struct ferry_message *message)
{
	(void)message;
	ck_assert_int_eq(send_plain(9, "last", 4), 0);
	ck_assert_int_eq(ferry_transport_lose_connection(inbox_transport(box)), 0);
}

/* _i & 1: lose or abort; _i & 2: deferred callbacks */
LOOP_TEST(nothing_is_delivered_after_the_connection_was_ended_in_a_callback, 4)
{
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], (_i & 2) != 0 ? BEV_OPT_DEFER_CALLBACKS : 0);
	inbox.hook = (_i & 1) != 0 ? lose_it : abort_it;
	for (unsigned int i = 0; i < 5; i++)
		far_frame(i, 100, 0, 3);
	expect_inbox_lost((_i & 1) != 0 ? 0 : -ECONNABORTED);
	ck_assert_uint_eq(inbox.count, 1);
	close_messages();
}

static void echo(struct inbox *box, struct ferry_message *message)
{
	size_t length;
	const void *payload = ferry_message_get_payload(message, &length);
	int fd = ferry_message_steal_fd(message, 0);
	ck_assert_int_eq(ferry_message_stream_send(box->stream, ferry_message_get_type(message),
	                                           payload, length, &fd, 1, FERRY_FD_TAKE),
	                 0);
	/* Both calls offer the input again while the delivery loop is on the stack. */
	bufferevent_trigger(inbox_bufferevent(box), EV_READ, 0);
	ferry_transport_resume_reading(inbox_transport(box));
}

TEST(messages_may_be_sent_and_the_input_be_offered_in_a_callback)
{
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], 0);
	open_inbox(&second_inbox, inbox_ends[1], 0);
	second_inbox.hook = echo;
	for (unsigned int i = 0; i < 50; i++) {
		int fd = make_marked_fd(i);
		ck_assert_int_eq(send_fds(i, &fd, 1, FERRY_FD_TAKE), 0);
	}
	pump_until_count(&inbox.count, 50);
	for (unsigned int i = 0; i < 50; i++)
		expect_note(i, i, 7, 1, i);
	free_messages(&inbox);
	free_messages(&second_inbox);
}

/* _i: deferred callbacks */
LOOP_TEST(a_pause_in_a_callback_defers_the_next_message, 2)
{
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], _i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	inbox.hook = pause_inbox;
	for (unsigned int i = 0; i < 6; i++)
		far_frame(i, 100, i, i % 3);
	for (unsigned int i = 0; i < 6; i++) {
		pump_until_count(&inbox.count, i + 1);
		pump_turns(5);
		ck_assert_uint_eq(inbox.count, i + 1);
		expect_note(i, i, 100, i % 3, i);
		ck_assert_int_eq(ferry_transport_resume_reading(inbox_transport(&inbox)), 0);
	}
	close_messages();
}

/* _i: deferred callbacks */
LOOP_TEST(paused_messages_are_delivered_before_the_peers_end, 2)
{
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], _i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	inbox.hook = pause_inbox;
	for (unsigned int i = 0; i < 6; i++)
		far_frame(i, 100, i, i % 3);
	close_inbox_far();
	for (unsigned int i = 0; i < 6; i++) {
		pump_until_count(&inbox.count, i + 1);
		pump_turns(3);
		ck_assert_uint_eq(inbox.count, i + 1);
		if (i < 5)
			ck_assert_uint_eq(inbox.lost, 0);
		if (inbox.lost == 0)
			ck_assert_int_eq(ferry_transport_resume_reading(inbox_transport(&inbox)), 0);
	}
	expect_inbox_lost(0);
	close_messages();
}

/* Reading is paused when a write finds that the peer is gone: each time it is resumed a message is delivered, then
 * the end. _i: deferred callbacks */
LOOP_TEST(a_paused_stream_gets_everything_when_the_peer_is_gone, 2)
{
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], _i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	inbox.hook = pause_inbox;
	for (unsigned int i = 0; i < 6; i++)
		far_frame(i, 100, i, i % 3);
	pump_until_count(&inbox.count, 1);
	close_inbox_far();
	ck_assert_int_eq(send_plain(1, "x", 1), 0);
	for (unsigned int i = 1; i <= 6; i++) {
		pump_turns(5);
		ck_assert_uint_eq(inbox.count, i);
		ck_assert_uint_eq(inbox.lost, i < 6 ? 0 : 1);
		if (i < 6)
			ck_assert_int_eq(ferry_transport_resume_reading(inbox_transport(&inbox)), 0);
	}
	ck_assert_int_eq(inbox.reason, -EPIPE);
	close_messages();
}

TEST(messages_read_before_a_reset_are_delivered_though_the_stream_pauses)
{
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], BEV_OPT_DEFER_CALLBACKS);
	inbox.hook = pause_inbox;
	ck_assert_int_eq(send_plain(1, "unread", 6), 0);
	pump_turns(2);
	for (unsigned int i = 0; i < 6; i++)
		far_frame(i, 100, i, i % 3);
	close_inbox_far();
	/* The reset is noticed in the same turn, or at the latest when reading is resumed. */
	while (inbox.lost == 0) {
		pump_turns(1);
		(void)ferry_transport_resume_reading(inbox_transport(&inbox));
	}
	ck_assert_int_eq(inbox.reason, -ECONNRESET);
	ck_assert_uint_eq(inbox.count, 6);
	close_messages();
}

static int open_before;

static void see_few_open(struct inbox *box, struct ferry_message *message)
{
	(void)box, (void)message;
	ck_assert_int_le(count_open_fds(), open_before + 400);
}

TEST(deferred_callbacks_do_not_let_descriptors_pile_up)
{
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], BEV_OPT_DEFER_CALLBACKS);
	for (unsigned int i = 0; i < 20; i++)
		far_frame(i, 1, 0, 100);
	open_before = count_open_fds();
	inbox.hook = see_few_open;
	pump_until_count(&inbox.count, 20);
	close_messages();
}

static void upgrade(struct recorder *recorder, char event)
{
	if (event != EVENT_DATA)
		return;
	struct evbuffer *input =
	    bufferevent_get_input(ferry_transport_get_bufferevent(recorder->transport));
	/* The recorder has taken all bytes: puts those behind the old protocol's back. */
	evbuffer_drain(recorder->received, 3);
	evbuffer_unfreeze(input, 0);
	evbuffer_prepend_buffer(input, recorder->received);
	ck_assert_int_eq(
	    ferry_message_stream_new(&inbox.stream, recorder->transport, &inbox_callbacks, &inbox), 0);
}

TEST(a_transport_may_change_to_messages)
{
	struct recorder recorder;
	make_pair(PAIR_UNIX, inbox_ends);
	recorder_open(&recorder, inbox_ends[0], &recorder_protocol);
	recorder.hook = upgrade;
	pump_turns(2);
	unsigned char bytes[3 + 2 * (INBOX_HEADER + 10)] = "go\n";
	size_t length = 3 + put_message_frame(bytes + 3, 1, 10, 0);
	length += put_message_frame(bytes + length, 2, 10, 0);
	far_send_marked(bytes, length, 0, 0);
	pump_until_count(&inbox.count, 2);
	far_frame(3, 5, 9, 3);
	pump_until_count(&inbox.count, 3);
	expect_note(2, 3, 5, 3, 9);
	evbuffer_free(recorder.received);
	close_messages();
}

TEST_CASE("standard input is closed");

static void steal_the_first(struct inbox *box, struct ferry_message *message)
{
	ck_assert_int_eq(ferry_message_get_fd(message, 0), 0);
	box->stolen[0] = ferry_message_steal_fd(message, 0);
	ck_assert_int_eq(ferry_message_get_fd(message, 0), -ENOENT);
}

TEST(a_received_descriptor_may_have_the_number_0)
{
	int input = dup(STDIN_FILENO);
	open_messages();
	inbox.hook = steal_the_first;
	close(STDIN_FILENO);
	far_frame(1, 10, 0, 2);
	pump_until_count(&inbox.count, 1);
	ck_assert_int_eq(inbox.stolen[0], 0);
	ck_assert(fd_is_open(0));
	ck_assert_int_eq(dup2(input, STDIN_FILENO), STDIN_FILENO);
	close(input);
	close_messages();
}
