#include "lock_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "listener_options.h"
#include "recorder.h"
#include "support.h"

int __real_fchmod(int fd, mode_t mode);

int __real_fstat(int fd, struct stat *status);

int __real_fstatat(int directory, const char *name, struct stat *status, int flags);

int __real_ftruncate(int fd, off_t length);

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

/* A caller that creates nothing passes no mode, and the kernel then reads none. */
int __wrap_openat(int directory, const char *name, int flags, mode_t mode);

ssize_t __wrap_pwrite(int fd, const void *data, size_t length, off_t offset);

int __wrap_socket(int domain, int type, int protocol);

int __wrap_unlinkat(int directory, const char *name, int flags);

struct lock_watch lock_watch;

/* Whether the call fails. */
static bool disturb(bool is_unlink)
{
	if (!lock_watch.armed || ++lock_watch.step != lock_watch.at)
		return false;
	lock_watch.before_unlink = is_unlink;
	lock_watch.after_bind = lock_watch.bound != 0 && lock_watch.step == lock_watch.bound + 1;
	lock_watch.armed = false;
	if (lock_watch.attack != NULL)
		lock_watch.attack();
	lock_watch.armed = true;
	errno = lock_watch.error;
	return lock_watch.error != 0;
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	if (disturb(false))
		return -1;
	lock_watch.bound = lock_watch.step;
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
	lock_watch.flocks++;
	if (lock_watch.before_flock != NULL)
		lock_watch.before_flock();
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

int __wrap_openat(int directory, const char *name, int flags, mode_t mode)
{
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

char lock_path[160], victim_path[160], other_path[160];

void set_up_lock(void)
{
	memset(&lock_watch, 0, sizeof(lock_watch));
	make_directory();
	snprintf(lock_path, sizeof(lock_path), "%s.lock", socket_path);
	snprintf(victim_path, sizeof(victim_path), "%s.victim", socket_path);
	snprintf(other_path, sizeof(other_path), "%s.other", socket_path);
}

void tear_down_lock(void)
{
	unlink(victim_path);
	unlink(other_path);
	remove_directory(); /* fails unless the directory is empty */
}

void write_file(const char *path, const char *content, mode_t mode)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	ck_assert_int_eq(__real_fchmod(fd, mode), 0);
	close(fd);
}

void expect_file(const char *path, const char *content, mode_t mode)
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

void expect_lock_of(pid_t pid)
{
	char line[32];
	snprintf(line, sizeof(line), "%ld\n", (long)pid);
	expect_file(lock_path, line, 0600);
}

void close_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                    void *context)
{
	(void)listener, (void)context;
	ferry_transport_free(transport);
}

int try_to_own(struct ferry_listener **listener)
{
	*listener = NULL;
	const int status =
	    ferry_listener_new_unix(listener, base, socket_path, with_lock(), close_accepted, NULL);
	ck_assert_int_eq(status == 0, *listener != NULL);
	return status;
}

struct ferry_listener *own(void)
{
	struct ferry_listener *listener;
	ck_assert_int_eq(try_to_own(&listener), 0);
	ck_assert(is_reachable(ferry_listener_get_fd(listener)));
	expect_lock_of(getpid());
	return listener;
}

void own_and_leave(void)
{
	ferry_listener_free(own());
	ck_assert(!path_exists(socket_path));
	ck_assert(!path_exists(lock_path));
}

void expect_refusal(int expected)
{
	struct ferry_listener *listener;
	int fds = count_open_fds();
	ck_assert_int_eq(try_to_own(&listener), expected);
	ck_assert_int_eq(count_open_fds(), fds);
}

void leave_stale_socket(void)
{
	close(listen_unix(socket_path));
}

void leave_stale_files(void)
{
	leave_stale_socket();
	write_file(lock_path, "12345\n", 0600);
}
