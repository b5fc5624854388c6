/* The options of a unix listener: versions of the structure, the file's owner and group, and a listener that
 * accepts nothing. White-box: the test watches the system calls that make the socket file, and lets one fail. */

#include "test.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ferry/ferry.h"
#include "listener_options.h"
#include "listening.h"

/* ---- the system calls, by the linker's --wrap ---- */

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the linker's names */
int __real_bind(int fd, const struct sockaddr *address, socklen_t length);
int __real_fchownat(int directory, const char *name, uid_t owner, gid_t group, int flags);
int __real_listen(int fd, int backlog);

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_fchownat(int directory, const char *name, uid_t owner, gid_t group, int flags);
int __wrap_listen(int fd, int backlog);

static struct {
	void (*after_bind)(void);
	void (*after_fchownat)(void);
	void (*before_listen)(void);
	int fchownat_error;
	unsigned int fchownat_calls;
} watch;

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	int result = __real_bind(fd, address, length);
	if (result == 0 && watch.after_bind != NULL)
		watch.after_bind();
	return result;
}

int __wrap_fchownat(int directory, const char *name, uid_t owner, gid_t group, int flags)
{
	watch.fchownat_calls++;
	if (watch.fchownat_error != 0) {
		errno = watch.fchownat_error;
		return -1;
	}
	int result = __real_fchownat(directory, name, owner, group, flags);
	if (result == 0 && watch.after_fchownat != NULL)
		watch.after_fchownat();
	return result;
}

int __wrap_listen(int fd, int backlog)
{
	if (watch.before_listen != NULL)
		watch.before_listen();
	return __real_listen(fd, backlog);
}

/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

/* ---- a directory that other users can search ---- */

enum { ALICE = 12001, BOB, STAFF = 13001, GUESTS };

static const gid_t staff = STAFF;
static const uid_t same_uid = (uid_t)-1;
static const gid_t same_gid = (gid_t)-1;
static char lock_path[160];

static void set_up(void)
{
	memset(&watch, 0, sizeof(watch));
	make_directory();
	set_directory_mode(0755);
	snprintf(lock_path, sizeof(lock_path), "%s.lock", socket_path);
}

static void on_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                        void *context)
{
	(void)listener;
	ferry_transport_free(transport);
	if (context != NULL)
		++*(unsigned int *)context;
}

static int try_to_listen(struct ferry_listener **listener,
                         const struct ferry_listener_options *options)
{
	*listener = NULL;
	const int status =
	    ferry_listener_new_unix(listener, base, socket_path, options, on_accepted, NULL);
	ck_assert_int_eq(status == 0, *listener != NULL);
	return status;
}

static void expect_success(const struct ferry_listener_options *options)
{
	struct ferry_listener *listener;
	ck_assert_int_eq(try_to_listen(&listener, options), 0);
	ferry_listener_free(listener);
	ck_assert(!path_exists(socket_path));
}

static void expect_failure(const struct ferry_listener_options *options, int expected)
{
	struct ferry_listener *listener;
	ck_assert_int_eq(try_to_listen(&listener, options), expected);
	ck_assert(!path_exists(socket_path));
	ck_assert(!path_exists(lock_path));
}

static void expect_file(uid_t owner, gid_t group, mode_t mode)
{
	struct stat status;
	ck_assert_int_eq(lstat(socket_path, &status), 0);
	ck_assert(S_ISSOCK(status.st_mode));
	ck_assert_uint_eq(status.st_uid, owner);
	ck_assert_uint_eq(status.st_gid, group);
	ck_assert_uint_eq(status.st_mode & 07777, mode);
}

/* ---- versions of the structure ---- */

/* The options of a program that was compiled with a later ferry. */
struct later_options {
	struct ferry_listener_options known;
	unsigned char unknown[16];
};

TEST_CASE("versions", set_up, remove_directory);

