/* The configuration of ferry-proxy: its file, its command line, and the refusals of both. */

#include "programs/ferry-proxy/conf.h"
#include "programs/ferry-proxy/routes.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct conf conf;
static char error[CONF_ERROR_SIZE];

static bool read_bytes(const char *text, size_t length)
{
	/* An exact heap copy: a sanitizer detects a read past the end. */
	char *copy = malloc(length > 0 ? length : 1);
	ck_assert_ptr_nonnull(copy);
	memcpy(copy, text, length);
	bool result = conf_read_text(&conf, "conf", copy, length, error);
	free(copy);
	return result;
}

/* The two directives that every file needs. */
#define LEAST "listen 127.0.0.1:1\nservice www root=/ workers=3\n"

static void check_read(const char *text)
{
	ck_assert_msg(read_bytes(text, strlen(text)), "%s", error);
	ck_assert_str_eq(error, "");
}

static bool is_empty(void)
{
	static const struct conf empty;
	/* A comparison of bytes covers all members. */
	const unsigned char *left = (const unsigned char *)&conf;
	return memcmp(left, (const unsigned char *)&empty, sizeof(conf)) == 0;
}

static void check_refused_bytes(const char *text, size_t length, const char *expected)
{
	memset(&conf, 0xa5, sizeof(conf));
	ck_assert(!read_bytes(text, length));
	ck_assert_msg(strncmp(error, expected, strlen(expected)) == 0, "'%s' is not '%s'", error,
	              expected);
	ck_assert(is_empty());
	ck_assert(!conf_read_text(&conf, "conf", text, length, NULL));
}

static void check_refused(const char *text, const char *expected)
{
	check_refused_bytes(text, strlen(text), expected);
}

static const char *text_of(const struct ferry_address *address)
{
	static char text[FERRY_ADDRESS_TEXT_SIZE];
	return ferry_address_format(address, text, sizeof(text));
}

static unsigned long milliseconds(struct timeval time)
{
	return (unsigned long)time.tv_sec * 1000 + (unsigned long)time.tv_usec / 1000;
}

TEST_CASE("file");

TEST(every_directive_is_understood)
{
	check_read("listen 127.0.0.1:8080\n"
	           "listen [::1]:0 proxy-protocol\n"
	           "listen unix:/run/w.sock\n"
	           "route host=Example.org path=/chat chat\n"
	           "service www root=/ workers=5 choice=by-client\n"
	           "service chat socket=/run/chat choice=round-robin\n"
	           "service both socket=@both root=/tmp choice=least\n"
	           "route path=/b both\n"
	           "route host=*.example.org www\n"
	           "default both\n"
	           "admin 127.0.0.1:9\n"
	           "control /run/control\n"
	           "queue 7\nqueue-timeout 1500\nanswer-timeout 2\nstart-timeout 9\n"
	           "head-timeout 11\ndrain-timeout 12\nmax-clients 13\nretry-after 14\n"
	           "idle-timeout 15\nkeep 0\nscheduling other");
	ck_assert_str_eq(conf.file, "conf");
	ck_assert_uint_eq(conf.listen_count, 3);
	ck_assert_str_eq(text_of(&conf.listens[0].address), "127.0.0.1:8080");
	ck_assert_str_eq(text_of(&conf.listens[1].address), "[::1]:0");
	ck_assert_str_eq(text_of(&conf.listens[2].address), "unix:/run/w.sock");
	ck_assert(!conf.listens[0].proxy_protocol && conf.listens[1].proxy_protocol &&
	          !conf.listens[2].proxy_protocol);
	ck_assert_uint_eq(conf.service_count, 3);
	ck_assert_str_eq(conf.services[0].name, "www");
	ck_assert_str_eq(conf.services[0].root, "/");
	ck_assert_ptr_null(conf.services[0].socket);
	ck_assert_uint_eq(conf.services[0].workers, 5);
	ck_assert_uint_eq(conf.services[0].line, 5);
	ck_assert_int_eq(conf.services[0].choice, FERRY_DISPATCH_BY_KEY);
	ck_assert_ptr_null(conf.services[1].root);
	ck_assert_str_eq(conf.services[1].socket, "/run/chat");
	ck_assert_uint_eq(conf.services[1].workers, 0);
	ck_assert_int_eq(conf.services[1].choice, FERRY_DISPATCH_ROUND_ROBIN);
	ck_assert_str_eq(conf.services[2].socket, "@both");
	ck_assert_uint_eq(conf.services[2].workers, 2);
	ck_assert_int_eq(conf.services[2].choice, FERRY_DISPATCH_LEAST_OUTSTANDING);
	ck_assert_int_eq(routes_find(conf.routes, "example.org", 11, "/chat", 5), 1);
	ck_assert_int_eq(routes_find(conf.routes, "example.org", 11, "/b", 2), 2);
	ck_assert_int_eq(routes_find(conf.routes, "a.example.org", 13, "/", 1), 0);
	ck_assert_int_eq(routes_find(conf.routes, "", 0, "/", 1), 2);
	ck_assert_str_eq(text_of(&conf.admin), "127.0.0.1:9");
	ck_assert_str_eq(conf.control, "/run/control");
	ck_assert_uint_eq(conf.queue, 7);
	ck_assert_uint_eq(milliseconds(conf.queue_timeout), 1500);
	ck_assert_uint_eq(milliseconds(conf.answer_timeout), 2);
	ck_assert_uint_eq(milliseconds(conf.start_timeout), 9000);
	ck_assert_uint_eq(milliseconds(conf.head_timeout), 11000);
	ck_assert_uint_eq(milliseconds(conf.drain_timeout), 12000);
	ck_assert_uint_eq(conf.max_clients, 13);
	ck_assert_uint_eq(conf.retry_after, 14);
	ck_assert_uint_eq(milliseconds(conf.idle_timeout), 15000);
	ck_assert_uint_eq(conf.keep, 0);
	ck_assert_int_eq(conf.scheduling, SCHED_OTHER);
	ck_assert_int_eq(conf_find_service(&conf, "chat"), 1);
	ck_assert_int_eq(conf_find_service(&conf, "cha"), -1);
	conf_free(&conf);
	ck_assert(is_empty());
	conf_free(&conf);
}

