#ifndef FERRY_ENDPOINT_CONNECTION_H
#define FERRY_ENDPOINT_CONNECTION_H

/* Makes a transport of a connected socket. */

struct event_base;
struct ferry_transport;

/* Takes `fd`: on failure it is open, and as it was. */
int connection_try_transport(struct ferry_transport **out, struct event_base *base, int fd);

/* The same, but on failure it is closed. */
int connection_to_transport(struct ferry_transport **out, struct event_base *base, int fd);

#endif
