#ifndef FERRY_TESTS_RELAY_LINK_H
#define FERRY_TESTS_RELAY_LINK_H

/* A relay between two sockets of the test's, and its end written down. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "ferry/relay.h"

#include "support.h"

struct relay_notes {
	unsigned int ended; /* relay_ended */
	enum ferry_relay_side side;
	int reason;
	unsigned int half_ends[2]; /* side_ended, of each side */
	bool closed[2];            /* its argument */
};

extern struct ferry_relay *relay; /* NULL once freed */
extern struct relay_notes relay_notes;
extern int relay_fds[2]; /* the sockets of the relay's last transports, by side */
extern int peers[2];     /* the far ends, by side; -1 once closed */

/* For tables of callbacks. */
void note_relay_ended(struct ferry_relay *which, enum ferry_relay_side side, int reason,
                      void *context);
void note_side_ended(struct ferry_relay *which, enum ferry_relay_side from, bool closed,
                     void *context);
extern const struct ferry_relay_callbacks noting; /* these two */

/* Opens a relay between connections of these kinds. */
void open_relay(enum pair_kind client, enum pair_kind server,
                const struct ferry_relay_callbacks *callbacks);

/* Opens one without a server. bring_server() makes the connection and returns the result of
 * ferry_relay_set_server(); if that fails, the transport is freed. */
void open_half_relay(enum pair_kind client, const struct ferry_relay_callbacks *callbacks);
int bring_server(enum pair_kind server);

void close_peer(enum ferry_relay_side side);

/* Frees the relay, and closes the peers that are open. */
void close_relay(void);

/* Waits until the relay has ended, with this reason. */
void expect_relay_end(enum ferry_relay_side side, int reason);

/* Waits until recv(2) of at most `size` bytes returns something, and returns that: bytes, 0, a negative errno. */
ssize_t receive_from_relay(enum ferry_relay_side side, void *buffer, size_t size);

/* Waits for these bytes, and no others. */
void expect_text(enum ferry_relay_side side, const char *text);

/* Waits for the end of file, behind nothing. */
void expect_end_of_file(enum ferry_relay_side side);

/* Waits for POLLHUP. */
void expect_hang_up(enum ferry_relay_side side);

struct ferry_relay_flow relay_flow(enum ferry_relay_side from);

#endif
