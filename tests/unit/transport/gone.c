/* A peer that is gone ends the connection in every state, with every backend of libevent's. A peer that has only
 * ended its half does not. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "plain_link.h"
#include "test.h"
#include "transport/fields.h"
#include "wire.h"

static const char *const backends[] = {"epoll", "poll", "select"};
enum { BACKENDS = 3 };

static int source; /* the other end of a pipe in the stream; -1: none */

/* In place of the fixture's base. */
static void use_backend(int index)
{
	struct event_config *config = event_config_new();
	for (int i = 0; i < BACKENDS; i++)
		if (i != index)
			event_config_avoid_method(config, backends[i]);
	event_base_free(base);
	base = event_base_new_with_config(config);
	event_config_free(config);
	ck_assert_ptr_nonnull(base);
	ck_assert_str_eq(event_base_get_method(base), backends[index]);
}

static struct ferry_file_producer *send_pipe(void)
{
	struct ferry_file_producer *file;
	int ends[2];
	make_pipe(ends);
	ck_assert_int_eq(ferry_transport_send_file(&file, near.transport, ends[0], FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, 0, NULL, NULL),
	                 0);
	source = ends[1];
	return file;
}

static void pause_reading(void)
{
	ck_assert_int_eq(ferry_transport_pause_reading(near.transport), 0);
}

static void end_half(void)
{
	end_far_output();
	pump_until_count(&near.read_lost, 1);
}

static void resume_nothing(void *context)
{
	(void)context;
}

static void register_silent_producer(void)
{
	static const struct ferry_producer_callbacks producer = {.resume_producing = resume_nothing};
	ck_assert_int_eq(
	    ferry_transport_register_producer(near.transport, &producer, NULL, FERRY_PRODUCER_PULL), 0);
}

static void lose_connection(void)
{
	ck_assert_int_eq(ferry_transport_lose_connection(near.transport), 0);
}

/* ---- the states ---- */

static void paused(void)
{
	pause_reading();
}

static void paused_with_unread_bytes(void)
{
	pause_reading();
	ck_assert_int_eq(write(far_out, "unread", 6), 6);
}

static void after_the_peers_half(void)
{
	end_half();
}

static void dry_source(void)
{
	send_pipe();
}

static void dry_source_while_paused(void)
{
	send_pipe();
	pause_reading();
}

static void dry_source_after_the_peers_half(void)
{
	send_pipe();
	end_half();
}

static void paused_file_after_the_peers_half(void)
{
	ferry_file_producer_pause(send_pipe());
	end_half();
}

static void silent_producer_after_the_peers_half(void)
{
	register_silent_producer();
	end_half();
}

static void closing_with_a_dry_source(void)
{
	send_pipe();
	lose_connection();
}

static void closing_with_a_paused_file_after_the_peers_half(void)
{
	paused_file_after_the_peers_half();
	lose_connection();
}

static void closing_with_a_silent_producer(void)
{
	register_silent_producer();
	lose_connection();
}

static void half_closing_with_a_dry_source_while_paused(void)
{
	dry_source_while_paused();
	ck_assert_int_eq(ferry_transport_lose_write_connection(near.transport), 0);
}

static void half_closed_while_paused(void)
{
	pause_reading();
	ck_assert_int_eq(ferry_transport_lose_write_connection(near.transport), 0);
}

static void (*const states[])(void) = {
    paused,
    paused_with_unread_bytes,
    after_the_peers_half,
    dry_source,
    dry_source_while_paused,
    dry_source_after_the_peers_half,
    paused_file_after_the_peers_half,
    silent_producer_after_the_peers_half,
    closing_with_a_dry_source,
    closing_with_a_paused_file_after_the_peers_half,
    closing_with_a_silent_producer,
    half_closing_with_a_dry_source_while_paused,
    half_closed_while_paused,
};

static void open_state(int backend, int kind, int state)
{
	use_backend(backend);
	source = -1;
	open_plain_link(kind);
	states[state]();
	pump_turns(5);
	ck_assert_uint_eq(near.lost, 0);
}

static void close_state(void)
{
	if (source >= 0)
		close(source);
	close_plain_link();
}

