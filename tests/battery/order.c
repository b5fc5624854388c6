/* Bytes arrive as they were written: all, in order, once. */

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "carrier.h"

CASE(bytes_arrive, ON_ALL)
{
	struct end a, b;
	struct record at_b;
	make_ends(&a, &b, 0);
	record(&at_b, b.bev);
	bufferevent_enable(b.bev, EV_READ);

	write_pattern(a.bev, 0, 1000);
	pump_until_received(&at_b, 1000);

	free_end(&a);
	free_end(&b);
}

CASE(many_small_writes_of_one_turn_arrive_in_order, ON_ALL)
{
	struct end a, b;
	struct record at_b;
	make_ends(&a, &b, 0);
	record(&at_b, b.bev);
	bufferevent_enable(b.bev, EV_READ);

	uint64_t written = 0;
	for (int i = 0; i < 10000; i++) {
		size_t length = 1 + support_random_below(16);
		write_pattern(a.bev, written, length);
		written += length;
	}
	pump_until_received(&at_b, written);

	free_end(&a);
	free_end(&b);
}

CASE(writes_of_many_sizes_in_many_turns_arrive_in_order, ON_ALL)
{
	struct end a, b;
	struct record at_b;
	make_ends(&a, &b, 0);
	record(&at_b, b.bev);
	bufferevent_enable(b.bev, EV_READ);

	uint64_t written = 0;
	for (int i = 0; i < 500; i++) {
		size_t length =
		    support_random_below(2) ? support_random_below(100) : support_random_below(40000);
		write_pattern(a.bev, written, length);
		written += length;
		if (support_random_below(3) == 0)
			pump_turns(1);
	}
	pump_until_received(&at_b, written);

	free_end(&a);
	free_end(&b);
}

static void write_again(struct bufferevent *bev, void *argument)
{
	uint64_t *written = argument;
	if (*written < 1000000) {
		write_pattern(bev, *written, 1000);
		*written += 1000;
	}
}

CASE(writes_from_the_write_callback_arrive_in_order, ON_ALL)
{
	struct end a, b;
	struct record at_b;
	uint64_t written = 0;
	make_ends(&a, &b, 0);
	record(&at_b, b.bev);
	bufferevent_enable(b.bev, EV_READ);
	bufferevent_setcb(a.bev, NULL, write_again, NULL, &written);

	write_again(a.bev, &written);
	pump_until_received(&at_b, 1000000);

	free_end(&a);
	free_end(&b);
}

static struct evbuffer *pattern_buffer(uint64_t position, size_t length)
{
	struct evbuffer *buffer = evbuffer_new();
	ck_assert_ptr_nonnull(buffer);
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = support_byte(position + i);
		ck_assert_int_eq(evbuffer_add(buffer, &byte, 1), 0);
	}
	return buffer;
}

CASE(write_buffer_moves_the_bytes_into_their_place, ON_ALL)
{
	struct end a, b;
	struct record at_b;
	make_ends(&a, &b, 0);
	record(&at_b, b.bev);
	bufferevent_enable(b.bev, EV_READ);

	struct evbuffer *buffer = pattern_buffer(300, 50000);
	write_pattern(a.bev, 0, 300);
	ck_assert_int_eq(bufferevent_write_buffer(a.bev, buffer), 0);
	ck_assert_uint_eq(evbuffer_get_length(buffer), 0);
	write_pattern(a.bev, 50300, 300);
	pump_until_received(&at_b, 50600);

	evbuffer_free(buffer);
	free_end(&a);
	free_end(&b);
}

CASE(read_takes_bytes_from_the_front, ON_ALL)
{
	struct end a, b;
	struct record at_b;
	unsigned char bytes[100];
	make_ends(&a, &b, 0);
	record(&at_b, b.bev);
	at_b.keep = true;
	bufferevent_enable(b.bev, EV_READ);

	write_pattern(a.bev, 0, 150);
	pump_until_input(b.bev, 150);
	ck_assert_uint_eq(bufferevent_read(b.bev, bytes, sizeof(bytes)), 100);
	ck_assert(is_pattern(bytes, 0, 100));
	ck_assert_uint_eq(bufferevent_read(b.bev, bytes, sizeof(bytes)), 50);
	ck_assert(is_pattern(bytes, 100, 50));
	ck_assert_uint_eq(bufferevent_read(b.bev, bytes, sizeof(bytes)), 0);

	free_end(&a);
	free_end(&b);
}

