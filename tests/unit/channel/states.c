/* The states of a channel: a table of every state and every event. Each test case brings a real channel into
 * one state, lets one event happen, and compares the state after it. docs/channel.md has the same as a
 * picture. */

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel/ready.h"
#include "channel/sending.h"
#include "ferry/ferry.h"
#include "listening.h"
#include "message_inbox.h"
#include "test.h"
#include "wire.h"

enum { EVENTS_MAX = 1024, LIMIT = 4096 };

static const struct timeval at_once = {0};

static struct ferry_poller *poller;
static struct ferry_channel *channel; /* NULL: the object is freed */
static int far;                       /* the other end; of a server its listening socket */

/* ---- the table ---- */

struct row {
	const char *states; /* this one, and the one after each event; '-': the object is gone */
	const char *machine;
	const char *path; /* events that lead to this state from a channel that was made just now */
};

enum { FIRST_NEXT = 4 }; /* index of the state after the first event */

/* The events of a connection, which has half-close set and small limits:
 *
 *   r u  ferry_poller_register(), _unregister()
 *   b f  one byte arrives; more arrive than the read limit
 *   e    the peer ends its half
 *   l    the connection is lost
 *   p    ferry_poller_poll(), with room for everything
 *   w    writes, until one is refused
 *   o    the peer reads everything, and a poll looks for room
 *   h    ferry_channel_set_half_close(false)
 *   d    ferry_poller_close_all() begins (with registered channels)
 *   c x  ferry_channel_close(), _free()
 */
static const char connection_events[] = "rubfelpwohdcx";

static const struct row connection_rows[] = {
    /*    r u b f e l p w o h d c x */
    /* Unregistered, Idle, Ready */
    {"U | R U U U U U U U U U U U U", "place", ""},
    {"I | I U R R R R I I I R R R U", "place", "rp"},
    {"R | R U R R R R I R R R R R U", "place", "r"},
    {"R | R U R R R R I R R R R R U", "place", "rpb"},
    {"I | I U I I I I I I I R I I U", "place", "rlp"},
    {"U | U U U U U U - U U U U U U", "place", "x"},
    /* Open, oVer, Freed */
    {"O | O O O O O V O O O O O V F", "life", ""},
    {"O | O O O O O V O O O O V V F", "life", "r"},
    {"O | O O O O O V O O O V V V F", "life", "re"},
    {"O | O O O O O V O O O O O O F", "life", "rw"},
    {"O | O O O O O V O O V O O O F", "life", "rwd"},
    {"V | V V V V V V V V V V V V F", "life", "rl"},
    {"F | F F F F F F - F F F F F F", "life", "x"},
    /* half: Open, Ended. A paused channel notices no end. */
    {"O | O O O O O O O O O O O O O", "half", ""},
    {"O | O O O O E O O O O O O O O", "half", "r"},
    {"O | O O O O O O O O O O O O O", "half", "rf"},
    {"E | E E E E E E E E E E E E E", "half", "re"},
    {"O | O O O O O O - O O O O O O", "half", "x"},
    /* flow: Paused, Flowing */
    {"P | F P P P P P P P P P P P P", "flow", ""},
    {"F | F P F P F F F F F F F F F", "flow", "r"},
    {"P | P P P P P P F P P P P P P", "flow", "rf"},
    {"F | F F F F F F F F F F F F F", "flow", "rl"},
    {"P | P P P P P P - P P P P P P", "flow", "x"},
    /* out: Open, Refused, Writable, Draining */
    {"O | O O O O O O O R O O O O O", "out", "r"},
    {"O | O O O O O O O R O O O O O", "out", ""},
    {"R | R R R R R R R R W R D R O", "out", "rw"},
    {"R | R R R R R R R R R R R R O", "out", "w"},
    {"R | R R R R R R O R O R R R O", "out", "rwl"},
    {"W | W W W W W W O R W W W W O", "out", "rwo"},
    {"D | D D D D D D D D D D D D O", "out", "rwd"},
    {"O | O O O O O O - O O O O O O", "out", "x"},
    /* notified: Nothing, End, Closed */
    {"N | N N N N N N N N N N N N N", "notified", "r"},
    {"N | N N N N N N E N N N N N N", "notified", "re"},
    {"N | N N N N N N C N N N N N N", "notified", "rl"},
    {"N | N N N N N N C N N N N N N", "notified", "rel"},
    {"E | E E E E E E E E E E E E E", "notified", "rep"},
    {"E | E E E E E E C E E E E E E", "notified", "repl"},
    {"C | C C C C C C C C C C C C C", "notified", "rlp"},
};

/* The events of a server. b: one client connects; f: more connect than a server accepts ahead of the polls. */
static const char server_events[] = "rubfpx";

static const struct row server_rows[] = {
    /*    r u b f p x */
    /* Unregistered, Idle, Ready */
    {"U | R U U U U U", "place", ""},
    {"R | R U R R I U", "place", "r"},
    {"I | I U R R I U", "place", "rp"},
    /* Open, Freed */
    {"O | O O O O O F", "life", "r"},
    {"F | F F F F - F", "life", "x"},
    /* flow: Paused, Flowing */
    {"P | F P P P P P", "flow", ""},
    {"F | F P F P F F", "flow", "r"},
    {"P | P P P P F P", "flow", "rf"},
};

/* ---- observing ---- */

static char state_of(const char *machine)
{
	if (channel == NULL)
		return '-';
	if (strcmp(machine, "place") == 0)
		return "UIR"[channel->place];
	if (strcmp(machine, "life") == 0)
		return "OVF"[channel->life];
	if (strcmp(machine, "half") == 0)
		return "OE"[channel->in.half];
	if (strcmp(machine, "flow") == 0)
		return "PF"[channel->in.flow];
	if (strcmp(machine, "out") == 0)
		return "ORWD"[channel->out];
	return "NEC"[channel->notified];
}

