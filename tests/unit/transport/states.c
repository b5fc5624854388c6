/* The states of a transport: a table of every state that can be reached and every event. docs/transport.md has
 * the same as a picture. The walk brings a real transport into each state, lets one event happen, and compares
 * the state after it. */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/ferry.h"
#include "test.h"
#include "transport/fields.h"
#include "wire.h"

/* A state is four letters:
 *
 *   life     Open, Closing, Lost, Ended; Freed
 *   in.half  Open, Undelivered end of file, End of file; lower case while the user has paused reading
 *   out.half Open, Closing, Shut, Broken
 *   queue    '-' all is sent, 'q' bytes wait for the peer to read
 *
 * The events, each followed by turns of the loop, and looks of the watch over the peer, unless it is one of the
 * calls "phcax":
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
 */
static const char all_events[] = "twbdeygprhcasx";

enum { EVENTS = sizeof(all_events) - 1, NAME = 4 };

struct row {
	char state[NAME + 1];
	const char *path; /* events that lead here from a transport that was made just now */
	const char *next; /* the state after each event */
};

/* With read_connection_lost: the user keeps the other half. */
static const struct row half_close_rows[] = {
    {"OOO-", "", "OOO- OOOq OOO- OOO- OEO- OuO- E... OoO- OOO- OOS- L... L... OOO- F..."},
    {"OOOq", "w", "OOOq OOOq OOOq OOO- OEOq OuOq E... OoOq OOOq OOCq COOq L... OOOq F..."},
    {"OEO-", "e", "OEO- OEOq OEO- OEO- OEO- OEO- E... OeO- OEO- L... L... L... OOO- F..."},
    {"OuO-", "y", "OuO- OuOq OuO- OuO- OuO- OuO- OuO- OuO- OEO- OuS- L... L... OoO- F..."},
    {"E...", "g", "E... E... E... E... E... E... E... E... E... E... E... E... E... F..."},
    {"OoO-", "p", "OoO- OoOq OoO- OoO- OoO- OoO- E... OoO- OOO- OoS- L... L... OoO- F..."},
    {"OOS-", "h", "OOS- OOS- OOS- OOS- E... OuS- E... OoS- OOS- OOS- L... L... OOS- F..."},
    {"L...", "c", "E... E... E... E... E... E... E... L... E... L... L... L... E... F..."},
    {"F...", "x", "F... F... F... F... F... F... F... F... F... F... F... F... F... F..."},
    {"OEOq", "we", "OEOq OEOq OEOq OEO- OEOq OEOq E... OeOq OEOq OECq CEOq L... OOOq F..."},
    {"OuOq", "wy", "OuOq OuOq OuOq OuO- OuOq OuOq OuBq OuOq OEOq OuCq CuOq L... OoOq F..."},
    {"OoOq", "wp", "OoOq OoOq OoOq OoO- OoOq OoOq E... OoOq OOOq OoCq CoOq L... OoOq F..."},
    {"OOCq", "wh", "OOCq OOCq OOCq OOS- OECq OuCq E... OoCq OOCq OOCq COCq L... OOCq F..."},
    {"COOq", "wc", "COOq COOq COOq E... CEOq CEOq E... CoOq COOq COCq COOq L... COOq F..."},
    {"OeO-", "ep", "OeO- OeOq OeO- OeO- OeO- OeO- E... OeO- OEO- L... L... L... OoO- F..."},
    {"OuS-", "yh", "OuS- OuS- OuS- OuS- OuS- OuS- OuS- OuS- E... OuS- L... L... OoS- F..."},
    {"OoS-", "ph", "OoS- OoS- OoS- OoS- E... OoS- E... OoS- OOS- OoS- L... L... OoS- F..."},
    {"OeOq", "wep", "OeOq OeOq OeOq OeO- OeOq OeOq E... OeOq OEOq OeCq CeOq L... OoOq F..."},
    {"OECq", "weh", "OECq OECq OECq E... OECq OECq E... OeCq OECq OECq CECq L... OOCq F..."},
    {"CEOq", "wec", "CEOq CEOq CEOq E... CEOq CEOq E... CeOq CEOq CECq CEOq L... COOq F..."},
    {"OuCq", "wyh", "OuCq OuCq OuCq OuS- OuCq OuCq OuBq OuCq OECq OuCq CuCq L... OoCq F..."},
    {"CuOq", "wyc", "CuOq CuOq CuOq E... CuOq CuOq E... CuOq CuOq CuCq CuOq L... CoOq F..."},
    {"OoCq", "wph", "OoCq OoCq OoCq OoS- OoCq OoCq E... OoCq OOCq OoCq CoCq L... OoCq F..."},
    {"CoOq", "wpc", "CoOq CoOq CoOq E... CeOq CeOq E... CoOq CoOq CoCq CoOq L... CoOq F..."},
    {"COCq", "whc", "COCq COCq COCq E... CECq CECq E... CoCq COCq COCq COCq L... COCq F..."},
    {"OuBq", "wyg", "OuBq OuBq OuBq OuBq OuBq OuBq OuBq OuBq E... OuBq L... L... OoOq F..."},
    {"OeCq", "weph", "OeCq OeCq OeCq E... OeCq OeCq E... OeCq OECq OeCq CeCq L... OoCq F..."},
    {"CeOq", "wepc", "CeOq CeOq CeOq E... CeOq CeOq E... CeOq CeOq CeCq CeOq L... CoOq F..."},
    {"CECq", "wehc", "CECq CECq CECq E... CECq CECq E... CeCq CECq CECq CECq L... COCq F..."},
    {"CuCq", "wyhc", "CuCq CuCq CuCq E... CuCq CuCq E... CuCq CuCq CuCq CuCq L... CoCq F..."},
    {"CoCq", "wphc", "CoCq CoCq CoCq E... CeCq CeCq E... CoCq CoCq CoCq CoCq L... CoCq F..."},
    {"CeCq", "wephc", "CeCq CeCq CeCq E... CeCq CeCq E... CeCq CeCq CeCq CeCq L... CoCq F..."},
};

