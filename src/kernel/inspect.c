#include "kernel/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "kernel/socket.h"

/*
 * Finds out the kind of a descriptor. fstat(2) distinguishes files, directories, pipes and devices. Objects
 * without a file system of their own (eventfd, epoll, …) all look the same to fstat(2), and a memfd looks like a
 * file: only the name in /proc/self/fd distinguishes these.
 */

enum { LINK_MAX_LENGTH = 32 }; /* longer than any name below */

/* Reads the beginning of the name, "" without /proc. Returns whether there is a name. */
static bool read_link(int fd, char name[LINK_MAX_LENGTH])
{
	char path[sizeof("/proc/self/fd/-2147483648")];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ssize_t length = readlink(path, name, LINK_MAX_LENGTH - 1);
	name[length > 0 ? length : 0] = '\0';
	return length > 0;
}

static const struct {
	const char *name;
	enum ferry_descriptor_kind kind;
} anonymous[] = {
    {"anon_inode:[eventfd]", FERRY_DESCRIPTOR_EVENTFD},
    {"anon_inode:[timerfd]", FERRY_DESCRIPTOR_TIMERFD},
    {"anon_inode:[signalfd]", FERRY_DESCRIPTOR_SIGNALFD},
    {"anon_inode:inotify", FERRY_DESCRIPTOR_INOTIFY},
    {"anon_inode:[pidfd]", FERRY_DESCRIPTOR_PIDFD},
    {"anon_inode:[eventpoll]", FERRY_DESCRIPTOR_EPOLL},
};

static enum ferry_descriptor_kind kind_by_name(const char *name,
                                               enum ferry_descriptor_kind otherwise)
{
	for (size_t i = 0; i < sizeof(anonymous) / sizeof(anonymous[0]); i++)
		if (strcmp(name, anonymous[i].name) == 0)
			return anonymous[i].kind;
	return otherwise;
}

static bool is_memfd(const char *name)
{
	return strncmp(name, "/memfd:", strlen("/memfd:")) == 0;
}

enum ferry_descriptor_kind inspect_kind_by_stat(const struct stat *status)
{
	switch (status->st_mode & S_IFMT) {
	case S_IFREG:
		return FERRY_DESCRIPTOR_FILE;
	case S_IFDIR:
		return FERRY_DESCRIPTOR_DIRECTORY;
	case S_IFIFO:
		return FERRY_DESCRIPTOR_PIPE;
	case S_IFCHR:
	case S_IFBLK:
		return FERRY_DESCRIPTOR_DEVICE;
	default:
		return FERRY_DESCRIPTOR_OTHER;
	}
}

enum ferry_descriptor_kind inspect_kind_in_full(int fd, enum ferry_descriptor_kind by_stat)
{
	char name[LINK_MAX_LENGTH];

	switch (by_stat) {
	case FERRY_DESCRIPTOR_FILE:
		/* A file on a disk may have such a name too, but no seals. */
		read_link(fd, name);
		if (is_memfd(name) && fcntl(fd, F_GET_SEALS) >= 0)
			return FERRY_DESCRIPTOR_MEMFD;
		return kind_by_name(name, by_stat);
	case FERRY_DESCRIPTOR_OTHER:
		read_link(fd, name);
		return kind_by_name(name, by_stat);
	case FERRY_DESCRIPTOR_DEVICE:
		/* EIO: the terminal was hung up. */
		return isatty(fd) || errno == EIO ? FERRY_DESCRIPTOR_TTY : by_stat;
	default:
		return by_stat;
	}
}

bool inspect_kind_is_coarse(int fd, enum ferry_descriptor_kind kind)
{
	char name[LINK_MAX_LENGTH];

	return (kind == FERRY_DESCRIPTOR_FILE || kind == FERRY_DESCRIPTOR_OTHER) &&
	       !read_link(fd, name);
}

bool inspect_is_io_uring(int fd)
{
	char name[LINK_MAX_LENGTH];

	read_link(fd, name);
	return strcmp(name, "anon_inode:[io_uring]") == 0;
}

/* ---- inspection ---- */

/* An option that the kernel does not have is 0 in the description. */
static int value_or_0(int option)
{
	return option > 0 ? option : 0;
}

/* The kernel returns the whole length of an address, even if it has cut the address to the room given. */
static socklen_t bounded_length(socklen_t length)
{
	return length < sizeof(struct sockaddr_storage) ? length : sizeof(struct sockaddr_storage);
}

static void inspect_socket(int fd, struct ferry_descriptor_info *info)
{
	socklen_t length = sizeof(info->local_address);

	info->family = value_or_0(socket_get_domain(fd));
	info->type = value_or_0(socket_get_type(fd));
	info->protocol = value_or_0(socket_get_protocol(fd));
	info->listening = socket_is_listening(fd) == 1;
	if (socket_get_cookie(fd, &info->cookie) < 0)
		info->cookie = 0;

	if (getsockname(fd, (struct sockaddr *)&info->local_address, &length) == 0)
		info->local_length = bounded_length(length);
	length = sizeof(info->peer_address);
	if (getpeername(fd, (struct sockaddr *)&info->peer_address, &length) == 0) {
		info->peer_length = bounded_length(length);
		info->connected = true;
	}
}

static void inspect_file(int fd, struct ferry_descriptor_info *info)
{
	off_t offset = lseek(fd, 0, SEEK_CUR);

	info->offset = offset >= 0 ? offset : 0;
	if (info->kind == FERRY_DESCRIPTOR_MEMFD) {
		int seals = fcntl(fd, F_GET_SEALS);
		info->seals = seals >= 0 ? (unsigned int)seals : 0;
	}
}

/* Pipes without a name have a file system of their own. */
static bool is_named_pipe(int fd)
{
	struct statfs file_system;

	return fstatfs(fd, &file_system) == 0 && file_system.f_type != PIPEFS_MAGIC;
}

int ferry_descriptor_inspect(int fd, struct ferry_descriptor_info *info)
{
	struct stat status;

	if (info == NULL)
		return -EINVAL;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fstat(fd, &status) < 0)
		return -errno;

	*info = (struct ferry_descriptor_info){
	    .access = (flags & O_PATH) != 0 ? O_PATH : flags & O_ACCMODE,
	    .append = (flags & O_APPEND) != 0,
	    .non_blocking = (flags & O_NONBLOCK) != 0,
	    .device = status.st_dev,
	    .inode = status.st_ino,
	};
	/* A descriptor with O_PATH of a socket file is not the socket. */
	if (S_ISSOCK(status.st_mode) && (flags & O_PATH) == 0)
		info->kind = FERRY_DESCRIPTOR_SOCKET;
	else
		info->kind = inspect_kind_in_full(fd, inspect_kind_by_stat(&status));

	switch (info->kind) {
	case FERRY_DESCRIPTOR_SOCKET:
		inspect_socket(fd, info);
		break;
	case FERRY_DESCRIPTOR_FILE:
	case FERRY_DESCRIPTOR_MEMFD:
		info->size = status.st_size;
		inspect_file(fd, info);
		break;
	case FERRY_DESCRIPTOR_PIPE:
		info->named = is_named_pipe(fd);
		break;
	default:
		break;
	}
	return 0;
}
