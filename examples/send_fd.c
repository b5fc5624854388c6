/* Sends an open file to another process: the counterpart of Twisted's documentation example
 * sendfd.py. What goes over the socket is "<path>\r\n", with the file's descriptor on its first
 * byte. receive_fd, or Twisted's recvfd.py, is the other end. */

#include "unix_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ferry/ferry.h>

static const char usage[] =
    "usage: send_fd [--listen|--connect] [--once] SOCKET_PATH FILE\n"
    "Sends FILE as an open descriptor to each process that connects to\n"
    "SOCKET_PATH (--listen, the default), or to the one that listens there\n"
    "(--connect). --once: ends after the first.\n";

struct sender {
	struct unix_peer peer; /* first: what met() is given */
	const char *file;
};

/* One connection. */
struct receiver {
	struct unix_connection connection; /* first: what free_receiver() is given */
	struct ferry_transport *transport;
};

static void free_receiver(struct unix_connection *connection)
{
	struct receiver *receiver = (struct receiver *)connection;
	ferry_transport_free(receiver->transport);
	free(receiver);
}

static void fail(struct sender *sender, const char *what, int reason)
{
	fprintf(stderr, "send_fd: %s: %s\n", what, strerror(-reason));
	sender->peer.failed = true;
}

static int send_file_descriptor(struct ferry_transport *transport, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int status = ferry_transport_send_fd(transport, fd, FERRY_FD_TAKE);
	if (status < 0) {
		close(fd);
		return status;
	}
	/* The descriptor travels with the first byte that is written after it. */
	status = ferry_transport_write(transport, path, strlen(path));
	if (status == 0)
		status = ferry_transport_write(transport, "\r\n", 2);
	return status;
}

static void connection_made(struct ferry_transport *transport, void *context)
{
	struct receiver *receiver = context;
	struct sender *sender = (struct sender *)receiver->connection.peer;
	int status = send_file_descriptor(transport, sender->file);
	if (status < 0) {
		fail(sender, sender->file, status);
		ferry_transport_abort_connection(transport);
		return;
	}
	ferry_transport_lose_connection(transport); /* all of it leaves first */
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport;
	struct receiver *receiver = context;
	struct unix_peer *peer = receiver->connection.peer;
	if (reason != 0 && reason != -ECONNABORTED)
		fail((struct sender *)peer, peer->path, reason);
	unix_connection_is_over(&receiver->connection);
}

static void met(struct unix_peer *peer, struct ferry_transport *transport)
{
	static const struct ferry_protocol protocol = {.connection_made = connection_made,
	                                               .connection_lost = connection_lost};
	struct receiver *receiver = calloc(1, sizeof(*receiver));
	int status = -ENOMEM;
	if (receiver != NULL)
		status = ferry_transport_set_protocol(transport, &protocol, receiver);
	if (status < 0) {
		fail((struct sender *)peer, peer->path, status);
		free(receiver);
		ferry_transport_free(transport);
		unix_peer_is_over(peer);
		return;
	}
	receiver->transport = transport;
	unix_connection_stands(&receiver->connection, peer, free_receiver);
}

int main(int argc, char **argv)
{
	struct sender sender = {.peer = {.listens = true, .met = met}};
	int first = unix_peer_read_arguments(&sender.peer, argc, argv, 1, usage);
	if (first < 0)
		return 2;
	sender.file = argv[first];
	return unix_peer_run(&sender.peer);
}
