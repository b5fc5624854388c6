#ifndef FERRY_FILE_SOURCE_H
#define FERRY_FILE_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <event2/buffer.h>

#include "ferry/file_producer.h"

#include "file/copy.h"
#include "file/page_cache.h"
#include "kernel/tls.h"

/*
 * Sends the next piece of a file from any kind of source, by the cheapest method that the kernel allows:
 *
 *   sendfile  a regular file or a block device: from the page cache to the socket
 *   splice    a pipe; a socket, through a pipe that the source owns
 *   copy      the rest (terminals, /proc, some file systems, unaligned O_DIRECT): read(2), and the
 *             caller writes
 *
 * The kind of source determines the method. If the kernel refuses, at the first call or later, the method
 * changes to copy, at the current offset.
 */

/* Further results, beside a count, 0 for the end, and a negative errno. */
enum {
	FILE_SOURCE_DRY = -10000,     /* the source has no bytes now; its descriptor becomes readable */
	FILE_SOURCE_COLD = -10001,    /* the next piece is not in memory, but on the disk */
	FILE_SOURCE_CHANGED = -10002, /* the method has changed: try again */
};

/* A file that is no longer is read at once, and leaves with the bytes before it: copying it is cheaper than another
 * system call. */
enum { FILE_SOURCE_SMALL = 16 * 1024 - 1 };

struct file_source {
	int fd; /* -1 once closed */
	enum ferry_file_method method;
	bool seekable;
	bool regular;
	bool small;       /* a regular file, of which FILE_SOURCE_SMALL bytes at most are sent */
	bool at_position; /* reads at the file's own position, and moves that */
	bool to_end;      /* FERRY_TO_END: the end is an error only if the file got shorter */
	bool progressed;  /* the kernel has moved some bytes itself */
	bool from_pipe;   /* splice needs no pipe of its own, */
	bool to_pipe;     /* and neither in this case */
	bool from_tls;    /* a socket with TLS in the kernel */
	bool read_failed; /* the last error came from the source, not from the output */
	bool lent;        /* its owner closes `fd` */
	bool by_thread;   /* a thread reads the bytes: see file_source_give() */
	bool given_end;   /* the thread has met the file's end, or `given_error` */
	int given_error;
	int64_t offset; /* of the next byte to send, unless at_position */
	int64_t end;    /* the size of a regular file at the start */
	struct warmth warmth;
	uint64_t remaining; /* bytes still to be sent; INT64_MAX for a source without a size */
	int pipe[2];        /* if the source is a socket; -1 until made */
	size_t in_pipe;     /* bytes in `pipe` */
	struct file_copy *copy;
	struct tls_records *tls; /* of `from_tls`; NULL until the first read */
};

/*
 * Checks a file and a range of it, as ferry_transport_send_file() documents, and initialises `source`,
 * which on success owns `fd`. `copy`: the method is always copy. -EPROTOTYPE: a socket for which the kernel has the keys
 * of one direction of TLS.
 */
int file_source_init(struct file_source *source, int fd, int64_t offset, int64_t length, bool copy);

/* The same for FERRY_FILE_REGULAR, without a system call. */
int file_source_init_regular(struct file_source *source, int fd, int64_t offset, int64_t length,
                             bool copy);

/* Sets the kind of output: splice into a pipe needs no pipe in between. */
void file_source_set_output(struct file_source *source, bool output_is_pipe);

/*
 * The same for a piece of a file in a buffer of libevent's, which keeps `fd` open and closes it. A longer piece
 * than the file has, from evbuffer_add_file() with an offset and no length, ends with the file.
 */
int file_source_init_lent(struct file_source *source, int fd, int64_t offset, size_t length);

/* Closes the descriptor. */
void file_source_close(struct file_source *source);

/* The bytes that were taken out of a pipe, a socket or another source without a position, and not sent. They stay
 * available after file_source_close(). */
size_t file_source_get_unsent(const struct file_source *source);

/* Moves these bytes to the end of the buffer: all of them, or none (-ENOMEM). */
int file_source_take_unsent(struct file_source *source, struct evbuffer *buffer);

/* Frees the bytes that were not sent, after file_source_close(). */
void file_source_release(struct file_source *source);

/* Whether the next bytes must be sent through file_source_peek(). */
bool file_source_must_copy(const struct file_source *source);

/* Whether the next bytes are certainly available. Only then may the bytes before them be delayed, to leave
 * together. */
bool file_source_is_ready(struct file_source *source);

/* Whether file_source_peek() is worth a try before the bytes are needed: they are available, or the peek itself finds
 * out without waiting. */
bool file_source_may_peek(struct file_source *source);

/* From now on the source itself reads nothing. It returns FILE_SOURCE_COLD until it is given its next bytes. For a
 * regular file that the page cache does not hold. */
void file_source_read_by_thread(struct file_source *source);

/* Gives the source its next bytes, and the ownership of them. If there are none, the file has ended, or with
 * `error`. The source has no others: it has returned FILE_SOURCE_COLD. */
void file_source_give(struct file_source *source, struct file_copy *copy, int error);

/* Returns the number of bytes of a regular file that are still to be sent from `offset` on. */
uint64_t file_source_left_at(const struct file_source *source, int64_t offset);

/*
 * Moves up to `max` bytes to `out_fd` inside the kernel, without blocking. The caller blocks SIGPIPE. The
 * call never requests more than the file has left: the kernel would delay the tail and wait for more.
 *   > 0  bytes sent
 *   0    the source has ended: see file_source_end_status()
 *   < 0  -EAGAIN: `out_fd` is full; a FILE_SOURCE_ result; or another negative errno
 */
ssize_t file_source_send(struct file_source *source, int out_fd, size_t max);

/* Sets `data` to the next bytes, up to `max`, without moving on. The results are those of
 * file_source_send(). `data` is valid until the next call. */
ssize_t file_source_peek(struct file_source *source, const void **data, size_t max);

/* Moves on by `count` bytes that were sent after a peek. A negative errno: the file's own position could
 * not be moved, and the next read would return the same bytes again. */
int file_source_skip(struct file_source *source, size_t count);

/* The status of a file whose source has ended now: 0, or -EIO if bytes are missing. */
int file_source_end_status(const struct file_source *source);

/* The position of the next byte in the file. */
int64_t file_source_position(const struct file_source *source);

#endif
