#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/ancillary.h"
#include "transport/core.h"
#include "transport/deliver.h"
#include "transport/end.h"
#include "transport/events.h"
#include "transport/file_producer.h"
#include "transport/loop.h"
#include "transport/read.h"
#include "transport/watch.h"
#include "transport/write.h"

enum {
	BYTES_PER_TURN = 256 * 1024, /* then other connections get their turn */
	BYTES_PER_TURN_INET = 1024 * 1024,
	FD_LIMIT_MAX = 1024 * 1024
};

/* ---- making ---- */

static const struct transport_steps steps = {
    .rearm = {transport_on_read, transport_on_write},
    .on_watch = transport_on_watch,
    .on_readable = transport_on_readable,
    .readable = transport_readable,
    .adopt = file_producer_adopt,
    .refuse = transport_refuse_socket,
};

static void discard(struct ferry_transport *transport)
{
	if (transport->loop_event != NULL)
		event_free(transport->loop_event);
	incoming_release(&transport->in.stream);
	free(transport);
}

static struct ferry_transport *allocate(struct bufferevent *bev)
{
	struct ferry_transport *transport = malloc(sizeof(*transport));
	if (transport == NULL)
		return NULL;
	*transport = (struct ferry_transport){
	    .rearm = {.bev = bev, .steps = &steps.rearm, .write_fd = -1},
	    .loop_event = event_new(bufferevent_get_base(bev), -1, 0, transport_on_loop, transport),
	    .out = {.fd_high = 64, .step = {.kernel_queue = -ENODATA}},
	};
	if (transport->loop_event == NULL) {
		discard(transport);
		return NULL;
	}
	outgoing_init(&transport->out.stream, bufferevent_get_output(bev));
	return transport;
}

/* `fresh`: nobody has used the bufferevent. */
static int attach(struct ferry_transport *transport, bool fresh)
{
	bool inet = transport->out.stream.is_socket && !transport->out.stream.carries_fds;

	int status = fresh ? rearm_attach_new(&transport->rearm, transport_on_output)
	                   : rearm_attach(&transport->rearm, transport_on_output);
	if (status < 0)
		return status;
	rearm_set_limits(&transport->rearm, BYTES_PER_TURN,
	                 inet ? BYTES_PER_TURN_INET : BYTES_PER_TURN);
	incoming_init(&transport->in.stream, !transport->on_pipes);
	if (transport->rearm.write_gate != NULL)
		transport_want_loop(transport);
	return 0;
}

/* `known_inet`: the socket is a non-blocking stream of IPv4 or IPv6, without TLS in the kernel. `fresh`: nobody has used
 * the bufferevent. */
static int new_on_socket(struct ferry_transport **out, struct bufferevent *bev, bool known_inet,
                         bool fresh)
{
	struct ferry_transport *transport;

	bufferevent_lock(bev);
	int status = fresh ? rearm_examine_new(bev)
	                   : rearm_examine(&(struct rearm){.bev = bev, .steps = &steps.rearm});
	if (status < 0)
		goto unlock;
	transport = allocate(bev);
	if (transport == NULL) {
		status = -ENOMEM;
		goto unlock;
	}
	if (known_inet)
		transport_set_known_inet(transport);
	else
		status = transport_examine_socket(transport, bufferevent_getfd(bev));
	if (status == 0)
		status = attach(transport, fresh);
	if (status < 0) {
		discard(transport);
		goto unlock;
	}
	*out = transport;
	if (fresh && evbuffer_get_length(bufferevent_get_input(bev)) > 0) {
		transport->in.offer_first = true;
		transport_want_loop(transport);
	}
unlock:
	bufferevent_unlock(bev);
	return status;
}

int transport_new_on_new(struct ferry_transport **out, struct bufferevent *bev, bool known_inet)
{
	return new_on_socket(out, bev, known_inet, true);
}

int ferry_transport_new(struct ferry_transport **out, struct bufferevent *bev)
{
	return out == NULL || bev == NULL ? -EINVAL : new_on_socket(out, bev, false, false);
}

