/* Callbacks that run when the kernel has a message, or never will have it. */

#include <errno.h>
#include <unistd.h>

#include <event2/event.h>

#include "children.h"
#include "message_inbox.h"
#include "test.h"
#include "wire.h"

enum { BIG = 1000000, PENDING_MAX = 65536 };

/* The statuses in the order of the callbacks, with the contexts: each is a byte of `labels`. */
static char labels[PENDING_MAX + 8];
static int statuses[PENDING_MAX + 8];
static unsigned int told;
static unsigned int lost_after; /* callbacks that had run before connection_lost */
static void (*hook)(void);

static void on_sent(struct ferry_message_stream *stream, int status, void *context)
{
	ck_assert_uint_eq(inbox.lost, 0);
	if (inbox.stream != NULL)
		ck_assert_ptr_eq(stream, inbox.stream);
	ck_assert_ptr_eq(context, &labels[told]); /* in order, none left out */
	statuses[told++] = status;
	if (hook != NULL)
		hook();
}

static void note_lost(struct inbox *box)
{
	(void)box;
	lost_after = told;
}

static void open_near(void)
{
	told = lost_after = 0;
	hook = NULL;
	open_messages();
	inbox.on_lost = note_lost;
}

/* The `i`-th callback. */
static int notify(unsigned int i)
{
	return ferry_message_stream_notify_sent(inbox.stream, on_sent, &labels[i]);
}

static void send_and_notify(unsigned int i, size_t length)
{
	static char payload[BIG];

	ck_assert_int_eq(send_plain(i, payload, length), 0);
	ck_assert_int_eq(notify(i), 0);
}

static void expect_told(unsigned int from, unsigned int to, int status)
{
	ck_assert_uint_ge(told, to);
	for (unsigned int i = from; i < to; i++)
		ck_assert_int_eq(statuses[i], status);
}

static void read_all(void)
{
	while (wire_drain(inbox_ends[1]) > 0)
		pump_turns(1);
}

/* ---- sent ---- */

enum { NEXT_MAX = 1000, IN_A_TURN = 2 };

static int others[2];            /* a pipe of somebody else, with a byte since the first callback */
static unsigned int told_before; /* its event */

static void note_told(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	told_before = told;
}

static void send_another(void)
{
	unsigned char bytes[64];

	if (told == 1)
		ck_assert_int_eq(write(others[1], "x", 1), 1);
	if (told == NEXT_MAX)
		return;
	ck_assert_int_eq(read(inbox_ends[1], bytes, sizeof(bytes)), INBOX_HEADER + 1);
	send_and_notify(told, 1);
}

TEST(callbacks_that_send_leave_the_loop_to_others)
{
	open_near();
	make_pipe(others);
	told_before = 0;
	struct event *other = event_new(base, others[0], EV_READ, note_told, NULL);
	event_add(other, NULL);
	hook = send_another;
	send_and_notify(0, 1);
	pump_until_count(&told_before, 1);
	ck_assert_uint_le(told_before, IN_A_TURN);
	hook = NULL;
	pump_turns(2);
	event_free(other);
	close(others[0]);
	close(others[1]);
	close_messages();
}

TEST(a_callback_runs_from_the_loop_when_the_kernel_has_its_message)
{
	open_near();
	for (unsigned int i = 0; i < 10; i++)
		send_and_notify(i, i);
	ck_assert_uint_eq(told, 0);
	pump_until_count(&told, 10);
	expect_told(0, 10, 0);
	pump_turns(3);
	ck_assert_uint_eq(told, 10);
	ck_assert_int_eq(notify(10), 0); /* all was sent before */
	ck_assert_uint_eq(told, 10);
	pump_until_count(&told, 11);
	expect_told(10, 11, 0);
	close_messages();
}

TEST(a_message_of_which_the_kernel_has_a_part_is_not_sent)
{
	open_near();
	send_and_notify(0, 10);
	send_and_notify(1, BIG);
	send_and_notify(2, 10);
	pump_until_count(&told, 1);
	pump_turns(10);
	ck_assert_uint_eq(told, 1);
	ck_assert_uint_gt(stats_of(inbox_transport(&inbox)).bytes_sent, 1000);
	read_all();
	pump_until_count(&told, 3);
	expect_told(0, 3, 0);
	close_messages();
}

TEST(what_a_flush_has_sent_is_told_from_the_loop)
{
	open_near();
	pump_turns(2);
	send_and_notify(0, 10);
	ck_assert_int_eq(ferry_transport_flush(inbox_transport(&inbox), &(struct timeval){.tv_sec = 0}),
	                 0);
	ck_assert_uint_eq(told, 0);
	pump_until_count(&told, 1);
	close_messages();
}

static void send_next(void)
{
	if (told == 100)
		return;
	send_and_notify(told, 10);
	(void)ferry_transport_flush(inbox_transport(&inbox), &(struct timeval){.tv_sec = 0});
}

static void note_turn(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	*(unsigned int *)argument = told;
}

TEST(a_callback_that_sends_the_next_message_leaves_others_their_turn)
{
	unsigned int told_by_then = 0;
	struct event *other = event_new(base, -1, 0, note_turn, &told_by_then);

	open_near();
	hook = send_next;
	send_and_notify(0, 10);
	pump_until_count(&told, 1);
	event_active(other, EV_TIMEOUT, 0);
	pump_until_count(&told_by_then, 1);
	ck_assert_uint_lt(told_by_then, 100);
	pump_until_count(&told, 100);
	event_free(other);
	close_messages();
}

