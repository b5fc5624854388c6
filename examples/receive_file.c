/* Receives a file over TCP. It has another name, FILE.part, until all of it is there.
 *
 *     ./send_file 127.0.0.1:7000 /etc/services &
 *     ./receive_file 127.0.0.1:7000 /tmp/services
 *
 * The server sends a line with the size, then so many bytes. They are written to the disk as they
 * come, and no more are read before that: a slow disk slows the server down.
 */

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/util.h>
#include <ferry/ferry.h>

/* A server that sends nothing for so long is given up. */
static const struct timeval patience = {.tv_sec = 60};

struct client {
	const char *name;
	char part[4096];
	int fd; /* of the part; -1: none */
	unsigned long long missing;
	bool done;
};

static void fail(struct ferry_line_stream *stream, const char *subject, int status)
{
	warnx("%s: %s", subject, strerror(-status));
	ferry_line_stream_abort_connection(stream);
}

/* Gives a complete file its name. */
static void finish(struct client *client, struct ferry_line_stream *stream)
{
	if (fsync(client->fd) < 0 || rename(client->part, client->name) < 0) {
		fail(stream, client->name, -errno);
		return;
	}
	client->done = true;
	ferry_line_stream_lose_connection(stream);
}

static void line_received(struct ferry_line_stream *stream, const char *line, size_t length,
                          void *context)
{
	struct client *client = context;
	char size[20] = "", *end;
	memcpy(size, line, length < sizeof(size) ? length : 0);
	client->missing = strtoull(size, &end, 10);
	if (*size < '0' || *size > '9' || end != size + length) {
		fail(stream, "the server", -EPROTO);
		return;
	}
	client->fd = open(client->part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (client->fd < 0)
		fail(stream, client->part, -errno);
	else if (client->missing == 0)
		finish(client, stream);
	else
		ferry_line_stream_set_raw(stream, true); /* bytes follow */
}

static void data_received(struct ferry_line_stream *stream, struct evbuffer *input, void *context)
{
	struct client *client = context;
	size_t length;
	while (client->missing > 0 && (length = evbuffer_get_length(input)) > 0) {
		size_t part = length < client->missing ? length : (size_t)client->missing;
		int count = evbuffer_write_atmost(input, client->fd, (ev_ssize_t)part);
		if (count < 0) {
			fail(stream, client->part, -errno);
			return;
		}
		client->missing -= (unsigned int)count;
	}
	if (client->missing == 0)
		finish(client, stream);
}

/* The loop returns after this, because nothing is left in it. */
static void connection_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	struct client *client = context;
	if (reason == 0 && !client->done)
		warnx("the server ended before the end of the file");
	else if (reason != 0 && reason != -ECONNABORTED)
		warnx("connection: %s", strerror(-reason));
	if (client->fd >= 0)
		close(client->fd);
	if (client->fd >= 0 && !client->done)
		(void)unlink(client->part);
	ferry_line_stream_free(stream);
}

static int start(struct client *client, struct event_base *base, const char *where)
{
	static const struct ferry_line_callbacks callbacks = {.line_received = line_received,
	                                                      .data_received = data_received,
	                                                      .connection_lost = connection_lost};
	struct sockaddr_storage address;
	struct ferry_transport *transport;
	struct ferry_line_stream *stream;
	int length = sizeof(address);
	if (evutil_parse_sockaddr_port(where, (struct sockaddr *)&address, &length) < 0)
		return -EINVAL;
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	if (bev == NULL)
		return -ENOMEM;
	bufferevent_set_timeouts(bev, &patience, NULL);
	int status = -ECONNREFUSED;
	if (bufferevent_socket_connect(bev, (struct sockaddr *)&address, length) == 0)
		status = ferry_transport_new(&transport, bev);
	if (status < 0) {
		bufferevent_free(bev);
		return status;
	}
	status = ferry_line_stream_new(&stream, transport, &callbacks, client);
	if (status < 0)
		ferry_transport_free(transport);
	return status;
}

int main(int argc, char **argv)
{
	struct client client = {.name = argv[argc - 1], .fd = -1};
	if (argc != 3)
		errx(2, "usage: receive_file ADDRESS:PORT FILE");
	if (snprintf(client.part, sizeof(client.part), "%s.part", argv[2]) >= (int)sizeof(client.part))
		errx(EXIT_FAILURE, "%s: %s", argv[2], strerror(ENAMETOOLONG));
	struct event_base *base = event_base_new();
	if (base == NULL)
		errx(EXIT_FAILURE, "no event loop");
	int status = start(&client, base, argv[1]);
	if (status < 0)
		warnx("%s: %s", argv[1], strerror(-status));
	event_base_dispatch(base);
	event_base_free(base);
	return client.done ? EXIT_SUCCESS : EXIT_FAILURE;
}
