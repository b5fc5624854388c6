#ifndef FERRY_PROGRAMS_FERRY_WORKER_STREAM_H
#define FERRY_PROGRAMS_FERRY_WORKER_STREAM_H

/* The stream below a connection: a transport, or TLS on a socket. Each call is that of the two which the stream is;
 * connection.c knows only these. Callbacks get NULL for the transport and the producer. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evbuffer;
struct ferry_file_callbacks;
struct ferry_producer_callbacks;
struct ferry_protocol;
struct ferry_transport;
struct timeval;
struct tls_stream;

/* One of the two; both are NULL once it is freed, or has left the process. */
struct stream {
	struct ferry_transport *transport;
	struct tls_stream *tls;
};

/* Begins, with reading paused: connection_made follows from the loop. `idle`: the time without a byte from or to the
 * client. 0 or a negative errno. */
int stream_start(const struct stream *stream, const struct timeval *idle,
                 const struct ferry_protocol *protocol, void *context);

struct evbuffer *stream_input(const struct stream *stream);
void stream_pause_reading(const struct stream *stream);
void stream_resume_reading(const struct stream *stream);

/* Whether all that the client has sent is read, so that a close resets nothing. */
bool stream_is_drained(const struct stream *stream);
bool socket_is_drained(int fd);

/* Whether the kernel has TLS for the socket. A stream knows of records and of close_notify; send(2) and shutdown(2) do
 * not. */
bool socket_has_tls(int fd);

/* 0 or a negative errno. The file's descriptor is the stream's after 0. */
int stream_write(const struct stream *stream, const void *bytes, size_t length);

/* The same for the last bytes of an answer, which leave at once if nothing is queued. */
int stream_send(const struct stream *stream, const void *bytes, size_t length);
int stream_write_buffer(const struct stream *stream, struct evbuffer *out);
int stream_send_file(const struct stream *stream, int fd, int64_t offset, uint64_t length,
                     const struct ferry_file_callbacks *callbacks, void *context);

/* Calls resume_producing each time that the stream is empty. 0 or a negative errno. */
int stream_set_producer(const struct stream *stream,
                        const struct ferry_producer_callbacks *callbacks, void *context);
void stream_clear_producer(const struct stream *stream);

void stream_lose_write(const struct stream *stream);
void stream_lose(const struct stream *stream);
void stream_abort(const struct stream *stream);

/* Bytes of answers, without what TLS adds. */
uint64_t stream_bytes_sent(const struct stream *stream);

void stream_free(struct stream *stream);

#endif
