/* Bytes and files, with ferry and with what else a program could use:
 *
 *   bench_bytes trip unix|tcp bare|loop|stock|ferry COUNT     round trips of 64 bytes, both ends in one loop
 *   bench_bytes bulk unix|tcp bare|stock|ferry MIB            bytes from one process to another
 *   bench_bytes file unix|tcp WAY MIB                         a file in memory, to a process that throws it away
 *   bench_bytes file-by-mib unix ferry|bare MIB               the same, with up to 1 MiB in a turn of the loop
 *
 * bare: system calls in a loop of epoll(7), or of poll(2). loop: the same system calls in events of libevent. stock:
 * libevent's bufferevent. WAY: ferry; bare, which is sendfile(2); stock, which is evbuffer_add_file(); or copy, which is
 * read(2) and send(2) in blocks of 64 KiB. The processor time is that of both ends. SIGPIPE is ignored, as servers do. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "bench.h"
#include "ferry/ferry.h"

enum { MESSAGE = 64, BLOCK = 256 * 1024, COPY = 64 * 1024, FILE_MAX = 64 << 20, MIB = 1 << 20 };
enum side { BARE, STOCK, FERRY, READ_AND_SEND, LOOP };

static enum bench_kind kind;
static enum side side;
static uint64_t amount; /* bytes, or round trips */
static struct event_base *base;

/* In libc's place, for libevent. */
static uint64_t epoll_ctl_calls;
int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);

int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
	epoll_ctl_calls++;
	return (int)syscall(SYS_epoll_ctl, epoll_fd, operation, fd, event);
}

/* ---- one end ---- */

struct end {
	struct bufferevent *bev;
	struct ferry_transport *transport; /* or NULL */
};

static struct end open_end(int fd)
{
	struct end end = {bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE), NULL};

	bench_need(end.bev != NULL, "bufferevent");
	if (side == FERRY)
		bench_need(ferry_transport_new(&end.transport, end.bev) == 0, "transport");
	return end;
}

static void close_end(const struct end *end)
{
	if (end->transport != NULL)
		ferry_transport_free(end->transport);
	else
		bufferevent_free(end->bev);
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

/* ---- round trips ---- */

static uint64_t trips;

/* The socket takes a message that is alone. */
static void write_message(const struct end *end, const char *message)
{
	if (end->transport == NULL)
		bufferevent_write(end->bev, message, MESSAGE);
	else
		bench_need(ferry_transport_try_write(end->transport, message, MESSAGE) == MESSAGE,
		           "try_write");
}

static struct end ends[2];

static void answer(struct bufferevent *bev, void *argument)
{
	const struct end *end = argument;
	struct evbuffer *input = bufferevent_get_input(bev);
	char message[MESSAGE];

	if (evbuffer_get_length(input) < MESSAGE)
		return;
	evbuffer_remove(input, message, MESSAGE);
	if (end == &ends[0] && ++trips >= amount) {
		event_base_loopbreak(base);
		return;
	}
	if (trips == 0)
		epoll_ctl_calls = 0; /* the events are in the epoll set */
	write_message(end, message);
}

static void trip_in_loop(const int fds[2])
{
	char message[MESSAGE] = "";

	for (int i = 0; i < 2; i++) {
		ends[i] = open_end(fds[i]);
		bufferevent_setcb(ends[i].bev, answer, NULL, NULL, &ends[i]);
		bufferevent_enable(ends[i].bev, EV_READ);
	}
	event_base_loop(base, EVLOOP_NONBLOCK);
	write_message(&ends[0], message);
	event_base_dispatch(base);
	for (int i = 0; i < 2; i++)
		close_end(&ends[i]);
}

static void answer_bare(evutil_socket_t fd, short what, void *first)
{
	(void)what;
	char message[MESSAGE];

	bench_need(recv(fd, message, MESSAGE, 0) == MESSAGE, "recv");
	if (first != NULL && ++trips >= amount)
		event_base_loopbreak(base);
	if (trips == 0)
		epoll_ctl_calls = 0;
	bench_need(send(fd, message, MESSAGE, MSG_NOSIGNAL) == MESSAGE, "send");
}

static void trip_in_events(const int fds[2])
{
	struct event *events[2];
	char message[MESSAGE] = "";

	for (int i = 0; i < 2; i++) {
		events[i] =
		    event_new(base, fds[i], EV_READ | EV_PERSIST, answer_bare, i == 0 ? &base : NULL);
		bench_need(events[i] != NULL && event_add(events[i], NULL) == 0, "event");
	}
	bench_need(send(fds[0], message, MESSAGE, MSG_NOSIGNAL) == MESSAGE, "send");
	event_base_dispatch(base);
	for (int i = 0; i < 2; i++) {
		event_free(events[i]);
		close(fds[i]);
	}
}

static void trip_bare(const int fds[2])
{
	struct epoll_event events[2];
	char message[MESSAGE] = "";
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);

	for (int i = 0; i < 2; i++) {
		events[0] = (struct epoll_event){.events = EPOLLIN, .data.fd = fds[i]};
		bench_need(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fds[i], &events[0]) == 0, "epoll_ctl");
	}
	epoll_ctl_calls = 0;
	bench_need(send(fds[0], message, MESSAGE, MSG_NOSIGNAL) == MESSAGE, "send");
	while (trips < amount) {
		int count = epoll_wait(epoll_fd, events, 2, -1);
		for (int i = 0; i < count; i++) {
			int fd = events[i].data.fd;
			bench_need(recv(fd, message, MESSAGE, 0) == MESSAGE, "recv");
			trips += fd == fds[0];
			bench_need(send(fd, message, MESSAGE, MSG_NOSIGNAL) == MESSAGE, "send");
		}
	}
	close(epoll_fd);
	close(fds[0]);
	close(fds[1]);
}

