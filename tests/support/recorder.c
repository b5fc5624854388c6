#include "recorder.h"

#include <string.h>
#include <unistd.h>

#include "support.h"

static void note(struct recorder *recorder, struct ferry_transport *transport, char event)
{
	ck_assert_msg(!recorder->quiet, "callback %c inside a call that runs none", event);
	ck_assert_msg(recorder->transport != NULL, "callback %c after ferry_transport_free()", event);
	ck_assert_ptr_eq(transport, recorder->transport);
	ck_assert_msg(recorder->lost == 0, "callback %c after connection_lost", event);
	ck_assert_msg(event == EVENT_MADE || recorder->made > 0, "callback %c before connection_made",
	              event);
	int last = recorder->event_count > 0 ? recorder->events[recorder->event_count - 1] : '\0';
	if (event == EVENT_DATA && last == EVENT_DATA)
		return;
	if (recorder->event_count < RECORDER_MAX_EVENTS)
		recorder->events[recorder->event_count++] = event;
}

static void run_hook(struct recorder *recorder, char event)
{
	if (recorder->hook != NULL)
		recorder->hook(recorder, event);
}

void recorder_connection_made(struct ferry_transport *transport, void *context)
{
	struct recorder *recorder = context;
	note(recorder, transport, EVENT_MADE);
	recorder->made++;
	run_hook(recorder, EVENT_MADE);
}

void recorder_data_received(struct ferry_transport *transport, struct evbuffer *input,
                            void *context)
{
	struct recorder *recorder = context;
	note(recorder, transport, EVENT_DATA);
	recorder->data++;
	ck_assert_uint_gt(evbuffer_get_length(input), 0);
	ck_assert_ptr_eq(input,
	                 bufferevent_get_input(ferry_transport_get_bufferevent(recorder->transport)));
	ck_assert_int_eq(evbuffer_add_buffer(recorder->received, input), 0);
	run_hook(recorder, EVENT_DATA);
}

void recorder_fd_received(struct ferry_transport *transport, int fd, void *context)
{
	struct recorder *recorder = context;
	note(recorder, transport, EVENT_FD);
	ck_assert(fd_is_open(fd));
	ck_assert_uint_lt(recorder->fd_count, RECORDER_MAX_FDS);
	recorder->fds[recorder->fd_count] = fd;
	recorder->fd_at[recorder->fd_count] = recorder_length(recorder);
	recorder->fd_count++;
	run_hook(recorder, EVENT_FD);
	if (recorder->close_fds && recorder->fds[recorder->fd_count - 1] >= 0) {
		close(fd);
		recorder->fds[recorder->fd_count - 1] = -1;
	}
}

void recorder_fds_lost(struct ferry_transport *transport, void *context)
{
	struct recorder *recorder = context;
	note(recorder, transport, EVENT_FDS_LOST);
	recorder->fds_lost++;
	run_hook(recorder, EVENT_FDS_LOST);
}

void recorder_read_lost(struct ferry_transport *transport, void *context)
{
	struct recorder *recorder = context;
	note(recorder, transport, EVENT_READ_LOST);
	recorder->read_lost++;
	ck_assert_uint_eq(recorder->read_lost, 1);
	run_hook(recorder, EVENT_READ_LOST);
}

void recorder_connection_lost(struct ferry_transport *transport, int reason, void *context)
{
	struct recorder *recorder = context;
	note(recorder, transport, EVENT_LOST);
	ck_assert_int_le(reason, 0);
	recorder->lost++;
	recorder->reason = reason;
	run_hook(recorder, EVENT_LOST);
}

const struct ferry_protocol recorder_protocol = {
    .connection_made = recorder_connection_made,
    .data_received = recorder_data_received,
    .file_descriptor_received = recorder_fd_received,
    .file_descriptors_lost = recorder_fds_lost,
    .read_connection_lost = recorder_read_lost,
    .connection_lost = recorder_connection_lost,
};

const struct ferry_protocol recorder_no_half_close = {
    .connection_made = recorder_connection_made,
    .data_received = recorder_data_received,
    .file_descriptor_received = recorder_fd_received,
    .file_descriptors_lost = recorder_fds_lost,
    .connection_lost = recorder_connection_lost,
};

struct ferry_transport *make_transport(int fd)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	ck_assert_ptr_nonnull(bev);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_ptr_nonnull(transport);
	return transport;
}

void recorder_attach(struct recorder *recorder, struct ferry_transport *transport,
                     const struct ferry_protocol *protocol)
{
	memset(recorder, 0, sizeof(*recorder));
	recorder->received = evbuffer_new();
	recorder->transport = transport;
	recorder->quiet = true;
	ck_assert_int_eq(ferry_transport_set_protocol(transport, protocol, recorder), 0);
	recorder->quiet = false;
}

void recorder_open(struct recorder *recorder, int fd, const struct ferry_protocol *protocol)
{
	recorder_attach(recorder, make_transport(fd), protocol);
}

void recorder_open_pipes(struct recorder *recorder, int read_fd, int write_fd,
                         const struct ferry_protocol *protocol)
{
	struct ferry_transport *transport = NULL;
	ck_assert_int_eq(ferry_transport_new_pipes(&transport, base, read_fd, write_fd), 0);
	recorder_attach(recorder, transport, protocol);
}

void recorder_free_transport(struct recorder *recorder)
{
	struct ferry_transport *transport = recorder->transport;
	recorder->transport = NULL;
	ferry_transport_free(transport);
}

void recorder_close(struct recorder *recorder)
{
	recorder_free_transport(recorder);
	for (unsigned int i = 0; i < recorder->fd_count; i++)
		if (recorder->fds[i] >= 0)
			ck_assert_int_eq(close(recorder->fds[i]), 0);
	recorder->fd_count = 0;
	evbuffer_free(recorder->received);
	recorder->received = NULL;
}

size_t recorder_length(const struct recorder *recorder)
{
	return evbuffer_get_length(recorder->received);
}

void recorder_expect_bytes(struct recorder *recorder, uint64_t position, size_t length)
{
	ck_assert_uint_eq(recorder_length(recorder), length);
	unsigned char block[4096];
	int n;
	while ((n = evbuffer_remove(recorder->received, block, sizeof(block))) > 0)
		for (int i = 0; i < n; i++, position++)
			if (block[i] != support_byte(position))
				ck_abort_msg("another byte at position %llu", (unsigned long long)position);
}

static bool is_lost(void *argument)
{
	return ((struct recorder *)argument)->lost > 0;
}

void pump_until_lost(struct recorder *recorder)
{
	pump_until(is_lost, recorder);
}

struct wanted_length {
	struct recorder *recorder;
	size_t length;
};

static bool length_is_reached(void *argument)
{
	const struct wanted_length *wanted = argument;
	return recorder_length(wanted->recorder) >= wanted->length;
}

void pump_until_length(struct recorder *recorder, size_t length)
{
	pump_until(length_is_reached, &(struct wanted_length){recorder, length});
}

void pump_until_fds(struct recorder *recorder, unsigned int count)
{
	pump_until_count(&recorder->fd_count, count);
}

struct ferry_transport_stats stats_of(const struct ferry_transport *transport)
{
	struct ferry_transport_stats stats;
	ck_assert_int_eq(ferry_transport_get_stats(transport, &stats), 0);
	return stats;
}
