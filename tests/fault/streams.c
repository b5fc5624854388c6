/* Lines, messages, descriptors with descriptions, and relays, each as a short scenario. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "ends.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"
#include "wire.h"

/* What has arrived at the far end. */
static struct {
	unsigned int items, fds;
	size_t bytes;
	bool near_lost, far_lost;
} seen;

static int fds[2];

static void open_sockets(void)
{
	memset(&seen, 0, sizeof(seen));
	disarm();
	make_pair(PAIR_UNIX, fds);
	arm();
}

static bool both_are_lost(void)
{
	return seen.near_lost && seen.far_lost;
}

/* ---- lines ---- */

static struct ferry_line_stream *near_lines, *far_lines;

static void on_line(struct ferry_line_stream *stream, const char *line, size_t length,
                    void *context)
{
	(void)stream, (void)context;
	seen.items += length == 5 && memcmp(line, "hello", 5) == 0;
}

static void on_raw(struct ferry_line_stream *stream, struct evbuffer *input, void *context)
{
	(void)stream, (void)context;
	seen.bytes += evbuffer_get_length(input);
	evbuffer_drain(input, evbuffer_get_length(input));
}

static void on_line_fd(struct ferry_line_stream *stream, int fd, void *context)
{
	(void)stream, (void)context;
	seen.fds++;
	close_quietly(fd);
}

static void on_lines_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	bool *lost = context;
	once(lost);
	told(reason);
	*(stream == near_lines ? &near_lines : &far_lines) = NULL;
	ferry_line_stream_free(stream);
}

static const struct ferry_line_callbacks line_callbacks = {.line_received = on_line,
                                                           .data_received = on_raw,
                                                           .file_descriptor_received = on_line_fd,
                                                           .connection_lost = on_lines_lost};

static bool open_line_stream(struct ferry_line_stream **out, struct event_base *loop, int fd,
                             bool *lost)
{
	struct ferry_transport *transport = open_end(loop, fd);
	*out = NULL;
	if (transport == NULL)
		return false;
	int status = called(ferry_line_stream_new(out, transport, &line_callbacks, lost));
	if (status < 0)
		ferry_transport_free(transport);
	return status == 0;
}

static bool open_line_streams(struct event_base *loop)
{
	open_sockets();
	bool opened = open_line_stream(&near_lines, loop, fds[0], &seen.near_lost);
	return open_line_stream(&far_lines, loop, fds[1], &seen.far_lost) && opened;
}

static bool lose_lines(void)
{
	return called(ferry_transport_lose_connection(ferry_line_stream_get_transport(near_lines))) ==
	       0;
}

static void free_lines(void)
{
	ferry_line_stream_free(near_lines);
	ferry_line_stream_free(far_lines);
}

static void send_lines(struct event_base *loop, int kind)
{
	(void)kind;
	if (open_line_streams(loop) &&
	    called(ferry_line_stream_set_delimiter(near_lines, "\n", 1)) == 0 &&
	    called(ferry_line_stream_set_delimiter(far_lines, "\n", 1)) == 0 &&
	    called(ferry_line_stream_send(near_lines, "hello", 5)) == 0 &&
	    called(ferry_transport_send_fd(ferry_line_stream_get_transport(near_lines), STDERR_FILENO,
	                                   FERRY_FD_DUP)) == 0 &&
	    called(ferry_line_stream_send(near_lines, "hello", 5)) == 0 && lose_lines()) {
		pump_swept(loop, both_are_lost);
		if (both_are_lost() && seen.items == 2 && seen.fds == 1)
			completed();
	}
	free_lines();
}

static void send_raw(struct event_base *loop, int kind)
{
	(void)kind;
	if (open_line_streams(loop) && called(ferry_line_stream_set_raw(far_lines, true)) == 0 &&
	    called(ferry_line_stream_send(near_lines, "hello", 5)) == 0 && lose_lines()) {
		pump_swept(loop, both_are_lost);
		if (both_are_lost() && seen.bytes > 5)
			completed();
	}
	free_lines();
}

/* ---- messages ---- */

static struct ferry_message_stream *near_messages, *far_messages;

static void on_message(struct ferry_message_stream *stream, struct ferry_message *message,
                       void *context)
{
	struct ferry_descriptor *descriptor = NULL;
	(void)stream, (void)context;
	seen.items++;
	if (ferry_message_get_fds_lost(message) > 0)
		told(-EMFILE);
	if (ferry_message_get_type(message) != 2) {
		seen.fds += (unsigned int)ferry_message_get_fd_count(message);
		close_quietly(called(ferry_message_steal_fd(message, 0)));
	} else if (called(ferry_descriptor_receive(&descriptor, message)) == 0) {
		seen.fds++;
		ferry_descriptor_free(descriptor);
	}
}

static void on_messages_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	bool *lost = context;
	once(lost);
	told(reason);
	*(stream == near_messages ? &near_messages : &far_messages) = NULL;
	ferry_message_stream_free(stream);
}

static const struct ferry_message_callbacks message_callbacks = {
    .message_received = on_message, .connection_lost = on_messages_lost};

