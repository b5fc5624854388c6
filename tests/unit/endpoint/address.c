/* Addresses of sockets as text, and listening on them. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ferry/address.h"
#include "recorder.h"

static struct ferry_address address;
static char text[FERRY_ADDRESS_TEXT_SIZE];

static const char *format(const struct ferry_address *which)
{
	return ferry_address_format(which, text, sizeof(text));
}

/* As the kernel gives a path, with or without its zero. */
static int set_unix(const void *path, size_t length)
{
	struct sockaddr_storage name = {.ss_family = AF_UNIX};
	const size_t at = offsetof(struct sockaddr_un, sun_path);

	memcpy((char *)&name + at, path, length);
	return ferry_address_set(&address, (const struct sockaddr *)&name, (socklen_t)(at + length));
}

TEST_CASE("text");

TEST(an_address_survives_being_written)
{
	static const char *const texts[] = {
	    "127.0.0.1:8080", "0.0.0.0:0", "255.255.255.255:65535",  "[::1]:8080",
	    "[::]:0",         "unix:/a",   "unix:relative/www.sock", "[2001:db8::ff00:42:8329]:443",
	    "unix:@name",     "unix:@/x:y"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		ck_assert_int_eq(ferry_address_parse(&address, texts[i]), 0);
		ck_assert_str_eq(format(&address), texts[i]);
	}
}

