/* The calls on a stream of messages that the handoff uses beyond the public ones: a payload in parts, a lent
 * descriptor, positions in the stream, and deferred messages. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "message/receive.h"
#include "message/send.h"

#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { HEADER = 16, MARK = 5 };

static int ends[2] = {-1, -1};
static int next_error; /* of sendmsg(2) on the stream */

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (fd != ends[0] || next_error == 0)
		return __real_sendmsg(fd, message, flags);
	errno = next_error;
	next_error = 0;
	return -1;
}

static struct ferry_message_stream *stream;
static unsigned int received, deferred, lost;
static bool defer;

static void on_message(struct ferry_message_stream *of, struct ferry_message *message,
                       void *context)
{
	(void)context;
	ck_assert_ptr_eq(of, stream);
	if (defer) {
		message_defer(message);
		deferred++;
	} else {
		received++;
		ck_assert_uint_eq(ferry_message_get_type(message), received);
		if (ferry_message_get_fd_count(message) == 1)
			ck_assert_uint_eq(marked_number(ferry_message_get_fd(message, 0)), received);
	}
}

static void on_lost(struct ferry_message_stream *of, int reason, void *context)
{
	(void)of, (void)reason, (void)context;
	lost++;
}

static const struct ferry_message_callbacks callbacks = {.message_received = on_message,
                                                         .connection_lost = on_lost};

static void open_stream_with(int options)
{
	struct ferry_transport *transport = NULL;
	make_pair(PAIR_UNIX, ends);
	struct bufferevent *bev =
	    bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE | options);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_message_stream_new(&stream, transport, &callbacks, NULL), 0);
	pump_turns(2);
}

static void open_stream(void)
{
	open_stream_with(0);
}

static void close_stream(void)
{
	ferry_message_stream_free(stream);
	stream = NULL;
	close(ends[1]);
}

static int send_lent(int fd)
{
	struct iovec parts[] = {{(void *)(uintptr_t) "ab", 2},
	                        {NULL, 0},
	                        {(void *)(uintptr_t) "c", 1},
	                        {(void *)(uintptr_t) "def", 3}};
	return message_stream_send_parts(stream, 0x0102, parts, 4, fd);
}

TEST_CASE("sending");

TEST(the_parts_are_one_payload)
{
	unsigned char bytes[100];
	struct wire_read read;
	open_stream();
	int fd = make_marked_fd(MARK);
	ck_assert_int_eq(send_lent(-1), 0);
	ck_assert_int_eq(send_lent(fd), 0);
	ck_assert_uint_eq(message_stream_sent_position(stream), 0);
	ck_assert_uint_eq(message_stream_end_position(stream), 2 * (HEADER + 6));
	message_stream_flush(stream);
	ck_assert_uint_eq(message_stream_sent_position(stream), 2 * (HEADER + 6));
	for (size_t i = 0; i < 2; i++) {
		wire_receive(ends[1], bytes, HEADER + 6, &read);
		ck_assert_int_eq(read.bytes, HEADER + 6);
		ck_assert_mem_eq(bytes + HEADER, "abcdef", 6);
		ck_assert_uint_eq(bytes[4], 2);
		ck_assert_uint_eq(bytes[8], 6);
		ck_assert_uint_eq(bytes[12], i);
		ck_assert_uint_eq(read.fd_count, i);
		wire_close_fds(&read);
	}
	ck_assert_uint_eq(marked_number(fd), MARK); /* a lent descriptor stays open */
	close(fd);
	close_stream();
}

enum { FREED, ENDED, BROKEN, HALF_CLOSED };

/* _i: how the stream ends */
LOOP_TEST(a_lent_descriptor_that_is_queued_is_not_closed_with_the_stream, HALF_CLOSED + 1)
{
	open_stream();
	int fd = make_marked_fd(MARK);
	ck_assert_int_eq(send_lent(fd), 0);
	if (_i == ENDED) {
		message_stream_end(stream, -EPROTO);
	} else if (_i == BROKEN) {
		next_error = EPIPE;
		message_stream_flush(stream);
		ck_assert(!message_stream_can_send(stream));
	} else if (_i == HALF_CLOSED) {
		next_error = EAGAIN;
		shutdown(ends[1], SHUT_RD);
	}
	if (_i != FREED)
		pump_until_count(&lost, 1);
	/* Bytes that the end has dropped do not count as sent. */
	ck_assert_uint_eq(message_stream_sent_position(stream), 0);
	close_stream();
	pump_turns(3);
	ck_assert_uint_eq(marked_number(fd), MARK);
	close(fd);
}

