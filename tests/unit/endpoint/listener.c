/* Listeners accept connections, wait after errors of accept4(2), stop while they are disabled, and take
 * listening sockets that exist already. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "endpoint/address.h"
#include "ferry/connector.h"
#include "ferry/listener.h"
#include "ferry/log.h"
#include "ferry/transport.h"

#include "endpoint_watch.h"
#include "test.h"

/* Runs the events that are ready now, in one turn of the loop at most. */
static void turn_once(void)
{
	event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

static int64_t milliseconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Fails if the loop spun: if accept4(2) was called more than once per pause since `start`. */
static void assert_no_spin(int64_t start)
{
	ck_assert_int_ge(watch.accept_calls, 1);
	ck_assert_int_le(watch.accept_calls, 2 + (milliseconds_now() - start) / 100);
}

TEST_CASE("listener", set_up_endpoint, tear_down_endpoint);

TEST(bytes_flow_between_a_connector_and_a_listener)
{
	static const char *const names[] = {NULL, "@ferry-test-endpoint"};
	for (size_t i = 0; i < 2; i++) {
		char name[160];
		snprintf(name, sizeof(name), "%s.%ld", names[i] != NULL ? names[i] : endpoint_path,
		         (long)getpid());
		struct host host = {0};
		struct guest guest = {0};
		host_listen(&host, name, 0);
		ck_assert_int_eq(
		    ferry_connector_new_unix(&guest.connector, base, name, NULL, on_connected, &guest), 0);
		ck_assert_uint_eq(guest.told, 0);
		pump_until_count(&guest.told, 1);
		pump_until_count(&host.accepted, 1);
		ck_assert_int_eq(guest.status, 0);

		struct bufferevent *from = ferry_transport_get_bufferevent(guest.transport);
		struct bufferevent *to = ferry_transport_get_bufferevent(host.transports[0]);
		int fd = bufferevent_getfd(to);
		ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
		ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
		fd = bufferevent_getfd(from);
		ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
		ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);

		ck_assert_int_eq(bufferevent_get_enabled(to) & EV_READ, 0);
		bufferevent_enable(to, EV_READ);
		bufferevent_write(from, "ahoy", 4);
		while (evbuffer_get_length(bufferevent_get_input(to)) < 4)
			event_base_loop(base, EVLOOP_ONCE);
		ferry_transport_free(guest.transport);
		host_free(&host);
		ck_assert(!exists(name));
	}
}

TEST(a_taken_abstract_name_is_refused)
{
	struct host host = {0};
	struct ferry_listener *second = NULL;
	char name[64];
	snprintf(name, sizeof(name), "@ferry-test-%ld", (long)getpid());
	host_listen(&host, name, 0);
	ck_assert_int_eq(ferry_listener_new_unix(&second, base, name, NULL, on_accepted, NULL),
	                 -EADDRINUSE);
	host_free(&host);
	host = (struct host){0};
	host_listen(&host, name, 0);
	host_free(&host);
}

TEST(the_accepts_of_one_wakeup_are_bounded)
{
	enum { CLIENTS = 200 };
	int clients[CLIENTS];
	struct host host = {.free_transport = true};
	host_listen(&host, endpoint_path, CLIENTS);
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_int_ge(clients[i] = plain_connect(endpoint_path), 0);
	turn_once();
	ck_assert_uint_ge(host.accepted, 1);
	ck_assert_uint_lt(host.accepted, CLIENTS / 2);
	pump_until_count(&host.accepted, CLIENTS);
	for (int i = 0; i < CLIENTS; i++)
		close(clients[i]);
	host_free(&host);
}

TEST(the_callback_may_free_the_listener)
{
	struct host host = {.free_listener = true};
	host_listen(&host, endpoint_path, 0);
	int first = plain_connect(endpoint_path);
	int second = plain_connect(endpoint_path);
	pump_until_count(&host.accepted, 1);
	pump_turns(3);
	ck_assert_uint_eq(host.accepted, 1);
	ck_assert(!exists(endpoint_path));
	ck_assert(!is_hung_up(&first));
	ck_assert(is_hung_up(&second));
	close(first);
	close(second);
	host_free(&host);
}

