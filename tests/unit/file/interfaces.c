/* Behaviour that users of other interfaces for sending files rely on, under its names there: the
 * tests of pysendfile, of Python's socket.sendfile() and loop.sendfile(), and a fault of
 * evbuffer_add_file(). If ferry differs on purpose, the name of the test has the difference. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "file_link.h"
#include "test.h"
#include "wire.h"

/* unix and TCP. */
enum { SOCKET_KINDS = 2 };

static struct told file;

static void finish_and_expect(uint64_t offset, uint64_t length)
{
	finish_stream();
	expect_range(offset, length);
	expect_end();
}

/* ---- pysendfile ---- */

enum { DATA = 400000 }; /* more than a socket holds */

TEST_CASE("pysendfile");

LOOP_TEST(pysendfile_a_whole_file_is_sent, SOCKET_KINDS)
{
	open_link(_i);
	send_range(&file, DATA, 0, FERRY_TO_END);
	finish_and_expect(0, DATA);
	check_finished(&file, 0, DATA);
	close_link();
}

LOOP_TEST(pysendfile_a_file_is_sent_from_an_offset, SOCKET_KINDS)
{
	open_link(_i);
	send_range(&file, DATA, DATA / 2, FERRY_TO_END);
	finish_and_expect(DATA / 2, DATA / 2);
	close_link();
}

LOOP_TEST(pysendfile_a_header_comes_before_the_file, SOCKET_KINDS)
{
	open_link(_i);
	send_text("this is a header");
	send_range(&file, DATA, 0, FERRY_TO_END);
	finish_stream();
	expect_text("this is a header");
	expect_range(0, DATA);
	expect_end();
	check_finished(&file, 0, DATA); /* ours counts the file alone */
	close_link();
}

LOOP_TEST(pysendfile_a_trailer_comes_after_the_file, SOCKET_KINDS)
{
	open_link(_i);
	send_range(&file, DATA, 0, FERRY_TO_END);
	send_text("this is a trailer");
	finish_stream();
	expect_range(0, DATA);
	expect_text("this is a trailer");
	expect_end();
	close_link();
}

LOOP_TEST(pysendfile_a_small_file_has_header_and_trailer, SOCKET_KINDS)
{
	open_link(_i);
	send_text("header");
	send_range(&file, 10, 0, FERRY_TO_END);
	send_text("trailer");
	finish_stream();
	expect_text("header");
	expect_range(0, 10);
	expect_text("trailer");
	expect_end();
	close_link();
}

LOOP_TEST(pysendfile_nbytes_0_sends_nothing_and_not_to_the_end_as_on_other_systems, SOCKET_KINDS)
{
	open_link(_i);
	send_range(&file, DATA, 0, 0);
	finish_and_expect(0, 0);
	check_finished(&file, 0, 0);
	close_link();
}

LOOP_TEST(pysendfile_offset_overflow_sends_nothing, SOCKET_KINDS)
{
	open_link(_i);
	send_range(&file, DATA, DATA + 4096, FERRY_TO_END);
	finish_and_expect(0, 0);
	check_finished(&file, 0, 0);
	close_link();
}

LOOP_TEST(pysendfile_offset_overflow_with_nbytes_is_eio_and_not_0, SOCKET_KINDS)
{
	open_link(_i);
	send_range(&file, DATA, DATA + 4096, 4096);
	finish_and_expect(0, 0);
	check_finished(&file, -EIO, 0);
	close_link();
}

LOOP_TEST(pysendfile_an_invalid_offset_is_refused, SOCKET_KINDS)
{
	open_link(_i);
	int fd = make_file(10);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE, -1, 4096), -EINVAL);
	close(fd);
	close_link();
}

LOOP_TEST(pysendfile_a_small_file_is_sent, SOCKET_KINDS)
{
	open_link(_i);
	send_range(&file, 6, 0, FERRY_TO_END);
	finish_and_expect(0, 6);
	close_link();
}

LOOP_TEST(pysendfile_a_small_file_ends_before_the_offset, SOCKET_KINDS)
{
	open_link(_i);
	send_range(&file, 6, 4096, FERRY_TO_END);
	finish_and_expect(0, 0);
	check_finished(&file, 0, 0);
	close_link();
}

