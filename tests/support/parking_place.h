#ifndef FERRY_TESTS_PARKING_PLACE_H
#define FERRY_TESTS_PARKING_PLACE_H

/* A parking place whose wake-ups are written down, and connections whose far ends the test has. */

#include "ferry/parking.h"

#include "support.h"

enum { CLIENTS_MAX = 64 };

struct wake_up {
	struct ferry_handoff *handoff; /* the test's */
	struct ferry_parking_event event;
	void *client; /* the record of the connection */
};

struct parking_notes {
	unsigned int woken, filtered;
	struct wake_up of[CLIENTS_MAX]; /* in their order */
	enum ferry_parking_reason filtered_for;
	/* The test's own filter and callback. */
	enum ferry_parking_verdict (*on_filter)(struct ferry_handoff *handoff,
	                                        const struct ferry_parking_event *event);
	void (*on_woken)(void);
};

extern struct ferry_parking *parking;
extern struct parking_notes parking_notes;
extern int clients[CLIENTS_MAX];

/* Without a reserve of descriptor slots. */
void open_parking(void);
void open_parking_without_filter(void);
void close_parking(void);

struct ferry_parking_stats parking_stats(void);

/* A handoff of a new connection, whose other end becomes clients[number]. */
struct ferry_handoff *make_client(enum pair_kind kind, unsigned int number);

/* Parks it, or lets it wait; milliseconds; 0: no deadline. */
int park_client(struct ferry_handoff *handoff, unsigned int number, int milliseconds);
void park_new_client(unsigned int number);
int let_client_wait(struct ferry_handoff *handoff, unsigned int number, int milliseconds);

/* Waits for the wake-up of this index, which must be that of the client, and frees its handoff. */
void expect_wake_up(unsigned int index, unsigned int client, enum ferry_parking_reason reason,
                    int error);

/* Closes clients 0 to count - 1, and fails unless the other ends are closed. */
void close_all_clients(unsigned int count);

#endif
