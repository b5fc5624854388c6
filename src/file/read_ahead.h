#ifndef FERRY_FILE_READ_AHEAD_H
#define FERRY_FILE_READ_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A thread that brings pieces of files into the page cache, so that the loop does not wait for the disk.
 *
 * There is one for each owner (an event_base) that has met a cold file, shared by all that acquire it
 * with that owner, and gone with the last of them. It touches nothing of theirs but duplicates of their
 * descriptors.
 */
struct read_ahead;

/* The owner's thread, started if need be. NULL when that fails: one can do without. */
struct read_ahead *read_ahead_acquire(const void *owner);

/* Whether its process has forked, and this is the child, where there is no such thread. */
bool read_ahead_is_lost(const struct read_ahead *read_ahead);

/* Gives it back; the last waits for the thread to end, which takes one step of its work at most. NULL:
 * nothing happens. */
void read_ahead_release(struct read_ahead *read_ahead);

/* Has `length` bytes from `offset` on brought in. `fd` may be closed at once. Returns a ticket, to be
 * asked about or cancelled; 0 when the queue is full or no descriptor is free. */
uint64_t read_ahead_request(struct read_ahead *read_ahead, int fd, int64_t offset, size_t length);

/* Whether all that can be brought in is there. */
bool read_ahead_is_done(struct read_ahead *read_ahead, uint64_t ticket);

/* Drops the request, if it is not done, and with it the duplicate of its descriptor: at once, or after
 * the step that is under way. */
void read_ahead_cancel(struct read_ahead *read_ahead, uint64_t ticket);

#endif
