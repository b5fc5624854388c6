#include "channel/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "ferry/listener.h"
#include "transport/transport.h"

/*
 * The transport's protocol puts what comes into the channel's input, and descriptors beside it with the
 * position at which they came. Polls take them out in that order: a descriptor before the line in which its
 * byte is.
 *
 * The channel reads ahead of the polls up to its limits, stops there, and goes on when half of that is
 * taken out.
 */

enum {
	READ_LIMIT_DEFAULT = 256 * 1024,
	WRITE_LIMIT_DEFAULT = 1024 * 1024,
	ARRIVALS_MAX = 64,
	SMALL = 4096 /* bytes that are rather copied than moved */
};

/* ---- the transport's protocol ---- */

static size_t read_high(const struct ferry_channel *channel)
{
	/* So much holds a line, or is too long for one. */
	size_t line = channel->scanner.max_length + channel->scanner.delimiter_length;

	return channel->lines && line > channel->read_limit ? line : channel->read_limit;
}

int channel_settle_reading(struct ferry_channel *channel, bool idle)
{
	if (channel->listener != NULL)
		return server_settle_accepting(channel, idle);
	if (channel->transport == NULL)
		return 0;
	size_t present = evbuffer_get_length(channel->input), high = read_high(channel);
	unsigned int arrivals_high = ARRIVALS_MAX;
	if (!channel->reading && !idle) {
		high = high / 2 + 1;
		arrivals_high /= 2;
	}
	bool want = channel->registered && present < high && channel->arrival_count < arrivals_high;
	if (want == channel->reading)
		return 0;
	int status = want ? ferry_transport_resume_reading(channel->transport)
	                  : ferry_transport_pause_reading(channel->transport);
	if (status == -ENOMEM)
		return status;
	channel->reading = want; /* when the connection is over it does not matter */
	return 0;
}

static void has_news(struct ferry_channel *channel)
{
	poller_wake(channel);
	(void)channel_settle_reading(channel, false); /* a pause cannot fail */
}

static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport;
	struct ferry_channel *channel = context;
	size_t length = evbuffer_get_length(input);

	if (evbuffer_add_buffer(channel->input, input) < 0)
		return; /* no memory: it is offered again */
	channel->received += length;
	has_news(channel);
}

/* `fd` is -1 for a loss. */
static void add_arrival(struct ferry_channel *channel, int fd)
{
	struct arrival *arrival = malloc(sizeof(*arrival));

	if (arrival == NULL) {
		channel->fds_lost = true;
		if (fd >= 0)
			close(fd);
	} else {
		*arrival = (struct arrival){.position = channel->received, .fd = fd};
		STAILQ_INSERT_TAIL(&channel->arrivals, arrival, link);
		channel->arrival_count++;
	}
	has_news(channel);
}

static void file_descriptor_received(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport;
	add_arrival(context, fd);
}

static void file_descriptors_lost(struct ferry_transport *transport, void *context)
{
	(void)transport;
	add_arrival(context, -1);
}

void channel_settle_end(struct ferry_channel *channel)
{
	if (channel->ended && !channel->half_close && channel->transport != NULL)
		protocol_leave_with_peer(channel->transport);
}

static void read_connection_lost(struct ferry_transport *transport, void *context)
{
	(void)transport;
	struct ferry_channel *channel = context;

	channel->ended = true;
	poller_wake(channel);
	channel_settle_end(channel);
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	struct ferry_channel *channel = context;

	/* What was not offered for want of memory. */
	data_received(transport, bufferevent_get_input(ferry_transport_get_bufferevent(transport)),
	              channel);
	channel->closed = true;
	channel->reason = reason;
	channel->transport = NULL;
	ferry_transport_free(transport);
	poller_wake(channel);
}

static const struct ferry_protocol protocol = {
    .data_received = data_received,
    .file_descriptor_received = file_descriptor_received,
    .file_descriptors_lost = file_descriptors_lost,
    .read_connection_lost = read_connection_lost,
    .connection_lost = connection_lost,
};

/* ---- the next event ---- */

