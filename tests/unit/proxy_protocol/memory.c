/* Each allocation of the calls fails in turn: the call fails and changes nothing. */

#include <errno.h>
#include <string.h>

#include <event2/buffer.h>

#include "ferry/proxy_protocol.h"

#include "heap.h"
#include "heap_sweep.h"
#include "samples.h"
#include "test.h"

static struct ferry_proxy_protocol *header;
static struct ferry_proxy_protocol_sources *sources;
static struct evbuffer *buffer;
static size_t length_before;

static void nothing(void)
{
}

static int make_header(void)
{
	return ferry_proxy_protocol_new(&header);
}

static void no_header(void)
{
	ck_assert_ptr_null(header);
}

static void fill_buffer(void)
{
	buffer = evbuffer_new();
	evbuffer_add(buffer, V2 "\x21\x11\x00\x1a" INET_BLOCK TLVS, 16 + 26);
	length_before = evbuffer_get_length(buffer);
}

static int read_header(void)
{
	return ferry_proxy_protocol_read(&header, buffer, 0, NULL);
}

static void still_unread(void)
{
	ck_assert_ptr_null(header);
	ck_assert_uint_eq(evbuffer_get_length(buffer), length_before);
}

static void have_header(void)
{
	ck_assert_int_eq(make_header(), 0);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 0xe0, "one", 3), 0);
	buffer = evbuffer_new();
	length_before = 0;
}

static int add_tlv(void)
{
	return ferry_proxy_protocol_add_tlv(header, 0xe1, "two", 3);
}

static void no_second_tlv(void)
{
	struct ferry_proxy_protocol_info info;
	ck_assert_int_eq(ferry_proxy_protocol_get_info(header, &info), 0);
	ck_assert_uint_eq(info.tlvs_length, 6);
	ck_assert_mem_eq(info.tlvs, "\xe0\x00\x03one", 6);
}

static int write_header(void)
{
	return ferry_proxy_protocol_write(header, 2, buffer);
}

static void have_plain_header(void)
{
	ck_assert_int_eq(make_header(), 0);
	buffer = evbuffer_new();
	length_before = 0;
}

static int write_line(void)
{
	return ferry_proxy_protocol_write(header, 1, buffer);
}

static void nothing_written(void)
{
	ck_assert_uint_eq(evbuffer_get_length(buffer), 0);
}

static int make_sources(void)
{
	return ferry_proxy_protocol_sources_new(&sources);
}

static void no_sources(void)
{
	ck_assert_ptr_null(sources);
}

static void have_sources(void)
{
	ck_assert_int_eq(make_sources(), 0);
}

static int add_source(void)
{
	return ferry_proxy_protocol_sources_add(sources, "0.0.0.0/0");
}

static void contains_nothing(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	ck_assert(!ferry_proxy_protocol_sources_contain(sources, (struct sockaddr *)&in, sizeof(in)));
}

static void clean_up(void)
{
	ferry_proxy_protocol_free(header);
	ferry_proxy_protocol_sources_free(sources);
	if (buffer != NULL)
		evbuffer_free(buffer);
	header = NULL;
	sources = NULL;
	buffer = NULL;
}

static const struct swept_function functions[] = {
    {.name = "new",
     .prepare = nothing,
     .call = make_header,
     .unchanged = no_header,
     .done = nothing,
     .at_least = 1},
    {.name = "read",
     .prepare = fill_buffer,
     .call = read_header,
     .unchanged = still_unread,
     .done = nothing,
     .at_least = 3},
    {.name = "add_tlv",
     .prepare = have_header,
     .call = add_tlv,
     .unchanged = no_second_tlv,
     .done = nothing,
     .at_least = 1},
    {.name = "write, version 2",
     .prepare = have_header,
     .call = write_header,
     .unchanged = nothing_written,
     .done = nothing,
     .at_least = 1},
    {.name = "write, version 1",
     .prepare = have_plain_header,
     .call = write_line,
     .unchanged = nothing_written,
     .done = nothing,
     .at_least = 1},
    {.name = "sources_new",
     .prepare = nothing,
     .call = make_sources,
     .unchanged = no_sources,
     .done = nothing,
     .at_least = 1},
    {.name = "sources_add",
     .prepare = have_sources,
     .call = add_source,
     .unchanged = contains_nothing,
     .done = nothing,
     .at_least = 1},
};

BEFORE_ALL
{
	heap_take_over();
}

LOOP_TEST(a_call_without_memory_changes_nothing, COUNT(functions))
{
	sweep_function(&functions[_i], clean_up);
}
