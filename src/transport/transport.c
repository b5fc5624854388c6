#include "transport/transport.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "kernel/ancillary.h"

enum {
	BYTES_PER_TURN = 256 * 1024, /* then other connections get theirs */
	BYTES_PER_TURN_INET = 1024 * 1024,
	FD_LIMIT_MAX = 1024 * 1024
};

/* ---- making ---- */

static int get_option(int fd, int option, int *value)
{
	socklen_t length = sizeof(*value);
	return getsockopt(fd, SOL_SOCKET, option, value, &length) == 0 ? 0 : -errno;
}

/* What the kernel says of a socket; the transport is as it was when that will not do. */
static int examine_socket(struct ferry_transport *transport, int fd)
{
	int type = 0, domain = AF_UNSPEC;
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);

	int status = get_option(fd, SO_TYPE, &type);
	if (status == 0)
		status = get_option(fd, SO_DOMAIN, &domain);
	if (status < 0)
		return status == -EBADF ? -EINVAL : status;
	if (type != SOCK_STREAM)
		return -EPROTOTYPE;
	if (domain != AF_UNIX && transport->outgoing.fd_count > 0)
		return -EOPNOTSUPP;
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) < 0)
		cookie = 0; /* before Linux 4.6 */
	if (evutil_make_socket_nonblocking(fd) < 0)
		return -errno;

	transport->outgoing.carries_fds = domain == AF_UNIX;
	transport->cookie = cookie;
	transport->outgoing.is_socket = true;
	transport->outgoing.is_inet = domain == AF_INET || domain == AF_INET6;
	return 0;
}

static struct ferry_transport *allocate(struct bufferevent *bev)
{
	struct ferry_transport *transport = calloc(1, sizeof(*transport));
	if (transport == NULL)
		return NULL;
	transport->loop_event =
	    event_new(bufferevent_get_base(bev), -1, 0, transport_on_loop, transport);
	if (transport->loop_event == NULL) {
		free(transport);
		return NULL;
	}
	transport->rearm = (struct rearm){
	    .bev = bev,
	    .on_read = transport_on_read,
	    .on_write = transport_on_write,
	    .argument = transport,
	    .write_fd = -1,
	};
	transport->pipe_read_fd = -1;
	transport->pipe_write_fd = -1;
	transport->fd_high = 64;
	outgoing_init(&transport->outgoing, bufferevent_get_output(bev), &transport->stats);
	return transport;
}

static void discard(struct ferry_transport *transport)
{
	event_free(transport->loop_event);
	free(transport);
}

static int attach(struct ferry_transport *transport)
{
	struct bufferevent *bev = transport->rearm.bev;
	bool inet = transport->outgoing.is_socket && !transport->outgoing.carries_fds;

	int status = rearm_attach(&transport->rearm, transport_on_output);
	if (status < 0)
		return status;
	bufferevent_set_max_single_read(bev, BYTES_PER_TURN);
	bufferevent_set_max_single_write(bev, inet ? BYTES_PER_TURN_INET : BYTES_PER_TURN);
	event_priority_set(transport->loop_event, bufferevent_get_priority(bev));
	incoming_init(&transport->incoming, !transport->on_pipes);
	if (transport->rearm.hold != NULL)
		transport_want_loop(transport);
	return 0;
}

int ferry_transport_new(struct ferry_transport **out, struct bufferevent *bev)
{
	struct ferry_transport *transport;

	if (out == NULL || bev == NULL)
		return -EINVAL;
	bufferevent_lock(bev);
	int status = rearm_examine(&(struct rearm){.bev = bev, .on_read = transport_on_read});
	if (status < 0)
		goto unlock;
	transport = allocate(bev);
	if (transport == NULL) {
		status = -ENOMEM;
		goto unlock;
	}
	status = examine_socket(transport, bufferevent_getfd(bev));
	if (status == 0)
		status = attach(transport);
	if (status == 0)
		*out = transport;
	else
		discard(transport);
unlock:
	bufferevent_unlock(bev);
	return status;
}

