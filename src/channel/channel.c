#include "channel/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "channel/ready.h"
#include "ferry/message.h"
#include "message/kept.h"
#include "message/wire.h"
#include "transport/interface.h"

enum {
	ITEMS_MAX = 64,
	PIECE_COPIED = 4096 /* longest piece that is copied rather than moved */
};

/* ---- reading ahead ---- */

/* With lines at least the length of the longest line: less would never complete it, or show that it is too
 * long. */
static size_t read_limit(const struct ferry_channel *channel)
{
	const struct line_scanner *scanner = &channel->in.scanner;
	size_t line = scanner->max_length + scanner->delimiter_length;
	size_t limit = channel->settings.read_limit;

	return channel->settings.lines && line > limit ? line : limit;
}

static bool wants_to_read(const struct ferry_channel *channel, bool idle)
{
	size_t bytes_max = read_limit(channel);
	unsigned int items_max = ITEMS_MAX;

	if (channel->in.flow == CHANNEL_PAUSED && !idle) {
		bytes_max = bytes_max / 2 + 1;
		items_max /= 2;
	}
	return channel->place != CHANNEL_UNREGISTERED &&
	       evbuffer_get_length(channel->in.buffer) + channel->in.message_bytes < bytes_max &&
	       channel->in.item_count < items_max;
}

static int settle_reading(struct ferry_channel *channel, bool idle)
{
	if (channel->life != CHANNEL_OPEN)
		return 0;
	enum channel_flow flow = wants_to_read(channel, idle) ? CHANNEL_FLOWING : CHANNEL_PAUSED;
	if (flow == channel->in.flow)
		return 0;
	int status = flow == CHANNEL_FLOWING ? ferry_transport_resume_reading(channel->transport)
	                                     : ferry_transport_pause_reading(channel->transport);
	if (status == -ENOMEM)
		return status;
	channel_set_flow(channel, flow); /* on -ENOTCONN too: nothing is read any more */
	return 0;
}

static bool ends_with_peer(const struct ferry_channel *channel)
{
	return channel->in.half == CHANNEL_HALF_ENDED && !channel->settings.half_close &&
	       channel->life == CHANNEL_OPEN;
}

void channel_settle_end(struct ferry_channel *channel)
{
	if (ends_with_peer(channel))
		transport_close_with_peer_later(channel->transport);
}

static int start_reading(struct ferry_channel *channel)
{
	int status = settle_reading(channel, true);
	if (status == 0)
		channel_settle_end(channel);
	return status;
}

/* ---- the transport's protocol ---- */

/* An item comes or goes: counts what reading ahead is limited by. */
static void count_item(struct ferry_channel *channel, const struct channel_item *item, bool comes)
{
	unsigned int fds = 1;
	size_t bytes = 0;

	if (item->message != NULL) {
		ferry_message_get_payload(item->message, &bytes);
		bytes += MESSAGE_HEADER_SIZE;
		fds = message_count_arrived(item->message);
	}
	channel->in.item_count = comes ? channel->in.item_count + fds : channel->in.item_count - fds;
	channel->in.message_bytes =
	    comes ? channel->in.message_bytes + bytes : channel->in.message_bytes - bytes;
}

static void something_arrived(struct ferry_channel *channel)
{
	ready_wake(channel);
	(void)settle_reading(channel, false); /* a pause cannot fail */
}

static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport;
	struct ferry_channel *channel = context;
	size_t length = evbuffer_get_length(input);

	if (evbuffer_add_buffer(channel->in.buffer, input) < 0)
		return; /* no memory: the transport offers the bytes again with the next ones */
	channel->in.received += length;
	something_arrived(channel);
}

void channel_add_item(struct ferry_channel *channel, struct channel_item *item)
{
	STAILQ_INSERT_TAIL(&channel->in.items, item, link);
	count_item(channel, item, true);
	something_arrived(channel);
}

/* `fd` is -1 for a loss. */
static void add_item(struct ferry_channel *channel, int fd)
{
	struct channel_item *item = malloc(sizeof(*item));

	if (item == NULL) {
		channel->in.fds_lost = true;
		if (fd >= 0)
			close(fd);
		something_arrived(channel);
	} else {
		*item = (struct channel_item){.position = channel->in.received, .fd = fd};
		channel_add_item(channel, item);
	}
}

static void file_descriptor_received(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport;
	add_item(context, fd);
}

static void file_descriptors_lost(struct ferry_transport *transport, void *context)
{
	(void)transport;
	add_item(context, -1);
}

