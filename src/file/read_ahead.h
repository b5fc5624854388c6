#ifndef FERRY_FILE_READ_AHEAD_H
#define FERRY_FILE_READ_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A thread that reads pieces of files into the page cache. The loop then does not wait for the disk.
 *
 * Each owner (an event_base) that has met a cold file has one such thread. All transports that acquire it
 * for that owner share it, and the last one to release it ends it. The thread works only on duplicates of
 * their descriptors.
 */
struct read_ahead;

/* Returns the owner's thread, and starts it if necessary. NULL: it could not be started, and the caller
 * works without it. */
struct read_ahead *read_ahead_acquire(const void *owner);

/* Whether this process is a child of fork(2) without the thread: the thread exists only in the parent. */
bool read_ahead_is_lost(const struct read_ahead *read_ahead);

/* Releases the thread. The last release waits for the thread to end, for at most one step of its work.
 * NULL does nothing. */
void read_ahead_release(struct read_ahead *read_ahead);

/* Requests the `length` bytes from `offset` on. The caller may close `fd` at once. Returns a ticket for the
 * next two functions; 0 if the queue is full or no descriptor slot is free. */
uint64_t read_ahead_request(struct read_ahead *read_ahead, int fd, int64_t offset, size_t length);

/* Whether the request has ended: all bytes that could be read are in the page cache. */
bool read_ahead_is_done(struct read_ahead *read_ahead, uint64_t ticket);

/* Cancels the request if it has not ended, and closes its duplicate of the descriptor: at once, or after
 * the thread's current step. */
void read_ahead_cancel(struct read_ahead *read_ahead, uint64_t ticket);

#endif
