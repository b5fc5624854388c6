/* The cost of a handoff. It starts when a request's head is in a bufferevent of the dispatcher, and
 * ends when the worker, another process, has a reading bufferevent with that head.
 *
 * With `--batches` the measured work stands between two system calls that no other code makes.
 * handoff_calls.py finds the work in a trace by them. With `--workers N` the other process has N workers, each with
 * its own channel: the dispatcher's own time must not grow with them. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "bench.h"
#include "ferry/dispatcher.h"
#include "ferry/worker.h"

enum { CREDITS = 4096, BATCH_MAX = 1000, WORKERS_MAX = 1000 };

static const char head[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

static struct event_base *base;
static unsigned int worker_count = 1;
static int channels[WORKERS_MAX][2]; /* those of all workers but the first */

/* ---- the worker ---- */

struct served {
	struct ferry_worker *worker;
	uint64_t id;
};

/* The client has closed: so do we. */
static void on_event(struct bufferevent *bev, short what, void *argument)
{
	(void)what;
	struct served *served = argument;

	ferry_worker_done(served->worker, served->id);
	free(served);
	bufferevent_free(bev);
}

static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	(void)context;
	struct ferry_handoff_info info = {0};
	struct bufferevent *bev = NULL;
	struct served *served = malloc(sizeof(*served));

	ferry_handoff_get_info(handoff, &info);
	if (served == NULL)
		exit(EXIT_FAILURE);
	*served = (struct served){worker, info.id};
	bench_need(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE) == 0,
	           "to_bufferevent");
	bench_need(evbuffer_get_length(bufferevent_get_input(bev)) == sizeof(head) - 1, "head");
	bufferevent_setcb(bev, NULL, NULL, on_event, served);
	bufferevent_enable(bev, EV_READ);
}

static void dispatcher_lost(struct ferry_worker *from, int reason, void *context)
{
	(void)reason, (void)context;
	ferry_worker_free(from);
	if (--worker_count == 0)
		event_base_loopexit(base, NULL);
}

static const struct ferry_worker_callbacks worker_callbacks = {
    .handoff_received = handoff_received,
    .dispatcher_lost = dispatcher_lost,
};

static struct ferry_transport *make_transport(int fd)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);

	bench_need(ferry_transport_new(&transport, bev) == 0, "transport");
	return transport;
}

static void add_worker(int fd)
{
	struct ferry_worker *worker = NULL;

	bench_need(ferry_worker_new(&worker, make_transport(fd), &worker_callbacks, NULL) == 0,
	           "worker");
	bench_need(ferry_worker_set_credits(worker, CREDITS) == 0, "credits");
}

static void serve(int fd, void *argument)
{
	(void)argument;
	base = event_base_new();
	add_worker(fd);
	for (unsigned int i = 1; i < worker_count; i++) {
		close(channels[i][0]);
		add_worker(channels[i][1]);
	}
	event_base_dispatch(base);
}

/* ---- the dispatcher ---- */

static struct ferry_dispatcher *dispatcher;
static unsigned int outcomes;

static struct client {
	int fd;
	struct bufferevent *bev; /* of its other end */
} clients[BATCH_MAX];

static void on_outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)from, (void)handoff, (void)reason, (void)context;
	bench_need(outcome == FERRY_HANDOFF_DONE, "outcome");
	outcomes++;
}

static struct ferry_dispatcher_stats stats(void)
{
	struct ferry_dispatcher_stats now;

	ferry_dispatcher_get_stats(dispatcher, &now);
	return now;
}

/* Until the heads are read. */
static void make_clients(unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		int fds[2];
		bench_pair(BENCH_TCP, fds);
		clients[i].fd = fds[0];
		bench_need(write(fds[0], head, sizeof(head) - 1) == sizeof(head) - 1, "write");
		clients[i].bev = bufferevent_socket_new(base, fds[1], BEV_OPT_CLOSE_ON_FREE);
		bufferevent_enable(clients[i].bev, EV_READ);
		while (evbuffer_get_length(bufferevent_get_input(clients[i].bev)) == 0)
			event_base_loop(base, EVLOOP_ONCE);
	}
}

/* `window`: the count of handoffs that are on their way at once. */
static void hand_off(unsigned int count, unsigned int window)
{
	struct ferry_handoff *handoff = NULL;
	uint64_t claimed = stats().claimed;

	for (unsigned int i = 0; i < count; i++) {
		bench_need(ferry_handoff_from_bufferevent(&handoff, clients[i].bev) == 0,
		           "from_bufferevent");
		bench_need(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, NULL) == 0,
		           "hand_off");
		while (i + 1 - (stats().claimed - claimed) >= window)
			event_base_loop(base, EVLOOP_ONCE);
	}
	while (stats().claimed - claimed < count)
		event_base_loop(base, EVLOOP_ONCE);
}

