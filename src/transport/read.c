#include "transport/transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/*
 * The read step: from the socket to the user. What libevent does around its own (locking, watermarks,
 * rate limits, timeouts, the order of callbacks) is done here in the same way, so that a transport stays
 * a bufferevent.
 */

/* In one wake-up, whatever the number of bytes: then other connections get their turn. */
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

static void deliver_fd(struct ferry_transport *transport, int fd)
{
	/* The callback for the one before may have set another protocol. */
	protocol_begin(transport);
	bool open = transport->state == TRANSPORT_OPEN && !transport->freed;

	if (open && transport->protocol != NULL &&
	    transport->protocol->file_descriptor_received != NULL) {
		transport->protocol->file_descriptor_received(transport, fd, transport->protocol_context);
	} else if (open && transport->protocol == NULL && transport->fd_cb != NULL) {
		transport->fd_cb(transport, fd, transport->fd_context);
	} else {
		transport->stats.fds_unclaimed++;
		close(fd);
	}
}

static void deliver_loss(struct ferry_transport *transport)
{
	transport->stats.fds_lost++;
	protocol_begin(transport);
	if (transport->state != TRANSPORT_OPEN || transport->freed)
		return;
	if (transport->protocol != NULL) {
		if (transport->protocol->file_descriptors_lost != NULL)
			transport->protocol->file_descriptors_lost(transport, transport->protocol_context);
		else
			transport_end(transport, -EMSGSIZE);
	} else if (transport->fds_lost_cb != NULL) {
		transport->fds_lost_cb(transport, transport->fds_lost_context);
	} else {
		transport_end(transport, -EMSGSIZE);
		transport_report_event(transport, BEV_EVENT_READING | BEV_EVENT_ERROR, EMSGSIZE);
	}
}

/* Keeps descriptors for later; without memory for that, closes them and keeps the loss. */
static void keep(struct ferry_transport *transport, const int *fds, unsigned int count)
{
	unsigned int total = transport->kept_count + count;
	int *kept = realloc(transport->kept_fds, total * sizeof(*kept));

	if (kept == NULL) {
		for (unsigned int i = 0; i < count; i++)
			close(fds[i]);
		transport->kept_loss = true;
		return;
	}
	memcpy(kept + transport->kept_count, fds, count * sizeof(*fds));
	transport->kept_fds = kept;
	transport->kept_count = total;
}

static void deliver(struct ferry_transport *transport, const struct ancillary *ancillary,
                    ssize_t length)
{
	unsigned int next = 0;

	transport->stats.fds_received += ancillary->count;
	transport->stats.controls_ignored += ancillary->ignored;
	if (transport->reader != NULL && transport->state == TRANSPORT_OPEN && !transport->freed) {
		transport->stats.fds_lost += ancillary->truncated;
		if (ancillary->count > 0 || ancillary->truncated)
			transport->reader->received(transport->reader_argument, ancillary->fds,
			                            ancillary->count, ancillary->truncated,
			                            length > 0 ? (size_t)length : 0);
		return;
	}
	while (next < ancillary->count && !transport_holds_back(transport))
		deliver_fd(transport, ancillary->fds[next++]);
	if (next < ancillary->count)
		keep(transport, ancillary->fds + next, ancillary->count - next);
	if (ancillary->truncated && transport_holds_back(transport))
		transport->kept_loss = true;
	else if (ancillary->truncated)
		deliver_loss(transport);
}

void transport_deliver_kept(struct ferry_transport *transport)
{
	while (transport->kept_count > 0 && !transport->reading_paused && !transport->freed) {
		int fd = transport->kept_fds[0];
		transport->kept_count--;
		memmove(transport->kept_fds, transport->kept_fds + 1,
		        transport->kept_count * sizeof(*transport->kept_fds));
		deliver_fd(transport, fd);
	}
	if (transport->kept_loss && !transport->reading_paused && !transport->freed) {
		transport->kept_loss = false;
		deliver_loss(transport);
	}
	if (transport->kept_count == 0) {
		free(transport->kept_fds);
		transport->kept_fds = NULL;
	}
}

void transport_close_kept(struct ferry_transport *transport)
{
	for (unsigned int i = 0; i < transport->kept_count; i++)
		close(transport->kept_fds[i]);
	transport->stats.fds_unclaimed += transport->kept_count;
	transport->kept_count = 0;
	transport->kept_loss = false;
	free(transport->kept_fds);
	transport->kept_fds = NULL;
}

