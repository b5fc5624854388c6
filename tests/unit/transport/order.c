/* Bytes, descriptors and files leave in the order of the calls: a descriptor no later than the byte
 * written after it, never before the bytes written before it. Judged by bare recvmsg(2) calls. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

/* All descriptors are in this process at once: with the files they fit under a limit of 1024. */
enum { MAX_STREAM = 4 << 20, MAX_MARKS = 900, CHUNKS = 1000, FILES = 20 };

/* The bytes and descriptors that the receiver must get. */
static struct {
	unsigned char *bytes;
	size_t length;
	uint64_t marks[MAX_MARKS]; /* the byte that each descriptor travels with */
	size_t mark_count;
} stream;

/* The receiver's position: the part of `stream` that it has got. */
static struct {
	uint64_t position;
	size_t next_mark;
	bool may_be_early; /* coalescing */
	int end;           /* 0 or negative errno once there is no more */
	bool ended;
} seen;

static int ends[2];
static unsigned int finished_files;

static void start_stream(void)
{
	memset(&stream, 0, sizeof(stream));
	memset(&seen, 0, sizeof(seen));
	stream.bytes = malloc(MAX_STREAM);
	ck_assert_ptr_nonnull(stream.bytes);
	finished_files = 0;
}

static void expect_stream_bytes(const void *bytes, size_t length)
{
	ck_assert_uint_le(stream.length + length, MAX_STREAM);
	memcpy(stream.bytes + stream.length, bytes, length);
	stream.length += length;
}

static void expect_file_bytes(uint64_t offset, uint64_t length)
{
	for (uint64_t i = 0; i < length; i++) {
		unsigned char byte = support_byte(offset + i);
		expect_stream_bytes(&byte, 1);
	}
}

/* ---- sending ---- */

static void send_bytes(struct ferry_transport *transport, const void *bytes, size_t length)
{
	/* All three are the same thing. */
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	switch (support_random_below(4)) {
	case 0:
		ck_assert_int_eq(bufferevent_write(bev, bytes, length), 0);
		break;
	case 1:
		ck_assert_int_eq(evbuffer_add(bufferevent_get_output(bev), bytes, length), 0);
		break;
	case 2: {
		struct evbuffer *buffer = evbuffer_new();
		evbuffer_add(buffer, bytes, length);
		ck_assert_int_eq(ferry_transport_write_buffer(transport, buffer), 0);
		ck_assert_uint_eq(evbuffer_get_length(buffer), 0);
		evbuffer_free(buffer);
		break;
	}
	default:
		ck_assert_int_eq(ferry_transport_write(transport, bytes, length), 0);
	}
	expect_stream_bytes(bytes, length);
}

static void send_text(struct ferry_transport *transport, const char *text)
{
	send_bytes(transport, text, strlen(text));
}

/* The descriptor's number is its place among all. */
static void send_mark(struct ferry_transport *transport)
{
	int fd = make_marked_fd((uint32_t)stream.mark_count);
	if (support_random_below(2) == 0) {
		ck_assert_int_eq(ferry_transport_send_fd(transport, fd, FERRY_FD_TAKE), 0);
	} else {
		ck_assert_int_eq(ferry_transport_send_fd(transport, fd, FERRY_FD_DUP), 0);
		close(fd);
	}
	stream.marks[stream.mark_count++] = stream.length;
}

static void file_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                          void *context)
{
	(void)producer;
	(void)context;
	ck_assert_int_eq(status, 0);
	ck_assert_uint_le(sent, MAX_STREAM);
	finished_files++;
}

static const struct ferry_file_callbacks file_callbacks = {.finished = file_finished};

static void send_file(struct ferry_transport *transport, uint64_t size, uint64_t offset,
                      uint64_t length)
{
	int fd = make_file(size);
	ck_assert_int_eq(ferry_transport_send_file(NULL, transport, fd, FERRY_FD_TAKE, (int64_t)offset,
	                                           (int64_t)length, 0, &file_callbacks, NULL),
	                 0);
	expect_file_bytes(offset, length);
}

