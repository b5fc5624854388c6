#include "programs/ferry-copy/peer.h"

#include "programs/shared/program.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

enum { TICKS_PER_SECOND = 10 };

/* The timeout is over after so many periods without progress. */
enum { PERIODS = 4 };

/* A server waits so many seconds for the first frame of a client, or for the timeout if that is shorter. */
enum { STRANGER_SECONDS = 10, BACKLOG = 16 };

bool peer_option(struct peer *peer, int option)
{
	switch (option) {
	case 'l':
	case 'c':
		peer->listens = option == 'l';
		return true;
	case 'r':
		if (program_number(optarg, LONG_MAX, &peer->limit) && peer->limit > 0)
			return true;
		program_log("--limit takes a number of bytes, from 1 on, not '%s'", optarg);
		return false;
	case 't':
		if (program_number(optarg, 86400, &peer->timeout))
			return true;
		program_log("--timeout takes seconds, 0 to 86400, not '%s'", optarg);
		return false;
	default:
		return false; /* getopt_long() has printed a message */
	}
}

/* The path in a unix address, or NULL for another address. */
static const char *unix_path(const char *address)
{
	if (address[0] == '@')
		return address;
	return strncmp(address, "unix:", 5) == 0 ? address + 5 : NULL;
}

/* "HOST:PORT" or "[HOST]:PORT", numbers only: nothing is looked up. */
static int parse_tcp(const char *text, struct sockaddr_storage *out, socklen_t *length)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
	                         .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
	struct addrinfo *found;
	char host[INET6_ADDRSTRLEN + 16];
	const char *colon = strrchr(text, ':');
	unsigned long port;
	if (colon == NULL || !program_number(colon + 1, 65535, &port))
		return -EINVAL;
	bool bracketed = text[0] == '[' && colon > text && colon[-1] == ']';
	size_t size = (size_t)(colon - text) - (bracketed ? 2 : 0);
	if (size == 0 || size >= sizeof(host))
		return -EINVAL;
	memcpy(host, text + bracketed, size);
	host[size] = '\0';
	if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
		return -EINVAL;
	memcpy(out, found->ai_addr, found->ai_addrlen);
	*length = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

/* ---- the connection ---- */

static int set_limit(struct peer *peer, struct bufferevent *bev)
{
	if (peer->limit == 0)
		return 0;
	/* Short ticks: the bytes flow evenly, without a burst each second. */
	size_t rate = peer->limit < TICKS_PER_SECOND ? 1 : peer->limit / TICKS_PER_SECOND;
	struct timeval tick = {.tv_usec = 1000000 / TICKS_PER_SECOND};
	if (peer->bucket == NULL)
		peer->bucket = ev_token_bucket_cfg_new(rate, rate, rate, rate, &tick);
	if (peer->bucket == NULL || bufferevent_set_rate_limit(bev, peer->bucket) < 0)
		return -ENOMEM;
	return 0;
}

/* The kernel detects a TCP peer whose host is down; on a unix socket the option has no effect. */
static void keep_alive(struct bufferevent *bev)
{
	int on = 1;
	setsockopt(bufferevent_getfd(bev), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}

/* The peer owns `transport`, also on failure. */
static int use_transport(struct peer *peer, struct ferry_transport *transport)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	peer->transport = transport;
	keep_alive(bev);
	int status = set_limit(peer, bev);
	return status < 0 ? status : peer->connected(peer, transport);
}

/* ---- timeouts ---- */

static void fail_peer(struct peer *peer, int status);

void peer_moves(struct peer *peer)
{
	const struct timeval period = {.tv_sec = (time_t)(peer->timeout / PERIODS),
	                               .tv_usec =
	                                   (suseconds_t)(peer->timeout % PERIODS) * 1000000 / PERIODS};
	peer->still = 0;
	if (peer->timeout > 0 && !event_pending(peer->watch, EV_TIMEOUT, NULL))
		event_add(peer->watch, &period);
}

void peer_pauses(struct peer *peer)
{
	event_del(peer->watch);
}

static void watch_passed(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct peer *peer = context;
	if (++peer->still < PERIODS)
		return;
	event_del(peer->watch);
	peer->expired = true;
	if (peer->transport != NULL)
		ferry_transport_abort_connection(peer->transport);
	else
		fail_peer(peer, -ETIMEDOUT);
}

const char *peer_loss(const struct peer *peer, int reason, const char *clean)
{
	if (peer->expired)
		return "no progress within the timeout";
	return reason != 0 ? strerror(-reason) : clean;
}

static void stranger_stays_silent(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct peer *peer = context;
	program_log("%s: dropped a client that did not introduce itself", peer->address);
	peer_pauses(peer);
	ferry_transport_free(peer->transport);
	peer->transport = NULL;
	int status = ferry_listener_enable(peer->listener);
	if (status < 0)
		fail_peer(peer, status);
}

static int init_timeouts(struct peer *peer)
{
	peer->watch = event_new(peer->base, -1, EV_PERSIST, watch_passed, peer);
	peer->stranger = evtimer_new(peer->base, stranger_stays_silent, peer);
	return peer->watch != NULL && peer->stranger != NULL ? 0 : -ENOMEM;
}

static int await_introduction(struct peer *peer)
{
	unsigned long seconds = STRANGER_SECONDS;
	if (peer->timeout > 0 && peer->timeout < seconds)
		seconds = peer->timeout;
	return event_add(peer->stranger, &(struct timeval){.tv_sec = (time_t)seconds});
}

static void fail_peer(struct peer *peer, int status)
{
	program_log("%s: %s", peer->address, strerror(-status));
	peer_is_over(peer);
}

