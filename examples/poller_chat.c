/* A small chat, written in a row: one poll, then what it told, then the next. No callback, no thread. Lines of
 * the standard input go to everybody else who is connected to the same server; a client's first line is its
 * name. */

#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <ferry/ferry.h>

enum { LONGEST_LINE = 4096, EVENTS = 64 };

static const char usage[] =
    "usage: poller_chat --listen SOCKET_PATH\n"
    "       poller_chat --connect SOCKET_PATH --name NAME\n"
    "--listen: passes the lines of each client on to all others, until SIGINT or\n"
    "SIGTERM. --connect: sends the lines of the standard input, and prints what\n"
    "others say.\n";

static struct ferry_poller *poller;
static volatile sig_atomic_t stopping;

static void stop(int number)
{
	(void)number;
	stopping = 1;
	ferry_poller_interrupt(poller);
}

/* Whatever is waited for when the signal comes, or next, ends with -EINTR. */
static void have_signals_stop(void)
{
	const struct sigaction action = {.sa_handler = stop};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static int fail(const char *what, int status)
{
	program_say("%s: %s", what, strerror(-status));
	return 1;
}

static int set_lines(struct ferry_channel *channel)
{
	return ferry_channel_set_lines(channel, "\n", 1, LONGEST_LINE);
}

/* ---- the server ---- */

struct client {
	TAILQ_ENTRY(client) link;
	struct ferry_channel *channel;
	char *name; /* NULL: its first line has not come yet */
};
TAILQ_HEAD(client_list, client);
static struct client_list clients = TAILQ_HEAD_INITIALIZER(clients);

/* What else the last poll has told of it is passed over. */
static void drop(struct client *client)
{
	TAILQ_REMOVE(&clients, client, link);
	ferry_channel_set_context(client->channel, NULL);
	ferry_channel_free(client->channel);
	free(client->name);
	free(client);
}

/* To all but one. Who does not read what others say is dropped: nobody is held up, and nothing piles up. */
static void say_to_others(const struct client *speaker, const struct iovec *parts,
                          unsigned int count)
{
	struct client *client = TAILQ_FIRST(&clients), *next;
	char line[2 * LONGEST_LINE + 16];
	size_t length = 0;

	for (unsigned int i = 0; i < count; i++) {
		memcpy(line + length, parts[i].iov_base, parts[i].iov_len);
		length += parts[i].iov_len;
	}
	for (; client != NULL; client = next) {
		next = TAILQ_NEXT(client, link);
		if (client == speaker || client->name == NULL)
			continue;
		if (ferry_channel_write(client->channel, line, length) == -EAGAIN)
			drop(client);
	}
}

static struct iovec text(const char *string, size_t length)
{
	return (struct iovec){(void *)(uintptr_t)string, length};
}

static void announce(const struct client *client, const char *what)
{
	const struct iovec parts[] = {text("* ", 2), text(client->name, strlen(client->name)),
	                              text(what, strlen(what))};
	say_to_others(client, parts, 3);
}

static void welcome(struct ferry_channel *channel)
{
	struct client *client = calloc(1, sizeof(*client));
	if (client == NULL) {
		ferry_channel_free(channel);
		return;
	}
	client->channel = channel;
	ferry_channel_set_context(channel, client);
	TAILQ_INSERT_TAIL(&clients, client, link);
}

static void hear(struct client *client, const char *line, size_t length)
{
	if (client->name != NULL) {
		const struct iovec parts[] = {text(client->name, strlen(client->name)), text(": ", 2),
		                              text(line, length), text("\n", 1)};
		say_to_others(client, parts, 4);
		return;
	}
	client->name = strndup(line, length);
	if (client->name == NULL)
		drop(client);
	else
		announce(client, " is here\n");
}

static void say_goodbye(struct client *client)
{
	if (client->name != NULL)
		announce(client, " has gone\n");
	drop(client);
}

static void serve_event(const struct ferry_channel_event *event)
{
	struct client *client = ferry_channel_get_context(event->channel);

	if (event->kind == FERRY_CHANNEL_ACCEPTED)
		welcome(event->accepted);
	else if (client == NULL)
		return; /* dropped since the poll */
	else if (event->kind == FERRY_CHANNEL_LINE)
		hear(client, event->data, event->length);
	else if (event->kind == FERRY_CHANNEL_LINE_TOO_LONG || event->kind == FERRY_CHANNEL_CLOSED)
		say_goodbye(client);
}

static int serve(const char *path)
{
	static const struct timeval patience = {.tv_sec = 2};
	struct ferry_channel_event events[EVENTS];
	struct ferry_listener *listener;
	struct ferry_channel *server;
	int count = 0;

	int status =
	    ferry_listener_new_unix(&listener, ferry_poller_get_base(poller), path, NULL, NULL, NULL);
	if (status < 0)
		return fail(path, status);
	status = ferry_poller_add_server(&server, poller, ferry_listener_get_fd(listener));
	if (status < 0)
		return fail(path, status);
	set_lines(server);
	printf("listening on %s\n", path);
	fflush(stdout);
	while (!stopping && (count >= 0 || count == -EINTR || count == -ENOMEM)) {
		count = ferry_poller_poll(poller, NULL, events, EVENTS);
		for (int i = 0; i < count; i++)
			serve_event(&events[i]);
	}
	/* What was said is still heard, unless somebody does not listen. */
	struct client *client;
	ferry_poller_close_all(poller, &patience);
	while ((client = TAILQ_FIRST(&clients)) != NULL)
		drop(client);
	ferry_listener_free(listener);
	return stopping ? 0 : fail("poll", count);
}

/* ---- the client ---- */

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.sun_path, path, strlen(path));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		int error = errno;
		close(fd);
		return -error;
	}
	return fd;
}

