#include "endpoint/stale_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file does not show whether its socket is in use, so ferry connects to find out. The owner may be alive and
 * know nothing of locks. */

static int try_to_connect(const struct address *address)
{
	int status;
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;

	do
		status = address_connect(address, fd);
	while (status == -EINTR);
	close(fd);
	return status;
}

/* 0: no process has the socket open. */
static int check_dead(const struct address *address)
{
	const int status = try_to_connect(address);

	switch (status) {
	case -ECONNREFUSED:
	case -ENOENT:
		return 0;
	case 0:
	case -EAGAIN:     /* its backlog is full */
	case -EPROTOTYPE: /* it is bound, and of another type */
		return -EADDRINUSE;
	default:
		return status;
	}
}

/* Root may remove any socket that nobody listens on: the owner of the file may have been a process that was
 * started as root and gave the file, or itself, to another user. */
static bool may_replace(const struct stat *status, uid_t owner)
{
	const uid_t user = geteuid();

	return S_ISSOCK(status->st_mode) &&
	       (user == 0 || status->st_uid == user || status->st_uid == owner);
}

/* `fd` is the file, opened before the attempt to connect. It keeps the inode in use: otherwise the file system
 * may give the inode number to the next file, and a live socket would pass for the dead one. */
static int remove_if_dead(int directory, const char *name, int fd, const struct address *address,
                          uid_t owner)
{
	struct stat tried, found;

	if (fstat(fd, &tried) < 0)
		return -errno;
	if (!may_replace(&tried, owner))
		return -EADDRINUSE;
	const int status = check_dead(address);
	if (status != 0)
		return status;
	if (fstatat(directory, name, &found, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (found.st_dev != tried.st_dev || found.st_ino != tried.st_ino)
		return -EADDRINUSE;
	return unlinkat(directory, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int stale_socket_remove(int directory, const char *name, const struct address *address, uid_t owner)
{
	const int fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	const int status = remove_if_dead(directory, name, fd, address, owner);
	close(fd);
	return status;
}
