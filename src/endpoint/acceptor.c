#include "endpoint/acceptor.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>

#include "endpoint/connection.h"
#include "kernel/clock.h"
#include "kernel/socket.h"
#include "transport/interface.h"
#include "util/log.h"

/* An acceptor accepts when its socket is readable.
 *
 *              stop                         no descriptor, no memory
 *   STOPPED <---------  ACCEPTING  ------------------------------------>  PAUSED
 *           --------->      ^                                               | |
 *              start        '----------------- 100 ms later ----------------' |
 *      ^                                                                      |
 *      '--------------------------------- stop -------------------------------'
 *
 * A connection that cannot be accepted stays in the backlog and keeps the socket readable: without PAUSED the
 * loop would spin. libevent's evconnlistener does spin, sets SO_KEEPALIVE and cannot be freed in its own error
 * callback, and so is not used. */

enum {
	/* After these other events get their turn; the socket is still readable if more connections wait. */
	ACCEPTS_PER_WAKEUP = 64,
	PAUSE_USEC = CLOCK_SECOND / 10
};

static int resume_accepting(struct acceptor *acceptor)
{
	if (event_add(acceptor->readable, NULL) < 0)
		return -ENOMEM;
	event_del(acceptor->pause_over);
	acceptor->state = ACCEPTOR_ACCEPTING;
	return 0;
}

static void pause_accepting(struct acceptor *acceptor)
{
	const struct timeval pause = clock_to_timeval(PAUSE_USEC);

	/* Without a timer nothing would end the pause: a loop that spins is better than a deaf listener. */
	if (event_add(acceptor->pause_over, &pause) < 0)
		return;
	event_del(acceptor->readable);
	acceptor->state = ACCEPTOR_PAUSED;
	acceptor->stats.pauses++;
}

/* The timer is persistent: if accepting cannot resume now, the timer tries again. */
static void on_pause_over(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	resume_accepting(argument);
}

/* Logs once per shortage, not ten times a second. */
static void log_shortage(struct acceptor *acceptor, const char *what, int error)
{
	if (!acceptor->in_shortage)
		log_line(FERRY_LOG_WARNING, "listener %d: %s: %s; trying again every %d ms", acceptor->fd,
		         what, strerror(error), PAUSE_USEC / 1000);
	acceptor->in_shortage = true;
}

/* After accept4(2) failed with `error`: whether to accept the next connection. */
static bool handle_accept_error(struct acceptor *acceptor, int error)
{
	switch (error) {
	case EAGAIN:
		return false;

	case EINTR:
	case ECONNABORTED:
	/* Linux reports errors of the network that are pending on the new socket, and drops that. */
	case ENETDOWN:
	case EPROTO:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case EOPNOTSUPP:
	case ENETUNREACH:
	case ETIMEDOUT:
		return true;

	default:
		/* EMFILE, ENFILE, ENOBUFS and ENOMEM pass. EPERM of a security module and EINVAL after shutdown(2)
		 * by another owner of the socket may pass. All of them leave the socket readable. */
		log_shortage(acceptor, "accept", error);
		pause_accepting(acceptor);
		return false;
	}
}

/* After a connection was closed because of `status`: whether to accept the next connection. */
static bool handle_refusal(struct acceptor *acceptor, int status, uid_t uid)
{
	switch (status) {
	case -EACCES:
		acceptor->stats.refused_peers++;
		refusals_log(&acceptor->refusals, acceptor->fd, uid,
		             "neither the user nor its groups are allowed");
		return true;

	case -EDQUOT:
		acceptor->stats.refused_over_limit++;
		refusals_log(&acceptor->refusals, acceptor->fd, uid, "it has as many as it may have");
		return true;

	case -ENOMEM:
		acceptor->stats.dropped++;
		log_shortage(acceptor, "a connection was dropped", -status);
		pause_accepting(acceptor);
		return false;

	default:
		acceptor->stats.dropped++;
		refusals_log(&acceptor->refusals, acceptor->fd, (uid_t)-1, strerror(-status));
		return true;
	}
}

/* Decides about an accepted socket before anything is read from it. The socket has the options that the
 * listening socket had at connect(2), so SO_PASSRIGHTS may have changed since. */
static int check_client(struct acceptor *acceptor, int fd, struct ucred *peer,
                        struct quota_share **share)
{
	const int status = admission_check(&acceptor->admission, fd, peer, share);
	if (status != 0 || acceptor->rights == ACCEPTOR_RIGHTS_INHERITED)
		return status;
	return socket_set_pass_rights(fd, acceptor->rights == ACCEPTOR_RIGHTS_PASSED);
}

