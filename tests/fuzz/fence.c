/* The fence: it finds the same messages in the rest of a channel, in its buffer and in the kernel, as a
 * plain reading of the same bytes in one piece. */

#include "fuzz.h"

#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "handoff/fence.h"
#include "message/wire.h"

enum { LOOKED_AT = 64 };

struct reading {
	const uint8_t *bytes;
	size_t left;
};

/* Takes one message off the front. False: no whole message is there. */
static bool read_one(struct reading *reading, struct message_header *header,
                     const uint8_t **payload)
{
	if (reading->left < MESSAGE_HEADER_SIZE || message_header_get(reading->bytes, header) != NULL ||
	    reading->left - MESSAGE_HEADER_SIZE < header->length)
		return false;
	*payload = reading->bytes + MESSAGE_HEADER_SIZE;
	reading->bytes += MESSAGE_HEADER_SIZE + header->length;
	reading->left -= MESSAGE_HEADER_SIZE + header->length;
	return true;
}

static void on_message(void *argument, uint16_t type, const unsigned char *payload, size_t length)
{
	struct message_header header;
	const uint8_t *expected = NULL;

	FUZZ_CHECK(read_one(argument, &header, &expected));
	FUZZ_CHECK(type == header.type);
	FUZZ_CHECK(length == (header.length < LOOKED_AT ? header.length : LOOKED_AT));
	FUZZ_CHECK(memcmp(payload, expected, length) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	int ends[2];

	if (size > FUZZ_INPUT_MAX)
		return 0;
	fuzz_begin();
	fuzz_pair(ends);
	struct evbuffer *buffer = evbuffer_new();
	FUZZ_CHECK(buffer != NULL);
	size_t buffered = (size_t)fuzz_number(&input, 2), piece = 1 + (size_t)fuzz_byte(&input);
	size_t fd_count = piece % 4;
	struct reading reading = {input.at, input.left};
	const uint8_t *bytes = fuzz_bytes(&input, &buffered);
	FUZZ_CHECK(evbuffer_add(buffer, bytes, buffered) == 0);
	while (input.left > 0) {
		size_t length = piece < input.left / 8 ? input.left / 8 : piece;
		bytes = fuzz_bytes(&input, &length);
		FUZZ_CHECK(fuzz_send(ends[1], bytes, length, fd_count));
	}
	fence_channel(ends[0], buffer, on_message, &reading);
	struct message_header header;
	FUZZ_CHECK(!read_one(&reading, &header, &bytes));
	/* No write succeeds any more. */
	FUZZ_CHECK(!fuzz_send(ends[1], "x", 1, 0));
	evbuffer_free(buffer);
	close(ends[0]);
	close(ends[1]);
	fuzz_end();
	return 0;
}
