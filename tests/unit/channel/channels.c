/* Channels and their poller in a program without callbacks. The far ends use bare system calls. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "ferry/ferry.h"
#include "ferry/testing.h"
#include "listening.h"
#include "test.h"
#include "wire.h"

enum { EVENTS_MAX = 4096, STORY_MAX = 1 << 16, MIB = 1024 * 1024 };

static const struct timeval at_once = {0};
static const struct timeval soon = {.tv_usec = 20000};
static const struct timeval deadline = {.tv_sec = 120};

static struct ferry_poller *poller;
static struct ferry_channel *channel;
static struct ferry_listener *listener; /* owns the socket of a server, or NULL */
static int far;                         /* -1: closed */
static struct ferry_channel_event events[EVENTS_MAX];
static int event_count;

/* ---- the events so far, as a text ---- */

/* [line], (incomplete line), <beginning of one too long>, {bytes}, F and the mark of a descriptor, L
 * descriptors lost, A accepted, E the peer's end, W writable, X and the reason of the end. */
static char story[STORY_MAX];
static size_t story_length;

static void tell_text(const struct ferry_channel_event *event, char opening, char closing)
{
	ck_assert_uint_lt(story_length + event->length + 2, STORY_MAX);
	story[story_length++] = opening;
	memcpy(story + story_length, event->data, event->length);
	story_length += event->length;
	story[story_length++] = closing;
}

static void tell_number(char letter, int number)
{
	story_length +=
	    (size_t)snprintf(story + story_length, STORY_MAX - story_length, "%c%d", letter, number);
}

static void tell(const struct ferry_channel_event *event)
{
	ck_assert_ptr_nonnull(event->channel);
	switch (event->kind) {
	case FERRY_CHANNEL_BYTES:
		ck_assert_uint_gt(event->length, 0);
		tell_text(event, '{', '}');
		break;
	case FERRY_CHANNEL_LINE:
		tell_text(event, event->incomplete ? '(' : '[', event->incomplete ? ')' : ']');
		break;
	case FERRY_CHANNEL_LINE_TOO_LONG:
		tell_text(event, '<', '>');
		break;
	case FERRY_CHANNEL_FD:
		tell_number('F', (int)marked_number(event->fd));
		break;
	case FERRY_CHANNEL_CLOSED:
		tell_number('X', event->reason);
		break;
	default:
		story[story_length++] = "LAEW"[event->kind - FERRY_CHANNEL_FDS_LOST];
		break;
	}
}

/* Polls once with room for `max` events, and appends the events to the story. */
static int poll_for(int max, const struct timeval *timeout)
{
	event_count = ferry_poller_poll(poller, timeout, events, max);
	for (int i = 0; i < event_count; i++)
		tell(&events[i]);
	return event_count;
}

static int poll_now(void)
{
	return poll_for(EVENTS_MAX, &at_once);
}

static void expect_story(const char *expected)
{
	story[story_length] = '\0';
	ck_assert_str_eq(story, expected);
	story_length = 0;
}

/* Polls until the story is at least as long as `expected`, and compares them. */
static void poll_until_story(const char *expected)
{
	while (story_length < strlen(expected))
		ck_assert_int_gt(poll_for(EVENTS_MAX, &deadline), 0);
	expect_story(expected);
}

/* ---- fixtures ---- */

static void open_poller(void)
{
	ck_assert_int_eq(ferry_poller_new(&poller), 0);
	story_length = 0;
	event_count = 0;
	channel = NULL;
	listener = NULL;
	far = -1;
}

static void close_far(void)
{
	if (far >= 0)
		close(far);
	far = -1;
}

static void free_listener(void)
{
	ferry_listener_free(listener);
	listener = NULL;
}

static void close_poller(void)
{
	ferry_poller_free(poller);
	free_listener();
	close_far();
}

static struct ferry_channel *add_channel(enum pair_kind kind, int *far_end)
{
	struct ferry_channel *made;
	int fds[2];

	make_pair(kind, fds);
	ck_assert_int_eq(ferry_channel_new_socket(&made, poller, fds[0]), 0);
	ck_assert_int_eq(ferry_poller_register(poller, made), 0);
	*far_end = fds[1];
	return made;
}

static void open_channel(enum pair_kind kind)
{
	open_poller();
	channel = add_channel(kind, &far);
}

static void open_lines(void)
{
	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, 100), 0);
}

static void put(const char *text)
{
	ck_assert_int_eq(write(far, text, strlen(text)), (ssize_t)strlen(text));
}

static void put_fd(const char *text, uint32_t mark)
{
	int fd = make_marked_fd(mark);
	ck_assert_int_eq(wire_send(far, text, strlen(text), &fd, 1), (ssize_t)strlen(text));
	close(fd);
}

/* Reads from the far end until all of `expected` has arrived; more than that fails the test. */
static void expect_sent(int from, const char *expected)
{
	char text[256];
	size_t length = 0;

	ck_assert_uint_lt(strlen(expected), sizeof(text));
	while (length < strlen(expected)) {
		ssize_t count = read(from, text + length, sizeof(text) - length);
		if (count < 0 && errno == EAGAIN)
			continue; /* TCP delivers later */
		ck_assert_int_gt(count, 0);
		length += (size_t)count;
	}
	ck_assert_uint_eq(length, strlen(expected));
	ck_assert_mem_eq(text, expected, length);
}

static void expect_far_end(void)
{
	char byte;
	ssize_t count;

	do
		count = read(far, &byte, 1);
	while (count < 0 && errno == EAGAIN);
	ck_assert_int_eq(count, 0);
}

/* ---- bytes and ends ---- */

TEST_CASE("bytes");

LOOP_TEST_FROM(bytes_go_both_ways, PAIR_UNIX, PAIR_TCP + 1)
{
	open_channel((enum pair_kind)_i);
	put("hello");
	poll_until_story("{hello}");
	ck_assert_int_eq(ferry_channel_write(channel, "answer", 6), 0);
	expect_sent(far, "answer");
	close_poller();
}

TEST(bytes_go_through_pipes)
{
	int in[2], out[2];

	open_poller();
	make_pipe(in);
	make_pipe(out);
	ck_assert_int_eq(ferry_channel_new_pipes(&channel, poller, in[0], out[1]), 0);
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	ck_assert_int_eq(ferry_channel_get_fd(channel), in[0]);
	far = in[1];
	put("hello");
	poll_until_story("{hello}");
	ck_assert_int_eq(ferry_channel_write(channel, "answer", 6), 0);
	expect_sent(out[0], "answer");
	close_far();
	poll_until_story("X0");
	ck_assert(!fd_is_open(in[0]) && !fd_is_open(out[1]));
	close(out[0]);
	close_poller();
}

