#ifndef FERRY_TESTS_WORKER_LINK_H
#define FERRY_TESTS_WORKER_LINK_H

/* A worker whose callbacks are written down, and the dispatcher at the other end: plain system calls, and
 * messages written by hand. A script makes sendmsg(2) take fewer bytes of the worker's, or fail. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/worker.h"
#include "recorder.h"

enum { HEADER = 16, HELLO_SIZE = 24, HANDOFF_SIZE = 48, ANSWER_SIZE = 24 };

enum { HELLO = 1, HANDOFF, CLAIM, LOST, REJECT, DONE, CREDITS, DRAIN };

enum { BLOCK_MAX = 65536, FRAME_MAX = HEADER + HANDOFF_SIZE + 256 + 2 * BLOCK_MAX };

enum { BURST = 5 };

extern int worker_ends[2];
extern unsigned int script_next, script_length;

void plan_send(int step);

struct worker_notes {
	struct ferry_worker *worker; /* NULL once freed */
	unsigned int received, drains, lost;
	int reason;
	uint64_t id; /* of the last handoff */
	int fd;      /* stolen from the last, or -1 */
	void (*on_handoff)(struct ferry_handoff *handoff);
	void (*on_event)(void); /* drain_requested, dispatcher_lost */
};

extern struct worker_notes worker_notes;
extern const struct ferry_worker_callbacks worker_callbacks;
extern int bev_options;

void open_worker_with(const struct ferry_worker_callbacks *table);
void free_worker(void);
void close_dispatcher(void);
void close_worker(void);

struct ferry_worker_stats worker_stats(void);
void put_number(size_t offset, uint64_t value, size_t size);
size_t put_header(unsigned int type, size_t length, size_t fds);

/* Sends the whole frame. */
void send_frame(size_t length, const int *fds, size_t fd_count);
void send_plain(unsigned int type, size_t length);
void send_hello(unsigned int min, unsigned int max, size_t length);

/* A handoff to be sent. */
struct parcel {
	uint64_t id, cookie, device;
	unsigned int kind, attempt;
	size_t name, blob, bytes; /* lengths */
	int fd;
};

struct parcel make_parcel(uint64_t id, int fd);
size_t put_handoff(const struct parcel *parcel);
void give_parcel(const struct parcel *parcel);

struct answer {
	unsigned int type;
	size_t length;
	uint64_t id, epoch;
	int reason;
	const unsigned char *payload;
};

extern size_t arrived_length, taken;

uint64_t get_number(const unsigned char *at, size_t size);
void take_in(void);

/* Reads the answer at `*at` from the bytes that have arrived, and moves behind it. */
bool look_at(size_t *at, struct answer *answer);
bool next_answer(struct answer *answer);

struct answer expect_frame(unsigned int type);
void expect_answer(unsigned int type, uint64_t id, int reason);
void expect_silence(void);
unsigned int count_waiting(unsigned int type);
void greet(void);
void open_worker(void);
void expect_worker_lost(int reason);

struct client {
	int near, far; /* the connection that is handed over, and its other end */
};

struct client make_client(void);

/* Sends the near end, and closes it here. */
void give_client(struct client *client, uint64_t id);

/* All copies of the near end are closed. */
void expect_closed(struct client *client);
void expect_open(struct client *client);
void steal_descriptor(struct ferry_handoff *handoff);

extern struct parcel expected;

void check_parcel(struct ferry_handoff *handoff);
void give_burst(struct client *clients);

#endif
