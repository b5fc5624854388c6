/* ferry_transport_detach() gives the bufferevent back as it was before ferry_transport_new(). */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

static int ends[2];
static struct bufferevent *bev; /* the user's */
static struct recorder recorder;

static struct {
	unsigned int reads, writes, events;
	short event;
	size_t length; /* of the input in the last read callback */
	void *argument;
} seen;

static void on_readable(struct bufferevent *from, void *argument)
{
	seen.reads++;
	seen.argument = argument;
	seen.length = evbuffer_get_length(bufferevent_get_input(from));
}

static void on_writable(struct bufferevent *from, void *argument)
{
	(void)from, (void)argument;
	seen.writes++;
}

static void on_event(struct bufferevent *from, short what, void *argument)
{
	(void)from, (void)argument;
	seen.events++;
	seen.event = what;
}

static const struct timeval read_timeout = {.tv_sec = 1000}, write_timeout = {.tv_sec = 2000};

/* A bufferevent of which everything is set. */
static void make_bev(enum pair_kind kind)
{
	make_pair(kind, ends);
	bev = bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE);
	ck_assert_ptr_nonnull(bev);
	bufferevent_setcb(bev, on_readable, on_writable, on_event, &seen);
	bufferevent_setwatermark(bev, EV_READ, 2, 5000);
	bufferevent_setwatermark(bev, EV_WRITE, 3, 7000);
	bufferevent_set_timeouts(bev, &read_timeout, &write_timeout);
	bufferevent_set_max_single_read(bev, 1111);
	bufferevent_set_max_single_write(bev, 2222);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
	pump_turns(2);
	memset(&seen, 0, sizeof(seen));
}

static void expect_settings(void)
{
	bufferevent_data_cb readable, writable;
	bufferevent_event_cb event;
	void *argument;
	size_t low, high;

	bufferevent_getcb(bev, &readable, &writable, &event, &argument);
	ck_assert(readable == on_readable && writable == on_writable && event == on_event);
	ck_assert_ptr_eq(argument, &seen);
	ck_assert_int_eq(bufferevent_getwatermark(bev, EV_READ, &low, &high), 0);
	ck_assert(low == 2 && high == 5000);
	ck_assert_int_eq(bufferevent_getwatermark(bev, EV_WRITE, &low, &high), 0);
	ck_assert(low == 3 && high == 7000);
	ck_assert_int_eq(bufferevent_get_max_single_read(bev), 1111);
	ck_assert_int_eq(bufferevent_get_max_single_write(bev), 2222);
	ck_assert_int_eq(bufferevent_get_enabled(bev), EV_READ | EV_WRITE);
}

static void attach(void)
{
	struct ferry_transport *transport;

	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	recorder_attach(&recorder, transport, &recorder_protocol);
	pump_turns(2);
}

static void detach(void)
{
	struct bufferevent *back = NULL;

	ck_assert_int_eq(ferry_transport_detach(recorder.transport, &back), 0);
	ck_assert_ptr_eq(back, bev);
	recorder.transport = NULL;
}

static void expect_refusal(int status)
{
	struct bufferevent *back = NULL;

	ck_assert_int_eq(ferry_transport_detach(recorder.transport, &back), status);
	ck_assert_ptr_null(back);
}

static void close_all(void)
{
	if (recorder.received != NULL)
		recorder_close(&recorder);
	if (bev != NULL)
		bufferevent_free(bev);
	bev = NULL;
	pump_turns(3);
	close(ends[1]);
}

/* The bufferevent works as libevent's own: bytes go both ways through the user's callbacks. */
static void expect_stock_bufferevent(void)
{
	char text[8] = {0};

	memset(&seen, 0, sizeof(seen));
	ck_assert_int_eq(wire_send(ends[1], "hello", 5, NULL, 0), 5);
	pump_until_count(&seen.reads, 1);
	ck_assert_uint_eq(seen.length, 5);
	ck_assert_ptr_eq(seen.argument, &seen);
	ck_assert_uint_eq(bufferevent_read(bev, text, sizeof(text)), 5);
	ck_assert_int_eq(bufferevent_write(bev, "world", 5), 0);
	pump_until_count(&seen.writes, 1);
	await_input(ends[1]);
	ck_assert_int_eq(read(ends[1], text, sizeof(text)), 5);
	ck_assert_int_eq(memcmp(text, "world", 5), 0);
}

