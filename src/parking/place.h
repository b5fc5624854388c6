#ifndef FERRY_PARKING_PLACE_H
#define FERRY_PARKING_PLACE_H

#include <stdbool.h>

#include <event2/event.h>

#include "ferry/parking.h"

#include "handoff/handoff.h"

/*
 * A parking place and its connections. Each connection is on one of three lists:
 *
 *   IDLE     its event waits for input; the one that was idle longest is first
 *   WAITING  its event waits for the deadline alone; the one that has waited longest is first
 *   PENDING  it has no event; the place's turn asks the filter, and wakes it
 *
 * The filter runs while its connection is on the list IDLE without an event. Such a connection is not evicted or
 * taken.
 *
 *   parking.c   the public functions
 *   waiting.c   the look at the peers of waiting connections
 *   place.c     the lists, the events, the filter and the wake-up: everything that calls the user
 */

enum parking_list { PARKING_IDLE, PARKING_WAITING, PARKING_PENDING, PARKING_LISTS };

struct ferry_parking {
	struct event_base *base;
	const struct ferry_parking_callbacks *callbacks;
	void *context;
	struct event *turn; /* wakes the pending ones */
	struct event *look; /* at the peers of the waiting ones */
	int64_t look_usec;  /* until the next look */
	struct handoff_list lists[PARKING_LISTS];
	struct ferry_handoff *filtered; /* the filter has it */
	unsigned int limit;
	unsigned int fd_reserve;
	bool running; /* a callback of the user's is */
	bool freed;
	struct ferry_parking_stats stats;
};

/* The callback of the place's turn. */
void place_on_turn(evutil_socket_t fd, short what, void *argument);

/* Makes the handoff the place's, on no list yet. 0, or the errors of ferry_parking_park() about `wake_fd`. */
int place_enter(struct ferry_parking *parking, struct ferry_handoff *handoff, int wake_fd,
                enum parking_list list);

/* Adds its events. -ENOMEM; -EPERM: libevent cannot wait for the second descriptor. */
int place_arm(struct ferry_handoff *handoff);

/* Puts it on its list. */
void place_insert(struct ferry_handoff *handoff);

/* Wakes it in the next turn. It is on a list. */
void place_make_pending(struct ferry_handoff *handoff, enum ferry_parking_reason reason, int error);

/* Ends what place_enter() began: the handoff is the user's, and so is its second descriptor, which is returned; -1:
 * none. It is on no list. */
int place_leave(struct ferry_handoff *handoff);

/* The same for one that is on a list. */
int place_take(struct ferry_handoff *handoff);

/* The one that was idle longest and may be evicted. NULL: none. */
struct ferry_handoff *place_longest_idle(const struct ferry_parking *parking);

/* Evicts that one. False: there is none. */
bool place_evict(struct ferry_parking *parking, int error);

/* Evicts until the place is within its limit, or nobody is idle. */
void place_evict_excess(struct ferry_parking *parking);

/* Closes all and frees the place. */
void place_destroy(struct ferry_parking *parking);

#endif
