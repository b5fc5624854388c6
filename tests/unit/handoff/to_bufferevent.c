/* A handoff becomes a bufferevent or a transport, which delivers the bytes of the handoff first. */

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/handoff.h"

#include "moved_bufferevent.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

/* A handoff with `length` bytes that were read already, and the client at the other end. */
static struct ferry_handoff *make_handoff(size_t length)
{
	static unsigned char bytes[FERRY_HANDOFF_BYTES_MAX];
	struct ferry_handoff *handoff = NULL;
	for (size_t i = 0; i < length; i++)
		bytes[i] = support_byte(i);
	make_pair(PAIR_TCP, moved_ends);
	ck_assert_int_eq(ferry_handoff_new(&handoff, moved_ends[0]), 0);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, bytes, length), 0);
	return handoff;
}

static struct bufferevent *make_of_handoff(size_t length, int options)
{
	struct bufferevent *bev = NULL;
	struct ferry_handoff *handoff = make_handoff(length);
	ck_assert_int_eq(
	    ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE | options), 0);
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), -ENOENT);
	ferry_handoff_free(handoff);
	ck_assert_int_eq(bufferevent_getfd(bev), moved_ends[0]);
	return bev;
}

static void finish(struct bufferevent *bev)
{
	free_bufferevent(bev);
	ck_assert(!fd_is_open(moved_ends[0]));
	close(moved_ends[1]);
}

enum {
	CALLBACKS_FIRST = 1,
	ENABLED_LATER = 2,
	DEFERRED = 4,
	TIMINGS = 8 /* all of them */
};

TEST_CASE("to");

/* _i: of timings. The client sends nothing more. */
LOOP_TEST(the_bytes_are_delivered_once_reading_is_enabled, TIMINGS)
{
	struct bufferevent *bev = make_of_handoff(100, _i & DEFERRED ? BEV_OPT_DEFER_CALLBACKS : 0);
	if (_i & CALLBACKS_FIRST)
		set_callbacks(bev);
	if (_i & ENABLED_LATER) {
		pump_turns(5);
		ck_assert_uint_eq(moved_reads, 0);
	}
	bufferevent_enable(bev, EV_READ);
	if (!(_i & CALLBACKS_FIRST))
		set_callbacks(bev);
	ck_assert_uint_eq(moved_reads, 0); /* never inside a call */
	pump_until_count(&moved_reads, 1);
	expect_input(bev, 100);
	pump_turns(5);
	ck_assert_uint_eq(moved_reads, 1);
	ck_assert_uint_eq(moved_writes, 0);
	ck_assert_int_eq(moved_events, 0);
	ck_assert_uint_eq(epoll_events(moved_ends[0]) & (EPOLLIN | EPOLLOUT), EPOLLIN);

	wire_put(moved_ends[1], 100, 50);
	pump_until_count(&moved_reads, 2);
	expect_input(bev, 150);
	finish(bev);
}

TEST(the_input_is_for_libevent_to_add_to)
{
	struct bufferevent *bev = make_of_handoff(10, 0);
	ck_assert_int_eq(evbuffer_add(bufferevent_get_input(bev), "x", 1), -1);
	finish(bev);
}

/* _i: of sizes */
LOOP_TEST(the_client_goes_on_where_it_was, MOVED_SIZES)
{
	struct bufferevent *bev = make_of_handoff(moved_sizes[_i], 0);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	wire_put(moved_ends[1], moved_sizes[_i], 20);
	size_t all = moved_sizes[_i] + 20;
	pump_until(input_is_full, (void *[]){bev, &all});
	expect_input(bev, all);
	bufferevent_write(bev, "answer", 6);
	pump_until_count(&moved_writes, 1);
	char answer[10];
	ck_assert_int_eq(read(moved_ends[1], answer, sizeof(answer)), 6);
	finish(bev);
}

/* _i: in a later turn */
LOOP_TEST(fewer_than_the_low_watermark_wait_for_the_rest, 2)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	bufferevent_setwatermark(bev, EV_READ, 101, 0);
	if (_i)
		pump_turns(3);
	bufferevent_enable(bev, EV_READ);
	pump_turns(5);
	ck_assert_uint_eq(moved_reads, 0);
	wire_put(moved_ends[1], 100, 1);
	pump_until_count(&moved_reads, 1);
	expect_input(bev, 101);
	finish(bev);
}

static void drain_in_callback(struct bufferevent *bev)
{
	expect_input(bev, 100);
	evbuffer_drain(bufferevent_get_input(bev), 100);
}

TEST(a_high_watermark_does_not_delay_them)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	bufferevent_setwatermark(bev, EV_READ, 0, 50);
	bufferevent_enable(bev, EV_READ);
	moved_hook = drain_in_callback; /* libevent repeats the call while the input is over the mark */
	pump_until_count(&moved_reads, 1);
	wire_put(moved_ends[1], 0, 10);
	pump_until_count(&moved_reads, 2);
	expect_input(bev, 10);
	finish(bev);
}