static bool all_has_come(const struct ferry_channel *channel)
{
	return channel->ended || channel->closed;
}

static uint64_t position(const struct ferry_channel *channel)
{
	return channel->received - evbuffer_get_length(channel->input);
}

static const enum ferry_channel_event_kind line_kinds[] = {
    [LINE_WHOLE] = FERRY_CHANNEL_LINE,
    [LINE_LAST] = FERRY_CHANNEL_LINE,
    [LINE_TOO_LONG] = FERRY_CHANNEL_LINE_TOO_LONG,
};

static int give_line(struct ferry_channel *channel, enum line_kind kind, const struct line *line,
                     struct ferry_channel_event *event)
{
	event->data = held_copy(&channel->poller->held, channel->input, line->length);
	if (event->data == NULL)
		return -ENOMEM;
	event->kind = line_kinds[kind];
	event->length = line->length;
	event->incomplete = kind == LINE_LAST;
	line_scanner_take(&channel->scanner, channel->input, line->size);
	if (kind == LINE_TOO_LONG)
		line_scanner_skip(&channel->scanner);
	return 1;
}

/* Small pieces together, up to 4 KiB; a larger one by itself, as it lies in memory. */
static int give_bytes(struct ferry_channel *channel, size_t length,
                      struct ferry_channel_event *event)
{
	struct held *held = &channel->poller->held;
	size_t piece = evbuffer_get_contiguous_space(channel->input);

	if (piece > SMALL) {
		length = piece < length ? piece : length;
		event->data = held_move(held, channel->input, length);
	} else {
		length = SMALL < length ? SMALL : length;
		event->data = held_copy(held, channel->input, length);
		if (event->data != NULL)
			evbuffer_drain(channel->input, length);
	}
	if (event->data == NULL)
		return -ENOMEM;
	event->kind = FERRY_CHANNEL_BYTES;
	event->length = length;
	return 1;
}

/* What comes before the first arrival. A line does if it ends there. */
static int next_of_input(struct ferry_channel *channel, struct ferry_channel_event *event)
{
	const struct arrival *arrival = STAILQ_FIRST(&channel->arrivals);

	if (channel->lines) {
		struct line line;
		enum line_kind kind =
		    line_scanner_next(&channel->scanner, channel->input, all_has_come(channel), &line);
		if (kind == LINE_NONE)
			return 0;
		if (arrival != NULL && position(channel) + line.size > arrival->position)
			return 0;
		return give_line(channel, kind, &line, event);
	}

	size_t length = evbuffer_get_length(channel->input);
	if (arrival != NULL && position(channel) + length > arrival->position)
		length = arrival->position > position(channel)
		             ? (size_t)(arrival->position - position(channel))
		             : 0;
	return length > 0 ? give_bytes(channel, length, event) : 0;
}

static int next_arrival(struct ferry_channel *channel, struct ferry_channel_event *event)
{
	struct arrival *arrival = STAILQ_FIRST(&channel->arrivals);

	if (arrival == NULL)
		return 0;
	STAILQ_REMOVE_HEAD(&channel->arrivals, link);
	channel->arrival_count--;
	event->kind = arrival->fd >= 0 ? FERRY_CHANNEL_FD : FERRY_CHANNEL_FDS_LOST;
	event->fd = arrival->fd;
	held_keep(&channel->poller->held, arrival);
	return 1;
}

/* A flag that becomes an event, once. */
static int give_flag(bool *flag, enum ferry_channel_event_kind kind,
                     struct ferry_channel_event *event)
{
	if (!*flag)
		return 0;
	*flag = false;
	event->kind = kind;
	return 1;
}

static int next_end(struct ferry_channel *channel, struct ferry_channel_event *event)
{
	if (channel->ended && channel->half_close && !channel->end_told && !channel->closed_told) {
		channel->end_told = true;
		event->kind = FERRY_CHANNEL_END;
		return 1;
	}
	if (!channel->closed || channel->closed_told)
		return 0;
	channel->closed_told = true;
	channel->poller->live--;
	event->kind = FERRY_CHANNEL_CLOSED;
	event->reason = channel->reason;
	return 1;
}

