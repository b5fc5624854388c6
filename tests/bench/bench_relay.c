/* The cost of a relay between two processes, beside a direct connection of the two: round trips of 64 bytes, of a
 * descriptor, and bytes in bulk. The floor is a relay of bare system calls, which does no more than epoll_wait, recvmsg
 * and sendmsg: it does not find the byte of a descriptor, and does not watch how connections end. All ways are measured
 * in turn, in the same run. */

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "bench.h"
#include "ferry/ferry.h"

enum { ROUNDS = 9, PIECE = 256 * 1024, SMALL = 64 };

static size_t bulk_bytes;
static unsigned int round_trips;
static uint64_t relay_cpu; /* nanoseconds of the last relay, or bare one */

static void make_blocking(int fd)
{
	bench_need(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) == 0, "fcntl");
}

/* ---- the relay, in a process of its own ---- */

static struct ferry_transport *new_transport(struct event_base *base, int fd)
{
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	struct ferry_transport *transport = NULL;

	bench_need(bev != NULL && ferry_transport_new(&transport, bev) == 0, "transport");
	return transport;
}

static void run_relay(int client, int server)
{
	struct event_base *base = event_base_new();
	struct ferry_relay *relay;

	bench_need(ferry_relay_new(&relay, new_transport(base, client), new_transport(base, server),
	                           NULL, NULL) == 0,
	           "relay");
	event_base_dispatch(base);
	event_base_free(base);
}

/* ---- the floor ---- */

/* Sends the whole message; its descriptors leave with the first part. */
static void pass_on(int to, struct msghdr *message, size_t length)
{
	while (length > 0) {
		message->msg_iov->iov_len = length;
		ssize_t sent = sendmsg(to, message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0) {
			bench_poll(to, POLLOUT);
			continue;
		}
		message->msg_controllen = 0;
		message->msg_iov->iov_base = (char *)message->msg_iov->iov_base + sent;
		length -= (size_t)sent;
	}
}

/* Closes what was received. */
static void close_fds(struct msghdr *message)
{
	int fd;

	if (message->msg_controllen == 0)
		return;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(message)), sizeof(fd));
	close(fd);
}

/* False: the end of file. */
static bool relay_bare(int from, int to)
{
	static char bytes[PIECE];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} room;
	struct iovec vector = {bytes, sizeof(bytes)};
	struct msghdr message = {
	    .msg_iov = &vector,
	    .msg_iovlen = 1,
	    .msg_control = room.bytes,
	    .msg_controllen = sizeof(room.bytes),
	};

	ssize_t length = recvmsg(from, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (length <= 0)
		return false;
	size_t control = message.msg_controllen;
	pass_on(to, &message, (size_t)length);
	message.msg_controllen = control;
	close_fds(&message);
	return true;
}

static void run_bare_relay(int client, int server)
{
	int queue = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event = {.events = EPOLLIN};

	bench_need(queue >= 0, "epoll_create1");
	for (int i = 0; i < 2; i++) {
		event.data.fd = i == 0 ? client : server;
		bench_need(epoll_ctl(queue, EPOLL_CTL_ADD, event.data.fd, &event) == 0, "epoll_ctl");
	}
	for (int open = 2; open > 0;) {
		bench_need(epoll_wait(queue, &event, 1, -1) == 1, "epoll_wait");
		int from = event.data.fd, to = from == client ? server : client;
		if (relay_bare(from, to))
			continue;
		shutdown(to, SHUT_WR);
		bench_need(epoll_ctl(queue, EPOLL_CTL_DEL, from, NULL) == 0, "epoll_ctl");
		open--;
	}
}

/* ---- the ways ---- */

enum way_kind { DIRECT, BARE, RELAY, WAYS };

static const char *const way_names[WAYS] = {"direct", "bare", "relay"};

struct way {
	int client, server;
	pid_t relay; /* or 0 */
};

static struct way open_way(enum bench_kind kind, enum way_kind way)
{
	int near[2], far[2];

	bench_pair(kind, near);
	if (way == DIRECT)
		return (struct way){near[0], near[1], 0};
	bench_pair(kind, far);
	pid_t child = fork();
	bench_need(child >= 0, "fork");
	if (child == 0) {
		close(near[0]);
		close(far[1]);
		if (way == BARE)
			run_bare_relay(near[1], far[0]);
		else
			run_relay(near[1], far[0]);
		_exit(0);
	}
	close(near[1]);
	close(far[0]);
	return (struct way){near[0], far[1], child};
}

/* Runs the server in a child. */
static pid_t serve(struct way *way, void (*work)(int fd))
{
	pid_t child = fork();

	bench_need(child >= 0, "fork");
	if (child == 0) {
		close(way->client);
		make_blocking(way->server);
		work(way->server);
		_exit(0);
	}
	close(way->server);
	make_blocking(way->client);
	return child;
}

static void end_way(struct way *way, pid_t server)
{
	close(way->client);
	bench_wait(server);
	if (way->relay == 0)
		return;
	struct rusage usage;
	int status;
	bench_need(wait4(way->relay, &status, 0, &usage) == way->relay && status == 0, "relay");
	relay_cpu = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000 +
	            (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

/* ---- the work ---- */

static bool pass(int from, int to, int *fd)
{
	char bytes[SMALL];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} room;
	struct iovec vector = {bytes, sizeof(bytes)};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};

	if (fd != NULL) {
		message.msg_control = room.bytes;
		message.msg_controllen = sizeof(room.bytes);
	}
	ssize_t length = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
	if (length <= 0)
		return false;
	vector.iov_len = (size_t)length;
	bench_need(to < 0 || sendmsg(to, &message, MSG_NOSIGNAL) == length, "sendmsg");
	if (fd != NULL && message.msg_controllen > 0) {
		memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
		close(*fd);
	}
	return true;
}

