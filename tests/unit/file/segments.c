/* The TCP segments of a header, a file and a trailer, by the kernel's own count. No part of the
 * three waits in the kernel for more bytes. */

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "file/page_cache.h"
#include "file_link.h"
#include "test.h"
#include "wire.h"

/* ---- the kernel in the test's hand ---- */

static int sendfile_result = 1; /* of the next calls; 1: the real thing */
static bool is_cold;

ssize_t __real_sendfile(int out, int in, off_t *offset, size_t length);
ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length);
bool __real_warmth_check(struct warmth *warmth, int fd, int64_t position, size_t left,
                         size_t *length);
bool __wrap_warmth_check(struct warmth *warmth, int fd, int64_t position, size_t left,
                         size_t *length);

ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length)
{
	if (sendfile_result > 0)
		return __real_sendfile(out, in, offset, length);
	errno = -sendfile_result;
	return sendfile_result < 0 ? -1 : 0;
}

bool __wrap_warmth_check(struct warmth *warmth, int fd, int64_t position, size_t left,
                         size_t *length)
{
	return !is_cold && __real_warmth_check(warmth, fd, position, left, length);
}

/* ---- arrangement ---- */

enum { HEADER = 200, TRAILER = 100 };

static struct told file;

static int socket_of_sender(void)
{
	return bufferevent_getfd(ferry_transport_get_bufferevent(sender.transport));
}

/* Returns the count of sent segments with data. Linux has this count since 4.6; before, it is 0. */
static unsigned int segments(void)
{
	struct tcp_info info = {0};
	socklen_t length = sizeof(info);
	ck_assert_int_eq(getsockopt(socket_of_sender(), IPPROTO_TCP, TCP_INFO, &info, &length), 0);
	return info.tcpi_data_segs_out;
}

static bool is_corked(void)
{
	int value = 1;
	socklen_t length = sizeof(value);
	ck_assert_int_eq(getsockopt(socket_of_sender(), IPPROTO_TCP, TCP_CORK, &value, &length), 0);
	return value != 0;
}

static void send_bytes(size_t length)
{
	static const char bytes[HEADER];
	ck_assert_int_eq(ferry_transport_write(sender.transport, bytes, length), 0);
}

static void expect_arrived_now(size_t length)
{
	if (arrived == NULL)
		start_collecting();
	stream_has_ended(NULL);
	ck_assert_uint_eq(arrived_length, length);
}

static void close_all(void)
{
	compared = arrived_length;
	expect_end();
	close_link();
}

/* ---- the count of segments ---- */

static const struct {
	size_t header;
	uint64_t size;
	size_t trailer;
	bool copied;
} shapes[] = {
    {HEADER, 5000, 0, false},        {HEADER, 5000, TRAILER, false}, {HEADER, 20000, 0, false},
    {HEADER, 20000, TRAILER, false}, {0, 20000, TRAILER, false},     {0, 5000, TRAILER, false},
    {HEADER, 5000, TRAILER, true},   {HEADER, 20000, TRAILER, true}, {0, 20000, TRAILER, true},
};
enum { SHAPES = sizeof(shapes) / sizeof(shapes[0]) };

TEST_CASE("how many segments");

LOOP_TEST(header_file_and_trailer_leave_as_one_segment, SHAPES)
{
	open_link(LINK_TCP);
	int fd = make_file(shapes[_i].size);
	unsigned int copy = shapes[_i].copied ? SEND_COPIED : 0;
	send_bytes(shapes[_i].header);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE | copy, 0, FERRY_TO_END), 0);
	send_bytes(shapes[_i].trailer);

	pump_until_count(&file.finished, 1);

	/* The loopback's segments hold 64 KiB. */
	ck_assert_uint_eq(segments(), 1);
	ck_assert(!is_corked());
	expect_arrived_now(shapes[_i].header + (size_t)shapes[_i].size + shapes[_i].trailer);
	close_all();
}

TEST(bytes_written_after_a_corked_file_leave_at_once)
{
	open_link(LINK_TCP);
	send_bytes(HEADER);
	send_range(&file, 20000, 0, FERRY_TO_END);
	send_bytes(TRAILER);
	pump_until_count(&file.finished, 1);
	expect_arrived_now(HEADER + 20000 + TRAILER);

	send_bytes(10);
	pump_turns(2);

	expect_arrived_now(HEADER + 20000 + TRAILER + 10);
	ck_assert_uint_eq(segments(), 2);
	close_all();
}

TEST(many_headers_and_files_take_no_segment_for_a_header_alone)
{
	static struct told files[20];
	open_link(LINK_TCP);
	for (int i = 0; i < 20; i++) {
		send_bytes(HEADER);
		send_range(&files[i], 1000, 0, FERRY_TO_END);
	}
	pump_until_count(&files[19].finished, 1);

	ck_assert_uint_le(segments(), 20);
	ck_assert(!is_corked());
	expect_arrived_now((size_t)20 * (HEADER + 1000));
	close_all();
}

/* ---- a header that leaves before its file ---- */

enum { PAUSED, DRY, COLD, GIVES_ENOMEM, GIVES_AN_ERROR, GIVES_NOTHING, OBSTACLES };

/* Puts it in the way of a file behind a header. The writing end of a pipe, or -1. */
static int send_obstructed(int obstacle)
{
	int fds[2] = {-1, -1};
	static const int results[OBSTACLES] = {1, 1, 1, -ENOMEM, -ESTALE, 0};
	if (obstacle == DRY) {
		make_pipe(fds);
		ck_assert_int_eq(try_send(&file, fds[0], FERRY_FD_TAKE, 0, FERRY_TO_END), 0);
	} else {
		send_range(&file, 20000, 0, FERRY_TO_END);
	}
	if (obstacle == PAUSED)
		ferry_file_producer_pause(file.producer);
	is_cold = obstacle == COLD;
	sendfile_result = results[obstacle];
	return fds[1];
}

TEST_CASE("a header that is not held back");

LOOP_TEST(a_header_leaves_at_once_if_the_file_behind_it_does_not_come, OBSTACLES)
{
	open_link(LINK_TCP);
	send_bytes(HEADER);
	int writer = send_obstructed(_i);

	event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);

	expect_arrived_now(HEADER);
	ck_assert_uint_eq(segments(), 1);
	ck_assert(!is_corked());
	if (writer >= 0)
		close(writer);
	ferry_file_producer_stop(file.finished == 0 ? file.producer : NULL);
	close_all();
	pump_turns(3);
}

TEST(a_header_behind_a_failed_file_leaves_at_once)
{
	static struct told second;
	open_link(LINK_TCP);
	sendfile_result = -ESTALE;
	send_range(&file, 20000, 0, FERRY_TO_END);
	send_bytes(HEADER);
	send_range(&second, 20000, 0, FERRY_TO_END);
	ferry_file_producer_pause(second.producer);

	pump_turns(3);

	expect_arrived_now(HEADER);
	ck_assert(!is_corked());
	close_all();
	pump_turns(3);
}
