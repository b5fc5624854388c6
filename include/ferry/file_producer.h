#ifndef FERRY_FILE_PRODUCER_H
#define FERRY_FILE_PRODUCER_H

/**
 * @file file_producer.h
 * @brief A file, or a range of one, or what comes from a pipe, a socket or a device, in the stream of
 *        a transport.
 *
 * The file takes its place in the stream: bytes written before it go before it, bytes written after
 * it wait. Headers and trailers are just writes before and after; on TCP a header shares its segment
 * with the file's beginning, and a trailer with its end. A regular file below 16 KiB is read, and leaves
 * in one system call with the bytes before it.
 *
 * Anything that can be read can be sent, in the way that costs the least: see
 * enum ferry_file_method. The loop does not wait for the file: one that has nothing now (an empty pipe, a
 * terminal, a regular file that is not in memory and has to be brought in from the disk) holds the stream
 * until it has; the rest of the loop goes on, and the write timeout does not run.
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
 * ferry_transport_send_file(NULL, transport, fd, FERRY_FD_TAKE, 0, FERRY_TO_END, 0, &callbacks, transport);
 * @endcode
 *
 * Sent by sendfile(2), the bytes are those of the page cache: what is written to the file after the
 * kernel has queued its pages and before the peer has read them arrives changed. FERRY_FILE_COPY is for
 * files where that matters.
 */

#include <stdint.h>

#include "ferry/export.h"

FERRY_BEGIN_DECLS

/** One file in a stream. Opaque; belongs to the transport, valid until its `finished` returns. */
struct ferry_file_producer;

/** As an offset: start at the file's own position, and move that by exactly what is sent, however it
 *  ends. For what has no position (a pipe, a socket, a terminal) the same as 0: what comes next. Since
 *  0.1. */
#define FERRY_FILE_POSITION INT64_MIN

/** As a length: to the end that the file has at the call; what is appended later is not sent. Of what has
 *  no size (a pipe, a socket, a device, a file of /proc): until it ends. Since 0.1. */
#define FERRY_TO_END INT64_MAX

/** A flag of ferry_transport_send_file(): reads the file by read(2) and writes the bytes, in place of
 *  zero-copy. For files whose bytes change while they are sent. Since 0.1. */
#define FERRY_FILE_COPY 0x1U

/** How a file goes; see ferry_file_producer_get_method(). Since 0.1. */
enum ferry_file_method {
	FERRY_FILE_BY_SENDFILE = 1, /**< sendfile(2), from the page cache: regular files, memfds, block
	                             *   devices, and character devices that can be positioned */
	FERRY_FILE_BY_SPLICE = 2,   /**< splice(2): pipes, FIFOs and stream sockets */
	FERRY_FILE_BY_COPY = 3 /**< read(2) and sendmsg(2): the rest (terminals, eventfds), and what the
	                             *   kernel refuses to move by itself (much of /proc, unaligned
	                             *   O_DIRECT, odd file systems) */
};

/** A file's callbacks. ferry keeps the pointer: the table must outlive the file's sending. Each may
 *  call any ferry function, ferry_transport_free() included. Since 0.1. */
struct ferry_file_callbacks {
	/** @p sent of @p total bytes have been taken by the kernel. At most once a wake-up of the loop,
	 *  and not after `finished`. @p total is FERRY_TO_END where nobody knows how many there will be. */
	void (*progress)(struct ferry_file_producer *producer, uint64_t sent, uint64_t total,
	                 void *context);

	/** The file is done with, exactly once, from the loop, also after ferry_transport_free().
	 *  @p sent bytes of it have been taken by the kernel. The file's descriptor has been closed.
	 *  @p status is
	 *  - 0: all of it was sent;
	 *  - -EIO: it ended before its length, or has become shorter since the call, or the disk failed;
	 *  - -ECANCELED: ferry_file_producer_stop() or ferry_transport_free();
	 *  - another errno of reading it: -ECONNRESET of a socket that is the source, for one. The stream
	 *    goes on with what was written after the file;
	 *  - why the connection was lost, as in connection_lost.
	 *
	 *  A shortage (-ENOMEM, -ENOBUFS, no descriptor left) is none of these: it is waited out or done
	 *  without. What was read from a pipe, a socket or a terminal and not sent when it ends early is
	 *  lost. */
	void (*finished)(struct ferry_file_producer *producer, int status, uint64_t sent,
	                 void *context);

	/** For later versions; leave NULL. */
	void (*reserved[2])(void);
};

/** How the file goes, an enum ferry_file_method, as far as is known now: a file that the kernel refuses to
 *  move by itself changes to FERRY_FILE_BY_COPY, at its first byte or later. Bytes that were copied to
 *  leave with what stands before them do not change it: a small file behind a header says
 *  FERRY_FILE_BY_SENDFILE. Legal until `finished` has returned. -EINVAL: @p producer is NULL. Since 0.1. */
FERRY_EXPORT int ferry_file_producer_get_method(const struct ferry_file_producer *producer);

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
