/* A small chat without callbacks: one call waits, and returns the events of all channels. The line of
 * a client goes to all others; its first line is its name.
 *
 *     ./poller_chat /tmp/chat.sock &
 *     socat READLINE UNIX:/tmp/chat.sock
 *
 * SIGINT and SIGTERM end the server; lines that it has read are still sent.
 */

#define _GNU_SOURCE 1 /* vasprintf() */
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/time.h>

#include <ferry/ferry.h>

enum { LONGEST_LINE = 4096, EVENTS = 64 };

struct client {
	LIST_ENTRY(client) link;
	struct ferry_channel *channel;
	char *name; /* NULL before its first line */
};

static LIST_HEAD(client_list, client) clients;
static struct ferry_poller *poller;
static volatile sig_atomic_t stopping;

static void stop(int number)
{
	(void)number;
	stopping = 1;
	ferry_poller_interrupt(poller); /* the poll under way, or the next one, returns -EINTR */
}

/* Takes the channel. */
static void add(struct ferry_channel *channel)
{
	struct client *client = calloc(1, sizeof(*client));
	if (client == NULL) {
		ferry_channel_free(channel);
		return;
	}
	client->channel = channel;
	ferry_channel_set_context(channel, client);
	LIST_INSERT_HEAD(&clients, client, link);
}

static void drop(struct client *client)
{
	LIST_REMOVE(client, link);
	ferry_channel_set_context(client->channel, NULL); /* for other events of the same poll */
	ferry_channel_free(client->channel);
	free(client->name);
	free(client);
}

/* Nobody waits for a client that does not read, and nothing piles up: it is dropped. */
__attribute__((format(printf, 2, 3))) static void send_to_others(const struct client *speaker,
                                                                 const char *format, ...)
{
	struct client *client = LIST_FIRST(&clients), *next;
	char *text;
	va_list arguments;
	va_start(arguments, format);
	int length = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (length < 0)
		return;
	for (; client != NULL; client = next) {
		next = LIST_NEXT(client, link);
		if (client != speaker && client->name != NULL &&
		    ferry_channel_write(client->channel, text, (size_t)length) == -EAGAIN)
			drop(client);
	}
	free(text);
}

static void handle(const struct ferry_channel_event *event)
{
	struct client *client = ferry_channel_get_context(event->channel);
	if (event->kind == FERRY_CHANNEL_ACCEPTED) {
		add(event->accepted);
	} else if (client == NULL) {
		return; /* it was dropped since the poll */
	} else if (event->kind == FERRY_CHANNEL_LINE && client->name == NULL) {
		client->name = strndup(event->data, event->length);
		if (client->name != NULL)
			send_to_others(client, "* %s is here\n", client->name);
	} else if (event->kind == FERRY_CHANNEL_LINE) {
		send_to_others(client, "%s: %.*s\n", client->name, (int)event->length, event->data);
	} else if (event->kind == FERRY_CHANNEL_LINE_TOO_LONG || event->kind == FERRY_CHANNEL_CLOSED) {
		if (client->name != NULL)
			send_to_others(client, "* %s has gone\n", client->name);
		drop(client);
	}
}

int main(int argc, char **argv)
{
	static const struct timeval patience = {.tv_sec = 2};
	static const struct sigaction action = {.sa_handler = stop};
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;
	struct ferry_channel_event events[EVENTS];
	struct ferry_listener *listener = NULL;
	struct ferry_channel *server;
	if (argc != 2)
		errx(2, "usage: poller_chat SOCKET_PATH");
	int status = ferry_poller_new(&poller);
	if (status < 0)
		errx(EXIT_FAILURE, "poller: %s", strerror(-status));
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	options.lock = true; /* a server that was killed has left its socket file */
	status = ferry_listener_new_unix(&listener, ferry_poller_get_base(poller), argv[1], &options,
	                                 NULL, NULL);
	if (status == 0)
		status = ferry_poller_add_server(&server, poller, ferry_listener_get_fd(listener));
	if (status == 0)
		status = ferry_channel_set_lines(server, "\n", 1, LONGEST_LINE); /* its clients' */
	while (status == 0 && !stopping) {
		int count = ferry_poller_poll(poller, NULL, events, EVENTS);
		for (int i = 0; i < count; i++)
			handle(&events[i]);
		if (count < 0 && count != -EINTR && count != -ENOMEM) /* after which a poll may succeed */
			status = count;
	}
	if (status < 0)
		warnx("%s: %s", argv[1], strerror(-status));
	ferry_poller_close_all(poller, &patience); /* sends first what is queued */
	while (!LIST_EMPTY(&clients))
		drop(LIST_FIRST(&clients));
	ferry_listener_free(listener); /* removes the socket file */
	ferry_poller_free(poller);
	return status < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
