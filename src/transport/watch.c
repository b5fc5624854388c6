#include "transport/watch.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kernel/clock.h"
#include "kernel/send_queue.h"
#include "kernel/socket.h"
#include "kernel/tls.h"
#include "transport/end.h"
#include "transport/write.h"

/*
 * The watch over the peer of a connection that nobody reads from.
 *
 * Reading finds out that the peer is gone. While the user has paused, or the peer has ended its half and may close
 * the rest later, nobody reads; and nobody writes while a file has no bytes or the stream is empty. The watch then
 * asks the kernel, less and less often, whether the peer is gone: POLLHUP or POLLERR, not the end of the
 * peer's half. poll(2) reports it with every backend of libevent's, and wakes up for nothing else.
 *
 * While a connection closes, the watch reads and drops what the peer still sends. Two ends that both close with
 * full queues would else wait for each other for ever. Once all is sent, a TCP connection lingers: closing while
 * the peer sends makes the kernel reset the connection, and the peer loses what it has not read yet. The
 * connection ends when the peer has ended and acknowledged everything, or at a deadline.
 */

enum {
	PIECE = 16 * 1024,
	PIECES_PER_TURN = 64,           /* then other connections get their turn */
	LINGER_BYTES_MAX = 64 << 20,    /* of a peer that sends on after all is sent */
	INTERVAL_USEC_MAX = 1600 * 1000 /* between two looks at the peer */
};

static bool has_unread(struct ferry_transport *transport, int fd)
{
	int length = 0;

	if (transport_has_tls(transport))
		return tls_has_data(fd, &transport->in.stream.part->records);
	return ioctl(fd, FIONREAD, &length) == 0 && length > 0;
}

/* ---- a peer that is gone ---- */

/* Whether the peer's end costs nobody anything: all was sent, and nobody sends. */
static bool owes_nothing(const struct ferry_transport *transport)
{
	return transport->out.watcher == NULL && outgoing_is_sent(&transport->out.stream);
}

/* Whether a pause defers input that was read already: the peer's end comes behind it. */
static bool has_paused_input(const struct ferry_transport *transport)
{
	const struct evbuffer *input = bufferevent_get_input(transport->rearm.bev);

	return transport_defers_delivery(transport) && transport->in.half == IN_OPEN &&
	       evbuffer_get_length(input) > 0;
}

/* What a read would return, now that nothing is unread. */
static int find_end(const struct ferry_transport *transport)
{
	return transport_has_tls(transport) ? tls_end(&transport->in.stream.part->records) : 0;
}

static void report_end(struct ferry_transport *transport, int error)
{
	short what = error == 0 ? BEV_EVENT_EOF : BEV_EVENT_ERROR;

	transport_report_event(transport, (short)(BEV_EVENT_READING | what), -error);
}

/* The peer has closed both halves, or the connection is broken. Reports the end of the peer's half, as a read would;
 * if bytes are unread, or that half has ended before, the end of ours. Bytes of a peer that was owed nothing wait for
 * the user alone, who finds them and a clean end behind them. */
static void notice_gone(struct ferry_transport *transport, int error)
{
	bool unread = has_unread(transport, bufferevent_getfd(transport->rearm.bev));
	bool shut = transport->out.half == OUT_SHUT;
	bool paused = has_paused_input(transport);
	bool undelivered = unread || paused || transport->in.half == IN_EOF_UNDELIVERED;

	if (error == 0 && undelivered && transport_is_open(transport) && owes_nothing(transport))
		return;
	if (error == 0 && !unread && !paused && transport->in.half == IN_OPEN &&
	    transport_is_open(transport) && transport->protocol.table != NULL)
		report_end(transport, find_end(transport));
	else if (error < 0 ||
	         !shut) /* both halves ended, and the user has yet to read: nobody is gone */
		transport_write_failed(transport, error < 0 ? error : -EPIPE);
}

static void look_at_socket(struct ferry_transport *transport)
{
	int fd = bufferevent_getfd(transport->rearm.bev);

	if (socket_get_hang_up(fd) != 0)
		notice_gone(transport, socket_get_error(fd));
}