LOOP_TEST(pysendfile_an_empty_file_sends_nothing, SOCKET_KINDS)
{
	open_link(_i);
	send_range(&file, 0, 0, FERRY_TO_END);
	finish_and_expect(0, 0);
	check_finished(&file, 0, 0);
	close_link();
}

LOOP_TEST(pysendfile_offset_none_sends_from_the_position_and_moves_it, SOCKET_KINDS)
{
	open_link(_i);
	int fd = make_file(DATA);
	ck_assert_int_eq(lseek(fd, 10, SEEK_SET), 10);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, FERRY_FILE_POSITION, FERRY_TO_END), 0);
	finish_and_expect(10, DATA - 10);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), DATA);
	close(fd);
	close_link();
}

static bool is_discarded_and_finished(void *argument)
{
	(void)argument;
	wire_drain(far);
	return file.finished > 0;
}

LOOP_TEST(pysendfile_big_file_of_which_the_end_is_sent_as_a_hole, SOCKET_KINDS)
{
	/* unit.file.kinds sends one of 2.5 GiB whole. */
	const int64_t size = 5LL << 29, sent = 100 << 20;
	open_link(_i);
	int fd = memfd_create("ferry-test", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE, size - sent, FERRY_TO_END), 0);
	pump_until(is_discarded_and_finished, NULL);
	check_finished(&file, 0, (uint64_t)sent);
	close_link();
}

TEST(pysendfile_non_socket_takes_pipes_and_refuses_regular_files)
{
	int fds[2];
	struct ferry_transport *transport = NULL;
	int fd = make_file(10);
	make_pipe(fds);
	ck_assert_int_eq(ferry_transport_new_pipes(&transport, base, fds[0], fd), -EPERM);
	close(fds[0]);
	close(fds[1]);
	close(fd);
	open_link(LINK_PIPES);
	send_range(&file, DATA, 0, FERRY_TO_END);
	finish_and_expect(0, DATA);
	close_link();
}

/* ---- socket.sendfile(), loop.sendfile() ---- */

TEST_CASE("socket.sendfile and loop.sendfile");

LOOP_TEST(python_a_regular_file_is_sent, SOCKET_KINDS)
{
	open_link(_i);
	int fd = make_file(DATA);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, FERRY_FILE_POSITION, FERRY_TO_END), 0);
	finish_and_expect(0, DATA);
	check_finished(&file, 0, DATA);
	ck_assert_int_eq(ferry_file_producer_get_method(NULL), -EINVAL);
	close(fd);
	close_link();
}

static enum ferry_file_method method;

static void note_method(struct told *told)
{
	method = (enum ferry_file_method)ferry_file_producer_get_method(told->producer);
}

LOOP_TEST(python_non_regular_file_falls_back_by_itself, SOCKET_KINDS)
{
	int fds[2];
	make_pipe(fds);
	open_link(_i);
	file.on_finished = note_method;
	ck_assert_int_eq(try_send(&file, fds[0], FERRY_FD_TAKE, 0, FERRY_TO_END), 0);
	wire_put(fds[1], 0, 1000);
	close(fds[1]);
	finish_and_expect(0, 1000);
	check_finished(&file, 0, 1000);
	ck_assert_int_eq(method, FERRY_FILE_BY_SPLICE);
	close_link();
}

LOOP_TEST(python_a_forced_fallback_copies, SOCKET_KINDS)
{
	open_link(_i);
	file.on_finished = note_method;
	ck_assert_int_eq(try_send(&file, make_file(DATA), FERRY_FD_TAKE | SEND_COPIED, 0, FERRY_TO_END),
	                 0);
	finish_and_expect(0, DATA);
	ck_assert_int_eq(method, FERRY_FILE_BY_COPY);
	close_link();
}

LOOP_TEST(python_an_empty_file_sends_nothing, SOCKET_KINDS)
{
	open_link(_i);
	int fd = make_file(0);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, FERRY_FILE_POSITION, FERRY_TO_END), 0);
	finish_and_expect(0, 0);
	check_finished(&file, 0, 0);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 0);
	close(fd);
	close_link();
}

