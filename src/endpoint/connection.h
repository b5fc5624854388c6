#ifndef FERRY_ENDPOINT_CONNECTION_H
#define FERRY_ENDPOINT_CONNECTION_H

/* Makes a transport of a socket that has no other owner. */

struct event_base;
struct ferry_transport;

/* As ferry_transport_new_socket(), but on failure `fd` is closed. */
int connection_to_transport(struct ferry_transport **out, struct event_base *base, int fd);

#endif
