#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>

#include "endpoint/address.h"
#include "endpoint/admission.h"
#include "endpoint/connection.h"
#include "endpoint/listener.h"
#include "endpoint/socket_file.h"
#include "ferry/listener.h"
#include "transport/transport.h"
#include "util/log.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* Linux 6.16 */
#endif

/* A listener accepts when its socket is readable, and hands each connection on as a transport.
 *
 *             disable                       no descriptor, no memory
 *   STOPPED <---------  ACCEPTING  ------------------------------------>  PAUSED
 *           --------->      ^                                               | |
 *             enable        '----------------- 100 ms later ----------------' |
 *      ^                                                                      |
 *      '------------------------------- disable ------------------------------'
 *
 * PAUSED is there because a connection that cannot be accepted stays in the backlog and keeps the
 * socket readable: without a pause the loop would spin. libevent's evconnlistener does spin, sets
 * SO_KEEPALIVE and cannot be freed in its own error callback, and so is not used. */

enum {
	/* Then other events get their turn; the socket is still readable, if more wait. */
	ACCEPTS_PER_WAKEUP = 64,
	PAUSE_MICROSECONDS = 100000,
	MODE_DEFAULT = 0600,
	OPTIONS_SIZE_MAX = 4096 /* no version is as large: `size` was never set */
};

enum state { STOPPED, ACCEPTING, PAUSED };

enum pass_rights { AS_IT_IS, PASS, REFUSE };

struct ferry_listener {
	struct event_base *base;
	enum state state;
	bool short_of_something; /* since a line about it was logged */
	bool adopted;            /* the socket is the caller's */
	enum pass_rights pass_rights;
	int fd;
	struct socket_file file;
	struct event *readable; /* NULL, as is pause_over: there is no callback, and it stays STOPPED */
	struct event *pause_over;
	struct admission admission;
	struct ferry_listener_stats stats;
	int64_t next_line;     /* when the next connection that is turned away gets one in the log */
	uint64_t without_line; /* how many have got none since */
	bool *freed; /* set by ferry_listener_free(), for the accept loop that it was called from */
	ferry_listener_accepted_cb accepted;
	void *context;
};

static int start_accepting(struct ferry_listener *listener)
{
	if (event_add(listener->readable, NULL) < 0)
		return -ENOMEM;
	event_del(listener->pause_over);
	listener->state = ACCEPTING;
	return 0;
}

static void pause_accepting(struct ferry_listener *listener)
{
	const struct timeval pause = {.tv_usec = PAUSE_MICROSECONDS};

	/* Without a timer nothing would end the pause: then rather spin than be deaf for good. */
	if (event_add(listener->pause_over, &pause) < 0)
		return;
	event_del(listener->readable);
	listener->state = PAUSED;
	listener->stats.pauses++;
}

/* The timer is persistent: where accepting cannot start again now, it comes back. */
static void on_pause_over(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	start_accepting(argument);
}

/* Once per shortage, not ten times a second. */
static void tell(struct ferry_listener *listener, const char *what, int error)
{
	if (!listener->short_of_something)
		log_line(FERRY_LOG_WARNING, "listener %d: %s: %s; trying again every %d ms", listener->fd,
		         what, strerror(error), PAUSE_MICROSECONDS / 1000);
	listener->short_of_something = true;
}

/* What accept(2) said; whether the next connection may be tried. */
static bool accept_failed(struct ferry_listener *listener, int error)
{
	switch (error) {
	case EAGAIN:
		return false;

	case EINTR:
	case ECONNABORTED:
	/* Linux reports errors of the network that wait on the new socket, which is gone with that. */
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
		/* EMFILE, ENFILE, ENOBUFS, ENOMEM, which pass; and what a security module or another owner
		 * of the socket has done to it (EPERM, EINVAL after shutdown(2)), which may. All of them
		 * leave the socket readable. */
		tell(listener, "accept", error);
		pause_accepting(listener);
		return false;
	}
}

static int64_t seconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* A connection is turned away: one line a second at most, because whoever connects decides how many there
 * are. `uid` is -1 where it does not matter. */
