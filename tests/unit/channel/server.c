/* Servers at a poller, and ferry_poller_close_all() over servers and connections. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "listening.h"
#include "poll_log.h"
#include "test.h"
#include "wire.h"

/* ---- ferry_poller_close_all() ---- */

/* Adds a server at socket_path to the poller. */
static void add_unix_server(struct ferry_channel **out)
{
	struct event_base *loop = ferry_poller_get_base(poller);

	ck_assert_int_eq(ferry_listener_new_unix(&server_listener, loop, socket_path, NULL, NULL, NULL),
	                 0);
	ck_assert_int_eq(ferry_poller_add_server(out, poller, ferry_listener_get_fd(server_listener)),
	                 0);
}

TEST_CASE("servers", make_directory, remove_directory);

TEST(close_all_sends_and_closes_everything)
{
	struct ferry_channel *others[3];
	int fars[3];

	open_channel(PAIR_UNIX);
	for (int i = 0; i < 3; i++) {
		others[i] = add_channel(i == 0 ? PAIR_TCP : PAIR_UNIX, &fars[i]);
		ck_assert_int_eq(ferry_channel_write(others[i], "bye", 3), 0);
	}
	add_unix_server(NULL);
	ck_assert_int_eq(ferry_poller_close_all(poller, NULL), 0);
	expect_peer_end();
	for (int i = 0; i < 3; i++) {
		close_peer();
		peer = fars[i];
		expect_sent(peer, "bye");
		expect_peer_end();
	}
	free_server_listener();
	ck_assert(!path_exists(socket_path));
	ck_assert_int_eq(poll_now(), -ENOENT);
	ck_assert_int_eq(ferry_poller_close_all(poller, NULL), 0);
	close_poller();
}

LOOP_TEST(close_all_fails_if_not_everything_was_sent, 2)
{
	unsigned char *bytes = make_bytes(MIB);

	open_channel(PAIR_UNIX);
	int fd = ferry_channel_get_fd(channel);
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	ck_assert_int_eq(ferry_poller_close_all(poller, _i == 0 ? &at_once : &soon), -ETIMEDOUT);
	ck_assert(!fd_is_open(fd));

	close_peer();
	channel = add_channel(PAIR_UNIX, &peer);
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	close_peer();
	ck_assert_int_eq(ferry_poller_close_all(poller, NULL), -EPIPE);
	free(bytes);
	close_poller();
}

TEST(close_all_leaves_unregistered_channels)
{
	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_poller_unregister(poller, channel), 0);
	ck_assert_int_eq(ferry_poller_close_all(poller, NULL), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "here", 4), 0);
	expect_sent(peer, "here");
	ferry_channel_free(channel);
	close_poller();
}

/* ---- servers ---- */