static void send_random_bytes(struct ferry_transport *transport)
{
	unsigned char bytes[200];
	size_t length = 1 + support_random_below(sizeof(bytes));
	for (size_t i = 0; i < length; i++)
		bytes[i] = (unsigned char)support_random();
	send_bytes(transport, bytes, length);
}

static void send_random_range(struct ferry_transport *transport, uint32_t bound)
{
	uint32_t size = support_random_below(bound);
	uint32_t offset = support_random_below(size + 1);
	uint32_t length = support_random_below(4) == 0 ? 0 : support_random_below(size - offset + 1);
	send_file(transport, size, offset, length);
}

/* 1,000 chunks, 900 descriptors and 20 files in an order that the seed decides, and one last byte
 * for the descriptors at the end. */
static void send_all_in_random_order(struct ferry_transport *transport, uint32_t file_bound)
{
	unsigned int chunks = CHUNKS, marks = MAX_MARKS, files = FILES;
	while (chunks + marks + files > 0) {
		uint32_t pick = support_random_below(chunks + marks + files);
		if (pick < chunks) {
			send_random_bytes(transport);
			chunks--;
		} else if (pick < chunks + marks) {
			send_mark(transport);
			marks--;
		} else {
			send_random_range(transport, file_bound);
			files--;
		}
	}
	send_text(transport, ".");
}

/* ---- receiving ---- */

static void check_descriptors(const struct wire_read *result, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < result->fd_count; i++, seen.next_mark++) {
		ck_assert_uint_lt(seen.next_mark, stream.mark_count);
		ck_assert_uint_eq(marked_number(result->fds[i]), seen.next_mark);
		uint64_t mark = stream.marks[seen.next_mark];
		ck_assert_msg(start <= mark, "descriptor %zu came after its byte: %llu in %llu..%llu",
		              seen.next_mark, (unsigned long long)mark, (unsigned long long)start,
		              (unsigned long long)end);
		ck_assert_msg(mark < end || seen.may_be_early,
		              "descriptor %zu overtook bytes: %llu in %llu..%llu", seen.next_mark,
		              (unsigned long long)mark, (unsigned long long)start, (unsigned long long)end);
	}
	if (seen.next_mark < stream.mark_count && stream.marks[seen.next_mark] < end)
		ck_abort_msg("byte %llu came without descriptor %zu",
		             (unsigned long long)stream.marks[seen.next_mark], seen.next_mark);
}

/* One read; whether there was anything. */
static bool receive(size_t size)
{
	static unsigned char buffer[1 << 20];
	struct wire_read result;
	wire_receive(ends[1], buffer, size, &result);
	if (result.bytes == -EAGAIN)
		return false;
	if (result.bytes <= 0) {
		seen.end = (int)result.bytes;
		seen.ended = true;
		return false;
	}
	uint64_t start = seen.position, end = start + (uint64_t)result.bytes;
	/* check writes down each assertion that it passes: too much for single bytes. */
	if (result.truncated || end > stream.length ||
	    memcmp(buffer, stream.bytes + start, (size_t)result.bytes) != 0)
		ck_abort_msg("other bytes than expected at %llu..%llu", (unsigned long long)start,
		             (unsigned long long)end);
	check_descriptors(&result, start, end);
	seen.position = end;
	wire_close_fds(&result);
	return true;
}

/* Lets the sender work and reads now more, now less, until the end of the stream. `size` 0: any. */
static void receive_all(size_t size)
{
	while (!seen.ended) {
		pump_turns(1);
		uint32_t reads = 1 + support_random_below(size == 1 ? 2000 : 20);
		while (reads-- > 0 &&
		       receive(size != 0 ? size : 1 + support_random_below(1U << support_random_below(20))))
			;
	}
	ck_assert_int_eq(seen.end, 0);
	ck_assert_uint_eq(seen.position, stream.length);
	ck_assert_uint_eq(seen.next_mark, stream.mark_count);
}