TEST(what_is_not_said_has_a_default)
{
	check_read(LEAST);
	ck_assert_uint_eq(conf.services[0].workers, 3);
	ck_assert_int_eq(routes_find(conf.routes, "", 0, "/", 1), 0);
	ck_assert_uint_eq(conf.admin.length, 0);
	ck_assert_ptr_null(conf.control);
	ck_assert_ptr_null(conf.take_over);
	ck_assert_uint_eq(conf.queue, 1024);
	ck_assert_uint_eq(milliseconds(conf.queue_timeout), 5000);
	ck_assert_uint_eq(milliseconds(conf.answer_timeout), 5000);
	ck_assert_uint_eq(milliseconds(conf.start_timeout), 60000);
	ck_assert_uint_eq(milliseconds(conf.head_timeout), 10000);
	ck_assert_uint_eq(milliseconds(conf.drain_timeout), 60000);
	ck_assert_uint_eq(conf.max_clients, 0);
	ck_assert_uint_eq(conf.retry_after, 1);
	ck_assert_uint_eq(milliseconds(conf.idle_timeout), 60000);
	ck_assert_uint_eq(conf.keep, 1);
	ck_assert_int_eq(conf.scheduling, SCHED_BATCH);
	conf_free(&conf);
}

TEST(blanks_comments_quotes_and_line_ends_are_as_one_expects)
{
	char directory[] = "/tmp/ferry \"x\\ XXXXXX", text[256];
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(text, sizeof(text),
	         "\r\n\t # comment \"\n  listen\t127.0.0.1:1 # more\r\n"
	         "service www \"root=/tmp/ferry \\\"x\\\\ %s\"\n"
	         "service \"\"b\"\" ro\"ot=\"/ #workers=x\n\n#",
	         directory + 15);
	check_read(text);
	ck_assert_str_eq(conf.services[0].root, directory);
	ck_assert_str_eq(conf.services[1].name, "b");
	ck_assert_uint_eq(conf.services[1].workers, 2);
	ck_assert_uint_eq(conf.services[1].line, 5);
	conf_free(&conf);
	rmdir(directory);
}

TEST(a_hash_within_a_word_is_no_comment)
{
	check_refused("listen a#b", "conf:1: listen: 'a#b' is not an address");
	check_refused(LEAST "control \"#x\" y", "conf:3: control: one argument is expected");
}

TEST_CASE("refused");

TEST(what_cannot_be_a_line_is_refused)
{
	check_refused(LEAST "control \"a", "conf:3: a quote that is not closed");
	check_refused(LEAST "control \"a\\n\"", "conf:3: a backslash within quotes");
	check_refused(LEAST "control \"a\\", "conf:3: a backslash within quotes");
	check_refused(LEAST "control a\x01", "conf:3: a control character");
	check_refused(LEAST "control a\x7f", "conf:3: a control character");
	check_refused("listen 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16", "conf:1: too many words");
	check_refused("listen 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
	              "conf:1: listen: '1' is not an address");
	check_refused_bytes(LEAST "control \0\n", sizeof(LEAST "control \0\n") - 1,
	                    "conf:3: a zero byte");
	check_refused_bytes("\0", 1, "conf:1: a zero byte");
}

TEST(a_line_is_bounded)
{
	static char text[CONF_LINE_MAX + 128];
	size_t start = sizeof(LEAST) - 1;
	memset(text, 'x', sizeof(text));
	memcpy(text, LEAST, start);
	text[start] = '#';
	ck_assert(read_bytes(text, start + CONF_LINE_MAX));
	conf_free(&conf);
	check_refused_bytes(text, start + CONF_LINE_MAX + 1,
	                    "conf:3: the line is longer than 4096 bytes");
}

