/* Paths that are too long for a unix address, and processes that have no /proc. White-box: the test takes /proc away
 * from single system calls, and forbids others. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ferry/ferry.h"
#include "kernel/path_fd.h"
#include "listener_options.h"
#include "listening.h"
#include "recorder.h"

/* ---- the system calls, by the linker's --wrap ---- */

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the linker's names */
int __real_access(const char *path, int mode);
int __real_bind(int fd, const struct sockaddr *address, socklen_t length);
int __real_chmod(const char *path, mode_t mode);
int __real_connect(int fd, const struct sockaddr *address, socklen_t length);
int __real_fchdir(int fd);
int __real_fchmodat(int directory, const char *name, mode_t mode, int flags);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
long __real_syscall(long number, ...);
int __real_unshare(int flags);

int __wrap_access(const char *path, int mode);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_chmod(const char *path, mode_t mode);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_fchdir(int fd);
int __wrap_fchmodat(int directory, const char *name, mode_t mode, int flags);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument);
long __wrap_syscall(long number, ...);
int __wrap_unshare(int flags);

static struct {
	bool no_proc;
	int fchdir_error;
	int fchmodat_error;
	int fchmodat2_error;
	int pthread_create_error;
	int unshare_error;
	unsigned int unshare_calls;
} sandbox;

static bool hides(const char *path)
{
	errno = ENOENT;
	return sandbox.no_proc && strncmp(path, "/proc/", 6) == 0;
}

static bool hides_address(const struct sockaddr *address)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)address;
	return address->sa_family == AF_UNIX && hides(un->sun_path);
}

int __wrap_access(const char *path, int mode)
{
	return hides(path) ? -1 : __real_access(path, mode);
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	return hides_address(address) ? -1 : __real_bind(fd, address, length);
}

int __wrap_chmod(const char *path, mode_t mode)
{
	return hides(path) ? -1 : __real_chmod(path, mode);
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length)
{
	return hides_address(address) ? -1 : __real_connect(fd, address, length);
}

int __wrap_fchdir(int fd)
{
	errno = sandbox.fchdir_error;
	return errno != 0 ? -1 : __real_fchdir(fd);
}

int __wrap_fchmodat(int directory, const char *name, mode_t mode, int flags)
{
	errno = sandbox.fchmodat_error;
	return errno != 0 ? -1 : __real_fchmodat(directory, name, mode, flags);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*start)(void *), void *argument)
{
	if (sandbox.pthread_create_error != 0)
		return sandbox.pthread_create_error;
	return __real_pthread_create(thread, attributes, start, argument);
}

/* No other call of syscall(2) is made here. */
long __wrap_syscall(long number, ...)
{
	va_list arguments;
	va_start(arguments, number);
	const int fd = va_arg(arguments, int);
	const char *name = va_arg(arguments, const char *);
	const mode_t mode = va_arg(arguments, mode_t);
	const int flags = va_arg(arguments, int);
	va_end(arguments);
	if (sandbox.fchmodat2_error == 0)
		return __real_syscall(number, fd, name, mode, flags);
	errno = sandbox.fchmodat2_error;
	return -1;
}

int __wrap_unshare(int flags)
{
	sandbox.unshare_calls++;
	if (sandbox.unshare_error == 0)
		return __real_unshare(flags);
	errno = sandbox.unshare_error;
	return -1;
}

/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

/* ---- a directory whose path is longer than an address ---- */

enum { NAME_MAX_LENGTH = 107, DEEP = 3 };

static char deep[600], long_path[800];

/* The path of `name` in the deepest directory. */
static const char *deep_path(const char *name)
{
	snprintf(long_path, sizeof(long_path), "%s/%s", deep, name);
	return long_path;
}

static void set_up(void)
{
	memset(&sandbox, 0, sizeof(sandbox));
	make_directory();
	snprintf(deep, sizeof(deep), "%s", socket_path);
	*strrchr(deep, '/') = '\0';
	for (int i = 0; i < DEEP; i++) {
		snprintf(deep + strlen(deep), sizeof(deep) - strlen(deep), "/%060d", i);
		ck_assert_int_eq(mkdir(deep, 0700), 0);
	}
	deep_path("socket");
}

