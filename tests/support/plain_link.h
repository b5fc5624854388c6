#ifndef FERRY_TESTS_PLAIN_LINK_H
#define FERRY_TESTS_PLAIN_LINK_H

/* A transport on each kind of connection, with a far end in plain system calls. */

#include "recorder.h"

enum { LINK_UNIX, LINK_TCP, LINK_PIPES, LINK_KINDS };

extern struct recorder near;
/* The descriptors from which the far end reads and to which it writes; one and the same on a
 * socket. */
extern int far_in, far_out;

void open_plain_link_with(int kind, const struct ferry_protocol *protocol);
void open_plain_link(int kind);
void close_plain_far(void);
void close_plain_link(void);
void end_far_output(void);
void write_text(const char *text);
void expect_far_text(const char *text);

/* Returns 0 if the far end reads the end of the stream; otherwise the negative errno of the
 * read. */
int far_end(void);
void check_lost(int reason);

/* Runs a call in which no callback may come. */
#define QUIETLY(call)              \
	do {                           \
		near.quiet = true;         \
		ck_assert_int_eq(call, 0); \
		near.quiet = false;        \
	} while (0)

#endif
