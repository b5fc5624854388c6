#include "ferry/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "descriptor/description.h"
#include "kernel/inspect.h"
#include "kernel/socket.h"
#include "libevent/adopt.h"
#include "util/log.h"
#include "util/utf8.h"

/*
 * A descriptor with its description, as one message. The receiver trusts nothing in the description: it
 * inspects the descriptor itself, and the user gets the result of that inspection only. A description that
 * matches shows that both processes mean the same object by the message.
 */

struct ferry_descriptor {
	int fd; /* -1: stolen, or made into an object */
	struct ferry_descriptor_info info;
	char name[];
};

/* Inspects a descriptor and makes its description. */
static int describe_fd(int fd, struct ferry_descriptor_info *info, struct description *description)
{
	int status = ferry_descriptor_inspect(fd, info);
	if (status < 0)
		return status;
	description_make(description, info, inspect_kind_is_coarse(fd, info->kind));
	return 0;
}

/* ---- sending ---- */

int ferry_descriptor_send(struct ferry_message_stream *stream, uint16_t type, int fd,
                          const char *name, enum ferry_fd_ownership ownership)
{
	unsigned char payload[DESCRIPTION_SIZE + FERRY_DESCRIPTOR_NAME_MAX + 1];
	struct ferry_descriptor_info info;
	struct description description;

	if (stream == NULL)
		return -EINVAL;
	if (name == NULL)
		name = "";
	size_t length = strlen(name);
	if (length > FERRY_DESCRIPTOR_NAME_MAX)
		return -EMSGSIZE;
	if (!utf8_is_valid(name, length))
		return -EINVAL;
	int status = describe_fd(fd, &info, &description);
	if (status < 0)
		return status;
	description_put(payload, &description, length);
	memcpy(payload + DESCRIPTION_SIZE, name, length + 1);
	return ferry_message_stream_send(stream, type, payload, DESCRIPTION_SIZE + length, &fd, 1,
	                                 ownership);
}

/* ---- receiving ---- */

static int refuse_message(struct ferry_message *message, const char *fault, int status)
{
	log_line(FERRY_LOG_WARNING, "descriptors: the peer sent %s", fault);
	for (size_t i = 0; i < ferry_message_get_fd_count(message); i++) {
		int fd = ferry_message_steal_fd(message, i);
		if (fd >= 0)
			close(fd);
	}
	return status;
}

/* Whether the descriptor is a TCP connection that has ended. POLLRDHUP distinguishes it from a socket that
 * was never connected. */
static bool tcp_has_ended(int fd, const struct description *found)
{
	struct pollfd end = {.fd = fd, .events = POLLRDHUP};

	return (found->family == AF_INET || found->family == AF_INET6) && found->type == SOCK_STREAM &&
	       socket_poll_now(&end, 1) > 0 && (end.revents & POLLRDHUP) != 0;
}

static const char *compare_descriptions(int fd, const struct description *received,
                                        struct description *found)
{
	unsigned int missing = received->flags & ~found->flags & DESCRIPTION_CONNECTED;

	if (missing != 0 && tcp_has_ended(fd, found))
		found->flags |= DESCRIPTION_CONNECTED;
	return description_compare(received, found);
}

/* Parses the message. Returns its descriptor, which stays with the message. */
static int parse_message(struct ferry_message *message, struct description *received,
                         const char **name, size_t *name_length)
{
	size_t length;
	const unsigned char *payload = ferry_message_get_payload(message, &length);

	const char *fault = description_get(payload, length, received, name, name_length);
	if (fault != NULL)
		return refuse_message(message, fault, -EPROTO);
	if (ferry_message_get_fd_count(message) != 1)
		return refuse_message(message, "a description without its one descriptor", -EPROTO);
	if (ferry_message_get_fds_lost(message) > 0)
		return refuse_message(message, "a descriptor that did not arrive", -EMFILE);
	return ferry_message_get_fd(message, 0);
}

static struct ferry_descriptor *new_descriptor(const char *name, size_t length)
{
	struct ferry_descriptor *descriptor = malloc(sizeof(*descriptor) + length + 1);

	if (descriptor == NULL)
		return NULL;
	memcpy(descriptor->name, name, length);
	descriptor->name[length] = '\0';
	return descriptor;
}

/* Moves the descriptor out of the message, if it matches the description. */
static int claim_fd(struct ferry_descriptor *descriptor, struct ferry_message *message, int fd,
                    const struct description *received)
{
	struct description found;

	int status = describe_fd(fd, &descriptor->info, &found);
	if (status < 0)
		return refuse_message(message, "a descriptor that cannot be inspected", -EBADMSG);
	const char *fault = compare_descriptions(fd, received, &found);
	if (fault != NULL)
		return refuse_message(message, fault, -EBADMSG);
	descriptor->fd = ferry_message_steal_fd(message, 0);
	return 0;
}

int ferry_descriptor_receive(struct ferry_descriptor **out, struct ferry_message *message)
{
	struct description received;
	const char *name;
	size_t name_length;

	if (out == NULL || message == NULL)
		return -EINVAL;
	int fd = parse_message(message, &received, &name, &name_length);
	if (fd < 0)
		return fd;
	struct ferry_descriptor *descriptor = new_descriptor(name, name_length);
	if (descriptor == NULL)
		return -ENOMEM;
	int status = claim_fd(descriptor, message, fd, &received);
	if (status < 0) {
		free(descriptor);
		return status;
	}
	*out = descriptor;
	return 0;
}

