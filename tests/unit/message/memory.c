/* Messages and the heap: the memory of a message, and every allocation made to fail in turn. */

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "heap.h"
#include "heap_sweep.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { MANY = 1000, BURST = 40, LARGE = 100000 };

struct end {
	struct ferry_message_stream *stream;
	unsigned int count, fds, lost;
	int reason;
};
static struct end near, far;

static void on_message(struct ferry_message_stream *stream, struct ferry_message *message,
                       void *context)
{
	(void)stream;
	struct end *end = context;
	end->count++;
	end->fds += (unsigned int)ferry_message_get_fd_count(message);
	end->fds -= (unsigned int)ferry_message_get_fds_lost(message);
}

static void on_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	struct end *end = context;
	end->lost++;
	end->reason = reason;
	end->stream = NULL;
	ferry_message_stream_free(stream);
}

static const struct ferry_message_callbacks callbacks = {.message_received = on_message,
                                                         .connection_lost = on_lost};

/* ---- how much ---- */

static void open_end(struct end *end, int fd)
{
	ck_assert_int_eq(ferry_message_stream_new(&end->stream, make_transport(fd), &callbacks, end),
	                 0);
}

/* _i: with descriptors */
LOOP_TEST(a_small_message_takes_no_memory_but_its_share_of_the_buffers, 2)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	open_end(&near, ends[0]);
	open_end(&far, ends[1]);
	unsigned long allocations = 0;
	for (unsigned int i = 0; i < 2 * MANY; i++) {
		if (i == MANY) /* the first half warms up */
			heap_watch(0);
		must(ferry_message_stream_send(near.stream, 1, "0123456789", 10, &(int){STDERR_FILENO},
		                               (size_t)_i, FERRY_FD_DUP) == 0);
		if (i % 20 == 19)
			while (far.count <= i)
				event_base_loop(base, EVLOOP_ONCE);
	}
	allocations = heap_unwatch();
	printf("%d descriptors: %.2f allocations a message\n", _i, (double)allocations / MANY);
	/* The allocations are chains of the two evbuffers. A read ends before the next descriptor, and a chain
	 * then has fewer messages. */
	ck_assert_uint_le(allocations, _i == 0 ? MANY / 2 : MANY * 2);
	ferry_message_stream_free(near.stream);
	ferry_message_stream_free(far.stream);
}

/* ---- none ---- */

static int failure; /* of a call */

static void note(int status)
{
	if (failure == 0)
		failure = status;
}

static bool start(struct end *end, struct event_base *loop, int fd)
{
	struct ferry_transport *transport = NULL;
	int status = sweep_make_transport(&transport, loop, fd);
	if (status == 0)
		status = ferry_message_stream_new(&end->stream, transport, &callbacks, end);
	if (status != 0)
		ferry_transport_free(transport);
	note(status);
	return status == 0;
}

static int waiting; /* callbacks of ferry_message_stream_notify_sent() */

static void on_sent(struct ferry_message_stream *stream, int status, void *context)
{
	(void)stream, (void)status, (void)context;
	waiting--;
}

static void notify_sent(void)
{
	int status = ferry_message_stream_notify_sent(near.stream, on_sent, NULL);

	waiting += status == 0;
	note(status);
}

/* A payload that is an evbuffer stays in it if the message is refused. */
static void send_buffer(void)
{
	struct evbuffer *buffer = evbuffer_new();
	static const char payload[LARGE];

	if (buffer != NULL && near.stream != NULL && evbuffer_add(buffer, payload, LARGE) == 0) {
		int status = ferry_message_stream_send_buffer(near.stream, 1, buffer, NULL, 0, 0);
		note(status);
		must(evbuffer_get_length(buffer) == (status == 0 ? 0 : LARGE));
	} else {
		note(-ENOMEM);
	}
	if (buffer != NULL)
		evbuffer_free(buffer);
}

static void send_one(size_t length, size_t fd_count, enum ferry_fd_ownership ownership)
{
	static char payload[LARGE];
	int fds[BURST];
	if (near.stream == NULL)
		return;
	for (size_t i = 0; i < fd_count; i++)
		fds[i] = dup(STDERR_FILENO);
	struct ferry_transport *transport = ferry_message_stream_get_transport(near.stream);
	struct ferry_transport_stats before, after;
	ferry_transport_get_stats(transport, &before);
	int status =
	    ferry_message_stream_send(near.stream, 1, payload, length, fds, fd_count, ownership);
	note(status);
	ferry_transport_get_stats(transport, &after);
	must(status == 0 ||
	     (after.fds_queued == before.fds_queued && after.bytes_queued == before.bytes_queued));
	if (status == 0)
		notify_sent();
	for (size_t i = 0; i < fd_count; i++)
		if (status != 0 || ownership == FERRY_FD_DUP)
			must(close(fds[i]) == 0);
}

static void run_scenario(struct event_base *loop)
{
	int ends[2];
	near = far = (struct end){0};
	failure = waiting = 0;
	heap_suspend();
	make_pair(PAIR_UNIX, ends);
	heap_continue();
	bool near_started = start(&near, loop, ends[0]);
	bool far_started = start(&far, loop, ends[1]);
	if (far_started)
		ferry_message_stream_set_fd_reserve(far.stream, 50);
	if (near_started) {
		send_one(10, 0, FERRY_FD_DUP);
		send_one(0, 1, FERRY_FD_DUP);
		send_one(LARGE, BURST, FERRY_FD_DUP);
		send_one(10, BURST, FERRY_FD_TAKE);
		send_buffer();
		if (near.stream != NULL)
			ferry_transport_lose_connection(ferry_message_stream_get_transport(near.stream));
	}
	/* The loop recovers in far fewer turns. */
	for (int i = 0; i < 300 && near_started && far_started && near.lost + far.lost < 2; i++)
		event_base_loop(loop, EVLOOP_ONCE);
	ferry_message_stream_free(near.stream);
	ferry_message_stream_free(far.stream);
	must(waiting == 0); /* each has run, and once */
}

static void judge(unsigned long failing)
{
	if (failing == 0) {
		ck_assert_int_eq(failure, 0);
		ck_assert_uint_eq(far.count, 5);
	}
	bool complete = far.count == 5 && far.fds == 1 + 2 * BURST && far.reason == 0;
	ck_assert_msg(complete || failure < 0 || near.reason < 0 || far.reason < 0,
	              "allocation %lu: what did not get through is not told: %u messages", failing,
	              far.count);
}

TEST(every_allocation_may_fail)
{
	sweep_scenario(run_scenario, judge, 10);
}

BEFORE_ALL
{
	heap_take_over();
}
