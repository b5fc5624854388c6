/* Sends an open file to another process: the counterpart of Twisted's documentation example
 * sendfd.py. What goes over the socket is "<path>\r\n", with the file's descriptor on its first
 * byte. receive_fd, or Twisted's recvfd.py, is the other end. */

#include "unix_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <ferry/ferry.h>

static const char usage[] =
    "usage: send_fd [--listen|--connect] [--once] SOCKET_PATH FILE\n"
    "Sends FILE as an open descriptor to each process that connects to\n"
    "SOCKET_PATH (--listen, the default), or to the one that listens there\n"
    "(--connect). --once: ends after the first.\n";

struct sender {
	struct unix_peer peer; /* first: what the callbacks are given */
	const char *file;
};

static void over(struct sender *sender, struct ferry_transport *transport, int reason)
{
	if (reason != 0) {
		fprintf(stderr, "send_fd: %s\n", strerror(-reason));
		sender->peer.failed = true;
	}
	ferry_transport_free(transport);
	unix_peer_is_over(&sender->peer);
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
	struct sender *sender = context;
	int status = send_file_descriptor(transport, sender->file);
	if (status < 0) {
		fprintf(stderr, "send_fd: %s: %s\n", sender->file, strerror(-status));
		sender->peer.failed = true;
		ferry_transport_abort_connection(transport);
		return;
	}
	ferry_transport_lose_connection(transport); /* all of it leaves first */
}

static void connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	over(context, transport, reason == -ECONNABORTED ? 0 : reason);
}

static void met(struct unix_peer *peer, struct ferry_transport *transport)
{
	static const struct ferry_protocol protocol = {.connection_made = connection_made,
	                                               .connection_lost = connection_lost};
	struct sender *sender = (struct sender *)peer;
	int status = ferry_transport_set_protocol(transport, &protocol, sender);
	if (status < 0)
		over(sender, transport, status);
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
