/* A file that is not in memory, while other connections make round trips in the same loop:
 *
 *   bench_files cold|warm bare|apart|ferry MIB
 *
 * Prints how long the turns of the loop take, and the rate. bare: sendfile(2) in a callback, which waits for the disk.
 * apart: another process sends the file; the loop has the other connections alone, and shows what the machine does to
 * them.
 * Exit status 77: the file cannot be dropped from memory here. */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
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

enum side { BARE, APART, FERRY };

static size_t chunk_of(enum bench_kind kind)
{
	return kind == BENCH_UNIX ? 256 * 1024 : 1024 * 1024; /* as ferry's, a wake-up */
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
	event_base_loop(base, EVLOOP_NONBLOCK); /* transports are finalised */
	event_base_loop(base, EVLOOP_NONBLOCK);
	event_base_free(base);
}

/* ---- how the file is sent ---- */

static void finished(struct ferry_file_producer *producer, int status, uint64_t sent, void *context)
{
	(void)producer, (void)sent, (void)context;
	bench_need(status == 0, "the file");
	event_base_loopbreak(base);
}

static const struct ferry_file_callbacks file_callbacks = {.finished = finished};

/* The same without ferry: an event and sendfile(2). */
struct plain {
	struct event *event;
	int socket, file;
	off_t offset, end;
	size_t chunk;
};

static void plain_step(evutil_socket_t fd, short what, void *argument)
{
	(void)what;
	struct plain *plain = argument;
	size_t budget = plain->chunk;

	while (budget > 0 && plain->offset < plain->end) {
		size_t left = (size_t)(plain->end - plain->offset);
		ssize_t sent = sendfile(fd, plain->file, &plain->offset, left < budget ? left : budget);
		if (sent < 0) {
			bench_need(errno == EAGAIN, "sendfile");
			return;
		}
		budget -= (size_t)sent;
	}
	if (plain->offset == plain->end)
		event_base_loopbreak(base);
}

static struct plain plain;
static struct ferry_transport *transport;
static struct ferry_transport_stats stats;

/* A process that sends the file, and a socket that is over when it has. */
static struct {
	pid_t process;
	int socket, file;
	struct event *event;
} apart;

static void send_apart(int fd, void *argument)
{
	(void)fd;
	const size_t *size = argument;

	for (off_t offset = 0; offset < (off_t)*size;) {
		if (sendfile(apart.socket, apart.file, &offset, chunk_of(BENCH_UNIX)) < 0) {
			bench_need(errno == EAGAIN, "sendfile");
			bench_poll(apart.socket, POLLOUT);
		}
	}
}

static void apart_ends(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	event_base_loopbreak(base);
}

static void start_apart(int socket, int file, size_t size)
{
	int end;

	apart.socket = socket;
	apart.file = file;
	apart.process = bench_fork(BENCH_UNIX, send_apart, &size, &end);
	apart.event = event_new(base, end, EV_READ, apart_ends, NULL);
	bench_need(apart.event != NULL && event_add(apart.event, NULL) == 0, "event");
}

static void start_sending(enum side side, enum bench_kind kind, int socket, int file, size_t size)
{
	if (side == APART) {
		start_apart(socket, file, size);
	} else if (side == FERRY) {
		transport = new_transport(socket);
		bench_need(ferry_transport_send_file(NULL, transport, file, FERRY_FD_DUP, 0, (int64_t)size,
		                                     0, &file_callbacks, NULL) == 0,
		           "send_file");
	} else {
		plain = (struct plain){
		    .socket = socket, .file = file, .end = (off_t)size, .chunk = chunk_of(kind)};
		plain.event = event_new(base, socket, EV_WRITE | EV_PERSIST, plain_step, &plain);
		bench_need(plain.event != NULL && event_add(plain.event, NULL) == 0, "event");
	}
}

static void stop_sending(enum side side)
{
	if (side == APART) {
		close(event_get_fd(apart.event));
		event_free(apart.event);
		close(apart.socket);
		bench_wait(apart.process);
	} else if (side == FERRY) {
		ferry_transport_get_stats(transport, &stats);
		ferry_transport_free(transport);
		event_base_loop(base, EVLOOP_NONBLOCK);
	} else {
		event_free(plain.event);
		close(plain.socket);
	}
}

/* ---- the loop's stalls ---- */

enum { OTHERS = 100, MESSAGE = 64, TICK_USEC = 1000 };

/* The durations from one epoll_wait(2) to the next, in which the loop serves no other connection:
 * with the time that the scheduler gave to other programs, and without. */
static struct bench_samples turns, own_turns;
static bool counting;
static uint64_t turn_began, delay_before;

static void turn_ends(void)
{
	if (turn_began != 0 && counting) {
		uint64_t wall = bench_now() - turn_began, delay = bench_delay() - delay_before;
		bench_add(&turns, wall);
		bench_add(&own_turns, wall > delay ? wall - delay : 0);
	}
}

static void turn_begins(void)
{
	if (counting) {
		delay_before = bench_delay();
		turn_began = bench_now();
	}
}

/* In libc's place, for libevent; libevent 2.2 may call the second. */
int epoll_wait(int epoll_fd, struct epoll_event *events, int max, int timeout)
{
	turn_ends();
	int count = (int)syscall(SYS_epoll_pwait, epoll_fd, events, max, timeout, NULL, 8);
	turn_begins();
	return count;
}

