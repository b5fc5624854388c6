/* A transport adopts a bufferevent that is already in use. */

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "closes.h"
#include "plain_link.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

static unsigned int reads, writes, events;

static void on_read(struct bufferevent *bev, void *context)
{
	(void)bev;
	ck_assert_ptr_eq(context, &reads);
	reads++;
}

static void on_write(struct bufferevent *bev, void *context)
{
	(void)bev, (void)context;
	writes++;
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
	(void)bev, (void)what, (void)context;
	events++;
}

static void check_transport_refused(int expected, struct bufferevent *bev)
{
	struct ferry_transport *untouched = (struct ferry_transport *)&expected, *out = untouched;
	bufferevent_setcb(bev, on_read, on_write, on_event, &reads);
	int fd = bufferevent_getfd(bev);
	int flags = fd >= 0 ? fcntl(fd, F_GETFL) : 0;
	int enabled = bufferevent_get_enabled(bev);

	int status = ferry_transport_new(&out, bev);

	ck_assert_int_eq(status, expected);
	ck_assert_ptr_eq(out, untouched);
	ck_assert_int_eq(ferry_transport_new(NULL, bev), -EINVAL);
	ck_assert_int_eq(bufferevent_getfd(bev), fd);
	ck_assert_int_eq(fd >= 0 ? fcntl(fd, F_GETFL) : 0, flags);
	ck_assert_int_eq(bufferevent_get_enabled(bev), enabled);
}

/* Both ways through the refused bufferevent, by libevent alone. */
static void check_exchange(struct bufferevent *bev, int fd)
{
	reads = 0;
	bufferevent_enable(bev, EV_READ | EV_WRITE);
	ck_assert_int_eq(bufferevent_write(bev, "out", 3), 0);
	char buffer[8];
	ssize_t n;
	do {
		pump_turns(1);
		n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	} while (n < 0 && errno == EAGAIN);
	ck_assert_int_eq(n, 3);
	ck_assert_int_eq(send(fd, "back", 4, 0), 4);
	pump_until_count(&reads, 1);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(bev)), 4);
	bufferevent_free(bev);
	pump_turns(2);
	close(fd);
}

TEST_CASE("taking over", NULL, check_closes);

TEST(no_bufferevent_is_refused)
{
	struct ferry_transport *transport;
	ck_assert_int_eq(ferry_transport_new(&transport, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_new(NULL, NULL), -EINVAL);
}

TEST(a_bufferevent_is_usable_after_out_was_null)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(bev, on_read, on_write, on_event, &reads);
	ck_assert_int_eq(ferry_transport_new(NULL, bev), -EINVAL);
	check_exchange(bev, fds[1]);
}

TEST(a_pair_is_refused_and_stays_usable)
{
	struct bufferevent *pair[2];
	ck_assert_int_eq(bufferevent_pair_new(base, 0, pair), 0);
	check_transport_refused(-EINVAL, pair[0]);
	bufferevent_enable(pair[0], EV_READ | EV_WRITE);
	bufferevent_enable(pair[1], EV_READ | EV_WRITE);
	bufferevent_write(pair[1], "through", 7);
	pump_until_count(&reads, 1);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(pair[0])), 7);
	bufferevent_free(pair[0]);
	bufferevent_free(pair[1]);
}

TEST(a_filter_is_refused_and_stays_usable)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	struct bufferevent *filter =
	    bufferevent_filter_new(bev, NULL, NULL, BEV_OPT_CLOSE_ON_FREE, NULL, NULL);
	check_transport_refused(-EINVAL, filter);
	check_exchange(filter, fds[1]);
}

TEST(a_bufferevent_without_a_descriptor_is_refused_and_stays_usable)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	check_transport_refused(-EINVAL, bev);
	bufferevent_setfd(bev, fds[0]);
	check_exchange(bev, fds[1]);
}

/* _i: blocking or not. */
LOOP_TEST(a_bufferevent_on_a_pipe_is_refused_and_stays_usable, 2)
{
	int fds[2];
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC | (_i == 0 ? O_NONBLOCK : 0)), 0);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	check_transport_refused(-ENOTSOCK, bev);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(write(fds[1], "bytes", 5), 5);
	pump_until_count(&reads, 1);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(bev)), 5);
	bufferevent_free(bev);
	close(fds[1]);
}

