#include "transport/write.h"

#include <errno.h>
#include <poll.h>

#include "kernel/clock.h"
#include "kernel/peer_unread.h"
#include "kernel/send_queue.h"
#include "kernel/socket.h"
#include "libevent/fields.h"
#include "transport/end.h"

/*
 * The write step. Like the read step, it does around its system calls all that libevent does around its own.
 */

/* The kernel does not report when it has memory again: the step waits on a timer, longer each time. */
enum { RETRY_USEC_MIN = 1000, RETRY_USEC_MAX = 100000 };

/* In one wake-up, however few bytes that is; then other connections get their turn. */
enum { REFILLS_PER_TURN = 64 };

void transport_count_written(struct ferry_transport *transport, size_t length)
{
	struct bufferevent *bev = transport->rearm.bev;

	if (length == 0)
		return;
	transport->out.step.retry_usec = 0;
	if (bufferevent_get_token_bucket_cfg(bev) != NULL)
		bufferevent_decrement_write_limit(bev, (ev_ssize_t)length);
	if (transport->rate_limit_group != NULL)
		bufferevent_rate_limit_group_decrement_write(transport->rate_limit_group,
		                                             (ev_ssize_t)length);
}

/* Sends, and lets the producer fill the stream again, until one of them has no more or the budget is spent,
 * REFILLS_PER_TURN times at most. */
static int write_and_refill(struct ferry_transport *transport, size_t budget, size_t *total)
{
	struct transport_out *out = &transport->out;
	struct outgoing *stream = &out->stream;
	unsigned int rounds = 0;
	int state = out->error;

	if (state < 0)
		return state;
	do {
		size_t sent;
		/* The producer, or another callback, may have replaced the socket. */
		int fd = rearm_write_fd(&transport->rearm);
		if (fd < 0)
			return OUTGOING_PAUSED; /* bufferevent_setfd() with -1: until there is one again */
		out->step.again = false;
		state =
		    outgoing_flush(stream, fd, budget - *total, transport_steps(transport)->adopt, &sent);
		*total += sent;
		transport_count_written(transport, sent);
		/* Also for bytes that have left before an error. */
		if (sent > 0 && transport->in.reader != NULL && !transport->freed)
			transport->in.reader->sent(transport->in.reader_argument);
		if (state < 0 || transport_is_over(transport))
			return state;
		if (out->watcher != NULL && !out->step.silent)
			out->watcher->sent(transport, outgoing_is_sent(stream));
	} while (state == OUTGOING_IDLE && *total < budget && ++rounds < REFILLS_PER_TURN &&
	         !transport_is_over(transport) && !outgoing_is_sent(stream));
	return state;
}

/* Of those that wait for the limit of descriptors in flight, this one is next. */
static void wake(void *argument)
{
	struct ferry_transport *transport = argument;

	event_active(transport->loop_event, EV_READ,
	             0); /* the priority is that of the wait's beginning */
}

static int wait_for_memory(struct ferry_transport *transport)
{
	struct marks *marks = transport->out.stream.marks;
	unsigned int usec = transport->out.step.retry_usec * 2;

	transport->out.step.out_of_memory = true;
	if (marks_fd_count(marks) > 0)
		in_flight_wait(&marks->in_flight, wake, transport);
	/* A try that the timer has not caused does not put it off. */
	if (usec > 0 && event_pending(transport->loop_event, EV_TIMEOUT, NULL))
		return 0;
	if (usec < RETRY_USEC_MIN)
		usec = RETRY_USEC_MIN;
	if (usec > RETRY_USEC_MAX)
		usec = RETRY_USEC_MAX;
	transport->out.step.retry_usec = usec;
	transport_follow_priority(transport);
	return event_add(transport->loop_event, &(struct timeval){.tv_usec = (suseconds_t)usec});
}

/* The next item is a paused or waiting file. Arms the wake-up of a waiting one; returns false if nothing would
 * wake it. */
static bool wait_for_source(struct ferry_transport *transport)
{
	struct outgoing_file *file = outgoing_paused_file(&transport->out.stream);

	if (file != NULL && file->waiting != 0)
		file->wait(file);
	return outgoing_is_paused(&transport->out.stream);
}

/* ---- the write timeout ---- */

/*
 * libevent's timer runs since the kernel took bytes last. The kernel's own queue may be long: a peer that reads
 * all the time, but slowly, may empty it for longer than the timeout before the socket is writable again. The
 * timeout is therefore reported only if the queue has not changed meanwhile either; else the timer runs again. The queue of
 * a unix socket becomes shorter by whole buffers: its peer may read bytes of one for longer than the timeout.
 */

enum { LOOKS_IN_A_TIMEOUT = 8 };

static void note_kernel_queue(struct ferry_transport *transport, int length)
{
	transport->out.step.kernel_queue = length;
	transport->out.step.kernel_queue_since = length >= 0 ? clock_now() : 0;
}

static void look_at_peer_unread(struct ferry_transport *transport)
{
	transport->out.step.peer_unread = transport->out.stream.carries_fds
	                                      ? peer_unread_count(rearm_write_fd(&transport->rearm))
	                                      : -ENODATA;
}

