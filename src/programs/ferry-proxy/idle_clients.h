#ifndef FERRY_PROGRAMS_FERRY_PROXY_IDLE_CLIENTS_H
#define FERRY_PROGRAMS_FERRY_PROXY_IDLE_CLIENTS_H

/* The clients between two requests, whose connections a worker has returned. They are parked: each costs one
 * descriptor and some hundred bytes. If descriptors run short, the one that idles longest is closed. The blob of a
 * parked handoff is the client's address. */

#include "programs/ferry-proxy/report.h"
#include "programs/shared/client_address.h"

struct event_base;
struct ferry_handoff;
struct idle_clients;
struct timeval;

/* The connection of an idle client on its way to another proxy: its blob is the time since the last answer, 4 bytes of
 * milliseconds in network order, and the client's address. */
enum { IDLE_CLIENT_BLOB_MAX = 4 + CLIENT_ADDRESS_MAX };

/* Sets the blob. 0, or a negative errno. */
int idle_client_describe(struct ferry_handoff *handoff, const struct client_address *address,
                         uint64_t idle_msec);

/* Reads the blob of a received handoff. 0, or a negative errno. */
int idle_client_read(const struct ferry_handoff *handoff, struct client_address *address,
                     uint64_t *idle_msec);

/* Takes a connection. The callee owns the handoff. */
typedef void (*idle_client_cb)(struct ferry_handoff *handoff, const struct client_address *address,
                               void *context);

/* The same for one that has been idle for `idle_msec`. */
typedef void (*idle_client_moved_cb)(struct ferry_handoff *handoff,
                                     const struct client_address *address, uint64_t idle_msec,
                                     void *context);

struct idle_clients_callbacks {
	/* A client sends its next request. */
	idle_client_cb woken;
	/* A client has waited too long for room in a queue. */
	idle_client_cb unserved;
};

/* `woken` gets each connection whose client sends its next request. `limit` is the most that idle; `timeout` the time
 * after which one is closed. 0 or -ENOMEM. */
int idle_clients_new(struct idle_clients **out, struct event_base *base, unsigned long limit,
                     const struct timeval *timeout, const struct idle_clients_callbacks *callbacks,
                     void *context);

/* Waits for room in a queue, for up to `timeout`; unread bytes are in the handoff, and the client's address is its
 * blob. 0, or a negative errno; then the handoff stays the caller's. */
int idle_clients_wait(struct idle_clients *idle, struct ferry_handoff *handoff,
                      const struct timeval *timeout, unsigned int service);

/* The one that waits longest for room, its address and its service. NULL: none waits. */
struct ferry_handoff *idle_clients_take_waiting(struct idle_clients *idle,
                                                struct client_address *address,
                                                unsigned int *service);

/* The number of those that wait for room. */
unsigned long idle_clients_waiting(const struct idle_clients *idle);

/* Waits for the next request of a client, which has been idle for `idle_msec` elsewhere. Owns the handoff. */
void idle_clients_add(struct idle_clients *idle, struct ferry_handoff *handoff,
                      const struct client_address *address, uint64_t idle_msec);

/* Closes the one that idles longest, in a later turn of the loop. False: there is none. */
bool idle_clients_drop_one(struct idle_clients *idle);

/* Closes those that have sent nothing, in a later turn of the loop. */
void idle_clients_close(struct idle_clients *idle);

/* Gives all of them away. */
void idle_clients_give(struct idle_clients *idle, idle_client_moved_cb give, void *context);

/* The number of them, with those that wait for room. */
unsigned long idle_clients_count(const struct idle_clients *idle);

/* Fills in the idle clients. */
void idle_clients_fill(const struct idle_clients *idle, struct snapshot *snapshot);

/* Closes all of them. NULL: does nothing. */
void idle_clients_free(struct idle_clients *idle);

#endif
