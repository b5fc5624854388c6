/* Listeners and connectors. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ends.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"

static char folder[64], path[100];

static void make_folder(void)
{
	snprintf(folder, sizeof(folder), "/tmp/ferry-fault-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/socket", folder);
}

/* What a fault may leave: a socket file that could not be removed. */
static void empty_folder(void)
{
	char lock[110];
	bool was_armed = disarm();
	snprintf(lock, sizeof(lock), "%s.lock", path);
	unlink(path);
	unlink(lock);
	if (was_armed)
		arm();
}

static void remove_folder(void)
{
	empty_folder();
	ck_assert_int_eq(rmdir(folder), 0);
}

static struct ferry_listener *listener;
static struct ferry_transport *accepted, *connected;
static bool connector_has_ended;

static void on_accepted(struct ferry_listener *from, struct ferry_transport *transport,
                        void *context)
{
	(void)from, (void)context;
	ferry_transport_free(accepted); /* a client whose connection failed has connected before */
	accepted = transport;
}

static void on_connected(struct ferry_connector *connector, int status,
                         struct ferry_transport *transport, void *context)
{
	(void)connector, (void)context;
	once(&connector_has_ended);
	told(status);
	connected = near_end.transport = transport;
	if (transport != NULL)
		count_at(&near_end);
}

/* A connection for which the listener has no memory is closed: its client sees that. */
static bool client_is_refused(void)
{
	if (near_end.lost) {
		connected = NULL;
		told(-ECONNRESET);
	}
	return near_end.lost;
}

static bool is_connected(void)
{
	return client_is_refused() || (accepted != NULL && connector_has_ended);
}

static void begin(void)
{
	memset(&near_end, 0, sizeof(near_end));
	listener = NULL;
	accepted = connected = NULL;
	connector_has_ended = false;
}

static void end(void)
{
	if (accepted != NULL && connected != NULL)
		completed();
	ferry_listener_free(listener);
	ferry_transport_free(accepted);
	ferry_transport_free(connected);
	empty_folder();
}

static void connect_to_listener(struct event_base *loop, const char *name)
{
	if (called(ferry_connector_new_unix(NULL, loop, name, NULL, on_connected, NULL)) == 0)
		pump_swept(loop, is_connected);
}

static bool listen_at(struct event_base *loop, const char *name, bool lock)
{
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;
	options.lock = lock;
	options.mode = 0660;
	return called(ferry_listener_new_unix(&listener, loop, name, &options, on_accepted, NULL)) == 0;
}

static void connect_and_accept(struct event_base *loop, int kind)
{
	begin();
	if (listen_at(loop, path, kind == 1))
		connect_to_listener(loop, path);
	end();
}

static void connect_by_name(struct event_base *loop, int kind)
{
	(void)kind;
	begin();
	if (listen_at(loop, own_abstract_name(), false))
		connect_to_listener(loop, own_abstract_name());
	end();
}

static void check_users(struct event_base *loop, int kind)
{
	(void)kind;
	begin();
	if (listen_at(loop, path, false) &&
	    called(ferry_listener_allow_uid(listener, geteuid())) == 0 &&
	    called(ferry_listener_allow_gid(listener, getegid())) == 0 &&
	    called(ferry_listener_set_max_connections_per_uid(listener, 2)) == 0)
		connect_to_listener(loop, path);
	end();
}

static void disable_and_enable(struct event_base *loop, int kind)
{
	(void)kind;
	begin();
	if (listen_at(loop, path, false) && called(ferry_listener_disable(listener)) == 0 &&
	    called(ferry_listener_enable(listener)) == 0)
		connect_to_listener(loop, path);
	end();
}

static int client;

static bool is_accepted(void)
{
	char byte;
	disarm();
	ssize_t length = recv(client, &byte, 1, MSG_DONTWAIT);
	bool refused = length == 0 || (length < 0 && errno != EAGAIN);
	arm();
	if (refused)
		told(-ECONNRESET);
	return refused || accepted != NULL;
}

/* A client of bare system calls, on a socket of the test's. */
static void accept_on_fd(struct event_base *loop, int kind)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)kind;
	begin();
	disarm();
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bind(fd, (struct sockaddr *)&address, sizeof(address));
	listen(fd, 5);
	connect(client, (struct sockaddr *)&address, sizeof(address));
	arm();
	if (called(ferry_listener_new_fd(&listener, loop, fd, on_accepted, NULL)) == 0)
		pump_swept(loop, is_accepted);
	if (accepted != NULL)
		completed();
	end();
	close_quietly(fd); /* the caller's */
	close_quietly(client);
}

static void connect_client(const struct ferry_address *address)
{
	disarm();
	client = socket(address->name.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(connect(client, &address->name.any, address->length), 0);
	arm();
}

/* As accept_on_fd(), on a socket that ferry makes. */
static void listen_at_address(struct event_base *loop, int kind)
{
	struct ferry_address address, own, peer;
	char text[110];
	begin();
	client = -1;
	snprintf(text, sizeof(text), kind == AF_UNIX ? "unix:%s" : "127.0.0.1:0", path);
	int fd = called(ferry_address_parse(&address, text));
	if (fd == 0)
		fd = called(ferry_address_listen(&address, 0));
	if (fd >= 0 && called(ferry_address_set_own(&own, fd)) == 0 &&
	    called(ferry_listener_new_fd(&listener, loop, fd, on_accepted, NULL)) == 0) {
		connect_client(&own);
		if (called(ferry_address_set_peer(&peer, client)) == 0 && ferry_address_equal(&peer, &own))
			pump_swept(loop, is_accepted);
	}
	if (accepted != NULL)
		completed();
	end();
	close_quietly(fd);
	close_quietly(client);
}

/* There is no retry after a connect(2) of another errno, and an interrupted one may have connected. */
static const struct scenario scenarios[] = {
    {"connect and accept", connect_and_accept, 0, CALL_ACCEPT4, CALL_CONNECT, NULL},
    {"connect and accept, locked", connect_and_accept, 1, CALL_FLOCK, CALL_CONNECT, NULL},
    {"connect by name", connect_by_name, 0, CALL_BIND, CALL_CONNECT, NULL},
    {"users", check_users, 0, CALL_GETSOCKOPT, CALL_CONNECT, NULL},
    {"disable and enable", disable_and_enable, 0, CALL_EPOLL_CTL, CALL_CONNECT, NULL},
    {"accept on a descriptor", accept_on_fd, 0, CALL_ACCEPT4, CALL_NONE, NULL},
    {"listen at an address, unix", listen_at_address, AF_UNIX, CALL_BIND, CALL_NONE, NULL},
    {"listen at an address, TCP", listen_at_address, AF_INET, CALL_SETSOCKOPT, CALL_NONE, NULL},
};

TEST_CASE("endpoints", make_folder, remove_folder);

LOOP_TEST(every_call_may_fail, COUNT(scenarios))
{
	sweep_scenario_of(&scenarios[_i], 0 /* after accept4(2) fails, a listener waits */);
}

BEFORE_ALL
{
	heap_take_over();
}