TEST(lent_descriptors_count_for_the_limits)
{
	open_stream();
	struct ferry_transport *transport = ferry_message_stream_get_transport(stream);
	ck_assert_int_eq(ferry_transport_set_fd_buffer(transport, 1, 2), 0);
	int fd = make_marked_fd(MARK);
	ck_assert_int_eq(send_lent(fd), 0);
	ck_assert_int_eq(send_lent(fd), 0); /* the same once more: only the caller closes it */
	ck_assert_int_eq(send_lent(fd), -ENOBUFS);
	ck_assert_uint_eq(stats_of(transport).bytes_queued, 2 * (HEADER + 6));
	ck_assert_int_eq(ferry_message_stream_set_limits(stream, 5, 1), 0);
	ck_assert_int_eq(send_lent(-1), -EMSGSIZE);
	ck_assert_int_eq(ferry_message_stream_set_limits(stream, 6, 0), 0);
	ck_assert_int_eq(send_lent(fd), -EMSGSIZE);
	ck_assert_int_eq(send_lent(-1), 0);
	message_stream_end(stream, 0);
	ck_assert_int_eq(send_lent(-1), -EPIPE);
	pump_until_count(&lost, 1);
	close(fd);
	close_stream();
}

TEST(tcp_takes_none)
{
	make_pair(PAIR_TCP, ends);
	ck_assert_int_eq(ferry_message_stream_new(&stream, make_transport(ends[0]), &callbacks, NULL),
	                 0);
	ck_assert_int_eq(send_lent(STDERR_FILENO), -EOPNOTSUPP);
	ck_assert_int_eq(send_lent(-1), 0);
	close_stream();
}

static uint64_t reported_position;
static unsigned int report_count;

static void on_sent(void *argument)
{
	(void)argument;
	report_count++;
	ck_assert_uint_gt(message_stream_sent_position(stream), reported_position);
	reported_position = message_stream_sent_position(stream);
}

TEST(progress_is_reported)
{
	open_stream();
	message_stream_set_sent_cb(stream, on_sent, NULL);
	ck_assert_int_eq(send_lent(-1), 0);
	next_error = EAGAIN;
	message_stream_flush(stream);
	ck_assert_uint_eq(report_count, 0);
	pump_until_count(&report_count, 1);
	ck_assert_uint_eq(reported_position, HEADER + 6);
	message_stream_flush(stream); /* the queue is empty */
	ck_assert_int_eq(send_lent(-1), 0);
	next_error = EPIPE;
	message_stream_flush(stream);
	ck_assert_uint_eq(report_count, 1);
	message_stream_set_sent_cb(stream, NULL, NULL);
	close_stream();
}

/* ---- a deferred message ---- */

static void far_send(unsigned int type, bool with_fd)
{
	unsigned char frame[HEADER + 3] = {'F', 'R', 'Y', 1, (unsigned char)type, 0, 0, 0, 3};
	int fd = make_marked_fd(type);
	frame[12] = with_fd;
	ck_assert_int_eq(wire_send(ends[1], frame, sizeof(frame), &fd, with_fd), sizeof(frame));
	close(fd);
}

TEST_CASE("deferring");

/* _i: whether a descriptor goes with it */
LOOP_TEST(a_deferred_message_comes_once_more_and_before_the_others, 2)
{
	open_stream();
	defer = true;
	for (unsigned int i = 1; i <= 4; i++)
		far_send(i, _i > 0);
	pump_until_count(&deferred, 1);
	pump_turns(5);
	ck_assert_uint_eq(deferred, 1);
	message_stream_resume(stream); /* and it is deferred again */
	ck_assert_uint_eq(deferred, 2);
	defer = false;
	message_stream_resume(stream);
	ck_assert_uint_eq(received, 1);
	message_stream_resume(stream); /* none is deferred */
	ck_assert_uint_eq(received, 1);
	pump_until_count(&received, 4);
	close_stream();
}

