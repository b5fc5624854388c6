#include "transport/end.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/clock.h"
#include "kernel/send_queue.h"
#include "kernel/tls.h"
#include "libevent/deferred_free.h"
#include "util/log.h"

/* More messages than the kernel queues for a reader that takes none. */
enum { UNREAD_READS_MAX = 4096 };

/* ---- shutting down ---- */

static void close_pipes(struct ferry_transport *transport)
{
	int read_fd = transport->pipe_read_fd, write_fd = transport->pipe_write_fd;

	rearm_forget_fds(&transport->rearm, EV_READ | EV_WRITE);
	transport->pipe_read_fd = -1;
	transport->pipe_write_fd = -1;
	if (write_fd >= 0)
		close(write_fd);
	if (read_fd >= 0 && read_fd != write_fd)
		close(read_fd);
}

static void close_write_pipe(struct ferry_transport *transport)
{
	/* One descriptor for both ways has no half to close. */
	if (transport->pipe_write_fd < 0 || transport->pipe_write_fd == transport->pipe_read_fd)
		return;
	rearm_forget_fds(&transport->rearm, EV_WRITE);
	close(transport->pipe_write_fd);
	transport->pipe_write_fd = -1;
}

/* ENOTCONN: TCP has forgotten the connection, after a reset, or after the ends of both sides. `first`: this side has
 * not ended yet, so that it was a reset. */
static void shut_down(struct ferry_transport *transport, int how, bool first)
{
	if (!transport->on_pipes) {
		int status = shutdown(bufferevent_getfd(transport->rearm.bev), how);
		if (status < 0 && errno == ENOTCONN && first && transport->is_inet)
			transport_peer_was_gone(transport);
	} else if (how == SHUT_WR) {
		close_write_pipe(transport);
	} else {
		close_pipes(transport);
	}
}

/* If bytes are unread when a unix socket is closed, the peer reads an error in place of the end of file. After the
 * shutdown the peer can send no more. */
static void drop_unread(struct ferry_transport *transport)
{
	char bytes[16 * 1024];
	unsigned int reads = 0;

	if (transport->on_pipes || transport->is_inet)
		return;
	while (reads++ < UNREAD_READS_MAX &&
	       read(bufferevent_getfd(transport->rearm.bev), bytes, sizeof(bytes)) > 0)
		continue;
}

/* `how`: of shutdown(2). `first`: this side has not ended its half before. */
static void end_transport(struct ferry_transport *transport, int reason, int how, bool first)
{
	bool connecting = transport_is_connecting(transport);
	bool closed = transport->life == TRANSPORT_CLOSING && transport->out.half == OUT_SHUT;
	transport_advance_life(transport, TRANSPORT_LOST);
	transport_stop_watching(transport);
	transport->reason = transport->out.half == OUT_BROKEN ? transport->out.error : reason;
	if (connecting)
		transport_connection_made(transport); /* it never connected: connection_made does not run */
	bufferevent_disable(transport->rearm.bev, EV_READ | EV_WRITE);
	transport_close_pending(transport);
	/* While connecting, libevent keeps the write event. */
	rearm_stop_waiting(&transport->rearm);
	shut_down(transport, how, first && !connecting);
	if (closed)
		drop_unread(transport);
	transport_want_loop(transport);
	/* Last: the user's callbacks on the buffer run in here, and may free the transport. */
	outgoing_stop(&transport->out.stream, reason != 0 ? reason : -ECANCELED);
}

void transport_end(struct ferry_transport *transport, int reason)
{
	if (transport_is_over(transport))
		return;
	transport_keep_peer_closed(transport);
	end_transport(transport, reason, SHUT_RDWR, transport->out.half != OUT_SHUT);
}

void transport_end_for(struct ferry_transport *transport, int reason)
{
	transport_end(transport, reason);
	if (transport->life == TRANSPORT_LOST)
		transport->reason = reason;
}

void transport_refuse_socket(struct ferry_transport *transport, int error)
{
	transport_end(transport, error);
	if (transport->freed || transport->protocol.table != NULL)
		return;
	errno = -error; /* the callback reads it */
	bufferevent_trigger_event(transport->rearm.bev, BEV_EVENT_READING | BEV_EVENT_ERROR,
	                          BEV_TRIG_DEFER_CALLBACKS);
}

/* ---- ending ---- */

