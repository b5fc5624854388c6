/* TLS clients of ferry-proxy: their routes by server name and protocol, their refusals, and the configuration of both. */

#include "programs/ferry-proxy/conf.h"
#include "programs/ferry-proxy/conf_reload.h"
#include "programs/ferry-proxy/tls_hello.h"
#include "programs/ferry-proxy/tls_routes.h"
#include "test.h"
#include "unit/tls/hellos.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <event2/buffer.h>
#include <ferry/client_hello.h>

enum { DEFAULT = 99 };

static struct tls_routes *routes;
static struct evbuffer *input;

static void set_up(void)
{
	ck_assert_int_eq(tls_routes_new(&routes), 0);
	input = evbuffer_new();
	ck_assert_ptr_nonnull(input);
}

static void tear_down(void)
{
	tls_routes_free(routes);
	evbuffer_free(input);
}

TEST_CASE("tls clients", set_up, tear_down);

static void add(const char *name, const char *protocol, unsigned int service)
{
	ck_assert_int_eq(tls_routes_add(routes, name, protocol, service), 0);
}

/* The ALPN extension of "h2,http/1.1". */
static void add_protocols(struct hello *hello, const char *list)
{
	unsigned char bytes[2048];
	size_t used = 2;
	while (*list != '\0') {
		size_t length = strcspn(list, ",");
		bytes[used++] = (unsigned char)length;
		memcpy(bytes + used, list, length);
		used += length;
		list += length + (list[length] == ',');
	}
	put_length(bytes, used - 2);
	add_extension(hello, 16, bytes, used);
}

/* A ClientHello with a server name and protocols, or without if they are NULL. */
static void put_client(const char *name, const char *protocols)
{
	struct hello hello;
	make_hello(&hello);
	if (name != NULL)
		add_server_name(&hello, name, strlen(name));
	if (protocols != NULL)
		add_protocols(&hello, protocols);
	evbuffer_drain(input, evbuffer_get_length(input));
	ck_assert_int_eq(evbuffer_add(input, hello.bytes, hello.length), 0);
}

static int find(const char *name, const char *protocols)
{
	struct ferry_client_hello *hello;
	put_client(name, protocols);
	ck_assert_int_eq(ferry_client_hello_read(&hello, input, 0, NULL), 0);
	int service = tls_routes_find(routes, hello);
	ferry_client_hello_free(hello);
	return service;
}

/* ---- routes ---- */

TEST(without_a_route_nobody_is_routed_but_by_the_default)
{
	ck_assert(tls_routes_are_empty(routes));
	ck_assert_int_eq(find("a", NULL), -ENOENT);
	ck_assert_int_eq(find(NULL, "h2"), -ENOENT);
	tls_routes_set_default(routes, DEFAULT);
	ck_assert(!tls_routes_are_empty(routes));
	ck_assert_int_eq(find("a", NULL), DEFAULT);
	ck_assert_int_eq(find(NULL, NULL), DEFAULT);
}

TEST(the_most_specific_server_name_wins)
{
	add("*.org", NULL, 1);
	add("*.example.org", NULL, 2);
	add("www.example.org", NULL, 3);
	ck_assert(!tls_routes_are_empty(routes));
	ck_assert_int_eq(find("www.example.org", NULL), 3);
	ck_assert_int_eq(find("WWW.Example.Org.", NULL), 3);
	ck_assert_int_eq(find("a.b.example.org", NULL), 2);
	ck_assert_int_eq(find("example.org", NULL), 1);
	ck_assert_int_eq(find("org", NULL), -ENOENT);
	ck_assert_int_eq(find("wwwexample.org", NULL), 1);
}

