#include "programs/ferry-proxy/client_listener.h"

#include "programs/shared/client_address.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/event.h>

/*
 * A wake-up accepts at most `batch` clients, so that a single client does not cost a call that finds the backlog
 * empty. The batch grows while clients are left, and shrinks to the number that was there.
 */
enum { BATCH_MAX = 64, FULL_BATCHES = 4 };

enum { SILENT_SEC = 1 }; /* after which the kernel shows a client that has sent nothing */

struct client_listener {
	const struct client_listener_callbacks *callbacks;
	void *context;
	const struct conf_listen *conf;
	struct event *event;
	int fd;
	bool enabled;
	unsigned int batch;
	unsigned int full;           /* batches in a row that have found as many clients */
	struct ferry_address server; /* of all connections; length 0: each has its own */
};

/* ---- addresses ---- */

static bool is_wildcard(const struct ferry_address *address)
{
	if (address->name.any.sa_family == AF_INET)
		return address->name.in.sin_addr.s_addr == htonl(INADDR_ANY);
	return address->name.any.sa_family == AF_INET6 &&
	       IN6_IS_ADDR_UNSPECIFIED(&address->name.in6.sin6_addr);
}

/* The kernel's rules may direct connections to any address to such a socket. */
static bool is_transparent(int fd)
{
	int transparent = 0;
	socklen_t length = sizeof(transparent);
	return getsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &transparent, &length) == 0 &&
	       transparent != 0;
}

static void learn_server(struct client_listener *listener)
{
	ferry_address_set_own(&listener->server, listener->fd);
	if (is_wildcard(&listener->server) || is_transparent(listener->fd))
		listener->server.length = 0;
}

static void find_server(const struct client_listener *listener, int fd,
                        struct ferry_address *server)
{
	if (listener->server.length > 0)
		*server = listener->server;
	else
		ferry_address_set_own(server, fd); /* or there is none */
}

/* ---- accepting ---- */

static void report(const struct client_listener *listener, int fd, const struct sockaddr *name,
                   socklen_t length)
{
	struct client_address address = {.proxied = false};
	if (ferry_address_set(&address.client, name, length) < 0) {
		close(fd); /* a family that the proxy does not listen on */
		return;
	}
	find_server(listener, fd, &address.server);
	listener->callbacks->accepted(fd, &address, listener->conf, listener->context);
}

bool client_listener_accept(struct client_listener *listener)
{
	struct sockaddr_storage name;
	socklen_t length = sizeof(name);
	int fd = accept4(listener->fd, (struct sockaddr *)&name, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0)
		report(listener, fd, (struct sockaddr *)&name, length);
	else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		listener->callbacks->failed(errno, listener->context);
	else
		return errno == ECONNABORTED; /* it has gone, and others may be behind it */
	return fd >= 0;
}

static void adapt_batch(struct client_listener *listener, unsigned int accepted)
{
	if (accepted < listener->batch) {
		listener->batch = accepted > 0 ? accepted : 1;
		listener->full = 0;
	} else if (++listener->full == FULL_BATCHES) {
		listener->batch = listener->batch < BATCH_MAX / 2 ? listener->batch * 2 : BATCH_MAX;
		listener->full = 0;
	}
}

static void accept_batch(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct client_listener *listener = context;
	unsigned int accepted = 0;
	while (accepted < listener->batch && client_listener_accept(listener)) {
		accepted++;
		if (!listener->enabled)
			return;
	}
	adapt_batch(listener, accepted);
}

/* ---- all of it ---- */

int client_listener_new(struct client_listener **out, struct event_base *base, int fd,
                        const struct conf_listen *conf,
                        const struct client_listener_callbacks *callbacks, void *context)
{
	struct client_listener *listener = malloc(sizeof(*listener));
	if (listener == NULL)
		return -ENOMEM;
	*listener = (struct client_listener){
	    .callbacks = callbacks, .context = context, .conf = conf, .fd = fd, .batch = 1};
	listener->event = event_new(base, fd, EV_READ | EV_PERSIST, accept_batch, listener);
	if (listener->event == NULL) {
		free(listener);
		return -ENOMEM;
	}
	learn_server(listener);
	/* On a unix socket the calls fail, which does no harm. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){SILENT_SEC}, sizeof(int));
	*out = listener;
	return 0;
}

void client_listener_enable(struct client_listener *listener, bool enabled)
{
	listener->enabled = enabled;
	if (enabled)
		event_add(listener->event, NULL);
	else
		event_del(listener->event);
}

void client_listener_free(struct client_listener *listener)
{
	event_free(listener->event);
	free(listener);
}
