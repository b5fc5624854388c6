#ifndef FERRY_TRANSPORT_INTERFACE_H
#define FERRY_TRANSPORT_INTERFACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "ferry/transport.h"

/* The calls of the layers above the transport. The fields of struct ferry_transport are visible in src/transport alone.
 *
 * Except where a comment excludes it, the caller has the bufferevent locked, by transport_lock() or because it runs in
 * a callback. */

/* ---- the object ---- */

/* Locks the bufferevent, notices a socket that bufferevent_setfd() has changed, and returns the bufferevent. The caller
 * unlocks it; until then it stays alive. */
struct bufferevent *transport_lock(struct ferry_transport *transport);

/* Runs `freed` when the owner frees the transport. Without the lock: before anybody else knows it. */
void transport_set_free_cb(struct ferry_transport *transport, void (*freed)(void *argument),
                           void *argument);

/* Sets the protocol of an object that owns the transport from then on; `paused`: reading is paused before. The errors of
 * ferry_transport_set_protocol(). On failure nothing has changed. */
int transport_own(struct ferry_transport *transport, const struct ferry_protocol *protocol,
                  void *context, bool paused);

/* The owner leaves the transport to another one, which sets its protocol, or takes it back: then the protocol is the same
 * as before. */
void transport_set_owned(struct ferry_transport *transport, bool owned);

/* ferry_transport_new() on a new bufferevent. `known_inet`: a non-blocking stream of IPv4 or IPv6 without TLS. */
int transport_new_on_new(struct ferry_transport **out, struct bufferevent *bev, bool known_inet);

/* Whether it is such a stream. */
bool transport_is_known_inet(const struct ferry_transport *transport);

/* Whether it was made of two descriptors, which may be sockets. Without the lock too. */
bool transport_is_on_pipes(const struct ferry_transport *transport);

/* Whether descriptors can be sent: on a unix socket. */
bool transport_carries_fds(const struct ferry_transport *transport);

/* The SO_COOKIE of a unix socket; 0 if the kernel has none. */
uint64_t transport_get_cookie(const struct ferry_transport *transport);

/* ---- the states ---- */

/* Whether the connection is not established yet. If connect(2) succeeded at once while writing is disabled, it is,
 * although libevent reports that only when writing is enabled. */
bool transport_is_connecting(const struct ferry_transport *transport);

/* Whether the connection is lost, or the transport freed. */
bool transport_is_over(const struct ferry_transport *transport);

/* Whether the user still receives: the connection is neither closing nor over. */
bool transport_is_open(const struct ferry_transport *transport);

/* Whether received data waits until the user resumes reading. */
bool transport_defers_delivery(const struct ferry_transport *transport);

/* Whether the peer sends no more. */
bool transport_read_has_ended(const struct ferry_transport *transport);

/* Whether more can be queued: while the connection closes, only by the producer that the close waits for. */
bool transport_takes_output(const struct ferry_transport *transport);

/* Whether the kernel may still take what is queued; and if not, the error that ended it. 0: there was none. */
bool transport_can_send(const struct ferry_transport *transport);
int transport_get_error(const struct ferry_transport *transport);

/* Ends the connection now: drops the queue, shuts the socket down, runs connection_lost from the loop. */
void transport_end(struct ferry_transport *transport, int reason);

/* The same for a reason that wins over the error of a write that has ended it, until connection_lost has run. */
void transport_end_for(struct ferry_transport *transport, int reason);

/* When the peer of a protocol without read_connection_lost has ended: closes once all is sent. Runs stop_producing. */
void transport_close_with_peer(struct ferry_transport *transport);

/* The same inside a call of the user: stop_producing runs from the loop. */
void transport_close_with_peer_later(struct ferry_transport *transport);

/* Closes the socket of a bufferevent with BEV_OPT_CLOSE_ON_FREE at once. The transport is to be freed right after. */
void transport_close_socket(struct ferry_transport *transport);

/* ---- receiving ---- */

/* Reads nothing until transport_continue_reading(), whatever the user enables. */
void transport_suspend_reading(struct ferry_transport *transport);

/* Reads again if the user has reading enabled. -ENOMEM: nothing has changed. */
int transport_continue_reading(struct ferry_transport *transport);

/* Runs the bufferevent's read callback, as bufferevent_trigger() with these options. A reader's frames end
 * where they end: its callback runs below the low-water mark too. */
void transport_trigger_read(struct ferry_transport *transport, int options);

/* The same from the loop. BEV_TRIG_DEFER_CALLBACKS would break libevent's queue of active events if the user calls
 * bufferevent_priority_set() before the callback has run. `below_mark`: whatever the low-water mark. */
void transport_trigger_read_later(struct ferry_transport *transport, bool below_mark);

/* Counts received descriptors that were closed because nobody stole them. */
void transport_count_unclaimed_fds(struct ferry_transport *transport, unsigned int count);

/* ---- sending ---- */

/* Whether `length` more bytes may be queued: 0 or -ENOBUFS. */
int transport_admit_bytes(const struct ferry_transport *transport, size_t length);

/* Queues descriptors for the next byte, all of them or none, without a call to the producer. The errors of
 * ferry_transport_send_fd(). `count` is 1 to ANCILLARY_MAX_FDS. */
int transport_queue_fds(struct ferry_transport *transport, const int *fds, unsigned int count,
                        enum ferry_fd_ownership ownership);

/* The same for a descriptor that the caller has checked, and keeps open until it has left the queue. */
int transport_lend_fd(struct ferry_transport *transport, int fd);

/* Writes the queue now instead of at the end of the loop's turn, if nothing suspends writing. Callbacks of users
 * that are due then (files, the producer, the bufferevent's) run from the loop; the reader's `sent` of the next call runs in
 * here. */
void transport_flush(struct ferry_transport *transport);

/* The bytes that the kernel has taken. */
uint64_t transport_bytes_sent(const struct ferry_transport *transport);

/* The same, and those that are queued behind them: the position of the next byte in the stream. */
uint64_t transport_bytes_written(const struct ferry_transport *transport);

/* The writes that the kernel had no memory for. */
uint64_t transport_send_retries(const struct ferry_transport *transport);

#endif
