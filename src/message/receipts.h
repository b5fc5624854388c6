#ifndef FERRY_MESSAGE_RECEIPTS_H
#define FERRY_MESSAGE_RECEIPTS_H

#include "message/core.h"

/* The callbacks of users that wait until the kernel has a message: ferry_message_stream_notify_sent(). */

/* In the write step: the kernel has taken bytes. Callbacks that are due run from the loop. */
void message_receipts_advance(struct ferry_message_stream *stream);

/* The connection has ended: runs the callbacks that are left. They may free the stream. `reason`: of connection_lost. */
void message_receipts_end(struct ferry_message_stream *stream, int reason);

/* The same when the stream is freed, with its transport; and frees the queue. */
void message_receipts_free(struct ferry_message_stream *stream);

#endif