TEST(an_unknown_directive_is_named_and_others_are_offered)
{
	check_refused("lisen 127.0.0.1:1\n" LEAST,
	              "conf:1: 'lisen' is not a directive; expected is listen");
	check_refused("\n\nLISTEN x", "conf:3: 'LISTEN' is not a directive");
	check_refused("\xef\xbb\xbflisten x", "conf:1: '\xef\xbb\xbflisten' is not a directive");
	check_refused("\"\"", "conf:1: '' is not a directive");
}

TEST(a_message_is_cut_to_what_can_be_read)
{
	static char text[3000];
	memset(text, 'x', sizeof(text));
	ck_assert(!read_bytes(text, sizeof(text)));
	ck_assert_ptr_nonnull(strstr(error, "xxx...' is not a directive"));
	static char name[3000];
	memset(name, 'n', sizeof(name) - 1);
	ck_assert(!conf_read_text(&conf, name, text, sizeof(text), error));
	ck_assert_uint_lt(strlen(error), CONF_ERROR_SIZE);
	ck_assert_ptr_nonnull(strstr(error, ":1: 'xxx"));
}

TEST(what_is_said_twice_is_refused)
{
	static const char *const once[] = {"admin 127.0.0.1:1", "control a",        "queue 1",
	                                   "queue-timeout 1",   "answer-timeout 1", "head-timeout 1",
	                                   "drain-timeout 1",   "max-clients 1",    "retry-after 1",
	                                   "default www",       "idle-timeout 1",   "keep 0",
	                                   "start-timeout 1",   "scheduling other"};
	for (size_t i = 0; i < sizeof(once) / sizeof(once[0]); i++) {
		char text[200], expected[100];
		snprintf(text, sizeof(text), LEAST "%s\n\n%s\n", once[i], once[i]);
		snprintf(expected, sizeof(expected), "conf:5: %.*s: is already in line 3",
		         (int)strcspn(once[i], " "), once[i]);
		check_refused(text, expected);
	}
	check_refused(LEAST "listen 127.0.0.1:1",
	              "conf:3: listen: '127.0.0.1:1' is already listened on");
	check_refused(LEAST "service www socket=a", "conf:3: service: 'www' is already in line 2");
	check_refused(LEAST "service b root=/ root=/", "conf:3: service: root= is given twice");
	check_refused(LEAST "route path=/a www\nroute path=//a/ www",
	              "conf:4: route: a route for that host and path exists already");
	check_refused(LEAST "route path=/a path=/b www", "conf:3: route: path= is given twice");
	check_refused(LEAST "control a\nservice b socket=a",
	              "conf:4: service: the path 'a' is already used");
	check_refused(LEAST "service b socket=a\ncontrol a",
	              "conf:4: control: the path 'a' is already used");
	check_refused(LEAST "service b socket=a\nservice c socket=a",
	              "conf:4: service: the path 'a' is already used");
}

TEST_CASE("file");

TEST(sockets_of_the_service_manager_have_names)
{
	check_read("listen systemd:www proxy-protocol\nlisten systemd:www\n"
	           "listen systemd:ferry-proxy.socket\nservice a root=/");
	ck_assert_uint_eq(conf.listen_count, 3);
	ck_assert_str_eq(conf.listens[1].systemd, "www");
	ck_assert_str_eq(conf.listens[2].systemd, "ferry-proxy.socket");
	ck_assert(conf.listens[0].proxy_protocol && conf.listens[0].address.length == 0);
	conf_free(&conf);
	check_refused("listen systemd:", "conf:1: listen: 'systemd:' has no name of 1 to 63");
	check_refused("listen systemd:a:b", "conf:1: listen: 'systemd:a:b' has no name");
	check_refused("listen \"systemd:a b\"", "conf:1: listen: 'systemd:a b' has no name");
	check_refused("listen systemd:.a", "conf:1: listen: 'systemd:.a' has no name");
	check_refused("listen systemd:\xc3\xa9", "conf:1: listen: 'systemd:\xc3\xa9' has no name");
	check_refused("listen systemd:a mode=0660", "conf:1: listen: mode= and group= are for");
	char text[128];
	snprintf(text, sizeof(text), "listen systemd:%064d", 0);
	check_refused(text, "conf:1: listen: 'systemd:0");
}

TEST(any_free_port_may_be_listened_on_twice)
{
	check_read("listen 127.0.0.1:0\nlisten 127.0.0.1:0\nservice a root=/");
	ck_assert_uint_eq(conf.listen_count, 2);
	conf_free(&conf);
}

TEST_CASE("refused");

TEST(a_missing_argument_is_told)
{
	static const char *const names[] = {
	    "listen",        "admin",       "service",       "route",          "default",
	    "control",       "queue",       "queue-timeout", "answer-timeout", "head-timeout",
	    "drain-timeout", "max-clients", "retry-after",   "start-timeout",  "scheduling"};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char text[100], expected[60];
		snprintf(text, sizeof(text), LEAST "%s # 1", names[i]);
		snprintf(expected, sizeof(expected), "conf:3: %s: ", names[i]);
		check_refused(text, expected);
		ck_assert_msg(strstr(error, " missing") != NULL, "%s", error);
	}
	check_refused(LEAST "scheduling fifo", "conf:3: scheduling: 'fifo' is neither batch nor other");
	check_refused(LEAST "queue 1 2",
	              "conf:3: queue: one argument is expected, a number of connections, not 2");
}

