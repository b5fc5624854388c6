/* The list of the transports that a listener has accepted, and the calls that close all of them. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "children.h"
#include "ferry/ferry.h"
#include "listening.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { CLIENTS = 5 };

static struct ferry_listener *listener;             /* NULL once freed */
static struct ferry_transport *transports[CLIENTS]; /* NULL once freed */
static unsigned int accepted_count, lost[CLIENTS];
static int reasons[CLIENTS];
static int clients[CLIENTS], listening;

static void on_lost(struct ferry_transport *transport, int reason, void *context)
{
	const size_t i = (size_t)(ptrdiff_t)((struct ferry_transport **)context - transports);

	ck_assert_ptr_eq(transport, transports[i]);
	lost[i]++;
	reasons[i] = reason;
	transports[i] = NULL;
	ferry_transport_free(transport);
}

static const struct ferry_protocol protocol = {.connection_lost = on_lost};

static void on_accepted(struct ferry_listener *from, struct ferry_transport *transport,
                        void *context)
{
	(void)context;
	ck_assert_ptr_eq(from, listener);
	ck_assert_uint_lt(accepted_count, CLIENTS);
	transports[accepted_count] = transport;
	ck_assert_int_eq(
	    ferry_transport_set_protocol(transport, &protocol, &transports[accepted_count]), 0);
	accepted_count++;
}

static void open_clients(void)
{
	accepted_count = 0;
	memset(lost, 0, sizeof(lost));
	listening = listen_abstract();
	ck_assert_int_eq(evutil_make_socket_nonblocking(listening), 0);
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, listening, on_accepted, NULL), 0);
	for (int i = 0; i < CLIENTS; i++)
		clients[i] = connect_to(listening);
	pump_until_count(&accepted_count, CLIENTS);
}

static void free_listener(void)
{
	struct ferry_listener *freed = listener;

	listener = NULL;
	ferry_listener_free(freed);
}

static void free_at(int i)
{
	struct ferry_transport *freed = transports[i];

	transports[i] = NULL;
	ferry_transport_free(freed);
}

static void close_clients(void)
{
	for (int i = 0; i < CLIENTS; i++) {
		free_at(i);
		close(clients[i]);
	}
	free_listener();
	close(listening);
	pump_turns(3);
}

static void expect_listed(uint64_t count)
{
	struct ferry_listener_stats stats;

	ck_assert_int_eq(ferry_listener_get_stats(listener, &stats), 0);
	ck_assert_uint_eq(stats.transports, count);
}

/* ---- the list ---- */

/* The visited transports, as the digits of a number; and the transports that the visit of the second one frees. */
static unsigned int visited;
static const char *frees;

static int index_of(const struct ferry_transport *transport)
{
	int i = 0;

	while (i < CLIENTS && transports[i] != transport)
		i++;
	ck_assert_int_lt(i, CLIENTS); /* else it has been freed */
	return i;
}

static void visit(struct ferry_listener *of, struct ferry_transport *transport, void *context)
{
	const int i = index_of(transport);

	ck_assert_ptr_eq(context, &visited);
	ck_assert_ptr_eq(of, listener);
	visited = visited * 10 + (unsigned int)i + 1;
	if (i != 1)
		return;
	for (const char *freed = frees; *freed != '\0'; freed++) {
		if (*freed == 'l')
			free_listener();
		else
			free_at(*freed - '1');
	}
}

static int walk(const char *freed)
{
	visited = 0;
	frees = freed;
	return ferry_listener_for_each_transport(listener, visit, &visited);
}

struct freeing {
	const char *freed; /* by the visit of the second */
	unsigned int visited;
};

static const struct freeing freeings[] = {
    {"", 12345}, {"2", 12345},  {"1", 12345}, {"3", 1245},   {"5", 1234}, {"345", 12},
    {"l", 12},   {"2345l", 12}, {"l345", 12}, {"12345", 12}, {"24l", 12},
};

LOOP_TEST(a_visit_may_free_any_transport_and_the_listener, COUNT(freeings))
{
	unsigned int count = 0;

	open_clients();
	for (unsigned int left = freeings[_i].visited; left > 0; left /= 10)
		count++;
	ck_assert_int_eq(walk(freeings[_i].freed), (int)count);
	ck_assert_uint_eq(visited, freeings[_i].visited);
	pump_turns(3);
	if (listener != NULL)
		expect_listed(CLIENTS - strlen(freeings[_i].freed));
	close_clients();
}

TEST(a_transport_leaves_the_list_with_its_owner)
{
	struct bufferevent *bev = NULL;
	struct ferry_handoff *handoff = NULL;

	open_clients();
	expect_listed(CLIENTS);
	free_at(0);
	ck_assert_int_eq(ferry_transport_detach(transports[1], &bev), 0);
	transports[1] = NULL;
	bufferevent_free(bev);
	ck_assert_int_eq(ferry_handoff_from_transport(&handoff, transports[4]), 0);
	transports[4] = NULL;
	ferry_handoff_free(handoff);
	expect_listed(2);
	ck_assert_int_eq(walk(""), 2);
	ck_assert_uint_eq(visited, 34);
	free_at(2);
	free_at(3);
	ck_assert_int_eq(walk(""), 0);
	close_clients();
}

