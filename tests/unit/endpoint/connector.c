/* Connectors: which sockets they connect to, which attempts fail at once, and cancelled attempts. Every
 * allocation of connectors and listeners fails once, in turn. */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/connector.h"
#include "ferry/listener.h"
#include "ferry/log.h"
#include "ferry/transport.h"

#include "endpoint_watch.h"
#include "test.h"

TEST_CASE("connector", set_up_endpoint, tear_down_endpoint);

TEST(without_a_listener_the_call_fails)
{
	struct ferry_connector *connector = NULL;
	ck_assert_int_eq(
	    ferry_connector_new_unix(&connector, base, endpoint_path, NULL, on_unexpected, NULL),
	    -ENOENT);
	ck_assert_int_eq(
	    ferry_connector_new_unix(&connector, base, "@ferry-nobody", NULL, on_unexpected, NULL),
	    -ECONNREFUSED);
	int fd = plain_bind(endpoint_path);
	ck_assert_int_eq(
	    ferry_connector_new_unix(&connector, base, endpoint_path, NULL, on_unexpected, NULL),
	    -ECONNREFUSED);
	close(fd);
	unlink(endpoint_path);
	make_plain_file(endpoint_path);
	ck_assert_int_eq(
	    ferry_connector_new_unix(&connector, base, endpoint_path, NULL, on_unexpected, NULL),
	    -ECONNREFUSED);
	ck_assert_ptr_null(connector);
	let_pass(20);
}

/* A listener that does not accept, with its backlog full. */
struct jam {
	struct host host;
	int clients[16];
	int count;
};

static void jam_make(struct jam *jam)
{
	*jam = (struct jam){0};
	host_listen(&jam->host, endpoint_path, 1);
	ferry_listener_disable(jam->host.listener);
	while ((jam->clients[jam->count] = plain_connect(endpoint_path)) >= 0)
		jam->count++;
	ck_assert_int_eq(jam->clients[jam->count], -EAGAIN);
}

static void jam_free(struct jam *jam)
{
	for (int i = 0; i < jam->count; i++)
		close(jam->clients[i]);
	host_free(&jam->host);
}

TEST(a_full_backlog_is_tried_again)
{
	struct jam jam;
	struct guest guest = {0};
	jam_make(&jam);
	ck_assert_int_eq(
	    ferry_connector_new_unix(NULL, base, endpoint_path, NULL, on_connected, &guest), 0);
	pump_until_count(&watch.connect_calls, 4);
	ck_assert_uint_eq(guest.told, 0);

	ferry_listener_enable(jam.host.listener);
	pump_until_count(&guest.told, 1);
	ck_assert_int_eq(guest.status, 0);
	pump_until_count(&jam.host.accepted, (unsigned int)jam.count + 1);
	pump_turns(3);
	ck_assert_uint_eq(guest.told, 1);
	ferry_transport_free(guest.transport);
	jam_free(&jam);
}

TEST(a_backlog_full_until_the_deadline_is_a_timeout)
{
	struct jam jam;
	const struct timeval none = {0}, some = {.tv_usec = 150000};
	jam_make(&jam);

	struct guest guest = {0};
	ck_assert_int_eq(ferry_connector_new_unix(&guest.connector, base, endpoint_path, &none,
	                                          on_connected, &guest),
	                 0);
	ck_assert_uint_eq(guest.told, 0);
	pump_until_count(&guest.told, 1);
	ck_assert_int_eq(guest.status, -ETIMEDOUT);
	ck_assert_uint_eq(watch.connect_calls, 1);

	guest = (struct guest){.free_connector = true};
	ck_assert_int_eq(ferry_connector_new_unix(&guest.connector, base, endpoint_path, &some,
	                                          on_connected, &guest),
	                 0);
	pump_until_count(&guest.told, 1);
	ck_assert_int_eq(guest.status, -ETIMEDOUT);
	ck_assert_uint_ge(watch.connect_calls, 2);
	ck_assert_uint_le(watch.connect_calls, 20);
	jam_free(&jam);
}

TEST(a_listener_that_goes_while_waiting_fails_the_attempt)
{
	struct jam jam;
	struct guest guest = {0};
	jam_make(&jam);
	ck_assert_int_eq(
	    ferry_connector_new_unix(&guest.connector, base, endpoint_path, NULL, on_connected, &guest),
	    0);
	ferry_listener_free(jam.host.listener);
	jam.host.listener = NULL;
	pump_until_count(&guest.told, 1);
	ck_assert_int_eq(guest.status, -ENOENT);
	jam_free(&jam);
}

TEST(a_cancelled_attempt_calls_nothing)
{
	struct jam jam;
	struct ferry_connector *connector;
	jam_make(&jam);
	ck_assert_int_eq(
	    ferry_connector_new_unix(&connector, base, endpoint_path, NULL, on_unexpected, NULL), 0);
	ferry_connector_free(connector);
	ck_assert_int_eq(
	    ferry_connector_new_unix(&connector, base, endpoint_path, NULL, on_unexpected, NULL), 0);
	pump_until_count(&watch.connect_calls, 4);
	ferry_connector_free(connector);
	let_pass(20);
	jam_free(&jam);

	/* Also when the connection is made already, and only the callback has not run. */
	struct host host = {0};
	host_listen(&host, endpoint_path, 0);
	ck_assert_int_eq(
	    ferry_connector_new_unix(&connector, base, endpoint_path, NULL, on_unexpected, NULL), 0);
	ferry_connector_free(connector);
	pump_until_count(&host.accepted, 1);
	host_free(&host);
}

