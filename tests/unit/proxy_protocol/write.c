/* A header is written in both versions, and read back. */

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "ferry/proxy_protocol.h"

#include "samples.h"
#include "test.h"

/* NOLINTBEGIN(bugprone-not-null-terminated-result): these are bytes, and no strings */

static struct ferry_proxy_protocol *header;
static struct evbuffer *output;

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

static void set_up(void)
{
	ck_assert_int_eq(ferry_proxy_protocol_new(&header), 0);
	output = evbuffer_new();
}

static void tear_down(void)
{
	ferry_proxy_protocol_free(header);
	evbuffer_free(output);
}

static socklen_t fill(union address *address, const char *host, unsigned int port)
{
	memset(address, 0, sizeof(*address));
	if (inet_pton(AF_INET, host, &address->in.sin_addr) == 1) {
		address->in.sin_family = AF_INET;
		address->in.sin_port = htons((uint16_t)port);
		return sizeof(address->in);
	}
	ck_assert_int_eq(inet_pton(AF_INET6, host, &address->in6.sin6_addr), 1);
	address->in6.sin6_family = AF_INET6;
	address->in6.sin6_port = htons((uint16_t)port);
	return sizeof(address->in6);
}

static socklen_t fill_unix(union address *address, const char *path, size_t length)
{
	memset(address, 0, sizeof(*address));
	address->un.sun_family = AF_UNIX;
	memcpy(address->un.sun_path, path, length);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

static int set(int type, const char *source, unsigned int source_port, const char *destination,
               unsigned int destination_port)
{
	union address from, to;
	socklen_t from_length = fill(&from, source, source_port);
	socklen_t to_length = fill(&to, destination, destination_port);
	return ferry_proxy_protocol_set_addresses(header, type, &from.any, from_length, &to.any,
	                                          to_length);
}

/* Writes the header, compares the bytes, and empties the output. */
static void check_written(unsigned int version, const void *bytes, size_t length)
{
	ck_assert_int_eq(ferry_proxy_protocol_write(header, version, output), 0);
	ck_assert_uint_eq(evbuffer_get_length(output), length);
	ck_assert_mem_eq(evbuffer_pullup(output, -1), bytes, length);
	evbuffer_drain(output, length);
}

#define ck_written(version, text) check_written(version, text, sizeof(text) - 1)

/* What is written in version 2 is read back with the same contents. */
static void check_read_back(void)
{
	struct ferry_proxy_protocol *copy;
	struct ferry_proxy_protocol_info info, info_of_copy;
	ck_assert_int_eq(ferry_proxy_protocol_write(header, 2, output), 0);
	ck_assert_int_eq(ferry_proxy_protocol_read(&copy, output, FERRY_PROXY_PROTOCOL_V2_MAX, NULL),
	                 0);
	ck_assert_uint_eq(evbuffer_get_length(output), 0);
	ck_assert_int_eq(ferry_proxy_protocol_get_info(header, &info), 0);
	ck_assert_int_eq(ferry_proxy_protocol_get_info(copy, &info_of_copy), 0);
	ck_assert_int_eq(info.kind, info_of_copy.kind);
	ck_assert_int_eq(info.socket_type, info_of_copy.socket_type);
	ck_assert(info.has_checksum == info_of_copy.has_checksum);
	ck_assert_uint_eq(info.source_length, info_of_copy.source_length);
	ck_assert_uint_eq(info.destination_length, info_of_copy.destination_length);
	if (info.source_length > 0) {
		ck_assert_mem_eq(info.source, info_of_copy.source, info.source_length);
		ck_assert_mem_eq(info.destination, info_of_copy.destination, info.destination_length);
	}
	ck_assert_uint_eq(info.tlvs_length, info_of_copy.tlvs_length);
	if (info.tlvs_length > 0)
		ck_assert_mem_eq(info.tlvs, info_of_copy.tlvs, info.tlvs_length);
	ferry_proxy_protocol_free(copy);
}

TEST_CASE("addresses", set_up, tear_down);

TEST(addresses_of_ipv4_are_written)
{
	ck_assert_int_eq(set(SOCK_STREAM, "192.0.2.1", 56310, "198.51.100.2", 80), 0);
	ck_written(1, "PROXY TCP4 192.0.2.1 198.51.100.2 56310 80\r\n");
	ck_written(2, V2 "\x21\x11\x00\x0c" INET_BLOCK);
	check_read_back();
}

TEST(addresses_of_ipv6_are_written)
{
	ck_assert_int_eq(set(SOCK_STREAM, "2001:db8::1", 65535, "2001:db8::2", 443), 0);
	ck_written(1, "PROXY TCP6 2001:db8::1 2001:db8::2 65535 443\r\n");
	ck_written(2, V2 "\x21\x21\x00\x24" INET6_BLOCK);
	check_read_back();
}

TEST(the_longest_line_fits)
{
	static const char longest[] = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
	struct ferry_proxy_protocol *copy;
	ck_assert_int_eq(set(SOCK_STREAM, longest, 65535, longest, 65535), 0);
	ck_assert_int_eq(ferry_proxy_protocol_write(header, 1, output), 0);
	ck_assert_uint_eq(evbuffer_get_length(output), 104); /* the longest one is of UNKNOWN */
	ck_assert_int_eq(ferry_proxy_protocol_read(&copy, output, 0, NULL), 0);
	ferry_proxy_protocol_free(copy);
}

TEST(two_families_become_one)
{
	/* A socket for both families has IPv4 in IPv6. */
	ck_assert_int_eq(set(SOCK_STREAM, "::ffff:192.0.2.1", 1, "::ffff:192.0.2.2", 2), 0);
	ck_written(1, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
	ck_assert_int_eq(set(SOCK_STREAM, "::ffff:192.0.2.1", 1, "192.0.2.2", 2), 0);
	ck_written(1, "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
	ck_assert_int_eq(set(SOCK_STREAM, "192.0.2.1", 1, "2001:db8::2", 2), 0);
	ck_written(1, "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 1 2\r\n");
	check_read_back();
}

TEST(version_1_has_no_datagrams_and_no_unix_addresses)
{
	union address from, to;
	ck_assert_int_eq(set(SOCK_DGRAM, "192.0.2.1", 56310, "198.51.100.2", 80), 0);
	ck_written(1, "PROXY UNKNOWN\r\n");
	ck_written(2, V2 "\x21\x12\x00\x0c" INET_BLOCK);
	check_read_back();
	ck_assert_int_eq(ferry_proxy_protocol_set_addresses(header, SOCK_STREAM, &from.any,
	                                                    fill_unix(&from, "/a", 3), &to.any,
	                                                    fill_unix(&to, "\0b\0c", 4)),
	                 0);
	ck_written(1, "PROXY UNKNOWN\r\n");
	check_read_back();
	ck_assert_int_eq(ferry_proxy_protocol_set_addresses(header, SOCK_DGRAM, &from.any,
	                                                    fill_unix(&from, "", 0), &to.any,
	                                                    fill_unix(&to, "/nozero", 7)),
	                 0);
	check_read_back();
}

TEST(the_longest_paths_fit)
{
	struct sockaddr_storage from = {.ss_family = AF_UNIX}, to = {.ss_family = AF_UNIX};
	enum { AT = offsetof(struct sockaddr_un, sun_path) };
	struct ferry_proxy_protocol_info info;
	memset((char *)&from + AT, 'x', 108); /* with a zero behind it, as the kernel returns it */
	memset((char *)&to + AT + 1, 'y', 107);
	const struct sockaddr *source = (struct sockaddr *)&from, *destination = (struct sockaddr *)&to;
	ck_assert_int_eq(ferry_proxy_protocol_set_addresses(header, SOCK_STREAM, source, AT + 109,
	                                                    destination, AT + 108),
	                 0);
	check_read_back();
	/* The addresses may be those of the header itself, in the other order. */
	ck_assert_int_eq(ferry_proxy_protocol_get_info(header, &info), 0);
	ck_assert_int_eq(ferry_proxy_protocol_set_addresses(header, SOCK_STREAM, info.destination,
	                                                    info.destination_length, info.source,
	                                                    info.source_length),
	                 0);
	ck_assert_int_eq(ferry_proxy_protocol_get_info(header, &info), 0);
	ck_assert_mem_eq(info.source, &to, AT + 108);
	ck_assert_mem_eq(info.destination, &from, AT + 109);
	ck_assert_int_eq(ferry_proxy_protocol_set_addresses(header, SOCK_STREAM, source, AT + 110,
	                                                    destination, AT + 1),
	                 -EINVAL);
	((char *)&to)[AT] = 0;
	ck_assert_int_eq(ferry_proxy_protocol_set_addresses(header, SOCK_STREAM, source, AT + 2,
	                                                    destination, AT + 109),
	                 -EINVAL);
}

TEST(a_path_that_fills_sun_path_is_not_read_beyond)
{
	/* getsockname(2) returns a length of 111 for it, although struct sockaddr_un has 110 bytes. */
	long page = sysconf(_SC_PAGESIZE);
	char *pages =
	    mmap(NULL, 2 * (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(pages, MAP_FAILED);
	ck_assert_int_eq(mprotect(pages + page, (size_t)page, PROT_NONE), 0);
	struct sockaddr_un *un = (void *)(pages + page - sizeof(*un));
	un->sun_family = AF_UNIX;
	memset(un->sun_path, 'x', sizeof(un->sun_path));
	const struct sockaddr *address = (const struct sockaddr *)un;
	ck_assert_int_eq(ferry_proxy_protocol_set_addresses(header, SOCK_STREAM, address,
	                                                    sizeof(*un) + 1, address, sizeof(*un)),
	                 0);
	check_read_back();
	munmap(pages, 2 * (size_t)page);
}

TEST(a_header_without_addresses_is_written)
{
	ck_written(1, "PROXY UNKNOWN\r\n");
	ck_written(2, V2 "\x21\x00\x00\x00");
	check_read_back();
	ck_assert_int_eq(set(SOCK_STREAM, "192.0.2.1", 1, "192.0.2.2", 2), 0);
	ck_assert_int_eq(ferry_proxy_protocol_set_local(header), 0);
	ck_written(1, "PROXY UNKNOWN\r\n");
	ck_written(2, V2 "\x20\x00\x00\x00");
	check_read_back();
}

TEST_CASE("TLVs", set_up, tear_down);

TEST(tlvs_and_checksum_are_written)
{
	ck_assert_int_eq(set(SOCK_STREAM, "192.0.2.1", 56310, "198.51.100.2", 80), 0);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 2, "a.bc", 4), 0);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 0xe0, "z", 1), 0);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 4, NULL, 0), 0);
	ck_written(2, V2 "\x21\x11\x00\x1a" INET_BLOCK TLVS);
	check_read_back();
	ck_assert_int_eq(ferry_proxy_protocol_write(header, 1, output), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_proxy_protocol_set_checksum(header, true), 0);
	check_read_back(); /* the reader compares the checksum */
}

