/* The process at the other end of a transport, as the kernel knows it. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ferry/ferry.h"
#include "listening.h"
#include "recorder.h"

enum { ALICE = 12001, STAFF = 13001, GUESTS };

static void expect_this_process(struct ferry_transport *transport)
{
	struct ferry_peer_credentials peer;

	memset(&peer, 0xff, sizeof(peer));
	ck_assert_int_eq(ferry_transport_get_peer_credentials(transport, &peer), 0);
	ck_assert_int_eq(peer.pid, getpid());
	ck_assert_uint_eq(peer.uid, geteuid());
	ck_assert_uint_eq(peer.gid, getegid());
	for (size_t i = 0; i < sizeof(peer.reserved) / sizeof(peer.reserved[0]); i++)
		ck_assert_uint_eq(peer.reserved[i], 0);
}

static void expect_no_process(struct ferry_transport *transport, int expected)
{
	struct ferry_peer_credentials peer = {.pid = 1};
	gid_t group;
	size_t count = 1;

	ck_assert_int_eq(ferry_transport_get_peer_credentials(transport, &peer), expected);
	ck_assert_int_eq(peer.pid, 1);
	ck_assert_int_eq(ferry_transport_get_peer_groups(transport, &group, &count), expected);
	ck_assert_uint_eq(count, 1);
	/* Linux before 6.5 does not have the option, whatever the state of the socket is. */
	const int pidfd = ferry_transport_get_peer_pidfd(transport);
	ck_assert(pidfd == expected || (pidfd == -ENOPROTOOPT && expected == -ENOTCONN));
}

TEST(a_pair_has_the_credentials_of_the_process_that_made_it)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct ferry_transport *transport = make_transport(fds[0]);
	expect_this_process(transport);
	close(fds[1]);
	expect_this_process(transport);
	ferry_transport_free(transport);
}

TEST(only_a_unix_socket_has_credentials)
{
	int fds[2], pipe_fds[2];
	struct ferry_transport *transport;

	make_pair(PAIR_TCP, fds);
	transport = make_transport(fds[0]);
	expect_no_process(transport, -EOPNOTSUPP);
	ferry_transport_free(transport);
	close(fds[1]);

	make_pipe(pipe_fds);
	ck_assert_int_eq(ferry_transport_new_pipes(&transport, base, pipe_fds[0], pipe_fds[1]), 0);
	expect_no_process(transport, -EOPNOTSUPP);
	ferry_transport_free(transport);
}

TEST(a_socket_that_never_connected_has_no_credentials)
{
	struct ferry_transport *transport =
	    make_transport(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
	expect_no_process(transport, -ENOTCONN);
	ferry_transport_free(transport);
}

TEST(arguments_that_are_missing_are_refused)
{
	struct ferry_peer_credentials peer;
	int fds[2];
	size_t count = 1;

	make_pair(PAIR_UNIX, fds);
	struct ferry_transport *transport = make_transport(fds[0]);
	ck_assert_int_eq(ferry_transport_get_peer_credentials(NULL, &peer), -EINVAL);
	ck_assert_int_eq(ferry_transport_get_peer_credentials(transport, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_get_peer_groups(NULL, NULL, &count), -EINVAL);
	ck_assert_int_eq(ferry_transport_get_peer_groups(transport, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_get_peer_groups(transport, NULL, &count), -EINVAL);
	ck_assert_int_eq(ferry_transport_get_peer_pidfd(NULL), -EINVAL);
	ferry_transport_free(transport);
	close(fds[1]);
}

TEST(the_groups_are_those_of_this_process)
{
	gid_t own[128], groups[128];
	int fds[2];
	size_t count = 0;

	const int expected = getgroups(128, own);
	make_pair(PAIR_UNIX, fds);
	struct ferry_transport *transport = make_transport(fds[0]);
	ck_assert_int_eq(ferry_transport_get_peer_groups(transport, NULL, &count),
	                 expected > 0 ? -ERANGE : 0);
	ck_assert_uint_eq(count, (size_t)expected);
	count = 128;
	ck_assert_int_eq(ferry_transport_get_peer_groups(transport, groups, &count), 0);
	ck_assert_uint_eq(count, (size_t)expected);
	if (expected > 0)
		ck_assert_mem_eq(groups, own, count * sizeof(gid_t));
	ferry_transport_free(transport);
	close(fds[1]);
}

/* ---- over a listener that asked for nothing ---- */

static struct {
	struct ferry_transport *transport;
	unsigned int count;
	int reason;
	struct ferry_peer_credentials at_the_end;
} server;

static void on_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)context;
	server.count++;
	server.reason = ferry_transport_get_peer_credentials(transport, &server.at_the_end);
	ferry_transport_free(transport);
	(void)reason;
}

static const struct ferry_protocol server_protocol = {.connection_lost = on_lost};

static void on_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                        void *context)
{
	(void)listener, (void)context;
	server.transport = transport;
	server.count++;
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &server_protocol, NULL), 0);
}

