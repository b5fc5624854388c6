/* Short pieces for the reference: formatted output, several places at once, and the ends of many connections. */

#include <stdarg.h>
#include <stdio.h>
#include <sys/uio.h>

#include <ferry/ferry.h>

int greet(struct ferry_transport *transport, const char *name)
{
	return ferry_transport_printf(transport, "hello, %s\r\n", name);
}

/* For a program with functions of its own in the style of printf(3). */
int say(struct ferry_transport *transport, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	int status = ferry_transport_vprintf(transport, format, arguments);
	va_end(arguments);
	return status;
}

int say_to_channel(struct ferry_channel *channel, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	int status = ferry_channel_vprintf(channel, format, arguments);
	va_end(arguments);
	return status;
}

int count_for_channel(struct ferry_channel *channel, unsigned int count)
{
	return ferry_channel_printf(channel, "%u\n", count);
}

int say_line(struct ferry_line_stream *stream, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	int status = ferry_line_stream_vprintf(stream, format, arguments);
	va_end(arguments);
	return status;
}

int write_record(struct ferry_transport *transport, const void *head, size_t head_length,
                 const void *body, size_t body_length)
{
	const struct iovec parts[] = {{(void *)head, head_length}, {(void *)body, body_length}};

	return ferry_transport_writev(transport, parts, 2);
}

/* An answer that is complete and short leaves at once, unless something is queued before it. */
int answer_at_once(struct ferry_transport *transport, const char *answer, size_t length)
{
	const ssize_t sent = ferry_transport_try_write(transport, answer, length);

	if (sent < 0 || (size_t)sent == length)
		return sent < 0 ? (int)sent : 0;
	return ferry_transport_write(transport, answer + sent, length - (size_t)sent);
}

int send_record(struct ferry_message_stream *stream, uint16_t type, const struct iovec parts[2],
                int fd)
{
	return ferry_message_stream_sendv(stream, type, parts, 2, &fd, 1, FERRY_FD_DUP);
}

int send_collected(struct ferry_message_stream *stream, uint16_t type, struct evbuffer *payload)
{
	return ferry_message_stream_send_buffer(stream, type, payload, NULL, 0, FERRY_FD_DUP);
}

/* Both streams: what is queued is sent, and the peer may answer. */
void no_more_requests(struct ferry_line_stream *lines, struct ferry_message_stream *messages)
{
	ferry_line_stream_lose_write_connection(lines);
	ferry_message_stream_lose_write_connection(messages);
}

void print_queues(const struct ferry_line_stream *lines,
                  const struct ferry_message_stream *messages)
{
	struct ferry_transport_stats stats;

	if (ferry_transport_get_stats(ferry_line_stream_get_transport(lines), &stats) == 0)
		printf("%llu bytes of lines wait\n", (unsigned long long)stats.bytes_queued);
	if (ferry_transport_get_stats(ferry_message_stream_get_transport(messages), &stats) == 0)
		printf("%llu bytes of messages wait\n", (unsigned long long)stats.bytes_queued);
}

void print_peer(const struct ferry_transport *transport)
{
	char text[FERRY_ADDRESS_TEXT_SIZE];

	printf("%s is connected\n", ferry_transport_format_peer(transport, text, sizeof(text)));
}

static void print_one(struct ferry_listener *listener, struct ferry_transport *transport,
                      void *context)
{
	(void)listener, (void)context;
	print_peer(transport);
}

void print_clients(struct ferry_listener *listener)
{
	ferry_listener_for_each_transport(listener, print_one, NULL);
}

void end_clients(struct ferry_listener *listener, bool in_peace)
{
	if (in_peace)
		ferry_listener_lose_connections(listener);
	else
		ferry_listener_abort_connections(listener);
}
