/* The far end, as the tests of a program that uses ferry would use it: with protocols, producers, messages and
 * both ends of a handoff. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/dispatcher.h"
#include "ferry/file_producer.h"
#include "ferry/message.h"
#include "ferry/producer.h"
#include "ferry/testing.h"
#include "ferry/worker.h"
#include "handoff_info.h"
#include "test.h"
#include "wire.h"

static struct ferry_testing *far;
static struct ferry_transport *transport;

static void open_far(void)
{
	ck_assert_int_eq(ferry_testing_new(&far, base), 0);
	transport = ferry_testing_get_transport(far);
	ck_assert_ptr_nonnull(transport);
}

static void close_far(void)
{
	ferry_transport_free(transport);
	ferry_testing_free(far);
	pump_turns(3);
}

static void pump(void)
{
	ck_assert_int_eq(ferry_testing_pump(far), 0);
}

static void expect_written(const char *expected)
{
	struct evbuffer *written = ferry_testing_get_written(far);
	size_t length = strlen(expected);

	ck_assert_uint_eq(evbuffer_get_length(written), length);
	if (length > 0)
		ck_assert_mem_eq(evbuffer_pullup(written, -1), expected, length);
	evbuffer_drain(written, length);
}

/* ---- a protocol under test: it answers in capitals ---- */

struct shouter {
	unsigned int made, fds, lost, read_lost;
	int reason;
};

static struct shouter shouter;

static void on_made(struct ferry_transport *from, void *context)
{
	(void)from;
	((struct shouter *)context)->made++;
}

static void on_data(struct ferry_transport *from, struct evbuffer *input, void *context)
{
	(void)context;
	size_t length = evbuffer_get_length(input);
	unsigned char *bytes = evbuffer_pullup(input, -1);

	for (size_t i = 0; i < length; i++)
		if (bytes[i] >= 'a' && bytes[i] <= 'z')
			bytes[i] = (unsigned char)(bytes[i] - 'a' + 'A');
	ck_assert_int_eq(ferry_transport_write_buffer(from, input), 0);
}

static void on_fd(struct ferry_transport *from, int fd, void *context)
{
	((struct shouter *)context)->fds++;
	ck_assert_int_eq(ferry_transport_send_fd(from, fd, FERRY_FD_TAKE), 0);
}

static void on_read_lost(struct ferry_transport *from, void *context)
{
	((struct shouter *)context)->read_lost++;
	ck_assert_int_eq(ferry_transport_write(from, "bye", 3), 0);
	ferry_transport_lose_connection(from);
}

static void on_lost(struct ferry_transport *from, int reason, void *context)
{
	(void)from;
	((struct shouter *)context)->lost++;
	((struct shouter *)context)->reason = reason;
}

static const struct ferry_protocol shout = {
    .connection_made = on_made,
    .data_received = on_data,
    .file_descriptor_received = on_fd,
    .read_connection_lost = on_read_lost,
    .connection_lost = on_lost,
};

static void open_shouter(void)
{
	open_far();
	shouter = (struct shouter){0};
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &shout, &shouter), 0);
	pump();
	ck_assert_uint_eq(shouter.made, 1);
}

TEST_CASE("what it is used with");

TEST(a_protocol_answers_the_far_end_and_learns_of_its_end)
{
	open_shouter();
	ck_assert_int_eq(ferry_testing_put(far, "hello", 5), 0);
	expect_written(""); /* callbacks run in the loop only */
	pump();
	expect_written("HELLO");
	ck_assert(!ferry_testing_has_ended(far));
	ck_assert_int_eq(ferry_testing_put(far, "last", 4), 0);
	ck_assert_int_eq(ferry_testing_put_eof(far), 0);
	ck_assert_int_eq(ferry_testing_put(far, "x", 1), -EPIPE);
	pump();
	ck_assert_uint_eq(shouter.read_lost, 1);
	expect_written("LASTbye");
	ck_assert(ferry_testing_has_ended(far));
	ck_assert_uint_eq(shouter.lost, 1);
	ck_assert_int_eq(shouter.reason, 0);
	close_far();
}

TEST_CASE("the far end");

