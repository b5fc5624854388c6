/* The filters: each byte and each descriptor passes, is dropped or replaced, or ends the relay. */

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "ferry/ferry.h"

#include "relay_link.h"
#include "test.h"
#include "wire.h"

static void put(int side, const char *text, int fd)
{
	ck_assert_int_eq(wire_send(peers[side], text, strlen(text), &fd, fd >= 0),
	                 (ssize_t)strlen(text));
	if (fd >= 0)
		close(fd);
}

/* Reads one byte, with descriptors of these numbers; 0: none. */
static void expect_byte(int side, char byte, uint32_t first, uint32_t second)
{
	struct wire_read result;
	char arrived;

	do {
		event_base_loop(base, EVLOOP_NONBLOCK);
		wire_receive(peers[side], &arrived, 1, &result);
	} while (result.bytes == -EAGAIN);
	ck_assert_int_eq(result.bytes, 1);
	ck_assert_int_eq(arrived, byte);
	ck_assert_uint_eq(result.fd_count, (size_t)(first != 0) + (size_t)(second != 0));
	if (first != 0)
		ck_assert_uint_eq(marked_number(result.fds[0]), first);
	if (second != 0)
		ck_assert_uint_eq(marked_number(result.fds[1]), second);
	wire_close_fds(&result);
}

/* ---- bytes ---- */

/* Capitals on the way to the server, without digits; "!" ends the relay. On the way back: as it is. */
static int edit(struct ferry_relay *which, enum ferry_relay_side from, struct evbuffer *bytes,
                void *context)
{
	char text[256];
	(void)which, (void)context;

	if (from == FERRY_RELAY_SERVER)
		return 0;
	int length = evbuffer_remove(bytes, text, sizeof(text));
	for (int i = 0; i < length; i++) {
		char capital = (char)toupper(text[i]);
		if (text[i] == '!')
			return -EPERM;
		if (!isdigit(text[i]))
			evbuffer_add(bytes, &capital, 1);
	}
	return 0;
}

static const struct ferry_relay_callbacks editing = {
    .filter_bytes = edit, .side_ended = note_side_ended, .relay_ended = note_relay_ended};

LOOP_TEST(a_filter_replaces_and_drops_bytes, 2)
{
	open_relay(_i ? PAIR_TCP : PAIR_UNIX, PAIR_UNIX, &editing);
	put(0, "ab1c2", -1);
	expect_text(FERRY_RELAY_SERVER, "ABC");
	put(1, "low1", -1);
	expect_text(FERRY_RELAY_CLIENT, "low1");
	put(0, "12345", -1);
	put(0, "d", -1);
	expect_text(FERRY_RELAY_SERVER, "D");
	ck_assert_uint_eq(relay_flow(FERRY_RELAY_CLIENT).bytes_received, 11);
	ck_assert_uint_eq(relay_flow(FERRY_RELAY_CLIENT).bytes_passed, 4);
	shutdown(peers[0], SHUT_WR);
	expect_end_of_file(FERRY_RELAY_SERVER);
	close_relay();
}

TEST(a_filter_ends_the_relay)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &editing);
	put(0, "ab!", -1);
	expect_relay_end(FERRY_RELAY_CLIENT, -EPERM);
	expect_end_of_file(FERRY_RELAY_SERVER);
	close_relay();
}

static int close_on_bytes(struct ferry_relay *which, enum ferry_relay_side from,
                          struct evbuffer *bytes, void *context)
{
	(void)from, (void)bytes, (void)context;
	ck_assert_int_eq(ferry_relay_close(which), 0);
	return 0;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the type of the callback */
static int close_on_fd(struct ferry_relay *which, enum ferry_relay_side from, int *fd,
                       void *context)
{
	(void)from, (void)fd, (void)context;
	ck_assert_int_eq(ferry_relay_close(which), 0);
	return 0;
}

/* _i: the filter of bytes closes the relay, that of descriptors, both */
LOOP_TEST(the_bytes_at_which_a_filter_closes_are_passed_on, 3)
{
	static const struct ferry_relay_callbacks closing[] = {
	    {.filter_bytes = close_on_bytes, .relay_ended = note_relay_ended},
	    {.filter_fd = close_on_fd, .relay_ended = note_relay_ended},
	    {.filter_bytes = close_on_bytes, .filter_fd = close_on_fd, .relay_ended = note_relay_ended},
	};
	open_relay(PAIR_UNIX, PAIR_UNIX, &closing[_i]);
	put(0, "q", make_marked_fd(9));
	expect_byte(1, 'q', 9, 0);
	expect_relay_end(FERRY_RELAY_CLIENT, 0);
	expect_end_of_file(FERRY_RELAY_SERVER);
	close_relay();
}

/* A descriptor whose byte is dropped travels with the next one that passes. */
TEST(a_descriptor_stays_behind_bytes_that_were_replaced)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &editing);
	put(0, "a1", -1);
	put(0, "2", make_marked_fd(9));
	put(0, "b", -1);
	expect_byte(1, 'A', 0, 0);
	expect_byte(1, 'B', 9, 0);
	close_relay();
}