int ferry_transport_new_socket(struct ferry_transport **out, struct event_base *base, int fd)
{
	if (out == NULL || base == NULL || fd < 0)
		return -EINVAL;
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (bev == NULL)
		return -ENOMEM;
	int status = new_on_socket(out, bev, false, true);
	if (status < 0) {
		bufferevent_setfd(bev, -1); /* or the loop would close it */
		bufferevent_free(bev);
	}
	return status;
}

/* Whether the kernel can wait for this descriptor: regular files and /dev/null, for example, have nothing to wait
 * for. The other methods of libevent accept those, but find them ready all the time. */
static int examine_pollable(int fd, mode_t mode)
{
	if (S_ISFIFO(mode) || S_ISSOCK(mode))
		return 0;
	if (S_ISREG(mode) || S_ISDIR(mode))
		return -EPERM;
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0)
		return -errno;
	int status = epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){0}) < 0 ? -errno : 0;
	close(epoll);
	return status;
}

/* Whether `fd` can be polled and is open for reading, or writing. */
static int examine_pipe_end(int fd, int other_way)
{
	struct stat status;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &status) < 0)
		return -errno;
	if ((flags & O_PATH) != 0 || (flags & O_ACCMODE) == other_way)
		return -EINVAL;
	return examine_pollable(fd, status.st_mode);
}

int ferry_transport_new_pipes(struct ferry_transport **out, struct event_base *base, int read_fd,
                              int write_fd)
{
	if (out == NULL || base == NULL)
		return -EINVAL;
	int status = examine_pipe_end(read_fd, O_WRONLY);
	if (status == 0)
		status = examine_pipe_end(write_fd, O_RDONLY);
	if (status < 0)
		return status;

	struct bufferevent *bev = bufferevent_socket_new(base, read_fd, 0);
	if (bev == NULL)
		return -ENOMEM;
	struct ferry_transport *transport = NULL;
	status = rearm_examine_new(bev);
	if (status < 0)
		goto free_bev;
	transport = allocate(bev);
	if (transport == NULL) {
		status = -ENOMEM;
		goto free_bev;
	}

	transport->rearm.write_fd = write_fd;
	transport->on_pipes = true;
	status = attach(transport, true);
	if (status < 0)
		goto discard;
	transport->pipe_read_fd = read_fd;
	transport->pipe_write_fd = write_fd;
	evutil_make_socket_nonblocking(read_fd);
	evutil_make_socket_nonblocking(write_fd);
	*out = transport;
	return 0;

discard:
	discard(transport);
free_bev:
	bufferevent_free(bev);
	return status;
}

/* ---- settings ---- */

struct bufferevent *ferry_transport_get_bufferevent(const struct ferry_transport *transport)
{
	return transport != NULL ? transport->rearm.bev : NULL;
}

int ferry_transport_set_socket(struct ferry_transport *transport, int fd)
{
	if (transport == NULL || transport->on_pipes || fd < 0)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = transport_is_over(transport) ? -ENOTCONN : transport_examine_socket(transport, fd);
	if (status == 0) {
		bufferevent_setfd(bev, fd);
		transport_notice_socket(transport);
	}
	bufferevent_unlock(bev);
	return status;
}

/* The owner has set its protocol: another one would take the input from under it. */
static int check_protocol(const struct ferry_transport *transport)
{
	if (transport_is_over(transport))
		return -ENOTCONN;
	return transport->owned ? -EBUSY : 0;
}

/* The caller has the bufferevent locked. */
static int install_protocol(struct ferry_transport *transport, struct bufferevent *bev,
                            const struct ferry_protocol *protocol, void *context)
{
	if (transport->life == TRANSPORT_OPEN && !transport->in.paused) {
		int status = transport_enable_reading(transport);
		if (status < 0)
			return status;
	}
	transport_set_protocol_table(transport, protocol, context);
	bufferevent_setcb(bev, transport_on_readable, NULL, transport_on_event, transport);
	transport_want_loop(transport);
	transport_offer_input(transport);
	return 0;
}