TEST(a_checksum_is_that_of_others)
{
	/* As computed by another implementation; see read.c. There a TLV follows it, here it comes last. */
	static const char bytes[] = V2 "\x21\x11\x00\x13" INET_BLOCK "\x03\x00\x04\xc3\xaf\xf7\xf1";
	ck_assert_int_eq(set(SOCK_STREAM, "192.0.2.1", 56310, "198.51.100.2", 80), 0);
	ck_assert_int_eq(ferry_proxy_protocol_set_checksum(header, true), 0);
	check_written(2, bytes, sizeof(bytes) - 1);
	ck_assert_int_eq(ferry_proxy_protocol_write(header, 1, output), -EOPNOTSUPP);
}

TEST(a_header_that_was_read_is_passed_on)
{
	struct ferry_proxy_protocol *passed;
	struct ferry_proxy_protocol_tlv tlv;
	struct evbuffer *input = evbuffer_new();
	evbuffer_add(input, SUMMED, sizeof(SUMMED) - 1);
	ck_assert_int_eq(ferry_proxy_protocol_read(&passed, input, 0, NULL), 0);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(passed, 0xe0, "more", 4), 0);
	ck_assert_int_eq(ferry_proxy_protocol_write(passed, 2, input), 0);
	ferry_proxy_protocol_free(passed);
	ck_assert_int_eq(ferry_proxy_protocol_read(&passed, input, 0, NULL), 0);
	ck_assert_int_eq(ferry_proxy_protocol_find_tlv(&tlv, passed, 0xe0), 0);
	ck_assert_int_eq(ferry_proxy_protocol_find_tlv(&tlv, passed, 0x20), 0);
	ck_assert_uint_eq(tlv.length, 2);
	ferry_proxy_protocol_free(passed);
	evbuffer_free(input);
}

