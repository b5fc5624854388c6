#include "transport/transport.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "file/read_ahead.h"

/*
 * How a connection ends: closed once all is sent, by half or whole, aborted, broken, or freed.
 */

/* Closes what the transport itself has to close: pipes. */
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

static void shut_down(struct ferry_transport *transport, int how)
{
	if (!transport->on_pipes)
		shutdown(bufferevent_getfd(transport->rearm.bev), how);
	else if (how == SHUT_WR)
		close_write_pipe(transport);
	else
		close_pipes(transport);
}

void transport_end(struct ferry_transport *transport, int reason)
{
	if (transport_is_over(transport))
		return;
	transport->state = TRANSPORT_LOST;
	transport->reason = transport->broken != 0 ? transport->broken : reason;
	if (transport->rearm.connecting)
		transport->made = true; /* it never stood, and so connection_made does not run */
	bufferevent_disable(transport->rearm.bev, EV_READ | EV_WRITE);
	transport_close_kept(transport);
	/* While connecting, libevent keeps the write event. */
	rearm_stop_waiting(&transport->rearm);
	shut_down(transport, SHUT_RDWR);
	transport_want_loop(transport);
	/* Last: callbacks of the user's on the buffer run in here, and may free the transport. */
	outgoing_stop(&transport->outgoing, reason != 0 ? reason : -ECANCELED);
}

void transport_settle_close(struct ferry_transport *transport)
{
	bool closing = transport->state == TRANSPORT_CLOSING;

	if (transport_is_over(transport) || transport->watcher != NULL)
		return;
	if ((closing || transport->write_closing) && !transport->write_ended &&
	    !transport->rearm.connecting && outgoing_is_sent(&transport->outgoing)) {
		if (outgoing_close_fds(&transport->outgoing) > 0)
			transport->fds_dropped = true;
		transport->write_ended = true;
		if (!closing)
			shut_down(transport, SHUT_WR);
	}
	if (transport->write_ended && (closing || (transport->read_ended && !transport->held_back)))
		transport_end(transport, transport->fds_dropped ? -ENODATA : 0);
}

void transport_close(struct ferry_transport *transport)
{
	if (transport->state != TRANSPORT_OPEN)
		return;
	transport->state = TRANSPORT_CLOSING;
	bufferevent_disable(transport->rearm.bev, EV_READ);
	if (transport->broken != 0)
		transport_end(transport, transport->broken);
	else
		transport_settle_close(transport);
}

int ferry_transport_lose_connection(struct ferry_transport *transport)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = transport_is_over(transport) ? -ENOTCONN : 0;
	if (status == 0)
		transport_close(transport);
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
		transport->write_closing = true;
		transport_settle_close(transport);
	}
	bufferevent_unlock(bev);
	return status;
}

int ferry_transport_abort_connection(struct ferry_transport *transport)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	int status = -ENOTCONN;
	if (!transport_is_over(transport)) {
		/* Undoing the connect makes TCP send a reset at once; close(2) with a zero linger would do
		 * it only when the last copy of the descriptor is closed. */
		if (transport->outgoing.is_inet)
			(void)connect(bufferevent_getfd(bev), &(struct sockaddr){.sa_family = AF_UNSPEC},
			              sizeof(struct sockaddr));
		transport_end(transport, -ECONNABORTED);
		status = 0;
	}
	bufferevent_unlock(bev);
	return status;
}

/* Runs in the loop, after every callback of the transport that was under way. */
static void finalise(struct event *event, void *argument)
{
	(void)event;
	struct ferry_transport *transport = argument;

	while (outgoing_report(&transport->outgoing))
		continue;
	outgoing_release(&transport->outgoing);
	read_ahead_release(transport->read_ahead);
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
		transport_dismiss_watcher(transport);
		transport_close_kept(transport);
		outgoing_stop(&transport->outgoing, -ECANCELED);
		if (transport->state < TRANSPORT_LOST)
			shut_down(transport, SHUT_RDWR);
		if (transport->on_free != NULL)
			transport->on_free(transport->on_free_argument);
		rearm_detach(&transport->rearm);
		event_free_finalize(0, transport->loop_event, finalise);
	}
	bufferevent_unlock(bev);
}
