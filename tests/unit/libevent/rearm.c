/* A transport notices that the program has given its bufferevent another socket. */

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "closes.h"
#include "plain_link.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

TEST_CASE("another socket", NULL, check_closes);

TEST(another_socket_takes_over_and_gets_the_queued_bytes)
{
	open_plain_link(LINK_UNIX);
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	int old = bufferevent_getfd(ferry_transport_get_bufferevent(near.transport));
	int marked = make_marked_fd(7);
	ck_assert_int_eq(ferry_transport_send_fd(near.transport, marked, FERRY_FD_TAKE), 0);
	write_text("queued");

	QUIETLY(ferry_transport_set_socket(near.transport, fds[0]));
	ck_assert(fd_is_open(old));
	pump_turns(3);

	char buffer[16];
	struct wire_read result;
	wire_receive(fds[1], buffer, sizeof(buffer), &result);
	ck_assert_int_eq(result.bytes, 6);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert_uint_eq(marked_number(result.fds[0]), 7);
	wire_close_fds(&result);
	marked = make_marked_fd(8);
	ck_assert_int_eq(wire_send(fds[1], "in", 2, &marked, 1), 2);
	close(marked);
	pump_until_fds(&near, 1);
	ck_assert_uint_eq(marked_number(near.fds[0]), 8);
	close(old);
	close(fds[1]);
	close_plain_link();
}

TEST(bufferevent_setfd_is_noticed)
{
	open_plain_link(LINK_UNIX);
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = ferry_transport_get_bufferevent(near.transport);
	int old = bufferevent_getfd(bev);
	bufferevent_setfd(bev, fds[0]);
	bufferevent_enable(bev, EV_READ);

	write_text("out"); /* the next call */
	pump_turns(3);
	char buffer[16];
	ck_assert_int_eq(read(fds[1], buffer, sizeof(buffer)), 3);
	int marked = make_marked_fd(8);
	ck_assert_int_eq(wire_send(fds[1], "in", 2, &marked, 1), 2);
	close(marked);
	pump_until_fds(&near, 1);

	ck_assert_uint_eq(marked_number(near.fds[0]), 8);
	close(old);
	close(fds[1]);
	close_plain_link();
}

TEST(a_socket_that_will_not_do_is_refused_and_the_old_one_stays)
{
	open_plain_link(LINK_UNIX);
	int pipe_ends[2], dgram[2], tcp[2];
	make_pipe(pipe_ends);
	make_pair(PAIR_TCP, tcp);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, dgram), 0);
	struct ferry_transport *t = near.transport;
	ck_assert_int_eq(ferry_transport_set_socket(t, pipe_ends[0]), -ENOTSOCK);
	ck_assert_int_eq(ferry_transport_set_socket(t, dgram[0]), -EPROTOTYPE);
	ck_assert_int_eq(ferry_transport_send_fd(t, STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_set_socket(t, tcp[0]), -EOPNOTSUPP);

	write_text("out");
	expect_far_text("out");
	for (int i = 0; i < 2; i++) {
		close(pipe_ends[i]);
		close(dgram[i]);
		close(tcp[i]);
	}
	close_plain_link();
}
