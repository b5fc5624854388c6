#ifndef FERRY_MESSAGE_SEND_H
#define FERRY_MESSAGE_SEND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "ferry/message.h"

/*
 * The sending half of a stream of messages, for the layers above, beyond ferry_message_stream_send().
 */

/*
 * Sends a message whose payload is the concatenation of `count` parts. If `fd` is not -1 it goes with the
 * message; it is lent: the caller keeps it open until the message has left or the stream is freed. The
 * errors are those of ferry_message_stream_send(). The limit of queued bytes holds for messages with a descriptor
 * alone, and not for the first in an empty output.
 */
int message_stream_send_parts(struct ferry_message_stream *stream, uint16_t type,
                              const struct iovec *parts, size_t count, int fd);

/* Queues a refusal and sends it at once if the kernel takes it. The caller ends the connection. */
void message_stream_send_refusal(struct ferry_message_stream *stream, uint16_t why);

/* The position in the outgoing stream behind the last queued message, and the position up to which the
 * kernel has taken it. */
uint64_t message_stream_end_position(const struct ferry_message_stream *stream);
uint64_t message_stream_sent_position(const struct ferry_message_stream *stream);

/* False if the queue can no longer be sent: the connection is over, or a write has failed. */
bool message_stream_can_send(const struct ferry_message_stream *stream);

/* Writes now as much of the queue as the kernel takes, rather than at the end of the loop's turn. */
void message_stream_flush(struct ferry_message_stream *stream);

/* Registers a function that the write step calls whenever the kernel has taken something. It may run user
 * code, which may free the stream. NULL removes it. */
void message_stream_set_sent_cb(struct ferry_message_stream *stream, void (*sent)(void *argument),
                                void *argument);

#endif
