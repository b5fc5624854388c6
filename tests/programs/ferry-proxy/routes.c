/* The routes to services: hosts, prefixes, and paths in disguise. */

#include "programs/ferry-proxy/routes.h"
#include "programs/http/head.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct routes *routes;

enum { DEFAULT = 99 };

static void begin(void)
{
	ck_assert_int_eq(routes_new(&routes), 0);
}

static void add(const char *host, const char *path, unsigned int service)
{
	ck_assert_int_eq(routes_add(routes, host, path, service), 0);
}

static void end(void)
{
	routes_free(routes);
	routes = NULL;
}

/* The texts are exact heap copies: a sanitizer detects a read past the end. */
static int find_bytes(const char *host, size_t host_length, const char *path, size_t path_length)
{
	char *host_copy = malloc(host_length + 1);
	char *path_copy = malloc(path_length + 1);
	ck_assert(host_copy != NULL && path_copy != NULL);
	memcpy(host_copy + 1, host, host_length);
	memcpy(path_copy + 1, path, path_length);
	int found = routes_find(routes, host_copy + 1, host_length, path_copy + 1, path_length);
	free(host_copy);
	free(path_copy);
	return found;
}

static int find(const char *host, const char *path)
{
	return find_bytes(host, strlen(host), path, strlen(path));
}

TEST_CASE("hosts");

TEST(without_a_route_the_default_is_taken)
{
	begin();
	ck_assert_int_eq(find("a", "/"), -ENOENT);
	routes_set_default(routes, 0);
	ck_assert_int_eq(find("a", "/"), 0);
	ck_assert_int_eq(find("", ""), 0);
	routes_set_default(routes, DEFAULT);
	ck_assert_int_eq(find("", ""), DEFAULT);
	end();
}

TEST(a_host_is_compared_without_case_port_and_last_dot)
{
	static const char *const same[] = {"example.org",    "EXAMPLE.org",  "example.org:80",
	                                   "example.org:99", "Example.Org.", "example.org.:8080",
	                                   "example.org:"};
	static const char *const others[] = {"",
	                                     "example.or",
	                                     "xexample.org",
	                                     "example.orgx",
	                                     "org",
	                                     "example.org..",
	                                     "example.org:8o",
	                                     ".example.org",
	                                     "example.org:80:80",
	                                     "example..org",
	                                     "a@example.org",
	                                     "example.org/"};
	begin();
	add("Example.ORG.", NULL, 1);
	routes_set_default(routes, DEFAULT);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		ck_assert_msg(find(same[i], "/") == 1, "%s", same[i]);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		ck_assert_msg(find(others[i], "/") == DEFAULT, "%s", others[i]);
	ck_assert_int_eq(find_bytes("example.org\0", 12, "/", 1), DEFAULT);
	end();
}

TEST(names_have_letters_digits_and_three_signs)
{
	begin();
	add("a-b_cz.0-9", NULL, 1);
	ck_assert_int_eq(find("A-B_CZ.0-9", "/"), 1);
	ck_assert_int_eq(find("a_b_cz.0-9", "/"), -ENOENT);
	ck_assert_int_eq(find("a-b-cz.0-9", "/"), -ENOENT);
	end();
}

TEST(an_ipv6_host_is_the_same_however_it_is_written)
{
	begin();
	add("[2001:DB8:0::1]", NULL, 1);
	add("127.0.0.1", NULL, 2);
	routes_set_default(routes, DEFAULT);
	ck_assert_int_eq(find("[2001:db8::1]", "/"), 1);
	ck_assert_int_eq(find("[2001:db8:0:0::1]:80", "/"), 1);
	ck_assert_int_eq(find("127.0.0.1:80", "/"), 2);
	ck_assert_int_eq(find("[2001:db8::2]", "/"), DEFAULT);
	ck_assert_int_eq(find("2001:db8::1", "/"), DEFAULT);
	ck_assert_int_eq(find("[2001:db8::1", "/"), DEFAULT);
	ck_assert_int_eq(find("[2001:db8::1]x", "/"), DEFAULT);
	ck_assert_int_eq(find("[]", "/"), DEFAULT);
	ck_assert_int_eq(find("[", "/"), DEFAULT);
	end();
}