/* Whether the sending half is to end, and all is sent. */
static bool write_half_can_shut(const struct ferry_transport *transport)
{
	bool wanted = transport->out.half == OUT_CLOSING ||
	              (transport->out.half == OUT_OPEN && transport->life == TRANSPORT_CLOSING);

	return wanted && !transport_is_connecting(transport) &&
	       outgoing_is_sent(&transport->out.stream);
}

bool transport_is_acknowledged(int queue)
{
	return queue <= 1;
}

/* Whether a close waits for the peer. */
static bool lingers(const struct ferry_transport *transport)
{
	return transport->is_inet && !transport->out.no_linger;
}

/* Whether the peer may still lose what it has not read, if the socket were closed now. */
static bool may_be_reset(const struct ferry_transport *transport)
{
	return transport->in.half != IN_EOF ||
	       !transport_is_acknowledged(send_queue_length(rearm_write_fd(&transport->rearm)));
}

/* All is sent: waits until the peer has it, and ends too. Without memory for the watch the loop comes here again. */
static void linger(struct ferry_transport *transport)
{
	struct transport_watch *watch = transport_need_watch(transport);

	if (watch == NULL)
		transport_watch_later(transport);
	if (watch == NULL || watch->lingering)
		return;
	watch->lingering = true;
	watch->dropped = 0;
	watch->queue = send_queue_length(rearm_write_fd(&transport->rearm));
	watch->linger_at = transport_deadline(clock_now(), watch->linger_timeout);
	transport_stop_watching(transport);
	transport_arm_watch(transport);
}

/* Once: a producer may write again, and often does. */
static void log_wait_for_watcher(struct ferry_transport *transport)
{
	if (transport->out.wait_logged || !write_half_can_shut(transport))
		return;
	transport->out.wait_logged = true;
	log_line(
	    FERRY_LOG_DEBUG,
	    "transport on descriptor %d: all is sent, and the close waits for the %s to unregister",
	    bufferevent_getfd(transport->rearm.bev), transport->out.watcher->name);
}

/* With TLS, the peer must be able to tell the end from a connection that somebody has cut off. False: later, from the
 * write step or the loop. */
static bool send_close_notify(struct ferry_transport *transport)
{
	struct rearm *rearm = &transport->rearm;
	int status = tls_send_close_notify(rearm_write_fd(rearm));
	bool full = status == -EAGAIN;

	if (!full && status != -ENOBUFS && status != -ENOMEM)
		return true; /* or broken, which shutdown(2) finds too */
	if (!full || rearm_wait_writable(rearm) < 0)
		transport_watch_later(transport);
	return false;
}

static void shut_write_half(struct ferry_transport *transport)
{
	if (marks_close_fds(transport->out.stream.marks) > 0)
		transport->out.fds_dropped = true;
	transport_keep_peer_closed(transport);
	transport_write_half_shut(transport);
}

static int reason_of_close(const struct ferry_transport *transport)
{
	return transport->out.fds_dropped ? -ENODATA : 0;
}

/* The writing half is shut. */
static void settle_shut(struct ferry_transport *transport)
{
	bool closing = transport->life == TRANSPORT_CLOSING;

	if (closing && lingers(transport) && may_be_reset(transport))
		linger(transport);
	else if (closing || (transport->in.half == IN_EOF && transport->end_notified))
		transport_end(transport, reason_of_close(transport));
}

void transport_settle_close(struct ferry_transport *transport)
{
	if (transport_is_over(transport))
		return;
	if (transport->out.watcher != NULL) {
		log_wait_for_watcher(transport);
		return;
	}
	if (write_half_can_shut(transport)) {
		if (transport_has_tls(transport) && !send_close_notify(transport))
			return;
		shut_write_half(transport);
		if (transport->life == TRANSPORT_CLOSING && !lingers(transport)) {
			/* Shuts both halves with one call. */
			end_transport(transport, reason_of_close(transport), SHUT_RDWR, true);
			return;
		}
		shut_down(transport, SHUT_WR, true);
	}
	if (transport->out.half == OUT_SHUT)
		settle_shut(transport);
}

/* Ends the connection once all is sent. */
static void close_when_sent(struct ferry_transport *transport)
{
	if (transport->life != TRANSPORT_OPEN)
		return;
	transport_advance_life(transport, TRANSPORT_CLOSING);
	bufferevent_disable(transport->rearm.bev, EV_READ);
	if (transport->protocol.table == NULL)
		rearm_hold_read_cb(&transport->rearm);
	if (transport->watch != NULL)
		transport->watch->close_at =
		    transport_deadline(clock_now(), transport->watch->close_timeout);
	if (transport->out.half == OUT_BROKEN)
		transport_end(transport, transport->out.error);
	else
		transport_settle_close(transport);
	transport_arm_watch(transport);
}

