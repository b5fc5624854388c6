/* Files that evbuffer_add_file() and evbuffer_add_file_segment() have put into a buffer as chains without bytes
 * in memory. Whichever way such a chain enters the output, the peer gets the file, in its place in the stream. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "file_link.h"
#include "test.h"
#include "wire.h"

enum { LENGTH = 300000 };

static struct evbuffer *output_of_sender(void)
{
	return bufferevent_get_output(ferry_transport_get_bufferevent(sender.transport));
}

/* A buffer in which files are such chains, with "<" before and ">" behind the first `length` bytes of one. */
static struct evbuffer *make_buffer(size_t length)
{
	struct evbuffer *buffer = evbuffer_new();

	ck_assert_int_eq(evbuffer_set_flags(buffer, EVBUFFER_FLAG_DRAINS_TO_FD), 0);
	ck_assert_int_eq(evbuffer_add(buffer, "<", 1), 0);
	ck_assert_int_eq(evbuffer_add_file(buffer, make_file(length), 0, (ev_off_t)length), 0);
	ck_assert_int_eq(evbuffer_add(buffer, ">", 1), 0);
	return buffer;
}

static void expect_buffer(size_t length)
{
	expect_text("<");
	expect_range(0, length);
	expect_text(">");
}

/* ---- the ways into the output ---- */

static void by_write_buffer(struct evbuffer *buffer)
{
	ck_assert_int_eq(ferry_transport_write_buffer(sender.transport, buffer), 0);
}

static void by_bufferevent_write_buffer(struct evbuffer *buffer)
{
	ck_assert_int_eq(
	    bufferevent_write_buffer(ferry_transport_get_bufferevent(sender.transport), buffer), 0);
}

static void by_add_buffer(struct evbuffer *buffer)
{
	ck_assert_int_eq(evbuffer_add_buffer(output_of_sender(), buffer), 0);
}

static void by_remove_buffer(struct evbuffer *buffer)
{
	int length = (int)evbuffer_get_length(buffer);
	ck_assert_int_eq(evbuffer_remove_buffer(buffer, output_of_sender(), (size_t)length), length);
}

/* Chain by chain, each of which ends where the call's count ends. */
static void by_remove_buffer_in_parts(struct evbuffer *buffer)
{
	ck_assert_int_eq(evbuffer_remove_buffer(buffer, output_of_sender(), 1), 1);
	int length = (int)evbuffer_get_length(buffer) - 1;
	ck_assert_int_eq(evbuffer_remove_buffer(buffer, output_of_sender(), (size_t)length), length);
	ck_assert_int_eq(evbuffer_remove_buffer(buffer, output_of_sender(), 1), 1);
}

/* The front of the output belongs to libevent, which unfreezes it now and then. */
static void by_prepend_buffer(struct evbuffer *buffer)
{
	evbuffer_unfreeze(output_of_sender(), 1);
	ck_assert_int_eq(evbuffer_prepend_buffer(output_of_sender(), buffer), 0);
	evbuffer_freeze(output_of_sender(), 1);
}

static struct evbuffer *pending; /* for the callback */

static void add_pending(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                        void *argument)
{
	struct evbuffer *add = pending;

	pending = NULL;
	if (info->n_deleted == 0 || add == NULL) {
		pending = add;
		return;
	}
	if (argument != NULL)
		ck_assert_int_eq(evbuffer_prepend_buffer(buffer, add), 0);
	else
		ck_assert_int_eq(evbuffer_add_buffer(buffer, add), 0);
	evbuffer_free(add);
}

static void by_callback(struct evbuffer *buffer, void *argument)
{
	pending = evbuffer_new();
	evbuffer_set_flags(pending, EVBUFFER_FLAG_DRAINS_TO_FD);
	ck_assert_int_eq(evbuffer_add_buffer(pending, buffer), 0);
	ck_assert_ptr_nonnull(evbuffer_add_cb(output_of_sender(), add_pending, argument));
	send_text("!");
	pump_turns(2);
	ck_assert_ptr_null(pending);
}

