/* connection_made runs before every other callback, also on a socket that is still connecting. */

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "closes.h"
#include "plain_link.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

TEST_CASE("the beginning", NULL, check_closes);

LOOP_TEST(connection_made_comes_first_and_from_the_loop, LINK_KINDS)
{
	open_plain_link_with(_i, &recorder_protocol);
	ck_assert_uint_eq(near.made, 0);
	ck_assert_int_eq(write(far_out, "early", 5), 5);

	pump_until_length(&near, 5);

	ck_assert_str_eq(near.events, "MD");
	ck_assert_uint_eq(near.made, 1);
	close_plain_link();
}

LOOP_TEST(connection_made_comes_before_an_end_that_was_there_first, LINK_KINDS)
{
	open_plain_link_with(_i, &recorder_no_half_close);
	close_plain_far();

	pump_until_lost(&near);

	ck_assert_str_eq(near.events, "MX");
	close_plain_link();
}

LOOP_TEST(connection_made_comes_even_when_the_connection_is_aborted_at_once, LINK_KINDS)
{
	open_plain_link_with(_i, &recorder_protocol);
	QUIETLY(ferry_transport_abort_connection(near.transport));

	check_lost(-ECONNABORTED);

	ck_assert_str_eq(near.events, "MX");
	close_plain_link();
}

LOOP_TEST(connection_made_comes_even_when_the_connection_is_closed_at_once, LINK_KINDS)
{
	open_plain_link_with(_i, &recorder_protocol);
	write_text("bye");
	QUIETLY(ferry_transport_lose_connection(near.transport));

	check_lost(0);

	ck_assert_str_eq(near.events, "MX");
	expect_far_text("bye");
	close_plain_link();
}

static struct recorder other;

LOOP_TEST(a_new_protocol_gets_its_own_connection_made, LINK_KINDS)
{
	open_plain_link(_i);
	ck_assert_str_eq(near.events, "M");
	struct ferry_transport *transport = near.transport;
	near.transport = NULL;

	recorder_attach(&other, transport, &recorder_no_half_close);
	ck_assert_int_eq(write(far_out, "x", 1), 1);
	close_plain_far();
	pump_until_lost(&other);

	ck_assert_str_eq(other.events, "MDX");
	recorder_close(&other);
	close_plain_link();
}

LOOP_TEST(a_protocol_that_is_replaced_before_the_loop_runs_gets_no_callback, LINK_KINDS)
{
	open_plain_link_with(_i, &recorder_protocol);
	struct ferry_transport *transport = near.transport;
	near.transport = NULL;

	recorder_attach(&other, transport, &recorder_protocol);
	pump_turns(5);

	ck_assert_str_eq(near.events, "");
	ck_assert_str_eq(other.events, "M");
	recorder_close(&other);
	close_plain_link();
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
	open_plain_link(_i);
	near.hook = change_protocol;
	ck_assert_int_eq(write(far_out, "first", 5), 5);
	pump_until_count(&near.data, 1);
	ck_assert_int_eq(write(far_out, "second", 6), 6);
	close_plain_far();

	pump_until_lost(&other);

	ck_assert_str_eq(near.events, "MD");
	ck_assert_str_eq(other.events, "MDX");
	ck_assert_uint_eq(recorder_length(&near), 5);
	ck_assert_uint_eq(recorder_length(&other), 6);
	recorder_close(&other);
	close_plain_link();
}

/* ---- the next protocol is set in connection_made ---- */

static void set_other(struct ferry_transport *transport, void *context)
{
	(void)context;
	recorder_attach(&other, transport, &recorder_protocol);
}

static const struct ferry_protocol only_made = {.connection_made = set_other};

/* In the read step, which has more to deliver. */
static void set_only_made(struct ferry_transport *transport, int fd, void *context)
{
	(void)context;
	close(fd);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &only_made, NULL), 0);
}

static const struct ferry_protocol first_fd = {.file_descriptor_received = set_only_made};

static void open_three_protocols(void)
{
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	far_in = far_out = fds[1];
	ck_assert_int_eq(ferry_transport_set_protocol(make_transport(fds[0]), &first_fd, NULL), 0);
	pump_turns(2);
}

/* The recorder fails the test if its connection_made does not come first. */
static void expect_other(const char *events)
{
	pump_turns(5);
	ck_assert_str_eq(other.events, events);
	recorder_close(&other);
	close_plain_far();
	pump_turns(3);
}

static const int three_fds[] = {STDERR_FILENO, STDERR_FILENO, STDERR_FILENO};

