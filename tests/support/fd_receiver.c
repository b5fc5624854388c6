#include "fd_receiver.h"

#include <string.h>
#include <unistd.h>

#include "support.h"

int receiver_ends[2];

struct recorder fd_receiver;

const struct ferry_protocol no_fd_callback = {
    .connection_made = recorder_connection_made,
    .data_received = recorder_data_received,
    .file_descriptors_lost = recorder_fds_lost,
    .connection_lost = recorder_connection_lost,
};

void open_fd_receiver(const struct ferry_protocol *protocol)
{
	make_pair(PAIR_UNIX, receiver_ends);
	recorder_open(&fd_receiver, receiver_ends[1], protocol);
	pump_turns(2);
}

void close_fd_receiver(void)
{
	recorder_close(&fd_receiver);
	if (receiver_ends[0] >= 0)
		close(receiver_ends[0]);
}

void send_marked(const char *text, uint32_t first, size_t count)
{
	int fds[WIRE_MAX_FDS];
	for (size_t i = 0; i < count; i++)
		fds[i] = make_marked_fd(first + (uint32_t)i);
	ck_assert_int_eq(wire_send(receiver_ends[0], text, strlen(text), fds, count),
	                 (ssize_t)strlen(text));
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
}

void check_received(uint32_t first, unsigned int count)
{
	ck_assert_uint_eq(fd_receiver.fd_count, count);
	for (unsigned int i = 0; i < count; i++)
		ck_assert_uint_eq(marked_number(fd_receiver.fds[i]), first + i);
}

void check_text(const char *text)
{
	ck_assert_uint_eq(recorder_length(&fd_receiver), strlen(text));
	if (*text != '\0')
		ck_assert_mem_eq(evbuffer_pullup(fd_receiver.received, -1), text, strlen(text));
}

unsigned int cb_fds, cb_reads, fds_at_read;

void take_and_close(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport;
	ck_assert_ptr_eq(context, &cb_fds);
	ck_assert_uint_eq(marked_number(fd), cb_fds);
	close(fd);
	cb_fds++;
}

void note_read(struct bufferevent *bev, void *context)
{
	(void)bev, (void)context;
	cb_reads++;
	fds_at_read = cb_fds;
}

unsigned int cb_events, cb_losses;

short cb_what;

int cb_errno;

void note_event(struct bufferevent *bev, short what, void *context)
{
	cb_errno = EVUTIL_SOCKET_ERROR();
	(void)bev, (void)context;
	cb_what = what;
	cb_events++;
}