static void tell_turned_away(struct ferry_listener *listener, uid_t uid, const char *why)
{
	const int64_t now = seconds_now();

	if (now < listener->next_line) {
		listener->without_line++;
		return;
	}
	if (uid != (uid_t)-1)
		log_line(FERRY_LOG_WARNING, "listener %d: a connection of user %lu was refused: %s",
		         listener->fd, (unsigned long)uid, why);
	else
		log_line(FERRY_LOG_WARNING, "listener %d: a connection was dropped: %s", listener->fd, why);
	if (listener->without_line > 0)
		log_line(FERRY_LOG_WARNING, "listener %d: and %llu connections before it", listener->fd,
		         (unsigned long long)listener->without_line);
	listener->without_line = 0;
	listener->next_line = now + 1;
}

/* Why a connection is not handed on; whether the next one may be tried. */
static bool turn_away(struct ferry_listener *listener, int status, uid_t uid)
{
	switch (status) {
	case -EACCES:
		listener->stats.refused_peers++;
		tell_turned_away(listener, uid, "neither the user nor its groups are allowed");
		return true;

	case -EDQUOT:
		listener->stats.refused_over_limit++;
		tell_turned_away(listener, uid, "it has as many as it may have");
		return true;

	case -ENOMEM:
		listener->stats.dropped++;
		tell(listener, "a connection was dropped", -status);
		pause_accepting(listener);
		return false;

	default:
		listener->stats.dropped++;
		tell_turned_away(listener, (uid_t)-1, strerror(-status));
		return true;
	}
}

static int set_pass_rights(int fd, enum pass_rights pass_rights)
{
	const int value = pass_rights == PASS;
	return setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &value, sizeof(value)) < 0 ? -errno : 0;
}

/* Before anything is read. The socket has its listener's options of the moment of connect(2). */
static int examine(struct ferry_listener *listener, int fd, struct ucred *peer,
                   struct quota_share **share)
{
	const int status = admission_ask(&listener->admission, fd, peer, share);
	if (status != 0 || listener->pass_rights == AS_IT_IS)
		return status;
	return set_pass_rights(fd, listener->pass_rights);
}

/* An accepted socket, which is taken, becomes a transport, or is closed. */
static int admit(struct ferry_listener *listener, int fd, struct ferry_transport **transport,
                 struct ucred *peer)
{
	struct quota_share *share = NULL;
	int status = examine(listener, fd, peer, &share);
	if (status != 0)
		close(fd);
	else
		status = connection_to_transport(transport, listener->base, fd);

	if (status != 0 && share != NULL)
		quota_give_back(share);
	if (status == 0 && share != NULL) {
		(*transport)->on_free = quota_give_back;
		(*transport)->on_free_argument = share;
	}
	return status;
}

/* Whether the next one may be tried. The callback is the last thing here: it may free the
 * listener. */
static bool accept_one(struct ferry_listener *listener)
{
	struct ferry_transport *transport;
	struct ucred peer;
	const int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return accept_failed(listener, errno);

	const int status = admit(listener, fd, &transport, &peer);
	if (status != 0)
		return turn_away(listener, status, peer.uid);
	listener->short_of_something = false;
	listener->stats.accepted++;
	listener->accepted(listener, transport, listener->context);
	return true;
}

/* Readable, and nobody to accept: another process that listens on the same socket was faster. Or
 * it has shut the socket down: a unix socket is then readable for good while a non-blocking
 * accept(2) says EAGAIN, where other sockets say EINVAL. */
static void woken_for_nothing(struct ferry_listener *listener)
{
	struct pollfd socket = {.fd = listener->fd, .events = POLLRDHUP};
	if (poll(&socket, 1, 0) > 0) {
		tell(listener, "accept", EINVAL);
		pause_accepting(listener);
	}
}

static void on_readable(evutil_socket_t fd, short what, void *argument)
{
	struct ferry_listener *listener = argument;
	bool freed = false;
	int tried = 0;
	(void)fd, (void)what;

	listener->freed = &freed;
	while (tried < ACCEPTS_PER_WAKEUP && accept_one(listener) && !freed &&
	       listener->state == ACCEPTING)
		tried++;
	if (freed)
		return;
	listener->freed = NULL;
	if (tried == 0 && listener->state == ACCEPTING)
		woken_for_nothing(listener);
}

