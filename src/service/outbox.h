#ifndef FERRY_SERVICE_OUTBOX_H
#define FERRY_SERVICE_OUTBOX_H

#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "kernel/ancillary.h"

/*
 * Datagrams to one address, in order. Those that the receiver has no room for wait, and a timer tries again: poll(2)
 * shows room only of a connected socket, and a connected one would not see the receiver's next socket at the same
 * path.
 */

struct event_base;
struct outbox;

enum { OUTBOX_FDS_MAX = ANCILLARY_MAX_FDS };

/* -ENOMEM, or an error of socket(2). */
int outbox_new(struct outbox **out, struct event_base *base, const struct sockaddr_un *address,
               socklen_t length);

/* Drops what waits. NULL: nothing happens. */
void outbox_free(struct outbox *outbox);

/* Sends a datagram, or a copy of it later. 0, or an error of ferry_service_manager_notify(). */
int outbox_send(struct outbox *outbox, const char *text, const int *fds, size_t count);

/* Sends those that wait, as far as there is room. */
void outbox_flush(struct outbox *outbox);

/* The number of datagrams that wait. */
size_t outbox_count(const struct outbox *outbox);

struct event_base *outbox_get_base(const struct outbox *outbox);

#endif
