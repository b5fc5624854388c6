/* Numbered lines in both directions. */

#include "soak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ferry/ferry.h"
#include "recorder.h"

enum { PAIRS = 4, LONGEST = 16000 };

struct end {
	struct ferry_line_stream *stream;
	uint64_t sent, received;
	unsigned int made, read_lost, lost;
	int reason;
};

static struct end ends[PAIRS][2];

/* No byte of a line is the delimiter. */
static char line_byte(uint64_t position)
{
	return (char)('!' + support_byte(position) % 90);
}

static void on_made(struct ferry_line_stream *stream, void *context)
{
	struct end *end = context;

	ck_assert_ptr_eq(stream, end->stream);
	ck_assert_uint_eq(end->made++ + end->received, 0);
}

static void on_line(struct ferry_line_stream *stream, const char *line, size_t length,
                    void *context)
{
	struct end *end = context;
	char head[32];
	size_t start = (size_t)snprintf(head, sizeof(head), "%llu %zu ",
	                                (unsigned long long)end->received, length);

	ck_assert_ptr_eq(stream, end->stream);
	ck_assert_uint_eq(end->made, 1);
	ck_assert_uint_eq(end->lost, 0);
	ck_assert_uint_ge(length, start);
	ck_assert_int_eq(memcmp(line, head, start), 0);
	for (size_t i = start; i < length; i++)
		if (line[i] != line_byte(end->received + i))
			ck_abort_msg("another byte at %zu of line %llu", i, (unsigned long long)end->received);
	end->received++;
	soak_totals.lines++;
	soak_totals.bytes += length;
}

static void on_read_lost(struct ferry_line_stream *stream, void *context)
{
	struct end *end = context;

	ck_assert_ptr_eq(stream, end->stream);
	ck_assert_uint_eq(end->read_lost++ + end->lost, 0);
}

static void on_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	struct end *end = context;

	ck_assert_ptr_eq(stream, end->stream);
	ck_assert_uint_eq(end->lost++, 0);
	end->reason = reason;
}

static const struct ferry_line_callbacks callbacks = {.connection_made = on_made,
                                                      .line_received = on_line,
                                                      .read_connection_lost = on_read_lost,
                                                      .connection_lost = on_lost};

static void send_line(struct end *end)
{
	static char line[LONGEST];
	size_t length = 40 + support_random_below(one_in(10) ? LONGEST - 40 : 200);
	size_t start =
	    (size_t)snprintf(line, sizeof(line), "%llu %zu ", (unsigned long long)end->sent, length);

	for (size_t i = start; i < length; i++)
		line[i] = line_byte(end->sent + i);
	ck_assert_int_eq(ferry_line_stream_send(end->stream, line, length), 0);
	end->sent++;
}

static void step(void)
{
	struct end *end = &ends[support_random_below(PAIRS)][support_random_below(2)];
	struct ferry_transport *transport = ferry_line_stream_get_transport(end->stream);

	switch (support_random_below(8)) {
	case 0:
		ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
		break;
	case 1:
	case 2:
		ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
		break;
	default:
		send_line(end);
	}
}

static void open_all(void)
{
	int fds[2];

	for (int i = 0; i < PAIRS; i++) {
		make_pair(i % 2 == 0 ? PAIR_UNIX : PAIR_TCP, fds);
		for (int n = 0; n < 2; n++) {
			struct end *end = &ends[i][n];
			*end = (struct end){.stream = NULL};
			ck_assert_int_eq(
			    ferry_line_stream_new(&end->stream, make_transport(fds[n]), &callbacks, end), 0);
		}
	}
}

static bool both_are_lost(void *argument)
{
	const struct end *pair = argument;

	return pair[0].lost == 1 && pair[1].lost == 1;
}

static void close_all_lines(void)
{
	for (int i = 0; i < PAIRS; i++) {
		for (int n = 0; n < 2; n++) {
			struct ferry_transport *transport = ferry_line_stream_get_transport(ends[i][n].stream);
			ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
			ck_assert_int_eq(ferry_transport_lose_write_connection(transport), 0);
		}
		pump_until(both_are_lost, ends[i]);
		for (int n = 0; n < 2; n++) {
			ck_assert_int_eq(ends[i][n].reason, 0);
			ck_assert_uint_eq(ends[i][n].read_lost, 1);
			ck_assert_uint_eq(ends[i][n].received, ends[i][!n].sent);
			ferry_line_stream_free(ends[i][n].stream);
		}
	}
}

static void rest(void)
{
	close_all_lines();
	open_all();
}

const struct soak_part soak_lines = {"lines", 10, open_all, step, rest, close_all_lines};