/* _i: 0 freed; 1 ended; 2 broken: then it is delivered, and the messages behind it */
LOOP_TEST(a_deferred_message_goes_with_the_stream, 3)
{
	open_stream();
	defer = true;
	far_send(1, true);
	far_send(2, true);
	pump_until_count(&deferred, 1);
	defer = false;
	if (_i == 1) {
		message_stream_end(stream, -EPROTO);
		message_stream_resume(stream);
		ck_assert_uint_eq(received, 0);
	} else if (_i == 2) {
		ck_assert_int_eq(send_lent(-1), 0);
		next_error = EPIPE;
		message_stream_flush(stream);
		pump_until_count(&received, 2);
	}
	if (_i > 0)
		pump_until_count(&lost, 1);
	close_stream();
}

/* _i: 1 and 3: deferred callbacks, and the end is known before; 2 and 3: with another message */
LOOP_TEST(the_peers_end_waits_for_a_deferred_message, 4)
{
	open_stream_with(_i % 2 == 1 ? BEV_OPT_DEFER_CALLBACKS : 0);
	defer = true;
	far_send(1, true);
	if (_i >= 2)
		far_send(2, true);
	shutdown(ends[1], SHUT_WR);
	pump_until_count(&deferred, 1);
	pump_turns(5);
	ck_assert_uint_eq(lost, 0);
	defer = false;
	message_stream_resume(stream);
	ck_assert_uint_eq(received, 1);
	pump_until_count(&lost, 1);
	ck_assert_uint_eq(received, _i >= 2 ? 2 : 1);
	close_stream();
}

/* ---- several messages in one read ---- */

enum { BURST = 8, TAKEN = 3 };

static unsigned int drains;
static size_t rest_length;
static uint64_t rest_position;

static void count_drains(struct evbuffer *input, const struct evbuffer_cb_info *info, void *context)
{
	(void)input, (void)context;
	drains += info->n_deleted > 0;
}

static void far_send_burst(void)
{
	for (unsigned int i = 1; i <= BURST; i++)
		far_send(i, false);
}

TEST_CASE("a burst");

TEST(the_messages_of_one_read_leave_the_input_together)
{
	open_stream();
	struct ferry_transport *transport = ferry_message_stream_get_transport(stream);
	struct evbuffer *input = bufferevent_get_input(ferry_transport_get_bufferevent(transport));
	ck_assert_ptr_nonnull(evbuffer_add_cb(input, count_drains, NULL));
	far_send_burst();
	pump_until_count(&received, BURST);
	ck_assert_uint_eq(drains, 1);
	ck_assert_uint_eq(evbuffer_get_length(input), 0);
	close_stream();
}

static void take_rest(struct ferry_message_stream *of, struct ferry_message *message, void *context)
{
	(void)message, (void)context;
	if (++received != TAKEN)
		return;
	struct message_rest rest = message_stream_take_rest(of);
	rest_position = rest.position;
	rest_length = evbuffer_get_length(rest.input);
	evbuffer_drain(rest.input, rest_length);
	ferry_message_stream_free(of);
}

/* The fence of a channel may be raised while the stream delivers what it has read. */
TEST(the_rest_begins_with_the_message_whose_callback_takes_it)
{
	static const struct ferry_message_callbacks taking = {.message_received = take_rest};
	const size_t size = HEADER + 3;

	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(ferry_message_stream_new(&stream, make_transport(ends[0]), &taking, NULL), 0);
	far_send_burst();
	pump_until_count(&received, TAKEN);
	pump_turns(3);
	ck_assert_uint_eq(received, TAKEN);
	ck_assert_uint_eq(rest_position, (TAKEN - 1) * size);
	ck_assert_uint_eq(rest_length, (BURST - TAKEN + 1) * size);
	close(ends[1]);
}