static void drop_clients(unsigned int count)
{
	unsigned int before = outcomes;

	for (unsigned int i = 0; i < count; i++) {
		bench_reset(clients[i].fd);
		bufferevent_free(clients[i].bev);
	}
	while (outcomes - before < count)
		event_base_loop(base, EVLOOP_ONCE);
}

/* A system call that fails and that the trace shows. */
static void mark(const char *name)
{
	bench_need(write(-1, name, strlen(name)) < 0, "mark");
}

struct cost {
	uint64_t time, cpu,
	    user; /* of the clock; of the dispatcher's thread, and outside of the kernel */
};

static struct cost run(unsigned int batches, unsigned int window, const char *name)
{
	struct cost cost = {0};

	for (unsigned int i = 0; i < batches; i++) {
		make_clients(BATCH_MAX);
		mark(name);
		uint64_t start = bench_now(), start_cpu = bench_cpu(), start_user = bench_user_time();
		hand_off(BATCH_MAX, window);
		cost.time += bench_now() - start;
		cost.cpu += bench_cpu() - start_cpu;
		cost.user += bench_user_time() - start_user;
		mark("end");
		drop_clients(BATCH_MAX);
	}
	return cost;
}

/* ---- the program ---- */

static pid_t start_workers(void)
{
	int channel;

	for (unsigned int i = 1; i < worker_count; i++)
		bench_pair(BENCH_UNIX, channels[i]);
	pid_t child = bench_fork(BENCH_UNIX, serve, NULL, &channel);
	base = event_base_new();
	/* Under a tracer, on a busy machine, an answer may take any time. */
	const struct timeval hour = {3600, 0};
	bench_need(ferry_dispatcher_new(&dispatcher, base, NULL, NULL) == 0 &&
	               ferry_dispatcher_set_timeouts(dispatcher, &hour, &hour) == 0,
	           "dispatcher");
	for (unsigned int i = 0; i < worker_count; i++) {
		if (i > 0)
			close(channels[i][1]);
		bench_need(ferry_dispatcher_add_worker(NULL, dispatcher,
		                                       make_transport(i > 0 ? channels[i][0] : channel),
		                                       NULL) == 0,
		           "add_worker");
	}
	while (stats().credits != (uint64_t)worker_count * CREDITS)
		event_base_loop(base, EVLOOP_ONCE);
	return child;
}

static void print_costs(const char *name, unsigned int batches, unsigned int window)
{
	char line[64];
	double count = (double)batches * BATCH_MAX;
	struct cost cost = run(batches, window, name);

	snprintf(line, sizeof(line), "handoff_%s_us", name);
	bench_print(line, (double)cost.time / count / 1000);
	snprintf(line, sizeof(line), "handoff_%s_dispatcher_cpu_us", name);
	bench_print(line, (double)cost.cpu / count / 1000);
	snprintf(line, sizeof(line), "handoff_%s_dispatcher_user_us", name);
	bench_print(line, (double)cost.user / count / 1000);
}

static unsigned int take_number(const char *text, unsigned int most)
{
	int number = atoi(text);

	bench_need(number > 0 && (unsigned int)number <= most, "a number out of range");
	return (unsigned int)number;
}

/* Returns the number of batches. */
static unsigned int read_arguments(int argc, char **argv)
{
	unsigned int batches = 50;

	for (int i = 1; i < argc; i++) {
		if (i + 1 < argc && strcmp(argv[i], "--batches") == 0)
			batches = take_number(argv[++i], 1000000);
		else if (i + 1 < argc && strcmp(argv[i], "--workers") == 0)
			worker_count = take_number(argv[++i], WORKERS_MAX);
		else
			batches = bench_is_quick(2, (char *[]){argv[0], argv[i], NULL}) ? 2 : batches;
	}
	return batches;
}

int main(int argc, char **argv)
{
	unsigned int batches = read_arguments(argc, argv);
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	pid_t child = start_workers();
	run(1, BATCH_MAX, "warm"); /* and so is what follows */
	bench_print("handoffs", 2.0 * batches * BATCH_MAX);
	print_costs("burst", batches, BATCH_MAX);
	print_costs("single", batches, 1);

	ferry_dispatcher_free(dispatcher);
	event_base_loop(base, EVLOOP_NONBLOCK);
	event_base_free(base);
	bench_wait(child);
	return EXIT_SUCCESS;
}