void transport_rejoin_group(struct ferry_transport *transport)
{
	if (transport->rate_limit_group != NULL && transport->rearm.hold == NULL)
		bufferevent_add_to_rate_limit_group(transport->rearm.bev, transport->rate_limit_group);
}

void transport_notice_socket(struct ferry_transport *transport)
{
	if (transport->freed || !rearm_check(&transport->rearm))
		return;
	transport->broken = 0;
	transport->outgoing.replaced = true;
	transport->read_ended = false;
	transport->write_ended = false;
	int fd = bufferevent_getfd(transport->rearm.bev);
	if (fd >= 0 && examine_socket(transport, fd) < 0)
		transport->outgoing.carries_fds = false;
	transport_rejoin_group(transport);
	if (transport->rearm.hold != NULL)
		transport_want_loop(transport);
	/* What waits in the stream goes to the new one. */
	if (!transport_is_over(transport) && !outgoing_is_sent(&transport->outgoing))
		transport_want_write(transport);
}

struct bufferevent *transport_lock(struct ferry_transport *transport)
{
	struct bufferevent *bev = transport->rearm.bev;

	bufferevent_lock(bev);
	transport_notice_socket(transport);
	return bev;
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
	return S_ISREG(status.st_mode) || S_ISDIR(status.st_mode) ? -EINVAL : 0;
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
	status = rearm_examine(&(struct rearm){.bev = bev, .on_read = transport_on_read});
	if (status < 0)
		goto free_bev;
	transport = allocate(bev);
	if (transport == NULL) {
		status = -ENOMEM;
		goto free_bev;
	}

	transport->rearm.write_fd = write_fd;
	transport->on_pipes = true;
	status = attach(transport);
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

/* ---- who is on it ---- */

void transport_set_watcher(struct ferry_transport *transport,
                           const struct transport_watcher *watcher, void *argument)
{
	transport->watcher = watcher;
	transport->watcher_argument = argument;
}

void transport_set_reader(struct ferry_transport *transport, const struct transport_reader *reader,
                          void *argument)
{
	transport->reader = reader;
	transport->reader_argument = argument;
	transport_close_kept(transport);
}

void transport_dismiss_watcher(struct ferry_transport *transport)
{
	const struct transport_watcher *watcher = transport->watcher;

	transport->watcher = NULL;
	if (watcher != NULL)
		watcher->gone(transport->watcher_argument);
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
	int status = transport_is_over(transport) ? -ENOTCONN : examine_socket(transport, fd);
	if (status == 0) {
		bufferevent_setfd(bev, fd);
		transport_notice_socket(transport);
	}
	bufferevent_unlock(bev);
	return status;
}

/* libevent counts reading as enabled even when it had no memory to watch the socket. */
int transport_enable_reading(struct ferry_transport *transport)
{
	struct bufferevent *bev = transport->rearm.bev;
	short before = bufferevent_get_enabled(bev);

	if (bufferevent_enable(bev, EV_READ) == 0)
		return 0;
	if ((before & EV_READ) == 0)
		bufferevent_disable(bev, EV_READ);
	return -ENOMEM;
}

/* Bytes that were read before: by an earlier protocol, or by the process that handed the connection over. */
static void offer_what_is_there(struct ferry_transport *transport)
{
	struct bufferevent *bev = transport->rearm.bev;

	if (transport->state == TRANSPORT_OPEN && !transport->rearm.connecting &&
	    !transport->reading_paused && evbuffer_get_length(bufferevent_get_input(bev)) > 0)
		transport_trigger_read(transport, BEV_TRIG_DEFER_CALLBACKS);
}

int ferry_transport_set_protocol(struct ferry_transport *transport,
                                 const struct ferry_protocol *protocol, void *context)
{
	if (transport == NULL || protocol == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = transport_is_over(transport) ? -ENOTCONN : 0;
	if (status == 0 && transport->state == TRANSPORT_OPEN && !transport->reading_paused)
		status = transport_enable_reading(transport);
	if (status == 0) {
		transport->protocol = protocol;
		transport->protocol_context = context;
		transport->made = false;
		bufferevent_setcb(bev, protocol_on_readable, NULL, protocol_on_event, transport);
		transport_want_loop(transport);
		offer_what_is_there(transport);
	}
	bufferevent_unlock(bev);
	return status;
}

int ferry_transport_set_fd_cb(struct ferry_transport *transport, ferry_fd_cb cb, void *context)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	transport->fd_cb = cb;
	transport->fd_context = context;
	bufferevent_unlock(bev);
	return 0;
}

int ferry_transport_set_fds_lost_cb(struct ferry_transport *transport, ferry_fds_lost_cb cb,
                                    void *context)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	transport->fds_lost_cb = cb;
	transport->fds_lost_context = context;
	bufferevent_unlock(bev);
	return 0;
}

