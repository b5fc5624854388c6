/* Every call that a listener, a connector and the transports that they make have, in their callbacks. */

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "every_call.h"
#include "ferry/ferry.h"
#include "recorder.h"
#include "test.h"

#define NAME own_abstract_name()

enum { CLIENTS = 3, BIG = 100000, TRANSPORTS_MAX = 16, FILLERS_MAX = 8 };

static const struct timeval at_once = {0, 0}, long_time = {100, 0};
static struct ferry_listener *listener, *adopted; /* NULL once freed */
static struct ferry_connector *connector;         /* NULL once its callback has run */
static struct ferry_connector *other;             /* of a call; NULL once freed */
static struct ferry_transport *given; /* the callback's argument; NULL once it is not ours */
static struct ferry_transport *transports[TRANSPORTS_MAX]; /* the others that were made */
static int transport_count;
static int clients[CLIENTS], fillers[FILLERS_MAX], filler_count;
static char big[BIG];

/* ---- the callbacks ---- */

static void keep_transport(struct ferry_transport *transport)
{
	if (transport == NULL)
		return;
	ck_assert_int_lt(transport_count, TRANSPORTS_MAX);
	transports[transport_count++] = transport;
}

static void on_transport(const char *name, struct ferry_transport *transport)
{
	given = transport;
	strike(name);
	keep_transport(given);
	given = NULL;
}

static void accepted(struct ferry_listener *from, struct ferry_transport *transport, void *context)
{
	(void)context;
	on_transport(from == adopted ? "accepted of an adopted socket" : "accepted", transport);
}

static void connected(struct ferry_connector *from, int status, struct ferry_transport *transport,
                      void *context)
{
	(void)context;
	on_transport(status == 0 ? "connected" : "connected, with an error", transport);
	if (from == connector)
		connector = NULL;
	if (from == other)
		other = NULL;
}

/* ---- how they are provoked ---- */

static void run(void)
{
	pump_turns(6);
}

static int connect_client(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(NAME));
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	memcpy(address.sun_path + 1, &NAME[1], strlen(NAME) - 1);
	if (connect(fd, (struct sockaddr *)&address, length) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Several in one turn: the listener goes on after the callback. */
static void connect_clients(void)
{
	for (int i = 0; i < CLIENTS; i++) {
		clients[i] = connect_client();
		ck_assert_int_ge(clients[i], 0);
		ck_assert_int_eq(write(clients[i], "x", 1), 1);
	}
}

static void by_clients(void)
{
	ck_assert_int_eq(ferry_listener_disable(adopted), 0);
	connect_clients();
	run();
}

static void by_clients_of_adopted(void)
{
	connect_clients();
	ck_assert_int_eq(ferry_listener_disable(listener), 0);
	run();
}

static void by_connector(void)
{
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, NAME, &long_time, connected, NULL),
	                 0);
	run();
}

/* The backlog is full at first, and then nobody listens. */
static void by_failing_connector(void)
{
	struct ferry_listener *first = listener, *second = adopted;
	int fd;

	ferry_listener_disable(listener);
	ferry_listener_disable(adopted);
	while ((fd = connect_client()) >= 0) {
		ck_assert_int_lt(filler_count, FILLERS_MAX);
		fillers[filler_count++] = fd;
	}
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, NAME, &long_time, connected, NULL),
	                 0);
	listener = adopted = NULL;
	ferry_listener_free(second);
	ferry_listener_free(first);
	pump_until_set(&struck);
	run();
}

static const struct every_callback callbacks[] = {
    {"accepted", by_clients},
    {"accepted of an adopted socket", by_clients_of_adopted},
    {"connected", by_connector},
    {"connected, with an error", by_failing_connector},
};

/* ---- the calls ---- */

static void free_listener_at(struct ferry_listener **which)
{
	struct ferry_listener *freed = *which;

	*which = NULL;
	ferry_listener_free(freed);
}

static void free_listeners(void)
{
	free_listener_at(&adopted);
	free_listener_at(&listener);
}

static void free_adopted(void)
{
	free_listener_at(&adopted);
}

static void free_connector(void)
{
	ferry_connector_free(connector);
}

static void disable(void)
{
	ferry_listener_disable(listener);
	ferry_listener_disable(adopted);
}

static void enable(void)
{
	disable();
	ferry_listener_enable(listener);
	ferry_listener_enable(adopted);
}

