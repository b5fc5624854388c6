#include "transport/transport.h"

#include <errno.h>

/*
 * The write step: when it runs, what it tells, and what it waits for then. As in the read step, all that
 * libevent does around its own is done in the same way.
 */

/* Waits for the kernel to have memory again: it does not say when. */
enum { RETRY_USEC_MIN = 1000, RETRY_USEC_MAX = 100000 };

/* In one wake-up, whatever the number of bytes: then other connections get their turn. */
enum { REFILLS_PER_TURN = 64 };

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
		/* Of what has left before an error, too. */
		if (sent > 0 && transport->sent != NULL && !transport->freed)
			transport->sent(transport->sent_argument);
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
	transport_report_event(transport, BEV_EVENT_WRITING | BEV_EVENT_ERROR, -error);
	/* With a protocol that has ended the connection; without one nobody else does. */
	if (transport->state == TRANSPORT_CLOSING && transport->protocol == NULL)
		transport_end(transport, error);
}

void transport_tell(struct ferry_transport *transport, bool progress)
{
	struct outgoing *outgoing = &transport->outgoing;

	while (!transport->freed && outgoing_report(outgoing))
		continue;
	if (progress && !transport_is_over(transport) && outgoing->file_count == 0)
		bufferevent_trigger(transport->rearm.bev, EV_WRITE, 0);
}

void transport_write_step(struct ferry_transport *transport, bool quiet)
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
	transport_tell(transport, state >= 0 && (total > 0 || (state == OUTGOING_IDLE && !quiet)));
	transport->writing = false;

	if (transport_is_over(transport))
		return;
	arm(transport, state < 0 ? OUTGOING_IDLE : state);
	transport_settle_close(transport);
}

void transport_flush(struct ferry_transport *transport)
{
	if (transport_is_over(transport) || transport->broken != 0 || transport->writing)
		return;
	if (transport->rearm.connecting || transport->rearm.hold != NULL ||
	    (bufferevent_get_enabled(transport->rearm.bev) & EV_WRITE) == 0)
		return;
	transport_write_step(transport, true);
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
			transport_report_event(transport, BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT, ETIMEDOUT);
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
	transport_write_step(transport, connected);
}

void transport_on_write(evutil_socket_t fd, short what, void *argument)
{
	struct ferry_transport *transport = argument;
	struct bufferevent *bev = transport_lock(transport);

	if (!transport_is_over(transport))
		write_ready(transport, fd, what);
	else
		transport_disable_ended(transport, EV_WRITE);
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
