/* Channels and their poller. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ends.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"
#include "wire.h"

static struct ferry_poller *poller;
static struct ferry_channel *channel;
static int far; /* a socket, or the pipe that the channel writes to */
static int feed;

/* What the channel has had. */
static struct {
	size_t bytes;
	unsigned int lines, messages, fds, accepted, ends, closes;
} seen;

enum { SOCKETS, PIPES };

static bool open_channel(int kind)
{
	int there[2], back[2] = {-1, -1};

	disarm();
	if (kind == PIPES) {
		make_pipe(there);
		make_pipe(back);
	} else {
		make_pair(PAIR_UNIX, there);
	}
	arm();
	/* The channel has there[0], and back[1] of pipes; the test has the other ends. */
	far = kind == PIPES ? back[0] : there[1];
	feed = there[1];
	int status = kind == PIPES
	                 ? called(ferry_channel_new_pipes(&channel, poller, there[0], back[1]))
	                 : called(ferry_channel_new_socket(&channel, poller, there[0]));
	if (status < 0) {
		close_quietly(there[0]);
		close_quietly(back[1]);
	}
	return status == 0;
}

static bool open_all(int kind)
{
	memset(&seen, 0, sizeof(seen));
	poller = NULL;
	channel = NULL;
	far = feed = -1;
	return called(ferry_poller_new(&poller)) == 0 && open_channel(kind);
}

static bool begin(int kind)
{
	return open_all(kind) && called(ferry_poller_register(poller, channel)) == 0;
}

static void end(void)
{
	ferry_channel_free(channel);
	ferry_poller_free(poller);
	if (feed != far)
		close_quietly(feed);
	close_quietly(far);
}

static void note(struct ferry_channel_event *event)
{
	switch (event->kind) {
	case FERRY_CHANNEL_BYTES:
		seen.bytes += event->length;
		break;
	case FERRY_CHANNEL_LINE:
		seen.lines++;
		break;
	case FERRY_CHANNEL_FD:
		seen.fds++;
		close_quietly(called(ferry_poller_steal_fd(poller, event)));
		break;
	case FERRY_CHANNEL_MESSAGE:
		seen.messages++;
		if (ferry_message_get_fds_lost(event->message) > 0)
			told(-EMFILE);
		else if (ferry_message_get_fd_count(event->message) > 0)
			seen.fds++; /* the next poll closes it */
		break;
	case FERRY_CHANNEL_FDS_LOST:
		told(-EMFILE);
		break;
	case FERRY_CHANNEL_ACCEPTED:
		seen.accepted++;
		break;
	case FERRY_CHANNEL_END:
		seen.ends++;
		break;
	case FERRY_CHANNEL_CLOSED: {
		bool again = event->channel == channel && seen.closes > 0;
		once(&again);
		seen.closes++;
		told(event->reason);
		break;
	}
	default:
		break;
	}
}

/* Polls until it holds; at most for as many events as a scenario can have. */
static void poll_until(bool (*holds)(void))
{
	struct ferry_channel_event events[8];
	for (int i = 0; i < 200 && !holds(); i++) {
		int count =
		    called(ferry_poller_poll(poller, &(struct timeval){.tv_usec = 2000}, events, 8));
		for (int k = 0; k < count; k++)
			note(&events[k]);
		if (count < 0)
			return;
	}
}

static bool is_closed(void)
{
	return seen.closes > 0;
}

static void put(const char *text, int fd)
{
	disarm();
	ssize_t length = feed == far ? wire_send(feed, text, strlen(text), &fd, fd >= 0)
	                             : write(feed, text, strlen(text));
	arm();
	if (length < 0)
		told(-EPIPE);
}

/* After this the channel sees the end of its peer. */
static void close_far(void)
{
	if (feed != far)
		close_quietly(feed);
	close_quietly(far);
	feed = far = -1;
}

/* ---- receiving ---- */

static bool bytes_are_there(void)
{
	return seen.bytes >= 5 || is_closed();
}

