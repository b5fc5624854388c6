/* A PROXY header is read in both versions: in any pieces, and cut, broken and hostile. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

#include "ferry/proxy_protocol.h"

#include "samples.h"
#include "test.h"

/* NOLINTBEGIN(bugprone-not-null-terminated-result): these are bytes, and no strings */

static struct ferry_proxy_protocol *header;
static struct ferry_proxy_protocol_info info;
static struct evbuffer *input;
static const char *why;

static void set_up(void)
{
	input = evbuffer_new();
	header = NULL;
}

static void tear_down(void)
{
	ferry_proxy_protocol_free(header);
	evbuffer_free(input);
}

/* Unlike check's own, this reports nothing to the parent process unless it fails: some tests read 100,000 headers. */
#define must_hold(condition) ((condition) ? (void)0 : ck_abort_msg("%s", #condition))

static void free_copy(const void *bytes, size_t length, void *context)
{
	(void)length, (void)context;
	free((void *)(uintptr_t)bytes);
}

/* Each chain of the input is an exact heap copy: a sanitizer detects a read past the end. */
static void add(const void *bytes, size_t length)
{
	if (length == 0)
		return;
	char *copy = malloc(length);
	must_hold(copy != NULL);
	memcpy(copy, bytes, length);
	must_hold(evbuffer_add_reference(input, copy, length, free_copy, NULL) == 0);
}

/* Reads a header with this limit from the input; the header is in `header` and `info`. */
static int read_limited(size_t limit)
{
	size_t before = evbuffer_get_length(input);
	ferry_proxy_protocol_free(header);
	header = NULL;
	info = (struct ferry_proxy_protocol_info){0};
	int status = ferry_proxy_protocol_read(&header, input, limit, &why);
	must_hold((status == 0) == (header != NULL));
	must_hold((status == -EPROTO || status == -EMSGSIZE) == (why != NULL));
	if (status < 0)
		must_hold(evbuffer_get_length(input) == before);
	else
		must_hold(ferry_proxy_protocol_get_info(header, &info) == 0);
	return status;
}

/* Reads a header from these bytes. The result is its length, or the error. */
static int parse(const void *bytes, size_t length)
{
	evbuffer_drain(input, evbuffer_get_length(input));
	add(bytes, length);
	int status = read_limited(0);
	return status < 0 ? status : (int)(length - evbuffer_get_length(input));
}

#define parse_literal(text) parse(text, sizeof(text) - 1)

static void check_addresses(const char *source, const char *destination)
{
	char text[ADDRESS_TEXT];
	ck_assert_str_eq(address_text(text, info.source, info.source_length), source);
	ck_assert_str_eq(address_text(text, info.destination, info.destination_length), destination);
}

#define ck_proxied(text, version_, from, to)                          \
	do {                                                              \
		ck_assert_int_eq(parse_literal(text), (int)sizeof(text) - 1); \
		ck_assert_int_eq(info.kind, FERRY_PROXY_PROTOCOL_PROXIED);    \
		ck_assert_int_eq(info.socket_type, SOCK_STREAM);              \
		ck_assert_uint_eq(info.version, version_);                    \
		check_addresses(from, to);                                    \
	} while (0)

#define ck_nameless(text, kind_)                                      \
	do {                                                              \
		ck_assert_int_eq(parse_literal(text), (int)sizeof(text) - 1); \
		ck_assert_int_eq(info.kind, kind_);                           \
		ck_assert_int_eq(info.socket_type, 0);                        \
		check_addresses("none", "none");                              \
	} while (0)

#define ck_refused(text) ck_assert_int_eq(parse_literal(text), -EPROTO)

TEST_CASE("frozen", set_up, tear_down);

TEST(a_header_is_not_taken_off_a_frozen_evbuffer)
{
	static const char *const headers[] = {"PROXY UNKNOWN\r\n", "P", "GET / HTTP/1.1\r\n\r\n"};
	static const int results[] = {15, -EAGAIN, -EPROTO};
	evbuffer_freeze(input, 1);
	ck_assert_int_eq(read_limited(0), -EAGAIN);
	evbuffer_unfreeze(input, 1);
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		size_t length = strlen(headers[i]);
		ck_assert_int_eq(parse(headers[i], length), results[i]);
		evbuffer_drain(input, evbuffer_get_length(input));
		add(headers[i], length);
		evbuffer_freeze(input, 1);
		ck_assert_int_eq(read_limited(0), -EPERM);
		evbuffer_unfreeze(input, 1);
	}
}

