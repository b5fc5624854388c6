#include "endpoint/socket_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "endpoint/lock_file.h"
#include "endpoint/stale_socket.h"
#include "kernel/path_fd.h"

/* bind(2) gives the file the permission bits of the socket's own inode, less the umask. socket_file_bind()
 * therefore sets the mode by fchmod(2) on the socket before, and the file never has a wider one. umask(2) could
 * do the same, but it belongs to the whole process, where another thread may be making files. Bits that the
 * umask has removed are added between bind(2) and listen(2). Until listen(2) the kernel refuses every
 * connect(2).
 *
 * A file that gets another owner or group is bound without any permission bits, and gets them when it belongs
 * to its owner and group. Otherwise a client of the wrong group could pass the permission check in connect(2),
 * be preempted before the kernel looks whether the socket listens, and be connected after listen(2).
 *
 * Device and inode identify the file. While the socket is open they cannot become those of another file,
 * because a bound socket keeps its inode in use: the file is therefore removed before the socket is closed.
 *
 * The directory stays open, so that the file can be found again after chdir(2), after chroot(2) or in a renamed
 * directory. The bound socket keeps the file system from being unmounted anyway. */

static int open_directory(struct socket_file *file, const char *path)
{
	const char *name;
	const int directory = address_open_directory(path, &name);
	if (directory < 0)
		return directory;
	memcpy(file->name, name, strlen(name) + 1);
	file->directory = directory;
	return 0;
}

static bool is_ours(const struct socket_file *file, const struct stat *status)
{
	return S_ISSOCK(status->st_mode) && status->st_dev == file->device &&
	       status->st_ino == file->inode;
}

/* Records which file bind(2) has made. fstatat(2) needs no descriptor, and so cannot fail for want of one. */
static int identify(struct socket_file *file, struct stat *status)
{
	if (fstatat(file->directory, file->name, status, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* A process that may write to the directory has put something else there. */
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

static int set_owner(int fd, const struct socket_file_access *access)
{
	if (!changes_hands(access))
		return 0;
	return fchownat(fd, "", access->owner, access->group, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* Whether nobody but root and this user can put another file in the place of `fd`, which has the name in the
 * directory. In a sticky directory the owner of a file could, and it may have one by now. */
static bool is_fixed(const struct socket_file *file, int fd)
{
	struct stat directory, status;

	if (fstat(file->directory, &directory) < 0 || fstat(fd, &status) < 0)
		return false;
	if (directory.st_uid != 0 && directory.st_uid != geteuid())
		return false;
	if ((directory.st_mode & 022) == 0)
		return true;
	return (directory.st_mode & S_ISVTX) != 0 && status.st_uid == geteuid();
}

/* The last resort, without /proc before Linux 6.6, is the name. chmod(2) follows a symbolic link there. */
static int set_mode(const struct socket_file *file, int fd, mode_t mode)
{
	const int status = path_fd_chmod(fd, mode);

	if (status != -EOPNOTSUPP || !is_fixed(file, fd))
		return status;
	return fchmodat(file->directory, file->name, mode, 0) < 0 ? -errno : 0;
}

/* Owner, group and mode, if the file is the one that was bound. The mode comes last: see above. */
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
		result = -EPERM; /* the file was swapped in between bind(2) and identify() */
	if (result == 0)
		result = set_owner(fd, access);
	if (result == 0)
		result = set_mode(file, fd, access->mode);
	close(fd);
	return result;
}

/* Acquires the lock of the path, and makes the path free. */
static int lock_path(struct socket_file *file, const struct address *address, uid_t owner)
{
	const int fd = lock_file_acquire(file->directory, file->name);
	if (fd < 0)
		return fd;
	file->lock = fd;
	return stale_socket_remove(file->directory, file->name, address, owner);
}

static int bind_with_access(struct socket_file *file, int fd, const struct address *address,
                            const struct socket_file_access *access)
{
	struct stat status;
	int result = 0;

	if (fchmod(fd, changes_hands(access) ? 0 : access->mode) < 0)
		result = -errno;
	if (result == 0)
		result = address_bind(address, fd);
	if (result == 0)
		result = identify(file, &status);
	if (result == 0 && (changes_hands(access) || (status.st_mode & 07777) != access->mode))
		result = set_access(file, access);
	return result;
}

int socket_file_bind(struct socket_file *file, int fd, const char *path,
                     const struct socket_file_access *access, bool locked)
{
	struct address address;

	*file = SOCKET_FILE_NONE;
	int result = open_directory(file, path);
	if (result == 0)
		result = address_in_directory(&address, path, file->directory);
	if (result == 0 && locked)
		result = lock_path(file, &address, access->owner);
	if (result == 0)
		result = bind_with_access(file, fd, &address, access);
	if (result == 0)
		return 0;

	/* Without a file of ours the lock is removed by itself. */
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
	/* A path that fills the address has no terminating zero; a socket without a name has no path. */
	if (address.sun_family == AF_UNIX)
		memcpy(path, address.sun_path, sizeof(address.sun_path));
	if (path[0] == '\0')
		return -ENOENT;

	/* The number is that of a descriptor of the process that bound the socket, at that time. */
	if (strncmp(path, "/proc/self/fd/", strlen("/proc/self/fd/")) == 0)
		return -ENOENT;

	int result = open_directory(file, path);
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

/* The lock goes last: the process that acquires it next finds the path free. */
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