TEST(one_pipe_alone_is_a_channel)
{
	struct ferry_channel *sink;
	int in[2], out[2];

	open_poller();
	make_pipe(in);
	make_pipe(out);
	ck_assert_int_eq(ferry_channel_new_pipes(&channel, poller, in[0], -1), 0);
	ck_assert_int_eq(ferry_channel_new_pipes(&sink, poller, -1, out[1]), 0);
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	ck_assert_int_eq(ferry_poller_register(poller, sink), 0);
	far = in[1];
	put("in");
	poll_until_story("{in}");
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), -EPIPE);
	ck_assert_int_eq(ferry_channel_write(sink, "out", 3), 0);
	expect_sent(out[0], "out");
	ck_assert_int_eq(poll_now(), 0);
	close_far();
	poll_until_story("X0");
	ck_assert_int_eq(ferry_channel_close(sink), 0);
	poll_until_story("X0");
	ck_assert_int_eq(read(out[0], story, 1), 0);
	close(out[0]);
	close_poller();
}

LOOP_TEST_FROM(the_end_comes_after_the_data_and_is_the_last_event, PAIR_UNIX, PAIR_TCP + 1)
{
	open_channel((enum pair_kind)_i);
	put("last words");
	close_far();
	poll_until_story("{last words}X0");
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_send_fd(channel, 0, FERRY_FD_DUP), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_close(channel), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_close_write(channel), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), 0);
	ck_assert_int_eq(ferry_channel_get_fd(channel), -ENOTCONN);
	ck_assert_ptr_null(ferry_channel_get_transport(channel));
	ck_assert_int_eq(poll_now(), -ENOENT);
	close_poller();
}

TEST(a_reset_is_told_after_the_data)
{
	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_write(channel, "unread", 6), 0);
	put("before");
	close_far();
	char expected[32];
	snprintf(expected, sizeof(expected), "{before}X%d", -ECONNRESET);
	poll_until_story(expected);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), -ECONNRESET);
	close_poller();
}

TEST(a_write_to_a_peer_that_is_gone_ends_the_channel)
{
	open_channel(PAIR_UNIX);
	put("before");
	close_far();
	ck_assert_int_eq(ferry_channel_write(channel, "too late", 8), 0);
	int status = ferry_channel_write(channel, "x", 1);
	ck_assert(status == -EPIPE || status == -ENOTCONN);
	char expected[32];
	snprintf(expected, sizeof(expected), "{before}X%d", -EPIPE);
	poll_until_story(expected);
	close_poller();
}

LOOP_TEST_FROM(a_half_closed_peer_can_be_answered, PAIR_UNIX, PAIR_TCP + 1)
{
	open_channel((enum pair_kind)_i);
	ck_assert_int_eq(ferry_channel_set_half_close(channel, true), 0);
	put("question");
	ck_assert_int_eq(shutdown(far, SHUT_WR), 0);
	poll_until_story("{question}E");
	ck_assert_int_eq(poll_now(), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "answer", 6), 0);
	ck_assert_int_eq(ferry_channel_close(channel), 0);
	poll_until_story("X0");
	expect_sent(far, "answer");
	expect_far_end();
	close_poller();
}

LOOP_TEST_FROM(its_own_half_can_be_closed_first, PAIR_UNIX, PAIR_TCP + 1)
{
	open_channel((enum pair_kind)_i);
	ck_assert_int_eq(ferry_channel_write(channel, "question", 8), 0);
	ck_assert_int_eq(ferry_channel_close_write(channel), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), -EPIPE);
	ck_assert_int_eq(ferry_channel_flush(channel, &deadline), 0);
	expect_sent(far, "question");
	expect_far_end();
	put("answer");
	close_far();
	poll_until_story("{answer}X0");
	close_poller();
}

LOOP_TEST_FROM(much_arrives_whole, PAIR_UNIX, PAIR_TCP + 1)
{
	uint64_t sent = 0, received = 0;

	open_channel((enum pair_kind)_i);
	while (received < 3 * MIB) {
		unsigned char block[8192];
		size_t length = sizeof(block);
		for (size_t i = 0; i < length; i++)
			block[i] = support_byte(sent + i);
		ssize_t count = sent < 3 * MIB ? write(far, block, length) : 0;
		sent += count > 0 ? (uint64_t)count : 0;
		if (count == (ssize_t)length && sent % 65536 != 0)
			continue;
		int told = ferry_poller_poll(poller, &deadline, events, 1 + (int)(sent / 8192 % 3));
		ck_assert_int_gt(told, 0);
		for (int i = 0; i < told; i++) {
			ck_assert_int_eq(events[i].kind, FERRY_CHANNEL_BYTES);
			size_t same = 0;
			while (same < events[i].length &&
			       (unsigned char)events[i].data[same] == support_byte(received + same))
				same++;
			ck_assert_uint_eq(same, events[i].length);
			received += same;
		}
	}
	ck_assert_uint_eq(received, sent);
	close_poller();
}

/* ---- lines ---- */

TEST_CASE("lines");

TEST(one_poll_tells_of_all_lines_that_are_there)
{
	open_lines();
	put("one\ntwo\n\nthree\nfo");
	ck_assert_int_eq(poll_now(), 4);
	expect_story("[one][two][][three]");
	put("ur\n");
	ck_assert_int_eq(poll_now(), 1);
	expect_story("[four]");
	ck_assert_int_eq(poll_now(), 0);
	close_poller();
}

TEST(one_poll_tells_of_all_lines_however_they_came)
{
	open_lines();
	for (int i = 0; i < 200; i++)
		put("a\nb\n");
	ck_assert_int_eq(poll_now(), 400);
	close_poller();
}

TEST(the_incomplete_last_line_comes_at_the_end)
{
	open_lines();
	put("whole\nnot who");
	ck_assert_int_eq(poll_now(), 1);
	put("le");
	ck_assert_int_eq(poll_now(), 0);
	close_far();
	poll_until_story("[whole](not whole)X0");
	close_poller();
}

TEST(a_longer_line_is_told_of_and_skipped)
{
	open_lines();
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\r\n", 2, 4), 0);
	put("1234\r\n12345");
	ck_assert_int_eq(poll_now(), 1);
	put("678");
	ck_assert_int_eq(poll_now(), 1);
	put("9\r");
	ck_assert_int_eq(poll_now(), 0);
	put("\nnext\r\n");
	ck_assert_int_eq(poll_now(), 1);
	expect_story("[1234]<1234>[next]");
	close_poller();
}