/* A line at a time: the rest is the filter's, until the end. */
static struct evbuffer *rest;

static int delay(struct ferry_relay *which, enum ferry_relay_side from, struct evbuffer *bytes,
                 void *context)
{
	size_t length;
	char *line;
	(void)which, (void)from, (void)context;

	evbuffer_add_buffer(rest, bytes);
	while ((line = evbuffer_readln(rest, &length, EVBUFFER_EOL_LF)) != NULL) {
		evbuffer_add_printf(bytes, "[%s]", line);
		free(line);
	}
	return 0;
}

static void pass_rest(struct ferry_relay *which, enum ferry_relay_side from, bool closed,
                      void *context)
{
	note_side_ended(which, from, closed, context);
	ck_assert_int_eq(
	    ferry_transport_write_buffer(ferry_relay_get_transport(which, FERRY_RELAY_SERVER), rest),
	    0);
}

static const struct ferry_relay_callbacks delaying = {
    .filter_bytes = delay, .side_ended = pass_rest, .relay_ended = note_relay_ended};

/* _i: by a half-close, by a close */
LOOP_TEST(a_filter_may_delay_bytes_to_the_end, 2)
{
	rest = evbuffer_new();
	open_relay(PAIR_UNIX, PAIR_UNIX, &delaying);
	put(0, "one\ntw", -1);
	expect_text(FERRY_RELAY_SERVER, "[one]");
	put(0, "o\nthree", -1);
	expect_text(FERRY_RELAY_SERVER, "[two]");
	if (_i)
		close_peer(FERRY_RELAY_CLIENT);
	else
		shutdown(peers[0], SHUT_WR);
	expect_text(FERRY_RELAY_SERVER, "three");
	expect_end_of_file(FERRY_RELAY_SERVER);
	close_relay();
	evbuffer_free(rest);
}

/* ---- descriptors ---- */

/* By their numbers: 1 is dropped, 2 replaced by 20, 3 gets 30 beside it, 4 ends the relay. */
static int edit_fds(struct ferry_relay *which, enum ferry_relay_side from, int *fd, void *context)
{
	struct ferry_transport *to =
	    ferry_relay_get_transport(which, (enum ferry_relay_side)(1 - from));
	uint32_t number = marked_number(*fd);
	(void)context;

	if (number == 4)
		return -EPERM;
	if (number == 3)
		ck_assert_int_eq(ferry_transport_send_fd(to, make_marked_fd(30), FERRY_FD_TAKE), 0);
	if (number == 1 || number == 2) {
		close(*fd);
		*fd = number == 2 ? make_marked_fd(20) : -1;
	}
	return 0;
}

static const struct ferry_relay_callbacks editing_fds = {.filter_fd = edit_fds,
                                                         .relay_ended = note_relay_ended};

LOOP_TEST(a_filter_drops_replaces_and_adds_descriptors, 2)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &editing_fds);
	put(_i, "a", make_marked_fd(1));
	put(_i, "b", make_marked_fd(2));
	put(_i, "c", make_marked_fd(3));
	put(_i, "d", make_marked_fd(5));
	expect_byte(1 - _i, 'a', 0, 0);
	expect_byte(1 - _i, 'b', 20, 0);
	expect_byte(1 - _i, 'c', 30, 3);
	expect_byte(1 - _i, 'd', 5, 0);
	ck_assert_uint_eq(relay_flow((enum ferry_relay_side)_i).fds_received, 4);
	ck_assert_uint_eq(relay_flow((enum ferry_relay_side)_i).fds_dropped, 1);
	ck_assert_uint_eq(relay_flow((enum ferry_relay_side)_i).fds_passed, 3);
	put(_i, "e", make_marked_fd(4));
	expect_relay_end((enum ferry_relay_side)_i, -EPERM);
	close_relay();
}

TEST(a_filter_drops_descriptors_for_tcp)
{
	open_relay(PAIR_UNIX, PAIR_TCP, &editing_fds);
	put(0, "a", make_marked_fd(1));
	expect_text(FERRY_RELAY_SERVER, "a");
	put(0, "b", make_marked_fd(5));
	expect_relay_end(FERRY_RELAY_SERVER, -EOPNOTSUPP);
	close_relay();
}