static void tear_down(void)
{
	for (int i = 0; i < DEEP; i++) {
		ck_assert_int_eq(rmdir(deep), 0);
		*strrchr(deep, '/') = '\0';
	}
	remove_directory();
}

static unsigned int accepted;

static void on_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                        void *context)
{
	(void)listener, (void)context;
	accepted++;
	ferry_transport_free(transport);
}

static unsigned int connected;

static void on_connected(struct ferry_connector *connector, int status,
                         struct ferry_transport *transport, void *context)
{
	(void)connector, (void)context;
	ck_assert_int_eq(status, 0);
	connected++;
	ferry_transport_free(transport);
}

static int try_to_listen(struct ferry_listener **listener, const char *path,
                         const struct ferry_listener_options *options)
{
	*listener = NULL;
	return ferry_listener_new_unix(listener, base, path, options, on_accepted, NULL);
}

static int try_to_connect(const char *path)
{
	return ferry_connector_new_unix(NULL, base, path, NULL, on_connected, NULL);
}

static void expect_connection(const char *path)
{
	accepted = connected = 0;
	ck_assert_int_eq(try_to_connect(path), 0);
	pump_until_count(&accepted, 1);
	pump_until_count(&connected, 1);
}

static void expect_mode(const char *path, mode_t mode)
{
	struct stat status;
	ck_assert_int_eq(lstat(path, &status), 0);
	ck_assert_uint_eq(status.st_mode & 07777, mode);
}

/* Listens, is reached, and leaves nothing; twice, the second time over the stale files of a dead owner. */
static void expect_place(const char *path)
{
	struct ferry_listener *listener;
	char before[64], now[64];

	ck_assert_ptr_nonnull(getcwd(before, sizeof(before)));
	for (int round = 0; round < 2; round++) {
		ck_assert_int_eq(try_to_listen(&listener, path, with_lock()), 0);
		expect_mode(path, 0600);
		expect_connection(path);
		struct ferry_listener *second;
		ck_assert_int_eq(try_to_listen(&second, path, NULL), -EADDRINUSE);
		ck_assert_int_eq(try_to_listen(&second, path, with_lock()), -EADDRINUSE);
		if (round == 0) {
			/* The socket and its file stay, as after SIGKILL. */
			char kept[820];
			snprintf(kept, sizeof(kept), "%s.kept", path);
			ck_assert_int_eq(link(path, kept), 0);
			ferry_listener_free(listener);
			ck_assert_int_eq(rename(kept, path), 0);
			ck_assert_int_eq(try_to_connect(path), -ECONNREFUSED);
		} else {
			ferry_listener_free(listener);
		}
	}
	ck_assert(!path_exists(path));
	ck_assert_ptr_nonnull(getcwd(now, sizeof(now)));
	ck_assert_str_eq(before, now);
}

TEST_CASE("long paths", set_up, tear_down);

TEST(a_path_of_any_length_is_a_place_to_listen_and_to_connect)
{
	ck_assert_uint_gt(strlen(long_path), NAME_MAX_LENGTH);
	expect_place(long_path);
	ck_assert_uint_eq(sandbox.unshare_calls, 0);
	ck_assert_int_eq(try_to_connect(long_path), -ENOENT);
}

/* With /proc/self/fd/N/ in front of it, the name is too long. */
TEST(the_last_component_may_be_as_long_as_an_address)
{
	char name[NAME_MAX_LENGTH + 2];

	memset(name, 'n', sizeof(name));
	name[NAME_MAX_LENGTH] = '\0';
	expect_place(deep_path(name));
	ck_assert_uint_gt(sandbox.unshare_calls, 0);

	struct ferry_listener *listener;
	name[NAME_MAX_LENGTH] = 'n';
	name[NAME_MAX_LENGTH + 1] = '\0';
	ck_assert_int_eq(try_to_listen(&listener, deep_path(name), NULL), -ENAMETOOLONG);
	ck_assert_int_eq(try_to_connect(long_path), -ENAMETOOLONG);
}

