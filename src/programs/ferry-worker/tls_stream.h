#ifndef FERRY_PROGRAMS_FERRY_WORKER_TLS_STREAM_H
#define FERRY_PROGRAMS_FERRY_WORKER_TLS_STREAM_H

/* A connection with TLS: the handshake, and then a stream with the calls and the callbacks that connection.c uses of a
 * ferry_transport. Its callbacks are those of struct ferry_protocol, with NULL for the transport.
 *
 * The first bytes of the client have come with the handoff. OpenSSL reads them from memory, and then from the socket.
 *
 *            hello and handshake       lose, or the client's end
 *   SHAKING ---------------------> OPEN -------------------------> close_notify, FIN -> lost
 *
 * A file is sent by SSL_sendfile(3), which is sendfile(2), if the kernel encrypts; else the worker reads it and OpenSSL
 * encrypts. Whatever the client sends that is no data stays with OpenSSL. Only the close_notify behind what the kernel
 * has encrypted is sent past OpenSSL, which does not see whether the kernel has passed it on. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

struct answer_counters;
struct evbuffer;
struct event_base;
struct ferry_file_callbacks;
struct ferry_producer_callbacks;
struct ferry_protocol;
struct tls_context;
struct tls_stream;

struct tls_client {
	const struct tls_context *context;
	int fd;
	const void *bytes; /* that were read from it */
	size_t length;
	const char *name;                 /* in the log; it is copied */
	struct timeval handshake_timeout; /* from the start to its end */
	struct answer_counters *counters; /* NULL: none */
};

/* 0 or -ENOMEM. Owns the descriptor, also on failure. Nothing happens before tls_stream_start(). */
int tls_stream_new(struct tls_stream **out, struct event_base *base,
                   const struct tls_client *client);

/* Begins: the callbacks follow from the loop. `idle`: the time without a byte after which the connection ends. 0. */
int tls_stream_start(struct tls_stream *stream, const struct timeval *idle,
                     const struct ferry_protocol *protocol, void *context);

/* The decrypted bytes. */
struct evbuffer *tls_stream_input(struct tls_stream *stream);

void tls_stream_pause_reading(struct tls_stream *stream);
void tls_stream_resume_reading(struct tls_stream *stream);

/* Whether everything that the client has sent is in the input, and that is empty: not even a close_notify waits. */
bool tls_stream_is_drained(const struct tls_stream *stream);

/* Appends bytes to the stream, or moves those of `out` to its end. 0 or -ENOMEM. */
int tls_stream_write(struct tls_stream *stream, const void *bytes, size_t length);
int tls_stream_write_buffer(struct tls_stream *stream, struct evbuffer *out);

/* Sends a part of a file behind the bytes written so far, and owns the descriptor after 0. -EBUSY: a file is in the
 * stream; -ENOMEM. `finished` runs once, from the loop, also after tls_stream_free(). */
int tls_stream_send_file(struct tls_stream *stream, int fd, int64_t offset, uint64_t length,
                         const struct ferry_file_callbacks *callbacks, void *context);

/* Calls resume_producing each time the stream is empty. NULL: no more. 0. */
int tls_stream_set_producer(struct tls_stream *stream,
                            const struct ferry_producer_callbacks *callbacks, void *context);

/* Sends all, the close_notify, and the end of this half. */
void tls_stream_lose_write(struct tls_stream *stream);

/* The same, and closes; connection_lost follows. */
void tls_stream_lose(struct tls_stream *stream);

/* Resets the connection; connection_lost follows. */
void tls_stream_abort(struct tls_stream *stream);

/* Bytes of answers that OpenSSL or the kernel has encrypted, and the kernel has taken. */
uint64_t tls_stream_bytes_sent(const struct tls_stream *stream);

/* Closes the connection without a callback but `finished`. */
void tls_stream_free(struct tls_stream *stream);

#endif
