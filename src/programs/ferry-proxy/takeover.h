#ifndef FERRY_PROGRAMS_FERRY_PROXY_TAKEOVER_H
#define FERRY_PROGRAMS_FERRY_PROXY_TAKEOVER_H

/* The new proxy's side of an upgrade: it takes the listening sockets of the old one. upgrade.h has the
 * whole procedure. */

#include "programs/ferry-proxy/listeners.h"

struct event_base;
struct takeover;

struct takeover_callbacks {
	/* The sockets have arrived. The callee owns `set`. */
	void (*received)(struct ferry_socket_set *set, void *context);

	/* 0: the old proxy has stopped accepting. Negative: it continues; the reason has been printed. */
	void (*ended)(int status, void *context);
};

/* Requests the sockets that the configuration lists and that the proxy behind the control path has. 0, or
 * a negative errno. */
int takeover_new(struct takeover **out, struct event_base *base, const char *path,
                 struct listeners *wanted, const struct takeover_callbacks *callbacks,
                 void *context);

/* Notifies the old proxy that this one accepts. 0, or a negative errno: the takeover has ended, or is about
 * to. */
int takeover_commit(struct takeover *takeover);

/* Cancels the takeover if it has not ended. NULL: does nothing. */
void takeover_free(struct takeover *takeover);

#endif
