/* The encoding of a client's address in the blob of a handoff. */

#include "programs/shared/client_address.h"
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct client_address sent, got;
static unsigned char blob[CLIENT_ADDRESS_MAX];

/* The decoder gets an exact heap copy: a sanitizer detects a read past the end. */
static int get(const void *bytes, size_t length)
{
	void *copy = malloc(length > 0 ? length : 1);
	ck_assert_ptr_nonnull(copy);
	memcpy(copy, bytes, length);
	int status = client_address_get(&got, copy, length);
	free(copy);
	return status;
}

static void parse(struct ferry_address *address, const char *text)
{
	if (text == NULL)
		memset(address, 0, sizeof(*address));
	else
		ck_assert_int_eq(ferry_address_parse(address, text), 0);
}

/* As the kernel gives a path of any bytes. */
static void set_unix(struct ferry_address *address, const void *path, size_t length)
{
	struct sockaddr_storage name = {.ss_family = AF_UNIX};
	size_t at = offsetof(struct sockaddr_un, sun_path);
	memcpy((char *)&name + at, path, length);
	ck_assert_int_eq(ferry_address_set(address, (struct sockaddr *)&name, (socklen_t)(at + length)),
	                 0);
}

static const char *const texts[] = {NULL, "192.0.2.1:65534", "[2001:db8::1]:443", "unix:/run/x",
                                    "unix:@x"};

enum { TEXTS = sizeof(texts) / sizeof(texts[0]) };

TEST_CASE("encoding");

TEST(every_pair_of_addresses_arrives)
{
	for (size_t i = 0; i < TEXTS; i++)
		for (size_t j = 0; j < TEXTS; j++)
			for (int flags = 0; flags < 4; flags++) {
				parse(&sent.client, texts[i]);
				parse(&sent.server, texts[j]);
				sent.proxied = (flags & 1) != 0;
				sent.routes_each = (flags & 2) != 0;
				size_t length = client_address_put(&sent, blob);
				memset(&got, 0xa5, sizeof(got));
				ck_assert_int_eq(get(blob, length), 0);
				ck_assert(ferry_address_equal(&got.client, &sent.client));
				ck_assert(ferry_address_equal(&got.server, &sent.server));
				ck_assert(got.proxied == sent.proxied);
				ck_assert(got.routes_each == sent.routes_each);
			}
}

TEST(the_encoding_is_the_one_that_is_written_down)
{
	static const unsigned char expected[] = {
	    'f', 'C', 'l', 'i', 2, 1, 16, AF_INET, 0, 0x1f, 0x90, 192, 0,   2,   1,   0, 0,
	    0,   0,   0,   0,   0, 0, 9,  AF_UNIX, 0, '/',  'r',  'u', 'n', '/', 'x', 0};
	parse(&sent.client, "192.0.2.1:8080");
	set_unix(&sent.server, "/run/x", 6);
	sent.proxied = true;
	sent.routes_each = false;
	ck_assert_uint_eq(client_address_put(&sent, blob), sizeof(expected));
	ck_assert_mem_eq(blob, expected, sizeof(expected));
}

TEST(the_longest_addresses_fit)
{
	char path[108];
	memset(path, 'x', sizeof(path));
	set_unix(&sent.client, path, sizeof(path));
	set_unix(&sent.server, path, sizeof(path));
	ck_assert_uint_eq(client_address_put(&sent, blob), CLIENT_ADDRESS_MAX);
	ck_assert_int_eq(get(blob, CLIENT_ADDRESS_MAX), 0);
	ck_assert(ferry_address_equal(&got.client, &sent.client));
	ck_assert(ferry_address_equal(&got.server, &sent.server));
}

TEST(a_socket_without_a_name_is_told_from_none)
{
	parse(&sent.client, NULL);
	set_unix(&sent.server, "", 0);
	size_t length = client_address_put(&sent, blob);
	ck_assert_uint_eq(length, 10);
	ck_assert_int_eq(get(blob, length), 0);
	ck_assert_uint_eq(got.client.length, 0);
	ck_assert(ferry_address_equal(&got.server, &sent.server));
	ck_assert_int_eq(get(blob, length - 1), -EPROTO);
}