static void measure_trips(void)
{
	int fds[2];

	bench_pair(kind, fds);
	open_base();
	uint64_t cpu = bench_cpu();
	if (side == BARE)
		trip_bare(fds);
	else if (side == LOOP)
		trip_in_events(fds);
	else
		trip_in_loop(fds);
	bench_print("cpu_us", (double)(bench_cpu() - cpu) / 1e3 / (double)amount);
	bench_print("epoll_ctl", (double)epoll_ctl_calls / (double)amount);
	close_base();
}

/* ---- bytes ---- */

static uint64_t left;

static void write_more(struct bufferevent *bev, void *context)
{
	(void)context;
	static const char block[BLOCK];
	size_t length = left < sizeof(block) ? (size_t)left : sizeof(block);

	if (length == 0) {
		event_base_loopbreak(base);
		return;
	}
	left -= length;
	/* By reference: the time to copy bytes into the buffer is not part of the measurement. */
	evbuffer_add_reference(bufferevent_get_output(bev), block, length, NULL, NULL);
}

static void drop_input(struct bufferevent *bev, void *context)
{
	(void)context;
	struct evbuffer *input = bufferevent_get_input(bev);

	left -= evbuffer_get_length(input);
	evbuffer_drain(input, evbuffer_get_length(input));
}

static void stop_at_end(struct bufferevent *bev, short what, void *context)
{
	(void)bev, (void)what, (void)context;
	event_base_loopbreak(base);
}

static void send_in_loop(int fd)
{
	open_base();
	struct end end = open_end(fd);
	bufferevent_setcb(end.bev, NULL, write_more, stop_at_end, NULL);
	left = amount;
	write_more(end.bev, NULL);
	event_base_dispatch(base);
	close_end(&end);
	close_base();
}

static void send_bare(int fd)
{
	static const char block[BLOCK];

	for (uint64_t sent = 0; sent < amount;) {
		uint64_t length = amount - sent < BLOCK ? amount - sent : BLOCK;
		ssize_t taken = send(fd, block, (size_t)length, MSG_NOSIGNAL);
		if (taken < 0) {
			bench_need(errno == EAGAIN, "send");
			bench_poll(fd, POLLOUT);
			continue;
		}
		sent += (uint64_t)taken;
	}
	close(fd);
}

static void receive(int fd, void *argument)
{
	if (side == BARE) {
		bench_discard(fd, argument);
		return;
	}
	open_base();
	struct end end = open_end(fd);
	left = amount;
	bufferevent_setcb(end.bev, drop_input, NULL, stop_at_end, NULL);
	bufferevent_enable(end.bev, EV_READ);
	event_base_dispatch(base);
	bench_need(left == 0, "bytes received");
	close_end(&end);
	close_base();
}

static void print_costs(uint64_t began, uint64_t cpu)
{
	double megabytes = (double)amount / 1e6;

	bench_print("MB_per_s", megabytes / ((double)(bench_now() - began) / 1e9));
	bench_print("cpu_us_per_MB", (double)(bench_cpu_of_all() - cpu) / 1e3 / megabytes);
}

static void measure_bulk(void)
{
	int fd;

	uint64_t began = bench_now(), cpu = bench_cpu_of_all();
	pid_t child = bench_fork(kind, receive, NULL, &fd);
	if (side == BARE)
		send_bare(fd);
	else
		send_in_loop(fd);
	bench_wait(child);
	print_costs(began, cpu);
}

