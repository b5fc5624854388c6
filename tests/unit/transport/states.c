/* The states of a transport: a table of every state that can be reached and every event. docs/transport.md has
 * the same as a picture. The walk brings a real transport into each state, lets one event happen, and compares
 * the state after it. */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/ferry.h"
#include "states_rows.h"
#include "test.h"
#include "transport/fields.h"
#include "wire.h"

/* A state is five letters:
 *
 *   life     Open, Closing, Lost, Ended; Freed
 *   in.half  Open, Undelivered end of file, End of file; lower case while the user has paused reading
 *   out.half Open, Closing, Shut, Broken; Rest: broken, and bytes of the peer that is gone are still in the socket
 *   queue    '-' all is sent, 'q' bytes wait for the peer to read
 *   due      '-' nothing, 'n' callbacks for what a flush has sent (step.unnotified), 'c' a close with the peer that
 *            must run from the loop (in.close_due), 'b' both
 *
 * Detached is a state of one letter, as Freed is.
 *
 * The events, each followed by turns of the loop, and looks of the watch over the peer, unless it is one of the
 * calls "phcaxflD":
 *
 *   t  turns of the loop, and nothing else
 *   w  ferry_transport_write() of more than the socket holds
 *   b  the peer sends a byte
 *   d  the peer reads all that was sent
 *   e  the peer ends its sending half
 *   y  the peer sends a byte with a descriptor, behind which the read step goes on, and ends; a user with a
 *      protocol pauses reading when it gets the byte, and leaves it
 *   g  the peer is gone: it closes its socket
 *   p  ferry_transport_pause_reading()
 *   r  ferry_transport_resume_reading()
 *   h  ferry_transport_lose_write_connection()
 *   c  ferry_transport_lose_connection()
 *   a  ferry_transport_abort_connection()
 *   s  ferry_transport_set_socket() of another connection
 *   x  ferry_transport_free()
 *   k  the peer sends more than one turn reads, and is gone
 *   f  ferry_transport_write() of a byte, and ferry_transport_flush() that does not wait
 *   l  transport_close_with_peer_later(), as a channel calls it inside a call of the user, with a producer that
 *      must be stopped first
 *   D  ferry_transport_detach()
 */
static const char all_events[] = "twbdeygprhcasxkflD";

enum { EVENTS = sizeof(all_events) - 1, NAME = 5 };

/* ---- the user ---- */

static bool pause_at_data; /* the user then leaves the byte in the input */

static void data_received(struct ferry_transport *own, struct evbuffer *input, void *context)
{
	(void)context;
	if (pause_at_data)
		(void)ferry_transport_pause_reading(own);
	else
		evbuffer_drain(input, evbuffer_get_length(input));
}

static void read_connection_lost(struct ferry_transport *own, void *context)
{
	(void)own, (void)context;
}

static const struct ferry_protocol half_close_protocol = {
    .data_received = data_received,
    .read_connection_lost = read_connection_lost,
};
static const struct ferry_protocol no_half_close_protocol = {.data_received = data_received};

static const struct kind {
	const char *name;
	const struct ferry_protocol *protocol;
	const struct row *rows;
	size_t count;
} kinds[] = {
    {"half-close", &half_close_protocol, half_close_rows, COUNT(half_close_rows)},
    {"no half-close", &no_half_close_protocol, no_half_close_rows, COUNT(no_half_close_rows)},
    {"bufferevent", NULL, bufferevent_rows, COUNT(bufferevent_rows)},
};

/* ---- a transport and its peer ---- */

static struct ferry_transport *transport; /* NULL once freed */
static struct bufferevent *detached;      /* or NULL */
static int peer;                          /* -1: gone */
static int sockets[16];                   /* replaced ones, which the test closes */
static unsigned int socket_count;

static void keep_socket(int fd)
{
	sockets[socket_count++] = fd;
}

