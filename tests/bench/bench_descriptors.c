/* Descriptors and messages with descriptors, from one process to another:
 *
 *   bench_descriptors raw|0|1|8|32 bare|checked|ferry COUNT
 *
 * raw: one descriptor with each byte of a stream. A number: messages of 64 bytes with as many descriptors. bare: one
 * sendmsg(2) and one recvmsg(2) for each. checked: the same, and the sender asks each descriptor whether it is open and
 * not a unix socket that the channel could carry into itself, as ferry does at the call. Prints how many a second, and the processor time of both processes for
 * one. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "bench.h"
#include "ferry/ferry.h"

static struct event_base *base;

static struct ferry_transport *new_transport(int fd)
{
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	struct ferry_transport *transport = NULL;

	bench_need(bev != NULL && ferry_transport_new(&transport, bev) == 0, "transport");
	return transport;
}

static void open_base(void)
{
	base = event_base_new();
	bench_need(base != NULL, "event_base_new");
}

static void close_base(void)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
	event_base_loop(base, EVLOOP_NONBLOCK);
	event_base_free(base);
}

/* ---- one descriptor in each message ---- */

static uint64_t messages, received;
static int given; /* the descriptor that is sent, again and again */
static bool checked;

static void check_descriptor(int fd)
{
	uint64_t cookie;
	socklen_t length = sizeof(cookie);

	if (checked)
		bench_need(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length) < 0 && errno == ENOTSOCK,
		           "a file");
}

/* A descriptor is the sender's own and closed once sent, as one that was accepted is. */
static int new_descriptor(void)
{
	int fd = fcntl(given, F_DUPFD_CLOEXEC, 0);
	bench_need(fd >= 0, "dup");
	return fd;
}

static void bare_send(int socket, void *argument)
{
	(void)argument;
	char byte = 'x';
	struct iovec vector = {&byte, 1};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} room = {.bytes = {0}};
	struct msghdr message = {.msg_iov = &vector,
	                         .msg_iovlen = 1,
	                         .msg_control = room.bytes,
	                         .msg_controllen = sizeof(room.bytes)};
	room.align = (struct cmsghdr){
	    .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};

	for (uint64_t sent = 0; sent < messages; sent++) {
		int fd = new_descriptor();
		check_descriptor(fd);
		memcpy(CMSG_DATA(&room.align), &fd, sizeof(fd));
		while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) {
			bench_need(errno == EAGAIN, "sendmsg");
			bench_poll(socket, POLLOUT);
		}
		close(fd);
	}
	shutdown(socket, SHUT_WR);
}

static void bare_receive(int socket, void *argument)
{
	(void)argument;
	char bytes[4096];
	struct iovec vector = {bytes, sizeof(bytes)};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(253 * sizeof(int))];
	} room;
	received = 0;

	for (;;) {
		struct msghdr message = {.msg_iov = &vector,
		                         .msg_iovlen = 1,
		                         .msg_control = room.bytes,
		                         .msg_controllen = sizeof(room.bytes)};
		ssize_t length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
		if (length == 0)
			break;
		if (length < 0) {
			bench_need(errno == EAGAIN, "recvmsg");
			bench_poll(socket, POLLIN);
			continue;
		}
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		if (header == NULL)
			continue;
		int fd;
		memcpy(&fd, CMSG_DATA(header), sizeof(fd));
		close(fd);
		received++;
	}
	bench_need(received == messages, "descriptors received");
	close(socket);
}

static uint64_t queued;

static void fill(void *context)
{
	struct ferry_transport *transport = context;

	for (int i = 0; i < 64 && queued < messages; i++, queued++) {
		int fd = new_descriptor();
		bench_need(ferry_transport_send_fd(transport, fd, FERRY_FD_TAKE) == 0 &&
		               ferry_transport_write(transport, "x", 1) == 0,
		           "send_fd");
	}
	if (queued == messages)
		ferry_transport_unregister_producer(transport);
}

static const struct ferry_producer_callbacks filler = {.resume_producing = fill};

static void end_loop(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport, (void)reason, (void)context;
	event_base_loopbreak(base);
}

