#ifndef FERRY_ENDPOINT_CONNECTION_H
#define FERRY_ENDPOINT_CONNECTION_H

/* A connected socket becomes a transport. */

struct event_base;
struct ferry_transport;

/* Takes `fd`, on failure too: it is closed then. */
int connection_to_transport(struct ferry_transport **out, struct event_base *base, int fd);

#endif
