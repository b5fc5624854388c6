#ifndef FERRY_TRANSPORT_WRITE_H
#define FERRY_TRANSPORT_WRITE_H

#include "transport/core.h"

/* The write step. transport_flush() is in transport/interface.h. */

/* The callbacks of the write event and of the output buffer. */
void transport_on_write(evutil_socket_t fd, short what, void *argument);
void transport_on_output(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                         void *argument);

/* The kernel has taken `length` bytes: the rate limits count them. */
void transport_count_written(struct ferry_transport *transport, size_t length);

/* Runs the step now. `quiet`: the write callback runs only if bytes are sent. */
void transport_write_step(struct ferry_transport *transport, bool quiet);

/* Runs the files' callbacks that are due. `progress`: the kernel took bytes, or the socket has become writable
 * by itself; the write callback runs too. */
void transport_notify_sent(struct ferry_transport *transport, bool progress);

/* Has the loop run callbacks that became due inside a call of the user's: in another turn, if that call is in one of
 * them. */
void transport_notify_later(struct ferry_transport *transport);

/* Runs the callbacks that transport_flush() has left to the loop. */
void transport_notify_flushed(struct ferry_transport *transport);

/* The kernel takes no more, because of this error: abandons what is queued, and reports it to the user. */
void transport_write_failed(struct ferry_transport *transport, int error);

#endif
