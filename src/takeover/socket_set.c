#include "takeover/socket_set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ferry/listener.h"

#include "endpoint/listener.h"
#include "kernel/socket.h"

/*
 * A set is an array in the order of adding: a process has a handful of listeners, and searches for each
 * a few times in its life.
 */

int ferry_socket_set_new(struct ferry_socket_set **out)
{
	if (out == NULL)
		return -EINVAL;
	struct ferry_socket_set *set = calloc(1, sizeof(*set));
	if (set == NULL)
		return -ENOMEM;
	*out = set;
	return 0;
}

static void clear_entry(struct socket_set_entry *entry)
{
	socket_file_remove(&entry->file);
	if (entry->fd >= 0)
		close(entry->fd);
	free(entry->name);
}

void ferry_socket_set_free(struct ferry_socket_set *set)
{
	if (set == NULL)
		return;
	if (set->freed != NULL)
		set->freed(set->freed_argument);
	for (size_t i = 0; i < set->count; i++)
		clear_entry(&set->entries[i]);
	free(set->entries);
	free(set);
}

/* ---- adding ---- */

int socket_set_reserve(struct ferry_socket_set *set, size_t count)
{
	if (set->room - set->count >= count)
		return 0;
	const size_t room = 2 * set->count + count;
	struct socket_set_entry *entries = realloc(set->entries, room * sizeof(*entries));
	if (entries == NULL)
		return -ENOMEM;
	set->entries = entries;
	set->room = room;
	return 0;
}

/* Whether other processes can reach this one by the socket. */
static int check_socket(int fd)
{
	const int type = socket_get_type(fd);
	const int listening = type < 0 ? type : socket_is_listening(fd);

	if (listening < 0)
		return listening;
	return listening > 0 || type == SOCK_DGRAM ? 0 : -EINVAL;
}

static int make_non_blocking(int fd)
{
	const int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || ((flags & O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0))
		return -errno;
	return 0;
}

int socket_set_insert(struct ferry_socket_set *set, const char *name, int fd,
                      const struct socket_file *file)
{
	const size_t length = strlen(name);
	if (length > FERRY_SOCKET_SET_NAME_MAX)
		return -EMSGSIZE;
	int status = check_socket(fd);
	if (status == 0)
		status = socket_set_reserve(set, 1);
	if (status != 0)
		return status;
	struct socket_set_entry *entry = &set->entries[set->count];
	*entry = (struct socket_set_entry){NULL, fd, *file, false};
	entry->name = malloc(length + 1);
	if (entry->name == NULL)
		return -ENOMEM;
	memcpy(entry->name, name, length + 1);
	status = make_non_blocking(fd);
	if (status != 0)
		free(entry->name);
	else
		set->count++;
	return status;
}

static int insert_duplicate(struct ferry_socket_set *set, const char *name, int fd,
                            const struct socket_file *file)
{
	const int duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (duplicate < 0)
		return -errno;
	const int status = socket_set_insert(set, name, duplicate, file);
	if (status != 0)
		close(duplicate);
	return status;
}

int ferry_socket_set_add(struct ferry_socket_set *set, const char *name, int fd,
                         enum ferry_fd_ownership ownership)
{
	if (set == NULL || name == NULL || (ownership != FERRY_FD_TAKE && ownership != FERRY_FD_DUP))
		return -EINVAL;
	if (ownership == FERRY_FD_DUP)
		return insert_duplicate(set, name, fd, &SOCKET_FILE_NONE);
	return socket_set_insert(set, name, fd, &SOCKET_FILE_NONE);
}

int ferry_socket_set_add_listener(struct ferry_socket_set *set, const char *name,
                                  struct ferry_listener *listener)
{
	if (set == NULL || name == NULL || listener == NULL)
		return -EINVAL;
	struct socket_file *file = listener_get_file(listener);
	const int status = insert_duplicate(set, name, ferry_listener_get_fd(listener), file);
	if (status == 0)
		socket_file_forget(file);
	return status;
}