/* ---- files ---- */

static int file;
static size_t file_size;
static bool by_mib;

static void finished(struct ferry_file_producer *producer, int status, uint64_t sent, void *context)
{
	(void)producer, (void)context;
	bench_need(status == 0 && sent == file_size, "the file");
	event_base_loopbreak(base);
}

static const struct ferry_file_callbacks callbacks = {.finished = finished};

/* sendfile(2) that would block ends the write of libevent 2.1.12 as if the peer had ended. */
static void resume_stock(struct bufferevent *bev, short what, void *context)
{
	(void)context;
	bench_need((what & BEV_EVENT_WRITING) != 0, "evbuffer_add_file");
	bufferevent_enable(bev, EV_WRITE);
}

static void drained(struct bufferevent *bev, void *context)
{
	(void)bev, (void)context;
	event_base_loopbreak(base);
}

static void send_files_in_loop(int fd)
{
	open_base();
	struct end end = open_end(fd);
	if (side == STOCK)
		bufferevent_setcb(end.bev, NULL, drained, resume_stock, NULL);
	if (by_mib)
		bufferevent_set_max_single_write(end.bev, MIB);
	for (uint64_t sent = 0; sent < amount; sent += file_size) {
		if (side == FERRY)
			bench_need(ferry_transport_send_file(NULL, end.transport, file, FERRY_FD_DUP, 0,
			                                     (int64_t)file_size, 0, &callbacks, NULL) == 0,
			           "send_file");
		else
			bench_need(evbuffer_add_file(bufferevent_get_output(end.bev), dup(file), 0,
			                             (ev_off_t)file_size) == 0,
			           "add_file");
		event_base_dispatch(base);
	}
	close_end(&end);
	close_base();
}

static void send_file_bare(int fd)
{
	size_t chunk = kind == BENCH_UNIX && !by_mib ? BLOCK : MIB; /* as ferry's, a wake-up */

	for (off_t offset = 0; offset < (off_t)file_size;) {
		if (sendfile(fd, file, &offset, chunk) < 0) {
			bench_need(errno == EAGAIN, "sendfile");
			bench_poll(fd, POLLOUT);
		}
	}
}

static void send_all(int fd, const char *data, size_t length)
{
	while (length > 0) {
		ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
		if (sent < 0) {
			bench_need(errno == EAGAIN, "send");
			bench_poll(fd, POLLOUT);
			continue;
		}
		data += sent;
		length -= (size_t)sent;
	}
}

static void send_copy(int fd)
{
	static char buffer[COPY];

	for (size_t done = 0; done < file_size;) {
		ssize_t length = pread(file, buffer, sizeof(buffer), (off_t)done);
		bench_need(length > 0, "pread");
		send_all(fd, buffer, (size_t)length);
		done += (size_t)length;
	}
}

static void measure_files(void)
{
	int fd;

	file_size = amount < FILE_MAX ? (size_t)amount : FILE_MAX;
	file = bench_file(file_size);
	uint64_t began = bench_now(), cpu = bench_cpu_of_all();
	pid_t child = bench_fork(kind, bench_discard, NULL, &fd);
	if (side == FERRY || side == STOCK) {
		send_files_in_loop(fd);
	} else {
		for (uint64_t sent = 0; sent < amount; sent += file_size) {
			if (side == BARE)
				send_file_bare(fd);
			else
				send_copy(fd);
		}
		close(fd);
	}
	bench_wait(child);
	print_costs(began, cpu);
}

int main(int argc, char **argv)
{
	static const char *const what[] = {"trip", "bulk", "file", "file-by-mib", NULL};
	static const char *const kinds[] = {"unix", "tcp", NULL};
	static const char *const sides[] = {"bare", "stock", "ferry", "copy", "loop", NULL};

	if (argc != 5) {
		fprintf(
		    stderr,
		    "usage: %s trip|bulk|file|file-by-mib unix|tcp bare|loop|stock|ferry|copy COUNT|MIB\n",
		    argv[0]);
		return 2;
	}
	int measured = bench_choice(argv[1], what);
	kind = (enum bench_kind)bench_choice(argv[2], kinds);
	side = (enum side)bench_choice(argv[3], sides);
	by_mib = measured == 3;
	amount = bench_number(argv[4]);
	signal(SIGPIPE, SIG_IGN);
	if (measured == 0) {
		measure_trips();
		return 0;
	}
	amount <<= 20;
	if (measured == 1)
		measure_bulk();
	else
		measure_files();
	return 0;
}