TEST(the_callback_may_free_the_listener_and_the_transport)
{
	struct host host = {.free_listener = true, .free_transport = true};
	host_listen(&host, endpoint_path, 0);
	int client = plain_connect(endpoint_path);
	pump_until(is_hung_up, &client);
	close(client);
	host_free(&host);
}

TEST(a_disabled_listener_leaves_connections_in_the_backlog)
{
	struct host host = {.disable_listener = true};
	int clients[3];
	host_listen(&host, endpoint_path, 0);
	for (int i = 0; i < 3; i++)
		clients[i] = plain_connect(endpoint_path);
	for (unsigned int i = 1; i <= 3; i++) {
		pump_until_count(&host.accepted, i);
		let_pass(30);
		ck_assert_uint_eq(host.accepted, i);
		ck_assert_uint_eq(watch.accept_calls, i);
		ck_assert_int_eq(ferry_listener_disable(host.listener), 0);
		ck_assert_int_eq(ferry_listener_enable(host.listener), 0);
		ck_assert_int_eq(ferry_listener_enable(host.listener), 0);
	}
	for (int i = 0; i < 3; i++)
		close(clients[i]);
	host_free(&host);
}

TEST(errors_of_one_connection_are_passed_over)
{
	static const int errors[] = {ECONNABORTED, EINTR, EPROTO, ENETDOWN, EHOSTUNREACH, EOPNOTSUPP};
	struct host host = {0};
	memcpy(watch.accept_errors, errors, sizeof(errors));
	host_listen(&host, endpoint_path, 0);
	int client = plain_connect(endpoint_path);
	event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_uint_eq(host.accepted, 1);
	ck_assert_uint_eq(warnings, 0);
	close(client);
	host_free(&host);
}

TEST(a_shortage_pauses_accepting_for_a_moment)
{
	static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM};
	const unsigned int count = sizeof(errors) / sizeof(errors[0]);
	struct host host = {0};
	memcpy(watch.accept_errors, errors, sizeof(errors));
	host_listen(&host, endpoint_path, 0);
	int client = plain_connect(endpoint_path);

	const int64_t start = milliseconds_now();
	pump_turns(20);
	assert_no_spin(start);
	pump_until_count(&host.accepted, 1);
	ck_assert_uint_eq(watch.accept_errors_given, count);
	ck_assert_uint_le(watch.accept_calls, count + 2);
	ck_assert_uint_eq(warnings, 1);
	struct ferry_listener_stats stats;
	ck_assert_int_eq(ferry_listener_get_stats(host.listener, &stats), 0);
	ck_assert_uint_eq(stats.pauses, count);
	ck_assert_uint_eq(stats.accepted, 1);
	ck_assert_uint_eq(stats.dropped, 0);
	close(client);
	host_free(&host);
}

/* valgrind accepts first and then closes the descriptor above the limit: the connection is lost. */
static bool limits_are_real(void)
{
	const char *preload = getenv("LD_PRELOAD");
	return preload == NULL || strstr(preload, "vgpreload") == NULL;
}

TEST(without_free_descriptor_slots_the_connection_waits)
{
	if (!limits_are_real())
		return;
	struct host host = {0};
	host_listen(&host, endpoint_path, 0);
	int client = plain_connect(endpoint_path);
	struct rlimit limit = limit_descriptor_slots(0);
	const int64_t start = milliseconds_now();
	let_pass(350);
	ck_assert_uint_eq(host.accepted, 0);
	assert_no_spin(start);
	ck_assert_uint_eq(warnings, 1);
	setrlimit(RLIMIT_NOFILE, &limit);
	pump_until_count(&host.accepted, 1);
	close(client);
	host_free(&host);
}