TEST(a_header_that_becomes_too_long_is_refused)
{
	static char bytes[FERRY_PROXY_PROTOCOL_V2_MAX];
	struct ferry_proxy_protocol *longest;
	union address from, to;
	memcpy(bytes, V2 "\x21\x00\xff\xff\xe0\xff\xfc", 19);
	evbuffer_add(output, bytes, sizeof(bytes));
	ck_assert_int_eq(ferry_proxy_protocol_read(&longest, output, FERRY_PROXY_PROTOCOL_V2_MAX, NULL),
	                 0);
	ck_assert_int_eq(ferry_proxy_protocol_write(longest, 2, output), 0);
	ck_assert_mem_eq(evbuffer_pullup(output, -1), bytes, sizeof(bytes));
	socklen_t from_length = fill(&from, "::1", 1), to_length = fill(&to, "::1", 1);
	ck_assert_int_eq(ferry_proxy_protocol_set_addresses(longest, SOCK_STREAM, &from.any,
	                                                    from_length, &to.any, to_length),
	                 0);
	ck_assert_int_eq(ferry_proxy_protocol_write(longest, 2, output), -EMSGSIZE);
	ck_assert_uint_eq(evbuffer_get_length(output), sizeof(bytes));
	ferry_proxy_protocol_free(longest);
}