CASE(read_buffer_moves_all_of_the_input, ON_ALL)
{
	struct end a, b;
	struct record at_b;
	make_ends(&a, &b, 0);
	record(&at_b, b.bev);
	at_b.keep = true;
	bufferevent_enable(b.bev, EV_READ);

	write_pattern(a.bev, 0, 5000);
	pump_until_input(b.bev, 5000);
	struct evbuffer *buffer = evbuffer_new();
	ck_assert_int_eq(bufferevent_read_buffer(b.bev, buffer), 0);
	ck_assert_uint_eq(input_length(b.bev), 0);
	ck_assert_uint_eq(evbuffer_get_length(buffer), 5000);
	ck_assert(is_pattern(evbuffer_pullup(buffer, -1), 0, 5000));

	evbuffer_free(buffer);
	free_end(&a);
	free_end(&b);
}

CASE(a_write_of_no_bytes_is_no_event, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	record(&at_a, a.bev);

	ck_assert_int_eq(bufferevent_write(a.bev, "", 0), 0);
	pump_turns(5);
	ck_assert_str_eq(at_a.log, "");

	free_end(&a);
	far_close(&far);
}

CASE(sixty_megabytes_both_ways_at_once_arrive_intact, ON_ALL)
{
	enum { LENGTH = 60000000 };
	struct end a, b;
	struct record at_a, at_b;
	make_ends(&a, &b, 0);
	record(&at_a, a.bev);
	record(&at_b, b.bev);
	bufferevent_enable(a.bev, EV_READ);
	bufferevent_enable(b.bev, EV_READ);

	write_pattern(a.bev, 0, LENGTH);
	write_pattern(b.bev, 0, LENGTH);
	pump_until_received(&at_a, LENGTH);
	pump_until_received(&at_b, LENGTH);
	ck_assert_uint_eq(output_length(a.bev), 0);
	ck_assert_uint_eq(output_length(b.bev), 0);

	free_end(&a);
	free_end(&b);
}

CASE(a_slow_reader_of_single_bytes_gets_all_in_order, ON_ALL)
{
	struct end a;
	struct far far;
	struct record at_a;
	make_end(&a, &far, 0);
	shrink_buffers(&a, &far);
	record(&at_a, a.bev);

	write_pattern(a.bev, 0, 100000);
	for (uint64_t position = 0; position < 50000;) {
		unsigned char byte;
		if (read(far.in, &byte, 1) == 1)
			ck_assert_uint_eq(byte, support_byte(position++));
		else
			pump_turns(1);
	}
	far.received = 50000;
	far_receive_until(&far, 100000);
	ck_assert_uint_eq(at_a.events, 0);

	free_end(&a);
	far_close(&far);
}

CASE(the_output_evbuffer_can_be_written_to_directly, ON_ALL)
{
	struct end a;
	struct far far;
	make_end(&a, &far, 0);
	struct evbuffer *output = bufferevent_get_output(a.bev);

	struct evbuffer_iovec space;
	ck_assert_int_eq(evbuffer_reserve_space(output, 100, &space, 1), 1);
	space.iov_len = 100;
	for (size_t i = 0; i < 100; i++)
		((unsigned char *)space.iov_base)[i] = support_byte(i);
	ck_assert_int_eq(evbuffer_commit_space(output, &space, 1), 0);
	struct evbuffer *buffer = pattern_buffer(100, 100);
	ck_assert_int_eq(evbuffer_add_buffer(output, buffer), 0);
	far_receive_until(&far, 200);

	ck_assert_int_gt(evbuffer_add_printf(output, "%s %d", "formatted", 7), 0);
	pump_until_output(a.bev, 0);
	char text[32] = "";
	pump_turns(3);
	ck_assert_int_eq(read(far.in, text, sizeof(text) - 1), (ssize_t)strlen("formatted 7"));
	ck_assert_str_eq(text, "formatted 7");

	evbuffer_free(buffer);
	free_end(&a);
	far_close(&far);
}

