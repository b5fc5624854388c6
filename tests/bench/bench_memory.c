/* The heap of idle connections, as malloc counts it:
 *
 *   bench_memory transport|parked COUNT
 *
 * transport: of a transport, beyond its bufferevent; and of the bufferevent. parked: of a connection in a
 * ferry_parking; and of a bufferevent that waits for it in its place. */

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "bench.h"
#include "ferry/ferry.h"

static struct event_base *base;
static size_t count;
static struct bufferevent **bevs;
static int (*fds)[2];

static size_t heap_in_use(void)
{
	struct mallinfo2 info = mallinfo2();
	return info.uordblks + info.hblkhd;
}

static double each(size_t before)
{
	event_base_loop(base, EVLOOP_NONBLOCK);
	return ((double)heap_in_use() - (double)before) / (double)count;
}

static void make_bufferevents(void)
{
	for (size_t i = 0; i < count; i++) {
		bevs[i] = bufferevent_socket_new(base, fds[i][0], BEV_OPT_CLOSE_ON_FREE);
		bench_need(bevs[i] != NULL && bufferevent_enable(bevs[i], EV_READ) == 0, "bufferevent");
	}
}

static void drop(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport, (void)context;
	evbuffer_drain(input, evbuffer_get_length(input));
}

static const struct ferry_protocol protocol = {.data_received = drop};

static void measure_transports(void)
{
	size_t before = heap_in_use();
	make_bufferevents();
	bench_print("stock_bytes", each(before));

	before = heap_in_use();
	for (size_t i = 0; i < count; i++) {
		struct ferry_transport *transport = NULL;
		bench_need(ferry_transport_new(&transport, bevs[i]) == 0 &&
		               ferry_transport_set_protocol(transport, &protocol, NULL) == 0,
		           "transport");
	}
	bench_print("ferry_bytes", each(before));
}

static const struct ferry_parking_callbacks parking_callbacks = {0};

static void measure_parked(void)
{
	struct ferry_parking *parking;
	struct ferry_handoff *handoff;

	bench_need(ferry_parking_new(&parking, base, &parking_callbacks, NULL) == 0 &&
	               ferry_parking_set_limit(parking, (unsigned int)count * 2) == 0,
	           "parking");
	size_t before = heap_in_use();
	for (size_t i = 0; i < count; i++)
		bench_need(ferry_handoff_new(&handoff, fds[i][0]) == 0 &&
		               ferry_parking_park(parking, handoff, -1, &(struct timeval){60, 0}, NULL) ==
		                   0,
		           "park");
	bench_print("ferry_bytes", each(before));
	ferry_parking_free(parking);
	event_base_loop(base, EVLOOP_NONBLOCK);

	for (size_t i = 0; i < count; i++)
		bench_pair(BENCH_UNIX, fds[i]);
	before = heap_in_use();
	make_bufferevents();
	bench_print("stock_bytes", each(before));
}

int main(int argc, char **argv)
{
	static const char *const what[] = {"transport", "parked", NULL};

	if (argc != 3) {
		fprintf(stderr, "usage: %s transport|parked COUNT\n", argv[0]);
		return 2;
	}
	count = bench_number(argv[2]);
	bench_raise_fd_limit();
	bevs = calloc(count, sizeof(struct bufferevent *));
	fds = calloc(count, sizeof(*fds));
	base = event_base_new();
	bench_need(bevs != NULL && fds != NULL && base != NULL, "memory");
	for (size_t i = 0; i < count; i++)
		bench_pair(BENCH_UNIX, fds[i]);
	if (bench_choice(argv[1], what) == 0)
		measure_transports();
	else
		measure_parked();
	return 0;
}
