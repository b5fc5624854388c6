#ifndef FERRY_UPGRADE_GIVER_H
#define FERRY_UPGRADE_GIVER_H

/*
 * Connections on their way from a replaced process to its successor (taker.h). They are ordinary handoffs: this
 * process is the dispatcher. The successor has taken over a listening socket for them, to which this process connects.
 * When the successor ends or is replaced, the next process accepts on the same socket.
 */

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct ferry_handoff;
struct giver;

/* The giver may have become settled. May free it. */
typedef void (*giver_changed_cb)(void *context);

/* `listener`: the socket that the successor has taken over, which stays the caller's. 0, or a negative errno. */
int giver_new(struct giver **out, struct event_base *base, int listener, giver_changed_cb changed,
              void *context);

/* On success the giver owns the handoff. -ENOTCONN: nobody is there; or an error of ferry_dispatcher_hand_off(). */
int giver_give(struct giver *giver, struct ferry_handoff *handoff);

/* Whether nothing is on its way. */
bool giver_is_settled(const struct giver *giver);

void giver_count(const struct giver *giver, uint64_t *given, uint64_t *taken);

/* What is on its way is closed. NULL: does nothing. */
void giver_free(struct giver *giver);

#endif
