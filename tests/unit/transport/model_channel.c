#include "model_channel.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "model_trace.h"
#include "set_clock.h"
#include "support.h"

enum { EVENTS_MAX = 16 };

static const struct timeval at_once;

void model_channel_open(struct model_end *end, int read_fd, int write_fd)
{
	demand(ferry_poller_new(&end->poller) == 0, "no poller");
	int status = read_fd == write_fd
	                 ? ferry_channel_new_socket(&end->channel, end->poller, read_fd)
	                 : ferry_channel_new_pipes(&end->channel, end->poller, read_fd, write_fd);
	demand(status == 0, "no channel: %d", status);
	demand(ferry_poller_register(end->poller, end->channel) == 0, "register");
	end->half_close = support_random_below(2) == 0;
	demand(ferry_channel_set_half_close(end->channel, end->half_close) == 0, "set_half_close");
	demand(ferry_channel_set_limits(end->channel, 1 + support_random_below(100000),
	                                1 + support_random_below(300000)) == 0,
	       "set_limits");
	trace("%s is a channel%s", end->name, end->half_close ? " with half-close" : "");
}

void model_channel_close(struct model_end *end)
{
	if (end->channel != NULL)
		model_channel_free(end);
	ferry_poller_free(end->poller);
	end->poller = NULL;
}

void model_channel_free(struct model_end *end)
{
	struct ferry_channel *channel = end->channel;

	trace("%s: channel_free", end->name);
	model_end_look(end);
	end->channel = NULL;
	model_end_begin_free(end);
	ferry_channel_free(channel);
	model_end_end_free(end);
}

/* ---- events ---- */

static void on_bytes(struct model_end *end, const struct ferry_channel_event *event)
{
	struct evbuffer *bytes = evbuffer_new();

	demand(event->length > 0, "an event without bytes");
	evbuffer_add(bytes, event->data, event->length);
	model_stream_got_bytes(&end->other->out, bytes, event->length);
	evbuffer_free(bytes);
}

static void on_fd(struct model_end *end, struct ferry_channel_event *event)
{
	bool steal = support_random_below(2) == 0;
	uint64_t received = end->transport != NULL ? end->stats.bytes_received : UINT64_MAX;

	model_stream_got_fd(&end->other->out, event->fd, received, 0);
	if (!steal)
		return; /* the next poll closes it */
	int fd = ferry_poller_steal_fd(end->poller, event);
	demand(fd >= 0, "steal_fd: %d", fd);
	demand(close(fd) == 0, "the descriptor was closed");
}

static void on_closed(struct model_end *end, int reason)
{
	end->over = true;
	end->reason = reason;
	model_end_check_reason(end, reason);
	model_end_drop_silent_producer(end);
	demand(end->producer == NULL, "stop_producing did not run before FERRY_CHANNEL_CLOSED");
	for (unsigned int i = 0; i < end->file_count; i++)
		demand(end->files[i].finished, "file %u is not finished", i);
}

static void on_event(struct model_end *end, struct ferry_channel_event *event)
{
	trace("%s: event %d, %zu bytes", end->name, (int)event->kind, event->length);
	demand(event->channel == end->channel, "an event of another channel");
	demand(!end->over, "an event after FERRY_CHANNEL_CLOSED");
	switch (event->kind) {
	case FERRY_CHANNEL_BYTES:
		on_bytes(end, event);
		break;
	case FERRY_CHANNEL_FD:
		on_fd(end, event);
		break;
	case FERRY_CHANNEL_END:
		demand(end->half_close && !end->had_end, "FERRY_CHANNEL_END is not due");
		demand(model_end_is_leaving(end->other) || end->other->half_closing || end->half_closing,
		       "FERRY_CHANNEL_END, and the peer is there");
		end->had_end = true;
		break;
	case FERRY_CHANNEL_WRITABLE:
		demand(end->refused, "FERRY_CHANNEL_WRITABLE, and no write was refused");
		end->refused = false;
		break;
	case FERRY_CHANNEL_CLOSED:
		on_closed(end, event->reason);
		break;
	default:
		demand(false, "event %d", (int)event->kind);
	}
}

void model_channel_poll(struct model_end *end)
{
	struct ferry_channel_event events[EVENTS_MAX];

	if (end->poller == NULL)
		return;
	bool none = end->channel == NULL || end->over || end->unregistered;
	end->polling = true;
	int count =
	    ferry_poller_poll(end->poller, &at_once, events, 1 + (int)support_random_below(EVENTS_MAX));
	end->polling = false;
	demand(count >= 0 || (count == -ENOENT && (none || end->channel == NULL)), "%s: poll: %d",
	       end->name, count);
	model_end_look(end);
	for (int i = 0; i < count; i++)
		if (end->channel != NULL) /* else it was freed in a callback */
			on_event(end, &events[i]);
}

void model_channel_check_busy(struct model_end *end)
{
	struct ferry_channel_event event;

	demand(ferry_poller_poll(end->poller, &at_once, &event, 1) == -EBUSY, "poll in a callback");
	if (end->channel != NULL && end->transport != NULL && end->stats.bytes_queued > 0)
		demand(ferry_channel_flush(end->channel, &at_once) == -EBUSY, "flush in a callback");
}

/* ---- sending ---- */

int model_channel_write(struct model_end *end, unsigned int item, size_t length)
{
	int status = CALL(ferry_channel_write(end->channel, model_bytes(item), length));

	if (status == -EAGAIN)
		end->refused = true;
	return status;
}

void model_channel_flush(struct model_end *end)
{
	end->polling = true;
	int status = ferry_channel_flush(end->channel, &at_once);
	end->polling = false;

	trace("%s: flush: %d", end->name, status);
	model_end_look(end);
	demand(status == 0 || status == -ETIMEDOUT || end->channel == NULL || end->aborted ||
	           model_end_is_leaving(end->other) || end->other->half_closing || end->closing ||
	           end->half_closing,
	       "%s: flush: %d", end->name, status);
}