TEST(the_order_of_the_client_decides_among_protocols)
{
	add("a", "h2", 1);
	add("a", "http/1.1", 2);
	ck_assert_int_eq(find("a", "h2,http/1.1"), 1);
	ck_assert_int_eq(find("a", "http/1.1,h2"), 2);
	ck_assert_int_eq(find("a", "h3,http/1.1"), 2);
	ck_assert_int_eq(find("a", "h"), -EPROTONOSUPPORT);
	ck_assert_int_eq(find("a", "h22"), -EPROTONOSUPPORT);
	ck_assert_int_eq(find("a", NULL), -EPROTONOSUPPORT);
	ck_assert_int_eq(find("b", "h2"), -ENOENT);
}

TEST(a_route_without_a_protocol_comes_last)
{
	add("a", NULL, 1);
	add("a", "h2", 2);
	ck_assert_int_eq(find("a", "http/1.1,h2"), 2);
	ck_assert_int_eq(find("a", "http/1.1"), 1);
	ck_assert_int_eq(find("a", NULL), 1);
}

TEST(a_less_specific_name_takes_a_protocol_that_the_specific_one_has_not)
{
	add("www.a", "h2", 1);
	add("*.a", "http/1.1", 2);
	add(NULL, "acme-tls/1", 3);
	ck_assert_int_eq(find("www.a", "h2"), 1);
	ck_assert_int_eq(find("www.a", "http/1.1"), 2);
	ck_assert_int_eq(find("www.a", "acme-tls/1"), 3);
	ck_assert_int_eq(find(NULL, "acme-tls/1"), 3);
	ck_assert_int_eq(find("www.a", "other"), -EPROTONOSUPPORT);
	ck_assert_int_eq(find(NULL, "other"), -ENOENT);
}

TEST(only_the_first_protocols_of_a_client_are_compared)
{
	char list[2 * TLS_ROUTES_PROTOCOLS + 3];
	add("a", "h2", 1);
	for (size_t i = 0; i < TLS_ROUTES_PROTOCOLS; i++) {
		list[2 * i] = 'x';
		list[2 * i + 1] = ',';
	}
	memcpy(list + 2 * TLS_ROUTES_PROTOCOLS, "h2", 3);
	ck_assert_int_eq(find("a", list + 2), 1);
	ck_assert_int_eq(find("a", list), -EPROTONOSUPPORT);
}

TEST(a_name_of_no_host_fits_routes_for_any_name_alone)
{
	add("*.a", NULL, 1);
	ck_assert_int_eq(find("x..a", NULL), -ENOENT);
	ck_assert_int_eq(find("[::1]", NULL), -ENOENT);
	add(NULL, "h2", 2);
	ck_assert_int_eq(find("x..a", "h2"), 2);
}

TEST(routes_that_are_none_are_refused)
{
	char longer[257];
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	ck_assert_int_eq(tls_routes_add(routes, "[::1]", NULL, 0), -EINVAL);
	ck_assert_int_eq(tls_routes_add(routes, "a:443", NULL, 0), -EINVAL);
	ck_assert_int_eq(tls_routes_add(routes, "", NULL, 0), -EINVAL);
	ck_assert_int_eq(tls_routes_add(routes, "a", "", 0), -EINVAL);
	ck_assert_int_eq(tls_routes_add(routes, "a", longer, 0), -EINVAL);
	add("a", longer + 1, 1);
	add("a", NULL, 2);
	ck_assert_int_eq(tls_routes_add(routes, "A.", NULL, 3), -EEXIST);
	ck_assert_int_eq(tls_routes_add(routes, "a", longer + 1, 3), -EEXIST);
	ck_assert_int_eq(find("a", NULL), 2);
	ck_assert(tls_routes_name_is_fine("*.a"));
	ck_assert(!tls_routes_name_is_fine("*"));
}

TEST(many_routes_keep_their_order)
{
	char name[16];
	for (unsigned int i = 0; i < 256; i++) {
		snprintf(name, sizeof(name), "n%u.a", (i * 97) % 256);
		add(name, i % 2 == 0 ? "h2" : NULL, (i * 97) % 256);
	}
	for (unsigned int i = 0; i < 256; i++) {
		snprintf(name, sizeof(name), "n%u.a", i);
		ck_assert_int_eq(find(name, "h2"), (int)i);
	}
}