/* A descriptor of our own for what the standard input is: that a channel makes its descriptors non-blocking
 * would otherwise be seen by everybody who shares it, the shell above all. */
static int open_input(void)
{
	int fd = open("/dev/stdin", O_RDONLY | O_CLOEXEC);
	if (fd < 0) /* a socket, or no /proc */
		fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
	return fd;
}

/* A file need not be waited for: it has its place in the stream as a whole. Anything else is a channel, which
 * is NULL for a file. */
static int begin_input(struct ferry_channel **input, struct ferry_channel *server)
{
	struct stat status;
	int fd = open_input();

	*input = NULL;
	if (fd < 0)
		return -errno;
	int result;
	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
		off_t position = lseek(STDIN_FILENO, 0, SEEK_CUR);
		result = ferry_transport_send_file(ferry_channel_get_transport(server), fd, FERRY_FD_TAKE,
		                                   position, FERRY_TO_END, NULL, NULL, NULL);
		if (result == 0)
			ferry_channel_close_write(server);
	} else {
		result = ferry_channel_new_pipes(input, poller, fd, -1);
		if (result == 0)
			ferry_poller_register(poller, *input);
	}
	if (result < 0)
		close(fd);
	return result;
}

/* Bytes, not lines: where these end is the server's to find. It always takes what it is sent, so this may be
 * waited for; and until then no more is read. */
static void pass_on(struct ferry_channel *server, const struct ferry_channel_event *event)
{
	if (event->kind == FERRY_CHANNEL_CLOSED)
		ferry_channel_close_write(server);
	else if (event->kind == FERRY_CHANNEL_BYTES &&
	         ferry_channel_write(server, event->data, event->length) == 0)
		ferry_channel_flush(server, NULL);
}

static void print(const struct ferry_channel_event *event)
{
	fwrite(event->data, 1, event->length, stdout);
	putchar('\n');
	fflush(stdout);
}

/* Until the server has gone: as it should, once all was said. */
static int talk(struct ferry_channel *server, struct ferry_channel *input)
{
	struct ferry_channel_event events[EVENTS];
	bool at_end = input == NULL;

	while (!stopping) {
		int count = ferry_poller_poll(poller, NULL, events, EVENTS);
		if (count < 0 && count != -EINTR)
			return fail("poll", count);
		for (int i = 0; i < count; i++) {
			const struct ferry_channel_event *event = &events[i];
			if (event->channel == input) {
				at_end = at_end || event->kind == FERRY_CHANNEL_CLOSED;
				pass_on(server, event);
			} else if (event->kind == FERRY_CHANNEL_LINE) {
				print(event);
			} else if (event->kind == FERRY_CHANNEL_CLOSED) {
				if (event->reason == 0 && at_end)
					return 0;
				program_say("the server has gone");
				return 1;
			}
		}
	}
	return 0;
}

static int take_part(const char *path, const char *name)
{
	struct ferry_channel *server, *input;

	int fd = connect_to(path);
	if (fd < 0)
		return fail(path, fd);
	int status = ferry_channel_new_socket(&server, poller, fd);
	if (status < 0) {
		close(fd);
		return fail(path, status);
	}
	set_lines(server);
	ferry_poller_register(poller, server);
	ferry_channel_write(server, name, strlen(name));
	ferry_channel_write(server, "\n", 1);
	status = begin_input(&input, server);
	return status < 0 ? fail("the standard input", status) : talk(server, input);
}

/* ---- the command line ---- */

int main(int argc, char **argv)
{
	static const struct option options[] = {{"listen", required_argument, NULL, 'l'},
	                                        {"connect", required_argument, NULL, 'c'},
	                                        {"name", required_argument, NULL, 'n'},
	                                        {NULL, 0, NULL, 0}};
	const char *listen_path = NULL, *connect_path = NULL, *name = NULL;
	int option, unknown = 0;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'l')
			listen_path = optarg;
		else if (option == 'c')
			connect_path = optarg;
		else if (option == 'n')
			name = optarg;
		else
			unknown++;
	}
	if (unknown > 0 || optind != argc || (listen_path == NULL) == (connect_path == NULL) ||
	    (connect_path == NULL) != (name == NULL)) {
		fputs(usage, stderr);
		return 2;
	}
	program_print_ferry_log();
	int status = ferry_poller_new(&poller);
	if (status < 0)
		return fail("poller", status);
	have_signals_stop();
	status = listen_path != NULL ? serve(listen_path) : take_part(connect_path, name);
	ferry_poller_free(poller);
	return status;
}