static int connect_to_path(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_uint_lt(strlen(socket_path), sizeof(address.sun_path));
	memcpy(address.sun_path, socket_path, strlen(socket_path));
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

TEST(a_server_accepts)
{
	struct ferry_channel *server;

	open_poller();
	add_unix_server(&server);
	ck_assert_int_eq(ferry_channel_set_lines(server, "\n", 1, 100), 0);
	ck_assert_int_eq(poll_now(), 0);
	peer = connect_to_path();
	int second = connect_to_path();
	peer_put("hello\nwor");
	ck_assert_int_eq(poll_now(), 2);
	expect_events("AA");
	for (int i = 0; i < 2; i++) {
		ck_assert_ptr_eq(events[i].channel, server);
		ck_assert_ptr_nonnull(events[i].accepted);
	}
	channel = events[0].accepted;
	struct ferry_channel *other = events[1].accepted;
	poll_until_events("[hello]");
	ck_assert(events[0].channel == channel || events[0].channel == other);
	ck_assert_int_eq(ferry_channel_write(events[0].channel, "welcome", 7), 0);
	expect_sent(peer, "welcome");
	close_peer();
	poll_until_events("(wor)X0");
	close(second);
	poll_until_events("X0");
	ck_assert_int_eq(poll_now(), 0);
	ferry_channel_free(server);
	ck_assert_int_eq(ferry_channel_get_fd(server), -ENOTCONN); /* until the next poll */
	free_server_listener();
	ck_assert(!path_exists(socket_path));
	ck_assert_int_eq(poll_now(), -ENOENT);
	close_poller();
}

LOOP_TEST(a_server_stands_on_a_socket_from_elsewhere, 2)
{
	struct ferry_channel *server;

	open_poller();
	int listening = _i == 0 ? listen_tcp() : listen_abstract();
	ck_assert_int_eq(evutil_make_socket_nonblocking(listening), 0);
	ck_assert_int_eq(ferry_poller_add_server(&server, poller, listening), 0);
	ck_assert_int_eq(ferry_channel_get_fd(server), listening);
	ck_assert_int_eq(ferry_channel_write(server, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_close(server), -EINVAL);
	ck_assert_int_eq(ferry_channel_flush(server, NULL), -EINVAL);
	peer = connect_to(listening);
	ck_assert_int_ge(peer, 0);
	poll_until_events("A");
	ck_assert_int_eq(ferry_channel_write(events[0].accepted, "hello", 5), 0);
	expect_sent(peer, "hello");
	close_poller();
	ck_assert(fd_is_open(listening));
	close(listening);
}

TEST(a_server_that_is_not_registered_leaves_clients_in_the_backlog)
{
	struct ferry_channel *server;

	open_channel(PAIR_UNIX);
	add_unix_server(&server);
	ck_assert_int_eq(ferry_poller_unregister(poller, server), 0);
	int client = connect_to_path();
	int open = count_open_fds();
	ck_assert_int_eq(poll_now(), 0);
	ck_assert_int_eq(count_open_fds(), open);
	ck_assert_int_eq(ferry_poller_register(poller, server), 0);
	poll_until_events("A");
	close(client);
	close_poller();
}

/* 64, and the next when half of them were taken. */
TEST(a_server_accepts_a_bounded_number_ahead)
{
	enum { CLIENTS = 100, AHEAD = 64 };
	int clients[CLIENTS];

	open_poller();
	add_unix_server(NULL);
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = connect_to_path();
	int before = count_open_fds();
	for (int taken = 1; taken <= AHEAD / 2; taken++) {
		ck_assert_int_eq(poll_for(1, &at_once), 1);
		ck_assert_int_eq(count_open_fds() - before, AHEAD);
	}
	ck_assert_int_eq(poll_for(1, &at_once), 1);
	ck_assert_int_eq(count_open_fds() - before, AHEAD / 2 + AHEAD);
	for (int i = 0; i < CLIENTS; i++)
		close(clients[i]);
	close_poller();
}

LOOP_TEST(connections_that_nobody_polls_are_closed, 2)
{
	enum { CLIENTS = 100 };
	int clients[CLIENTS];

	open_poller();
	add_unix_server(NULL);
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = connect_to_path();
	ck_assert_int_eq(poll_for(5, &at_once), 5);
	int told = 5;
	if (_i == 1)
		while (told < CLIENTS)
			told += poll_for(7, &deadline);
	ferry_poller_free(poller);
	free_server_listener();
	for (int i = 0; i < CLIENTS; i++) {
		char byte;
		ssize_t count = read(clients[i], &byte, 1);
		ck_assert(count == 0 || (count < 0 && errno == ECONNRESET));
		close(clients[i]);
	}
}

/* Replaces libc's functions, and counts the iterations of the loop. libevent 2.2 may call the second. */
static unsigned int turns;

int epoll_wait(int epoll_fd, struct epoll_event *ready, int max, int timeout)
{
	turns++;
	return (int)syscall(SYS_epoll_pwait, epoll_fd, ready, max, timeout, NULL, 0);
}

#ifdef SYS_epoll_pwait2
int epoll_pwait2(int epoll_fd, struct epoll_event *ready, int max, const struct timespec *timeout,
                 const sigset_t *mask)
{
	turns++;
	return (int)syscall(SYS_epoll_pwait2, epoll_fd, ready, max, timeout, mask, 8);
}
#endif

TEST(a_server_without_descriptors_waits_and_does_not_spin)
{
	const struct timeval a_while = {.tv_usec = 350000};

	open_poller();
	add_unix_server(NULL);
	peer = connect_to_path();
	limit_descriptors(0);
	do { /* again if this process has slept all the while */
		turns = 0;
		ck_assert_int_eq(poll_for(1, &a_while), 0);
	} while (turns < 2);
	ck_assert_uint_le(turns, 30); /* the server tries again ten times a second */
	unlimit_descriptors();
	poll_until_events("A");
	close_poller();
}
