#include "handoff/fence.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/buffer.h>

#include "handoff/wire.h"
#include "kernel/ancillary.h"
#include "message/arrivals.h"
#include "message/receive.h"
#include "message/wire.h"

enum { BUFFER_SIZE = 4096 };

struct reader {
	int socket;
	struct message_rest *rest; /* `position` is that of the buffer's first byte */
	uint64_t received;         /* the position behind all bytes that were read */
	size_t filled;             /* bytes in the buffer */
	unsigned char buffer[BUFFER_SIZE];

	bool begun; /* the others are of a message whose rest may not be here yet */
	struct message_header header;
	int arrived; /* its descriptors; negative: those that it declares did not come with it */
	unsigned char *payload;
	size_t stored, room; /* bytes in `payload`, and its size */
	unsigned char first[FENCE_PAYLOAD_MAX];
	unsigned char *memory; /* `payload` if it is longer, else NULL */
	uint64_t left;         /* bytes of its payload that are not read yet */
};

static ssize_t receive(struct reader *reader, struct iovec vector)
{
	union ancillary_input room;
	struct ancillary ancillary;
	struct msghdr message = {
	    .msg_iov = &vector,
	    .msg_iovlen = 1,
	    .msg_control = room.bytes,
	    .msg_controllen = sizeof(room.bytes),
	};

	ssize_t length = recvmsg(reader->socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	if (length < 0)
		return -errno;
	ancillary_take(&message, &ancillary);
	/* Without memory for them the descriptors are closed, and their message comes without. */
	if (ancillary.count > 0 || ancillary.truncated)
		(void)arrivals_add(reader->rest->arrivals, reader->received,
		                   reader->received + (uint64_t)length, ancillary.fds, ancillary.count,
		                   ancillary.truncated);
	reader->received += (uint64_t)length;
	return length;
}

static bool read_more(struct reader *reader)
{
	unsigned char *to = reader->buffer + reader->filled;
	size_t room = sizeof(reader->buffer) - reader->filled;

	ssize_t count = evbuffer_remove(reader->rest->input, to, room);
	while (count <= 0) {
		count = receive(reader, (struct iovec){to, room});
		if (count == 0 || (count < 0 && count != -EINTR))
			return false;
	}
	reader->filled += (size_t)count;
	return true;
}

static void consume(struct reader *reader, size_t count)
{
	reader->filled -= count;
	reader->rest->position += count;
	memmove(reader->buffer, reader->buffer + count, reader->filled);
}

/* The stream may have claimed the descriptors of its first message already. */
static void claim_descriptors(struct reader *reader)
{
	struct message_rest *rest = reader->rest;

	reader->arrived = rest->claimed;
	if (rest->claimed < 0 && reader->header.fd_count > 0)
		reader->arrived = arrivals_claim(rest->arrivals, rest->position, reader->header.fd_count);
	rest->claimed = -1;
}

static void choose_room(struct reader *reader)
{
	reader->payload = reader->first;
	reader->room = sizeof(reader->first);
	reader->stored = 0;
	if (reader->header.fd_count == 0 || reader->header.length <= sizeof(reader->first) ||
	    reader->header.length > HANDOFF_WIRE_PAYLOAD_MAX)
		return;
	reader->memory = malloc(reader->header.length);
	if (reader->memory == NULL)
		return;
	reader->payload = reader->memory;
	reader->room = reader->header.length;
}

/* 1; 0: the header is not complete; -1: the bytes are no message. */
static int begin_message(struct reader *reader)
{
	if (reader->filled < MESSAGE_HEADER_SIZE)
		return 0;
	if (message_header_get(reader->buffer, &reader->header) != NULL || reader->header.refusal)
		return -1;
	claim_descriptors(reader);
	consume(reader, MESSAGE_HEADER_SIZE);
	choose_room(reader);
	reader->left = reader->header.length;
	reader->begun = true;
	return 1;
}

/* Reads a whole message; one that is cut off was never sent. The results of begin_message(). */
static int read_message(struct reader *reader)
{
	int status = reader->begun ? 1 : begin_message(reader);
	if (status <= 0)
		return status;
	size_t count = reader->left < reader->filled ? (size_t)reader->left : reader->filled;
	size_t room = reader->room - reader->stored;
	size_t stored = count < room ? count : room;
	memcpy(reader->payload + reader->stored, reader->buffer, stored);
	reader->stored += stored;
	reader->left -= count;
	consume(reader, count);
	reader->begun = reader->left > 0;
	return !reader->begun;
}

static void end_message(struct reader *reader)
{
	if (reader->arrived > 0)
		arrivals_release(reader->rest->arrivals, (unsigned int)reader->arrived);
	reader->arrived = 0;
	free(reader->memory);
	reader->memory = NULL;
}

static void deliver_message(struct reader *reader,
                            void (*message)(void *argument, struct fence_message *message),
                            void *argument)
{
	bool cut = reader->stored < reader->header.length;
	int fd = reader->arrived > 0 ? reader->rest->arrivals->fds[0] : -1;
	struct fence_message whole = {reader->header.type, reader->payload, reader->stored, cut, fd};

	message(argument, &whole);
	if (reader->arrived > 0)
		reader->rest->arrivals->fds[0] = whole.fd;
	end_message(reader);
}

void fence_channel(int socket, struct message_rest *rest,
                   void (*message)(void *argument, struct fence_message *message), void *argument)
{
	struct reader reader = {
	    .socket = socket,
	    .rest = rest,
	    .received = rest->position + evbuffer_get_length(rest->input),
	};
	int status = 0;

	shutdown(socket, SHUT_RD); /* fails only if the peer is gone already */
	do {
		while ((status = read_message(&reader)) > 0)
			deliver_message(&reader, message, argument);
	} while (status == 0 && read_more(&reader));
	end_message(&reader);
	arrivals_close(rest->arrivals);
}
