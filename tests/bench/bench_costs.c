/* The costs of a transport, beside those of bare system calls and of a stock bufferevent:
 * descriptors, messages, round trips, bytes, and memory while idle. */

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "bench.h"
#include "ferry/ferry.h"

/* In libc's place, for libevent. */
static unsigned int epoll_ctl_calls;
int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);

int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
	epoll_ctl_calls++;
	return (int)syscall(SYS_epoll_ctl, epoll_fd, operation, fd, event);
}

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

static uint64_t messages;
static int given; /* the descriptor that is sent, again and again */

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
	uint64_t received = 0;

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
}

static uint64_t queued, received;

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

/* Messages a second. The sender is the child process. The measured time ends when the last message
 * has arrived here. */
static double fd_rate(bool ferry_sends, bool ferry_receives)
{
	int socket;
	uint64_t began = bench_now();
	pid_t child = bench_fork(BENCH_UNIX, ferry_sends ? ferry_send : bare_send, NULL, &socket);

	if (ferry_receives) {
		ferry_receive(socket, NULL);
	} else {
		bare_receive(socket, NULL);
		close(socket);
	}
	double seconds = (double)(bench_now() - began) / 1e9;
	bench_wait(child);
	return (double)messages / seconds;
}

static void descriptors(bool quick)
{
	static const char *const names[] = {"bare_to_bare", "ferry_to_bare", "bare_to_ferry",
	                                    "ferry_to_ferry"};
	double best[4] = {0};
	char name[80];

	messages = quick ? 5000 : 200000;
	given = open("/dev/null", O_RDONLY | O_CLOEXEC);
	bench_need(given >= 0, "/dev/null");
	printf("# One descriptor in each message of one byte, between two processes: the best of "
	       "rounds\n");
	for (int round = 0; round < (quick ? 1 : 9); round++) {
		for (int i = 0; i < 4; i++) {
			double rate = fd_rate(i % 2 == 1, i / 2 == 1);
			if (rate > best[i])
				best[i] = rate;
		}
	}
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "fds_%s_per_s", names[i]);
		bench_print(name, best[i]);
	}
	for (int i = 1; i < 4; i++) {
		snprintf(name, sizeof(name), "ratio_fds_%s_to_bare", names[i]);
		bench_print(name, best[i] / best[0]);
	}
	close(given);
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
		for (unsigned int i = 0; i < fds_each; i++)
			fds[i] = new_descriptor();
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

static void ferry_receive_messages(int socket)
{
	struct ferry_message_stream *stream = new_stream(socket);

	event_base_dispatch(base);
	ferry_message_stream_free(stream);
	close_base();
}

static double message_rate(bool ferry)
{
	int socket;
	received = fds_received = 0;
	uint64_t began = bench_now();
	pid_t child =
	    bench_fork(BENCH_UNIX, ferry ? ferry_send_messages : bare_send_messages, NULL, &socket);

	if (ferry) {
		ferry_receive_messages(socket);
	} else {
		bare_receive_messages(socket, NULL);
		close(socket);
	}
	double seconds = (double)(bench_now() - began) / 1e9;
	bench_wait(child);
	bench_need(received == messages && fds_received == messages * fds_each, "messages received");
	return (double)messages / seconds;
}

static void messages_with_descriptors(bool quick)
{
	static const unsigned int counts[] = {0, 1, 8, FDS_EACH_MAX};
	char name[80];

	given = open("/dev/null", O_RDONLY | O_CLOEXEC);
	bench_need(given >= 0, "/dev/null");
	printf("# Messages of %d bytes with descriptors, between two processes: the best of rounds\n",
	       PAYLOAD);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		double best[2] = {0};
		fds_each = counts[i];
		messages = (quick ? 5000 : 400000) / (1 + fds_each);
		for (int round = 0; round < (quick ? 1 : 9); round++) {
			for (int ferry = 0; ferry < 2; ferry++) {
				double rate = message_rate(ferry);
				if (rate > best[ferry])
					best[ferry] = rate;
			}
		}
		for (int ferry = 0; ferry < 2; ferry++) {
			const char *who = ferry ? "ferry" : "bare";
			snprintf(name, sizeof(name), "messages_%u_fds_%s_per_s", fds_each, who);
			bench_print(name, best[ferry]);
			snprintf(name, sizeof(name), "messages_%u_fds_%s_fds_per_s", fds_each, who);
			if (fds_each > 0)
				bench_print(name, best[ferry] * fds_each);
		}
		snprintf(name, sizeof(name), "ratio_messages_%u_fds_ferry_to_bare", fds_each);
		bench_print(name, best[1] / best[0]);
	}
	close(given);
}