TEST(numbers_have_bounds_and_nothing_but_digits)
{
	static const struct {
		const char *name;
		unsigned long max;
	} numbers[] = {{"queue", 1000000},      {"queue-timeout", 3600000}, {"answer-timeout", 3600000},
	               {"head-timeout", 86400}, {"drain-timeout", 86400},   {"max-clients", 1000000},
	               {"retry-after", 86400},  {"start-timeout", 86400}};
	static const char *const bad[] = {"0",
	                                  "-1",
	                                  "+1",
	                                  "1s",
	                                  "x",
	                                  "1.5",
	                                  "0x10",
	                                  "\"\"",
	                                  "\" 1\"",
	                                  "99999999999999999999999",
	                                  "18446744073709551617"};
	char text[200], expected[100];
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		snprintf(expected, sizeof(expected), "conf:3: %s: '", numbers[i].name);
		for (size_t j = 0; j < sizeof(bad) / sizeof(bad[0]); j++) {
			snprintf(text, sizeof(text), LEAST "%s %s", numbers[i].name, bad[j]);
			check_refused(text, expected);
			snprintf(text, sizeof(text), "' is not a number from 1 to %lu", numbers[i].max);
			ck_assert_ptr_nonnull(strstr(error, text));
		}
		snprintf(text, sizeof(text), LEAST "%s %lu", numbers[i].name, numbers[i].max + 1);
		check_refused(text, expected);
		snprintf(text, sizeof(text), LEAST "%s %lu", numbers[i].name, numbers[i].max);
		check_read(text);
		conf_free(&conf);
		snprintf(text, sizeof(text), LEAST "%s 1", numbers[i].name);
		check_read(text);
		conf_free(&conf);
	}
	check_refused("listen 127.0.0.1:1\nservice a root=/ workers=0",
	              "conf:2: service: '0' is not a number from 1 to 1024");
	check_refused("listen 127.0.0.1:1\nservice a root=/ workers=1025",
	              "conf:2: service: '1025' is not a number");
}

TEST(a_bad_address_is_told)
{
	static char text[300];
	check_refused("listen localhost:80",
	              "conf:1: listen: 'localhost:80' is not an address like 127.0.0.1");
	check_refused(LEAST "admin 80", "conf:3: admin: '80' is not an address like 127.0.0.1");
	check_refused("listen 127.0.0.1:1 proxy",
	              "conf:1: listen: 'proxy' is not one of proxy-protocol, tls-passthrough, from=");
	check_refused("listen 127.0.0.1:1 proxy-protocol x", "conf:1: listen: 'x' is not one of");
	check_refused("listen 127.0.0.1:1 from=10.0.0.0/8",
	              "conf:1: listen: from= is for an address with");
	check_refused("listen 127.0.0.1:1 proxy-protocol from=10.0.0.1/8",
	              "conf:1: listen: from=: '10.0.0.1/8' is neither");
	check_refused("listen 127.0.0.1:1 proxy-protocol from=10.0.0.0/8,",
	              "conf:1: listen: from=: '' is neither");
	check_refused("listen 127.0.0.1:1 proxy-protocol "
	              "from=1111111111222222222233333333334444444444555555555566666666667777,::1",
	              "conf:1: listen: from=: '1111");
	check_refused("listen 127.0.0.1:1 mode=0600", "conf:1: listen: mode= and group= are for");
	check_refused("listen unix:@name group=0", "conf:1: listen: mode= and group= are for");
	check_refused("listen unix:/a mode=0800", "conf:1: listen: mode='0800' is not one like 0660");
	check_refused("listen unix:/a mode=0460", "conf:1: listen: mode='0460' is not one like 0660");
	check_refused("listen unix:/a mode=06600", "conf:1: listen: mode='06600' is not one like");
	check_refused("listen unix:/a mode=60", "conf:1: listen: mode='60' is not one like 0660");
	check_refused("listen unix:/a group=no-such-group", "conf:1: listen: there is no group 'no-s");
	check_refused("listen unix:/a group=4294967295",
	              "conf:1: listen: '4294967295' is not a number");
	check_refused("listen 127.0.0.1:1\nservice www root=/ mode=0660",
	              "conf:2: service: mode= and group= are for a service with socket=");
	snprintf(text, sizeof(text), "listen unix:%0120d", 0);
	check_refused(text, "conf:1: listen: 'unix:0");
	ck_assert_ptr_nonnull(strstr(error, "...' is too long for a unix socket"));
	snprintf(text, sizeof(text), LEAST "control %0108d", 0);
	check_refused(text, "conf:3: control: '0");
	ck_assert_ptr_nonnull(strstr(error, "too long for a unix socket, which takes 107 bytes"));
	snprintf(text, sizeof(text), LEAST "control %0107d", 0);
	check_read(text);
	conf_free(&conf);
	check_refused(LEAST "control @", "conf:3: control: the path of a unix socket is missing");
}