/* A listener without a socket. */
static int listener_new(struct ferry_listener **out, struct event_base *base,
                        ferry_listener_accepted_cb accepted, void *context)
{
	struct ferry_listener *listener = calloc(1, sizeof(*listener));
	if (listener == NULL)
		return -ENOMEM;
	listener->base = base;
	listener->fd = -1;
	listener->file = SOCKET_FILE_NONE;
	listener->accepted = accepted;
	listener->context = context;
	*out = listener;
	return 0;
}

static int open_socket(struct ferry_listener *listener, const struct address *address,
                       const struct ferry_listener_options *options)
{
	const struct socket_file_access access = {options->mode, options->owner, options->group};

	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return -errno;

	int status = 0;
	if (!address_is_abstract(address))
		status = socket_file_bind(&listener->file, listener->fd, address, &access, options->lock);
	else if (bind(listener->fd, (const struct sockaddr *)&address->un, address->length) < 0)
		status = -errno;
	if (status == 0 && listen(listener->fd, options->backlog) < 0)
		status = -errno;
	return status;
}

static int watch_socket(struct ferry_listener *listener)
{
	listener->readable =
	    event_new(listener->base, listener->fd, EV_READ | EV_PERSIST, on_readable, listener);
	listener->pause_over = event_new(listener->base, -1, EV_PERSIST, on_pause_over, listener);
	if (listener->readable == NULL || listener->pause_over == NULL)
		return -ENOMEM;
	return start_accepting(listener);
}

/* Members that a newer program has set and this library does not know. Their default is zero. */
static bool has_unknown_options(const struct ferry_listener_options *options)
{
	const unsigned char *bytes = (const unsigned char *)options;

	for (size_t i = sizeof(*options); i < options->size; i++)
		if (bytes[i] != 0)
			return true;
	return false;
}

/* The options with their defaults filled in. A member of a later version must not lie in today's padding,
 * which an older program leaves as it is. */
static int read_options(struct ferry_listener_options *out,
                        const struct ferry_listener_options *options)
{
	static const struct ferry_listener_options defaults = FERRY_LISTENER_OPTIONS_INIT;

	if (options == NULL)
		options = &defaults;
	if (options->size < sizeof(*out) || options->size > OPTIONS_SIZE_MAX ||
	    has_unknown_options(options) || (options->mode & ~(mode_t)0777) != 0 ||
	    options->backlog < 0)
		return -EINVAL;

	*out = *options;
	if (out->mode == 0)
		out->mode = MODE_DEFAULT;
	if (out->backlog == 0)
		out->backlog = SOMAXCONN;
	return 0;
}

int ferry_listener_new_unix(struct ferry_listener **out, struct event_base *base, const char *path,
                            const struct ferry_listener_options *options,
                            ferry_listener_accepted_cb accepted, void *context)
{
	struct address address;
	struct ferry_listener_options given;
	struct ferry_listener *listener = NULL;

	if (out == NULL || base == NULL)
		return -EINVAL;

	int status = read_options(&given, options);
	if (status == 0)
		status = address_from_string(&address, path);
	if (status == 0)
		status = listener_new(&listener, base, accepted, context);
	if (status == 0)
		status = open_socket(listener, &address, &given);
	if (status == 0 && accepted != NULL)
		status = watch_socket(listener);

	if (status == 0)
		*out = listener;
	else
		ferry_listener_free(listener);
	return status;
}

/* Whether connections can be accepted from a descriptor that came from elsewhere. */
static int check_socket(int fd)
{
	int type = 0;
	int listening = 0;
	socklen_t length = sizeof(int);
	const int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0)
		return -errno;
	if (type != SOCK_STREAM)
		return -EPROTOTYPE;
	length = sizeof(int);
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) < 0)
		return -errno;
	return listening != 0 && (flags & O_NONBLOCK) != 0 ? 0 : -EINVAL;
}