TEST(no_callback_runs_while_reading_is_disabled)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	bufferevent_disable(bev, EV_READ);
	pump_turns(5);
	bufferevent_enable(bev, EV_READ);
	bufferevent_disable(bev, EV_READ);
	pump_turns(5);
	ck_assert_uint_eq(moved_reads, 0);
	bufferevent_enable(bev, EV_READ);
	pump_until_count(&moved_reads, 1);
	finish(bev);
}

/* _i: in a later turn */
LOOP_TEST(bytes_taken_by_hand_cause_no_callback, 2)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	if (_i)
		pump_turns(3);
	evbuffer_drain(bufferevent_get_input(bev), 100);
	bufferevent_enable(bev, EV_READ);
	pump_turns(5);
	ck_assert_uint_eq(moved_reads, 0);
	wire_put(moved_ends[1], 0, 10);
	pump_until_count(&moved_reads, 1);
	expect_input(bev, 10);
	ck_assert_uint_eq(epoll_events(moved_ends[0]) & (EPOLLIN | EPOLLOUT), EPOLLIN);
	finish(bev);
}

TEST(without_room_to_write_they_come_with_the_next_byte)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	wire_fill(moved_ends[0]);
	pump_turns(3);
	bufferevent_enable(bev, EV_READ);
	pump_turns(5);
	wire_put(moved_ends[1], 100, 1);
	size_t all = 101;
	pump_until(input_is_full, (void *[]){bev, &all});
	expect_input(bev, 101);
	ck_assert_uint_ge(moved_reads, 1);
	finish(bev);
}

TEST(a_read_timeout_begins_after_them)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	pump_turns(3);
	bufferevent_set_timeouts(bev, &(struct timeval){.tv_usec = 20000}, NULL);
	bufferevent_enable(bev, EV_READ);
	pump_until_count(&moved_reads, 1);
	ck_assert_int_eq(moved_events, 0);
	while (moved_events == 0)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_int_eq(moved_events, BEV_EVENT_READING | BEV_EVENT_TIMEOUT);
	ck_assert_uint_eq(moved_reads, 1);
	finish(bev);
}

static void free_in_callback(struct bufferevent *bev)
{
	bufferevent_free(bev);
}

/* _i: in a later turn */
LOOP_TEST(it_may_be_freed_in_the_callback_for_them, 2)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	moved_hook = free_in_callback;
	if (_i)
		pump_turns(3);
	bufferevent_enable(bev, EV_READ);
	pump_until_count(&moved_reads, 1);
	pump_turns(3);
	ck_assert(!fd_is_open(moved_ends[0]));
	close(moved_ends[1]);
}

/* _i: enabled. The fixture frees the base, and counts descriptors. */
LOOP_TEST(it_may_be_freed_when_the_loop_never_runs_again, 2)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	if (_i)
		bufferevent_enable(bev, EV_READ);
	bufferevent_free(bev);
	close(moved_ends[1]);
}

/* _i: in a later turn */
LOOP_TEST(it_may_be_handed_on_unread, 2)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	if (_i)
		pump_turns(3);
	struct ferry_handoff *handoff = take_bufferevent(bev);
	expect_bytes(handoff, 100);
	pump_turns(3);
	free_bufferevent(bev);
	ck_assert_uint_eq(moved_reads, 0);
	ck_assert_uint_eq(epoll_events(moved_ends[0]), 0);

	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
	ferry_handoff_free(handoff);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	pump_until_count(&moved_reads, 1);
	expect_input(bev, 100);
	finish(bev);
}

static bool has_ended(void *argument)
{
	(void)argument;
	return (moved_events & BEV_EVENT_EOF) != 0;
}

/* _i: in a later turn */
LOOP_TEST(the_bytes_of_a_client_that_is_gone_are_delivered, 2)
{
	struct bufferevent *bev = make_reader(0);
	receive_moved(bev, 100);
	struct ferry_handoff *handoff = take_bufferevent(bev);
	free_bufferevent(bev);
	wire_put(moved_ends[1], 100, 20);
	close(moved_ends[1]);
	moved_reads = 0;

	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
	ferry_handoff_free(handoff);
	set_callbacks(bev);
	if (_i)
		pump_turns(3);
	bufferevent_enable(bev, EV_READ);
	pump_until(has_ended, NULL);
	expect_input(bev, 120);
	ck_assert_uint_ge(moved_reads, 1);
	free_bufferevent(bev);
}

TEST(a_client_that_has_half_closed_gets_its_answer)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	shutdown(moved_ends[1], SHUT_WR);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	pump_until(has_ended, NULL);
	ck_assert_uint_eq(moved_reads, 1);
	expect_input(bev, 100);
	bufferevent_write(bev, "answer", 6);
	pump_until_count(&moved_writes, 1);
	char answer[10];
	ck_assert_int_eq(read(moved_ends[1], answer, sizeof(answer)), 6);
	finish(bev);
}