static int make_transport(struct acceptor *acceptor, int fd, struct ferry_transport **out,
                          struct quota_share *share)
{
	struct ferry_transport *transport;
	int status = connection_to_transport(&transport, acceptor->base, fd);
	if (status != 0)
		return status;
	status = roster_add(&acceptor->roster, transport, share);
	if (status == 0) {
		*out = transport;
	} else {
		transport_close_socket(transport);
		ferry_transport_free(transport);
	}
	return status;
}

/* Takes an accepted socket, and makes a transport of it or closes it. */
static int admit_connection(struct acceptor *acceptor, int fd, struct ferry_transport **transport,
                            struct ucred *peer)
{
	struct quota_share *share = NULL;
	int status = check_client(acceptor, fd, peer, &share);
	if (status != 0)
		close(fd);
	else
		status = make_transport(acceptor, fd, transport, share);

	if (status != 0 && share != NULL)
		quota_give_back(share);
	return status;
}

/* Whether to accept the next connection. The callback comes last, because it may free the listener and with it
 * the acceptor. */
static bool accept_one(struct acceptor *acceptor)
{
	struct ferry_transport *transport;
	struct ucred peer;
	const int fd = accept4(acceptor->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return handle_accept_error(acceptor, errno);

	const int status = admit_connection(acceptor, fd, &transport, &peer);
	if (status != 0)
		return handle_refusal(acceptor, status, peer.uid);
	acceptor->in_shortage = false;
	acceptor->stats.accepted++;
	acceptor->accepted(acceptor->listener, transport, acceptor->context);
	return true;
}

/* The socket was readable, and accept4(2) found no connection. Either another process that accepts on the same
 * socket was faster, or another process has shut the socket down: then a unix socket stays readable for good
 * and accept4(2) fails with EAGAIN, where it fails with EINVAL on other sockets. */
static void check_shutdown(struct acceptor *acceptor)
{
	struct pollfd socket = {.fd = acceptor->fd, .events = POLLRDHUP};
	if (poll(&socket, 1, 0) > 0) {
		log_shortage(acceptor, "accept", EINVAL);
		pause_accepting(acceptor);
	}
}

static void on_readable(evutil_socket_t fd, short what, void *argument)
{
	struct acceptor *acceptor = argument;
	bool freed = false;
	int tried = 0;
	(void)fd, (void)what;

	acceptor->freed = &freed;
	while (tried < ACCEPTS_PER_WAKEUP && accept_one(acceptor) && !freed &&
	       acceptor->state == ACCEPTOR_ACCEPTING)
		tried++;
	if (freed)
		return;
	acceptor->freed = NULL;
	if (tried == 0 && acceptor->state == ACCEPTOR_ACCEPTING)
		check_shutdown(acceptor);
}

static int make_events(struct acceptor *acceptor)
{
	if (acceptor->readable == NULL)
		acceptor->readable =
		    event_new(acceptor->base, acceptor->fd, EV_READ | EV_PERSIST, on_readable, acceptor);
	if (acceptor->pause_over == NULL)
		acceptor->pause_over = event_new(acceptor->base, -1, EV_PERSIST, on_pause_over, acceptor);
	return acceptor->readable != NULL && acceptor->pause_over != NULL ? 0 : -ENOMEM;
}

int acceptor_start(struct acceptor *acceptor, int fd)
{
	if (acceptor->state != ACCEPTOR_STOPPED)
		return 0;
	acceptor->fd = fd;
	const int status = make_events(acceptor);
	return status == 0 ? resume_accepting(acceptor) : status;
}

void acceptor_stop(struct acceptor *acceptor)
{
	if (acceptor->state == ACCEPTOR_STOPPED)
		return;
	event_del(acceptor->readable);
	event_del(acceptor->pause_over);
	acceptor->state = ACCEPTOR_STOPPED;
}

void acceptor_clear(struct acceptor *acceptor)
{
	if (acceptor->freed != NULL)
		*acceptor->freed = true;
	if (acceptor->readable != NULL)
		event_free(acceptor->readable);
	if (acceptor->pause_over != NULL)
		event_free(acceptor->pause_over);
	roster_clear(&acceptor->roster);
	admission_clear(&acceptor->admission);
}
