/* A relay that goes over to splice(2), and back. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ends.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"
#include "wire.h"

enum { TOTAL = 400 * 1024, BLOCK = 64 * 1024 };

static struct ferry_relay *relay;
static bool has_ended;
static int client, server;
static size_t sent, arrived;
static bool client_has_closed, server_sees_end;

static void on_ended(struct ferry_relay *ended, enum ferry_relay_side side, int reason,
                     void *context)
{
	(void)side, (void)context;
	once(&has_ended);
	told(reason);
	relay = NULL;
	ferry_relay_free(ended);
}

static const struct ferry_relay_callbacks callbacks = {.relay_ended = on_ended};

/* ---- the peers, in bare system calls ---- */

static void send_some(void)
{
	unsigned char block[BLOCK];
	size_t length = TOTAL - sent < BLOCK ? TOTAL - sent : BLOCK;

	for (size_t i = 0; i < length; i++)
		block[i] = support_byte(sent + i);
	ssize_t count = length > 0 ? send(client, block, length, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
	sent += count > 0 ? (size_t)count : 0;
	if (sent == TOTAL && !client_has_closed) {
		client_has_closed = true;
		shutdown(client, SHUT_WR);
	}
}

static void receive_some(void)
{
	unsigned char block[BLOCK];
	ssize_t count = recv(server, block, sizeof(block), MSG_DONTWAIT);

	for (ssize_t i = 0; i < count; i++)
		check_that(block[i] == support_byte(arrived + (size_t)i), "the bytes are the client's");
	arrived += count > 0 ? (size_t)count : 0;
	server_sees_end |= count == 0 || (count < 0 && errno != EAGAIN);
}

static bool server_has_all(void)
{
	disarm();
	send_some();
	receive_some();
	arm();
	return server_sees_end || has_ended;
}

static bool relay_has_ended(void)
{
	return has_ended;
}

/* ---- the scenario ---- */

static void begin_relay(struct event_base *loop, int kind)
{
	int near[2], far[2];

	relay = NULL;
	has_ended = client_has_closed = server_sees_end = false;
	sent = arrived = 0;
	disarm();
	make_pair(kind == ENDS_UNIX ? PAIR_UNIX : PAIR_TCP, near);
	make_pair(kind == ENDS_UNIX ? PAIR_UNIX : PAIR_TCP, far);
	arm();
	client = near[1];
	server = far[1];
	struct ferry_transport *to_client = open_end(loop, near[0]);
	struct ferry_transport *to_server = open_end(loop, far[0]);
	if (to_client != NULL && to_server != NULL &&
	    called(ferry_relay_new(&relay, to_client, to_server, &callbacks, NULL)) == 0)
		to_client = to_server = NULL;
	ferry_transport_free(to_client);
	ferry_transport_free(to_server);
}

static void splice_all(struct event_base *loop, int kind)
{
	begin_relay(loop, kind);
	if (relay != NULL)
		pump_swept(loop, server_has_all);
	close_quietly(client);
	close_quietly(server);
	if (relay != NULL)
		pump_swept(loop, relay_has_ended);
	if (has_ended && arrived == TOTAL)
		completed();
	ferry_relay_free(relay);
}

static const struct large_scenario large = {.first = 12, .parts = 8};

/* A relay asks by recvmsg(2) whether the kernel shows positions. */
static const struct scenario scenarios[] = {
    {"relay by splice, unix", splice_all, ENDS_UNIX, CALL_SPLICE, CALL_RECVMSG, &large},
    {"relay by splice, TCP", splice_all, ENDS_TCP, CALL_SPLICE, CALL_RECVMSG, &large},
};

LOOP_TEST(every_call_may_fail, COUNT(scenarios))
{
	sweep_scenario_of(&scenarios[_i], 0 /* two faults are for scenarios of few calls */);
}

BEFORE_ALL
{
	heap_take_over();
}