TEST(a_star_is_every_name_below)
{
	begin();
	add("*.example.org", NULL, 1);
	routes_set_default(routes, DEFAULT);
	ck_assert_int_eq(find("a.example.org", "/"), 1);
	ck_assert_int_eq(find("B.a.EXAMPLE.org:1", "/"), 1);
	ck_assert_int_eq(find("example.org", "/"), DEFAULT);
	ck_assert_int_eq(find("aexample.org", "/"), DEFAULT);
	ck_assert_int_eq(find(".example.org", "/"), DEFAULT);
	ck_assert_int_eq(find("a.example.org.evil", "/"), DEFAULT);
	end();
}

/* The result is the same for each order of the additions. */
TEST(the_most_particular_host_wins_then_the_longest_path)
{
	static const struct {
		const char *host, *path;
	} all[] = {{"a.b.c", "/x"}, {"a.b.c", NULL}, {"*.b.c", "/x/y"},
	           {"*.c", NULL},   {NULL, "/x"},    {NULL, "/x/y"}};
	enum { COUNT = sizeof(all) / sizeof(all[0]) };
	for (unsigned int first = 0; first < COUNT; first++)
		for (unsigned int step = 1; step < COUNT; step += 4) { /* 1 and 5 have no divisor of 6 */
			begin();
			routes_set_default(routes, DEFAULT);
			for (unsigned int i = 0; i < COUNT; i++) {
				unsigned int which = (first + i * step) % COUNT;
				add(all[which].host, all[which].path, which);
			}
			ck_assert_int_eq(find("a.b.c", "/x/y"), 0);
			ck_assert_int_eq(find("a.b.c", "/y"), 1);
			ck_assert_int_eq(find("z.b.c", "/x/y/z"), 2);
			ck_assert_int_eq(find("z.b.c", "/x"), 3); /* a shorter star is tried before any host */
			ck_assert_int_eq(find("z.c", "/x"), 3);
			ck_assert_int_eq(find("c", "/x"), 4);
			ck_assert_int_eq(find("c", "/x/y"), 5);
			ck_assert_int_eq(find("", "/y"), DEFAULT);
			end();
		}
}

TEST(a_host_with_other_paths_leaves_the_rest_to_routes_for_any_host)
{
	begin();
	add("a", "/x", 1);
	add(NULL, "/status", 2);
	routes_set_default(routes, DEFAULT);
	ck_assert_int_eq(find("a", "/x"), 1);
	ck_assert_int_eq(find("a", "/status"), 2);
	ck_assert_int_eq(find("a", "/"), DEFAULT);
	end();
}

TEST_CASE("paths");

TEST(a_prefix_ends_where_a_segment_does)
{
	begin();
	add(NULL, "/admin/", 1);
	add(NULL, "/admin/deep/er", 2);
	routes_set_default(routes, DEFAULT);
	ck_assert_int_eq(find("", "/admin"), 1);
	ck_assert_int_eq(find("", "/admin/"), 1);
	ck_assert_int_eq(find("", "/admin/x"), 1);
	ck_assert_int_eq(find("", "/admin/deep/e"), 1);
	ck_assert_int_eq(find("", "/admin/deep/er/est"), 2);
	ck_assert_int_eq(find("", "/admin/deep/erst"), 1);
	ck_assert_int_eq(find("", "/administrator"), DEFAULT);
	ck_assert_int_eq(find("", "/Admin"), DEFAULT);
	ck_assert_int_eq(find("", "/x/admin"), DEFAULT);
	ck_assert_int_eq(find("", "/"), DEFAULT);
	ck_assert_int_eq(find("", ""), DEFAULT);
	end();
}

