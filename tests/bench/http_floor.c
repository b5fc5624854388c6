/* HTTP servers of bare system calls, in loops of epoll(7), for the limits of what a server can reach:
 *
 *   http_floor accept  ROOT  the workers accept from one listening socket, as nginx's do
 *   http_floor handoff ROOT  a dispatcher accepts, reads the head and sends the socket with the head to a worker. As ferry's
 *                            does, it keeps a copy until the worker has claimed the connection; the worker checks
 *                            the cookie, and serves after its claim is in the kernel.
 *   http_floor whole   ROOT  the same, with every system call by which ferry's programs keep a promise: the address of
 *                            the client, a path that stays beneath the root, a read that does not wait for the disk,
 *                            a look for bytes that nobody has read, and an end that does not wait for the copy.
 *
 * They understand just the requests of http_client.c. Two workers. Prints "listening PORT". */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bare_handoff.h"
#include "bench.h"

enum { WORKERS = 2, HEAD = BARE_HEAD, SMALL = 16 * 1024, FDS = 65536, EVENTS = 64 };

static int epoll_fd, root, listener;
static bool whole; /* every call of ferry's programs */

struct connection {
	int fd, file; /* -1: no file is being sent */
	off_t offset, size;
	bool keep;
};

static void watch(int operation, int fd, uint32_t events, void *context)
{
	struct epoll_event event = {.events = events, .data.ptr = context};

	bench_need(epoll_ctl(epoll_fd, operation, fd, &event) == 0, "epoll_ctl");
}

/* ---- answers ---- */

/* Sends the file's next part. Returns false if the socket is full. */
static bool send_part(struct connection *connection)
{
	while (connection->offset < connection->size) {
		ssize_t sent = sendfile(connection->fd, connection->file, &connection->offset,
		                        (size_t)(connection->size - connection->offset));
		if (sent < 0) {
			bench_need(errno == EAGAIN, "sendfile");
			return false;
		}
	}
	close(connection->file);
	connection->file = -1;
	return true;
}

static int format_head(char *head, size_t room, const struct connection *connection)
{
	return snprintf(head, room,
	                "HTTP/1.1 200 OK\r\nServer: floor\r\nContent-Type: text/plain\r\n"
	                "Content-Length: %lld\r\nConnection: %s\r\n\r\n",
	                (long long)connection->size, connection->keep ? "keep-alive" : "close");
}

static int open_file(const char *path)
{
	struct open_how how = {.flags = O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC,
	                       .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};

	if (whole)
		return (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	return openat(root, path, O_RDONLY | O_CLOEXEC);
}

static ssize_t read_file(int file, char *body)
{
	if (whole)
		return preadv2(file, &(struct iovec){body, SMALL}, 1, 0, RWF_NOWAIT);
	return pread(file, body, SMALL, 0);
}

/* Returns false if the socket is full. */
static bool answer(struct connection *connection, char *request)
{
	char head[256];
	static char body[SMALL];
	struct stat status;
	char *path = request + sizeof("GET /") - 1, *end = strpbrk(path, "? ");

	connection->keep = strstr(end, "Connection: close") == NULL;
	*end = '\0';
	int file = open_file(path);
	bench_need(file >= 0 && fstat(file, &status) == 0, path);
	/* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): bench_need() has ended */
	connection->size = status.st_size;
	connection->offset = 0;
	int length = format_head(head, sizeof(head), connection);
	if (status.st_size > SMALL) {
		bench_need(send(connection->fd, head, (size_t)length, MSG_NOSIGNAL | MSG_MORE) == length,
		           "send");
		connection->file = file;
		return send_part(connection);
	}
	struct iovec parts[2] = {{head, (size_t)length}, {body, (size_t)status.st_size}};
	bench_need(read_file(file, body) == (ssize_t)status.st_size, "the file");
	close(file);
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	/* In a whole one a shutdown follows at once, and sends what is left. */
	int flags = MSG_NOSIGNAL | (whole && !connection->keep ? MSG_MORE : 0);
	bench_need(sendmsg(connection->fd, &message, flags) == (ssize_t)length + status.st_size,
	           "sendmsg");
	return true;
}

static void end(struct connection *connection)
{
	char byte;

	/* The client sees the end now, although the dispatcher has a copy. */
	if (whole && recv(connection->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
		shutdown(connection->fd, SHUT_RDWR);
	close(connection->fd);
	free(connection);
}

/* Reads requests and answers them, until the socket is empty, full or over. `watched`: it is in the epoll set. */
static void serve(struct connection *connection, char *request, bool watched)
{
	char head[HEAD];

	for (;;) {
		if (request == NULL) {
			ssize_t length = recv(connection->fd, head, sizeof(head) - 1, 0);
			if (length < 0 && errno == EAGAIN) {
				if (!watched)
					watch(EPOLL_CTL_ADD, connection->fd, EPOLLIN | EPOLLRDHUP, connection);
				return;
			}
			if (length <= 0) {
				end(connection);
				return;
			}
			head[length] = '\0';
			request = head;
		}
		if (!answer(connection, request)) {
			watch(watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, connection->fd, EPOLLOUT, connection);
			return;
		}
		if (!connection->keep) {
			end(connection);
			return;
		}
		request = NULL;
		if (watched)
			return;
	}
}

static void go_on(struct connection *connection)
{
	if (connection->file < 0) {
		serve(connection, NULL, true);
		return;
	}
	if (!send_part(connection))
		return;
	if (connection->keep)
		watch(EPOLL_CTL_MOD, connection->fd, EPOLLIN | EPOLLRDHUP, connection);
	else
		end(connection);
}

static struct connection *new_connection(int fd)
{
	struct connection *connection = calloc(1, sizeof(*connection));

	bench_need(connection != NULL, "calloc");
	connection->fd = fd; /* NOLINT(clang-analyzer-core.NullDereference): bench_need() has ended */
	connection->file = -1;
	return connection;
}

/* ---- workers that accept ---- */

static void accept_and_serve(void)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	serve(new_connection(fd), NULL, false);
}

static void accepting_worker(void)
{
	struct epoll_event events[EVENTS];

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	watch(EPOLL_CTL_ADD, listener, EPOLLIN | EPOLLEXCLUSIVE, NULL);
	for (;;) {
		int count = epoll_wait(epoll_fd, events, EVENTS, -1);
		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr == NULL)
				accept_and_serve();
			else
				go_on(events[i].data.ptr);
		}
	}
}

