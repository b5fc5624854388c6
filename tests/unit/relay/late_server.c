/* A relay that is made before its server is there; and the errors of making one. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/ferry.h"

#include "recorder.h"
#include "relay_link.h"
#include "set_clock.h"
#include "test.h"
#include "wire.h"

static void put_text(int side, const char *text)
{
	ck_assert_int_eq(wire_send(peers[side], text, strlen(text), NULL, 0), (ssize_t)strlen(text));
}

LOOP_TEST(nothing_is_read_before_there_is_a_server, 2)
{
	open_half_relay(_i ? PAIR_TCP : PAIR_UNIX, &noting);
	put_text(0, "early");
	pump_turns(5);
	ck_assert_uint_eq(relay_flow(FERRY_RELAY_CLIENT).bytes_received, 0);
	ck_assert_ptr_null(ferry_relay_get_transport(relay, FERRY_RELAY_SERVER));
	ck_assert_int_eq(bring_server(PAIR_UNIX), 0);
	expect_text(FERRY_RELAY_SERVER, "early");
	put_text(1, "answer");
	expect_text(FERRY_RELAY_CLIENT, "answer");
	close_relay();
}

/* The owner has read some before it made the relay. */
TEST(bytes_in_the_input_pass)
{
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *client = make_transport(ends[0]);
	struct bufferevent *bev = ferry_transport_get_bufferevent(client);
	peers[0] = ends[1];
	peers[1] = -1;
	bufferevent_enable(bev, EV_READ);
	put_text(0, "head and ");
	pump_turns(3);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(bev)), 9);
	relay_notes = (struct relay_notes){0};
	ck_assert_int_eq(ferry_relay_new(&relay, client, NULL, &noting, NULL), 0);
	put_text(0, "body");
	pump_turns(3);
	ck_assert_int_eq(bring_server(PAIR_UNIX), 0);
	expect_text(FERRY_RELAY_SERVER, "head and body");
	close_relay();
}

LOOP_TEST(a_client_that_half_closes_early_is_answered, 2)
{
	open_half_relay(_i ? PAIR_TCP : PAIR_UNIX, &noting);
	put_text(0, "question");
	shutdown(peers[0], SHUT_WR);
	pump_turns(5);
	ck_assert_uint_eq(relay_notes.half_ends[0], 0);
	ck_assert_int_eq(bring_server(PAIR_UNIX), 0);
	expect_text(FERRY_RELAY_SERVER, "question");
	expect_end_of_file(FERRY_RELAY_SERVER);
	put_text(1, "answer");
	expect_text(FERRY_RELAY_CLIENT, "answer");
	close_relay();
}

/* The transport looks at its peer from time to time. */
static void let_it_look(void)
{
	for (int i = 0; i < 10; i++) {
		clock_advance(500000);
		pump_turns(3);
	}
}

/* _i: bit 0: it has sent something before. The transport has time to notice that the client has gone. */
LOOP_TEST(a_client_that_closes_early_is_passed_on, 2)
{
	struct wire_read result;
	int fd = make_marked_fd(5);
	char byte;

	open_half_relay(PAIR_UNIX, &noting);
	if (_i == 1)
		ck_assert_int_eq(wire_send(peers[0], "x", 1, &fd, 1), 1);
	close(fd);
	close_peer(FERRY_RELAY_CLIENT);
	let_it_look();
	ck_assert_uint_eq(relay_notes.ended + relay_notes.half_ends[0], 0);
	ck_assert_int_eq(bring_server(PAIR_UNIX), 0);
	expect_hang_up(FERRY_RELAY_SERVER);
	wire_receive(peers[1], &byte, 1, &result);
	ck_assert_int_eq(result.bytes, _i);
	ck_assert_uint_eq(result.fd_count, (size_t)_i);
	wire_close_fds(&result);
	expect_relay_end(FERRY_RELAY_CLIENT, 0);
	ck_assert_uint_eq(relay_notes.half_ends[0], 1);
	close_relay();
}