/* ---- the object ---- */

void ferry_descriptor_free(struct ferry_descriptor *descriptor)
{
	if (descriptor == NULL)
		return;
	if (descriptor->fd >= 0)
		close(descriptor->fd);
	free(descriptor);
}

const char *ferry_descriptor_get_name(const struct ferry_descriptor *descriptor)
{
	return descriptor != NULL ? descriptor->name : "";
}

const struct ferry_descriptor_info *
ferry_descriptor_get_info(const struct ferry_descriptor *descriptor)
{
	return descriptor != NULL ? &descriptor->info : NULL;
}

int ferry_descriptor_get_fd(const struct ferry_descriptor *descriptor)
{
	if (descriptor == NULL)
		return -EINVAL;
	return descriptor->fd >= 0 ? descriptor->fd : -ENOENT;
}

int ferry_descriptor_steal_fd(struct ferry_descriptor *descriptor)
{
	int fd = ferry_descriptor_get_fd(descriptor);

	if (fd >= 0)
		descriptor->fd = -1;
	return fd;
}

/* ---- a FILE ---- */

/* Only a kind that is read and written as a stream of bytes can be a FILE. */
static int check_stream_of_bytes(enum ferry_descriptor_kind kind)
{
	switch (kind) {
	case FERRY_DESCRIPTOR_FILE:
	case FERRY_DESCRIPTOR_MEMFD:
	case FERRY_DESCRIPTOR_PIPE:
	case FERRY_DESCRIPTOR_TTY:
	case FERRY_DESCRIPTOR_DEVICE:
		return 0;
	case FERRY_DESCRIPTOR_DIRECTORY:
		return -EISDIR;
	default:
		return -EOPNOTSUPP;
	}
}

/* NULL: the descriptor is open neither for reading nor for writing. */
static const char *get_file_mode(const struct ferry_descriptor_info *info)
{
	switch (info->access) {
	case O_RDONLY:
		return "r";
	case O_WRONLY:
		return info->append ? "a" : "w";
	case O_RDWR:
		return info->append ? "a+" : "r+";
	default:
		return NULL;
	}
}

/* For mode "a" fdopen(3) moves the position to the end, and the sender shares it: moves it back. */
static FILE *open_file(int fd, const char *mode)
{
	off_t position = lseek(fd, 0, SEEK_CUR);
	FILE *file = fdopen(fd, mode);

	if (file == NULL)
		return NULL;
	if (position >= 0 && strcmp(mode, "a") == 0)
		lseek(fd, position, SEEK_SET);
	return file;
}

int ferry_descriptor_to_file(FILE **out, struct ferry_descriptor *descriptor)
{
	if (out == NULL || descriptor == NULL)
		return -EINVAL;
	if (descriptor->fd < 0)
		return -ENOENT;
	int status = check_stream_of_bytes(descriptor->info.kind);
	if (status < 0)
		return status;
	const char *mode = get_file_mode(&descriptor->info);
	if (mode == NULL)
		return -EBADF;
	FILE *file = open_file(descriptor->fd, mode);
	if (file == NULL)
		return -errno;
	descriptor->fd = -1;
	*out = file;
	return 0;
}

/* ---- libevent's objects ---- */

static int require_socket(const struct ferry_descriptor *descriptor)
{
	if (descriptor->fd < 0)
		return -ENOENT;
	return descriptor->info.kind == FERRY_DESCRIPTOR_SOCKET ? 0 : -ENOTSOCK;
}

static int require_stream_socket(const struct ferry_descriptor *descriptor)
{
	int status = require_socket(descriptor);

	if (status == 0 && descriptor->info.type != SOCK_STREAM)
		status = -EPROTOTYPE;
	if (status == 0 && !descriptor->info.connected)
		status = -ENOTCONN;
	return status;
}

int ferry_descriptor_to_bufferevent(struct bufferevent **out, struct ferry_descriptor *descriptor,
                                    struct event_base *base, int options)
{
	if (out == NULL || descriptor == NULL || base == NULL)
		return -EINVAL;
	int status = require_stream_socket(descriptor);
	if (status == 0)
		status = adopt_bufferevent(out, descriptor->fd, base, options, NULL, 0);
	if (status < 0)
		return status;
	evutil_make_socket_nonblocking(descriptor->fd);
	descriptor->fd = -1;
	return 0;
}

int ferry_descriptor_to_listener(struct evconnlistener **out, struct ferry_descriptor *descriptor,
                                 struct event_base *base, evconnlistener_cb callback, void *context,
                                 unsigned int flags)
{
	if (out == NULL || descriptor == NULL || base == NULL)
		return -EINVAL;
	int status = require_socket(descriptor);
	if (status == 0 && !descriptor->info.listening)
		status = -EINVAL;
	if (status == 0)
		status = adopt_listener(out, descriptor->fd, base, callback, context, flags);
	if (status == 0)
		descriptor->fd = -1;
	return status;
}