/* Without: the connection goes with the peer's half. */
static const struct row no_half_close_rows[] = {
    {"OOO-", "", "OOO- OOOq OOO- OOO- E... E... E... OoO- OOO- OOS- L... L... OOO- F..."},
    {"OOOq", "w", "OOOq OOOq OOOq OOO- CEOq CuOq E... OoOq OOOq OOCq COOq L... OOOq F..."},
    {"E...", "e", "E... E... E... E... E... E... E... E... E... E... E... E... E... F..."},
    {"OoO-", "p", "OoO- OoOq OoO- OoO- OoO- OoO- E... OoO- OOO- OoS- L... L... OoO- F..."},
    {"OOS-", "h", "OOS- OOS- OOS- OOS- E... E... E... OoS- OOS- OOS- L... L... OOS- F..."},
    {"L...", "c", "E... E... E... E... E... E... E... L... E... L... L... L... E... F..."},
    {"F...", "x", "F... F... F... F... F... F... F... F... F... F... F... F... F... F..."},
    {"CEOq", "we", "CEOq CEOq CEOq E... CEOq CEOq E... CeOq CEOq CECq CEOq L... COOq F..."},
    {"CuOq", "wy", "CuOq CuOq CuOq E... CuOq CuOq E... CuOq CuOq CuCq CuOq L... CoOq F..."},
    {"OoOq", "wp", "OoOq OoOq OoOq OoO- OoOq OoOq E... OoOq OOOq OoCq CoOq L... OoOq F..."},
    {"OOCq", "wh", "OOCq OOCq OOCq OOS- CECq CuCq E... OoCq OOCq OOCq COCq L... OOCq F..."},
    {"COOq", "wc", "COOq COOq COOq E... CEOq CEOq E... CoOq COOq COCq COOq L... COOq F..."},
    {"OoS-", "ph", "OoS- OoS- OoS- OoS- E... OoS- E... OoS- OOS- OoS- L... L... OoS- F..."},
    {"CeOq", "wep", "CeOq CeOq CeOq E... CeOq CeOq E... CeOq CeOq CeCq CeOq L... CoOq F..."},
    {"CECq", "weh", "CECq CECq CECq E... CECq CECq E... CeCq CECq CECq CECq L... COCq F..."},
    {"CuCq", "wyh", "CuCq CuCq CuCq E... CuCq CuCq E... CuCq CuCq CuCq CuCq L... CoCq F..."},
    {"CoOq", "wys", "CoOq CoOq CoOq E... CeOq CeOq E... CoOq CoOq CoCq CoOq L... E... F..."},
    {"OoCq", "wph", "OoCq OoCq OoCq OoS- OoCq OoCq E... OoCq OOCq OoCq CoCq L... OoCq F..."},
    {"COCq", "whc", "COCq COCq COCq E... CECq CECq E... CoCq COCq COCq COCq L... COCq F..."},
    {"CeCq", "weph", "CeCq CeCq CeCq E... CeCq CeCq E... CeCq CeCq CeCq CeCq L... CoCq F..."},
    {"CoCq", "wyhs", "CoCq CoCq CoCq E... CeCq CeCq E... CoCq CoCq CoCq CoCq L... E... F..."},
};