/* ---- round trips ---- */

enum { MESSAGE = 64 };
static uint64_t round_trips;

static void answer(struct bufferevent *bev, void *first)
{
	struct evbuffer *input = bufferevent_get_input(bev);
	char message[MESSAGE];

	if (evbuffer_get_length(input) < MESSAGE)
		return;
	evbuffer_remove(input, message, MESSAGE);
	if (first != NULL && ++round_trips >= messages) {
		event_base_loopbreak(base);
		return;
	}
	bufferevent_write(bev, message, MESSAGE);
}

static void measure_round_trips(bool ferry)
{
	struct bufferevent *bevs[2];
	struct ferry_transport *transports[2];
	int fds[2];
	char name[80], message[MESSAGE] = "";

	open_base();
	bench_pair(BENCH_UNIX, fds);
	for (int i = 0; i < 2; i++) {
		bevs[i] = bufferevent_socket_new(base, fds[i], BEV_OPT_CLOSE_ON_FREE);
		bench_need(bevs[i] != NULL, "bufferevent");
		if (ferry)
			bench_need(ferry_transport_new(&transports[i], bevs[i]) == 0, "transport");
		bufferevent_setcb(bevs[i], answer, NULL, NULL, i == 0 ? bevs[0] : NULL);
		bufferevent_enable(bevs[i], EV_READ);
	}
	event_base_loop(base, EVLOOP_NONBLOCK);
	round_trips = 0;
	epoll_ctl_calls = 0;
	uint64_t began = bench_cpu();
	bufferevent_write(bevs[0], message, MESSAGE);
	event_base_dispatch(base);
	double cpu = (double)(bench_cpu() - began) / 1e3 / (double)round_trips;
	unsigned int calls = epoll_ctl_calls;
	for (int i = 0; i < 2; i++) {
		if (ferry)
			ferry_transport_free(transports[i]);
		else
			bufferevent_free(bevs[i]);
	}
	close_base();
	snprintf(name, sizeof(name), "round_trip_%s_epoll_ctl", ferry ? "ferry" : "stock");
	bench_print(name, (double)calls / (double)round_trips);
	snprintf(name, sizeof(name), "round_trip_%s_cpu_us", ferry ? "ferry" : "stock");
	bench_print(name, cpu);
}

static void trips(bool quick)
{
	messages = quick ? 5000 : 200000;
	printf("# A round trip of %d bytes, both ends in one loop\n", MESSAGE);
	measure_round_trips(false);
	measure_round_trips(true);
}

/* ---- bytes ---- */

static uint64_t amount;

static void bare_write(int fd, void *argument)
{
	(void)argument;
	enum { SIZE = 256 * 1024 };
	char *block = calloc(1, SIZE);

	bench_need(block != NULL, "calloc");
	for (uint64_t left = amount; left > 0;) {
		ssize_t sent = send(fd, block, left < SIZE ? (size_t)left : SIZE, MSG_NOSIGNAL);
		if (sent < 0) {
			bench_need(errno == EAGAIN, "send");
			bench_poll(fd, POLLOUT);
			continue;
		}
		left -= (uint64_t)sent;
	}
	free(block);
}

static uint64_t left_to_write;

static void write_more(struct bufferevent *bev, void *context)
{
	(void)context;
	static const char block[256 * 1024];
	size_t length = left_to_write < sizeof(block) ? (size_t)left_to_write : sizeof(block);

	if (length == 0) {
		event_base_loopbreak(base);
		return;
	}
	left_to_write -= length;
	/* By reference: the time to copy bytes into the buffer is not part of the measurement. */
	evbuffer_add_reference(bufferevent_get_output(bev), block, length, NULL, NULL);
}

static void drop_input(struct bufferevent *bev, void *context)
{
	(void)context;
	struct evbuffer *input = bufferevent_get_input(bev);
	evbuffer_drain(input, evbuffer_get_length(input));
}

