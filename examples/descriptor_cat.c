/* cat(1) in two processes: the one opens the files, the other, which need not be allowed to, reads
 * them. Each file is sent as a descriptor with a description and its name; what arrives is compared
 * with the description, and made a FILE. */

#include "program.h"
#include "unix_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ferry/ferry.h>

static const char usage[] =
    "usage: descriptor_cat --send [--once] SOCKET_PATH FILE...\n"
    "       descriptor_cat --receive SOCKET_PATH\n"
    "--send listens at SOCKET_PATH, and sends each process that connects the open\n"
    "FILEs, `-` for the standard input. --once: ends after the first. --receive\n"
    "connects, and writes what is in them to the standard output.\n";

enum { TYPE_FILE = 1 };

struct cat {
	struct unix_peer peer; /* first: what the callbacks are given */
	char **files;          /* to send; ends with NULL */
};

/* One connection. */
struct conversation {
	struct unix_connection connection; /* first: what free_conversation() is given */
	struct cat *cat;
	struct ferry_message_stream *stream;
	char **next; /* to send */
};

static void fail(struct conversation *conversation, const char *name, int status)
{
	program_say("%s: %s", name, strerror(-status));
	conversation->cat->peer.failed = true;
}

static struct ferry_transport *transport_of(struct conversation *conversation)
{
	return ferry_message_stream_get_transport(conversation->stream);
}

static void free_conversation(struct unix_connection *connection)
{
	struct conversation *conversation = (struct conversation *)connection;
	ferry_message_stream_free(conversation->stream);
	free(conversation);
}

static void connection_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)stream;
	struct conversation *conversation = context;
	const struct unix_peer *peer = conversation->connection.peer;

	if (reason != 0 && !peer->failed)
		fail(conversation, peer->path, reason);
	unix_connection_is_over(&conversation->connection);
}

/* ---- sending ---- */

static int send_file(struct conversation *conversation, const char *name)
{
	bool is_input = strcmp(name, "-") == 0;
	int fd = is_input ? dup(STDIN_FILENO) : open(name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	int status = ferry_descriptor_send(conversation->stream, TYPE_FILE, fd, name, FERRY_FD_TAKE);
	if (status < 0)
		close(fd);
	return status;
}

/* Asked for one file when the one before has left, so that there may be any number of them. */
static void send_next_file(void *context)
{
	struct conversation *conversation = context;

	while (*conversation->next != NULL) {
		const char *name = *conversation->next++;
		int status = send_file(conversation, name);
		if (status == 0)
			return;
		fail(conversation, name, status);
	}
	ferry_transport_unregister_producer(transport_of(conversation));
}

static int start_sending(struct conversation *conversation)
{
	static const struct ferry_producer_callbacks files = {.resume_producing = send_next_file};
	struct ferry_transport *transport = transport_of(conversation);

	conversation->next = conversation->cat->files;
	int status =
	    ferry_transport_register_producer(transport, &files, conversation, FERRY_PRODUCER_PULL);
	if (status == 0)
		ferry_transport_lose_connection(transport); /* once there are no more files */
	return status;
}

/* ---- receiving ---- */

static int copy_to_output(FILE *file)
{
	char bytes[65536];
	size_t count;

	while ((count = fread(bytes, 1, sizeof(bytes), file)) > 0)
		if (fwrite(bytes, 1, count, stdout) < count)
			return -EIO;
	return ferror(file) || fflush(stdout) != 0 ? -EIO : 0;
}

static int show(struct ferry_descriptor *descriptor)
{
	FILE *file;

	int status = ferry_descriptor_to_file(&file, descriptor);
	if (status < 0)
		return status;
	status = copy_to_output(file);
	(void)fclose(file);
	return status;
}

static void message_received(struct ferry_message_stream *stream, struct ferry_message *message,
                             void *context)
{
	struct conversation *conversation = context;
	struct ferry_descriptor *descriptor;

	(void)stream;
	if (ferry_message_get_type(message) != TYPE_FILE) /* of a later version */
		return;
	int status = ferry_descriptor_receive(&descriptor, message);
	if (status < 0) {
		/* One file less. Who lies about one may lie about all. */
		fail(conversation, "a file that did not arrive", status);
		if (status != -EMFILE)
			ferry_transport_abort_connection(transport_of(conversation));
		return;
	}
	status = show(descriptor);
	if (status < 0)
		fail(conversation, ferry_descriptor_get_name(descriptor), status);
	ferry_descriptor_free(descriptor);
}

/* ---- both ---- */

static int start(struct cat *cat, struct ferry_transport *transport)
{
	static const struct ferry_message_callbacks callbacks = {.message_received = message_received,
	                                                         .connection_lost = connection_lost};
	struct conversation *conversation = calloc(1, sizeof(*conversation));

	if (conversation == NULL)
		return -ENOMEM;
	conversation->cat = cat;
	int status =
	    ferry_message_stream_new(&conversation->stream, transport, &callbacks, conversation);
	if (status < 0) {
		free(conversation);
		return status;
	}
	unix_connection_stands(&conversation->connection, &cat->peer, free_conversation);
	if (cat->files != NULL)
		status = start_sending(conversation);
	if (status < 0) { /* connection_lost() is still to come, and frees */
		fail(conversation, cat->peer.path, status);
		ferry_transport_abort_connection(transport);
	}
	return 0;
}

static void met(struct unix_peer *peer, struct ferry_transport *transport)
{
	int status = start((struct cat *)peer, transport);

	if (status < 0) {
		program_say("%s: %s", peer->path, strerror(-status));
		peer->failed = true;
		ferry_transport_free(transport);
		unix_peer_is_over(peer);
	}
}

static bool read_arguments(struct cat *cat, int argc, char **argv)
{
	int i = 2;

	if (argc < 3)
		return false;
	cat->peer.listens = strcmp(argv[1], "--send") == 0;
	if (!cat->peer.listens && strcmp(argv[1], "--receive") != 0)
		return false;
	if (cat->peer.listens && strcmp(argv[i], "--once") == 0) {
		cat->peer.once = true;
		i++;
	}
	if (i >= argc || strncmp(argv[i], "--", 2) == 0)
		return false;
	cat->peer.path = argv[i++];
	if (cat->peer.listens)
		cat->files = argv + i;
	return cat->peer.listens ? i < argc : i == argc;
}

int main(int argc, char **argv)
{
	struct cat cat = {.peer = {.met = met}};

	if (!read_arguments(&cat, argc, argv)) {
		(void)fputs(usage, stderr);
		return 2;
	}
	program_print_ferry_log();
	return unix_peer_run(&cat.peer);
}