#define SERVICE(words) "listen 127.0.0.1:1\nservice " words

TEST(a_bad_service_is_told)
{
	check_refused(SERVICE("a"), "conf:2: service: 'a' has neither root= nor socket=");
	check_refused(SERVICE("a b"), "conf:2: service: 'b' is not one of root=, workers=");
	check_refused(SERVICE("root=/"), "conf:2: service: 'root=/' is not a service name");
	check_refused(SERVICE("\"\" root=/"), "conf:2: service: '' is not a service name");
	check_refused(SERVICE("a/b root=/"), "conf:2: service: 'a/b' is not a service name");
	check_refused(LEAST "service a/b root=/", "conf:3: service: 'a/b' is not a service name");
	check_refused(SERVICE("a root="), "conf:2: service: root= has no value");
	check_refused(SERVICE("a Root=/"), "conf:2: service: 'Root=/' is not one of root=");
	check_refused(SERVICE("a rootx=/"), "conf:2: service: 'rootx=/' is not one of root=");
	check_refused(SERVICE("a socket=b workers=1"),
	              "conf:2: service: workers= is for a service with root=");
	check_refused(SERVICE("a root=/ choice=random"),
	              "conf:2: service: choice='random' is neither least, round-robin nor by-client");
	check_refused(SERVICE("a root=/nowhere/at/all"),
	              "conf:2: service: the directory '/nowhere/at/all': No such file or directory");
	check_refused(SERVICE("a root=/dev/null"), "conf:2: service: '/dev/null' is not a directory");
	check_refused(
	    SERVICE("1234567890123456789012345678901234567890123456789012345678901234 root=/"),
	    "conf:2: service: '1234567890");
	check_read(SERVICE("123456789012345678901234567890123456789012345678901234567890123 root=/"));
	conf_free(&conf);
}

TEST(a_bad_route_is_told)
{
	check_refused(LEAST "route www", "conf:3: route: neither host= nor path=; 'default' names");
	check_refused(LEAST "route host=a", "conf:3: route: a service's name is missing at the end");
	check_refused(LEAST "route www host=a",
	              "conf:3: route: a service's name is missing at the end");
	check_refused(LEAST "route a www", "conf:3: route: 'a' is not one of host=, path=");
	check_refused(LEAST "route host=a:80 www", "conf:3: route: host='a:80' is neither a name");
	check_refused(LEAST "route host=* www", "conf:3: route: host='*' is neither a name");
	check_refused(LEAST "route path=a www", "conf:3: route: path='a' is not a path like /a/b");
	check_refused(LEAST "route host=b path=/../a www", "conf:3: route: path='/../a' is not a path");
	check_refused(LEAST "route path= www", "conf:3: route: path= has no value");
	check_refused(LEAST "route path=/ a/b", "conf:3: route: 'a/b' is not a service name");
	check_refused("route path=/a chat\n" LEAST, "conf:1: route: there is no service 'chat'");
	check_refused(LEAST "route path=/a www\nroute path=/b ww",
	              "conf:4: route: there is no service 'ww'");
	check_refused(LEAST "default b", "conf:3: default: there is no service 'b'");
}

TEST(a_file_without_a_listener_or_a_service_is_refused)
{
	check_refused("", "conf: a 'listen ADDRESS' line is missing");
	check_refused("service a root=/", "conf: a 'listen ADDRESS' line is missing");
	check_refused("listen 127.0.0.1:1\n", "conf: a 'service NAME ...' line is missing");
}

TEST(there_is_a_bound_of_each)
{
	static char text[65536];
	size_t used = 0;
	for (int i = 0; i <= CONF_LISTENS; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "listen 127.0.0.1:%d\n", i + 1);
	check_refused(text, "conf:17: listen: more than 16 addresses");

	used = (size_t)snprintf(text, sizeof(text), "listen 127.0.0.1:1\n");
	for (int i = 0; i <= CONF_SERVICES; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "service s%d root=/\n", i);
	check_refused(text, "conf:34: service: more than 32 services");

	used = (size_t)snprintf(text, sizeof(text), LEAST);
	for (int i = 0; i < CONF_ROUTES; i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "route path=/%d www\n", i);
	check_read(text);
	ck_assert_int_eq(routes_find(conf.routes, "", 0, "/255", 4), 0);
	conf_free(&conf);
	snprintf(text + used, sizeof(text) - used, "route path=/x www\n");
	check_refused(text, "conf:259: route: more than 256 routes");
}

TEST_CASE("file");

