#ifndef EXAMPLES_PROXY_CLIENTS_H
#define EXAMPLES_PROXY_CLIENTS_H

/* The clients of the proxy, from the accept to the hand-off: for each, one request head is read on a
 * stock bufferevent, which then gives up its descriptor together with its unread input. A client
 * that sends no proper head in time is answered here. */

#include <stddef.h>
#include <sys/socket.h>
#include <sys/time.h>

struct event_base;
struct proxy_clients;
struct proxy_workers;

struct proxy_clients_options {
	struct sockaddr_storage address; /* to listen on */
	socklen_t address_length;
	struct timeval head_timeout; /* from the accept to the end of the head */
	unsigned long most_clients;  /* more wait in the backlog */
};

/* Listens. 0, or a negative errno. */
int proxy_clients_new(struct proxy_clients **out, struct event_base *base,
                      struct proxy_workers *workers, const struct proxy_clients_options *options);

/* Writes where it listens, as "127.0.0.1:8080" or "[::1]:8080". 0, or a negative errno. */
int proxy_clients_name(const struct proxy_clients *clients, char *out, size_t size);

/* Stops listening and drops all clients; the loop has to run a turn after. NULL: nothing happens. */
void proxy_clients_free(struct proxy_clients *clients);

#endif
