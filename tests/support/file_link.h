#ifndef FERRY_TESTS_FILE_LINK_H
#define FERRY_TESTS_FILE_LINK_H

/* For tests of files in the stream: a transport on each kind of connection, the bytes that arrive
 * at its far end, and files that record their callbacks. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/ferry.h"

#include "recorder.h"

enum { LINK_UNIX, LINK_TCP, LINK_PIPES, LINK_KINDS };

extern struct recorder sender;
extern int far;       /* the descriptor at which the bytes arrive; -1: closed */
extern int far_input; /* pipes: the other direction */

void open_link(int kind);
void close_far(void);
void close_link(void);

/* The bytes that have arrived, and the end of the stream. */
extern unsigned char *arrived;
extern size_t arrived_length;
extern int arrived_end; /* 1: not yet; else the result of the last read(2) */

void start_collecting(void);
void collect_some(size_t size);

/* Takes all that is there; a condition for pump_until(). */
bool stream_has_ended(void *unused);

/* Ends the stream and takes all that arrives. */
void finish_stream(void);

/* Compares what arrived with texts (zero-terminated) and ranges of a file, piece by piece. */
extern size_t compared;
void expect_text(const char *text);
void expect_range(uint64_t offset, uint64_t length);
void expect_end(void);

/* A file, with the arguments of its callbacks. The callbacks fail the test if ferry breaks its
 * documented rules. */
struct told {
	struct ferry_file_producer *producer;
	unsigned int progress, finished;
	uint64_t sent, total;
	int status;
	int fd; /* -1, or one that must be closed when `finished` runs */
	bool quiet;
	void (*on_progress)(struct told *told);
	void (*on_finished)(struct told *told);
};

extern const struct ferry_file_callbacks told_callbacks;

/* Or'ed to the ownership in try_send(): with FERRY_FILE_COPY, FERRY_FILE_REGULAR. */
enum { SEND_COPIED = 0x100, SEND_REGULAR = 0x200 };

/* ferry_transport_send_file(), during which no callback may run. */
int try_send(struct told *told, int fd, unsigned int ownership, int64_t offset, int64_t length);

/* Sends a range of a make_file() of that size. */
void send_range(struct told *told, uint64_t size, int64_t offset, int64_t length);
void send_text(const char *text);

void check_finished(const struct told *told, int status, uint64_t sent);

#endif
