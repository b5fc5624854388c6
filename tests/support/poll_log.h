#ifndef FERRY_TESTS_POLL_LOG_H
#define FERRY_TESTS_POLL_LOG_H

/* A poller whose events are written down as one text, a channel at it, and the channel's peer, which uses
 * plain system calls. */

#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#include "ferry/ferry.h"
#include "support.h"

enum { EVENTS_MAX = 4096, MIB = 1024 * 1024 };

extern const struct timeval at_once, soon, deadline;

extern struct ferry_poller *poller;
extern struct ferry_channel *channel;
extern struct ferry_listener *server_listener; /* owns the socket of a server, or NULL */
extern int peer;                               /* the other end of `channel`; -1: closed */

/* The events of the last poll. */
extern struct ferry_channel_event events[EVENTS_MAX];
extern int event_count;

/* The length of the text. expect_events() describes the text and empties it. */
extern size_t poll_log_length;

/* ---- fixtures ---- */

void open_poller(void);
void close_poller(void); /* frees the listener too, and closes `peer` */
void close_peer(void);
void free_server_listener(void);

/* Makes a pair of sockets, and a registered channel of one of them. The caller owns `*far_end`, the other. */
struct ferry_channel *add_channel(enum pair_kind kind, int *far_end);

/* A poller with `channel`; open_lines() sets lines of at most 100 bytes. */
void open_channel(enum pair_kind kind);
void open_lines(void);

/* ---- the poller ---- */

/* Polls once with room for `max` events, or for EVENTS_MAX without waiting. Appends the events to the text, and
 * returns their count or the poll's error. */
int poll_for(int max, const struct timeval *timeout);
int poll_now(void);

/* Compares the text with `expected`, and empties it: [line], (incomplete line), <beginning of a line that is
 * too long>, {bytes}, F and the mark of a descriptor, L descriptors lost, A a connection is accepted, E end of
 * the peer's half, W writable, X and the reason for which the channel is closed. */
void expect_events(const char *expected);

/* Polls until the text is at least as long as `expected`, and compares them. */
void poll_until_events(const char *expected);

/* ---- the peer ---- */

void peer_put(const char *text);
void peer_put_fd(const char *text, uint32_t mark);

/* Reads from a peer until all of `expected` has arrived. The test fails if more than that arrives. */
void expect_sent(int from, const char *expected);

/* Waits for the end of the channel's half. The test fails if a byte arrives before. */
void expect_peer_end(void);

/* The first `length` bytes of the pattern that wire_expect() knows. The caller frees them. */
unsigned char *make_bytes(size_t length);

#endif