TEST(a_stream_that_closes_sends_its_messages_first)
{
	open_near();
	send_and_notify(0, 10);
	send_and_notify(1, BIG);
	ck_assert_int_eq(ferry_message_stream_lose_connection(inbox.stream), 0);
	ck_assert_int_eq(notify(2), 0);
	pump_turns(10);
	read_all();
	expect_inbox_lost(0);
	expect_told(0, 3, 0);
	ck_assert_uint_eq(lost_after, 3);
	ck_assert_int_eq(notify(3), -EPIPE);
	close_messages();
}

/* ---- not sent ---- */

/* _i: 0 the peer goes, 1 aborted */
LOOP_TEST(messages_that_are_lost_have_the_reason_before_connection_lost, 2)
{
	open_near();
	send_and_notify(0, 10);
	send_and_notify(1, BIG);
	send_and_notify(2, 10);
	pump_turns(5);
	ck_assert_uint_eq(told, 1);
	if (_i == 0)
		close_inbox_far();
	else
		ck_assert_int_eq(ferry_message_stream_abort_connection(inbox.stream), 0);
	ck_assert_uint_eq(told, 1);
	pump_until_count(&inbox.lost, 1);
	ck_assert_uint_eq(lost_after, 3);
	expect_told(0, 1, 0);
	expect_told(1, 3, inbox.reason);
	ck_assert_int_lt(inbox.reason, 0);
	ck_assert_int_eq(notify(3), -EPIPE);
	pump_turns(3);
	ck_assert_uint_eq(told, 3);
	close_messages();
}

TEST(the_free_of_the_stream_cancels_those_that_are_left)
{
	open_near();
	send_and_notify(0, 10);
	ck_assert_int_eq(ferry_transport_flush(inbox_transport(&inbox), &(struct timeval){.tv_sec = 0}),
	                 0);
	send_and_notify(1, 10);
	send_and_notify(2, 10);
	free_messages(&inbox);
	ck_assert_uint_eq(told, 3); /* inside the call */
	expect_told(0, 1, 0);
	expect_told(1, 3, -ECANCELED);
	close_inbox_far();
	pump_turns(3);
}

static void free_stream(void)
{
	free_messages(&inbox);
}

/* _i: which way the first callback comes */
LOOP_TEST(a_callback_may_free_the_stream, 3)
{
	open_near();
	pump_turns(2);
	hook = free_stream;
	for (unsigned int i = 0; i < 3; i++)
		send_and_notify(i, i == 0 ? 10 : BIG);
	if (_i == 1)
		ferry_message_stream_abort_connection(inbox.stream);
	if (_i == 2)
		free_stream();
	pump_until_count(&told, 3);
	ck_assert_int_eq(statuses[0], _i == 0 ? 0 : _i == 1 ? -ECONNABORTED : -ECANCELED);
	expect_told(1, 3, -ECANCELED);
	pump_turns(3);
	ck_assert_uint_eq(inbox.lost, 0);
	close_inbox_far();
}

static void try_everything(void)
{
	struct ferry_message_stream *stream = inbox.stream;

	ck_assert_int_eq(ferry_message_stream_notify_sent(stream, on_sent, NULL), -EPIPE);
	ck_assert_int_eq(ferry_message_stream_send(stream, 1, "x", 1, NULL, 0, 0), -EPIPE);
	ferry_message_stream_free(stream); /* is being freed: nothing happens */
}

TEST(in_the_free_nothing_is_sent_any_more)
{
	open_near();
	hook = try_everything;
	send_and_notify(0, 10);
	send_and_notify(1, 10);
	ferry_message_stream_free(inbox.stream);
	ck_assert_uint_eq(told, 2);
	inbox.stream = NULL;
	close_inbox_far();
	pump_turns(2);
}

TEST(the_number_of_callbacks_that_wait_is_bounded)
{
	open_near();
	send_and_notify(0, BIG);
	for (unsigned int i = 1; i < PENDING_MAX; i++)
		ck_assert_int_eq(notify(i), 0);
	ck_assert_int_eq(notify(PENDING_MAX), -ENOBUFS);
	pump_turns(3);
	ck_assert_uint_eq(told, 0);
	read_all();
	pump_until_count(&told, PENDING_MAX);
	expect_told(0, PENDING_MAX, 0);
	ck_assert_int_eq(notify(PENDING_MAX), 0);
	pump_until_count(&told, PENDING_MAX + 1);
	close_messages();
}

TEST(a_child_of_a_fork_has_callbacks_of_its_own)
{
	open_near();
	send_and_notify(0, BIG);
	pump_turns(3);
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		if (event_reinit(base) == 0) {
			free_stream();
			for (int i = 0; i < 3; i++)
				event_base_loop(base, EVLOOP_NONBLOCK);
		}
		die();
	}
	wait_for_death(child);
	ck_assert_uint_eq(told, 0);
	read_all();
	pump_until_count(&told, 1);
	expect_told(0, 1, 0);
	close_messages();
}

TEST(arguments_are_checked)
{
	open_near();
	ck_assert_int_eq(ferry_message_stream_notify_sent(NULL, on_sent, NULL), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_notify_sent(inbox.stream, NULL, NULL), -EINVAL);
	close_messages();
}
