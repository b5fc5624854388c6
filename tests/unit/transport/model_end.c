#include "model_end.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "model_bufferevent.h"
#include "model_sending.h"
#include "model_trace.h"
#include "set_clock.h"
#include "support.h"

unsigned int model_calls;
static const struct model_end *freeing;

int model_call_done(int result)
{
	model_calls--;
	return result;
}

bool model_end_is_alive(const struct model_end *end)
{
	return !end->over && (end->poller != NULL ? end->channel != NULL : end->transport != NULL);
}

bool model_end_is_leaving(const struct model_end *end)
{
	return !model_end_is_alive(end) || end->closing || end->aborted;
}

static struct model_protocol *current(struct model_end *end)
{
	return &end->protocols[end->protocol_count - 1];
}

static struct evbuffer *input_of(const struct model_end *end)
{
	return bufferevent_get_input(ferry_transport_get_bufferevent(end->transport));
}

/* ---- the state that can be seen from outside ---- */

static int queue_in_kernel(const struct model_end *end)
{
	int length = 0;

	if (end->link == MODEL_PIPES || end->over || ioctl(end->socket, SIOCOUTQ, &length) < 0)
		return 0;
	return length;
}

void model_end_look(struct model_end *end)
{
	struct ferry_transport_stats stats;

	if (end->poller != NULL)
		end->transport = ferry_channel_get_transport(end->channel);
	if (end->transport == NULL)
		return;
	/* A channel's counters go with its transport: after the end those of the last look stand. */
	demand(ferry_transport_get_stats(end->transport, &stats) == 0, "no counters");
	stats.bytes_sent += end->before.bytes_sent;
	stats.fds_sent += end->before.fds_sent;
	stats.bytes_received += end->before.bytes_received;
	stats.fds_received += end->before.fds_received;
	int in_kernel = queue_in_kernel(end);
	bool sent = stats.bytes_sent != end->stats.bytes_sent || in_kernel < end->in_kernel;
	bool received = stats.bytes_received != end->stats.bytes_received;
	if (sent)
		end->moved_at = clock_time();
	if (received)
		end->read_at = clock_time();
	if (stats.bytes_sent != end->stats.bytes_sent)
		end->closing_at = clock_time();
	end->in_kernel = in_kernel;
	end->stats = stats;
	end->moves += sent || received;
}

/* ---- what the user of the other end has sent ---- */

void model_end_take_input(struct model_end *end, size_t most)
{
	struct evbuffer *input = input_of(end);
	size_t length = evbuffer_get_length(input);

	if (length > most)
		length = most;
	model_stream_got_bytes(&end->other->out, input, length);
	end->left = evbuffer_get_length(input);
}

void model_end_got_fd(struct model_end *end, int fd)
{
	model_stream_got_fd(&end->other->out, fd, end->stats.bytes_received,
	                    evbuffer_get_length(input_of(end)));
	demand(close(fd) == 0, "the descriptor was closed");
}

/* ---- callbacks of the protocol ---- */

static struct model_end *enter(struct ferry_transport *transport, void *context,
                               const char *callback)
{
	struct model_protocol *protocol = context;
	struct model_end *end = protocol->end;

	trace("%s: %s of protocol %d", end->name, callback, (int)(protocol - end->protocols));
	demand(model_calls == 0, "%s inside a call", callback);
	demand(end->transport != NULL, "%s after ferry_transport_free()", callback);
	demand(transport == end->transport, "%s of another transport", callback);
	demand(!end->over, "%s after connection_lost", callback);
	demand(protocol == current(end), "%s of a protocol that was replaced", callback);
	model_end_look(end);
	return end;
}

static struct model_end *enter_made(struct ferry_transport *transport, void *context,
                                    const char *callback)
{
	struct model_end *end = enter(transport, context, callback);
	demand(current(end)->made == 1, "%s before connection_made", callback);
	return end;
}

static void act(struct model_end *end)
{
	trace_depth++;
	model_act(end);
	trace_depth--;
}

/* Another protocol, one time in `rarity`: often enough to be set while data and descriptors are delivered. */
static void maybe_switch(struct model_end *end, uint32_t rarity)
{
	if (model_end_is_alive(end) && support_random_below(rarity) == 0)
		model_end_set_protocol(end, support_random_below(2) == 0);
}

