#ifndef FERRY_STREAM_OUTGOING_H
#define FERRY_STREAM_OUTGOING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/buffer.h>

#include "ferry/transport.h"

#include "stream/marks.h"

/*
 * The outgoing stream: bytes, descriptors and files in the order of the calls, and the write loop.
 *
 * The bytes are in an evbuffer, the bufferevent's output. Descriptors and files are marks at positions in
 * those bytes (stream/marks.h). A byte costs nothing extra, and a stream without descriptors and files is
 * just its buffer.
 */

/* What the kernel makes of the bytes. */
enum outgoing_framing {
	OUTGOING_BYTES = 0,
	OUTGOING_SEGMENTS, /* of TCP: a header and its file are joined in one */
	OUTGOING_RECORDS /* of TLS in the kernel: nothing delays one, and the end of a file completes one */
};

struct outgoing {
	struct evbuffer *buffer;
	struct marks *marks; /* NULL: outgoing_need_marks() was not called yet */
	struct marks_limits limits;
	struct stream_counters stats; /* of both directions */
	uint64_t drained;             /* the position of the buffer's first byte */
	uint64_t
	    own_drain; /* bytes that this stream has drained, and outgoing_note_drained() not yet seen */

	bool carries_fds;      /* a unix socket */
	bool is_socket;        /* sendmsg(2), not writev(2) */
	unsigned char framing; /* an enum outgoing_framing */
	bool coalescing;
	bool flushing; /* a flush is on the stack */
	bool stopped;
	bool left;     /* stopped, and the buffer and the socket live on */
	bool replaced; /* the socket was, during a flush */
};

/* The result of a flush. */
enum outgoing_state {
	OUTGOING_IDLE,      /* nothing to send; descriptors without a byte may wait */
	OUTGOING_FULL,      /* the kernel takes no more until the socket is writable */
	OUTGOING_YIELDED,   /* the budget is spent, and there is more */
	OUTGOING_NO_MEMORY, /* or too many descriptors in flight; no poll reports the end of it */
	OUTGOING_PAUSED     /* the next item is a paused or waiting file */
};

void outgoing_init(struct outgoing *outgoing, struct evbuffer *buffer);

/* Makes a file of a source that is in the buffer. NULL: no memory. */
typedef struct outgoing_file *(*outgoing_adopt_cb)(struct outgoing *outgoing,
                                                   const struct file_source *source);

/* The position behind the last byte that is queued. */
static inline uint64_t outgoing_end(const struct outgoing *outgoing)
{
	return outgoing->drained + evbuffer_get_length(outgoing->buffer);
}

/* Allocates the marks, if that is not done yet. -ENOMEM. */
int outgoing_need_marks(struct outgoing *outgoing);

/* Queues a file behind all bytes. The stream closes its descriptor when the file is finished. -ENOMEM. */
int outgoing_push_file(struct outgoing *outgoing, struct outgoing_file *file);

/* Sends bytes that are not in the buffer, in a single call, while nothing is queued. Returns how many the kernel has
 * taken: 0 if it takes none now; or a negative errno. */
ssize_t outgoing_send(struct outgoing *outgoing, int fd, const void *data, size_t length);

/* For the buffer's callback: `count` bytes have left the buffer. Positions move on by the bytes that the
 * stream has not drained itself. */
void outgoing_note_drained(struct outgoing *outgoing, size_t count);

/*
 * Sends to `fd`, in order, about `budget` bytes at most, in a bounded number of calls. `sent` is the number
 * of bytes. Returns an outgoing_state, or a negative errno if the connection is broken. The user's callbacks
 * on the buffer run. They may stop the stream, or replace the socket: the result is then OUTGOING_IDLE, and
 * the rest is for the other socket.
 */
int outgoing_flush(struct outgoing *outgoing, int fd, size_t budget, outgoing_adopt_cb adopt,
                   size_t *sent);

/* Abandons the marks with `status`, drops the bytes, and ends a flush that is further up the stack. */
void outgoing_stop(struct outgoing *outgoing, int status);

/* Forgets the segment with which the buffer begins. The segment stays in the buffer, at the bytes that are not
 * sent. */
void outgoing_forget_segment(struct outgoing *outgoing);

/* Ends a flush that is further up the stack, and leaves the bytes to another owner of the buffer. There are
 * no marks. */
void outgoing_leave(struct outgoing *outgoing);

/* The next item if it is a file that is paused, or waits for its source; else NULL. */
struct outgoing_file *outgoing_paused_file(const struct outgoing *outgoing);

static inline bool outgoing_is_paused(const struct outgoing *outgoing)
{
	return outgoing_paused_file(outgoing) != NULL;
}

/* Whether all bytes and files are sent. */
bool outgoing_is_sent(const struct outgoing *outgoing);

#endif
