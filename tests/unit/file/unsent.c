/* What a file has taken out of a pipe, a socket or a terminal and not sent when it ends: it is given back,
 * and counted. */

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "file_link.h"
#include "source_link.h"
#include "test.h"
#include "wire.h"

enum { STOPPED, LOST, ABORTED, FREED, ENDS };

static struct evbuffer *unsent;
static uint64_t unsent_count;
static bool leaves_it;

static void take(struct told *told)
{
	unsent_count = ferry_file_producer_get_unsent(told->producer);
	if (leaves_it)
		return;
	evbuffer_add(unsent, "<", 1);
	ck_assert_int_eq(ferry_file_producer_take_unsent(told->producer, unsent), 0);
	ck_assert_uint_eq(evbuffer_get_length(unsent), 1 + unsent_count);
	ck_assert_uint_eq(ferry_file_producer_get_unsent(told->producer), 0);
	/* Nothing is given twice. */
	ck_assert_int_eq(ferry_file_producer_take_unsent(told->producer, unsent), 0);
	ck_assert_uint_eq(evbuffer_get_length(unsent), 1 + unsent_count);
}

static void end_by(int end)
{
	switch (end) {
	case STOPPED:
		ferry_file_producer_stop(file.producer);
		break;
	case LOST:
		close_far();
		break;
	case ABORTED:
		ck_assert_int_eq(ferry_transport_abort_connection(sender.transport), 0);
		break;
	default:
		recorder_free_transport(&sender);
		break;
	}
}

static bool is_full(void *argument)
{
	(void)argument;
	feed_some();
	return stats_of(sender.transport).send_eagain > 0 ||
	       ferry_file_producer_get_unsent(file.producer) > 0;
}

/* The far end reads nothing: the socket is full, and the file in the middle of its bytes. */
static void fill_from_source(int kind)
{
	unsent = evbuffer_new();
	file = (struct told){.fd = -1};
	leaves_it = false;
	open_link(LINK_UNIX);
	open_source(kind);
	setsockopt(bufferevent_getfd(ferry_transport_get_bufferevent(sender.transport)), SOL_SOCKET,
	           SO_SNDBUF, &(int){4096}, sizeof(int));
	fed = 0;
	to_feed = 4 << 20;
	closes_at_end = false;
	send_source(FERRY_TO_END);
	file.on_finished = take;
	pump_until(is_full, NULL);
}

static bool has_finished(void *argument)
{
	(void)argument;
	return file.finished > 0;
}

/* All that was fed is sent, given back or still in the source, in this order. */
static void check_complete(void)
{
	evbuffer_drain(unsent, 1); /* what the buffer had before */
	size_t length = evbuffer_get_length(unsent);
	const unsigned char *bytes = evbuffer_pullup(unsent, -1);
	uint64_t next = file.sent;
	for (size_t i = 0; i < length; i++, next++)
		if (bytes[i] != support_byte(next))
			ck_abort_msg("another byte at %zu of the unsent", i);
	evutil_make_socket_nonblocking(source);
	for (;;) {
		ssize_t n = wire_expect(source, next, 65536);
		if (n <= 0)
			break;
		next += (uint64_t)n;
	}
	ck_assert_uint_eq(next, fed);
	evbuffer_free(unsent);
}

LOOP_TEST(bytes_taken_from_a_source_and_not_sent_are_given_back_at_every_end,
          2 * ENDS * SOURCE_KINDS)
{
	copy = _i / SOURCE_KINDS % 2 != 0 ? SEND_COPIED : 0;
	int end = _i / SOURCE_KINDS / 2;
	fill_from_source(_i % SOURCE_KINDS);
	uint64_t pending = ferry_file_producer_get_unsent(file.producer);
	ck_assert_int_eq(ferry_file_producer_take_unsent(file.producer, unsent), -EBUSY);
	if (copy != 0 || link_kind == FROM_TTY)
		ck_assert_uint_gt(pending, 0);

	end_by(end);
	pump_until(has_finished, NULL);

	if (end != LOST)
		ck_assert_uint_eq(unsent_count, pending);
	if (sender.transport != NULL)
		ck_assert_uint_eq(stats_of(sender.transport).file_bytes_unsent, unsent_count);
	check_complete();
	close_all();
}

TEST(bytes_that_nobody_takes_are_counted)
{
	copy = SEND_COPIED;
	fill_from_source(FROM_PIPE);
	leaves_it = true;
	ferry_file_producer_stop(file.producer);
	pump_until(has_finished, NULL);
	ck_assert_uint_gt(unsent_count, 0);
	ck_assert_uint_eq(stats_of(sender.transport).file_bytes_unsent, unsent_count);
	evbuffer_free(unsent);
	close_all();
}

/* Its file has all of them still. */
TEST(a_regular_file_has_nothing_to_give_back)
{
	unsent = evbuffer_new();
	file = (struct told){.fd = -1, .on_finished = take};
	open_link(LINK_UNIX);
	ck_assert_int_eq(
	    try_send(&file, make_file(4 << 20), FERRY_FD_TAKE | SEND_COPIED, 0, FERRY_TO_END), 0);
	pump_turns(3);
	ferry_file_producer_stop(file.producer);
	pump_until(has_finished, NULL);
	ck_assert_uint_eq(unsent_count, 0);
	ck_assert_uint_eq(stats_of(sender.transport).file_bytes_unsent, 0);
	evbuffer_free(unsent);
	close_link();
}

static void take_into_frozen(struct told *told)
{
	evbuffer_freeze(unsent, 0);
	ck_assert_int_eq(ferry_file_producer_take_unsent(told->producer, unsent), -ENOMEM);
	evbuffer_unfreeze(unsent, 0);
	take(told);
}

TEST(bytes_that_a_buffer_does_not_take_can_be_taken_again)
{
	copy = 0;
	fill_from_source(FROM_TCP);
	file.on_finished = take_into_frozen;
	ferry_file_producer_stop(file.producer);
	pump_until(has_finished, NULL);
	check_complete();
	close_all();
}

TEST(null_is_refused)
{
	ck_assert_uint_eq(ferry_file_producer_get_unsent(NULL), 0);
	ck_assert_int_eq(ferry_file_producer_take_unsent(NULL, NULL), -EINVAL);
}
