#include "transport/core.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "kernel/clock.h"
#include "kernel/fds.h"
#include "kernel/socket.h"
#include "kernel/tls.h"
#include "libevent/fields.h"

/* ---- the states ---- */

void transport_advance_life(struct ferry_transport *transport, enum transport_life life)
{
	assert(life > transport->life);
	transport->life = life;
}

/* The peer's end of file comes by a read of 0 bytes, behind all bytes and descriptors that the peer has
 * sent. */
void transport_read_half_ended(struct ferry_transport *transport)
{
	bool undelivered = transport_defers_delivery(transport) &&
	                   evbuffer_get_length(fields_input(transport->rearm.bev)) > 0;

	transport->in.half = undelivered ? IN_EOF_UNDELIVERED : IN_EOF;
}

/* EPIPE and ECONNRESET of a write, and the error of a read, are final: the kernel never takes bytes on this
 * socket again. */
static void set_write_half(struct ferry_transport *transport, enum transport_out_half half,
                           int error)
{
	transport->out.half = half;
	transport->out.error = error;
}

void transport_write_half_closing(struct ferry_transport *transport)
{
	if (transport->out.half == OUT_OPEN)
		set_write_half(transport, OUT_CLOSING, transport->out.error);
}

/* A unix socket hangs up when neither side sends any more. As long as this side can, the peer has closed, or has shut
 * down both of its halves, which comes to the same. A socket that is not connected yet hangs up too. */
bool transport_peer_has_closed(const struct ferry_transport *transport)
{
	const struct rearm *rearm = &transport->rearm;

	if (transport->peer_closed || transport_is_over(transport))
		return transport->peer_closed;
	int read_end = socket_get_hang_up(fields_fd(rearm->bev));
	if (transport_is_connecting(transport))
		return false;
	if (transport->on_pipes && transport->pipe_write_fd != transport->pipe_read_fd)
		return read_end != 0 && transport->pipe_write_fd >= 0 &&
		       socket_get_hang_up(transport->pipe_write_fd) != 0;
	return (read_end & (transport->out.half == OUT_SHUT ? POLLERR : POLLHUP)) != 0;
}

/* Before the first shutdown(2), whose result shows a peer of TCP. */
void transport_keep_peer_closed(struct ferry_transport *transport)
{
	if (!transport->is_inet || transport->out.half == OUT_SHUT)
		transport->peer_closed = transport_peer_has_closed(transport);
}

void transport_peer_was_gone(struct ferry_transport *transport)
{
	transport->peer_closed = true;
}

/* shutdown(SHUT_WR) puts the end of file behind all bytes that the kernel has taken. */
void transport_write_half_shut(struct ferry_transport *transport)
{
	set_write_half(transport, OUT_SHUT, transport->out.error);
}

/* The bytes that are in the socket now: a peer that has only stopped reading may go on sending. */
static unsigned int count_unread(const struct ferry_transport *transport)
{
	int length = 0;

	/* The kernel does not count what it has decrypted, and the peer is gone: up to the end. */
	if (transport_has_tls(transport))
		return UINT_MAX;
	if (ioctl(fields_fd(transport->rearm.bev), FIONREAD, &length) < 0 || length < 0)
		return 0;
	return (unsigned int)length;
}

void transport_write_half_broken(struct ferry_transport *transport, int error)
{
	bool peer_gone = error == -EPIPE || error == -ECONNRESET;

	if (transport->out.half == OUT_BROKEN)
		return;
	set_write_half(transport, OUT_BROKEN, error);
	transport->in.rest = peer_gone && transport->in.half == IN_OPEN ? count_unread(transport) : 0;
}

void transport_write_will_fail(struct ferry_transport *transport, int error)
{
	set_write_half(transport, transport->out.half, error);
	transport_want_write(transport);
}

/* Another socket: the peer can send, and the kernel takes bytes. A half-close that was asked for stays. */
static void reopen_halves(struct ferry_transport *transport)
{
	bool closing = transport->out.half == OUT_CLOSING || transport->out.half == OUT_SHUT;

	transport->in.half = IN_OPEN;
	transport->end_notified = false;
	if (transport->watch != NULL)
		transport->watch->lingering = false;
	transport->out.step.kernel_queue = -ENODATA; /* the other socket's */
	transport->in.rest = 0;
	transport->peer_closed = false;
	set_write_half(transport, closing ? OUT_CLOSING : OUT_OPEN, 0);
}

