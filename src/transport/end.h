#ifndef FERRY_TRANSPORT_END_H
#define FERRY_TRANSPORT_END_H

#include "transport/core.h"

/*
 * The ways in which a connection ends: closed once all is sent, by half or whole, aborted, lost, freed.
 * transport_end() and transport_close_with_peer() are in transport/interface.h.
 */

/* Goes on with a close or half-close that need not wait any longer. */
void transport_settle_close(struct ferry_transport *transport);

/* Does what transport_close_with_peer_later() has left to the loop. */
void transport_settle_close_due(struct ferry_transport *transport);

/* Whether a TCP peer has acknowledged all bytes, after SHUT_WR: the end of the stream counts as one, and the peer may
 * delay its acknowledgement. `queue` is send_queue_length(). */
bool transport_is_acknowledged(int queue);

/* The user has moved the stream to a socket that it cannot use: ends the connection. Without a protocol the event
 * callback has the error, from the loop. */
void transport_refuse_socket(struct ferry_transport *transport, int error);

/* Removes the watcher, and notifies it that the connection is gone. */
void transport_dismiss_watcher(struct ferry_transport *transport);

/* Disables one direction and runs the user's event callback, as libevent does; if a
 * silent write step has failed without a protocol, from the loop. */
void transport_report_event(struct ferry_transport *transport, short what, int error);

/* The user enabled an event on a finished connection. Disables it: it would fire on every iteration. */
void transport_disable_ended(struct ferry_transport *transport, short what);

#endif
