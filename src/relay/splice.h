#ifndef FERRY_RELAY_SPLICE_H
#define FERRY_RELAY_SPLICE_H

#include "relay/fields.h"

/*
 * While one peer sends much to the other one, and nobody filters, the bytes go from socket to socket through a pipe, by
 * splice(2), past both transports. The transport does not read meanwhile. It reads again whenever there is anything but
 * bytes, and finds the end by itself. An error is reported to it.
 */

/* Begins from the loop, if the last read promises more, and nothing is in the way. */
void relay_splice_consider(struct relay_end *from);

/* The transport reads again. What is in the pipe goes into the other end's queue. */
void relay_splice_stop(struct relay_end *from);

/* The transport has read in spite of the splice. The bytes in the pipe are before those. */
void relay_splice_overtaken(struct relay_end *from);

/* Drops what is in the pipe. */
void relay_splice_free(struct relay_end *from);

#endif