static void echo(int fd)
{
	while (pass(fd, fd, NULL))
		continue;
}

static void echo_fds(int fd)
{
	int received;

	while (pass(fd, fd, &received))
		continue;
}

static void discard(int fd)
{
	static char bytes[PIECE];

	while (recv(fd, bytes, sizeof(bytes), 0) > 0)
		continue;
	bench_need(send(fd, "", 1, MSG_NOSIGNAL) == 1, "send");
}

static void send_small(int fd, const int *given)
{
	char bytes[SMALL] = {0};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} room = {.bytes = {0}};
	struct iovec vector = {bytes, sizeof(bytes)};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};

	if (given != NULL) {
		message.msg_control = room.bytes;
		message.msg_controllen = sizeof(room.bytes);
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), given, sizeof(int));
	}
	bench_need(sendmsg(fd, &message, MSG_NOSIGNAL) == SMALL, "sendmsg");
}

/* Each returns nanoseconds, for a round trip or in all. */

static double time_round_trips(enum bench_kind kind, enum way_kind which, bool with_fds)
{
	struct way way = open_way(kind, which);
	pid_t server = serve(&way, with_fds ? echo_fds : echo);
	int received;

	for (unsigned int i = 0; i < 100; i++) { /* until all processes run */
		send_small(way.client, NULL);
		bench_need(pass(way.client, -1, NULL), "recvmsg");
	}
	uint64_t start = bench_now();
	for (unsigned int i = 0; i < round_trips; i++) {
		send_small(way.client, with_fds ? &way.client : NULL);
		bench_need(pass(way.client, -1, with_fds ? &received : NULL), "recvmsg");
	}
	double each = (double)(bench_now() - start) / round_trips;
	end_way(&way, server);
	return each;
}

static double time_bulk(enum bench_kind kind, enum way_kind which)
{
	static char bytes[PIECE];
	struct way way = open_way(kind, which);
	pid_t server = serve(&way, discard);
	char answer;

	uint64_t start = bench_now();
	for (size_t sent = 0; sent < bulk_bytes; sent += sizeof(bytes))
		bench_need(send(way.client, bytes, sizeof(bytes), MSG_NOSIGNAL) == (ssize_t)sizeof(bytes),
		           "send");
	shutdown(way.client, SHUT_WR);
	bench_need(recv(way.client, &answer, 1, 0) == 1, "recv");
	double all = (double)(bench_now() - start);
	end_way(&way, server);
	return all;
}

/* ---- figures ---- */

static int compare(const void *a, const void *b)
{
	double difference = *(const double *)a - *(const double *)b;

	return difference < 0 ? -1 : difference > 0;
}

static double median(double *values)
{
	qsort(values, ROUNDS, sizeof(*values), compare);
	return values[ROUNDS / 2];
}

static void print(enum bench_kind kind, const char *subject, enum way_kind way, const char *unit,
                  double value)
{
	char name[100];

	snprintf(name, sizeof(name), "%s_%s_%s_%s", bench_kind_names[kind], subject, way_names[way],
	         unit);
	bench_print(name, value);
}

/* The medians of all ways, and what they are of the direct one. */
static void print_all(enum bench_kind kind, const char *subject, const char *unit,
                      double values[WAYS][ROUNDS])
{
	double medians[WAYS];

	for (int way = 0; way < WAYS; way++) {
		medians[way] = median(values[way]);
		print(kind, subject, (enum way_kind)way, unit, medians[way]);
	}
	for (int way = BARE; way < WAYS; way++)
		print(kind, subject, (enum way_kind)way, "ratio", medians[way] / medians[DIRECT]);
}

static void measure_round_trips(enum bench_kind kind, bool with_fds)
{
	double times[WAYS][ROUNDS], cpu[WAYS][ROUNDS];
	const char *subject = with_fds ? "fd_round_trip" : "round_trip";

	for (int i = 0; i < WAYS * ROUNDS; i++) {
		times[i % WAYS][i / WAYS] =
		    time_round_trips(kind, (enum way_kind)(i % WAYS), with_fds) / 1000;
		cpu[i % WAYS][i / WAYS] = (double)relay_cpu / 1e3 / round_trips;
	}
	print_all(kind, subject, "us", times);
	for (int way = BARE; way < WAYS; way++)
		print(kind, subject, (enum way_kind)way, "cpu_us", median(cpu[way]));
}

static void measure_bulk(enum bench_kind kind)
{
	double rates[WAYS][ROUNDS], cpu[WAYS][ROUNDS];

	for (int i = 0; i < WAYS * ROUNDS; i++) {
		rates[i % WAYS][i / WAYS] =
		    (double)bulk_bytes / time_bulk(kind, (enum way_kind)(i % WAYS)) * 1000;
		cpu[i % WAYS][i / WAYS] = (double)relay_cpu / 1e6 / ((double)bulk_bytes / (1 << 30));
	}
	print_all(kind, "bulk", "MB_per_s", rates);
	for (int way = BARE; way < WAYS; way++)
		print(kind, "bulk", (enum way_kind)way, "cpu_ms_per_GiB", median(cpu[way]));
}

int main(int argc, char **argv)
{
	bool quick = bench_is_quick(argc, argv);

	bulk_bytes = quick ? (size_t)8 << 20 : (size_t)1 << 30;
	round_trips = quick ? 100 : 10000;
	for (int kind = 0; kind < BENCH_KINDS; kind++) {
		measure_round_trips((enum bench_kind)kind, false);
		if (kind == BENCH_UNIX)
			measure_round_trips((enum bench_kind)kind, true);
		measure_bulk((enum bench_kind)kind);
	}
	return 0;
}
