#ifndef FERRY_FILE_SOURCE_H
#define FERRY_FILE_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ferry/file_producer.h"

#include "file/page_cache.h"

/*
 * The next piece of a file, from any kind of source, by the cheapest way that the kernel allows:
 *
 *   sendfile  a regular file, a block device: page cache to socket
 *   splice    a pipe; a socket, by way of a pipe of ours
 *   copy      the rest: terminals, /proc, odd file systems, unaligned O_DIRECT: read(2), and the
 *             caller writes
 *
 * The way is chosen by what the source is, and changes to copying where the kernel refuses, at the
 * first call or later, at the current offset.
 */

/* Results beside a count, 0 for the end, and a negative errno. */
enum {
	FILE_SOURCE_DRY = -10000,     /* it has nothing now; its descriptor becomes readable */
	FILE_SOURCE_COLD = -10001,    /* the next piece would have to come from the disk */
	FILE_SOURCE_CHANGED = -10002, /* another way from now on: try again */
};

struct file_copy; /* private: a buffer */

struct file_source {
	int fd; /* -1 once closed */
	enum ferry_file_method method;
	bool seekable;
	bool regular;
	bool at_position; /* read at the file's own position, and move that */
	bool to_end;      /* FERRY_TO_END: its end is no truncation, unless it got shorter */
	bool progressed;  /* in the kernel */
	bool from_pipe;   /* splice needs no pipe of ours; */
	bool to_pipe;     /* nor then */
	bool read_failed; /* the last error was the source's, not the output's */
	int64_t offset;   /* of the next byte to send, unless at_position */
	int64_t end;      /* where the file ended at first, if it is regular */
	struct warmth warmth;
	uint64_t remaining; /* bytes still to be sent; a source without a size: very many */
	int pipe[2];        /* for a socket; -1 while there is none */
	size_t in_pipe;     /* bytes there */
	struct file_copy *copy;
};

/*
 * Checks a file and a range of it, as ferry_transport_send_file() documents, and sets up `source`
 * with `fd`, which is the source's from then on if that succeeds. `copy`: always read.
 */
int file_source_init(struct file_source *source, int fd, int64_t offset, int64_t length, bool copy);

/* Where it goes: whether splice needs a pipe in between depends on that too. */
void file_source_set_output(struct file_source *source, bool output_is_pipe);

/* Closes the descriptor and what else it holds. */
void file_source_close(struct file_source *source);

/* Whether the next bytes must go by way of file_source_peek(). */
bool file_source_must_copy(const struct file_source *source);

/* Whether its next bytes are there for certain, so that what goes before may wait for them. */
bool file_source_is_ready(struct file_source *source);

/* How many bytes from `offset` on are to be sent, of a regular file. */
uint64_t file_source_left_at(const struct file_source *source, int64_t offset);

/*
 * Moves up to `max` bytes to `out_fd`, non-blocking, in the kernel; SIGPIPE is the caller's to keep
 * off. Never asks for more than the file has left: the kernel would hold the tail back and wait.
 *   > 0  bytes sent
 *   0    the source has ended: see file_source_end_status()
 *   < 0  -EAGAIN: `out_fd` is full; a FILE_SOURCE_ result; or another negative errno
 */
ssize_t file_source_send(struct file_source *source, int out_fd, size_t max);

/* Gives a look at the next bytes, up to `max`, which stay where they are. As file_source_send()
 * otherwise. `data` is good until the next call. */
ssize_t file_source_peek(struct file_source *source, const void **data, size_t max);

/* Moves on by `count` bytes that were sent after a peek. A negative errno: the file's own position stays
 * behind, and what is read next would be the same again. */
int file_source_skip(struct file_source *source, size_t count);

/* What it means that the source has ended now: 0, or -EIO when bytes are missing. */
int file_source_end_status(const struct file_source *source);

/* Where the next byte is in the file. */
int64_t file_source_position(const struct file_source *source);

#endif
