#include "handoff/fence.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/buffer.h>

#include "message/wire.h"

enum { PAYLOAD_LOOKED_AT = 64, BUFFER_SIZE = 4096 };

struct reader {
	int socket;
	struct evbuffer *input;
	size_t have; /* in the buffer */
	unsigned char buffer[BUFFER_SIZE];

	bool begun; /* a message, as far as it is looked at: */
	struct message_header header;
	unsigned char payload[PAYLOAD_LOOKED_AT];
	uint64_t left; /* of its payload, not there yet */
};

static bool read_more(struct reader *reader)
{
	unsigned char *to = reader->buffer + reader->have;
	size_t room = sizeof(reader->buffer) - reader->have;

	ssize_t count = evbuffer_remove(reader->input, to, room);
	while (count <= 0) {
		count = recv(reader->socket, to, room, MSG_DONTWAIT);
		if (count == 0 || (count < 0 && errno != EINTR))
			return false;
	}
	reader->have += (size_t)count;
	return true;
}

static void consume(struct reader *reader, size_t count)
{
	reader->have -= count;
	memmove(reader->buffer, reader->buffer + count, reader->have);
}

static size_t least(uint64_t a, size_t b)
{
	return a < b ? (size_t)a : b;
}

/* 0: not all of it is there. -1: that is no message. */
static int begin(struct reader *reader)
{
	if (reader->have < MESSAGE_HEADER_SIZE)
		return 0;
	if (message_header_get(reader->buffer, &reader->header) != NULL)
		return -1;
	size_t looked_at = least(reader->header.length, PAYLOAD_LOOKED_AT);
	if (reader->have < MESSAGE_HEADER_SIZE + looked_at)
		return 0;
	memcpy(reader->payload, reader->buffer + MESSAGE_HEADER_SIZE, looked_at);
	consume(reader, MESSAGE_HEADER_SIZE + looked_at);
	reader->left = reader->header.length - looked_at;
	reader->begun = true;
	return 1;
}

/* Takes one message off, whole: half a one was never sent. The same results. */
static int take(struct reader *reader)
{
	int status = reader->begun ? 1 : begin(reader);
	if (status <= 0)
		return status;
	size_t skipped = least(reader->left, reader->have);
	reader->left -= skipped;
	consume(reader, skipped);
	reader->begun = reader->left > 0;
	return !reader->begun;
}

void fence(int socket, struct evbuffer *input,
           void (*message)(void *argument, uint16_t type, const unsigned char *payload,
                           size_t length),
           void *argument)
{
	struct reader reader = {.socket = socket, .input = input};
	int status = 0;

	shutdown(socket, SHUT_RD); /* a failure means that the peer is gone already */
	do {
		while ((status = take(&reader)) > 0)
			message(argument, reader.header.type, reader.payload,
			        least(reader.header.length, PAYLOAD_LOOKED_AT));
	} while (status == 0 && read_more(&reader));
}
