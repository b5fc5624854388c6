/* cat(1) in two processes: the parent opens files, and the child, which need not be allowed to, prints
 * them. Each file travels as a descriptor with its name and a description of what it is; ferry
 * compares that with what arrives, and makes a FILE of it (or a bufferevent, or a listener).
 *
 *     ./descriptor_cat /etc/hostname - </etc/hosts
 *
 * `-` is the standard input. The child can be any process at the other end of a unix socket.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <ferry/ferry.h>

/* One end of the connection. */
struct end {
	struct ferry_message_stream *stream;
	struct ferry_transport *transport; /* the stream's */
	char **names;                      /* of files to send; NULL ends the list */
	bool failed;
};

static void fail(struct end *end, const char *subject, int status)
{
	warnx("%s: %s", subject, strerror(-status));
	end->failed = true;
}

static int send_file(struct ferry_message_stream *stream, const char *name)
{
	bool is_input = strcmp(name, "-") == 0;
	int fd = is_input ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
	                  : open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	int status = ferry_descriptor_send(stream, 0, fd, name, FERRY_FD_TAKE);
	if (status < 0)
		close(fd); /* a call that fails leaves it the caller's */
	return status;
}

/* The parent is a pull producer: the transport asks for a file when the one before has left, so that
 * any number of files takes few descriptors. */
static void send_next_file(void *context)
{
	struct end *parent = context;
	while (*parent->names != NULL) {
		const char *name = *parent->names++;
		int status = send_file(parent->stream, name);
		if (status == 0)
			return;
		fail(parent, name, status);
	}
	ferry_transport_unregister_producer(parent->transport);
	ferry_transport_lose_connection(parent->transport);
}

/* The child. */
static int print_file(struct ferry_descriptor *descriptor)
{
	char bytes[65536];
	size_t count;
	FILE *file;
	int status = ferry_descriptor_to_file(&file, descriptor);
	if (status < 0)
		return status;
	while ((count = fread(bytes, 1, sizeof(bytes), file)) > 0)
		fwrite(bytes, 1, count, stdout);
	status = ferror(file) || fflush(stdout) != 0 || ferror(stdout) ? -EIO : 0;
	(void)fclose(file);
	return status;
}

static void message_received(struct ferry_message_stream *stream, struct ferry_message *message,
                             void *context)
{
	struct end *child = context;
	struct ferry_descriptor *descriptor;
	(void)stream;
	int status = ferry_descriptor_receive(&descriptor, message);
	if (status < 0) {
		fail(child, "a file that did not arrive", status);
		if (status != -EMFILE) /* a peer that lies about one file may lie about all */
			ferry_transport_abort_connection(child->transport);
		return;
	}
	status = print_file(descriptor);
	if (status < 0)
		fail(child, ferry_descriptor_get_name(descriptor), status);
	ferry_descriptor_free(descriptor);
}

/* The loop returns after this, because nothing is left in it. */
static void connection_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	if (reason != 0)
		fail(context, "connection", reason);
	ferry_message_stream_free(stream);
}

/* A process that cannot even start ends; the kernel then closes its descriptors. */
static int run(struct end *end, int fd, const struct ferry_message_callbacks *callbacks)
{
	static const struct ferry_producer_callbacks files = {.resume_producing = send_next_file};
	struct event_base *base = event_base_new();
	int status = ferry_transport_new_socket(&end->transport, base, fd);
	if (status == 0)
		status = ferry_message_stream_new(&end->stream, end->transport, callbacks, end);
	if (status == 0 && end->names != NULL)
		status =
		    ferry_transport_register_producer(end->transport, &files, end, FERRY_PRODUCER_PULL);
	if (status < 0)
		errx(EXIT_FAILURE, "connection: %s", strerror(-status));
	event_base_dispatch(base);
	event_base_free(base);
	return end->failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	static const struct ferry_message_callbacks sends = {.connection_lost = connection_lost};
	static const struct ferry_message_callbacks receives = {.message_received = message_received,
	                                                        .connection_lost = connection_lost};
	struct end parent = {.names = argv + 1}, child = {0};
	int ends[2], status;
	pid_t pid;
	if (argc < 2)
		errx(2, "usage: descriptor_cat FILE...");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 || (pid = fork()) < 0)
		err(EXIT_FAILURE, "child");
	close(ends[pid == 0 ? 0 : 1]);
	if (pid == 0)
		return run(&child, ends[1], &receives);
	int result = run(&parent, ends[0], &sends);
	if (waitpid(pid, &status, 0) < 0)
		err(EXIT_FAILURE, "waitpid");
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? result : EXIT_FAILURE;
}