static void count_cleanup(const void *data, size_t length, void *argument)
{
	(void)data, (void)length;
	unsigned int *cleanups = argument;
	(*cleanups)++;
}

CASE(referenced_memory_is_released_once_it_is_sent, ON_ALL)
{
	static unsigned char bytes[200000];
	struct end a;
	struct far far;
	unsigned int cleanups = 0;
	make_end(&a, &far, 0);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = support_byte(i);

	ck_assert_int_eq(evbuffer_add_reference(bufferevent_get_output(a.bev), bytes, sizeof(bytes),
	                                        count_cleanup, &cleanups),
	                 0);
	ck_assert_uint_eq(cleanups, 0);
	far_receive_until(&far, sizeof(bytes));
	ck_assert_uint_eq(cleanups, 1);

	free_end(&a);
	far_close(&far);
}

CASE(referenced_memory_is_released_once_when_freed_unsent, ON_ALL)
{
	static unsigned char bytes[4000000];
	struct end a;
	struct far far;
	unsigned int cleanups = 0;
	make_end(&a, &far, 0);
	shrink_buffers(&a, &far);

	ck_assert_int_eq(evbuffer_add_reference(bufferevent_get_output(a.bev), bytes, sizeof(bytes),
	                                        count_cleanup, &cleanups),
	                 0);
	pump_turns(5);
	ck_assert_uint_gt(output_length(a.bev), 0);
	free_end(&a);
	pump_turns(3);
	ck_assert_uint_eq(cleanups, 1);

	far_close(&far);
}

/* Only the I/O step takes bytes from the output and adds them to the input. */
CASE(the_input_end_and_the_output_front_are_frozen, ON_ALL)
{
	struct end a;
	struct far far;
	make_end(&a, &far, 0);
	bufferevent_disable(a.bev, EV_WRITE);
	write_pattern(a.bev, 0, 100);

	ck_assert_int_eq(evbuffer_drain(bufferevent_get_output(a.bev), 10), -1);
	ck_assert_int_eq(evbuffer_prepend(bufferevent_get_output(a.bev), "x", 1), -1);
	ck_assert_int_eq(evbuffer_add(bufferevent_get_input(a.bev), "x", 1), -1);
	bufferevent_enable(a.bev, EV_WRITE);
	far_receive_until(&far, 100);
	ck_assert_int_eq(evbuffer_prepend(bufferevent_get_output(a.bev), "x", 1), -1);

	bufferevent_enable(a.bev, EV_READ);
	far_send(&far, 100);
	pump_until_input(a.bev, 100);
	ck_assert_int_eq(evbuffer_add(bufferevent_get_input(a.bev), "x", 1), -1);

	free_end(&a);
	far_close(&far);
}

CASE(a_small_file_added_to_the_output_arrives_in_its_place, ON_ALL)
{
	struct end a;
	struct far far;
	make_end(&a, &far, 0);

	int fd = make_file(2000);
	write_pattern(a.bev, 0, 100);
	ck_assert_int_eq(evbuffer_add_file(bufferevent_get_output(a.bev), fd, 100, 1900), 0);
	write_pattern(a.bev, 2000, 100);
	far_receive_until(&far, 2100);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);

	free_end(&a);
	far_close(&far);
}

CASE(a_file_larger_than_the_socket_buffer_arrives_whole, ON_ALL)
{
	enum { LENGTH = 5000000 };
	struct end a;
	struct far far;
	make_end(&a, &far, 0);
	shrink_buffers(&a, &far);

	ck_assert_int_eq(evbuffer_add_file(bufferevent_get_output(a.bev), make_file(LENGTH), 0, LENGTH),
	                 0);
	write_pattern(a.bev, LENGTH, 10);
	far_receive_until(&far, LENGTH + 10);

	free_end(&a);
	far_close(&far);
}

