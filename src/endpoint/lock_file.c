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

/* flock(2) belongs to the open file description: it ends with the last descriptor of it, however its
 * process ends, and travels with a descriptor that is sent. fcntl(2)'s locks do neither; and a process
 * number in a file, which is what is usually looked at, may be another process's by now.
 *
 * Who had it may remove the file between our open and our flock: then we would hold a file that nobody
 * else can find, and another process the lock. So the name is looked up again once the lock is won. */

enum {
	SIZE_MAX_OF_LOCK =
	    32,        /* a process number and a newline, and room; what is longer is not ours */
	TRIES_MAX = 64 /* each but the first: an owner has come and gone in that moment */
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

/* In a directory where others may write, the name can stand for anything. A file of this user's own that
 * was linked or moved to it must not be written to, or be removed. */
static bool is_lock(const struct stat *status)
{
	return S_ISREG(status->st_mode) && status->st_uid == geteuid() && status->st_nlink <= 1 &&
	       status->st_size <= SIZE_MAX_OF_LOCK;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Locks what was opened. -EAGAIN: it is not there any more. */
static int lock(int directory, const char *name, int fd)
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
	/* Whoever can open it can lock it. And the umask may have taken our own bits. */
	if ((found.st_mode & 07777) != 0600 && fchmod(fd, 0600) < 0)
		return -errno;
	return 0;
}

/* Not blocking, for the case that the name is a pipe's. */
static int try_to_acquire(int directory, const char *name)
{
	const int fd = openat(directory, name,
	                      O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	const int status = lock(directory, name, fd);
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
	char line[SIZE_MAX_OF_LOCK];
	const int length = snprintf(line, sizeof(line), "%ld\n", (long)getpid());

	if (pwrite(fd, line, (size_t)length, 0) == length && ftruncate(fd, length) == 0)
		return;
	/* A full disk: rather no number than half of one, or another's. */
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
