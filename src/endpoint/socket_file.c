#include "endpoint/socket_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "endpoint/lock_file.h"

/* bind(2) gives the file the permission bits of the socket's own inode, less the umask. So the mode
 * is set by fchmod(2) on the socket, before: there is no moment at which the file is wider than
 * asked. umask(2) would do it too, but belongs to the whole process, where another thread may be
 * making files. What the umask took away is put back after bind(2) and before listen(2), until
 * which every connect(2) is refused.
 *
 * A file that is to change hands is bound without any permission bits, and gets them when it belongs to its
 * owner and group. A client of the wrong group could otherwise be allowed by the kernel in connect(2),
 * stand still between that check and the one whether the socket listens, and be connected after listen(2).
 *
 * The file is told from others by device and inode. Those cannot come again for another file while
 * the socket is open, because the kernel holds the inode of a bound socket: the file is therefore
 * looked at and removed before the socket is closed.
 *
 * The directory is held open, so that the file is found again after a chdir(2), a chroot(2) or a
 * renamed directory. It keeps no file system from being unmounted that the bound socket would
 * not keep anyway. */

static int open_directory(struct socket_file *file, const char *path)
{
	char directory[sizeof(file->name)] = ".";
	const char *slash = strrchr(path, '/');
	const char *name = slash != NULL ? slash + 1 : path;

	if (slash != NULL) {
		/* The slash itself is kept: it is all there is of "/". */
		const size_t length = (size_t)(name - path);
		memcpy(directory, path, length);
		directory[length] = '\0';
	}
	memcpy(file->name, name, strlen(name) + 1);
	file->directory = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return file->directory < 0 ? -errno : 0;
}

static bool is_ours(const struct socket_file *file, const struct stat *status)
{
	return S_ISSOCK(status->st_mode) && status->st_dev == file->device &&
	       status->st_ino == file->inode;
}

/* Remembers which file bind(2) has made. By a look at the name rather than an open file, because
 * that cannot fail for want of a descriptor. */