TEST(what_is_no_address_is_refused)
{
	static const char *const texts[] = {
	    "",
	    "8080",
	    ":8080",
	    "127.0.0.1",
	    "127.0.0.1:",
	    "127.0.0.1:65536",
	    "1.2.3:80",
	    "1.2.3.4:-1",
	    "1.2.3.4: 80",
	    "1.2.3.4:80 ",
	    "localhost:80",
	    "[::1]",
	    "[::1]:",
	    "::1:80",
	    "[::1:80",
	    "[127.0.0.1]:80",
	    "[]:80",
	    "[:80",
	    "]:80",
	    "[::1]x:80",
	    "unix:",
	    "unix:@",
	    "1.2.3.4:000080",
	    "/run/www.sock",
	    "1.2.3.4.:80",
	    "[::g]:80",
	    "[:::::::::::::::::::::::::::::::::::::::::::::::::::::::]:80"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		ck_assert_msg(ferry_address_parse(&address, texts[i]) == -EINVAL, "%s", texts[i]);
}

TEST(a_host_of_any_length_is_read)
{
	for (int length = 1; length < 200; length++) {
		char host[256];
		snprintf(host, sizeof(host), "[%0*d]:80", length, 0);
		ck_assert_int_eq(ferry_address_parse(&address, host), -EINVAL);
		snprintf(host, sizeof(host), "%0*d:80", length, 0);
		ck_assert_int_eq(ferry_address_parse(&address, host), -EINVAL);
	}
	ck_assert_int_eq(
	    ferry_address_parse(&address, "[0000:0000:0000:0000:0000:ffff:255.255.255.255]:80"), 0);
	ck_assert_str_eq(format(&address), "[::ffff:255.255.255.255]:80");
}

TEST(a_unix_path_has_to_fit)
{
	char path[128];
	memset(path, 'x', sizeof(path));
	memcpy(path, "unix:", 5);
	path[5 + 107] = '\0';
	ck_assert_int_eq(ferry_address_parse(&address, path), 0);
	ck_assert_uint_eq(address.length, sizeof(struct sockaddr_un));
	path[5 + 107] = 'x';
	path[5 + 108] = '\0';
	ck_assert_int_eq(ferry_address_parse(&address, path), -ENAMETOOLONG);
	path[5] = '@'; /* an abstract name has no zero at its end */
	ck_assert_int_eq(ferry_address_parse(&address, path), 0);
	path[5 + 108] = 'x';
	path[5 + 109] = '\0';
	ck_assert_int_eq(ferry_address_parse(&address, path), -ENAMETOOLONG);
}

TEST(a_path_is_written_without_what_a_terminal_or_a_page_would_act_on)
{
	ck_assert_int_eq(set_unix("/a b\n\x1b\xff\\", 8), 0);
	ck_assert_str_eq(format(&address), "unix:/a\\x20b\\x0a\\x1b\\xff\\x5c");
	ck_assert_int_eq(set_unix("\0a\0b", 4), 0);
	ck_assert_str_eq(format(&address), "unix:@a\\x00b");
	ck_assert_int_eq(set_unix("", 0), 0);
	ck_assert_str_eq(format(&address), "unix:");
	ck_assert_str_eq(format(&(struct ferry_address){.length = 0}), "unknown");
	ck_assert_int_eq(set_unix("/a\0b", 4), 0); /* the zero ends the path */
	ck_assert_str_eq(format(&address), "unix:/a");
}

TEST(the_longest_path_has_room_and_another_is_cut)
{
	char path[109];
	memset(path, '\n', sizeof(path));
	ck_assert_int_eq(set_unix(path, 108), 0);
	ck_assert_uint_eq(strlen(ferry_address_get_path(&address)), 108);
	ck_assert_uint_eq(strlen(format(&address)), 5 + 4 * 108);
	for (size_t size = 1; size < 20; size++) {
		char *out = malloc(size);
		ck_assert_ptr_nonnull(out);
		ck_assert_uint_lt(strlen(ferry_address_format(&address, out, size)), size);
		free(out);
	}
	ck_assert_int_eq(set_unix(path, sizeof(path)), -EINVAL);
}

TEST(an_ipv4_address_is_written_as_it_was_read_and_is_cut_where_the_room_ends)
{
	static const char *const texts[] = {"0.0.0.0:0", "1.9.10.99:9", "100.101.199.200:10000",
	                                    "255.255.255.255:65535"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		ck_assert_int_eq(ferry_address_parse(&address, texts[i]), 0);
		ck_assert_str_eq(format(&address), texts[i]);
		for (size_t size = 1; size <= strlen(texts[i]); size++) {
			char *out = malloc(size);
			ck_assert_ptr_nonnull(out);
			ck_assert_uint_eq(strlen(ferry_address_format(&address, out, size)), size - 1);
			ck_assert_int_eq(memcmp(out, texts[i], size - 1), 0);
			free(out);
		}
	}
}

TEST(a_host_is_written_without_its_port)
{
	ck_assert_int_eq(ferry_address_parse(&address, "[2001:db8::1]:443"), 0);
	ck_assert_str_eq(ferry_address_format_host(&address, text, sizeof(text)), "2001:db8::1");
	ck_assert_int_eq(ferry_address_parse(&address, "192.0.2.7:80"), 0);
	ck_assert_str_eq(ferry_address_format_host(&address, text, sizeof(text)), "192.0.2.7");
	ck_assert_int_eq(ferry_address_parse(&address, "unix:/a"), 0);
	ck_assert_str_eq(ferry_address_format_host(&address, text, sizeof(text)), "unix:/a");
}

TEST_CASE("compared");

TEST(addresses_are_compared_with_their_ports)
{
	static const char *const texts[] = {"127.0.0.1:1", "127.0.0.1:2", "127.0.0.2:1",
	                                    "[::1]:1",     "[::1]:2",     "[::2]:1",
	                                    "unix:a",      "unix:b",      "unix:@a"};
	enum { COUNT = sizeof(texts) / sizeof(texts[0]) };
	for (size_t i = 0; i < COUNT; i++)
		for (size_t j = 0; j < COUNT; j++) {
			struct ferry_address other;
			ck_assert_int_eq(ferry_address_parse(&address, texts[i]), 0);
			ck_assert_int_eq(ferry_address_parse(&other, texts[j]), 0);
			ck_assert(ferry_address_equal(&address, &other) == (i == j));
		}
	struct ferry_address as_long;
	ck_assert_int_eq(ferry_address_parse(&address, "0.0.0.0:0"), 0);
	ck_assert_int_eq(ferry_address_parse(&as_long, "unix:1234567890123"), 0);
	ck_assert_uint_eq(as_long.length, address.length);
	ck_assert(!ferry_address_equal(&as_long, &address));
	struct ferry_address none = {.length = 0};
	ck_assert(ferry_address_equal(&none, &(struct ferry_address){.length = 0}));
	ck_assert(!ferry_address_equal(&none, &address));
}

TEST(what_the_kernel_gives_is_taken_over)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/run/x"};
	socklen_t with_zero = offsetof(struct sockaddr_un, sun_path) + 7;
	struct ferry_address other;
	ck_assert_int_eq(ferry_address_set(&address, (struct sockaddr *)&un, with_zero), 0);
	ck_assert_int_eq(ferry_address_set(&other, (struct sockaddr *)&un, sizeof(un)), 0);
	ck_assert(ferry_address_equal(&address, &other));
	ck_assert_int_eq(ferry_address_set(&other, (struct sockaddr *)&un, with_zero - 1), 0);
	ck_assert(ferry_address_equal(&address, &other));
	ck_assert_int_eq(ferry_address_set(&address, (struct sockaddr *)&un, sizeof(sa_family_t)), 0);
	ck_assert_str_eq(format(&address), "unix:");

	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(7)};
	ck_assert_int_eq(ferry_address_set(&address, (struct sockaddr *)&in, sizeof(in)), 0);
	ck_assert_str_eq(format(&address), "0.0.0.0:7");
	ck_assert_int_eq(ferry_address_set(&address, (struct sockaddr *)&in, sizeof(in) - 1), -EINVAL);
	ck_assert_int_eq(ferry_address_set(&address, (struct sockaddr *)&in, 1), -EINVAL);
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	ck_assert_int_eq(ferry_address_set(&address, (struct sockaddr *)&in6, sizeof(in6) - 1),
	                 -EINVAL);
	struct sockaddr_storage other_family = {.ss_family = AF_NETLINK};
	ck_assert_int_eq(
	    ferry_address_set(&address, (struct sockaddr *)&other_family, sizeof(other_family)),
	    -EAFNOSUPPORT);
}

