/* The PROXY header of a load balancer: both versions; cut, broken and hostile headers. */

#include "programs/ferry-proxy/proxy_protocol.h"
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* NOLINTBEGIN(bugprone-not-null-terminated-result): these are bytes, and no strings */

static struct proxy_protocol header;

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define INET_BLOCK "\xc0\x00\x02\x01\xc6\x33\x64\x02\xdb\xf6\x00\x50" /* 192.0.2.1 … port 80 */
#define INET6_BLOCK                              \
	"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01" \
	"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02" \
	"\xff\xff\x01\xbb"

/* The parser gets an exact heap copy: a sanitizer detects a read past the end. */
static int parse(const void *bytes, size_t length)
{
	char *copy = malloc(length > 0 ? length : 1);
	ck_assert_ptr_nonnull(copy);
	memcpy(copy, bytes, length);
	int result = proxy_protocol_parse(copy, length, &header);
	free(copy);
	return result;
}

#define parse_literal(text) parse(text, sizeof(text) - 1)

static void check_addresses(const char *source, const char *destination)
{
	char text[SOCKET_ADDRESS_TEXT_SIZE];
	ck_assert_str_eq(socket_address_format(&header.source, text, sizeof(text)), source);
	ck_assert_str_eq(socket_address_format(&header.destination, text, sizeof(text)), destination);
}

#define ck_proxied(text, version_, source, destination)               \
	do {                                                              \
		ck_assert_int_eq(parse_literal(text), (int)sizeof(text) - 1); \
		ck_assert_int_eq(header.kind, PROXY_PROTOCOL_PROXIED);        \
		ck_assert_uint_eq(header.version, version_);                  \
		ck_assert_ptr_null(header.error);                             \
		check_addresses(source, destination);                         \
	} while (0)

#define ck_nameless(text, kind_)                                      \
	do {                                                              \
		ck_assert_int_eq(parse_literal(text), (int)sizeof(text) - 1); \
		ck_assert_int_eq(header.kind, kind_);                         \
		check_addresses("unknown", "unknown");                        \
	} while (0)

#define ck_refused(text)                                 \
	do {                                                 \
		ck_assert_int_eq(parse_literal(text), -EPROTO);  \
		ck_assert_ptr_nonnull(header.error);             \
		ck_assert_uint_eq(header.source.length, 0);      \
		ck_assert_uint_eq(header.destination.length, 0); \
	} while (0)

TEST_CASE("version 1");

TEST(version_1_tells_addresses)
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
}