TEST_CASE("detaching");

LOOP_TEST(a_detached_bufferevent_has_its_settings_of_before, 2)
{
	make_bev(_i == 0 ? PAIR_UNIX : PAIR_TCP);
	attach();
	bufferevent_setwatermark(bev, EV_READ, 0, 0);
	bufferevent_setwatermark(bev, EV_WRITE, 0, 1000000);
	bufferevent_set_timeouts(bev, NULL, NULL);
	bufferevent_disable(bev, EV_READ);
	detach();
	expect_settings();
	pump_turns(3);
	ck_assert_uint_eq(seen.reads + seen.writes + seen.events, 0);
	ck_assert_str_eq(recorder.events, "M");
	expect_stock_bufferevent();
	expect_settings();
	close_all();
}

TEST(a_detached_bufferevent_has_its_timeouts_of_before)
{
	static const struct timeval soon = {.tv_usec = 1000};

	struct ferry_transport *transport;
	struct bufferevent *back;

	make_bev(PAIR_UNIX);
	bufferevent_set_timeouts(bev, &soon, NULL);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	bufferevent_set_timeouts(bev, NULL, NULL);
	ck_assert_int_eq(ferry_transport_detach(transport, &back), 0);
	pump_until_count(&seen.events, 1);
	ck_assert_int_eq(seen.event, BEV_EVENT_TIMEOUT | BEV_EVENT_READING);
	close_all();
}

TEST(reading_that_only_the_protocol_has_enabled_is_disabled_again)
{
	make_bev(PAIR_UNIX);
	bufferevent_disable(bev, EV_READ);
	attach();
	ck_assert_int_eq(bufferevent_get_enabled(bev) & EV_READ, EV_READ);
	detach();
	ck_assert_int_eq(bufferevent_get_enabled(bev), EV_WRITE);
	close_all();
}

TEST(queued_bytes_are_sent_after_detaching)
{
	static char block[1 << 20];
	size_t arrived = 0;

	make_bev(PAIR_UNIX);
	attach();
	ck_assert_int_eq(ferry_transport_write(recorder.transport, block, sizeof(block)), 0);
	pump_turns(2);
	detach();
	ck_assert_uint_gt(evbuffer_get_length(bufferevent_get_output(bev)), 0);
	while (arrived < sizeof(block)) {
		arrived += wire_drain(ends[1]);
		pump_turns(1);
	}
	ck_assert_uint_eq(arrived, sizeof(block));
	close_all();
}

/* The transport has begun with the segment, and forgets it. */
TEST(a_file_segment_of_libevent_is_sent_on_after_detaching)
{
	enum { LENGTH = 1 << 20 };
	const int file = make_file(LENGTH);
	size_t arrived = 0;

	make_bev(PAIR_UNIX);
	attach();
	ck_assert_int_eq(evbuffer_add_file(bufferevent_get_output(bev), file, 0, LENGTH), 0);
	pump_turns(2);
	const size_t left = evbuffer_get_length(bufferevent_get_output(bev));
	ck_assert_uint_gt(left, 0);
	ck_assert_uint_lt(left, LENGTH);
	detach();
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_output(bev)), left);
	while (arrived < LENGTH) {
		arrived += wire_drain(ends[1]);
		pump_turns(1);
	}
	ck_assert_uint_eq(arrived, LENGTH);
	close_all();
	ck_assert(!fd_is_open(file));
}