TEST(a_line_may_be_longer_than_the_read_limit)
{
	enum { LENGTH = 300000 };
	static char line[LENGTH];

	open_lines();
	ck_assert_int_eq(ferry_channel_set_limits(channel, 10, MIB), 0);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, LENGTH), 0);
	memset(line, 'x', sizeof(line));
	put("first\n");
	for (size_t done = 0; done < LENGTH;) {
		ssize_t count = write(far, line + done, LENGTH - done);
		if (count > 0)
			done += (size_t)count;
		ck_assert_int_ge(ferry_poller_poll(poller, &at_once, events, 1), 0);
	}
	put("\n");
	ck_assert_int_eq(ferry_poller_poll(poller, &deadline, events, 1), 1);
	ck_assert_uint_eq(events[0].length, LENGTH);
	ck_assert_mem_eq(events[0].data, line, LENGTH);
	close_poller();
}

TEST(lines_and_bytes_take_turns)
{
	open_lines();
	put("3\nabc4\nde");
	ck_assert_int_eq(poll_for(1, &at_once), 1);
	expect_story("[3]");
	ck_assert_int_eq(ferry_channel_set_lines(channel, NULL, 0, 0), 0);
	ck_assert_int_eq(poll_for(1, &at_once), 1);
	expect_story("{abc4\nde}");
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, 10), 0);
	put("x\n");
	ck_assert_int_eq(poll_now(), 1);
	expect_story("[x]");
	close_poller();
}

/* The text arrives in random pieces, and polls have random room: the lines are the same. */
TEST(lines_do_not_depend_on_packets_or_room)
{
	enum { LINES = 3000 };
	char text[LINES * 12], told[LINES * 12];
	size_t length = 0, sent = 0, received = 0;

	open_lines();
	for (int i = 0; i < LINES; i++) {
		for (uint32_t j = support_random_below(10); j > 0; j--)
			text[length++] = (char)('a' + support_random_below(26));
		text[length++] = '\n';
	}
	while (received < length) {
		size_t size = support_random_below(200);
		if (size > length - sent)
			size = length - sent;
		ssize_t count = write(far, text + sent, size);
		sent += count > 0 ? (size_t)count : 0;
		int max = 1 + (int)support_random_below(30);
		int polled = ferry_poller_poll(poller, &at_once, events, max);
		ck_assert_int_ge(polled, 0);
		for (int i = 0; i < polled; i++) {
			ck_assert_int_eq(events[i].kind, FERRY_CHANNEL_LINE);
			memcpy(told + received, events[i].data, events[i].length);
			received += events[i].length;
			told[received++] = '\n';
		}
	}
	ck_assert_mem_eq(told, text, length);
	close_poller();
}

/* ---- descriptors ---- */

TEST_CASE("descriptors");

TEST(a_descriptor_comes_before_its_line_and_after_the_one_before)
{
	open_lines();
	put("plain\nbegin");
	ck_assert_int_eq(poll_now(), 1);
	put_fd("ning\n", 1);
	put_fd("second\nthird\n", 2);
	put_fd("x", 3);
	ck_assert_int_eq(poll_now(), 6);
	expect_story("[plain]F1[beginning]F2[second][third]F3");
	close_poller();
}

TEST(a_descriptor_comes_before_its_bytes)
{
	open_channel(PAIR_UNIX);
	put_fd("a", 1);
	ck_assert_int_eq(poll_for(1, &at_once), 1);
	put_fd("bc", 2);
	ck_assert_int_eq(poll_now(), 3);
	expect_story("F1{a}F2{bc}");
	close_poller();
}

TEST(a_stolen_descriptor_is_the_callers_and_the_others_are_closed)
{
	open_channel(PAIR_UNIX);
	put_fd("a", 1);
	put_fd("b", 2);
	ck_assert_int_eq(poll_now(), 4);
	int first = events[0].fd, second = events[2].fd;
	ck_assert_int_eq(ferry_poller_steal_fd(poller, &events[0]), first);
	ck_assert_int_eq(events[0].fd, -1);
	ck_assert_int_eq(ferry_poller_steal_fd(poller, &events[0]), -ENOENT);
	ck_assert_int_eq(ferry_poller_steal_fd(poller, &events[1]), -ENOENT);
	ck_assert_int_eq(poll_now(), 0);
	ck_assert(fd_is_open(first) && !fd_is_open(second));
	events[2].fd = second;
	ck_assert_int_eq(ferry_poller_steal_fd(poller, &events[2]), -ENOENT);
	ck_assert_uint_eq(marked_number(first), 1);
	close(first);
	close_poller();
}

TEST(descriptors_that_nobody_polls_are_closed)
{
	open_channel(PAIR_UNIX);
	for (uint32_t i = 0; i < 100; i++)
		put_fd("x", i);
	ck_assert_int_eq(poll_for(10, &at_once), 10);
	close_poller();
}

TEST(descriptors_keep_their_order_when_there_are_many)
{
	uint32_t next = 0;

	open_channel(PAIR_UNIX);
	for (uint32_t i = 0; i < 200; i++)
		put_fd("x", i);
	while (next < 200) {
		int polled = ferry_poller_poll(poller, &at_once, events, 7);
		ck_assert_int_gt(polled, 0);
		for (int i = 0; i < polled; i++)
			if (events[i].kind == FERRY_CHANNEL_FD)
				ck_assert_uint_eq(marked_number(events[i].fd), next++);
	}
	close_poller();
}

TEST(lost_descriptors_are_told)
{
	open_channel(PAIR_UNIX);
	put_fd("x", 1);
	limit_descriptors(0);
	ck_assert_int_eq(poll_now(), 2);
	unlimit_descriptors();
	expect_story("L{x}");
	close_poller();
}

TEST(descriptors_are_sent)
{
	struct wire_read result;
	char byte;

	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_send_fd(channel, make_marked_fd(7), FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), 0);
	wire_receive(far, &byte, 1, &result);
	ck_assert_int_eq(result.bytes, 1);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert_uint_eq(marked_number(result.fds[0]), 7);
	wire_close_fds(&result);
	ck_assert_int_eq(ferry_channel_send_fd(channel, -1, FERRY_FD_DUP), -EBADF);
	close_poller();
}

/* ---- writing ---- */

static unsigned char *make_bytes(size_t length)
{
	unsigned char *bytes = malloc(length);
	ck_assert_ptr_nonnull(bytes);
	for (size_t i = 0; i < length; i++)
		bytes[i] = support_byte(i);
	return bytes;
}