TEST(a_client_that_resets_early_resets_the_server)
{
	const struct linger at_once = {.l_onoff = 1};
	char byte;

	open_half_relay(PAIR_TCP, &noting);
	setsockopt(peers[0], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	close_peer(FERRY_RELAY_CLIENT);
	let_it_look();
	ck_assert_uint_eq(relay_notes.ended, 0);
	ck_assert_int_eq(bring_server(PAIR_TCP), 0);
	ck_assert_int_eq(receive_from_relay(FERRY_RELAY_SERVER, &byte, 1), -ECONNRESET);
	expect_relay_end(FERRY_RELAY_CLIENT, -ECONNRESET);
	close_relay();
}

/* _i: 0: ferry_relay_close(), 1: _abort(); 2, 3: the same for a client that has gone already */
LOOP_TEST(the_owner_ends_a_relay_that_has_no_server, 4)
{
	const struct linger at_once = {.l_onoff = 1};

	open_half_relay(PAIR_TCP, &noting);
	if (_i >= 2) {
		setsockopt(peers[0], SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		close_peer(FERRY_RELAY_CLIENT);
		let_it_look();
	}
	if (_i & 1)
		ck_assert_int_eq(ferry_relay_abort(relay, -ECONNREFUSED), 0);
	else
		ck_assert_int_eq(ferry_relay_close(relay), 0);
	ck_assert_int_eq(bring_server(PAIR_UNIX), -ECANCELED);
	close_peer(FERRY_RELAY_CLIENT);
	expect_relay_end(FERRY_RELAY_CLIENT, _i & 1 ? -ECONNREFUSED : 0);
	close_relay();
}

TEST(a_relay_without_a_server_may_be_freed)
{
	open_half_relay(PAIR_UNIX, &noting);
	put_text(0, "nobody reads this");
	ferry_relay_free(relay);
	relay = NULL;
	pump_turns(3);
	char byte;
	ck_assert_int_eq(receive_from_relay(FERRY_RELAY_CLIENT, &byte, 1), -ECONNRESET);
	close_relay();
}

/* ---- errors ---- */

static void resume(void *context)
{
	(void)context;
}

static const struct ferry_producer_callbacks a_producer = {.resume_producing = resume};

TEST(bad_arguments_are_refused)
{
	struct ferry_relay *out;
	struct ferry_relay_stats stats;

	open_half_relay(PAIR_UNIX, &noting);
	struct ferry_transport *client = ferry_relay_get_transport(relay, FERRY_RELAY_CLIENT);
	ck_assert_int_eq(ferry_relay_new(NULL, client, NULL, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_relay_new(&out, NULL, client, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_relay_new(&out, client, client, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_relay_set_server(NULL, client), -EINVAL);
	ck_assert_int_eq(ferry_relay_set_server(relay, NULL), -EINVAL);
	ck_assert_int_eq(ferry_relay_set_server(relay, client), -EINVAL);
	ck_assert_int_eq(ferry_relay_close(NULL), -EINVAL);
	ck_assert_int_eq(ferry_relay_abort(NULL, -EPERM), -EINVAL);
	ck_assert_int_eq(ferry_relay_abort(relay, 0), -EINVAL);
	ck_assert_int_eq(ferry_relay_set_idle_timeout(NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_relay_set_close_timeout(NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_relay_set_idle_timeout(relay, &(struct timeval){0, 0}), -EINVAL);
	ck_assert_int_eq(ferry_relay_set_close_timeout(relay, &(struct timeval){-1, 0}), -EINVAL);
	ck_assert_ptr_null(ferry_relay_get_transport(NULL, FERRY_RELAY_CLIENT));
	ck_assert_ptr_null(ferry_relay_get_transport(relay, (enum ferry_relay_side)2));
	ck_assert_int_eq(ferry_relay_get_stats(NULL, &stats), -EINVAL);
	ck_assert_int_eq(ferry_relay_get_stats(relay, NULL), -EINVAL);
	close_relay();
}

TEST(a_relay_has_one_server)
{
	open_relay(PAIR_UNIX, PAIR_UNIX, &noting);
	int first = peers[1];
	ck_assert_int_eq(bring_server(PAIR_UNIX), -EALREADY);
	close_peer(FERRY_RELAY_SERVER);
	peers[1] = first;
	put_text(0, "to the first");
	expect_text(FERRY_RELAY_SERVER, "to the first");
	close_relay();
}

/* _i: of the client, or of the server */
LOOP_TEST(transports_that_cannot_be_joined_stay_the_callers, 2)
{
	int one[2], two[2];
	struct ferry_relay *out;

	make_pair(PAIR_UNIX, one);
	make_pair(PAIR_UNIX, two);
	struct ferry_transport *bad = make_transport(one[0]), *good = make_transport(two[0]);
	struct ferry_transport *client = _i ? good : bad, *server = _i ? bad : good;
	ferry_transport_register_producer(bad, &a_producer, NULL, FERRY_PRODUCER_PULL);
	ck_assert_int_eq(ferry_relay_new(&out, client, server, &noting, NULL), -EBUSY);
	ferry_transport_unregister_producer(bad);
	ferry_transport_abort_connection(bad);
	ck_assert_int_lt(ferry_relay_new(&out, client, server, &noting, NULL), 0);
	ck_assert_int_eq(ferry_transport_write(good, "still good", 10), 0);
	pump_turns(3);
	peers[0] = two[1];
	expect_text(FERRY_RELAY_CLIENT, "still good");
	ferry_transport_free(bad);
	ferry_transport_free(good);
	close(one[1]);
	close(two[1]);
}

TEST(both_transports_have_one_loop)
{
	int one[2], two[2];
	struct ferry_relay *out;
	struct event_base *mine = base, *another = event_base_new();

	make_pair(PAIR_UNIX, one);
	make_pair(PAIR_UNIX, two);
	struct ferry_transport *client = make_transport(one[0]);
	base = another;
	struct ferry_transport *server = make_transport(two[0]);
	base = mine;
	ck_assert_int_eq(ferry_relay_new(&out, client, server, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_relay_new(&out, client, NULL, NULL, NULL), 0);
	ck_assert_int_eq(ferry_relay_set_server(out, server), -EINVAL);
	ferry_relay_free(out);
	ferry_transport_free(server);
	event_base_loop(another, EVLOOP_NONBLOCK);
	event_base_free(another);
	close(one[1]);
	close(two[1]);
}
