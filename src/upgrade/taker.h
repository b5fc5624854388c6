#ifndef FERRY_UPGRADE_TAKER_H
#define FERRY_UPGRADE_TAKER_H

/* Connections of predecessors (giver.h): this process is the worker of each of them. */

struct event_base;
struct ferry_handoff;
struct taker;

/* A connection has arrived. The callee owns the handoff. May free the taker. */
typedef void (*taker_received_cb)(struct ferry_handoff *handoff, void *context);

/* Accepts predecessors on a listening socket, which stays the caller's. 0, or a negative errno. */
int taker_new(struct taker **out, struct event_base *base, int listener, taker_received_cb received,
              void *context);

/* Ends the channels: predecessors give what is on its way, and the rest, to the process that accepts next. NULL: does
 * nothing. */
void taker_free(struct taker *taker);

#endif
