/* The fence: it finds the same messages in the rest of a channel, in its buffer and in the kernel, as a
 * plain reading of the same bytes in one piece. */

#include "fuzz.h"

#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "handoff/fence.h"
#include "handoff/wire.h"
#include "message/arrivals.h"
#include "message/receive.h"
#include "message/wire.h"

struct reading {
	const uint8_t *bytes;
	size_t left;
};

/* Takes one message off the front. False: no whole message is there. */
static bool read_one(struct reading *reading, struct message_header *header,
                     const uint8_t **payload)
{
	if (reading->left < MESSAGE_HEADER_SIZE || message_header_get(reading->bytes, header) != NULL ||
	    header->refusal || reading->left - MESSAGE_HEADER_SIZE < header->length)
		return false;
	*payload = reading->bytes + MESSAGE_HEADER_SIZE;
	reading->bytes += MESSAGE_HEADER_SIZE + header->length;
	reading->left -= MESSAGE_HEADER_SIZE + header->length;
	return true;
}

static void on_message(void *argument, struct fence_message *message)
{
	struct message_header header;
	const uint8_t *expected = NULL;

	FUZZ_CHECK(read_one(argument, &header, &expected));
	size_t whole = header.fd_count > 0 && header.length <= HANDOFF_WIRE_PAYLOAD_MAX;
	size_t length = header.length < FENCE_PAYLOAD_MAX || whole ? header.length : FENCE_PAYLOAD_MAX;
	FUZZ_CHECK(message->type == header.type);
	FUZZ_CHECK(message->length == length);
	FUZZ_CHECK(message->cut == (length < header.length));
	FUZZ_CHECK(memcmp(message->payload, expected, length) == 0);
	FUZZ_CHECK(message->fd < 0 || header.fd_count > 0);
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
	struct arrivals arrivals = {0};
	struct message_rest rest = {.input = buffer, .arrivals = &arrivals, .claimed = -1};
	fence_channel(ends[0], &rest, on_message, &reading);
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
