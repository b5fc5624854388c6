#ifndef FERRY_TRANSPORT_READER_H
#define FERRY_TRANSPORT_READER_H

#include <stdbool.h>
#include <stddef.h>

struct ferry_transport;

/* Takes each read as a whole, in place of the callbacks for single descriptors: the messages. */
struct transport_reader {
	/* How many bytes the next read may take. 0: the reader has called transport_suspend_reading(). */
	size_t (*admits)(void *argument);
	/* With exact positions: the same before a read that may bring descriptors. */
	bool (*admits_fds)(void *argument);
	/* A read of `length` bytes, now at the input's end, brought these descriptors, which the reader owns.
	 * `loss`: the kernel could not install others. */
	void (*received)(void *argument, const int *fds, unsigned int count, bool loss, size_t length);
	/* Runs in the middle of the write step, whenever the kernel has taken bytes. It may run user code, and free the
	 * transport. */
	void (*sent)(void *argument);
};

/* Registers the reader. Descriptors of half a read that are still pending are closed. */
void transport_set_reader(struct ferry_transport *transport, const struct transport_reader *reader,
                          void *argument);

#endif