TEST(options_of_a_later_version_work_while_the_new_ones_are_unused)
{
	struct later_options options;

	memset(&options, 0, sizeof(options));
	options.known = *with_mode(0640);
	options.known.size = sizeof(options);
	expect_success(&options.known);
	for (size_t i = 0; i < sizeof(options.unknown); i++) {
		options.unknown[i] = 1;
		expect_failure(&options.known, -EINVAL);
		options.unknown[i] = 0;
	}
}

TEST(a_size_that_no_version_has_is_refused)
{
	static const size_t sizes[] = {0, 1, sizeof(struct ferry_listener_options) - 1, 65536,
	                               (size_t)-1};
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		options.size = sizes[i];
		expect_failure(&options, -EINVAL);
	}
}

TEST(no_options_are_the_defaults)
{
	static const struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;
	const struct ferry_listener_options *const both[] = {NULL, &options};

	for (size_t i = 0; i < 2; i++) {
		struct ferry_listener *listener;
		ck_assert_int_eq(try_to_listen(&listener, both[i]), 0);
		expect_file(geteuid(), getegid(), 0600);
		ck_assert(!path_exists(lock_path));
		ferry_listener_free(listener);
	}
	ck_assert_uint_eq(watch.fchownat_calls, 0);
}

/* ---- owner and group ---- */

static void look_after_bind(void)
{
	expect_file(geteuid(), getegid(), 0);
}

static void look_after_fchownat(void)
{
	expect_file(ALICE, STAFF, 0);
}

static void look_before_listen(void)
{
	expect_file(ALICE, STAFF, 0660);
}

TEST_CASE("owner and group", set_up, remove_directory);

TEST(a_file_that_changes_hands_is_closed_to_everybody_until_then)
{
	static const mode_t umasks[] = {0, 022, 077, 0777};
	if (!is_root())
		return;
	watch.after_bind = look_after_bind;
	watch.after_fchownat = look_after_fchownat;
	watch.before_listen = look_before_listen;
	for (size_t i = 0; i < sizeof(umasks) / sizeof(umasks[0]); i++) {
		mode_t before = umask(umasks[i]);
		expect_success(with_owner(ALICE, STAFF, 0660));
		umask(before);
	}
	ck_assert_uint_eq(watch.fchownat_calls, 4);
}

TEST(owner_and_group_are_changed_each_by_itself)
{
	struct ferry_listener *listener;
	if (!is_root())
		return;
	ck_assert_int_eq(try_to_listen(&listener, with_owner(ALICE, same_gid, 0)), 0);
	expect_file(ALICE, getegid(), 0600);
	ferry_listener_free(listener);
	ck_assert_int_eq(try_to_listen(&listener, with_owner(same_uid, STAFF, 0620)), 0);
	expect_file(geteuid(), STAFF, 0620);
	ferry_listener_free(listener);
}