static void poll_bytes(struct event_base *loop, int kind)
{
	(void)loop;
	if (begin(kind)) {
		put("hello", kind == SOCKETS ? STDERR_FILENO : -1);
		poll_until(bytes_are_there);
		close_far();
		poll_until(is_closed);
		if (is_closed() && seen.bytes == 5 && seen.fds == (kind == SOCKETS ? 1 : 0))
			completed();
	}
	end();
}

static bool lines_are_there(void)
{
	return seen.lines >= 2 || is_closed();
}

static void poll_lines(struct event_base *loop, int kind)
{
	(void)loop;
	if (begin(kind) && called(ferry_channel_set_lines(channel, "\n", 1, 100)) == 0) {
		put("hello\nworld\n", -1);
		poll_until(lines_are_there);
		close_far();
		poll_until(is_closed);
		if (is_closed() && seen.lines == 2)
			completed();
	}
	end();
}

/* ---- sending ---- */

/* Returns the bytes that have arrived at the far end, and counts the descriptors. */
static unsigned int taken_fds;

static size_t take(void)
{
	char buffer[100];
	size_t taken = 0;
	struct wire_read got = {.bytes = 1};
	disarm();
	while (got.bytes > 0) {
		got.fd_count = 0;
		if (feed == far)
			wire_receive(far, buffer, sizeof(buffer), &got);
		else
			got.bytes = read(far, buffer, sizeof(buffer));
		taken_fds += (unsigned int)got.fd_count;
		wire_close_fds(&got);
		taken += got.bytes > 0 ? (size_t)got.bytes : 0;
	}
	arm();
	return taken;
}

static void flush(struct event_base *loop, int kind)
{
	(void)loop;
	if (begin(kind) &&
	    (kind == PIPES ||
	     called(ferry_channel_send_fd(channel, STDERR_FILENO, FERRY_FD_DUP)) == 0) &&
	    called(ferry_channel_write(channel, "hello", 5)) == 0 &&
	    called(ferry_channel_flush(channel, &(struct timeval){5, 0})) == 0 && take() == 5)
		completed();
	end();
}

static void close_and_wait(struct event_base *loop, int kind)
{
	(void)loop;
	if (begin(kind) && called(ferry_channel_write(channel, "hello", 5)) == 0 &&
	    called(ferry_channel_close(channel)) == 0) {
		poll_until(is_closed);
		if (is_closed() && take() == 5)
			completed();
	}
	end();
}

static void close_half(struct event_base *loop, int kind)
{
	(void)loop;
	if (begin(kind) && called(ferry_channel_set_half_close(channel, true)) == 0 &&
	    called(ferry_channel_write(channel, "hello", 5)) == 0 &&
	    called(ferry_channel_close_write(channel)) == 0) {
		put("hello", -1);
		poll_until(bytes_are_there);
		size_t taken = take();
		close_far();
		poll_until(is_closed);
		if (is_closed() && seen.bytes == 5 && taken == 5)
			completed();
	}
	end();
}

static void close_all(struct event_base *loop, int kind)
{
	(void)loop;
	if (begin(kind) && called(ferry_channel_write(channel, "hello", 5)) == 0) {
		if (called(ferry_poller_close_all(poller, &(struct timeval){5, 0})) == 0) {
			channel = NULL;
			if (take() == 5)
				completed();
		} else {
			channel = NULL; /* it is freed all the same */
		}
	}
	end();
}

/* ---- messages ---- */

enum { HEADER = 16, PAYLOAD = 5, LIMIT = 100 };

/* A message by hand, with a descriptor on its first byte or without. */
static size_t put_message(unsigned char *frame, bool has_fd)
{
	const unsigned char header[HEADER] = {'F', 'R', 'Y', 1, 1, 0, 0, 0, PAYLOAD, 0, 0, 0, has_fd};

	memcpy(frame, header, HEADER);
	memcpy(frame + HEADER, "hello", PAYLOAD);
	return HEADER + PAYLOAD;
}

static void send_by_hand(int to, bool has_fd)
{
	unsigned char frame[HEADER + PAYLOAD];
	disarm();
	size_t length = put_message(frame, has_fd);
	if (wire_send(to, frame, length, &(int){STDERR_FILENO}, has_fd) < 0)
		told(-EPIPE);
	arm();
}

static bool messages_are_there(void)
{
	return seen.messages >= 2 || is_closed();
}

