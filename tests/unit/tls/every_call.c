/* Every call in the callbacks that may run around it: where bytes arrive, and where a buffer changes. */

#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/ferry.h"

#include "every_call.h"
#include "hellos.h"
#include "test.h"

static struct ferry_transport *transport;
static struct ferry_client_hello *hello;
static struct evbuffer *buffer;
static struct hello made;
static int far;

/* ---- the callbacks ---- */

static void arrived(struct ferry_transport *from, struct evbuffer *input, void *context)
{
	(void)from, (void)input, (void)context;
	strike("data_received");
}

static void lost(struct ferry_transport *from, int reason, void *context)
{
	(void)from, (void)reason, (void)context;
}

static const struct ferry_protocol protocol = {.data_received = arrived, .connection_lost = lost};

static void on_change(struct evbuffer *changed, const struct evbuffer_cb_info *info, void *context)
{
	(void)changed, (void)info, (void)context;
	strike("a buffer's growth");
}

static void by_bytes(void)
{
	ck_assert_int_eq(write(far, made.bytes, made.length), (ssize_t)made.length);
	pump_turns(4);
}

static void by_growth(void)
{
	evbuffer_add_cb(buffer, on_change, NULL);
	evbuffer_add(buffer, made.bytes, made.length);
}

static const struct every_callback callbacks[] = {{"data_received", by_bytes},
                                                  {"a buffer's growth", by_growth}};

/* ---- the calls ---- */

static void read_from(struct evbuffer *input)
{
	struct ferry_client_hello *read;
	struct ferry_client_hello_info info;
	struct ferry_client_hello_protocol first;
	if (ferry_client_hello_read(&read, input, 0, NULL) < 0)
		return;
	ck_assert_int_eq(ferry_client_hello_get_info(read, &info), 0);
	ck_assert_str_eq(info.server_name, "example.org");
	ck_assert_int_eq(ferry_client_hello_get_protocol(&first, read, 0), -ENOENT);
	ck_assert(!ferry_client_hello_offers(read, "h2"));
	ferry_client_hello_free(read);
}

static void read_transport(void)
{
	read_from(bufferevent_get_input(ferry_transport_get_bufferevent(transport)));
}

static void read_buffer(void)
{
	read_from(buffer);
}

static void replace(void)
{
	struct evbuffer *other = evbuffer_new();
	evbuffer_add(other, made.bytes, made.length);
	ferry_client_hello_free(hello);
	ck_assert_int_eq(ferry_client_hello_read(&hello, other, 0, NULL), 0);
	evbuffer_free(other);
}

static const struct every_call calls[] = {
    {"read from the transport", read_transport},
    {"read from the buffer", read_buffer},
    {"free, and read another", replace},
};

/* ---- the world ---- */

static void set_up(void)
{
	int ends[2];
	make_hello(&made);
	add_server_name(&made, "example.org", 11);
	make_pair(PAIR_UNIX, ends);
	far = ends[1];
	ck_assert_int_eq(ferry_transport_new(
	                     &transport, bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE)),
	                 0);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &protocol, NULL), 0);
	buffer = evbuffer_new();
}

static void tear_down(void)
{
	ferry_transport_free(transport);
	ferry_client_hello_free(hello);
	hello = NULL;
	evbuffer_free(buffer);
	close(far);
	pump_turns(4);
}

LOOP_TEST(every_call_is_legal_in_every_callback, COUNT(callbacks))
{
	every_call_run(&callbacks[_i], calls, COUNT(calls), set_up, tear_down);
}