TEST(a_paused_listener_can_be_disabled_enabled_and_freed)
{
	struct host host = {0};
	watch.accept_errors[0] = EMFILE;
	host_listen(&host, endpoint_path, 0);
	int client = plain_connect(endpoint_path);
	turn_once();
	ck_assert_int_eq(ferry_listener_disable(host.listener), 0);
	let_pass(150);
	ck_assert_uint_eq(host.accepted, 0);
	ck_assert_int_eq(ferry_listener_enable(host.listener), 0);
	pump_until_count(&host.accepted, 1);

	memset(&watch, 0, sizeof(watch));
	watch.accept_errors[0] = EMFILE;
	int second = plain_connect(endpoint_path);
	turn_once();
	ck_assert_int_eq(ferry_listener_enable(host.listener), 0);
	ck_assert_uint_eq(host.accepted, 1);
	host_free(&host);
	let_pass(150);
	close(client);
	close(second);
}

TEST(a_connection_that_makes_no_transport_is_closed)
{
	struct host host = {0};
	host_listen(&host, endpoint_path, 0);

	watch.transport_error = -ENOTSUP;
	int first = plain_connect(endpoint_path);
	int second = plain_connect(endpoint_path);
	pump_until(is_hung_up, &first);
	pump_until(is_hung_up, &second);
	struct ferry_listener_stats stats;
	ck_assert_int_eq(ferry_listener_get_stats(host.listener, &stats), 0);
	ck_assert_uint_eq(stats.dropped, 2);
	ck_assert_uint_eq(stats.accepted, 0);
	ck_assert_uint_ge(warnings, 1); /* at most one a second */

	/* Out of memory: the second connection is not accepted. */
	watch.transport_error = -ENOMEM;
	warnings = 0;
	int third = plain_connect(endpoint_path);
	int fourth = plain_connect(endpoint_path);
	pump_until(is_hung_up, &third);
	ck_assert(!is_hung_up(&fourth));
	ck_assert_uint_eq(warnings, 1);
	watch.transport_error = 0;
	pump_until_count(&host.accepted, 1);

	close(first);
	close(second);
	close(third);
	close(fourth);
	host_free(&host);
}

struct socket_state {
	struct stat file;
	int flags;
	int fd_flags;
	int options[8];
};

static struct socket_state state_of(int fd, const char *name)
{
	static const int options[] = {SO_KEEPALIVE, SO_REUSEADDR, SO_REUSEPORT,  SO_RCVBUF,
	                              SO_SNDBUF,    SO_PASSCRED,  SO_ACCEPTCONN, SO_ERROR};
	struct socket_state state;
	memset(&state, 0, sizeof(state));
	if (name != NULL)
		ck_assert_int_eq(lstat(name, &state.file), 0);
	state.flags = fcntl(fd, F_GETFL);
	state.fd_flags = fcntl(fd, F_GETFD);
	for (size_t i = 0; i < 8; i++) {
		socklen_t length = sizeof(int);
		if (getsockopt(fd, SOL_SOCKET, options[i], &state.options[i], &length) < 0)
			state.options[i] = -errno; /* newer kernels: SO_PASSCRED is for unix sockets */
	}
	return state;
}

static void assert_same_state(const struct socket_state *a, const struct socket_state *b)
{
	ck_assert_uint_eq(a->file.st_mode, b->file.st_mode);
	ck_assert_uint_eq(a->file.st_ino, b->file.st_ino);
	ck_assert_int_eq(a->flags, b->flags);
	ck_assert_int_eq(a->fd_flags, b->fd_flags);
	ck_assert_mem_eq(a->options, b->options, sizeof(a->options));
}

TEST_CASE("adopted listener", set_up_endpoint, tear_down_endpoint);

