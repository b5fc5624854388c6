/* Reading a ClientHello: what it asks for, in any pieces, and what is none. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "ferry/client_hello.h"

#include "heap.h"
#include "hellos.h"
#include "test.h"

static struct evbuffer *input;
static struct ferry_client_hello *hello;
static struct ferry_client_hello_info info;
static const char *error;
static struct hello made;

static void set_up(void)
{
	input = evbuffer_new();
	make_hello(&made);
}

static void tear_down(void)
{
	ferry_client_hello_free(hello);
	hello = NULL;
	evbuffer_free(input);
}

TEST_CASE("unit.tls.client_hello", set_up, tear_down);

static void put_sample(struct hello *sample, const char *hex)
{
	sample->length = 0;
	for (; *hex != '\0'; hex += 2) {
		const char digits[3] = {hex[0], hex[1], '\0'};
		unsigned char byte = (unsigned char)strtoul(digits, NULL, 16);
		put(sample, &byte, 1);
	}
}

/* Reads what has come; the bytes stay. */
static int read_hello(size_t limit)
{
	size_t length = evbuffer_get_length(input);
	ferry_client_hello_free(hello);
	hello = NULL;
	int status = ferry_client_hello_read(&hello, input, limit, &error);
	ck_assert_uint_eq(evbuffer_get_length(input), length);
	ck_assert((status == 0) == (hello != NULL));
	ck_assert((error != NULL) ==
	          (status == -EPROTO || status == -EPROTONOSUPPORT || status == -EMSGSIZE));
	if (status == 0)
		ck_assert_int_eq(ferry_client_hello_get_info(hello, &info), 0);
	return status;
}

static int read_made(void)
{
	evbuffer_drain(input, evbuffer_get_length(input));
	evbuffer_add(input, made.bytes, made.length);
	return read_hello(0);
}

static void expect_protocol(unsigned int index, const char *name)
{
	struct ferry_client_hello_protocol protocol;
	ck_assert_int_eq(ferry_client_hello_get_protocol(&protocol, hello, index), 0);
	ck_assert_uint_eq(protocol.length, strlen(name));
	ck_assert_mem_eq(protocol.name, name, protocol.length);
	ck_assert(ferry_client_hello_offers(hello, name));
}

/* ---- contents ---- */

static void expect_openssl(void)
{
	ck_assert_str_eq(info.server_name, "files.example.org");
	ck_assert_uint_eq(info.version, FERRY_CLIENT_HELLO_TLS_1_3);
	ck_assert_uint_eq(info.protocols, 2);
	ck_assert(!info.has_ech);
	expect_protocol(0, "h2");
	expect_protocol(1, "http/1.1");
	ck_assert(!ferry_client_hello_offers(hello, "http/1"));
	ck_assert(!ferry_client_hello_offers(hello, ""));
}

TEST(it_has_the_name_the_protocols_and_the_version)
{
	struct ferry_client_hello_protocol protocol;
	put_sample(&made, OPENSSL_1_3);
	ck_assert_int_eq(read_made(), 0);
	expect_openssl();
	ck_assert_uint_eq(info.length, made.length);
	ck_assert_int_eq(ferry_client_hello_get_protocol(&protocol, hello, 2), -ENOENT);
}

TEST(a_client_may_give_neither_name_nor_protocols)
{
	struct ferry_client_hello_protocol protocol;
	put_sample(&made, OPENSSL_1_2);
	ck_assert_int_eq(read_made(), 0);
	ck_assert_ptr_null(info.server_name);
	ck_assert_uint_eq(info.version, FERRY_CLIENT_HELLO_TLS_1_2);
	ck_assert_uint_eq(info.protocols, 0);
	ck_assert(!ferry_client_hello_offers(hello, "h2"));
	ck_assert_int_eq(ferry_client_hello_get_protocol(&protocol, hello, 0), -ENOENT);
}

TEST(a_client_may_have_no_extensions)
{
	made.bytes[10] = 1; /* TLS 1.0 */
	ck_assert_int_eq(read_made(), 0);
	ck_assert_ptr_null(info.server_name);
	ck_assert_uint_eq(info.version, FERRY_CLIENT_HELLO_TLS_1_0);
	made.bytes[10] = 0; /* SSL 3.0 */
	ck_assert_int_eq(read_made(), 0);
	ck_assert_uint_eq(info.version, 0);
}

