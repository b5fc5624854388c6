/* The users that may connect to a listener, and their limits, with real processes of other users and groups.
 * White-box: getsockopt(2) can fail, and nothing may be read from a refused connection. */

#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "endpoint/quota.h"
#include "ferry/listener.h"
#include "ferry/log.h"
#include "heap.h"
#include "listener_options.h"
#include "listening.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

/* ---- the system calls, by the linker's --wrap ---- */

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the linker's names */
int __real_getsockopt(int fd, int level, int option, void *value, socklen_t *length);
int __real_setsockopt(int fd, int level, int option, const void *value, socklen_t length);
ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);

int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *length);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);

static struct {
	int option, error; /* the option that fails, and how */
	unsigned int reads;
	unsigned int asked; /* calls that ask for the user or the groups */
} watch;

int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *length)
{
	if (option == SO_PEERCRED || option == SO_PEERGROUPS)
		watch.asked++;
	if (watch.error == 0 || option != watch.option)
		return __real_getsockopt(fd, level, option, value, length);
	errno = watch.error;
	return -1;
}

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
	if (watch.error == 0 || option != watch.option)
		return __real_setsockopt(fd, level, option, value, length);
	errno = watch.error;
	return -1;
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
	watch.reads++;
	return __real_recvmsg(fd, message, flags);
}

/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

/* ---- a listener that everybody can reach ---- */

enum { ALICE = 12001, BOB, STAFF = 13001, GUESTS, TRANSPORTS_MAX = 64, GROUPS = 100 };

static struct ferry_listener *listener;
static struct ferry_transport *transports[TRANSPORTS_MAX];
static unsigned int accepted, lines, refusals;
static bool free_at_once;

static void on_line(enum ferry_log_level level, const char *line)
{
	heap_suspend();
	if (level == FERRY_LOG_WARNING)
		lines++;
	if (strstr(line, "was refused") != NULL)
		refusals++;
	heap_continue();
}

static void on_accepted(struct ferry_listener *from, struct ferry_transport *transport,
                        void *context)
{
	(void)from, (void)context;
	heap_suspend();
	ck_assert_uint_lt(accepted, TRANSPORTS_MAX);
	heap_continue();
	if (free_at_once)
		ferry_transport_free(transport);
	else
		transports[accepted] = transport;
	accepted++;
}

static void set_up(void)
{
	char directory[sizeof(socket_path)];
	memset(&watch, 0, sizeof(watch));
	memset(transports, 0, sizeof(transports));
	accepted = lines = refusals = 0;
	free_at_once = false;
	make_directory();
	memcpy(directory, socket_path, strlen(socket_path) + 1);
	*strrchr(directory, '/') = '\0';
	ck_assert_int_eq(chmod(directory, 0755), 0);
	ferry_log_set_cb(on_line);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, socket_path, with_mode(0666), on_accepted, NULL),
	    0);
}

static void tear_down(void)
{
	memset(&watch, 0, sizeof(watch));
	ferry_listener_free(listener);
	for (int i = 0; i < TRANSPORTS_MAX; i++)
		ferry_transport_free(transports[i]);
	remove_directory();
}

static struct ferry_listener_stats listener_stats(void)
{
	struct ferry_listener_stats stats;
	ck_assert_int_eq(ferry_listener_get_stats(listener, &stats), 0);
	return stats;
}

/* ---- clients ---- */

/* A child of that user connects a socket and writes to it. The open file description is shared: the socket is
 * connected in this process too. */
static int connect_as(uid_t uid, gid_t gid, const gid_t *groups, size_t count)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int status;
	memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		if (setgroups(count, groups) != 0 || setresgid(gid, gid, gid) != 0 ||
		    setresuid(uid, uid, uid) != 0)
			_exit(1);
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
			_exit(2);
		_exit(write(fd, "hello", 5) == 5 ? 0 : 3);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the client's status is %d",
	              status);
	return fd;
}

static int connect_as_user(uid_t uid)
{
	return connect_as(uid, uid, NULL, 0);
}

