/* Every call that a relay has, in each of its callbacks; and those of its transports. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "ferry/ferry.h"

#include "every_call.h"
#include "recorder.h"
#include "relay_link.h"
#include "test.h"
#include "transport_calls.h"
#include "wire.h"

enum { SPARE_MAX = 64 };

static int spare[SPARE_MAX];
static unsigned int spare_count;
static int filter_status;

/* ---- the callbacks ---- */

static int on_bytes(struct ferry_relay *which, enum ferry_relay_side from, struct evbuffer *bytes,
                    void *context)
{
	(void)which, (void)context, (void)bytes;
	strike(from == FERRY_RELAY_CLIENT ? "bytes of the client" : "bytes of the server");
	return filter_status;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the type of the callback */
static int on_fd(struct ferry_relay *which, enum ferry_relay_side from, int *fd, void *context)
{
	(void)which, (void)from, (void)context;
	strike("descriptor");
	ck_assert(fd_is_open(*fd));
	return filter_status;
}

static void on_side_ended(struct ferry_relay *which, enum ferry_relay_side from, bool closed,
                          void *context)
{
	(void)which, (void)from, (void)context;
	strike(closed ? "side closed" : "side ended");
}

static void on_ended(struct ferry_relay *which, enum ferry_relay_side side, int reason,
                     void *context)
{
	(void)which, (void)side, (void)context;
	strike(reason == 0 ? "relay ended" : "relay failed");
}

static const struct ferry_relay_callbacks callbacks = {.filter_bytes = on_bytes,
                                                       .filter_fd = on_fd,
                                                       .side_ended = on_side_ended,
                                                       .relay_ended = on_ended};

static void set_up(void)
{
	filter_status = 0;
	spare_count = 0;
	open_relay(PAIR_UNIX, PAIR_UNIX, &callbacks);
}

static void tear_down(void)
{
	pump_turns(6);
	close_relay();
	pump_turns(3);
	for (unsigned int i = 0; i < spare_count; i++)
		close(spare[i]);
}

/* ---- what provokes them ---- */

static void send_some(int side)
{
	int fd = make_marked_fd(1);

	wire_send(peers[side], "xy", 2, NULL, 0);
	wire_send(peers[side], "z", 1, &fd, 1);
	close(fd);
	pump_turns(4);
}

static void by_client(void)
{
	send_some(0);
}

static void by_server(void)
{
	send_some(1);
}

static void by_half_close(void)
{
	by_client();
	shutdown(peers[0], SHUT_WR);
	pump_turns(6);
}

static void by_close(void)
{
	by_client();
	close_peer(FERRY_RELAY_SERVER);
	pump_turns(6);
}

static void by_failing_filter(void)
{
	filter_status = -EPERM;
	by_client();
	pump_turns(6);
}

/* Both ways are full, and then there is nobody. */
static void by_death(void)
{
	static char block[65536];

	for (int i = 0; i < 20; i++) {
		wire_send(peers[0], block, sizeof(block), NULL, 0);
		wire_send(peers[1], block, sizeof(block), NULL, 0);
		pump_turns(2);
	}
	close_peer(FERRY_RELAY_CLIENT);
	close_peer(FERRY_RELAY_SERVER);
	while (!struck)
		ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
	pump_turns(6);
}

static const struct every_callback of_relay[] = {
    {"bytes of the client", by_client},  {"bytes of the server", by_server},
    {"descriptor", by_client},           {"side ended", by_half_close},
    {"side closed", by_close},           {"relay ended", by_close},
    {"relay failed", by_failing_filter}, {"bytes of the client", by_death},
};

/* ---- the calls ---- */

static struct ferry_transport *make_spare(void)
{
	int ends[2];

	ck_assert_uint_lt(spare_count, SPARE_MAX);
	make_pair(PAIR_UNIX, ends);
	spare[spare_count++] = ends[1];
	return make_transport(ends[0]);
}

static void call_free(void)
{
	ferry_relay_free(relay);
	ferry_relay_free(relay); /* the same in the same callback */
	relay = NULL;
}

static void call_close(void)
{
	ferry_relay_close(relay);
}

static void call_abort(void)
{
	ferry_relay_abort(relay, -EPERM);
}

static void call_abort_and_free(void)
{
	call_abort();
	call_free();
}

static void call_close_and_abort(void)
{
	call_close();
	call_abort();
}

static void call_settings(void)
{
	ferry_relay_set_idle_timeout(relay, &(struct timeval){0, 1});
	ferry_relay_set_close_timeout(relay, &(struct timeval){0, 1});
}

static void call_getters(void)
{
	struct ferry_relay_stats stats;

	ck_assert_int_eq(ferry_relay_get_stats(relay, &stats), 0);
	ck_assert_ptr_nonnull(ferry_relay_get_transport(relay, FERRY_RELAY_CLIENT));
}

static void call_set_server(void)
{
	struct ferry_transport *server = make_spare();

	ck_assert_int_eq(ferry_relay_set_server(relay, server), -EALREADY);
	ferry_transport_free(server);
}

static void call_new(void)
{
	struct ferry_relay *made;
	struct ferry_transport *client = make_spare();

	ck_assert_int_eq(ferry_relay_new(&made, client, NULL, NULL, NULL), 0);
	ck_assert_int_eq(ferry_relay_set_server(made, make_spare()), 0);
	ferry_relay_free(made);
}

static const struct every_call calls[] = {
    {"free", call_free},
    {"close", call_close},
    {"abort", call_abort},
    {"abort, free", call_abort_and_free},
    {"close, abort", call_close_and_abort},
    {"set_…_timeout", call_settings},
    {"get_…", call_getters},
    {"set_server", call_set_server},
    {"new", call_new},
};

static struct ferry_transport *client_transport(void)
{
	return ferry_relay_get_transport(relay, FERRY_RELAY_CLIENT);
}

static struct ferry_transport *server_transport(void)
{
	return ferry_relay_get_transport(relay, FERRY_RELAY_SERVER);
}

/* _i: the callback */
LOOP_TEST(every_call_is_legal_in_every_callback, COUNT(of_relay))
{
	every_call_run(&of_relay[_i], calls, COUNT(calls), set_up, tear_down);
}

LOOP_TEST(every_call_on_the_transports_is_legal_in_every_callback, COUNT(of_relay))
{
	transport_of_first = client_transport;
	transport_of_second = server_transport;
	every_call_run(&of_relay[_i], transport_calls, transport_call_count, set_up, tear_down);
}