static void by_callback_at_the_end(struct evbuffer *buffer)
{
	by_callback(buffer, NULL);
}

static void by_callback_at_the_front(struct evbuffer *buffer)
{
	by_callback(buffer, "");
}

static void (*const ways[])(struct evbuffer *buffer) = {
    by_write_buffer,        by_bufferevent_write_buffer, by_add_buffer,
    by_remove_buffer,       by_remove_buffer_in_parts,   by_prepend_buffer,
    by_callback_at_the_end, by_callback_at_the_front,
};

TEST_CASE("the ways into the output");

LOOP_TEST(a_file_in_a_buffer_arrives_as_the_file_whichever_way_it_comes, COUNT(ways) * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	struct evbuffer *buffer = make_buffer(LENGTH);
	bool exclaims = ways[_i / LINK_KINDS] == by_callback_at_the_end ||
	                ways[_i / LINK_KINDS] == by_callback_at_the_front;

	ways[_i / LINK_KINDS](buffer);

	ck_assert_uint_eq(evbuffer_get_length(buffer), 0);
	evbuffer_free(buffer);
	send_text("end");
	finish_stream();
	if (exclaims)
		expect_text("!");
	expect_buffer(LENGTH);
	expect_text("end");
	expect_end();
	close_link();
}

LOOP_TEST(evbuffer_add_file_on_the_output_itself_closes_the_file_when_it_is_sent, LINK_KINDS)
{
	open_link(_i);
	int fd = make_file(LENGTH);
	ck_assert_int_eq(evbuffer_add_file(output_of_sender(), fd, 1000, LENGTH - 1000), 0);
	ck_assert_uint_eq(evbuffer_get_length(output_of_sender()), LENGTH - 1000);
	finish_stream();
	ck_assert(!fd_is_open(fd));
	expect_range(1000, LENGTH - 1000);
	expect_end();
	close_link();
}

TEST(a_segment_that_is_added_several_times_arrives_as_often)
{
	open_link(LINK_UNIX);
	struct evbuffer_file_segment *segment =
	    evbuffer_file_segment_new(make_file(LENGTH), 500, 1000, EVBUF_FS_CLOSE_ON_FREE);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(evbuffer_add_file_segment(output_of_sender(), segment, i, 100), 0);
	evbuffer_file_segment_free(segment);
	finish_stream();
	for (uint64_t i = 0; i < 5; i++)
		expect_range(500 + i, 100);
	expect_end();
	close_link();
}

/* libevent refuses to refer to a buffer with files, and nothing of it enters the output. */
TEST(a_reference_to_a_buffer_with_a_file_is_refused_at_the_call)
{
	open_link(LINK_UNIX);
	struct evbuffer *buffer = make_buffer(LENGTH);
	ck_assert_int_eq(evbuffer_add_buffer_reference(output_of_sender(), buffer), -1);
	ck_assert_uint_eq(evbuffer_get_length(output_of_sender()), 0);
	evbuffer_free(buffer);
	finish_stream();
	expect_end();
	close_link();
}

TEST(a_reference_to_memory_arrives)
{
	open_link(LINK_UNIX);
	struct evbuffer *buffer = evbuffer_new();
	evbuffer_add(buffer, "text", 4);
	ck_assert_int_eq(evbuffer_add_buffer_reference(output_of_sender(), buffer), 0);
	by_add_buffer(buffer);
	evbuffer_free(buffer);
	finish_stream();
	expect_text("texttext");
	expect_end();
	close_link();
}

/* ---- before attaching ---- */