#ifdef SYS_epoll_pwait2
int epoll_pwait2(int epoll_fd, struct epoll_event *events, int max, const struct timespec *timeout,
                 const sigset_t *mask)
{
	turn_ends();
	int count = (int)syscall(SYS_epoll_pwait2, epoll_fd, events, max, timeout, mask, 8);
	turn_begins();
	return count;
}
#endif

struct other {
	struct ferry_transport *transport;
	bool waits; /* for its answer */
};
static struct other others[OTHERS];
static uint64_t round_trips;

static void got_answer(struct ferry_transport *one, struct evbuffer *input, void *context)
{
	(void)one;
	struct other *other = context;

	if (evbuffer_get_length(input) < MESSAGE)
		return;
	evbuffer_drain(input, MESSAGE);
	other->waits = false;
	round_trips++;
}

static const struct ferry_protocol other_protocol = {.data_received = got_answer};

/* Not at once with the answer: a loop that is never idle measures the scheduler. */
static void tick(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	static const char message[MESSAGE];

	for (int i = 0; i < OTHERS; i++) {
		if (others[i].waits)
			continue;
		others[i].waits = true;
		ferry_transport_write(others[i].transport, message, sizeof(message));
	}
}

/* The far ends of them all. */
static void echo(int (*fds)[2])
{
	int epoll_fd = epoll_create1(0), open = OTHERS;
	struct epoll_event events[OTHERS];
	char message[MESSAGE];

	for (int i = 0; i < OTHERS; i++) {
		close(fds[i][0]);
		events[0] = (struct epoll_event){.events = EPOLLIN, .data.fd = fds[i][1]};
		epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fds[i][1], &events[0]);
	}
	while (open > 0) {
		int count = epoll_wait(epoll_fd, events, OTHERS, -1);
		for (int i = 0; i < count; i++) {
			ssize_t length = read(events[i].data.fd, message, sizeof(message));
			/* The other end goes without waiting for the last answer. */
			if (length != MESSAGE ||
			    send(events[i].data.fd, message, MESSAGE, MSG_NOSIGNAL) != MESSAGE) {
				close(events[i].data.fd);
				open--;
			}
		}
	}
}

static pid_t start_others(void)
{
	int fds[OTHERS][2];

	for (int i = 0; i < OTHERS; i++)
		bench_pair(BENCH_UNIX, fds[i]);
	pid_t child = fork();
	bench_need(child >= 0, "fork");
	if (child == 0) {
		echo(fds);
		_exit(0);
	}
	for (int i = 0; i < OTHERS; i++) {
		close(fds[i][1]);
		others[i].transport = new_transport(fds[i][0]);
		others[i].waits = false;
		ferry_transport_set_protocol(others[i].transport, &other_protocol, &others[i]);
	}
	return child;
}

static void stop_others(pid_t child)
{
	for (int i = 0; i < OTHERS; i++)
		ferry_transport_free(others[i].transport);
	event_base_loop(base, EVLOOP_NONBLOCK);
	bench_wait(child);
}

static void measure_stalls(enum side side, int file, size_t size)
{
	int socket;

	pid_t reader = bench_fork(BENCH_UNIX, bench_discard, NULL, &socket);
	open_base();
	pid_t child = start_others();
	struct event *ticks = event_new(base, -1, EV_PERSIST, tick, NULL);
	event_add(ticks, &(struct timeval){.tv_usec = TICK_USEC});
	for (int i = 0; i < 50; i++)
		event_base_loop(base, EVLOOP_ONCE);
	round_trips = 0;
	counting = true;
	uint64_t began = bench_now();
	start_sending(side, BENCH_UNIX, socket, file, size);
	event_base_dispatch(base);
	double seconds = (double)(bench_now() - began) / 1e9;
	counting = false;
	turn_began = 0;
	stop_sending(side);
	event_free(ticks);
	stop_others(child);
	close_base();
	bench_wait(reader);

	bench_print("p50_ms", (double)bench_quantile(&own_turns, 0.5) / 1e6);
	bench_print("p99_ms", (double)bench_quantile(&own_turns, 0.99) / 1e6);
	bench_print("p999_ms", (double)bench_quantile(&own_turns, 0.999) / 1e6);
	bench_print("worst_ms", (double)bench_quantile(&own_turns, 1) / 1e6);
	bench_print("with_scheduler_p999_ms", (double)bench_quantile(&turns, 0.999) / 1e6);
	bench_print("with_scheduler_worst_ms", (double)bench_quantile(&turns, 1) / 1e6);
	bench_print("turns", (double)turns.count);
	bench_print("round_trips_per_s", (double)round_trips / seconds);
	bench_print("MB_per_s", (double)size / 1e6 / seconds);
	if (side == FERRY)
		bench_print("waits", (double)stats.file_waits);
	bench_clear(&turns);
	bench_clear(&own_turns);
}

int main(int argc, char **argv)
{
	static const char *const states[] = {"cold", "warm", NULL};
	static const char *const sides[] = {"bare", "apart", "ferry", NULL};

	if (argc != 4) {
		fprintf(stderr, "usage: %s cold|warm bare|apart|ferry MIB\n", argv[0]);
		return 2;
	}
	bool cold = bench_choice(argv[1], states) == 0;
	enum side side = (enum side)bench_choice(argv[2], sides);
	size_t size = (size_t)bench_number(argv[3]) << 20;
	int file = bench_file(size);
	if (cold && !bench_drop(file, size)) {
		printf("the file cannot be dropped from memory here\n");
		return 77;
	}
	measure_stalls(side, file, size);
	close(file);
	return 0;
}
