/* The lock beside a unix socket's path: a listener replaces stale sockets and leaves everything else, even if
 * another process interferes at any moment; and owners that die. White-box: before each system call the test can
 * attack, or let the call fail. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ferry/listener.h"

#include "children.h"
#include "listener_options.h"
#include "listening.h"
#include "recorder.h"
#include "test.h"

/* ---- the system calls, by the linker's --wrap ---- */

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the linker's names */
int __real_bind(int fd, const struct sockaddr *address, socklen_t length);
int __real_connect(int fd, const struct sockaddr *address, socklen_t length);
int __real_fchmod(int fd, mode_t mode);
int __real_flock(int fd, int operation);
int __real_fstat(int fd, struct stat *status);
int __real_fstatat(int directory, const char *name, struct stat *status, int flags);
int __real_ftruncate(int fd, off_t length);
int __real_listen(int fd, int backlog);
int __real_openat(int directory, const char *name, int flags, ...);
ssize_t __real_pwrite(int fd, const void *data, size_t length, off_t offset);
int __real_socket(int domain, int type, int protocol);
int __real_unlinkat(int directory, const char *name, int flags);

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_flock(int fd, int operation);
int __wrap_fstat(int fd, struct stat *status);
int __wrap_fstatat(int directory, const char *name, struct stat *status, int flags);
int __wrap_ftruncate(int fd, off_t length);
int __wrap_listen(int fd, int backlog);
int __wrap_openat(int directory, const char *name, int flags, ...);
ssize_t __wrap_pwrite(int fd, const void *data, size_t length, off_t offset);
int __wrap_socket(int domain, int type, int protocol);
int __wrap_unlinkat(int directory, const char *name, int flags);

static struct {
	bool armed;
	unsigned int step;    /* calls since it was armed */
	unsigned int at;      /* the call that is disturbed; 0: none */
	void (*attack)(void); /* before it */
	int error;            /* in its place */
	bool before_unlink;   /* the call was unlinkat(2) */
	bool after_bind;      /* the call was the first after bind(2) */
	unsigned int bound;   /* the step of bind(2) */
	void (*before_flock)(void);
	unsigned int flocks;
} watch;

/* Whether the call fails. */
static bool disturb(bool is_unlink)
{
	if (!watch.armed || ++watch.step != watch.at)
		return false;
	watch.before_unlink = is_unlink;
	watch.after_bind = watch.bound != 0 && watch.step == watch.bound + 1;
	watch.armed = false;
	if (watch.attack != NULL)
		watch.attack();
	watch.armed = true;
	errno = watch.error;
	return watch.error != 0;
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	if (disturb(false))
		return -1;
	watch.bound = watch.step;
	return __real_bind(fd, address, length);
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length)
{
	return disturb(false) ? -1 : __real_connect(fd, address, length);
}

int __wrap_fchmod(int fd, mode_t mode)
{
	return disturb(false) ? -1 : __real_fchmod(fd, mode);
}

int __wrap_flock(int fd, int operation)
{
	watch.flocks++;
	if (watch.before_flock != NULL)
		watch.before_flock();
	return disturb(false) ? -1 : __real_flock(fd, operation);
}

int __wrap_fstat(int fd, struct stat *status)
{
	return disturb(false) ? -1 : __real_fstat(fd, status);
}

int __wrap_fstatat(int directory, const char *name, struct stat *status, int flags)
{
	return disturb(false) ? -1 : __real_fstatat(directory, name, status, flags);
}

int __wrap_ftruncate(int fd, off_t length)
{
	return disturb(false) ? -1 : __real_ftruncate(fd, length);
}

int __wrap_listen(int fd, int backlog)
{
	return disturb(false) ? -1 : __real_listen(fd, backlog);
}

int __wrap_openat(int directory, const char *name, int flags, ...)
{
	va_list arguments;
	va_start(arguments, flags);
	const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
	va_end(arguments);
	return disturb(false) ? -1 : __real_openat(directory, name, flags, mode);
}

ssize_t __wrap_pwrite(int fd, const void *data, size_t length, off_t offset)
{
	return disturb(false) ? -1 : __real_pwrite(fd, data, length, offset);
}

int __wrap_socket(int domain, int type, int protocol)
{
	return disturb(false) ? -1 : __real_socket(domain, type, protocol);
}

int __wrap_unlinkat(int directory, const char *name, int flags)
{
	return disturb(true) ? -1 : __real_unlinkat(directory, name, flags);
}

/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

/* ---- a directory for each test ---- */

static char lock_path[160], victim_path[160], other_path[160];

static void set_up(void)
{
	memset(&watch, 0, sizeof(watch));
	make_directory();
	snprintf(lock_path, sizeof(lock_path), "%s.lock", socket_path);
	snprintf(victim_path, sizeof(victim_path), "%s.victim", socket_path);
	snprintf(other_path, sizeof(other_path), "%s.other", socket_path);
}

static void tear_down(void)
{
	unlink(victim_path);
	unlink(other_path);
	remove_directory(); /* fails unless the directory is empty */
}

static void write_file(const char *path, const char *content, mode_t mode)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	ck_assert_int_eq(__real_fchmod(fd, mode), 0);
	close(fd);
}

