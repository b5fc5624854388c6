/* Messages with descriptors, numbered in each direction. */

#include "soak.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ferry/ferry.h"
#include "recorder.h"
#include "wire.h"

enum { PAIRS = 3, LONGEST = 200 * 1024, MANY = 60, FDS_MAX = 64 };
enum { HEAD = 16 }; /* the number and the count of descriptors, 8 bytes each */

struct end {
	struct ferry_message_stream *stream;
	struct end *peer;
	uint64_t sent, received;
	uint64_t fds_sent, fds_received;
	unsigned int made, lost;
	int reason;
};

static struct end ends[PAIRS][2];
static unsigned char payload[LONGEST];

static uint32_t mark_of(uint64_t number, size_t index)
{
	return (uint32_t)(number * FDS_MAX + index);
}

static void on_made(struct ferry_message_stream *stream, void *context)
{
	struct end *end = context;

	ck_assert_ptr_eq(stream, end->stream);
	ck_assert_uint_eq(end->made++ + end->received, 0);
}

static void check_fds(struct end *end, struct ferry_message *message, uint64_t count)
{
	ck_assert_uint_eq(ferry_message_get_fd_count(message), count);
	ck_assert_uint_eq(ferry_message_get_fds_lost(message), 0);
	for (size_t i = 0; i < count; i++) {
		int fd = ferry_message_get_fd(message, i);
		ck_assert_uint_eq(marked_number(fd), mark_of(end->received, i));
		if (i % 2 == 0) /* the stream closes the others */
			close(ferry_message_steal_fd(message, i));
	}
	end->fds_received += count;
	soak_totals.descriptors += count;
}

static void on_message(struct ferry_message_stream *stream, struct ferry_message *message,
                       void *context)
{
	struct end *end = context;
	size_t length;
	const unsigned char *bytes = ferry_message_get_payload(message, &length);
	uint64_t head[2];

	ck_assert_ptr_eq(stream, end->stream);
	ck_assert_uint_eq(end->made, 1);
	ck_assert_uint_eq(end->lost, 0);
	ck_assert_uint_ge(length, HEAD);
	memcpy(head, bytes, HEAD);
	ck_assert_uint_eq(head[0], end->received);
	ck_assert_uint_eq(ferry_message_get_type(message), (uint16_t)end->received);
	for (size_t i = HEAD; i < length; i++)
		if (bytes[i] != support_byte(end->received + i))
			ck_abort_msg("another byte at %zu of message %llu", i,
			             (unsigned long long)end->received);
	check_fds(end, message, head[1]);
	end->received++;
	soak_totals.messages++;
	soak_totals.bytes += length;
}

static void on_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	struct end *end = context;

	ck_assert_ptr_eq(stream, end->stream);
	ck_assert_uint_eq(end->lost++, 0);
	end->reason = reason;
}

static const struct ferry_message_callbacks callbacks = {
    .connection_made = on_made, .message_received = on_message, .connection_lost = on_lost};

static void send_message(struct end *end)
{
	size_t length = HEAD + support_random_below(one_in(20) ? LONGEST - HEAD : 2000);
	uint64_t count = one_in(30) ? MANY : one_in(2) ? 0 : support_random_below(5);
	int fds[FDS_MAX];

	if (end->fds_sent - end->peer->fds_received > FDS_MAX)
		count = 0;
	for (size_t i = 0; i < count; i++)
		fds[i] = make_marked_fd(mark_of(end->sent, i));
	memcpy(payload, (uint64_t[]){end->sent, count}, HEAD);
	for (size_t i = HEAD; i < length; i++)
		payload[i] = support_byte(end->sent + i);
	bool copy = one_in(2);
	ck_assert_int_eq(ferry_message_stream_send(end->stream, (uint16_t)end->sent, payload, length,
	                                           fds, count, copy ? FERRY_FD_DUP : FERRY_FD_TAKE),
	                 0);
	for (size_t i = 0; i < count && copy; i++)
		close(fds[i]);
	end->sent++;
	end->fds_sent += count;
}

static void step(void)
{
	struct end *end = &ends[support_random_below(PAIRS)][support_random_below(2)];
	struct ferry_transport *transport = ferry_message_stream_get_transport(end->stream);

	switch (support_random_below(8)) {
	case 0:
		ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
		break;
	case 1:
	case 2:
		ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
		break;
	default:
		send_message(end);
	}
}

static void open_all(void)
{
	int fds[2];

	for (int i = 0; i < PAIRS; i++) {
		make_pair(PAIR_UNIX, fds);
		for (int n = 0; n < 2; n++) {
			struct end *end = &ends[i][n];
			*end = (struct end){.peer = &ends[i][!n]};
			ck_assert_int_eq(
			    ferry_message_stream_new(&end->stream, make_transport(fds[n]), &callbacks, end), 0);
		}
	}
}

static bool all_have_arrived(void *argument)
{
	const struct end *pair = argument;

	return pair[0].received == pair[1].sent && pair[1].received == pair[0].sent;
}

static bool both_are_lost(void *argument)
{
	const struct end *pair = argument;

	return pair[0].lost == 1 && pair[1].lost == 1;
}

static void close_all_messages(void)
{
	for (int i = 0; i < PAIRS; i++) {
		for (int n = 0; n < 2; n++)
			ck_assert_int_eq(ferry_transport_resume_reading(
			                     ferry_message_stream_get_transport(ends[i][n].stream)),
			                 0);
		pump_until(all_have_arrived, ends[i]);
		ck_assert_int_eq(
		    ferry_transport_lose_connection(ferry_message_stream_get_transport(ends[i][0].stream)),
		    0);
		pump_until(both_are_lost, ends[i]);
		for (int n = 0; n < 2; n++) {
			ck_assert_int_eq(ends[i][n].reason, 0);
			ck_assert_uint_eq(ends[i][n].fds_received, ends[i][!n].fds_sent);
			ferry_message_stream_free(ends[i][n].stream);
		}
	}
}

static void rest(void)
{
	close_all_messages();
	open_all();
}

const struct soak_part soak_messages = {"messages", 15, open_all, step, rest, close_all_messages};