TEST(the_callback_may_free_the_connector_and_the_transport)
{
	struct host host = {0};
	struct guest guest = {.free_connector = true};
	host_listen(&host, endpoint_path, 0);
	ck_assert_int_eq(
	    ferry_connector_new_unix(&guest.connector, base, endpoint_path, NULL, on_connected, &guest),
	    0);
	pump_until_count(&guest.told, 1);
	ck_assert_int_eq(guest.status, 0);
	ferry_transport_free(guest.transport);
	host_free(&host);
}

TEST(a_connection_that_makes_no_transport_is_an_error)
{
	struct host host = {0};
	struct guest guest = {0};
	host_listen(&host, endpoint_path, 0);
	watch.transport_error = -ENOMEM;
	ck_assert_int_eq(
	    ferry_connector_new_unix(&guest.connector, base, endpoint_path, NULL, on_connected, &guest),
	    0);
	pump_until_count(&guest.told, 1);
	ck_assert_int_eq(guest.status, -ENOMEM);
	watch.transport_error = 0;
	host_free(&host);
}

TEST_CASE("memory", set_up_endpoint, tear_down_endpoint);

TEST(every_allocation_of_a_call_may_fail)
{
	struct ferry_listener *listener = NULL;
	struct ferry_connector *connector = NULL;
	unsigned int failed = 0;
	int status;

	do {
		watch.allocation_to_fail = ++failed;
		status = ferry_listener_new_unix(&listener, base, endpoint_path, NULL, on_accepted, NULL);
		watch.allocation_to_fail = 0;
		ck_assert(status == 0 || (status == -ENOMEM && !exists(endpoint_path) && listener == NULL));
	} while (status != 0);
	ck_assert_uint_ge(failed, 4);

	failed = 0;
	do {
		watch.allocation_to_fail = ++failed;
		status =
		    ferry_connector_new_unix(&connector, base, endpoint_path, NULL, on_unexpected, NULL);
		watch.allocation_to_fail = 0;
		ck_assert(status == 0 || (status == -ENOMEM && connector == NULL));
	} while (status != 0);
	ck_assert_uint_ge(failed, 3);
	ferry_connector_free(connector);
	ferry_listener_free(listener);

	int fd = plain_listen(endpoint_path, 1);
	listener = NULL;
	failed = 0;
	do {
		watch.allocation_to_fail = ++failed;
		status = ferry_listener_new_fd(&listener, base, fd, on_accepted, NULL);
		watch.allocation_to_fail = 0;
		ck_assert(status == 0 || (status == -ENOMEM && listener == NULL));
	} while (status != 0);
	ferry_listener_free(listener);
	close(fd);
}

/* A wake-up that runs out of memory at any point drops at most one connection. */
TEST(every_allocation_of_an_accept_may_fail)
{
	struct host host = {.free_transport = true};
	bool all_worked = false;
	host_listen(&host, endpoint_path, 0);
	for (unsigned int n = 1; !all_worked; n++) {
		unsigned int before = host.accepted;
		int client = plain_connect(endpoint_path);
		watch.allocation_to_fail = n;
		event_base_loop(base, EVLOOP_NONBLOCK);
		allow_allocations();
		all_worked = watch.allocations_over;
		ck_assert(host.accepted == before + 1 || !all_worked);
		pump_until(is_hung_up, &client);
		close(client);
		ck_assert_int_eq(ferry_listener_disable(host.listener), 0);
		ck_assert_int_eq(ferry_listener_enable(host.listener), 0);
	}
	ck_assert_uint_ge(warnings, 1);
	host_free(&host);
}

TEST(every_allocation_of_an_outcome_may_fail)
{
	struct host host = {.free_transport = true};
	bool all_worked = false;
	host_listen(&host, endpoint_path, 0);
	ferry_listener_disable(host.listener);
	for (unsigned int n = 1; !all_worked; n++) {
		struct guest guest = {0};
		ck_assert_int_eq(ferry_connector_new_unix(&guest.connector, base, endpoint_path, NULL,
		                                          on_connected, &guest),
		                 0);
		watch.allocation_to_fail = n;
		event_base_loop(base, EVLOOP_NONBLOCK);
		allow_allocations();
		all_worked = watch.allocations_over;
		ck_assert_uint_eq(guest.told, 1);
		ck_assert(guest.status == -ENOMEM || guest.status == 0);
		ck_assert(guest.status == 0 || !all_worked);
		ferry_transport_free(guest.transport);
	}
	host_free(&host);
}

BEFORE_ALL
{
	/* libevent's allocations are counted with ours. */
	event_set_mem_functions(__wrap_malloc, __wrap_realloc, free);
}