static void listen_and_connect(const char *where)
{
	ck_assert_int_eq(ferry_address_parse(&address, where), 0);
	int fd = ferry_address_listen(&address, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
	struct sockaddr_storage name = {0};
	socklen_t length = sizeof(name);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&name, &length), 0);
	int client = socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(client, 0);
	ck_assert_int_eq(connect(client, (struct sockaddr *)&name, length), 0);
	ck_assert_int_eq(ferry_address_set_own(&address, fd), 0);
	struct ferry_address peer;
	ck_assert_int_eq(ferry_address_set_peer(&peer, client), 0);
	ck_assert(ferry_address_equal(&peer, &address));
	close(client);
	close(fd);
}

TEST(only_a_file_has_a_path)
{
	ck_assert_int_eq(ferry_address_parse(&address, "unix:/a"), 0);
	ck_assert_str_eq(ferry_address_get_path(&address), "/a");
	static const char *const others[] = {"unix:@a", "127.0.0.1:1", "[::1]:1"};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		ck_assert_int_eq(ferry_address_parse(&address, others[i]), 0);
		ck_assert_ptr_null(ferry_address_get_path(&address));
	}
	ck_assert_int_eq(set_unix("", 0), 0);
	ck_assert_ptr_null(ferry_address_get_path(&address));
	ck_assert_ptr_null(ferry_address_get_path(NULL));
}