/* Each pipe ends by itself. */
static void look_at_pipes(struct ferry_transport *transport)
{
	int read_fd = transport->pipe_read_fd;

	if (transport->out.half != OUT_SHUT &&
	    socket_get_hang_up(rearm_write_fd(&transport->rearm)) != 0)
		transport_write_failed(transport, -EPIPE);
	else if (transport_is_open(transport) && transport->in.half == IN_OPEN &&
	         transport->protocol.table != NULL && socket_get_hang_up(read_fd) != 0 &&
	         !has_unread(transport, read_fd) && !has_paused_input(transport))
		transport_report_event(transport, BEV_EVENT_READING | BEV_EVENT_EOF, 0);
}

static void look_at_peer(struct ferry_transport *transport)
{
	if (transport_is_connecting(transport) || transport->out.half == OUT_BROKEN)
		return;
	if (transport->out.stream.is_socket)
		look_at_socket(transport);
	else
		look_at_pipes(transport);
}

/* ---- a connection that closes ---- */

/* The peer ended. */
static void note_end(struct ferry_transport *transport)
{
	transport_read_half_ended(transport);
	transport_settle_close(transport);
}

/* With TLS, what is dropped may as well be cut off. */
static ssize_t read_piece(struct ferry_transport *transport, char *bytes, size_t size)
{
	int fd = bufferevent_getfd(transport->rearm.bev);
	struct iovec vector = {bytes, size};
	ssize_t length;

	if (transport_has_tls(transport)) {
		struct tls_records *records = &transport->in.stream.part->records;
		records->truncation_is_end = true;
		return tls_receive(fd, &vector, 1, records);
	}
	do {
		length = read(fd, bytes, size);
	} while (length < 0 && errno == EINTR);
	return length < 0 ? -errno : length;
}

/* False: the socket has no more now. */
static bool drop_piece(struct ferry_transport *transport)
{
	char bytes[PIECE];
	ssize_t length;

	length = read_piece(transport, bytes, sizeof(bytes));
	if (length > 0) {
		transport->out.stream.stats.bytes_received += (uint64_t)length;
		transport->watch->dropped += (uint64_t)length;
		return true;
	}
	if (length == 0)
		note_end(transport);
	else if (length != -EAGAIN)
		transport_end(transport, (int)length);
	return false;
}

static void drop_input(struct ferry_transport *transport)
{
	unsigned int pieces = 0;

	while (pieces++ < PIECES_PER_TURN && drop_piece(transport))
		if (transport->watch->lingering && transport->watch->dropped > LINGER_BYTES_MAX) {
			transport_end(transport, -ECONNABORTED);
			return;
		}
}

/* Ends a connection that lingers when the peer has everything and has ended, or at the deadline. A peer that takes
 * bytes moves the deadline. */
static void check_linger(struct ferry_transport *transport, int64_t now)
{
	struct transport_watch *watch = transport->watch;
	int fd = rearm_write_fd(&transport->rearm);
	int error = socket_get_error(fd);
	int queue = send_queue_length(fd);
	int clean = transport->out.fds_dropped ? -ENODATA : 0;

	if (error < 0) {
		transport_end(transport, error);
	} else if (transport_is_acknowledged(queue) && transport->in.half == IN_EOF) {
		transport_end(transport, clean);
	} else if (queue != watch->queue) {
		watch->queue = queue;
		watch->linger_at = transport_deadline(now, watch->linger_timeout);
	} else if (now >= watch->linger_at) {
		bool clear = transport_is_acknowledged(queue) && !has_unread(transport, fd);
		transport_end(transport, clear ? clean : -ETIMEDOUT);
	}
}

static void check_close(struct ferry_transport *transport, short what)
{
	if ((what & EV_READ) != 0)
		drop_input(transport);
	int64_t now = clock_now();
	if (!transport_is_over(transport) && transport->watch->lingering)
		check_linger(transport, now);
	else if (!transport_is_over(transport) && (what & EV_TIMEOUT) != 0)
		look_at_peer(transport);
	if (!transport_is_over(transport) && now >= transport->watch->close_at)
		transport_end(transport, -ETIMEDOUT);
}

void transport_on_watch(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	struct ferry_transport *transport = argument;
	struct bufferevent *bev = transport_lock(transport);

	if (!transport_is_over(transport) && !transport_watch_yields(transport, what)) {
		if (transport->life == TRANSPORT_CLOSING)
			check_close(transport, what);
		else if (transport_peer_may_vanish(transport))
			look_at_peer(transport);
		if ((what & EV_TIMEOUT) != 0 && transport->watch->interval_usec < INTERVAL_USEC_MAX)
			transport->watch->interval_usec *= 2;
		transport_arm_watch(transport);
	}
	bufferevent_unlock(bev);
}