TEST_CASE("writing");

LOOP_TEST_FROM(a_mebibyte_goes_through_the_smallest_buffers, PAIR_UNIX, PAIR_TCP + 1)
{
	unsigned char *bytes = make_bytes(MIB);
	uint64_t received = 0;

	open_channel((enum pair_kind)_i);
	wire_shrink(ferry_channel_get_fd(channel));
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	ck_assert_int_eq(ferry_channel_flush(channel, &at_once), -ETIMEDOUT);
	while (received < MIB) {
		ssize_t count = wire_expect(far, received, 4096);
		if (count > 0)
			received += (uint64_t)count;
		else
			ck_assert_int_eq(count, -EAGAIN);
		ck_assert_int_eq(poll_now(), 0);
	}
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), 0);
	free(bytes);
	close_poller();
}

TEST(flush_waits_for_the_reader)
{
	unsigned char *bytes = make_bytes(MIB);

	open_channel(PAIR_UNIX);
	pid_t reader = fork();
	ck_assert_int_ge(reader, 0);
	if (reader == 0) {
		char block[65536];
		fcntl(far, F_SETFL, 0);
		for (ssize_t left = MIB, count; left > 0; left -= count)
			if ((count = read(far, block, sizeof(block))) <= 0)
				_exit(1);
		raise(SIGKILL); /* at an exit valgrind would report the parent's memory as leaks */
	}
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), 0);
	free(bytes);
	close_poller();
	int status;
	ck_assert_int_eq(waitpid(reader, &status, 0), reader);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST(writes_leave_in_their_order)
{
	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_write(channel, "one ", 4), 0);
	ck_assert_int_eq(ferry_channel_write(channel, NULL, 0), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "two", 3), 0);
	expect_sent(far, "one two");
	ck_assert_int_eq(ferry_channel_write(channel, NULL, 1), -EINVAL);
	close_poller();
}

TEST(a_full_queue_refuses_and_says_when_there_is_room)
{
	unsigned char *bytes = make_bytes(MIB);

	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_set_limits(channel, 256 * 1024, 100000), 0);
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), -EAGAIN);
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), -EAGAIN);
	ck_assert_int_eq(poll_now(), 0);
	uint64_t received = 0;
	while (story_length == 0) {
		ssize_t count = wire_expect(far, received, 4096);
		received += count > 0 ? (uint64_t)count : 0;
		ck_assert_int_ge(poll_now(), 0);
	}
	expect_story("W");
	struct ferry_transport_stats stats;
	ferry_transport_get_stats(ferry_channel_get_transport(channel), &stats);
	ck_assert_uint_le(stats.bytes_queued, 50000);
	ck_assert_int_eq(poll_now(), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "y", 1), 0);
	while (received < MIB) {
		ssize_t count = wire_expect(far, received, MIB - received < 4096 ? MIB - received : 4096);
		received += count > 0 ? (uint64_t)count : 0;
		ck_assert_int_eq(poll_now(), 0);
	}
	expect_sent(far, "y");
	free(bytes);
	close_poller();
}

TEST(a_program_that_only_writes_needs_no_polls)
{
	char block[4096] = {0};
	uint64_t sent = 0, received = 0;

	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_set_limits(channel, 256 * 1024, 10000), 0);
	while (received < 2 * MIB) {
		int status = ferry_channel_write(channel, block, sizeof(block));
		ck_assert(status == 0 || status == -EAGAIN);
		sent += status == 0 ? sizeof(block) : 0;
		if (status == -EAGAIN)
			received += wire_drain(far);
	}
	ck_assert_uint_ge(sent, received);
	close_poller();
}

LOOP_TEST_FROM(what_is_queued_is_sent_before_a_close, PAIR_UNIX, PAIR_TCP + 1)
{
	unsigned char *bytes = make_bytes(MIB);
	uint64_t received = 0;
	ssize_t count;

	open_channel((enum pair_kind)_i);
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	ck_assert_int_eq(ferry_channel_close(channel), 0);
	int status = ferry_channel_write(channel, "x",
	                                 1); /* -ENOTCONN if the kernel has taken everything at once */
	ck_assert(status == -EPIPE || status == -ENOTCONN);
	while ((count = wire_expect(far, received, 65536)) != 0) {
		received += count > 0 ? (uint64_t)count : 0;
		poll_now();
	}
	ck_assert_uint_eq(received, MIB);
	expect_story("X0");
	free(bytes);
	close_poller();
}

/* ---- many channels ---- */

TEST_CASE("many");

TEST(a_hundred_channels_are_served_without_a_callback)
{
	enum { CHANNELS = 100, ROUNDS = 20 };
	int fars[CHANNELS];
	unsigned int served = 0, ended = 0;

	open_poller();
	for (int i = 0; i < CHANNELS; i++) {
		struct ferry_channel *made = add_channel(PAIR_UNIX, &fars[i]);
		ck_assert_int_eq(ferry_channel_set_lines(made, "\n", 1, 100), 0);
		ck_assert_int_eq(ferry_channel_set_context(made, &fars[i]), 0);
	}
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < CHANNELS; i++)
			ck_assert_int_eq(dprintf(fars[i], "%d %d\n", round, i), round < 10 ? i < 10 ? 4 : 5
			                                                        : i < 10   ? 5
			                                                                   : 6);
		int count = ferry_poller_poll(poller, &at_once, events, EVENTS_MAX);
		ck_assert_int_eq(count, CHANNELS);
		for (int i = 0; i < count; i++, served++) {
			const int *its_far = ferry_channel_get_context(events[i].channel);
			char expected[32];
			int length =
			    snprintf(expected, sizeof(expected), "%d %d", round, (int)(its_far - fars));
			ck_assert_uint_eq(events[i].length, (size_t)length);
			ck_assert_mem_eq(events[i].data, expected, (size_t)length);
			ck_assert_int_eq(
			    ferry_channel_write(events[i].channel, events[i].data, events[i].length), 0);
			expect_sent(*its_far, expected);
		}
	}
	ck_assert_uint_eq(served, CHANNELS * ROUNDS);
	for (int i = 0; i < CHANNELS; i++)
		close(fars[i]);
	int count;
	while ((count = ferry_poller_poll(poller, NULL, events, EVENTS_MAX)) > 0)
		for (int i = 0; i < count; i++, ended++) {
			ck_assert_int_eq(events[i].kind, FERRY_CHANNEL_CLOSED);
			ferry_channel_free(events[i].channel);
		}
	ck_assert_int_eq(count, -ENOENT);
	ck_assert_uint_eq(ended, CHANNELS);
	close_poller();
}