int ferry_socket_set_remove(struct ferry_socket_set *set, const char *name)
{
	size_t left = 0;

	if (set == NULL || name == NULL)
		return -EINVAL;
	if (socket_set_has_takeover(set))
		return -EBUSY;
	const size_t count = set->count;
	/* The one that has `name` itself, which is compared until the end. */
	struct socket_set_entry last = {.name = NULL};
	for (size_t i = 0; i < count; i++) {
		if (strcmp(set->entries[i].name, name) != 0)
			set->entries[left++] = set->entries[i];
		else if (set->entries[i].name == name)
			last = set->entries[i];
		else
			clear_entry(&set->entries[i]);
	}
	if (last.name != NULL)
		clear_entry(&last);
	set->count = left;
	return left < count ? 0 : -ENOENT;
}

/* ---- files ---- */

static int own_path(struct socket_set_entry *entry)
{
	struct socket_file file;

	if (entry->file.bound)
		return 0;
	const int status = socket_file_find(&file, entry->fd);
	if (status == 0) {
		/* A lock that came with the socket stays locked. */
		file.lock = entry->file.lock;
		entry->file.lock = -1;
		socket_file_remove(&entry->file);
		entry->file = file;
	}
	return status;
}

int ferry_socket_set_own_path(struct ferry_socket_set *set, const char *name)
{
	bool owned = false;

	if (set == NULL || name == NULL)
		return -EINVAL;
	for (size_t i = 0; i < set->count; i++) {
		if (strcmp(set->entries[i].name, name) != 0)
			continue;
		const int status = own_path(&set->entries[i]);
		if (status != 0 && status != -ENOENT)
			return status;
		owned |= status == 0;
	}
	return owned ? 0 : -ENOENT;
}

void socket_set_own_files(struct ferry_socket_set *set)
{
	for (size_t i = 0; i < set->count; i++)
		socket_file_own(&set->entries[i].file);
}

void socket_set_disown_offered(struct ferry_socket_set *set)
{
	for (size_t i = 0; i < set->count; i++)
		if (set->entries[i].offered)
			set->entries[i].file.bound = false;
}

void socket_set_move_offered(struct ferry_socket_set *set, struct ferry_socket_set *to)
{
	size_t left = 0;

	socket_set_disown_offered(set);
	for (size_t i = 0; i < set->count; i++) {
		if (set->entries[i].offered)
			to->entries[to->count++] = set->entries[i];
		else
			set->entries[left++] = set->entries[i];
	}
	set->count = left;
}

/* ---- a takeover ---- */

void socket_set_attach_takeover(struct ferry_socket_set *set, void (*freed)(void *argument),
                                void *argument)
{
	set->freed = freed;
	set->freed_argument = argument;
}

void socket_set_detach_takeover(struct ferry_socket_set *set)
{
	set->freed = NULL;
	set->freed_argument = NULL;
}

bool socket_set_has_takeover(const struct ferry_socket_set *set)
{
	return set->freed != NULL;
}

/* ---- searching ---- */

size_t ferry_socket_set_count(const struct ferry_socket_set *set)
{
	return set != NULL ? set->count : 0;
}

int ferry_socket_set_find(const struct ferry_socket_set *set, const char *name)
{
	if (set == NULL || name == NULL)
		return -EINVAL;
	for (size_t i = 0; i < set->count; i++)
		if (strcmp(set->entries[i].name, name) == 0)
			return set->entries[i].fd;
	return -ENOENT;
}

int ferry_socket_set_get_fd(const struct ferry_socket_set *set, size_t index)
{
	if (set == NULL)
		return -EINVAL;
	return index < set->count ? set->entries[index].fd : -ENOENT;
}

const char *ferry_socket_set_get_name(const struct ferry_socket_set *set, size_t index)
{
	return set != NULL && index < set->count ? set->entries[index].name : NULL;
}
