/* Receives open files from another process: the counterpart of Twisted's example recvfd.py. Each
 * line, "<path>\r\n", comes with a descriptor; the first 80 bytes of that file are printed.
 *
 *     ./send_fd /tmp/fds.sock /etc/hostname &
 *     ./receive_fd /tmp/fds.sock
 *
 * A descriptor arrives no later than its line, but maybe earlier: it waits for the line in a queue. (With
 * ferry_transport_set_fd_positions() it would come behind all lines that were sent before it.)
 * messages.c shows frames that arrive together with their descriptors.
 */

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>
#include <ferry/ferry.h>

enum { BYTES_SHOWN = 80, QUEUE_LENGTH = 64 };

struct client {
	int queue[QUEUE_LENGTH]; /* descriptors whose lines have not arrived, the oldest first */
	size_t queued;
	int result;
};

/* connection_lost() follows from the loop, and frees the stream. */
static void fail(struct client *client, struct ferry_line_stream *stream, const char *message)
{
	warnx("%s", message);
	client->result = EXIT_FAILURE;
	ferry_line_stream_abort_connection(stream);
}

static int print_beginning(const char *path, size_t length, int fd)
{
	char bytes[BYTES_SHOWN];
	ssize_t count;
	do
		count = read(fd, bytes, sizeof(bytes));
	while (count < 0 && errno == EINTR);
	if (count < 0)
		return -errno;
	printf("path: %.*s\n", (int)length, path);
	fwrite(bytes, 1, (size_t)count, stdout);
	putchar('\n');
	return fflush(stdout) == 0 ? 0 : -errno;
}

/* The callback owns the descriptor. */
static void fd_received(struct ferry_line_stream *stream, int fd, void *context)
{
	struct client *client = context;
	if (client->queued < QUEUE_LENGTH) {
		client->queue[client->queued++] = fd;
		return;
	}
	close(fd);
	fail(client, stream, "descriptors without lines");
}

static void line_received(struct ferry_line_stream *stream, const char *line, size_t length,
                          void *context)
{
	struct client *client = context;
	if (client->queued == 0) {
		fail(client, stream, "a line without a descriptor");
		return;
	}
	int fd = client->queue[0];
	client->queued--;
	memmove(client->queue, client->queue + 1, client->queued * sizeof(int));
	int status = print_beginning(line, length, fd);
	close(fd);
	if (status < 0)
		fail(client, stream, strerror(-status));
}

/* The loop returns after this, because nothing is left in it. */
static void connection_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	struct client *client = context;
	if (reason != 0 && reason != -ECONNABORTED) {
		warnx("connection: %s", strerror(-reason));
		client->result = EXIT_FAILURE;
	}
	while (client->queued > 0)
		close(client->queue[--client->queued]);
	ferry_line_stream_free(stream);
}

/* There is no callback for lost descriptors: the connection then ends with -EMSGSIZE. If it went on,
 * the next line would get the descriptor of another one. */
static void connected(struct ferry_connector *connector, int status,
                      struct ferry_transport *transport, void *context)
{
	static const struct ferry_line_callbacks callbacks = {.file_descriptor_received = fd_received,
	                                                      .line_received = line_received,
	                                                      .connection_lost = connection_lost};
	struct client *client = context;
	struct ferry_line_stream *stream;
	(void)connector;
	if (status == 0) {
		status = ferry_line_stream_new(&stream, transport, &callbacks, client);
		if (status == 0)
			ferry_line_stream_set_delimiter(stream, "\r\n", 2);
		else
			ferry_transport_free(transport);
	}
	if (status < 0) {
		warnx("connection: %s", strerror(-status));
		client->result = EXIT_FAILURE;
	}
}

int main(int argc, char **argv)
{
	struct client client = {.result = EXIT_SUCCESS};
	if (argc != 2)
		errx(2, "usage: receive_fd SOCKET_PATH");
	struct event_base *base = event_base_new();
	if (base == NULL)
		errx(EXIT_FAILURE, "no event loop");
	int status = ferry_connector_new_unix(NULL, base, argv[1], NULL, connected, &client);
	if (status < 0) {
		warnx("%s: %s", argv[1], strerror(-status));
		client.result = EXIT_FAILURE;
	}
	event_base_dispatch(base);
	event_base_free(base);
	return client.result;
}
