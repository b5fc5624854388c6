#ifndef FERRY_STREAM_OUTGOING_H
#define FERRY_STREAM_OUTGOING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/buffer.h>

#include "ferry/transport.h"

#include "file/source.h"

/*
 * The outgoing stream: bytes, descriptors and files in the order of the calls, and the write loop.
 *
 * The bytes are in an evbuffer, the bufferevent's output. Descriptors and files are marks at
 * absolute positions in the stream of those bytes, in a queue of their own; a file's own bytes do
 * not count as positions. So writing a byte costs nothing extra, and a stream without descriptors
 * and files is just its buffer.
 *
 *     position   0     5     5      9
 *     bytes      hello       _bye
 *     marks            fd    file   fd      fd travels with "_", wait: with the file's first byte
 */

/* A file in the stream. Whoever puts it there embeds this and owns the memory again once `finished`
 * has been called. */
struct outgoing_file {
	struct file_source source;
	uint64_t sent;
	int status;  /* once finished */
	bool held;   /* not to be sent now, nor what follows */
	int waiting; /* FILE_SOURCE_DRY or _COLD: held until the source has its next bytes; or 0 */
	struct outgoing_file *next; /* in the list of the finished */

	/* Called when the file has left the stream, before its descriptor is closed; may be NULL. */
	void (*leaving)(struct outgoing_file *file);
	/* Called by whoever has flushed the stream and found the file waiting. */
	void (*wait)(struct outgoing_file *file);
	/* Called by outgoing_report(). */
	void (*progress)(struct outgoing_file *file);
	void (*finished)(struct outgoing_file *file);
};

struct mark; /* private */

struct outgoing {
	struct evbuffer *buffer;
	struct ferry_transport_stats *stats;
	uint64_t drained;   /* the position of the buffer's first byte */
	uint64_t own_drain; /* of what was drained, what we have drained and not yet been told of */

	struct mark *marks; /* a ring */
	unsigned int first, count, capacity;
	unsigned int fd_count, file_count;

	uint64_t end_position;   /* where the following are counted: */
	unsigned int fds_at_end; /* descriptors there since the last file */
	unsigned int fds_at_end_all;

	struct outgoing_file *progressed; /* under way, and not yet told */
	struct outgoing_file *finished, **finished_tail;

	unsigned int fd_limit;
	unsigned int max_fds_per_message;
	bool carries_fds; /* a unix socket */
	bool is_socket;   /* sendmsg(2), not writev(2) */
	bool is_inet;     /* joins a header and its file in one segment */
	bool coalescing;
	bool stopped;
	bool replaced; /* the socket was, during a flush */
};

/* How a flush ended. */
enum outgoing_state {
	OUTGOING_IDLE,    /* nothing to send; descriptors without a byte may wait */
	OUTGOING_FULL,    /* the kernel takes no more: wait until it is writable */
	OUTGOING_YIELDED, /* the budget is spent, and there is more */
	OUTGOING_STARVED, /* the kernel is short of memory: wait on a timer, POLLOUT tells nothing */
	OUTGOING_HELD     /* a file is held */
};

void outgoing_init(struct outgoing *outgoing, struct evbuffer *buffer,
                   struct ferry_transport_stats *stats);

/* Frees what is left, after a stop. */
void outgoing_release(struct outgoing *outgoing);

/* Whether `count` more descriptors may be queued now: 0 or -ENOBUFS. */
int outgoing_admits_fds(struct outgoing *outgoing, unsigned int count);

/* Queues descriptors, all of them or none. They are the stream's from now on; or are `lent`, and stay the
 * caller's, who keeps them open until they have left the queue. -ENOMEM. */
int outgoing_push_fds(struct outgoing *outgoing, const int *fds, unsigned int count, bool lent);

/* Queues a file. The stream closes its descriptor when it is finished. -ENOMEM. */
int outgoing_push_file(struct outgoing *outgoing, struct outgoing_file *file);

/* Takes an unfinished file out of the stream and finishes it with `status`. */
void outgoing_finish_file(struct outgoing *outgoing, struct outgoing_file *file, int status);

/* The buffer's callback says that `count` bytes left it: positions move on by those that somebody
 * else has drained. */
void outgoing_note_drained(struct outgoing *outgoing, size_t count);

/*
 * Sends to `fd`, in order, about `budget` bytes at most, in a bounded number of calls. `sent` is how
 * many bytes. Returns an outgoing_state, or a negative errno when the connection is broken. User
 * callbacks on the buffer run, and may stop the stream, or replace the socket: then it is
 * OUTGOING_IDLE, with more to send to another.
 */
int outgoing_flush(struct outgoing *outgoing, int fd, size_t budget, size_t *sent);

/* Tells progress and what has finished, one call at a time: false when there is nothing to tell. */
bool outgoing_report(struct outgoing *outgoing);

/* The connection takes no more: closes the descriptors, finishes the files with `status`. The bytes
 * stay in the buffer. */
void outgoing_abandon(struct outgoing *outgoing, int status);

/* The same, drops the bytes too, and ends a flush that is under way further up the stack. */
void outgoing_stop(struct outgoing *outgoing, int status);

/* Closes the descriptors that wait for a byte, when none will come. How many. */
unsigned int outgoing_close_fds(struct outgoing *outgoing);

/* The file that would go next and waits for its source, or NULL. */
struct outgoing_file *outgoing_waiting_file(const struct outgoing *outgoing);

/* Whether a held file is what would go next. */
bool outgoing_is_held(const struct outgoing *outgoing);

/* Whether all bytes and files are sent. */
bool outgoing_is_sent(const struct outgoing *outgoing);

#endif