void transport_dismiss_watcher(struct ferry_transport *transport)
{
	const struct transport_watcher *watcher = transport->out.watcher;

	transport_set_watcher(transport, NULL);
	if (watcher != NULL)
		watcher->gone(transport);
}

void transport_close_with_peer(struct ferry_transport *transport)
{
	/* The queue is still sent, but the close waits for no producer: one without more to write would never
	 * unregister. */
	transport_dismiss_watcher(transport);
	if (!transport_is_over(transport))
		close_when_sent(transport);
}

void transport_close_with_peer_later(struct ferry_transport *transport)
{
	if (transport->out.watcher == NULL) {
		transport_close_with_peer(transport);
		return;
	}
	transport->in.close_due = true;
	transport_want_loop(transport);
}

void transport_settle_close_due(struct ferry_transport *transport)
{
	bool due = transport->in.close_due && !transport_is_over(transport);

	transport->in.close_due = false;
	if (due)
		transport_close_with_peer(transport);
}

void transport_report_event(struct ferry_transport *transport, short what, int error)
{
	struct bufferevent *bev = transport->rearm.bev;
	/* A protocol that flushes belongs to a layer above, which wants to know. */
	bool later = transport->out.step.silent && transport->protocol.table == NULL;

	bufferevent_disable(bev, (what & BEV_EVENT_READING) != 0 ? EV_READ : EV_WRITE);
	errno = error; /* the callback reads it */
	bufferevent_trigger_event(bev, what, later ? BEV_TRIG_DEFER_CALLBACKS : 0);
	transport_watch_peer(transport);
}

void transport_disable_ended(struct ferry_transport *transport, short what)
{
	if (transport->freed)
		return;
	bufferevent_disable(transport->rearm.bev, what);
	/* While connecting, libevent keeps the write event. */
	rearm_stop_waiting(&transport->rearm);
}

/* ---- what users call ---- */

int ferry_transport_lose_connection(struct ferry_transport *transport)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = transport_is_over(transport) ? -ENOTCONN : 0;
	if (status == 0)
		close_when_sent(transport);
	bufferevent_unlock(bev);
	return status;
}

int ferry_transport_lose_write_connection(struct ferry_transport *transport)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = transport_is_over(transport) ? -ENOTCONN : 0;
	if (status == 0) {
		transport_write_half_closing(transport);
		transport_settle_close(transport);
	}
	bufferevent_unlock(bev);
	return status;
}

/* Undoing the connect makes TCP send a reset at once; close(2) with a zero linger does it only when the last copy of
 * the descriptor is closed. With TLS there is only the latter, and the end of the stream must not be sent before.
 * Returns what is then to be shut down. */
static int reset(const struct ferry_transport *transport, int fd)
{
	const struct linger none = {.l_onoff = 1};

	if (transport_has_tls(transport))
		return setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none)) == 0 ? SHUT_RD
		                                                                       : SHUT_RDWR;
	if (transport->is_inet)
		(void)connect(fd, &(struct sockaddr){.sa_family = AF_UNSPEC}, sizeof(struct sockaddr));
	return SHUT_RDWR;
}

int ferry_transport_abort_connection(struct ferry_transport *transport)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = -ENOTCONN;
	if (!transport_is_over(transport)) {
		transport->peer_closed = transport_peer_has_closed(transport);
		int how = reset(transport, bufferevent_getfd(bev));
		end_transport(transport, -ECONNABORTED, how, false); /* shutdown(2) finds no connection */
		status = 0;
	}
	bufferevent_unlock(bev);
	return status;
}

void transport_close_socket(struct ferry_transport *transport)
{
	int fd = bufferevent_getfd(transport->rearm.bev);

	if (transport->on_pipes || fd < 0)
		return;
	transport_stop_watching(transport);
	rearm_forget_fds(&transport->rearm, EV_READ | EV_WRITE);
	close(fd);
}

/* Reads a timeout of the user's; NULL is none. */
static int read_timeout(const struct timeval *timeout, int64_t *usec)
{
	*usec = timeout != NULL ? clock_from_timeval(timeout) : TRANSPORT_NO_TIMEOUT;
	return timeout != NULL && *usec < 0 ? -EINVAL : 0;
}

