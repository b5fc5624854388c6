/* The limit of bench_handoff: the dispatcher's cost of a handoff in bare system calls.
 *
 *   bench_handoff_bare WORKERS BATCHES
 *
 * The workers, all in one other process, take turns. The heads are there already. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bare_handoff.h"
#include "bench.h"

enum { BATCH = 1000, WORKERS_MAX = 1000, EVENTS = 64, WINDOW = 64 };

static const char head[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
static unsigned int worker_count;
static int channels[WORKERS_MAX][2];
static int epoll_fd;

static void watch_channels(int end)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	for (unsigned int i = 0; i < worker_count; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.fd = channels[i][end]};
		close(channels[i][1 - end]);
		bench_need(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, channels[i][end], &event) == 0, "epoll_ctl");
	}
}

/* ---- the workers ---- */

static void claim_all(int channel)
{
	struct bare_frame frame;
	int fd;

	while (bare_receive(channel, &frame, &fd)) {
		bare_claim(channel, &frame);
		close(fd);
	}
}

/* Ends with the dispatcher. */
static void serve(int fd, void *argument)
{
	(void)fd, (void)argument;
	struct epoll_event events[EVENTS];

	watch_channels(1);
	for (;;) {
		int count = epoll_wait(epoll_fd, events, EVENTS, -1);
		for (int i = 0; i < count; i++)
			claim_all(events[i].data.fd);
	}
}

/* ---- the dispatcher ---- */

static int copies[BATCH];

static unsigned int take_claims(void)
{
	struct epoll_event events[EVENTS];
	uint64_t ids[EVENTS];
	unsigned int taken = 0;
	int count = epoll_wait(epoll_fd, events, EVENTS, -1);

	for (int i = 0; i < count; i++) {
		unsigned int claims = bare_take_claims(events[i].data.fd, ids, EVENTS);
		for (unsigned int j = 0; j < claims; j++)
			close(copies[ids[j]]);
		taken += claims;
	}
	return taken;
}

/* As many as a channel has room for are on their way at once. */
static void hand_off_all(void)
{
	struct bare_frame frame = {.length = sizeof(head) - 1};
	unsigned int claimed = 0;

	memcpy(frame.head, head, sizeof(head) - 1);
	for (unsigned int i = 0; i < BATCH; i++) {
		while (i - claimed >= WINDOW * worker_count)
			claimed += take_claims();
		frame.id = i;
		bare_send(channels[i % worker_count][0], &frame, copies[i]);
	}
	while (claimed < BATCH)
		claimed += take_claims();
}

static void measure(unsigned int batches)
{
	static int clients[BATCH];
	uint64_t cpu = 0, user = 0;

	for (unsigned int i = 0; i < batches; i++) {
		for (unsigned int j = 0; j < BATCH; j++) {
			int fds[2];
			bench_pair(BENCH_TCP, fds);
			clients[j] = fds[0];
			copies[j] = fds[1];
		}
		cpu -= bench_cpu();
		user -= bench_user_time();
		hand_off_all();
		cpu += bench_cpu();
		user += bench_user_time();
		for (unsigned int j = 0; j < BATCH; j++)
			bench_reset(clients[j]);
	}
	double count = (double)batches * BATCH;
	bench_print("handoff_burst_dispatcher_cpu_us", (double)cpu / count / 1000);
	bench_print("handoff_burst_dispatcher_user_us", (double)user / count / 1000);
}

int main(int argc, char **argv)
{
	int end;

	if (argc != 3) {
		fprintf(stderr, "usage: %s WORKERS BATCHES\n", argv[0]);
		return 2;
	}
	worker_count = (unsigned int)bench_number(argv[1]);
	bench_need(worker_count <= WORKERS_MAX, "fewer workers");
	bench_raise_fd_limit();
	for (unsigned int i = 0; i < worker_count; i++)
		bench_pair(BENCH_UNIX, channels[i]);
	pid_t child = bench_fork(BENCH_UNIX, serve, NULL, &end);
	watch_channels(0);
	measure((unsigned int)bench_number(argv[2]));
	for (unsigned int i = 0; i < worker_count; i++)
		close(channels[i][0]);
	bench_wait(child);
	return EXIT_SUCCESS;
}