static void stop_listening(struct peer *peer)
{
	ferry_listener_free(peer->listener);
	peer->listener = NULL;
	if (peer->listening_fd >= 0)
		close(peer->listening_fd);
	peer->listening_fd = -1;
}

static void peer_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                          void *context)
{
	(void)listener;
	struct peer *peer = context;
	/* One file needs one connection; the others wait in the backlog. */
	int status = ferry_listener_disable(peer->listener);
	if (status == 0)
		status = await_introduction(peer);
	if (status == 0)
		status = use_transport(peer, transport);
	else
		ferry_transport_free(transport);
	if (status < 0)
		fail_peer(peer, status);
}

void peer_is_introduced(struct peer *peer)
{
	event_del(peer->stranger);
	stop_listening(peer);
	peer_moves(peer);
}

static void peer_connected(struct ferry_connector *connector, int status,
                           struct ferry_transport *transport, void *context)
{
	(void)connector;
	struct peer *peer = context;
	peer->connector = NULL;
	if (status == 0)
		status = use_transport(peer, transport);
	if (status < 0)
		fail_peer(peer, status);
}

/* ---- TCP ---- */

static int connect_tcp(struct peer *peer, const struct sockaddr_storage *address, socklen_t length)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = bufferevent_socket_new(peer->base, -1, BEV_OPT_CLOSE_ON_FREE);
	if (bev == NULL)
		return -ENOMEM;
	errno = 0;
	int status = 0;
	if (bufferevent_socket_connect(bev, (const struct sockaddr *)address, (int)length) < 0)
		status = errno != 0 ? -errno : -ENOMEM;
	if (status == 0)
		status = ferry_transport_new(&transport, bev);
	if (status < 0) {
		bufferevent_free(bev);
		return status;
	}
	return use_transport(peer, transport);
}

static int listen_tcp(struct peer *peer, const struct sockaddr_storage *address, socklen_t length)
{
	int on = 1;
	int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	peer->listening_fd = fd;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(fd, (const struct sockaddr *)address, length) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return ferry_listener_new_fd(&peer->listener, peer->base, fd, peer_accepted, peer);
}

static int print_address(const struct peer *peer)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	char host[INET6_ADDRSTRLEN + 16], port[6];
	if (peer->listening_fd < 0) {
		printf("listening %s\n", peer->address);
	} else {
		if (getsockname(peer->listening_fd, (struct sockaddr *)&address, &length) < 0)
			return -errno;
		if (getnameinfo((struct sockaddr *)&address, length, host, sizeof(host), port, sizeof(port),
		                NI_NUMERICHOST | NI_NUMERICSERV) != 0)
			return -EINVAL;
		printf(strchr(host, ':') != NULL ? "listening tcp:[%s]:%s\n" : "listening tcp:%s:%s\n",
		       host, port);
	}
	fflush(stdout);
	return 0;
}

/* ---- from start to end ---- */

static int start_tcp(struct peer *peer, const char *text)
{
	struct sockaddr_storage address;
	socklen_t length;
	int status = parse_tcp(text, &address, &length);
	if (status < 0)
		return status;
	return peer->listens ? listen_tcp(peer, &address, length) : connect_tcp(peer, &address, length);
}

static int start_peer(struct peer *peer)
{
	const char *path = unix_path(peer->address);
	int status = -EINVAL;
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;
	options.backlog = BACKLOG;
	if (path != NULL && peer->listens)
		status = ferry_listener_new_unix(&peer->listener, peer->base, path, &options, peer_accepted,
		                                 peer);
	else if (path != NULL)
		status = ferry_connector_new_unix(&peer->connector, peer->base, path, NULL, peer_connected,
		                                  peer);
	else if (strncmp(peer->address, "tcp:", 4) == 0)
		status = start_tcp(peer, peer->address + 4);
	if (status == 0 && peer->listens)
		status = print_address(peer);
	return status;
}

static void run_loop(struct peer *peer)
{
	/* A signal ends the loop and not the process, which still has to tidy up its files. */
	struct program_signals signals = {0};
	int status = program_signals_init(&signals, peer->base);
	if (status == 0)
		status = init_timeouts(peer);
	if (status == 0)
		status = start_peer(peer);
	if (status == 0 && !peer->listens)
		peer_moves(peer);
	if (status == 0)
		event_base_dispatch(peer->base);
	else
		program_log("%s: %s", peer->address, strerror(-status));
	ferry_connector_free(peer->connector);
	stop_listening(peer);
	ferry_transport_free(peer->transport);
	if (peer->watch != NULL)
		event_free(peer->watch);
	if (peer->stranger != NULL)
		event_free(peer->stranger);
	program_signals_free(&signals);
}

int peer_run(struct peer *peer)
{
	peer->listening_fd = -1;
	peer->base = event_base_new();
	if (peer->base == NULL) {
		program_log("no event loop");
		return EXIT_FAILURE;
	}
	run_loop(peer);
	bool interrupted = event_base_got_break(peer->base) != 0;
	/* Freed transports, and the files in their streams, are finalised in the loop. */
	for (int turn = 0; turn < 4; turn++)
		event_base_loop(peer->base, EVLOOP_NONBLOCK);
	peer->ended(peer);
	if (peer->bucket != NULL)
		ev_token_bucket_cfg_free(peer->bucket);
	event_base_free(peer->base);
	if (interrupted)
		program_log("stopped by a signal");
	return peer->succeeded && !interrupted ? EXIT_SUCCESS : EXIT_FAILURE;
}

void peer_is_over(struct peer *peer)
{
	event_base_loopexit(peer->base, NULL);
}