TEST(bytes_of_a_pause_are_offered_after_detaching)
{
	make_bev(PAIR_UNIX);
	attach();
	ck_assert_int_eq(wire_send(ends[1], "early", 5, NULL, 0), 5);
	pump_until_length(&recorder, 5);
	ck_assert_int_eq(evbuffer_unfreeze(bufferevent_get_input(bev), 0), 0);
	evbuffer_add(bufferevent_get_input(bev), "left", 4);
	evbuffer_freeze(bufferevent_get_input(bev), 0);
	detach();
	ck_assert_uint_eq(seen.reads, 0);
	pump_until_count(&seen.reads, 1);
	ck_assert_uint_eq(seen.length, 4);
	close_all();
}

TEST(the_peers_end_is_reported_after_detaching)
{
	make_bev(PAIR_UNIX);
	attach();
	ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
	pump_until_count(&recorder.read_lost, 1);
	detach();
	pump_until_count(&seen.events, 1);
	ck_assert_int_eq(seen.event, BEV_EVENT_EOF | BEV_EVENT_READING);
	close_all();
}

TEST(detaching_is_refused_while_a_descriptor_is_queued)
{
	make_bev(PAIR_UNIX);
	attach();
	ck_assert_int_eq(ferry_transport_send_fd(recorder.transport, STDERR_FILENO, FERRY_FD_DUP), 0);
	expect_refusal(-EBUSY);
	ck_assert_int_eq(ferry_transport_write(recorder.transport, "x", 1), 0);
	pump_turns(2);
	wire_drain(ends[1]);
	detach();
	expect_settings();
	close_all();
}

TEST(detaching_is_refused_while_a_file_is_queued)
{
	make_bev(PAIR_UNIX);
	attach();
	ck_assert_int_eq(ferry_transport_send_file(NULL, recorder.transport, make_file(100),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, NULL, NULL),
	                 0);
	expect_refusal(-EBUSY);
	pump_turns(3);
	ck_assert_uint_eq(wire_drain(ends[1]), 100);
	detach();
	close_all();
}

static void pause_at_fd(struct recorder *at, char event)
{
	if (event == EVENT_FD)
		(void)ferry_transport_pause_reading(at->transport);
}

TEST(detaching_is_refused_while_received_descriptors_are_pending)
{
	int fds[2] = {STDERR_FILENO, STDERR_FILENO};

	make_bev(PAIR_UNIX);
	attach();
	recorder.hook = pause_at_fd;
	ck_assert_int_eq(wire_send(ends[1], "x", 1, fds, 2), 1);
	pump_until_fds(&recorder, 1);
	expect_refusal(-EBUSY);
	recorder.hook = NULL;
	ck_assert_int_eq(ferry_transport_resume_reading(recorder.transport), 0);
	pump_until_fds(&recorder, 2);
	detach();
	close_all();
}

static unsigned int refusals;

static void detach_at_fd(struct recorder *at, char event)
{
	struct bufferevent *back;

	if (event != EVENT_FD)
		return;
	int status = ferry_transport_detach(at->transport, &back);
	if (status == 0)
		at->transport = NULL;
	else
		refusals++;
	ck_assert(status == 0 || status == -EBUSY);
}

TEST(detaching_is_refused_while_more_descriptors_of_one_read_follow)
{
	int fds[3] = {STDERR_FILENO, STDERR_FILENO, STDERR_FILENO};

	make_bev(PAIR_UNIX);
	attach();
	recorder.hook = detach_at_fd;
	refusals = 0;
	ck_assert_int_eq(wire_send(ends[1], "x", 1, fds, 3), 1);
	while (recorder.transport != NULL)
		pump_turns(1);
	ck_assert_uint_eq(refusals, 2);
	ck_assert_uint_eq(recorder.fd_count, 3);
	close_all();
}