void transport_connection_made(struct ferry_transport *transport)
{
	transport->made = true;
}

void transport_end_notified(struct ferry_transport *transport)
{
	transport->end_notified = true;
}

void transport_set_protocol_table(struct ferry_transport *transport,
                                  const struct ferry_protocol *table, void *context)
{
	transport->protocol.table = table;
	transport->protocol.context = context;
	transport->made = false;
	transport->end_notified = false;
}

void transport_set_reading_paused(struct ferry_transport *transport, bool paused)
{
	transport->in.paused = paused;
}

bool transport_is_connecting(const struct ferry_transport *transport)
{
	return transport->rearm.connecting && rearm_awaits_write(&transport->rearm);
}

bool transport_is_over(const struct ferry_transport *transport)
{
	return transport->freed || transport->life >= TRANSPORT_LOST;
}

bool transport_is_open(const struct ferry_transport *transport)
{
	return !transport->freed && transport->life == TRANSPORT_OPEN;
}

bool transport_defers_delivery(const struct ferry_transport *transport)
{
	return transport->in.paused && transport_is_open(transport);
}

bool transport_read_has_ended(const struct ferry_transport *transport)
{
	return transport->in.half != IN_OPEN;
}

bool transport_can_send(const struct ferry_transport *transport)
{
	return !transport_is_over(transport) && transport->out.half != OUT_BROKEN;
}

int transport_get_error(const struct ferry_transport *transport)
{
	if (transport_is_over(transport))
		return transport->reason;
	return transport->out.half == OUT_BROKEN ? transport->out.error : 0;
}

bool transport_takes_output(const struct ferry_transport *transport)
{
	if (!transport_can_send(transport) || transport->out.half == OUT_SHUT)
		return false;
	return transport->out.watcher != NULL ||
	       (transport->life == TRANSPORT_OPEN && transport->out.half == OUT_OPEN);
}

/* ---- the socket ---- */

/* Returns the domain, or a negative errno; -EPROTOTYPE: it is no stream. TCP needs one question: for what is done here,
 * IPv6 is as IPv4. */
static int examine_stream_socket(int fd)
{
	if (socket_is_tcp(fd))
		return AF_INET;
	int type = socket_get_type(fd);
	if (type >= 0 && type != SOCK_STREAM)
		return -EPROTOTYPE;
	return type < 0 ? type : socket_get_domain(fd);
}

/* `keys`: of TLS in the kernel; their version is 0 if there are none. */
static void set_kind(struct ferry_transport *transport, int domain, uint64_t cookie,
                     const struct tls_keys *keys)
{
	struct outgoing *stream = &transport->out.stream;
	enum incoming_way way = keys->version != 0                         ? INCOMING_TLS
	                        : transport->in.exact && domain == AF_UNIX ? INCOMING_EXACT
	                                                                   : INCOMING_PLAIN;

	transport->cookie = cookie;
	transport->is_inet = domain == AF_INET || domain == AF_INET6;
	stream->carries_fds = domain == AF_UNIX;
	stream->is_socket = true;
	stream->framing = way == INCOMING_TLS  ? OUTGOING_RECORDS
	                  : transport->is_inet ? OUTGOING_SEGMENTS
	                                       : OUTGOING_BYTES;
	incoming_set_way(&transport->in.stream, way);
	if (way == INCOMING_TLS)
		transport->in.stream.part->keys = *keys;
}

void transport_set_known_inet(struct ferry_transport *transport)
{
	set_kind(transport, AF_INET, 0, &(struct tls_keys){0});
}

/* Asks for the keys of a socket of TCP. */
static int examine_tls(struct ferry_transport *transport, int fd, struct tls_keys *keys)
{
	int status = tls_examine(fd, keys);

	return status > 0 ? incoming_need_part(&transport->in.stream) : status;
}

