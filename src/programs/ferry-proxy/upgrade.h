#ifndef FERRY_PROGRAMS_FERRY_PROXY_UPGRADE_H
#define FERRY_PROGRAMS_FERRY_PROXY_UPGRADE_H

/* A proxy and its successor. The new one connects to the control socket of the old one and asks for the
 * listening sockets; when its workers are ready it begins to accept, and says so; then the old one stops
 * accepting. At each moment at least one of them accepts. If the new one fails before, the old one goes on
 * as if nothing had been. ferry/socket_set.h has the protocol. */

#include "programs/ferry-proxy/listeners.h"

struct event_base;
struct proxy_upgrade;
struct proxy_takeover;

/* ---- the old proxy ---- */

struct proxy_upgrade_options {
	struct ferry_socket_set *set; /* what is taken over */
	int control_fd;               /* the listening control socket, of the set too; -1: none */
	const char *control_path;
	char **argv; /* this program's, for starting its successor */

	/* The new one accepts. The callee has to stop using the sockets of the set: they are closed when it
	 * returns. */
	void (*taken_over)(void *context);
	void *context;
};

/* Lets others take over. What the options point to has to outlive it. 0 or -ENOMEM. */
int proxy_upgrade_new(struct proxy_upgrade **out, struct event_base *base,
                      const struct proxy_upgrade_options *options);

/* Starts the program again, as it is on the disk now, with --take-over. */
void proxy_upgrade_start_successor(struct proxy_upgrade *upgrade);

/* How many proxies there were before this one, each the predecessor of the next. */
unsigned long proxy_upgrade_generation(void);

/* Nobody may take over any more. NULL: nothing happens. */
void proxy_upgrade_free(struct proxy_upgrade *upgrade);

/* ---- the new proxy ---- */

struct proxy_takeover_callbacks {
	/* The sockets are here. `set` is the callee's. */
	void (*received)(struct ferry_socket_set *set, void *context);

	/* 0: the old proxy has stopped. Else it goes on; it was said why. */
	void (*ended)(int status, void *context);
};

/* Asks the proxy behind a control path for what the configuration wants and that one has. 0, or a negative
 * errno. */
int proxy_takeover_new(struct proxy_takeover **out, struct event_base *base, const char *path,
                       struct proxy_listeners *wanted,
                       const struct proxy_takeover_callbacks *callbacks, void *context);

/* Tells the old proxy that this one accepts. 0, or a negative errno: it has ended, or is to. */
int proxy_takeover_accepting(struct proxy_takeover *takeover);

/* Gives up, if it has not ended. NULL: nothing happens. */
void proxy_takeover_free(struct proxy_takeover *takeover);

#endif