TEST(no_spelling_of_a_path_gets_around_its_route)
{
	static const char *const same[] = {"/%61dmin",      "/%61%64%6D%69%6e/x", "//admin",
	                                   "///admin//x",   "/./admin",           "/%2e/admin",
	                                   "/.//./admin/.", "/admin/%20"};
	static const char *const others[] = {"/%2561dmin", "/admin%2ex", "/ad%20min", "/.admin",
	                                     "/..admin",   "/...",       "/admin;x",  "/admin\\x"};
	static const char *const refused[] = {"/../admin",
	                                      "/x/../admin",
	                                      "/x/%2e%2E/admin",
	                                      "/x/.%2e/admin",
	                                      "/x/..",
	                                      "/..",
	                                      "/%2fadmin",
	                                      "/x%2Fadmin",
	                                      "/admin%00",
	                                      "/%",
	                                      "/%4",
	                                      "/%g1",
	                                      "/%4g",
	                                      "/x%"};
	begin();
	add(NULL, "/admin", 1);
	routes_set_default(routes, DEFAULT);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		ck_assert_msg(find("", same[i]) == 1, "%s", same[i]);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		ck_assert_msg(find("", others[i]) == DEFAULT, "%s", others[i]);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		ck_assert_msg(find("", refused[i]) == -EINVAL, "%s", refused[i]);
	ck_assert_int_eq(find_bytes("", 0, "/a\0b", 4), -EINVAL);
	end();
}

TEST(a_route_may_be_written_with_escapes)
{
	begin();
	add(NULL, "/a%20b/%C3%A4", 1);
	routes_set_default(routes, DEFAULT);
	ck_assert_int_eq(find("", "/a%20b/%c3%a4/x"), 1);
	ck_assert_int_eq(find("", "/%61 b/\xc3\xa4"), 1);
	ck_assert_int_eq(find("", "/a%2520b"), DEFAULT);
	add(NULL, "/jo", 2);
	ck_assert_int_eq(find("", "/%6a%6F"), 2);
	ck_assert_int_eq(find("", "/%6A%6f"), 2);
	end();
}

TEST(without_a_path_in_any_route_none_is_looked_at)
{
	begin();
	add("a", NULL, 1);
	add("b", "/", 2);
	add("*.b", "//./", 3);
	ck_assert_int_eq(find("a", "/x/../%2f%zz"), 1);
	ck_assert_int_eq(find("b", "/.."), 2);
	ck_assert_int_eq(find("c.b", "%"), 3);
	ck_assert_int_eq(find("c", "/.."), -ENOENT);
	add("c", "/x", 4);
	ck_assert_int_eq(find("a", "/.."), -EINVAL);
	end();
}

TEST_CASE("bounds");

TEST(a_route_that_could_not_be_taken_is_refused)
{
	static const char *const hosts[] = {"",     "a b",  "*",    "*.",          "*a.b",      "a.*",
	                                    "**.b", "a:80", "[::1", "[::1]:80",    "*.[::1]",   "a..b",
	                                    ".a",   "a/b",  "a@b",  "\xc3\xa4.de", "[1.2.3.4]", "..",
	                                    "."};
	static const char *const paths[] = {"",     "x",         "x/y",     "/a?b",   "/a#b",
	                                    "/a b", "/..",       "/a/../b", "/a%2fb", "/%",
	                                    "/%00", "/\xc3\xa4", "/a\n",    "/\x7f"};
	begin();
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		ck_assert_msg(routes_add(routes, hosts[i], NULL, 1) == -EINVAL, "%s", hosts[i]);
		ck_assert(!routes_host_is_fine(hosts[i]));
	}
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		ck_assert_msg(routes_add(routes, "a", paths[i], 1) == -EINVAL, "%s", paths[i]);
		ck_assert(!routes_path_is_fine(paths[i]));
	}
	ck_assert(routes_host_is_fine("*.a"));
	ck_assert(routes_path_is_fine("/"));
	ck_assert_int_eq(find("a", "/.."), -ENOENT); /* there is no route */
	end();
}

TEST(the_same_route_twice_is_refused)
{
	begin();
	add("a.b", "/x", 1);
	ck_assert_int_eq(routes_add(routes, "A.b.", "//x/", 2), -EEXIST);
	add("*.a.b", "/x", 2);
	add("a.b", NULL, 3);
	ck_assert_int_eq(routes_add(routes, "a.b", "/", 2), -EEXIST);
	add(NULL, NULL, 4);
	ck_assert_int_eq(routes_add(routes, NULL, "/", 5), -EEXIST);
	ck_assert_int_eq(find("a.b", "/x"), 1);
	end();
}