TEST(reserved_values_are_neither_protocols_nor_versions)
{
	add_extension(&made, 0x1a1a, "", 0);
	add_extension(&made, 16, "\0\x09\x02\x0a\x0a\x02h2\x02\xfa\xfa", 11);
	add_extension(&made, 43, "\x06\xfa\xfa\x03\x03\x7f\x1c", 7);
	ck_assert_int_eq(read_made(), 0);
	ck_assert_uint_eq(info.protocols, 1);
	expect_protocol(0, "h2");
	ck_assert(!ferry_client_hello_offers(hello, "\x0a\x0a"));
	ck_assert_uint_eq(info.version, FERRY_CLIENT_HELLO_TLS_1_2);
}

TEST(the_versions_extension_replaces_the_field)
{
	add_extension(&made, 43, "\x04\x03\x02\x03\x01", 5);
	ck_assert_int_eq(read_made(), 0);
	ck_assert_uint_eq(info.version, FERRY_CLIENT_HELLO_TLS_1_1);
}

TEST(a_second_encrypted_hello_shows)
{
	add_server_name(&made, "outer.example", 13);
	add_extension(&made, 0xfe0d, "\0", 1);
	ck_assert_int_eq(read_made(), 0);
	ck_assert(info.has_ech);
	ck_assert_str_eq(info.server_name, "outer.example");
}

TEST(a_server_name_has_up_to_255_bytes)
{
	char name[256];
	memset(name, 'n', sizeof(name));
	add_server_name(&made, name, 255);
	ck_assert_int_eq(read_made(), 0);
	ck_assert_uint_eq(strlen(info.server_name), 255);
	make_hello(&made);
	add_server_name(&made, name, 256);
	ck_assert_int_eq(read_made(), -EPROTO);
}

/* ---- pieces ---- */

TEST(each_prefix_needs_more_and_the_last_byte_is_enough)
{
	put_sample(&made, OPENSSL_1_3);
	ck_assert_int_eq(read_hello(0), -EAGAIN);
	for (size_t i = 0; i < made.length; i++) {
		evbuffer_add(input, made.bytes + i, 1);
		ck_assert_int_eq(read_hello(0), i + 1 < made.length ? -EAGAIN : 0);
	}
	expect_openssl();
	/* What follows in a record of its own is not looked at. */
	evbuffer_add(input, "\x17\x03\x03", 3);
	ck_assert_int_eq(read_hello(0), 0);
	ck_assert_uint_eq(info.length, made.length);
}

/* The message of `from` in records of up to `size` bytes each. Returns their number. */
static unsigned int cut(struct hello *out, const struct hello *from, size_t size)
{
	unsigned int records = 0;
	out->length = 0;
	for (size_t at = RECORD_HEADER_BYTES; at < from->length; at += size, records++) {
		size_t left = from->length - at;
		unsigned char header[RECORD_HEADER_BYTES] = {22, 3, 1};
		put_length(header + 3, left < size ? left : size);
		put(out, header, sizeof(header));
		put(out, from->bytes + at, left < size ? left : size);
	}
	return records;
}

TEST(it_may_be_spread_over_records)
{
	struct hello whole;
	put_sample(&whole, OPENSSL_1_3);
	for (size_t size = 1; size < whole.length; size++) {
		unsigned int records = cut(&made, &whole, size);
		int status = read_made();
		if (records > FERRY_CLIENT_HELLO_RECORDS_MAX) {
			ck_assert_int_eq(status, -EPROTO);
			continue;
		}
		ck_assert_int_eq(status, 0);
		expect_openssl();
		ck_assert_uint_eq(info.length, made.length);
	}
}

TEST(each_prefix_of_many_records_needs_more)
{
	struct hello whole;
	put_sample(&whole, OPENSSL_1_3);
	cut(&made, &whole, 7);
	for (size_t i = 0; i < made.length; i++) {
		evbuffer_add(input, made.bytes + i, 1);
		ck_assert_int_eq(read_hello(0), i + 1 < made.length ? -EAGAIN : 0);
	}
	expect_openssl();
}

