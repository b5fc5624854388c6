#ifndef EXAMPLES_PROXY_WORKERS_H
#define EXAMPLES_PROXY_WORKERS_H

/* The workers of the proxy: they come and go on a unix socket, and each is given connections. */

struct evbuffer;
struct event_base;
struct proxy_workers;

/* Listens for workers. `path` is made with mode 0600. 0, or a negative errno: see
 * ferry_listen_unix(). */
int proxy_workers_new(struct proxy_workers **out, struct event_base *base, const char *path);

/* Sets what is told, from the loop, that a hand-off which was refused with -EAGAIN may be tried
 * again. */
void proxy_workers_set_room_cb(struct proxy_workers *workers, void (*room)(void *context),
                               void *context);

/*
 * Hands a connection and what has been read from it to the worker with the fewest connections; of
 * several such, to the one whose turn was longest ago. A worker whose channel is full, because it
 * does not read or because many came at once, is passed over.
 *
 * `fd` must not be registered with any event any more. 0: it is no longer the caller's. Else it still
 * is: -EAGAIN, all channels are full; -ENOTCONN, no worker is there; -ENOMEM. `bytes` stays as it is.
 */
int proxy_workers_hand_off(struct proxy_workers *workers, int fd, struct evbuffer *bytes);

/* Closes all channels; the loop has to run a turn after. NULL: nothing happens. */
void proxy_workers_free(struct proxy_workers *workers);

#endif