/* On TCP the kernel reports only a reset. */
static void vanish(void)
{
	struct linger linger = {.l_onoff = 1, .l_linger = 0};
	setsockopt(far_in, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close_plain_far();
}

/* _i: state, backend, link. */
LOOP_TEST(a_gone_peer_ends_the_connection, COUNT(states) * BACKENDS * LINK_KINDS)
{
	int state = _i % COUNT(states), at = _i / COUNT(states);
	open_state(at % BACKENDS, at / BACKENDS, state);

	vanish();
	/* What the peer has sent waits for the user's resume if the connection may be read on. */
	if (states[state] == paused_with_unread_bytes) {
		for (int i = 0; i < 50 && near.lost == 0; i++)
			pump_turns(1);
		if (near.lost == 0)
			(void)ferry_transport_resume_reading(near.transport);
	}
	pump_until_lost(&near);

	close_state();
}

/* The watch has looked several times. */
static void pump_past_the_watch(void)
{
	struct timeval later = {.tv_usec = 100000};
	event_base_loopexit(base, &later);
	event_base_dispatch(base);
}

LOOP_TEST(a_peer_that_ends_its_half_is_not_gone, BACKENDS *LINK_KINDS)
{
	use_backend(_i % BACKENDS);
	source = -1;
	open_plain_link(_i / BACKENDS);
	pause_reading();
	ck_assert_int_eq(write(far_out, "unread", 6), 6);
	end_far_output();
	pump_past_the_watch();
	ck_assert_uint_eq(near.lost, 0);

	ck_assert_int_eq(ferry_transport_resume_reading(near.transport), 0);
	pump_until_count(&near.read_lost, 1);
	ck_assert_uint_eq(recorder_length(&near), 6);
	pump_past_the_watch();
	ck_assert_uint_eq(near.lost, 0);
	write_text("still here");
	expect_far_text("still here");
	close_state();
}

LOOP_TEST(bytes_that_are_unread_after_both_halves_wait_for_the_user, 2)
{
	open_plain_link(_i);
	half_closed_while_paused();
	ck_assert_int_eq(write(far_out, "unread", 6), 6);
	end_far_output();
	pump_past_the_watch();
	ck_assert_uint_eq(near.lost, 0);
	ck_assert_uint_eq(near.data, 0);

	ck_assert_int_eq(ferry_transport_resume_reading(near.transport), 0);
	check_lost(0);
	ck_assert_uint_eq(recorder_length(&near), 6);
	close_plain_link();
}

TEST_CASE("without a protocol");

static short reported;

static void note_event(struct bufferevent *bev, short what, void *context)
{
	(void)bev, (void)context;
	reported = (short)(reported | what);
}

static bool has_reported(void *argument)
{
	(void)argument;
	return reported != 0;
}

/* _i: whether a dry source is queued. */
LOOP_TEST(the_event_callback_gets_an_error_if_something_is_queued, 2)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	near.transport = make_transport(ends[0]);
	struct bufferevent *bev = ferry_transport_get_bufferevent(near.transport);
	reported = 0;
	bufferevent_setcb(bev, NULL, NULL, note_event, NULL);
	bufferevent_enable(bev, EV_WRITE);
	if (_i == 1)
		send_pipe();
	pump_turns(3);

	close(ends[1]);
	if (_i == 1)
		pump_until(has_reported, NULL);
	pump_past_the_watch();

	ck_assert_int_eq(reported, _i == 1 ? BEV_EVENT_WRITING | BEV_EVENT_ERROR : 0);
	if (_i == 1)
		close(source);
	ferry_transport_free(near.transport);
	pump_turns(3);
}

/* The bufferevent has met the end of the peer's half, and kept the bytes before it. */
TEST(a_protocol_that_is_set_after_the_peers_end_gets_the_bytes_and_the_end)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *transport = make_transport(ends[0]);
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	reported = 0;
	bufferevent_setcb(bev, NULL, NULL, note_event, NULL);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(write(ends[1], "kept", 4), 4);
	ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
	pump_turns(3);
	ck_assert_int_eq(reported, BEV_EVENT_READING | BEV_EVENT_EOF);

	recorder_attach(&near, transport, &recorder_protocol);
	ck_assert_int_eq(ferry_transport_lose_write_connection(transport), 0);

	check_lost(0);
	ck_assert_str_eq(near.events, "MDRX");
	recorder_close(&near);
	close(ends[1]);
}

/* ---- input that waits behind a pause ---- */

static void look_at_peer(const struct recorder *recorder)
{
	/* Makes the watch, if the transport has not needed it yet. */
	ck_assert_int_eq(
	    ferry_transport_set_close_timeout(recorder->transport, &(struct timeval){1000, 0}), 0);
	event_active(recorder->transport->watch->event, EV_TIMEOUT, 0);
	pump_turns(4);
}

/* Under the low-water mark, or left by a data_received that pauses: without something queued the end of the peer's half
 * is reported, and a look at the peer breaks the other half later. */
LOOP_TEST(the_end_of_a_gone_peer_does_not_overtake_input_behind_a_pause, 2)
{
	struct recorder recorder;
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	recorder_open(&recorder, ends[0], &recorder_protocol);
	struct bufferevent *bev = ferry_transport_get_bufferevent(recorder.transport);
	bufferevent_setwatermark(bev, EV_READ, 100, 0);
	ck_assert_int_eq(wire_send(ends[1], "0123456789", 10, NULL, 0), 10);
	pump_turns(3);
	ck_assert_int_eq(ferry_transport_pause_reading(recorder.transport), 0);
	if (_i == 1) {
		bufferevent_disable(bev, EV_WRITE);
		ck_assert_int_eq(ferry_transport_write(recorder.transport, "x", 1), 0);
	}
	close(ends[1]);
	look_at_peer(&recorder);
	look_at_peer(&recorder);
	ck_assert_str_eq(recorder.events, "M");
	ck_assert_int_eq(ferry_transport_resume_reading(recorder.transport), 0);
	pump_until_lost(&recorder);
	ck_assert_str_eq(recorder.events, _i == 0 ? "MDRX" : "MDX");
	ck_assert_uint_eq(recorder_length(&recorder), 10);
	ck_assert_int_eq(recorder.reason, -EPIPE);
	recorder_close(&recorder);
}