TEST(the_limit_counts_all_bytes)
{
	put_sample(&made, OPENSSL_1_3);
	evbuffer_add(input, made.bytes, made.length);
	ck_assert_int_eq(read_hello(made.length), 0);
	ck_assert_int_eq(read_hello(made.length - 1), -EMSGSIZE);
	/* It is known from the length, before the bytes have come. */
	evbuffer_drain(input, made.length);
	evbuffer_add(input, "\x16\x03\x01\x40\0\x01\0\x40\0", 9);
	ck_assert_int_eq(read_hello(0), -EMSGSIZE);
	/* It is about the message, even if each record is small. */
	evbuffer_drain(input, 9);
	evbuffer_add(input, "\x16\x03\x01\0\x04\x01\xff\xff\xff", 9);
	ck_assert_int_eq(read_hello(0), -EMSGSIZE);
}

/* A record that is longer than the limit, with no ClientHello in it. */
TEST(the_error_is_the_same_however_many_bytes_have_come)
{
	static const char bytes[] = "\x16\x03\x01\x40\0\xff\x33\x01";

	for (size_t length = 0; length < sizeof(bytes); length++) {
		evbuffer_drain(input, evbuffer_get_length(input));
		evbuffer_add(input, bytes, length);
		ck_assert_int_eq(read_hello(0), length < 5 ? -EAGAIN : -EMSGSIZE);
	}
}

/* ---- what is none ---- */

static const struct {
	const char *bytes;
	size_t length;
	int status;
} starts[] = {
    /* up to the byte that cannot be */
    {"GET / HTTP/1.1", 1, -EPROTONOSUPPORT},
    {"\x80\x2e\x01\x03\x01", 1, -EPROTONOSUPPORT}, /* SSL 2.0 */
    {"\x15\x03\x01\0\x02", 1, -EPROTONOSUPPORT},   /* an alert */
    {"\x16\x02", 2, -EPROTONOSUPPORT},
    {"\x16\x03\x01\0\0", 5, -EPROTO},
    {"\x16\x03\x01\x40\x01", 5, -EPROTO},
    {"\x16\x03\x01\0\x04\x02", 6, -EPROTO}, /* a ServerHello */
    {"\x16\x03\x01\0\x01\x01\x17", 7, -EPROTO},
    {"\x16\x03\x01\0\x01\x01\x16\x04", 8, -EPROTO},
    {"\x16\x03\x01\0\x06\x01\0\0\x01", 9, -EPROTO}, /* a byte behind the message */
};

LOOP_TEST(other_bytes_are_refused_at_once, COUNT(starts))
{
	for (size_t i = 0; i < starts[_i].length; i++) {
		ck_assert_int_eq(read_hello(0), -EAGAIN);
		evbuffer_add(input, starts[_i].bytes + i, 1);
	}
	ck_assert_int_eq(read_hello(0), starts[_i].status);
}

static const struct {
	unsigned int type;
	const char *bytes;
	size_t length;
} extensions[] = {
    {0, "", 0},                          /* no list */
    {0, "\0\0", 2},                      /* no name */
    {0, "\0\x03\0\0\0", 5},              /* an empty name */
    {0, "\0\x04\x01\0\x01x", 6},         /* another type */
    {0, "\0\x04\0\0\x02x", 6},           /* longer than the list */
    {0, "\0\x05\0\0\x01x", 6},           /* longer than the extension */
    {0, "\0\x04\0\0\x01xy", 7},          /* bytes behind the list */
    {0, "\0\x08\0\0\x01x\0\0\x01y", 10}, /* two names */
    {0, "\0\x04\0\0\x01\0", 6},          /* a zero */
    {0, "\0\x04\0\0\x01 ", 6},           /* a space */
    {0, "\0\x04\0\0\x01\x7f", 6},        /* a control character */
    {0, "\0\x04\0\0\x01\xc3", 6},        /* no ASCII */
    {16, "", 0},                         /* no list */
    {16, "\0\0", 2},                     /* no protocol */
    {16, "\0\x01\0", 3},                 /* an empty protocol */
    {16, "\0\x03\x03h2", 5},             /* longer than the list */
    {16, "\0\x04\x02h2", 5},             /* longer than the extension */
    {16, "\0\x03\x02h2x", 6},            /* bytes behind the list */
    {43, "", 0},                         /* no list */
    {43, "\0", 1},                       /* no version */
    {43, "\x01\x03", 2},                 /* half a version */
    {43, "\x03\x03\x04\x03", 4},         /* one and a half */
    {43, "\x02\x03\x04\0", 4},           /* bytes behind the list */
};