void channel_peer_ended(struct ferry_channel *channel)
{
	channel_set_half_ended(channel);
	ready_wake(channel);
	if (ends_with_peer(channel))
		transport_close_with_peer(channel->transport);
}

static void read_connection_lost(struct ferry_transport *transport, void *context)
{
	(void)transport;
	channel_peer_ended(context);
}

/* Closes the descriptors at once: the loop, which finalises the transport, runs only in the next poll or flush. */
static void free_transport(struct ferry_channel *channel, struct ferry_transport *transport)
{
	struct ferry_message_stream *messages = channel->messages;

	channel->messages = NULL;
	if (channel->owns_socket)
		transport_close_socket(transport);
	if (messages != NULL)
		ferry_message_stream_free(messages);
	else
		ferry_transport_free(transport);
}

void channel_lost(struct ferry_channel *channel, int reason)
{
	struct ferry_transport *transport = channel->transport;

	channel_set_over(channel, reason);
	free_transport(channel, transport);
	ready_wake(channel);
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	struct ferry_channel *channel = context;

	/* The input still has bytes if there was no memory to take them. */
	data_received(transport, bufferevent_get_input(ferry_transport_get_bufferevent(transport)),
	              channel);
	channel_lost(channel, reason);
}

static const struct ferry_protocol protocol = {
    .data_received = data_received,
    .file_descriptor_received = file_descriptor_received,
    .file_descriptors_lost = file_descriptors_lost,
    .read_connection_lost = read_connection_lost,
    .connection_lost = connection_lost,
};

/* ---- the next event ---- */

static uint64_t input_position(const struct ferry_channel *channel)
{
	return channel->in.received - evbuffer_get_length(channel->in.buffer);
}

static const enum ferry_channel_event_kind line_kinds[] = {
    [LINE_WHOLE] = FERRY_CHANNEL_LINE,
    [LINE_LAST] = FERRY_CHANNEL_LINE,
    [LINE_TOO_LONG] = FERRY_CHANNEL_LINE_TOO_LONG,
};

static int fill_line(struct ferry_channel *channel, enum line_kind kind, const struct line *line,
                     struct ferry_channel_event *event)
{
	event->data = batch_copy(&channel->poller->batch, channel->in.buffer, line->length);
	if (event->data == NULL)
		return -ENOMEM;
	event->kind = line_kinds[kind];
	event->length = line->length;
	event->incomplete = kind == LINE_LAST;
	line_scanner_take(&channel->in.scanner, channel->in.buffer, line->size);
	if (kind == LINE_TOO_LONG)
		line_scanner_skip(&channel->in.scanner);
	return 1;
}

/* Several small pieces of the input become one event. A larger piece is an event by itself, without a copy. */
static int fill_bytes(struct ferry_channel *channel, size_t length,
                      struct ferry_channel_event *event)
{
	struct batch *batch = &channel->poller->batch;
	struct evbuffer *input = channel->in.buffer;
	size_t piece = evbuffer_get_contiguous_space(input);

	if (piece > PIECE_COPIED) {
		length = piece < length ? piece : length;
		event->data = batch_move(batch, input, length);
	} else {
		length = PIECE_COPIED < length ? PIECE_COPIED : length;
		event->data = batch_copy(batch, input, length);
		if (event->data != NULL)
			evbuffer_drain(input, length);
	}
	if (event->data == NULL)
		return -ENOMEM;
	event->kind = FERRY_CHANNEL_BYTES;
	event->length = length;
	return 1;
}

/* A line comes before an item if it ends before the item. */
static int next_line(struct ferry_channel *channel, struct ferry_channel_event *event)
{
	const struct channel_item *item = STAILQ_FIRST(&channel->in.items);
	bool ended = channel->in.half == CHANNEL_HALF_ENDED || channel->life != CHANNEL_OPEN;
	struct line line;
	enum line_kind kind = line_scanner_next(&channel->in.scanner, channel->in.buffer, ended, &line);

	if (kind == LINE_NONE)
		return 0;
	if (item != NULL && input_position(channel) + line.size > item->position)
		return 0;
	return fill_line(channel, kind, &line, event);
}

static int next_bytes(struct ferry_channel *channel, struct ferry_channel_event *event)
{
	const struct channel_item *item = STAILQ_FIRST(&channel->in.items);
	size_t length = evbuffer_get_length(channel->in.buffer);
	uint64_t position = input_position(channel);

	if (item != NULL && position + length > item->position)
		length = item->position > position ? (size_t)(item->position - position) : 0;
	return length > 0 ? fill_bytes(channel, length, event) : 0;
}