static bool is_hung_up(void *argument)
{
	char byte;
	ssize_t count = recv(*(int *)argument, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return count == 0 || (count < 0 && errno == ECONNRESET);
}

/* Takes the client. */
static void expect_refused(int client)
{
	const unsigned int before = accepted;
	pump_until(is_hung_up, &client);
	ck_assert_uint_eq(accepted, before);
	close(client);
}

static int expect_accepted(int client)
{
	pump_until_count(&accepted, accepted + 1);
	ck_assert(!is_hung_up(&client));
	return client;
}

/* ---- allowed users and groups ---- */

TEST_CASE("allowed", set_up, tear_down);

TEST(without_a_rule_no_credentials_are_read)
{
	int client = expect_accepted(connect_to(ferry_listener_get_fd(listener)));
	ck_assert_uint_eq(watch.asked, 0);
	ck_assert_uint_eq(listener_stats().accepted, 1);
	close(client);
}

TEST(a_user_who_is_not_allowed_is_refused_before_a_byte_is_read)
{
	if (!is_root())
		return;
	ck_assert_int_eq(ferry_listener_allow_uid(listener, ALICE), 0);
	expect_refused(connect_as_user(BOB));
	expect_refused(connect_as_user(0)); /* root is not on the list */
	ck_assert_uint_eq(watch.reads, 0);
	ck_assert_uint_eq(listener_stats().refused_peers, 2);
	ck_assert_uint_eq(listener_stats().accepted, 0);
	ck_assert_uint_ge(refusals, 1);

	struct recorder recorder;
	int client = expect_accepted(connect_as_user(ALICE));
	recorder_attach(&recorder, transports[0], &recorder_protocol);
	pump_until_length(&recorder, 5);
	transports[0] = NULL;
	recorder_close(&recorder);
	close(client);
	ck_assert_uint_eq(listener_stats().accepted, 1);
}

TEST(several_users_may_be_allowed)
{
	if (!is_root())
		return;
	for (int round = 0; round < 2; round++) { /* the second call changes nothing */
		ck_assert_int_eq(ferry_listener_allow_uid(listener, ALICE), 0);
		ck_assert_int_eq(ferry_listener_allow_uid(listener, 0), 0);
	}
	close(expect_accepted(connect_as_user(ALICE)));
	close(expect_accepted(connect_as_user(0)));
	expect_refused(connect_as_user(BOB));
	ck_assert_int_eq(ferry_listener_allow_uid(listener, BOB), 0);
	close(expect_accepted(connect_as_user(BOB)));
}

TEST(a_group_is_the_effective_one_or_a_supplementary_one)
{
	static const gid_t both[] = {GUESTS, STAFF};
	if (!is_root())
		return;
	ck_assert_int_eq(ferry_listener_allow_gid(listener, STAFF), 0);
	close(expect_accepted(connect_as(ALICE, STAFF, NULL, 0)));
	close(expect_accepted(connect_as(ALICE, ALICE, both, 2)));
	expect_refused(connect_as(ALICE, ALICE, both, 1));
	expect_refused(connect_as(ALICE, ALICE, NULL, 0));
	expect_refused(connect_as(STAFF, ALICE, NULL, 0)); /* the id of a user is not that of a group */
}

TEST(of_many_groups_the_last_one_counts)
{
	gid_t groups[GROUPS];
	if (!is_root())
		return;
	for (gid_t i = 0; i < GROUPS; i++)
		groups[i] = 20000 + i;
	ck_assert_int_eq(ferry_listener_allow_gid(listener, 20000 + GROUPS - 1), 0);
	close(expect_accepted(connect_as(ALICE, ALICE, groups, GROUPS)));
	expect_refused(connect_as(ALICE, ALICE, groups, GROUPS - 1));
	ck_assert_uint_eq(listener_stats().refused_peers, 1);
}

TEST(a_user_or_a_group_is_enough)
{
	if (!is_root())
		return;
	ck_assert_int_eq(ferry_listener_allow_gid(listener, STAFF), 0);
	ck_assert_int_eq(ferry_listener_allow_uid(listener, ALICE), 0);
	close(expect_accepted(connect_as(BOB, STAFF, NULL, 0)));
	close(expect_accepted(connect_as(ALICE, GUESTS, NULL, 0)));
	expect_refused(connect_as(BOB, GUESTS, NULL, 0));
}

TEST(an_adopted_listener_has_rules_too)
{
	struct ferry_listener *own = listener;
	if (!is_root())
		return;
	ferry_listener_disable(own);
	ck_assert_int_eq(
	    ferry_listener_new_fd(&listener, base, ferry_listener_get_fd(own), on_accepted, NULL), 0);
	ck_assert_int_eq(ferry_listener_allow_uid(listener, ALICE), 0);
	ck_assert_int_eq(ferry_listener_set_max_connections_per_uid(listener, 1), 0);
	expect_refused(connect_as_user(BOB));
	close(expect_accepted(connect_as_user(ALICE)));
	expect_refused(connect_as_user(ALICE));
	ferry_listener_free(listener);
	listener = own;
}

/* ---- the limit ---- */

static void limit(unsigned int max)
{
	ck_assert_int_eq(ferry_listener_set_max_connections_per_uid(listener, max), 0);
}

static void free_transport(unsigned int index)
{
	ferry_transport_free(transports[index]);
	transports[index] = NULL;
}

TEST_CASE("limit", set_up, tear_down);

TEST(each_user_has_a_limit_of_its_own)
{
	int clients[4];
	if (!is_root())
		return;
	limit(2);
	for (int i = 0; i < 4; i++)
		clients[i] = expect_accepted(connect_as_user(i < 2 ? ALICE : BOB));
	expect_refused(connect_as_user(ALICE));
	expect_refused(connect_as_user(BOB));
	ck_assert_uint_eq(watch.reads, 0);
	ck_assert_uint_eq(listener_stats().refused_over_limit, 2);
	ck_assert_uint_eq(listener_stats().refused_peers, 0);

	/* The transport counts, not the client. */
	close(clients[0]);
	pump_turns(3);
	expect_refused(connect_as_user(ALICE));
	free_transport(0);
	clients[0] = expect_accepted(connect_as_user(ALICE));
	expect_refused(connect_as_user(ALICE));
	expect_refused(connect_as_user(BOB));
	for (int i = 0; i < 4; i++)
		close(clients[i]);
}

TEST(the_limit_may_change_and_end)
{
	int clients[6];
	limit(1);
	clients[0] = expect_accepted(connect_to(ferry_listener_get_fd(listener)));
	expect_refused(connect_to(ferry_listener_get_fd(listener)));
	limit(3);
	clients[1] = expect_accepted(connect_to(ferry_listener_get_fd(listener)));
	clients[2] = expect_accepted(connect_to(ferry_listener_get_fd(listener)));
	expect_refused(connect_to(ferry_listener_get_fd(listener)));
	limit(0);
	clients[3] = expect_accepted(connect_to(ferry_listener_get_fd(listener)));
	limit(2); /* existing connections stay, and all of them count */
	expect_refused(connect_to(ferry_listener_get_fd(listener)));
	for (unsigned int i = 0; i < 3; i++)
		free_transport(i);
	clients[4] = expect_accepted(connect_to(ferry_listener_get_fd(listener)));
	expect_refused(connect_to(ferry_listener_get_fd(listener)));
	for (int i = 0; i < 5; i++)
		close(clients[i]);
}

TEST(connections_before_the_limit_are_not_counted)
{
	limit(0);
	int first = expect_accepted(connect_to(ferry_listener_get_fd(listener)));
	limit(1);
	int second = expect_accepted(connect_to(ferry_listener_get_fd(listener)));
	expect_refused(connect_to(ferry_listener_get_fd(listener)));
	free_transport(0); /* was not counted */
	expect_refused(connect_to(ferry_listener_get_fd(listener)));
	free_transport(1);
	close(expect_accepted(connect_to(ferry_listener_get_fd(listener))));
	close(first);
	close(second);
}

TEST(a_transport_freed_in_the_callback_counts_no_more)
{
	free_at_once = true;
	limit(1);
	for (int i = 0; i < 10; i++)
		close(connect_to(ferry_listener_get_fd(listener)));
	pump_until_count(&accepted, 10);
	ck_assert_uint_eq(listener_stats().refused_over_limit, 0);
}

TEST(transports_may_outlive_the_listener)
{
	int clients[3];
	limit(3);
	for (int i = 0; i < 3; i++)
		clients[i] = expect_accepted(connect_to(ferry_listener_get_fd(listener)));
	free_transport(1);
	ferry_listener_free(listener);
	listener = NULL;
	free_transport(0);
	pump_turns(3);
	free_transport(2);
	for (int i = 0; i < 3; i++)
		close(clients[i]);
}

TEST(a_refused_user_is_not_counted)
{
	if (!is_root())
		return;
	limit(1);
	ck_assert_int_eq(ferry_listener_allow_gid(listener, STAFF), 0);
	expect_refused(connect_as(ALICE, GUESTS, NULL, 0));
	close(expect_accepted(connect_as(ALICE, STAFF, NULL, 0)));
	ck_assert_uint_eq(listener_stats().refused_peers, 1);
	ck_assert_uint_eq(listener_stats().refused_over_limit, 0);
}

TEST(a_quota_counts_thousands_of_users)
{
	enum { USERS = 5000, EACH = 3 };
	struct quota *quota = NULL;
	struct quota_share **shares = calloc((size_t)USERS * EACH, sizeof(struct quota_share *));
	struct quota_share *none = NULL;
	ck_assert_int_eq(quota_new(&quota), 0);
	for (size_t i = 0; i < (size_t)USERS * EACH; i++) /* as in containers: 65536 apart */
		ck_assert_int_eq(quota_take(quota, (uid_t)(i % USERS) * 65536 + 1000, EACH, &shares[i]), 0);
	for (uid_t uid = 0; uid < USERS; uid++)
		ck_assert_int_eq(quota_take(quota, uid * 65536 + 1000, EACH, &none), -EDQUOT);
	for (size_t i = 0; i < USERS; i++)
		quota_give_back(shares[i]);
	for (size_t i = 0; i < USERS; i++)
		ck_assert_int_eq(quota_take(quota, (uid_t)i * 65536 + 1000, EACH, &shares[i]), 0);
	ck_assert_int_eq(quota_take(quota, 1000, EACH, &none), -EDQUOT);
	quota_leave(quota);
	quota_leave(NULL);
	ck_assert_ptr_null(none);
	for (size_t i = 0; i < (size_t)USERS * EACH; i++)
		quota_give_back(shares[i]);
	free(shares);
}

/* ---- descriptors refused ---- */

static bool kernel_refuses_rights(void)
{
	const int one = 1;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int status = __real_setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &one, sizeof(one));
	close(fd);
	if (status != 0)
		skip("this kernel has no SO_PASSRIGHTS");
	return status == 0;
}