static void on_made(struct ferry_transport *transport, void *context)
{
	struct model_end *end = enter(transport, context, "connection_made");
	demand(current(end)->made++ == 0, "connection_made twice");
	maybe_switch(end, 3);
	act(end);
}

void model_end_check_not_paused(const struct model_end *end, const char *callback)
{
	/* A timeout may have ended the peer, whose callback is to come. */
	demand(!end->paused || model_end_is_leaving(end->other) || end->other->write_timeout != 0,
	       "%s while reading is paused", callback);
	demand(!end->closing, "%s after ferry_transport_lose_connection()", callback);
}

static void on_data(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct model_end *end = enter_made(transport, context, "data_received");
	size_t length = evbuffer_get_length(input);

	model_end_check_not_paused(end, "data_received");
	demand(input == input_of(end), "data_received with another buffer");
	demand(length > 0, "data_received without data");
	model_end_take_input(end, support_random_below(6) == 0 ? support_random_below((uint32_t)length)
	                                                       : length);
	maybe_switch(end, 12);
	act(end);
}

static void on_fd(struct ferry_transport *transport, int fd, void *context)
{
	struct model_end *end = enter_made(transport, context, "file_descriptor_received");

	model_end_check_not_paused(end, "file_descriptor_received");
	model_end_got_fd(end, fd);
	maybe_switch(end, 12);
	act(end);
}

static void on_fds_lost(struct ferry_transport *transport, void *context)
{
	(void)enter_made(transport, context, "file_descriptors_lost");
	demand(false, "no descriptor was lost");
}

/* All bytes under the low-water mark were offered too. */
static void check_offered(const struct model_end *end, const char *callback)
{
	demand(evbuffer_get_length(input_of(end)) <= end->left,
	       "%s, and data_received never offered %zu bytes", callback,
	       evbuffer_get_length(input_of(end)) - end->left);
}

static void on_read_lost(struct ferry_transport *transport, void *context)
{
	struct model_end *end = enter_made(transport, context, "read_connection_lost");

	demand(current(end)->read_lost++ == 0, "read_connection_lost twice");
	/* A peer without read_connection_lost ends with this end's half. */
	demand(model_end_is_leaving(end->other) || end->other->half_closing || end->half_closing,
	       "read_connection_lost, and the peer is there");
	check_offered(end, "read_connection_lost");
	act(end);
}

/* The default of ferry_transport_set_linger_timeout(). */
enum { LINGER_USEC = 2 * MODEL_SECOND };

static void check_timeout(const struct model_end *end)
{
	int64_t now = clock_time();
	bool read = end->read_timeout != 0 && now - end->read_at >= end->read_timeout;
	bool write = end->write_timeout != 0 && now - end->moved_at >= end->write_timeout;
	/* A TCP connection that is closing, perhaps with its peer, waits that long for a peer that takes nothing. */
	bool closing = end->closing || end->other->half_closing || model_end_is_leaving(end->other);
	bool linger = end->link == MODEL_TCP && closing && now - end->moved_at >= LINGER_USEC;
	bool close = end->close_timeout != 0 && now - end->close_timeout_at >= end->close_timeout;

	demand(read || write || linger || close,
	       "a timeout; bytes came %lld us ago, and went %lld us ago; the timeouts are %lld and "
	       "%lld us",
	       (long long)(now - end->read_at), (long long)(now - end->moved_at),
	       (long long)end->read_timeout, (long long)end->write_timeout);
}

void model_end_check_reason(const struct model_end *end, int reason)
{
	switch (reason) {
	case 0:
		demand(!end->aborted, "an aborted connection ends with 0");
		demand(end->closing || end->half_closing || model_end_is_leaving(end->other) ||
		           end->other->half_closing,
		       "nobody has closed");
		demand(end->transport == NULL ||
		           (end->stats.bytes_queued == 0 && end->stats.fds_queued == 0 &&
		            end->stats.fds_unsent == 0 && end->stats.files_queued == 0),
		       "reason 0, and something was not sent");
		break;
	case -ECONNABORTED:
		demand(end->aborted, "nobody has aborted");
		break;
	case -ETIMEDOUT:
		check_timeout(end);
		break;
	case -ENODATA:
		demand(end->transport == NULL || end->stats.fds_unsent > 0, "every descriptor was sent");
		break;
	case -EPIPE:
	case -ECONNRESET:
		demand(model_end_is_leaving(end->other), "the peer is there");
		break;
	default:
		demand(false, "reason %d", reason);
	}
}

