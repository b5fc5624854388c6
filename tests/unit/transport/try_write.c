/* Bytes that leave at once, without the queue; and errors that a write outside of the loop meets. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { BIG = 4 << 20 };

static char big[BIG];
static struct recorder near;
static int far;

static void open_near(enum pair_kind kind)
{
	int ends[2];

	make_pair(kind, ends);
	recorder_open(&near, ends[0], &recorder_protocol);
	far = ends[1];
	pump_turns(2);
}

static void close_near(void)
{
	recorder_close(&near);
	close(far);
	pump_turns(2);
}

static ssize_t try(const char *text)
{
	return ferry_transport_try_write(near.transport, text, strlen(text));
}

static void expect_far(const char *text)
{
	char bytes[64] = "";

	ck_assert_int_eq(read(far, bytes, sizeof(bytes) - 1),
	                 text[0] != '\0' ? (ssize_t)strlen(text) : -1);
	ck_assert_str_eq(bytes, text);
}

static void count_callback(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                           void *context)
{
	(void)buffer, (void)info;
	++*(unsigned int *)context;
}

/* ---- bytes leave ---- */

TEST(bytes_leave_inside_the_call)
{
	static const enum pair_kind kinds[] = {PAIR_UNIX, PAIR_TCP};

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		unsigned int callbacks = 0;
		open_near(kinds[i]);
		evbuffer_add_cb(bufferevent_get_output(ferry_transport_get_bufferevent(near.transport)),
		                count_callback, &callbacks);
		const struct ferry_transport_stats before = stats_of(near.transport);
		ck_assert_int_eq(try("at once"), 7);
		expect_far("at once");
		const struct ferry_transport_stats after = stats_of(near.transport);
		ck_assert_uint_eq(after.bytes_sent, before.bytes_sent + 7);
		ck_assert_uint_eq(after.send_calls, before.send_calls + 1);
		ck_assert_uint_eq(after.bytes_queued_max, before.bytes_queued_max);
		pump_turns(2);
		ck_assert_uint_eq(stats_of(near.transport).send_calls, before.send_calls + 1);
		ck_assert_uint_eq(callbacks, 0);
		close_near();
	}
}

TEST(a_pipe_takes_them_too)
{
	int in[2], out[2];

	make_pipe(in);
	make_pipe(out);
	recorder_open_pipes(&near, in[0], out[1], &recorder_protocol);
	far = out[0];
	pump_turns(2);
	ck_assert_int_eq(try("through a pipe"), 14);
	expect_far("through a pipe");
	close(in[1]);
	close_near();
}

TEST(no_bytes_are_no_call)
{
	open_near(PAIR_UNIX);
	const uint64_t calls = stats_of(near.transport).send_calls;
	ck_assert_int_eq(try(""), 0);
	ck_assert_int_eq(ferry_transport_try_write(near.transport, NULL, 0), 0);
	ck_assert_uint_eq(stats_of(near.transport).send_calls, calls);
	close_near();
}

TEST(what_the_kernel_does_not_take_is_the_callers)
{
	size_t arrived = 0;

	for (size_t i = 0; i < BIG; i++)
		big[i] = (char)support_byte(i);
	open_near(PAIR_UNIX);
	const ssize_t sent = ferry_transport_try_write(near.transport, big, BIG);
	ck_assert(sent > 0 && sent < BIG);
	ck_assert_int_eq(ferry_transport_try_write(near.transport, big + sent, BIG - (size_t)sent), 0);
	ck_assert_uint_eq(stats_of(near.transport).send_eagain, 1);
	ck_assert_int_eq(ferry_transport_write(near.transport, big + sent, BIG - (size_t)sent), 0);
	while (arrived < BIG) {
		const ssize_t length = wire_expect(far, arrived, BIG);
		arrived += length > 0 ? (size_t)length : 0;
		pump_turns(1);
	}
	ck_assert_uint_eq(arrived, BIG);
	close_near();
}

/* ---- something is before them ---- */

TEST(queued_bytes_leave_first)
{
	open_near(PAIR_UNIX);
	ck_assert_int_eq(ferry_transport_write(near.transport, "first ", 6), 0);
	ck_assert_int_eq(try("second"), 0);
	ck_assert_int_eq(ferry_transport_write(near.transport, "second", 6), 0);
	pump_turns(2);
	expect_far("first second");
	ck_assert_int_eq(try("third"), 5);
	expect_far("third");
	close_near();
}

TEST(a_descriptor_keeps_its_place)
{
	struct wire_read got;
	char bytes[16];

	open_near(PAIR_UNIX);
	const int fd = make_marked_fd(7);
	ck_assert_int_eq(ferry_transport_send_fd(near.transport, fd, FERRY_FD_TAKE), 0);
	pump_turns(2); /* it waits for a byte */
	ck_assert_int_eq(try("x"), 0);
	ck_assert_int_eq(ferry_transport_write(near.transport, "x", 1), 0);
	pump_turns(2);
	wire_receive(far, bytes, sizeof(bytes), &got);
	ck_assert_int_eq(got.bytes, 1);
	ck_assert_uint_eq(got.fd_count, 1);
	ck_assert_uint_eq(marked_number(got.fds[0]), 7);
	wire_close_fds(&got);
	close_near();
}