int ferry_transport_set_protocol(struct ferry_transport *transport,
                                 const struct ferry_protocol *protocol, void *context)
{
	if (transport == NULL || protocol == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = check_protocol(transport);
	if (status == 0)
		status = install_protocol(transport, bev, protocol, context);
	bufferevent_unlock(bev);
	return status;
}

int transport_own(struct ferry_transport *transport, const struct ferry_protocol *protocol,
                  void *context, bool paused)
{
	struct bufferevent *bev = transport_lock(transport);
	int status = check_protocol(transport);
	if (status == 0 && paused)
		status = ferry_transport_pause_reading(transport);
	if (status == 0)
		status = install_protocol(transport, bev, protocol, context);
	transport->owned |= status == 0;
	bufferevent_unlock(bev);
	return status;
}

/* NULL: no memory. */
static struct transport_fd_cbs *need_fd_cbs(struct ferry_transport *transport)
{
	if (transport->fd_cbs == NULL)
		transport->fd_cbs = calloc(1, sizeof(*transport->fd_cbs));
	return transport->fd_cbs;
}

int ferry_transport_set_fd_cb(struct ferry_transport *transport, ferry_fd_cb cb, void *context)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	const bool needed = cb != NULL || transport->fd_cbs != NULL;
	struct transport_fd_cbs *cbs = needed ? need_fd_cbs(transport) : NULL;
	if (cbs != NULL) {
		cbs->received = cb;
		cbs->received_context = context;
	}
	bufferevent_unlock(bev);
	return cbs != NULL || !needed ? 0 : -ENOMEM;
}

int ferry_transport_set_fds_lost_cb(struct ferry_transport *transport, ferry_fds_lost_cb cb,
                                    void *context)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	const bool needed = cb != NULL || transport->fd_cbs != NULL;
	struct transport_fd_cbs *cbs = needed ? need_fd_cbs(transport) : NULL;
	if (cbs != NULL) {
		cbs->lost = cb;
		cbs->lost_context = context;
	}
	bufferevent_unlock(bev);
	return cbs != NULL || !needed ? 0 : -ENOMEM;
}

int ferry_transport_set_fd_coalescing(struct ferry_transport *transport, bool coalescing)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	transport->out.stream.coalescing = coalescing;
	bufferevent_unlock(bev);
	return 0;
}

/* Whether the kernel shows positions is asked now: a socket of another kind may be replaced by a unix socket. */
int ferry_transport_set_fd_positions(struct ferry_transport *transport,
                                     enum ferry_fd_positions positions)
{
	bool exact = positions == FERRY_FD_EXACT;

	if (transport == NULL || (!exact && positions != FERRY_FD_EARLY))
		return -EINVAL;
	enum fd_ahead_support support = exact ? fd_ahead_probe() : FD_AHEAD_NONE;
	if (exact && support == FD_AHEAD_NONE)
		return -ENOTSUP;
	struct bufferevent *bev = transport_lock(transport);
	int status = exact ? incoming_need_part(&transport->in.stream) : 0;
	if (status == 0) {
		transport->in.exact = exact;
		if (exact)
			transport->in.stream.part->positions.support = support;
		transport_link_reader(transport);
		if (transport->out.stream.carries_fds)
			incoming_set_way(&transport->in.stream, exact ? INCOMING_EXACT : INCOMING_PLAIN);
	}
	bufferevent_unlock(bev);
	return status;
}

int ferry_transport_set_max_fds_per_message(struct ferry_transport *transport, unsigned int max)
{
	if (transport == NULL || max == 0 || max > ANCILLARY_MAX_FDS)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	transport->out.stream.limits.fds_per_message = max;
	bufferevent_unlock(bev);
	return 0;
}

int ferry_transport_set_fd_buffer(struct ferry_transport *transport, size_t high, size_t limit)
{
	if (transport == NULL || high == 0 || limit < high || limit > FD_LIMIT_MAX)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	transport->out.fd_high = (unsigned int)high;
	transport->out.stream.limits.fds = (unsigned int)limit;
	bufferevent_unlock(bev);
	return 0;
}

int ferry_transport_set_byte_limit(struct ferry_transport *transport, size_t limit)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	transport->out.byte_limit = limit;
	bufferevent_unlock(bev);
	return 0;
}

int ferry_transport_set_rate_limit_group(struct ferry_transport *transport,
                                         struct bufferevent_rate_limit_group *group)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = 0;
	bool later = transport->rearm.write_gate != NULL; /* joins when that is released */
	if (!later && group == NULL)
		bufferevent_remove_from_rate_limit_group(bev);
	else if (!later && bufferevent_add_to_rate_limit_group(bev, group) < 0)
		status = -ENOMEM;
	if (status == 0)
		transport->rate_limit_group = group;
	bufferevent_unlock(bev);
	return status;
}