static ssize_t send_marked(int client)
{
	int fd = make_marked_fd(7);
	ssize_t sent = wire_send(client, "x", 1, &fd, 1);
	close(fd);
	return sent;
}

TEST_CASE("SO_PASSRIGHTS", set_up, tear_down);

TEST(descriptors_can_be_refused)
{
	if (!kernel_refuses_rights())
		return;
	ck_assert_int_eq(ferry_listener_set_pass_rights(listener, false), 0);
	int client = connect_to(ferry_listener_get_fd(listener));
	ck_assert_int_eq(send_marked(client), -EPERM); /* before it is accepted */
	client = expect_accepted(client);
	ck_assert_int_eq(send_marked(client), -EPERM);
	ck_assert_int_eq(wire_send(client, "x", 1, NULL, 0), 1);
	close(client);

	ck_assert_int_eq(ferry_listener_set_pass_rights(listener, true), 0);
	client = expect_accepted(connect_to(ferry_listener_get_fd(listener)));
	ck_assert_int_eq(send_marked(client), 1);
	close(client);
}

/* At connect(2) the kernel copies the listening socket's option to the connection. */
TEST(descriptors_of_earlier_connections_are_refused_too)
{
	struct recorder recorder;
	static const struct ferry_protocol no_fds = {.connection_made = recorder_connection_made,
	                                             .data_received = recorder_data_received,
	                                             .connection_lost = recorder_connection_lost};
	if (!kernel_refuses_rights())
		return;
	int client = connect_to(ferry_listener_get_fd(listener));
	ck_assert_int_eq(send_marked(client), 1);
	ck_assert_int_eq(ferry_listener_set_pass_rights(listener, false), 0);
	ck_assert_int_eq(send_marked(client), 1);
	client = expect_accepted(client);
	ck_assert_int_eq(send_marked(client), -EPERM);

	/* A descriptor that was sent before arrives, and is closed. */
	recorder_attach(&recorder, transports[0], &no_fds);
	pump_until_length(&recorder, 2);
	ck_assert_uint_eq(stats_of(recorder.transport).fds_unclaimed, 2);
	transports[0] = NULL;
	recorder_close(&recorder);
	close(client);

	/* The other way round. */
	client = connect_to(ferry_listener_get_fd(listener));
	ck_assert_int_eq(ferry_listener_set_pass_rights(listener, true), 0);
	ck_assert_int_eq(send_marked(client), -EPERM);
	client = expect_accepted(client);
	ck_assert_int_eq(send_marked(client), 1);
	close(client);
}

