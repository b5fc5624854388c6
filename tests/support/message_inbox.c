#include "message_inbox.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

struct inbox inbox, second_inbox;

int inbox_ends[2];

static void inbox_on_made(struct ferry_message_stream *stream, void *context)
{
	struct inbox *box = context;
	ck_assert_ptr_eq(stream, box->stream);
	ck_assert_uint_eq(box->count + box->lost, 0);
	box->made++;
}

static void inbox_on_message(struct ferry_message_stream *stream, struct ferry_message *message,
                             void *context)
{
	struct inbox *box = context;
	ck_assert_ptr_nonnull(box->stream);
	ck_assert_ptr_eq(stream, box->stream);
	ck_assert_uint_eq(box->made, 1);
	ck_assert_uint_eq(box->lost, 0);
	ck_assert_uint_lt(box->count, NOTES_MAX);
	ck_assert_uint_eq(box->depth, 0);
	box->depth++;

	struct note *note = &box->notes[box->count++];
	note->type = ferry_message_get_type(message);
	const void *payload = ferry_message_get_payload(message, &note->length);
	note->declared = ferry_message_get_fd_count(message);
	note->lost = ferry_message_get_fds_lost(message);
	ck_assert_uint_le(note->lost, note->declared);
	size_t arrived = note->declared - note->lost;
	for (size_t i = 0; i < arrived; i++) {
		int fd = ferry_message_get_fd(message, i);
		ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
		if (i == 0)
			note->first_mark = marked_number(fd);
		ck_assert_uint_eq(marked_number(fd), (note->first_mark + i) % INBOX_MARKS);
	}
	ck_assert_int_eq(ferry_message_get_fd(message, arrived), -ENOENT);
	ck_assert_int_eq(ferry_message_steal_fd(message, arrived), -ENOENT);
	ck_assert_int_eq(ferry_message_steal_fd(message, SIZE_MAX), -ENOENT);
	size_t copied = note->length < sizeof(box->payload) ? note->length : sizeof(box->payload);
	memcpy(box->payload, payload, copied);
	if (box->hook != NULL)
		box->hook(box, message);
	box->depth--;
}

static void inbox_on_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	struct inbox *box = context;
	ck_assert_ptr_eq(stream, box->stream);
	ck_assert_uint_eq(box->made, 1);
	box->lost++;
	ck_assert_uint_eq(box->lost, 1);
	box->reason = reason;
	if (box->on_lost != NULL)
		box->on_lost(box);
}

const struct ferry_message_callbacks inbox_callbacks = {.connection_made = inbox_on_made,
                                                        .message_received = inbox_on_message,
                                                        .connection_lost = inbox_on_lost};

void open_inbox(struct inbox *box, int fd, int options)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE | options);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_message_stream_new(&box->stream, transport, &inbox_callbacks, box), 0);
	ck_assert_ptr_eq(ferry_message_stream_get_transport(box->stream), transport);
}

void open_messages_over(enum pair_kind kind)
{
	make_pair(kind, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], 0);
}

void open_messages(void)
{
	open_messages_over(PAIR_UNIX);
}

void free_messages(struct inbox *box)
{
	struct ferry_message_stream *stream = box->stream;
	box->stream = NULL;
	ferry_message_stream_free(stream);
}

void close_inbox_far(void)
{
	if (inbox_ends[1] >= 0)
		close(inbox_ends[1]);
	inbox_ends[1] = -1;
}

void close_messages(void)
{
	free_messages(&inbox);
	close_inbox_far();
}

struct ferry_transport *inbox_transport(const struct inbox *box)
{
	return ferry_message_stream_get_transport(box->stream);
}

struct bufferevent *inbox_bufferevent(const struct inbox *box)
{
	return ferry_transport_get_bufferevent(inbox_transport(box));
}

void expect_inbox_lost(int reason)
{
	pump_until_count(&inbox.lost, 1);
	ck_assert_int_eq(inbox.reason, reason);
	pump_turns(3);
}

size_t put_message_frame(unsigned char *out, unsigned int type, size_t length, unsigned int fds)
{
	const unsigned char header[INBOX_HEADER] = {
	    'F',
	    'R',
	    'Y',
	    1,
	    (unsigned char)type,
	    (unsigned char)(type >> 8),
	    0,
	    0,
	    (unsigned char)length,
	    (unsigned char)(length >> 8),
	    (unsigned char)(length >> 16),
	    (unsigned char)(length >> 24),
	    (unsigned char)fds,
	    (unsigned char)(fds >> 8),
	    0,
	    0,
	};
	memcpy(out, header, INBOX_HEADER);
	for (size_t i = 0; i < length; i++)
		out[INBOX_HEADER + i] = support_byte(i);
	return INBOX_HEADER + length;
}

size_t open_marked(int *fds, uint32_t first, size_t count)
{
	for (size_t i = 0; i < count; i++)
		fds[i] = make_marked_fd((first + (uint32_t)i) % INBOX_MARKS);
	return count;
}

void close_fds(const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(close(fds[i]), 0);
}

void far_send_marked(const unsigned char *bytes, size_t length, uint32_t mark, size_t count)
{
	int fds[WIRE_MAX_FDS] = {0};
	open_marked(fds, mark, count);
	ck_assert_int_eq(wire_send(inbox_ends[1], bytes, length, fds, count), (ssize_t)length);
	close_fds(fds, count);
}

void far_frame(unsigned int type, size_t length, uint32_t mark, unsigned int count)
{
	unsigned char frame[4096];
	ck_assert_uint_le(INBOX_HEADER + length, sizeof(frame));
	far_send_marked(frame, put_message_frame(frame, type, length, count), mark, count);
}

void expect_note(unsigned int index, unsigned int type, size_t length, size_t declared,
                 uint32_t mark)
{
	const struct note *note = &inbox.notes[index];
	ck_assert_uint_gt(inbox.count, index);
	ck_assert_uint_eq(note->type, type);
	ck_assert_uint_eq(note->length, length);
	ck_assert_uint_eq(note->declared, declared);
	if (declared > 0 && note->lost < declared)
		ck_assert_uint_eq(note->first_mark, mark % INBOX_MARKS);
}

void expect_payload(const struct inbox *box, uint64_t position)
{
	size_t length = box->notes[box->count - 1].length;
	for (size_t i = 0; i < length && i < sizeof(box->payload); i++)
		if (box->payload[i] != support_byte(position + i))
			ck_abort_msg("another byte at %zu of %zu", i, length);
}

int send_plain(unsigned int type, const void *payload, size_t length)
{
	return ferry_message_stream_send(inbox.stream, (uint16_t)type, payload, length, NULL, 0,
	                                 FERRY_FD_DUP);
}

int send_fds(unsigned int type, const int *fds, size_t count, enum ferry_fd_ownership ownership)
{
	return ferry_message_stream_send(inbox.stream, (uint16_t)type, "payload", 7, fds, count,
	                                 ownership);
}

void pause_inbox(struct inbox *box, struct ferry_message *message)
{
	(void)message;
	ck_assert_int_eq(ferry_transport_pause_reading(inbox_transport(box)), 0);
}
