#include "transport.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/*
 * The I/O steps. What libevent does around its own (locking, watermarks, rate limits, timeouts, the
 * order of callbacks) is done here in the same way, so that a transport stays a bufferevent.
 */

/* Waits for the kernel to have memory again: it does not say when. */
enum { RETRY_USEC_MIN = 1000, RETRY_USEC_MAX = 100000 };

/* In one wake-up, whatever the number of bytes: then other connections get their turn. */
enum { READS_PER_TURN = 64, REFILLS_PER_TURN = 64 };

void transport_want_loop(struct ferry_transport *transport)
{
	event_active(transport->loop_event, EV_TIMEOUT, 0);
}

void transport_want_write(struct ferry_transport *transport)
{
	if (transport->writing) {
		/* Not once more in this turn of the loop: others want theirs. */
		transport->write_again = true;
		return;
	}
	if ((bufferevent_get_enabled(transport->rearm.bev) & EV_WRITE) == 0)
		return;
	transport->woken = true;
	rearm_run_write(&transport->rearm);
}

void transport_stop_waiting(struct ferry_transport *transport)
{
	if (!transport->writing && !transport->rearm.connecting)
		rearm_stop_waiting(&transport->rearm);
}

/* Disables one direction and tells the user, as libevent does. */
static void report_event(struct ferry_transport *transport, short what, int error)
{
	struct bufferevent *bev = transport->rearm.bev;

	bufferevent_disable(bev, (what & BEV_EVENT_READING) != 0 ? EV_READ : EV_WRITE);
	errno = error; /* the callback reads it */
	bufferevent_trigger_event(bev, what, 0);
}

/* The user has enabled an event of a connection that is over. It would fire for ever. */
static void disable_ended(struct ferry_transport *transport, short what)
{
	if (transport->freed)
		return;
	bufferevent_disable(transport->rearm.bev, what);
	/* While connecting, libevent keeps the write event. */
	rearm_stop_waiting(&transport->rearm);
}

/* ---- reading ---- */

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
		report_event(transport, BEV_EVENT_READING | BEV_EVENT_ERROR, EMSGSIZE);
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
	struct bufferevent *bev = transport->rearm.bev;
	size_t budget = read_budget(bev);
	unsigned int reads = 0;
	bool maybe_more = true;

	if (what == EV_TIMEOUT) {
		if (!rearm_timeout_is_stale(&transport->rearm, EV_READ))
			report_event(transport, BEV_EVENT_READING | BEV_EVENT_TIMEOUT, ETIMEDOUT);
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
			report_event(
			    transport,
			    (short)(BEV_EVENT_READING | (length == 0 ? BEV_EVENT_EOF : BEV_EVENT_ERROR)),
			    (int)-length);
			break;
		}
		budget -= (size_t)length;
		if (!transport->reading_paused)
			bufferevent_trigger(bev, EV_READ, 0);
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
		disable_ended(transport, EV_READ);
	bufferevent_unlock(bev);
}

/* ---- writing ---- */

static void count_written(struct ferry_transport *transport, size_t length)
{
	struct bufferevent *bev = transport->rearm.bev;

	if (length == 0)
		return;
	transport->retry_usec = 0;
	if (bufferevent_get_token_bucket_cfg(bev) != NULL)
		bufferevent_decrement_write_limit(bev, (ev_ssize_t)length);
	if (transport->rate_limit_group != NULL)
		bufferevent_rate_limit_group_decrement_write(transport->rate_limit_group,
		                                             (ev_ssize_t)length);
}

/* Sends, and lets the producer fill the stream again, until one of them has no more or the budget is
 * spent; not often, however little the producer gives. */
