/* The program frees, aborts or closes a transport in each of its callbacks. */

#include <errno.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "closes.h"
#include "plain_link.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

TEST_CASE("freeing", NULL, check_closes);

LOOP_TEST(a_transport_may_be_freed_before_the_loop_ever_ran, LINK_KINDS)
{
	open_plain_link_with(_i, &recorder_protocol);
	write_text("dropped");
	recorder_free_transport(&near);
	ck_assert_int_eq(far_end(), 0);
	ck_assert_str_eq(near.events, "");
	close_plain_link();
}

LOOP_TEST(a_copy_of_the_socket_lives_on_after_freeing, LINK_PIPES)
{
	char byte;

	open_plain_link(_i);
	int copy = dup(bufferevent_getfd(ferry_transport_get_bufferevent(near.transport)));
	recorder_free_transport(&near);
	pump_turns(3);
	ck_assert(read(far_in, &byte, 1) < 0 && errno == EAGAIN);
	ck_assert_int_eq(write(copy, "c", 1), 1);
	ck_assert_int_eq(read(far_in, &byte, 1), 1);
	close(copy);
	ck_assert_int_eq(far_end(), 0);
	close_plain_link();
}

LOOP_TEST(the_socket_lives_on_without_close_on_free, 2)
{
	int fds[2];
	char byte;
	make_pair(_i == 0 ? PAIR_UNIX : PAIR_TCP, fds);
	struct ferry_transport *transport;
	ck_assert_int_eq(ferry_transport_new(&transport, bufferevent_socket_new(base, fds[0], 0)), 0);
	ck_assert_int_eq(ferry_transport_write(transport, "dropped", 7), 0);
	ferry_transport_free(transport);
	pump_turns(3);
	ck_assert_int_eq(write(fds[0], "x", 1), 1);
	ck_assert_int_eq(write(fds[1], "y", 1), 1);
	while (read(fds[1], &byte, 1) != 1)
		continue;
	ck_assert_int_eq(byte, 'x');
	while (read(fds[0], &byte, 1) != 1)
		continue;
	ck_assert_int_eq(byte, 'y');
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
	open_plain_link_with(kind, &recorder_protocol);
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
	close_plain_link();
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
	close_plain_link();
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
	close_plain_link();
}