TEST(descriptors_arrive_at_their_positions)
{
	int fds[3];
	uint64_t position;

	for (unsigned int i = 0; i < 3; i++)
		fds[i] = make_marked_fd(i);
	open_far();
	ck_assert_int_eq(ferry_testing_take_fd(far, NULL), -ENOENT);
	ck_assert_int_eq(ferry_transport_write(transport, "0123", 4), 0);
	ck_assert_int_eq(ferry_transport_send_fd(transport, fds[0], FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_send_fd(transport, fds[1], FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_write(transport, "4", 1), 0);
	ck_assert_int_eq(ferry_transport_send_fd(transport, fds[2], FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_write(transport, "56789", 5), 0);
	pump();
	expect_written("0123456789");
	ck_assert_uint_eq(ferry_testing_count_fds(far), 3);
	for (unsigned int i = 0; i < 3; i++) {
		int fd = ferry_testing_take_fd(far, &position);
		ck_assert_uint_eq(marked_number(fd), i);
		ck_assert_uint_eq(position, i < 2 ? 4 : 5);
		close(fd);
		close(fds[i]);
	}
	ck_assert_int_eq(ferry_testing_take_fd(far, &position), -ENOENT);
	close_far();
}

TEST(descriptors_go_both_ways)
{
	int fds[2] = {make_marked_fd(7), make_marked_fd(8)};

	open_shouter();
	ck_assert_int_eq(ferry_testing_put_fds(far, "ab", 2, fds, 2), 0);
	pump();
	ck_assert_uint_eq(shouter.fds, 2);
	expect_written("AB");
	/* The far end closes those that are not taken; the fixture counts open descriptors. */
	ck_assert_uint_eq(ferry_testing_count_fds(far), 2);
	int fd = ferry_testing_take_fd(far, NULL);
	ck_assert_uint_eq(marked_number(fd), 7);
	close(fd);
	close(fds[0]);
	close(fds[1]);
	ck_assert_int_eq(ferry_testing_put_fds(far, "ab", 2, fds, 2), -EBADF);
	close_far();
}

TEST(a_reset_loses_the_connection)
{
	open_shouter();
	ck_assert_int_eq(ferry_testing_put(far, "abc", 3), 0);
	ck_assert_int_eq(ferry_testing_put_reset(far), 0);
	pump();
	ck_assert_uint_eq(shouter.lost, 1);
	ck_assert(shouter.reason == -ECONNRESET || shouter.reason == -EPIPE);
	ck_assert(ferry_testing_has_ended(far));
	ck_assert_int_eq(ferry_testing_put(far, "x", 1), -EPIPE);
	ck_assert_int_eq(ferry_testing_put_eof(far), -EPIPE);
	ck_assert_int_eq(ferry_testing_put_reset(far), -EPIPE);
	ck_assert_int_eq(ferry_testing_set_full(far, true), -EPIPE);
	close_far();
}

TEST(the_transport_may_be_freed_first)
{
	open_shouter();
	ferry_transport_free(transport);
	pump();
	ck_assert(ferry_testing_has_ended(far));
	ck_assert_int_eq(ferry_testing_put(far, "x", 1), -EPIPE);
	ferry_testing_free(far);
}

TEST(a_transport_that_does_not_read_fills_the_socket)
{
	static const char block[65536];
	int status;

	open_far();
	do
		status = ferry_testing_put(far, block, sizeof(block));
	while (status == 0);
	ck_assert_int_eq(status, -EAGAIN);
	close_far();
}

/* ---- a producer, and a socket that is full ---- */

struct source {
	unsigned int paused, resumed, stopped;
};

static void on_pause(void *context)
{
	((struct source *)context)->paused++;
}

static void on_resume(void *context)
{
	((struct source *)context)->resumed++;
}

static void on_stop(void *context)
{
	((struct source *)context)->stopped++;
}

static const struct ferry_producer_callbacks source_callbacks = {
    .pause_producing = on_pause, .resume_producing = on_resume, .stop_producing = on_stop};

TEST_CASE("what it is used with");

TEST(a_full_socket_pauses_a_producer)
{
	struct source source = {0};
	static unsigned char block[65537];

	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = support_byte(i);
	open_far();
	ck_assert_int_eq(ferry_transport_register_producer(transport, &source_callbacks, &source,
	                                                   FERRY_PRODUCER_PUSH),
	                 0);
	ck_assert_int_eq(ferry_transport_write(transport, "before", 6), 0);
	pump();
	ck_assert_int_eq(ferry_testing_set_full(far, true), 0);
	ck_assert_int_eq(ferry_testing_set_full(far, true), 0);
	expect_written("before");
	ck_assert_int_eq(ferry_transport_write(transport, block, sizeof(block)), 0);
	pump();
	ck_assert_uint_eq(source.paused, 1);
	ck_assert_uint_eq(source.resumed, 0);
	expect_written("");
	ck_assert_int_eq(ferry_testing_set_full(far, false), 0);
	pump();
	ck_assert_uint_eq(source.resumed, 1);
	struct evbuffer *written = ferry_testing_get_written(far);
	ck_assert_uint_eq(evbuffer_get_length(written), sizeof(block));
	ck_assert_mem_eq(evbuffer_pullup(written, -1), block, sizeof(block));
	ck_assert_uint_eq(source.stopped, 0);
	ferry_transport_unregister_producer(transport);
	close_far();
}

TEST(a_file_arrives_at_the_far_end)
{
	enum { SIZE = 300000 };
	int fd = make_file(SIZE);

	open_far();
	ck_assert_int_eq(ferry_transport_send_file(NULL, transport, fd, FERRY_FD_TAKE, 0, FERRY_TO_END,
	                                           0, NULL, NULL),
	                 0);
	pump();
	struct evbuffer *written = ferry_testing_get_written(far);
	ck_assert_uint_eq(evbuffer_get_length(written), SIZE);
	const unsigned char *bytes = evbuffer_pullup(written, -1);
	for (unsigned int i = 0; i < SIZE; i++)
		ck_assert_uint_eq(bytes[i], support_byte(i));
	close_far();
}

/* ---- messages ---- */

static unsigned int messages;

static void on_message(struct ferry_message_stream *stream, struct ferry_message *message,
                       void *context)
{
	(void)context;
	size_t length;
	const void *payload = ferry_message_get_payload(message, &length);
	int fd = ferry_message_steal_fd(message, 0);

	messages++;
	ck_assert_int_eq(
	    ferry_message_stream_send(stream, 5, payload, length, &fd, fd >= 0, FERRY_FD_TAKE), 0);
}

static const struct ferry_message_callbacks echo = {.message_received = on_message};

TEST(messages_go_both_ways)
{
	struct ferry_message_stream *stream = NULL;
	static const unsigned char frame[] = {'F', 'R', 'Y', 1, 9, 0, 0, 0,   2,
	                                      0,   0,   0,   1, 0, 0, 0, 'h', 'i'};
	unsigned char expected[sizeof(frame)];
	uint64_t position;
	int marked = make_marked_fd(3);

	memcpy(expected, frame, sizeof(frame));
	expected[4] = 5; /* the answer's type */
	open_far();
	ck_assert_int_eq(ferry_message_stream_new(&stream, transport, &echo, NULL), 0);
	for (unsigned int i = 0; i < 3; i++) {
		ck_assert_int_eq(ferry_testing_put_fds(far, frame, 10, &marked, 1), 0);
		pump();
		ck_assert_uint_eq(messages, i);
		ck_assert_int_eq(ferry_testing_put(far, frame + 10, sizeof(frame) - 10), 0);
		pump();
		ck_assert_uint_eq(messages, i + 1);
		struct evbuffer *written = ferry_testing_get_written(far);
		ck_assert_uint_eq(evbuffer_get_length(written), (i + 1) * sizeof(frame));
		ck_assert_mem_eq(evbuffer_pullup(written, -1) + i * sizeof(frame), expected,
		                 sizeof(expected));
		int fd = ferry_testing_take_fd(far, &position);
		ck_assert_uint_eq(marked_number(fd), 3);
		ck_assert_uint_eq(position, i * sizeof(frame));
		close(fd);
	}
	close(marked);
	ferry_message_stream_free(stream);
	ferry_testing_free(far);
}

/* ---- a handoff: the dispatcher's output is the worker's input ---- */

static unsigned int served;

static void on_handoff(struct ferry_worker *worker, struct ferry_handoff *handoff, void *context)
{
	(void)worker, (void)context;
	ck_assert_str_eq(handoff_info(handoff).name, "www");
	served++;
}

static const struct ferry_worker_callbacks worker_callbacks = {.handoff_received = on_handoff};

static void on_outcome(struct ferry_dispatcher *dispatcher, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)dispatcher, (void)handoff, (void)reason;
	*(enum ferry_handoff_outcome *)context = outcome;
}

/* Puts the output of one far end into the other. Returns false if there was none. */
static bool carry(struct ferry_testing *from, struct ferry_testing *to)
{
	struct evbuffer *written = ferry_testing_get_written(from);
	int fds[8];
	size_t count = 0;

	ck_assert_int_eq(ferry_testing_pump(from), 0);
	size_t length = evbuffer_get_length(written);
	if (length == 0)
		return false;
	while (ferry_testing_count_fds(from) > 0)
		fds[count++] = ferry_testing_take_fd(from, NULL);
	ck_assert_int_eq(ferry_testing_put_fds(to, evbuffer_pullup(written, -1), length, fds, count),
	                 0);
	evbuffer_drain(written, length);
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
	return true;
}

TEST(a_handoff_goes_from_dispatcher_to_worker)
{
	struct ferry_testing *dispatching = NULL, *working = NULL;
	struct ferry_dispatcher *dispatcher = NULL;
	struct ferry_worker *worker = NULL;
	struct ferry_handoff *one = NULL;
	enum ferry_handoff_outcome outcome = 0;

	ck_assert_int_eq(ferry_testing_new(&dispatching, base), 0);
	ck_assert_int_eq(ferry_testing_new(&working, base), 0);
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, NULL, NULL), 0);
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, dispatcher,
	                                             ferry_testing_get_transport(dispatching), NULL),
	                 0);
	ck_assert_int_eq(
	    ferry_worker_new(&worker, ferry_testing_get_transport(working), &worker_callbacks, NULL),
	    0);
	ck_assert_int_eq(ferry_handoff_new(&one, make_marked_fd(1)), 0);
	ck_assert_int_eq(ferry_handoff_set_name(one, "www"), 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, one, on_outcome, &outcome), 0);
	while (carry(dispatching, working) || carry(working, dispatching))
		;
	ck_assert_uint_eq(served, 1);
	ck_assert_int_eq(outcome, FERRY_HANDOFF_DONE);
	ferry_worker_free(worker);
	ferry_dispatcher_free(dispatcher);
	ferry_testing_free(dispatching);
	ferry_testing_free(working);
	pump_turns(3);
}