static void expect_file(const char *path, const char *content, mode_t mode)
{
	char found[128] = "";
	struct stat status;
	ck_assert_int_eq(lstat(path, &status), 0);
	ck_assert(S_ISREG(status.st_mode));
	ck_assert_uint_eq(status.st_mode & 07777, mode);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_ge(read(fd, found, sizeof(found) - 1), 0);
	close(fd);
	ck_assert_str_eq(found, content);
}

static void expect_lock_of(pid_t pid)
{
	char line[32];
	snprintf(line, sizeof(line), "%ld\n", (long)pid);
	expect_file(lock_path, line, 0600);
}

static ino_t inode_of(const char *path)
{
	struct stat status;
	ck_assert_int_eq(lstat(path, &status), 0);
	return status.st_ino;
}

/* ---- owners ---- */

static void on_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                        void *context)
{
	(void)listener, (void)context;
	ferry_transport_free(transport);
}

static int try_to_own(struct ferry_listener **listener)
{
	*listener = NULL;
	const int status =
	    ferry_listener_new_unix(listener, base, socket_path, with_lock(), on_accepted, NULL);
	ck_assert_int_eq(status == 0, *listener != NULL);
	return status;
}

static struct ferry_listener *own(void)
{
	struct ferry_listener *listener;
	ck_assert_int_eq(try_to_own(&listener), 0);
	ck_assert(is_reachable(ferry_listener_get_fd(listener)));
	expect_lock_of(getpid());
	return listener;
}

static void own_and_leave(void)
{
	ferry_listener_free(own());
	ck_assert(!path_exists(socket_path));
	ck_assert(!path_exists(lock_path));
}

static void expect_refusal(int expected)
{
	struct ferry_listener *listener;
	int fds = count_open_fds();
	ck_assert_int_eq(try_to_own(&listener), expected);
	ck_assert_int_eq(count_open_fds(), fds);
}

/* The files of a dead owner. */
static void leave_stale_socket(void)
{
	close(listen_unix(socket_path));
}

static void leave_stale_files(void)
{
	leave_stale_socket();
	write_file(lock_path, "12345\n", 0600);
}

/* A child notifies the test by one byte. */
static void say(int fd)
{
	ck_assert_int_eq(write(fd, "x", 1), 1);
}

static void hear(int fd)
{
	char byte;
	ck_assert_int_eq(read(fd, &byte, 1), 1);
}

static void make_blocking_pipe(int fds[2])
{
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
}

/* ---- the lock by itself ---- */

TEST_CASE("lock", set_up, tear_down);

TEST(the_lock_comes_and_goes_with_the_listener)
{
	static const mode_t umasks[] = {0, 022, 077, 0777};
	for (size_t i = 0; i < sizeof(umasks) / sizeof(umasks[0]); i++) {
		mode_t before = umask(umasks[i]);
		own_and_leave();
		umask(before);
	}
}

TEST(there_is_one_owner_at_a_time)
{
	struct ferry_listener *first = own();
	ino_t inode = inode_of(socket_path), lock = inode_of(lock_path);
	expect_refusal(-EADDRINUSE);
	ck_assert_uint_eq(inode_of(socket_path), inode);
	ck_assert_uint_eq(inode_of(lock_path), lock);
	ck_assert(is_reachable(ferry_listener_get_fd(first)));
	ferry_listener_free(first);
	own_and_leave();
}

TEST(a_killed_owner_is_replaced)
{
	int ready[2];
	make_blocking_pipe(ready);
	pid_t owner = start_child();
	if (owner == 0) {
		own();
		say(ready[1]);
		for (;;)
			pause();
	}
	hear(ready[0]);
	expect_lock_of(owner);
	expect_refusal(-EADDRINUSE);
	expect_lock_of(owner);
	kill(owner, SIGKILL);
	wait_for_death(owner);
	expect_lock_of(owner);
	ck_assert(path_exists(socket_path));
	own_and_leave();
	close(ready[0]);
	close(ready[1]);
}

TEST(what_a_dead_owner_left_may_be_half_of_it)
{
	leave_stale_socket();
	own_and_leave();
	write_file(lock_path, "", 0600);
	own_and_leave();
	write_file(lock_path, "1234567890\n",
	           0666); /* longer than a lock of ferry, and open to everybody */
	own_and_leave();
}

/* The child has the socket too, and clients may wait in its backlog. */
TEST(a_child_of_the_owner_holds_the_lock)
{
	int ready[2];
	pid_t child;
	make_blocking_pipe(ready);
	pid_t owner = start_child();
	if (owner == 0) {
		own();
		child = start_child();
		if (child == 0)
			for (;;)
				pause();
		ck_assert_int_eq(write(ready[1], &child, sizeof(child)), sizeof(child));
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(ready[0], &child, sizeof(child)), sizeof(child));
	kill(owner, SIGKILL);
	wait_for_death(owner);
	expect_refusal(-EADDRINUSE);
	kill(child, SIGKILL);
	struct ferry_listener *listener;
	int status;
	do /* init reaps the child, so the test cannot wait for it */
		status = try_to_own(&listener);
	while (status == -EADDRINUSE && sched_yield() == 0);
	ck_assert_int_eq(status, 0);
	ferry_listener_free(listener);
	close(ready[0]);
	close(ready[1]);
}