TEST(the_routes_of_a_file_lead_to_its_services)
{
	check_read("listen 127.0.0.1:1\nservice a root=/\nservice b root=/\nservice c root=/\n"
	           "route host=b.org b\nroute path=/c c\ndefault c\n");
	ck_assert_int_eq(routes_find(conf.routes, "b.org", 5, "/", 1), 1);
	ck_assert_int_eq(routes_find(conf.routes, "a.org", 5, "/c", 2), 2);
	ck_assert_int_eq(routes_find(conf.routes, "a.org", 5, "/", 1), 2);
	conf_free(&conf);
}

TEST_CASE("refused");

TEST(no_mutation_of_one_byte_breaks_the_reader)
{
	static const char text[] =
	    "listen 127.0.0.1:80 proxy-protocol\n"
	    "service \"www\" root=/ workers=3 # x\n"
	    "route host=*.a path=/b%20c www\ndefault www\nqueue 12\ncontrol \"a \\\" b\"\n";
	check_read(text);
	conf_free(&conf);
	for (size_t at = 0; at < sizeof(text) - 1; at++)
		for (int byte = 0; byte < 256; byte++) {
			char mutated[sizeof(text)];
			memcpy(mutated, text, sizeof(text));
			mutated[at] = (char)byte;
			bool result = read_bytes(mutated, sizeof(text) - 1);
			ck_assert(result == (error[0] == '\0'));
			ck_assert(result || strncmp(error, "conf:", 5) == 0);
			conf_free(&conf);
		}
}

/* The command line. */

static enum settings_result read_arguments(char **arguments)
{
	char *copies[16] = {"ferry-proxy"};
	int count = 1;
	for (; arguments[count - 1] != NULL; count++)
		copies[count] = arguments[count - 1];
	return conf_read(&conf, count, copies, error);
}

#define read_line(...) read_arguments((char *[]){__VA_ARGS__, NULL})

#define ck_line_refused(expected, ...)                                                            \
	do {                                                                                          \
		ck_assert_int_eq(read_line(__VA_ARGS__), SETTINGS_BAD);                                   \
		ck_assert_msg(strncmp(error, expected, strlen(expected)) == 0, "'%s' is not '%s'", error, \
		              expected);                                                                  \
		ck_assert(is_empty());                                                                    \
	} while (0)

static char file_name[64];

static char *write_file(const char *text, size_t length)
{
	snprintf(file_name, sizeof(file_name), "/tmp/ferry-conf-XXXXXX");
	int fd = mkostemp(file_name, O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, length), (ssize_t)length);
	close(fd);
	return file_name;
}

TEST_CASE("arguments");

TEST(a_socket_is_all_that_has_to_be_said)
{
	ck_assert_int_eq(read_line("--socket", "w.sock"), SETTINGS_READ);
	ck_assert_ptr_null(conf.file);
	ck_assert_uint_eq(conf.listen_count, 1);
	ck_assert_str_eq(text_of(&conf.listens[0].address), "127.0.0.1:8080");
	ck_assert_uint_eq(conf.service_count, 1);
	ck_assert_str_eq(conf.services[0].name, "default");
	ck_assert_str_eq(conf.services[0].socket, "w.sock");
	ck_assert_ptr_null(conf.services[0].root);
	ck_assert_uint_eq(conf.services[0].workers, 0);
	conf_free(&conf);

	ck_assert_int_eq(read_line("--root", "/", "--workers", "4", "--address", "::1", "--port", "0"),
	                 SETTINGS_READ);
	ck_assert_str_eq(text_of(&conf.listens[0].address), "[::1]:0");
	ck_assert_str_eq(conf.services[0].root, "/");
	ck_assert_uint_eq(conf.services[0].workers, 4);
	conf_free(&conf);

	ck_assert_int_eq(read_line("--port", "81", "--root", "/", "--socket", "x"), SETTINGS_READ);
	ck_assert_str_eq(text_of(&conf.listens[0].address), "127.0.0.1:81");
	ck_assert_uint_eq(conf.services[0].workers, 2);
	ck_assert_str_eq(conf.services[0].socket, "x");
	conf_free(&conf);
}

