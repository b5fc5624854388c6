#ifndef FERRY_TRANSPORT_CORE_H
#define FERRY_TRANSPORT_CORE_H

#include "libevent/fields.h"
#include "transport/fields.h"
#include "transport/reader.h"

/*
 * The transport's states, and the steps that it wants next. Nothing here calls the user.
 *
 * The files of this folder, from the lowest to the highest:
 *
 *   core       this
 *   end        closing, half-closing, aborting, freeing
 *   send       bytes and descriptors that users put into the stream
 *   write      the write step
 *   flush      writing without the loop
 *   deliver    the callbacks for data, descriptors, and the start and end of a connection
 *   read       the read step
 *   events     the bufferevent's callbacks turned into a protocol's
 *   loop       work that must run from the loop
 *   watch      what becomes of the peer while nobody reads
 *   transport  making, settings, pausing
 *   peer       the process at the other end
 *   tls        whether the kernel has the keys of the connection
 *   bypass     whether bytes may be moved without the transport
 *   producer, file_producer, file_wait    objects that fill the stream
 *
 * Everything runs with the bufferevent locked. Any callback may free the transport. Its memory lives until
 * the loop has finalised its event; a function that has called the user checks transport_is_over().
 */

/* ---- the states: one writer for each ---- */

/* Moves on, never back. */
void transport_advance_life(struct ferry_transport *transport, enum transport_life life);

/* The peer has sent its end of file. Called again when deferred input was delivered: the half is then
 * IN_EOF, unless the user has paused again. */
void transport_read_half_ended(struct ferry_transport *transport);

/* The user ends the sending half: no more is queued. */
void transport_write_half_closing(struct ferry_transport *transport);

/* All is sent, and the kernel ends the stream to the peer, or is about to. */
void transport_write_half_shut(struct ferry_transport *transport);

/* The kernel takes no more. The first error stays. If the peer is gone, what it has sent is still to be read. The second
 * is for a write outside of the write step: the step runs soon, and reports the error. */
void transport_write_half_broken(struct ferry_transport *transport, int error);
void transport_write_will_fail(struct ferry_transport *transport, int error);

/* The transport never connected, or connection_made has run: it does not run for this protocol any more. */
void transport_connection_made(struct ferry_transport *transport);

/* The protocol knows of the peer's end: read_connection_lost runs once for a protocol, on one socket. */
void transport_end_notified(struct ferry_transport *transport);

void transport_set_protocol_table(struct ferry_transport *transport,
                                  const struct ferry_protocol *table, void *context);
void transport_set_reading_paused(struct ferry_transport *transport, bool paused);

/* ---- the socket ---- */

/* Asks the kernel about a socket. On failure the transport is as it was. */
int transport_examine_socket(struct ferry_transport *transport, int fd);

/* The socket is a non-blocking stream of IPv4 or IPv6, without TLS in the kernel. */
void transport_set_known_inet(struct ferry_transport *transport);

/* Takes the events again if bufferevent_setfd() has put libevent's own steps back. Both halves are then open
 * again. */
void transport_take_socket(struct ferry_transport *transport);

/* The same; each call of the transport comes here first. */
static inline void transport_notice_socket(struct ferry_transport *transport)
{
	if (fields_read_step(transport->rearm.bev) != transport->rearm.steps->on_read)
		transport_take_socket(transport);
}

/* Whether the peer has closed its end, as far as the kernel shows it; at the end of the connection, whether it had. */
bool transport_peer_has_closed(const struct ferry_transport *transport);

/* The same before this side ends a half, because it can hardly be found later. It keeps the answer, except where
 * shutdown(2) gives it for nothing. */
void transport_keep_peer_closed(struct ferry_transport *transport);

/* shutdown(2) has found a peer of TCP that was gone. */
void transport_peer_was_gone(struct ferry_transport *transport);

/* Puts the bufferevent back into its rate limit group, after a suspension took it out. */
void transport_rejoin_group(struct ferry_transport *transport);

/* Enables reading. -ENOMEM. */
int transport_enable_reading(struct ferry_transport *transport);

/* ---- what it wants next ---- */

/* Gives the loop's event the priority that the bufferevent has now. */
void transport_follow_priority(struct ferry_transport *transport);

/* Runs the loop's work soon (transport/loop.h). */
void transport_want_loop(struct ferry_transport *transport);

/* Runs the write step soon. */
void transport_want_write(struct ferry_transport *transport);

/* Waits no longer until the socket is writable: the write timeout stops too. */
void transport_stop_waiting(struct ferry_transport *transport);

/* ---- the watch over the peer (transport/watch.h) ---- */

/* The watch; it is made if there is none yet. NULL: no memory. */
struct transport_watch *transport_need_watch(struct ferry_transport *transport);

/* Without memory for it: the loop looks later for what it was needed for. */
void transport_watch_later(struct ferry_transport *transport);

/* Arms the watch for what the state needs, or removes it. Without memory it is armed later, from the loop. */
void transport_arm_watch(struct ferry_transport *transport);

/* Reading may have been turned off: arms the watch, if it is not armed and the peer's end would not be noticed. */
void transport_watch_peer(struct ferry_transport *transport);

/* Whether the peer could be gone without an event of the bufferevent's: nobody reads. */
bool transport_peer_may_vanish(const struct ferry_transport *transport);

/* In the watch's callback: whether it runs at another priority than the bufferevent has now. It then runs again, at
 * that one. */
bool transport_watch_yields(struct ferry_transport *transport, short what);

void transport_stop_watching(struct ferry_transport *transport);
void transport_free_watch(struct ferry_transport *transport);
/* The time after `timeout`: INT64_MAX if there is none. */
int64_t transport_deadline(int64_t now, int64_t timeout);

/* ---- its objects ---- */

/* Registers the watcher, or removes it (NULL). */
void transport_set_watcher(struct ferry_transport *transport,
                           const struct transport_watcher *watcher);

/* Has the incoming stream ask the reader, if there is one and positions are found. */
void transport_link_reader(struct ferry_transport *transport);

/* Closes the pending descriptors. */
void transport_close_pending(struct ferry_transport *transport);

#endif
