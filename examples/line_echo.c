/* Sends the lines of the standard input to another process and prints the lines that come back; and the
 * other process, which sends each line back. A slow reader on any side holds all the others up, and
 * nothing piles up in between. */

#include "program.h"
#include "unix_peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <ferry/ferry.h>

enum { LONGEST_LINE = 65536, STDIN_SPACE = 4096 };

static const char usage[] =
    "usage: line_echo --listen [--once] SOCKET_PATH\n"
    "       line_echo --connect SOCKET_PATH\n"
    "--listen: sends each line back to whoever connects to SOCKET_PATH; --once: ends\n"
    "after the first. --connect: sends the lines of the standard input there, and\n"
    "prints those that come back.\n";

static bool connection_failed(int reason)
{
	if (reason == 0)
		return false;
	program_say("%s", strerror(-reason));
	return true;
}

/* Starts lines on a transport that was met; frees it if it cannot. */
static struct ferry_line_stream *begin(struct ferry_transport *transport,
                                       const struct ferry_line_callbacks *callbacks,
                                       const struct ferry_producer_callbacks *producer,
                                       void *context)
{
	struct ferry_line_stream *stream = NULL;
	int status = ferry_line_stream_new(&stream, transport, callbacks, context);
	if (status < 0) {
		ferry_transport_free(transport);
	} else {
		status =
		    ferry_transport_register_producer(transport, producer, context, FERRY_PRODUCER_PUSH);
		if (status < 0)
			ferry_line_stream_free(stream);
	}
	return connection_failed(status) ? NULL : stream;
}

/* ---- the server: one connection ---- */

struct client {
	struct unix_connection connection; /* first: what free_client() is given */
	struct ferry_transport *transport;
	struct ferry_line_stream *stream;
};

static void free_client(struct unix_connection *connection)
{
	struct client *client = (struct client *)connection;
	ferry_line_stream_free(client->stream);
	free(client);
}

static void send_back(struct ferry_line_stream *stream, const char *line, size_t length,
                      void *context)
{
	(void)context;
	/* Without memory for the answer there is no going on. */
	if (ferry_line_stream_send(stream, line, length) == -ENOMEM)
		ferry_transport_abort_connection(ferry_line_stream_get_transport(stream));
}

static void complain(struct ferry_line_stream *stream, const char *beginning, size_t length,
                     void *context)
{
	(void)beginning, (void)length;
	static const char answer[] = "(a line that is too long)";
	send_back(stream, answer, sizeof(answer) - 1, context);
}

/* What is sent back is not taken: no more is read. */
static void stop_reading(void *context)
{
	struct client *client = context;
	ferry_transport_pause_reading(client->transport);
}

static void go_on_reading(void *context)
{
	struct client *client = context;
	ferry_transport_resume_reading(client->transport);
}

static void client_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	(void)stream;
	struct client *client = context;
	if (connection_failed(reason))
		client->connection.peer->failed = true;
	unix_connection_is_over(&client->connection);
}

/* The last line comes back as a line, whether or not it had an end. */
static void serve(struct unix_peer *peer, struct ferry_transport *transport)
{
	static const struct ferry_line_callbacks callbacks = {.line_received = send_back,
	                                                      .incomplete_line_received = send_back,
	                                                      .line_length_exceeded = complain,
	                                                      .connection_lost = client_lost};
	static const struct ferry_producer_callbacks producer = {.pause_producing = stop_reading,
	                                                         .resume_producing = go_on_reading};
	struct client *client = calloc(1, sizeof(*client));
	if (client == NULL) {
		ferry_transport_free(transport);
		return;
	}
	unix_connection_stands(&client->connection, peer, free_client);
	client->transport = transport;
	client->stream = begin(transport, &callbacks, &producer, client);
	if (client->stream != NULL) {
		ferry_line_stream_set_max_length(client->stream, LONGEST_LINE, FERRY_LINE_SKIP);
		return;
	}
	peer->failed = true;
	unix_connection_is_over(&client->connection);
}

/* ---- the client ---- */

struct asker {
	struct unix_peer peer; /* first: what `met` is given */
	struct unix_connection connection;
	struct ferry_line_stream *stream;
	struct event *readable; /* the standard input is */
	const struct timeval *timeout;
	struct evbuffer *typed;
	bool at_end;
};

