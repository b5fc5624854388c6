#include "relay_link.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "recorder.h"
#include "test.h"

struct ferry_relay *relay;
struct relay_notes relay_notes;
int relay_fds[2];
int peers[2];

void note_relay_ended(struct ferry_relay *which, enum ferry_relay_side side, int reason,
                      void *context)
{
	(void)context;
	ck_assert_ptr_eq(which, relay);
	relay_notes.ended++;
	relay_notes.side = side;
	relay_notes.reason = reason;
}

void note_side_ended(struct ferry_relay *which, enum ferry_relay_side from, bool closed,
                     void *context)
{
	(void)context;
	ck_assert_ptr_eq(which, relay);
	ck_assert_uint_eq(relay_notes.ended, 0);
	relay_notes.half_ends[from]++;
	relay_notes.closed[from] = closed;
}

const struct ferry_relay_callbacks noting = {.side_ended = note_side_ended,
                                             .relay_ended = note_relay_ended};

static struct ferry_transport *make_side(enum pair_kind kind, enum ferry_relay_side side)
{
	int ends[2];

	make_pair(kind, ends);
	relay_fds[side] = ends[0];
	peers[side] = ends[1];
	return make_transport(ends[0]);
}

static void open_with(struct ferry_transport *client, struct ferry_transport *server,
                      const struct ferry_relay_callbacks *callbacks)
{
	relay_notes = (struct relay_notes){0};
	ck_assert_int_eq(ferry_relay_new(&relay, client, server, callbacks, NULL), 0);
}

void open_relay(enum pair_kind client, enum pair_kind server,
                const struct ferry_relay_callbacks *callbacks)
{
	struct ferry_transport *first = make_side(client, FERRY_RELAY_CLIENT);

	open_with(first, make_side(server, FERRY_RELAY_SERVER), callbacks);
}

void open_half_relay(enum pair_kind client, const struct ferry_relay_callbacks *callbacks)
{
	peers[FERRY_RELAY_SERVER] = -1;
	open_with(make_side(client, FERRY_RELAY_CLIENT), NULL, callbacks);
}

int bring_server(enum pair_kind server)
{
	struct ferry_transport *transport = make_side(server, FERRY_RELAY_SERVER);
	int status = ferry_relay_set_server(relay, transport);

	if (status < 0)
		ferry_transport_free(transport);
	return status;
}

void close_peer(enum ferry_relay_side side)
{
	if (peers[side] >= 0)
		ck_assert_int_eq(close(peers[side]), 0);
	peers[side] = -1;
}

void close_relay(void)
{
	ferry_relay_free(relay);
	relay = NULL;
	close_peer(FERRY_RELAY_CLIENT);
	close_peer(FERRY_RELAY_SERVER);
}

void expect_relay_end(enum ferry_relay_side side, int reason)
{
	pump_until_count(&relay_notes.ended, 1);
	ck_assert_int_eq(relay_notes.reason, reason);
	ck_assert_int_eq(relay_notes.side, side);
	pump_turns(3);
	ck_assert_uint_eq(relay_notes.ended, 1);
}

static bool has_events(void *argument)
{
	struct pollfd *look = argument;

	return poll(look, 1, 0) == 1;
}

ssize_t receive_from_relay(enum ferry_relay_side side, void *buffer, size_t size)
{
	struct pollfd look = {.fd = peers[side], .events = POLLIN};

	pump_until(has_events, &look);
	ssize_t length = recv(peers[side], buffer, size, MSG_DONTWAIT);
	return length < 0 ? -errno : length;
}

void expect_text(enum ferry_relay_side side, const char *text)
{
	char buffer[256];
	size_t arrived = 0;

	while (arrived < strlen(text)) {
		ssize_t length = receive_from_relay(side, buffer + arrived, strlen(text) - arrived);
		ck_assert_int_gt(length, 0);
		arrived += (size_t)length;
	}
	ck_assert_mem_eq(buffer, text, arrived);
}

void expect_end_of_file(enum ferry_relay_side side)
{
	char byte;

	ck_assert_int_eq(receive_from_relay(side, &byte, 1), 0);
}

void expect_hang_up(enum ferry_relay_side side)
{
	struct pollfd look = {.fd = peers[side]};

	pump_until(has_events, &look);
	ck_assert_int_ne(look.revents & POLLHUP, 0);
}

struct ferry_relay_flow relay_flow(enum ferry_relay_side from)
{
	struct ferry_relay_stats stats;

	ck_assert_int_eq(ferry_relay_get_stats(relay, &stats), 0);
	return stats.from[from];
}
