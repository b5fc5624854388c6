#ifndef FERRY_FILE_PRODUCER_H
#define FERRY_FILE_PRODUCER_H

/**
 * @file file_producer.h
 * @brief A file, or a range of one, in the stream of a transport, sent by sendfile(2).
 *
 * The file takes its place in the stream: bytes written before it go before it, bytes written after
 * it wait. Headers and trailers are just writes before and after.
 *
 * @code
 * static void finished(struct ferry_file_producer *producer, int status, uint64_t sent,
 *                      void *context)
 * {
 *     if (status != 0)
 *         ferry_transport_abort_connection(context);    // the peer expects bytes that will not come
 * }
 * static const struct ferry_file_callbacks callbacks = {.finished = finished};
 *
 * ferry_transport_write(transport, header, header_length);
 * ferry_transport_send_file(transport, fd, FERRY_FD_TAKE, 0, FERRY_TO_END, &callbacks, transport,
 *                           NULL);
 * @endcode
 *
 * The bytes are those of the page cache: what is written to the file after sendfile(2) has queued
 * its pages and before the peer has read them arrives changed.
 */

#include <stdint.h>

#include "ferry/export.h"
#include "ferry/transport.h"

FERRY_BEGIN_DECLS

/** One file in a stream. Opaque; belongs to the transport, valid until its `finished` returns. */
struct ferry_file_producer;

/** As an offset: start at the file's own position, and move that by exactly what is sent. */
#define FERRY_FILE_POSITION INT64_MIN

/** As a length: to the end that the file has at the call. What is appended later is not sent. */
#define FERRY_TO_END INT64_MAX

/** A file's callbacks. ferry keeps the pointer: the table must outlive the file's sending. Each may
 *  call any ferry function, ferry_transport_free() included. Since 0.1. */
struct ferry_file_callbacks {
	/** @p sent of @p total bytes have been taken by the kernel. At most once a wake-up of the loop,
	 *  and not after `finished`. */
	void (*progress)(struct ferry_file_producer *producer, uint64_t sent, uint64_t total,
	                 void *context);

	/** The file is done with, exactly once, from the loop, also after ferry_transport_free().
	 *  @p sent bytes of it have been taken by the kernel. @p status is 0: all of it; -EIO: the file
	 *  ended before its length (it was truncated) or could not be read; -ECANCELED:
	 *  ferry_file_producer_stop() or ferry_transport_free(); else why it could not be read, or why
	 *  the connection was lost. The file's descriptor has been closed. */
	void (*finished)(struct ferry_file_producer *producer, int status, uint64_t sent,
	                 void *context);

	/** For later versions; leave NULL. */
	void (*reserved[2])(void);
};

/**
 * Puts a file, or a range of one, into the stream.
 *
 * @param transport the transport, on any kind of socket or on pipes
 * @param fd the file, open for reading; what sendfile(2) can read from: a regular file, a memfd, a
 *        block device. Another kind finishes with what the kernel says
 * @param ownership FERRY_FD_TAKE: ferry closes @p fd when the file is done with; FERRY_FD_DUP: it
 *        uses a duplicate. On failure the caller still owns @p fd
 * @param offset the first byte, 0 or more, which leaves the file's own position alone; or
 *        FERRY_FILE_POSITION
 * @param length bytes to send, or FERRY_TO_END. Longer than what the file has: `finished` tells
 *        -EIO and how much there was
 * @param callbacks what is told, or NULL; must outlive the file's sending
 * @param context handed to each callback
 * @param[out] producer the file, to pause, resume or stop it; may be NULL
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL, @p ownership is neither, @p offset or @p length is negative,
 *         or their sum overflows
 * @retval -EBADF @p fd is not open, or not for reading
 * @retval -EISDIR it is a directory
 * @retval -ESPIPE @p offset is FERRY_FILE_POSITION and the file has none
 * @retval -EPIPE the connection is over or being closed, or its sending half is
 * @retval -EMFILE FERRY_FD_DUP and no descriptor number is free
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_send_file(struct ferry_transport *transport, int fd,
                                           enum ferry_fd_ownership ownership, int64_t offset,
                                           int64_t length,
                                           const struct ferry_file_callbacks *callbacks,
                                           void *context, struct ferry_file_producer **producer);

/** Holds the file, and with it all that was written after it, until ferry_file_producer_resume(). A
 *  held file does not run into the write timeout. Nothing happens when it is held already, is done
 *  with, or is NULL. Since 0.1. */
FERRY_EXPORT void ferry_file_producer_pause(struct ferry_file_producer *producer);

/** Goes on. Nothing happens when the file is not held, is done with, or is NULL. Since 0.1. */
FERRY_EXPORT void ferry_file_producer_resume(struct ferry_file_producer *producer);

/** Sends no more of the file; `finished` follows from the loop with -ECANCELED, and what was written
 *  after the file goes on. Nothing happens when it is done with, or is NULL. Since 0.1. */
FERRY_EXPORT void ferry_file_producer_stop(struct ferry_file_producer *producer);

FERRY_END_DECLS

#endif