/* ---- the cases ---- */

static struct recorder sender;

static void open_sender(void)
{
	make_pair(PAIR_UNIX, ends);
	start_stream();
	recorder_open(&sender, ends[0], &recorder_protocol);
	ck_assert_int_eq(ferry_transport_set_fd_buffer(sender.transport, 64, 4096), 0);
}

static void close_all(void)
{
	recorder_close(&sender);
	close(ends[1]);
	free(stream.bytes);
}

static void end_stream(size_t read_size)
{
	ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
	receive_all(read_size);
	pump_until_lost(&sender);
	ck_assert_int_eq(sender.reason, 0);
}

static void fill_first(void)
{
	size_t filled = wire_fill(ends[0]);
	expect_file_bytes(0, filled);
}

static void check_counters(void)
{
	struct ferry_transport_stats stats = stats_of(sender.transport);
	ck_assert_uint_eq(stats.fds_sent, stream.mark_count);
	ck_assert_uint_eq(stats.fds_unsent, 0);
	ck_assert_uint_eq(stats.files_sent, finished_files);
	ck_assert_uint_eq(stats.bytes_queued, 0);
	ck_assert_uint_eq(stats.fds_queued, 0);
	ck_assert_uint_eq(stats.files_queued, 0);
}

TEST_CASE("900 descriptors, 1,000 chunks, 20 files");

TEST(everything_queued_on_a_full_socket_arrives_in_order)
{
	raise_descriptor_limit();
	open_sender();
	fill_first();
	size_t filled = stream.length;
	send_all_in_random_order(sender.transport, 50000);
	ck_assert_uint_eq(stats_of(sender.transport).fds_queued, MAX_MARKS);
	ck_assert_uint_eq(stats_of(sender.transport).files_queued, FILES);

	end_stream(0);

	check_counters();
	ck_assert_uint_eq(finished_files, FILES);
	ck_assert_uint_eq(stats_of(sender.transport).bytes_sent, stream.length - filled);
	close_all();
}

TEST(the_order_holds_with_the_smallest_buffer_and_a_reader_of_single_bytes)
{
	raise_descriptor_limit();
	open_sender();
	wire_shrink(ends[0]);
	fill_first();
	send_all_in_random_order(sender.transport, 5000);

	end_stream(1);

	check_counters();
	ck_assert_uint_eq(finished_files, FILES);
	close_all();
}

LOOP_TEST(the_order_holds_when_the_loop_runs_between_the_calls, 10)
{
	open_sender();
	for (int i = 0; i < 400; i++) {
		switch (support_random_below(8)) {
		case 0:
			send_random_range(sender.transport, 20000);
			break;
		case 1:
		case 2:
			send_mark(sender.transport);
			break;
		default:
			send_random_bytes(sender.transport);
		}
		if (support_random_below(3) == 0)
			pump_turns(1);
		if (support_random_below(3) == 0)
			receive(1 + support_random_below(10000));
	}
	send_text(sender.transport, ".");

	end_stream(0);

	check_counters();
	close_all();
}

LOOP_TEST(coalesced_descriptors_are_never_later_than_their_byte, 2)
{
	raise_descriptor_limit();
	open_sender();
	ck_assert_int_eq(ferry_transport_set_fd_coalescing(sender.transport, true), 0);
	seen.may_be_early = true;
	fill_first();
	send_all_in_random_order(sender.transport, 50000);

	end_stream(_i == 0 ? 0 : 1);

	check_counters();
	close_all();
}

