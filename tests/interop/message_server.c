/* A server of messages for clients in other languages. It answers each message with one of the same type, payload and
 * descriptors, those of `count` with so many as the payload has as a number, and `bye` with its end.
 *
 *   message_server PATH
 *
 * The i-th message of an answer to `count` has i bytes and i mod 3 descriptors. The server takes 100,000 bytes and 16
 * descriptors in a message, and ends with its first client. */

#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include <ferry/ferry.h>

enum { TYPE_ECHO = 1, TYPE_COUNT = 2, TYPE_BYE = 3, PAYLOAD_MAX = 100000, FDS_MAX = 16 };

static struct event_base *base;
static struct ferry_listener *listener;

static void check(int status, const char *what)
{
	if (status < 0)
		errx(EXIT_FAILURE, "%s: %s", what, strerror(-status));
}

static void echo(struct ferry_message_stream *stream, struct ferry_message *message)
{
	size_t length, count = ferry_message_get_fd_count(message);
	const void *payload = ferry_message_get_payload(message, &length);
	int fds[FDS_MAX];

	for (size_t i = 0; i < count; i++)
		fds[i] = ferry_message_steal_fd(message, i);
	check(ferry_message_stream_send(stream, ferry_message_get_type(message), payload, length, fds,
	                                count, FERRY_FD_TAKE),
	      "echo");
}

static void send_many(struct ferry_message_stream *stream, struct ferry_message *message)
{
	static const int fds[2] = {STDIN_FILENO, STDOUT_FILENO};
	char number[16] = "";
	size_t length;
	const char *text = ferry_message_get_payload(message, &length);

	memcpy(number, text, length < sizeof(number) ? length : sizeof(number) - 1);
	char *bytes = calloc(1, PAYLOAD_MAX);
	for (size_t i = 0; bytes != NULL && i < strtoul(number, NULL, 10); i++)
		check(ferry_message_stream_send(stream, (uint16_t)i, bytes, i, fds, i % 3, FERRY_FD_DUP),
		      "send");
	free(bytes);
}

static void received(struct ferry_message_stream *stream, struct ferry_message *message,
                     void *context)
{
	(void)context;
	if (ferry_message_get_type(message) == TYPE_BYE)
		check(ferry_message_stream_lose_connection(stream), "close");
	else if (ferry_message_get_type(message) == TYPE_COUNT)
		send_many(stream, message);
	else
		echo(stream, message);
}

static void lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)context;
	printf("%s\n", reason == 0 ? "end" : strerror(-reason));
	ferry_message_stream_free(stream);
	ferry_listener_free(listener);
}

static void accepted(struct ferry_listener *from, struct ferry_transport *transport, void *context)
{
	static const struct ferry_message_callbacks callbacks = {.message_received = received,
	                                                         .connection_lost = lost};
	struct ferry_message_stream *stream;
	(void)from, (void)context;

	check(ferry_transport_set_fd_buffer(transport, 64, 100000), "bounds");
	check(ferry_message_stream_new(&stream, transport, &callbacks, NULL), "messages");
	check(ferry_message_stream_set_limits(stream, PAYLOAD_MAX, FDS_MAX), "limits");
	check(ferry_listener_disable(from), "disable");
}

int main(int argc, char **argv)
{
	base = event_base_new();
	if (argc != 2 || base == NULL)
		errx(2, "usage: message_server PATH");
	check(ferry_listener_new_unix(&listener, base, argv[1], NULL, accepted, NULL), argv[1]);
	printf("ready\n");
	fflush(stdout);
	event_base_dispatch(base);
	event_base_free(base);
	return EXIT_SUCCESS;
}