/* Runs `call` in a child of that user. Returns its result, which is not negative. */
static int as_user(uid_t uid, gid_t gid, const gid_t *groups, size_t count, int (*call)(void))
{
	int status;
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		if (setgroups(count, groups) != 0 || setresgid(gid, gid, gid) != 0 ||
		    setresuid(uid, uid, uid) != 0)
			_exit(255);
		_exit(call());
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int connect_here(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
}

TEST(only_the_owner_and_the_group_can_connect)
{
	struct ferry_listener *listener;
	if (!is_root())
		return;
	ck_assert_int_eq(try_to_listen(&listener, with_owner(ALICE, same_gid, 0600)), 0);
	ck_assert_int_eq(as_user(ALICE, ALICE, NULL, 0, connect_here), 0);
	ck_assert_int_eq(as_user(BOB, BOB, &staff, 1, connect_here), EACCES);
	ferry_listener_free(listener);

	ck_assert_int_eq(try_to_listen(&listener, with_owner(same_uid, STAFF, 0660)), 0);
	ck_assert_int_eq(as_user(ALICE, STAFF, NULL, 0, connect_here), 0);
	ck_assert_int_eq(as_user(BOB, BOB, &staff, 1, connect_here), 0);
	ck_assert_int_eq(as_user(BOB, BOB, NULL, 0, connect_here), EACCES);
	ferry_listener_free(listener);
}

static const struct ferry_listener_options *options_of_child;

static int listen_here(void)
{
	struct ferry_listener *listener = NULL;
	const int status =
	    ferry_listener_new_unix(&listener, base, socket_path, options_of_child, on_accepted, NULL);
	ferry_listener_free(listener);
	return -status;
}

TEST(without_privileges_the_file_can_be_given_to_a_group_of_ones_own)
{
	if (!is_root())
		return;
	set_directory_mode(0777);
	options_of_child = with_owner(same_uid, STAFF, 0660);
	ck_assert_int_eq(as_user(ALICE, ALICE, &staff, 1, listen_here), 0);
	ck_assert_int_eq(as_user(ALICE, ALICE, NULL, 0, listen_here), EPERM);
	ck_assert(!path_exists(socket_path));
	options_of_child = with_owner(BOB, same_gid, 0660);
	ck_assert_int_eq(as_user(ALICE, ALICE, NULL, 0, listen_here), EPERM);
	ck_assert(!path_exists(socket_path));
	options_of_child = with_owner(ALICE, ALICE, 0660);
	ck_assert_int_eq(as_user(ALICE, ALICE, NULL, 0, listen_here), 0);
	set_directory_mode(0755);
}

TEST(an_owner_that_cannot_be_set_leaves_no_file)
{
	static const int errors[] = {EPERM, EINVAL, EROFS, EIO};

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		watch.fchownat_error = errors[i];
		expect_failure(with_owner(ALICE, STAFF, 0660), -errors[i]);
	}
}

static char victim_path[160];

static void replace_by_another_socket(void)
{
	ck_assert_int_eq(rename(victim_path, socket_path), 0);
}

/* A process that may write to the directory puts a socket of another user there. */
TEST(a_file_that_was_swapped_in_keeps_its_owner)
{
	struct ferry_listener *listener;
	if (!is_root())
		return;
	snprintf(victim_path, sizeof(victim_path), "%s.victim", socket_path);
	int victim = listen_unix(victim_path);
	ck_assert_int_eq(chmod(victim_path, 0600), 0);
	ck_assert_int_eq(chown(victim_path, BOB, BOB), 0);
	watch.after_bind = replace_by_another_socket;
	ck_assert_int_eq(try_to_listen(&listener, with_owner(ALICE, STAFF, 0666)), -EPERM);
	ck_assert_uint_eq(watch.fchownat_calls, 0);
	close(victim);
}

static struct ferry_listener_options locked_for(uid_t owner)
{
	struct ferry_listener_options options = *with_owner(owner, same_gid, 0600);
	options.lock = true;
	return options;
}

/* A socket file that belongs to `user`, as a killed owner of the lock leaves it. */
static void leave_stale_socket_of(uid_t user)
{
	close(listen_unix(socket_path));
	ck_assert_int_eq(chown(socket_path, user, user), 0);
}

TEST(with_the_lock_the_stale_socket_of_the_owner_is_replaced)
{
	const struct ferry_listener_options of_alice = locked_for(ALICE);
	if (!is_root())
		return;
	leave_stale_socket_of(ALICE);
	expect_success(&of_alice);
	leave_stale_socket_of(geteuid());
	expect_success(&of_alice);

	/* Root replaces that of any user, and others none but their own. */
	leave_stale_socket_of(BOB);
	expect_success(&of_alice);
	set_directory_mode(0777);
	options_of_child = &of_alice;
	leave_stale_socket_of(BOB);
	ck_assert_int_eq(as_user(ALICE, ALICE, NULL, 0, listen_here), EADDRINUSE);
	ck_assert_int_eq(unlink(socket_path), 0);
	leave_stale_socket_of(ALICE);
	ck_assert_int_eq(as_user(ALICE, ALICE, NULL, 0, listen_here), 0);
	ck_assert(!path_exists(lock_path));
	set_directory_mode(0755);
}