TEST(options_take_the_place_of_directives)
{
	static const char text[] = LEAST "admin 127.0.0.1:2\ncontrol a\nqueue 1\nqueue-timeout 1\n"
	                                 "answer-timeout 1\nhead-timeout 1\ndrain-timeout 1\n"
	                                 "max-clients 1\nretry-after 1\n";
	char *file = write_file(text, sizeof(text) - 1);
	ck_assert_int_eq(read_line("--config", file), SETTINGS_READ);
	ck_assert_str_eq(conf.file, file);
	ck_assert_str_eq(text_of(&conf.listens[0].address), "127.0.0.1:1");
	ck_assert_str_eq(conf.control, "a");
	ck_assert_uint_eq(conf.queue, 1);
	conf_free(&conf);

	ck_assert_int_eq(read_line("--config", file, "--listen=[::1]:5  proxy-protocol", "--listen",
	                           "unix:b", "--admin=127.0.0.1:3", "--control=c d", "--queue=2",
	                           "--queue-timeout=3", "--max-clients=7", "--retry-after=8"),
	                 SETTINGS_READ);
	ck_assert_uint_eq(conf.listen_count, 2);
	ck_assert_str_eq(text_of(&conf.listens[0].address), "[::1]:5");
	ck_assert(conf.listens[0].proxy_protocol);
	ck_assert_str_eq(text_of(&conf.listens[1].address), "unix:b");
	ck_assert(!conf.listens[1].proxy_protocol);
	ck_assert_str_eq(text_of(&conf.admin), "127.0.0.1:3");
	ck_assert_str_eq(conf.control, "c d");
	ck_assert_uint_eq(conf.queue, 2);
	ck_assert_uint_eq(milliseconds(conf.queue_timeout), 3);
	ck_assert_uint_eq(milliseconds(conf.answer_timeout), 1);
	ck_assert_uint_eq(conf.max_clients, 7);
	ck_assert_uint_eq(conf.retry_after, 8);
	conf_free(&conf);

	ck_assert_int_eq(read_line("--answer-timeout=4", "--head-timeout=5", "--drain-timeout=6",
	                           "--port=9", "--config", file, "--take-over", "old"),
	                 SETTINGS_READ);
	ck_assert_uint_eq(conf.listen_count, 1);
	ck_assert_str_eq(text_of(&conf.listens[0].address), "127.0.0.1:9");
	ck_assert_uint_eq(milliseconds(conf.answer_timeout), 4);
	ck_assert_uint_eq(milliseconds(conf.head_timeout), 5000);
	ck_assert_uint_eq(milliseconds(conf.drain_timeout), 6000);
	ck_assert_uint_eq(milliseconds(conf.queue_timeout), 1);
	ck_assert_str_eq(conf.take_over, "old");
	conf_free(&conf);
	unlink(file);
}

TEST(a_file_may_leave_the_service_to_the_options)
{
	char *file = write_file("listen 127.0.0.1:1\n", 19);
	ck_assert_int_eq(read_line("--config", file, "--socket", "s"), SETTINGS_READ);
	ck_assert_str_eq(conf.services[0].socket, "s");
	ck_assert_str_eq(text_of(&conf.listens[0].address), "127.0.0.1:1");
	conf_free(&conf);
	ck_assert_int_eq(read_line("--config", file), SETTINGS_BAD);
	ck_assert_ptr_nonnull(strstr(error, ": a 'service NAME ...' line is missing"));
	unlink(file);
}

TEST(bad_options_are_named)
{
	ck_line_refused("--socket is missing, or --root, or --config; see --help", "--port", "1");
	ck_line_refused("'--nothing' is not an option; see --help", "--nothing");
	ck_line_refused("'-x' is not an option; see --help", "-x");
	ck_line_refused("'-x' is not an option; see --help", "--socket", "a", "-xy");
	ck_line_refused("--check takes no argument", "--check=1");
	ck_line_refused("--queue: an argument is missing", "--queue");
	ck_line_refused("'y' is one argument too many; see --help", "--socket", "x", "y");
	ck_line_refused("--socket: is given twice", "--socket", "x", "--socket", "y");
	ck_line_refused("--queue: is given twice", "--queue", "1", "--queue", "2");
	ck_line_refused("--queue: '0' is not a number from 1 to 1000000", "--socket", "x", "--queue",
	                "0");
	ck_line_refused("--port: '65536' is not a number from 0 to 65535", "--socket", "x", "--port",
	                "65536");
	ck_line_refused("--port: '' is not a number", "--socket", "x", "--port", "");
	ck_line_refused("--address: 'localhost' is not an IPv4 or IPv6 address", "--socket", "x",
	                "--address", "localhost");
	ck_line_refused("--listen: 'x' is not an address", "--listen", "x");
	ck_line_refused("--listen: an address is missing", "--listen", " ");
	ck_line_refused("--listen: 'b' is not one of proxy-protocol", "--listen",
	                "127.0.0.1:1 b c d e");
	ck_line_refused("--listen excludes --address and --port", "--socket", "x", "--listen",
	                "127.0.0.1:1", "--port", "1");
	ck_line_refused("--workers is for workers with a --root", "--socket", "x", "--workers", "1");
	ck_line_refused("--workers: '0' is not a number from 1 to 1024", "--root", "/", "--workers",
	                "0");
	ck_line_refused("--root: the directory '/nowhere': No such file", "--root", "/nowhere");
	ck_line_refused("--take-over: the path of a unix socket is missing", "--take-over", "",
	                "--socket", "x");
	ck_line_refused("--socket: the path of a unix socket is missing", "--socket", "");
	ck_line_refused("--control: the path of a unix socket is missing", "--control", "");
	ck_line_refused("--demo needs an --admin address on loopback", "--root", "/", "--demo");
	ck_line_refused("--demo needs an --admin address on loopback", "--root", "/", "--demo",
	                "--admin", "0.0.0.0:1");
}