int ferry_listener_new_fd(struct ferry_listener **out, struct event_base *base, int fd,
                          ferry_listener_accepted_cb accepted, void *context)
{
	struct ferry_listener *listener = NULL;

	if (out == NULL || base == NULL || accepted == NULL)
		return -EINVAL;

	int status = check_socket(fd);
	if (status == 0)
		status = listener_new(&listener, base, accepted, context);
	if (status == 0) {
		listener->fd = fd;
		listener->adopted = true;
		status = watch_socket(listener);
	}

	if (status == 0)
		*out = listener;
	else
		ferry_listener_free(listener);
	return status;
}

int ferry_listener_disable(struct ferry_listener *listener)
{
	if (listener == NULL)
		return -EINVAL;
	if (listener->accepted != NULL) {
		event_del(listener->readable);
		event_del(listener->pause_over);
	}
	listener->state = STOPPED;
	return 0;
}

int ferry_listener_enable(struct ferry_listener *listener)
{
	if (listener == NULL)
		return -EINVAL;
	if (listener->accepted == NULL)
		return -EOPNOTSUPP;
	return listener->state == STOPPED ? start_accepting(listener) : 0;
}

int ferry_listener_get_fd(const struct ferry_listener *listener)
{
	return listener != NULL ? listener->fd : -EINVAL;
}

/* ---- who may connect ---- */

/* 0: what is known of the other end, and can be set about it, is what a unix socket has. */
static int check_unix(const struct ferry_listener *listener)
{
	int domain = AF_UNSPEC;
	socklen_t length = sizeof(domain);

	if (listener == NULL)
		return -EINVAL;
	if (getsockopt(listener->fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0)
		return -errno;
	return domain == AF_UNIX ? 0 : -EOPNOTSUPP;
}

/* 0: it accepts connections whose user the kernel knows. */
static int check_accepts_unix(const struct ferry_listener *listener)
{
	const int status = check_unix(listener);
	return status == 0 && listener->accepted == NULL ? -EOPNOTSUPP : status;
}

int ferry_listener_allow_uid(struct ferry_listener *listener, uid_t uid)
{
	const int status = uid != (uid_t)-1 ? check_accepts_unix(listener) : -EINVAL;
	return status != 0 ? status : admission_allow_uid(&listener->admission, uid);
}

int ferry_listener_allow_gid(struct ferry_listener *listener, gid_t gid)
{
	const int status = gid != (gid_t)-1 ? check_accepts_unix(listener) : -EINVAL;
	return status != 0 ? status : admission_allow_gid(&listener->admission, gid);
}

int ferry_listener_set_max_connections_per_uid(struct ferry_listener *listener, unsigned int max)
{
	const int status = check_accepts_unix(listener);
	return status != 0 ? status : admission_limit(&listener->admission, max);
}

/* The listening socket's option is what connect(2) gives to the new one, so that nothing can be sent even
 * before accept(2). Who had connected by then is seen to in examine(). */
int ferry_listener_set_pass_rights(struct ferry_listener *listener, bool pass)
{
	const enum pass_rights pass_rights = pass ? PASS : REFUSE;
	int status = check_unix(listener);
	if (status != 0)
		return status;

	status = set_pass_rights(listener->fd, pass_rights);
	if (status == 0)
		listener->pass_rights = pass_rights;
	/* An older kernel always passes them. */
	return status == -ENOPROTOOPT && pass ? 0 : status;
}

int ferry_listener_get_stats(const struct ferry_listener *listener,
                             struct ferry_listener_stats *stats)
{
	if (listener == NULL || stats == NULL)
		return -EINVAL;
	*stats = listener->stats;
	return 0;
}

struct socket_file *listener_get_file(struct ferry_listener *listener)
{
	return &listener->file;
}

void ferry_listener_free(struct ferry_listener *listener)
{
	if (listener == NULL)
		return;
	if (listener->freed != NULL)
		*listener->freed = true;

	/* The events go before the socket: a descriptor that is closed while another process has the
	 * same socket open would stay in epoll for good. */
	if (listener->readable != NULL)
		event_free(listener->readable);
	if (listener->pause_over != NULL)
		event_free(listener->pause_over);
	socket_file_remove(&listener->file);
	admission_clear(&listener->admission);
	if (listener->fd >= 0 && !listener->adopted)
		close(listener->fd);
	free(listener);
}
