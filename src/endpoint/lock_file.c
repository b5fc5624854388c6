#include "endpoint/lock_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A lock of flock(2) belongs to the open file description. The kernel releases it with the last descriptor,
 * however the process ends, and it goes along with a descriptor that is sent. Locks of fcntl(2) do neither. A
 * process id in a file, the usual lock, may be that of a different process by now.
 *
 * The previous owner may remove the file between openat(2) and flock(2) of this process. The lock would then be
 * on a file that no other process can find, and another process could lock a new file of that name. Therefore
 * the name is looked up again after flock(2). */

enum {
	LOCK_SIZE_MAX = 32, /* more than a process id and a newline; a longer file is not a lock */
	TRIES_MAX = 64      /* another one for each owner that came and went meanwhile */
};

struct lock_name {
	char bytes[sizeof(((struct sockaddr_un *)NULL)->sun_path) + sizeof(".lock")];
};

static struct lock_name name_of_lock(const char *name)
{
	struct lock_name lock;

	snprintf(lock.bytes, sizeof(lock.bytes), "%s.lock", name);
	return lock;
}

/* In a directory where other users may write, the name can lead to any file. ferry must not write to a file of
 * this user that somebody has linked or moved there, and must not remove it. */
static bool has_shape(const struct stat *status)
{
	return S_ISREG(status->st_mode) && status->st_nlink <= 1 && status->st_size <= LOCK_SIZE_MAX;
}

static bool is_lock(const struct stat *status)
{
	return has_shape(status) && status->st_uid == geteuid();
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Whether the file contains what lock_file_sign() writes. */
static bool is_signed(int fd)
{
	char line[LOCK_SIZE_MAX + 1] = "";
	const ssize_t length = pread(fd, line, LOCK_SIZE_MAX, 0);
	if (length < 0)
		return false;
	const size_t digits = strspn(line, "0123456789");
	return length == 0 || (digits > 0 && (size_t)length == digits + 1 && line[digits] == '\n');
}

/* Root may remove the lock that another user has left. The process that left it may have been started as root, or
 * ran as a user before the program was started as root. */
static bool may_replace(const struct stat *status, int fd)
{
	return geteuid() == 0 && status->st_uid != 0 && has_shape(status) && is_signed(fd);
}

/* Locks the open file. -EAGAIN: the name does not lead to it any more. */
static int lock_opened(int directory, const char *name, int fd)
{
	struct stat opened, found;

	if (fstat(fd, &opened) < 0)
		return -errno;
	const bool foreign = may_replace(&opened, fd);
	if (!foreign && !is_lock(&opened))
		return -EPERM;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
	if (fstatat(directory, name, &found, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	if (!is_same(&opened, &found))
		return -EAGAIN;
	if (foreign)
		return unlinkat(directory, name, 0) < 0 && errno != ENOENT ? -errno : -EAGAIN;
	if (!is_lock(&found))
		return -EPERM;
	/* A user who can open the file can lock it. And the umask may have removed bits of this user. */
	if ((found.st_mode & 07777) != 0600 && fchmod(fd, 0600) < 0)
		return -errno;
	return 0;
}

/* O_NONBLOCK: the name may lead to a pipe. In a sticky directory the kernel refuses O_CREAT for another user's
 * file, to root as well (fs.protected_regular). */
static int open_lock(int directory, const char *name)
{
	const int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	const int fd = openat(directory, name, flags | O_CREAT, 0600);

	if (fd < 0 && errno == EACCES && geteuid() == 0)
		return openat(directory, name, flags);
	return fd;
}

static int try_to_acquire(int directory, const char *name)
{
	const int fd = open_lock(directory, name);
	if (fd < 0)
		return -errno;
	const int status = lock_opened(directory, name, fd);
	if (status == 0)
		return fd;
	close(fd);
	return status;
}

int lock_file_acquire(int directory, const char *name)
{
	const struct lock_name lock_name = name_of_lock(name);

	for (int tries = 0; tries < TRIES_MAX; tries++) {
		const int result = try_to_acquire(directory, lock_name.bytes);
		if (result >= 0)
			lock_file_sign(result);
		if (result != -EAGAIN && result != -EINTR)
			return result;
	}
	return -EADDRINUSE;
}

void lock_file_sign(int fd)
{
	char line[LOCK_SIZE_MAX];
	const int length = snprintf(line, sizeof(line), "%ld\n", (long)getpid());

	if (pwrite(fd, line, (size_t)length, 0) == length && ftruncate(fd, length) == 0)
		return;
	/* The disk is full: no process id is better than half of one, or that of a previous owner. */
	(void)!ftruncate(fd, 0);
}

void lock_file_remove(int directory, const char *name, int fd)
{
	const struct lock_name lock_name = name_of_lock(name);
	struct stat opened, found;

	if (fstat(fd, &opened) == 0 &&
	    fstatat(directory, lock_name.bytes, &found, AT_SYMLINK_NOFOLLOW) == 0 &&
	    is_same(&opened, &found))
		unlinkat(directory, lock_name.bytes, 0);
	close(fd);
}