/* At the end of a step. Only a user with a write timeout pays for the system call, and for the costlier look at the peer
 * only if the last step was long ago: one that comes soon after another is progress by itself. */
static void look_at_kernel_queue(struct ferry_transport *transport, int state, size_t sent)
{
	struct rearm *rearm = &transport->rearm;
	const struct timeval *timeout = rearm_get_timeout(rearm, EV_WRITE);
	bool waits = state == OUTGOING_FULL || state == OUTGOING_NO_MEMORY;
	int length = waits && timeout != NULL ? send_queue_length(rearm_write_fd(rearm)) : -ENODATA;
	const int64_t before = transport->out.step.kernel_queue_since;

	/* A try of the retry timer that has changed nothing: the time of the timeout goes on. */
	if (state != OUTGOING_NO_MEMORY || sent > 0 || length != transport->out.step.kernel_queue)
		note_kernel_queue(transport, length);
	if (length >= 0 && transport->out.step.kernel_queue_since - before >=
	                       clock_from_timeval(timeout) / LOOKS_IN_A_TIMEOUT)
		look_at_peer_unread(transport);
}

/* Whether the peer of a unix socket has read a part of a buffer of the kernel's. */
static bool peer_reads(struct ferry_transport *transport)
{
	struct transport_step *step = &transport->out.step;
	int before = step->peer_unread;

	look_at_peer_unread(transport);
	if (step->peer_unread < 0 || step->peer_unread == before)
		return false;
	step->kernel_queue_since = clock_now();
	return true;
}

/* Whether the peer may have taken bytes for as long as the timeout is. If the queue was not looked at before, the
 * next timeout decides. After a late turn of the loop libevent makes up for the delay: the next one comes early,
 * and proves nothing. (A little early it always is: libevent counts from the start of the turn.) */
static bool peer_takes(struct ferry_transport *transport)
{
	const struct transport_step *step = &transport->out.step;
	int64_t timeout = clock_from_timeval(rearm_get_timeout(&transport->rearm, EV_WRITE));
	int length = send_queue_length(rearm_write_fd(&transport->rearm));

	if (length < 0)
		return false;
	if (length == step->kernel_queue)
		return clock_now() - step->kernel_queue_since < timeout - timeout / LOOKS_IN_A_TIMEOUT ||
		       peer_reads(transport);
	note_kernel_queue(transport, length);
	look_at_peer_unread(transport);
	return true;
}

/* Whether the transport has waited on the retry timer for as long as the timeout is, for a peer that does not take
 * what the kernel has for it. An empty queue is the shortage of somebody else. */
static bool retries_timed_out(const struct ferry_transport *transport)
{
	const struct transport_step *step = &transport->out.step;
	const struct timeval *timeout = rearm_get_timeout(&transport->rearm, EV_WRITE);

	return step->kernel_queue > 0 && timeout != NULL &&
	       clock_now() - step->kernel_queue_since >= clock_from_timeval(timeout);
}

static void report_timeout(struct ferry_transport *transport)
{
	note_kernel_queue(transport, -ENODATA);
	transport_report_event(transport, BEV_EVENT_WRITING | BEV_EVENT_TIMEOUT, ETIMEDOUT);
}

static void write_timed_out(struct ferry_transport *transport)
{
	/* bufferevent_enable() and the end of a rate limit add the event, also for a paused file. */
	if (outgoing_is_paused(&transport->out.stream))
		rearm_stop_waiting(&transport->rearm);
	else if (rearm_timeout_is_stale(&transport->rearm, EV_WRITE))
		return;
	else if (transport->rearm.connecting || !peer_takes(transport))
		report_timeout(transport);
	else
		(void)rearm_restart_write_timeout(&transport->rearm);
}

/* Arms the write event for what is left, or disarms it. */
static void arm_write(struct ferry_transport *transport, int state)
{
	struct bufferevent *bev = transport->rearm.bev;
	bool wait = state == OUTGOING_FULL || state == OUTGOING_YIELDED || transport->out.step.again;

	transport->out.step.again = false;
	if (state == OUTGOING_NO_MEMORY)
		wait = wait_for_memory(transport) < 0; /* no memory for a timer either: poll */
	else if (outgoing_is_paused(&transport->out.stream))
		wait = !wait_for_source(transport); /* and no write timeout meanwhile */
	/* Suspended or disabled writing deletes the event, and adds it again when it ends. */
	if (!wait || (fields_enabled(bev) & EV_WRITE) == 0 || bufferevent_get_max_to_write(bev) <= 0)
		rearm_stop_waiting(&transport->rearm);
	else if (rearm_wait_writable(&transport->rearm) < 0 && wait_for_memory(transport) < 0)
		transport_want_loop(transport); /* nothing else would wake it */
	if (state == OUTGOING_NO_MEMORY && retries_timed_out(transport))
		report_timeout(transport);
}