/* The receiving transport's side of the promise, in its callbacks. */
static void check_receiver(struct recorder *receiver, char event)
{
	static unsigned int fds_at_last_data;
	size_t length = recorder_length(receiver);
	if (event == EVENT_FD) {
		unsigned int number = receiver->fd_count - 1;
		ck_assert_uint_eq(marked_number(receiver->fds[number]), number);
		ck_assert_uint_le(length, stream.marks[number]);
	} else if (event == EVENT_DATA) {
		for (; fds_at_last_data < receiver->fd_count; fds_at_last_data++)
			ck_assert_uint_gt(length, stream.marks[fds_at_last_data]);
		if (receiver->fd_count < stream.mark_count)
			ck_assert_uint_le(length, stream.marks[receiver->fd_count]);
	}
}

LOOP_TEST(a_receiving_transport_gets_everything_in_order, 2)
{
	raise_descriptor_limit();
	open_sender();
	if (_i == 1)
		wire_shrink(ends[0]);
	fill_first();
	send_all_in_random_order(sender.transport, 50000);
	struct recorder receiver;
	recorder_open(&receiver, ends[1], &recorder_no_half_close);
	receiver.close_fds = true;
	receiver.hook = check_receiver;
	ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);

	pump_until_lost(&receiver);
	pump_until_lost(&sender);

	ck_assert_int_eq(receiver.reason, 0);
	ck_assert_uint_eq(receiver.fd_count, stream.mark_count);
	ck_assert_uint_eq(recorder_length(&receiver), stream.length);
	ck_assert_mem_eq(evbuffer_pullup(receiver.received, -1), stream.bytes, stream.length);
	check_counters();
	struct ferry_transport_stats stats = stats_of(receiver.transport);
	ck_assert_uint_eq(stats.bytes_received, stream.length);
	ck_assert_uint_eq(stats.fds_received, stream.mark_count);
	ck_assert_uint_eq(stats.fds_unclaimed, 0);
	recorder_close(&receiver);
	recorder_close(&sender);
	free(stream.bytes);
}

/* ---- one position ---- */

TEST_CASE("one position");

TEST(descriptors_at_one_position_come_in_one_message)
{
	open_sender();
	send_text(sender.transport, "before");
	for (int i = 0; i < 64; i++)
		send_mark(sender.transport);
	send_text(sender.transport, "after");

	pump_turns(2);

	while (seen.next_mark == 0)
		ck_assert(receive(4096));
	ck_assert_uint_eq(seen.next_mark, 64);
	end_stream(0);
	close_all();
}

TEST(descriptors_of_two_positions_come_in_two_messages)
{
	open_sender();
	send_mark(sender.transport);
	send_text(sender.transport, "A");
	send_mark(sender.transport);
	send_text(sender.transport, "B");

	pump_turns(3);

	ck_assert(receive(4096));
	ck_assert_uint_eq(seen.next_mark, 1);
	ck_assert_uint_eq(seen.position, 1);
	end_stream(0);
	close_all();
}

LOOP_TEST(a_descriptor_before_a_file_is_carried_by_its_first_byte, 3)
{
	open_sender();
	send_text(sender.transport, "header");
	send_mark(sender.transport);
	send_file(sender.transport, 30000, 0, 30000);

	end_stream((size_t)_i);

	check_counters();
	close_all();
}

LOOP_TEST_FROM(a_descriptor_with_nothing_but_a_file_after_it_is_sent, 1, 4)
{
	open_sender();
	send_mark(sender.transport);
	send_file(sender.transport, (uint64_t)_i, 0, (uint64_t)_i);

	end_stream(0);

	check_counters();
	close_all();
}

TEST(a_descriptor_before_an_empty_file_is_carried_by_the_next_byte)
{
	open_sender();
	send_text(sender.transport, "header");
	send_mark(sender.transport);
	send_file(sender.transport, 0, 0, 0);
	send_text(sender.transport, "trailer");

	end_stream(1);

	check_counters();
	ck_assert_uint_eq(finished_files, 1);
	close_all();
}