static bool open_message_stream(struct ferry_message_stream **out, struct event_base *loop, int fd,
                                bool *lost)
{
	struct ferry_transport *transport = open_end(loop, fd);
	*out = NULL;
	if (transport == NULL)
		return false;
	int status = called(ferry_message_stream_new(out, transport, &message_callbacks, lost));
	if (status < 0)
		ferry_transport_free(transport);
	return status == 0;
}

static bool open_message_streams(struct event_base *loop)
{
	open_sockets();
	bool opened = open_message_stream(&near_messages, loop, fds[0], &seen.near_lost);
	return open_message_stream(&far_messages, loop, fds[1], &seen.far_lost) && opened;
}

static void finish_messages(struct event_base *loop)
{
	if (called(ferry_transport_lose_connection(ferry_message_stream_get_transport(near_messages))) <
	    0)
		return;
	pump_swept(loop, both_are_lost);
	if (both_are_lost() && seen.items == 1 && seen.fds == 1)
		completed();
}

static void send_message(struct event_base *loop, int kind)
{
	const int fd = STDERR_FILENO;
	(void)kind;
	if (open_message_streams(loop) &&
	    called(ferry_message_stream_set_fd_reserve(far_messages, 1)) == 0 &&
	    called(ferry_message_stream_send(near_messages, 1, "hello", 5, &fd, 1, FERRY_FD_DUP)) == 0)
		finish_messages(loop);
	ferry_message_stream_free(near_messages);
	ferry_message_stream_free(far_messages);
}

static void send_description(struct event_base *loop, int kind)
{
	int pipe[2];
	(void)kind;
	disarm();
	make_pipe(pipe);
	arm();
	if (open_message_streams(loop) &&
	    called(ferry_descriptor_send(near_messages, 2, pipe[0], "pipe", FERRY_FD_DUP)) == 0)
		finish_messages(loop);
	ferry_message_stream_free(near_messages);
	ferry_message_stream_free(far_messages);
	close_quietly(pipe[0]);
	close_quietly(pipe[1]);
}

/* ---- relays ---- */

static struct ferry_relay *relay;

static void on_relay_ended(struct ferry_relay *ended, enum ferry_relay_side side, int reason,
                           void *context)
{
	(void)side, (void)context;
	once(&seen.near_lost);
	told(reason);
	relay = NULL;
	ferry_relay_free(ended);
}

static const struct ferry_relay_callbacks relay_callbacks = {.relay_ended = on_relay_ended};

static bool relay_has_ended(void)
{
	return seen.near_lost;
}

/* The client sends bytes and a descriptor, and closes. The server reads and closes when it sees that. */
static int server_end;

static bool server_has_all(void)
{
	struct wire_read got;
	char buffer[100];
	disarm();
	wire_receive(server_end, buffer, sizeof(buffer), &got);
	if (got.bytes > 0)
		seen.bytes += (size_t)got.bytes;
	seen.fds += (unsigned int)got.fd_count;
	wire_close_fds(&got);
	arm();
	return got.bytes == 0 || relay_has_ended();
}

/* If a unix peer has closed, the relay takes ECONNRESET for its clean end: a kernel reports that error when all bytes are
 * read. In a run whose first read fails with it, the server reads less. */
static void run_relay(struct event_base *loop, int kind)
{
	int server[2];
	const int fd = STDERR_FILENO;
	relay = NULL;
	open_sockets();
	disarm();
	make_pair(kind == ENDS_UNIX ? PAIR_UNIX : PAIR_TCP, server);
	wire_send(fds[1], "hello", 5, &fd, kind == ENDS_UNIX);
	close(fds[1]);
	arm();
	server_end = server[1];
	struct ferry_transport *to_client = open_end(loop, fds[0]);
	struct ferry_transport *to_server = open_end(loop, server[0]);
	if (to_client != NULL && to_server != NULL &&
	    called(ferry_relay_new(&relay, to_client, to_server, &relay_callbacks, NULL)) == 0)
		to_client = to_server = NULL;
	ferry_transport_free(to_client);
	ferry_transport_free(to_server);
	if (relay != NULL)
		pump_swept(loop, server_has_all);
	close_quietly(server_end);
	if (relay != NULL)
		pump_swept(loop, relay_has_ended);
	if (relay_has_ended() && seen.bytes == 5 && seen.fds == (kind == ENDS_UNIX ? 1 : 0))
		completed();
	else if (relay_has_ended())
		told(-ECONNRESET); /* see above */
	ferry_relay_free(relay);
}

static const struct scenario scenarios[] = {
    {"lines", send_lines, 0, CALL_SENDMSG, CALL_NONE, NULL},
    {"lines, raw", send_raw, 0, CALL_RECVMSG, CALL_NONE, NULL},
    {"a message", send_message, 0, CALL_FCNTL, CALL_NONE, NULL},
    {"a description", send_description, 0, CALL_FSTAT, CALL_NONE, NULL},
    {"relay, unix", run_relay, ENDS_UNIX, CALL_SENDMSG, CALL_RECVMSG, NULL},
    {"relay, TCP", run_relay, ENDS_TCP, CALL_SENDMSG, CALL_RECVMSG, NULL},
};

LOOP_TEST(every_call_may_fail, COUNT(scenarios))
{
	sweep_scenario_of(&scenarios[_i], PAIRS_OF);
}

BEFORE_ALL
{
	heap_take_over();
}
