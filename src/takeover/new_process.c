#include "ferry/takeover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/socket.h"
#include "takeover/socket_set.h"
#include "takeover/takeover.h"
#include "transport/interface.h"

/*
 * The new process of a takeover. It asks for sockets, receives copies of them, and owns their files
 * once the old process has stopped or died.
 */

/* ---- the request ---- */

static int send_request(struct ferry_takeover *takeover)
{
	return takeover_send(takeover, TAKEOVER_WIRE_REQUEST, takeover->request,
	                     takeover->request_length, NULL, 0);
}

static int make_request(unsigned char **out, size_t *length, const char *const *names, size_t count)
{
	size_t size = TAKEOVER_WIRE_REQUEST_SIZE;

	for (size_t i = 0; i < count; i++) {
		if (names[i] == NULL)
			return -EINVAL;
		if (strlen(names[i]) > FERRY_SOCKET_SET_NAME_MAX)
			return -EMSGSIZE;
		size += 1 + strlen(names[i]);
		if (size > TAKEOVER_WIRE_REQUEST_MAX)
			return -EMSGSIZE;
	}
	unsigned char *payload = malloc(size);
	if (payload == NULL)
		return -ENOMEM;
	takeover_wire_request_put(payload, (uint32_t)count);
	unsigned char *end = payload + TAKEOVER_WIRE_REQUEST_SIZE;
	for (size_t i = 0; i < count; i++) {
		*end = (unsigned char)strlen(names[i]);
		memcpy(end + 1, names[i], *end);
		end += 1 + *end;
	}
	*out = payload;
	*length = size;
	return 0;
}

/* ---- the sockets ---- */

static int check_cookie(int fd, uint64_t expected)
{
	uint64_t cookie = 0;

	return socket_get_cookie(fd, &cookie) == 0 && cookie == expected ? 0 : -EPROTO;
}

static size_t count_listener_fds(const struct takeover_wire_listener *listener)
{
	if (listener->file_name_length == 0)
		return 1;
	return listener->locked ? 3 : 2;
}

/* A socket that cannot be in a set is a fault of the old process, which had it in one. */
static int insert_listener(struct ferry_takeover *takeover,
                           const struct takeover_wire_listener *listener,
                           const struct ferry_message *message)
{
	const size_t fd_count = count_listener_fds(listener);
	char name[FERRY_SOCKET_SET_NAME_MAX + 1];
	struct socket_file file = {.directory = fd_count > 1 ? ferry_message_get_fd(message, 1) : -1,
	                           .lock = fd_count > 2 ? ferry_message_get_fd(message, 2) : -1,
	                           .device = (dev_t)listener->device,
	                           .inode = (ino_t)listener->inode};

	if (listener->file_name_length >= sizeof(file.name))
		return -EPROTO;
	memcpy(name, listener->name, listener->name_length);
	name[listener->name_length] = '\0';
	memcpy(file.name, listener->file_name, listener->file_name_length);
	const int status =
	    socket_set_insert(takeover->taken, name, ferry_message_get_fd(message, 0), &file);
	return status == 0 || status == -ENOMEM ? status : -EPROTO;
}

static int receive_listener(struct ferry_takeover *takeover, struct ferry_message *message)
{
	struct takeover_wire_listener listener = {.file_name_length = 0};
	size_t length;
	const void *payload = ferry_message_get_payload(message, &length);

	int status = takeover_wire_listener_get(payload, length, &listener);
	if (status == 0 && ferry_message_get_fd_count(message) != count_listener_fds(&listener))
		status = -EPROTO;
	if (status == 0 && ferry_message_get_fds_lost(message) > 0)
		status = -EMFILE;
	if (status == 0)
		status = check_cookie(ferry_message_get_fd(message, 0), listener.cookie);
	if (status == 0)
		status = insert_listener(takeover, &listener, message);
	for (size_t i = 0; status == 0 && i < count_listener_fds(&listener); i++)
		(void)ferry_message_steal_fd(message, i);
	return status;
}

static int receive_state(struct ferry_takeover *takeover, struct ferry_message *message)
{
	size_t length;
	const void *payload = ferry_message_get_payload(message, &length);

	if (takeover->state_bytes != NULL)
		return -EPROTO;
	takeover->state_bytes = malloc(length > 0 ? length : 1);
	if (takeover->state_bytes == NULL)
		return -ENOMEM;
	memcpy(takeover->state_bytes, payload, length);
	takeover->state_length = length;
	return 0;
}

static int receive_end(struct ferry_takeover *takeover, struct ferry_message *message)
{
	struct ferry_socket_set *set = takeover->taken;
	int32_t count;
	size_t length;
	const void *payload = ferry_message_get_payload(message, &length);

	if (takeover_wire_number_get(payload, length, &count) != 0 || count < 0 ||
	    (size_t)count != ferry_socket_set_count(set))
		return -EPROTO;
	takeover->taken = NULL;
	takeover_attach_set(takeover, set);
	takeover->state = TAKEOVER_OFFERED;
	takeover->callbacks->received(takeover, set, takeover->context);
	return 0;
}