/* Attaches the sender to a bufferevent with files in its output. `sent`: libevent itself sends first. */
static void open_late(int kind, bool sent)
{
	int fds[2];
	make_pair(kind == LINK_UNIX ? PAIR_UNIX : PAIR_TCP, fds);
	far = fds[1];
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	struct evbuffer *buffer = make_buffer(LENGTH);
	ck_assert_int_eq(bufferevent_write_buffer(bev, buffer), 0);
	evbuffer_free(buffer);
	ck_assert_int_eq(evbuffer_add_file(bufferevent_get_output(bev), make_file(100), 0, 100), 0);
	start_collecting();
	if (sent)
		pump_turns(2);
	struct ferry_transport *transport;
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	recorder_attach(&sender, transport, &recorder_protocol);
}

LOOP_TEST(files_that_are_in_the_output_before_attaching_arrive, 2)
{
	open_late(_i, false);
	send_text("late");
	finish_stream();
	expect_buffer(LENGTH);
	expect_range(0, 100);
	expect_text("late");
	expect_end();
	close_link();
}

TEST(a_file_that_libevent_has_sent_in_part_is_continued_by_ferry)
{
	open_late(LINK_UNIX, true);
	size_t left = evbuffer_get_length(output_of_sender());
	ck_assert_uint_gt(left, 100);
	ck_assert_uint_lt(left, LENGTH);
	finish_stream();
	expect_buffer(LENGTH);
	expect_range(0, 100);
	expect_end();
	close_link();
}

/* ---- order ---- */

TEST_CASE("order");

static void send_marked(uint32_t number)
{
	ck_assert_int_eq(
	    ferry_transport_send_fd(sender.transport, make_marked_fd(number), FERRY_FD_TAKE), 0);
}

/* "a" fd 1, the segment; fd 2, "b"; a file of ours; fd 3, the segment. */
LOOP_TEST(descriptors_and_files_of_ferry_keep_their_places_between_segments, 2)
{
	struct recorder receiver;
	struct told told = {.fd = -1};
	size_t length = _i == 0 ? 100 : LENGTH;
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	recorder_open(&sender, fds[0], &recorder_protocol);
	recorder_open(&receiver, fds[1], &recorder_protocol);

	send_text("a");
	send_marked(1);
	ck_assert_int_eq(evbuffer_add_file(output_of_sender(), make_file(length), 0, (ev_off_t)length),
	                 0);
	send_marked(2);
	send_text("b");
	send_range(&told, LENGTH, 10, 2000);
	send_marked(3);
	ck_assert_int_eq(evbuffer_add_file(output_of_sender(), make_file(length), 0, (ev_off_t)length),
	                 0);
	pump_until_length(&receiver, 2 + 2 * length + 2000);

	ck_assert_uint_eq(receiver.fd_count, 3);
	ck_assert_uint_le(receiver.fd_at[0], 1);
	ck_assert_uint_le(receiver.fd_at[1], 1 + length);
	ck_assert_uint_le(receiver.fd_at[2], 2 + length + 2000);
	for (uint32_t i = 0; i < 3; i++)
		ck_assert_uint_eq(marked_number(receiver.fds[i]), i + 1);
	char byte[2];
	ck_assert_int_eq(evbuffer_remove(receiver.received, byte, 1), 1);
	struct evbuffer *rest = receiver.received;
	receiver.received = evbuffer_new();
	evbuffer_remove_buffer(rest, receiver.received, length);
	recorder_expect_bytes(&receiver, 0, length);
	ck_assert_int_eq(evbuffer_remove(rest, byte + 1, 1), 1);
	ck_assert_mem_eq(byte, "ab", 2);
	evbuffer_remove_buffer(rest, receiver.received, 2000);
	recorder_expect_bytes(&receiver, 10, 2000);
	evbuffer_add_buffer(receiver.received, rest);
	recorder_expect_bytes(&receiver, 0, length);
	evbuffer_free(rest);
	recorder_close(&receiver);
	recorder_close(&sender);
	pump_turns(3);
}