int transport_examine_socket(struct ferry_transport *transport, int fd)
{
	struct tls_keys keys = {0};
	uint64_t cookie;

	int domain = examine_stream_socket(fd);
	if (domain < 0)
		return domain;
	if (domain != AF_UNIX && marks_fd_count(transport->out.stream.marks) > 0)
		return -EOPNOTSUPP;
	int status = domain == AF_INET ? examine_tls(transport, fd, &keys) : 0;
	if (status < 0)
		return status;
	if (domain != AF_UNIX || socket_get_cookie(fd, &cookie) < 0)
		cookie = 0; /* not needed; or before Linux 4.6 */
	if (evutil_make_socket_nonblocking(fd) < 0)
		return -errno;
	set_kind(transport, domain, cookie, &keys);
	return 0;
}

void transport_rejoin_group(struct ferry_transport *transport)
{
	if (transport->rate_limit_group != NULL && transport->rearm.write_gate == NULL)
		bufferevent_add_to_rate_limit_group(transport->rearm.bev, transport->rate_limit_group);
}

void transport_take_socket(struct ferry_transport *transport)
{
	if (transport->freed || !rearm_check(&transport->rearm))
		return;
	reopen_halves(transport);
	transport->out.stream.replaced = true;
	int fd = fields_fd(transport->rearm.bev);
	int status = fd >= 0 ? transport_examine_socket(transport, fd) : 0;
	if (status < 0)
		transport->out.stream.carries_fds = false;
	transport_rejoin_group(transport);
	transport_arm_watch(transport);
	if (transport->rearm.write_gate != NULL)
		transport_want_loop(transport);
	/* Keys for one direction: what the socket has in the other would be taken for data. */
	if (status == -EPROTOTYPE && socket_is_tcp(fd))
		transport_steps(transport)->refuse(transport, status);
	/* The queue goes to the new socket. */
	if (!transport_is_over(transport) && !outgoing_is_sent(&transport->out.stream))
		transport_want_write(transport);
}

struct bufferevent *transport_lock(struct ferry_transport *transport)
{
	struct bufferevent *bev = transport->rearm.bev;

	bufferevent_lock(bev);
	transport_notice_socket(transport);
	return bev;
}

int transport_admit_bytes(const struct ferry_transport *transport, size_t length)
{
	size_t limit = transport->out.byte_limit;

	if (limit == 0 || length == 0)
		return 0;
	size_t queued = evbuffer_get_length(transport->out.stream.buffer);
	return queued > limit || length > limit - queued ? -ENOBUFS : 0;
}

bool transport_is_known_inet(const struct ferry_transport *transport)
{
	return transport->out.stream.framing == OUTGOING_SEGMENTS;
}

bool transport_is_on_pipes(const struct ferry_transport *transport)
{
	return transport->on_pipes;
}

bool transport_carries_fds(const struct ferry_transport *transport)
{
	return transport->out.stream.carries_fds;
}

uint64_t transport_get_cookie(const struct ferry_transport *transport)
{
	return transport->cookie;
}

/* libevent counts reading as enabled even if it had no memory to watch the socket. */
int transport_enable_reading(struct ferry_transport *transport)
{
	struct bufferevent *bev = transport->rearm.bev;
	short before = fields_enabled(bev);

	if (bufferevent_enable(bev, EV_READ) == 0)
		return 0;
	if ((before & EV_READ) == 0)
		bufferevent_disable(bev, EV_READ);
	return -ENOMEM;
}

void transport_suspend_reading(struct ferry_transport *transport)
{
	rearm_stop_reading(&transport->rearm);
	transport_watch_peer(transport);
}

int transport_continue_reading(struct ferry_transport *transport)
{
	bool enabled = (fields_enabled(transport->rearm.bev) & EV_READ) != 0;

	/* The rest of a peer that is gone is read even if the user has disabled reading, but not during a pause. */
	if (transport_is_over(transport) ||
	    (!enabled && (transport->out.half != OUT_BROKEN || transport->in.paused)))
		return 0;
	return transport_enable_reading(transport);
}

/* ---- what it wants next ---- */

void transport_follow_priority(struct ferry_transport *transport)
{
	/* libevent refuses this for an event that is active already. */
	(void)event_priority_set(transport->loop_event, bufferevent_get_priority(transport->rearm.bev));
}

void transport_want_loop(struct ferry_transport *transport)
{
	transport_follow_priority(transport);
	/* Not as EV_TIMEOUT: the retry timer, added later, would withdraw it. */
	event_active(transport->loop_event, EV_READ, 0);
}