int channel_next(struct ferry_channel *channel, struct ferry_channel_event *event)
{
	*event = (struct ferry_channel_event){.channel = channel, .fd = -1};
	if (channel->listener != NULL)
		return server_next(channel, event);
	int status = give_flag(&channel->writable, FERRY_CHANNEL_WRITABLE, event);
	if (status == 0)
		status = next_of_input(channel, event);
	if (status == 0)
		status = next_arrival(channel, event);
	if (status == 0)
		status = give_flag(&channel->fds_lost, FERRY_CHANNEL_FDS_LOST, event);
	return status != 0 ? status : next_end(channel, event);
}

/* ---- making ---- */

struct ferry_channel *channel_allocate(struct ferry_poller *poller)
{
	struct ferry_channel *channel = calloc(1, sizeof(*channel));
	if (channel == NULL)
		return NULL;
	channel->input = evbuffer_new();
	if (channel->input == NULL) {
		free(channel);
		return NULL;
	}
	channel->poller = poller;
	channel->read_limit = READ_LIMIT_DEFAULT;
	channel->write_limit = WRITE_LIMIT_DEFAULT;
	line_scanner_set_delimiter(&channel->scanner, "\n", 1);
	STAILQ_INIT(&channel->arrivals);
	STAILQ_INIT(&channel->accepted);
	poller->channels++;
	return channel;
}

void channel_discard(struct ferry_channel *channel)
{
	channel->poller->channels--;
	evbuffer_free(channel->input);
	free(channel);
}

int channel_attach(struct ferry_channel *channel, struct ferry_transport *transport)
{
	/* Not to be read before it is registered; so, nothing in here needs memory. */
	int status = ferry_transport_pause_reading(transport);
	if (status == 0)
		status = ferry_transport_set_protocol(transport, &protocol, channel);
	if (status == 0)
		channel->transport = transport;
	return status;
}

int ferry_channel_new_transport(struct ferry_channel **out, struct ferry_poller *poller,
                                struct ferry_transport *transport)
{
	if (out == NULL || poller == NULL || transport == NULL ||
	    bufferevent_get_base(ferry_transport_get_bufferevent(transport)) != poller->base)
		return -EINVAL;
	struct ferry_channel *channel = channel_allocate(poller);
	if (channel == NULL)
		return -ENOMEM;
	int status = channel_attach(channel, transport);
	if (status == 0) {
		channel->ended = transport->read_ended;
		*out = channel;
	} else {
		channel_discard(channel);
	}
	return status;
}

/* As connection_to_transport(), but the socket is the caller's again if it fails. */
static int make_transport(struct ferry_transport **out, struct event_base *base, int fd)
{
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (bev == NULL)
		return -ENOMEM;
	int status = ferry_transport_new(out, bev);
	if (status < 0) {
		bufferevent_setfd(bev, -1);
		bufferevent_free(bev);
	}
	return status;
}

int ferry_channel_new_socket(struct ferry_channel **out, struct ferry_poller *poller, int fd)
{
	struct ferry_transport *transport;

	if (out == NULL || poller == NULL)
		return -EINVAL;
	if (fcntl(fd, F_GETFD) < 0)
		return -EBADF;
	struct ferry_channel *channel = channel_allocate(poller);
	if (channel == NULL)
		return -ENOMEM;
	int status = make_transport(&transport, poller->base, fd);
	if (status == 0) {
		(void)channel_attach(channel, transport); /* it is new, and so not over */
		*out = channel;
	} else {
		channel_discard(channel);
	}
	return status;
}

/* What stands in the place of a pipe that is not there: nothing ever comes from an eventfd that nobody
 * writes to; and the sink is closed before anything goes to it. */
static int open_stand_in(bool faucet)
{
	int fd =
	    faucet ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fd;
}