/* ---- the end ---- */

static void own_files(struct ferry_takeover *takeover)
{
	if (takeover->set != NULL)
		socket_set_own_files(takeover->set);
}

static int receive_released(struct ferry_takeover *takeover)
{
	if (takeover->state != TAKEOVER_ACCEPTED)
		return -EPROTO;
	own_files(takeover);
	takeover_end(takeover, 0);
	return 0;
}

static int receive_withdrawn(struct ferry_takeover *takeover, struct ferry_message *message)
{
	int32_t status;
	size_t length;
	const void *payload = ferry_message_get_payload(message, &length);

	if (takeover_wire_number_get(payload, length, &status) != 0 || status >= 0)
		return -EPROTO;
	takeover_end(takeover, status);
	return 0;
}

static int on_old_message(struct ferry_takeover *takeover, struct ferry_message *message)
{
	const bool talking = takeover->state == TAKEOVER_TALKING;

	switch (ferry_message_get_type(message)) {
	case TAKEOVER_WIRE_LISTENER:
		return talking ? receive_listener(takeover, message) : -EPROTO;
	case TAKEOVER_WIRE_STATE:
		return talking ? receive_state(takeover, message) : -EPROTO;
	case TAKEOVER_WIRE_END:
		return talking ? receive_end(takeover, message) : -EPROTO;
	case TAKEOVER_WIRE_RELEASED:
		return receive_released(takeover);
	case TAKEOVER_WIRE_WITHDRAWN:
		return receive_withdrawn(takeover, message);
	default:
		return 0;
	}
}

/* OFFERED: the old process has died, or it would have sent WITHDRAWN. ACCEPTED: the old process has the
 * commit or is dead, whoever has ended the channel. */
static void on_old_process_gone(struct ferry_takeover *takeover, int reason, bool by_peer)
{
	if (takeover->state == TAKEOVER_OFFERED && by_peer) {
		takeover->state = TAKEOVER_ORPHANED;
	} else if (takeover->state == TAKEOVER_ACCEPTED) {
		own_files(takeover);
		takeover_end(takeover, 0);
	} else {
		takeover_end(takeover, reason);
	}
}

/* The end of the channel is all that the old process needs. */
static void abort_channel(struct ferry_takeover *takeover, int status)
{
	(void)status;
	ferry_transport_abort_connection(ferry_message_stream_get_transport(takeover->stream));
}

static const struct takeover_role new_role = {
    .begin = send_request,
    .message_received = on_old_message,
    .channel_ended = on_old_process_gone,
    .withdraw = abort_channel,
};

/* ---- the public functions ---- */

int ferry_takeover_request(struct ferry_takeover **out, struct ferry_transport *transport,
                           const char *const *names, size_t count,
                           const struct ferry_takeover_callbacks *callbacks, void *context)
{
	unsigned char *request = NULL;
	size_t length = 0;

	if (out == NULL || transport == NULL || (names == NULL && count > 0) || callbacks == NULL ||
	    callbacks->received == NULL || callbacks->ended == NULL)
		return -EINVAL;
	if (!transport_carries_fds(transport))
		return -EOPNOTSUPP;
	int status = make_request(&request, &length, names, count);
	if (status == 0)
		status = takeover_new(out, &new_role, NULL, transport, callbacks, context);
	if (status != 0) {
		free(request);
		return status;
	}
	(*out)->request = request;
	(*out)->request_length = length;
	return 0;
}

/* Not by takeover_send(), which could run callbacks. If the channel has ended, the loop finds that out after the last
 * messages of the old process. */
static int send_accepting(struct ferry_takeover *takeover)
{
	takeover_enter(takeover);
	takeover->state = TAKEOVER_ACCEPTED;
	const int status = ferry_message_stream_send(takeover->stream, TAKEOVER_WIRE_ACCEPTING, NULL, 0,
	                                             NULL, 0, FERRY_FD_DUP);
	const bool failed = status != 0 && status != -EPIPE;
	if (failed)
		takeover->state = TAKEOVER_OFFERED;
	takeover_leave(takeover);
	return failed ? status : 0;
}

int ferry_takeover_commit(struct ferry_takeover *takeover)
{
	if (takeover == NULL || takeover->role != &new_role)
		return -EINVAL;
	switch (takeover->state) {
	case TAKEOVER_OFFERED:
		return send_accepting(takeover);
	case TAKEOVER_ORPHANED:
		own_files(takeover);
		takeover_end_later(takeover, 0);
		return 0;
	case TAKEOVER_OVER:
		return -ENOTCONN;
	default:
		return -EINVAL;
	}
}