TEST(with_little_room_each_channel_has_its_turn_and_nothing_is_lost)
{
	enum { CHANNELS = 3, LINES = 10 };
	struct ferry_channel *channels[CHANNELS];
	unsigned int told[CHANNELS] = {0};

	open_poller();
	int fars[CHANNELS];
	for (int i = 0; i < CHANNELS; i++) {
		channels[i] = add_channel(PAIR_UNIX, &fars[i]);
		ck_assert_int_eq(ferry_channel_set_lines(channels[i], "\n", 1, 100), 0);
		for (int j = 0; j < LINES; j++)
			ck_assert_int_eq(dprintf(fars[i], "%d\n", j), 2);
	}
	for (int round = 0; round < LINES; round++) {
		ck_assert_int_eq(ferry_poller_poll(poller, &at_once, events, CHANNELS), CHANNELS);
		for (int i = 0; i < CHANNELS; i++)
			for (int j = 0; j < CHANNELS; j++)
				if (events[i].channel == channels[j]) {
					ck_assert_int_eq(events[i].data[0], '0' + (int)told[j]);
					told[j]++;
				}
		for (int j = 0; j < CHANNELS; j++)
			ck_assert_int_eq((int)told[j], round + 1);
	}
	ck_assert_int_eq(poll_now(), 0);
	for (int i = 0; i < CHANNELS; i++)
		close(fars[i]);
	close_poller();
}

TEST(a_peer_that_never_pauses_holds_nobody_up)
{
	int quiet_far;

	open_lines();
	struct ferry_channel *quiet = add_channel(PAIR_UNIX, &quiet_far);
	wire_fill(far);
	ck_assert_int_gt(poll_for(1, &at_once), 0);
	wire_fill(far);
	ck_assert_int_eq(write(quiet_far, "x", 1), 1);
	int polls = 0;
	do {
		ck_assert_int_eq(ferry_poller_poll(poller, &at_once, events, 1), 1);
		wire_fill(far);
		polls++;
	} while (events[0].channel != quiet);
	ck_assert_int_le(polls, 2);
	close(quiet_far);
	close_poller();
}

LOOP_TEST_FROM(no_more_is_read_ahead_than_allowed, PAIR_UNIX, PAIR_TCP + 1)
{
	enum { LIMIT = 4096, ONE_READ = 256 * 1024 };
	struct ferry_transport_stats stats;
	uint64_t sent = 0, told = 0;

	open_channel((enum pair_kind)_i);
	ck_assert_int_eq(ferry_channel_set_limits(channel, LIMIT, MIB), 0);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, 100), 0);
	static char lines[65536];
	for (size_t i = 0; i < sizeof(lines); i++)
		lines[i] = i % 2 == 0 ? 'x' : '\n';
	for (int i = 0; i < 1000; i++) {
		ssize_t count = write(far, lines, sizeof(lines));
		sent += count > 0 ? (uint64_t)count : 0;
		ck_assert_int_eq(ferry_poller_poll(poller, &deadline, events, 1), 1);
		told += 2;
		ferry_transport_get_stats(ferry_channel_get_transport(channel), &stats);
		ck_assert_uint_le(stats.bytes_received, told + LIMIT + ONE_READ);
	}
	ck_assert_uint_gt(sent, stats.bytes_received); /* the kernel stops the peer */
	close_poller();
}

/* ---- registering ---- */

TEST_CASE("registering");

TEST(a_channel_that_is_not_registered_is_not_told_of_and_loses_nothing)
{
	open_lines();
	put("one\ntwo\n");
	ck_assert_int_eq(poll_for(1, &at_once), 1);
	ck_assert_int_eq(ferry_poller_unregister(poller, channel), 0);
	ck_assert_int_eq(ferry_poller_unregister(poller, channel), -ENOENT);
	ck_assert_int_eq(poll_now(), -ENOENT);
	put("three\n");
	ck_assert_int_eq(ferry_channel_write(channel, "still", 5), 0);
	expect_sent(far, "still");
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	ck_assert_int_eq(ferry_poller_register(poller, channel), -EALREADY);
	poll_until_story("[one][two][three]");
	close_poller();
}

TEST(a_channel_that_is_not_registered_outlives_its_poller)
{
	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_poller_unregister(poller, channel), 0);
	ferry_poller_free(poller);
	unsigned char *bytes = make_bytes(MIB);
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	uint64_t received = 0;
	while (ferry_channel_flush(channel, &at_once) == -ETIMEDOUT) {
		ssize_t count = wire_expect(far, received, 65536);
		received += count > 0 ? (uint64_t)count : 0;
	}
	int fd = ferry_channel_get_fd(channel);
	ferry_channel_free(channel);
	ck_assert(!fd_is_open(fd));
	free(bytes);
	close_far();
}

TEST(a_poller_without_channels_has_nothing_to_wait_for)
{
	open_poller();
	ck_assert_int_eq(poll_for(1, NULL), -ENOENT);
	ck_assert_int_eq(poll_for(1, &at_once), -ENOENT);
	close_poller();
}

TEST(a_freed_channel_is_closed_at_once_and_its_events_can_be_looked_at)
{
	open_lines();
	int fd = ferry_channel_get_fd(channel);
	ck_assert_int_eq(ferry_channel_set_context(channel, &far), 0);
	put("one\ntwo\nthree\n");
	ck_assert_int_eq(poll_for(2, &at_once), 2);
	ferry_channel_free(events[0].channel);
	ck_assert(!fd_is_open(fd));
	ck_assert_mem_eq(events[0].data, "one", 3);
	ck_assert_mem_eq(events[1].data, "two", 3);
	ck_assert_ptr_eq(ferry_channel_get_context(events[1].channel), &far);
	ferry_channel_free(events[1].channel);
	ck_assert_int_eq(ferry_channel_write(channel, "x", 1), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_get_fd(channel), -ENOTCONN);
	ck_assert_int_eq(ferry_poller_register(poller, channel), -ENOTCONN);
	ck_assert_int_eq(ferry_channel_set_lines(channel, NULL, 0, 0), 0);
	expect_far_end();
	ck_assert_int_eq(poll_now(), -ENOENT);
	close_poller();
}

