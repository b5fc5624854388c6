/* Whether one more is as cheap as the first:
 *
 *   bench_scaling transports N   round trips of 64 bytes over 10 connections, with N open transports
 *   bench_scaling descriptors N  N descriptors over one connection, one with each byte
 *   bench_scaling messages N     messages of 64 bytes, N in the queue before the first is sent
 *   bench_scaling buffered N     the same bytes with bufferevents alone, which shows what the memory of a queue costs
 *
 * Prints the processor time of one round trip, descriptor or message. Both ends are in one loop. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "bench.h"
#include "ferry/ferry.h"

enum {
	MESSAGE = 64,
	FRAME = 16 + MESSAGE,
	ACTIVE = 10,
	TRIPS = 50000,
	MESSAGES = 200000,
	BURST = 50
};

static struct event_base *base;
static const char message[MESSAGE];
static uint64_t done, wanted;

static struct ferry_transport *new_transport(int fd)
{
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	struct ferry_transport *transport = NULL;

	bench_need(bev != NULL && ferry_transport_new(&transport, bev) == 0, "transport");
	return transport;
}

static void count_one(void)
{
	if (++done >= wanted)
		event_base_loopbreak(base);
}

static void print_cost(uint64_t began)
{
	bench_print("cpu_us", (double)(bench_cpu() - began) / 1e3 / (double)done);
}

/* ---- transports ---- */

static void answer(struct ferry_transport *transport, struct evbuffer *input, void *first)
{
	if (evbuffer_get_length(input) < MESSAGE)
		return;
	evbuffer_drain(input, MESSAGE);
	if (first != NULL)
		count_one();
	ferry_transport_write(transport, message, MESSAGE);
}

static const struct ferry_protocol trip_protocol = {.data_received = answer};

static void measure_transports(uint64_t count)
{
	struct ferry_transport *active[ACTIVE] = {NULL};

	wanted = TRIPS;
	for (uint64_t i = 0; i < count / 2; i++) {
		int fds[2];
		bench_pair(BENCH_UNIX, fds);
		struct ferry_transport *first = new_transport(fds[0]);
		ferry_transport_set_protocol(first, &trip_protocol, first);
		ferry_transport_set_protocol(new_transport(fds[1]), &trip_protocol, NULL);
		if (i < ACTIVE)
			active[i] = first;
	}
	event_base_loop(base, EVLOOP_NONBLOCK);
	uint64_t began = bench_cpu();
	for (int i = 0; i < ACTIVE; i++)
		ferry_transport_write(active[i], message, MESSAGE);
	event_base_dispatch(base);
	print_cost(began);
}

/* ---- descriptors ---- */

static uint64_t sent;
static int given;

static void fill(void *context)
{
	struct ferry_transport *transport = context;

	for (int i = 0; i < BURST && sent < wanted; i++, sent++)
		bench_need(ferry_transport_send_fd(transport, given, FERRY_FD_DUP) == 0 &&
		               ferry_transport_write(transport, "x", 1) == 0,
		           "send_fd");
	if (sent == wanted)
		ferry_transport_unregister_producer(transport);
}

static void take_fd(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport, (void)context;
	close(fd);
	count_one();
}

static void drop(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport, (void)context;
	evbuffer_drain(input, evbuffer_get_length(input));
}

static void measure_descriptors(uint64_t count)
{
	static const struct ferry_protocol taker = {.data_received = drop,
	                                            .file_descriptor_received = take_fd};
	static const struct ferry_producer_callbacks filler = {.resume_producing = fill};
	int fds[2];

	wanted = count;
	given = open("/dev/null", O_RDONLY | O_CLOEXEC);
	bench_pair(BENCH_UNIX, fds);
	struct ferry_transport *transport = new_transport(fds[0]);
	ferry_transport_set_protocol(new_transport(fds[1]), &taker, NULL);
	uint64_t began = bench_cpu();
	bench_need(
	    ferry_transport_register_producer(transport, &filler, transport, FERRY_PRODUCER_PULL) == 0,
	    "producer");
	event_base_dispatch(base);
	print_cost(began);
}

/* ---- messages ---- */

static void count_message(struct ferry_message_stream *stream, struct ferry_message *received,
                          void *context)
{
	(void)stream, (void)received, (void)context;
	count_one();
}

static struct ferry_message_stream *new_stream(int fd)
{
	static const struct ferry_message_callbacks callbacks = {.message_received = count_message};
	struct ferry_message_stream *stream = NULL;

	bench_need(ferry_message_stream_new(&stream, new_transport(fd), &callbacks, NULL) == 0,
	           "stream");
	return stream;
}

static void measure_messages(uint64_t count)
{
	int fds[2];

	bench_pair(BENCH_UNIX, fds);
	struct ferry_message_stream *stream = new_stream(fds[0]);
	new_stream(fds[1]);
	event_base_loop(base, EVLOOP_NONBLOCK);
	uint64_t began = bench_cpu();
	while (done < MESSAGES) {
		for (uint64_t i = 0; i < count; i++)
			bench_need(ferry_message_stream_send(stream, 1, message, sizeof(message), NULL, 0,
			                                     FERRY_FD_TAKE) == 0,
			           "send");
		wanted += count;
		event_base_dispatch(base);
	}
	print_cost(began);
}

/* ---- the same without ferry ---- */

static void count_frames(struct bufferevent *bev, void *context)
{
	(void)context;
	struct evbuffer *input = bufferevent_get_input(bev);

	for (; evbuffer_get_length(input) >= FRAME; count_one())
		evbuffer_drain(input, FRAME);
}

static struct bufferevent *new_bufferevent(int fd)
{
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);

	bench_need(bev != NULL, "bufferevent");
	bufferevent_setcb(bev, count_frames, NULL, NULL, NULL);
	bench_need(bufferevent_enable(bev, EV_READ | EV_WRITE) == 0, "enable");
	return bev;
}

static void measure_buffered(uint64_t count)
{
	static const char frame[FRAME];
	int fds[2];

	bench_pair(BENCH_UNIX, fds);
	struct bufferevent *bev = new_bufferevent(fds[0]);
	new_bufferevent(fds[1]);
	event_base_loop(base, EVLOOP_NONBLOCK);
	uint64_t began = bench_cpu();
	while (done < MESSAGES) {
		for (uint64_t i = 0; i < count; i++)
			bench_need(bufferevent_write(bev, frame, sizeof(frame)) == 0, "write");
		wanted += count;
		event_base_dispatch(base);
	}
	print_cost(began);
}

int main(int argc, char **argv)
{
	static const char *const what[] = {"transports", "descriptors", "messages", "buffered", NULL};

	if (argc != 3) {
		fprintf(stderr, "usage: %s transports|descriptors|messages|buffered N\n", argv[0]);
		return 2;
	}
	int measured = bench_choice(argv[1], what);
	uint64_t count = bench_number(argv[2]);
	bench_raise_fd_limit();
	base = event_base_new();
	bench_need(base != NULL, "event_base_new");
	if (measured == 0)
		measure_transports(count < ACTIVE * 2 ? ACTIVE * 2 : count);
	else if (measured == 1)
		measure_descriptors(count);
	else if (measured == 2)
		measure_messages(count);
	else
		measure_buffered(count);
	return 0;
}
