#ifndef FERRY_TRANSPORT_FILE_WAIT_H
#define FERRY_TRANSPORT_FILE_WAIT_H

#include <stdint.h>

#include "transport/core.h"

/*
 * A file in the stream that waits for its next bytes. If the source has none now, an event waits for input.
 * If the bytes are on the disk, threads read them into memory, and an event descriptor reports the end of a piece.
 * When the bytes are available, the stream goes on.
 *
 * The caller has locked the transport.
 */
struct file_wait {
	struct ferry_transport *transport;
	struct outgoing_file *file;
	struct event *
	    event; /* waits for input, for the end of a piece, or is a timer; NULL until first needed */
	struct read_ahead *ahead;      /* since the file has been found on the disk */
	int64_t asked_until;           /* behind the last piece that was requested */
	int64_t read_from, read_until; /* what threads have read into the page cache */
	unsigned int looks;            /* the attempts to begin, without memory or a descriptor slot */
};

/* The stream has reached the file, whose `waiting` is set; or has reached it again, because other output was
 * queued. Clears `waiting` if no event would ever end the wait. */
void file_wait_begin(struct file_wait *wait);

/* Some bytes of the file have been sent. Requests the next pieces if the file has been found on the disk. */
void file_wait_stay_ahead(struct file_wait *wait);

/* The file's descriptor is about to be closed. Removes it from libevent and cancels the requests. */
void file_wait_end(struct file_wait *wait);

/* Frees the event, after file_wait_end(), from the loop. */
void file_wait_release(struct file_wait *wait);

#endif