static bool answer(void)
{
	const int fd = STDERR_FILENO;

	return called(ferry_channel_send_message(channel, 2, "hello", PAYLOAD, &fd, 1, FERRY_FD_DUP)) ==
	           0 &&
	       called(ferry_channel_flush(channel, &(struct timeval){5, 0})) == 0;
}

/* Two messages come, one with a descriptor, and one leaves. */
static void poll_messages(struct event_base *loop, int kind)
{
	(void)loop;
	taken_fds = 0;
	if (open_all(kind) && called(ferry_channel_set_messages(channel, LIMIT, 1)) == 0 &&
	    called(ferry_poller_register(poller, channel)) == 0) {
		send_by_hand(far, true);
		send_by_hand(far, false);
		poll_until(messages_are_there);
		size_t taken = answer() ? take() : 0;
		close_far();
		poll_until(is_closed);
		if (is_closed() && seen.messages == 2 && seen.fds == 1 && taken == HEADER + PAYLOAD &&
		    taken_fds == 1)
			completed();
	}
	end();
}

/* ---- a server ---- */

static bool is_accepted(void)
{
	return seen.accepted > 0;
}

enum { OF_BYTES, OF_MESSAGES };

static bool client_is_heard(void)
{
	return seen.messages > 0 || bytes_are_there();
}

static void serve(struct event_base *loop, int kind)
{
	struct ferry_channel *server;
	int client = -1;
	(void)loop;
	int fd = make_listening();
	memset(&seen, 0, sizeof(seen));
	channel = NULL;
	far = feed = -1;
	poller = NULL;
	if (called(ferry_poller_new(&poller)) == 0 &&
	    called(ferry_poller_add_server(&server, poller, fd)) == 0 &&
	    (kind == OF_BYTES || called(ferry_channel_set_messages(server, LIMIT, 1)) == 0)) {
		struct sockaddr_storage name;
		socklen_t length = sizeof(name);
		disarm();
		client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		getsockname(fd, (struct sockaddr *)&name, &length);
		connect(client, (struct sockaddr *)&name, length);
		arm();
		if (kind == OF_MESSAGES)
			send_by_hand(client, true);
		else
			(void)!write(client, "hello", 5);
		poll_until(is_accepted);
		if (is_accepted())
			poll_until(client_is_heard);
		if (is_accepted() && (kind == OF_BYTES ? seen.bytes == 5 : seen.messages == seen.fds))
			completed();
		else
			told(-ECONNABORTED); /* the client sees its end below */
	}
	ferry_poller_free(poller);
	close_quietly(fd);
	close_quietly(client);
}

static const struct scenario scenarios[] = {
    {"channel, bytes, socket", poll_bytes, SOCKETS, CALL_RECVMSG, CALL_NONE, NULL},
    {"channel, bytes, pipes", poll_bytes, PIPES, CALL_READV, CALL_NONE, NULL},
    {"channel, lines", poll_lines, SOCKETS, CALL_EPOLL_WAIT, CALL_NONE, NULL},
    {"channel, flush, socket", flush, SOCKETS, CALL_SENDMSG, CALL_NONE, NULL},
    {"channel, flush, pipes", flush, PIPES, CALL_WRITEV, CALL_NONE, NULL},
    {"channel, close", close_and_wait, SOCKETS, CALL_SENDMSG, CALL_NONE, NULL},
    {"channel, half-close", close_half, SOCKETS, CALL_SHUTDOWN, CALL_NONE, NULL},
    {"channel, messages", poll_messages, SOCKETS, CALL_SENDMSG, CALL_NONE, NULL},
    {"poller, close all", close_all, SOCKETS, CALL_SENDMSG, CALL_NONE, NULL},
    {"poller, server", serve, OF_BYTES, CALL_ACCEPT4, CALL_NONE, NULL},
    {"poller, server of messages", serve, OF_MESSAGES, CALL_ACCEPT4, CALL_NONE, NULL},
};

LOOP_TEST(every_call_may_fail, COUNT(scenarios))
{
	sweep_scenario_of(&scenarios[_i], 0 /* a poll has no ticks: it waits */);
}

BEFORE_ALL
{
	heap_take_over();
}