/* Without a protocol: the bufferevent's callbacks are the user's. */
static const struct row bufferevent_rows[] = {
    {"OOO-", "", "OOO- OOOq OOO- OOO- OEO- OEO- OEO- OoO- OOO- OOS- L... L... OOO- F..."},
    {"OOOq", "w", "OOOq OOOq OOOq OOO- OEOq OEOq OOBq OoOq OOOq OOCq COOq L... OOOq F..."},
    {"OEO-", "e", "OEO- OEOq OEO- OEO- OEO- OEO- OEO- OeO- OEO- OES- L... L... OOO- F..."},
    {"OoO-", "p", "OoO- OoOq OoO- OoO- OoO- OoO- OoO- OoO- OOO- OoS- L... L... OoO- F..."},
    {"OOS-", "h", "OOS- OOS- OOS- OOS- OES- OES- OES- OoS- OOS- OOS- L... L... OOS- F..."},
    {"L...", "c", "E... E... E... E... E... E... E... L... E... L... L... L... E... F..."},
    {"F...", "x", "F... F... F... F... F... F... F... F... F... F... F... F... F... F..."},
    {"OEOq", "we", "OEOq OEOq OEOq OEO- OEOq OEOq OEBq OeOq OEOq OECq CEOq L... OOOq F..."},
    {"OOBq", "wg", "OOBq OOBq OOBq OOBq OOBq OOBq OOBq OoBq OOBq OOBq L... L... OOOq F..."},
    {"OoOq", "wp", "OoOq OoOq OoOq OoO- OoOq OoOq OoBq OoOq OOOq OoCq CoOq L... OoOq F..."},
    {"OOCq", "wh", "OOCq OOCq OOCq OOS- OECq OECq OOBq OoCq OOCq OOCq COCq L... OOCq F..."},
    {"COOq", "wc", "COOq COOq COOq E... CEOq CEOq E... CoOq COOq COCq COOq L... COOq F..."},
    {"OeO-", "ep", "OeO- OeOq OeO- OeO- OeO- OeO- OeO- OeO- OEO- OeS- L... L... OoO- F..."},
    {"OES-", "eh", "OES- OES- OES- OES- OES- OES- OES- OeS- OES- OES- L... L... OOS- F..."},
    {"OoS-", "ph", "OoS- OoS- OoS- OoS- OoS- OoS- OoS- OoS- OOS- OoS- L... L... OoS- F..."},
    {"E...", "ct", "E... E... E... E... E... E... E... E... E... E... E... E... E... F..."},
    {"OEBq", "weg", "OEBq OEBq OEBq OEBq OEBq OEBq OEBq OeBq OEBq OEBq L... L... OOOq F..."},
    {"OeOq", "wep", "OeOq OeOq OeOq OeO- OeOq OeOq OeBq OeOq OEOq OeCq CeOq L... OoOq F..."},
    {"OECq", "weh", "OECq OECq OECq OES- OECq OECq OEBq OeCq OECq OECq CECq L... OOCq F..."},
    {"CEOq", "wec", "CEOq CEOq CEOq E... CEOq CEOq E... CeOq CEOq CECq CEOq L... COOq F..."},
    {"OoBq", "wgp", "OoBq OoBq OoBq OoBq OoBq OoBq OoBq OoBq OEBq OoBq L... L... OoOq F..."},
    {"OoCq", "wph", "OoCq OoCq OoCq OoS- OoCq OoCq OoBq OoCq OOCq OoCq CoCq L... OoCq F..."},
    {"CoOq", "wpc", "CoOq CoOq CoOq E... CeOq CeOq E... CoOq CoOq CoCq CoOq L... CoOq F..."},
    {"COCq", "whc", "COCq COCq COCq E... CECq CECq E... CoCq COCq COCq COCq L... COCq F..."},
    {"OeS-", "eph", "OeS- OeS- OeS- OeS- OeS- OeS- OeS- OeS- OES- OeS- L... L... OoS- F..."},
    {"OeBq", "wegp", "OeBq OeBq OeBq OeBq OeBq OeBq OeBq OeBq OEBq OeBq L... L... OoOq F..."},
    {"OeCq", "weph", "OeCq OeCq OeCq OeS- OeCq OeCq OeBq OeCq OECq OeCq CeCq L... OoCq F..."},
    {"CeOq", "wepc", "CeOq CeOq CeOq E... CeOq CeOq E... CeOq CeOq CeCq CeOq L... CoOq F..."},
    {"CECq", "wehc", "CECq CECq CECq E... CECq CECq E... CeCq CECq CECq CECq L... COCq F..."},
    {"CoCq", "wphc", "CoCq CoCq CoCq E... CeCq CeCq E... CoCq CoCq CoCq CoCq L... CoCq F..."},
    {"CeCq", "wephc", "CeCq CeCq CeCq E... CeCq CeCq E... CeCq CeCq CeCq CeCq L... CoCq F..."},
};

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

	memcpy(name, "F...", sizeof(name));
	if (transport == NULL)
		return name;
	name[0] = "OCLE"[transport->life];
	name[1] = (transport->in.paused ? "oue" : "OUE")[transport->in.half];
	name[2] = "OCSB"[transport->out.half];
	name[3] = outgoing_is_sent(&transport->out.stream) ? '-' : 'q';
	/* The connection is over: its halves mean nothing any more. */
	if (transport->life >= TRANSPORT_LOST)
		memcpy(name + 1, "...", NAME);
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
		if (event_pending(transport->watch.event, EV_TIMEOUT, NULL))
			event_active(transport->watch.event, EV_TIMEOUT, 0);
		pump_turns(4);
	}
}

static void act(char event)
{
	if (transport != NULL)
		call(event);
	if (event == 'b' && peer >= 0)
		(void)!send(peer, "b", 1, MSG_NOSIGNAL);
	else if (event == 'e' && peer >= 0)
		(void)shutdown(peer, SHUT_WR);
	else if (event == 'g' && peer >= 0)
		peer = (close(peer), -1);
	else if (event == 'y')
		send_and_end();
	else if (event == 'd')
		read_all();
	if (strchr("phca", event) == NULL) {
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