TEST(an_abstract_name_needs_no_lock)
{
	char name[sizeof(socket_path) + 2];
	struct ferry_listener *first = NULL, *second = NULL;
	snprintf(name, sizeof(name), "@%s", socket_path);
	ck_assert_int_eq(ferry_listener_new_unix(&first, base, name, with_lock(), on_accepted, NULL),
	                 0);
	ck_assert(is_reachable(ferry_listener_get_fd(first)));
	ck_assert_int_eq(ferry_listener_new_unix(&second, base, name, with_lock(), on_accepted, NULL),
	                 -EADDRINUSE);
	ferry_listener_free(first);
	ck_assert(!path_exists(lock_path));
}

TEST(the_longest_path_has_a_lock)
{
	char before[1024], name[109];
	struct ferry_listener *listener = NULL;
	memset(name, 'n', sizeof(name));
	name[108] = '\0';
	ck_assert_ptr_nonnull(getcwd(before, sizeof(before)));
	*strrchr(socket_path, '/') = '\0';
	ck_assert_int_eq(chdir(socket_path), 0);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, name, with_lock(), on_accepted, NULL),
	                 -ENAMETOOLONG);
	name[107] = '\0';
	for (int round = 0; round < 2; round++) {
		ck_assert_int_eq(
		    ferry_listener_new_unix(&listener, base, name, with_lock(), on_accepted, NULL), 0);
		/* The listener finds the file again from another directory. */
		ck_assert_int_eq(chdir("/"), 0);
		ferry_listener_free(listener);
		ck_assert_int_eq(chdir(socket_path), 0);
		ck_assert(!path_exists(name));
		close(listen_unix(name)); /* stale, for the second round */
	}
	ck_assert_int_eq(unlink(name), 0);
	ck_assert_int_eq(chdir(before), 0);
}

TEST(bad_arguments_are_refused)
{
	struct ferry_listener *listener = NULL;
	struct ferry_listener_options wrong_mode = *with_mode(01777), no_backlog = *with_backlog(-1);
	wrong_mode.lock = no_backlog.lock = true;
	ck_assert_int_eq(
	    ferry_listener_new_unix(NULL, base, socket_path, with_lock(), on_accepted, NULL), -EINVAL);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, NULL, socket_path, with_lock(), on_accepted, NULL),
	    -EINVAL);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, NULL, with_lock(), on_accepted, NULL),
	                 -EINVAL);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, socket_path, &wrong_mode, on_accepted, NULL),
	    -EINVAL);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, socket_path, &no_backlog, on_accepted, NULL),
	    -EINVAL);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, "/nowhere/s", with_lock(), on_accepted, NULL),
	    -ENOENT);
	ck_assert_ptr_null(listener);
}

/* ---- what is at the path ---- */

TEST_CASE("what is there", set_up, tear_down);

TEST(who_listens_without_the_lock_is_left)
{
	int fd = listen_unix(socket_path);
	expect_refusal(-EADDRINUSE);
	ck_assert(!path_exists(lock_path));
	int accepted =
	    accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); /* by the listener, to find out */
	ck_assert_int_ge(accepted, 0);
	close(accepted);
	ck_assert(is_reachable(fd));

	/* With its backlog full. */
	int clients[2], count = 0;
	ck_assert_int_eq(__real_listen(fd, 0), 0);
	while (count < 2) {
		struct sockaddr_un address = {.sun_family = AF_UNIX};
		memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
		clients[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (__real_connect(clients[count++], (struct sockaddr *)&address, sizeof(address)) < 0)
			break;
	}
	ck_assert_int_eq(count, 2);
	ck_assert_int_eq(errno, EAGAIN);
	expect_refusal(-EADDRINUSE);
	close(clients[0]);
	close(clients[1]);
	close(fd);
	own_and_leave();
}

TEST(a_datagram_socket_is_left_while_it_lives)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(__real_bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	expect_refusal(-EADDRINUSE);
	ck_assert(path_exists(socket_path));
	close(fd);
	own_and_leave();
}

static void expect_path_is_left(void)
{
	ino_t inode = inode_of(socket_path);
	expect_refusal(-EADDRINUSE);
	ck_assert_uint_eq(inode_of(socket_path), inode);
	ck_assert(!path_exists(lock_path));
}

TEST(what_is_no_socket_at_the_path_is_left)
{
	write_file(socket_path, "mine", 0600);
	expect_path_is_left();
	expect_file(socket_path, "mine", 0600);
	unlink(socket_path);

	ck_assert_int_eq(mkdir(socket_path, 0700), 0);
	expect_path_is_left();
	rmdir(socket_path);

	ck_assert_int_eq(mkfifo(socket_path, 0600), 0);
	expect_path_is_left();
	unlink(socket_path);

	ck_assert_int_eq(symlink("nothing", socket_path), 0);
	expect_path_is_left();
	unlink(socket_path);

	close(listen_unix(other_path)); /* stale, but not at the path */
	ck_assert_int_eq(symlink(other_path, socket_path), 0);
	expect_path_is_left();
	ck_assert(path_exists(other_path));
	unlink(socket_path);
}