/* ---- a dispatcher and workers ---- */

static void claim_and_serve(int channel)
{
	struct bare_frame frame;
	int fd;

	/* The next read says whether there is more: one call a connection, and one a wake-up. */
	while (bare_receive(channel, &frame, &fd)) {
		bare_claim(channel, &frame);
		serve(new_connection(fd), frame.head, false);
	}
}

static void claiming_worker(int channel)
{
	struct epoll_event events[EVENTS];

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	watch(EPOLL_CTL_ADD, channel, EPOLLIN, NULL);
	for (;;) {
		int count = epoll_wait(epoll_fd, events, EVENTS, -1);
		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr == NULL)
				claim_and_serve(channel);
			else
				go_on(events[i].data.ptr);
		}
	}
}

static int channels[WORKERS];
static int copies[FDS]; /* by the id of the handoff */
static uint64_t ids;

static void hand_off(int fd, struct bare_frame *frame)
{
	frame->id = ids++;
	copies[frame->id % FDS] = fd;
	bare_send(channels[frame->id % WORKERS], frame, fd);
}

static void take_claims(int channel)
{
	uint64_t claimed[64];
	unsigned int count = bare_take_claims(channel, claimed, 64);

	for (unsigned int i = 0; i < count; i++)
		close(copies[claimed[i] % FDS]);
}

/* A head that is not there yet is waited for. */
static void read_head(struct connection *connection, bool watched)
{
	struct bare_frame frame;
	ssize_t length = recv(connection->fd, frame.head, HEAD - 1, 0);

	if (length < 0 && errno == EAGAIN) {
		if (!watched)
			watch(EPOLL_CTL_ADD, connection->fd, EPOLLIN, connection);
		return;
	}
	if (watched)
		watch(EPOLL_CTL_DEL, connection->fd, 0, NULL);
	if (length > 0) {
		frame.length = (uint32_t)length;
		hand_off(connection->fd, &frame);
		free(connection);
	} else {
		end(connection);
	}
}

static int accept_client(void)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);

	if (whole)
		return accept4(listener, (struct sockaddr *)&address, &length,
		               SOCK_NONBLOCK | SOCK_CLOEXEC);
	return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static void dispatcher(void)
{
	struct epoll_event events[EVENTS];
	static struct connection marks[WORKERS];

	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
	for (int i = 0; i < WORKERS; i++) {
		marks[i].fd = channels[i];
		watch(EPOLL_CTL_ADD, channels[i], EPOLLIN, &marks[i]);
	}
	for (;;) {
		int count = epoll_wait(epoll_fd, events, EVENTS, -1);
		for (int i = 0; i < count; i++) {
			struct connection *connection = events[i].data.ptr;
			int fd;
			if (connection >= marks && connection < marks + WORKERS)
				take_claims(connection->fd);
			else if (connection != NULL)
				read_head(connection, true);
			else if ((fd = accept_client()) >= 0)
				read_head(new_connection(fd), false);
		}
	}
}

/* ---- the program ---- */

static void start_worker(bool accepts, int index)
{
	int ends[2] = {-1, -1};

	if (!accepts)
		bench_pair(BENCH_UNIX, ends);
	pid_t child = fork();
	bench_need(child >= 0, "fork");
	if (child > 0) {
		channels[index] = ends[0];
		if (!accepts)
			close(ends[1]);
		return;
	}
	prctl(PR_SET_PDEATHSIG, 15);
	if (accepts) {
		accepting_worker();
	} else {
		close(ends[0]);
		for (int i = 0; i < index; i++)
			close(channels[i]);
		claiming_worker(ends[1]);
	}
}

int main(int argc, char **argv)
{
	static const char *const modes[] = {"accept", "handoff", "whole", NULL};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);

	if (argc != 3) {
		fprintf(stderr, "usage: %s accept|handoff|whole ROOT\n", argv[0]);
		return 2;
	}
	int mode = bench_choice(argv[1], modes);
	bool accepts = mode == 0;
	whole = mode == 2;
	root = open(argv[2], O_PATH | O_DIRECTORY | O_CLOEXEC);
	bench_need(root >= 0, argv[2]);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bench_need(
	    bind(listener, (struct sockaddr *)&address, length) == 0 && listen(listener, 4096) == 0 &&
	        setsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &(int){1}, sizeof(int)) == 0 &&
	        getsockname(listener, (struct sockaddr *)&address, &length) == 0,
	    "listen");
	for (int i = 0; i < WORKERS; i++)
		start_worker(accepts, i);
	printf("listening %d\n", ntohs(address.sin_port));
	fflush(stdout);
	if (accepts)
		for (;;)
			pause();
	dispatcher();
}