static void on_lost(struct ferry_transport *transport, int reason, void *context)
{
	struct model_end *end = enter_made(transport, context, "connection_lost");

	trace("%s: reason %d", end->name, reason);
	model_end_check_reason(end, reason);
	model_end_drop_silent_producer(end);
	demand(end->producer == NULL, "stop_producing did not run before connection_lost");
	for (unsigned int i = 0; i < end->file_count; i++)
		demand(end->files[i].finished, "file %u is not finished", i);
	if (!end->closing && reason != -ECONNABORTED)
		check_offered(end, "connection_lost");
	model_end_take_input(end, SIZE_MAX);
	end->over = true;
	end->reason = reason;
	act(end);
}

static const struct ferry_protocol with_half_close = {
    .connection_made = on_made,
    .data_received = on_data,
    .file_descriptor_received = on_fd,
    .file_descriptors_lost = on_fds_lost,
    .read_connection_lost = on_read_lost,
    .connection_lost = on_lost,
};

static const struct ferry_protocol without_half_close = {
    .connection_made = on_made,
    .data_received = on_data,
    .file_descriptor_received = on_fd,
    .file_descriptors_lost = on_fds_lost,
    .connection_lost = on_lost,
};

void model_end_set_protocol(struct model_end *end, bool half_close)
{
	if (end->protocol_count == MODEL_PROTOCOLS_MAX)
		return;
	struct model_protocol *protocol = &end->protocols[end->protocol_count];
	*protocol = (struct model_protocol){.end = end, .half_close = half_close};
	int status = CALL(ferry_transport_set_protocol(
	    end->transport, half_close ? &with_half_close : &without_half_close, protocol));
	trace("%s: set_protocol %u: %d", end->name, end->protocol_count, status);
	demand(status == 0 || (status == -ENOTCONN && model_may_refuse(end)), "set_protocol: %d",
	       status);
	if (status == 0) {
		end->protocol_count++;
		end->as_bufferevent = false;
	}
}

/* ---- callbacks of files ---- */

static void on_progress(struct ferry_file_producer *producer, uint64_t sent, uint64_t total,
                        void *context)
{
	struct model_file *file = context;

	trace("%s: progress of item %u: %llu", file->end->name, file->item, (unsigned long long)sent);
	demand(model_calls == 0, "progress inside a call");
	demand(producer == file->producer && !file->finished, "progress after finished");
	demand(model_end_is_alive(file->end), "progress after a free");
	demand(sent > file->progress && sent <= total, "progress from %llu to %llu of %llu",
	       (unsigned long long)file->progress, (unsigned long long)sent, (unsigned long long)total);
	file->progress = sent;
	act(file->end);
}

static void on_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                        void *context)
{
	struct model_file *file = context;
	struct model_end *end = file->end;

	trace("%s: item %u finished: %d after %llu", end->name, file->item, status,
	      (unsigned long long)sent);
	demand(model_calls == 0, "finished inside a call");
	demand(!file->finished, "finished twice");
	demand(producer == file->producer, "finished of another file");
	demand(sent >= file->progress, "fewer bytes than by progress");
	demand(status != 0 || (!file->cut && sent == file->length), "%llu of %llu bytes, and status 0",
	       (unsigned long long)sent, (unsigned long long)file->length);
	demand(status != -EIO || file->cut, "an error of a good file");
	model_end_look(end);
	demand(status != -ECANCELED || file->stopped || !model_end_is_alive(end),
	       "nobody has stopped the file");
	file->finished = true;
	file->producer = NULL;
	model_stream_finish(&end->out, file->item, sent);
	if (file->feed >= 0)
		close(file->feed);
	file->feed = -1;
	if (model_end_is_alive(end))
		act(end);
}