TEST(detaching_is_refused_while_the_connection_closes_and_when_it_is_over)
{
	static char block[1 << 20];

	make_bev(PAIR_UNIX);
	attach();
	ck_assert_int_eq(ferry_transport_write(recorder.transport, block, sizeof(block)), 0);
	ck_assert_int_eq(ferry_transport_lose_write_connection(recorder.transport), 0);
	expect_refusal(-EBUSY);
	ck_assert_int_eq(ferry_transport_lose_connection(recorder.transport), 0);
	expect_refusal(-EBUSY);
	ck_assert_int_eq(ferry_transport_abort_connection(recorder.transport), 0);
	expect_refusal(-ENOTCONN);
	pump_until_lost(&recorder);
	expect_refusal(-ENOTCONN);
	recorder_free_transport(&recorder);
	bev = NULL;
	close_all();
}

static void resume_producing(void *context)
{
	(void)context;
}

TEST(detaching_is_refused_while_a_producer_is_registered)
{
	static const struct ferry_producer_callbacks producer = {.resume_producing = resume_producing};

	make_bev(PAIR_UNIX);
	attach();
	ck_assert_int_eq(
	    ferry_transport_register_producer(recorder.transport, &producer, NULL, FERRY_PRODUCER_PULL),
	    0);
	expect_refusal(-EBUSY);
	ck_assert_int_eq(ferry_transport_unregister_producer(recorder.transport), 0);
	detach();
	close_all();
}

TEST(detaching_is_refused_on_pipes_and_without_arguments)
{
	int in[2], out[2];

	make_pipe(in);
	make_pipe(out);
	recorder_open_pipes(&recorder, in[0], out[1], &recorder_protocol);
	expect_refusal(-EINVAL);
	ck_assert_int_eq(ferry_transport_detach(recorder.transport, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_detach(NULL, &bev), -EINVAL);
	recorder_close(&recorder);
	close(in[1]);
	close(out[0]);
}

TEST(detaching_is_refused_under_a_message_stream)
{
	static const struct ferry_message_callbacks callbacks = {0};
	struct ferry_message_stream *stream;
	struct ferry_transport *transport;
	struct bufferevent *back;

	make_bev(PAIR_UNIX);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_message_stream_new(&stream, transport, &callbacks, NULL), 0);
	ck_assert_int_eq(ferry_transport_detach(transport, &back), -EBUSY);
	ferry_message_stream_free(stream);
	bev = NULL;
	close_all();
}

static char detach_at;

static void detach_in_callback(struct recorder *at, char event)
{
	if (event != detach_at || at->transport == NULL)
		return;
	detach();
	expect_settings();
}

static const char events[] = {EVENT_MADE, EVENT_DATA, EVENT_READ_LOST};

LOOP_TEST(a_transport_may_be_detached_in_its_callbacks, COUNT(events))
{
	make_bev(PAIR_UNIX);
	detach_at = events[_i];
	ck_assert_int_eq(wire_send(ends[1], "12345", 5, NULL, 0), 5);
	ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
	struct ferry_transport *transport;
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	recorder_attach(&recorder, transport, &recorder_protocol);
	recorder.hook = detach_in_callback;
	while (recorder.transport != NULL)
		pump_turns(1);
	pump_until_count(&seen.events, 1);
	ck_assert_int_eq(seen.event, BEV_EVENT_EOF | BEV_EVENT_READING);
	ck_assert_uint_eq(recorder_length(&recorder) + seen.length, 5);
	close_all();
}

static struct ferry_transport *user_transport;

static void detach_when_written(struct bufferevent *from, void *argument)
{
	struct bufferevent *back;

	(void)from, (void)argument;
	seen.writes++;
	ck_assert_int_eq(ferry_transport_detach(user_transport, &back), 0);
	bufferevent_setcb(back, on_readable, on_writable, on_event, &seen);
}

LOOP_TEST(a_transport_may_be_detached_in_the_write_callback, 2)
{
	make_bev(_i == 0 ? PAIR_UNIX : PAIR_TCP);
	bufferevent_setcb(bev, NULL, detach_when_written, NULL, NULL);
	ck_assert_int_eq(ferry_transport_new(&user_transport, bev), 0);
	ck_assert_int_eq(bufferevent_write(bev, "x", 1), 0);
	pump_until_count(&seen.writes, 1);
	expect_settings();
	while (wire_drain(ends[1]) == 0)
		pump_turns(1);
	expect_stock_bufferevent();
	close_all();
}

