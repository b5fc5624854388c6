/* A bufferevent becomes a handoff, which takes along the bytes that the bufferevent has read. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
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

uint32_t __real_event_get_version_number(void);
uint32_t __wrap_event_get_version_number(void);

static bool other_libevent;

uint32_t __wrap_event_get_version_number(void)
{
	return other_libevent ? 0x03000000 : __real_event_get_version_number();
}

/* _i: of sizes */
LOOP_TEST(unread_input_goes_along, MOVED_SIZES)
{
	struct bufferevent *bev = make_reader(0);
	receive_moved(bev, moved_sizes[_i]);
	struct ferry_handoff *handoff = take_bufferevent(bev);
	expect_bytes(handoff, moved_sizes[_i]);
	free_bufferevent(bev);
	ck_assert(fd_is_open(moved_ends[0])); /* the bufferevent has no descriptor to close */
	/* Bytes that the client sends now are for the next process. */
	wire_put(moved_ends[1], 0, 10);
	await_input(moved_ends[0]);
	ck_assert_int_eq(wire_expect(moved_ends[0], 0, 10), 10);
	ferry_handoff_free(handoff);
	close(moved_ends[1]);
}

TEST(the_loop_forgets_the_descriptor_though_a_copy_is_open)
{
	struct bufferevent *bev = make_reader(0);
	bufferevent_setwatermark(bev, EV_READ, 0, 100);
	receive_moved(bev, 10);
	ck_assert_uint_ne(epoll_events(moved_ends[0]), 0);
	struct ferry_handoff *handoff = take_bufferevent(bev);
	ck_assert_uint_eq(epoll_events(moved_ends[0]), 0);
	int copy = fcntl(moved_ends[0], F_DUPFD_CLOEXEC, 0);
	ferry_handoff_free(handoff);
	free_bufferevent(bev);
	wire_put(moved_ends[1], 0, 10);
	unsigned int before = moved_reads;
	pump_turns(5);
	ck_assert_uint_eq(moved_reads, before);
	ck_assert_int_eq(moved_events, 0);
	ck_assert_uint_eq(epoll_events(moved_ends[0]), 0);
	close(copy);
	close(moved_ends[1]);
}

static void expect_unchanged(struct bufferevent *bev, int expected)
{
	struct ferry_handoff *handoff = NULL;
	int fd = bufferevent_getfd(bev);
	short enabled = bufferevent_get_enabled(bev);
	size_t input = input_length(bev);
	size_t output = evbuffer_get_length(bufferevent_get_output(bev));
	unsigned int waiting = fd >= 0 ? epoll_events(fd) : 0;
	ck_assert_int_eq(ferry_handoff_from_bufferevent(&handoff, bev), expected);
	ck_assert_ptr_null(handoff);
	ck_assert_int_eq(bufferevent_getfd(bev), fd);
	ck_assert_int_eq(bufferevent_get_enabled(bev), enabled);
	ck_assert_uint_eq(input_length(bev), input);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_output(bev)), output);
	ck_assert_uint_eq(fd >= 0 ? epoll_events(fd) : 0, waiting);
}

TEST(more_input_than_a_handoff_carries_stays)
{
	struct bufferevent *bev = make_reader(0);
	receive_moved(bev, FERRY_HANDOFF_BYTES_MAX + 1);
	expect_unchanged(bev, -EMSGSIZE);
	expect_input(bev, FERRY_HANDOFF_BYTES_MAX + 1);
	receive_moved(bev, 0);
	free_bufferevent(bev);
	close(moved_ends[1]);
}

TEST(pending_output_is_sent_first)
{
	struct bufferevent *bev = make_reader(0);
	bufferevent_write(bev, "answer", 6);
	expect_unchanged(bev, -EBUSY);
	pump_until_count(&moved_writes, 1);
	ferry_handoff_free(take_bufferevent(bev));
	free_bufferevent(bev);
	close(moved_ends[1]);
}

TEST(frozen_input_is_refused)
{
	struct bufferevent *bev = make_reader(0);
	receive_moved(bev, 10);
	evbuffer_freeze(bufferevent_get_input(bev), 1);
	expect_unchanged(bev, -EINVAL);
	evbuffer_unfreeze(bufferevent_get_input(bev), 1);
	ferry_handoff_free(take_bufferevent(bev));
	free_bufferevent(bev);
	close(moved_ends[1]);
}

TEST(arguments_are_checked)
{
	struct ferry_handoff *handoff = NULL;
	struct bufferevent *bev = bufferevent_socket_new(base, -1, 0);
	ck_assert_int_eq(ferry_handoff_from_bufferevent(NULL, bev), -EINVAL);
	ck_assert_int_eq(ferry_handoff_from_bufferevent(&handoff, NULL), -EINVAL);
	expect_unchanged(bev, -EINVAL); /* no descriptor */
	free_bufferevent(bev);
}