TEST(events_stay_valid_while_the_loop_runs_for_other_calls)
{
	open_lines();
	int other_far;
	struct ferry_channel *other = add_channel(PAIR_UNIX, &other_far);
	static char text[20000];
	memset(text, 'x', sizeof(text));
	ck_assert_int_eq(write(other_far, text, sizeof(text)), (ssize_t)sizeof(text));
	put("one\ntwo");
	ck_assert_int_ge(poll_now(), 2);
	put(" more\nthree\n");
	ck_assert_int_eq(ferry_channel_flush(channel, &at_once), 0);
	ferry_channel_free(other);
	for (int i = 0; i < event_count; i++) {
		if (events[i].channel == channel)
			ck_assert_mem_eq(events[i].data, "one", 3);
		else
			ck_assert_mem_eq(events[i].data, text, events[i].length);
	}
	story_length = 0;
	ck_assert_int_eq(poll_now(), 2);
	expect_story("[two more][three]");
	close(other_far);
	close_poller();
}

/* ---- close_all ---- */

/* A server at socket_path. */
static void add_unix_server(struct ferry_channel **out)
{
	struct event_base *loop = ferry_poller_get_base(poller);

	ck_assert_int_eq(ferry_listener_new_unix(&listener, loop, socket_path, NULL, NULL, NULL), 0);
	ck_assert_int_eq(ferry_poller_add_server(out, poller, ferry_listener_get_fd(listener)), 0);
}

TEST_CASE("servers", make_directory, remove_directory);

TEST(close_all_sends_and_closes_everything)
{
	struct ferry_channel *others[3];
	int fars[3];

	open_channel(PAIR_UNIX);
	for (int i = 0; i < 3; i++) {
		others[i] = add_channel(i == 0 ? PAIR_TCP : PAIR_UNIX, &fars[i]);
		ck_assert_int_eq(ferry_channel_write(others[i], "bye", 3), 0);
	}
	add_unix_server(NULL);
	ck_assert_int_eq(ferry_poller_close_all(poller, NULL), 0);
	expect_far_end();
	for (int i = 0; i < 3; i++) {
		close_far();
		far = fars[i];
		expect_sent(far, "bye");
		expect_far_end();
	}
	free_listener();
	ck_assert(!path_exists(socket_path));
	ck_assert_int_eq(poll_now(), -ENOENT);
	ck_assert_int_eq(ferry_poller_close_all(poller, NULL), 0);
	close_poller();
}

LOOP_TEST(close_all_says_what_was_not_sent, 2)
{
	unsigned char *bytes = make_bytes(MIB);

	open_channel(PAIR_UNIX);
	int fd = ferry_channel_get_fd(channel);
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	ck_assert_int_eq(ferry_poller_close_all(poller, _i == 0 ? &at_once : &soon), -ETIMEDOUT);
	ck_assert(!fd_is_open(fd));

	close_far();
	channel = add_channel(PAIR_UNIX, &far);
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	close_far();
	ck_assert_int_eq(ferry_poller_close_all(poller, NULL), -EPIPE);
	free(bytes);
	close_poller();
}

TEST(close_all_leaves_what_is_not_registered)
{
	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_poller_unregister(poller, channel), 0);
	ck_assert_int_eq(ferry_poller_close_all(poller, NULL), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "here", 4), 0);
	expect_sent(far, "here");
	ferry_channel_free(channel);
	close_poller();
}

/* ---- servers ---- */

