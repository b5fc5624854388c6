/* A user's program has functions of its own with names that ferry uses inside. ferry must go on calling its own
 * functions, also as a static library. Each function here has a different type from ferry's and ends the program
 * with a failure. tests/build/archive.sh checks that ferry has each name. */

#include <ferry/ferry.h>
#include <ferry/testing.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define TAKE_NAME(name) \
	void name(void);    \
	void name(void)     \
	{                   \
		fail_in(#name); \
	}

static void fail_in(const char *name)
{
	fprintf(stderr, "ferry has called %s() of the program\n", name);
	_Exit(1);
}

TAKE_NAME(acceptor_start)
TAKE_NAME(address_from_string)
TAKE_NAME(ancillary_attach)
TAKE_NAME(ancillary_take)
TAKE_NAME(clock_now)
TAKE_NAME(connection_to_transport)
TAKE_NAME(incoming_read)
TAKE_NAME(inspect_kind_by_stat)
TAKE_NAME(log_line)
TAKE_NAME(outgoing_flush)
TAKE_NAME(outgoing_init)
TAKE_NAME(socket_get_cookie)
TAKE_NAME(socket_get_type)
TAKE_NAME(transport_lock)
TAKE_NAME(transport_write_step)
TAKE_NAME(utf8_is_valid)

static void check(int line, int is_true)
{
	if (is_true)
		return;
	fprintf(stderr, "%s:%d: failed\n", __FILE__, line);
	_Exit(1);
}

#define CHECK(condition) check(__LINE__, (condition) ? 1 : 0)

static struct ferry_transport *accepted_transport, *connected_transport;

static void accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                     void *context)
{
	(void)listener, (void)context;
	accepted_transport = transport;
}

static void connected(struct ferry_connector *connector, int status,
                      struct ferry_transport *transport, void *context)
{
	(void)connector, (void)context;
	CHECK(status == 0);
	connected_transport = transport;
}

static void connect_to_a_listener(struct event_base *base)
{
	struct ferry_listener *listener;
	char name[64];

	snprintf(name, sizeof(name), "@ferry-consumer-%ld", (long)getpid());
	CHECK(ferry_listener_new_unix(&listener, base, name, NULL, accepted, NULL) == 0);
	CHECK(ferry_connector_new_unix(NULL, base, name, NULL, connected, NULL) == 0);
	while (accepted_transport == NULL || connected_transport == NULL)
		CHECK(event_base_loop(base, EVLOOP_ONCE) == 0);
	ferry_transport_free(accepted_transport);
	ferry_transport_free(connected_transport);
	ferry_listener_free(listener);
}

static void send_and_receive(struct event_base *base)
{
	struct ferry_testing *far;

	CHECK(ferry_testing_new(&far, base) == 0);
	struct ferry_transport *transport = ferry_testing_get_transport(far);
	CHECK(ferry_transport_send_fd(transport, STDIN_FILENO, FERRY_FD_DUP) == 0);
	CHECK(ferry_transport_write(transport, "hello", 5) == 0);
	CHECK(ferry_testing_pump(far) == 0);
	CHECK(evbuffer_get_length(ferry_testing_get_written(far)) == 5);
	CHECK(ferry_testing_count_fds(far) == 1);
	ferry_transport_free(transport);
	ferry_testing_free(far);
}

static void make_a_handoff(void)
{
	struct ferry_handoff *handoff;
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	CHECK(ferry_handoff_new(&handoff, fds[0]) == 0);
	CHECK(ferry_handoff_set_name(handoff, "www") == 0);
	CHECK(ferry_handoff_set_name(handoff, "\xff") == -EINVAL); /* not UTF-8 */
	ferry_handoff_free(handoff);
	close(fds[1]);
}

int main(void)
{
	struct event_base *base = event_base_new();

	CHECK(base != NULL);
	connect_to_a_listener(base);
	send_and_receive(base);
	make_a_handoff();
	event_base_loop(base, EVLOOP_NONBLOCK);
	event_base_free(base);
	return 0;
}