static void fill_fd(int fd, struct ferry_channel_event *event)
{
	event->kind = fd >= 0 ? FERRY_CHANNEL_FD : FERRY_CHANNEL_FDS_LOST;
	event->fd = fd;
}

static void fill_message(struct ferry_message *message, struct ferry_channel_event *event)
{
	event->kind = FERRY_CHANNEL_MESSAGE;
	event->message = message;
	event->data = ferry_message_get_payload(message, &event->length);
}

static int next_item(struct ferry_channel *channel, struct ferry_channel_event *event)
{
	struct channel_item *item = STAILQ_FIRST(&channel->in.items);

	if (item == NULL)
		return 0;
	STAILQ_REMOVE_HEAD(&channel->in.items, link);
	count_item(channel, item, false);
	if (item->message != NULL)
		fill_message(item->message, event);
	else
		fill_fd(item->fd, event);
	batch_add_item(&channel->poller->batch, item);
	return 1;
}

static int next_loss(struct ferry_channel *channel, struct ferry_channel_event *event)
{
	if (!channel->in.fds_lost)
		return 0;
	channel->in.fds_lost = false;
	event->kind = FERRY_CHANNEL_FDS_LOST;
	return 1;
}

static int next_writable(struct ferry_channel *channel, struct ferry_channel_event *event)
{
	if (channel->out != CHANNEL_OUT_WRITABLE)
		return 0;
	ready_set_out(channel, CHANNEL_OUT_OPEN);
	event->kind = FERRY_CHANNEL_WRITABLE;
	return 1;
}

static int next_end(struct ferry_channel *channel, struct ferry_channel_event *event)
{
	if (channel->in.half == CHANNEL_HALF_ENDED && channel->settings.half_close &&
	    channel->notified == CHANNEL_NOTIFIED_NONE) {
		channel_set_notified(channel, CHANNEL_NOTIFIED_END);
		event->kind = FERRY_CHANNEL_END;
		return 1;
	}
	if (channel->life == CHANNEL_OPEN || channel->notified == CHANNEL_NOTIFIED_CLOSED)
		return 0;
	channel_set_notified(channel, CHANNEL_NOTIFIED_CLOSED);
	event->kind = FERRY_CHANNEL_CLOSED;
	event->reason = channel->reason;
	return 1;
}

static int next_event(struct ferry_channel *channel, struct ferry_channel_event *event)
{
	int status = next_writable(channel, event);
	if (status == 0)
		status = channel->settings.lines ? next_line(channel, event) : next_bytes(channel, event);
	if (status == 0)
		status = next_item(channel, event);
	if (status == 0)
		status = next_loss(channel, event);
	return status != 0 ? status : next_end(channel, event);
}

/* ---- the kind ---- */

static int get_connection_fd(const struct ferry_channel *channel)
{
	if (channel->transport == NULL)
		return -ENOTCONN;
	return (int)bufferevent_getfd(ferry_transport_get_bufferevent(channel->transport));
}

static void close_connection(struct ferry_channel *channel)
{
	struct ferry_transport *transport = channel->transport;

	channel->transport = NULL; /* first: stop_producing may use the channel */
	if (transport != NULL)
		free_transport(channel, transport);
	evbuffer_free(channel->in.buffer);
	channel->in.buffer = NULL;
	channel_items_clear(&channel->in.items);
}

static const struct channel_kind connection = {
    .sends = true,
    .next = next_event,
    .settle = settle_reading,
    .start = start_reading,
    .get_fd = get_connection_fd,
    .close_down = close_connection,
};

struct ferry_channel *channel_new(struct ferry_poller *poller)
{
	struct ferry_channel *channel = calloc(1, sizeof(*channel));
	if (channel == NULL)
		return NULL;
	channel->in.buffer = evbuffer_new();
	if (channel->in.buffer == NULL) {
		free(channel);
		return NULL;
	}
	channel_init(channel, poller, &connection);
	return channel;
}

int channel_attach(struct ferry_channel *channel, struct ferry_transport *transport)
{
	/* Paused: an unregistered channel reads nothing. The call needs no memory then. */
	int status = transport_own(transport, &protocol, channel, true);
	if (status == 0)
		channel->transport = transport;
	return status;
}

size_t channel_queued(const struct ferry_channel *channel)
{
	struct ferry_transport_stats stats;

	if (ferry_transport_get_stats(channel->transport, &stats) < 0)
		return 0;
	return (size_t)stats.bytes_queued + (size_t)stats.files_queued;
}
