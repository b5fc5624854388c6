#ifndef FERRY_TESTS_DISPATCHER_PEER_H
#define FERRY_TESTS_DISPATCHER_PEER_H

/* A dispatcher whose callbacks are written down, and its peers: workers in plain system calls, which read the
 * messages of the dispatcher and write their own. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/dispatcher.h"
#include "handoff/wire.h"
#include "message/wire.h"
#include "support.h"

enum {
	PEERS_MAX = 8,
	HANDOFFS_MAX = 2048,
	NEVER_USEC =
	    1000000000 /* pump_until() fails before: nothing that it waits for comes of a deadline */
};

struct outcome_notes {
	unsigned int count;
	enum ferry_handoff_outcome outcome;
	int reason;
	unsigned int attempt;
	bool has_fd;
	struct ferry_dispatcher_worker *worker;
};

struct notes {
	unsigned int outcomes, ready, drained, lost, full, room;
	int reason;
	struct outcome_notes of[HANDOFFS_MAX];
	int client[HANDOFFS_MAX]; /* the far ends of the connections that are handed off */
	void (*on_outcome)(struct ferry_handoff *handoff);
	void (*on_lost)(struct ferry_dispatcher_worker *worker);
	void (*on_ready)(struct ferry_dispatcher_worker *worker);
	unsigned int returned;
	struct ferry_handoff *back; /* the last one that was returned: the test's */
	unsigned int depth;
};

extern struct notes notes;
extern struct ferry_dispatcher *dispatcher;

void on_outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                enum ferry_handoff_outcome outcome, int reason, void *context);
void set_timeouts(int64_t queue_usec, int64_t answer_usec);
void open_dispatcher(void);
void open_dispatcher_for_returns(void);

struct ferry_dispatcher_stats dispatcher_stats(void);
void free_dispatcher(void);

struct peer {
	int fd;
	struct ferry_dispatcher_worker *worker;
	/* The handoff that was read last. */
	struct handoff_wire_handoff frame;
	int got;
	unsigned char payload[150000];
	bool eof;
};

extern struct peer peers[PEERS_MAX];

struct ferry_transport *make_transport(int fd);

/* The first `length` bytes of a message. */
void peer_put(const struct peer *peer, uint16_t type, const void *payload, size_t length);
void peer_put_hello(const struct peer *peer, uint32_t credits);
void peer_put_credits(const struct peer *peer, uint32_t credits);

void peer_put_answer(const struct peer *peer, uint16_t type, uint64_t id, uint64_t epoch,
                     int reason);
void peer_answer(const struct peer *peer, uint16_t type);
void peer_drop_fd(struct peer *peer);

/* Reads the next message with its payload, and returns its type. 0: there is none. */
int peer_take(struct peer *peer);

/* Waits for the next message, which must have this type; 0: for the end. */
void peer_expect(struct peer *peer, int type);
void peer_expect_nothing(struct peer *peer);
void add_silent_peer(struct peer *peer, const char *name);
void add_peer(struct peer *peer, uint32_t credits);
void close_peer(struct peer *peer);

/* A connected socket, whose other end stays in `notes.client`. */
struct ferry_handoff *make_handoff(unsigned int number);
void hand_off(unsigned int number);
void close_clients(unsigned int count);
void expect_outcome(unsigned int number, enum ferry_handoff_outcome outcome, int reason);

/* Whether all copies of a client's other end are closed. */
bool client_is_closed(void *argument);

#endif
