#ifndef FERRY_TRANSPORT_FILE_WAIT_H
#define FERRY_TRANSPORT_FILE_WAIT_H

#include <stdint.h>

#include "transport/core.h"

/*
 * A file in the stream that waits for its next bytes. If the source has none now, an event waits for input.
 * If the bytes are on the disk, a thread reads them into memory, and a timer checks for them. When they
 * are available, or have taken too long, the stream goes on.
 *
 * The caller has locked the transport.
 */
struct file_wait {
	struct ferry_transport *transport;
	struct outgoing_file *file;
	struct event *event; /* waits for input or is a timer; NULL until first needed */
	uint64_t ticket;     /* of the piece that is being read into memory, or 0 */
	int64_t asked_from;  /* the range last requested, in consecutive pieces */
	int64_t asked_until; /* 0: no request was made */
	unsigned int looks;  /* the checks since the file last made progress */
};

/* The stream has reached the file, whose `waiting` is set; or has reached it again, because other output was
 * queued. Clears `waiting` if no event would ever end the wait. */
void file_wait_begin(struct file_wait *wait);

/* Some bytes of the file have been sent. Requests the next piece if the file has been found on the disk. */
void file_wait_stay_ahead(struct file_wait *wait);

/* The file's descriptor is about to be closed. Removes it from libevent and cancels the request. */
void file_wait_end(struct file_wait *wait);

/* Frees the event, after file_wait_end(), from the loop. */
void file_wait_release(struct file_wait *wait);

#endif