const struct ferry_file_callbacks model_file_callbacks = {.progress = on_progress,
                                                          .finished = on_finished};

/* ---- the producer ---- */

/* Whether the connection may have ended for a producer that hears nothing of it. */
static bool may_be_dropped(const struct model_end *end)
{
	return end->producer != NULL && end->producer->silent && model_may_refuse(end);
}

static struct model_end *enter_producer(struct model_producer *producer, const char *callback)
{
	struct model_end *end = producer->end;

	trace("%s: %s", end->name, callback);
	demand(producer == end->producer, "%s of a producer that is not registered", callback);
	demand(!end->over, "%s after connection_lost", callback);
	return end;
}

static void on_resume(void *context)
{
	struct model_producer *producer = context;
	struct model_end *end = enter_producer(producer, "resume_producing");

	demand(model_calls == 0, "resume_producing inside a call");
	demand(model_end_is_alive(end), "resume_producing after a free");
	if (producer->mode == FERRY_PRODUCER_PUSH) {
		demand(producer->paused, "resume_producing of a producer that is not paused");
		producer->paused = false;
	} else {
		demand(!producer->asked, "a pull producer is asked again before it has written");
		model_end_look(end);
		demand(may_be_dropped(end) ||
		           (end->stats.bytes_queued == 0 && end->stats.files_queued == 0),
		       "a pull producer is asked while something is queued");
		producer->asked = true;
	}
	act(end);
}

static void on_pause(void *context)
{
	struct model_producer *producer = context;
	struct model_end *end = enter_producer(producer, "pause_producing");

	demand(model_end_is_alive(end), "pause_producing after a free");
	demand(producer->mode == FERRY_PRODUCER_PUSH, "pause_producing of a pull producer");
	demand(!producer->paused, "pause_producing of a paused producer");
	producer->paused = true;
	act(end);
}

static void on_stop(void *context)
{
	struct model_producer *producer = context;
	struct model_end *end = enter_producer(producer, "stop_producing");

	demand(model_calls == 0 || freeing == end, "stop_producing inside a call");
	end->producer = NULL;
	if (model_end_is_alive(end))
		act(end);
}

static const struct ferry_producer_callbacks producer_callbacks = {
    .resume_producing = on_resume, .pause_producing = on_pause, .stop_producing = on_stop};
static const struct ferry_producer_callbacks silent_callbacks = {.resume_producing = on_resume,
                                                                 .pause_producing = on_pause};

void model_end_drop_silent_producer(struct model_end *end)
{
	if (end->producer != NULL && end->producer->silent)
		end->producer = NULL;
}

void model_end_check_producer(struct model_end *end)
{
	struct model_producer *producer = end->producer;
	size_t high = 0;

	if (producer == NULL || end->transport == NULL)
		return;
	producer->asked = false;
	if (may_be_dropped(end))
		return;
	model_end_look(end);
	bufferevent_getwatermark(ferry_transport_get_bufferevent(end->transport), EV_WRITE, NULL,
	                         &high);
	if (producer->mode == FERRY_PRODUCER_PUSH &&
	    end->stats.bytes_queued > (high != 0 ? high : (size_t)64 * 1024))
		demand(producer->paused, "%llu bytes are queued, and the producer is not paused",
		       (unsigned long long)end->stats.bytes_queued);
}

void model_end_register_producer(struct model_end *end, enum ferry_producer_mode mode)
{
	if (end->producer_count == MODEL_PRODUCERS_MAX || may_be_dropped(end))
		return;
	struct model_producer *before = end->producer;
	struct model_producer *producer = &end->producers[end->producer_count++];
	*producer =
	    (struct model_producer){.end = end, .mode = mode, .silent = support_random_below(4) == 0};
	if (before == NULL)
		end->producer = producer; /* it may be paused inside the call */
	trace("%s: register_producer %s", end->name, mode == FERRY_PRODUCER_PUSH ? "push" : "pull");
	int status = CALL(ferry_transport_register_producer(
	    end->transport, producer->silent ? &silent_callbacks : &producer_callbacks, producer,
	    mode));
	demand((status == -EBUSY) == (before != NULL), "register_producer: %d", status);
	demand(status == 0 || status == -EBUSY || status == -EPIPE, "register_producer: %d", status);
	if (status == -EPIPE)
		end->producer = NULL;
}

