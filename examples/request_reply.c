/* Requests and replies with back-pressure both ways. The server reads no request while it works on
 * one, and none while the client does not take the replies: a client that asks too much waits, and
 * the server's memory stays bounded.
 *
 *     printf '500 slow\n0 fast\n' | socat - EXEC:./request_reply
 *
 * A request is a line, "<milliseconds> <text>"; its reply is the text, after that time. The standard
 * input is the connection, as inetd and systemd's Accept=yes have it: one process for each client.
 */

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

enum { LONGEST_LINE = 4096, LONGEST_DELAY = 60000 };

struct server {
	struct ferry_transport *transport;
	struct ferry_line_stream *stream; /* owns the transport, once it is made */
	struct event *timer;              /* ends the work on the request */
	char request[LONGEST_LINE + 1];
	bool working;
	bool replies_pile_up;
	bool paused; /* for one of these reasons */
	int status;  /* the reason of connection_lost() */
};

/* Has the reading go on if there is no reason to pause. Bytes that have arrived stay in the input. */
static void pause_or_resume(struct server *server)
{
	bool pause = server->working || server->replies_pile_up;
	if (pause == server->paused)
		return;
	server->paused = pause;
	int status = pause ? ferry_transport_pause_reading(server->transport)
	                   : ferry_transport_resume_reading(server->transport);
	if (status < 0)
		ferry_transport_abort_connection(server->transport);
}

/* The transport calls this when more than its high-water mark waits for the client. */
static void pause_producing(void *context)
{
	struct server *server = context;
	server->replies_pile_up = true;
	pause_or_resume(server);
}

static void resume_producing(void *context)
{
	struct server *server = context;
	server->replies_pile_up = false;
	pause_or_resume(server);
}

/* Here a real server asks a database, a worker thread or another process. */
static void line_received(struct ferry_line_stream *stream, const char *line, size_t length,
                          void *context)
{
	struct server *server = context;
	(void)stream;
	memcpy(server->request, line, length); /* the stream allows no longer line */
	server->request[length] = '\0';
	unsigned long delay = strtoul(server->request, NULL, 10);
	delay = delay < LONGEST_DELAY ? delay : LONGEST_DELAY;
	struct timeval time = {(time_t)delay / 1000, (suseconds_t)delay % 1000 * 1000};
	server->working = true;
	pause_or_resume(server);
	if (event_add(server->timer, &time) < 0)
		ferry_transport_abort_connection(server->transport);
}

static void work_done(evutil_socket_t fd, short events, void *context)
{
	struct server *server = context;
	const char *text = strchr(server->request, ' ');
	text = text != NULL ? text + 1 : "";
	(void)fd, (void)events;
	if (ferry_line_stream_send(server->stream, text, strlen(text)) < 0)
		ferry_transport_abort_connection(server->transport);
	server->working = false;
	pause_or_resume(server);
}

/* Nothing is left in the loop then, which returns. A client that has ended its half is no exception:
 * its end is noticed after its last request, and the transport sends all replies first. */
static void connection_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	struct server *server = context;
	server->status = reason;
	event_del(server->timer);
	ferry_line_stream_free(stream);
}

static int start(struct server *server, struct event_base *base)
{
	static const struct ferry_line_callbacks callbacks = {.line_received = line_received,
	                                                      .connection_lost = connection_lost};
	static const struct ferry_producer_callbacks producer = {.pause_producing = pause_producing,
	                                                         .resume_producing = resume_producing};
	struct bufferevent *bev = bufferevent_socket_new(base, STDIN_FILENO, BEV_OPT_CLOSE_ON_FREE);
	if (bev == NULL)
		return -ENOMEM;
	int status = ferry_transport_new(&server->transport, bev);
	if (status < 0) {
		bufferevent_free(bev); /* a call that fails leaves it the caller's */
		return status;
	}
	status = ferry_transport_register_producer(server->transport, &producer, server,
	                                           FERRY_PRODUCER_PUSH);
	if (status == 0)
		status = ferry_line_stream_new(&server->stream, server->transport, &callbacks, server);
	if (status < 0)
		ferry_transport_free(server->transport);
	else
		ferry_line_stream_set_max_length(server->stream, LONGEST_LINE, FERRY_LINE_LOSE);
	return status;
}

int main(void)
{
	struct server server = {0};
	struct event_base *base = event_base_new();
	if (base == NULL || (server.timer = evtimer_new(base, work_done, &server)) == NULL)
		errx(EXIT_FAILURE, "no event loop");
	server.status = start(&server, base);
	event_base_dispatch(base);
	event_free(server.timer);
	event_base_free(base);
	if (server.status < 0)
		errx(EXIT_FAILURE, "connection: %s", strerror(-server.status));
	return EXIT_SUCCESS;
}