LOOP_TEST(a_socket_that_is_no_stream_is_refused_and_stays_usable, 4)
{
	int fds[2];
	ck_assert_int_eq(socketpair(AF_UNIX,
	                            (_i / 2 == 0 ? SOCK_DGRAM : SOCK_SEQPACKET) | SOCK_CLOEXEC |
	                                (_i % 2 == 0 ? SOCK_NONBLOCK : 0),
	                            0, fds),
	                 0);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	check_transport_refused(-EPROTOTYPE, bev);
	check_exchange(bev, fds[1]);
}

LOOP_TEST(a_transports_bufferevent_is_refused_and_the_transport_goes_on, LINK_KINDS)
{
	open_plain_link(_i);
	struct bufferevent *bev = ferry_transport_get_bufferevent(near.transport);
	struct ferry_transport *out;
	ck_assert_int_eq(ferry_transport_new(&out, bev), -EALREADY);
	write_text("out");
	expect_far_text("out");
	ck_assert_int_eq(write(far_out, "in", 2), 2);
	pump_until_length(&near, 2);
	close_plain_link();
}

TEST(settings_made_before_stay)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(bev, on_read, on_write, on_event, &reads);
	bufferevent_setwatermark(bev, EV_READ, 3, 100);
	bufferevent_setwatermark(bev, EV_WRITE, 7, 1000);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(bufferevent_write(bev, "queued before", 13), 0);
	struct ferry_transport *transport;
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_ptr_eq(ferry_transport_get_bufferevent(transport), bev);

	size_t low, high;
	ck_assert_int_eq(bufferevent_getwatermark(bev, EV_READ, &low, &high), 0);
	ck_assert(low == 3 && high == 100);
	ck_assert_int_eq(bufferevent_getwatermark(bev, EV_WRITE, &low, &high), 0);
	ck_assert(low == 7 && high == 1000);
	ck_assert_int_eq(bufferevent_get_enabled(bev), EV_READ | EV_WRITE);
	bufferevent_data_cb read_cb, write_cb;
	bufferevent_event_cb event_cb;
	void *argument;
	bufferevent_getcb(bev, &read_cb, &write_cb, &event_cb, &argument);
	ck_assert(read_cb == on_read && write_cb == on_write && event_cb == on_event);
	ck_assert_ptr_eq(argument, &reads);

	char buffer[32];
	ssize_t n;
	do {
		pump_turns(1);
		n = read(fds[1], buffer, sizeof(buffer));
	} while (n < 0 && errno == EAGAIN);
	ck_assert_int_eq(n, 13);
	ck_assert_int_eq(write(fds[1], "ab", 2), 2);
	pump_turns(5);
	ck_assert_uint_eq(reads, 0); /* under the low mark */
	ck_assert_int_eq(write(fds[1], "c", 1), 1);
	pump_until_count(&reads, 1);
	ferry_transport_free(transport);
	close(fds[1]);
}

TEST(a_blocking_socket_is_made_non_blocking)
{
	int fds[2];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	struct ferry_transport *transport = make_transport(fds[0]);
	ck_assert_int_ne(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_eq(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
	ferry_transport_free(transport);
	close(fds[1]);
}

static struct ferry_transport *made_in_callback;

static void take_over(struct bufferevent *bev, void *context)
{
	(void)context;
	if (made_in_callback == NULL)
		ck_assert_int_eq(ferry_transport_new(&made_in_callback, bev), 0);
}

TEST(a_bufferevent_may_be_taken_over_in_its_own_callback)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(bev, take_over, NULL, NULL, NULL);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	while (made_in_callback == NULL)
		pump_turns(1);
	recorder_attach(&near, made_in_callback, &recorder_protocol);
	far_in = far_out = fds[1];

	write_text("out");
	expect_far_text("out");
	int fd = make_marked_fd(1);
	ck_assert_int_eq(wire_send(far_out, "in", 2, &fd, 1), 2);
	close(fd);
	pump_until_fds(&near, 1);

	ck_assert_uint_eq(marked_number(near.fds[0]), 1);
	close_plain_link();
}