TEST(version_1_may_not_know_the_addresses)
{
	static const char longest[] = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	                              "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
	ck_assert_uint_eq(sizeof(longest) - 1, PROXY_PROTOCOL_V1_MAX);
	ck_nameless("PROXY UNKNOWN\r\n", PROXY_PROTOCOL_UNKNOWN);
	ck_nameless("PROXY UNKNOWN what\0ever  follows\r\n", PROXY_PROTOCOL_UNKNOWN);
	ck_nameless("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	            PROXY_PROTOCOL_UNKNOWN);
	ck_assert_uint_eq(header.version, 1);
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
	ck_refused("PROXY UNKNOWN\n");
	ck_refused("PROXY UNKNOWN\rx");
	ck_refused("PROXY UNKNOWN\r\r\n");
	char line[200];
	memset(line, 'x', sizeof(line));
	memcpy(line, "PROXY UNKNOWN ", 14);
	ck_assert_int_eq(parse(line, PROXY_PROTOCOL_V1_MAX - 2), PROXY_PROTOCOL_MORE);
	ck_assert_int_eq(parse(line, PROXY_PROTOCOL_V1_MAX - 1), -EPROTO);
	ck_assert_int_eq(parse(line, sizeof(line)), -EPROTO);
	memcpy(line + PROXY_PROTOCOL_V1_MAX - 1, "\r\n", 2); /* 108 bytes, one too many */
	ck_assert_int_eq(parse(line, PROXY_PROTOCOL_V1_MAX + 1), -EPROTO);
	memcpy(line + PROXY_PROTOCOL_V1_MAX - 2, "\r\n", 2);
	ck_assert_int_eq(parse(line, sizeof(line)), PROXY_PROTOCOL_V1_MAX);
}

TEST_CASE("version 2");

TEST(version_2_tells_addresses)
{
	ck_proxied(V2 "\x21\x11\x00\x0c" INET_BLOCK, 2, "192.0.2.1:56310", "198.51.100.2:80");
	ck_proxied(V2 "\x21\x21\x00\x24" INET6_BLOCK, 2, "[2001:db8::1]:65535", "[2001:db8::2]:443");
	ck_assert(!header.has_checksum);
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

TEST(version_2_tells_unix_addresses)
{
	unsigned char bytes[232];
	char longest[108], text[SOCKET_ADDRESS_TEXT_SIZE];
	size_t length = make_unix(bytes, "/run/a.sock", 11, "\0b", 2);
	ck_assert_int_eq(parse(bytes, length), 232);
	ck_assert_int_eq(header.kind, PROXY_PROTOCOL_PROXIED);
	check_addresses("unix:/run/a.sock", "unix:@b");

	memset(longest, 'x', sizeof(longest));
	longest[0] = '/';
	length = make_unix(bytes, longest, sizeof(longest), "", 0);
	ck_assert_int_eq(parse(bytes, length), 232);
	socket_address_format(&header.source, text, sizeof(text));
	ck_assert_uint_eq(strlen(text), 5 + 108);
	ck_assert_str_eq(socket_address_format(&header.destination, text, sizeof(text)), "unix:");

	/* The bytes after the zero of a path do not belong to the path. */
	length = make_unix(bytes, "/a\0b", 4, "\0a\0b\0", 5);
	ck_assert_int_eq(parse(bytes, length), 232);
	check_addresses("unix:/a", "unix:@a\\x00b");
}

TEST(version_2_may_have_no_addresses_for_us)
{
	ck_nameless(V2 "\x20\x00\x00\x00", PROXY_PROTOCOL_LOCAL);
	ck_assert_uint_eq(header.version, 2);
	ck_nameless(V2 "\x20\x11\x00\x0c" INET_BLOCK, PROXY_PROTOCOL_LOCAL);
	ck_nameless(V2 "\x20\xff\x00\x02zz", PROXY_PROTOCOL_LOCAL); /* the rest is ignored */
	ck_nameless(V2 "\x21\x00\x00\x00", PROXY_PROTOCOL_UNKNOWN);
	ck_nameless(V2 "\x21\x01\x00\x03\x04\x00\x00", PROXY_PROTOCOL_UNKNOWN);
	ck_nameless(V2 "\x21\x10\x00\x0c" INET_BLOCK, PROXY_PROTOCOL_UNKNOWN);
	ck_nameless(V2 "\x21\x12\x00\x0c" INET_BLOCK, PROXY_PROTOCOL_UNKNOWN);
	ck_nameless(V2 "\x21\x22\x00\x24" INET6_BLOCK, PROXY_PROTOCOL_UNKNOWN);
}

TEST(version_2_in_another_form_is_refused)
{
	ck_refused(V2 "\x11\x11\x00\x0c" INET_BLOCK);
	ck_refused(V2 "\x31\x11\x00\x0c" INET_BLOCK);
	ck_refused(V2 "\x22\x11\x00\x0c" INET_BLOCK);
	ck_refused(V2 "\x21\x41\x00\x0c" INET_BLOCK);
	ck_refused(V2 "\x21\x13\x00\x0c" INET_BLOCK);
	ck_refused(V2 "\x21\x11\x00\x0b" INET_BLOCK);
	ck_refused(V2 "\x21\x21\x00\x23" INET6_BLOCK);
	ck_refused(V2 "\x21\x31\x00\xd7");
	ck_refused(V2 "\x21\x11\x00\x00");
	ck_refused("\r\n\r\n\0\r\nQUIT\r");
}

TEST_CASE("both");

TEST(a_wrong_start_is_refused_at_its_first_byte)
{
	static const char *const starts[] = {"G",         "\x16\x03\x01", "PROXZ",   "PROXY\r", "P\r",
	                                     "\r\n\r\nx", "\n",           " PROXY ", "proxy "};
	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
		ck_assert_int_eq(parse(starts[i], strlen(starts[i])), -EPROTO);
	ck_refused(V2 "\x01"); /* before the rest of the 16 bytes */
}

TEST_CASE("version 2");

TEST(the_length_of_version_2_is_bounded)
{
	static char bytes[65551];
	memcpy(bytes, V2 "\x21\x00\x0f\xf0", 16);
	ck_assert_int_eq(parse(bytes, 16), PROXY_PROTOCOL_MORE);
	ck_assert_int_eq(parse(bytes, PROXY_PROTOCOL_MAX - 1), PROXY_PROTOCOL_MORE);
	ck_assert_int_eq(parse(bytes, PROXY_PROTOCOL_MAX), PROXY_PROTOCOL_MAX);
	memcpy(bytes + 14, "\x0f\xf1", 2);
	ck_assert_int_eq(parse(bytes, 16), -EPROTO);
	memcpy(bytes + 14, "\xff\xff", 2);
	ck_assert_int_eq(parse(bytes, 16), -EPROTO);
	bytes[12] = '\x20'; /* also for a local connection */
	ck_assert_int_eq(parse(bytes, sizeof(bytes)), -EPROTO);
}

/* An authority, a private TLV, and one without a value. */
#define TLVS        \
	"\x02\x00\x04"  \
	"a.bc"          \
	"\xe0\x00\x01z" \
	"\x04\x00\x00"

TEST(tlvs_are_skipped_if_they_fit)
{
	ck_proxied(V2 "\x21\x11\x00\x1a" INET_BLOCK TLVS, 2, "192.0.2.1:56310", "198.51.100.2:80");
	ck_refused(V2 "\x21\x11\x00\x0d" INET_BLOCK "\x04");
	ck_refused(V2 "\x21\x11\x00\x0e" INET_BLOCK "\x04\x00");
	ck_refused(V2 "\x21\x11\x00\x0f" INET_BLOCK "\x04\x00\x01");
	ck_refused(V2 "\x21\x11\x00\x10" INET_BLOCK "\x04\x00\x02z");
	ck_refused(V2 "\x21\x11\x00\x10" INET_BLOCK "\x04\xff\xffz");
	ck_refused(V2 "\x21\x00\x00\x01z");
}

/* The checksums come from another implementation, which computes e3069283 for "123456789". */
static const char summed[] = V2 "\x21\x11\x00\x18" INET_BLOCK "\x03\x00\x04"
                                "\x3f\xf9\x19\x6f"
                                "\x20\x00\x02\xaa\xbb";

TEST(a_checksum_has_to_be_right)
{
	size_t whole = sizeof(summed) - 1;
	ck_assert_int_eq(parse(summed, whole), (int)whole);
	ck_assert(header.has_checksum);
	check_addresses("192.0.2.1:56310", "198.51.100.2:80");
	/* The checksum covers every bit. A changed command or family is refused for itself. */
	for (size_t bit = 0; bit < whole * 8; bit++) {
		char bytes[sizeof(summed)];
		memcpy(bytes, summed, whole);
		bytes[bit / 8] = (char)(bytes[bit / 8] ^ 1 << bit % 8);
		int result = parse(bytes, whole);
		bool is_its_type = bit / 8 == 28; /* then it is another TLV, which is skipped */
		bool is_command = bit == 12 * 8;  /* LOCAL: the rest is not parsed */
		bool is_length = bit / 8 == 14 || bit / 8 == 15;
		if (is_its_type || is_command)
			ck_assert_int_gt(result, 0);
		else if (is_length && result == PROXY_PROTOCOL_MORE)
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
    {summed, sizeof(summed) - 1},
};

enum { VALID_COUNT = sizeof(valid) / sizeof(valid[0]) };

TEST_CASE("both");

TEST(every_prefix_of_a_valid_header_needs_more)
{
	for (size_t i = 0; i < VALID_COUNT; i++) {
		for (size_t length = 0; length < valid[i].length; length++)
			ck_assert_int_eq(parse(valid[i].bytes, length), PROXY_PROTOCOL_MORE);
		ck_assert_int_eq(parse(valid[i].bytes, valid[i].length), (int)valid[i].length);
	}
}

TEST(what_follows_a_header_is_not_looked_at)
{
	for (size_t i = 0; i < VALID_COUNT; i++) {
		char bytes[256];
		memcpy(bytes, valid[i].bytes, valid[i].length);
		memcpy(bytes + valid[i].length, "\r\nGET / \0", 9);
		ck_assert_int_eq(parse(bytes, valid[i].length + 9), (int)valid[i].length);
	}
}

/* A result lies within the bytes, and is well-formed. */
static void check_sane(int result, size_t length)
{
	char text[SOCKET_ADDRESS_TEXT_SIZE];
	ck_assert(result == -EPROTO || (result >= 0 && (size_t)result <= length));
	ck_assert((result < 0) == (header.error != NULL));
	if (result > 0 && header.kind == PROXY_PROTOCOL_PROXIED) {
		ck_assert_uint_gt(header.source.length, 0);
		ck_assert_int_eq(header.source.any.sa_family, header.destination.any.sa_family);
		ck_assert_str_ne(socket_address_format(&header.source, text, sizeof(text)), "unknown");
	} else {
		ck_assert_uint_eq(header.source.length, 0);
		ck_assert_uint_eq(header.destination.length, 0);
	}
}

TEST(no_mutation_of_one_byte_breaks_the_parser)
{
	for (size_t i = 0; i < VALID_COUNT; i++)
		for (size_t at = 0; at < valid[i].length; at++)
			for (int byte = 0; byte < 256; byte++) {
				char bytes[256];
				memcpy(bytes, valid[i].bytes, valid[i].length);
				bytes[at] = (char)byte;
				check_sane(parse(bytes, valid[i].length), valid[i].length);
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

/* NOLINTEND(bugprone-not-null-terminated-result) */
