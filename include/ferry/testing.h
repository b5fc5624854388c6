#ifndef FERRY_TESTING_H
#define FERRY_TESTING_H

/**
 * @file testing.h
 * @brief A transport whose far end is in the hand of a test.
 *
 * For the tests of programs that use ferry: protocols, producers, messages, workers and dispatchers, whatever
 * stands on a transport. The transport is a real one, on a real socket pair; the test puts bytes,
 * descriptors and ends in at the far end, and takes what was written out there, each descriptor at its
 * position. A library of its own: link with ferry::testing (CMake) or ferry-testing (pkg-config).
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
 * All functions are for the thread of the event_base; none may be called in a callback but the putting
 * and getting ones. Since 0.1, as everything here.
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
 * @retval -EMFILE, -ENFILE no descriptor number is free
 * @retval -ENOMEM out of memory
 */
int ferry_testing_new(struct ferry_testing **out, struct event_base *base);

/** Closes the far end, with the descriptors and bytes that were not taken. The transport, which is not its
 *  own, sees the end of its connection. NULL: nothing happens. */
void ferry_testing_free(struct ferry_testing *far);

/** The transport. It is the caller's, or whose the caller gives it to: its owner frees it, before or after
 *  the far end. */
struct ferry_transport *ferry_testing_get_transport(const struct ferry_testing *far);

/* ---- putting in ---- */

/**
 * Sends bytes to the transport; they are read when the loop runs.
 *
 * @retval 0 done
 * @retval -EINVAL @p far is NULL, or @p data with a length
 * @retval -EAGAIN the transport does not read, and no more fits into the socket: nothing, or a part of it,
 *         was sent (pump, or resume reading, and put less)
 * @retval -EPIPE the transport's connection has ended, or ferry_testing_put_eof() was called
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
 * @retval -EINVAL an argument is NULL or a number is out of range
 * @retval -EBADF one of @p fds is not open
 * @retval -EAGAIN, -EPIPE as ferry_testing_put()
 */
int ferry_testing_put_fds(struct ferry_testing *far, const void *data, size_t length,
                          const int *fds, size_t fd_count);

/** Half-closes: the transport reads an end, and can still write. -EINVAL: @p far is NULL. -EPIPE: the
 *  connection has ended. */
int ferry_testing_put_eof(struct ferry_testing *far);

/** Breaks the connection: the transport gets ECONNRESET, and EPIPE when it writes. What was put before is
 *  still read. Take what was written before: afterwards nothing is to be had. -EINVAL: @p far is NULL.
 *  -EPIPE: it has ended already. */
int ferry_testing_put_reset(struct ferry_testing *far);

/* ---- taking out ---- */

/** What the transport has sent and was not taken, as of the last ferry_testing_pump(). The far end's own;
 *  drain what was looked at. */
struct evbuffer *ferry_testing_get_written(struct ferry_testing *far);

/** How many descriptors were received and not taken. */
size_t ferry_testing_count_fds(const struct ferry_testing *far);

/**
 * Takes the first of them, which is the caller's from then on.
 *
 * @param far the far end
 * @param[out] position the number of bytes that the transport had sent before the byte that it came with;
 *        may be NULL
 * @return the descriptor; -ENOENT: there is none; -EINVAL: @p far is NULL
 */
int ferry_testing_take_fd(struct ferry_testing *far, uint64_t *position);

/** Whether the transport has closed its connection, or half of it: no more will be written. */
bool ferry_testing_has_ended(const struct ferry_testing *far);

/* ---- the loop ---- */

/**
 * Has the socket take nothing more from the transport, as that of a peer which does not read; and takes
 * this back. What is written meanwhile waits in the transport.
 *
 * @retval 0 done
 * @retval -EINVAL @p far is NULL
 * @retval -EPIPE the connection has ended
 *
 * The transport must still be there, with its own socket.
 */
int ferry_testing_set_full(struct ferry_testing *far, bool full);

/**
 * Runs the loop, and reads at the far end, until nothing more happens by itself. It does not wait: not for
 * timers, not for other threads or processes, nor for a cold file to come from the disk.
 *
 * @retval 0 all is quiet
 * @retval -EINVAL @p far is NULL
 * @retval -EBUSY it does not become quiet: something goes round in circles
 * @retval -EMFILE descriptors that the transport had sent did not arrive, for want of free numbers
 * @retval -ENOMEM out of memory
 */
int ferry_testing_pump(struct ferry_testing *far);

/**
 * The same, but waits until the condition holds: for timers, threads and processes.
 *
 * @param far the far end
 * @param condition looked at again and again
 * @param argument handed to it
 * @param seconds how long at most
 * @retval 0 it holds
 * @retval -ETIMEDOUT it does not
 * @retval other as ferry_testing_pump()
 */
int ferry_testing_pump_until(struct ferry_testing *far, bool (*condition)(void *argument),
                             void *argument, unsigned int seconds);

FERRY_END_DECLS

#endif
