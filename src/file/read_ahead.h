#ifndef FERRY_FILE_READ_AHEAD_H
#define FERRY_FILE_READ_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Threads that read pieces of files. The loop then does not wait for the disk, or for the server of a file system.
 *
 * The threads of a process serve all files. A read may hang for ever, in NFS or FUSE: such a thread counts no
 * longer, and another one takes its place. Nobody waits for a thread: it works on its own duplicate of the
 * descriptor and ends by itself, also after its file is gone.
 */

enum { READ_AHEAD_PIECES = 3 }; /* of one file, on their way at a time */

struct file_copy;

/* The pieces of one file. One thread at a time uses it: that which has the transport locked. */
struct read_ahead;

/* Begins with a file; duplicates `fd`. NULL: no memory, or no free descriptor slot. */
struct read_ahead *read_ahead_new(int fd);

/* Whether this process is a child of fork(2), which has no thread of the parent's. */
bool read_ahead_is_lost(const struct read_ahead *read_ahead);

/* Becomes readable after read_ahead_expect(), once, when the oldest piece has ended. -1: no descriptor slot was
 * free. read_ahead_clear() makes it unreadable again. */
int read_ahead_get_event_fd(const struct read_ahead *read_ahead);
void read_ahead_clear(struct read_ahead *read_ahead);

/*
 * Requests the `length` bytes from `offset` on, behind the pieces requested before. `copy`: the thread puts the
 * bytes there, and owns it until the piece is collected; NULL: it reads them into the page cache.
 *   -ENOBUFS  READ_AHEAD_PIECES are requested
 *   -EAGAIN   there is no thread, and none could be started
 */
int read_ahead_request(struct read_ahead *read_ahead, int64_t offset, size_t length,
                       struct file_copy *copy);

/* The number of pieces that are requested and not collected. */
unsigned int read_ahead_count(const struct read_ahead *read_ahead);

/* The offset of the oldest of them; there is one. */
int64_t read_ahead_first(const struct read_ahead *read_ahead);

/* The place from which the file system gets the bytes: a server may also be a daemon of FUSE. */
enum read_place { PLACE_DISK, PLACE_SERVER, PLACE_MEMORY };

struct read_piece {
	int64_t offset;
	size_t length; /* the bytes that were read; fewer than requested at the end of the file */
	int error;     /* of the read that followed: a negative errno, or 0 */
	enum read_place place;
	struct file_copy *copy;
};

/* Takes the oldest piece if it has ended. The caller then owns its copy. */
bool read_ahead_collect(struct read_ahead *read_ahead, struct read_piece *piece);

/* Whether the oldest piece has not ended: the event descriptor will be readable. `queued`: no thread has begun with
 * it; the caller should call again after a while, which may start another thread. */
bool read_ahead_expect(struct read_ahead *read_ahead, bool *queued);

/* Whether a read has hung for so long that close(2) may hang too. The thread then closes `fd`, after its read. */
bool read_ahead_closes(struct read_ahead *read_ahead, int fd);

/* Cancels the pieces, and frees all, at once or when the threads' reads have ended. Never waits. */
void read_ahead_free(struct read_ahead *read_ahead);

#endif
