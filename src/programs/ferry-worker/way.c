#include "programs/ferry-worker/way.h"

#include "programs/ferry-worker/filled_page.h"
#include "programs/http/answer.h"
#include "programs/http/mime_type.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/util.h>
#include <ferry/ferry.h>

enum { NUMBER_SIZE = 24, TIME_SIZE = 64 };

/* The texts that belong to a request. */
struct way {
	char proxy[NUMBER_SIZE];
	char worker[NUMBER_SIZE];
	char id[NUMBER_SIZE];
	char attempt[NUMBER_SIZE];
	char number[NUMBER_SIZE];
	char claimed[TIME_SIZE];
	char clock[TIME_SIZE];
	char now[TIME_SIZE];
};

static void format_time(const struct timeval *time, char *out)
{
	struct tm utc;
	out[0] = '\0';
	if (gmtime_r(&time->tv_sec, &utc) == NULL)
		return;
	size_t length = strftime(out, TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(out + length, TIME_SIZE - length, ".%03ldZ", (long)time->tv_usec / 1000);
}

static void describe(const struct connection *connection, struct way *way)
{
	struct ferry_peer_credentials proxy = {0};
	struct timeval now;
	ferry_transport_get_peer_credentials(ferry_worker_get_transport(connection->tag.worker),
	                                     &proxy);
	evutil_gettimeofday(&now, NULL);
	snprintf(way->proxy, NUMBER_SIZE, "%ld", (long)proxy.pid);
	snprintf(way->worker, NUMBER_SIZE, "%ld", (long)getpid());
	snprintf(way->id, NUMBER_SIZE, "%llu", (unsigned long long)connection->tag.id);
	snprintf(way->attempt, NUMBER_SIZE, "%u", connection->attempt);
	snprintf(way->number, NUMBER_SIZE, "%u", connection->requests);
	format_time(&connection->claimed, way->claimed);
	snprintf(way->clock, TIME_SIZE, "%.12s UTC", way->claimed[0] != '\0' ? way->claimed + 11 : "");
	format_time(&now, way->now);
}

static int add_page(struct evbuffer *out, const struct connection *connection,
                    const struct static_file *file)
{
	struct way way = {.proxy = ""};
	char client[FERRY_ADDRESS_TEXT_SIZE];
	describe(connection, &way);
	const struct template_value values[] = {
	    {"proxy.pid", .text = way.proxy},
	    {"worker.pid", .text = way.worker},
	    {"connection.id", .text = way.id},
	    {"connection.client", .text = connection_client_name(connection, client)},
	    {"connection.attempt", .text = way.attempt},
	    {"connection.claimed", .text = way.claimed},
	    {"connection.clock", .text = way.clock},
	    {"request.number", .text = way.number},
	    {"request.time", .text = way.now},
	};
	return filled_page_add_file(out, file->fd, file->size, values,
	                            sizeof(values) / sizeof(values[0]));
}

static int add_answer(struct evbuffer *out, const struct connection *connection, const char *path,
                      struct evbuffer *page)
{
	if (http_answer_begin(out, 200, connection->keep_alive) < 0 ||
	    evbuffer_add_printf(out,
	                        "Content-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
	                        "X-Content-Type-Options: nosniff\r\n\r\n",
	                        mime_type_of(path), evbuffer_get_length(page)) < 0)
		return -1;
	return connection->head.method == HTTP_GET ? evbuffer_add_buffer(out, page) : 0;
}

void connection_answer_way(struct connection *connection, const char *path,
                           const struct static_file *file)
{
	struct evbuffer *out = evbuffer_new(), *page = evbuffer_new();
	if (out == NULL || page == NULL || add_page(page, connection, file) < 0 ||
	    add_answer(out, connection, path, page) < 0)
		connection_abandon(connection);
	else
		connection_queue_answer(connection, out);
	if (out != NULL)
		evbuffer_free(out);
	if (page != NULL)
		evbuffer_free(page);
}