void transport_want_write(struct ferry_transport *transport)
{
	if (transport->out.step.running) {
		/* Not again in this turn of the loop: other connections get theirs first. */
		transport->out.step.again = true;
		return;
	}
	if ((fields_enabled(transport->rearm.bev) & EV_WRITE) == 0)
		return;
	transport->out.step.requested = true;
	rearm_run_write(&transport->rearm);
}

void transport_stop_waiting(struct ferry_transport *transport)
{
	if (!transport->out.step.running && !transport->rearm.connecting)
		rearm_stop_waiting(&transport->rearm);
}

/* ---- the watch ---- */

enum { WATCH_USEC_MIN = 10000, RETRY_USEC = 10000 };

int64_t transport_deadline(int64_t now, int64_t timeout)
{
	return timeout == TRANSPORT_NO_TIMEOUT ? INT64_MAX : now + timeout;
}

struct transport_watch *transport_need_watch(struct ferry_transport *transport)
{
	if (transport->watch != NULL)
		return transport->watch;
	struct transport_watch *watch = malloc(sizeof(*watch) + event_get_struct_event_size());
	if (watch == NULL)
		return NULL;
	*watch = (struct transport_watch){
	    .event = (struct event *)(watch + 1),
	    .close_timeout = TRANSPORT_NO_TIMEOUT,
	    .linger_timeout = transport->out.no_linger ? 0 : TRANSPORT_LINGER_USEC,
	    .close_at = INT64_MAX,
	};
	/* EV_FINALIZE: event_del() then does not wait for the callback, which waits for the bufferevent's lock. */
	event_assign(watch->event, bufferevent_get_base(transport->rearm.bev), -1, EV_FINALIZE,
	             transport_steps(transport)->on_watch, transport);
	transport->watch = watch;
	return watch;
}

void transport_stop_watching(struct ferry_transport *transport)
{
	if (transport->watch == NULL || !transport->watch->added)
		return;
	transport->watch->added = false;
	event_del(transport->watch->event);
}

void transport_free_watch(struct ferry_transport *transport)
{
	transport_stop_watching(transport);
	if (transport->watch != NULL)
		event_debug_unassign(transport->watch->event);
	free(transport->watch);
	transport->watch = NULL;
}

static bool is_watching(const struct ferry_transport *transport)
{
	return transport->watch != NULL &&
	       event_pending(transport->watch->event, EV_READ | EV_TIMEOUT, NULL);
}

void transport_watch_later(struct ferry_transport *transport)
{
	transport->watch_due = true;
	transport_follow_priority(transport);
	if (event_add(transport->loop_event, &(struct timeval){.tv_usec = RETRY_USEC}) < 0)
		transport_want_loop(transport);
}

/* Binds the event to the socket, or to nothing but time. */
static void bind_watch(struct ferry_transport *transport, bool reading)
{
	struct bufferevent *bev = transport->rearm.bev;
	struct event *event = transport->watch->event;
	int fd = reading ? fields_fd(bev) : -1;

	transport->watch->reading = reading;
	if (event_get_fd(event) == fd)
		return;
	event_del(event);
	event_assign(event, bufferevent_get_base(bev), fd,
	             (short)((reading ? EV_READ | EV_PERSIST : 0) | EV_FINALIZE),
	             event_get_callback(event), transport);
}

/* The bufferevent's priority may change while the event is pending, and libevent has no callback for that. The event
 * therefore waits at the highest priority, and yields when it has come. */
static int add_watch(struct ferry_transport *transport, const struct timeval *delay)
{
	(void)event_priority_set(transport->watch->event, 0); /* refused for an event that is active */
	transport->watch->added = true;
	return event_add(transport->watch->event, delay);
}

bool transport_watch_yields(struct ferry_transport *transport, short what)
{
	struct event *event = transport->watch->event;
	int priority = bufferevent_get_priority(transport->rearm.bev);

	if (event_get_priority(event) == priority || event_priority_set(event, priority) < 0)
		return false;
	event_active(event, what, 0);
	return true;
}

/* The time to the next look at the peer, or to a deadline. */
static struct timeval watch_delay(const struct ferry_transport *transport)
{
	const struct transport_watch *watch = transport->watch;
	int64_t now = clock_now();
	int64_t at = now + watch->interval_usec;