struct filler {
	size_t filled;
	bool done;
};

static void fill_descriptor(evutil_socket_t fd, short what, void *argument)
{
	(void)what;
	struct filler *filler = argument;
	static const char bytes[4096];
	ssize_t n;
	while ((n = write(fd, bytes, sizeof(bytes))) > 0)
		filler->filled += (size_t)n;
	filler->done = true;
}

static bool filling_is_taken_out(void *argument)
{
	struct filler *filler = ((void **)argument)[0];
	struct far *far = ((void **)argument)[1];
	char bytes[4096];
	ssize_t n = 1;
	while (n > 0 && filler->filled > 0) {
		size_t length = filler->filled < sizeof(bytes) ? filler->filled : sizeof(bytes);
		n = read(far->in, bytes, length);
		filler->filled -= n > 0 ? (size_t)n : 0;
	}
	return filler->filled == 0;
}

/* Another holder of the socket fills it between the poll and the write. Stock libevent takes the
 * EAGAIN of sendfile(2) for the end of the stream, on a healthy socket. */
CASE(stock_fault_a_file_waits_while_the_socket_is_full, ON_ALL)
{
	enum { LENGTH = 100000 };
	struct end a;
	struct far far;
	struct record at_a;
	struct filler filler = {0};
	ck_assert_int_eq(event_base_priority_init(base, 2), 0);
	make_end(&a, &far, 0);
	record(&at_a, a.bev);
	ck_assert_int_eq(bufferevent_priority_set(a.bev, 1), 0);
	struct event *writable = event_new(base, writing_fd(&a), EV_WRITE, fill_descriptor, &filler);
	event_priority_set(writable, 0);
	event_add(writable, NULL);

	ck_assert_int_eq(evbuffer_add_file(bufferevent_get_output(a.bev), make_file(LENGTH), 0, LENGTH),
	                 0);
	pump_until_set(&filler.done);
	pump_turns(3);
	if (carrier_is_ferry()) {
		ck_assert_str_eq(at_a.log, output_length(a.bev) > 0 ? "" : "w");
		pump_until(filling_is_taken_out, (void *[]){&filler, &far});
		far_receive_until(&far, LENGTH);
	} else if (carrier == STOCK_UNIX && output_length(a.bev) < LENGTH) {
		/* Before Linux 6.5, a full unix socket takes 64 KiB of sendfile(2). */
		ck_assert_uint_eq(output_length(a.bev), LENGTH - 65536);
		ck_assert_str_eq(at_a.log, "");
	} else if (carrier == STOCK_TCP && output_length(a.bev) < LENGTH) {
		/* TCP has taken more between the filling and the write: the fault did not have its moment. */
		ck_assert_str_ne(at_a.log, "[writing eof]");
	} else {
		ck_assert_str_eq(at_a.log, "[writing eof]");
		ck_assert_uint_eq(output_length(a.bev), LENGTH);
	}

	event_free(writable);
	free_end(&a);
	far_close(&far);
}

/* A segment that is never mapped or sent by sendfile(2), so that stock libevent can do it too. */
CASE(a_file_segment_read_into_memory_arrives_whole, ON_ALL)
{
	enum { LENGTH = 1000000 };
	struct end a;
	struct far far;
	make_end(&a, &far, 0);

	struct evbuffer_file_segment *segment = evbuffer_file_segment_new(
	    make_file(LENGTH), 0, LENGTH,
	    EVBUF_FS_CLOSE_ON_FREE | EVBUF_FS_DISABLE_SENDFILE | EVBUF_FS_DISABLE_MMAP);
	ck_assert_ptr_nonnull(segment);
	ck_assert_int_eq(evbuffer_add_file_segment(bufferevent_get_output(a.bev), segment, 0, LENGTH),
	                 0);
	evbuffer_file_segment_free(segment);
	write_pattern(a.bev, LENGTH, 10);
	far_receive_until(&far, LENGTH + 10);

	free_end(&a);
	far_close(&far);
}