/* ---- what is at the lock's place ---- */

static void expect_lock_refusal(int expected)
{
	ino_t inode = inode_of(lock_path);
	leave_stale_socket();
	expect_refusal(expected);
	ck_assert_uint_eq(inode_of(lock_path), inode);
	ck_assert(path_exists(socket_path));
	unlink(socket_path);
}

TEST(a_lock_that_is_something_else_is_refused_and_left)
{
	write_file(victim_path, "secret", 0640);

	ck_assert_int_eq(symlink(victim_path, lock_path), 0);
	expect_lock_refusal(-ELOOP);
	unlink(lock_path);
	ck_assert_int_eq(symlink(other_path, lock_path), 0); /* the target is not created */
	expect_lock_refusal(-ELOOP);
	ck_assert(!path_exists(other_path));
	unlink(lock_path);

	ck_assert_int_eq(link(victim_path, lock_path), 0);
	expect_lock_refusal(-EPERM);
	unlink(lock_path);
	expect_file(victim_path, "secret", 0640);

	ck_assert_int_eq(mkfifo(lock_path, 0600), 0);
	expect_lock_refusal(-EPERM); /* and does not block */
	unlink(lock_path);

	ck_assert_int_eq(mkdir(lock_path, 0700), 0);
	expect_lock_refusal(-EISDIR);
	rmdir(lock_path);

	close(listen_unix(lock_path));
	expect_lock_refusal(-ENXIO);
	unlink(lock_path);

	/* A file of this user that somebody has moved here. */
	static const char text[] = "what somebody has written, and wants to keep";
	write_file(lock_path, text, 0600);
	expect_lock_refusal(-EPERM);
	expect_file(lock_path, text, 0600);
	unlink(lock_path);
}