TEST(a_bad_file_is_named)
{
	char *file = write_file(LEAST "queue 0\n", sizeof(LEAST "queue 0\n") - 1);
	char expected[128];
	snprintf(expected, sizeof(expected), "%s:3: queue: '0' is not a number", file);
	ck_line_refused(expected, "--config", file);
	ck_line_refused("--root, --workers and --socket are for a proxy without a service", "--config",
	                file, "--queue", "1", "--socket", "x");
	unlink(file);
	snprintf(expected, sizeof(expected), "%s: No such file or directory", file);
	ck_line_refused(expected, "--config", file);
	ck_line_refused("/tmp: Is a directory", "--config", "/tmp");

	static char large[CONF_FILE_MAX + 1];
	memset(large, '\n', sizeof(large));
	memcpy(large, LEAST, sizeof(LEAST) - 1);
	file = write_file(large, sizeof(large) - 1);
	ck_assert_int_eq(read_line("--config", file), SETTINGS_READ);
	conf_free(&conf);
	unlink(file);
	file = write_file(large, sizeof(large));
	snprintf(expected, sizeof(expected), "%s: the file is longer than 1048576 bytes", file);
	ck_line_refused(expected, "--config", file);
	unlink(file);
}

/* What a call prints to the standard output. */
static const char *printed_by(const char *option)
{
	static char text[8192];
	FILE *file = tmpfile();
	ck_assert_ptr_nonnull(file);
	fflush(stdout);
	int before = dup(STDOUT_FILENO);
	ck_assert_int_ge(dup2(fileno(file), STDOUT_FILENO), 0);
	ck_assert_int_eq(read_line((char *)option, "--nothing"), SETTINGS_ANSWERED);
	fflush(stdout);
	ck_assert_int_ge(dup2(before, STDOUT_FILENO), 0);
	close(before);
	rewind(file);
	text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
	fclose(file);
	ck_assert(is_empty());
	return text;
}

TEST(help_and_version_are_answered_at_once)
{
	const char *text = printed_by("--help");
	ck_assert_int_eq(strncmp(text, "usage: ferry-proxy", 18), 0);
	ck_assert_ptr_nonnull(strstr(text, "\n  --queue N                requests that wait for"));
	ck_assert_ptr_nonnull(strstr(text, "[group=NAME]'\n                           127.0.0.1:8080"));
	ck_assert_ptr_nonnull(strstr(text, "\n                           the proxy has it and"));
	ck_assert_ptr_null(strstr(text, "--route"));
	ck_assert_int_eq(strncmp(printed_by("--version"), "ferry-proxy 0.", 14), 0);
}

TEST(a_check_reads_all)
{
	ck_assert_int_eq(read_line("--check", "--socket", "x"), SETTINGS_READ);
	ck_assert(conf.check);
	ck_assert_uint_eq(conf.service_count, 1);
	conf_free(&conf);
	ck_assert_int_eq(read_line("--check"), SETTINGS_BAD);
}

TEST(the_same_arguments_may_be_read_again)
{
	char *arguments[] = {"ferry-proxy", "--socket", "x", "--queue", "5", NULL};
	for (int turn = 0; turn < 3; turn++) {
		ck_assert_int_eq(conf_read(&conf, 5, arguments, error), SETTINGS_READ);
		ck_assert_uint_eq(conf.queue, 5);
		conf_free(&conf);
	}
	ck_assert_int_eq(conf_read(&conf, 4, arguments, NULL), SETTINGS_BAD);
}

TEST_CASE("file");

TEST(the_example_works_and_has_every_directive)
{
	static const char *const names[] = {
	    "listen",        "admin",          "control",        "service",
	    "route",         "default",        "max-clients",    "queue",
	    "queue-timeout", "retry-after",    "answer-timeout", "head-timeout",
	    "drain-timeout", "proxy-protocol", "lame-duck",      "head-size",
	    "head-fields",   "from=",          "mode=",          "tls-passthrough",
	    "server-name=",  "alpn=",          "tls-default",    "tls-certificate=",
	    "tls-key=",      "start-timeout",  "scheduling"};
	static char text[65536];
	ck_assert_int_eq(chdir(FERRY_SOURCE), 0);
	ck_assert_int_eq(read_line("--config", "src/programs/ferry-proxy/ferry-proxy.conf"),
	                 SETTINGS_READ);
	ck_assert_uint_eq(conf.service_count, 2);
	conf_free(&conf);
	int fd = open("src/programs/ferry-proxy/ferry-proxy.conf", O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ssize_t length = read(fd, text, sizeof(text) - 1);
	ck_assert_int_gt(length, 0);
	close(fd);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		ck_assert_msg(strstr(text, names[i]) != NULL, "%s", names[i]);
	/* The directives behind '#' are valid, too. */
	for (char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (line[0] == '#' && line[1] >= 'a' && line[1] <= 'z')
			line[0] = ' ';
	}
	ck_assert_msg(read_bytes(text, strlen(text)), "%s", error);
	ck_assert_uint_eq(conf.service_count, 4);
	ck_assert_uint_eq(conf.listen_count, 6);
	conf_free(&conf);
}