static void drop(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport, (void)context;
	evbuffer_drain(input, evbuffer_get_length(input));
}

static void take_fd(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport, (void)context;
	close(fd);
	received++;
}

static const struct ferry_protocol taker = {
    .data_received = drop, .file_descriptor_received = take_fd, .connection_lost = end_loop};

static void ferry_send(int socket, void *argument)
{
	(void)argument;
	open_base();
	struct ferry_transport *transport = new_transport(socket);
	queued = 0;
	bench_need(ferry_transport_set_protocol(transport, &taker, NULL) == 0 &&
	               ferry_transport_register_producer(transport, &filler, transport,
	                                                 FERRY_PRODUCER_PULL) == 0 &&
	               ferry_transport_lose_write_connection(transport) == 0,
	           "producer");
	event_base_dispatch(base);
	ferry_transport_free(transport);
	close_base();
}

static void ferry_receive(int socket, void *argument)
{
	(void)argument;
	open_base();
	struct ferry_transport *transport = new_transport(socket);
	received = 0;
	ferry_transport_set_protocol(transport, &taker, NULL);
	event_base_dispatch(base);
	bench_need(received == messages, "descriptors received");
	ferry_transport_free(transport);
	close_base();
}

/* ---- messages ---- */

enum { PAYLOAD = 64, FRAME = 16 + PAYLOAD, FDS_EACH_MAX = 32 };
static unsigned int fds_each;
static uint64_t fds_received;

/* One sendmsg(2) for each, of as many bytes as ferry's frame has. */
static void bare_send_messages(int socket, void *argument)
{
	(void)argument;
	char frame[FRAME] = "";
	struct iovec vector = {frame, sizeof(frame)};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(FDS_EACH_MAX * sizeof(int))];
	} room = {.bytes = {0}};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
	int fds[FDS_EACH_MAX] = {0};

	if (fds_each > 0) {
		message.msg_control = room.bytes;
		message.msg_controllen = CMSG_SPACE(fds_each * sizeof(int));
		room.align = (struct cmsghdr){.cmsg_len = CMSG_LEN(fds_each * sizeof(int)),
		                              .cmsg_level = SOL_SOCKET,
		                              .cmsg_type = SCM_RIGHTS};
	}
	for (uint64_t sent = 0; sent < messages; sent++) {
		for (unsigned int i = 0; i < fds_each; i++) {
			fds[i] = new_descriptor();
			check_descriptor(fds[i]);
		}
		if (fds_each > 0)
			memcpy(CMSG_DATA(&room.align), fds, fds_each * sizeof(int));
		while (sendmsg(socket, &message, MSG_NOSIGNAL) < 0) {
			bench_need(errno == EAGAIN, "sendmsg");
			bench_poll(socket, POLLOUT);
		}
		for (unsigned int i = 0; i < fds_each; i++)
			close(fds[i]);
	}
	shutdown(socket, SHUT_WR);
}

static void close_all(const struct cmsghdr *header)
{
	int fds[FDS_EACH_MAX];
	size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	bench_need(count <= FDS_EACH_MAX, "descriptors of one message");
	memcpy(fds, CMSG_DATA(header), count * sizeof(int));
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
	fds_received += count;
}

static void bare_receive_messages(int socket, void *argument)
{
	(void)argument;
	char bytes[16384];
	struct iovec vector = {bytes, sizeof(bytes)};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(253 * sizeof(int))];
	} room;
	uint64_t length = 0;

	for (;;) {
		struct msghdr message = {.msg_iov = &vector,
		                         .msg_iovlen = 1,
		                         .msg_control = room.bytes,
		                         .msg_controllen = sizeof(room.bytes)};
		ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
		if (got == 0)
			break;
		if (got < 0) {
			bench_need(errno == EAGAIN, "recvmsg");
			bench_poll(socket, POLLIN);
			continue;
		}
		length += (uint64_t)got;
		if (CMSG_FIRSTHDR(&message) != NULL)
			close_all(CMSG_FIRSTHDR(&message));
	}
	received = length / FRAME;
	close(socket);
}

