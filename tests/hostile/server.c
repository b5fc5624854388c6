/* A server as docs/security.md advises: each message comes back without its descriptors. It has a limit for
 * everything that a peer can make grow. Prints "ready"; ends when its standard input does.
 *
 *     hostile_server PATH
 */

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

enum {
	PAYLOAD_MAX = 64 * 1024,
	REPLIES_MAX = 4 * PAYLOAD_MAX, /* bytes that wait for one client */
	FD_RESERVE = 300,
	CLIENTS_MAX = 2000
};

static void message_received(struct ferry_message_stream *stream, struct ferry_message *message,
                             void *context)
{
	size_t length;
	const void *payload = ferry_message_get_payload(message, &length);

	(void)context;
	if (ferry_message_stream_send(stream, ferry_message_get_type(message), payload, length, NULL, 0,
	                              FERRY_FD_DUP) < 0)
		ferry_transport_abort_connection(ferry_message_stream_get_transport(stream));
}

static void connection_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)reason, (void)context;
	ferry_message_stream_free(stream);
}

/* No requests are read while replies pile up. */
static void pause_reading(void *context)
{
	ferry_transport_pause_reading(context);
}

static void resume_reading(void *context)
{
	ferry_transport_resume_reading(context);
}

static const struct ferry_message_callbacks callbacks = {.message_received = message_received,
                                                         .connection_lost = connection_lost};
static const struct ferry_producer_callbacks producer = {.pause_producing = pause_reading,
                                                         .resume_producing = resume_reading};

static int serve(struct ferry_transport *transport)
{
	const struct timeval idle = {.tv_sec = 30};
	struct ferry_message_stream *stream = NULL;
	int status = ferry_transport_set_byte_limit(transport, REPLIES_MAX);

	if (status == 0)
		status =
		    ferry_transport_register_producer(transport, &producer, transport, FERRY_PRODUCER_PUSH);
	if (status == 0)
		status = ferry_message_stream_new(&stream, transport, &callbacks, NULL);
	if (status < 0)
		return status;
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(transport), &idle, &idle);
	ferry_message_stream_set_limits(stream, PAYLOAD_MAX, 253);
	ferry_message_stream_set_fd_reserve(stream, FD_RESERVE);
	return 0;
}

static void accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                     void *context)
{
	(void)listener, (void)context;
	if (serve(transport) < 0)
		ferry_transport_free(transport);
}

static void stop(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	event_base_loopbreak(context);
}

int main(int argc, char **argv)
{
	struct ferry_listener *listener;
	struct event_base *base = event_base_new();
	struct event *end = base != NULL ? event_new(base, STDIN_FILENO, EV_READ, stop, base) : NULL;

	if (argc != 2 || end == NULL || event_add(end, NULL) < 0)
		errx(EXIT_FAILURE, "usage: hostile_server PATH");
	int status = ferry_listener_new_unix(&listener, base, argv[1], NULL, accepted, NULL);
	if (status < 0)
		errx(EXIT_FAILURE, "%s: %s", argv[1], strerror(-status));
	ferry_listener_set_max_connections_per_uid(listener, CLIENTS_MAX);
	if (write(STDOUT_FILENO, "ready\n", 6) < 6)
		err(EXIT_FAILURE, "output");
	event_base_dispatch(base);
	ferry_listener_free(listener);
	event_free(end);
	event_base_free(base);
	return EXIT_SUCCESS;
}