TEST(long_hosts_and_paths_are_bounded)
{
	static char host[300], path[HTTP_HEAD_LIMIT + 2];
	memset(host, 'a', sizeof(host));
	memset(path, 'a', sizeof(path));
	path[0] = '/';
	begin();
	add("a", "/a", 1);
	routes_set_default(routes, DEFAULT);
	for (size_t length = 250; length < sizeof(host); length++)
		ck_assert_int_eq(find_bytes(host, length, path, 1), DEFAULT);
	ck_assert_int_eq(find_bytes(host, 1, path, HTTP_HEAD_LIMIT), DEFAULT);
	ck_assert_int_eq(find_bytes(host, 1, path + 1, HTTP_HEAD_LIMIT), DEFAULT);
	ck_assert_int_eq(find_bytes(host, 1, path, HTTP_HEAD_LIMIT + 1), -EINVAL);
	host[255] = '\0';
	memcpy(host, "*.", 2);
	ck_assert(routes_host_is_fine(host) == false);
	host[254] = '\0';
	ck_assert(routes_host_is_fine(host + 2));
	end();
}

TEST(many_routes_are_all_found)
{
	begin();
	for (unsigned int i = 0; i < 100; i++) {
		char host[16];
		snprintf(host, sizeof(host), "h%u.a", (i * 37) % 100);
		add(host, i % 2 == 0 ? "/x" : NULL, i);
	}
	for (unsigned int i = 0; i < 100; i++) {
		char host[16];
		snprintf(host, sizeof(host), "h%u.a:80", (i * 37) % 100);
		ck_assert_int_eq(find(host, "/x"), (int)i);
		ck_assert_int_eq(find(host, "/y"), i % 2 == 0 ? -ENOENT : (int)i);
	}
	end();
}

static int find_in_head(const char *text)
{
	static struct http_head head;
	http_head_init(&head);
	ck_assert_int_eq(http_head_parse(&head, text, strlen(text)), (int)strlen(text));
	return routes_find_head(routes, &head, text);
}

TEST_CASE("hosts");

TEST(the_host_of_the_target_comes_before_the_field)
{
	begin();
	add("a", NULL, 1);
	add("b", "/x", 2);
	routes_set_default(routes, DEFAULT);
	ck_assert_int_eq(find_in_head("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 1);
	ck_assert_int_eq(find_in_head("GET /x?/.. HTTP/1.1\r\nhost: B:80\r\n\r\n"), 2);
	ck_assert_int_eq(find_in_head("GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n"), 2);
	ck_assert_int_eq(find_in_head("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n"), DEFAULT);
	ck_assert_int_eq(find_in_head("GET / HTTP/1.0\r\n\r\n"), DEFAULT);
	ck_assert_int_eq(find_in_head("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), 1);
	ck_assert_int_eq(find_in_head("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"), -EINVAL);
	end();
}

TEST_CASE("bounds");

TEST(no_random_request_breaks_the_look_up)
{
	static const char alphabet[] = "ab./%2eEfF*:[]\\1\0\xff";
	begin();
	add("a.b", "/a/b", 1);
	add("*.b", "/a", 2);
	add(NULL, "/b", 3);
	for (int round = 0; round < 50000; round++) {
		char host[24], path[24];
		size_t host_length = support_random_below(sizeof(host));
		size_t path_length = support_random_below(sizeof(path));
		for (size_t i = 0; i < host_length; i++)
			host[i] = alphabet[support_random_below(sizeof(alphabet) - 1)];
		for (size_t i = 0; i < path_length; i++)
			path[i] = alphabet[support_random_below(sizeof(alphabet) - 1)];
		int found = find_bytes(host, host_length, path, path_length);
		ck_assert(found == -ENOENT || found == -EINVAL || (found >= 1 && found <= 3));
	}
	end();
}