static void allow_nobody(void)
{
	ferry_listener_allow_uid(listener, 12345);
	ferry_listener_allow_gid(adopted, 12345);
}

static void set_limits(void)
{
	struct ferry_listener_stats stats;

	ferry_listener_set_max_connections_per_uid(listener, 1);
	ferry_listener_set_max_connections_per_uid(adopted, 0);
	ferry_listener_set_pass_rights(listener, false);
	ferry_listener_get_stats(listener, &stats);
	ferry_listener_get_fd(listener);
}

static void adopt_again(void)
{
	struct ferry_listener *made;

	if (listener == NULL)
		return;
	ck_assert_int_eq(
	    ferry_listener_new_fd(&made, base, ferry_listener_get_fd(listener), accepted, NULL), 0);
	ferry_listener_free(made);
}

static void listen_again(void)
{
	struct ferry_listener *made;
	char another[108];

	snprintf(another, sizeof(another), "%.90s-another", NAME);
	ck_assert_int_eq(ferry_listener_new_unix(&made, base, another, NULL, accepted, NULL), 0);
	ferry_listener_free(made);
}

static void connect_again(void)
{
	if (other == NULL)
		(void)ferry_connector_new_unix(&other, base, NAME, &long_time, connected, NULL);
}

static void connect_and_cancel(void)
{
	struct ferry_connector *made;

	if (ferry_connector_new_unix(&made, base, NAME, &long_time, connected, NULL) == 0)
		ferry_connector_free(made);
}

/* ---- those of the transport ---- */

static void free_given(void)
{
	ferry_transport_free(given);
	given = NULL;
}

static void free_all_transports(void)
{
	free_given();
	while (transport_count > 0)
		ferry_transport_free(transports[--transport_count]);
}

static void free_all(void)
{
	free_all_transports();
	free_listeners();
}

static void free_visited(struct ferry_listener *of, struct ferry_transport *transport,
                         void *context)
{
	(void)of, (void)context;
	if (transport == given) {
		free_given();
		return;
	}
	for (int i = 0; i < transport_count; i++)
		if (transports[i] == transport)
			transports[i] = NULL;
	ferry_transport_free(transport);
}

static void free_listed(void)
{
	ferry_listener_for_each_transport(listener, free_visited, NULL);
	ferry_listener_for_each_transport(adopted, free_visited, NULL);
}

static void lose_listed(void)
{
	ferry_listener_lose_connections(listener);
	ferry_listener_lose_connections(adopted);
}

static void abort_listed(void)
{
	ferry_listener_abort_connections(listener);
	ferry_listener_abort_connections(adopted);
}

static void set_protocol(void)
{
	static const struct ferry_protocol silent;

	ferry_transport_set_protocol(given, &silent, NULL);
}

static void write_all(void)
{
	ferry_transport_write(given, big, BIG);
	ferry_transport_send_fd(given, 0, FERRY_FD_DUP);
	ferry_transport_flush(given, &at_once);
	ferry_transport_lose_connection(given);
}

static void abort_connection(void)
{
	ferry_transport_abort_connection(given);
	free_given();
}

static void detach(void)
{
	struct bufferevent *bev;

	if (ferry_transport_detach(given, &bev) < 0)
		return;
	given = NULL;
	bufferevent_free(bev);
}

static void make_lines(void)
{
	static const struct ferry_line_callbacks none;
	struct ferry_line_stream *lines;

	if (ferry_line_stream_new(&lines, given, &none, NULL) < 0)
		return;
	given = NULL;
	ferry_line_stream_free(lines);
}

static void make_messages(void)
{
	static const struct ferry_message_callbacks none;
	struct ferry_message_stream *messages;

	if (ferry_message_stream_new(&messages, given, &none, NULL) < 0)
		return;
	given = NULL;
	ferry_message_stream_free(messages);
}

static void make_worker(void)
{
	static const struct ferry_worker_callbacks none;
	struct ferry_worker *worker;

	if (ferry_worker_new(&worker, given, &none, NULL) < 0)
		return;
	given = NULL;
	ferry_worker_free(worker);
}

static void add_to_dispatcher(void)
{
	struct ferry_dispatcher *dispatcher;

	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, NULL, NULL), 0);
	if (ferry_dispatcher_add_worker(NULL, dispatcher, given, NULL) == 0)
		given = NULL;
	ferry_dispatcher_free(dispatcher);
}