TEST(loopback_is_that_of_tcp)
{
	static const char *const inside[] = {"127.0.0.1:1", "127.255.0.9:1", "[::1]:1"};
	static const char *const outside[] = {"128.0.0.1:1", "0.0.0.0:1", "[::2]:1",
	                                      "[::ffff:127.0.0.1]:1", "unix:/a"};
	for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
		ck_assert_int_eq(ferry_address_parse(&address, inside[i]), 0);
		ck_assert(ferry_address_is_loopback(&address));
	}
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		ck_assert_int_eq(ferry_address_parse(&address, outside[i]), 0);
		ck_assert(!ferry_address_is_loopback(&address));
	}
	ck_assert(!ferry_address_is_loopback(&(struct ferry_address){.length = 0}));
	ck_assert(!ferry_address_is_loopback(NULL));
}

TEST_CASE("arguments");

TEST(null_and_other_descriptors_are_refused_and_change_nothing)
{
	struct ferry_address before;
	int fds[2];
	ck_assert_int_eq(ferry_address_parse(&address, "127.0.0.1:1"), 0);
	before = address;
	ck_assert_int_eq(ferry_address_parse(NULL, "127.0.0.1:1"), -EINVAL);
	ck_assert_int_eq(ferry_address_parse(&address, NULL), -EINVAL);
	ck_assert_int_eq(ferry_address_set(NULL, &before.name.any, before.length), -EINVAL);
	ck_assert_int_eq(ferry_address_set(&address, NULL, before.length), -EINVAL);
	ck_assert_int_eq(ferry_address_set(&address, &before.name.any, 1000), -EINVAL);
	make_pipe(fds);
	ck_assert_int_eq(ferry_address_set_own(NULL, fds[0]), -EINVAL);
	ck_assert_int_eq(ferry_address_set_peer(NULL, fds[0]), -EINVAL);
	ck_assert_int_eq(ferry_address_set_own(&address, fds[0]), -ENOTSOCK);
	ck_assert_int_eq(ferry_address_set_peer(&address, -1), -EBADF);
	close(fds[0]);
	close(fds[1]);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ferry_address_set_peer(&address, fd), -ENOTCONN);
	close(fd);
	ck_assert(ferry_address_equal(&address, &before));
	ck_assert(!ferry_address_equal(&address, NULL) && !ferry_address_equal(NULL, &address));
	ck_assert_str_eq(ferry_address_format(NULL, text, sizeof(text)), "unknown");
	ck_assert_ptr_eq(ferry_address_format(&address, text, 0), text);
	ck_assert_ptr_null(ferry_address_format(NULL, NULL, 10));
	ck_assert_ptr_null(ferry_address_format_host(NULL, NULL, 10));
	ck_assert_str_eq(text, "unknown");
}