static void ignore(void *context)
{
	(void)context;
}

static const struct ferry_producer_callbacks idle_producer = {.resume_producing = ignore};

TEST(a_producer_and_a_stop_of_writing_are_respected)
{
	open_near(PAIR_UNIX);
	struct bufferevent *bev = ferry_transport_get_bufferevent(near.transport);
	bufferevent_disable(bev, EV_WRITE);
	ck_assert_int_eq(try("x"), 0);
	bufferevent_enable(bev, EV_WRITE);
	ck_assert_int_eq(ferry_transport_register_producer(near.transport, &idle_producer, NULL,
	                                                   FERRY_PRODUCER_PULL),
	                 0);
	ck_assert_int_eq(try("x"), 0);
	ferry_transport_unregister_producer(near.transport);
	expect_far("");
	ck_assert_int_eq(try("x"), 1);
	expect_far("x");
	close_near();
}

TEST(a_rate_limit_counts_them)
{
	open_near(PAIR_UNIX);
	struct bufferevent *bev = ferry_transport_get_bufferevent(near.transport);
	struct ev_token_bucket_cfg *limit =
	    ev_token_bucket_cfg_new(1000, 1000, 4, 4, &(struct timeval){.tv_sec = 3600});
	ck_assert_int_eq(bufferevent_set_rate_limit(bev, limit), 0);
	ck_assert_int_eq(try("123456"), 4);
	expect_far("1234");
	ck_assert_int_eq(try("56"), 0);
	pump_turns(2);
	expect_far("");
	bufferevent_set_rate_limit(bev, NULL);
	ev_token_bucket_cfg_free(limit);
	ck_assert_int_eq(try("56"), 2);
	close_near();
}

/* ---- errors ---- */

TEST(nothing_and_nobody_are_refused)
{
	open_near(PAIR_UNIX);
	ck_assert_int_eq(ferry_transport_try_write(NULL, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_transport_try_write(near.transport, NULL, 1), -EINVAL);
	ferry_transport_lose_write_connection(near.transport);
	ck_assert_int_eq(try("x"), -EPIPE);
	ferry_transport_abort_connection(near.transport);
	ck_assert_int_eq(try("x"), -EPIPE);
	close_near();
}

/* The peer closes with unread bytes: its kernel resets the connection. */
static void reset_near(void)
{
	open_near(PAIR_TCP);
	/* Or the read step would meet the error first. */
	ferry_transport_pause_reading(near.transport);
	ck_assert_int_eq(try("unread"), 6);
	const struct linger linger = {.l_onoff = 1};
	setsockopt(far, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(far);
	far = -1;
}

static void expect_reset(void)
{
	pump_until_lost(&near);
	ck_assert_uint_eq(near.lost, 1);
	ck_assert_int_eq(near.reason, -ECONNRESET);
	recorder_close(&near);
	pump_turns(2);
}

TEST(the_loop_reports_what_a_try_has_met)
{
	reset_near();
	near.quiet = true;
	ck_assert_int_eq(try("lost"), 0);
	ck_assert_int_eq(try("lost"), 0);
	near.quiet = false;
	expect_reset();
}

TEST(bytes_that_are_queued_behind_it_change_nothing)
{
	reset_near();
	ck_assert_int_eq(try("lost"), 0);
	ck_assert_int_eq(ferry_transport_write(near.transport, "lost", 4), 0);
	expect_reset();
}

TEST(a_half_close_behind_it_changes_nothing)
{
	reset_near();
	ck_assert_int_eq(try("lost"), 0);
	ferry_transport_lose_write_connection(near.transport);
	expect_reset();
}

TEST(the_loop_reports_what_a_flush_has_met)
{
	reset_near();
	ck_assert_int_eq(ferry_transport_write(near.transport, "lost", 4), 0);
	near.quiet = true;
	ck_assert_int_eq(ferry_transport_flush(near.transport, NULL), -ECONNRESET);
	near.quiet = false;
	expect_reset();
}

static void free_near(struct recorder *recorder, char event)
{
	if (event == EVENT_LOST)
		recorder_free_transport(recorder);
}

TEST(the_report_may_free_the_transport)
{
	reset_near();
	near.hook = free_near;
	ck_assert_int_eq(try("lost"), 0);
	expect_reset();
}

TEST(a_transport_that_is_freed_reports_nothing)
{
	reset_near();
	ck_assert_int_eq(try("lost"), 0);
	recorder_close(&near);
	pump_turns(2);
	ck_assert_uint_eq(near.lost, 0);
}

TEST(another_socket_knows_nothing_of_it)
{
	int ends[2];

	reset_near();
	ck_assert_int_eq(try("lost"), 0);
	make_pair(PAIR_UNIX, ends);
	const int before = bufferevent_getfd(ferry_transport_get_bufferevent(near.transport));
	ck_assert_int_eq(ferry_transport_set_socket(near.transport, ends[0]), 0);
	close(before);
	far = ends[1];
	pump_turns(2);
	ck_assert_uint_eq(near.lost, 0);
	ck_assert_int_eq(try("alive"), 5);
	expect_far("alive");
	close_near();
}
