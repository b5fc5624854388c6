/* How a transport begins and ends: what is told, when, in which order, and with which reason. Linked
 * with the library's objects so that a close(2) of a number that is not open shows. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

static unsigned int bad_closes;

int __real_close(int fd);
int __wrap_close(int fd);

int __wrap_close(int fd)
{
	int result = __real_close(fd);
	if (result != 0 && errno == EBADF)
		bad_closes++;
	return result;
}

static void check_closes(void)
{
	ck_assert_uint_eq(bad_closes, 0);
}

/* ---- a link of each kind, with a bare far end ---- */

enum { LINK_UNIX, LINK_TCP, LINK_PIPES, LINK_KINDS };

static struct recorder near;
static int far_in = -1,
           far_out = -1; /* where the far end reads, and writes; the same on a socket */

static void open_link_with(int kind, const struct ferry_protocol *protocol)
{
	int fds[2], back[2];
	if (kind == LINK_PIPES) {
		make_pipe(fds);
		make_pipe(back);
		far_in = fds[0];
		far_out = back[1];
		recorder_open_pipes(&near, back[0], fds[1], protocol);
	} else {
		make_pair(kind == LINK_UNIX ? PAIR_UNIX : PAIR_TCP, fds);
		far_in = far_out = fds[1];
		recorder_open(&near, fds[0], protocol);
	}
}

static void open_link(int kind)
{
	open_link_with(kind, &recorder_protocol);
	pump_turns(2);
}

static void close_far(void)
{
	if (far_in >= 0)
		close(far_in);
	if (far_out >= 0 && far_out != far_in)
		close(far_out);
	far_in = far_out = -1;
}

static void close_link(void)
{
	recorder_close(&near);
	pump_turns(3);
	close_far();
}

static void end_far_output(void)
{
	if (far_out == far_in) {
		ck_assert_int_eq(shutdown(far_out, SHUT_WR), 0);
	} else {
		close(far_out);
		far_out = -1;
	}
}

static void write_text(const char *text)
{
	ck_assert_int_eq(ferry_transport_write(near.transport, text, strlen(text)), 0);
}

static void expect_far_text(const char *text)
{
	char buffer[256] = {0};
	size_t length = 0;
	while (length < strlen(text)) {
		pump_turns(1);
		ssize_t n = read(far_in, buffer + length, strlen(text) - length);
		ck_assert_int_ne(n, 0);
		if (n > 0)
			length += (size_t)n;
		else
			ck_assert_int_eq(errno, EAGAIN);
	}
	ck_assert_str_eq(buffer, text);
}

/* 0: end; negative errno: how else. */
static int far_end(void)
{
	char byte;
	ssize_t n;
	do {
		pump_turns(1);
		n = read(far_in, &byte, 1);
	} while (n < 0 && errno == EAGAIN);
	ck_assert_int_le(n, 0);
	return n == 0 ? 0 : -errno;
}

static void check_lost(int reason)
{
	pump_until_lost(&near);
	ck_assert_int_eq(near.reason, reason);
	pump_turns(5); /* the recorder fails the test if anything follows */
	ck_assert_uint_eq(near.lost, 1);
	ck_assert_uint_eq(near.made, 1);
}

/* Runs a call in which no callback may come. */
#define QUIETLY(call)              \
	do {                           \
		near.quiet = true;         \
		ck_assert_int_eq(call, 0); \
		near.quiet = false;        \
	} while (0)

/* ---- the beginning ---- */

TEST_CASE("the beginning", NULL, check_closes);

LOOP_TEST(connection_made_comes_first_and_from_the_loop, LINK_KINDS)
{
	open_link_with(_i, &recorder_protocol);
	ck_assert_uint_eq(near.made, 0);
	ck_assert_int_eq(write(far_out, "early", 5), 5);

	pump_until_length(&near, 5);

	ck_assert_str_eq(near.events, "MD");
	ck_assert_uint_eq(near.made, 1);
	close_link();
}

LOOP_TEST(connection_made_comes_before_an_end_that_was_there_first, LINK_KINDS)
{
	open_link_with(_i, &recorder_no_half_close);
	close_far();

	pump_until_lost(&near);

	ck_assert_str_eq(near.events, "MX");
	close_link();
}

LOOP_TEST(connection_made_comes_even_when_the_connection_is_aborted_at_once, LINK_KINDS)
{
	open_link_with(_i, &recorder_protocol);
	QUIETLY(ferry_transport_abort_connection(near.transport));

	check_lost(-ECONNABORTED);

	ck_assert_str_eq(near.events, "MX");
	close_link();
}

LOOP_TEST(connection_made_comes_even_when_the_connection_is_closed_at_once, LINK_KINDS)
{
	open_link_with(_i, &recorder_protocol);
	write_text("bye");
	QUIETLY(ferry_transport_lose_connection(near.transport));

	check_lost(0);

	ck_assert_str_eq(near.events, "MX");
	expect_far_text("bye");
	close_link();
}

static struct recorder other;

LOOP_TEST(a_new_protocol_gets_its_own_connection_made, LINK_KINDS)
{
	open_link(_i);
	ck_assert_str_eq(near.events, "M");
	struct ferry_transport *transport = near.transport;
	near.transport = NULL;

	recorder_attach(&other, transport, &recorder_no_half_close);
	ck_assert_int_eq(write(far_out, "x", 1), 1);
	close_far();
	pump_until_lost(&other);

	ck_assert_str_eq(other.events, "MDX");
	recorder_close(&other);
	close_link();
}

LOOP_TEST(a_protocol_that_is_replaced_before_the_loop_runs_is_told_nothing, LINK_KINDS)
{
	open_link_with(_i, &recorder_protocol);
	struct ferry_transport *transport = near.transport;
	near.transport = NULL;

	recorder_attach(&other, transport, &recorder_protocol);
	pump_turns(5);

	ck_assert_str_eq(near.events, "");
	ck_assert_str_eq(other.events, "M");
	recorder_close(&other);
	close_link();
}