static int identify(struct socket_file *file, struct stat *status)
{
	if (fstatat(file->directory, file->name, status, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* Whoever may write to the directory has put something else there. */
	if (!S_ISSOCK(status->st_mode))
		return -EADDRINUSE;
	file->bound = true;
	file->device = status->st_dev;
	file->inode = status->st_ino;
	return 0;
}

static bool changes_hands(const struct socket_file_access *access)
{
	return access->owner != (uid_t)-1 || access->group != (gid_t)-1;
}

/* There is no fchmod(2) for a socket's file, and chmod(2) by name could be made to hit another: /proc leads
 * from an O_PATH descriptor to the inode that it holds. */
static int set_mode(int fd, mode_t mode)
{
	char link[sizeof("/proc/self/fd/") + 3 * sizeof(int)];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	return chmod(link, mode) < 0 ? -errno : 0;
}

/* Both only for the file that was bound. The mode is last: see above. */
static int set_access(const struct socket_file *file, const struct socket_file_access *access)
{
	struct stat status;
	int result = 0;
	const int fd = openat(file->directory, file->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	if (fstat(fd, &status) < 0)
		result = -errno;
	else if (!is_ours(file, &status))
		result = -EADDRINUSE;
	else if (status.st_uid != geteuid() || status.st_nlink != 1)
		result = -EPERM; /* slipped in between bind(2) and identify() */
	else if (changes_hands(access) &&
	         fchownat(fd, "", access->owner, access->group, AT_EMPTY_PATH) < 0)
		result = -errno;
	if (result == 0)
		result = set_mode(fd, access->mode);
	close(fd);
	return result;
}

/* ---- a stale one ---- */

/* What a client would be told. */
static int try_to_connect(const struct address *address)
{
	int status;
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;

	do
		status =
		    connect(fd, (const struct sockaddr *)&address->un, address->length) < 0 ? -errno : 0;
	while (status == -EINTR);
	close(fd);
	return status;
}

/* 0: nobody has the socket whose file that is. Its owner may be one that knows nothing of locks, and be
 * alive. */
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

/* Only a socket of this user or of `owner` is removed, only when it is dead, and only the one that was tried:
 * `fd` holds its inode, which would otherwise soon be that of the next file. */
static int remove_dead(const struct socket_file *file, int fd, const struct address *address,
                       uid_t owner)
{
	struct stat tried, found;

	if (fstat(fd, &tried) < 0)
		return -errno;
	if (!S_ISSOCK(tried.st_mode) || (tried.st_uid != geteuid() && tried.st_uid != owner))
		return -EADDRINUSE;
	const int status = check_dead(address);
	if (status != 0)
		return status;
	if (fstatat(file->directory, file->name, &found, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (found.st_dev != tried.st_dev || found.st_ino != tried.st_ino)
		return -EADDRINUSE;
	return unlinkat(file->directory, file->name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* With the lock held: whoever else uses it is not there. */
static int remove_stale(const struct socket_file *file, const struct address *address, uid_t owner)
{
	const int fd = openat(file->directory, file->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	const int status = remove_dead(file, fd, address, owner);
	close(fd);
	return status;
}

static int win_path(struct socket_file *file, const struct address *address, uid_t owner)
{
	const int fd = lock_file_acquire(file->directory, file->name);
	if (fd < 0)
		return fd;
	file->lock = fd;
	return remove_stale(file, address, owner);
}

/* ---- the calls ---- */

static int bind_with_access(struct socket_file *file, int fd, const struct address *address,
                            const struct socket_file_access *access)
{
	struct stat status;
	int result = 0;

	if (fchmod(fd, changes_hands(access) ? 0 : access->mode) < 0 ||
	    bind(fd, (const struct sockaddr *)&address->un, address->length) < 0)
		result = -errno;
	if (result == 0)
		result = identify(file, &status);
	if (result == 0 && (changes_hands(access) || (status.st_mode & 07777) != access->mode))
		result = set_access(file, access);
	return result;
}

int socket_file_bind(struct socket_file *file, int fd, const struct address *address,
                     const struct socket_file_access *access, bool locked)
{
	*file = SOCKET_FILE_NONE;
	int result = open_directory(file, address->un.sun_path);
	if (result == 0 && locked)
		result = win_path(file, address, access->owner);
	if (result == 0)
		result = bind_with_access(file, fd, address, access);
	if (result == 0)
		return 0;

	/* The lock was ours before the file is. */
	if (!file->bound && file->lock >= 0) {
		lock_file_remove(file->directory, file->name, file->lock);
		file->lock = -1;
	}
	socket_file_remove(file);
	return result;
}

int socket_file_find(struct socket_file *file, int fd)
{
	struct stat status;
	struct sockaddr_un address = {.sun_family = AF_UNSPEC};
	socklen_t length = sizeof(address);
	char path[sizeof(address.sun_path) + 1] = "";

	*file = SOCKET_FILE_NONE;
	if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
		return -errno;
	/* A path that fills the address has no zero, and a socket without a name no path at all. */
	if (address.sun_family == AF_UNIX)
		memcpy(path, address.sun_path, sizeof(address.sun_path));
	if (path[0] == '\0')
		return -ENOENT;

	int result = strlen(path) < sizeof(file->name) ? open_directory(file, path) : -ENAMETOOLONG;
	if (result == 0)
		result = identify(file, &status);
	if (result != 0)
		socket_file_remove(file);
	return result;
}

void socket_file_own(struct socket_file *file)
{
	file->bound = file->directory >= 0;
	if (file->bound && file->lock >= 0)
		lock_file_sign(file->lock);
}

/* The lock goes last: who wins it next finds the path free. */
void socket_file_remove(struct socket_file *file)
{
	struct stat status;

	if (file->bound && fstatat(file->directory, file->name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
	    is_ours(file, &status))
		unlinkat(file->directory, file->name, 0);
	if (file->bound && file->lock >= 0)
		lock_file_remove(file->directory, file->name, file->lock);
	else if (file->lock >= 0)
		close(file->lock);
	if (file->directory >= 0)
		close(file->directory);
	*file = SOCKET_FILE_NONE;
}

void socket_file_forget(struct socket_file *file)
{
	*file = SOCKET_FILE_NONE;
}
