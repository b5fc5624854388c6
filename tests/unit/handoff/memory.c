/* Each allocation of the handoff's calls fails in turn. A call that fails changes nothing, and the same
 * call succeeds afterwards. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/ferry.h"

#include "handoff_info.h"
#include "heap.h"
#include "heap_sweep.h"
#include "test.h"
#include "wire.h"

static int ends[2];
static unsigned int reads, accepted;
static struct ferry_handoff *handoff, *made;
static struct bufferevent *bev;
static struct ferry_transport *transport;
static struct evconnlistener *listener;
static char text[200];

static void on_read(struct bufferevent *reader, void *context)
{
	(void)reader, (void)context;
	reads++;
}

static void on_accept(struct evconnlistener *source, evutil_socket_t fd, struct sockaddr *address,
                      int length, void *context)
{
	(void)source, (void)address, (void)length, (void)context;
	accepted++;
	close(fd);
}

/* ---- the calls and their objects ---- */

static void make_connection(void)
{
	make_pair(PAIR_TCP, ends);
}

static void make_handoff(void)
{
	make_connection();
	ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	ck_assert_int_eq(ferry_handoff_set_name(handoff, "old"), 0);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "bytes", 5), 0);
	ck_assert_int_eq(ferry_handoff_set_blob(handoff, "blob", 4), 0);
}

static void make_bufferevent(void)
{
	make_connection();
	bev = bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(bev, on_read, NULL, NULL, NULL);
	bufferevent_enable(bev, EV_READ);
	wire_put(ends[1], 0, 100);
	pump_until_count(&reads, 1);
	reads = 0;
}

static void on_data(struct ferry_transport *from, struct evbuffer *input, void *context)
{
	(void)from, (void)input, (void)context;
	reads++;
}

static const struct ferry_protocol protocol = {.data_received = on_data};

static void make_transport_with_input(void)
{
	make_connection();
	ck_assert_int_eq(ferry_transport_new(
	                     &transport, bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE)),
	                 0);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &protocol, NULL), 0);
	wire_put(ends[1], 0, 100);
	pump_until_count(&reads, 1);
	reads = 0;
}

static int make_listening_socket(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	return fd;
}

static void make_listener(void)
{
	listener = evconnlistener_new(base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE, 0,
	                              make_listening_socket());
}

static void make_handoff_of_listener(void)
{
	ck_assert_int_eq(ferry_handoff_new(&handoff, make_listening_socket()), 0);
}

static int call_new(void)
{
	return ferry_handoff_new(&made, ends[0]);
}

static int call_set_name(void)
{
	return ferry_handoff_set_name(handoff, text);
}

static int call_set_bytes(void)
{
	return ferry_handoff_set_bytes(handoff, text, sizeof(text));
}

static int call_set_blob(void)
{
	return ferry_handoff_set_blob(handoff, text, sizeof(text));
}

static int call_from_bufferevent(void)
{
	return ferry_handoff_from_bufferevent(&made, bev);
}

static int call_to_bufferevent(void)
{
	return ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE);
}

static int call_from_transport(void)
{
	return ferry_handoff_from_transport(&made, transport);
}

static int call_to_transport(void)
{
	return ferry_handoff_to_transport(&transport, handoff, base, BEV_OPT_CLOSE_ON_FREE);
}

static int call_from_listener(void)
{
	return ferry_handoff_from_listener(&made, listener);
}

static int call_to_listener(void)
{
	return ferry_handoff_to_listener(&listener, handoff, base, on_accept, NULL,
	                                 LEV_OPT_CLOSE_ON_FREE);
}

/* ---- after a failure ---- */

static void expect_connection(void)
{
	ck_assert_ptr_null(made);
	ck_assert(fd_is_open(ends[0]));
}

static void expect_handoff(void)
{
	size_t length;
	ck_assert_str_eq(handoff_info(handoff).name, "old");
	ck_assert_mem_eq(ferry_handoff_get_bytes(handoff, &length), "bytes", 5);
	ck_assert_uint_eq(length, 5);
	ck_assert_mem_eq(ferry_handoff_get_blob(handoff, &length), "blob", 4);
	ck_assert_uint_eq(length, 4);
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), ends[0]);
	ck_assert(fd_is_open(ends[0]));
	ck_assert_ptr_null(bev);
}

static void expect_bufferevent(void)
{
	ck_assert_ptr_null(made);
	ck_assert_int_eq(bufferevent_getfd(bev), ends[0]);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(bev)), 100);
	ck_assert_int_eq(bufferevent_get_enabled(bev), EV_READ | EV_WRITE);
	wire_put(ends[1], 100, 1);
	unsigned int before = reads;
	pump_until_count(&reads, before + 1);
	evbuffer_drain(bufferevent_get_input(bev), 1);
}