/* ---- what the proxy does with a client ---- */

static struct tls_hello verdict;

static int judge(const void *bytes, size_t length)
{
	evbuffer_drain(input, evbuffer_get_length(input));
	ck_assert_int_eq(evbuffer_add(input, bytes, length), 0);
	int status = tls_hello_read(&verdict, routes, input);
	ck_assert_uint_eq(evbuffer_get_length(input), length);
	return status;
}

static void judge_client(const char *name, const char *protocols)
{
	put_client(name, protocols);
	ck_assert_int_eq(tls_hello_read(&verdict, routes, input), 0);
}

TEST(a_client_is_routed_or_gets_the_alert_of_its_refusal)
{
	add("a", "h2", 7);
	judge_client("a", "h2");
	ck_assert_int_eq(verdict.kind, TLS_HELLO_ROUTED);
	ck_assert_uint_eq(verdict.service, 7);
	judge_client("a", "other");
	ck_assert_int_eq(verdict.kind, TLS_HELLO_NO_ROUTE);
	ck_assert_int_eq(verdict.alert, TLS_ALERT_NO_APPLICATION_PROTOCOL);
	judge_client("b", "h2");
	ck_assert_int_eq(verdict.kind, TLS_HELLO_NO_ROUTE);
	ck_assert_int_eq(verdict.alert, TLS_ALERT_UNRECOGNIZED_NAME);
	ck_assert_str_eq(verdict.why, "no route for the server name 'b'");
}

TEST(what_is_no_client_hello_is_told_from_what_is_malformed)
{
	ck_assert_int_eq(judge("\x16\x03\x01", 3), -EAGAIN);
	ck_assert_int_eq(judge("", 0), -EAGAIN);
	ck_assert_int_eq(judge("GET / HTTP/1.1\r\n", 16), 0);
	ck_assert_int_eq(verdict.kind, TLS_HELLO_NOT_TLS);
	ck_assert_int_eq(judge("\x16\x03\x01\0\x04\x02\0\0\0", 9), 0);
	ck_assert_int_eq(verdict.kind, TLS_HELLO_MALFORMED);
	ck_assert_int_eq(verdict.alert, TLS_ALERT_DECODE_ERROR);
	ck_assert_uint_gt(strlen(verdict.why), 0);
	ck_assert_int_eq(judge("\x16\x03\x01\x40\0\x01\0\xff\xff", 9), 0);
	ck_assert_int_eq(verdict.kind, TLS_HELLO_MALFORMED);
}

TEST(an_alert_is_one_record)
{
	unsigned char record[TLS_ALERT_SIZE];
	tls_alert_put(record, TLS_ALERT_UNRECOGNIZED_NAME);
	ck_assert_mem_eq(record, "\x15\x03\x03\0\x02\x02\x70", sizeof(record));
}

/* ---- the configuration ---- */

static struct conf conf;
static char error[CONF_ERROR_SIZE];

#define TWO "listen 127.0.0.1:1 tls-passthrough\nservice www root=/\nservice app socket=/s\n"

static int find_in_conf(const char *text, const char *name, const char *protocols)
{
	struct ferry_client_hello *hello;
	ck_assert_msg(conf_read_text(&conf, "conf", text, strlen(text), error), "%s", error);
	put_client(name, protocols);
	ck_assert_int_eq(ferry_client_hello_read(&hello, input, 0, NULL), 0);
	int service = tls_routes_find(conf.tls_routes, hello);
	ferry_client_hello_free(hello);
	conf_free(&conf);
	return service;
}

static void check_refused(const char *text, const char *expected)
{
	ck_assert(!conf_read_text(&conf, "conf", text, strlen(text), error));
	ck_assert_msg(strncmp(error, expected, strlen(expected)) == 0, "'%s' is not '%s'", error,
	              expected);
}

