#ifndef FERRY_FILE_PRODUCER_H
#define FERRY_FILE_PRODUCER_H

/**
 * @file file_producer.h
 * @brief A file or a range of one, or the bytes of a pipe, a socket or a device, in the stream of a
 *        transport.
 *
 * The file has a place in the stream: bytes written before it are sent before it, bytes written after
 * it are sent after it. A header and a trailer are plain writes before and after; on TCP the header
 * shares a segment with the beginning of the file, and the trailer with the end. A regular file below
 * 16 KiB is read, and leaves in one system call with the bytes before it.
 *
 * Every file that can be read can be sent, by the cheapest method: see enum ferry_file_method. The
 * loop does not wait for the file. An empty pipe, a terminal without input or a regular file that is
 * still on the disk suspends the stream until it has bytes. The rest of the loop goes on, and the
 * write timeout does not run.
 *
 * @code
 * static void finished(struct ferry_file_producer *producer, int status, uint64_t sent,
 *                      void *context)
 * {
 *     if (status != 0 && status != -ECANCELED)          // -ECANCELED: the transport may be freed
 *         ferry_transport_abort_connection(context);    // the peer expects bytes that will not come
 * }
 * static const struct ferry_file_callbacks callbacks = {.finished = finished};
 *
 * ferry_transport_write(transport, header, header_length);
 * ferry_transport_send_file(NULL, transport, fd, FERRY_FD_TAKE, 0, FERRY_TO_END, 0, &callbacks, transport);
 * @endcode
 *
 * sendfile(2) sends the pages of the page cache. If the file is written to after the kernel has queued
 * its pages and before the peer has read them, the changed bytes arrive. Use FERRY_FILE_COPY for files
 * where that matters.
 *
 * @par Callers
 * In every callback. Only in the thread that runs the transport's event_base; if the bufferevent was made with
 * BEV_OPT_THREADSAFE, in any thread.
 */

#include <stdint.h>

#include "ferry/export.h"

FERRY_BEGIN_DECLS

/** One file in a stream. Opaque. The transport owns it; it is valid until its `finished` returns. */
struct ferry_file_producer;

struct evbuffer;

/** As an offset: starts at the file's own position, and moves that by exactly the bytes that are sent,
 *  even if sending ends early. For a file without a position (a pipe, a socket, a terminal) the same as
 *  0: the next bytes. Since 0.1. */
#define FERRY_FILE_POSITION INT64_MIN

/** As a length: to the end that the file has at the call; bytes appended later are not sent. A file
 *  without a size (a pipe, a socket, a device, a file of /proc) is sent until it ends. Since 0.1. */
#define FERRY_TO_END INT64_MAX

/** A flag of ferry_transport_send_file(): reads the file by read(2) and writes the bytes, in place of
 *  zero-copy. For files whose bytes change while they are sent. Since 0.1. */
#define FERRY_FILE_COPY 0x1U

/** A flag of ferry_transport_send_file(), for a caller that knows the file from open(2) and fstat(2): a regular file,
 *  open for reading without O_DIRECT, that has the whole range, which is given by numbers. ferry then asks the kernel
 *  nothing about it, which saves three system calls. If the caller is wrong, the file ends early: `finished` gets
 *  -EIO, or the error of the first read. Since 0.1. */
#define FERRY_FILE_REGULAR 0x2U

/** The method by which a file is sent; see ferry_file_producer_get_method(). Since 0.1. */
enum ferry_file_method {
	FERRY_FILE_BY_SENDFILE = 1, /**< sendfile(2), from the page cache: regular files, memfds, block
	                             *   devices, and character devices that can be positioned */
	FERRY_FILE_BY_SPLICE = 2,   /**< splice(2): pipes, FIFOs and stream sockets */
	FERRY_FILE_BY_COPY = 3 /**< read(2) and sendmsg(2): the rest (terminals, eventfds), and files
	                             *   that the kernel does not move itself (much of /proc, unaligned
	                             *   O_DIRECT, some file systems) */
};

/** A file's callbacks. ferry keeps the pointer: the table must outlive the file's sending. Each may
 *  call any ferry function, ferry_transport_free() included. Since 0.1. */
