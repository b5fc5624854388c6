#ifndef FERRY_TESTING_H
#define FERRY_TESTING_H

/**
 * @file testing.h
 * @brief A transport, with a far end for a test to read and write.
 *
 * For the tests of programs that use ferry: of protocols, producers, messages, workers, dispatchers and
 * anything else on a transport. The transport is a real one, on a real socket pair. The test puts bytes,
 * descriptors and ends in at the far end, and takes out the bytes that were written, and each descriptor with
 * its position. The examples testing_a_protocol.c, testing_messages.c and testing_a_handoff.c are such tests. This is a
 * library of its own: link with ferry::testing (CMake) or ferry-testing (pkg-config).
 *
 * @code
 * struct ferry_testing *far;
 * ferry_testing_new(&far, base);
 * ferry_transport_set_protocol(ferry_testing_get_transport(far), &my_protocol, &state);
 *
 * ferry_testing_put(far, "hello\r\n", 7);
 * ferry_testing_pump(far);
 * assert(evbuffer_get_length(ferry_testing_get_written(far)) == strlen("HELLO\r\n"));
 *
 * ferry_transport_free(ferry_testing_get_transport(far));
 * ferry_testing_free(far);
 * @endcode
 *
 * @par Callers
 * Only in the thread of the event_base. Inside a callback only the putting and taking ones.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/transport.h"

FERRY_BEGIN_DECLS

struct evbuffer;
struct event_base;

/** The far end. Opaque. */
struct ferry_testing;

/**
 * Makes a transport and its far end.
 *
 * @param[out] out the far end
 * @param base the event_base of the transport
 * @retval 0 done
 * @retval -EINVAL @p out or @p base is NULL
 * @retval -EMFILE, -ENFILE the process or the system is at its descriptor limit
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
int ferry_testing_new(struct ferry_testing **out, struct event_base *base);

/**
 * Makes two transports that are connected with each other: for both ends of a handoff in one process, with a real
 * dispatcher on one and the worker under test on the other.
 *
 * @code
 * struct ferry_transport *ends[2];
 * struct ferry_testing *client;                    // its transport is the connection that is handed off
 *
 * ferry_testing_new_pair(ends, base);
 * ferry_dispatcher_add_worker(NULL, dispatcher, ends[0], NULL);
 * ferry_worker_new(&worker, ends[1], &my_callbacks, &state);
 * ferry_testing_new(&client, base);
 * ferry_handoff_from_transport(&handoff, ferry_testing_get_transport(client));
 * ferry_dispatcher_hand_off(dispatcher, handoff, outcome, &state);
 * ferry_testing_pump(client);
 * @endcode
 *
 * @param[out] out the transports, which the caller owns
 * @param base the event_base of both
 * @retval 0 done
 * @retval -EINVAL @p out or @p base is NULL
 * @retval -EMFILE, -ENFILE the process or the system is at its descriptor limit
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
int ferry_testing_new_pair(struct ferry_transport *out[2], struct event_base *base);

/** Closes the far end, with the descriptors and bytes that were not taken. The transport stays, and its
 *  connection ends. NULL: nothing happens. Since 0.1. */
void ferry_testing_free(struct ferry_testing *far);

/** Returns the transport, which the caller owns. Its owner frees it, before or after the far end. Since 0.1. */
struct ferry_transport *ferry_testing_get_transport(const struct ferry_testing *far);

/* ---- putting in ---- */

/**
 * Sends bytes to the transport, which reads them when the loop runs. The socket takes about 200 KiB that the transport
 * has not read; ferry_testing_pump() sends the rest, as the transport reads.
 *
 * @param data the bytes, copied; may be NULL when @p length is 0
 * @param length their number
 * @retval 0 done
 * @retval -EINVAL @p far is NULL, or @p data with a length
 * @retval -EAGAIN the socket is full, because the transport has not read what was put before, or a rest of that waits:
 *         nothing was put. Pump, or resume reading
 * @retval -ENOMEM out of memory: nothing was put
 * @retval -EPIPE the transport's connection has ended, or ferry_testing_put_eof() was called
 *
 * Since 0.1.
 */
int ferry_testing_put(struct ferry_testing *far, const void *data, size_t length);

/**
 * Sends bytes with descriptors, which arrive with the first byte.
 *
 * @param far the far end
 * @param data the bytes
 * @param length how many, at least 1
 * @param fds the descriptors; they stay the caller's
 * @param fd_count how many, at most 253
 * @retval 0 done
 * @retval -EINVAL an argument is NULL or a count is out of range
 * @retval -EBADF one of @p fds is not open
 * @retval -EAGAIN, -ENOMEM, -EPIPE as ferry_testing_put()
 *
 * Since 0.1.
 */
int ferry_testing_put_fds(struct ferry_testing *far, const void *data, size_t length,
                          const int *fds, size_t fd_count);