TEST(an_adopted_unix_listener_is_left_as_it_was)
{
	int fd = plain_listen(endpoint_path, 5);
	ck_assert_int_eq(chmod(endpoint_path, 0640), 0);
	struct socket_state before = state_of(fd, endpoint_path);
	for (int round = 0; round < 2; round++) {
		struct host host = {0};
		ck_assert_int_eq(ferry_listener_new_fd(&host.listener, base, fd, on_accepted, &host), 0);
		ck_assert_int_eq(ferry_listener_get_fd(host.listener), fd);
		int client = plain_connect(endpoint_path);
		pump_until_count(&host.accepted, 1);
		host_free(&host);
		close(client);
	}
	struct socket_state after = state_of(fd, endpoint_path);
	assert_same_state(&before, &after);
	int client = plain_connect(endpoint_path);
	ck_assert_int_ge(client, 0);
	close(client);
	close(fd);
}

TEST(an_adopted_tcp_listener_is_left_as_it_was)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	ck_assert_int_eq(__real_bind(fd, (struct sockaddr *)&address, length), 0);
	ck_assert_int_eq(__real_listen(fd, 5), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	struct socket_state before = state_of(fd, NULL);

	struct host host = {0};
	ck_assert_int_eq(ferry_listener_new_fd(&host.listener, base, fd, on_accepted, &host), 0);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(__real_connect(client, (struct sockaddr *)&address, length), 0);
	pump_until_count(&host.accepted, 1);
	struct socket_state accepted =
	    state_of(bufferevent_getfd(ferry_transport_get_bufferevent(host.transports[0])), NULL);
	ck_assert_int_eq(accepted.options[0], 0);
	ck_assert_int_eq(accepted.fd_flags, FD_CLOEXEC);
	host_free(&host);
	close(client);

	struct socket_state after = state_of(fd, NULL);
	assert_same_state(&before, &after);
	close(fd);
}

TEST(a_socket_that_cannot_accept_is_not_adopted)
{
	struct ferry_listener *listener = NULL;
	int pipe_fds[2];
	make_pipe(pipe_fds);
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, pipe_fds[0], on_accepted, NULL),
	                 -ENOTSOCK);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, pipe_fds[0], on_accepted, NULL),
	                 -EBADF);
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, -1, on_accepted, NULL), -EBADF);

	int fd = plain_bind(endpoint_path);
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, fd, on_accepted, NULL), -EINVAL);
	ck_assert_int_eq(__real_listen(fd, 1), 0);
	ck_assert_int_eq(fcntl(fd, F_SETFL, 0), 0);
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, fd, on_accepted, NULL), -EINVAL);
	close(fd);

	static const int types[] = {SOCK_DGRAM, SOCK_SEQPACKET};
	for (int i = 0; i < 2; i++) {
		fd = socket(AF_UNIX, types[i] | SOCK_NONBLOCK, 0);
		ck_assert_int_eq(ferry_listener_new_fd(&listener, base, fd, on_accepted, NULL),
		                 -EPROTOTYPE);
		close(fd);
	}
	ck_assert_ptr_null(listener);
}

/* Another process was faster, and a signal interrupts poll(2), which looks for a shutdown. */
TEST(woken_for_nothing_it_goes_on_if_poll_fails)
{
	struct host host = {0};
	host_listen(&host, endpoint_path, 0);
	watch.accept_errors[0] = EAGAIN;
	watch.poll_error = EINTR;
	int fd = plain_connect(endpoint_path);
	ck_assert_int_ge(fd, 0);
	pump_until_count(&host.accepted, 1);
	ck_assert_uint_eq(watch.poll_calls, 1);
	ck_assert_uint_eq(warnings, 0);
	host_free(&host);
	close(fd);
}

/* The other owner of an adopted socket may shut it down. */
TEST(a_listener_shut_down_by_another_does_not_spin)
{
	struct host host = {0};
	int fd = plain_listen(endpoint_path, 5);
	ck_assert_int_eq(ferry_listener_new_fd(&host.listener, base, fd, on_accepted, &host), 0);
	ck_assert_int_eq(shutdown(fd, SHUT_RDWR), 0);
	const int64_t start = milliseconds_now();
	let_pass(250);
	assert_no_spin(start);
	host_free(&host);
	close(fd);
}

BEFORE_ALL
{
	/* libevent's allocations are counted with ours. */
	event_set_mem_functions(__wrap_malloc, __wrap_realloc, free);
}