TEST(a_long_path_that_leads_nowhere_is_an_error)
{
	static char longer[6000];
	struct ferry_listener *listener;

	ck_assert_int_eq(try_to_listen(&listener, deep_path("missing/socket"), NULL), -ENOENT);
	ck_assert_int_eq(try_to_connect(long_path), -ENOENT);
	ck_assert_int_eq(try_to_listen(&listener, deep_path(""), NULL), -EISDIR);
	ck_assert_int_eq(try_to_connect(long_path), -EISDIR);
	memset(longer, '/', sizeof(longer) - 1);
	ck_assert_int_eq(try_to_listen(&listener, longer, NULL), -ENAMETOOLONG);
	ck_assert_int_eq(try_to_connect(longer), -ENAMETOOLONG);
	longer[0] = '@';
	ck_assert_int_eq(try_to_listen(&listener, longer, NULL), -ENAMETOOLONG);
	ck_assert_int_eq(try_to_connect(longer), -ENAMETOOLONG);
}

/* The name in the directory is not one in the abstract namespace. */
TEST(a_last_component_may_begin_with_an_at_sign)
{
	sandbox.no_proc = true;
	expect_place(deep_path("@socket"));
}

TEST(the_mode_of_a_long_path_is_right_whatever_the_umask)
{
	struct ferry_listener *listener;
	const mode_t before = umask(077);

	for (int i = 0; i < 2; i++) {
		sandbox.no_proc = i == 1;
		ck_assert_int_eq(try_to_listen(&listener, long_path, with_mode(0666)), 0);
		expect_mode(long_path, 0666);
		ferry_listener_free(listener);
	}
	umask(before);
}

/* The number in the address is that of a descriptor of the process that bound it. */
TEST(a_set_does_not_look_for_the_file_by_a_descriptor_of_another_process)
{
	struct ferry_socket_set *set;
	struct ferry_listener *listener;

	ck_assert_int_eq(ferry_socket_set_new(&set), 0);
	ck_assert_int_eq(try_to_listen(&listener, long_path, NULL), 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "a", ferry_listener_get_fd(listener), FERRY_FD_DUP),
	                 0);
	ck_assert_int_eq(ferry_socket_set_own_path(set, "a"), -ENOENT);
	/* With its listener it has the file, and needs no address for that. */
	ck_assert_int_eq(ferry_socket_set_add_listener(set, "b", listener), 0);
	ferry_listener_free(listener);
	ck_assert(path_exists(long_path));
	ferry_socket_set_free(set);
	ck_assert(!path_exists(long_path));
}

TEST_CASE("without /proc", set_up, tear_down);

TEST(a_long_path_works_without_proc)
{
	sandbox.no_proc = true;
	expect_place(long_path);
	ck_assert_uint_gt(sandbox.unshare_calls, 0);
	ck_assert_int_eq(try_to_connect(long_path), -ENOENT);
}

TEST(a_long_path_needs_either_proc_or_unshare)
{
	static const int errors[] = {EPERM, ENOSYS};
	struct ferry_listener *listener;

	for (int i = 0; i < COUNT(errors); i++) {
		sandbox.unshare_error = errors[i];
		sandbox.no_proc = false;
		expect_place(long_path);
		sandbox.no_proc = true;
		ck_assert_int_eq(try_to_listen(&listener, long_path, with_lock()), -EOPNOTSUPP);
		ck_assert_int_eq(try_to_connect(long_path), -EOPNOTSUPP);
		ck_assert(!path_exists(long_path));
		expect_place(socket_path);
	}
}

/* Linux before 6.6 has no fchmodat2(2), and some sandboxes forbid it: then the name leads to the file, if nobody
 * else may change the directory. */
TEST(bits_that_the_umask_removes_are_added_without_proc)
{
	static const int errors[] = {0, ENOSYS, EPERM};
	struct ferry_listener *listener;
	const mode_t before = umask(077);

	sandbox.no_proc = true;
	for (int i = 0; i < COUNT(errors); i++) {
		sandbox.fchmodat2_error = errors[i];
		set_directory_mode(i == 2 ? 01777 : 0755);
		ck_assert_int_eq(try_to_listen(&listener, socket_path, with_mode(0660)), 0);
		expect_mode(socket_path, 0660);
		ferry_listener_free(listener);
	}
	umask(before);
}