TEST(a_kernel_that_cannot_refuse_descriptors_is_an_error)
{
	watch.option = SO_PASSRIGHTS;
	watch.error = ENOPROTOOPT;
	ck_assert_int_eq(ferry_listener_set_pass_rights(listener, false), -ENOPROTOOPT);
	ck_assert_int_eq(ferry_listener_set_pass_rights(listener, true), 0);
	close(expect_accepted(connect_to(ferry_listener_get_fd(listener))));
}

/* ---- what can go wrong ---- */

TEST_CASE("faults", set_up, tear_down);

TEST(bad_arguments_are_refused)
{
	struct ferry_listener_stats stats;
	ck_assert_int_eq(ferry_listener_allow_uid(NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_listener_allow_uid(listener, (uid_t)-1), -EINVAL);
	ck_assert_int_eq(ferry_listener_allow_gid(NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_listener_allow_gid(listener, (gid_t)-1), -EINVAL);
	ck_assert_int_eq(ferry_listener_set_max_connections_per_uid(NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_listener_set_pass_rights(NULL, true), -EINVAL);
	ck_assert_int_eq(ferry_listener_get_stats(NULL, &stats), -EINVAL);
	ck_assert_int_eq(ferry_listener_get_stats(listener, NULL), -EINVAL);
	close(expect_accepted(connect_to(ferry_listener_get_fd(listener))));
}

TEST(a_tcp_listener_has_no_users)
{
	struct ferry_listener *tcp = NULL;
	int fd = listen_tcp();
	evutil_make_socket_nonblocking(fd);
	ck_assert_int_eq(ferry_listener_new_fd(&tcp, base, fd, on_accepted, NULL), 0);
	ck_assert_int_eq(ferry_listener_allow_uid(tcp, 0), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_listener_allow_gid(tcp, 0), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_listener_set_max_connections_per_uid(tcp, 1), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_listener_set_pass_rights(tcp, false), -EOPNOTSUPP);
	int client = connect_to(fd);
	pump_until_count(&accepted, 1);
	close(client);
	ferry_listener_free(tcp);
	close(fd);
}

/* A client is refused if the kernel does not return its user. */
LOOP_TEST(a_peer_without_credentials_is_refused, 5)
{
	static const struct {
		int option, error;
		bool is_refusal;
	} faults[] = {{SO_PEERCRED, ENOMEM, false},
	              {SO_PEERCRED, EIO, false},
	              {SO_PEERGROUPS, EIO, false},
	              {SO_PEERGROUPS, ENOPROTOOPT, true},
	              {SO_PEERGROUPS, ENODATA, false}};
	ck_assert_int_eq(ferry_listener_allow_gid(listener, STAFF), 0);
	limit(1);
	watch.option = faults[_i].option;
	watch.error = faults[_i].error;
	expect_refused(connect_to(ferry_listener_get_fd(listener)));
	ck_assert_uint_eq(listener_stats().refused_peers, faults[_i].is_refusal);
	ck_assert_uint_eq(listener_stats().dropped, !faults[_i].is_refusal);
	ck_assert_uint_eq(lines, 1);
	watch.error = 0;
	ck_assert_int_eq(ferry_listener_allow_uid(listener, geteuid()), 0);
	close(expect_accepted(connect_to(ferry_listener_get_fd(listener))));
}

TEST(an_option_that_cannot_be_set_drops_the_connection)
{
	if (!kernel_refuses_rights())
		return;
	limit(1);
	ck_assert_int_eq(ferry_listener_set_pass_rights(listener, false), 0);
	watch.option = SO_PASSRIGHTS;
	watch.error = EIO;
	expect_refused(connect_to(ferry_listener_get_fd(listener)));
	ck_assert_uint_eq(listener_stats().dropped, 1);
	watch.error = 0;
	close(expect_accepted(connect_to(ferry_listener_get_fd(listener)))); /* it was not counted */
}

TEST(a_flood_of_refusals_is_a_line_a_second)
{
	const time_t start = time(NULL);
	ck_assert_int_eq(ferry_listener_allow_uid(listener, geteuid() + 1), 0);
	for (int i = 0; i < 200; i++)
		expect_refused(connect_to(ferry_listener_get_fd(listener)));
	ck_assert_uint_eq(listener_stats().refused_peers, 200);
	ck_assert_uint_ge(lines, 1);
	ck_assert_uint_le(lines, 2 * (unsigned int)(time(NULL) - start + 2)); /* two with a number */
}

/* ---- memory ---- */

TEST(every_allocation_of_a_setter_may_fail)
{
	unsigned long failing = 0, count;
	int status;
	do {
		heap_watch(++failing);
		status = ferry_listener_allow_uid(listener, ALICE);
		if (status == 0)
			status = ferry_listener_allow_gid(listener, STAFF);
		if (status == 0)
			status = ferry_listener_set_max_connections_per_uid(listener, 3);
		count = heap_unwatch();
		ck_assert(status == 0 || status == -ENOMEM);
	} while (count >= failing);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_ge(failing, 4);
}

/* A connection that is not given to the callback is not counted, whichever call fails. */
TEST(every_allocation_of_an_accept_may_fail)
{
	unsigned long failing = 0, count;
	gid_t groups[GROUPS];
	if (!is_root())
		return;
	for (gid_t i = 0; i < GROUPS; i++)
		groups[i] = 20000 + i;
	free_at_once = true;
	ck_assert_int_eq(ferry_listener_allow_gid(listener, 20000 + GROUPS - 1), 0);
	limit(1);
	do {
		accepted = 0;
		int client = connect_as(ALICE, ALICE, groups, GROUPS);
		heap_watch(++failing);
		event_base_loop(base, EVLOOP_NONBLOCK);
		count = heap_unwatch();
		pump_until(is_hung_up, &client);
		close(client);
		ck_assert_int_eq(ferry_listener_disable(listener), 0);
		ck_assert_int_eq(ferry_listener_enable(listener), 0);
		ck_assert_uint_eq(listener_stats().refused_over_limit, 0);
	} while (count >= failing);
	ck_assert_uint_eq(accepted, 1);
	ck_assert_uint_ge(failing, 4);
	ck_assert_uint_ge(listener_stats().dropped, 3);
}

TEST(a_quota_grows_when_each_bucket_has_a_user)
{
	enum { BUCKETS = 16, USERS = 2 * BUCKETS };
	struct quota *quota = NULL;
	struct quota_share *shares[USERS];
	ck_assert_int_eq(quota_new(&quota), 0);
	for (uid_t uid = 0; uid < USERS; uid++) {
		heap_watch(0);
		int status = quota_take(quota, uid, 1, &shares[uid]);
		unsigned long allocations = heap_unwatch(); /* the share; and the buckets */
		ck_assert_int_eq(status, 0);
		ck_assert_uint_eq(allocations, uid == BUCKETS ? 2 : 1);
	}
	for (uid_t uid = 0; uid < USERS; uid++)
		quota_give_back(shares[uid]);
	quota_leave(quota);
}

TEST(a_quota_that_cannot_grow_goes_on)
{
	enum { USERS = 40 };
	struct quota *quota = NULL;
	struct quota_share *shares[USERS], *none;
	ck_assert_int_eq(quota_new(&quota), 0);
	heap_watch(1);
	int first = quota_take(quota, 0, 1, &none);
	heap_unwatch();
	ck_assert_int_eq(first, -ENOMEM);
	for (uid_t uid = 0; uid < USERS; uid++) {
		heap_watch(2); /* the first allocation is that of the share */
		int status = quota_take(quota, uid, 1, &shares[uid]);
		heap_unwatch();
		ck_assert_int_eq(status, 0);
	}
	for (uid_t uid = 0; uid < USERS; uid++)
		ck_assert_int_eq(quota_take(quota, uid, 1, &none), -EDQUOT);
	for (uid_t uid = 0; uid < USERS; uid++)
		quota_give_back(shares[uid]);
	quota_leave(quota);
}

BEFORE_ALL
{
	heap_take_over();
}