static void expect_transport(void)
{
	struct bufferevent *of = ferry_transport_get_bufferevent(transport);

	ck_assert_ptr_null(made);
	ck_assert_int_eq(bufferevent_getfd(of), ends[0]);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(of)), 100);
	wire_put(ends[1], 100, 1);
	unsigned int before = reads;
	pump_until_count(&reads, before + 1);
	evbuffer_drain(bufferevent_get_input(of), 1);
}

static void expect_handoff_alone(void)
{
	expect_handoff();
	ck_assert_ptr_null(transport);
}

static void expect_accepting(void)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	ck_assert_ptr_null(made);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(
	    getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&address, &length), 0);
	ck_assert_int_eq(connect(client, (struct sockaddr *)&address, length), 0);
	unsigned int before = accepted;
	pump_until_count(&accepted, before + 1);
	close(client);
}

static void expect_handoff_of_listener(void)
{
	ck_assert_ptr_null(listener);
	ck_assert(fd_is_open(ferry_handoff_get_fd(handoff)));
}

/* ---- after success ---- */

static void has_made(void)
{
	ck_assert_ptr_nonnull(made);
	ck_assert_int_eq(handoff_info(made).kind, FERRY_DESCRIPTOR_SOCKET);
}

static void has_set_name(void)
{
	ck_assert_str_eq(handoff_info(handoff).name, text);
}

static void has_set_bytes(void)
{
	size_t length;
	ck_assert_mem_eq(ferry_handoff_get_bytes(handoff, &length), text, sizeof(text));
	ck_assert_uint_eq(length, sizeof(text));
}

static void has_set_blob(void)
{
	size_t length;
	ck_assert_mem_eq(ferry_handoff_get_blob(handoff, &length), text, sizeof(text));
	ck_assert_uint_eq(length, sizeof(text));
}

static void has_taken(void)
{
	size_t length;
	has_made();
	ferry_handoff_get_bytes(made, &length);
	ck_assert_uint_eq(length, 100);
}

static void has_bufferevent(void)
{
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), -ENOENT);
	reads = 0;
	bufferevent_setcb(bev, on_read, NULL, NULL, NULL);
	bufferevent_enable(bev, EV_READ);
	pump_until_count(&reads, 1);
}

static void has_taken_transport(void)
{
	transport = NULL;
	has_taken();
}

static void has_transport(void)
{
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), -ENOENT);
	reads = 0;
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &protocol, NULL), 0);
	pump_until_count(&reads, 1);
}

static void has_listener(void)
{
	expect_accepting();
}

static const struct swept_function calls[] = {
    {"new", make_connection, call_new, expect_connection, has_made, 1, 0},
    {"set_name", make_handoff, call_set_name, expect_handoff, has_set_name, 1, 0},
    {"set_bytes", make_handoff, call_set_bytes, expect_handoff, has_set_bytes, 1, 0},
    {"set_blob", make_handoff, call_set_blob, expect_handoff, has_set_blob, 1, 0},
    {"from_bufferevent", make_bufferevent, call_from_bufferevent, expect_bufferevent, has_taken, 2,
     0},
    /* Unnoticed: libevent goes on if it cannot allocate the callback on the output of a new bufferevent. */
    {"to_bufferevent", make_handoff, call_to_bufferevent, expect_handoff, has_bufferevent, 6, 1},
    {"from_transport", make_transport_with_input, call_from_transport, expect_transport,
     has_taken_transport, 2, 0},
    {"to_transport", make_handoff, call_to_transport, expect_handoff_alone, has_transport, 8, 1},
    {"from_listener", make_listener, call_from_listener, expect_accepting, has_made, 1, 0},
    {"to_listener", make_handoff_of_listener, call_to_listener, expect_handoff_of_listener,
     has_listener, 3, 0},
};
enum { CALLS = sizeof(calls) / sizeof(calls[0]) };

static void clean_up(void)
{
	if (bev != NULL)
		bufferevent_free(bev);
	ferry_transport_free(transport);
	if (listener != NULL)
		evconnlistener_free(listener);
	ferry_handoff_free(made);
	ferry_handoff_free(handoff);
	if (ends[0] > 0 && fd_is_open(ends[0])) /* the call has not taken it */
		close(ends[0]);
	if (ends[1] > 0)
		close(ends[1]);
	pump_turns(3); /* the loop finalises freed bufferevents */
	made = handoff = NULL;
	bev = NULL;
	transport = NULL;
	listener = NULL;
	ends[0] = ends[1] = -1;
	reads = 0;
}

/* _i: of calls */
LOOP_TEST(without_memory_nothing_has_changed, CALLS)
{
	memset(text, 'x', sizeof(text) - 1);
	sweep_function(&calls[_i], clean_up);
}

BEFORE_ALL
{
	heap_take_over();
}