void transport_write_failed(struct ferry_transport *transport, int error)
{
	transport_write_half_broken(transport, error);
	marks_abandon(transport->out.stream.marks, error);
	transport_report_event(transport, BEV_EVENT_WRITING | BEV_EVENT_ERROR, -error);
	/* A protocol's event callback has ended the connection. Without a protocol nothing else does. */
	if (transport->life == TRANSPORT_CLOSING && transport->protocol.table == NULL)
		transport_end(transport, error);
}

void transport_notify_later(struct ferry_transport *transport)
{
	/* Not in this turn of the loop, which would not end while each callback sends and flushes. */
	if (transport->out.step.notifying &&
	    event_add(transport->loop_event, &(struct timeval){.tv_sec = 0}) == 0)
		return;
	transport_want_loop(transport);
}

void transport_notify_sent(struct ferry_transport *transport, bool progress)
{
	struct marks *marks = transport->out.stream.marks;

	for (unsigned int left = marks_count_news(marks);
	     left > 0 && !transport->freed && marks_notify(marks); left--)
		continue;
	/* A callback has sent and flushed another file. */
	if (!transport_is_over(transport) && marks_have_news(marks))
		transport_notify_later(transport);
	/* A protocol has no write callback. */
	if (progress && transport->protocol.table == NULL && !transport_is_over(transport) &&
	    marks_file_count(marks) == 0)
		bufferevent_trigger(transport->rearm.bev, EV_WRITE, 0);
}

/* Has the loop run the callbacks that a silent step has left out, if somebody has one. */
static void notify_later(struct ferry_transport *transport, bool progress)
{
	const struct transport_out *out = &transport->out;

	if (marks_have_news(out->stream.marks) ||
	    (progress && (out->watcher != NULL || transport->protocol.table == NULL))) {
		transport->out.step.unnotified |= progress;
		transport_notify_later(transport);
	}
}

void transport_notify_flushed(struct ferry_transport *transport)
{
	struct transport_out *out = &transport->out;
	bool flushed = out->step.flushed;

	out->step.flushed = false;
	out->step.notifying = true;
	if (flushed && transport->in.reader != NULL)
		transport->in.reader->sent(transport->in.reader_argument);
	if (!transport_is_over(transport)) {
		bool progress = out->step.unnotified;
		out->step.unnotified = false;
		if (progress && out->watcher != NULL)
			out->watcher->sent(transport, outgoing_is_sent(&out->stream));
		if (!transport_is_over(transport))
			transport_notify_sent(transport, progress);
	}
	out->step.notifying = false;
}

void transport_write_step(struct ferry_transport *transport, bool quiet)
{
	struct transport_step *step = &transport->out.step;
	ev_ssize_t budget = bufferevent_get_max_to_write(transport->rearm.bev);
	size_t total = 0;

	quiet |= step->requested;
	step->requested = false;
	if (budget <= 0) { /* a rate limit: it adds the event again */
		rearm_stop_waiting(&transport->rearm);
		return;
	}
	step->out_of_memory = false;
	step->running = true;
	int state = write_and_refill(transport, (size_t)budget, &total);
	if (state < 0 && !transport_is_over(transport))
		transport_write_failed(transport, state);
	bool progress = state >= 0 && (total > 0 || (state == OUTGOING_IDLE && !quiet));
	if (step->silent)
		notify_later(transport, progress);
	else
		transport_notify_sent(transport, progress);
	step->running = false;

	if (transport_is_over(transport))
		return;
	look_at_kernel_queue(transport, state, total);
	arm_write(transport, state < 0 ? OUTGOING_IDLE : state);
	transport_watch_peer(transport);
	transport_settle_close(transport);
}

void transport_flush(struct ferry_transport *transport)
{
	if (!transport_can_send(transport) || transport->out.step.running)
		return;
	if (transport->rearm.connecting || transport->rearm.write_gate != NULL ||
	    (fields_enabled(transport->rearm.bev) & EV_WRITE) == 0)
		return;
	transport->out.step.silent = true;
	transport_write_step(transport, true);
	transport->out.step.silent = false;
}

static void write_ready(struct ferry_transport *transport, evutil_socket_t fd, short what)
{
	bool connected = false;

	/* As in the read step: the loop may run late. */
	if (what == EV_TIMEOUT && !socket_is_ready(fd, POLLOUT)) {
		write_timed_out(transport);
		return;
	}
	if (transport->rearm.connecting) {
		if (!rearm_finish_connecting(&transport->rearm, fd) || transport_is_over(transport))
			return;
		if ((fields_enabled(transport->rearm.bev) & EV_WRITE) == 0) {
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
	(void)buffer;
	struct ferry_transport *transport = argument;

	if (info->n_deleted > 0)
		outgoing_note_drained(&transport->out.stream, info->n_deleted);
	/* Another callback on the buffer may have replaced the socket that the step writes to. */
	if (transport->out.step.running)
		transport_notice_socket(transport);
	if (info->n_added == 0 || transport_is_over(transport))
		return;
	size_t length = info->orig_size + info->n_added - info->n_deleted;
	if (length > transport->out.stream.stats.bytes_queued_max)
		transport->out.stream.stats.bytes_queued_max = length;
	transport_notice_socket(transport);
	transport_want_write(transport);
	if (transport->out.watcher != NULL)
		transport->out.watcher->queued(transport);
}
