/* Every call in the callbacks that may run around it: where bytes arrive, and where the calls themselves change a
 * buffer. */

#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/ferry.h"

#include "every_call.h"
#include "samples.h"
#include "test.h"

static struct ferry_transport *transport;
static struct ferry_proxy_protocol *header;
static struct ferry_proxy_protocol_sources *sources;
static struct evbuffer *buffer;
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
	(void)changed, (void)context;
	strike(info->n_added > 0 ? "a buffer's growth" : "a buffer's drain");
}

static void by_bytes(void)
{
	ck_assert_int_eq(write(far, SUMMED, sizeof(SUMMED) - 1), sizeof(SUMMED) - 1);
	pump_turns(4);
}

static void by_writing(void)
{
	evbuffer_add_cb(buffer, on_change, NULL);
	ferry_proxy_protocol_write(header, 2, buffer);
}

static void by_reading(void)
{
	struct ferry_proxy_protocol *taken;
	evbuffer_add(buffer, SUMMED, sizeof(SUMMED) - 1);
	evbuffer_add_cb(buffer, on_change, NULL);
	if (ferry_proxy_protocol_read(&taken, buffer, 0, NULL) == 0)
		ferry_proxy_protocol_free(taken);
}

static const struct every_callback callbacks[] = {{"data_received", by_bytes},
                                                  {"a buffer's growth", by_writing},
                                                  {"a buffer's drain", by_reading}};

/* ---- the calls ---- */

static struct evbuffer *input_of_transport(void)
{
	return bufferevent_get_input(ferry_transport_get_bufferevent(transport));
}

static void read_and_look(void)
{
	struct ferry_proxy_protocol *taken;
	struct ferry_proxy_protocol_info info;
	struct ferry_proxy_protocol_tlv tlv;
	struct ferry_proxy_protocol_ssl ssl;
	size_t position = 0;
	if (ferry_proxy_protocol_read(&taken, input_of_transport(), 0, NULL) < 0)
		return;
	ck_assert_int_eq(ferry_proxy_protocol_get_info(taken, &info), 0);
	ferry_proxy_protocol_tlv_next(&tlv, info.tlvs, info.tlvs_length, &position);
	ferry_proxy_protocol_find_tlv(&tlv, taken, FERRY_PROXY_PROTOCOL_TLV_SSL);
	ferry_proxy_protocol_get_ssl(&ssl, taken);
	ferry_proxy_protocol_free(taken);
}

static void change(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	const struct sockaddr *address = (struct sockaddr *)&in;
	ferry_proxy_protocol_add_tlv(header, 0xe0, "x", 1);
	ferry_proxy_protocol_set_checksum(header, true);
	ferry_proxy_protocol_set_addresses(header, SOCK_STREAM, address, sizeof(in), address,
	                                   sizeof(in));
	ferry_proxy_protocol_set_local(header);
}

static void write_out(void)
{
	ferry_proxy_protocol_write(header, 2,
	                           bufferevent_get_output(ferry_transport_get_bufferevent(transport)));
}

static void free_header(void)
{
	ferry_proxy_protocol_free(header);
	ck_assert_int_eq(ferry_proxy_protocol_new(&header), 0);
}

static void ask_sources(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	ferry_proxy_protocol_sources_add(sources, "10.0.0.0/8");
	ferry_proxy_protocol_sources_contain(sources, (struct sockaddr *)&in, sizeof(in));
}

static void free_sources(void)
{
	ferry_proxy_protocol_sources_free(sources);
	ck_assert_int_eq(ferry_proxy_protocol_sources_new(&sources), 0);
}

static const struct every_call calls[] = {
    {"read, and look at what was read", read_and_look},
    {"change the header", change},
    {"write the header", write_out},
    {"free the header", free_header},
    {"ask the sources", ask_sources},
    {"free the sources", free_sources},
};

/* ---- the world ---- */

static void set_up(void)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	far = ends[1];
	ck_assert_int_eq(ferry_transport_new(
	                     &transport, bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE)),
	                 0);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &protocol, NULL), 0);
	ck_assert_int_eq(ferry_proxy_protocol_new(&header), 0);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 0xe1, "first", 5), 0);
	ck_assert_int_eq(ferry_proxy_protocol_sources_new(&sources), 0);
	buffer = evbuffer_new();
}

static void tear_down(void)
{
	ferry_transport_free(transport);
	ferry_proxy_protocol_free(header);
	ferry_proxy_protocol_sources_free(sources);
	evbuffer_free(buffer);
	close(far);
	pump_turns(4);
}

LOOP_TEST(every_call_is_legal_in_every_callback, COUNT(callbacks))
{
	every_call_run(&callbacks[_i], calls, COUNT(calls), set_up, tear_down);
}
