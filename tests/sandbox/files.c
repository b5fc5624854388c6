/* Files arrive whole, whichever calls the sandbox forbids. The tests run under deny.c, and by themselves; no test asks by
 * which call a file was sent. */

#include "test.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "file_link.h"

enum { SIZE = 300000 };

static int open_memfd(void)
{
	static unsigned char bytes[SIZE];
	const int fd = memfd_create("file", MFD_CLOEXEC);

	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = support_byte(i);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, SIZE), SIZE);
	return fd;
}

LOOP_TEST(a_file_arrives_whole_between_the_bytes_around_it, LINK_KINDS)
{
	static const int64_t offsets[] = {0, 4096, SIZE - 1};

	for (int i = 0; i < COUNT(offsets); i++) {
		struct told file = {.fd = -1};
		open_link(_i);
		start_collecting();
		send_text("before");
		send_range(&file, SIZE, offsets[i], FERRY_TO_END);
		send_text("after");
		finish_stream();
		check_finished(&file, 0, (uint64_t)(SIZE - offsets[i]));
		expect_text("before");
		expect_range((uint64_t)offsets[i], (uint64_t)(SIZE - offsets[i]));
		expect_text("after");
		expect_end();
		close_link();
	}
}

LOOP_TEST(a_memfd_arrives_from_its_position_on, LINK_KINDS)
{
	struct told file = {.fd = -1};
	const int fd = open_memfd();

	ck_assert_int_eq(lseek(fd, 1000, SEEK_SET), 1000);
	open_link(_i);
	start_collecting();
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE, FERRY_FILE_POSITION, FERRY_TO_END), 0);
	finish_stream();
	check_finished(&file, 0, SIZE - 1000);
	expect_range(1000, SIZE - 1000);
	expect_end();
	close_link();
}

/* A pipe or a socket, whose writer has closed. */
static void send_stream(int link, bool from_socket, unsigned int copied)
{
	struct told file = {.fd = -1};
	unsigned char bytes[5000];
	int ends[2];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = support_byte(i);
	if (from_socket)
		make_pair(PAIR_UNIX, ends);
	else
		make_pipe(ends);
	ck_assert_int_eq(write(ends[1], bytes, sizeof(bytes)), sizeof(bytes));
	close(ends[1]);

	open_link(link);
	start_collecting();
	send_text("before");
	ck_assert_int_eq(try_send(&file, ends[0], FERRY_FD_TAKE | copied, 0, FERRY_TO_END), 0);
	send_text("after");
	finish_stream();
	check_finished(&file, 0, sizeof(bytes));
	expect_text("before");
	expect_range(0, sizeof(bytes));
	expect_text("after");
	expect_end();
	close_link();
}

LOOP_TEST(a_pipe_or_a_socket_arrives_to_its_end, LINK_KINDS)
{
	for (int i = 0; i < 4; i++)
		send_stream(_i, i % 2 == 1, i < 2 ? 0 : SEND_COPIED);
}