LOOP_TEST(python_offset_leaves_the_position_alone_where_python_moves_it, SOCKET_KINDS)
{
	open_link(_i);
	int fd = make_file(DATA);
	ck_assert_int_eq(lseek(fd, 7, SEEK_SET), 7);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, 5000, FERRY_TO_END), 0);
	finish_and_expect(5000, DATA - 5000);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 7);
	close(fd);
	close_link();
}

static const int64_t counts[] = {1, 1000, 8191, 65536, DATA - 5000};

/* _i: kind, count, from where. */
LOOP_TEST(python_a_count_is_sent_from_any_offset, SOCKET_KINDS * 5 * 2)
{
	int64_t count = counts[_i / SOCKET_KINDS % 5];
	int64_t offset = _i / SOCKET_KINDS / 5 == 0 ? 0 : 5000;
	open_link(_i % SOCKET_KINDS);
	int fd = make_file(DATA);
	ck_assert_int_eq(lseek(fd, offset, SEEK_SET), offset);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, FERRY_FILE_POSITION, count), 0);
	finish_and_expect((uint64_t)offset, (uint64_t)count);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), offset + count);
	close(fd);
	close_link();
}

LOOP_TEST(python_count_larger_than_the_file_is_eio_where_python_returns_less, SOCKET_KINDS)
{
	open_link(_i);
	int fd = make_file(DATA);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, FERRY_FILE_POSITION, INT64_C(2) * DATA), 0);
	finish_and_expect(0, DATA);
	check_finished(&file, -EIO, DATA);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), DATA);
	close(fd);
	close_link();
}

LOOP_TEST(python_a_negative_count_and_datagram_sockets_are_refused, SOCKET_KINDS)
{
	int fds[2];
	struct ferry_transport *transport = NULL;
	open_link(_i);
	int fd = make_file(10);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE, 0, -1), -EINVAL);
	close(fd);
	close_link();

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), -EPROTOTYPE);
	bufferevent_free(bev);
	close(fds[1]);
}

LOOP_TEST(python_timeout_triggered_send_moves_the_position_by_the_bytes_sent, SOCKET_KINDS)
{
	open_link(_i);
	int fd = make_file(16 << 20);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP, FERRY_FILE_POSITION, FERRY_TO_END), 0);
	while (stats_of(sender.transport).file_bytes_sent == 0)
		pump_turns(1);
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(sender.transport), NULL,
	                         &(struct timeval){.tv_usec = 5000});
	pump_until_lost(&sender); /* nobody reads */

	ck_assert_int_eq(sender.reason, -ETIMEDOUT);
	ck_assert_int_eq(file.status, -ETIMEDOUT);
	ck_assert_uint_gt(file.sent, 0);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), (off_t)file.sent);
	close(fd);
	close_link();
}

LOOP_TEST(asyncio_data_stays_before_and_behind_the_file, SOCKET_KINDS)
{
	open_link(_i);
	send_text("PREFIX__");
	send_range(&file, DATA, 0, FERRY_TO_END);
	send_text("--SUFFIX");
	finish_stream();
	expect_text("PREFIX__");
	expect_range(0, DATA);
	expect_text("--SUFFIX");
	expect_end();
	close_link();
}

LOOP_TEST(asyncio_a_part_of_a_file_is_sent, SOCKET_KINDS)
{
	open_link(_i);
	send_range(&file, DATA, 1000, 100);
	finish_and_expect(1000, 100);
	close_link();
}

LOOP_TEST(asyncio_a_bare_write_while_sending_waits_its_turn_where_asyncio_refuses_it, SOCKET_KINDS)
{
	open_link(_i);
	send_range(&file, 4 << 20, 0, FERRY_TO_END);
	pump_turns(2);
	ck_assert_uint_eq(file.finished, 0);
	send_text("bare");
	finish_stream();
	expect_range(0, 4 << 20);
	expect_text("bare");
	expect_end();
	close_link();
}

LOOP_TEST(asyncio_for_a_closing_transport_is_refused, SOCKET_KINDS)
{
	open_link(_i);
	ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
	int fd = make_file(10);
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_TAKE, 0, FERRY_TO_END), -EPIPE);
	close(fd);
	close_link();
}