static void fill_messages(void *context)
{
	struct ferry_message_stream *stream = context;
	static const char payload[PAYLOAD];
	int fds[FDS_EACH_MAX];
	/* A transport accepts a limited count of descriptors that wait to be sent. */
	unsigned int count = fds_each > 4 ? 256 / fds_each : 64;

	for (unsigned int i = 0; i < count && queued < messages; i++, queued++) {
		for (unsigned int j = 0; j < fds_each; j++)
			fds[j] = new_descriptor();
		bench_need(ferry_message_stream_send(stream, 1, payload, sizeof(payload), fds, fds_each,
		                                     FERRY_FD_TAKE) == 0,
		           "ferry_message_stream_send");
	}
	if (queued == messages)
		ferry_transport_unregister_producer(ferry_message_stream_get_transport(stream));
}

/* Its descriptors are closed on return. */
static void count_message(struct ferry_message_stream *stream, struct ferry_message *message,
                          void *context)
{
	(void)stream, (void)context;
	received++;
	fds_received += ferry_message_get_fd_count(message) - ferry_message_get_fds_lost(message);
}

static void end_message_loop(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)stream, (void)reason, (void)context;
	event_base_loopbreak(base);
}

static struct ferry_message_stream *new_stream(int socket)
{
	static const struct ferry_message_callbacks callbacks = {.message_received = count_message,
	                                                         .connection_lost = end_message_loop};
	struct ferry_message_stream *stream = NULL;

	open_base();
	bench_need(ferry_message_stream_new(&stream, new_transport(socket), &callbacks, NULL) == 0,
	           "stream");
	return stream;
}

static void ferry_send_messages(int socket, void *argument)
{
	(void)argument;
	static const struct ferry_producer_callbacks producer = {.resume_producing = fill_messages};
	struct ferry_message_stream *stream = new_stream(socket);
	struct ferry_transport *transport = ferry_message_stream_get_transport(stream);

	queued = 0;
	bench_need(
	    ferry_transport_register_producer(transport, &producer, stream, FERRY_PRODUCER_PULL) == 0 &&
	        ferry_transport_lose_write_connection(transport) == 0,
	    "producer");
	event_base_dispatch(base);
	ferry_message_stream_free(stream);
	close_base();
}

static void ferry_receive_messages(int socket, void *argument)
{
	(void)argument;
	struct ferry_message_stream *stream = new_stream(socket);

	event_base_dispatch(base);
	ferry_message_stream_free(stream);
	close_base();
}

/* ---- the program ---- */

/* The sender is the child process. The measured time ends when the last message has arrived here. */
static void measure(void (*send)(int, void *), void (*receive)(int, void *))
{
	int socket;
	uint64_t began = bench_now(), cpu = bench_cpu_of_all();
	pid_t child = bench_fork(BENCH_UNIX, send, NULL, &socket);

	receive(socket, NULL);
	double seconds = (double)(bench_now() - began) / 1e9;
	bench_wait(child);
	bench_print("per_s", (double)messages / seconds);
	bench_print("cpu_us", (double)(bench_cpu_of_all() - cpu) / 1e3 / (double)messages);
}

int main(int argc, char **argv)
{
	static const char *const kinds[] = {"raw", "0", "1", "8", "32", NULL};
	static const char *const sides[] = {"bare", "checked", "ferry", NULL};

	if (argc != 4) {
		fprintf(stderr, "usage: %s raw|0|1|8|32 bare|checked|ferry COUNT\n", argv[0]);
		return 2;
	}
	int kind = bench_choice(argv[1], kinds);
	int side = bench_choice(argv[2], sides);
	bool ferry = side == 2;
	checked = side == 1;
	messages = bench_number(argv[3]);
	given = open("/dev/null", O_RDONLY | O_CLOEXEC);
	bench_need(given >= 0, "/dev/null");
	if (kind == 0) {
		measure(ferry ? ferry_send : bare_send, ferry ? ferry_receive : bare_receive);
		return 0;
	}
	fds_each = (unsigned int)strtoul(kinds[kind], NULL, 10);
	measure(ferry ? ferry_send_messages : bare_send_messages,
	        ferry ? ferry_receive_messages : bare_receive_messages);
	bench_need(received == messages && fds_received == messages * fds_each, "messages received");
	return 0;
}
