/* Bytes that are read from an evbuffer and written to one: PROXY headers, and the first message of a TLS client. Only
 * memory can fail; a call that fails takes nothing and leaves nothing half written. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/buffer.h>

#include "fault_sweep.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"

static struct evbuffer *buffer;

static void make_buffer(void)
{
	disarm();
	buffer = evbuffer_new();
	arm();
}

static void free_buffer(void)
{
	disarm();
	evbuffer_free(buffer);
	arm();
}

static const char unchanged[] = "a call that fails changes nothing";

/* ---- PROXY headers ---- */

static bool fill_header(struct ferry_proxy_protocol *header)
{
	struct sockaddr_in source = {.sin_family = AF_INET, .sin_port = htons(1000)};
	struct sockaddr_in destination = {.sin_family = AF_INET, .sin_port = htons(80)};
	return called(ferry_proxy_protocol_set_addresses(
	           header, SOCK_STREAM, (struct sockaddr *)&source, sizeof(source),
	           (struct sockaddr *)&destination, sizeof(destination))) == 0 &&
	       called(ferry_proxy_protocol_add_tlv(header, FERRY_PROXY_PROTOCOL_TLV_AUTHORITY,
	                                           "example.org", 11)) == 0 &&
	       called(ferry_proxy_protocol_add_tlv(header, 0xe0, "more", 4)) == 0 &&
	       called(ferry_proxy_protocol_set_checksum(header, true)) == 0;
}

static bool write_header(unsigned int version)
{
	struct ferry_proxy_protocol *header = NULL;
	bool written = false;
	if (called(ferry_proxy_protocol_new(&header)) == 0 && (version == 1 || fill_header(header)))
		written = called(ferry_proxy_protocol_write(header, version, buffer)) == 0;
	ferry_proxy_protocol_free(header);
	disarm();
	check_that(written || evbuffer_get_length(buffer) == 0, unchanged);
	arm();
	return written;
}

static bool is_as_written(const struct ferry_proxy_protocol *header, unsigned int version)
{
	struct ferry_proxy_protocol_info info;
	struct ferry_proxy_protocol_tlv tlv;
	if (called(ferry_proxy_protocol_get_info(header, &info)) < 0 || info.version != version)
		return false;
	return version == 1 ? info.kind == FERRY_PROXY_PROTOCOL_UNKNOWN
	                    : info.kind == FERRY_PROXY_PROTOCOL_PROXIED && info.has_checksum &&
	                          called(ferry_proxy_protocol_find_tlv(&tlv, header, 0xe0)) == 0 &&
	                          tlv.length == 4 && memcmp(tlv.value, "more", 4) == 0;
}

static void pass_header(struct event_base *loop, int version)
{
	struct ferry_proxy_protocol *header = NULL;
	(void)loop;
	make_buffer();
	if (write_header((unsigned int)version)) {
		size_t length = evbuffer_get_length(buffer);
		int status = called(ferry_proxy_protocol_read(&header, buffer, 0, NULL));
		size_t left = evbuffer_get_length(buffer);
		disarm();
		check_that(left == (status == 0 ? 0 : length), unchanged);
		arm();
		if (status == 0 && is_as_written(header, (unsigned int)version))
			completed();
	}
	ferry_proxy_protocol_free(header);
	free_buffer();
}

/* The header arrives byte by byte. */
static void pass_header_slowly(struct event_base *loop, int version)
{
	struct ferry_proxy_protocol *header = NULL;
	unsigned char byte;
	int status = -EAGAIN;
	(void)loop;
	make_buffer();
	if (write_header((unsigned int)version)) {
		disarm();
		struct evbuffer *slow = evbuffer_new();
		arm();
		while (status == -EAGAIN && evbuffer_remove(buffer, &byte, 1) == 1) {
			disarm();
			evbuffer_add(slow, &byte, 1);
			arm();
			status = ferry_proxy_protocol_read(&header, slow, 0, NULL);
		}
		if (called(status) == 0 && is_as_written(header, (unsigned int)version))
			completed();
		disarm();
		evbuffer_free(slow);
		arm();
	}
	ferry_proxy_protocol_free(header);
	free_buffer();
}

