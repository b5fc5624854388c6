/* Receives open files from another process: the counterpart of Twisted's documentation example
 * recvfd.py. A line, "<path>\r\n", comes with a descriptor; from that the first 80 bytes are read and
 * printed. send_fd, or Twisted's sendfd.py, is the other end. */

#include "unix_peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <ferry/ferry.h>

enum { LONGEST_LINE = 16384, BYTES_SHOWN = 80 };

static const char usage[] =
    "usage: receive_fd [--connect|--listen] [--once] SOCKET_PATH\n"
    "Prints what the process that listens at SOCKET_PATH (--connect, the\n"
    "default), or each one that connects to it (--listen), sends: a line\n"
    "with a path, and the first 80 bytes of the descriptor that comes with\n"
    "it. --once: ends after the first connection.\n";

/* One connection. Descriptors that came before the end of their line wait here. */
struct client {
	struct unix_connection connection; /* first: what free_client() is given */
	struct ferry_transport *transport;
	int waiting[64];
	size_t waiting_count;
};

static int take_descriptor(struct client *client)
{
	if (client->waiting_count == 0)
		return -1;
	int fd = client->waiting[0];
	client->waiting_count--;
	memmove(client->waiting, client->waiting + 1, client->waiting_count * sizeof(int));
	return fd;
}

static void fail(struct client *client, struct ferry_transport *transport, const char *why)
{
	fprintf(stderr, "receive_fd: %s\n", why);
	client->connection.peer->failed = true;
	ferry_transport_abort_connection(transport);
}

static void free_client(struct unix_connection *connection)
{
	struct client *client = (struct client *)connection;
	for (int fd = take_descriptor(client); fd >= 0; fd = take_descriptor(client))
		close(fd);
	ferry_transport_free(client->transport);
	free(client);
}

static bool show(const char *path, int fd)
{
	char bytes[BYTES_SHOWN];
	ssize_t count;
	do
		count = read(fd, bytes, sizeof(bytes));
	while (count < 0 && errno == EINTR);
	if (count < 0)
		return false;
	printf("path: %s\n", path);
	fwrite(bytes, 1, (size_t)count, stdout);
	putchar('\n');
	fflush(stdout);
	return true;
}

static void file_descriptor_received(struct ferry_transport *transport, int fd, void *context)
{
	struct client *client = context;
	if (client->waiting_count < sizeof(client->waiting) / sizeof(client->waiting[0])) {
		client->waiting[client->waiting_count++] = fd;
		return;
	}
	close(fd);
	fail(client, transport, "descriptors without lines");
}

static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	struct client *client = context;
	char *line;
	while ((line = evbuffer_readln(input, NULL, EVBUFFER_EOL_CRLF_STRICT)) != NULL) {
		int fd = take_descriptor(client);
		bool fine = fd >= 0 && show(line, fd);
		if (!fine)
			fail(client, transport, fd < 0 ? "a line without a descriptor" : strerror(errno));
		if (fd >= 0)
			close(fd);
		free(line);
		if (!fine)
			return;
	}
	if (evbuffer_get_length(input) > LONGEST_LINE)
		fail(client, transport, "a line that is too long");
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport;
	struct client *client = context;
	if (reason != 0 && reason != -ECONNABORTED) {
		fprintf(stderr, "receive_fd: %s\n", strerror(-reason));
		client->connection.peer->failed = true;
	}
	unix_connection_is_over(&client->connection);
}

static void met(struct unix_peer *peer, struct ferry_transport *transport)
{
	/* Without file_descriptors_lost a descriptor that cannot be installed ends the connection: a
	 * later line would be taken for its. */
	static const struct ferry_protocol protocol = {.file_descriptor_received =
	                                                   file_descriptor_received,
	                                               .data_received = data_received,
	                                               .connection_lost = connection_lost};
	struct client *client = calloc(1, sizeof(*client));
	if (client == NULL || ferry_transport_set_protocol(transport, &protocol, client) < 0) {
		free(client);
		ferry_transport_free(transport);
		peer->failed = true;
		unix_peer_is_over(peer);
		return;
	}
	client->transport = transport;
	unix_connection_stands(&client->connection, peer, free_client);
}

int main(int argc, char **argv)
{
	struct unix_peer peer = {.met = met};
	if (unix_peer_read_arguments(&peer, argc, argv, 0, usage) < 0)
		return 2;
	return unix_peer_run(&peer);
}