TEST_CASE("arguments", set_up, tear_down);

TEST(a_frozen_output_is_refused)
{
	evbuffer_freeze(output, 0);
	ck_assert_int_eq(ferry_proxy_protocol_write(header, 1, output), -ENOMEM);
	ck_assert_int_eq(ferry_proxy_protocol_write(header, 2, output), -ENOMEM);
	evbuffer_unfreeze(output, 0);
}

TEST(arguments_are_checked)
{
	union address in, un, other = {.any = {.sa_family = AF_NETLINK}};
	socklen_t in_length = fill(&in, "192.0.2.1", 1), un_length = fill_unix(&un, "/a", 3);
	struct {
		struct ferry_proxy_protocol *header;
		int type;
		const union address *source;
		socklen_t source_length;
		const union address *destination;
		socklen_t destination_length;
		int status;
	} cases[] = {
	    {NULL, SOCK_STREAM, &in, in_length, &in, in_length, -EINVAL},
	    {header, SOCK_RAW, &in, in_length, &in, in_length, -EINVAL},
	    {header, SOCK_STREAM, NULL, in_length, &in, in_length, -EINVAL},
	    {header, SOCK_STREAM, &in, in_length, NULL, in_length, -EINVAL},
	    {header, SOCK_STREAM, &in, 0, &in, in_length, -EINVAL},
	    {header, SOCK_STREAM, &in, in_length, &in, 1, -EINVAL},
	    {header, SOCK_STREAM, &in, in_length - 1, &in, in_length, -EINVAL},
	    {header, SOCK_STREAM, &in, in_length, &in, in_length - 1, -EINVAL},
	    {header, SOCK_STREAM, &in, in_length, &un, un_length, -EAFNOSUPPORT},
	    {header, SOCK_STREAM, &other, in_length, &in, in_length, -EAFNOSUPPORT},
	};
	for (int i = 0; i < COUNT(cases); i++)
		ck_assert_int_eq(ferry_proxy_protocol_set_addresses(
		                     cases[i].header, cases[i].type, (const void *)cases[i].source,
		                     cases[i].source_length, (const void *)cases[i].destination,
		                     cases[i].destination_length),
		                 cases[i].status);
	ck_written(1, "PROXY UNKNOWN\r\n"); /* it stayed as it was */
	ck_assert_int_eq(ferry_proxy_protocol_write(header, 0, output), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_write(header, 3, output), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_write(NULL, 1, output), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_write(header, 1, NULL), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_set_local(NULL), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_set_checksum(NULL, true), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_new(NULL), -EINVAL);
}

/* NOLINTEND(bugprone-not-null-terminated-result) */