static void set_linger(struct ferry_transport *transport, struct transport_watch *watch,
                       int64_t usec)
{
	watch->linger_timeout = usec;
	if (watch->lingering) {
		watch->linger_at = transport_deadline(clock_now(), usec);
		transport_arm_watch(transport);
	}
}

/* What a transport has that does not linger, or that is as it was at first, needs no watch: it cannot fail. */
int ferry_transport_set_linger_timeout(struct ferry_transport *transport,
                                       const struct timeval *timeout)
{
	int64_t usec;

	if (transport == NULL || read_timeout(timeout, &usec) < 0)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	bool needed = usec != 0 && usec != TRANSPORT_LINGER_USEC;
	struct transport_watch *watch = needed ? transport_need_watch(transport) : transport->watch;
	bool done = watch != NULL || !needed;
	if (done)
		transport->out.no_linger = usec == 0;
	if (watch != NULL)
		set_linger(transport, watch, usec);
	bufferevent_unlock(bev);
	return done ? 0 : -ENOMEM;
}

int ferry_transport_set_close_timeout(struct ferry_transport *transport,
                                      const struct timeval *timeout)
{
	int64_t usec;

	if (transport == NULL || read_timeout(timeout, &usec) < 0)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	bool needed = usec != TRANSPORT_NO_TIMEOUT;
	struct transport_watch *watch = needed ? transport_need_watch(transport) : transport->watch;
	if (watch != NULL) {
		watch->close_timeout = usec;
		watch->close_at = transport_deadline(clock_now(), usec);
		transport_arm_watch(transport);
	}
	bufferevent_unlock(bev);
	return watch != NULL || !needed ? 0 : -ENOMEM;
}

/* From the loop, when no callback of the transport is on the stack. */
static void release_transport(struct event *event, void *argument)
{
	(void)event;
	struct ferry_transport *transport = argument;

	while (marks_notify(transport->out.stream.marks))
		continue;
	marks_free(transport->out.stream.marks);
	incoming_release(&transport->in.stream);
	free(transport->fd_cbs);
	transport_free_watch(transport);
	rearm_free(&transport->rearm);
	free(transport);
}

void ferry_transport_free(struct ferry_transport *transport)
{
	if (transport == NULL)
		return;
	struct bufferevent *bev = transport_lock(transport);
	if (!transport->freed) {
		transport->freed = true;
		if (transport->on_free != NULL) /* before stop_producing, which is the user's */
			transport->on_free(transport->on_free_argument);
		transport_stop_watching(transport);
		transport_dismiss_watcher(transport);
		transport_close_pending(transport);
		outgoing_stop(&transport->out.stream, -ECANCELED);
		/* No shutdown(2): it would end the connection for copies of the socket in other processes. */
		if (transport->on_pipes)
			close_pipes(transport);
		rearm_detach(&transport->rearm);
		deferred_free(transport->loop_event, release_transport);
	}
	bufferevent_unlock(bev);
}

/* ---- giving the bufferevent back ---- */

/* Whether all that ferry has of the connection is in the bufferevent's two buffers. */
static int check_detach(const struct ferry_transport *transport)
{
	const struct marks *marks = transport->out.stream.marks;
	bool closing = transport->life == TRANSPORT_CLOSING || transport->out.half == OUT_CLOSING ||
	               transport->in.close_due;
	bool received =
	    transport->in.pending_count > 0 || transport->in.loss_pending || transport->in.fds_follow;

	if (transport_is_over(transport))
		return -ENOTCONN;
	if (marks_fd_count(marks) > 0 || marks_file_count(marks) > 0 || received || closing)
		return -EBUSY;
	return transport->out.watcher != NULL || transport->owned ? -EBUSY : 0;
}

int ferry_transport_detach(struct ferry_transport *transport, struct bufferevent **out)
{
	if (transport == NULL || out == NULL || transport->on_pipes)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = check_detach(transport);
	if (status == 0)
		status = rearm_give_back(&transport->rearm);
	if (status == 0) {
		transport->freed = true;
		transport_stop_watching(transport);
		outgoing_leave(&transport->out.stream);
		if (transport->on_free != NULL)
			transport->on_free(transport->on_free_argument);
		deferred_free(transport->loop_event, release_transport);
		*out = bev;
	}
	bufferevent_unlock(bev);
	return status;
}