static void change_protocol(struct recorder *recorder, char event)
{
	if (event != EVENT_DATA || recorder->transport == NULL)
		return;
	struct ferry_transport *transport = recorder->transport;
	recorder->transport = NULL;
	recorder_attach(&other, transport, &recorder_no_half_close);
}

LOOP_TEST(a_protocol_may_be_changed_in_data_received, LINK_KINDS)
{
	open_link(_i);
	near.hook = change_protocol;
	ck_assert_int_eq(write(far_out, "first", 5), 5);
	pump_turns(5);
	ck_assert_int_eq(write(far_out, "second", 6), 6);
	close_far();

	pump_until_lost(&other);

	ck_assert_str_eq(near.events, "MD");
	ck_assert_str_eq(other.events, "MDX");
	ck_assert_uint_eq(recorder_length(&near), 5);
	ck_assert_uint_eq(recorder_length(&other), 6);
	recorder_close(&other);
	close_link();
}

LOOP_TEST(every_callback_may_be_missing, LINK_PIPES)
{
	static const struct ferry_protocol nothing = {0};
	int fds[2];
	make_pair(_i == LINK_TCP ? PAIR_TCP : PAIR_UNIX, fds);
	struct ferry_transport *transport = make_transport(fds[0]);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &nothing, NULL), 0);
	ck_assert_int_eq(write(fds[1], "bytes", 5), 5);
	pump_turns(5);
	close(fds[1]);
	pump_turns(5);
	ck_assert_int_eq(ferry_transport_lose_connection(transport), -ENOTCONN);
	ferry_transport_free(transport);
}

/* ---- connecting ---- */

/* A listener on loopback that may be closed, and a bufferevent that connects to it. */
static int make_listener(struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	*address =
	    (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	ck_assert_int_eq(bind(listener, (struct sockaddr *)address, length), 0);
	ck_assert_int_eq(listen(listener, 5), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)address, &length), 0);
	return listener;
}

static unsigned int made_count, lost_count;
static int lost_reason;

static void count_made(struct ferry_transport *transport, void *context)
{
	(void)transport, (void)context;
	ck_assert_uint_eq(lost_count, 0);
	made_count++;
}

static void count_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport, (void)context;
	lost_reason = reason;
	lost_count++;
}

static const struct ferry_protocol counting = {.connection_made = count_made,
                                               .connection_lost = count_lost};

static struct ferry_transport *connect_to(const struct sockaddr_in *address)
{
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	ck_assert_int_eq(
	    bufferevent_socket_connect(bev, (const struct sockaddr *)address, sizeof(*address)), 0);
	struct ferry_transport *transport;
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &counting, NULL), 0);
	return transport;
}

TEST_CASE("connecting", NULL, check_closes);

TEST(a_connecting_bufferevent_is_made_when_it_is_connected)
{
	struct sockaddr_in address;
	int listener = make_listener(&address);
	struct ferry_transport *transport = connect_to(&address);
	ck_assert_int_eq(ferry_transport_write(transport, "hello", 5), 0);
	ck_assert_uint_eq(made_count, 0);

	pump_until_count(&made_count, 1);

	int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	ck_assert_int_ge(accepted, 0);
	char buffer[8];
	ssize_t n;
	do {
		pump_turns(1);
		n = read(accepted, buffer, sizeof(buffer));
	} while (n < 0 && errno == EAGAIN);
	ck_assert_int_eq(n, 5);
	ck_assert_uint_eq(made_count, 1);
	ferry_transport_free(transport);
	close(accepted);
	close(listener);
}

TEST(a_refused_connection_is_lost_without_having_been_made)
{
	struct sockaddr_in address;
	close(make_listener(&address));
	struct ferry_transport *transport = connect_to(&address);
	int file = make_file(10);
	ck_assert_int_eq(ferry_transport_write(transport, "hello", 5), 0);
	ck_assert_int_eq(ferry_transport_send_file(transport, file, FERRY_FD_TAKE, 0, FERRY_TO_END,
	                                           NULL, NULL, NULL),
	                 0);

	pump_until_count(&lost_count, 1);
	pump_turns(5);

	ck_assert_uint_eq(made_count, 0);
	ck_assert_uint_eq(lost_count, 1);
	ck_assert_int_eq(lost_reason, -ECONNREFUSED);
	ck_assert(!fd_is_open(file));
	ferry_transport_free(transport);
}

LOOP_TEST(a_connecting_transport_may_be_ended_and_freed, 3)
{
	struct sockaddr_in address;
	int listener = make_listener(&address);
	struct ferry_transport *transport = connect_to(&address);
	ck_assert_int_eq(ferry_transport_write(transport, "hello", 5), 0);
	if (_i == 1)
		ck_assert_int_eq(ferry_transport_abort_connection(transport), 0);
	if (_i == 2)
		ck_assert_int_eq(ferry_transport_lose_connection(transport), 0);
	if (_i > 0) {
		pump_until_count(&lost_count, 1);
		ck_assert_int_eq(lost_reason, _i == 1 ? -ECONNABORTED : 0);
	}
	ferry_transport_free(transport);
	pump_turns(3);
	ck_assert_uint_eq(lost_count, _i > 0);
	close(listener);
}

/* ---- reasons ---- */

TEST_CASE("reasons", NULL, check_closes);

LOOP_TEST(closing_flushes_and_is_lost_with_0, LINK_KINDS)
{
	open_link(_i);
	write_text("flushed");
	QUIETLY(ferry_transport_lose_connection(near.transport));
	QUIETLY(ferry_transport_lose_connection(near.transport));

	check_lost(0);

	expect_far_text("flushed");
	ck_assert_int_eq(far_end(), 0);
	ck_assert_str_eq(near.events, "MX");
	close_link();
}

