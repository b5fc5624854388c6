#ifndef FERRY_LINE_H
#define FERRY_LINE_H

/**
 * @file line.h
 * @brief Lines over a transport: the input split at a delimiter, and raw bytes in between.
 *
 * A line is what comes before a delimiter of 1 to 16 bytes, "\n" at first. Lines are read where they
 * lie in the input, and may hold any byte, zero bytes included. A protocol that is made of lines only
 * in part (a header, and then a body) switches to raw bytes and back; nothing that was read already is
 * lost thereby. docs/line.md is a guide.
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
 */

#include <stdbool.h>
#include <stddef.h>

#include "ferry/export.h"

FERRY_BEGIN_DECLS

struct evbuffer;
struct ferry_transport;

/** Lines over one transport, both ways. Opaque. */
struct ferry_line_stream;

/** What becomes of a line that is longer than allowed, once line_length_exceeded was told. Since 0.1. */
enum ferry_line_overflow {
	/** The connection is lost, with -EMSGSIZE. */
	FERRY_LINE_LOSE = 1,
	/** The rest of that line is dropped as it arrives, and the next line is a line again. */
	FERRY_LINE_SKIP = 2
};

/** What a stream of lines tells its owner. Every member may be NULL; the table must outlive the stream.
 *  Each may call any ferry function, ferry_line_stream_free() included. Since 0.1. */
struct ferry_line_callbacks {
	/** The connection stands; as in a protocol. */
	void (*connection_made)(struct ferry_line_stream *stream, void *context);

	/** A line arrived: @p length bytes, without the delimiter, and without a zero byte behind them. They
	 *  are in the input buffer itself, and valid until the callback returns, even if that frees the
	 *  stream. */
	void (*line_received)(struct ferry_line_stream *stream, const char *line, size_t length,
	                      void *context);

	/** The peer has ended in the middle of a line, and this is what there is of it: at least a byte,
	 *  as above. Before read_connection_lost. Not after an error, and not of a line that is skipped. When
	 *  NULL, it is dropped. */
	void (*incomplete_line_received)(struct ferry_line_stream *stream, const char *line,
	                                 size_t length, void *context);

	/** A line is longer than allowed: once for each, with its first bytes, as many as are allowed. What
	 *  was chosen with ferry_line_stream_set_max_length() happens on return; but not if the callback
	 *  loses the connection in a way of its own, and so has an answer sent first, nor if it switches to
	 *  raw bytes: then data_received gets the rest of the line. */
	void (*line_length_exceeded)(struct ferry_line_stream *stream, const char *beginning,
	                             size_t length, void *context);

	/** In raw mode: bytes arrived; as in a protocol. What is not drained from @p input stays: it is
	 *  offered again with the next bytes, or is the beginning of the next line after a switch back. */
	void (*data_received)(struct ferry_line_stream *stream, struct evbuffer *input, void *context);

	/** A descriptor arrived, which the callback owns; before the bytes that it came with. As in a
	 *  protocol, also when NULL. */
	void (*file_descriptor_received)(struct ferry_line_stream *stream, int fd, void *context);

	/** Descriptors were lost on the way; as in a protocol, also when NULL. */
	void (*file_descriptors_lost)(struct ferry_line_stream *stream, void *context);

	/** The peer closed its sending half, and all lines were handed out: none follows. As in a protocol,
	 *  also when NULL. */
	void (*read_connection_lost)(struct ferry_line_stream *stream, void *context);

	/** The connection is over, once; the reasons of a protocol's connection_lost, and -EMSGSIZE: a line
	 *  was too long; -ENOMEM: out of memory for putting a line together. */
	void (*connection_lost)(struct ferry_line_stream *stream, int reason, void *context);

	/** For later versions; leave NULL. */
	void (*reserved[4])(void);
};

/**
 * Puts lines on a transport, as its protocol. The transport is the stream's from then on, and goes with
 * it. Bytes that an earlier protocol has left in the input are the first of the lines.
 *
 * The delimiter is "\n", a line has up to 16384 bytes, a longer one loses the connection, and raw mode is
 * off, until set otherwise.
 *
 * @param[out] out the stream
 * @param transport a transport of any kind; in line mode nothing else may take bytes from its input
 * @param callbacks what is told; must outlive the stream
 * @param context handed to each callback
 * @retval 0 done
 * @retval -EINVAL @p out, @p transport or @p callbacks is NULL
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

/** The transport below, for writing raw bytes, descriptors and files, for producers, pausing, closing and
 *  statistics. It stays the stream's. A pause in a callback holds the next line back. NULL for NULL. Since
 *  0.1. */
FERRY_EXPORT struct ferry_transport *
ferry_line_stream_get_transport(const struct ferry_line_stream *stream);

/**
 * Sets what ends a line, both ways; from the next line on, when called in a callback. What has arrived of
 * an unfinished line is looked at again.
 *
 * @param stream the stream
 * @param delimiter the bytes, copied
 * @param length how many, 1 to 16
 * @retval 0 done
 * @retval -EINVAL @p stream or @p delimiter is NULL, or @p length is out of range
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_set_delimiter(struct ferry_line_stream *stream,
                                                 const void *delimiter, size_t length);

/**
 * Bounds the lines that arrive; from the next line on, when called in a callback. No more is kept of an
 * unfinished line than this, its delimiter, and what one read brings, 256 KiB at most.
 *
 * @param stream the stream
 * @param max_length bytes, without the delimiter; 1 to 1 GiB; 16384 at first
 * @param overflow what becomes of a longer line: FERRY_LINE_LOSE, as at first, or FERRY_LINE_SKIP
 * @retval 0 done
 * @retval -EINVAL @p stream is NULL, @p max_length is out of range, or @p overflow is neither
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_set_max_length(struct ferry_line_stream *stream,
                                                  size_t max_length,
                                                  enum ferry_line_overflow overflow);

/**
 * Switches to raw bytes, or back to lines. In a callback, what has been read already goes on in the new
 * mode when the callback returns, in the same turn of the loop; otherwise it does from the loop. Bytes of
 * an unfinished line are the first of the raw ones, and bytes that data_received leaves are the first of the
 * next line.
 *
 * @param stream the stream
 * @param raw whether data_received is to get what arrives, or the callbacks for lines
 * @retval 0 done, also when it was so already
 * @retval -EINVAL @p stream is NULL, or @p raw is true and there is no data_received
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_set_raw(struct ferry_line_stream *stream, bool raw);

/**
 * Sends a line and the delimiter behind it: both, or nothing. In raw mode too. A descriptor that was given
 * to ferry_transport_send_fd() before travels with the first byte.
 *
 * @param stream the stream
 * @param line the bytes, copied; may be NULL when @p length is 0
 * @param length how many; they are not held against max_length, which is about what arrives
 * @retval 0 done
 * @retval -EINVAL @p stream is NULL, or @p line is NULL and @p length is not 0
 * @retval -EILSEQ the peer would see other lines: @p line has the delimiter in it, or ends so that it
 *         begins early ("a\n" with "\n\n" behind it)
 * @retval -EPIPE as ferry_transport_write()
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_line_stream_send(struct ferry_line_stream *stream, const void *line,
                                        size_t length);

FERRY_END_DECLS

#endif