/* A child of another user connects to `fd`, and ends when it is killed. */
static pid_t connect_as_alice(int fd)
{
	static const gid_t groups[] = {STAFF, GUESTS};
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child != 0)
		return child;
	if (setgroups(2, groups) != 0 || setresgid(ALICE, ALICE, ALICE) != 0 ||
	    setresuid(ALICE, ALICE, ALICE) != 0 || connect_to(fd) < 0)
		_exit(1);
	for (;;)
		pause();
}

static void expect_alice(struct ferry_transport *transport, pid_t child)
{
	struct ferry_peer_credentials peer;
	gid_t groups[4];
	size_t count = 4;

	ck_assert_int_eq(ferry_transport_get_peer_credentials(transport, &peer), 0);
	ck_assert_int_eq(peer.pid, child);
	ck_assert_uint_eq(peer.uid, ALICE);
	ck_assert_uint_eq(peer.gid, ALICE);
	ck_assert_int_eq(ferry_transport_get_peer_groups(transport, groups, &count), 0);
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_eq(groups[0], STAFF);
	ck_assert_uint_eq(groups[1], GUESTS);
	count = 1;
	ck_assert_int_eq(ferry_transport_get_peer_groups(transport, groups, &count), -ERANGE);
	ck_assert_uint_eq(count, 2);
}

/* The pidfd is readable when its process has ended. Linux before 6.5 has none. */
static void expect_pidfd(int pidfd, pid_t child)
{
	if (pidfd == -ENOPROTOOPT) {
		kill(child, SIGKILL);
		return;
	}
	struct pollfd end = {.fd = pidfd, .events = POLLIN};
	ck_assert_int_ge(pidfd, 0);
	ck_assert_int_ne(fcntl(pidfd, F_GETFD) & FD_CLOEXEC, 0);
	ck_assert_int_eq(poll(&end, 1, 0), 0);
	kill(child, SIGKILL);
	ck_assert_int_eq(poll(&end, 1, 20000), 1);
	close(pidfd);
}

TEST_CASE("over a listener", make_directory, remove_directory);

TEST(a_listener_that_was_told_no_user_still_knows_the_client)
{
	struct ferry_listener *listener = NULL;
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;
	int status;
	if (!is_root())
		return;
	memset(&server, 0, sizeof(server));
	set_directory_mode(0755);
	options.mode = 0666;
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, socket_path, &options, on_accepted, NULL), 0);
	pid_t child = connect_as_alice(ferry_listener_get_fd(listener));
	pump_until_count(&server.count, 1);
	expect_alice(server.transport, child);
	expect_pidfd(ferry_transport_get_peer_pidfd(server.transport), child);

	/* Also when the process has gone, in connection_lost. */
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	expect_alice(server.transport, child);
	pump_until_count(&server.count, 2);
	ck_assert_int_eq(server.reason, 0);
	ck_assert_int_eq(server.at_the_end.pid, child);
	ck_assert_uint_eq(server.at_the_end.uid, ALICE);
	ferry_listener_free(listener);
}

static struct ferry_transport *client;

static void on_connected(struct ferry_connector *connector, int status,
                         struct ferry_transport *transport, void *context)
{
	(void)connector, (void)context;
	ck_assert_int_eq(status, 0);
	client = transport;
	++*(unsigned int *)context;
}

TEST(a_client_knows_the_process_that_listens)
{
	struct ferry_listener *listener = NULL;
	unsigned int connected = 0;

	memset(&server, 0, sizeof(server));
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, socket_path, NULL, on_accepted, NULL),
	                 0);
	ck_assert_int_eq(
	    ferry_connector_new_unix(NULL, base, socket_path, NULL, on_connected, &connected), 0);
	pump_until_count(&connected, 1);
	pump_until_count(&server.count, 1);
	expect_this_process(client);
	expect_this_process(server.transport);
	ferry_transport_free(client);
	ferry_transport_free(server.transport);
	ferry_listener_free(listener);
}
