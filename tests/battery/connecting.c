/* bufferevent_socket_connect(), with the transport made at each moment at which one can be: before
 * it, with a socket of one's own; right after it, while the connection is being made; inside the
 * connected callback; afterwards. Stock ignores the moment, and the events are the same for all. */

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "carrier.h"

enum moment { BEFORE, WHILE_CONNECTING, IN_THE_CALLBACK, AFTERWARDS };

struct place {
	int listener;
	struct sockaddr_storage address;
	socklen_t length;
};

static bool is_unix(void)
{
	return carrier == STOCK_UNIX || carrier == FERRY_UNIX;
}

/* Makes an address to connect to. It refuses connections unless `listening` is set. */
static void make_place(struct place *place, bool listening)
{
	*place = (struct place){.listener = -1, .length = sizeof(place->address)};
	if (is_unix()) {
		struct sockaddr_un *name = (struct sockaddr_un *)&place->address;
		name->sun_family = AF_UNIX;
		int length =
		    snprintf(name->sun_path + 1, sizeof(name->sun_path) - 1, "ferry-battery-%d", getpid());
		place->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
	} else {
		struct sockaddr_in *name = (struct sockaddr_in *)&place->address;
		name->sin_family = AF_INET;
		name->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		place->length = sizeof(*name);
	}
	int fd = socket(place->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	struct sockaddr *address = (struct sockaddr *)&place->address;
	ck_assert_int_eq(bind(fd, address, place->length), 0);
	ck_assert_int_eq(getsockname(fd, address, &place->length), 0);
	if (listening)
		ck_assert_int_eq(listen(fd, 5), 0);
	place->listener = fd;
}

static void far_accept(struct far *far, const struct place *place)
{
	*far = (struct far){0};
	far->in = far->out = accept4(place->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	ck_assert_int_ge(far->in, 0);
}

/* An end that connects, and turns into a transport at its moment. */
struct connecting {
	struct end end;
	struct record record;
	enum moment moment;
	size_t write_in_the_callback;
	bool free_in_the_callback;
	short enable;
};

static void attach_once(struct connecting *connecting, enum moment moment)
{
	if (connecting->moment == moment)
		attach(&connecting->end, connecting->end.bev);
}

static void on_read(struct bufferevent *bev, void *argument)
{
	struct connecting *connecting = argument;
	record_read(bev, &connecting->record);
}

static void on_write(struct bufferevent *bev, void *argument)
{
	struct connecting *connecting = argument;
	record_write(bev, &connecting->record);
}

static void on_event(struct bufferevent *bev, short what, void *argument)
{
	struct connecting *connecting = argument;
	record_event(bev, what, &connecting->record);
	if (!(what & BEV_EVENT_CONNECTED))
		return;
	attach_once(connecting, IN_THE_CALLBACK);
	if (connecting->write_in_the_callback > 0)
		write_pattern(bev, 0, connecting->write_in_the_callback);
	if (connecting->free_in_the_callback)
		free_end(&connecting->end);
}

/* Begins to connect; `queued` bytes are written before, and EV_READ is enabled if asked. */
static void begin(struct connecting *connecting, const struct place *place, size_t queued,
                  int options)
{
	int fd = -1;
	if (connecting->moment == BEFORE)
		fd = socket(place->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct bufferevent *bev = bufferevent_socket_new(base, fd, options | BEV_OPT_CLOSE_ON_FREE);
	ck_assert_ptr_nonnull(bev);
	connecting->end.bev = bev;
	connecting->record.bev = bev;
	bufferevent_setcb(bev, on_read, on_write, on_event, connecting);
	attach_once(connecting, BEFORE);
	if (queued > 0)
		write_pattern(bev, 0, queued);
	ck_assert_int_eq(bufferevent_socket_connect(bev, (const struct sockaddr *)&place->address,
	                                            (int)place->length),
	                 0);
	ck_assert_str_eq(connecting->record.log, "");
	attach_once(connecting, WHILE_CONNECTING);
	if (connecting->enable)
		bufferevent_enable(bev, connecting->enable);
}

static void finish(struct connecting *connecting)
{
	pump_until_event(&connecting->record);
	attach_once(connecting, AFTERWARDS);
}

static void end(struct connecting *connecting, struct far *far, struct place *place)
{
	free_end(&connecting->end);
	if (far != NULL)
		far_close(far);
	close(place->listener);
}

static void it_connects(enum moment moment)
{
	struct connecting connecting = {.moment = moment};
	struct place place;
	struct far far;
	make_place(&place, true);
	begin(&connecting, &place, 0, 0);
	finish(&connecting);
	pump_turns(5);
	ck_assert_int_eq(connecting.record.what, BEV_EVENT_CONNECTED);
	ck_assert_uint_eq(connecting.record.events, 1);
	/* A unix socket connects inside the call. libevent then runs the write callback before the
	 * event callback. */
	ck_assert_str_eq(connecting.record.log, is_unix() ? "w[connected]" : "[connected]");

	/* And it is a connection. */
	far_accept(&far, &place);
	forget(&connecting.record);
	bufferevent_enable(connecting.end.bev, EV_READ);
	write_pattern(connecting.end.bev, 0, 1000);
	far_send(&far, 1000);
	pump_until_received(&connecting.record, 1000);
	far_receive_until(&far, 1000);
	pump_turns(3);
	ck_assert_uint_eq(connecting.record.writes, 1);
	ck_assert_uint_eq(connecting.record.events, 0);

	end(&connecting, &far, &place);
}

CASE(it_connects_when_attached_before, ON_SOCKETS)
{
	it_connects(BEFORE);
}
CASE(it_connects_when_attached_while_connecting, ON_SOCKETS)
{
	it_connects(WHILE_CONNECTING);
}
CASE(it_connects_when_attached_in_the_callback, ON_SOCKETS)
{
	it_connects(IN_THE_CALLBACK);
}
CASE(it_connects_when_attached_afterwards, ON_SOCKETS)
{
	it_connects(AFTERWARDS);
}

static void what_was_queued_arrives(enum moment moment)
{
	struct connecting connecting = {.moment = moment};
	struct place place;
	struct far far;
	make_place(&place, true);
	begin(&connecting, &place, 200000, 0);
	finish(&connecting);
	far_accept(&far, &place);
	far_receive_until(&far, 200000);
	pump_turns(3);
	ck_assert_str_eq(connecting.record.log, "[connected]w");

	end(&connecting, &far, &place);
}

CASE(queued_bytes_arrive_when_attached_before, ON_SOCKETS)
{
	what_was_queued_arrives(BEFORE);
}
CASE(queued_bytes_arrive_when_attached_while_connecting, ON_SOCKETS)
{
	what_was_queued_arrives(WHILE_CONNECTING);
}
CASE(queued_bytes_arrive_when_attached_in_the_callback, ON_SOCKETS)
{
	what_was_queued_arrives(IN_THE_CALLBACK);
}
CASE(queued_bytes_arrive_when_attached_afterwards, ON_SOCKETS)
{
	what_was_queued_arrives(AFTERWARDS);
}

static void the_connected_callback_can_write(enum moment moment)
{
	struct connecting connecting = {
	    .moment = moment, .write_in_the_callback = 1000, .enable = EV_READ};
	struct place place;
	struct far far;
	make_place(&place, true);
	begin(&connecting, &place, 0, 0);
	finish(&connecting);
	far_accept(&far, &place);
	far_receive_until(&far, 1000);
	far_send(&far, 10);
	pump_until_received(&connecting.record, 10);
	pump_turns(3);
	ck_assert_str_eq(connecting.record.log, is_unix() ? "w[connected]wr" : "[connected]wr");

	end(&connecting, &far, &place);
}
CASE(the_connected_callback_can_write_when_attached_before, ON_SOCKETS)
{
	the_connected_callback_can_write(BEFORE);
}
CASE(the_connected_callback_can_write_when_attached_while_connecting, ON_SOCKETS)
{
	the_connected_callback_can_write(WHILE_CONNECTING);
}
CASE(the_connected_callback_can_write_when_attached_in_the_callback, ON_SOCKETS)
{
	the_connected_callback_can_write(IN_THE_CALLBACK);
}

static void a_refused_connection_is_an_error(enum moment moment)
{
	struct connecting connecting = {.moment = moment};
	struct place place;
	make_place(&place, false);
	begin(&connecting, &place, 100, 0);
	pump_until_event(&connecting.record);
	ck_assert_int_eq(connecting.record.what, BEV_EVENT_ERROR);
	ck_assert_int_eq(connecting.record.error, ECONNREFUSED);
	pump_turns(5);
	ck_assert_str_eq(connecting.record.log, "[error Connection refused]");
	ck_assert_uint_eq(output_length(connecting.end.bev), 100);
	/* Refused inside the call on a unix socket, later on TCP; libevent disables only the first. */
	ck_assert_int_eq(bufferevent_get_enabled(connecting.end.bev), is_unix() ? 0 : EV_WRITE);

	end(&connecting, NULL, &place);
}

CASE(a_refused_connection_is_an_error_when_attached_before, ON_SOCKETS)
{
	a_refused_connection_is_an_error(BEFORE);
}
CASE(a_refused_connection_is_an_error_when_attached_while_connecting, ON_SOCKETS)
{
	a_refused_connection_is_an_error(WHILE_CONNECTING);
}

static void the_connected_callback_can_free(enum moment moment)
{
	struct connecting connecting = {.moment = moment, .free_in_the_callback = true};
	struct place place;
	struct far far;
	make_place(&place, true);
	begin(&connecting, &place, 1000, 0);
	pump_until_event(&connecting.record);
	ck_assert_str_eq(connecting.record.log, "[connected]");
	far_accept(&far, &place);
	far_receive_to_the_end(&far);
	/* Stock libevent runs the callback inside a write, and continues that write after it; ferry
	 * drops the queued bytes. */
	ck_assert_uint_eq(far.received, carrier_is_ferry() ? 0 : 1000);

	end(&connecting, &far, &place);
}

CASE(the_connected_callback_can_free_when_attached_before, ON_SOCKETS)
{
	the_connected_callback_can_free(BEFORE);
}

CASE(the_connected_callback_can_free_when_attached_while_connecting, ON_SOCKETS)
{
	the_connected_callback_can_free(WHILE_CONNECTING);
}

CASE(the_connected_callback_can_free_when_attached_in_the_callback, ON_SOCKETS)
{
	the_connected_callback_can_free(IN_THE_CALLBACK);
}

static void it_can_be_freed_while_connecting(enum moment moment)
{
	struct connecting connecting = {.moment = moment};
	struct place place;
	make_place(&place, true);
	begin(&connecting, &place, 1000, 0);
	free_end(&connecting.end);
	pump_turns(5);
	ck_assert_str_eq(connecting.record.log, "");

	end(&connecting, NULL, &place);
}

CASE(it_can_be_freed_while_connecting_when_attached_before, ON_SOCKETS)
{
	it_can_be_freed_while_connecting(BEFORE);
}

CASE(it_can_be_freed_while_connecting_when_attached_while_connecting, ON_SOCKETS)
{
	it_can_be_freed_while_connecting(WHILE_CONNECTING);
}

/* libevent does not take the event away while it connects, because connecting needs it. */
static void disabled_writing_connects_and_writes_nothing(enum moment moment)
{
	struct connecting connecting = {.moment = moment};
	struct place place;
	struct far far;
	make_place(&place, true);
	begin(&connecting, &place, 100, 0);
	bufferevent_disable(connecting.end.bev, EV_WRITE);
	finish(&connecting);
	pump_turns(5);
	ck_assert_str_eq(connecting.record.log, "[connected]");
	ck_assert_uint_eq(output_length(connecting.end.bev), 100);
	far_accept(&far, &place);
	bufferevent_enable(connecting.end.bev, EV_WRITE);
	far_receive_until(&far, 100);
	pump_turns(3);
	ck_assert_str_eq(connecting.record.log, "[connected]w");

	end(&connecting, &far, &place);
}

CASE(disabled_writing_connects_and_writes_nothing_when_attached_before, ON_SOCKETS)
{
	disabled_writing_connects_and_writes_nothing(BEFORE);
}

CASE(disabled_writing_connects_and_writes_nothing_when_attached_while_connecting, ON_SOCKETS)
{
	disabled_writing_connects_and_writes_nothing(WHILE_CONNECTING);
}

CASE(disabled_writing_connects_and_writes_nothing_when_attached_in_the_callback, ON_SOCKETS)
{
	disabled_writing_connects_and_writes_nothing(IN_THE_CALLBACK);
}

static void deferred_events_are_the_same(enum moment moment)
{
	struct connecting connecting = {
	    .moment = moment, .write_in_the_callback = 1000, .enable = EV_READ};
	struct place place;
	struct far far;
	make_place(&place, true);
	begin(&connecting, &place, 0, BEV_OPT_DEFER_CALLBACKS);
	finish(&connecting);
	far_accept(&far, &place);
	far_receive_until(&far, 1000);
	far_send(&far, 10);
	pump_until_received(&connecting.record, 10);
	pump_turns(3);
	ck_assert_uint_eq(connecting.record.events, 1);
	ck_assert_int_eq(connecting.record.what, BEV_EVENT_CONNECTED);

	end(&connecting, &far, &place);
}

CASE(deferred_events_are_the_same_when_attached_before, ON_SOCKETS)
{
	deferred_events_are_the_same(BEFORE);
}

CASE(deferred_events_are_the_same_when_attached_while_connecting, ON_SOCKETS)
{
	deferred_events_are_the_same(WHILE_CONNECTING);
}

CASE(deferred_events_are_the_same_when_attached_in_the_callback, ON_SOCKETS)
{
	deferred_events_are_the_same(IN_THE_CALLBACK);
}

/* The peer is there and gone again before the loop runs. */
static void a_peer_that_closes_at_once_is_connected_and_then_eof(enum moment moment)
{
	struct connecting connecting = {.moment = moment, .enable = EV_READ};
	struct place place;
	struct far far;
	make_place(&place, true);
	begin(&connecting, &place, 0, 0);
	far_accept(&far, &place);
	far_send(&far, 10);
	far_close(&far);
	pump_until_count(&connecting.record.events, 2);
	pump_turns(3);
	ck_assert_uint_eq(connecting.record.events, 2);
	ck_assert_uint_eq(connecting.record.received, 10);

	end(&connecting, NULL, &place);
}

CASE(a_peer_that_closes_at_once_is_connected_and_then_eof_when_attached_before, ON_SOCKETS)
{
	a_peer_that_closes_at_once_is_connected_and_then_eof(BEFORE);
}

CASE(a_peer_that_closes_at_once_is_connected_and_then_eof_when_attached_while_connecting,
     ON_SOCKETS)
{
	a_peer_that_closes_at_once_is_connected_and_then_eof(WHILE_CONNECTING);
}

CASE(a_peer_that_closes_at_once_is_connected_and_then_eof_when_attached_in_the_callback, ON_SOCKETS)
{
	a_peer_that_closes_at_once_is_connected_and_then_eof(IN_THE_CALLBACK);
}

/* Descriptors, which only ferry has: those queued in the connected callback travel with their byte,
 * though libevent's own write step called it and would write the byte itself. */

static void send_fd_when_connected(struct bufferevent *bev, short what, void *argument)
{
	struct connecting *connecting = argument;
	record_event(bev, what, &connecting->record);
	attach_once(connecting, IN_THE_CALLBACK);
	ck_assert_int_eq(ferry_transport_send_fd(connecting->end.transport, STDIN_FILENO, FERRY_FD_DUP),
	                 0);
	ck_assert_int_eq(bufferevent_write(bev, "x", 1), 0);
}

static void keep_fd(struct ferry_transport *transport, int fd, void *argument)
{
	(void)transport;
	int *kept = argument;
	ck_assert_int_eq(*kept, -1);
	*kept = fd;
}

static bool has_fd(void *kept)
{
	return *(int *)kept >= 0;
}

static void the_connected_callback_can_send_a_descriptor(enum moment moment, size_t queued)
{
	struct connecting connecting = {.moment = moment};
	struct place place;
	struct far far;
	struct end receiver;
	int kept = -1;
	make_place(&place, true);
	begin(&connecting, &place, queued, 0);
	bufferevent_setcb(connecting.end.bev, on_read, on_write, send_fd_when_connected, &connecting);
	pump_until_event(&connecting.record);
	far_accept(&far, &place);
	make_end_on(&receiver, far.in, BEV_OPT_CLOSE_ON_FREE);
	ferry_transport_set_fd_cb(receiver.transport, keep_fd, &kept);
	bufferevent_enable(receiver.bev, EV_READ);
	pump_until(has_fd, &kept);
	ck_assert(same_file(kept, STDIN_FILENO));
	ck_assert_uint_eq(connecting.record.events, 1);

	close(kept);
	free_end(&receiver);
	end(&connecting, NULL, &place);
}

CASE(the_connected_callback_can_send_a_descriptor_when_attached_before, 1 << FERRY_UNIX)
{
	the_connected_callback_can_send_a_descriptor(BEFORE, 0);
}

CASE(the_connected_callback_can_send_a_descriptor_when_attached_while_connecting, 1 << FERRY_UNIX)
{
	the_connected_callback_can_send_a_descriptor(WHILE_CONNECTING, 0);
}

CASE(the_connected_callback_can_send_a_descriptor_when_attached_in_the_callback, 1 << FERRY_UNIX)
{
	the_connected_callback_can_send_a_descriptor(IN_THE_CALLBACK, 0);
}

CASE(the_connected_callback_can_send_a_descriptor_behind_bytes_when_attached_before,
     1 << FERRY_UNIX)
{
	the_connected_callback_can_send_a_descriptor(BEFORE, 100);
}

CASE(the_connected_callback_can_send_a_descriptor_behind_bytes_when_attached_while_connecting,
     1 << FERRY_UNIX)
{
	the_connected_callback_can_send_a_descriptor(WHILE_CONNECTING, 100);
}

CASE(the_connected_callback_can_send_a_descriptor_behind_bytes_when_attached_in_the_callback,
     1 << FERRY_UNIX)
{
	the_connected_callback_can_send_a_descriptor(IN_THE_CALLBACK, 100);
}