LOOP_TEST(malformed_extensions_are_refused, COUNT(extensions))
{
	add_extension(&made, extensions[_i].type, extensions[_i].bytes, extensions[_i].length);
	ck_assert_int_eq(read_made(), -EPROTO);
}

TEST(a_repeated_extension_is_refused)
{
	add_server_name(&made, "a", 1);
	ck_assert_int_eq(read_made(), 0);
	add_server_name(&made, "a", 1);
	ck_assert_int_eq(read_made(), -EPROTO);
}

/* Changes one byte of a fine ClientHello. */
static const struct {
	size_t at;
	unsigned char byte;
} changes[] = {
    {43, 33},           /* the session is longer than it may be */
    {45, 0},            /* no cipher */
    {45, 1},            /* half a cipher */
    {48, 0},            /* no compression */
    {48, 2},            /* longer than the message */
    {EXTENSIONS_AT, 1}, /* longer than the message */
    {EXTENSIONS_AT + 1, 9},
    {EXTENSIONS_AT + 5, 9},
};

LOOP_TEST(malformed_messages_are_refused, COUNT(changes))
{
	add_server_name(&made, "example.org", 11);
	ck_assert_int_eq(read_made(), 0);
	made.bytes[changes[_i].at] = changes[_i].byte;
	ck_assert_int_eq(read_made(), -EPROTO);
}

TEST(no_prefix_of_a_message_is_a_message)
{
	struct hello whole;
	put_sample(&whole, OPENSSL_1_3);
	for (size_t length = RECORD_HEADER_BYTES + 4; length < whole.length; length++) {
		made = whole;
		made.length = length;
		put_length(made.bytes + 3, length - RECORD_HEADER_BYTES);
		put_length(made.bytes + 7, length - RECORD_HEADER_BYTES - 4);
		/* One that ends before the extensions is complete. */
		int expected =
		    length == RECORD_HEADER_BYTES + 4 + 2 + RANDOM_BYTES + 33 + 64 + 2 ? 0 : -EPROTO;
		ck_assert_int_eq(read_made(), expected);
	}
}

/* ---- arguments, memory ---- */

TEST(wrong_arguments_are_refused)
{
	struct ferry_client_hello_protocol protocol;
	ck_assert_int_eq(ferry_client_hello_read(NULL, input, 0, NULL), -EINVAL);
	ck_assert_int_eq(ferry_client_hello_read(&hello, NULL, 0, NULL), -EINVAL);
	ck_assert_int_eq(ferry_client_hello_get_info(NULL, &info), -EINVAL);
	ck_assert_int_eq(ferry_client_hello_get_protocol(&protocol, NULL, 0), -EINVAL);
	ck_assert(!ferry_client_hello_offers(NULL, "h2"));
	ferry_client_hello_free(NULL);
	ck_assert_int_eq(read_made(), 0);
	ck_assert_int_eq(ferry_client_hello_get_info(hello, NULL), -EINVAL);
	ck_assert_int_eq(ferry_client_hello_get_protocol(NULL, hello, 0), -EINVAL);
	ck_assert(!ferry_client_hello_offers(hello, NULL));
	evbuffer_freeze(input, 1);
	ck_assert_int_eq(read_hello(0), -EINVAL);
	evbuffer_unfreeze(input, 1);
	ck_assert_int_eq(read_hello(0), 0);
}

TEST(without_memory_it_fails_and_can_be_read_later)
{
	evbuffer_add(input, made.bytes, made.length);
	heap_watch(1);
	int status = ferry_client_hello_read(&hello, input, 0, &error);
	heap_unwatch();
	ck_assert_int_eq(status, -ENOMEM);
	ck_assert_ptr_null(hello);
	ck_assert_ptr_null(error);
	ck_assert_int_eq(read_hello(0), 0);
}