/**
 * Sends a message, of which ferry_message_stream_send() at the far end would have the same bytes (docs/message.md). A
 * message that is broken on purpose is put by ferry_testing_put_fds(), byte by byte.
 *
 * @param far the far end
 * @param type the type
 * @param payload the bytes; may be NULL when @p length is 0
 * @param length how many, at most 1 GiB
 * @param fds the descriptors; they stay the caller's. May be NULL when @p fd_count is 0
 * @param fd_count how many, at most 253
 * @retval 0 done
 * @retval -EINVAL @p far is NULL, an array is NULL with a count, or a count is out of range
 * @retval -EBADF one of @p fds is not open
 * @retval -EAGAIN, -ENOMEM, -EPIPE as ferry_testing_put()
 *
 * Since 0.1.
 */
int ferry_testing_put_message(struct ferry_testing *far, uint16_t type, const void *payload,
                              size_t length, const int *fds, size_t fd_count);

/**
 * Half-closes: the transport reads the end behind all that was put, and can still write.
 *
 * @retval 0 done
 * @retval -EINVAL @p far is NULL
 * @retval -EPIPE the connection has ended
 *
 * Since 0.1.
 */
int ferry_testing_put_eof(struct ferry_testing *far);

/**
 * Breaks the connection: the transport gets ECONNRESET, and EPIPE when it writes. Bytes that were put before are
 * still read, but for those that had no room in the socket. Bytes in the socket that the last pump has not taken out
 * are lost.
 *
 * @retval 0 done
 * @retval -EINVAL @p far is NULL
 * @retval -EPIPE it has ended already
 *
 * Since 0.1.
 */
int ferry_testing_put_reset(struct ferry_testing *far);

/* ---- taking out ---- */

/** Returns the bytes that the transport had sent by the last ferry_testing_pump(), apart from those that the
 *  test has drained. The buffer belongs to the far end; drain the bytes that were checked. Since 0.1. */
struct evbuffer *ferry_testing_get_written(struct ferry_testing *far);

/** Returns the number of descriptors that were received and not taken. Since 0.1. */
size_t ferry_testing_count_fds(const struct ferry_testing *far);

/**
 * Takes the first descriptor, which is the caller's from then on.
 *
 * @param far the far end
 * @param[out] position the number of bytes that the transport had sent before the descriptor's byte; may be
 *        NULL
 * @return the descriptor
 * @retval -ENOENT there is none
 * @retval -EINVAL @p far is NULL
 *
 * Since 0.1.
 */
int ferry_testing_take_fd(struct ferry_testing *far, uint64_t *position);

/** A message that the transport has sent; see ferry_testing_take_message(). Since 0.1. */
struct ferry_testing_message {
	uint16_t type;       /**< as the sender has set it */
	const void *payload; /**< with a zero behind it; valid until the next one is taken */
	size_t length;       /**< of the payload */
	size_t fd_count;     /**< number of `fds` */
	int fds[253];        /**< the caller's from then on */
};

/**
 * Takes the first message out of what the transport had sent by the last ferry_testing_pump(), and its descriptors.
 *
 * @param far the far end
 * @param[out] message the message; on failure it stays as it was, and nothing is taken
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 * @retval -EAGAIN no whole message is there
 * @retval -EMSGSIZE the transport has refused a message that was put, and ends
 * @retval -EPROTO there is something else than a message, or other descriptors than the message declares
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
int ferry_testing_take_message(struct ferry_testing *far, struct ferry_testing_message *message);

/** Returns true if the transport has closed its connection, or its sending half: no more will be written. Since 0.1. */
bool ferry_testing_has_ended(const struct ferry_testing *far);

/* ---- the loop ---- */

/**
 * Fills the socket, so that it takes nothing from the transport, as if the peer did not read; or empties it
 * again. Bytes that are written meanwhile are queued in the transport. The transport must not have been freed or handed
 * off, and must have the socket that it was made with.
 *
 * @param far the far end
 * @param full whether the socket is to be full
 * @retval 0 done
 * @retval -EINVAL @p far is NULL
 * @retval -EPIPE the connection has ended
 *
 * Since 0.1.
 */
int ferry_testing_set_full(struct ferry_testing *far, bool full);

/**
 * Runs the loop, reads at the far end, and sends what was put, until no event is active. It does not wait for timers,
 * other threads, other processes, or a cold file that is read from the disk.
 *
 * @retval 0 no event is active
 * @retval -EINVAL @p far is NULL
 * @retval -EBUSY events are activated without end
 * @retval -EMFILE descriptors that the transport had sent were lost, because this process is at its
 *         descriptor limit
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
int ferry_testing_pump(struct ferry_testing *far);

/**
 * As ferry_testing_pump(), but also waits for timers, threads and processes, until a condition holds.
 *
 * @param far the far end
 * @param condition called before each turn of the loop; returns whether the condition holds
 * @param argument passed to @p condition
 * @param seconds the longest time to wait
 * @retval 0 the condition holds
 * @retval -ETIMEDOUT it does not hold
 * @retval other as ferry_testing_pump()
 *
 * Since 0.1.
 */
int ferry_testing_pump_until(struct ferry_testing *far, bool (*condition)(void *argument),
                             void *argument, unsigned int seconds);

FERRY_END_DECLS

#endif
