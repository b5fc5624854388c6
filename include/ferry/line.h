#ifndef FERRY_LINE_H
#define FERRY_LINE_H

/**
 * @file line.h
 * @brief Lines over a transport: the input split at a delimiter, and raw bytes in between.
 *
 * A line ends before a delimiter of 1 to 16 bytes, "\n" at first. Lines are read in place, in the input
 * buffer, and may contain any byte, zero bytes included. A protocol of which only a part is lines (a header,
 * and then a body) switches to raw bytes and back; bytes that were read already are not lost. docs/line.md is
 * a guide.
 *
 * @code
 * static void received(struct ferry_line_stream *stream, const char *line, size_t length,
 *                      void *context)
 * {
 *     ferry_line_stream_send(stream, line, length);   // an echo
 * }
 * static const struct ferry_line_callbacks callbacks = {.line_received = received};
 *
 * struct ferry_line_stream *stream;
 * ferry_line_stream_new(&stream, transport, &callbacks, NULL);   // takes the transport
 * ferry_line_stream_set_delimiter(stream, "\r\n", 2);
 * @endcode
 *
 * @par Callers
 * In every callback. Only in the thread that runs the transport's event_base; if the bufferevent was made with
 * BEV_OPT_THREADSAFE, in any thread.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include "ferry/export.h"

FERRY_BEGIN_DECLS

struct evbuffer;
struct ferry_transport;

/** Lines over one transport, both ways. Opaque. */
struct ferry_line_stream;

/** The treatment of a line that is longer than allowed, after line_length_exceeded was called. Since 0.1. */
enum ferry_line_overflow {
	/** The connection is lost, with -EMSGSIZE. */
	FERRY_LINE_LOSE = 1,
	/** The rest of that line is dropped as it arrives; the next line is delivered. */
	FERRY_LINE_SKIP = 2
};

/** The callbacks of a stream of lines. Every member may be NULL; the table must outlive the stream. A callback
 *  may call any ferry function, ferry_line_stream_free() included. Since 0.1. */
struct ferry_line_callbacks {
	/** The connection is established; as in a protocol. */
	void (*connection_made)(struct ferry_line_stream *stream, void *context);

	/** A line has arrived: @p length bytes, without the delimiter and without a terminating zero byte. They lie
	 *  in the input buffer and are valid until the callback returns, even if that frees the stream. */
	void (*line_received)(struct ferry_line_stream *stream, const char *line, size_t length,
	                      void *context);

	/** The peer has ended in the middle of a line, of which these bytes, at least one, have arrived; as in
	 *  line_received. Called before read_connection_lost; not after an error, and not for a line that is
	 *  skipped. If NULL, the bytes are dropped. */
	void (*incomplete_line_received)(struct ferry_line_stream *stream, const char *line,
	                                 size_t length, void *context);

	/** A line is longer than allowed. Called once for each such line, with its first max_length bytes. On
	 *  return the connection is lost or the rest of the line skipped, as set by
	 *  ferry_line_stream_set_max_length(). There are two exceptions: if the callback calls
	 *  ferry_line_stream_lose_connection(), queued bytes are sent first; if it switches to raw bytes,
	 *  data_received gets the rest of the line. */
	void (*line_length_exceeded)(struct ferry_line_stream *stream, const char *beginning,
	                             size_t length, void *context);

	/** In raw mode, bytes have arrived; as in a protocol. Bytes that the callback does not drain from @p input
	 *  are offered again with the next bytes; after a switch back they are the beginning of the next line. */
	void (*data_received)(struct ferry_line_stream *stream, struct evbuffer *input, void *context);

	/** A descriptor has arrived, which the callback owns. Called before the bytes that it came with are
	 *  delivered. As in a protocol, also when NULL. */
	void (*file_descriptor_received)(struct ferry_line_stream *stream, int fd, void *context);

	/** Descriptors were lost on the way; as in a protocol, also when NULL. */
	void (*file_descriptors_lost)(struct ferry_line_stream *stream, void *context);

	/** The peer has closed its sending half, and all lines were delivered. As in a protocol, also when NULL. */
	void (*read_connection_lost)(struct ferry_line_stream *stream, void *context);

	/** The connection is over; called once. @p reason is one of a protocol's connection_lost, or -EMSGSIZE: a
	 *  line was too long; or -ENOMEM: out of memory for a line that had arrived in pieces. */
	void (*connection_lost)(struct ferry_line_stream *stream, int reason, void *context);

	/** For later versions; leave NULL. */
	void (*reserved[4])(void);
};

/**
 * Puts lines on a transport, as its protocol. The stream owns the transport from then on and frees it. Bytes
 * that an earlier protocol has left in the input are the beginning of the first line.
 *
 * At first the delimiter is "\n", a line has up to 16384 bytes, a longer one loses the connection, and raw
 * mode is off. A read high-water mark of the bufferevent that is not above an unfinished line is raised to what the
 * longest line needs.
 *
 * @param[out] out the stream
 * @param transport a transport of any kind; in line mode nothing else may take bytes from its input
 * @param callbacks the callbacks; the table must outlive the stream
 * @param context passed to each callback
 * @retval 0 done
 * @retval -EINVAL @p out, @p transport or @p callbacks is NULL
 * @retval -EBUSY another object owns the transport already: a stream, a channel, a dispatcher, a worker or a takeover
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_new(struct ferry_line_stream **out,
                                       struct ferry_transport *transport,
                                       const struct ferry_line_callbacks *callbacks, void *context);

/** Frees the stream and its transport, as ferry_transport_free(). NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_line_stream_free(struct ferry_line_stream *stream);

/** Returns the transport, which the stream owns; for writing raw bytes, descriptors and files, for producers,
 *  pausing and statistics. If reading is paused in a callback, the next line waits for
 *  ferry_transport_resume_reading(). NULL for NULL. Since 0.1. */
