#ifndef FERRY_PROGRAMS_FERRY_PROXY_UPGRADE_H
#define FERRY_PROGRAMS_FERRY_PROXY_UPGRADE_H

/* The proxies before and after this one: ferry/upgrade.h, with log lines, and the addresses and ages of
 * connections as their blobs. SIGUSR2 starts a new proxy; one that somebody else starts has --take-over. */

#include "programs/ferry-proxy/listeners.h"

#include <stdbool.h>
#include <stdint.h>

struct client_address;
struct event_base;
struct ferry_handoff;
struct ferry_service_manager;
struct ferry_upgrade;
struct upgrade;

struct upgrade_callbacks {
	/* Programs that are started from now on have this standard error, which stays the upgrade's. */
	void (*error_output)(int fd, void *context);

	/* Open the listeners that are not in the set; then accept, and call upgrade_ready(). `takes_over`: another proxy
	 * accepts until then. */
	void (*started)(struct ferry_socket_set *set, bool takes_over, void *context);

	/* This proxy is the one that serves. */
	void (*serving)(void *context);

	/* A connection of another proxy has no request under way. The callee owns the handoff. */
	void (*idle)(struct ferry_handoff *handoff, const struct client_address *address,
	             uint64_t idle_msec, void *context);

	/* Another proxy serves from now on: upgrade_give(). `failed`: this one was to replace it. */
	void (*replaced)(bool failed, void *context);
};

struct upgrade_options {
	char **argv;              /* of this program */
	const char *take_over;    /* a control path; NULL: none */
	struct listeners *wanted; /* what the configuration lists */
};

/* 0, or a negative errno after printing it. The caller keeps what the options point to. */
int upgrade_new(struct upgrade **out, struct event_base *base,
                const struct upgrade_options *options, const struct upgrade_callbacks *callbacks,
                void *context);

/* This proxy accepts. 0, or a negative errno. */
int upgrade_ready(struct upgrade *upgrade);

/* Starts the program again, as it is on the disk now. */
void upgrade_start_successor(struct upgrade *upgrade);

/* Gives a connection, which has been idle for `idle_msec`, to the proxy that serves. 0, and the callee owns the handoff; or a negative errno, also for NULL. */
int upgrade_give(struct upgrade *upgrade, struct ferry_handoff *handoff,
                 const struct client_address *address, uint64_t idle_msec);

/* Whether that proxy has all that was given, and lives. True for NULL. */
bool upgrade_is_settled(const struct upgrade *upgrade);

/* The number of proxies before this one, each the predecessor of the next. */
unsigned long upgrade_generation(const struct upgrade *upgrade);

/* The service manager's request to reload is done. */
void upgrade_notify_reloaded(struct upgrade *upgrade);

/* The service ends. */
void upgrade_notify_stopping(struct upgrade *upgrade);

/* Closes the listeners. NULL: does nothing. */
void upgrade_free(struct upgrade *upgrade);

#endif
