#ifndef FERRY_READ_AHEAD_H
#define FERRY_READ_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A thread that brings pieces of files into the page cache, so that the loop does not wait for the disk.
 *
 * There is one for each owner (an event_base) that has met a cold file, shared by all that acquire it
 * with that owner, and gone with the last of them.
 */
struct read_ahead;

/* The owner's thread, started if need be. NULL when that fails: one can do without. */
struct read_ahead *read_ahead_acquire(const void *owner);

/* Gives it back; the last waits for the thread to end. NULL: nothing happens. */
void read_ahead_release(struct read_ahead *read_ahead);

/* Has `length` bytes from `offset` on brought in. `fd` may be closed at once. False when the queue is
 * full or no descriptor is free. */
bool read_ahead_request(struct read_ahead *read_ahead, int fd, int64_t offset, size_t length);

#endif