/* A user who can read a file can lock it; therefore other users cannot read the lock. */
TEST(a_lock_that_somebody_else_holds_is_respected)
{
	write_file(lock_path, "", 0600);
	int fd = open(lock_path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(__real_flock(fd, LOCK_SH), 0);
	expect_lock_refusal(-EADDRINUSE);
	close(fd);
	own_and_leave();
}

/* ---- other users ---- */

enum { NOBODY = 65534, SOMEBODY = 12345 };

static bool is_root(void)
{
	if (geteuid() == 0)
		return true;
	printf("SKIPPED: only root can be another user\n");
	return false;
}

TEST(what_is_another_users_is_refused_and_left)
{
	if (!is_root())
		return;
	write_file(lock_path, "", 0666);
	ck_assert_int_eq(chown(lock_path, NOBODY, NOBODY), 0);
	/* Linux may refuse root too, in a directory where other users may write. */
	expect_lock_refusal(-EPERM);
	expect_file(lock_path, "", 0666);
	unlink(lock_path);

	leave_stale_socket();
	ck_assert_int_eq(chown(socket_path, NOBODY, NOBODY), 0);
	expect_path_is_left();
	unlink(socket_path);
}

/* A child of another user tries. Returns the status that its call returned. */
static int try_as(uid_t uid)
{
	int result[2];
	signed char told = 0;
	make_blocking_pipe(result);
	pid_t child = start_child();
	if (child == 0) {
		struct ferry_listener *listener = NULL;
		if (setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0)
			die();
		told = (signed char)ferry_listener_new_unix(&listener, base, socket_path, with_lock(),
		                                            on_accepted, NULL);
		ferry_listener_free(listener);
		if (write(result[1], &told, 1) != 1)
			abort();
		die();
	}
	ck_assert_int_eq(read(result[0], &told, 1), 1);
	wait_for_death(child);
	close(result[0]);
	close(result[1]);
	return told;
}

static void set_directory_mode(mode_t mode)
{
	char directory[sizeof(socket_path)];
	memcpy(directory, socket_path, strlen(socket_path) + 1);
	*strrchr(directory, '/') = '\0';
	ck_assert_int_eq(chmod(directory, mode), 0);
}

TEST(another_user_takes_nothing_of_ours)
{
	if (!is_root())
		return;
	set_directory_mode(0755);
	ck_assert_int_eq(try_as(NOBODY), -EACCES); /* may not write here */
	set_directory_mode(01777);                 /* like /tmp */
	ck_assert_int_eq(try_as(NOBODY), 0);
	ck_assert(!path_exists(socket_path) && !path_exists(lock_path));

	leave_stale_files(); /* of this user */
	ck_assert_int_eq(try_as(NOBODY), -EACCES);
	unlink(lock_path);
	ck_assert_int_eq(try_as(NOBODY),
	                 -EADDRINUSE); /* the socket belongs to this user all the same */
	ck_assert(path_exists(socket_path));
	own_and_leave();

	/* The lock of another user, made before. */
	write_file(lock_path, "", 0666);
	ck_assert_int_eq(chown(lock_path, SOMEBODY, SOMEBODY), 0);
	const int told = try_as(NOBODY);
	ck_assert(told == -EPERM || told == -EACCES); /* depending on fs.protected_regular */
	unlink(lock_path);
}

/* ---- attacks between any two system calls ---- */

static int intruder = -1;

static void put_victim(const char *name)
{
	unlink(name);
	write_file(name, "mine", 0600);
}

static void attack_path_by_file(void)
{
	put_victim(socket_path);
}

static void attack_path_by_socket(void)
{
	unlink(socket_path);
	intruder = listen_unix(socket_path);
}

static void attack_path_by_link(void)
{
	unlink(socket_path);
	ck_assert_int_eq(symlink(victim_path, socket_path), 0);
}

static void attack_path_by_link_to_socket(void)
{
	unlink(socket_path);
	unlink(other_path);
	intruder = listen_unix(other_path);
	ck_assert_int_eq(symlink(other_path, socket_path), 0);
}

static void attack_path_by_nothing(void)
{
	unlink(socket_path);
}

static void attack_lock_by_nothing(void)
{
	unlink(lock_path);
}

static void attack_lock_by_file(void)
{
	unlink(lock_path);
	write_file(lock_path, "", 0600);
}

static void attack_lock_by_long_file(void)
{
	unlink(lock_path);
	write_file(lock_path, "what somebody has written, and wants to keep", 0640);
}

static void attack_lock_by_link(void)
{
	unlink(lock_path);
	ck_assert_int_eq(symlink(victim_path, lock_path), 0);
}

static void attack_lock_by_hard_link(void)
{
	unlink(lock_path);
	ck_assert_int_eq(link(victim_path, lock_path), 0);
}

static void attack_lock_by_one_that_is_held(void)
{
	attack_lock_by_file();
	intruder = open(lock_path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(__real_flock(intruder, LOCK_EX), 0);
}

static void attack_all_by_nothing(void)
{
	unlink(socket_path);
	unlink(lock_path);
}

static void (*const attacks[])(void) = {
    attack_path_by_file,           attack_path_by_socket,    attack_path_by_link,
    attack_path_by_link_to_socket, attack_path_by_nothing,   attack_lock_by_nothing,
    attack_lock_by_file,           attack_lock_by_long_file, attack_lock_by_link,
    attack_lock_by_hard_link,      attack_all_by_nothing,    attack_lock_by_one_that_is_held,
};
enum { ATTACKS = sizeof(attacks) / sizeof(attacks[0]) };

static void clean_up(void)
{
	if (intruder >= 0)
		close(intruder);
	intruder = -1;
	unlink(socket_path);
	unlink(lock_path);
	unlink(other_path);
}

/* The files that the attack has put there are still there. Nothing can protect a file that is put there between
 * the last fstatat(2) of its name and unlinkat(2): a user who can put it there can remove it as well. */
static void expect_nothing_lost(void (*attack)(void))
{
	struct stat status;
	expect_file(victim_path, "secret", 0640);
	if (watch.step < watch.at || watch.before_unlink)
		return;
	if (attack == attack_path_by_file)
		expect_file(socket_path, "mine", 0600);
	/* A socket that is put there right after bind(2) passes for ours: see docs/decisions/listener.md. */
	if (attack == attack_path_by_socket && !watch.after_bind)
		ck_assert_msg(is_reachable(intruder), "attacked before call %u", watch.at);
	if (attack == attack_path_by_link || attack == attack_path_by_link_to_socket)
		ck_assert(lstat(socket_path, &status) == 0 && S_ISLNK(status.st_mode));
	if (attack == attack_lock_by_link)
		ck_assert(lstat(lock_path, &status) == 0 && S_ISLNK(status.st_mode));
	if (attack == attack_lock_by_long_file)
		expect_file(lock_path, "what somebody has written, and wants to keep", 0640);
	if (attack == attack_lock_by_one_that_is_held)
		ck_assert(lstat(lock_path, &status) == 0);
}

/* Attacks before the system call `at` of ferry_listener_new_unix(). Returns whether there was such a call. */
static bool attack_start(void (*attack)(void), unsigned int at)
{
	struct ferry_listener *listener;
	memset(&watch, 0, sizeof(watch));
	leave_stale_files();
	watch.attack = attack;
	watch.at = at;
	watch.armed = true;
	const int status = try_to_own(&listener);
	watch.armed = false;
	const bool was_disturbed = watch.step >= at;

	ck_assert(status == 0 || status == -EADDRINUSE || status == -EPERM || status == -ELOOP ||
	          status == -ENOENT);
	expect_nothing_lost(attack);
	ferry_listener_free(listener);
	expect_nothing_lost(attack);
	clean_up();
	return was_disturbed;
}

/* The same for ferry_listener_free(). */
static bool attack_end(void (*attack)(void), unsigned int at)
{
	struct ferry_listener *listener;
	memset(&watch, 0, sizeof(watch));
	ck_assert_int_eq(try_to_own(&listener), 0);
	watch.attack = attack;
	watch.at = at;
	watch.armed = true;
	ferry_listener_free(listener);
	watch.armed = false;
	const bool was_disturbed = watch.step >= at;
	expect_nothing_lost(attack);
	clean_up();
	return was_disturbed;
}

TEST_CASE("attacks", set_up, tear_down);

LOOP_TEST(an_attack_before_any_system_call_costs_nothing, ATTACKS)
{
	unsigned int at;
	int fds = count_open_fds();
	write_file(victim_path, "secret", 0640);
	for (at = 1; attack_start(attacks[_i], at); at++)
		ck_assert_int_eq(count_open_fds(), fds);
	ck_assert_uint_ge(at, 12); /* there were calls to attack */
	for (at = 1; attack_end(attacks[_i], at); at++)
		ck_assert_int_eq(count_open_fds(), fds);
	ck_assert_uint_ge(at, 4);
	own_and_leave();
}

/* Another process removes the lock's file and makes it again, over and over. */
LOOP_TEST(a_lock_that_never_stays_is_not_waited_for, 2)
{
	leave_stale_socket();
	watch.before_flock = _i == 0 ? attack_lock_by_nothing : attack_lock_by_file;
	expect_refusal(-EADDRINUSE);
	ck_assert_uint_le(watch.flocks, 100);
	ck_assert(path_exists(socket_path));
	watch.before_flock = NULL;
	unlink(lock_path);
	own_and_leave();
}

/* An administrator, or a program that cleans /tmp, has removed the lock. */
TEST(an_owner_without_its_lock_file_is_not_replaced)
{
	struct ferry_listener *owner = own();
	ck_assert_int_eq(unlink(lock_path), 0);
	expect_refusal(-EADDRINUSE);
	ck_assert(is_reachable(ferry_listener_get_fd(owner)));
	ferry_listener_free(owner);
	own_and_leave();
}

/* ---- system calls that fail ---- */

static bool fail_start(int error, unsigned int at)
{
	struct ferry_listener *listener;
	int fds = count_open_fds();
	memset(&watch, 0, sizeof(watch));
	leave_stale_files();
	watch.error = error;
	watch.at = at;
	watch.armed = true;
	const int status = try_to_own(&listener);
	watch.armed = false;
	const bool was_disturbed = watch.step >= at;
	if (status == 0)
		ferry_listener_free(listener);
	else
		ck_assert_int_eq(status, -error);
	ck_assert_int_eq(count_open_fds(), fds);
	own_and_leave(); /* no file that is left keeps the next owner out */
	return was_disturbed;
}

static bool fail_end(int error, unsigned int at)
{
	struct ferry_listener *listener;
	int fds = count_open_fds();
	memset(&watch, 0, sizeof(watch));
	ck_assert_int_eq(try_to_own(&listener), 0);
	watch.error = error;
	watch.at = at;
	watch.armed = true;
	ferry_listener_free(listener);
	watch.armed = false;
	ck_assert_int_eq(count_open_fds(), fds);
	own_and_leave();
	return watch.step >= at;
}

TEST(any_system_call_may_fail)
{
	unsigned int at = 0;
	do
		at++;
	while (fail_start(EIO, at));
	ck_assert_uint_ge(at, 12);
	at = 0;
	do
		at++;
	while (fail_end(EIO, at));
	ck_assert_uint_ge(at, 4);
}

TEST(a_lock_that_cannot_be_signed_is_empty)
{
	struct ferry_listener *listener;
	leave_stale_files();
	/* openat, fstat, flock, fstatat, pwrite; socket(2) is before them all */
	watch.at = 6;
	watch.error = ENOSPC;
	watch.armed = true;
	ck_assert_int_eq(try_to_own(&listener), 0);
	watch.armed = false;
	expect_file(lock_path, "", 0600);
	ferry_listener_free(listener);
}

/* ---- owners that come and die, and come and go ---- */

enum { GENERATIONS = 200, STANDBYS = 2 };

static struct shared {
	atomic_uint generation; /* the owner's */
	atomic_uint ended;      /* the last generation that was killed or was about to end */
	atomic_uint told_to_leave;
	atomic_int failure; /* line */
	atomic_uint go, done;
	atomic_int pids[GENERATIONS + STANDBYS + 1]; /* by generation */
	atomic_int status[8];
} * shared;

static void make_shared(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
}

static _Noreturn void fail_in_child(int line)
{
	atomic_store(&shared->failure, line);
	die();
}

/* The owner of the socket at the path: the kernel records which process called listen(2). */
static pid_t listener_at_path(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred peer = {0};
	socklen_t length = sizeof(peer);
	memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (__real_connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length);
	close(fd);
	return peer.pid;
}

/* Tries until this process is the owner. No other owner is alive then. */
static _Noreturn void be_standby(void)
{
	struct ferry_listener *listener = NULL;
	int status;
	do
		status =
		    ferry_listener_new_unix(&listener, base, socket_path, with_lock(), on_accepted, NULL);
	while (status == -EADDRINUSE && sched_yield() == 0);
	if (status != 0)
		fail_in_child(__LINE__);
	const unsigned int before = atomic_load(&shared->generation);
	if (atomic_load(&shared->ended) != before)
		fail_in_child(__LINE__);
	if (listener_at_path() != getpid())
		fail_in_child(__LINE__);
	atomic_store(&shared->pids[before + 1], getpid());
	atomic_store(&shared->generation, before + 1);
	while (atomic_load(&shared->told_to_leave) != before + 1)
		sched_yield();
	atomic_store(&shared->ended, before + 1);
	ferry_listener_free(listener);
	die();
}

static void wait_until(const atomic_uint *counter, unsigned int value)
{
	while (atomic_load(counter) < value && atomic_load(&shared->failure) == 0)
		sched_yield();
	ck_assert_int_eq(atomic_load(&shared->failure), 0);
}

static void start_standby(void)
{
	if (start_child() == 0)
		be_standby();
}

TEST_CASE("deaths", set_up, tear_down);

TEST(there_are_never_two_live_owners_and_never_none_for_long)
{
	make_shared();
	for (int i = 0; i < STANDBYS; i++)
		start_standby();
	for (unsigned int generation = 1; generation <= GENERATIONS; generation++) {
		wait_until(&shared->generation, generation);
		const pid_t owner = atomic_load(&shared->pids[generation]);
		start_standby();
		for (uint32_t turns = support_random_below(20); turns > 0; turns--)
			sched_yield();
		ck_assert_uint_eq(atomic_load(&shared->generation), generation);
		if (generation % 3 == 0) {
			atomic_store(&shared->told_to_leave, generation);
		} else {
			atomic_store(&shared->ended, generation);
			kill(owner, SIGKILL);
		}
		wait_for_death(owner);
	}
	for (unsigned int i = 1; i <= STANDBYS; i++) {
		wait_until(&shared->generation, GENERATIONS + i);
		atomic_store(&shared->told_to_leave, GENERATIONS + i);
		wait_for_death(atomic_load(&shared->pids[GENERATIONS + i]));
	}
	ck_assert_int_eq(atomic_load(&shared->failure), 0);
	ck_assert(!path_exists(socket_path));
	ck_assert(!path_exists(lock_path));
	munmap(shared, sizeof(*shared));
}

enum { RACERS = 3 };

static _Noreturn void race(unsigned int round, int number)
{
	struct ferry_listener *listener = NULL;
	while (atomic_load(&shared->go) != round)
		sched_yield();
	const int status =
	    ferry_listener_new_unix(&listener, base, socket_path, with_lock(), on_accepted, NULL);
	atomic_store(&shared->status[number], status);
	atomic_fetch_add(&shared->done, 1);
	for (;;)
		pause();
}

TEST(of_those_that_start_at_once_exactly_one_is_the_owner)
{
	make_shared();
	for (unsigned int round = 1; round <= GENERATIONS; round++) {
		pid_t racers[RACERS], owner = 0;
		atomic_store(&shared->done, 0);
		for (int i = 0; i < RACERS; i++) {
			racers[i] = start_child();
			if (racers[i] == 0)
				race(round, i);
		}
		atomic_store(&shared->go, round);
		wait_until(&shared->done, RACERS);
		for (int i = 0; i < RACERS; i++) {
			const int status = atomic_load(&shared->status[i]);
			ck_assert(status == -EADDRINUSE || (status == 0 && owner == 0));
			if (status == 0)
				owner = racers[i];
		}
		ck_assert_int_ne(owner, 0);
		ck_assert_int_eq(listener_at_path(), owner);
		expect_lock_of(owner);
		for (int i = 0; i < RACERS; i++) {
			kill(racers[i], SIGKILL);
			wait_for_death(racers[i]);
		}
	}
	own_and_leave();
	munmap(shared, sizeof(*shared));
}

/* An owner is killed in the middle of its start, or of its end. */
TEST(wherever_an_owner_was_killed_the_next_one_starts)
{
	make_shared();
	for (unsigned int round = 0; round < GENERATIONS; round++) {
		atomic_store(&shared->go, 0);
		pid_t child = start_child();
		if (child == 0) {
			struct ferry_listener *listener = NULL;
			atomic_store(&shared->go, 1);
			for (;;) {
				if (ferry_listener_new_unix(&listener, base, socket_path, with_lock(), on_accepted,
				                            NULL) != 0)
					fail_in_child(__LINE__);
				ferry_listener_free(listener);
			}
		}
		wait_until(&shared->go, 1);
		for (uint32_t turns = support_random_below(50); turns > 0; turns--)
			sched_yield();
		kill(child, SIGKILL);
		wait_for_death(child);
		ck_assert_int_eq(atomic_load(&shared->failure), 0);
		ferry_listener_free(own());
	}
	munmap(shared, sizeof(*shared));
}

/* ---- the lock changes hands with its socket ---- */

static struct takeover_end old_end, new_end;
static int ends[2];

static void say_accepting(struct takeover_end *end)
{
	ck_assert_int_eq(ferry_takeover_commit(end->takeover), 0);
}

/* A set that owns the path, without a listener. */
static struct ferry_socket_set *make_set(void)
{
	struct ferry_socket_set *set = NULL;
	struct ferry_listener *listener = own();
	ck_assert_int_eq(ferry_socket_set_new(&set), 0);
	ck_assert_int_eq(ferry_socket_set_add_listener(set, "local", listener), 0);
	ferry_listener_free(listener);
	memset(&old_end, 0, sizeof(old_end));
	memset(&new_end, 0, sizeof(new_end));
	return set;
}

static void expect_taken(void)
{
	expect_refusal(-EADDRINUSE);
	ck_assert(path_exists(socket_path));
	ck_assert(path_exists(lock_path));
}

static void expect_free(void)
{
	ck_assert(!path_exists(socket_path));
	ck_assert(!path_exists(lock_path));
	own_and_leave();
}

TEST_CASE("takeovers", set_up, tear_down);

TEST(a_set_has_the_lock_of_its_listener)
{
	struct ferry_socket_set *set = make_set();
	expect_taken();
	ck_assert_int_eq(ferry_socket_set_own_path(set, "local"), 0); /* changes nothing */
	expect_taken();
	ferry_socket_set_free(set);
	expect_free();
}

TEST(the_lock_is_taken_over_with_the_socket)
{
	struct ferry_socket_set *set = make_set();
	make_pair(PAIR_UNIX, ends);
	serve_on(&old_end, set, ends[0]);
	request_on(&new_end, ends[1], NULL, 0);
	pump_until_count(&new_end.received, 1);
	expect_taken();
	say_accepting(&new_end);
	pump_until_count(&old_end.ended, 1);
	expect_taken();
	pump_until_count(&new_end.ended, 1);
	ck_assert_int_eq(new_end.status, 0);
	takeover_end_close(&old_end);
	ferry_socket_set_free(set);
	expect_taken();
	takeover_end_close(&new_end);
	expect_free();
}

TEST(who_gives_a_takeover_up_has_not_the_lock)
{
	struct ferry_socket_set *set = make_set();
	make_pair(PAIR_UNIX, ends);
	serve_on(&old_end, set, ends[0]);
	request_on(&new_end, ends[1], NULL, 0);
	pump_until_count(&new_end.received, 1);
	takeover_end_close(&new_end);
	pump_until_count(&old_end.ended, 1);
	takeover_end_close(&old_end);
	expect_taken();
	ferry_socket_set_free(set);
	expect_free();
}

/* The old process is a child, which serves on ends[0]; this process requests on ends[1]. */
static pid_t start_old(void)
{
	memset(&new_end, 0, sizeof(new_end));
	make_pair(PAIR_UNIX, ends);
	pid_t child = start_child();
	if (child == 0) {
		close(ends[1]);
		serve_on(&old_end, make_set(), ends[0]);
		event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
	}
	close(ends[0]);
	request_on(&new_end, ends[1], NULL, 0);
	pump_until_count(&new_end.received, 1);
	return child;
}

TEST(the_new_process_signs_the_lock)
{
	pid_t old = start_old();
	expect_lock_of(old);
	say_accepting(&new_end);
	pump_until_count(&new_end.ended, 1);
	ck_assert_int_eq(new_end.status, 0);
	expect_lock_of(getpid());
	expect_taken();
	kill(old, SIGKILL);
	wait_for_death(old);
	expect_taken();
	takeover_end_close(&new_end);
	expect_free();
}

/* As soon as the new process has the socket, no other process gets the path. */
LOOP_TEST(an_old_process_that_dies_leaves_the_lock_to_the_new_one, 2)
{
	pid_t old = start_old();
	if (_i == 1)
		say_accepting(&new_end);
	kill(old, SIGKILL);
	wait_for_death(old);
	expect_taken();
	if (_i == 0)
		say_accepting(&new_end);
	pump_until_count(&new_end.ended, 1);
	ck_assert_int_eq(new_end.status, 0);
	expect_lock_of(getpid());
	expect_taken();
	takeover_end_close(&new_end);
	expect_free();
}

TEST(own_path_keeps_the_lock_that_came_with_the_socket)
{
	pid_t old = start_old();
	kill(old, SIGKILL);
	wait_for_death(old);
	pump_turns(20);
	ck_assert_int_eq(ferry_socket_set_own_path(new_end.set, "local"), 0);
	expect_taken();
	takeover_end_close(&new_end);
	expect_free();
}

/* No process takes over the files of the old process, and none keeps the next owner out. */
TEST(a_takeover_that_nobody_ends_leaves_a_stale_socket)
{
	pid_t old = start_old();
	kill(old, SIGKILL);
	wait_for_death(old);
	takeover_end_close(&new_end);
	ck_assert(path_exists(socket_path));
	ck_assert(path_exists(lock_path));
	own_and_leave();
}

static void die_in(struct takeover_end *end)
{
	(void)end;
	die();
}

/* The child is forked before there is a lock, so that it has only the descriptors that are sent to it. */
TEST(a_new_process_that_is_killed_is_replaced)
{
	make_pair(PAIR_UNIX, ends);
	pid_t new = start_child();
	if (new == 0) {
		close(ends[0]);
		new_end.on_received = say_accepting;
		new_end.on_ended = die_in;
		request_on(&new_end, ends[1], NULL, 0);
		event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
	}
	close(ends[1]);
	struct ferry_socket_set *set = make_set();
	serve_on(&old_end, set, ends[0]);
	pump_until_count(&old_end.ended, 1);
	ck_assert_int_eq(old_end.status, 0);
	takeover_end_close(&old_end);
	ferry_socket_set_free(set);
	pump_turns(3);
	wait_for_death(new);
	expect_lock_of(new);
	ck_assert(path_exists(socket_path));
	own_and_leave();
}
