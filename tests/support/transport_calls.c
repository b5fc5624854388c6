#include "transport_calls.h"

#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "every_call.h"
#include "support.h"
#include "test.h"

enum { LENGTH = 100000 };

struct ferry_transport *(*transport_of_first)(void), *(*transport_of_second)(void);
static const struct timeval at_once = {0, 0};
static char bytes[LENGTH];

static void on_both(int (*call)(struct ferry_transport *transport))
{
	call(transport_of_first());
	call(transport_of_second());
}

static void abort_both(void)
{
	on_both(ferry_transport_abort_connection);
}

static void lose_both(void)
{
	on_both(ferry_transport_lose_connection);
}

static void lose_write_of_both(void)
{
	on_both(ferry_transport_lose_write_connection);
}

/* These bytes are no message. */
static int write_on(struct ferry_transport *transport)
{
	struct evbuffer *buffer = evbuffer_new();

	ferry_transport_write(transport, bytes, 100);
	evbuffer_add(buffer, bytes, LENGTH);
	ferry_transport_write_buffer(transport, buffer);
	evbuffer_free(buffer);
	return ferry_transport_send_fd(transport, 0, FERRY_FD_DUP);
}

static void write_on_both(void)
{
	on_both(write_on);
}

static int send_file_on(struct ferry_transport *transport)
{
	int fd = make_file(10);
	int status = ferry_transport_send_file(NULL, transport, fd, FERRY_FD_TAKE, 0, FERRY_TO_END, 0,
	                                       NULL, NULL);
	if (status < 0)
		close(fd);
	return status;
}

static void send_file_on_both(void)
{
	on_both(send_file_on);
}

static int flush_one(struct ferry_transport *transport)
{
	return ferry_transport_flush(transport, &at_once);
}

static void flush_both(void)
{
	on_both(flush_one);
}

static void pause_both(void)
{
	on_both(ferry_transport_pause_reading);
}

static void resume_both(void)
{
	on_both(ferry_transport_pause_reading);
	on_both(ferry_transport_resume_reading);
}

static int set_protocol_of(struct ferry_transport *transport)
{
	static const struct ferry_protocol silent;

	return ferry_transport_set_protocol(transport, &silent, NULL);
}

static void set_protocol_of_both(void)
{
	on_both(set_protocol_of);
}

static void resumed(void *context)
{
	(void)context;
}

static int register_at(struct ferry_transport *transport)
{
	static const struct ferry_producer_callbacks pull = {.resume_producing = resumed};

	ferry_transport_unregister_producer(transport);
	return ferry_transport_register_producer(transport, &pull, NULL, FERRY_PRODUCER_PULL);
}

static void register_at_both(void)
{
	on_both(register_at);
}

static int detach_one(struct ferry_transport *transport)
{
	struct bufferevent *bev;
	int status = ferry_transport_detach(transport, &bev);

	ck_assert_int_lt(status, 0);
	return status;
}

static void detach_both(void)
{
	on_both(detach_one);
}

static int settle_one(struct ferry_transport *transport)
{
	ferry_transport_set_byte_limit(transport, 1);
	ferry_transport_set_fd_buffer(transport, 1, 1);
	ferry_transport_set_close_timeout(transport, &at_once);
	ferry_transport_set_linger_timeout(transport, &at_once);
	ferry_transport_set_tls_truncation(transport, true);
	return ferry_transport_peer_has_closed(transport);
}

static void settle_both(void)
{
	on_both(settle_one);
}

static int get_tls_of(struct ferry_transport *transport)
{
	struct ferry_transport_tls tls;

	return ferry_transport_get_tls(transport, &tls);
}

static void get_tls_of_both(void)
{
	on_both(get_tls_of);
}

static int disable_one(struct ferry_transport *transport)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);

	return bev != NULL ? bufferevent_disable(bev, EV_READ | EV_WRITE) : 0;
}

static void disable_both(void)
{
	on_both(disable_one);
}

const struct every_call transport_calls[] = {
    {"ferry_transport_abort_connection", abort_both},
    {"ferry_transport_lose_connection", lose_both},
    {"ferry_transport_lose_write_connection", lose_write_of_both},
    {"ferry_transport_write, _write_buffer, _send_fd", write_on_both},
    {"ferry_transport_send_file", send_file_on_both},
    {"ferry_transport_flush", flush_both},
    {"ferry_transport_pause_reading", pause_both},
    {"ferry_transport_resume_reading", resume_both},
    {"ferry_transport_set_protocol", set_protocol_of_both},
    {"ferry_transport_register_producer", register_at_both},
    {"ferry_transport_detach", detach_both},
    {"ferry_transport_set_…", settle_both},
    {"ferry_transport_get_tls", get_tls_of_both},
    {"bufferevent_disable", disable_both},
};
const int transport_call_count = COUNT(transport_calls);