/* With deferred callbacks the end of file is read before the user has the byte before it. */
static void open_transport(const struct kind *kind)
{
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	peer = ends[1];
	struct bufferevent *bev =
	    bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	ck_assert_ptr_nonnull(bev);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	if (kind->protocol != NULL)
		ck_assert_int_eq(ferry_transport_set_protocol(transport, kind->protocol, NULL), 0);
	else
		bufferevent_enable(bev, EV_READ | EV_WRITE);
	pump_turns(4);
}

static void free_transport(void)
{
	ferry_transport_free(transport);
	transport = NULL;
	if (detached != NULL)
		bufferevent_free(detached);
	detached = NULL;
}

static void close_transport(void)
{
	free_transport();
	if (peer >= 0)
		close(peer);
	pump_turns(4);
	while (socket_count > 0)
		close(sockets[--socket_count]);
}

static const char *state_name(void)
{
	static char name[NAME + 1];

	memcpy(name, detached != NULL ? "D...." : "F....", sizeof(name));
	if (transport == NULL)
		return name;
	name[0] = "OCLE"[transport->life];
	name[1] = (transport->in.paused ? "oue" : "OUE")[transport->in.half];
	name[2] = "OCSB"[transport->out.half];
	if (transport->in.rest > 0)
		name[2] = 'R';
	name[3] = outgoing_is_sent(&transport->out.stream) ? '-' : 'q';
	name[4] = "-ncb"[transport->out.step.unnotified + 2 * transport->in.close_due];
	/* The connection is over: its halves mean nothing any more. */
	if (transport->life >= TRANSPORT_LOST)
		memcpy(name + 1, "....", NAME);
	return name;
}

/* ---- events ---- */

static void write_much(void)
{
	static const char block[512 * 1024];

	(void)ferry_transport_write(transport, block, sizeof(block));
}

static void read_all(void)
{
	while (peer >= 0 && wire_drain(peer) > 0)
		pump_turns(2);
}

/* The old socket stays open, and goes back to the test: the bufferevent forgets it. */
static void set_socket(void)
{
	int ends[2];
	int old = bufferevent_getfd(ferry_transport_get_bufferevent(transport));

	make_pair(PAIR_UNIX, ends);
	if (ferry_transport_set_socket(transport, ends[0]) < 0) {
		close(ends[0]);
		close(ends[1]);
		return;
	}
	keep_socket(old);
	if (peer >= 0)
		close(peer);
	peer = ends[1];
}

static void send_and_end(void)
{
	if (peer < 0)
		return;
	int fd = make_marked_fd(0);
	(void)wire_send(peer, "y", 1, &fd, 1);
	close(fd);
	(void)shutdown(peer, SHUT_WR);
	pause_at_data = true;
}

static void ignore(void *context)
{
	(void)context;
}

static const struct ferry_producer_callbacks producer = {.resume_producing = ignore,
                                                         .pause_producing = ignore};

/* Without a protocol no layer does it. */
static void close_later(void)
{
	if (transport->protocol.table == NULL || !transport_is_open(transport))
		return;
	(void)ferry_transport_register_producer(transport, &producer, NULL, FERRY_PRODUCER_PUSH);
	transport_close_with_peer_later(transport);
}