TEST(only_an_address_is_listened_on)
{
	ck_assert_int_eq(ferry_address_parse(&address, "127.0.0.1:0"), 0);
	ck_assert_int_eq(ferry_address_listen(&address, -1), -EINVAL);
	ck_assert_int_eq(ferry_address_listen(&(struct ferry_address){.length = 0}, 0), -EINVAL);
	ck_assert_int_eq(ferry_address_listen(NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_address_parse(&address, "192.0.2.1:0"), 0);
	ck_assert_int_eq(ferry_address_listen(&address, 0), -EADDRNOTAVAIL);
	ck_assert_int_eq(ferry_address_parse(&address, "unix:/nowhere/at/all"), 0);
	ck_assert_int_eq(ferry_address_listen(&address, 0), -ENOENT);
}

TEST_CASE("listening");

TEST(every_kind_of_address_is_listened_on)
{
	listen_and_connect("127.0.0.1:0");
	ck_assert_uint_ne(address.name.in.sin_port, 0);
	int ipv6 = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (ipv6 >= 0) {
		struct sockaddr_in6 loopback = {.sin6_family = AF_INET6,
		                                .sin6_addr = IN6ADDR_LOOPBACK_INIT};
		if (bind(ipv6, (struct sockaddr *)&loopback, sizeof(loopback)) == 0)
			listen_and_connect("[::1]:0");
		close(ipv6);
	}
	char name[64];
	snprintf(name, sizeof(name), "unix:@ferry-address-%d", (int)getpid());
	listen_and_connect(name);
	ck_assert_str_eq(format(&address), name);
}

TEST(a_path_is_for_its_owner_alone_and_must_be_free)
{
	char directory[] = "/tmp/ferry-test-XXXXXX", name[64];
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(name, sizeof(name), "unix:%s/s", directory);
	mode_t mask = umask(0);
	ck_assert_int_eq(ferry_address_parse(&address, name), 0);
	int fd = ferry_address_listen(&address, 0);
	umask(mask);
	ck_assert_int_ge(fd, 0);
	struct stat status;
	ck_assert_int_eq(stat(name + 5, &status), 0);
	ck_assert_uint_eq(status.st_mode & 0777, 0600);
	ck_assert_int_eq(ferry_address_listen(&address, 0), -EADDRINUSE);
	close(fd);
	unlink(name + 5);
	rmdir(directory);
}

TEST(a_port_that_is_taken_is_told)
{
	ck_assert_int_eq(ferry_address_parse(&address, "127.0.0.1:0"), 0);
	int fd = ferry_address_listen(&address, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ferry_address_set_own(&address, fd), 0);
	ck_assert_int_eq(ferry_address_listen(&address, 0), -EADDRINUSE);
	close(fd);
}

/* ---- the peer of a transport ---- */

static const char *peer_of(struct ferry_transport *transport)
{
	return ferry_transport_format_peer(transport, text, sizeof(text));
}

TEST_CASE("the peer of a transport");

TEST(a_transport_has_the_address_of_its_peer)
{
	char expected[FERRY_ADDRESS_TEXT_SIZE], own[FERRY_ADDRESS_TEXT_SIZE];
	int ends[2];

	make_pair(PAIR_TCP, ends);
	struct ferry_transport *transport = make_transport(ends[0]);
	ck_assert_int_eq(ferry_address_set_own(&address, ends[1]), 0);
	ferry_address_format(&address, expected, sizeof(expected));
	ck_assert_str_eq(peer_of(transport), expected);
	ck_assert_int_eq(ferry_address_set_own(&address, ends[0]), 0);
	ferry_address_format(&address, own, sizeof(own));
	ck_assert_str_ne(peer_of(transport), own);
	ck_assert_ptr_eq(ferry_transport_format_peer(transport, own, 4), own);
	ck_assert_str_eq(own, "127");
	own[0] = 'x';
	ck_assert_ptr_eq(ferry_transport_format_peer(transport, own, 0), own);
	ck_assert_ptr_null(ferry_transport_format_peer(transport, NULL, sizeof(own)));
	ck_assert_int_eq(own[0], 'x');
	ferry_transport_free(transport);
	close(ends[1]);
}

TEST(a_peer_without_an_address_has_a_text)
{
	struct ferry_transport *transport = NULL;
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	transport = make_transport(ends[0]);
	ck_assert_str_eq(peer_of(transport), "unix:");
	ferry_transport_free(transport);
	close(ends[1]);
	make_pipe(ends);
	ck_assert_int_eq(ferry_transport_new_pipes(&transport, base, ends[0], ends[1]), 0);
	ck_assert_str_eq(peer_of(transport), "unknown");
	ferry_transport_free(transport);
	ck_assert_str_eq(peer_of(NULL), "unknown");
}

/* They may be of two connections. */
LOOP_TEST_FROM(a_transport_on_two_descriptors_that_are_sockets_has_no_peer, PAIR_UNIX, PAIR_TCP + 1)
{
	struct ferry_transport *transport = NULL;
	int in[2], out[2];

	make_pair((enum pair_kind)_i, in);
	make_pair((enum pair_kind)_i, out);
	ck_assert_int_eq(ferry_transport_new_pipes(&transport, base, in[0], out[0]), 0);
	ck_assert_str_eq(peer_of(transport), "unknown");
	ferry_transport_free(transport);
	close(in[1]);
	close(out[1]);
}
