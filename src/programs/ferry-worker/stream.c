#include "programs/ferry-worker/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <ferry/ferry.h>

#ifdef FERRY_WORKER_HAS_TLS
#include "programs/ferry-worker/tls_stream.h"
#define EITHER(stream, tls_call, call) ((stream)->tls != NULL ? (tls_call) : (call))
#else
#define EITHER(stream, tls_call, call) (call)
#endif

/* Bounds the requests that wait in the input while an answer is in the stream. */
static const size_t bytes_per_read = 16384;

static struct bufferevent *bufferevent_of(const struct stream *stream)
{
	return ferry_transport_get_bufferevent(stream->transport);
}

static int start_transport(const struct stream *stream, const struct timeval *idle,
                           const struct ferry_protocol *protocol, void *context)
{
	struct bufferevent *bev = bufferevent_of(stream);
	/* The connection does it, before the transport closes. */
	ferry_transport_set_linger_timeout(stream->transport, &(struct timeval){0});
	bufferevent_set_timeouts(bev, idle, idle);
	bufferevent_set_max_single_read(bev, bytes_per_read);
	/* The head has come with the handoff: the socket is watched once another one is awaited. */
	ferry_transport_pause_reading(stream->transport);
	return ferry_transport_set_protocol(stream->transport, protocol, context);
}

int stream_start(const struct stream *stream, const struct timeval *idle,
                 const struct ferry_protocol *protocol, void *context)
{
	return EITHER(stream, tls_stream_start(stream->tls, idle, protocol, context),
	              start_transport(stream, idle, protocol, context));
}

struct evbuffer *stream_input(const struct stream *stream)
{
	return EITHER(stream, tls_stream_input(stream->tls),
	              bufferevent_get_input(bufferevent_of(stream)));
}

void stream_pause_reading(const struct stream *stream)
{
	EITHER(stream, tls_stream_pause_reading(stream->tls),
	       (void)ferry_transport_pause_reading(stream->transport));
}

void stream_resume_reading(const struct stream *stream)
{
	EITHER(stream, tls_stream_resume_reading(stream->tls),
	       (void)ferry_transport_resume_reading(stream->transport));
}

bool socket_is_drained(int fd)
{
	char byte;
	ssize_t length = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	return length == 0 || (length < 0 && errno == EAGAIN);
}

bool socket_has_tls(int fd)
{
	char name[16] = "";
	socklen_t length = sizeof(name);
	return getsockopt(fd, IPPROTO_TCP, TCP_ULP, name, &length) == 0 &&
	       strncmp(name, "tls", sizeof(name)) == 0;
}

static bool transport_is_drained(const struct stream *stream)
{
	return evbuffer_get_length(stream_input(stream)) == 0 &&
	       socket_is_drained(bufferevent_getfd(bufferevent_of(stream)));
}

bool stream_is_drained(const struct stream *stream)
{
	return EITHER(stream, tls_stream_is_drained(stream->tls), transport_is_drained(stream));
}

static int send_or_queue(const struct stream *stream, const char *bytes, size_t length)
{
	ssize_t sent = ferry_transport_try_write(stream->transport, bytes, length);
	if (sent < 0 || (size_t)sent == length)
		return sent < 0 ? (int)sent : 0;
	return ferry_transport_write(stream->transport, bytes + sent, length - (size_t)sent);
}

int stream_send(const struct stream *stream, const void *bytes, size_t length)
{
	return EITHER(stream, tls_stream_write(stream->tls, bytes, length),
	              send_or_queue(stream, bytes, length));
}

int stream_write(const struct stream *stream, const void *bytes, size_t length)
{
	return EITHER(stream, tls_stream_write(stream->tls, bytes, length),
	              ferry_transport_write(stream->transport, bytes, length));
}

int stream_write_buffer(const struct stream *stream, struct evbuffer *out)
{
	return EITHER(stream, tls_stream_write_buffer(stream->tls, out),
	              ferry_transport_write_buffer(stream->transport, out));
}

int stream_send_file(const struct stream *stream, int fd, int64_t offset, uint64_t length,
                     const struct ferry_file_callbacks *callbacks, void *context)
{
	return EITHER(stream, tls_stream_send_file(stream->tls, fd, offset, length, callbacks, context),
	              ferry_transport_send_file(NULL, stream->transport, fd, FERRY_FD_TAKE, offset,
	                                        (int64_t)length, FERRY_FILE_REGULAR, callbacks,
	                                        context));
}

int stream_set_producer(const struct stream *stream,
                        const struct ferry_producer_callbacks *callbacks, void *context)
{
	return EITHER(stream, tls_stream_set_producer(stream->tls, callbacks, context),
	              ferry_transport_register_producer(stream->transport, callbacks, context,
	                                                FERRY_PRODUCER_PULL));
}

void stream_clear_producer(const struct stream *stream)
{
	EITHER(stream, (void)tls_stream_set_producer(stream->tls, NULL, NULL),
	       (void)ferry_transport_unregister_producer(stream->transport));
}

void stream_lose_write(const struct stream *stream)
{
	EITHER(stream, tls_stream_lose_write(stream->tls),
	       (void)ferry_transport_lose_write_connection(stream->transport));
}

void stream_lose(const struct stream *stream)
{
	EITHER(stream, tls_stream_lose(stream->tls),
	       (void)ferry_transport_lose_connection(stream->transport));
}

void stream_abort(const struct stream *stream)
{
	EITHER(stream, tls_stream_abort(stream->tls),
	       (void)ferry_transport_abort_connection(stream->transport));
}

uint64_t stream_bytes_sent(const struct stream *stream)
{
	struct ferry_transport_stats stats;
	if (stream->transport == NULL)
		return EITHER(stream, tls_stream_bytes_sent(stream->tls), 0);
	return ferry_transport_get_stats(stream->transport, &stats) == 0 ? stats.bytes_sent : 0;
}

void stream_free(struct stream *stream)
{
	if (stream->transport != NULL)
		ferry_transport_free(stream->transport);
	else
		EITHER(stream, tls_stream_free(stream->tls), (void)0);
	*stream = (struct stream){.transport = NULL};
}