static int connect_to_path(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_uint_lt(strlen(socket_path), sizeof(address.sun_path));
	memcpy(address.sun_path, socket_path, strlen(socket_path));
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

TEST(a_server_accepts)
{
	struct ferry_channel *server;

	open_poller();
	add_unix_server(&server);
	ck_assert_int_eq(ferry_channel_set_lines(server, "\n", 1, 100), 0);
	ck_assert_int_eq(poll_now(), 0);
	far = connect_to_path();
	int second = connect_to_path();
	put("hello\nwor");
	ck_assert_int_eq(poll_now(), 2);
	expect_story("AA");
	for (int i = 0; i < 2; i++) {
		ck_assert_ptr_eq(events[i].channel, server);
		ck_assert_ptr_nonnull(events[i].accepted);
	}
	channel = events[0].accepted;
	struct ferry_channel *other = events[1].accepted;
	poll_until_story("[hello]");
	ck_assert(events[0].channel == channel || events[0].channel == other);
	ck_assert_int_eq(ferry_channel_write(events[0].channel, "welcome", 7), 0);
	expect_sent(far, "welcome");
	close_far();
	poll_until_story("(wor)X0");
	close(second);
	poll_until_story("X0");
	ck_assert_int_eq(poll_now(), 0);
	ferry_channel_free(server);
	free_listener();
	ck_assert(!path_exists(socket_path));
	ck_assert_int_eq(poll_now(), -ENOENT);
	close_poller();
}

LOOP_TEST(a_server_stands_on_a_socket_from_elsewhere, 2)
{
	struct ferry_channel *server;

	open_poller();
	int listening = _i == 0 ? listen_tcp() : listen_abstract();
	ck_assert_int_eq(evutil_make_socket_nonblocking(listening), 0);
	ck_assert_int_eq(ferry_poller_add_server(&server, poller, listening), 0);
	ck_assert_int_eq(ferry_channel_get_fd(server), listening);
	ck_assert_int_eq(ferry_channel_write(server, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_close(server), -EINVAL);
	ck_assert_int_eq(ferry_channel_flush(server, NULL), -EINVAL);
	far = connect_to(listening);
	ck_assert_int_ge(far, 0);
	poll_until_story("A");
	ck_assert_int_eq(ferry_channel_write(events[0].accepted, "hello", 5), 0);
	expect_sent(far, "hello");
	close_poller();
	ck_assert(fd_is_open(listening));
	close(listening);
}

TEST(a_server_that_is_not_registered_leaves_clients_in_the_backlog)
{
	struct ferry_channel *server;

	open_channel(PAIR_UNIX);
	add_unix_server(&server);
	ck_assert_int_eq(ferry_poller_unregister(poller, server), 0);
	int client = connect_to_path();
	ck_assert_int_eq(poll_now(), 0);
	ck_assert_int_eq(ferry_poller_register(poller, server), 0);
	poll_until_story("A");
	close(client);
	close_poller();
}

LOOP_TEST(connections_that_nobody_polls_are_closed, 2)
{
	enum { CLIENTS = 100 };
	int clients[CLIENTS];

	open_poller();
	add_unix_server(NULL);
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = connect_to_path();
	ck_assert_int_eq(poll_for(5, &at_once), 5);
	int told = 5;
	if (_i == 1)
		while (told < CLIENTS)
			told += poll_for(7, &deadline);
	ferry_poller_free(poller);
	free_listener();
	for (int i = 0; i < CLIENTS; i++) {
		char byte;
		ssize_t count = read(clients[i], &byte, 1);
		ck_assert(count == 0 || (count < 0 && errno == ECONNRESET));
		close(clients[i]);
	}
}

/* Replaces libc's function, and counts the turns of the loop. */
static unsigned int turns;

int epoll_wait(int epoll_fd, struct epoll_event *ready, int max, int timeout)
{
	turns++;
	return (int)syscall(SYS_epoll_pwait, epoll_fd, ready, max, timeout, NULL, 0);
}

TEST(a_server_without_descriptors_waits_and_does_not_spin)
{
	const struct timeval a_while = {.tv_usec = 350000};

	open_poller();
	add_unix_server(NULL);
	far = connect_to_path();
	limit_descriptors(0);
	turns = 0;
	ck_assert_int_eq(poll_for(1, &a_while), 0);
	ck_assert_uint_ge(turns, 2);
	ck_assert_uint_le(turns, 30); /* the listener tries again ten times a second */
	unlimit_descriptors();
	poll_until_story("A");
	close_poller();
}

/* ---- time and signals ---- */

static int64_t milliseconds(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

TEST_CASE("time and signals");

TEST(a_poll_waits_no_shorter_than_it_is_told)
{
	open_channel(PAIR_UNIX);
	int64_t start = milliseconds();
	ck_assert_int_eq(poll_for(1, &soon), 0);
	ck_assert_int_ge(milliseconds() - start, 19);
	put("x");
	ck_assert_int_eq(poll_for(1, NULL), 1);
	const struct timeval endless = {.tv_sec = sizeof(time_t) == 8 ? (time_t)INT64_MAX : INT32_MAX};
	put("y");
	ck_assert_int_eq(poll_for(1, &endless), 1);
	expect_story("{x}{y}");
	close_poller();
}

static volatile sig_atomic_t ticks;
static void (*volatile on_third_tick)(void);

static void tick(int number)
{
	(void)number;
	if (++ticks == 3)
		on_third_tick();
}

/* Without SA_RESTART: the signal interrupts system calls. */
static void start_ticking(void (*third)(void))
{
	const struct sigaction action = {.sa_handler = tick};
	const struct itimerval interval = {{0, 5000}, {0, 5000}};

	ticks = 0;
	on_third_tick = third;
	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &interval, NULL), 0);
}

static void stop_ticking(void)
{
	const struct itimerval never = {0};
	ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
	ck_assert_int_ge(ticks, 3);
}

static void write_at_far_end(void)
{
	(void)!write(far, "x", 1);
}

LOOP_TEST(a_signal_does_not_end_a_poll, 2)
{
	open_channel(PAIR_UNIX);
	start_ticking(write_at_far_end);
	ck_assert_int_eq(poll_for(1, _i == 0 ? NULL : &deadline), 1);
	stop_ticking();
	expect_story("{x}");
	close_poller();
}

static void interrupt(void)
{
	errno = E2BIG;
	if (ferry_poller_interrupt(poller) != 0 || errno != E2BIG)
		_exit(1);
}

TEST(an_interruption_does_and_loses_nothing)
{
	open_channel(PAIR_UNIX);
	start_ticking(interrupt);
	ck_assert_int_eq(poll_for(1, NULL), -EINTR);
	stop_ticking();
	ck_assert_int_eq(poll_now(), 0);

	put("x");
	ck_assert_int_eq(ferry_poller_interrupt(poller), 0);
	ck_assert_int_eq(ferry_poller_interrupt(poller), 0);
	ck_assert_int_eq(poll_now(), -EINTR);
	ck_assert_int_eq(poll_now(), 1);
	expect_story("{x}");
	close_poller();
}

TEST(an_interruption_ends_flush_and_close_all)
{
	unsigned char *bytes = make_bytes(MIB);

	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_write(channel, bytes, MIB), 0);
	start_ticking(interrupt);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), -EINTR);
	stop_ticking();
	start_ticking(interrupt);
	ck_assert_int_eq(ferry_poller_close_all(poller, NULL), -EINTR);
	stop_ticking();
	free(bytes);
	close_poller();
}

/* ---- beside callbacks ---- */

TEST_CASE("arguments");

TEST(a_transport_becomes_a_channel)
{
	struct ferry_testing *testing;

	open_poller();
	ck_assert_int_eq(ferry_testing_new(&testing, ferry_poller_get_base(poller)), 0);
	struct ferry_transport *transport = ferry_testing_get_transport(testing);
	ck_assert_int_eq(ferry_channel_new_transport(&channel, poller, transport), 0);
	ck_assert_ptr_eq(ferry_channel_get_transport(channel), transport);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, 100), 0);
	ck_assert_int_eq(ferry_testing_put(testing, "early\n", 6), 0);
	ck_assert_int_eq(ferry_testing_pump(testing), 0);
	ck_assert_int_eq(poll_now(), -ENOENT);
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	poll_until_story("[early]");
	ck_assert_int_eq(ferry_testing_set_full(testing, true), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "answer", 6), 0);
	ck_assert_int_eq(ferry_channel_flush(channel, &at_once), -ETIMEDOUT);
	ck_assert_int_eq(ferry_testing_set_full(testing, false), 0);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), 0);
	ck_assert_int_eq(ferry_testing_pump(testing), 0);
	ck_assert_uint_eq(evbuffer_get_length(ferry_testing_get_written(testing)), 6);
	ck_assert_int_eq(ferry_testing_put(testing, "end", 3), 0);
	ck_assert_int_eq(ferry_testing_put_eof(testing), 0);
	poll_until_story("(end)X0");
	ferry_testing_free(testing);
	close_poller();
}

static int statuses[3];

static void call_inside(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	statuses[0] = ferry_poller_poll(poller, NULL, events, 1);
	statuses[1] = ferry_poller_close_all(poller, NULL);
	ferry_channel_write(channel, "out", 3);
	ferry_channel_free(channel);
	statuses[2] = 1;
}

TEST(a_callback_cannot_run_the_loop_again)
{
	open_lines();
	int other;
	add_channel(PAIR_UNIX, &other);
	int fd = ferry_channel_get_fd(channel);
	statuses[2] = 0;
	ck_assert_int_eq(
	    event_base_once(ferry_poller_get_base(poller), -1, EV_TIMEOUT, call_inside, NULL, &at_once),
	    0);
	ck_assert_int_eq(poll_for(1, &soon), 0);
	ck_assert_int_eq(statuses[2], 1);
	ck_assert_int_eq(statuses[0], -EBUSY);
	ck_assert_int_eq(statuses[1], -EBUSY);
	ck_assert(!fd_is_open(fd));
	expect_sent(far, "out");
	close(other);
	close_poller();
}