static void trust_sources(struct event_base *loop, int kind)
{
	static const char *const texts[] = {"192.0.2.0/24", "2001:db8::/32", "unix", "198.51.100.1"};
	struct ferry_proxy_protocol_sources *sources = NULL;
	struct sockaddr_in address = {.sin_family = AF_INET};
	(void)loop, (void)kind;
	int status = called(ferry_proxy_protocol_sources_new(&sources));
	for (int i = 0; i < COUNT(texts) && status == 0; i++) {
		inet_pton(AF_INET, i < 3 ? "198.51.100.1" : "192.0.2.77", &address.sin_addr);
		bool before = ferry_proxy_protocol_sources_contain(sources, (struct sockaddr *)&address,
		                                                   sizeof(address));
		status = called(ferry_proxy_protocol_sources_add(sources, texts[i]));
		disarm();
		check_that(before == (i >= 3), unchanged);
		arm();
	}
	if (status == 0 &&
	    ferry_proxy_protocol_sources_contain(sources, (struct sockaddr *)&address, sizeof(address)))
		completed();
	ferry_proxy_protocol_sources_free(sources);
}

/* ---- ClientHello ---- */

/* server_name "a.example", and the protocols "h2" and "http/1.1". */
static const unsigned char body[] = {
    3,   3,  0,  1,  2,  3,  4,  5,  6,   7,   8,  9,   10,  11,  12,  13,  14,  15,   16,  17,
    18,  19, 20, 21, 22, 23, 24, 25, 26,  27,  28, 29,  30,  31,  0,   0,   2,   0x13, 1,   1,
    0,   0,  36, 0,  0,  0,  14, 0,  12,  0,   0,  9,   'a', '.', 'e', 'x', 'a', 'm',  'p', 'l',
    'e', 0,  16, 0,  14, 0,  12, 2,  'h', '2', 8,  'h', 't', 't', 'p', '/', '1', '.',  '1',
};

static void add_record(const void *bytes, size_t length)
{
	const unsigned char header[] = {22, 3, 1, (unsigned char)(length >> 8), (unsigned char)length};
	disarm();
	evbuffer_add(buffer, header, sizeof(header));
	evbuffer_add(buffer, bytes, length);
	arm();
}

/* In two records, the second of which comes later. */
static void read_hello(struct event_base *loop, int kind)
{
	unsigned char message[4 + sizeof(body)] = {1, 0, 0, sizeof(body)};
	struct ferry_client_hello *hello = NULL;
	struct ferry_client_hello_info info = {.server_name = NULL};
	struct ferry_client_hello_protocol protocol;
	(void)loop, (void)kind;
	memcpy(message + 4, body, sizeof(body));
	make_buffer();
	add_record(message, 50);
	int status = ferry_client_hello_read(&hello, buffer, 0, NULL);
	if (status != -EAGAIN)
		called(status);
	add_record(message + 50, sizeof(message) - 50);
	if (status == -EAGAIN)
		status = called(ferry_client_hello_read(&hello, buffer, 0, NULL));
	if (status == 0 && called(ferry_client_hello_get_info(hello, &info)) == 0 &&
	    info.server_name != NULL && strcmp(info.server_name, "a.example") == 0 &&
	    called(ferry_client_hello_get_protocol(&protocol, hello, 0)) == 0 &&
	    ferry_client_hello_offers(hello, "http/1.1"))
		completed();
	ferry_client_hello_free(hello);
	disarm();
	check_that(evbuffer_get_length(buffer) == 10 + sizeof(message), unchanged);
	arm();
	free_buffer();
}

static const struct scenario scenarios[] = {
    {"PROXY header, version 1", pass_header, 1, CALL_ALLOCATION, CALL_NONE, NULL},
    {"PROXY header, version 2", pass_header, 2, CALL_ALLOCATION, CALL_NONE, NULL},
    {"PROXY header, byte by byte", pass_header_slowly, 2, CALL_ALLOCATION, CALL_NONE, NULL},
    {"PROXY sources", trust_sources, 0, CALL_ALLOCATION, CALL_NONE, NULL},
    {"ClientHello", read_hello, 0, CALL_ALLOCATION, CALL_NONE, NULL},
};

LOOP_TEST(every_call_may_fail, COUNT(scenarios))
{
	sweep_scenario_of(&scenarios[_i], PAIRS_OF);
}

BEFORE_ALL
{
	heap_take_over();
}