/* _i: kind, method. */
LOOP_TEST(asyncio_a_peer_may_close_in_the_middle_of_receiving, SOCKET_KINDS * 2)
{
	open_link(_i % SOCKET_KINDS);
	int fd = make_file(16 << 20);
	unsigned int copy = _i / SOCKET_KINDS != 0 ? SEND_COPIED : 0;
	ck_assert_int_eq(try_send(&file, fd, FERRY_FD_DUP | copy, FERRY_FILE_POSITION, FERRY_TO_END),
	                 0);
	pump_turns(3);
	ck_assert_uint_eq(file.finished, 0);
	close_far();
	pump_until_lost(&sender);

	ck_assert_int_lt(sender.reason, 0);
	ck_assert_int_eq(file.status, sender.reason);
	ck_assert_uint_lt(file.sent, 16 << 20);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), (off_t)file.sent);
	close(fd);
	close_link();
}

LOOP_TEST(asyncio_close_of_our_side_while_sending_sends_the_rest_first, SOCKET_KINDS)
{
	open_link(_i);
	send_range(&file, 4 << 20, 0, FERRY_TO_END);
	pump_turns(2);
	ck_assert_uint_eq(file.finished, 0);
	finish_and_expect(0, 4 << 20);
	check_finished(&file, 0, 4 << 20);
	close_link();
}

/* ---- evbuffer_add_file() ---- */

static short stock_events;

static void stock_event(struct bufferevent *bev, short what, void *argument)
{
	(void)bev, (void)argument;
	stock_events = (short)(stock_events | what);
}

static bool stock_has_an_event(void *argument)
{
	(void)argument;
	return stock_events != 0;
}

/* Another owner of the socket fills it, after it has become writable and before the file's turn. */
static void fill_socket(evutil_socket_t fd, short what, void *argument)
{
	(void)what, (void)argument;
	wire_fill(fd);
	/* Before Linux 6.5 a full unix socket takes some pages more from sendfile(2). */
	int in = make_file(DATA);
	off_t offset = 0;
	while (sendfile(fd, in, &offset, DATA) > 0)
		offset = 0;
	close(in);
}

TEST_CASE("evbuffer_add_file");

/* Pins the fault: when this fails, libevent has mended it. */
LOOP_TEST(stock_a_full_healthy_socket_is_reported_as_end_of_file, SOCKET_KINDS)
{
	int fds[2];
	char byte;
	make_pair(_i == LINK_UNIX ? PAIR_UNIX : PAIR_TCP, fds);
	int other = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
	struct event *first = event_new(base, other, EV_WRITE, fill_socket, NULL);
	event_add(first, NULL);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(bev, NULL, NULL, stock_event, NULL);
	ck_assert_int_eq(evbuffer_add_file(bufferevent_get_output(bev), make_file(DATA), 0, DATA), 0);
	pump_until(stock_has_an_event, NULL);

	ck_assert_int_eq(stock_events, BEV_EVENT_WRITING | BEV_EVENT_EOF);
	ck_assert_int_eq(bufferevent_get_enabled(bev) & EV_WRITE, 0);
	/* Neither end has closed the connection. */
	struct pollfd look = {.fd = fds[1], .events = POLLIN};
	while (send(fds[0], "x", 1, MSG_NOSIGNAL) != 1) /* TCP takes its time */
		wire_drain(fds[1]);
	ck_assert_int_eq(poll(&look, 1, -1), 1);
	ck_assert_int_eq(recv(fds[1], &byte, 1, 0), 1);
	event_free(first);
	bufferevent_free(bev);
	close(other);
	close(fds[1]);
}

LOOP_TEST(ours_a_full_healthy_socket_is_waited_for, SOCKET_KINDS)
{
	open_link(_i);
	size_t filled = wire_fill(bufferevent_getfd(ferry_transport_get_bufferevent(sender.transport)));
	send_range(&file, DATA, 0, FERRY_TO_END);
	pump_turns(10);
	ck_assert_uint_gt(stats_of(sender.transport).send_eagain, 0);
	ck_assert_uint_eq(file.finished, 0);
	ck_assert_uint_eq(sender.lost, 0);

	finish_stream();

	check_finished(&file, 0, DATA);
	expect_range(0, filled);
	expect_range(0, DATA);
	expect_end();
	close_link();
}
