/* A list of trusted sources: addresses and prefixes, matched bit by bit. */

#include <errno.h>
#include <string.h>

#include "ferry/proxy_protocol.h"

#include "samples.h"
#include "test.h"

static struct ferry_proxy_protocol_sources *sources;

static void set_up(void)
{
	ck_assert_int_eq(ferry_proxy_protocol_sources_new(&sources), 0);
}

static void tear_down(void)
{
	ferry_proxy_protocol_sources_free(sources);
}

static bool contains(const char *host)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(99)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(99)};
	if (inet_pton(AF_INET, host, &in.sin_addr) == 1)
		return ferry_proxy_protocol_sources_contain(sources, (struct sockaddr *)&in, sizeof(in));
	ck_assert_int_eq(inet_pton(AF_INET6, host, &in6.sin6_addr), 1);
	return ferry_proxy_protocol_sources_contain(sources, (struct sockaddr *)&in6, sizeof(in6));
}

static void add(const char *text)
{
	ck_assert_int_eq(ferry_proxy_protocol_sources_add(sources, text), 0);
}

TEST_CASE("sources", set_up, tear_down);

TEST(an_empty_list_contains_nothing)
{
	ck_assert(!contains("127.0.0.1"));
	ck_assert(!contains("::"));
}

TEST(an_address_is_matched_as_a_whole)
{
	add("192.0.2.1");
	add("2001:db8::1");
	ck_assert(contains("192.0.2.1"));
	ck_assert(!contains("192.0.2.0"));
	ck_assert(!contains("192.0.2.3"));
	ck_assert(contains("2001:db8::1"));
	ck_assert(!contains("2001:db8::2"));
}

TEST(every_length_of_a_prefix_is_matched)
{
	for (unsigned int bits = 0; bits <= 32; bits++) {
		char text[32], host[INET_ADDRSTRLEN];
		uint32_t mask = bits == 0 ? 0 : UINT32_MAX << (32 - bits);
		struct in_addr first = {htonl(0xc0a8a5a5 & mask)}, last = {htonl(0xc0a8a5a5 | ~mask)};
		struct in_addr outside = {htonl(0xc0a8a5a5 ^ (bits == 0 ? 0 : 1U << (32 - bits)))};
		tear_down();
		set_up();
		inet_ntop(AF_INET, &first, host, sizeof(host));
		(void)snprintf(text, sizeof(text), "%s/%u", host, bits);
		add(text);
		ck_assert(contains(host));
		ck_assert(contains(inet_ntop(AF_INET, &last, host, sizeof(host))));
		ck_assert(contains(inet_ntop(AF_INET, &outside, host, sizeof(host))) == (bits == 0));
	}
}

TEST(a_prefix_of_ipv6_does_not_cover_ipv4)
{
	add("::/0");
	ck_assert(contains("::1"));
	ck_assert(contains("2001:db8::1"));
	ck_assert(!contains("127.0.0.1"));
	ck_assert(!contains("::ffff:127.0.0.1"));
	add("0.0.0.0/0");
	ck_assert(contains("127.0.0.1"));
}

TEST(ipv4_in_ipv6_is_ipv4)
{
	add("10.0.0.0/8");
	ck_assert(contains("::ffff:10.1.2.3"));
	ck_assert(!contains("::ffff:11.1.2.3"));
	add("::ffff:192.0.2.0/120");
	ck_assert(contains("192.0.2.200"));
	ck_assert(!contains("192.0.3.200"));
}

TEST(unix_peers_are_matched_by_their_family)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const struct sockaddr *address = (struct sockaddr *)&un;
	add("0.0.0.0/0");
	ck_assert(!ferry_proxy_protocol_sources_contain(sources, address, 2));
	add("unix");
	ck_assert(ferry_proxy_protocol_sources_contain(sources, address, 2));
	ck_assert(ferry_proxy_protocol_sources_contain(sources, address, sizeof(un)));
	ck_assert(!contains("::1"));
}

TEST(a_list_may_be_long)
{
	char text[32];
	for (int i = 0; i < 1000; i++) {
		(void)snprintf(text, sizeof(text), "10.%d.%d.0/24", i / 256, i % 256);
		add(text);
	}
	ck_assert(contains("10.3.231.9"));
	ck_assert(!contains("10.3.232.9"));
}

TEST(other_texts_are_refused)
{
	static const char *const texts[] = {
	    "",
	    "localhost",
	    "192.0.2.1/",
	    "192.0.2.1/33",
	    "192.0.2.1/31",
	    "192.0.2.0/024",
	    "10.0.0.0/8 ",
	    " 10.0.0.0/8",
	    "10.0.0.0/-8",
	    "10.0.0.0/8/8",
	    "10.0.0/8",
	    "::/129",
	    "::1/127",
	    "2001:db8::/0",
	    "fe80::1%lo",
	    "[::1]",
	    "127.0.0.1:80",
	    "unix:/path",
	    "UNIX",
	    "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc"};
	for (int i = 0; i < COUNT(texts); i++)
		ck_assert_int_eq(ferry_proxy_protocol_sources_add(sources, texts[i]), -EINVAL);
	ck_assert(!contains("10.0.0.0"));
}

TEST(arguments_are_checked)
{
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	struct sockaddr other = {.sa_family = AF_NETLINK};
	const struct sockaddr *address = (struct sockaddr *)&in;
	add("0.0.0.0/0");
	add("::/0");
	ck_assert_int_eq(ferry_proxy_protocol_sources_new(NULL), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_sources_add(NULL, "::1"), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_sources_add(sources, NULL), -EINVAL);
	ck_assert(!ferry_proxy_protocol_sources_contain(NULL, address, sizeof(in)));
	ck_assert(!ferry_proxy_protocol_sources_contain(sources, NULL, sizeof(in)));
	ck_assert(!ferry_proxy_protocol_sources_contain(sources, address, sizeof(in) - 1));
	ck_assert(!ferry_proxy_protocol_sources_contain(sources, address, 1));
	ck_assert(
	    !ferry_proxy_protocol_sources_contain(sources, (struct sockaddr *)&in6, sizeof(in6) - 1));
	ck_assert(!ferry_proxy_protocol_sources_contain(sources, &other, sizeof(other)));
	ck_assert(ferry_proxy_protocol_sources_contain(sources, address, sizeof(in)));
	ferry_proxy_protocol_sources_free(NULL);
}
