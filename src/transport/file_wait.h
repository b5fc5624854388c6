#ifndef FERRY_TRANSPORT_FILE_WAIT_H
#define FERRY_TRANSPORT_FILE_WAIT_H

#include <stdint.h>

#include "transport/core.h"

/*
 * How a file in the stream waits for its next bytes: for its source to have some, by an event; or, if
 * they are on the disk, for a thread to bring them into memory, by a timer. When they are there, or
 * have taken too long, the stream goes on.
 *
 * All of it runs with the transport locked.
 */
struct file_wait {
	struct ferry_transport *transport;
	struct outgoing_file *file;
	struct event *event; /* for input, or for a while; made when first needed */
	uint64_t ticket;     /* of the piece that is being brought into memory, or 0 */
	int64_t asked_from;  /* what was brought in, or is being, of what it goes on with */
	int64_t asked_until; /* 0: never anything */
	unsigned int looks;  /* how often the next piece was not there yet */
};

/* The stream has come to the file, which is marked as waiting; or has come to it again, for something
 * else that was written. Takes the mark away if nothing would ever end the waiting. */
void file_wait_begin(struct file_wait *wait);

/* Some of the file has been sent: has the next piece brought in, if it is from a disk. */
void file_wait_stay_ahead(struct file_wait *wait);

/* The file's descriptor is about to be closed: neither libevent nor the thread is left with it. */
void file_wait_end(struct file_wait *wait);

/* After the end, from the loop. */
void file_wait_release(struct file_wait *wait);

#endif