LOOP_TEST(the_peers_end_is_lost_with_0_when_nobody_cares_for_half_a_connection, LINK_KINDS)
{
	open_link_with(_i, &recorder_no_half_close);
	pump_turns(2);
	write_text("flushed");
	ck_assert_int_eq(write(far_out, "last", 4), 4);
	end_far_output();

	check_lost(0);

	ck_assert_str_eq(near.events, "MDX");
	ck_assert_uint_eq(recorder_length(&near), 4);
	expect_far_text("flushed");
	ck_assert_int_eq(far_end(), 0);
	close_link();
}

TEST(a_reset_is_lost_with_econnreset)
{
	open_link(LINK_TCP);
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	setsockopt(far_in, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close_far();

	check_lost(-ECONNRESET);

	ck_assert_str_eq(near.events, "MX");
	close_link();
}

TEST(unread_bytes_at_the_peers_close_are_lost_with_econnreset)
{
	open_link(LINK_UNIX);
	write_text("never read");
	pump_turns(3);
	close_far();

	check_lost(-ECONNRESET);

	close_link();
}

LOOP_TEST(a_timeout_is_lost_with_etimedout, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	struct timeval soon = {.tv_usec = 2000};
	struct bufferevent *bev = ferry_transport_get_bufferevent(near.transport);
	if (_i / LINK_KINDS == 0) {
		bufferevent_set_timeouts(bev, &soon, NULL);
	} else {
		static char block[1 << 20];
		for (int i = 0; i < 8; i++)
			ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
		pump_turns(3);
		bufferevent_set_timeouts(bev, NULL, &soon);
		ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
	}

	check_lost(-ETIMEDOUT);

	close_link();
}

LOOP_TEST(aborting_drops_the_queue_and_is_lost_with_econnaborted, LINK_KINDS)
{
	open_link(_i);
	static char block[1 << 20];
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
	pump_turns(3);
	ck_assert_uint_gt(stats_of(near.transport).bytes_queued, 0);

	QUIETLY(ferry_transport_abort_connection(near.transport));

	ck_assert_int_eq(ferry_transport_abort_connection(near.transport), -ENOTCONN);
	check_lost(-ECONNABORTED);
	ck_assert_uint_eq(stats_of(near.transport).bytes_queued, 0);
	close_link();
}

TEST(aborting_resets_a_tcp_connection)
{
	open_link(LINK_TCP);
	write_text("dropped");
	QUIETLY(ferry_transport_abort_connection(near.transport));
	ck_assert_int_eq(far_end(), -ECONNRESET);
	check_lost(-ECONNABORTED);
	close_link();
}

LOOP_TEST(a_close_that_waits_can_be_aborted, LINK_KINDS)
{
	open_link(_i);
	static char block[1 << 20];
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
	QUIETLY(ferry_transport_lose_connection(near.transport));
	pump_turns(5);
	ck_assert_uint_eq(near.lost, 0);

	QUIETLY(ferry_transport_abort_connection(near.transport));

	check_lost(-ECONNABORTED);
	close_link();
}

LOOP_TEST(a_peer_that_goes_while_the_close_waits_is_told, LINK_KINDS)
{
	open_link(_i);
	static char block[1 << 20];
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
	QUIETLY(ferry_transport_lose_connection(near.transport));
	pump_turns(5);
	ck_assert_uint_eq(near.lost, 0);

	close_far();

	pump_until_lost(&near);
	ck_assert(near.reason == -EPIPE || near.reason == -ECONNRESET);
	close_link();
}

LOOP_TEST(what_the_peer_still_sent_is_delivered_before_epipe, LINK_KINDS)
{
	open_link(_i);
	ck_assert_int_eq(write(far_out, "last words", 10), 10);
	if (_i == LINK_PIPES) {
		close(far_in);
		far_in = -1;
	} else {
		close_far();
	}
	write_text("too late");
	/* TCP says nothing before the second packet. */
	for (pump_turns(5); near.lost == 0; pump_turns(1))
		(void)ferry_transport_write(near.transport, "x", 1);

	check_lost(near.reason);
	ck_assert(near.reason == -EPIPE || (_i == LINK_TCP && near.reason == -ECONNRESET));
	ck_assert_uint_eq(recorder_length(&near), 10);
	close_link();
}

/* ---- half-close ---- */

TEST_CASE("half-close", NULL, check_closes);

LOOP_TEST(ending_ones_own_half_leaves_the_other_open, LINK_KINDS)
{
	open_link(_i);
	write_text("request");
	QUIETLY(ferry_transport_lose_write_connection(near.transport));
	QUIETLY(ferry_transport_lose_write_connection(near.transport));
	expect_far_text("request");
	ck_assert_int_eq(far_end(), 0);
	ck_assert_uint_eq(near.lost, 0);
	ck_assert_int_eq(ferry_transport_write(near.transport, "x", 1), -EPIPE);

	ck_assert_int_eq(write(far_out, "answer", 6), 6);
	pump_until_length(&near, 6);
	ck_assert_uint_eq(near.lost, 0);
	end_far_output();

	check_lost(0);
	ck_assert_str_eq(near.events, "MDRX");
	close_link();
}

LOOP_TEST(the_peers_half_may_end_first, LINK_KINDS)
{
	open_link(_i);
	ck_assert_int_eq(write(far_out, "request", 7), 7);
	end_far_output();
	pump_until_count(&near.read_lost, 1);
	pump_turns(5);
	ck_assert_str_eq(near.events, "MDR");

	write_text("answer");
	expect_far_text("answer");
	write_text("more");
	QUIETLY(ferry_transport_lose_write_connection(near.transport));

	expect_far_text("more");
	check_lost(0);
	ck_assert_int_eq(far_end(), 0);
	close_link();
}

LOOP_TEST(after_the_peers_half_ended_closing_ends_it, LINK_KINDS)
{
	open_link(_i);
	end_far_output();
	pump_until_count(&near.read_lost, 1);
	write_text("answer");
	QUIETLY(ferry_transport_lose_connection(near.transport));

	check_lost(0);

	expect_far_text("answer");
	ck_assert_int_eq(far_end(), 0);
	close_link();
}

LOOP_TEST(after_ones_own_half_ended_closing_ends_it, LINK_KINDS)
{
	open_link(_i);
	QUIETLY(ferry_transport_lose_write_connection(near.transport));
	pump_turns(3);
	ck_assert_uint_eq(near.lost, 0);

	QUIETLY(ferry_transport_lose_connection(near.transport));

	check_lost(0);
	close_link();
}

static void end_own_half(struct recorder *recorder, char event)
{
	if (event == EVENT_READ_LOST)
		ck_assert_int_eq(ferry_transport_lose_write_connection(recorder->transport), 0);
}

LOOP_TEST(ones_own_half_may_be_ended_when_told_of_the_peers, LINK_KINDS)
{
	open_link(_i);
	near.hook = end_own_half;
	write_text("first");
	end_far_output();

	check_lost(0);

	ck_assert_str_eq(near.events, "MRX");
	expect_far_text("first");
	close_link();
}

/* ---- flushing ---- */

enum { LARGE = 10 << 20 };

TEST_CASE("flushing", NULL, check_closes);

/* _i: link, whole or half. */
LOOP_TEST(closing_flushes_ten_megabytes_to_a_slow_reader, 2 * LINK_KINDS)
{
	open_link(_i % LINK_KINDS);
	bool half = _i / LINK_KINDS == 1;
	unsigned char *bytes = malloc(LARGE);
	for (size_t i = 0; i < LARGE; i++)
		bytes[i] = support_byte(i);
	ck_assert_int_eq(ferry_transport_write(near.transport, bytes, LARGE), 0);
	free(bytes);
	if (half)
		QUIETLY(ferry_transport_lose_write_connection(near.transport));
	else
		QUIETLY(ferry_transport_lose_connection(near.transport));

	uint64_t position = 0;
	ssize_t n = -EAGAIN;
	while (n != 0) {
		n = wire_expect(far_in, position, 1 + support_random_below(60000));
		ck_assert(n >= 0 || n == -EAGAIN);
		if (n > 0)
			position += (uint64_t)n;
		pump_turns(1);
	}

	ck_assert_uint_eq(position, LARGE);
	if (half) {
		ck_assert_uint_eq(near.lost, 0);
		end_far_output();
	}
	check_lost(0);
	close_link();
}

LOOP_TEST(closing_stops_reading, LINK_KINDS)
{
	open_link(_i);
	static char block[1 << 20];
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
	QUIETLY(ferry_transport_lose_connection(near.transport));
	ck_assert_int_eq(write(far_out, "ignored", 7), 7);

	pump_turns(10);

	ck_assert_uint_eq(near.data, 0);
	ck_assert_uint_eq(near.lost, 0);
	ck_assert_int_eq(ferry_transport_abort_connection(near.transport), 0);
	check_lost(-ECONNABORTED);
	close_link();
}

/* ---- after the end ---- */

static void resume_nothing(void *context)
{
	(void)context;
}

static void check_over(struct ferry_transport *t)
{
	static const struct ferry_producer_callbacks producer = {.resume_producing = resume_nothing};
	struct evbuffer *buffer = evbuffer_new();
	struct ferry_transport_stats stats;
	int file = make_file(10);
	evbuffer_add(buffer, "kept", 4);

	ck_assert_int_eq(ferry_transport_write(t, "x", 1), -EPIPE);
	ck_assert_int_eq(ferry_transport_write_buffer(t, buffer), -EPIPE);
	ck_assert_uint_eq(evbuffer_get_length(buffer), 4);
	ck_assert_int_eq(
	    ferry_transport_send_file(t, file, FERRY_FD_TAKE, 0, FERRY_TO_END, NULL, NULL, NULL),
	    -EPIPE);
	ck_assert(fd_is_open(file));
	ck_assert_int_eq(ferry_transport_register_producer(t, &producer, NULL, FERRY_PRODUCER_PULL),
	                 -EPIPE);
	ck_assert_int_eq(ferry_transport_unregister_producer(t), -ENOENT);
	ck_assert_int_eq(ferry_transport_set_protocol(t, &recorder_protocol, &near), -ENOTCONN);
	ck_assert_int_eq(ferry_transport_pause_reading(t), -ENOTCONN);
	ck_assert_int_eq(ferry_transport_resume_reading(t), -ENOTCONN);
	ck_assert_int_eq(ferry_transport_lose_connection(t), -ENOTCONN);
	ck_assert_int_eq(ferry_transport_lose_write_connection(t), -ENOTCONN);
	ck_assert_int_eq(ferry_transport_abort_connection(t), -ENOTCONN);
	ck_assert_int_eq(ferry_transport_get_stats(t, &stats), 0);
	ck_assert_ptr_nonnull(ferry_transport_get_bufferevent(t));

	close(file);
	evbuffer_free(buffer);
}

static void check_over_in_hook(struct recorder *recorder, char event)
{
	if (event == EVENT_LOST)
		check_over(recorder->transport);
}

TEST_CASE("after the end", NULL, check_closes);

LOOP_TEST(calls_after_the_end_say_so, LINK_KINDS)
{
	open_link(_i);
	near.hook = check_over_in_hook;
	ck_assert_int_eq(ferry_transport_abort_connection(near.transport), 0);
	check_over(near.transport);
	check_lost(-ECONNABORTED);
	check_over(near.transport);
	pump_turns(3);
	check_over(near.transport);
	close_link();
}

TEST(a_socket_is_not_taken_after_the_end)
{
	open_link(LINK_UNIX);
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	ck_assert_int_eq(ferry_transport_abort_connection(near.transport), 0);
	ck_assert_int_eq(ferry_transport_set_socket(near.transport, fds[0]), -ENOTCONN);
	check_lost(-ECONNABORTED);
	ck_assert_int_eq(ferry_transport_set_socket(near.transport, fds[0]), -ENOTCONN);
	close(fds[0]);
	close(fds[1]);
	close_link();
}

LOOP_TEST(while_closing_nothing_more_can_be_written, LINK_KINDS)
{
	open_link(_i);
	static char block[1 << 20];
	for (int i = 0; i < 8; i++)
		ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
	QUIETLY(ferry_transport_lose_connection(near.transport));

	ck_assert_int_eq(ferry_transport_write(near.transport, "x", 1), -EPIPE);
	ck_assert_int_eq(ferry_transport_lose_connection(near.transport), 0);
	ck_assert_int_eq(ferry_transport_lose_write_connection(near.transport), 0);
	pump_turns(3);
	ck_assert_uint_eq(near.lost, 0);
	close_link();
}

TEST(null_is_refused)
{
	struct ferry_transport_stats stats;
	struct evbuffer *buffer = evbuffer_new();
	ck_assert_ptr_null(ferry_transport_get_bufferevent(NULL));
	ck_assert_int_eq(ferry_transport_set_socket(NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_protocol(NULL, &recorder_protocol, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_write(NULL, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_transport_write_buffer(NULL, buffer), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_rate_limit_group(NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_lose_connection(NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_lose_write_connection(NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_abort_connection(NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_get_stats(NULL, &stats), -EINVAL);
	ferry_transport_free(NULL);

	open_link(LINK_UNIX);
	ck_assert_int_eq(ferry_transport_set_protocol(near.transport, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_write(near.transport, NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_transport_write(near.transport, NULL, 0), 0);
	ck_assert_int_eq(ferry_transport_write_buffer(near.transport, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_get_stats(near.transport, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_socket(near.transport, -1), -EINVAL);
	evbuffer_free(buffer);
	close_link();
}

/* ---- freeing ---- */

TEST_CASE("freeing", NULL, check_closes);

LOOP_TEST(a_transport_may_be_freed_before_the_loop_ever_ran, LINK_KINDS)
{
	open_link_with(_i, &recorder_protocol);
	write_text("dropped");
	recorder_free_transport(&near);
	ck_assert_int_eq(far_end(), 0);
	ck_assert_str_eq(near.events, "");
	close_link();
}

TEST(freeing_is_seen_by_the_peer_at_once_even_when_the_socket_is_shared)
{
	/* shutdown(2), because a copy elsewhere would keep the connection open. */
	open_link(LINK_UNIX);
	int copy = dup(bufferevent_getfd(ferry_transport_get_bufferevent(near.transport)));
	recorder_free_transport(&near);
	char byte;
	ck_assert_int_eq(read(far_in, &byte, 1), 0);
	close(copy);
	close_link();
}

TEST(the_socket_stays_open_without_close_on_free)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct ferry_transport *transport;
	ck_assert_int_eq(ferry_transport_new(&transport, bufferevent_socket_new(base, fds[0], 0)), 0);
	ferry_transport_free(transport);
	pump_turns(3);
	ck_assert(fd_is_open(fds[0]));
	close(fds[0]);
	close(fds[1]);
}

static char act_on;

static void free_in_callback(struct recorder *recorder, char event)
{
	if (event == act_on)
		recorder_free_transport(recorder);
}

static void abort_in_callback(struct recorder *recorder, char event)
{
	if (event == act_on && event != EVENT_LOST)
		ck_assert_int_eq(ferry_transport_abort_connection(recorder->transport), 0);
}

static void close_in_callback(struct recorder *recorder, char event)
{
	if (event == act_on && event != EVENT_LOST)
		ck_assert_int_eq(ferry_transport_lose_connection(recorder->transport), 0);
}

static const char actions[] = {EVENT_MADE, EVENT_DATA, EVENT_FD, EVENT_READ_LOST, EVENT_LOST};
enum { ACTIONS = sizeof(actions) };

/* Bytes, a descriptor and the end, in one go; and something to be sent. */
static void arrange_everything(int kind)
{
	open_link_with(kind, &recorder_protocol);
	static char block[1 << 20];
	ck_assert_int_eq(ferry_transport_write(near.transport, block, sizeof(block)), 0);
	if (kind == LINK_UNIX)
		ck_assert_int_eq(wire_send(far_out, "bytes", 5, (const int[]){STDERR_FILENO}, 1), 5);
	else
		ck_assert_int_eq(write(far_out, "bytes", 5), 5);
	end_far_output();
}

/* _i: link and callback. */
LOOP_TEST(a_transport_may_be_freed_in_every_callback, LINK_KINDS *ACTIONS)
{
	int kind = _i / ACTIONS;
	act_on = actions[_i % ACTIONS];
	if (act_on == EVENT_FD && kind != LINK_UNIX)
		return;
	arrange_everything(kind);
	near.hook = free_in_callback;
	if (act_on == EVENT_LOST)
		QUIETLY(ferry_transport_lose_write_connection(near.transport));

	while (near.transport != NULL) {
		pump_turns(1);
		wire_drain(far_in);
		char buffer[65536];
		(void)!read(far_in, buffer, sizeof(buffer));
	}
	pump_turns(5);

	ck_assert_int_eq(near.events[near.event_count - 1], act_on);
	close_link();
}

LOOP_TEST(a_connection_may_be_aborted_in_every_callback, LINK_KINDS *ACTIONS)
{
	int kind = _i / ACTIONS;
	act_on = actions[_i % ACTIONS];
	if ((act_on == EVENT_FD && kind != LINK_UNIX) || act_on == EVENT_LOST)
		return;
	arrange_everything(kind);
	near.hook = abort_in_callback;

	check_lost(-ECONNABORTED);

	ck_assert_uint_ge(near.event_count, 2);
	ck_assert_int_eq(near.events[near.event_count - 2], act_on);
	close_link();
}

LOOP_TEST(a_connection_may_be_closed_in_every_callback, LINK_KINDS *ACTIONS)
{
	int kind = _i / ACTIONS;
	act_on = actions[_i % ACTIONS];
	if ((act_on == EVENT_FD && kind != LINK_UNIX) || act_on == EVENT_LOST)
		return;
	arrange_everything(kind);
	near.hook = close_in_callback;

	size_t received = 0;
	while (near.lost == 0) {
		static char buffer[65536];
		pump_turns(1);
		ssize_t n = read(far_in, buffer, sizeof(buffer));
		received += n > 0 ? (size_t)n : 0;
	}
	check_lost(0);

	char buffer[4096];
	ssize_t n;
	while ((n = read(far_in, buffer, sizeof(buffer))) > 0)
		received += (size_t)n;
	ck_assert_uint_eq(received, 1 << 20);
	ck_assert_int_eq(near.events[near.event_count - 2], act_on);
	close_link();
}

/* ---- pipes ---- */

static void make_two_pipes(int *read_fd, int *write_fd)
{
	int fds[2], back[2];
	make_pipe(fds);
	make_pipe(back);
	far_in = fds[0];
	far_out = back[1];
	*read_fd = back[0];
	*write_fd = fds[1];
}

TEST_CASE("pipes", NULL, check_closes);

/* _i: freed, aborted, closed, ended by the peer. */
LOOP_TEST(both_pipes_are_closed_once, 4)
{
	int read_fd, write_fd;
	make_two_pipes(&read_fd, &write_fd);
	recorder_open_pipes(&near, read_fd, write_fd, &recorder_no_half_close);
	ck_assert_int_eq(bufferevent_getfd(ferry_transport_get_bufferevent(near.transport)), read_fd);
	pump_turns(2);
	if (_i == 0)
		recorder_free_transport(&near);
	else if (_i == 1)
		ck_assert_int_eq(ferry_transport_abort_connection(near.transport), 0);
	else if (_i == 2)
		ck_assert_int_eq(ferry_transport_lose_connection(near.transport), 0);
	else
		close_far();
	if (_i > 0)
		pump_until_lost(&near);
	pump_turns(3);
	ck_assert(!fd_is_open(read_fd));
	ck_assert(!fd_is_open(write_fd));

	/* Other files at the same numbers stay. */
	int low = make_marked_fd(1), marked = fcntl(low, F_DUPFD_CLOEXEC, 700);
	close(low);
	ck_assert_int_eq(dup3(marked, write_fd, O_CLOEXEC), write_fd);
	ck_assert_int_eq(dup3(marked, read_fd, O_CLOEXEC), read_fd);
	recorder_free_transport(&near);
	pump_turns(3);
	ck_assert(fd_is_open(read_fd));
	ck_assert(fd_is_open(write_fd));
	close(write_fd);
	close(read_fd);
	close(marked);
	close_link();
}

LOOP_TEST(one_descriptor_may_serve_both_ways, 2)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	far_in = far_out = fds[1];
	recorder_open_pipes(&near, fds[0], fds[0], &recorder_no_half_close);
	pump_turns(2);
	write_text("out");
	expect_far_text("out");
	ck_assert_int_eq(write(far_out, "in", 2), 2);
	pump_until_length(&near, 2);
	if (_i == 0)
		ck_assert_int_eq(ferry_transport_lose_connection(near.transport), 0);
	else
		end_far_output();

	check_lost(0);

	ck_assert_int_eq(far_end(), 0);
	ck_assert(!fd_is_open(fds[0]));
	close_link();
}

TEST(pipes_are_made_non_blocking)
{
	int in[2], out[2];
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	recorder_open_pipes(&near, in[0], out[1], &recorder_protocol);
	ck_assert_int_ne(fcntl(in[0], F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_ne(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
	far_out = in[1];
	far_in = out[0];
	close_link();
}

static void check_pipes_refused(int expected, int read_fd, int write_fd)
{
	struct ferry_transport *untouched = (struct ferry_transport *)&expected, *out = untouched;
	int read_flags = fcntl(read_fd, F_GETFL), write_flags = fcntl(write_fd, F_GETFL);
	ck_assert_int_eq(ferry_transport_new_pipes(&out, base, read_fd, write_fd), expected);
	ck_assert_ptr_eq(out, untouched);
	ck_assert_int_eq(fcntl(read_fd, F_GETFL), read_flags);
	ck_assert_int_eq(fcntl(write_fd, F_GETFL), write_flags);
}

TEST(pipes_that_will_not_do_are_refused_and_left_as_they_were)
{
	int in[2], out[2];
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	int file = make_file(10), directory = open("/", O_RDONLY | O_CLOEXEC);
	struct ferry_transport *transport;

	ck_assert_int_eq(ferry_transport_new_pipes(NULL, base, in[0], out[1]), -EINVAL);
	ck_assert_int_eq(ferry_transport_new_pipes(&transport, NULL, in[0], out[1]), -EINVAL);
	check_pipes_refused(-EINVAL, in[1], out[1]); /* the wrong ends */
	check_pipes_refused(-EINVAL, in[0], out[0]);
	check_pipes_refused(-EINVAL, file, out[1]);
	check_pipes_refused(-EINVAL, in[0], file);
	check_pipes_refused(-EINVAL, directory, out[1]);
	check_pipes_refused(-EBADF, -1, out[1]);
	check_pipes_refused(-EBADF, in[0], -1);
	close(file);
	check_pipes_refused(-EBADF, file, out[1]);
	check_pipes_refused(-EBADF, in[0], file);

	close(directory);
	close(in[0]);
	close(in[1]);
	close(out[0]);
	close(out[1]);
}

TEST(the_socket_of_pipes_cannot_be_changed)
{
	open_link(LINK_PIPES);
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	ck_assert_int_eq(ferry_transport_set_socket(near.transport, fds[0]), -EINVAL);
	close(fds[0]);
	close(fds[1]);
	close_link();
}

/* ---- taking over ---- */

static unsigned int reads, writes, events;

static void on_read(struct bufferevent *bev, void *context)
{
	(void)bev;
	ck_assert_ptr_eq(context, &reads);
	reads++;
}

static void on_write(struct bufferevent *bev, void *context)
{
	(void)bev, (void)context;
	writes++;
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
	(void)bev, (void)what, (void)context;
	events++;
}

static void check_transport_refused(int expected, struct bufferevent *bev)
{
	struct ferry_transport *untouched = (struct ferry_transport *)&expected, *out = untouched;
	bufferevent_setcb(bev, on_read, on_write, on_event, &reads);
	int fd = bufferevent_getfd(bev);
	int flags = fd >= 0 ? fcntl(fd, F_GETFL) : 0;
	int enabled = bufferevent_get_enabled(bev);

	int status = ferry_transport_new(&out, bev);

	ck_assert_int_eq(status, expected);
	ck_assert_ptr_eq(out, untouched);
	ck_assert_int_eq(ferry_transport_new(NULL, bev), -EINVAL);
	ck_assert_int_eq(bufferevent_getfd(bev), fd);
	ck_assert_int_eq(fd >= 0 ? fcntl(fd, F_GETFL) : 0, flags);
	ck_assert_int_eq(bufferevent_get_enabled(bev), enabled);
}

/* Both ways through the refused bufferevent, by libevent alone. */
static void check_exchange(struct bufferevent *bev, int fd)
{
	reads = 0;
	bufferevent_enable(bev, EV_READ | EV_WRITE);
	ck_assert_int_eq(bufferevent_write(bev, "out", 3), 0);
	char buffer[8];
	ssize_t n;
	do {
		pump_turns(1);
		n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	} while (n < 0 && errno == EAGAIN);
	ck_assert_int_eq(n, 3);
	ck_assert_int_eq(send(fd, "back", 4, 0), 4);
	pump_until_count(&reads, 1);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(bev)), 4);
	bufferevent_free(bev);
	pump_turns(2);
	close(fd);
}

TEST_CASE("taking over", NULL, check_closes);

TEST(no_bufferevent_is_refused)
{
	struct ferry_transport *transport;
	ck_assert_int_eq(ferry_transport_new(&transport, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_new(NULL, NULL), -EINVAL);
}

TEST(a_bufferevent_is_usable_after_out_was_null)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(bev, on_read, on_write, on_event, &reads);
	ck_assert_int_eq(ferry_transport_new(NULL, bev), -EINVAL);
	check_exchange(bev, fds[1]);
}

TEST(a_pair_is_refused_and_stays_usable)
{
	struct bufferevent *pair[2];
	ck_assert_int_eq(bufferevent_pair_new(base, 0, pair), 0);
	check_transport_refused(-EINVAL, pair[0]);
	bufferevent_enable(pair[0], EV_READ | EV_WRITE);
	bufferevent_enable(pair[1], EV_READ | EV_WRITE);
	bufferevent_write(pair[1], "through", 7);
	pump_until_count(&reads, 1);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(pair[0])), 7);
	bufferevent_free(pair[0]);
	bufferevent_free(pair[1]);
}

TEST(a_filter_is_refused_and_stays_usable)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	struct bufferevent *filter =
	    bufferevent_filter_new(bev, NULL, NULL, BEV_OPT_CLOSE_ON_FREE, NULL, NULL);
	check_transport_refused(-EINVAL, filter);
	check_exchange(filter, fds[1]);
}

TEST(a_bufferevent_without_a_descriptor_is_refused_and_stays_usable)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	check_transport_refused(-EINVAL, bev);
	bufferevent_setfd(bev, fds[0]);
	check_exchange(bev, fds[1]);
}

/* _i: blocking or not. */
LOOP_TEST(a_bufferevent_on_a_pipe_is_refused_and_stays_usable, 2)
{
	int fds[2];
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC | (_i == 0 ? O_NONBLOCK : 0)), 0);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	check_transport_refused(-ENOTSOCK, bev);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(write(fds[1], "bytes", 5), 5);
	pump_until_count(&reads, 1);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(bev)), 5);
	bufferevent_free(bev);
	close(fds[1]);
}

LOOP_TEST(a_socket_that_is_no_stream_is_refused_and_stays_usable, 4)
{
	int fds[2];
	ck_assert_int_eq(socketpair(AF_UNIX,
	                            (_i / 2 == 0 ? SOCK_DGRAM : SOCK_SEQPACKET) | SOCK_CLOEXEC |
	                                (_i % 2 == 0 ? SOCK_NONBLOCK : 0),
	                            0, fds),
	                 0);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	check_transport_refused(-EPROTOTYPE, bev);
	check_exchange(bev, fds[1]);
}

LOOP_TEST(a_transports_bufferevent_is_refused_and_the_transport_goes_on, LINK_KINDS)
{
	open_link(_i);
	struct bufferevent *bev = ferry_transport_get_bufferevent(near.transport);
	struct ferry_transport *out;
	ck_assert_int_eq(ferry_transport_new(&out, bev), -EALREADY);
	write_text("out");
	expect_far_text("out");
	ck_assert_int_eq(write(far_out, "in", 2), 2);
	pump_until_length(&near, 2);
	close_link();
}

TEST(what_was_set_before_stays)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(bev, on_read, on_write, on_event, &reads);
	bufferevent_setwatermark(bev, EV_READ, 3, 100);
	bufferevent_setwatermark(bev, EV_WRITE, 7, 1000);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(bufferevent_write(bev, "queued before", 13), 0);
	struct ferry_transport *transport;
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_ptr_eq(ferry_transport_get_bufferevent(transport), bev);

	size_t low, high;
	ck_assert_int_eq(bufferevent_getwatermark(bev, EV_READ, &low, &high), 0);
	ck_assert(low == 3 && high == 100);
	ck_assert_int_eq(bufferevent_getwatermark(bev, EV_WRITE, &low, &high), 0);
	ck_assert(low == 7 && high == 1000);
	ck_assert_int_eq(bufferevent_get_enabled(bev), EV_READ | EV_WRITE);
	bufferevent_data_cb read_cb, write_cb;
	bufferevent_event_cb event_cb;
	void *argument;
	bufferevent_getcb(bev, &read_cb, &write_cb, &event_cb, &argument);
	ck_assert(read_cb == on_read && write_cb == on_write && event_cb == on_event);
	ck_assert_ptr_eq(argument, &reads);

	char buffer[32];
	ssize_t n;
	do {
		pump_turns(1);
		n = read(fds[1], buffer, sizeof(buffer));
	} while (n < 0 && errno == EAGAIN);
	ck_assert_int_eq(n, 13);
	ck_assert_int_eq(write(fds[1], "ab", 2), 2);
	pump_turns(5);
	ck_assert_uint_eq(reads, 0); /* under the low mark */
	ck_assert_int_eq(write(fds[1], "c", 1), 1);
	pump_until_count(&reads, 1);
	ferry_transport_free(transport);
	close(fds[1]);
}

TEST(a_blocking_socket_is_made_non_blocking)
{
	int fds[2];
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	struct ferry_transport *transport = make_transport(fds[0]);
	ck_assert_int_ne(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_eq(fcntl(fds[1], F_GETFL) & O_NONBLOCK, 0);
	ferry_transport_free(transport);
	close(fds[1]);
}

static struct ferry_transport *made_in_callback;

static void take_over(struct bufferevent *bev, void *context)
{
	(void)context;
	if (made_in_callback == NULL)
		ck_assert_int_eq(ferry_transport_new(&made_in_callback, bev), 0);
}

TEST(a_bufferevent_may_be_taken_over_in_its_own_callback)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(bev, take_over, NULL, NULL, NULL);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	while (made_in_callback == NULL)
		pump_turns(1);
	recorder_attach(&near, made_in_callback, &recorder_protocol);
	far_in = far_out = fds[1];

	write_text("out");
	expect_far_text("out");
	int fd = make_marked_fd(1);
	ck_assert_int_eq(wire_send(far_out, "in", 2, &fd, 1), 2);
	close(fd);
	pump_until_fds(&near, 1);

	ck_assert_uint_eq(marked_number(near.fds[0]), 1);
	close_link();
}

/* ---- another socket ---- */

TEST_CASE("another socket", NULL, check_closes);

TEST(another_socket_takes_over_and_what_is_queued_goes_there)
{
	open_link(LINK_UNIX);
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	int old = bufferevent_getfd(ferry_transport_get_bufferevent(near.transport));
	int marked = make_marked_fd(7);
	ck_assert_int_eq(ferry_transport_send_fd(near.transport, marked, FERRY_FD_TAKE), 0);
	write_text("queued");

	QUIETLY(ferry_transport_set_socket(near.transport, fds[0]));
	ck_assert(fd_is_open(old));
	pump_turns(3);

	char buffer[16];
	struct wire_read result;
	wire_receive(fds[1], buffer, sizeof(buffer), &result);
	ck_assert_int_eq(result.bytes, 6);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert_uint_eq(marked_number(result.fds[0]), 7);
	wire_close_fds(&result);
	marked = make_marked_fd(8);
	ck_assert_int_eq(wire_send(fds[1], "in", 2, &marked, 1), 2);
	close(marked);
	pump_until_fds(&near, 1);
	ck_assert_uint_eq(marked_number(near.fds[0]), 8);
	close(old);
	close(fds[1]);
	close_link();
}

TEST(bufferevent_setfd_is_noticed)
{
	open_link(LINK_UNIX);
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = ferry_transport_get_bufferevent(near.transport);
	int old = bufferevent_getfd(bev);
	bufferevent_setfd(bev, fds[0]);
	bufferevent_enable(bev, EV_READ);

	write_text("out"); /* the next call */
	pump_turns(3);
	char buffer[16];
	ck_assert_int_eq(read(fds[1], buffer, sizeof(buffer)), 3);
	int marked = make_marked_fd(8);
	ck_assert_int_eq(wire_send(fds[1], "in", 2, &marked, 1), 2);
	close(marked);
	pump_until_fds(&near, 1);

	ck_assert_uint_eq(marked_number(near.fds[0]), 8);
	close(old);
	close(fds[1]);
	close_link();
}

TEST(a_socket_that_will_not_do_is_refused_and_the_old_one_stays)
{
	open_link(LINK_UNIX);
	int pipe_ends[2], dgram[2], tcp[2];
	make_pipe(pipe_ends);
	make_pair(PAIR_TCP, tcp);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, dgram), 0);
	struct ferry_transport *t = near.transport;
	ck_assert_int_eq(ferry_transport_set_socket(t, pipe_ends[0]), -ENOTSOCK);
	ck_assert_int_eq(ferry_transport_set_socket(t, dgram[0]), -EPROTOTYPE);
	ck_assert_int_eq(ferry_transport_send_fd(t, STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_set_socket(t, tcp[0]), -EOPNOTSUPP);

	write_text("out");
	expect_far_text("out");
	for (int i = 0; i < 2; i++) {
		close(pipe_ends[i]);
		close(dgram[i]);
		close(tcp[i]);
	}
	close_link();
}
