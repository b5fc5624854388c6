#include "relay/flow.h"

#include <errno.h>
#include <unistd.h>

#include "kernel/ancillary.h"
#include "relay/ending.h"
#include "relay/splice.h"

/* ---- bytes ---- */

/* The other end takes no more if its connection is over or breaks: its end is on the way, and is passed on. */
static void pass_bytes(struct relay_end *from, struct evbuffer *bytes)
{
	size_t length = evbuffer_get_length(bytes);

	if (length == 0)
		return;
	int status = ferry_transport_write_buffer(from->other->transport, bytes);
	if (status == 0) {
		from->flow.bytes_passed += length;
		return;
	}
	evbuffer_drain(bytes, evbuffer_get_length(bytes));
	if (status != -EPIPE)
		relay_abort(from->relay, from->other->side, status);
}

/* The input is the bufferevent's: the filter gets a buffer to which it can add. */
static void filter_bytes(struct relay_end *from, struct evbuffer *input)
{
	struct ferry_relay *relay = from->relay;

	if (evbuffer_add_buffer(relay->filtered, input) < 0) {
		relay_abort(relay, from->side, -ENOMEM);
		return;
	}
	relay->filtering = from;
	int status = relay->callbacks->filter_bytes(relay, from->side, relay->filtered, relay->context);
	relay->filtering = NULL;
	if (relay->freed)
		return;
	if (status == 0 && !relay->closing) {
		pass_bytes(from, relay->filtered);
		return;
	}
	evbuffer_drain(relay->filtered, evbuffer_get_length(relay->filtered));
	if (status < 0)
		relay_abort(relay, from->side, status);
}

/* A filter of this read has called ferry_relay_close(). What the descriptors travel with is passed on by now. */
static void close_behind(struct relay_end *from)
{
	struct ferry_relay *relay = from->relay;

	if (relay->freed || relay->close_behind != from)
		return;
	relay->close_behind = NULL;
	relay_close(relay);
}

static void on_data(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct relay_end *from = context;
	size_t length = evbuffer_get_length(input);
	(void)transport;

	relay_splice_overtaken(from);
	from->flow.bytes_received += length;
	from->last_read = length;
	if (from->muted)
		evbuffer_drain(input, evbuffer_get_length(input));
	else if (from->relay->filtered != NULL)
		filter_bytes(from, input);
	else
		pass_bytes(from, input);
	relay_splice_consider(from);
	close_behind(from);
}

/* ---- descriptors ---- */

static void pass_fd(struct relay_end *from, int fd)
{
	int status = ferry_transport_send_fd(from->other->transport, fd, FERRY_FD_TAKE);

	if (status == 0) {
		from->flow.fds_passed++;
		return;
	}
	close(fd);
	from->flow.fds_dropped++;
	if (status != -EPIPE)
		relay_abort(from->relay, from->other->side, status);
}

static void on_fd(struct ferry_transport *transport, int fd, void *context)
{
	struct relay_end *from = context;
	struct ferry_relay *relay = from->relay;
	int status = 0;
	(void)transport;

	relay_splice_overtaken(from);
	from->flow.fds_received++;
	if (relay->callbacks->filter_fd != NULL && !from->muted) {
		relay->filtering = from;
		status = relay->callbacks->filter_fd(relay, from->side, &fd, relay->context);
		relay->filtering = NULL;
	}
	if (status == 0 && fd >= 0 && !relay->freed && !relay->closing && !from->muted) {
		pass_fd(from, fd);
		return;
	}
	if (fd >= 0)
		close(fd);
	from->flow.fds_dropped++;
	if (status < 0 && !relay->freed)
		relay_abort(relay, from->side, status);
}

/* ---- pauses ---- */

static void pause_from(void *context)
{
	struct relay_end *from = context;

	from->flow.pauses++;
	relay_pause(from, RELAY_PAUSE_FULL);
}

static void resume_from(void *context)
{
	struct relay_end *from = context;

	if (relay_resume(from, RELAY_PAUSE_FULL) < 0)
		relay_abort(from->relay, from->side, -ENOMEM);
	else
		relay_splice_consider(from); /* behind the read there was a queue */
}

/* The other end is gone; its connection_lost follows when all that it had sent is passed on. */
static void stop_from(void *context)
{
	struct relay_end *from = context;

	if (from->relay->freed)
		return;
	relay_mute(from);
	relay_note_closing(from->relay);
}

static const struct ferry_producer_callbacks producer = {
    .pause_producing = pause_from, .resume_producing = resume_from, .stop_producing = stop_from};

/* ---- the ends ---- */

static void on_half_end(struct ferry_transport *transport, void *context)
{
	struct relay_end *end = context;

	if (end->muted)
		return;
	end->half_ended = true;
	end->closed = ferry_transport_peer_has_closed(transport);
	relay_pass_end(end);
}

static void on_lost(struct ferry_transport *transport, int reason, void *context)
{
	struct relay_end *end = context;
	(void)transport;

	end->lost = true;
	end->reason = reason;
	relay_pass_loss(end);
}

static const struct ferry_protocol protocol = {.data_received = on_data,
                                               .file_descriptor_received = on_fd,
                                               .read_connection_lost = on_half_end,
                                               .connection_lost = on_lost};

/* ---- making ---- */

int relay_prepare(struct relay_end *end, struct ferry_transport *transport)
{
	int status =
	    ferry_transport_register_producer(transport, &producer, end->other, FERRY_PRODUCER_PUSH);
	if (status < 0)
		return status;
	status = ferry_transport_set_fd_positions(transport, FERRY_FD_EXACT);
	if (status < 0) {
		(void)ferry_transport_unregister_producer(transport);
		return status;
	}
	(void)ferry_transport_set_max_fds_per_message(transport, ANCILLARY_MAX_FDS);
	end->transport = transport;
	if (end->pauses != 0)
		(void)ferry_transport_pause_reading(transport);
	return 0;
}

int relay_start(struct relay_end *end)
{
	return ferry_transport_set_protocol(end->transport, &protocol, end);
}

void relay_undo(struct relay_end *end)
{
	static const struct ferry_protocol nobody;
	struct ferry_transport *transport = end->transport;

	if (transport == NULL)
		return;
	end->transport = NULL;
	(void)ferry_transport_unregister_producer(transport);
	(void)ferry_transport_set_protocol(transport, &nobody, NULL);
	if (end->pauses != 0)
		(void)ferry_transport_resume_reading(transport);
}
