#include "takeover/takeover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "message/send.h"
#include "takeover/socket_set.h"
#include "transport/interface.h"
#include "util/log.h"

/*
 * The part that both ends of a takeover share: the object, its messages, and its end.
 */

/* The most that a transport allows: a set is offered as a whole or not at all. */
enum { FDS_QUEUED_MAX = 1024 * 1024 };

/* ---- lifetime ---- */

static void destroy_takeover(struct ferry_takeover *takeover)
{
	ferry_message_stream_free(takeover->stream);
	if (takeover->event != NULL)
		event_free(takeover->event);
	ferry_socket_set_free(takeover->taken);
	free(takeover->request);
	free(takeover->state_bytes);
	free(takeover);
}

void takeover_enter(struct ferry_takeover *takeover)
{
	takeover->calls++;
}

void takeover_leave(struct ferry_takeover *takeover)
{
	if (--takeover->calls == 0 && takeover->freed)
		destroy_takeover(takeover);
}

/* From now on messages that arrive are ignored, and another takeover may have the set. */
static void mark_over(struct ferry_takeover *takeover)
{
	takeover->state = TAKEOVER_OVER;
	if (takeover->set != NULL)
		socket_set_detach_takeover(takeover->set);
	takeover->set = NULL;
}

void takeover_end(struct ferry_takeover *takeover, int status)
{
	mark_over(takeover);
	if (takeover->freed || takeover->ended)
		return;
	takeover->ended = true;
	takeover->callbacks->ended(takeover, status, takeover->context);
}

void takeover_end_later(struct ferry_takeover *takeover, int status)
{
	mark_over(takeover);
	takeover->status = status;
	event_active(takeover->event, EV_TIMEOUT, 0);
}

static void on_end_event(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_takeover *takeover = argument;

	takeover_enter(takeover);
	takeover_end(takeover, takeover->status);
	takeover_leave(takeover);
}

static void withdraw(struct ferry_takeover *takeover, int status)
{
	if (takeover->begun && takeover->state != TAKEOVER_OVER)
		takeover->role->withdraw(takeover, status);
}

static void on_set_freed(void *argument)
{
	struct ferry_takeover *takeover = argument;

	takeover_enter(takeover);
	withdraw(takeover, -ECANCELED);
	takeover_end_later(takeover, -ECANCELED);
	takeover_leave(takeover);
}

void takeover_attach_set(struct ferry_takeover *takeover, struct ferry_socket_set *set)
{
	takeover->set = set;
	socket_set_attach_takeover(set, on_set_freed, takeover);
}

void ferry_takeover_free(struct ferry_takeover *takeover)
{
	if (takeover == NULL || takeover->freed)
		return;
	takeover_enter(takeover);
	withdraw(takeover, -ECANCELED);
	mark_over(takeover);
	takeover->freed = true;
	takeover_leave(takeover);
}

/* ---- for the layer above ---- */

void takeover_set_state_cb(struct ferry_takeover *takeover, takeover_state_cb state_requested)
{
	takeover->state_requested = state_requested;
}

void *takeover_steal_state(struct ferry_takeover *takeover, size_t *length)
{
	void *bytes = takeover->state_bytes;

	*length = takeover->state_length;
	takeover->state_bytes = NULL;
	takeover->state_length = 0;
	return bytes;
}

struct ferry_socket_set *takeover_steal_taken(struct ferry_takeover *takeover)
{
	struct ferry_socket_set *taken = takeover->taken;

	takeover->taken = NULL;
	return taken;
}

/* ---- messages ---- */

/* Ends the takeover with an error, after the other process has been notified. */
static void fail_takeover(struct ferry_takeover *takeover, int status)
{
	if (takeover->state == TAKEOVER_OVER)
		return;
	log_line(FERRY_LOG_WARNING, "a takeover of listeners has failed: %s", strerror(-status));
	withdraw(takeover, status);
	takeover_end(takeover, status);
}