FERRY_EXPORT struct ferry_transport *
ferry_line_stream_get_transport(const struct ferry_line_stream *stream);

/**
 * Closes the stream and its connection when all that is queued is sent: ferry_transport_lose_connection() on the
 * stream's transport. No further line is delivered; connection_lost follows from the loop; the owner frees
 * the stream there or later.
 *
 * @param stream the stream
 * @retval 0 done, also while it is closing already
 * @retval -EINVAL @p stream is NULL
 * @retval -ENOTCONN the connection is over
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_lose_connection(struct ferry_line_stream *stream);

/**
 * Ends the sending half when all that is queued is sent: ferry_transport_lose_write_connection() on the stream's
 * transport. The peer's lines are delivered until it ends its half too.
 *
 * @param stream the stream
 * @retval 0 done, also when called again
 * @retval -EINVAL, -ENOTCONN as ferry_line_stream_lose_connection()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_lose_write_connection(struct ferry_line_stream *stream);

/**
 * Ends the connection now, and drops what is queued: ferry_transport_abort_connection() on the stream's transport.
 * connection_lost follows from the loop, with -ECONNABORTED.
 *
 * @param stream the stream
 * @retval 0 done
 * @retval -EINVAL, -ENOTCONN as ferry_line_stream_lose_connection()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_abort_connection(struct ferry_line_stream *stream);

/**
 * Sets the delimiter, for both directions. Inside a callback it is set from the next line on. An unfinished
 * line that has arrived in part is searched again.
 *
 * @param stream the stream
 * @param delimiter the bytes, copied
 * @param length the number of bytes, 1 to 16
 * @retval 0 done
 * @retval -EINVAL @p stream or @p delimiter is NULL, or @p length is out of range
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_set_delimiter(struct ferry_line_stream *stream,
                                                 const void *delimiter, size_t length);

/**
 * Limits the lines that arrive. Inside a callback the limit is set from the next line on. Of an
 * unfinished line no more is buffered than max_length bytes, the delimiter, and one read, which is 256 KiB at
 * most.
 *
 * @param stream the stream
 * @param max_length bytes, without the delimiter; 1 to 1 GiB; 16384 at first
 * @param overflow the treatment of a longer line: FERRY_LINE_LOSE, as at first, or FERRY_LINE_SKIP
 * @retval 0 done
 * @retval -EINVAL @p stream is NULL, @p max_length is out of range, or @p overflow is neither
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_set_max_length(struct ferry_line_stream *stream,
                                                  size_t max_length,
                                                  enum ferry_line_overflow overflow);

/**
 * Switches to raw bytes, or back to lines. Bytes that were read already are delivered in the new mode: inside
 * a callback as soon as it returns, in the same turn of the loop, otherwise from the loop. The bytes of an
 * unfinished line are the first raw bytes. Bytes that data_received leaves are the beginning of the next line.
 *
 * @param stream the stream
 * @param raw true: data_received gets the bytes; false: the callbacks for lines get lines
 * @retval 0 done, also if the mode was set already
 * @retval -EINVAL @p stream is NULL, or @p raw is true and there is no data_received
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_set_raw(struct ferry_line_stream *stream, bool raw);

/**
 * Sends a line and the delimiter behind it: both are queued, or nothing; in raw mode too. A descriptor that
 * was passed to ferry_transport_send_fd() before travels with the first byte.
 *
 * @param stream the stream
 * @param line the bytes, copied; may be NULL when @p length is 0
 * @param length the number of bytes; max_length limits only lines that arrive
 * @retval 0 done
 * @retval -EINVAL @p stream is NULL, or @p line is NULL and @p length is not 0
 * @retval -EILSEQ the peer would read other lines: @p line contains the delimiter, or its end and the
 *         delimiter make one that begins early ("a\n" with "\n\n" behind it)
 * @retval -EPIPE, -ENOBUFS as ferry_transport_write()
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_send(struct ferry_line_stream *stream, const void *line,
                                        size_t length);

/**
 * Sends a text of printf(3) as a line, with the delimiter behind it: the format has none.
 *
 * @param stream the stream
 * @param format the format, and the arguments behind it
 * @retval 0 done
 * @retval -EINVAL @p stream or @p format is NULL, or @p format is no format of printf(3)
 * @retval -EILSEQ as ferry_line_stream_send(); or a wide character of the arguments has no multibyte character
 * @retval -EOVERFLOW the text is longer than INT_MAX
 * @retval -EPIPE, -ENOBUFS, -ENOMEM as ferry_line_stream_send()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_printf(struct ferry_line_stream *stream, const char *format, ...)
    FERRY_PRINTF(2, 3);

/**
 * Does what ferry_line_stream_printf() does, with @p format and the arguments in a va_list, @p arguments: for functions
 * that have such arguments themselves.
 *
 * @retval 0 done
 * @retval other as ferry_line_stream_printf()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_vprintf(struct ferry_line_stream *stream, const char *format,
                                           va_list arguments) FERRY_PRINTF(2, 0);

FERRY_END_DECLS

#endif
