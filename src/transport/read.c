#include "transport/read.h"

#include <errno.h>
#include <poll.h>

#include "kernel/socket.h"
#include "libevent/fields.h"
#include "transport/deliver.h"
#include "transport/end.h"

/*
 * The read step, from the socket to the user. It does around its system calls all that libevent does around its
 * own (locking, watermarks, rate limits, timeouts, the order of callbacks): a transport stays a bufferevent.
 */

/* In one wake-up, however few bytes that is; then other connections get their turn. */
enum {
	READS_PER_TURN = 64,
	FDS_PER_TURN = 128 /* then other connections get their turn: the kernel installs each */
};

static void count_read(struct ferry_transport *transport, size_t length)
{
	struct bufferevent *bev = transport->rearm.bev;

	transport->out.stream.stats.bytes_received += length;
	transport->in.rest -= length < transport->in.rest ? (unsigned int)length : transport->in.rest;
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
	struct evbuffer *input = fields_input(transport->rearm.bev);
	int fd = fields_fd(transport->rearm.bev);

	transport->out.stream.stats.receive_calls++;
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

/* Nothing can be sent any more, and a protocol waits for the end. */
static bool is_broken(const struct ferry_transport *transport)
{
	return transport->out.half == OUT_BROKEN && transport->protocol.table != NULL &&
	       transport_is_open(transport);
}

/* The bytes of the `max` that the rate limits allow which may be read now; 0: none. */
static size_t read_allowance(struct ferry_transport *transport, ev_ssize_t max)
{
	struct bufferevent *bev = transport->rearm.bev;
	const size_t high = fields_high_mark(bev);

	if (max <= 0 || !rearm_is_reading(&transport->rearm) || transport_defers_delivery(transport))
		return 0;
	if (is_broken(transport) && transport->in.rest < (size_t)max)
		max = (ev_ssize_t)transport->in.rest;
	if (high == 0)
		return (size_t)max;
	size_t length = evbuffer_get_length(fields_input(bev));
	if (length >= high)
		return 0;
	return high - length < (size_t)max ? high - length : (size_t)max;
}

static size_t admitted_bytes(struct ferry_transport *transport)
{
	return transport->in.reader == NULL
	           ? SIZE_MAX
	           : transport->in.reader->admits(transport->in.reader_argument);
}

static size_t least(size_t first, size_t second, size_t third)
{
	size_t less = first < second ? first : second;

	return less < third ? less : third;
}

/* ---- the rest of a peer that is gone ---- */

/* Whether the user has paused with something undelivered. */
static bool defers_anything(const struct ferry_transport *transport)
{
	const struct transport_in *in = &transport->in;

	return in->paused && (in->pending_count > 0 || in->loss_pending ||
	                      evbuffer_get_length(fields_input(transport->rearm.bev)) > 0);
}

/* Has the rest read, unless the user has paused; a reader that has suspended reading continues by itself. False if
 * there is none, or if nothing would read it. */
static bool read_rest(struct ferry_transport *transport)
{
	bool enabled = (fields_enabled(transport->rearm.bev) & EV_READ) != 0;

	if (transport->in.half != IN_OPEN || transport->in.rest == 0)
		return false;
	return transport->in.paused || enabled || transport_enable_reading(transport) == 0;
}

void transport_start_rest(struct ferry_transport *transport)
{
	if (transport->in.half == IN_OPEN && transport_continue_reading(transport) < 0)
		transport->in.rest = 0; /* nothing would read it */
}

void transport_settle_broken(struct ferry_transport *transport)
{
	if (!is_broken(transport))
		return;
	bool wait = read_rest(transport);
	if (!wait && !transport->in.paused) {
		transport_deliver_pending(transport);
		transport_deliver_input(transport);
	}
	if (!is_broken(transport))
		return;
	if (!wait && !defers_anything(transport))
		transport_end(transport, transport->out.error);
	else if (transport->out.watcher != NULL)
		transport_want_loop(transport); /* which dismisses it: it will never be asked again */
}

/* Descriptors are next in the socket, and bytes before them were read: offers these, also under the low-water mark.
 * False if the callback is deferred. libevent then runs it before the next read step, because it is active before
 * the read event is. */
static bool offer_before_fds(struct ferry_transport *transport)
{
	transport->in.stream.offered = true;
	transport_trigger_read(transport, BEV_TRIG_IGNORE_WATERMARKS);
	return !transport->in.stream.undelivered;
}

/* The read has returned 0, or a negative errno. */
static void report_end(struct ferry_transport *transport, int result)
{
	short end = result == 0 ? BEV_EVENT_EOF : BEV_EVENT_ERROR;

	if (is_broken(transport)) {
		transport->in.rest = 0;
		if (result != -EAGAIN)
			transport_read_half_ended(transport);
	} else if (result != -EAGAIN) {
		if (result == 0 && transport->protocol.table == NULL)
			transport_read_half_ended(transport); /* the user gets the event */
		transport_report_event(transport, BEV_EVENT_READING | end, -result);
	}
}

/* In all no more than libevent allows for one read. Of a member of a rate limit group that is its share of the bucket:
 * else the first member to wake up would empty it. */
static void read_available(struct ferry_transport *transport)
{
	transport_notice_socket(transport);
	ev_ssize_t limit = bufferevent_get_max_to_read(transport->rearm.bev);
	size_t budget = limit > 0 ? (size_t)limit : 0;
	const uint64_t *fds = &transport->out.stream.stats.fds_received, fds_before = *fds;
	unsigned int reads = 0;
	bool maybe_more = true;

	while (maybe_more && budget > 0 && reads < READS_PER_TURN && *fds - fds_before < FDS_PER_TURN) {
		if (reads++ > 0) {
			transport_notice_socket(transport);
			limit = bufferevent_get_max_to_read(transport->rearm.bev);
		}
		size_t max = transport_is_over(transport) ? 0 : read_allowance(transport, limit);
		size_t admitted = max > 0 ? admitted_bytes(transport) : 0;
		if (admitted == 0)
			break;
		ssize_t length = read_once(transport, least(max, budget, admitted), &maybe_more);
		if (length == -EBUSY && offer_before_fds(transport))
			continue;
		if (transport_is_over(transport) || length == -EBUSY || length == -ENOBUFS)
			break;
		if (length <= 0) {
			report_end(transport, (int)length);
			break;
		}
		budget -= (size_t)length;
		if (!transport->in.paused)
			transport_trigger_read(transport, 0);
	}
}

/* Of the user's own callback of the bufferevent nothing is known but that it ran before this step, if the input was
 * at the low-water mark or was offered below it. */
static void note_offered(struct ferry_transport *transport)
{
	const struct bufferevent *bev = transport->rearm.bev;
	size_t length = evbuffer_get_length(fields_input(bev));

	if (length == 0 || length >= fields_low_mark(bev) || transport->in.stream.offered)
		incoming_set_undelivered(&transport->in.stream, false);
	transport->in.stream.offered = false;
}

/* If the loop runs late, libevent reports the timeout alone, also for a descriptor that has become ready before. */
static void read_ready(struct ferry_transport *transport, evutil_socket_t fd, short what)
{
	if (what == EV_TIMEOUT && !socket_is_ready(fd, POLLIN)) {
		if (!rearm_timeout_is_stale(&transport->rearm, EV_READ))
			transport_report_event(transport, BEV_EVENT_READING | BEV_EVENT_TIMEOUT, ETIMEDOUT);
		return;
	}
	/* The write step finds the error of a connection attempt. */
	if (transport_is_connecting(transport))
		return;
	if (transport->protocol.table == NULL)
		note_offered(transport);
	transport_deliver_pending(transport);
	read_available(transport);
	transport_settle_broken(transport);
	/* The peer may have answered descriptors that it has read: the others need not wait for the timer. */
	if (!transport_is_over(transport) && transport->out.step.out_of_memory)
		transport_want_write(transport);
}

/* The socket has something for a paused owner, or the user has enabled reading. A pause leaves the event in the loop
 * until then: most pauses end before, and cost no system call. */
static void stop_for_pause(struct ferry_transport *transport)
{
	bufferevent_disable(transport->rearm.bev, EV_READ);
	transport_watch_peer(transport);
}

void transport_on_read(evutil_socket_t fd, short what, void *argument)
{
	struct ferry_transport *transport = argument;
	struct bufferevent *bev = transport_lock(transport);

	if (transport_is_over(transport))
		transport_disable_ended(transport, EV_READ);
	else if (transport_defers_delivery(transport))
		stop_for_pause(transport);
	else
		read_ready(transport, fd, what);
	bufferevent_unlock(bev);
}