TEST(a_descriptor_that_blocks_does_so_no_more)
{
	struct bufferevent *bev = NULL;
	struct ferry_handoff *handoff = make_handoff(0);
	ck_assert_int_eq(fcntl(moved_ends[0], F_SETFL, 0), 0);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
	ck_assert(fcntl(moved_ends[0], F_GETFL) & O_NONBLOCK);
	ferry_handoff_free(handoff);
	finish(bev);
}

TEST(without_close_on_free_closing_is_the_callers_affair)
{
	struct bufferevent *bev = NULL;
	struct ferry_handoff *handoff = make_handoff(10);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, 0), 0);
	ferry_handoff_free(handoff);
	free_bufferevent(bev);
	ck_assert(fd_is_open(moved_ends[0]));
	close(moved_ends[0]);
	close(moved_ends[1]);
}

TEST(a_descriptor_that_is_no_connection_makes_no_bufferevent)
{
	struct bufferevent *bev = NULL;
	struct ferry_handoff *handoff = make_handoff(10);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(NULL, handoff, base, 0), -EINVAL);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, NULL, base, 0), -EINVAL);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, NULL, 0), -EINVAL);
	/* This process has not set up libevent's locks. */
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base,
	                                              BEV_OPT_THREADSAFE | BEV_OPT_CLOSE_ON_FREE),
	                 -ENOMEM);
	expect_bytes(handoff, 10);
	close(ferry_handoff_steal_fd(handoff));
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, 0), -ENOENT);
	ferry_handoff_free(handoff);
	close(moved_ends[1]);

	ck_assert_int_eq(ferry_handoff_new(&handoff, make_file(10)), 0);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, 0), -ENOTSOCK);
	ck_assert_ptr_null(bev);
	ferry_handoff_free(handoff);
}

enum { PROTOCOL_LATER = 1, TRANSPORT_LATER = 2, TRANSPORT_TIMINGS = 4 };

TEST_CASE("transports");

/* _i: when */
LOOP_TEST(a_protocol_is_offered_the_bytes, TRANSPORT_TIMINGS)
{
	struct ferry_transport *transport = NULL;
	struct recorder recorder;
	struct bufferevent *bev = make_of_handoff(100, 0);
	if (_i & TRANSPORT_LATER)
		pump_turns(3);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	if (_i & PROTOCOL_LATER)
		pump_turns(3);
	recorder_attach(&recorder, transport, &recorder_protocol);
	pump_until_length(&recorder, 100);
	ck_assert_uint_eq(recorder.made, 1);
	ck_assert_uint_eq(recorder.data, 1);
	wire_put(moved_ends[1], 100, 50);
	pump_until_length(&recorder, 150);
	recorder_expect_bytes(&recorder, 0, 150);
	pump_turns(3);
	ck_assert_uint_eq(epoll_events(moved_ends[0]) & (EPOLLIN | EPOLLOUT), EPOLLIN);
	recorder_close(&recorder);
	pump_turns(2);
	close(moved_ends[1]);
}

TEST(a_transport_without_a_protocol_calls_the_read_callback)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = make_of_handoff(100, 0);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	pump_until_count(&moved_reads, 1);
	expect_input(bev, 100);
	ferry_transport_free(transport);
	pump_turns(2);
	close(moved_ends[1]);
}

static unsigned int fds_received;

static void on_fd(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport, (void)context;
	fds_received++;
	close(fd);
}

/* The transport's events are its own, although reading is off when the bytes are due. */
TEST(a_transport_gets_the_descriptors_too)
{
	struct ferry_transport *transport = NULL;
	struct ferry_handoff *handoff = NULL;
	struct bufferevent *bev = NULL;
	make_pair(PAIR_UNIX, moved_ends);
	ck_assert_int_eq(ferry_handoff_new(&handoff, moved_ends[0]), 0);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "read", 4), 0);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
	ferry_handoff_free(handoff);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_transport_set_fd_cb(transport, on_fd, NULL), 0);
	set_callbacks(bev);
	pump_turns(3);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(wire_send(moved_ends[1], "x", 1, &(int){STDERR_FILENO}, 1), 1);
	size_t all = 5;
	pump_until(input_is_full, (void *[]){bev, &all});
	ck_assert_uint_eq(fds_received, 1);
	ferry_transport_free(transport);
	pump_turns(2);
	close(moved_ends[1]);
}

/* _i: in a later turn */
LOOP_TEST(a_transport_that_is_freed_leaves_nothing, 2)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = make_of_handoff(100, 0);
	if (_i)
		pump_turns(3);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ferry_transport_free(transport);
	pump_turns(3);
	ck_assert(!fd_is_open(moved_ends[0]));
	close(moved_ends[1]);
}