TEST(a_file_that_another_user_could_replace_gets_no_mode_by_its_name)
{
	struct ferry_listener *listener;
	const mode_t before = umask(077);

	sandbox.no_proc = true;
	sandbox.fchmodat2_error = ENOSYS;
	set_directory_mode(0777);
	ck_assert_int_eq(try_to_listen(&listener, socket_path, with_mode(0660)), -EOPNOTSUPP);
	ck_assert(!path_exists(socket_path));
	ck_assert_int_eq(try_to_listen(&listener, socket_path, with_mode(0600)), 0);
	ferry_listener_free(listener);
	umask(before);
	if (!is_root())
		return;
	/* The new owner could replace it, in a sticky directory too. */
	set_directory_mode(01777);
	ck_assert_int_eq(try_to_listen(&listener, socket_path, with_owner(12001, 12001, 0660)),
	                 -EOPNOTSUPP);
	ck_assert(!path_exists(socket_path));
	set_directory_mode(0755);
	ck_assert_int_eq(try_to_listen(&listener, socket_path, with_owner(12001, 12001, 0660)), 0);
	expect_mode(socket_path, 0660);
	ferry_listener_free(listener);
}

TEST(an_error_of_fchmodat2_is_the_calls)
{
	struct ferry_listener *listener;
	const mode_t before = umask(077);

	sandbox.no_proc = true;
	sandbox.fchmodat2_error = EROFS;
	ck_assert_int_eq(try_to_listen(&listener, socket_path, with_mode(0660)), -EROFS);
	ck_assert(!path_exists(socket_path));
	umask(before);
}

TEST(what_fails_without_proc_leaves_no_file)
{
	struct ferry_listener *listener;
	const mode_t before = umask(077);

	sandbox.no_proc = true;
	sandbox.fchmodat2_error = ENOSYS;
	sandbox.fchmodat_error = EROFS;
	ck_assert_int_eq(try_to_listen(&listener, socket_path, with_mode(0660)), -EROFS);
	ck_assert(!path_exists(socket_path));
	sandbox.fchdir_error = EACCES;
	ck_assert_int_eq(try_to_listen(&listener, long_path, NULL), -EACCES);
	sandbox.unshare_error = ENOMEM;
	ck_assert_int_eq(try_to_listen(&listener, long_path, NULL), -ENOMEM);
	sandbox.pthread_create_error = EAGAIN;
	ck_assert_int_eq(try_to_listen(&listener, long_path, NULL), -ENOMEM);
	ck_assert_int_eq(try_to_connect(long_path), -ENOMEM);
	umask(before);
}

/* Not the simulation: a real root directory without /proc. */
static int listen_in_chroot(void)
{
	struct ferry_listener *listener;
	struct stat status;
	char path[sizeof(deep)];

	snprintf(path, sizeof(path), "%s", deep);
	for (int i = 0; i < DEEP; i++)
		*strrchr(path, '/') = '\0';
	const size_t root = strlen(path);
	umask(077);
	if (chroot(path) != 0 || chdir("/") != 0)
		return __LINE__;
	const char *const paths[] = {"/socket", long_path + root};
	for (int i = 0; i < 2; i++) {
		if (try_to_listen(&listener, paths[i], with_mode(0666)) != 0)
			return __LINE__;
		if (lstat(paths[i], &status) != 0 || (status.st_mode & 07777) != 0666)
			return __LINE__;
		if (try_to_connect(paths[i]) != 0)
			return __LINE__;
		ferry_listener_free(listener);
		if (lstat(paths[i], &status) == 0)
			return __LINE__;
	}
	return 0;
}

TEST(all_modes_and_paths_work_in_a_chroot)
{
	int status;
	if (!is_root())
		return;
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(listen_in_chroot() & 0xff);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
}
