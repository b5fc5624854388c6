#ifndef FERRY_TESTS_BATTERY_CARRIER_H
#define FERRY_TESTS_BATTERY_CARRIER_H

/* The battery: one set of cases, run over stock socket bufferevents and over ferry's transports, to
 * prove that the second behave like the first, event for event.
 *
 * A carrier is what a case runs over. A case is written once, asks for ends of "the" carrier, and
 * states what a stock socket bufferevent does; it is then run for each carrier that it was added
 * for. If stock libevent has a fault, ferry does not copy it. Such a case has stock_fault in its
 * name: it asserts the right behaviour for ferry and the fault for stock, and fails when libevent
 * mends it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "../support/support.h"
#include "ferry/transport.h"

/* FERRY_TLS: TCP whose keys are in the kernel, if that has TLS; it runs alone, by `battery --tls`. */
enum carrier {
	STOCK_UNIX,
	STOCK_TCP,
	FERRY_UNIX,
	FERRY_TCP,
	FERRY_PIPES,
	FERRY_TLS,
	CARRIER_COUNT
};

/* Sets of carriers, for CASE(). */
enum {
	ON_STOCK = 1 << STOCK_UNIX | 1 << STOCK_TCP,
	ON_TLS = 1 << FERRY_TLS,
	ON_FERRY_SOCKETS = 1 << FERRY_UNIX | 1 << FERRY_TCP | ON_TLS,
	ON_FERRY = ON_FERRY_SOCKETS | 1 << FERRY_PIPES,
	ON_SOCKETS = ON_STOCK | ON_FERRY_SOCKETS,
	ON_UNIX = 1 << STOCK_UNIX | 1 << FERRY_UNIX,
	ON_ALL = ON_STOCK | ON_FERRY
};

/* The carrier of the running case. */
extern enum carrier carrier;
bool carrier_is_ferry(void);
bool carrier_is_tcp(void); /* with or without TLS */

/* A case: CASE(name_that_is_a_sentence, ON_ALL) { arrange, act, assert }. It runs once over each of these
 * carriers, in the order in which the cases stand in the file. The file's name is the cases' theme. */
#define CASE(sentence, carriers)                                                          \
	static void sentence(void);                                                           \
	static void sentence##_on_carrier(int index)                                          \
	{                                                                                     \
		carrier_select(index);                                                            \
		sentence();                                                                       \
	}                                                                                     \
	__attribute__((constructor)) static void register_##sentence(void)                    \
	{                                                                                     \
		static const TTest test = {#sentence, sentence##_on_carrier, __FILE__, __LINE__}; \
		static struct battery_case registered = {&test, carriers, NULL};                  \
		battery_register(&registered);                                                    \
	}                                                                                     \
	static void sentence(void)

struct battery_case {
	const TTest *test;
	int carriers;
	struct battery_case *next;
};
void battery_register(struct battery_case *battery_case);

/* For CASE: makes carrier number `index` the current one. A stock bufferevent raises SIGPIPE, so the
 * process ignores it there; under ferry it keeps the default action, which is death. */
void carrier_select(int index);

/* One end of a connection: the bufferevent, and the transport around it if the carrier is ferry. */
struct end {
	struct bufferevent *bev;
	struct ferry_transport *transport;
};

/* The other end as plain descriptors, for a case that needs them; on a socket, `in` and `out` are
 * the same descriptor. The bytes that it sends and receives are the pattern of support_byte(),
 * counted from 0 in each direction. */
struct far {
	int in, out;
	uint64_t sent, received;
};

/* Ends of the carrier. BEV_OPT_CLOSE_ON_FREE is added to `options`, which pipes do not have. */
void make_ends(struct end *a, struct end *b, int options);
void make_end(struct end *near, struct far *far, int options);

/* An end on a descriptor that exists; not on pipes. Exactly these options. */
void make_end_on(struct end *end, int fd, int options);

/* Turns a bufferevent into an end: a transport when the carrier is ferry. */
void attach(struct end *end, struct bufferevent *bev);

/* Frees an end in the carrier's way; its socket closes when the loop next runs. NULL is forgiven. */
void free_end(struct end *end);

/* A connected pair of the carrier's sockets, or a raw descriptor of the near end to write to. */
void make_carrier_pair(int fds[2]);
int writing_fd(const struct end *end);

/* Ends the sending half of an end, or of a far side, with TLS by a close_notify. far_close() sends one too. */
void end_sending(struct end *end);
void far_end_sending(struct far *far);
void far_close(struct far *far);

/* Makes the buffers in the kernel small, so that little fills them. */
void shrink_buffers(const struct end *near, const struct far *far);

/* The far side sends `length` bytes, which must fit into the kernel's buffers; it receives until it
 * has had `total` bytes, or whatever there is now; it reads to the end of the stream. */
void far_send(struct far *far, size_t length);
void far_receive_until(struct far *far, uint64_t total);
size_t far_receive_now(struct far *far);
void far_receive_to_the_end(struct far *far);

/* Writes the pattern from `position` on. */
void write_pattern(struct bufferevent *bev, uint64_t position, size_t length);

/* Whether `length` bytes are the pattern from `position` on. */
bool is_pattern(const void *bytes, uint64_t position, size_t length);

/* Fills the way out until the kernel takes no more and at least `left` bytes stay in the output;
 * returns how many bytes were written in all. */
uint64_t fill(const struct end *near, size_t left);

/* Runs the loop until each timer has fired that was pending with at most `milliseconds` to go.
 * Timers fire in the order of their deadlines, so "nothing came" is no matter of the clock. */
void pump_past(unsigned int milliseconds);

/* A timeout that is short as a trigger, and one that never comes. */
extern const struct timeval soon, never;
enum { SOON_MS = 10, PAST_SOON_MS = 30 };

/* When the timeout that runs for EV_READ or EV_WRITE is due; false when none runs. */
bool deadline(const struct bufferevent *bev, short direction, struct timeval *when);

/* The callbacks of a bufferevent, in order, as text: "r" and "w" for the data callbacks, and events
 * as in "[reading eof]", "[connected]", "[writing error Broken pipe]" (errno inside the callback).
 * The read callback removes the bytes and checks them against the pattern, unless `keep` is set. */
struct record {
	struct bufferevent *bev;
	char log[1024];
	unsigned int reads, writes, events;
	short what;
	int error;
	uint64_t received;
	bool keep;
	bool ended;
};
void record(struct record *record, struct bufferevent *bev);
void record_read(struct bufferevent *bev, void *record);
void record_write(struct bufferevent *bev, void *record);
void record_event(struct bufferevent *bev, short what, void *record);
void forget(struct record *record);

/* Runs the loop until so many bytes were received, or until an event came. */
void pump_until_received(const struct record *record, uint64_t total);
void pump_until_event(const struct record *record);

/* Runs the loop until the input holds at least, or the output at most, so many bytes. */
void pump_until_input(const struct bufferevent *bev, size_t at_least);
void pump_until_output(const struct bufferevent *bev, size_t at_most);

size_t input_length(const struct bufferevent *bev);
size_t output_length(const struct bufferevent *bev);

#endif
