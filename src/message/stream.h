#ifndef FERRY_MESSAGE_STREAM_H
#define FERRY_MESSAGE_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "ferry/message.h"

struct evbuffer;

/*
 * What the handoff needs of messages beyond the public functions.
 */

enum { MESSAGE_PARTS_MAX = 4 };

/*
 * Sends a message whose payload is in `count` parts. `fd` -1: without a descriptor. Else it is lent: the
 * sender keeps it, open, until the message has left or the stream is freed. The errors of
 * ferry_message_stream_send().
 */
int message_stream_send_parts(struct ferry_message_stream *stream, uint16_t type,
                              const struct iovec *parts, unsigned int count, int fd);

/* The position in the outgoing stream behind what has been sent so far, and up to which the kernel has
 * it. */
uint64_t message_stream_end_position(const struct ferry_message_stream *stream);
uint64_t message_stream_sent_position(const struct ferry_message_stream *stream);

/*
 * In message_received: keeps the message. It is handed out once more, with its descriptors, by
 * message_stream_resume(), or by itself once nothing can be sent any more; unless the connection ends
 * before, which closes them. Nothing is read meanwhile, and no other message handed out. Needs no memory:
 * the frame stays where it is.
 */
void message_defer(struct ferry_message *message);

/* Hands the kept message out now. Those behind it come from the loop. */
void message_stream_resume(struct ferry_message_stream *stream);

/* All that was received and not handed out, from the start of a frame on. */
struct evbuffer *message_stream_undelivered(struct ferry_message_stream *stream);

/* Whether what is queued can still be sent, as far as is known. */
bool message_stream_can_send(const struct ferry_message_stream *stream);

/* Ends the connection, for a reason of the caller's. What is queued is dropped. */
void message_stream_end(struct ferry_message_stream *stream, int reason);

/* Writes what is queued now, as much as the kernel takes, rather than at the end of the loop's turn. */
void message_stream_flush(struct ferry_message_stream *stream);

/* Has `sent` called whenever the kernel has taken something more, in the middle of the write step: it may
 * run user code, which may free the stream. NULL: nobody. */
void message_stream_set_sent_cb(struct ferry_message_stream *stream, void (*sent)(void *argument),
                                void *argument);

#endif