static void free_asker(struct unix_connection *connection)
{
	struct asker *asker = (struct asker *)connection->peer;
	ferry_line_stream_free(asker->stream);
	if (asker->readable != NULL)
		event_free(asker->readable);
	if (asker->typed != NULL)
		evbuffer_free(asker->typed);
}

static int send_typed(struct asker *asker)
{
	int status = 0;
	size_t length;
	char *line;

	while (status == 0 &&
	       (line = evbuffer_readln(asker->typed, &length, EVBUFFER_EOL_LF)) != NULL) {
		status = ferry_line_stream_send(asker->stream, line, length);
		free(line);
	}
	length = evbuffer_get_length(asker->typed);
	if (status == 0 && asker->at_end && length > 0)
		status = ferry_line_stream_send(asker->stream, evbuffer_pullup(asker->typed, -1), length);
	return status;
}

/* No more is read than is at hand: so a terminal need not be made non-blocking, which it would be for
 * the shell too. */
static void read_some(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct asker *asker = context;
	struct ferry_transport *transport = ferry_line_stream_get_transport(asker->stream);

	int count = evbuffer_read(asker->typed, STDIN_FILENO, STDIN_SPACE);
	if (count < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	asker->at_end = count <= 0;
	if (send_typed(asker) == 0 && !asker->at_end)
		return;
	event_del(asker->readable);
	/* Our half is closed behind the last line. That waits for the producer. */
	ferry_transport_unregister_producer(transport);
	ferry_transport_lose_write_connection(transport);
}

static void stop_asking(void *context)
{
	struct asker *asker = context;
	event_del(asker->readable);
}

static void go_on_asking(void *context)
{
	struct asker *asker = context;
	event_add(asker->readable, asker->timeout);
}

/* What cannot be waited for, a file above all, need not be: it is read in each turn of the loop. */
static bool can_be_waited_for(int fd)
{
	struct stat status;
	return fstat(fd, &status) == 0 &&
	       (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode) || isatty(fd));
}

static bool watch_standard_input(struct asker *asker)
{
	static const struct timeval soon = {.tv_usec = 1}; /* libevent repeats no timeout of 0 */
	bool waits = can_be_waited_for(STDIN_FILENO);

	asker->timeout = waits ? NULL : &soon;
	asker->typed = evbuffer_new();
	asker->readable = event_new(asker->peer.base, waits ? STDIN_FILENO : -1,
	                            EV_PERSIST | (waits ? EV_READ : 0), read_some, asker);
	return asker->typed != NULL && asker->readable != NULL &&
	       event_add(asker->readable, asker->timeout) == 0;
}

static void print(struct ferry_line_stream *stream, const char *line, size_t length, void *context)
{
	(void)stream, (void)context;
	fwrite(line, 1, length, stdout);
	putchar('\n');
	fflush(stdout);
}

static void server_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	(void)stream;
	struct asker *asker = context;
	if (connection_failed(reason))
		asker->peer.failed = true;
	if (reason == 0 && !asker->at_end) {
		program_say("the other end has gone");
		asker->peer.failed = true;
	}
	unix_connection_is_over(&asker->connection);
}

static void ask(struct unix_peer *peer, struct ferry_transport *transport)
{
	static const struct ferry_line_callbacks callbacks = {
	    .line_received = print, .incomplete_line_received = print, .connection_lost = server_lost};
	static const struct ferry_producer_callbacks producer = {.pause_producing = stop_asking,
	                                                         .resume_producing = go_on_asking};
	struct asker *asker = (struct asker *)peer;
	unix_connection_stands(&asker->connection, peer, free_asker);
	asker->stream = begin(transport, &callbacks, &producer, asker);
	if (asker->stream != NULL && watch_standard_input(asker)) {
		ferry_line_stream_set_max_length(asker->stream, LONGEST_LINE, FERRY_LINE_LOSE);
		return;
	}
	peer->failed = true;
	unix_connection_is_over(&asker->connection);
}

int main(int argc, char **argv)
{
	struct asker asker = {.peer = {.listens = true}};
	if (unix_peer_read_arguments(&asker.peer, argc, argv, 0, usage) < 0)
		return 2;
	asker.peer.met = asker.peer.listens ? serve : ask;
	return unix_peer_run(&asker.peer);
}
