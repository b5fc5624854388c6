#ifndef FERRY_TESTS_SOURCE_LINK_H
#define FERRY_TESTS_SOURCE_LINK_H

/* Sources of every kind: the source of a file that is sent, and the writer that feeds the
 * source. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "file_link.h"

/* The script of a function. Each call takes the next step: 0: the real call; or a negative
 * errno. */
struct script {
	const int *steps;
	size_t count, next;
	unsigned int calls;
};

extern struct script by_sendfile, by_splice, by_pread;
extern bool direct_is_strict; /* reads that are not aligned fail */

extern size_t sendfile_max; /* 0: no limit */

ssize_t __real_sendfile(int out, int in, off_t *offset, size_t length);

enum { FROM_PIPE, FROM_FIFO, FROM_UNIX, FROM_TCP, FROM_TTY, SOURCE_KINDS };

/* The source under test, which is blocking; and its other end, which is not. */
extern int source, writer;
extern int link_kind;
extern unsigned int copy; /* SEND_COPIED or 0 */

extern struct told file;
extern enum ferry_file_method method; /* when it was finished */

void open_tty(void);
void open_source(int of_kind);
void note_method(struct told *told);
void send_source(int64_t length);
void close_writer(void);
void close_all(void);

/* The count of bytes that the writer has to write, the count that it has written, and whether it
 * closes after the last. */
extern uint64_t to_feed, fed;
extern bool closes_at_end;

void feed_some(void);
void feed(uint64_t length);
bool has_arrived(void *length);

#endif