	if (transport->life == TRANSPORT_CLOSING && watch->close_at < at)
		at = watch->close_at;
	if (watch->lingering && watch->linger_at < at)
		at = watch->linger_at;
	return clock_to_timeval(at > now ? at - now : 0);
}

bool transport_peer_may_vanish(const struct ferry_transport *transport)
{
	struct bufferevent *bev = transport->rearm.bev;
	bool limited = transport->in.reader == NULL && (fields_enabled(bev) & EV_READ) != 0 &&
	               bufferevent_get_max_to_read(bev) <= 0;

	if (transport->out.half == OUT_BROKEN || transport_is_connecting(transport) || limited ||
	    rearm_is_reading(&transport->rearm))
		return false;
	/* Without a protocol it is a bufferevent, whose user hears of the peer when reading or writing. */
	if (transport->protocol.table == NULL)
		return !outgoing_is_sent(&transport->out.stream);
	return transport->in.half == IN_OPEN || transport->out.half != OUT_SHUT;
}

void transport_watch_peer(struct ferry_transport *transport)
{
	if (!transport_is_open(transport) || rearm_is_reading(&transport->rearm) ||
	    is_watching(transport))
		return;
	transport_arm_watch(transport);
}

static bool needs_watch(const struct ferry_transport *transport)
{
	return !transport_is_over(transport) &&
	       (transport->life == TRANSPORT_CLOSING || transport_peer_may_vanish(transport));
}

void transport_arm_watch(struct ferry_transport *transport)
{
	bool closing = transport->life == TRANSPORT_CLOSING;

	transport->watch_due = false;
	if (!needs_watch(transport)) {
		transport_stop_watching(transport);
		return;
	}
	struct transport_watch *watch = transport_need_watch(transport);
	if (watch == NULL) {
		transport_watch_later(transport);
		return;
	}
	if (!is_watching(transport))
		watch->interval_usec = WATCH_USEC_MIN;
	bind_watch(transport,
	           closing && transport->in.half == IN_OPEN && !transport_is_connecting(transport));
	struct timeval delay = watch_delay(transport);
	if (add_watch(transport, &delay) == 0 || !watch->reading)
		return;
	/* epoll(7) does not support this kind of descriptor. */
	bind_watch(transport, false);
	(void)add_watch(transport, &delay);
}

/* ---- its objects ---- */

void transport_set_watcher(struct ferry_transport *transport,
                           const struct transport_watcher *watcher)
{
	transport->out.watcher = watcher;
}

void transport_link_reader(struct ferry_transport *transport)
{
	const struct transport_reader *reader = transport->in.reader;
	struct incoming_part *part = transport->in.stream.part;

	if (reader == NULL || part == NULL)
		return;
	part->positions.admits_fds = reader->admits_fds;
	part->positions.argument = transport->in.reader_argument;
}

void transport_set_reader(struct ferry_transport *transport, const struct transport_reader *reader,
                          void *argument)
{
	transport->in.reader = reader;
	transport->in.reader_argument = argument;
	transport_link_reader(transport);
	transport_close_pending(transport);
}

void transport_set_owned(struct ferry_transport *transport, bool owned)
{
	transport->owned = owned;
}

void transport_set_free_cb(struct ferry_transport *transport, void (*freed)(void *argument),
                           void *argument)
{
	transport->on_free = freed;
	transport->on_free_argument = argument;
}

uint64_t transport_bytes_sent(const struct ferry_transport *transport)
{
	return transport->out.stream.stats.bytes_sent;
}

uint64_t transport_send_retries(const struct ferry_transport *transport)
{
	return transport->out.stream.stats.send_retries;
}

uint64_t transport_bytes_written(const struct ferry_transport *transport)
{
	return transport->out.stream.stats.bytes_sent +
	       evbuffer_get_length(transport->out.stream.buffer);
}

void transport_count_unclaimed_fds(struct ferry_transport *transport, unsigned int count)
{
	transport->out.stream.stats.fds_unclaimed += count;
}

void transport_close_pending(struct ferry_transport *transport)
{
	fds_close(transport->in.pending_fds, transport->in.pending_count);
	transport_count_unclaimed_fds(transport, transport->in.pending_count);
	transport->in.pending_count = 0;
	transport->in.loss_pending = false;
	free(transport->in.pending_fds);
	transport->in.pending_fds = NULL;
}
