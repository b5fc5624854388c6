#ifndef FERRY_MESSAGE_RECEIVE_H
#define FERRY_MESSAGE_RECEIVE_H

#include <stdbool.h>
#include <stdint.h>

#include <event2/util.h>

#include "ferry/message.h"

struct arrivals;
struct evbuffer;

/*
 * The receiving half of a stream of messages. The first calls are for stream.c, the others for the layers
 * above.
 */

/* Registers the stream as the transport's reader: it gets the descriptors of whole reads. */
void message_receive_start(struct ferry_message_stream *stream);

/* Delivers the messages of which the last byte is in the input. User code may free the stream; its memory
 * stays. */
void message_receive_input(struct ferry_message_stream *stream, struct evbuffer *input);

/* The peer has closed its sending half: ends the connection after the last message. If reading is paused
 * or a message is deferred, that waits. */
void message_receive_peer_end(struct ferry_message_stream *stream);

/* Closes the descriptors of undelivered messages and counts them as unclaimed. Does nothing inside
 * message_received, or as long as a deferred message can still be delivered: they are closed later. */
void message_receive_close_fds(struct ferry_message_stream *stream);

/* The callback of the stream's timer: resumes reading if descriptor slots are free by now. */
void message_receive_on_timer(evutil_socket_t fd, short what, void *argument);

/* Ends the connection with this reason. The output queue is dropped. */
void message_stream_end(struct ferry_message_stream *stream, int reason);

/*
 * Called in message_received: defers the message. message_stream_resume() delivers it once more, with its
 * descriptors; so does the stream itself when nothing can be sent any more. If the connection ends before,
 * the descriptors are closed. Until then nothing is read and no other message is delivered. Takes no
 * memory: the frame stays where it is.
 */
void message_defer(struct ferry_message *message);

/*
 * From now on no read brings descriptors while no descriptor slot is free: what is before them is read and delivered,
 * then the stream waits, and tries every 20 ms. So none is lost. Costs a system call for each read, and two more for
 * one that brings descriptors. Without effect if the kernel does not let the positions of descriptors be found.
 */
void message_stream_need_slots(struct ferry_message_stream *stream);

/* Whether the stream waits for a slot. */
bool message_stream_lacks_slot(const struct ferry_message_stream *stream);

/* Delivers the deferred message now, if there is one. The messages behind it are delivered from the loop. */
void message_stream_resume(struct ferry_message_stream *stream);

/* What was received and not delivered. */
struct message_rest {
	struct evbuffer *input;    /* the bytes, from the beginning of a frame on */
	uint64_t position;         /* of the first of them in the incoming stream */
	struct arrivals *arrivals; /* the descriptors that came with them */
	int claimed; /* so many of those are the first frame's; -1: it has claimed none yet */
};

/* For the fence, which reads the rest in place of the stream. The stream must be freed afterwards. */
struct message_rest message_stream_take_rest(struct ferry_message_stream *stream);

#endif