/* ---- events ---- */

static void run_loop(void)
{
	bool quiet = false;

	while (!quiet)
		ck_assert_int_eq(wait_turn_and_look(&poller->loop, &quiet), 0);
}

static void poll_everything(void)
{
	static struct ferry_channel_event events[EVENTS_MAX];
	bool gone = channel->life == CHANNEL_FREED;

	(void)ferry_poller_poll(poller, &at_once, events, EVENTS_MAX);
	if (gone)
		channel = NULL;
}

static bool of_messages; /* the channel has messages: each event is the same for them */

static void write_until_refused(void)
{
	static const char block[16 * LIMIT];

	if (of_messages)
		while (ferry_channel_send_message(channel, 1, block, sizeof(block), NULL, 0, 0) == 0)
			continue;
	else
		while (ferry_channel_write(channel, block, sizeof(block)) == 0)
			continue;
}

/* One byte, or more bytes than the read limit. As messages: one without a payload, or one that is longer. */
static void arrive(size_t length)
{
	static const char bytes[2 * LIMIT];
	unsigned char frame[INBOX_HEADER + sizeof(bytes)];

	if (of_messages)
		(void)!send(far, frame, put_message_frame(frame, 1, length > 1 ? length : 0, 0),
		            MSG_NOSIGNAL);
	else
		(void)!send(far, bytes, length, MSG_NOSIGNAL);
}

static void read_everything(void)
{
	while (wire_drain(far) > 0)
		run_loop();
	sending_offer_room(poller);
}

static void happen(char event)
{
	struct ferry_transport *transport = ferry_channel_get_transport(channel);

	if (event == 'r')
		(void)ferry_poller_register(poller, channel);
	else if (event == 'u')
		(void)ferry_poller_unregister(poller, channel);
	else if (event == 'b')
		arrive(1);
	else if (event == 'f')
		arrive((size_t)2 * LIMIT);
	else if (event == 'e')
		(void)shutdown(far, SHUT_WR);
	else if (event == 'l')
		(void)ferry_transport_abort_connection(transport);
	else if (event == 'w')
		write_until_refused();
	else if (event == 'o')
		read_everything();
	else if (event == 'h')
		(void)ferry_channel_set_half_close(channel, false);
	else if (event == 'd' && channel->place != CHANNEL_UNREGISTERED)
		(void)sending_start_draining(channel);
	else if (event == 'c')
		(void)ferry_channel_close(channel);
	else if (event == 'x')
		ferry_channel_free(channel);
	if (event == 'p')
		poll_everything();
	else
		run_loop();
}

static void happen_to_server(char event)
{
	static int clients[EVENTS_MAX];
	int count = event == 'b' ? 1 : event == 'f' ? 100 : 0;

	for (int i = 0; i < count; i++)
		clients[i] = connect_to(far);
	if (count == 0)
		happen(event);
	else
		run_loop();
	for (int i = 0; i < count; i++)
		if (clients[i] >= 0)
			close(clients[i]);
}

/* ---- walking ---- */

static void open_connection(void)
{
	int ends[2];

	ck_assert_int_eq(ferry_poller_new(&poller), 0);
	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(ferry_channel_new_socket(&channel, poller, ends[0]), 0);
	ck_assert_int_eq(ferry_channel_set_half_close(channel, true), 0);
	ck_assert_int_eq(ferry_channel_set_limits(channel, LIMIT, LIMIT), 0);
	far = ends[1];
}

static void open_messages_connection(void)
{
	open_connection();
	ck_assert_int_eq(ferry_channel_set_messages(channel, (size_t)16 * LIMIT, 0), 0);
}

static void open_server(void)
{
	ck_assert_int_eq(ferry_poller_new(&poller), 0);
	far = listen_abstract();
	ck_assert_int_eq(evutil_make_socket_nonblocking(far), 0);
	ck_assert_int_eq(ferry_poller_add_server(&channel, poller, far), 0);
	ck_assert_int_eq(ferry_poller_unregister(poller, channel), 0);
}

static void close_all(void)
{
	ferry_channel_free(channel);
	ferry_poller_free(poller);
	close(far);
}

static void walk(const struct row *row, const char *events, void (*open)(void),
                 void (*act)(char event))
{
	ck_assert_uint_eq(strlen(row->states), FIRST_NEXT + 2 * strlen(events) - 1);
	for (size_t i = 0; events[i] != '\0'; i++) {
		open();
		for (const char *event = row->path; *event != '\0'; event++)
			act(*event);
		ck_assert_msg(state_of(row->machine) == row->states[0], "%s after \"%s\" is %c, not %c",
		              row->machine, row->path, state_of(row->machine), row->states[0]);
		act(events[i]);
		char next = state_of(row->machine);
		char expected = row->states[FIRST_NEXT + 2 * i];
		ck_assert_msg(next == expected, "%s after \"%s\": event %c makes it %c, not %c",
		              row->machine, row->path, events[i], next, expected);
		close_all();
	}
}

LOOP_TEST(each_event_takes_a_connection_to_the_documented_state, COUNT(connection_rows))
{
	walk(&connection_rows[_i], connection_events, open_connection, happen);
}

LOOP_TEST(each_event_takes_a_connection_of_messages_to_the_same_state, COUNT(connection_rows))
{
	of_messages = true;
	walk(&connection_rows[_i], connection_events, open_messages_connection, happen);
	of_messages = false;
}

LOOP_TEST(each_event_takes_a_server_to_the_documented_state, COUNT(server_rows))
{
	walk(&server_rows[_i], server_events, open_server, happen_to_server);
}