/* More chains than one look at the buffer takes, with files at all places among them. */
LOOP_TEST(files_among_many_chains_of_memory_arrive_in_their_places, 8)
{
	enum { CHAINS = 200 };
	open_link(_i % 2 == 0 ? LINK_UNIX : LINK_TCP);
	struct evbuffer *buffer = evbuffer_new();
	evbuffer_set_flags(buffer, EVBUFFER_FLAG_DRAINS_TO_FD);
	for (int i = 0; i < CHAINS; i++) {
		if (i % (_i * 9 + 2) == _i)
			ck_assert_int_eq(evbuffer_add_file(buffer, make_file(50), 3, 40), 0);
		else
			ck_assert_int_eq(evbuffer_add_reference(buffer, "memory", 6, NULL, NULL), 0);
	}
	by_write_buffer(buffer);
	evbuffer_free(buffer);
	finish_stream();
	for (int i = 0; i < CHAINS; i++) {
		if (i % (_i * 9 + 2) == _i)
			expect_range(3, 40);
		else
			expect_text("memory");
	}
	expect_end();
	close_link();
}

/* ---- files that are not there ---- */

TEST_CASE("ends of files");

/* With an offset and no length, libevent 2.1 makes a segment that is longer than the rest of the file. */
TEST(a_segment_that_libevent_made_too_long_ends_with_the_file)
{
	open_link(LINK_TCP);
	ck_assert_int_eq(evbuffer_add_file(output_of_sender(), make_file(LENGTH), 1000, -1), 0);
	send_text("behind");
	finish_stream();
	expect_range(1000, LENGTH - 1000);
	expect_text("behind");
	expect_end();
	ck_assert_int_eq(sender.reason, 0);
	close_link();
}

LOOP_TEST(a_file_that_was_truncated_ends_the_connection_and_no_other_byte_is_sent, LINK_KINDS)
{
	open_link(_i);
	start_collecting();
	int fd = make_file(LENGTH);
	ck_assert_int_eq(evbuffer_add_file(output_of_sender(), fd, 0, LENGTH), 0);
	ck_assert_int_eq(ftruncate(fd, 2000), 0);
	send_text("behind");
	pump_until_lost(&sender);
	ck_assert_int_eq(sender.reason, -EIO);
	stream_has_ended(NULL);
	expect_range(0, 2000);
	expect_end();
	close_link();
}

/* Into a buffer without EVBUFFER_FLAG_DRAINS_TO_FD libevent maps the file, and the kernel finds no page. */
LOOP_TEST(a_mapped_file_that_was_truncated_ends_the_connection, LINK_KINDS)
{
	struct evbuffer *buffer = evbuffer_new();

	open_link(_i);
	start_collecting();
	int fd = make_file(LENGTH);
	ck_assert_int_eq(evbuffer_add_file(buffer, dup(fd), 0, LENGTH), 0);
	ck_assert_int_eq(ftruncate(fd, 0), 0);
	close(fd);
	by_write_buffer(buffer);
	evbuffer_free(buffer);
	send_text("behind");
	pump_until_lost(&sender);
	ck_assert_int_eq(sender.reason, -EFAULT);
	stream_has_ended(NULL);
	expect_end();
	close_link();
}

static bool is_dry(void *argument)
{
	(void)argument;
	return stats_of(sender.transport).file_waits > 0;
}

/* libevent itself cannot send it. */
TEST(a_segment_of_a_pipe_waits_for_the_bytes_of_the_pipe)
{
	open_link(LINK_UNIX);
	int ends[2];
	make_pipe(ends);
	ck_assert_int_eq(evbuffer_add_file(output_of_sender(), ends[0], 0, 2000), 0);
	send_text("behind");
	pump_until(is_dry, NULL);
	wire_put(ends[1], 0, 1000);
	pump_turns(3);
	wire_put(ends[1], 1000, 1000);
	finish_stream();
	expect_range(0, 2000);
	expect_text("behind");
	expect_end();
	close(ends[1]);
	close_link();
}