static void visit_again(struct ferry_listener *of, struct ferry_transport *transport, void *context)
{
	(void)transport;
	int *calls = context;

	if (++*calls == 2) {
		visited = 0;
		frees = "23";
		ck_assert_int_eq(ferry_listener_for_each_transport(of, visit, &visited), 4);
		ck_assert_uint_eq(visited, 1245);
	}
}

TEST(a_visit_may_visit_all)
{
	int calls = 0;

	open_clients();
	/* The second was visited already when the inner walk freed it, and the third was the next one. */
	ck_assert_int_eq(ferry_listener_for_each_transport(listener, visit_again, &calls), 4);
	close_clients();
}

TEST(transports_outlive_their_listener)
{
	open_clients();
	free_listener();
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_write(transports[3], "x", 1), 0);
	pump_turns(2);
	ck_assert_uint_eq(wire_drain(clients[3]), 1);
	close_clients();
}

TEST(a_child_of_a_fork_has_a_list_of_its_own)
{
	open_clients();
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		if (event_reinit(base) == 0 && walk("2345l") == 2)
			for (int i = 0; i < 3; i++)
				event_base_loop(base, EVLOOP_NONBLOCK);
		die();
	}
	wait_for_death(child);
	ck_assert_int_eq(walk(""), CLIENTS);
	for (int i = 0; i < CLIENTS; i++) {
		ck_assert_int_eq(ferry_transport_write(transports[i], "x", 1), 0);
		pump_turns(2);
		ck_assert_uint_eq(wire_drain(clients[i]), 1);
	}
	close_clients();
}

/* ---- closing all ---- */

static void expect_all_lost(int reason)
{
	for (int i = 0; i < CLIENTS; i++) {
		pump_until_count(&lost[i], 1);
		ck_assert_int_eq(reasons[i], reason);
	}
	expect_listed(0);
}

TEST(all_connections_are_closed_behind_their_queues)
{
	open_clients();
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_int_eq(ferry_transport_write(transports[i], "bye", 3), 0);
	ck_assert_int_eq(ferry_listener_lose_connections(listener), CLIENTS);
	ck_assert_uint_eq(lost[0], 0); /* not inside the call */
	expect_all_lost(0);
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_uint_eq(wire_drain(clients[i]), 3);
	ck_assert_int_eq(ferry_listener_lose_connections(listener), 0);
	close_clients();
}

TEST(all_connections_are_aborted)
{
	open_clients();
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_int_eq(ferry_transport_write(transports[i], "dropped", 7), 0);
	ck_assert_int_eq(ferry_listener_abort_connections(listener), CLIENTS);
	/* They are over, and not freed yet. */
	ck_assert_int_eq(ferry_listener_abort_connections(listener), 0);
	ck_assert_int_eq(ferry_listener_lose_connections(listener), 0);
	expect_listed(CLIENTS);
	expect_all_lost(-ECONNABORTED);
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_uint_eq(wire_drain(clients[i]), 0);
	close_clients();
}

static void ignore_call(void *context)
{
	(void)context;
}

static void free_all_and_walk(void *context)
{
	(void)context;
	for (int i = 0; i < CLIENTS; i++)
		free_at(i);
	ck_assert_int_eq(walk(""), 0);
	free_listener();
}

/* stop_producing is the user's, and runs inside the calls. _i: the abort, or the free of the transport itself */
LOOP_TEST(a_producer_that_is_stopped_may_free_everything, 2)
{
	static const struct ferry_producer_callbacks producer = {.resume_producing = ignore_call,
	                                                         .pause_producing = ignore_call,
	                                                         .stop_producing = free_all_and_walk};

	open_clients();
	ck_assert_int_eq(
	    ferry_transport_register_producer(transports[2], &producer, NULL, FERRY_PRODUCER_PUSH), 0);
	if (_i == 0)
		ck_assert_int_ge(ferry_listener_abort_connections(listener), 2);
	else
		free_at(2);
	pump_turns(3);
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_ptr_null(transports[i]);
	ck_assert_ptr_null(listener);
	close_clients();
}

TEST(without_a_listener_nothing_is_closed)
{
	open_clients();
	ck_assert_int_eq(ferry_listener_for_each_transport(NULL, visit, NULL), -EINVAL);
	ck_assert_int_eq(ferry_listener_for_each_transport(listener, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_listener_lose_connections(NULL), -EINVAL);
	ck_assert_int_eq(ferry_listener_abort_connections(NULL), -EINVAL);
	close_clients();
}
