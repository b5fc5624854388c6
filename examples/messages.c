/* Messages that carry descriptors: a process that may open files opens them for one that may not.
 *
 *     ./messages /usr/share/common-licenses GPL-3 BSD
 *
 * The child asks for files by name; each reply is a message whose type is 0, with the descriptor, or
 * an errno value. The parent opens files of one directory and never looks into them; the child
 * parses them (here it prints them), so a hostile file can take over the child only.
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

/* A process that cannot even start ends; the kernel then closes its descriptors. */
static void run(int fd, const struct ferry_message_callbacks *callbacks, void *context)
{
	struct ferry_transport *transport;
	struct ferry_message_stream *stream;
	struct event_base *base = event_base_new();
	int status = ferry_transport_new_socket(&transport, base, fd);
	if (status == 0)
		status = ferry_message_stream_new(&stream, transport, callbacks, context);
	if (status < 0)
		errx(EXIT_FAILURE, "channel: %s", strerror(-status));
	event_base_dispatch(base); /* returns when the stream is freed, because nothing else is in it */
	event_base_free(base);
}

static void connection_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)context;
	if (reason != 0)
		warnx("channel: %s", strerror(-reason));
	ferry_message_stream_free(stream);
}

/* As open(2). The parent trusts no name: a program that has taken the child over may send it. */
static int open_file(int directory, const char *name, size_t length)
{
	char path[256] = "";
	errno = EACCES;
	if (length == 0 || length > 255 || name[0] == '.' || memchr(name, '/', length) != NULL)
		return -1;
	memcpy(path, name, length);
	return openat(directory, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
}

static void request_received(struct ferry_message_stream *stream, struct ferry_message *message,
                             void *directory)
{
	size_t length;
	const char *name = ferry_message_get_payload(message, &length);
	int fd = open_file(*(const int *)directory, name, length);
	uint16_t error = (uint16_t)(fd < 0 ? errno : 0);
	if (ferry_message_stream_send(stream, error, NULL, 0, &fd, fd >= 0, FERRY_FD_TAKE) < 0) {
		if (fd >= 0)
			close(fd); /* a call that fails leaves it the caller's */
		ferry_message_stream_abort_connection(stream);
	}
}

/* The child. */
struct reader {
	char **names; /* the first one is asked for; NULL ends the list */
	bool failed;
};

static void ask(struct ferry_message_stream *stream, void *context)
{
	const char *name = *((struct reader *)context)->names;
	if (name == NULL)
		ferry_message_stream_lose_connection(stream);
	else if (ferry_message_stream_send(stream, 0, name, strlen(name), NULL, 0, FERRY_FD_DUP))
		ferry_message_stream_abort_connection(stream);
}

static int print_and_close(int fd)
{
	char bytes[65536];
	ssize_t count;
	while ((count = read(fd, bytes, sizeof(bytes))) > 0)
		if (write(STDOUT_FILENO, bytes, (size_t)count) < count)
			break;
	int status = count == 0 ? 0 : -errno;
	close(fd);
	return status;
}

static void reply_received(struct ferry_message_stream *stream, struct ferry_message *message,
                           void *context)
{
	struct reader *reader = context;
	int error = ferry_message_get_type(message);
	if (ferry_message_get_fds_lost(message) > 0)
		error = EMFILE; /* no slot was free for the descriptor */
	if (error == 0) {
		int fd = ferry_message_steal_fd(message, 0); /* ours now; others would be closed */
		error = fd >= 0 ? -print_and_close(fd) : -fd;
	}
	if (error != 0) {
		warnx("%s: %s", *reader->names, strerror(error));
		reader->failed = true;
	}
	reader->names++;
	ask(stream, reader);
}

int main(int argc, char **argv)
{
	static const struct ferry_message_callbacks parent = {.message_received = request_received,
	                                                      .connection_lost = connection_lost};
	static const struct ferry_message_callbacks child = {.connection_made = ask,
	                                                     .message_received = reply_received,
	                                                     .connection_lost = connection_lost};
	int ends[2], status;
	pid_t pid;
	if (argc < 3)
		errx(2, "usage: messages DIRECTORY NAME...");
	int directory = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		err(EXIT_FAILURE, "%s", argv[1]);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 || (pid = fork()) < 0)
		err(EXIT_FAILURE, "child");
	if (pid == 0) { /* here a real program gives up its privileges: setgid(2), setuid(2) */
		struct reader reader = {.names = argv + 2};
		close(directory);
		close(ends[0]);
		run(ends[1], &child, &reader);
		return reader.failed || *reader.names != NULL ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	close(ends[1]);
	run(ends[0], &parent, &directory);
	if (waitpid(pid, &status, 0) < 0)
		err(EXIT_FAILURE, "waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILURE;
}
