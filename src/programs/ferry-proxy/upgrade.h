#ifndef FERRY_PROGRAMS_FERRY_PROXY_UPGRADE_H
#define FERRY_PROGRAMS_FERRY_PROXY_UPGRADE_H

/* The old proxy's side of an upgrade; takeover.h is the new proxy's side.
 *
 * The new proxy connects to the control socket of the old one and requests the listening sockets. When the
 * workers of the new proxy are ready it accepts clients, and notifies the old one, which then stops
 * accepting. At each moment at least one of the two accepts. If the new proxy fails before, the old one
 * continues as before. ferry/takeover.h has the protocol. */

struct event_base;
struct ferry_socket_set;
struct upgrade;

struct upgrade_options {
	struct ferry_socket_set *set; /* the sockets that a new proxy may take over */
	int control_fd;               /* the listening control socket, also of the set; -1: none */
	const char *control_path;
	char **argv; /* of this program, to start its successor */

	/* The new proxy accepts. The callee has to stop using the sockets of the set: they are closed when
	 * it returns. */
	void (*taken_over)(void *context);
	void *context;
};

/* Lets a new proxy take over. The caller keeps all that the options point to. 0 or -ENOMEM. */
int upgrade_new(struct upgrade **out, struct event_base *base,
                const struct upgrade_options *options);

/* Starts the program again, as it is on the disk now, with --take-over. */
void upgrade_start_successor(struct upgrade *upgrade);

/* The number of proxies before this one, each the predecessor of the next. */
unsigned long upgrade_generation(void);

/* From now on no proxy can take over. NULL: does nothing. */
void upgrade_free(struct upgrade *upgrade);

#endif