void model_end_unregister_producer(struct model_end *end)
{
	struct model_producer *before = end->producer;
	bool dropped = may_be_dropped(end);

	trace("%s: unregister_producer", end->name);
	end->producer = NULL;
	int status = CALL(ferry_transport_unregister_producer(end->transport));
	demand(status == (before != NULL ? 0 : -ENOENT) || (dropped && status == -ENOENT),
	       "unregister_producer: %d", status);
}

/* ---- making and freeing ---- */

static int make_transport_on(struct model_end *end, int read_fd, int write_fd)
{
	if (end->link == MODEL_PIPES)
		return ferry_transport_new_pipes(&end->transport, base, read_fd, write_fd);
	int options = end->keeps_socket ? 0 : BEV_OPT_CLOSE_ON_FREE;
	if (support_random_below(4) == 0)
		options |= BEV_OPT_DEFER_CALLBACKS;
	struct bufferevent *bev = bufferevent_socket_new(base, read_fd, options);
	demand(bev != NULL, "no memory");
	if (support_random_below(8) == 0)
		model_add_segment_to(end, bufferevent_get_output(bev));
	return ferry_transport_new(&end->transport, bev);
}

void model_end_init(struct model_end *end, const char *name, struct model_end *other,
                    enum model_link link)
{
	memset(end, 0, sizeof(*end));
	end->name = name;
	end->other = other;
	end->link = link;
	end->socket = -1;
	end->read_at = end->moved_at = end->closing_at = clock_time();
	model_stream_open(&end->out);
}

void model_end_open(struct model_end *end, int read_fd, int write_fd)
{
	end->keeps_socket = end->link != MODEL_PIPES && support_random_below(8) == 0;
	end->socket = read_fd == write_fd ? read_fd : -1;
	demand(make_transport_on(end, read_fd, write_fd) == 0, "no transport");
	if (support_random_below(3) == 0) {
		int status = ferry_transport_set_fd_positions(end->transport, FERRY_FD_EXACT);
		demand(status == 0, "set_fd_positions: %d", status);
		end->other->out.exact = true;
	}
	if (support_random_below(6) == 0)
		model_bufferevent_begin(end);
	else
		model_end_set_protocol(end, support_random_below(2) == 0);
}

void model_end_detach(struct model_end *end)
{
	struct bufferevent *bev = NULL;

	model_end_look(end);
	bool busy = end->stats.fds_queued > 0 || end->stats.files_queued > 0 || end->producer != NULL;
	int status = CALL(ferry_transport_detach(end->transport, &bev));
	trace("%s: detach: %d", end->name, status);
	demand(!busy || status == -EBUSY, "detach: %d, and something is queued", status);
	demand(busy || status == 0 || status == -EBUSY, "detach: %d", status);
	if (status != 0)
		return;
	end->before = end->stats;
	end->byte_limit = 0;
	end->paused = false;
	end->other->out.exact = false;
	demand(ferry_transport_new(&end->transport, bev) == 0, "no transport");
	model_end_set_protocol(end, support_random_below(2) == 0);
}

void model_end_begin_free(struct model_end *end)
{
	end->transport = NULL;
	freeing = end;
	model_calls++;
}

void model_end_end_free(struct model_end *end)
{
	model_calls--;
	freeing = NULL;
	model_end_drop_silent_producer(end);
	demand(end->producer == NULL, "stop_producing did not run in the free");
}

void model_end_free(struct model_end *end)
{
	struct ferry_transport *transport = end->transport;

	trace("%s: free", end->name);
	model_end_look(end);
	model_end_begin_free(end);
	ferry_transport_free(transport);
	model_end_end_free(end);
}

void model_end_close_socket(struct model_end *end)
{
	if (end->keeps_socket && end->socket >= 0)
		demand(close(end->socket) == 0, "ferry closed a socket that is not its own");
	end->socket = -1;
}

void model_end_close(struct model_end *end)
{
	if (end->transport != NULL)
		model_end_free(end);
	model_end_close_socket(end);
}