static void ask_about_peer(void)
{
	struct ferry_peer_credentials credentials;
	size_t count = 0;

	ferry_transport_get_peer_credentials(given, &credentials);
	ferry_transport_get_peer_groups(given, NULL, &count);
	int fd = ferry_transport_get_peer_pidfd(given);
	if (fd >= 0)
		close(fd);
}

static void use_addresses(void)
{
	struct ferry_address address, second;
	char text[FERRY_ADDRESS_TEXT_SIZE];

	ck_assert_int_eq(ferry_address_parse(&address, "unix:@ferry-every-call-address"), 0);
	int fd = ferry_address_listen(&address, 1);
	ck_assert_int_eq(ferry_address_set_own(&second, fd), 0);
	ck_assert(ferry_address_equal(&address, &second));
	ck_assert_int_eq(ferry_address_set_peer(&second, fd), -ENOTCONN);
	ck_assert_int_eq(ferry_address_set(&second, &address.name.any, address.length), 0);
	ferry_address_format(&second, text, sizeof(text));
	ferry_transport_format_peer(given, text, sizeof(text));
	ferry_address_format_host(&second, text, sizeof(text));
	ck_assert_ptr_null(ferry_address_get_path(&second));
	ck_assert(!ferry_address_is_loopback(&second));
	close(fd);
}

static void make_more_transports(void)
{
	struct ferry_transport *made;
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
	ck_assert_int_eq(ferry_transport_new(&made, bev), 0);
	ferry_transport_free(made);
	ck_assert_int_eq(ferry_transport_new_socket(&made, base, fds[1]), 0);
	ferry_transport_free(made);
	make_pipe(fds);
	ck_assert_int_eq(ferry_transport_new_pipes(&made, base, fds[0], fds[1]), 0);
	ferry_transport_free(made);
}

static const struct every_call calls[] = {
    {"ferry_listener_free", free_listeners},
    {"ferry_listener_free of the adopted one", free_adopted},
    {"ferry_listener_disable", disable},
    {"ferry_listener_enable", enable},
    {"ferry_listener_allow_…", allow_nobody},
    {"ferry_listener_set_…, _get_…", set_limits},
    {"ferry_listener_new_fd", adopt_again},
    {"ferry_listener_new_unix", listen_again},
    {"ferry_listener_for_each_transport", free_listed},
    {"ferry_listener_lose_connections", lose_listed},
    {"ferry_listener_abort_connections", abort_listed},
    {"ferry_connector_free", free_connector},
    {"ferry_connector_new_unix", connect_again},
    {"ferry_connector_new_unix, _free", connect_and_cancel},
    {"ferry_transport_free", free_given},
    {"ferry_transport_free of all", free_all_transports},
    {"ferry_transport_free, ferry_listener_free", free_all},
    {"ferry_transport_set_protocol", set_protocol},
    {"ferry_transport_write, _flush, _lose_connection", write_all},
    {"ferry_transport_abort_connection", abort_connection},
    {"ferry_transport_detach", detach},
    {"ferry_transport_get_peer_…", ask_about_peer},
    {"ferry_address_…", use_addresses},
    {"ferry_transport_new, _new_pipes", make_more_transports},
    {"ferry_line_stream_new", make_lines},
    {"ferry_message_stream_new", make_messages},
    {"ferry_worker_new", make_worker},
    {"ferry_dispatcher_add_worker", add_to_dispatcher},
};

/* ---- the world ---- */

static void set_up(void)
{
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;

	options.backlog = CLIENTS;
	filler_count = transport_count = 0;
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = -1;
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, NAME, &options, accepted, NULL), 0);
	ck_assert_int_eq(ferry_listener_set_max_connections_per_uid(listener, 100), 0);
	ck_assert_int_eq(
	    ferry_listener_new_fd(&adopted, base, ferry_listener_get_fd(listener), accepted, NULL), 0);
}

static void tear_down(void)
{
	free_all();
	ferry_connector_free(connector);
	ferry_connector_free(other);
	connector = other = NULL;
	for (int i = 0; i < CLIENTS; i++)
		if (clients[i] >= 0)
			close(clients[i]);
	while (filler_count > 0)
		close(fillers[--filler_count]);
	pump_turns(4);
}

LOOP_TEST(every_call_is_safe_in_every_callback_of_a_listener_and_a_connector, COUNT(callbacks))
{
	every_call_run(&callbacks[_i], calls, COUNT(calls), set_up, tear_down);
}
