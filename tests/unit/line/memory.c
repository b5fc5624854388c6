/* Lines and the heap: the memory of a line, and every allocation made to fail in turn. */

#include <stdio.h>
#include <string.h>

#include "heap.h"
#include "heap_sweep.h"
#include "recorder.h"
#include "test.h"

enum { MANY = 2000, LARGE = 100000, LONGEST = 150000, TOO_LONG = 200000 };

struct end {
	struct ferry_line_stream *stream;
	unsigned int lines, exceeded, incomplete, lost;
	size_t bytes;
	int reason;
};
static struct end near, far;

static void on_line(struct ferry_line_stream *stream, const char *line, size_t length,
                    void *context)
{
	(void)stream, (void)line;
	struct end *end = context;
	end->lines++;
	end->bytes += length;
}

static void on_exceeded(struct ferry_line_stream *stream, const char *beginning, size_t length,
                        void *context)
{
	(void)stream, (void)beginning, (void)length;
	struct end *end = context;
	end->exceeded++;
}

static void on_incomplete(struct ferry_line_stream *stream, const char *line, size_t length,
                          void *context)
{
	(void)stream, (void)line, (void)length;
	struct end *end = context;
	end->incomplete++;
}

static void on_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	struct end *end = context;
	end->lost++;
	end->reason = reason;
	end->stream = NULL;
	ferry_line_stream_free(stream);
}

static const struct ferry_line_callbacks callbacks = {.line_received = on_line,
                                                      .line_length_exceeded = on_exceeded,
                                                      .incomplete_line_received = on_incomplete,
                                                      .connection_lost = on_lost};

/* ---- how much ---- */

TEST(a_short_line_takes_no_memory_but_its_share_of_the_buffers)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	near = far = (struct end){0};
	ck_assert_int_eq(
	    ferry_line_stream_new(&near.stream, make_transport(ends[0]), &callbacks, &near), 0);
	ck_assert_int_eq(ferry_line_stream_new(&far.stream, make_transport(ends[1]), &callbacks, &far),
	                 0);
	for (unsigned int i = 0; i < 2 * MANY; i++) {
		if (i == MANY) /* the first half warms up */
			heap_watch(0);
		must(ferry_line_stream_send(near.stream, "0123456789", 10) == 0);
		if (i % 20 == 19)
			while (far.lines <= i)
				event_base_loop(base, EVLOOP_ONCE);
	}
	unsigned long allocations = heap_unwatch();
	printf("%.2f allocations a line\n", (double)allocations / MANY);
	ck_assert_uint_le(allocations, MANY / 4);
	ferry_line_stream_free(near.stream);
	ferry_line_stream_free(far.stream);
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
		status = ferry_line_stream_new(&end->stream, transport, &callbacks, end);
	if (status != 0)
		ferry_transport_free(transport);
	note(status);
	return status == 0;
}

static void send_line(size_t length)
{
	static char line[TOO_LONG];
	if (near.stream == NULL)
		return;
	memset(line, 'x', sizeof(line));
	struct ferry_transport *transport = ferry_line_stream_get_transport(near.stream);
	struct ferry_transport_stats before, after;
	ferry_transport_get_stats(transport, &before);
	int status = ferry_line_stream_send(near.stream, line, length);
	note(status);
	ferry_transport_get_stats(transport, &after);
	must(after.bytes_queued - before.bytes_queued == (status == 0 ? length + 1 : 0));
}

static void run_scenario(struct event_base *loop)
{
	int ends[2];
	near = far = (struct end){0};
	failure = 0;
	heap_suspend();
	make_pair(PAIR_UNIX, ends);
	heap_continue();
	bool near_started = start(&near, loop, ends[0]);
	bool far_started = start(&far, loop, ends[1]);
	if (far_started)
		ferry_line_stream_set_max_length(far.stream, LONGEST, FERRY_LINE_SKIP);
	if (near_started) {
		send_line(10);
		send_line(LARGE);
		send_line(TOO_LONG);
		send_line(0);
		struct ferry_transport *transport = ferry_line_stream_get_transport(near.stream);
		note(ferry_transport_write(transport, "last", 4));
		ferry_transport_lose_connection(transport);
	}
	/* The loop recovers in far fewer turns. */
	for (int i = 0; i < 300 && near_started && far_started && near.lost + far.lost < 2; i++)
		event_base_loop(loop, EVLOOP_ONCE);
	ferry_line_stream_free(near.stream);
	ferry_line_stream_free(far.stream);
}

static void judge(unsigned long failing)
{
	if (failing == 0) {
		ck_assert_int_eq(failure, 0);
		ck_assert_int_eq(far.reason, 0);
		ck_assert_uint_eq(far.lines, 3);
	}
	bool complete = far.lines == 3 && far.bytes == 10 + LARGE && far.exceeded == 1 &&
	                far.incomplete == 1 && far.reason == 0;
	ck_assert_msg(complete || failure < 0 || near.reason < 0 || far.reason < 0,
	              "allocation %lu: what did not get through is not told: %u lines", failing,
	              far.lines);
}

TEST(every_allocation_may_fail)
{
	sweep_scenario(run_scenario, judge, 10);
}

BEFORE_ALL
{
	heap_take_over();
}