TEST(pairs_and_filters_are_refused)
{
	struct bufferevent *pair[2];
	ck_assert_int_eq(bufferevent_pair_new(base, 0, pair), 0);
	expect_unchanged(pair[0], -EINVAL);
	free_bufferevent(pair[0]);
	free_bufferevent(pair[1]);

	struct bufferevent *bev = make_reader(0);
	struct bufferevent *filter =
	    bufferevent_filter_new(bev, NULL, NULL, BEV_OPT_CLOSE_ON_FREE, NULL, NULL);
	struct ferry_handoff *handoff = NULL;
	ck_assert_int_eq(ferry_handoff_from_bufferevent(&handoff, filter), -EINVAL);
	ck_assert_ptr_null(handoff);
	free_bufferevent(filter);
	close(moved_ends[1]);
}

TEST(a_transport_keeps_its_connection)
{
	make_pair(PAIR_UNIX, moved_ends);
	struct ferry_transport *transport = make_transport(moved_ends[0]);
	expect_unchanged(ferry_transport_get_bufferevent(transport), -EINVAL);
	ferry_transport_free(transport);
	pump_turns(2);
	close(moved_ends[1]);
}

TEST(a_libevent_that_is_not_known_is_refused)
{
	struct bufferevent *bev = make_reader(0);
	other_libevent = true;
	expect_unchanged(bev, -ENOTSUP);
	other_libevent = false;
	struct ferry_handoff *handoff = take_bufferevent(bev);
	free_bufferevent(bev);

	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "x", 1), 0);
	bev = NULL;
	other_libevent = true;
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE),
	                 -ENOTSUP);
	other_libevent = false;
	pump_turns(2);
	ck_assert_ptr_null(bev);
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), moved_ends[0]);
	ck_assert(fd_is_open(moved_ends[0]));
	ferry_handoff_free(handoff);
	close(moved_ends[1]);
}

TEST(a_closed_descriptor_is_refused)
{
	struct ferry_handoff *handoff = NULL;
	make_pair(PAIR_TCP, moved_ends);
	struct bufferevent *bev = bufferevent_socket_new(base, moved_ends[0], 0);
	close(moved_ends[0]);
	ck_assert_int_eq(ferry_handoff_from_bufferevent(&handoff, bev), -EBADF);
	ck_assert_int_eq(bufferevent_getfd(bev), moved_ends[0]);
	ck_assert_ptr_null(handoff);
	free_bufferevent(bev);
	close(moved_ends[1]);
}

/* A socket that is not connected yet, and the address that it can be connected to. */
static int make_listener(struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*address =
	    (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	ck_assert_int_eq(bind(fd, (struct sockaddr *)address, length), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)address, &length), 0);
	return fd;
}

static struct ferry_handoff *taken;

static void take_in_callback(struct bufferevent *bev)
{
	taken = take_bufferevent(bev);
}

static void take_and_free_in_callback(struct bufferevent *bev)
{
	taken = take_bufferevent(bev);
	bufferevent_free(bev);
}

static bool is_taken(void *argument)
{
	(void)argument;
	return taken != NULL;
}

TEST(a_connection_that_is_being_made_waits)
{
	struct sockaddr_in address;
	int listener = make_listener(&address);
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(bufferevent_socket_connect(bev, (struct sockaddr *)&address, sizeof(address)),
	                 0);
	expect_unchanged(bev, -ENOTCONN);
	/* In the callback with BEV_EVENT_CONNECTED the connection is complete. */
	moved_hook = take_in_callback;
	pump_until(is_taken, NULL);
	ck_assert_int_eq(moved_events, BEV_EVENT_CONNECTED);
	int client = accept(listener, NULL, NULL);
	ck_assert_uint_eq(epoll_events(ferry_handoff_get_fd(taken)), 0);
	free_bufferevent(bev);
	wire_put(client, 0, 1);
	await_input(ferry_handoff_get_fd(taken));
	ck_assert_int_eq(wire_expect(ferry_handoff_get_fd(taken), 0, 1), 1);
	ferry_handoff_free(taken);
	close(client);
	close(listener);
}

/* _i: options */
LOOP_TEST(it_may_be_taken_in_the_read_callback, 2)
{
	static const int options[] = {0, BEV_OPT_DEFER_CALLBACKS};
	for (int with_free = 0; with_free < 2; with_free++) {
		struct bufferevent *bev = make_reader(options[_i]);
		taken = NULL;
		moved_hook = with_free ? take_and_free_in_callback : take_in_callback;
		wire_put(moved_ends[1], 0, 10);
		pump_until(is_taken, NULL);
		expect_bytes(taken, 10);
		if (!with_free)
			bufferevent_free(bev);
		pump_turns(3);
		ck_assert(fd_is_open(moved_ends[0]));
		ck_assert_uint_eq(epoll_events(moved_ends[0]), 0);
		ferry_handoff_free(taken);
		close(moved_ends[1]);
	}
}

TEST(it_may_be_taken_in_the_write_callback)
{
	struct bufferevent *bev = make_reader(0);
	moved_hook = take_in_callback;
	bufferevent_write(bev, "x", 1);
	pump_until(is_taken, NULL);
	ck_assert_uint_eq(moved_writes, 1);
	ck_assert_uint_eq(epoll_events(moved_ends[0]), 0);
	pump_turns(3);
	free_bufferevent(bev);
	ferry_handoff_free(taken);
	close(moved_ends[1]);
}