/* ---- the loop ---- */

static void again(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	event_active(*(struct event **)argument, EV_TIMEOUT, 0);
}

TEST_CASE("the far end");

TEST(an_event_that_activates_itself_ends_the_pump)
{
	struct event *event;

	open_far();
	event = event_new(base, -1, 0, again, &event);
	event_active(event, EV_TIMEOUT, 0);
	ck_assert_int_eq(ferry_testing_pump(far), -EBUSY);
	event_free(event);
	close_far();
}

static bool flag;

static void set_flag(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	flag = true;
}

static bool is_set(void *argument)
{
	return *(bool *)argument;
}

TEST(the_pump_waits_for_a_condition)
{
	bool never = false;

	open_far();
	struct event *event = event_new(base, -1, 0, set_flag, NULL);
	event_add(event, &(struct timeval){.tv_sec = 1000});
	pump(); /* does not wait */
	ck_assert(!flag);
	event_add(event, &(struct timeval){.tv_usec = 30000});
	ck_assert_int_eq(ferry_testing_pump_until(far, is_set, &flag, 60), 0);
	ck_assert_int_eq(ferry_testing_pump_until(far, is_set, &never, 0), -ETIMEDOUT);
	event_free(event);
	close_far();
}

TEST(without_free_descriptor_slots_the_pump_fails)
{
	int marked = make_marked_fd(1);

	open_far();
	ck_assert_int_eq(ferry_transport_send_fd(transport, marked, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_write(transport, "x", 1), 0);
	pump_turns(2); /* then it was sent, and the duplicate's slot is free again */
	limit_descriptors(0);
	int status = ferry_testing_pump(far);
	unlimit_descriptors();
	ck_assert_int_eq(status, -EMFILE);
	close(marked);
	close_far();
}

TEST(bad_arguments_are_refused)
{
	int fd = 0;

	ck_assert_int_eq(ferry_testing_new(NULL, base), -EINVAL);
	ck_assert_int_eq(ferry_testing_new(&far, NULL), -EINVAL);
	limit_descriptors(1);
	int status = ferry_testing_new(&far, base);
	unlimit_descriptors();
	ck_assert_int_eq(status, -EMFILE);
	open_far();
	ck_assert_int_eq(ferry_testing_put(far, NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_testing_put(NULL, "", 1), -EINVAL);
	ck_assert_int_eq(ferry_testing_put_fds(far, "", 0, &fd, 1), -EINVAL);
	ck_assert_int_eq(ferry_testing_put_fds(far, "", 1, NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_testing_put_fds(far, "", 1, &fd, 254), -EINVAL);
	ck_assert_int_eq(ferry_testing_put_eof(NULL), -EINVAL);
	ck_assert_int_eq(ferry_testing_put_reset(NULL), -EINVAL);
	ck_assert_int_eq(ferry_testing_take_fd(NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_testing_set_full(NULL, true), -EINVAL);
	ck_assert_int_eq(ferry_testing_pump(NULL), -EINVAL);
	ck_assert_int_eq(ferry_testing_pump_until(far, NULL, NULL, 1), -EINVAL);
	ck_assert_ptr_null(ferry_testing_get_written(NULL));
	ck_assert_ptr_null(ferry_testing_get_transport(NULL));
	ck_assert_uint_eq(ferry_testing_count_fds(NULL), 0);
	ck_assert(!ferry_testing_has_ended(NULL));
	ferry_testing_free(NULL);
	close_far();
}
