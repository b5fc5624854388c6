/* A server that sends each line back, until SIGINT or SIGTERM. A client that does not read its
 * answers is not read from either, so its memory stays bounded whatever a client does.
 *
 *     ./line_echo /tmp/echo.sock &
 *     socat - UNIX:/tmp/echo.sock
 */

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/event.h>
#include <ferry/ferry.h>

struct client {
	LIST_ENTRY(client) link;
	struct ferry_line_stream *stream; /* owns the transport */
};

struct server {
	struct ferry_listener *listener;
	struct event *signals[2];
	LIST_HEAD(client_list, client) clients;
};

static void free_client(struct client *client)
{
	LIST_REMOVE(client, link);
	ferry_line_stream_free(client->stream);
	free(client);
}

static void send_back(struct ferry_line_stream *stream, const char *line, size_t length,
                      void *context)
{
	(void)context;
	/* The echo of one line is missing, so the client cannot use the others. */
	if (ferry_line_stream_send(stream, line, length) < 0)
		ferry_line_stream_abort_connection(stream);
}

static void line_too_long(struct ferry_line_stream *stream, const char *beginning, size_t length,
                          void *context)
{
	static const char answer[] = "(the line is too long)";
	(void)beginning, (void)length;
	send_back(stream, answer, sizeof(answer) - 1, context);
}

/* The transport calls this when more than its high-water mark waits for the client. */
static void pause_producing(void *transport)
{
	ferry_transport_pause_reading(transport);
}

static void resume_producing(void *transport)
{
	if (ferry_transport_resume_reading(transport) < 0)
		ferry_transport_abort_connection(transport);
}

static void connection_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	(void)stream;
	if (reason != 0)
		warnx("client: %s", strerror(-reason));
	free_client(context);
}

static void accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                     void *context)
{
	static const struct ferry_line_callbacks callbacks = {.line_received = send_back,
	                                                      .incomplete_line_received = send_back,
	                                                      .line_length_exceeded = line_too_long,
	                                                      .connection_lost = connection_lost};
	static const struct ferry_producer_callbacks producer = {.pause_producing = pause_producing,
	                                                         .resume_producing = resume_producing};
	struct server *server = context;
	struct client *client = calloc(1, sizeof(*client));
	int status = -ENOMEM;
	(void)listener;
	if (client != NULL)
		status =
		    ferry_transport_register_producer(transport, &producer, transport, FERRY_PRODUCER_PUSH);
	if (status == 0)
		status = ferry_line_stream_new(&client->stream, transport, &callbacks, client);
	if (status < 0) {
		warnx("client: %s", strerror(-status));
		ferry_transport_free(transport);
		free(client);
		return;
	}
	LIST_INSERT_HEAD(&server->clients, client, link);
	ferry_line_stream_set_max_length(client->stream, 65536, FERRY_LINE_SKIP);
}

/* The loop returns after this, because nothing is left in it. */
static void stop(evutil_socket_t number, short events, void *context)
{
	struct server *server = context;
	struct client *client = LIST_FIRST(&server->clients), *next;
	(void)number, (void)events;
	ferry_listener_free(server->listener); /* removes the socket file */
	for (size_t i = 0; i < 2 && server->signals[i] != NULL; i++)
		event_free(server->signals[i]);
	for (; client != NULL; client = next) {
		next = LIST_NEXT(client, link);
		free_client(client);
	}
}

static int start(struct server *server, struct event_base *base, const char *path)
{
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;
	for (size_t i = 0; i < 2; i++)
		if ((server->signals[i] = evsignal_new(base, i ? SIGTERM : SIGINT, stop, server)) == NULL ||
		    event_add(server->signals[i], NULL) < 0)
			return -ENOMEM;
	options.lock = true; /* a server that was killed has left its socket file */
	return ferry_listener_new_unix(&server->listener, base, path, &options, accepted, server);
}

int main(int argc, char **argv)
{
	struct server server = {0};
	if (argc != 2)
		errx(2, "usage: line_echo SOCKET_PATH");
	struct event_base *base = event_base_new();
	if (base == NULL)
		errx(EXIT_FAILURE, "no event loop");
	int status = start(&server, base, argv[1]);
	if (status < 0) {
		warnx("%s: %s", argv[1], strerror(-status));
		stop(0, 0, &server);
	}
	event_base_dispatch(base);
	event_base_free(base);
	return status < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