static void detach_at_drain(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                            void *argument)
{
	struct bufferevent *back;

	(void)buffer, (void)argument;
	if (info->n_deleted == 0 || user_transport == NULL)
		return;
	ck_assert_int_eq(ferry_transport_detach(user_transport, &back), 0);
	user_transport = NULL;
}

TEST(a_transport_may_be_detached_in_the_middle_of_a_write_step)
{
	static char block[1 << 20];
	size_t arrived = 0;

	make_bev(PAIR_UNIX);
	ck_assert_int_eq(ferry_transport_new(&user_transport, bev), 0);
	struct evbuffer_cb_entry *entry =
	    evbuffer_add_cb(bufferevent_get_output(bev), detach_at_drain, NULL);
	ck_assert_int_eq(bufferevent_write(bev, block, sizeof(block)), 0);
	while (user_transport != NULL)
		pump_turns(1);
	evbuffer_remove_cb_entry(bufferevent_get_output(bev), entry);
	while (arrived < sizeof(block)) {
		arrived += wire_drain(ends[1]);
		pump_turns(1);
	}
	ck_assert_uint_eq(arrived, sizeof(block));
	close_all();
}

TEST(a_bufferevent_may_be_attached_and_detached_again_and_again)
{
	make_bev(PAIR_UNIX);
	for (int i = 0; i < 20; i++) {
		attach();
		detach();
		if (i % 2 == 0)
			pump_turns(1);
		evbuffer_free(recorder.received);
		memset(&recorder, 0, sizeof(recorder));
	}
	expect_settings();
	expect_stock_bufferevent();
	close_all();
}

TEST(a_detached_bufferevent_may_be_freed_at_once)
{
	make_bev(PAIR_UNIX);
	attach();
	ck_assert_int_eq(wire_send(ends[1], "xy", 2, NULL, 0), 2);
	detach();
	bufferevent_free(bev);
	bev = NULL;
	pump_turns(3);
	char byte;
	ck_assert_int_le(recv(ends[1], &byte, 1, MSG_DONTWAIT), 0);
	ck_assert(!fd_is_open(ends[0]));
	close_all();
}

TEST(detaching_leaves_the_rate_limit_group_of_ferry)
{
	struct ev_token_bucket_cfg *limit = ev_token_bucket_cfg_new(10, 10, 10, 10, NULL);
	struct bufferevent_rate_limit_group *group = bufferevent_rate_limit_group_new(base, limit);

	make_bev(PAIR_UNIX);
	attach();
	ck_assert_int_eq(ferry_transport_set_rate_limit_group(recorder.transport, group), 0);
	detach();
	bufferevent_rate_limit_group_free(group); /* asserts that it is empty */
	ev_token_bucket_cfg_free(limit);
	ck_assert_int_eq(bufferevent_get_max_to_read(bev), 1111);
	expect_stock_bufferevent();
	close_all();
}

static struct bufferevent *begin_connecting(int *listener)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	*listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_eq(listen(*listener, 5), 0);
	ck_assert_int_eq(getsockname(*listener, (struct sockaddr *)&address, &length), 0);
	struct bufferevent *connecting = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(connecting, on_readable, on_writable, on_event, &seen);
	ck_assert_int_eq(
	    bufferevent_socket_connect(connecting, (struct sockaddr *)&address, (int)length), 0);
	return connecting;
}

TEST(a_connecting_bufferevent_goes_on_connecting_after_detaching)
{
	int listener;
	struct ferry_transport *transport;

	bev = begin_connecting(&listener);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	struct bufferevent *back;
	ck_assert_int_eq(ferry_transport_detach(transport, &back), 0);
	pump_until_count(&seen.events, 1);
	ck_assert_int_eq(seen.event, BEV_EVENT_CONNECTED);
	bufferevent_free(bev);
	pump_turns(3);
	close(listener);
}