static int make_pipes(struct ferry_channel *channel, int faucet, int sink)
{
	struct ferry_transport *transport;
	int missing = -1;

	if (faucet < 0 || sink < 0) {
		missing = open_stand_in(faucet < 0);
		if (missing < 0)
			return missing;
	}
	int status =
	    ferry_transport_new_pipes(&transport, channel->poller->base, faucet < 0 ? missing : faucet,
	                              sink < 0 ? missing : sink);
	if (status < 0) {
		if (missing >= 0)
			close(missing);
		return status;
	}
	(void)channel_attach(channel, transport); /* as above */
	if (sink < 0)
		ferry_transport_lose_write_connection(transport);
	return 0;
}

int ferry_channel_new_pipes(struct ferry_channel **out, struct ferry_poller *poller, int faucet,
                            int sink)
{
	if (out == NULL || poller == NULL || (faucet == -1 && sink == -1))
		return -EINVAL;
	if (faucet < -1 || sink < -1)
		return -EBADF;
	struct ferry_channel *channel = channel_allocate(poller);
	if (channel == NULL)
		return -ENOMEM;
	int status = make_pipes(channel, faucet, sink);
	if (status == 0)
		*out = channel;
	else
		channel_discard(channel);
	return status;
}

/* ---- ending ---- */

void channel_close_down(struct ferry_channel *channel)
{
	struct arrival *arrival;

	server_close_down(channel);
	ferry_transport_free(channel->transport);
	channel->transport = NULL;
	if (channel->input != NULL)
		evbuffer_free(channel->input);
	channel->input = NULL;
	while ((arrival = STAILQ_FIRST(&channel->arrivals)) != NULL) {
		STAILQ_REMOVE_HEAD(&channel->arrivals, link);
		arrival_free(arrival);
	}
	channel->freed = true;
}

/* ---- settings ---- */

/* What is there already may be something else now, or more, or less. */
static int look_again(struct ferry_channel *channel)
{
	if (!channel->freed) {
		poller_wake(channel);
		(void)channel_settle_reading(channel, false); /* -ENOMEM: the next poll tries again */
	}
	return 0;
}

int ferry_channel_set_bytes(struct ferry_channel *channel)
{
	if (channel == NULL)
		return -EINVAL;
	channel->lines = false;
	line_scanner_restart(&channel->scanner);
	return look_again(channel);
}

int ferry_channel_set_lines(struct ferry_channel *channel, const void *delimiter,
                            size_t delimiter_length, size_t max_length)
{
	if (channel == NULL || delimiter == NULL || delimiter_length < 1 ||
	    delimiter_length > LINE_DELIMITER_MAX || max_length < 1 || max_length > LINE_LENGTH_MAX)
		return -EINVAL;
	channel->lines = true;
	channel->scanner.max_length = max_length;
	line_scanner_set_delimiter(&channel->scanner, delimiter, delimiter_length);
	return look_again(channel);
}

int ferry_channel_set_half_close(struct ferry_channel *channel, bool half_close)
{
	if (channel == NULL)
		return -EINVAL;
	channel->half_close = half_close;
	channel_settle_end(channel);
	return look_again(channel);
}

int ferry_channel_set_read_limit(struct ferry_channel *channel, size_t limit)
{
	if (channel == NULL || limit == 0)
		return -EINVAL;
	channel->read_limit = limit;
	return look_again(channel);
}

int ferry_channel_set_write_limit(struct ferry_channel *channel, size_t limit)
{
	if (channel == NULL || limit == 0)
		return -EINVAL;
	channel->write_limit = limit;
	return 0;
}

int ferry_channel_set_context(struct ferry_channel *channel, void *context)
{
	if (channel == NULL)
		return -EINVAL;
	channel->context = context;
	return 0;
}

void *ferry_channel_get_context(const struct ferry_channel *channel)
{
	return channel != NULL ? channel->context : NULL;
}

int ferry_channel_get_fd(const struct ferry_channel *channel)
{
	if (channel == NULL)
		return -EINVAL;
	if (channel->listener != NULL)
		return ferry_listener_get_fd(channel->listener);
	if (channel->transport == NULL)
		return -ENOTCONN;
	return (int)bufferevent_getfd(ferry_transport_get_bufferevent(channel->transport));
}

struct ferry_transport *ferry_channel_get_transport(const struct ferry_channel *channel)
{
	return channel != NULL ? channel->transport : NULL;
}
