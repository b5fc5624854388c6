#include "ferry/takeover.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "kernel/socket.h"
#include "takeover/socket_set.h"
#include "takeover/takeover.h"
#include "transport/interface.h"
#include "util/log.h"

/*
 * The old process of a takeover. It offers sockets, and owns everything until ACCEPTING has arrived.
 */

/* ---- offering ---- */

static bool is_named(const struct socket_set_entry *entry, const unsigned char *name)
{
	return strlen(entry->name) == name[0] && memcmp(entry->name, name + 1, name[0]) == 0;
}

/* Marks the sockets of that name, or all if it is NULL, as offered. Returns how many. */
static size_t mark_offered(struct ferry_socket_set *set, const unsigned char *name)
{
	size_t found = 0;

	for (size_t i = 0; i < set->count; i++) {
		if (name != NULL && !is_named(&set->entries[i], name))
			continue;
		set->entries[i].offered = true;
		found++;
	}
	return found;
}

static int mark_requested(struct ferry_socket_set *set, const unsigned char *payload, size_t length)
{
	uint32_t count;
	const int status = takeover_wire_request_get(payload, length, &count);
	if (status != 0)
		return status;

	const unsigned char *name = payload + TAKEOVER_WIRE_REQUEST_SIZE;
	for (size_t i = 0; i < set->count; i++)
		set->entries[i].offered = false;
	if (count == 0)
		mark_offered(set, NULL);
	for (; count > 0; count--, name += 1 + name[0])
		if (mark_offered(set, name) == 0)
			return -ENOENT;
	return 0;
}

static int send_listener(struct ferry_takeover *takeover, const struct socket_set_entry *entry)
{
	const struct socket_file *file = &entry->file;
	struct takeover_wire_listener listener = {.name_length = (uint16_t)strlen(entry->name)};
	unsigned char
	    payload[TAKEOVER_WIRE_LISTENER_SIZE + FERRY_SOCKET_SET_NAME_MAX + sizeof(file->name)];
	const int fds[3] = {entry->fd, file->directory, file->lock};
	size_t fd_count = 1;
	const int status = socket_get_cookie(entry->fd, &listener.cookie);

	if (status != 0)
		return status;
	if (file->bound) {
		listener.device = file->device;
		listener.inode = file->inode;
		listener.file_name_length = (uint16_t)strlen(file->name);
		listener.locked = file->lock >= 0;
		fd_count = listener.locked ? 3 : 2;
	}
	takeover_wire_listener_put(payload, &listener);
	unsigned char *names = payload + TAKEOVER_WIRE_LISTENER_SIZE;
	memcpy(names, entry->name, listener.name_length);
	memcpy(names + listener.name_length, file->name, listener.file_name_length);
	return takeover_send(takeover, TAKEOVER_WIRE_LISTENER, payload,
	                     TAKEOVER_WIRE_LISTENER_SIZE + (size_t)listener.name_length +
	                         listener.file_name_length,
	                     fds, fd_count);
}

/* The callback may free the takeover, or its set. */
static int send_state(struct ferry_takeover *takeover)
{
	if (takeover->state_requested == NULL)
		return 0;
	struct evbuffer *state = evbuffer_new();
	if (state == NULL)
		return -ENOMEM;
	int status = takeover->state_requested(takeover, state, takeover->context);
	const size_t length = evbuffer_get_length(state);
	if (status == 0 && length > 0 && takeover->state == TAKEOVER_TALKING) {
		const void *bytes = evbuffer_pullup(state, -1);
		status = bytes == NULL
		             ? -ENOMEM
		             : takeover_send(takeover, TAKEOVER_WIRE_STATE, bytes, length, NULL, 0);
	}
	evbuffer_free(state);
	return status;
}

/* Sends one message for each socket. A message holds 253 descriptors at most, and the kernel loses
 * those of one message together. */
