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
static bool is_lock(const struct stat *status)
{
	return S_ISREG(status->st_mode) && status->st_uid == geteuid() && status->st_nlink <= 1 &&
	       status->st_size <= LOCK_SIZE_MAX;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Locks the open file. -EAGAIN: the name does not lead to it any more. */
static int lock_opened(int directory, const char *name, int fd)
{
	struct stat opened, found;

	if (fstat(fd, &opened) < 0)
		return -errno;
	if (!is_lock(&opened))
		return -EPERM;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
	if (fstatat(directory, name, &found, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	if (!is_same(&opened, &found))
		return -EAGAIN;
	if (!is_lock(&found))
		return -EPERM;
	/* A user who can open the file can lock it. And the umask may have removed bits of this user. */
	if ((found.st_mode & 07777) != 0600 && fchmod(fd, 0600) < 0)
		return -errno;
	return 0;
}

/* O_NONBLOCK: the name may lead to a pipe. */
static int try_to_acquire(int directory, const char *name)
{
	const int fd = openat(directory, name,
	                      O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
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