TEST_CASE("version 1", set_up, tear_down);

TEST(version_1_has_addresses)
{
	ck_proxied("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", 1, "192.168.0.1:56324",
	           "192.168.0.11:443");
	ck_proxied("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", 1,
	           "255.255.255.255:65535", "255.255.255.255:65535");
	ck_proxied("PROXY TCP6 2001:db8::1 ::1 0 80\r\n", 1, "[2001:db8::1]:0", "[::1]:80");
	ck_proxied("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	           "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	           1, "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535",
	           "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
	ck_assert_uint_eq(info.tlvs_length, 0);
	ck_assert(!info.has_checksum);
}

TEST(version_1_may_not_know_the_addresses)
{
	static const char longest[] = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	                              "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
	ck_assert_uint_eq(sizeof(longest) - 1, FERRY_PROXY_PROTOCOL_V1_MAX);
	ck_nameless("PROXY UNKNOWN\r\n", FERRY_PROXY_PROTOCOL_UNKNOWN);
	ck_nameless("PROXY UNKNOWN what\0ever  follows\r\n", FERRY_PROXY_PROTOCOL_UNKNOWN);
	ck_assert_int_eq(parse_literal(longest), FERRY_PROXY_PROTOCOL_V1_MAX);
	ck_assert_int_eq(info.kind, FERRY_PROXY_PROTOCOL_UNKNOWN);
	ck_assert_uint_eq(info.version, 1);
}

TEST(version_1_in_another_form_is_refused)
{
	ck_refused("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n");
	ck_refused("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n");
	ck_refused("PROXY TCP4 1.2.3.4 1.2.3.4 1  2\r\n");
	ck_refused("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n");
	ck_refused("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n");
	ck_refused("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n");
	ck_refused("PROXY TCP4 1.2.3.4\r\n");
	ck_refused("PROXY TCP4\r\n");
	ck_refused("PROXY \r\n");
	ck_refused("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n");
	ck_refused("PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n");
	ck_refused("PROXY UNKNOWNX\r\n");
	ck_refused("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n");
	ck_refused("PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n");
	ck_refused("PROXY TCP4 1.2.3.4 1.2.3.4 1 100000\r\n");
	ck_refused("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n");
	ck_refused("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n");
	ck_refused("PROXY TCP4 1.2.3.4 1.2.3.4 1 -2\r\n");
	ck_refused("PROXY TCP4 1.2.3.4 1.2.3.256 1 2\r\n");
	ck_refused("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n");
	ck_refused("PROXY TCP4 ::1 ::1 1 2\r\n");
	ck_refused("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n");
	ck_refused("PROXY TCP6 ::1 ::g 1 2\r\n");
	ck_refused("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n");
	ck_refused("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\0\r\n");
	ck_refused("PROXY TCP4\0 1.2.3.4 1.2.3.4 1 2\r\n");
}

TEST(version_1_ends_with_crlf_and_in_time)
{
	enum { MOST = FERRY_PROXY_PROTOCOL_V1_MAX };
	char line[200];
	ck_refused("PROXY UNKNOWN\n");
	ck_refused("PROXY UNKNOWN\rx");
	ck_refused("PROXY UNKNOWN\r\r\n");
	memset(line, 'x', sizeof(line));
	memcpy(line, "PROXY UNKNOWN ", 14);
	ck_assert_int_eq(parse(line, MOST - 2), -EAGAIN);
	ck_assert_int_eq(parse(line, MOST - 1), -EPROTO);
	ck_assert_int_eq(parse(line, sizeof(line)), -EPROTO);
	memcpy(line + MOST - 1, "\r\n", 2); /* 108 bytes, one too many */
	ck_assert_int_eq(parse(line, MOST + 1), -EPROTO);
	memcpy(line + MOST - 2, "\r\n", 2);
	ck_assert_int_eq(parse(line, sizeof(line)), MOST);
}

TEST_CASE("version 2", set_up, tear_down);

TEST(version_2_has_addresses)
{
	ck_proxied(V2 "\x21\x11\x00\x0c" INET_BLOCK, 2, "192.0.2.1:56310", "198.51.100.2:80");
	ck_proxied(V2 "\x21\x21\x00\x24" INET6_BLOCK, 2, "[2001:db8::1]:65535", "[2001:db8::2]:443");
	ck_assert(!info.has_checksum);
}

TEST(version_2_may_be_of_datagrams)
{
	ck_assert_int_gt(parse_literal(V2 "\x21\x12\x00\x0c" INET_BLOCK), 0);
	ck_assert_int_eq(info.socket_type, SOCK_DGRAM);
	check_addresses("192.0.2.1:56310", "198.51.100.2:80");
	ck_assert_int_gt(parse_literal(V2 "\x21\x22\x00\x24" INET6_BLOCK), 0);
	ck_assert_int_eq(info.socket_type, SOCK_DGRAM);
	ck_assert_int_eq(info.kind, FERRY_PROXY_PROTOCOL_PROXIED);
}

/* 16 bytes, two paths of 108, and room for more. */
static size_t make_unix(unsigned char *bytes, const char *source, size_t source_length,
                        const char *destination, size_t destination_length)
{
	memset(bytes, 0, 232);
	memcpy(bytes, V2 "\x21\x31\x00\xd8", 16);
	memcpy(bytes + 16, source, source_length);
	memcpy(bytes + 124, destination, destination_length);
	return 232;
}

TEST(version_2_has_unix_addresses)
{
	unsigned char bytes[232];
	char longest[108], text[ADDRESS_TEXT];
	size_t length = make_unix(bytes, "/run/a.sock", 11, "\0b", 2);
	ck_assert_int_eq(parse(bytes, length), 232);
	ck_assert_int_eq(info.kind, FERRY_PROXY_PROTOCOL_PROXIED);
	check_addresses("unix:/run/a.sock", "unix:@b");
	ck_assert_uint_eq(info.source_length, offsetof(struct sockaddr_un, sun_path) + 12);

	memset(longest, 'x', sizeof(longest));
	longest[0] = '/';
	length = make_unix(bytes, longest, sizeof(longest), "", 0);
	ck_assert_int_eq(parse(bytes, length), 232);
	ck_assert_uint_eq(strlen(address_text(text, info.source, info.source_length)), 5 + 108);
	ck_assert_uint_le(info.source_length, sizeof(struct sockaddr_storage));
	ck_assert_str_eq(address_text(text, info.destination, info.destination_length), "unix:");

	/* The bytes after the zero of a path do not belong to the path. */
	length = make_unix(bytes, "/a\0b", 4, "\0a\0b\0", 5);
	ck_assert_int_eq(parse(bytes, length), 232);
	check_addresses("unix:/a", "unix:@a@b");
}

TEST(version_2_may_have_no_addresses)
{
	ck_nameless(V2 "\x20\x00\x00\x00", FERRY_PROXY_PROTOCOL_LOCAL);
	ck_assert_uint_eq(info.version, 2);
	ck_nameless(V2 "\x20\x11\x00\x0c" INET_BLOCK, FERRY_PROXY_PROTOCOL_LOCAL);
	ck_nameless(V2 "\x20\xff\x00\x02zz", FERRY_PROXY_PROTOCOL_LOCAL); /* the rest is ignored */
	ck_assert_uint_eq(info.tlvs_length, 0);
	ck_nameless(V2 "\x21\x00\x00\x00", FERRY_PROXY_PROTOCOL_UNKNOWN);
	ck_nameless(V2 "\x21\x01\x00\x03\x04\x00\x00", FERRY_PROXY_PROTOCOL_UNKNOWN);
	ck_assert_uint_eq(info.tlvs_length, 3);
	ck_nameless(V2 "\x21\x10\x00\x0c" INET_BLOCK, FERRY_PROXY_PROTOCOL_UNKNOWN);
}

TEST(version_2_in_another_form_is_refused)
{
	ck_refused(V2 "\x11\x11\x00\x0c" INET_BLOCK);
	ck_refused(V2 "\x31\x11\x00\x0c" INET_BLOCK);
	ck_refused(V2 "\x22\x11\x00\x0c" INET_BLOCK);
	ck_refused(V2 "\x21\x11\x00\x0b" INET_BLOCK);
	ck_refused(V2 "\x21\x21\x00\x23" INET6_BLOCK);
	ck_refused(V2 "\x21\x31\x00\xd7");
	ck_refused(V2 "\x21\x11\x00\x00");
	ck_refused("\r\n\r\n\0\r\nQUIT\r");
}

TEST(unknown_families_are_refused)
{
	for (int byte = 0; byte < 256; byte++) {
		unsigned char bytes[232];
		make_unix(bytes, "/a", 2, "/b", 2);
		bytes[13] = (unsigned char)byte;
		/* Behind the addresses of a shorter family zeros follow, which are TLVs of type 0 without a value. */
		bytes[15] = (unsigned char)(byte >> 4 == 3 ? 216 : byte >> 4 == 2 ? 36 + 30 : 12 + 36);
		size_t length = 16U + bytes[15];
		if (byte >> 4 == 0)
			memset(bytes + 16, 0, length - 16);
		int result = parse(bytes, length);
		if (byte >> 4 > 3 || (byte & 15) > 2)
			ck_assert_int_eq(result, -EPROTO);
		else
			ck_assert_int_eq(result, (int)length);
	}
}

TEST(the_length_of_version_2_is_bounded)
{
	static char bytes[FERRY_PROXY_PROTOCOL_V2_MAX];
	memcpy(bytes, V2 "\x21\x00\x0f\xf0", 16);
	ck_assert_int_eq(parse(bytes, 16), -EAGAIN);
	ck_assert_int_eq(parse(bytes, FERRY_PROXY_PROTOCOL_LIMIT - 1), -EAGAIN);
	/* The zeros are TLVs without a value: 4080 bytes of them. */
	ck_assert_int_eq(parse(bytes, FERRY_PROXY_PROTOCOL_LIMIT), FERRY_PROXY_PROTOCOL_LIMIT);
	memcpy(bytes + 14, "\x0f\xf1", 2);
	ck_assert_int_eq(parse(bytes, 16), -EMSGSIZE);
	memcpy(bytes + 14, "\xff\xff", 2);
	ck_assert_int_eq(parse(bytes, 16), -EMSGSIZE);
	bytes[12] = '\x20'; /* also for a local connection */
	ck_assert_int_eq(parse(bytes, sizeof(bytes)), -EMSGSIZE);
}

TEST(the_limit_can_be_that_of_the_format)
{
	static char bytes[FERRY_PROXY_PROTOCOL_V2_MAX];
	memcpy(bytes, V2 "\x21\x00\xff\xff\xe0\xff\xfc", 19);
	add(bytes, sizeof(bytes) - 1);
	ck_assert_int_eq(read_limited(FERRY_PROXY_PROTOCOL_V2_MAX - 1), -EMSGSIZE);
	ck_assert_int_eq(read_limited(FERRY_PROXY_PROTOCOL_V2_MAX), -EAGAIN);
	add("x", 1);
	ck_assert_int_eq(read_limited(FERRY_PROXY_PROTOCOL_V2_MAX), 0);
	ck_assert_uint_eq(info.tlvs_length, 65535);
	ck_assert_uint_eq(evbuffer_get_length(input), 0);
	/* A limit below the fixed part lets no header of version 2 through. */
	add(V2 "\x20\x00\x00\x00", 16);
	ck_assert_int_eq(read_limited(1), -EMSGSIZE);
}

TEST(tlvs_must_fit)
{
	ck_proxied(V2 "\x21\x11\x00\x1a" INET_BLOCK TLVS, 2, "192.0.2.1:56310", "198.51.100.2:80");
	ck_assert_uint_eq(info.tlvs_length, sizeof(TLVS) - 1);
	ck_assert_mem_eq(info.tlvs, TLVS, sizeof(TLVS) - 1);
	ck_refused(V2 "\x21\x11\x00\x0d" INET_BLOCK "\x04");
	ck_refused(V2 "\x21\x11\x00\x0e" INET_BLOCK "\x04\x00");
	ck_refused(V2 "\x21\x11\x00\x0f" INET_BLOCK "\x04\x00\x01");
	ck_refused(V2 "\x21\x11\x00\x10" INET_BLOCK "\x04\x00\x02z");
	ck_refused(V2 "\x21\x11\x00\x10" INET_BLOCK "\x04\xff\xffz");
	ck_refused(V2 "\x21\x00\x00\x01z");
}

TEST(a_checksum_must_be_right)
{
	static const char summed[] = SUMMED;
	size_t whole = sizeof(summed) - 1;
	ck_assert_int_eq(parse(summed, whole), (int)whole);
	ck_assert(info.has_checksum);
	check_addresses("192.0.2.1:56310", "198.51.100.2:80");
	ck_assert_uint_eq(info.tlvs_length, 5); /* without the checksum */
	ck_assert_mem_eq(info.tlvs, "\x20\x00\x02\xaa\xbb", 5);
	/* The checksum covers every bit. A changed command or family is refused for itself. */
	for (size_t bit = 0; bit < whole * 8; bit++) {
		char bytes[sizeof(summed)];
		memcpy(bytes, summed, whole);
		bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
		int result = parse(bytes, whole);
		bool is_its_type = bit / 8 == 28; /* then it is another TLV */
		bool is_command = bit == 12 * 8;  /* LOCAL: the rest is not parsed */
		bool is_length = bit / 8 == 14 || bit / 8 == 15;
		if (is_its_type || is_command)
			ck_assert_int_gt(result, 0);
		else if (is_length && (result == -EAGAIN || result == -EMSGSIZE))
			continue;
		else
			ck_assert_int_eq(result, -EPROTO);
	}
}

TEST(a_malformed_checksum_is_refused)
{
	ck_refused(V2 "\x21\x11\x00\x12" INET_BLOCK "\x03\x00\x03\x00\x00\x00");
	ck_refused(V2 "\x21\x11\x00\x14" INET_BLOCK "\x03\x00\x05\x00\x00\x00\x00\x00");
	ck_refused(V2 "\x21\x11\x00\x13" INET_BLOCK "\x03\x00\x04\x00\x00\x00\x00");
	ck_refused(V2 "\x21\x11\x00\x1a" INET_BLOCK
	              "\x03\x00\x04\x00\x00\x00\x00\x03\x00\x04\x00\x00\x00\x00");
}

#define VALID(text)            \
	{                          \
		text, sizeof(text) - 1 \
	}

static const struct {
	const char *bytes;
	size_t length;
} valid[] = {
    VALID("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"),
    VALID("PROXY TCP6 2001:db8::1 ::1 0 80\r\n"),
    VALID("PROXY UNKNOWN\r\n"),
    VALID("PROXY UNKNOWN some more\r\n"),
    VALID(V2 "\x21\x11\x00\x0c" INET_BLOCK),
    VALID(V2 "\x21\x21\x00\x24" INET6_BLOCK),
    VALID(V2 "\x21\x11\x00\x1a" INET_BLOCK TLVS),
    VALID(V2 "\x20\x00\x00\x00"),
    VALID(SUMMED),
};

TEST_CASE("both", set_up, tear_down);

TEST(a_wrong_start_is_refused_at_its_first_byte)
{
	static const char *const starts[] = {"G",         "\x16\x03\x01", "PROXZ",   "PROXY\r", "P\r",
	                                     "\r\n\r\nx", "\n",           " PROXY ", "proxy "};
	for (int i = 0; i < COUNT(starts); i++)
		ck_assert_int_eq(parse(starts[i], strlen(starts[i])), -EPROTO);
	ck_refused(V2 "\x01"); /* before the rest of the 16 bytes */
}

LOOP_TEST(every_prefix_of_a_valid_header_needs_more, COUNT(valid))
{
	for (size_t length = 0; length < valid[_i].length; length++)
		ck_assert_int_eq(parse(valid[_i].bytes, length), -EAGAIN);
	ck_assert_int_eq(parse(valid[_i].bytes, valid[_i].length), (int)valid[_i].length);
}

LOOP_TEST(a_header_may_come_byte_by_byte, COUNT(valid))
{
	for (size_t at = 0; at < valid[_i].length; at++) {
		ck_assert_int_eq(read_limited(0), -EAGAIN);
		add(valid[_i].bytes + at, 1);
	}
	add("GET /", 5);
	ck_assert_int_eq(read_limited(0), 0);
	ck_assert_uint_eq(evbuffer_get_length(input), 5);
	ck_assert_mem_eq(evbuffer_pullup(input, 5), "GET /", 5);
}

LOOP_TEST(a_header_may_be_split_anywhere, COUNT(valid))
{
	for (size_t at = 0; at <= valid[_i].length; at++) {
		add(valid[_i].bytes, at);
		ck_assert_int_eq(read_limited(0), at < valid[_i].length ? -EAGAIN : 0);
		if (at == valid[_i].length)
			break;
		add(valid[_i].bytes + at, valid[_i].length - at);
		ck_assert_int_eq(read_limited(0), 0);
		ck_assert_uint_eq(evbuffer_get_length(input), 0);
	}
}

LOOP_TEST(bytes_behind_a_header_stay, COUNT(valid))
{
	char bytes[256];
	memcpy(bytes, valid[_i].bytes, valid[_i].length);
	memcpy(bytes + valid[_i].length, "\r\nGET / \0", 9);
	ck_assert_int_eq(parse(bytes, valid[_i].length + 9), (int)valid[_i].length);
	ck_assert_mem_eq(evbuffer_pullup(input, 9), "\r\nGET / \0", 9);
}

/* A result lies within the bytes, and is well-formed. */
static void check_sane(int result, size_t length)
{
	must_hold(result == -EPROTO || result == -EMSGSIZE || result == -EAGAIN ||
	          (result >= 0 && (size_t)result <= length));
	if (result > 0 && info.kind == FERRY_PROXY_PROTOCOL_PROXIED) {
		must_hold(info.source_length > 0);
		must_hold(info.source->sa_family == info.destination->sa_family);
	} else {
		must_hold(info.source == NULL);
		must_hold(info.destination == NULL);
		must_hold(info.source_length + info.destination_length == 0);
	}
}

LOOP_TEST(no_mutation_of_one_byte_breaks_the_parser, COUNT(valid))
{
	for (size_t at = 0; at < valid[_i].length; at++)
		for (int byte = 0; byte < 256; byte++) {
			char bytes[256];
			memcpy(bytes, valid[_i].bytes, valid[_i].length);
			bytes[at] = (char)byte;
			check_sane(parse(bytes, valid[_i].length), valid[_i].length);
		}
}

TEST(no_random_bytes_break_the_parser)
{
	for (int round = 0; round < 50000; round++) {
		char bytes[300];
		size_t length = support_random_below(sizeof(bytes));
		for (size_t i = 0; i < length; i++)
			bytes[i] = (char)support_random();
		if (round % 2 == 0 && length >= 16) { /* half of the rounds have a valid start */
			memcpy(bytes, V2 "\x21", 13);
			bytes[13] = (char)(support_random_below(4) << 4 | support_random_below(3));
			bytes[14] = (char)support_random_below(2);
		}
		check_sane(parse(bytes, length), length);
	}
}

TEST(arguments_are_checked)
{
	add("PROXY UNKNOWN\r\n", 15);
	ck_assert_int_eq(ferry_proxy_protocol_read(NULL, input, 0, NULL), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_read(&header, NULL, 0, NULL), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_read(&header, input, 0, NULL), 0);
	ck_assert_int_eq(ferry_proxy_protocol_get_info(header, NULL), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_get_info(NULL, &info), -EINVAL);
	ferry_proxy_protocol_free(NULL);
}

/* NOLINTEND(bugprone-not-null-terminated-result) */