static void send_much_and_go(void)
{
	static const char block[4096];
	int size = 1024 * 1024;

	if (peer < 0)
		return;
	(void)setsockopt(peer, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	while (send(peer, block, sizeof(block), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
		continue;
	peer = (close(peer), -1);
}

static void flush(void)
{
	(void)ferry_transport_write(transport, "f", 1);
	(void)ferry_transport_flush(transport, &(struct timeval){0, 0});
}

/* What only tests of the states call. */
static void call_inside(char event)
{
	if (event == 'f')
		flush();
	else if (event == 'l')
		close_later();
	else if (event == 'D' && ferry_transport_detach(transport, &detached) == 0)
		transport = NULL;
}

static void call(char event)
{
	if (event == 'p')
		(void)ferry_transport_pause_reading(transport);
	else if (event == 'h')
		(void)ferry_transport_lose_write_connection(transport);
	else if (event == 'c')
		(void)ferry_transport_lose_connection(transport);
	else if (event == 'a')
		(void)ferry_transport_abort_connection(transport);
	else if (event == 'x')
		free_transport();
	else if (event == 'r')
		(void)ferry_transport_resume_reading(transport);
	else if (event == 's')
		set_socket();
	else if (event == 'w')
		write_much();
}

/* The timer of the watch over the peer is due, as often as a state may follow another. */
static void look_at_peer(void)
{
	for (int i = 0; i < 3 && transport != NULL; i++) {
		if (transport->watch != NULL && event_pending(transport->watch->event, EV_TIMEOUT, NULL))
			event_active(transport->watch->event, EV_TIMEOUT, 0);
		pump_turns(4);
	}
}

static void act(char event)
{
	if (transport != NULL)
		call(event);
	if (transport != NULL)
		call_inside(event);
	if (event == 'k')
		send_much_and_go();
	else if (event == 'b' && peer >= 0)
		(void)!send(peer, "b", 1, MSG_NOSIGNAL);
	else if (event == 'e' && peer >= 0)
		(void)shutdown(peer, SHUT_WR);
	else if (event == 'g' && peer >= 0)
		peer = (close(peer), -1);
	else if (event == 'y')
		send_and_end();
	else if (event == 'd')
		read_all();
	if (strchr("phcaflD", event) == NULL) {
		pump_turns(6);
		look_at_peer();
	}
	pause_at_data = false;
}

static void follow(const struct kind *kind, const char *path)
{
	open_transport(kind);
	for (; *path != '\0'; path++)
		act(*path);
}

/* ---- walking ---- */

static bool has_row(const struct kind *kind, const char *state)
{
	for (size_t i = 0; i < kind->count; i++)
		if (strncmp(kind->rows[i].state, state, NAME) == 0)
			return true;
	return false;
}

static const char *next_state(const struct row *row, size_t event)
{
	return row->next + event * (NAME + 1);
}

static void check_event(const struct kind *kind, const struct row *row, size_t event)
{
	const char *expected = next_state(row, event);

	follow(kind, row->path);
	ck_assert_msg(strcmp(state_name(), row->state) == 0, "%s: after \"%s\" it is %s, not %s",
	              kind->name, row->path, state_name(), row->state);
	act(all_events[event]);
	ck_assert_msg(strncmp(state_name(), expected, NAME) == 0, "%s: '%c' makes %s %s, not %.4s",
	              kind->name, all_events[event], row->state, state_name(), expected);
	close_transport();
}

LOOP_TEST(each_event_takes_each_state_to_the_documented_one, COUNT(kinds))
{
	const struct kind *kind = &kinds[_i];

	for (size_t i = 0; i < kind->count; i++) {
		ck_assert_uint_eq(strlen(kind->rows[i].next), EVENTS * (NAME + 1) - 1);
		for (size_t event = 0; event < EVENTS; event++)
			check_event(kind, &kind->rows[i], event);
	}
}

LOOP_TEST(each_state_that_an_event_leads_to_has_a_row, COUNT(kinds))
{
	const struct kind *kind = &kinds[_i];

	for (size_t i = 0; i < kind->count; i++) {
		for (size_t event = 0; event < EVENTS; event++) {
			const char *state = next_state(&kind->rows[i], event);
			ck_assert_msg(has_row(kind, state), "%s: no row for %.4s", kind->name, state);
		}
	}
}

/* Whether the connection has ended, or the transport is no longer the library's. */
static bool is_out(void)
{
	return strchr("EFD", state_name()[0]) != NULL;
}

/* A user without a protocol ends the connection itself. */
LOOP_TEST(each_state_has_a_way_out_when_the_peer_is_gone_and_the_user_reads, COUNT(kinds))
{
	const struct kind *kind = &kinds[_i];

	for (size_t i = 0; i < kind->count; i++) {
		follow(kind, kind->rows[i].path);
		for (const char *event = kind->protocol != NULL ? "gr" : "gct"; *event != '\0'; event++)
			act(*event);
		ck_assert_msg(is_out(), "%s: %s is %s for ever", kind->name, kind->rows[i].state,
		              state_name());
		close_transport();
	}
}
