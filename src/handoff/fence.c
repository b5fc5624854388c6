#include "handoff/fence.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/buffer.h>

#include "message/wire.h"

enum { PAYLOAD_MAX = 64, BUFFER_SIZE = 4096 };

struct reader {
	int socket;
	struct evbuffer *input;
	size_t filled; /* bytes in the buffer */
	unsigned char buffer[BUFFER_SIZE];

	bool begun; /* the next two are of a message whose rest may not be here yet */
	struct message_header header;
	unsigned char payload[PAYLOAD_MAX];
	uint64_t left; /* bytes of its payload that are to be skipped */
};

static bool read_more(struct reader *reader)
{
	unsigned char *to = reader->buffer + reader->filled;
	size_t room = sizeof(reader->buffer) - reader->filled;

	ssize_t count = evbuffer_remove(reader->input, to, room);
	while (count <= 0) {
		count = recv(reader->socket, to, room, MSG_DONTWAIT);
		if (count == 0 || (count < 0 && errno != EINTR))
			return false;
	}
	reader->filled += (size_t)count;
	return true;
}

static void consume(struct reader *reader, size_t count)
{
	reader->filled -= count;
	memmove(reader->buffer, reader->buffer + count, reader->filled);
}

static size_t least(uint64_t a, size_t b)
{
	return a < b ? (size_t)a : b;
}

/* Reads the header and the start of the payload. 1; 0: they are not complete; -1: the bytes are no
 * message. */
static int begin_message(struct reader *reader)
{
	if (reader->filled < MESSAGE_HEADER_SIZE)
		return 0;
	if (message_header_get(reader->buffer, &reader->header) != NULL || reader->header.refusal)
		return -1;
	size_t payload_size = least(reader->header.length, PAYLOAD_MAX);
	if (reader->filled < MESSAGE_HEADER_SIZE + payload_size)
		return 0;
	memcpy(reader->payload, reader->buffer + MESSAGE_HEADER_SIZE, payload_size);
	consume(reader, MESSAGE_HEADER_SIZE + payload_size);
	reader->left = reader->header.length - payload_size;
	reader->begun = true;
	return 1;
}

/* Reads a whole message; one that is cut off was never sent. The results of begin_message(). */
static int read_message(struct reader *reader)
{
	int status = reader->begun ? 1 : begin_message(reader);
	if (status <= 0)
		return status;
	size_t skipped = least(reader->left, reader->filled);
	reader->left -= skipped;
	consume(reader, skipped);
	reader->begun = reader->left > 0;
	return !reader->begun;
}

void fence_channel(int socket, struct evbuffer *input,
                   void (*message)(void *argument, uint16_t type, const unsigned char *payload,
                                   size_t length),
                   void *argument)
{
	struct reader reader = {.socket = socket, .input = input};
	int status = 0;

	shutdown(socket, SHUT_RD); /* fails only if the peer is gone already */
	do {
		while ((status = read_message(&reader)) > 0)
			message(argument, reader.header.type, reader.payload,
			        least(reader.header.length, PAYLOAD_MAX));
	} while (status == 0 && read_more(&reader));
}
