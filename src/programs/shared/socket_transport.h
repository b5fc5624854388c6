#ifndef FERRY_PROGRAMS_SHARED_SOCKET_TRANSPORT_H
#define FERRY_PROGRAMS_SHARED_SOCKET_TRANSPORT_H

struct event_base;
struct ferry_transport;

/* Makes a transport on a connected socket, which the callee owns, also on failure. 0, or a negative errno. */
int socket_transport_new(struct ferry_transport **out, struct event_base *base, int fd);

#endif