int takeover_send(struct ferry_takeover *takeover, enum takeover_wire_type type,
                  const void *payload, size_t length, const int *fds, size_t fd_count)
{
	const int status = ferry_message_stream_send(takeover->stream, (uint16_t)type, payload, length,
	                                             fds, fd_count, FERRY_FD_DUP);

	if (status == 0)
		message_stream_flush(takeover->stream);
	return status;
}

bool takeover_all_sent(const struct ferry_takeover *takeover)
{
	struct ferry_transport_stats stats;

	return ferry_transport_get_stats(ferry_message_stream_get_transport(takeover->stream),
	                                 &stats) == 0 &&
	       stats.bytes_queued == 0;
}

static void on_made(struct ferry_message_stream *stream, void *context)
{
	(void)stream;
	struct ferry_takeover *takeover = context;
	unsigned char hello[TAKEOVER_WIRE_HELLO_SIZE];

	if (takeover->state == TAKEOVER_OVER)
		return;
	takeover_enter(takeover);
	takeover->begun = true;
	takeover_wire_hello_put(hello);
	int status = takeover_send(takeover, TAKEOVER_WIRE_HELLO, hello, sizeof(hello), NULL, 0);
	if (status == 0)
		status = takeover->role->begin(takeover);
	if (status != 0)
		fail_takeover(takeover, status);
	takeover_leave(takeover);
}

static int process_message(struct ferry_takeover *takeover, struct ferry_message *message)
{
	size_t length;
	const void *payload = ferry_message_get_payload(message, &length);

	if ((ferry_message_get_type(message) == TAKEOVER_WIRE_HELLO) == takeover->greeted)
		return -EPROTO;
	if (takeover->greeted)
		return takeover->role->message_received(takeover, message);
	takeover->greeted = true;
	return takeover_wire_hello_get(payload, length);
}

static void on_message(struct ferry_message_stream *stream, struct ferry_message *message,
                       void *context)
{
	(void)stream;
	struct ferry_takeover *takeover = context;

	if (takeover->state == TAKEOVER_OVER)
		return;
	takeover_enter(takeover);
	const int status = process_message(takeover, message);
	if (status != 0)
		fail_takeover(takeover, status);
	takeover_leave(takeover);
}

static void on_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)stream;
	struct ferry_takeover *takeover = context;
	const bool by_peer = reason == 0 || reason == -ECONNRESET || reason == -EPIPE;

	if (takeover->state == TAKEOVER_OVER)
		return;
	takeover_enter(takeover);
	takeover->role->channel_ended(takeover, reason != 0 ? reason : -ECONNRESET, by_peer);
	takeover_leave(takeover);
}

static const struct ferry_message_callbacks stream_callbacks = {
    .connection_made = on_made, .message_received = on_message, .connection_lost = on_lost};

/* ---- making one ---- */

int takeover_new(struct ferry_takeover **out, const struct takeover_role *role,
                 struct ferry_socket_set *set, struct ferry_transport *transport,
                 const struct ferry_takeover_callbacks *callbacks, void *context)
{
	struct event_base *base = bufferevent_get_base(ferry_transport_get_bufferevent(transport));
	struct ferry_takeover *takeover = calloc(1, sizeof(*takeover));
	if (takeover == NULL)
		return -ENOMEM;
	takeover->role = role;
	takeover->callbacks = callbacks;
	takeover->context = context;
	takeover->event = event_new(base, -1, 0, on_end_event, takeover);
	int status = takeover->event != NULL ? ferry_socket_set_new(&takeover->taken) : -ENOMEM;
	/* Last, because the transport cannot be given back. */
	if (status == 0)
		status =
		    ferry_message_stream_new(&takeover->stream, transport, &stream_callbacks, takeover);
	if (status != 0) {
		destroy_takeover(takeover);
		return status;
	}
	ferry_transport_set_fd_buffer(transport, 64, FDS_QUEUED_MAX);
	/* The number of sockets bounds what is queued, and a message that is refused would be the end. */
	ferry_transport_set_byte_limit(transport, 0);
	if (set != NULL)
		takeover_attach_set(takeover, set);
	*out = takeover;
	return 0;
}