/* One read, and the descriptors that it brought delivered. As incoming_read(). From the socket that
 * the bufferevent has now: a callback for the read before may have given it another. */
static ssize_t read_once(struct ferry_transport *transport, size_t max, bool *maybe_more)
{
	struct ancillary ancillary;
	struct evbuffer *input = bufferevent_get_input(transport->rearm.bev);
	int fd = bufferevent_getfd(transport->rearm.bev);

	transport->stats.receive_calls++;
	ssize_t length = incoming_read(&transport->incoming, fd, input, max, &ancillary, maybe_more);
	if (length > 0)
		count_read(transport, (size_t)length);
	deliver(transport, &ancillary, length);
	return length;
}

/* How much may be read now, 0 for nothing: the rate limits' and the high-water mark's say. */
static size_t read_allowance(struct ferry_transport *transport)
{
	struct bufferevent *bev = transport->rearm.bev;
	ev_ssize_t max = bufferevent_get_max_to_read(bev);
	size_t high = 0;

	if (max <= 0 || !rearm_is_reading(&transport->rearm))
		return 0;
	bufferevent_getwatermark(bev, EV_READ, NULL, &high);
	if (high == 0)
		return (size_t)max;
	size_t length = evbuffer_get_length(bufferevent_get_input(bev));
	if (length >= high)
		return 0;
	return high - length < (size_t)max ? high - length : (size_t)max;
}

/* What one wake-up may read in all: no more than its share of a rate limit group's bucket either, or
 * the first member to wake up would empty it. */
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
	return transport->reader == NULL || transport->reader->admits(transport->reader_argument);
}

void transport_trigger_read(struct ferry_transport *transport, int options)
{
	if (transport->reader != NULL)
		options |= BEV_TRIG_IGNORE_WATERMARKS;
	bufferevent_trigger(transport->rearm.bev, EV_READ, options);
}

void transport_hold_reading(struct ferry_transport *transport)
{
	rearm_stop_reading(&transport->rearm);
}

int transport_go_on_reading(struct ferry_transport *transport)
{
	bool enabled = (bufferevent_get_enabled(transport->rearm.bev) & EV_READ) != 0;

	/* What a peer that is gone has left is read in any case. */
	if (transport_is_over(transport) || (!enabled && transport->broken == 0))
		return 0;
	return transport_enable_reading(transport);
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
	/* An error of the connection attempt is the write step's to find. */
	if (transport->rearm.connecting)
		return;
	transport_deliver_kept(transport);
	if (transport->reader != NULL && transport->broken != 0 && !transport_is_over(transport)) {
		protocol_end_broken(transport);
		return;
	}

	while (maybe_more && budget > 0 && reads++ < READS_PER_TURN && !transport_is_over(transport)) {
		transport_notice_socket(transport);
		size_t max = read_allowance(transport);
		if (max == 0 || !is_admitted(transport))
			break;
		ssize_t length = read_once(transport, max < budget ? max : budget, &maybe_more);
		if (transport_is_over(transport) || length == -EAGAIN)
			break;
		if (length <= 0) {
			transport_report_event(
			    transport,
			    (short)(BEV_EVENT_READING | (length == 0 ? BEV_EVENT_EOF : BEV_EVENT_ERROR)),
			    (int)-length);
			break;
		}
		budget -= (size_t)length;
		if (!transport->reading_paused)
			transport_trigger_read(transport, 0);
	}
}

bool transport_read_rest(struct ferry_transport *transport)
{
	int left = 0;
	bool maybe_more;

	/* What is there now, not what a peer that only stopped reading goes on to send. */
	if (ioctl(bufferevent_getfd(transport->rearm.bev), FIONREAD, &left) < 0)
		return true;
	while (left > 0 && !transport->freed && transport->state == TRANSPORT_OPEN) {
		if (!is_admitted(transport))
			return false;
		ssize_t length = read_once(transport, (size_t)left, &maybe_more);
		if (length <= 0)
			break;
		left -= (int)length;
		protocol_offer_input(transport);
	}
	return true;
}

void transport_on_read(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	struct ferry_transport *transport = argument;
	struct bufferevent *bev = transport_lock(transport);

	if (!transport_is_over(transport))
		read_ready(transport, what);
	else
		transport_disable_ended(transport, EV_READ);
	bufferevent_unlock(bev);
}