bool ferry_transport_peer_has_closed(const struct ferry_transport *transport)
{
	if (transport == NULL)
		return false;
	struct bufferevent *bev = transport->rearm.bev;
	bufferevent_lock(bev);
	bool closed = transport_peer_has_closed(transport);
	bufferevent_unlock(bev);
	return closed;
}

static void fill_stats(const struct ferry_transport *transport, struct ferry_transport_stats *stats)
{
	const struct stream_counters *counted = &transport->out.stream.stats;
	const struct outgoing *stream = &transport->out.stream;
	static const struct item_counters none;
	const struct incoming_part *part = transport->in.stream.part;
	const struct item_counters *items = stream->marks != NULL ? &stream->marks->stats : &none;

	*stats = (struct ferry_transport_stats){
	    .bytes_sent = counted->bytes_sent,
	    .bytes_received = counted->bytes_received,
	    .fds_sent = items->fds_sent,
	    .fds_received = counted->fds_received,
	    .files_sent = items->files_sent,
	    .file_bytes_sent = items->file_bytes_sent,
	    .send_calls = counted->send_calls,
	    .sendfile_calls = items->sendfile_calls,
	    .receive_calls = counted->receive_calls,
	    .send_eagain = counted->send_eagain,
	    .send_retries = counted->send_retries,
	    .fds_unclaimed = counted->fds_unclaimed,
	    .fds_unsent = items->fds_unsent,
	    .fds_lost = counted->fds_lost,
	    .controls_ignored = counted->controls_ignored,
	    .bytes_queued = evbuffer_get_length(stream->buffer),
	    .fds_queued = marks_fd_count(stream->marks),
	    .files_queued = marks_file_count(stream->marks),
	    .bytes_queued_max = counted->bytes_queued_max,
	    .fds_queued_max = items->fds_queued_max,
	    .file_waits = items->file_waits,
	    .file_bytes_unsent = items->file_bytes_unsent,
	    .fds_in_flight = stream->marks != NULL ? in_flight_count(&stream->marks->in_flight) : 0,
	};
	if (transport_has_tls(transport)) {
		stats->tls_version = part->keys.version;
		stats->tls_cipher = part->keys.cipher;
		stats->tls_records_ignored = part->records.ignored;
	}
}

int ferry_transport_get_stats(const struct ferry_transport *transport,
                              struct ferry_transport_stats *stats)
{
	if (transport == NULL || stats == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport->rearm.bev;
	bufferevent_lock(bev);
	fill_stats(transport, stats);
	bufferevent_unlock(bev);
	return 0;
}

/* ---- reading and closing ---- */

int ferry_transport_pause_reading(struct ferry_transport *transport)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = -ENOTCONN;
	if (!transport_is_over(transport)) {
		transport_set_reading_paused(transport, true);
		if (transport->protocol.table == NULL) {
			bufferevent_disable(bev, EV_READ);
			rearm_hold_read_cb(&transport->rearm);
		} else {
			rearm_stop_read_timeout(&transport->rearm);
		}
		transport_watch_peer(transport);
		status = 0;
	}
	bufferevent_unlock(bev);
	return status;
}

/* After its end the peer sends no more, but a protocol that was set later has yet to meet the end. */
static bool expects_more(const struct ferry_transport *transport)
{
	return transport->in.half == IN_OPEN ||
	       (transport->protocol.table != NULL && !transport->end_notified);
}

int ferry_transport_resume_reading(struct ferry_transport *transport)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = transport_is_over(transport) ? -ENOTCONN : 0;
	bool resume = status == 0 && transport->life == TRANSPORT_OPEN && transport->in.paused;
	if (resume && expects_more(transport))
		status = transport_enable_reading(transport);
	if (resume && status == 0) {
		transport_set_reading_paused(transport, false);
		transport_offer_deferred(transport);
		if (transport->out.half == OUT_BROKEN)
			transport_want_loop(transport);
	}
	bufferevent_unlock(bev);
	return status;
}