int ferry_transport_set_fd_coalescing(struct ferry_transport *transport, bool coalescing)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	transport->outgoing.coalescing = coalescing;
	bufferevent_unlock(bev);
	return 0;
}

int ferry_transport_set_max_fds_per_message(struct ferry_transport *transport, unsigned int max)
{
	if (transport == NULL || max == 0 || max > ANCILLARY_MAX_FDS)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	transport->outgoing.max_fds_per_message = max;
	bufferevent_unlock(bev);
	return 0;
}

int ferry_transport_set_fd_buffer(struct ferry_transport *transport, size_t high, size_t limit)
{
	if (transport == NULL || high == 0 || limit < high || limit > FD_LIMIT_MAX)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	transport->fd_high = high;
	transport->outgoing.fd_limit = (unsigned int)limit;
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
	bool later = transport->rearm.hold != NULL; /* joins when that is released */
	if (!later && group == NULL)
		bufferevent_remove_from_rate_limit_group(bev);
	else if (!later && bufferevent_add_to_rate_limit_group(bev, group) < 0)
		status = -ENOMEM;
	if (status == 0)
		transport->rate_limit_group = group;
	bufferevent_unlock(bev);
	return status;
}

int ferry_transport_get_stats(const struct ferry_transport *transport,
                              struct ferry_transport_stats *stats)
{
	if (transport == NULL || stats == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport->rearm.bev;
	bufferevent_lock(bev);
	*stats = transport->stats;
	stats->bytes_queued = evbuffer_get_length(bufferevent_get_output(bev));
	stats->fds_queued = transport->outgoing.fd_count;
	stats->files_queued = transport->outgoing.file_count;
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
		transport->reading_paused = true;
		bufferevent_disable(bev, EV_READ);
		status = 0;
	}
	bufferevent_unlock(bev);
	return status;
}

int ferry_transport_resume_reading(struct ferry_transport *transport)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = transport_is_over(transport) ? -ENOTCONN : 0;
	bool resume = status == 0 && transport->state == TRANSPORT_OPEN && transport->reading_paused;
	if (resume && !transport->read_ended)
		status = transport_enable_reading(transport);
	if (resume && status == 0) {
		transport->reading_paused = false;
		if (transport->kept_count > 0 || transport->kept_loss)
			transport_want_loop(transport);
		/* Of a peer that has ended, what is there is offered however little it is: nothing follows. */
		if (!transport->held_back)
			offer_what_is_there(transport);
		else if (evbuffer_get_length(bufferevent_get_input(bev)) > 0)
			transport_trigger_read(transport,
			                       BEV_TRIG_DEFER_CALLBACKS | BEV_TRIG_IGNORE_WATERMARKS);
		else
			protocol_end_holding_back(transport);
	}
	bufferevent_unlock(bev);
	return status;
}