static void stop_at_end(struct bufferevent *bev, short what, void *context)
{
	(void)bev, (void)what, (void)context;
	event_base_loopbreak(base);
}

/* Seconds of processor time for 10^9 bytes. */
static double byte_cost(enum bench_kind kind, bool ferry, bool receives)
{
	int socket;
	pid_t child = bench_fork(kind, receives ? bare_write : bench_discard, NULL, &socket);

	open_base();
	struct bufferevent *bev = bufferevent_socket_new(base, socket, BEV_OPT_CLOSE_ON_FREE);
	struct ferry_transport *transport = NULL;
	bench_need(bev != NULL, "bufferevent");
	if (ferry)
		bench_need(ferry_transport_new(&transport, bev) == 0, "transport");
	bufferevent_setcb(bev, drop_input, receives ? NULL : write_more, stop_at_end, NULL);
	uint64_t began = bench_cpu();
	if (receives) {
		bufferevent_enable(bev, EV_READ);
	} else {
		left_to_write = amount;
		write_more(bev, NULL);
	}
	event_base_dispatch(base);
	double seconds = (double)(bench_cpu() - began) / 1e9;
	if (ferry)
		ferry_transport_free(transport);
	else
		bufferevent_free(bev);
	close_base();
	bench_wait(child);
	return seconds / ((double)amount / 1e9);
}

static void bytes(bool quick)
{
	char name[80];

	amount = quick ? 10000000 : 500000000;
	printf("# Processor time for 10^9 bytes, beside a stock bufferevent: the least of rounds\n");
	for (int kind = 0; kind < BENCH_KINDS; kind++) {
		for (int receives = 0; receives < 2; receives++) {
			const char *way = receives ? "receive" : "send";
			double least[2] = {0};
			for (int round = 0; round < (quick ? 1 : 5); round++) {
				for (int ferry = 0; ferry < 2; ferry++) {
					double cost = byte_cost((enum bench_kind)kind, ferry, receives);
					if (round == 0 || cost < least[ferry])
						least[ferry] = cost;
				}
			}
			for (int ferry = 0; ferry < 2; ferry++) {
				snprintf(name, sizeof(name), "cpu_%s_%s_%s_s_per_GB", bench_kind_names[kind], way,
				         ferry ? "ferry" : "stock");
				bench_print(name, least[ferry]);
			}
			snprintf(name, sizeof(name), "ratio_%s_%s_ferry_to_stock", bench_kind_names[kind], way);
			bench_print(name, least[1] / least[0]);
		}
	}
}

/* ---- memory ---- */

static size_t heap_in_use(void)
{
	struct mallinfo2 info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

static void memory(void)
{
	enum { COUNT = 400 };
	static struct bufferevent *bevs[COUNT];
	static struct ferry_transport *transports[COUNT];
	static int far[COUNT];

	printf("# Heap of an idle connection, as malloc counts it\n");
	open_base();
	size_t before = heap_in_use();
	for (int i = 0; i < COUNT; i++) {
		int fds[2];
		bench_pair(BENCH_UNIX, fds);
		far[i] = fds[1];
		bevs[i] = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
		bench_need(bevs[i] != NULL, "bufferevent");
		bufferevent_enable(bevs[i], EV_READ);
	}
	event_base_loop(base, EVLOOP_NONBLOCK);
	size_t with_bufferevents = heap_in_use();
	for (int i = 0; i < COUNT; i++)
		bench_need(ferry_transport_new(&transports[i], bevs[i]) == 0 &&
		               ferry_transport_set_protocol(transports[i], &taker, NULL) == 0,
		           "transport");
	event_base_loop(base, EVLOOP_NONBLOCK);
	size_t with_transports = heap_in_use();
	bench_print("heap_bufferevent_bytes", (double)(with_bufferevents - before) / COUNT);
	bench_print("heap_transport_beyond_it_bytes",
	            (double)(with_transports - with_bufferevents) / COUNT);
	for (int i = 0; i < COUNT; i++) {
		ferry_transport_free(transports[i]);
		close(far[i]);
	}
	close_base();
}

int main(int argc, char **argv)
{
	bool quick = bench_is_quick(argc, argv);

	descriptors(quick);
	messages_with_descriptors(quick);
	trips(quick);
	bytes(quick);
	memory();
	return 0;
}
