#include "transport/read.h"

#include <errno.h>
#include <sys/ioctl.h>

#include "transport/deliver.h"
#include "transport/end.h"

/*
 * The read step, from the socket to the user. It does around its system calls all that libevent does around its
 * own (locking, watermarks, rate limits, timeouts, the order of callbacks): a transport stays a bufferevent.
 */

/* In one wake-up, however few bytes that is; then other connections get their turn. */
enum { READS_PER_TURN = 64 };

static void count_read(struct ferry_transport *transport, size_t length)
{
	struct bufferevent *bev = transport->rearm.bev;

	transport->stats.bytes_received += length;
	/* Without a limit of its own, libevent aborts on this. */
	if (bufferevent_get_token_bucket_cfg(bev) != NULL)
		bufferevent_decrement_read_limit(bev, (ev_ssize_t)length);
	if (transport->rate_limit_group != NULL)
		bufferevent_rate_limit_group_decrement_read(transport->rate_limit_group,
		                                            (ev_ssize_t)length);
}

/* Reads once, as incoming_read(), and delivers the descriptors that came. The socket is the one that the
 * bufferevent has now: a callback for the read before may have set another. */
static ssize_t read_once(struct ferry_transport *transport, size_t max, bool *maybe_more)
{
	struct ancillary ancillary;
	struct evbuffer *input = bufferevent_get_input(transport->rearm.bev);
	int fd = bufferevent_getfd(transport->rearm.bev);

	transport->stats.receive_calls++;
	/* A reader is called with the positions. */
	if (transport->in.reader != NULL)
		incoming_set_undelivered(&transport->in.stream, false);
	ssize_t length = incoming_read(&transport->in.stream, fd, input, max, &ancillary, maybe_more);
	if (length > 0)
		count_read(transport, (size_t)length);
	if (ancillary.count > 0 || ancillary.truncated || ancillary.ignored > 0)
		transport_deliver_fds(transport, &ancillary, length);
	return length;
}

/* The bytes that the rate limits and the high-water mark allow to read now; 0: none. */
static size_t read_allowance(struct ferry_transport *transport)
{
	struct bufferevent *bev = transport->rearm.bev;
	ev_ssize_t max = bufferevent_get_max_to_read(bev);
	size_t high = 0;

	if (max <= 0 || !rearm_is_reading(&transport->rearm) || transport_defers_delivery(transport))
		return 0;
	bufferevent_getwatermark(bev, EV_READ, NULL, &high);
	if (high == 0)
		return (size_t)max;
	size_t length = evbuffer_get_length(bufferevent_get_input(bev));
	if (length >= high)
		return 0;
	return high - length < (size_t)max ? high - length : (size_t)max;
}

/* The bytes that one wake-up may read in all. A member of a rate limit group reads its share of the bucket at
 * most: else the first member to wake up would empty it. */
static size_t read_budget(struct bufferevent *bev)
{
	ev_ssize_t budget = bufferevent_get_max_single_read(bev);
	ev_ssize_t share = bufferevent_get_max_to_read(bev);

	if (share < budget)
		budget = share;
	return budget > 0 ? (size_t)budget : 0;
}

static bool is_admitted(struct ferry_transport *transport)
{
	return transport->in.reader == NULL ||
	       transport->in.reader->admits(transport->in.reader_argument);
}

/* Reads and delivers all that has come, as one step. False if the reader did not admit all of it. */
static bool read_rest(struct ferry_transport *transport)
{
	int left = 0;
	bool maybe_more;

	/* The bytes that are there now: a peer that only stopped reading may go on sending. */
	if (ioctl(bufferevent_getfd(transport->rearm.bev), FIONREAD, &left) < 0)
		return true;
	while (left > 0 && transport_is_open(transport)) {
		if (!is_admitted(transport))
			return false;
		ssize_t length = read_once(transport, (size_t)left, &maybe_more);
		if (length <= 0)
			break;
		left -= (int)length;
		transport_deliver_input(transport);
	}
	return true;
}

void transport_end_broken(struct ferry_transport *transport)
{
	int reason = transport->out.error;
	bool peer_gone = reason == -EPIPE || reason == -ECONNRESET;

	if (peer_gone && transport->in.half == IN_OPEN && !read_rest(transport))
		return;
	transport_deliver_rest(transport);
	transport_end(transport, reason);
}

/* Descriptors are next in the socket, and bytes before them were read: offers these, also under the low-water mark.
 * False if the callback is deferred. libevent then runs it before the next read step, because it is active before
 * the read event is. */
static bool offer_before_fds(struct ferry_transport *transport)
{
	transport_trigger_read(transport, BEV_TRIG_IGNORE_WATERMARKS);
	return !transport->in.stream.undelivered;
}

static void read_ready(struct ferry_transport *transport, short what)
{
	size_t budget = read_budget(transport->rearm.bev);
	unsigned int reads = 0;
	bool maybe_more = true;

	if (what == EV_TIMEOUT) {
		if (!rearm_timeout_is_stale(&transport->rearm, EV_READ))
			transport_report_event(transport, BEV_EVENT_READING | BEV_EVENT_TIMEOUT, ETIMEDOUT);
		return;
	}
	/* The write step finds the error of a connection attempt. */
	if (transport_is_connecting(transport))
		return;
	/* Of the user's own callback of the bufferevent nothing is known but that it ran before this step. */
	if (transport->protocol.table == NULL)
		incoming_set_undelivered(&transport->in.stream, false);
	transport_deliver_pending(transport);
	if (transport->in.reader != NULL && transport->out.half == OUT_BROKEN &&
	    !transport_is_over(transport)) {
		transport_end_broken(transport);
		return;
	}

	while (maybe_more && budget > 0 && reads++ < READS_PER_TURN && !transport_is_over(transport)) {
		transport_notice_socket(transport);
		size_t max = read_allowance(transport);
		if (max == 0 || !is_admitted(transport))
			break;
		ssize_t length = read_once(transport, max < budget ? max : budget, &maybe_more);
		if (length == -EBUSY && offer_before_fds(transport))
			continue;
		if (transport_is_over(transport) || length == -EAGAIN || length == -EBUSY)
			break;
		if (length == 0 && transport->protocol.table == NULL)
			transport_read_half_ended(transport); /* the user gets the event */
		if (length <= 0) {
			transport_report_event(
			    transport,
			    (short)(BEV_EVENT_READING | (length == 0 ? BEV_EVENT_EOF : BEV_EVENT_ERROR)),
			    (int)-length);
			break;
		}
		budget -= (size_t)length;
		if (!transport->in.paused)
			transport_trigger_read(transport, 0);
	}
}

void transport_on_read(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	struct ferry_transport *transport = argument;
	struct bufferevent *bev = transport_lock(transport);

	if (transport_is_over(transport))
		transport_disable_ended(transport, EV_READ);
	else if (transport_defers_delivery(transport))
		bufferevent_disable(bev, EV_READ); /* the user has enabled it during the pause */
	else
		read_ready(transport, what);
	bufferevent_unlock(bev);
}
