#ifndef FERRY_PROGRAMS_FERRY_PROXY_UPGRADE_H
#define FERRY_PROGRAMS_FERRY_PROXY_UPGRADE_H

/* A proxy and its successor. The new one connects to the control socket of the old one and asks for the
 * listening sockets; when its workers are ready it begins to accept, and says so; then the old one stops
 * accepting. At each moment at least one of them accepts. If the new one fails before, the old one goes on
 * as if nothing had been. ferry/socket_set.h has the protocol. */

#include "programs/ferry-proxy/listeners.h"

struct event_base;
struct upgrade;
struct takeover;

/* ---- the old proxy ---- */

struct upgrade_options {
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
int upgrade_new(struct upgrade **out, struct event_base *base,
                const struct upgrade_options *options);

/* Starts the program again, as it is on the disk now, with --take-over. */
void upgrade_start_successor(struct upgrade *upgrade);

/* How many proxies there were before this one, each the predecessor of the next. */
unsigned long upgrade_generation(void);

/* Nobody may take over any more. NULL: nothing happens. */
void upgrade_free(struct upgrade *upgrade);

/* ---- the new proxy ---- */

struct takeover_callbacks {
	/* The sockets are here. `set` is the callee's. */
	void (*received)(struct ferry_socket_set *set, void *context);

	/* 0: the old proxy has stopped. Else it goes on; it was said why. */
	void (*ended)(int status, void *context);
};

/* Asks the proxy behind a control path for what the configuration wants and that one has. 0, or a negative
 * errno. */
int takeover_new(struct takeover **out, struct event_base *base, const char *path,
                 struct listeners *wanted, const struct takeover_callbacks *callbacks,
                 void *context);

/* Tells the old proxy that this one accepts. 0, or a negative errno: it has ended, or is to. */
int takeover_commit(struct takeover *takeover);

/* Gives up, if it has not ended. NULL: nothing happens. */
void takeover_free(struct takeover *takeover);

#endif