TEST(routes_of_a_file_name_services)
{
	static const char text[] = TWO "route server-name=*.b alpn=h2 app\nroute alpn=x www\n";
	ck_assert_int_eq(find_in_conf(text, "a.b", "h2"), 1);
	ck_assert_int_eq(find_in_conf(text, "a.b", "x"), 0);
	ck_assert_int_eq(find_in_conf(text, "c", "h2"), -ENOENT);
	ck_assert_int_eq(find_in_conf(TWO "tls-default app\n", NULL, NULL), 1);
}

TEST(the_only_service_needs_no_route)
{
	static const char text[] = "listen 127.0.0.1:1 tls-passthrough\nservice www root=/\n";
	ck_assert_int_eq(find_in_conf(text, "a", NULL), 0);
	check_refused(TWO, "conf: 'tls-passthrough' needs a route with server-name= or alpn=");
	/* One with routes refuses the names that these do not have. */
	ck_assert_int_eq(find_in_conf("listen 127.0.0.1:1 tls-passthrough\nservice www root=/\n"
	                              "route server-name=a www\n",
	                              "b", NULL),
	                 -ENOENT);
	ck_assert_int_eq(find_in_conf("listen 127.0.0.1:1\nservice www root=/\n", "b", NULL), -ENOENT);
}

TEST(words_of_a_listener_come_in_any_order)
{
	static const char text[] = "listen 127.0.0.1:1 tls-passthrough proxy-protocol from=::1\n"
	                           "listen 127.0.0.1:2 proxy-protocol tls-passthrough\n"
	                           "listen 127.0.0.1:3 proxy-protocol\nservice www root=/\n";
	ck_assert_msg(conf_read_text(&conf, "conf", text, strlen(text), error), "%s", error);
	for (int i = 0; i < 3; i++) {
		ck_assert(conf.listens[i].proxy_protocol);
		ck_assert_int_eq(conf.listens[i].tls_passthrough, i < 2);
	}
	conf_free(&conf);
}

TEST(certificate_and_key_are_those_of_own_workers)
{
	static const char text[] = "listen 127.0.0.1:1\n"
	                           "service www root=/ tls-certificate=/a.pem tls-key=/a.key\n";
	static const char other[] = "listen 127.0.0.1:1\n"
	                            "service www root=/ tls-certificate=/a.pem tls-key=/b.key\n";
	struct conf fresh;
	ck_assert_msg(conf_read_text(&conf, "conf", text, strlen(text), error), "%s", error);
	ck_assert_str_eq(conf.services[0].tls_certificate, "/a.pem");
	ck_assert_str_eq(conf.services[0].tls_key, "/a.key");
	ck_assert(conf_read_text(&fresh, "conf", other, strlen(other), error));
	ck_assert_str_eq(conf_reload_obstacle(&conf, &fresh), "service");
	conf_free(&fresh);
	conf_free(&conf);
	check_refused("service www root=/ tls-key=/a\n",
	              "conf:1: service: tls-certificate= and tls-key= need each other");
	check_refused("service www socket=/s tls-certificate=/a tls-key=/a\n",
	              "conf:1: service: tls-certificate= and tls-key= are for a service with root=");
}

TEST(wrong_lines_are_refused_with_their_number)
{
	check_refused(TWO "route server-name=a:1 www",
	              "conf:4: route: server-name='a:1' is not a name");
	check_refused(TWO "route server-name=a host=b www", "conf:4: route: host= and path= are for");
	check_refused(TWO "route alpn= www", "conf:4: route: alpn= has no value");
	check_refused(TWO "route alpn=a www\nroute alpn=a app",
	              "conf:5: route: a route for that server name and protocol exists already");
	check_refused(TWO "route alpn=a nobody", "conf:4: route: there is no service 'nobody'");
	check_refused(TWO "tls-default nobody", "conf:4: tls-default: there is no service 'nobody'");
	check_refused("listen 127.0.0.1:1 tls-passthrough tls-passthrough\n",
	              "conf:1: listen: 'tls-passthrough' is not one of");
}
