#include "endpoint/address.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kernel/path_fd.h"

/* A unix address holds 108 bytes. A path needs one of them for its terminating zero: the kernel accepts a path
 * of 108 bytes without it, but getsockname(2) then returns a length of 109, and few programs have room for
 * that. An abstract name starts with a zero byte, in the place of the string's `@`, and ends at the given
 * length: zeros after the first byte are part of the name, and therefore the length includes no padding.
 *
 * A longer path is reached by a descriptor of its directory: as /proc/self/fd/N/NAME, or, if /proc is not mounted
 * or NAME leaves no room for that, as NAME from a thread whose working directory this is. getsockname(2) later
 * returns what bind(2) was given. */

enum { PATH_SIZE = sizeof(((struct sockaddr_un *)NULL)->sun_path) };

static void set_path(struct address *address, const char *path, size_t length)
{
	*address = (struct address){.un.sun_family = AF_UNIX, .directory = -1};
	memcpy(address->un.sun_path, path, length);
	address->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

int address_from_string(struct address *address, const char *string)
{
	if (string == NULL || string[0] == '\0' || strcmp(string, "@") == 0)
		return -EINVAL;

	const bool abstract = address_is_abstract(string);
	const size_t length = strlen(string) + (abstract ? 0 : 1);
	if (length > PATH_SIZE)
		return -ENAMETOOLONG;
	set_path(address, string, length);
	if (abstract)
		address->un.sun_path[0] = '\0';
	return 0;
}

bool address_is_abstract(const char *string)
{
	return string != NULL && string[0] == '@';
}

/* ---- paths of any length ---- */

static const char *last_component(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

int address_open_directory(const char *path, const char **name)
{
	char directory[PATH_MAX] = ".";
	const char *last = last_component(path);
	const size_t length = (size_t)(last - path);

	if (strlen(last) >= PATH_SIZE || length >= sizeof(directory))
		return -ENAMETOOLONG;
	if (length > 0) {
		/* Including the slash, because the directory may be "/". */
		memcpy(directory, path, length);
		directory[length] = '\0';
	}
	*name = last;
	const int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fd;
}

int address_in_directory(struct address *address, const char *path, int directory)
{
	const int status = address_from_string(address, path);
	if (status != -ENAMETOOLONG)
		return status;

	const char *name = last_component(path);
	/* Without a name in it, the address would be that of an abstract socket. */
	if (name[0] == '\0')
		return -EISDIR;
	set_path(address, name, strlen(name) + 1);
	address->directory = directory;
	return 0;
}

int address_open(struct address *address, const char *string)
{
	const char *name;
	int status = address_from_string(address, string);

	if (status != -ENAMETOOLONG || address_is_abstract(string))
		return status;
	const int directory = address_open_directory(string, &name);
	if (directory < 0)
		return directory;
	status = address_in_directory(address, string, directory);
	if (status != 0)
		close(directory);
	return status;
}

void address_close(struct address *address)
{
	if (address->directory >= 0)
		close(address->directory);
	address->directory = -1;
}

/* ---- bind(2) and connect(2) ---- */

struct address_call {
	int (*function)(int fd, const struct sockaddr *address, socklen_t length);
	int fd;
	const struct address *address;
};

static int call_by_name(void *argument)
{
	const struct address_call *call = argument;
	const struct address *address = call->address;
	const struct sockaddr *any = (const struct sockaddr *)&address->un;

	return call->function(call->fd, any, address->length) < 0 ? -errno : 0;
}

/* -ENAMETOOLONG: there is no room for the longer path. */
static int call_by_proc(const struct address_call *call)
{
	const char *name = call->address->un.sun_path;
	char directory[PATH_FD_NAME_SIZE], path[PATH_FD_NAME_SIZE + 1 + PATH_SIZE];
	struct address address;

	path_fd_name(call->address->directory, directory);
	const int length = snprintf(path, sizeof(path), "%s/%s", directory, name);
	if (length >= PATH_SIZE)
		return -ENAMETOOLONG;
	set_path(&address, path, (size_t)length + 1);
	return call_by_name(&(struct address_call){call->function, call->fd, &address});
}

static int run_call(struct address_call call)
{
	const int directory = call.address->directory;
	if (directory < 0)
		return call_by_name(&call);

	const int status = call_by_proc(&call);
	if (status == 0 || (status != -ENAMETOOLONG && path_fd_check_proc(directory) == 0))
		return status;
	return path_fd_call_inside(directory, call_by_name, &call);
}

int address_bind(const struct address *address, int fd)
{
	return run_call((struct address_call){bind, fd, address});
}

int address_connect(const struct address *address, int fd)
{
	return run_call((struct address_call){connect, fd, address});
}