TEST(nothing_but_a_whole_encoding_is_taken)
{
	for (size_t i = 0; i < TEXTS; i++)
		for (size_t j = 0; j < TEXTS; j++) {
			unsigned char longer[CLIENT_ADDRESS_MAX + 1] = {0};
			parse(&sent.client, texts[i]);
			parse(&sent.server, texts[j]);
			size_t whole = client_address_put(&sent, longer);
			for (size_t length = 0; length < whole; length++)
				ck_assert_int_eq(get(longer, length), -EPROTO);
			ck_assert_int_eq(get(longer, whole), 0);
			ck_assert_int_eq(get(longer, whole + 1), -EPROTO);
		}
}

#define ck_get(bytes, status) ck_assert_int_eq(get(bytes, sizeof(bytes) - 1), status)

TEST(what_is_no_encoding_is_refused_and_changes_nothing)
{
	ck_get("fCli\x02\x00\x00\x00", 0);
	parse(&got.client, "1.2.3.4:5");
	ck_get("fClj\x02\x00\x00\x00", -EPROTO);
	ck_get("fCli\x01\x00\x00\x00", -EPROTONOSUPPORT);
	ck_get("fCli\x03\x00\x00\x00", -EPROTONOSUPPORT);
	ck_get("fCli\x02\x04\x00\x00", -EPROTO);
	ck_get("fCli\x02\x00\x02\x10\x00\x00", -EPROTO); /* AF_NETLINK */
	ck_get("fCli\x02\x00\x00\x01\x01", -EPROTO);
	ck_get("fCli\x02\x00\x00\xff\x01\x00", -EPROTO);
	ck_get("fCli\x02\x00\x00\x05\x01\x00/x\x00y", -EPROTO); /* behind the zero */
	ck_get("fCli\x02\x00\x00\x04\x01\x00/x", -EPROTO);      /* without it */
	ck_assert_uint_eq(got.client.length, sizeof(struct sockaddr_in));
}

TEST(no_mutation_of_one_byte_breaks_the_decoder)
{
	for (size_t i = 0; i < TEXTS; i++) {
		parse(&sent.client, texts[i]);
		parse(&sent.server, texts[TEXTS - 1 - i]);
		size_t length = client_address_put(&sent, blob);
		for (size_t at = 0; at < length; at++)
			for (int byte = 0; byte < 256; byte++) {
				unsigned char mutated[CLIENT_ADDRESS_MAX], again[CLIENT_ADDRESS_MAX];
				memcpy(mutated, blob, length);
				mutated[at] = (unsigned char)byte;
				int status = get(mutated, length);
				ck_assert(status == 0 || status == -EPROTO || status == -EPROTONOSUPPORT);
				if (status < 0)
					continue;
				ck_assert_uint_eq(client_address_put(&got, again), length);
				ck_assert_mem_eq(again, mutated, length);
			}
	}
}

TEST_CASE("sockets");

TEST(a_socket_tells_both_of_its_ends)
{
	int fds[2];
	make_pair(PAIR_TCP, fds);
	struct client_address other;
	ck_assert_int_eq(client_address_of_socket(&got, fds[0]), 0);
	ck_assert_int_eq(client_address_of_socket(&other, fds[1]), 0);
	ck_assert(ferry_address_equal(&got.client, &other.server));
	ck_assert(ferry_address_equal(&got.server, &other.client));
	ck_assert(!ferry_address_equal(&got.client, &got.server));
	ck_assert(!got.proxied);
	close(fds[0]);
	close(fds[1]);

	make_pair(PAIR_UNIX, fds);
	char text[FERRY_ADDRESS_TEXT_SIZE];
	ck_assert_int_eq(client_address_of_socket(&got, fds[0]), 0);
	ck_assert_str_eq(ferry_address_format(&got.client, text, sizeof(text)), "unix:");
	close(fds[0]);
	close(fds[1]);

	make_pipe(fds);
	got.proxied = true;
	ck_assert_int_eq(client_address_of_socket(&got, fds[0]), -ENOTSOCK);
	ck_assert(got.proxied);
	close(fds[0]);
	close(fds[1]);
}
