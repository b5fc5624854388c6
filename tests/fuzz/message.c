/* Messages, however they are cut into pieces and whatever descriptors come along: all that is in order up
 * to the first fault is delivered, the stream ends once, and no descriptor stays open. */

#include "fuzz.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "ferry/message.h"
#include "message/wire.h"

enum { STEALS = 1, SMALL = 2, FREES = 4, SMALL_PAYLOAD = 64, SMALL_FDS = 2, FDS = 253 };

static struct fuzz_sent sent;

static struct {
	struct ferry_message_stream *stream; /* NULL once freed */
	unsigned int flags, received;
	size_t position;  /* in `sent`, behind the last message */
	size_t next_send; /* in `sent.sends` */
	/* Descriptors did not travel with the first byte of the header that declares them. Whether the kernel
	 * made one read of that byte and theirs is then a matter of chance. */
	bool faulty;
	bool lost;
	int reason;
} told;

/* Reads the header of the next message from the bytes that were sent. Returns false if they have no
 * whole message. */
static bool next_frame(struct message_header *header)
{
	const unsigned char *at = sent.bytes + told.position;
	size_t left = sent.length - told.position;

	return left >= MESSAGE_HEADER_SIZE && message_header_get(at, header) == NULL &&
	       !header->refusal &&
	       header->length <= ((told.flags & SMALL) != 0 ? SMALL_PAYLOAD : 1 << 20) &&
	       header->fd_count <= ((told.flags & SMALL) != 0 ? SMALL_FDS : FDS) &&
	       left - MESSAGE_HEADER_SIZE >= header->length;
}

/* Whether descriptors were sent as that message declares, as far as it reaches. */
static void look_at_sends(const struct message_header *header)
{
	size_t end = told.position + MESSAGE_HEADER_SIZE + header->length;
	size_t fd_count = 0;

	for (; told.next_send < sent.send_count && sent.sends[told.next_send].at < end;
	     told.next_send++) {
		told.faulty |= sent.sends[told.next_send].at != told.position;
		fd_count += sent.sends[told.next_send].fd_count;
	}
	told.faulty |= fd_count != header->fd_count;
}

static void message_received(struct ferry_message_stream *stream, struct ferry_message *message,
                             void *context)
{
	(void)context;
	struct message_header header;
	size_t length;

	FUZZ_CHECK(stream == told.stream && !told.lost);
	FUZZ_CHECK(next_frame(&header));
	look_at_sends(&header);
	const void *payload = ferry_message_get_payload(message, &length);
	FUZZ_CHECK(length == header.length);
	FUZZ_CHECK(length == 0 ||
	           memcmp(payload, sent.bytes + told.position + MESSAGE_HEADER_SIZE, length) == 0);
	FUZZ_CHECK(ferry_message_get_type(message) == header.type);
	FUZZ_CHECK(ferry_message_get_fd_count(message) == header.fd_count);
	FUZZ_CHECK(ferry_message_get_fds_lost(message) == 0);
	told.position += MESSAGE_HEADER_SIZE + length;
	for (size_t i = 0; i < header.fd_count; i++)
		if ((told.flags & STEALS) != 0)
			FUZZ_CHECK(close(ferry_message_steal_fd(message, i)) == 0);
	if (++told.received == 2 && (told.flags & FREES) != 0) {
		ferry_message_stream_free(stream);
		told.stream = NULL;
	}
}

static void connection_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)context;
	FUZZ_CHECK(stream == told.stream && !told.lost);
	told.lost = true;
	told.reason = reason;
}

static const struct ferry_message_callbacks callbacks = {
    .message_received = message_received,
    .connection_lost = connection_lost,
};

/* Nothing was delivered too little, and the end is blamed on whom it is to be blamed on. */
static void check_end(void)
{
	struct message_header header;

	if (next_frame(&header)) {
		look_at_sends(&header);
		FUZZ_CHECK(told.faulty);
	}
	bool whole = told.position == sent.length;
	bool refusal = sent.length - told.position >= MESSAGE_HEADER_SIZE &&
	               message_header_get(sent.bytes + told.position, &header) == NULL &&
	               header.refusal;
	FUZZ_CHECK(told.reason == -EPROTO || (told.reason == 0 && whole) ||
	           (told.reason == -EMSGSIZE && refusal));
	FUZZ_CHECK(told.reason == 0 || !whole || told.faulty);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	int ends[2];

	if (size > FUZZ_INPUT_MAX)
		return 0;
	fuzz_begin();
	fuzz_pair(ends);
	memset(&told, 0, sizeof(told));
	sent.length = sent.send_count = 0;
	fuzz_sent = &sent;
	FUZZ_CHECK(ferry_message_stream_new(&told.stream, fuzz_transport(ends[0]), &callbacks, NULL) ==
	           0);
	told.flags = fuzz_byte(&input);
	if ((told.flags & SMALL) != 0)
		ferry_message_stream_set_limits(told.stream, SMALL_PAYLOAD, SMALL_FDS);
	while (input.left > 0 && told.stream != NULL)
		fuzz_peer_step(ends[1], fuzz_byte(&input), &input);
	close(ends[1]);
	if (told.stream != NULL)
		fuzz_turns(1);
	while (told.stream != NULL && !told.lost)
		FUZZ_CHECK(event_base_loop(fuzz_base, EVLOOP_ONCE) == 0);
	if (told.stream != NULL)
		check_end();
	ferry_message_stream_free(told.stream);
	fuzz_end();
	return 0;
}