TEST(the_live_socket_of_the_owner_is_left)
{
	struct ferry_listener *listener;
	const struct ferry_listener_options of_alice = locked_for(ALICE);
	if (!is_root())
		return;
	int fd = listen_unix(socket_path);
	ck_assert_int_eq(chown(socket_path, ALICE, ALICE), 0);
	ck_assert_int_eq(try_to_listen(&listener, &of_alice), -EADDRINUSE);
	int accepted =
	    accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); /* by the listener, to find out */
	ck_assert_int_ge(accepted, 0);
	close(accepted);
	ck_assert(is_reachable(fd));
	close(fd);
	ck_assert_int_eq(unlink(socket_path), 0);
}

TEST(an_abstract_name_has_no_owner)
{
	char name[sizeof(socket_path) + 2];
	struct ferry_listener *listener = NULL;
	const struct ferry_listener_options options = locked_for(ALICE);

	snprintf(name, sizeof(name), "@%s", socket_path);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, name, &options, on_accepted, NULL),
	                 0);
	ck_assert_uint_eq(watch.fchownat_calls, 0);
	ferry_listener_free(listener);
}

/* ---- a listener that accepts nothing ---- */

static struct ferry_listener *own_without_accepting(void)
{
	struct ferry_listener *listener;
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, socket_path, with_lock(), NULL, NULL),
	                 0);
	ck_assert(path_exists(socket_path));
	ck_assert(path_exists(lock_path));
	return listener;
}

TEST_CASE("without a callback", set_up, remove_directory);

TEST(without_a_callback_connections_are_left_to_others)
{
	struct ferry_listener *owner = own_without_accepting(), *other = NULL;
	struct ferry_listener_stats stats;
	unsigned int accepted = 0;
	int client = connect_to(ferry_listener_get_fd(owner));

	ck_assert_int_ge(client, 0);
	pump_turns(3);
	ck_assert_int_eq(ferry_listener_get_stats(owner, &stats), 0);
	ck_assert_uint_eq(stats.accepted, 0);
	ck_assert_int_eq(
	    ferry_listener_new_fd(&other, base, ferry_listener_get_fd(owner), on_accepted, &accepted),
	    0);
	pump_until_count(&accepted, 1);
	ferry_listener_free(other);
	ck_assert(is_reachable(ferry_listener_get_fd(owner)));
	ferry_listener_free(owner);
	ck_assert(!path_exists(socket_path));
	ck_assert(!path_exists(lock_path));
	close(client);
}

TEST(without_a_callback_it_decides_nothing_about_connections)
{
	struct ferry_listener *listener = own_without_accepting();

	ck_assert_int_eq(ferry_listener_enable(listener), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_listener_disable(listener), 0);
	ck_assert_int_eq(ferry_listener_allow_uid(listener, ALICE), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_listener_allow_gid(listener, STAFF), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_listener_set_max_connections_per_uid(listener, 1), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_listener_set_pass_rights(listener, true), 0);
	ferry_listener_free(listener);
}

TEST(without_a_callback_it_can_be_added_to_a_set)
{
	struct ferry_listener *listener = own_without_accepting();
	struct ferry_socket_set *set = NULL;

	ck_assert_int_eq(ferry_socket_set_new(&set), 0);
	ck_assert_int_eq(ferry_socket_set_add_listener(set, "control", listener), 0);
	ferry_listener_free(listener);
	ck_assert(is_reachable(ferry_socket_set_find(set, "control")));
	ferry_socket_set_free(set);
	ck_assert(!path_exists(socket_path));
	ck_assert(!path_exists(lock_path));
}