static int write_and_refill(struct ferry_transport *transport, size_t budget, size_t *total)
{
	struct outgoing *outgoing = &transport->outgoing;
	unsigned int rounds = 0;
	int state;

	do {
		size_t sent;
		/* The producer, or whoever filled the stream, may have replaced the socket. */
		int fd = rearm_write_fd(&transport->rearm);
		if (fd < 0)
			return OUTGOING_HELD; /* bufferevent_setfd() with -1: until there is one again */
		transport->write_again = false;
		state = outgoing_flush(outgoing, fd, budget - *total, &sent);
		*total += sent;
		count_written(transport, sent);
		if (state < 0 || transport_is_over(transport))
			return state;
		if (transport->watcher != NULL)
			transport->watcher->sent(transport->watcher_argument, outgoing_is_sent(outgoing));
	} while (state == OUTGOING_IDLE && *total < budget && ++rounds < REFILLS_PER_TURN &&
	         !transport_is_over(transport) && !outgoing_is_sent(outgoing));
	return state;
}

static int wait_for_memory(struct ferry_transport *transport)
{
	unsigned int usec = transport->retry_usec * 2;

	if (usec < RETRY_USEC_MIN)
		usec = RETRY_USEC_MIN;
	if (usec > RETRY_USEC_MAX)
		usec = RETRY_USEC_MAX;
	transport->retry_usec = usec;
	transport->starved = true;
	return event_add(transport->loop_event, &(struct timeval){.tv_usec = (suseconds_t)usec});
}

/* What goes next is held. A file that waits for its source says when it has it; false if it cannot. */
static bool wait_for_source(struct ferry_transport *transport)
{
	struct outgoing_file *file = outgoing_waiting_file(&transport->outgoing);

	if (file != NULL)
		file->wait(file);
	return outgoing_is_held(&transport->outgoing);
}

/* Arms the write event, or not, for what is left. */
static void arm(struct ferry_transport *transport, int state)
{
	struct bufferevent *bev = transport->rearm.bev;
	bool wait = state == OUTGOING_FULL || state == OUTGOING_YIELDED || transport->write_again;

	transport->write_again = false;
	if (state == OUTGOING_STARVED)
		wait = wait_for_memory(transport) < 0; /* no memory for a timer either: poll */
	else if (outgoing_is_held(&transport->outgoing))
		wait = !wait_for_source(transport); /* and no write timeout meanwhile */
	/* What suspends or disables writing deletes the event, and what ends that adds it again. */
	if (!wait || (bufferevent_get_enabled(bev) & EV_WRITE) == 0 ||
	    bufferevent_get_max_to_write(bev) <= 0)
		rearm_stop_waiting(&transport->rearm);
	else if (rearm_wait_writable(&transport->rearm) < 0 && wait_for_memory(transport) < 0)
		transport_want_loop(transport); /* nobody else would look again */
}

static void write_failed(struct ferry_transport *transport, int error)
{
	transport->broken = error;
	outgoing_abandon(&transport->outgoing, error);
	report_event(transport, BEV_EVENT_WRITING | BEV_EVENT_ERROR, -error);
	/* With a protocol that has ended the connection; without one nobody else does. */
	if (transport->state == TRANSPORT_CLOSING && transport->protocol == NULL)
		transport_end(transport, error);
}

/* Tells the user: files' progress and end, and the write callback. `progress`: something was sent, or
 * the socket said by itself that it is writable. */
static void tell(struct ferry_transport *transport, bool progress)
{
	struct outgoing *outgoing = &transport->outgoing;

	while (!transport->freed && outgoing_report(outgoing))
		continue;
	if (progress && !transport_is_over(transport) && outgoing->file_count == 0)
		bufferevent_trigger(transport->rearm.bev, EV_WRITE, 0);
}

/* `quiet`: no write callback unless something is sent. */
static void write_step(struct ferry_transport *transport, bool quiet)
{
	ev_ssize_t budget = bufferevent_get_max_to_write(transport->rearm.bev);
	size_t total = 0;

	quiet |= transport->woken;
	transport->woken = false;
	if (budget <= 0) { /* a rate limit: it adds the event again */
		rearm_stop_waiting(&transport->rearm);
		return;
	}
	transport->starved = false;
	transport->writing = true;
	int state = write_and_refill(transport, (size_t)budget, &total);
	if (state < 0 && !transport_is_over(transport))
		write_failed(transport, state);
	tell(transport, state >= 0 && (total > 0 || (state == OUTGOING_IDLE && !quiet)));
	transport->writing = false;

	if (transport_is_over(transport))
		return;
	arm(transport, state < 0 ? OUTGOING_IDLE : state);
	transport_settle_close(transport);
}