/* ---- arguments ---- */

TEST(bad_arguments_change_nothing)
{
	const struct timeval past = {.tv_sec = -1}, odd = {.tv_usec = 1000000};
	struct ferry_channel *made = NULL;
	struct ferry_poller *other;
	int fds[2], file = make_file(1);

	open_channel(PAIR_UNIX);
	make_pipe(fds);
	ck_assert_int_eq(ferry_poller_new(NULL), -EINVAL);
	ck_assert_int_eq(ferry_poller_new(&other), 0);
	ck_assert_int_eq(ferry_poller_register(NULL, channel), -EINVAL);
	ck_assert_int_eq(ferry_poller_register(poller, NULL), -EINVAL);
	ck_assert_int_eq(ferry_poller_register(other, channel), -EINVAL);
	ck_assert_int_eq(ferry_poller_unregister(NULL, channel), -EINVAL);
	ck_assert_int_eq(ferry_poller_unregister(poller, NULL), -EINVAL);
	ck_assert_int_eq(ferry_poller_unregister(other, channel), -EINVAL);
	ck_assert_int_eq(ferry_poller_poll(NULL, NULL, events, 1), -EINVAL);
	ck_assert_int_eq(ferry_poller_poll(poller, NULL, NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_poller_poll(poller, NULL, events, 0), -EINVAL);
	ck_assert_int_eq(ferry_poller_poll(poller, NULL, events, -1), -EINVAL);
	ck_assert_int_eq(ferry_poller_poll(poller, &past, events, 1), -EINVAL);
	ck_assert_int_eq(ferry_poller_poll(poller, &odd, events, 1), -EINVAL);
	ck_assert_int_eq(ferry_poller_steal_fd(NULL, events), -EINVAL);
	ck_assert_int_eq(ferry_poller_steal_fd(poller, NULL), -EINVAL);
	ck_assert_int_eq(ferry_poller_interrupt(NULL), -EINVAL);
	ck_assert_int_eq(ferry_poller_close_all(NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_poller_close_all(poller, &past), -EINVAL);
	ck_assert_ptr_null(ferry_poller_get_base(NULL));

	ck_assert_int_eq(ferry_poller_add_server(&made, NULL, far), -EINVAL);
	ck_assert_int_eq(ferry_poller_add_server(&made, poller, far), -EINVAL);
	ck_assert_int_eq(ferry_poller_add_server(&made, poller, -1), -EBADF);
	ck_assert_int_eq(ferry_poller_add_server(&made, poller, fds[0]), -ENOTSOCK);
	ck_assert_int_eq(ferry_poller_add_server(NULL, NULL, far), -EINVAL);
	ck_assert_int_eq(ferry_poller_add_server(NULL, poller, far), -EINVAL);
	ck_assert_int_eq(ferry_poller_add_server(NULL, poller, -1), -EBADF);

	ck_assert_int_eq(ferry_channel_new_socket(NULL, poller, far), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_socket(&made, NULL, far), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_socket(&made, poller, -1), -EBADF);
	ck_assert_int_eq(ferry_channel_new_socket(&made, poller, fds[0]), -ENOTSOCK);
	ck_assert_int_eq(ferry_channel_new_pipes(NULL, poller, fds[0], fds[1]), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, NULL, fds[0], fds[1]), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, -1, -1), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, -2, fds[1]), -EBADF);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, fds[1], fds[0]), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, fds[1], -1), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, -1, fds[0]), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, file, fds[1]), -EINVAL);
	ck_assert_int_eq(
	    ferry_channel_new_transport(NULL, poller, ferry_channel_get_transport(channel)), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_transport(&made, poller, NULL), -EINVAL);
	ck_assert_int_eq(
	    ferry_channel_new_transport(&made, other, ferry_channel_get_transport(channel)), -EINVAL);
	ck_assert_ptr_null(made);
	ck_assert(fd_is_open(fds[0]) && fd_is_open(fds[1]) && fd_is_open(far) && fd_is_open(file));

	ck_assert_int_eq(ferry_channel_set_lines(NULL, NULL, 0, 0), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_lines(NULL, "\n", 1, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_lines(channel, NULL, 1, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 0, 1), 0);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "12345678901234567", 17, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, 0), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, (size_t)MIB * 1024 + 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_half_close(NULL, true), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_limits(NULL, 1, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_limits(channel, 0, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_limits(channel, 1, 0), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_limits(channel, 0, 0), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_context(NULL, NULL), -EINVAL);
	ck_assert_ptr_null(ferry_channel_get_context(NULL));
	ck_assert_int_eq(ferry_channel_get_fd(NULL), -EINVAL);
	ck_assert_ptr_null(ferry_channel_get_transport(NULL));
	ck_assert_int_eq(ferry_channel_write(NULL, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_write(channel, NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_write(channel, NULL, 0), 0);
	ck_assert_int_eq(ferry_channel_send_fd(NULL, 0, FERRY_FD_DUP), -EINVAL);
	ck_assert_int_eq(ferry_channel_flush(NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_channel_flush(channel, &past), -EINVAL);
	ck_assert_int_eq(ferry_channel_close(NULL), -EINVAL);
	ck_assert_int_eq(ferry_channel_close_write(NULL), -EINVAL);
	ferry_channel_free(NULL);
	ferry_poller_free(NULL);

	put("unharmed");
	poll_until_story("{unharmed}");
	ferry_poller_free(other);
	close(fds[0]);
	close(fds[1]);
	close(file);
	close_poller();
}

TEST(without_descriptors_nothing_is_made)
{
	struct ferry_poller *other;
	struct ferry_channel *made;
	int fds[2];

	open_poller();
	make_pipe(fds);
	for (unsigned int numbers = 0; numbers < 8; numbers++) {
		limit_descriptors(numbers);
		int status = ferry_poller_new(&other);
		if (status == 0)
			ferry_poller_free(other);
		unlimit_descriptors();
		ck_assert_int_eq(status, numbers < 4 ? -EMFILE : 0);
	}
	limit_descriptors(0);
	int faucet = ferry_channel_new_pipes(&made, poller, fds[0], -1);
	int sink = ferry_channel_new_pipes(&made, poller, -1, fds[1]);
	unlimit_descriptors();
	ck_assert_int_eq(faucet, -EMFILE);
	ck_assert_int_eq(sink, -EMFILE);
	close(fds[0]);
	close(fds[1]);
	close_poller();
}