TEST(connection_made_of_the_next_protocol_comes_before_its_descriptors)
{
	open_three_protocols();
	ck_assert_int_eq(wire_send(far_out, "x", 1, three_fds, 3), 1);
	expect_other("MFFD");
}

TEST(connection_made_of_the_next_protocol_comes_before_its_data)
{
	open_three_protocols();
	ck_assert_int_eq(wire_send(far_out, "x", 1, three_fds, 1), 1);
	expect_other("MD");
}

TEST(connection_made_of_the_next_protocol_comes_before_a_loss)
{
	open_three_protocols();
	ck_assert_int_eq(wire_send(far_out, "x", 1, three_fds, 3), 1);
	limit_descriptors(1);
	pump_turns(3);
	unlimit_descriptors();
	expect_other("MLD");
}

TEST(connection_made_of_the_next_protocol_comes_before_the_peers_end)
{
	open_three_protocols();
	ck_assert_int_eq(wire_send(far_out, "x", 1, three_fds, 1), 1);
	end_far_output();
	expect_other("MDR");
}

static void set_other_and_abort(struct ferry_transport *transport, void *context)
{
	set_other(transport, context);
	other.quiet = true;
	ck_assert_int_eq(ferry_transport_abort_connection(transport), 0);
	other.quiet = false;
}

TEST(connection_made_of_the_next_protocol_comes_before_connection_lost)
{
	static const struct ferry_protocol made_aborts = {.connection_made = set_other_and_abort};
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	far_in = far_out = fds[1];
	ck_assert_int_eq(ferry_transport_set_protocol(make_transport(fds[0]), &made_aborts, NULL), 0);
	expect_other("MX");
}

/* ---- connection_made pauses ---- */

static void pause_when_made(struct recorder *recorder, char event)
{
	if (event == EVENT_MADE)
		ck_assert_int_eq(ferry_transport_pause_reading(recorder->transport), 0);
}

static void set_pausing(struct ferry_transport *transport, int fd, void *context)
{
	(void)context;
	close(fd);
	recorder_attach(&other, transport, &recorder_protocol);
	other.hook = pause_when_made;
}

static const struct ferry_protocol first_fd_pauses = {.file_descriptor_received = set_pausing};

TEST(nothing_is_delivered_when_connection_made_has_paused_reading)
{
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	far_in = far_out = fds[1];
	struct ferry_transport *transport = make_transport(fds[0]);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &first_fd_pauses, NULL), 0);
	pump_turns(2);
	ck_assert_int_eq(wire_send(far_out, "x", 1, three_fds, 3), 1);
	pump_turns(5);
	ck_assert_str_eq(other.events, "M");
	ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	expect_other("MFFD");
}

/* ---- the peer's end ---- */

LOOP_TEST(read_connection_lost_comes_once_however_often_reading_is_enabled, LINK_KINDS)
{
	open_plain_link(_i);
	end_far_output();
	pump_until_count(&near.read_lost, 1);
	for (int i = 0; i < 3; i++) {
		bufferevent_enable(ferry_transport_get_bufferevent(near.transport), EV_READ);
		pump_turns(3);
	}
	ck_assert_int_eq(ferry_transport_pause_reading(near.transport), 0);
	ck_assert_int_eq(ferry_transport_resume_reading(near.transport), 0);
	pump_turns(3);
	ck_assert_str_eq(near.events, "MR");
	close_plain_link();
}

/* _i: with reading paused meanwhile. */
LOOP_TEST(a_protocol_that_is_set_after_the_peers_end_meets_it_once, 2)
{
	open_plain_link(LINK_UNIX);
	end_far_output();
	pump_until_count(&near.read_lost, 1);
	struct ferry_transport *transport = near.transport;
	near.transport = NULL;
	if (_i == 1)
		ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
	recorder_attach(&other, transport, &recorder_protocol);
	pump_turns(3);
	if (_i == 1)
		ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	pump_until_count(&other.read_lost, 1);
	bufferevent_enable(ferry_transport_get_bufferevent(transport), EV_READ);
	pump_turns(3);
	ck_assert_str_eq(other.events, "MR");
	recorder_close(&other);
	close_plain_link();
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

static struct ferry_transport *begin_connecting(const struct sockaddr_in *address)
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
	struct ferry_transport *transport = begin_connecting(&address);
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
	struct ferry_transport *transport = begin_connecting(&address);
	int file = make_file(10);
	ck_assert_int_eq(ferry_transport_write(transport, "hello", 5), 0);
	ck_assert_int_eq(ferry_transport_send_file(NULL, transport, file, FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, 0, NULL, NULL),
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
	struct ferry_transport *transport = begin_connecting(&address);
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