static void write_ready(struct ferry_transport *transport, evutil_socket_t fd, short what)
{
	bool connected = false;

	if (what == EV_TIMEOUT) {
		/* bufferevent_enable() and the end of a rate limit have libevent add the event, whatever
		 * goes next. */
		if (outgoing_is_held(&transport->outgoing))
			rearm_stop_waiting(&transport->rearm);
		else if (!rearm_timeout_is_stale(&transport->rearm, EV_WRITE))
			report_event(transport, BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT, ETIMEDOUT);
		return;
	}
	if (transport->rearm.connecting) {
		if (!rearm_finish_connecting(&transport->rearm, fd) || transport_is_over(transport))
			return;
		if ((bufferevent_get_enabled(transport->rearm.bev) & EV_WRITE) == 0) {
			transport_settle_close(transport);
			return;
		}
		connected = true;
	}
	write_step(transport, connected);
}

void transport_on_write(evutil_socket_t fd, short what, void *argument)
{
	struct ferry_transport *transport = argument;
	struct bufferevent *bev = transport_lock(transport);

	if (!transport_is_over(transport))
		write_ready(transport, fd, what);
	else
		disable_ended(transport, EV_WRITE);
	bufferevent_unlock(bev);
}

void transport_on_output(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                         void *argument)
{
	struct ferry_transport *transport = argument;

	if (info->n_deleted > 0)
		outgoing_note_drained(&transport->outgoing, info->n_deleted);
	/* Another callback on the buffer may have replaced the socket that we are writing to. */
	if (transport->writing)
		transport_notice_socket(transport);
	if (info->n_added == 0 || transport_is_over(transport))
		return;
	size_t length = evbuffer_get_length(buffer);
	if (length > transport->stats.bytes_queued_max)
		transport->stats.bytes_queued_max = length;
	transport_notice_socket(transport);
	transport_want_write(transport);
	if (transport->watcher != NULL)
		transport->watcher->queued(transport->watcher_argument);
}

/* ---- from the loop ---- */

static void run_lost(struct ferry_transport *transport)
{
	transport_dismiss_watcher(transport);
	while (!transport->freed && outgoing_report(&transport->outgoing))
		continue;
	if (transport->freed)
		return;
	transport->state = TRANSPORT_ENDED;
	protocol_end(transport);
}

/* libevent adds the write event when the suspension ends. It is for what waits, not for a write
 * callback that nobody asked for. */
static void end_hold(struct ferry_transport *transport)
{
	bool waiting = rearm_release_hold(&transport->rearm);
	transport_rejoin_group(transport);
	if (!waiting)
		transport_stop_waiting(transport);
	if (!outgoing_is_sent(&transport->outgoing))
		transport_want_write(transport);
}

static void run_loop_work(struct ferry_transport *transport)
{
	if (transport->rearm.hold != NULL)
		end_hold(transport);
	if (!transport->rearm.connecting)
		protocol_begin(transport);
	if (!transport_is_over(transport))
		transport_deliver_kept(transport);
	if (!transport_is_over(transport))
		tell(transport, false);
	/* The last file may have been stopped while writing is disabled. */
	transport_settle_close(transport);
	if (!transport_is_over(transport) && transport->starved &&
	    (bufferevent_get_enabled(transport->rearm.bev) & EV_WRITE) != 0)
		write_step(transport, true);
	if (!transport->freed && transport->state == TRANSPORT_LOST)
		run_lost(transport);
}

void transport_on_loop(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_transport *transport = argument;
	struct bufferevent *bev = transport_lock(transport);

	if (!transport->freed)
		run_loop_work(transport);
	bufferevent_unlock(bev);
}
