#include "transport/watch.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/clock.h"
#include "kernel/send_queue.h"
#include "transport/end.h"

/*
 * The watch over the peer of a connection that nobody reads from.
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

/* ---- a connection that closes ---- */

/* The peer ended. */
static void note_end(struct ferry_transport *transport)
{
	transport_read_half_ended(transport);
	transport_settle_close(transport);
}

/* False: the socket has no more now. */
static bool drop_piece(struct ferry_transport *transport)
{
	char bytes[PIECE];
	ssize_t length;

	do {
		length = read(bufferevent_getfd(transport->rearm.bev), bytes, sizeof(bytes));
	} while (length < 0 && errno == EINTR);
	if (length > 0) {
		transport->stats.bytes_received += (uint64_t)length;
		transport->watch.dropped += (uint64_t)length;
		return true;
	}
	if (length == 0)
		note_end(transport);
	else if (errno != EAGAIN)
		transport_end(transport, -errno);
	return false;
}

static void drop_input(struct ferry_transport *transport)
{
	unsigned int pieces = 0;

	while (pieces++ < PIECES_PER_TURN && drop_piece(transport))
		if (transport->watch.lingering && transport->watch.dropped > LINGER_BYTES_MAX) {
			transport_end(transport, -ECONNABORTED);
			return;
		}
}

static int socket_error(int fd)
{
	int error = 0;

	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &(socklen_t){sizeof(error)}) == 0 ? -error
	                                                                                      : -errno;
}

static bool has_unread(int fd)
{
	int length = 0;

	return ioctl(fd, FIONREAD, &length) == 0 && length > 0;
}

/* Ends a connection that lingers when the peer has everything and has ended, or at the deadline. A peer that takes
 * bytes moves the deadline. */
static void check_linger(struct ferry_transport *transport, int64_t now)
{
	struct transport_watch *watch = &transport->watch;
	int fd = rearm_write_fd(&transport->rearm);
	int error = socket_error(fd);
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
		bool clear = transport_is_acknowledged(queue) && !has_unread(fd);
		transport_end(transport, clear ? clean : -ETIMEDOUT);
	}
}

static void check_close(struct ferry_transport *transport, short what)
{
	if ((what & EV_READ) != 0)
		drop_input(transport);
	int64_t now = clock_now();
	if (!transport_is_over(transport) && transport->watch.lingering)
		check_linger(transport, now);
	if (!transport_is_over(transport) && now >= transport->watch.close_at)
		transport_end(transport, -ETIMEDOUT);
}

void transport_on_watch(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	struct ferry_transport *transport = argument;
	struct bufferevent *bev = transport_lock(transport);

	if (!transport_is_over(transport)) {
		if (transport->life == TRANSPORT_CLOSING)
			check_close(transport, what);
		if ((what & EV_TIMEOUT) != 0 && transport->watch.interval_usec < INTERVAL_USEC_MAX)
			transport->watch.interval_usec *= 2;
		transport_arm_watch(transport);
	}
	bufferevent_unlock(bev);
}