struct ferry_file_callbacks {
	/** The kernel has taken @p sent of @p total bytes. Runs at most once in each wake-up of the loop,
	 *  and not after `finished`. @p total is FERRY_TO_END if the number of bytes is not known. */
	void (*progress)(struct ferry_file_producer *producer, uint64_t sent, uint64_t total,
	                 void *context);

	/** The file has left the stream. Runs exactly once, from the loop, even after
	 *  ferry_transport_free(). The kernel has taken @p sent bytes of the file. ferry has closed its
	 *  descriptor, or a thread closes it as soon as a read of it returns that hangs. @p status is
	 *  - 0: the whole file was sent;
	 *  - -EIO: the file ended before its length, has become shorter since the call, or the disk
	 *    failed;
	 *  - -ECANCELED: ferry_file_producer_stop() or ferry_transport_free() was called;
	 *  - another errno of reading the file, for example -ECONNRESET if the source is a socket. The
	 *    stream goes on with the output written after the file;
	 *  - the reason of connection_lost, if the connection was lost.
	 *
	 *  A shortage (-ENOMEM, -ENOBUFS, no free descriptor slot) never ends a file: ferry retries, or
	 *  chooses another method. If sending ends early, ferry_file_producer_take_unsent() returns the
	 *  bytes that were taken out of a pipe, a socket or a terminal and not sent. */
	void (*finished)(struct ferry_file_producer *producer, int status, uint64_t sent,
	                 void *context);

	/** Reserved for later versions; leave NULL. */
	void (*reserved[2])(void);
};

/**
 * Returns the method by which the file is sent, an enum ferry_file_method, as known so far: if the kernel refuses,
 * the method changes to FERRY_FILE_BY_COPY, at the first byte or later. Bytes that are copied only to leave with
 * the bytes before them do not change it: the method of a small file behind a header is FERRY_FILE_BY_SENDFILE.
 * Legal until `finished` has returned.
 *
 * @return the method, an enum ferry_file_method
 * @retval -EINVAL @p producer is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_file_producer_get_method(const struct ferry_file_producer *producer);

/** Returns the number of bytes that were taken out of the source and that the kernel has not taken: of a pipe, a
 *  socket, a terminal, which are read ahead of the sending by up to 64 KiB or what a pipe holds. Of a file with a
 *  position it is 0. In `finished` these are the bytes that ferry_file_producer_take_unsent() returns. 0 if
 *  @p producer is NULL. Legal until `finished` has returned. Since 0.1. */
FERRY_EXPORT uint64_t ferry_file_producer_get_unsent(const struct ferry_file_producer *producer);

/**
 * Moves the bytes that were taken out of the source and not sent to the end of @p buffer, which the caller owns.
 * They come directly before the next byte of the source: a file that was stopped, or that a lost connection ended,
 * can go on elsewhere without a gap. Bytes that are not moved are dropped when `finished` returns, and counted in
 * `file_bytes_unsent` of struct ferry_transport_stats. Legal in `finished`.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 * @retval -EBUSY the file is still in the stream
 * @retval -ENOMEM out of memory, or @p buffer is frozen; nothing was moved
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_file_producer_take_unsent(struct ferry_file_producer *producer,
                                                 struct evbuffer *buffer);

/** Pauses the file, and with it all output written after it, until ferry_file_producer_resume(). The
 *  write timeout does not run for a paused file. Does nothing if the file is already paused or has left
 *  the stream, or if @p producer is NULL. Since 0.1. */
FERRY_EXPORT void ferry_file_producer_pause(struct ferry_file_producer *producer);

/** Resumes a paused file. Does nothing if the file is not paused or has left the stream, or if
 *  @p producer is NULL. Since 0.1. */
FERRY_EXPORT void ferry_file_producer_resume(struct ferry_file_producer *producer);

/** Stops the file: no more of it is sent, `finished` follows from the loop with -ECANCELED, and the
 *  stream goes on with the output written after the file. Does nothing if the file has left the stream,
 *  or if @p producer is NULL. Since 0.1. */
FERRY_EXPORT void ferry_file_producer_stop(struct ferry_file_producer *producer);

FERRY_END_DECLS

#endif