static int offer_sockets(struct ferry_takeover *takeover, struct ferry_message *message)
{
	unsigned char end[TAKEOVER_WIRE_NUMBER_SIZE];
	size_t length;
	const void *payload = ferry_message_get_payload(message, &length);
	int32_t count = 0;

	int status = send_state(takeover);
	if (status != 0 || takeover->state == TAKEOVER_OVER)
		return status;
	struct ferry_socket_set *set = takeover->set;
	status = mark_requested(set, payload, length);
	if (status == 0)
		status = socket_set_reserve(takeover->taken, set->count);
	for (size_t i = 0; status == 0 && i < set->count; i++) {
		if (!set->entries[i].offered)
			continue;
		status = send_listener(takeover, &set->entries[i]);
		count++;
	}
	takeover_wire_number_put(end, count);
	if (status == 0)
		status = takeover_send(takeover, TAKEOVER_WIRE_END, end, sizeof(end), NULL, 0);
	if (status == 0)
		takeover->state = TAKEOVER_OFFERED;
	return status;
}

/* ---- the end ---- */

/* The sockets leave the set, and their files are disowned, before `ended` runs, which may free the set.
 * RELEASED follows once this process has closed the sockets. */
static void hand_over(struct ferry_takeover *takeover)
{
	socket_set_move_offered(takeover->set, takeover->taken);
	takeover_end(takeover, 0);
	ferry_socket_set_free(takeover->taken);
	takeover->taken = NULL;
	if (takeover_send(takeover, TAKEOVER_WIRE_RELEASED, NULL, 0, NULL, 0) != 0)
		log_line(FERRY_LOG_WARNING,
		         "listeners were taken over, and the new process has gone since");
}

static int on_new_message(struct ferry_takeover *takeover, struct ferry_message *message)
{
	switch (ferry_message_get_type(message)) {
	case TAKEOVER_WIRE_REQUEST:
		return takeover->state == TAKEOVER_TALKING ? offer_sockets(takeover, message) : -EPROTO;

	case TAKEOVER_WIRE_ACCEPTING:
		if (takeover->state != TAKEOVER_OFFERED)
			return -EPROTO;
		hand_over(takeover);
		return 0;

	default:
		return 0;
	}
}

/* The new process may take the channel's end for the death of this process, and own the files. A file
 * that stays behind is better than a file that is removed from under the new process. */
static void leave_files(struct ferry_takeover *takeover)
{
	if (takeover->state != TAKEOVER_OFFERED)
		return;
	log_line(
	    FERRY_LOG_WARNING,
	    "listeners were offered, and their files are left: the new process cannot be notified");
	socket_set_disown_offered(takeover->set);
}

static void on_new_process_gone(struct ferry_takeover *takeover, int reason, bool by_peer)
{
	/* A peer that breaks the format has not understood an offer. */
	if (!by_peer && reason != -EPROTO)
		leave_files(takeover);
	takeover_end(takeover, reason);
}

static void send_withdrawn(struct ferry_takeover *takeover, int status)
{
	unsigned char payload[TAKEOVER_WIRE_NUMBER_SIZE];
	const enum takeover_state state = takeover->state;

	takeover->state = TAKEOVER_OVER; /* ignores messages that are delivered during the flush */
	takeover_wire_number_put(payload, status);
	const bool sent =
	    takeover_send(takeover, TAKEOVER_WIRE_WITHDRAWN, payload, sizeof(payload), NULL, 0) == 0 &&
	    takeover_all_sent(takeover);
	/* The user's callbacks on the output have run in there, and may have freed the set or the takeover. */
	takeover->state = takeover->set != NULL ? state : TAKEOVER_OVER;
	if (!sent)
		leave_files(takeover);
}

/* The new process begins. */
static int await_request(struct ferry_takeover *takeover)
{
	(void)takeover;
	return 0;
}

static const struct takeover_role old_role = {
    .begin = await_request,
    .message_received = on_new_message,
    .channel_ended = on_new_process_gone,
    .withdraw = send_withdrawn,
};

/* ---- the public function ---- */

int ferry_takeover_serve(struct ferry_takeover **out, struct ferry_socket_set *set,
                         struct ferry_transport *transport,
                         const struct ferry_takeover_callbacks *callbacks, void *context)
{
	if (out == NULL || set == NULL || transport == NULL || callbacks == NULL ||
	    callbacks->ended == NULL)
		return -EINVAL;
	if (socket_set_has_takeover(set))
		return -EBUSY;
	if (!transport_carries_fds(transport))
		return -EOPNOTSUPP;
	/* SO_PEERCRED names the process that has made the connection. */
	const int status =
	    socket_check_peer_user(bufferevent_getfd(ferry_transport_get_bufferevent(transport)));
	return status != 0 ? status : takeover_new(out, &old_role, set, transport, callbacks, context);
}