TEST(a_transport_can_be_freed_while_a_segment_waits)
{
	open_link(LINK_UNIX);
	int ends[2];
	make_pipe(ends);
	ck_assert_int_eq(evbuffer_add_file(output_of_sender(), ends[0], 0, 2000), 0);
	pump_until(is_dry, NULL);
	close_link();
	ck_assert(!fd_is_open(ends[0]));
	close(ends[1]);
}

TEST(a_bufferevent_that_is_given_back_still_has_the_segment_that_waits)
{
	open_link(LINK_UNIX);
	struct bufferevent *bev;
	int ends[2];
	make_pipe(ends);
	ck_assert_int_eq(evbuffer_add_file(output_of_sender(), ends[0], 0, 2000), 0);
	pump_until(is_dry, NULL);
	ck_assert_int_eq(ferry_transport_detach(sender.transport, &bev), 0);
	sender.transport = NULL;
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_output(bev)), 2000);
	pump_turns(3);
	ck_assert(fd_is_open(ends[0]));
	bufferevent_free(bev);
	close_link();
	ck_assert(!fd_is_open(ends[0]));
	close(ends[1]);
}

TEST(a_segment_that_cannot_be_read_ends_the_connection)
{
	open_link(LINK_UNIX);
	start_collecting();
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(evbuffer_add_file(output_of_sender(), fd, 0, 100), 0);
	pump_until_lost(&sender);
	ck_assert_int_eq(sender.reason, -EBADF);
	stream_has_ended(NULL);
	expect_end();
	close_link();
}

/* ---- interruptions ---- */

TEST_CASE("interruptions");

TEST(a_segment_goes_on_where_it_was_when_the_socket_is_replaced)
{
	enum { LONG = 4000000 };
	int fds[2];
	open_link(LINK_UNIX);
	start_collecting();
	int old = bufferevent_getfd(ferry_transport_get_bufferevent(sender.transport));
	ck_assert_int_eq(evbuffer_add_file(output_of_sender(), make_file(LONG), 0, LONG), 0);
	pump_turns(3);
	ck_assert_uint_lt(evbuffer_get_length(output_of_sender()), LONG);
	make_pair(PAIR_UNIX, fds);
	ck_assert_int_eq(ferry_transport_set_socket(sender.transport, fds[0]), 0);
	close(old);
	while (arrived_end > 0)
		collect_some(65536);
	arrived_end = 1;
	close(far);
	far = fds[1];
	finish_stream();
	expect_range(0, LONG);
	expect_end();
	close_link();
}

TEST(a_rate_limit_holds_for_segments_too)
{
	enum { RATE = 5000 };
	struct timeval tick = {.tv_sec = 1000};
	struct ev_token_bucket_cfg *limit =
	    ev_token_bucket_cfg_new(EV_RATE_LIMIT_MAX, EV_RATE_LIMIT_MAX, RATE, RATE, &tick);
	open_link(LINK_UNIX);
	bufferevent_set_rate_limit(ferry_transport_get_bufferevent(sender.transport), limit);
	ck_assert_int_eq(evbuffer_add_file(output_of_sender(), make_file(20000), 0, 20000), 0);
	event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_uint_ge(evbuffer_get_length(output_of_sender()), 20000 - RATE);
	bufferevent_set_rate_limit(ferry_transport_get_bufferevent(sender.transport), NULL);
	finish_stream();
	expect_range(0, 20000);
	expect_end();
	close_link();
	ev_token_bucket_cfg_free(limit);
}

TEST(a_peer_that_goes_ends_the_connection_in_the_middle_of_a_segment)
{
	open_link(LINK_UNIX);
	ck_assert_int_eq(evbuffer_add_file(output_of_sender(), make_file(4000000), 0, 4000000), 0);
	pump_turns(3);
	close_far();
	pump_until_lost(&sender);
	ck_assert_int_ne(sender.reason, 0);
	close_link();
}