LOOP_TEST(an_empty_file_between_two_descriptors_does_not_part_them, 2)
{
	open_sender();
	send_text(sender.transport, "header");
	send_mark(sender.transport);
	send_file(sender.transport, 100, 100, 0);
	send_mark(sender.transport);
	send_file(sender.transport, 0, 0, 0);
	if (_i == 0)
		send_text(sender.transport, "trailer");
	else
		send_file(sender.transport, 100, 0, 100);

	end_stream(1);

	check_counters();
	close_all();
}

LOOP_TEST(a_descriptor_between_two_files_is_carried_by_the_second, 2)
{
	open_sender();
	send_file(sender.transport, 5000, 0, 5000);
	send_mark(sender.transport);
	send_file(sender.transport, 5000, 1000, 4000);
	send_mark(sender.transport);
	send_text(sender.transport, ".");

	end_stream((size_t)_i);

	check_counters();
	close_all();
}

static int last_status;

static void note_status(struct ferry_file_producer *producer, int status, uint64_t sent,
                        void *context)
{
	(void)producer;
	(void)sent;
	(void)context;
	last_status = status;
	finished_files++;
}

TEST(a_descriptor_before_a_file_that_is_stopped_is_carried_by_the_next_byte)
{
	static const struct ferry_file_callbacks callbacks = {.finished = note_status};
	open_sender();
	send_text(sender.transport, "header");
	send_mark(sender.transport);
	struct ferry_file_producer *producer;
	ck_assert_int_eq(ferry_transport_send_file(&producer, sender.transport, make_file(5000),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, &callbacks, NULL),
	                 0);
	send_mark(sender.transport);
	send_text(sender.transport, "trailer");

	ferry_file_producer_stop(producer);
	end_stream(1);

	ck_assert_uint_eq(finished_files, 1);
	ck_assert_int_eq(last_status, -ECANCELED);
	ck_assert_uint_eq(stats_of(sender.transport).fds_sent, 2);
	close_all();
}

TEST(a_descriptor_before_a_file_that_turns_out_empty_is_carried_by_the_next_byte)
{
	static const struct ferry_file_callbacks callbacks = {.finished = note_status};
	open_sender();
	send_text(sender.transport, "header");
	send_mark(sender.transport);
	int fd = make_file(5000);
	ck_assert_int_eq(ferry_transport_send_file(NULL, sender.transport, fd, FERRY_FD_DUP, 0,
	                                           FERRY_TO_END, 0, &callbacks, NULL),
	                 0);
	send_mark(sender.transport);
	send_text(sender.transport, "trailer");

	ck_assert_int_eq(ftruncate(fd, 0), 0);
	end_stream(1);

	ck_assert_uint_eq(finished_files, 1);
	ck_assert_int_eq(last_status, -EIO);
	ck_assert_uint_eq(stats_of(sender.transport).fds_sent, 2);
	close(fd);
	close_all();
}

TEST(a_descriptor_before_a_paused_file_waits_for_it)
{
	open_sender();
	send_text(sender.transport, "header");
	send_mark(sender.transport);
	struct ferry_file_producer *producer;
	ck_assert_int_eq(ferry_transport_send_file(&producer, sender.transport, make_file(5000),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, &file_callbacks,
	                                           NULL),
	                 0);
	ferry_file_producer_pause(producer);
	expect_file_bytes(0, 5000);
	send_mark(sender.transport);
	send_text(sender.transport, "trailer");

	pump_turns(10);
	ck_assert(receive(4096));
	ck_assert_uint_eq(seen.position, strlen("header"));
	ck_assert(!receive(4096));
	ferry_file_producer_resume(producer);
	end_stream(1);

	check_counters();
	close_all();
}

TEST(with_one_descriptor_per_message_each_position_takes_one)
{
	open_sender();
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(sender.transport, 1), 0);
	for (int i = 0; i < 20; i++) {
		send_mark(sender.transport);
		ck_assert_int_eq(ferry_transport_send_fd(sender.transport, STDERR_FILENO, FERRY_FD_DUP),
		                 -ENOBUFS);
		send_random_bytes(sender.transport);
	}

	end_stream(0);

	check_counters();
	close_all();
}
