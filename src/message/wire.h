#ifndef FERRY_MESSAGE_WIRE_H
#define FERRY_MESSAGE_WIRE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * The header of a message on the wire. docs/message.md describes it.
 */

enum { MESSAGE_HEADER_SIZE = 16, MESSAGE_PAYLOAD_MAX = 1024 * 1024 * 1024 };

/* What a refusal has as its type. */
enum { MESSAGE_REFUSAL_SIZE = 1 };

struct message_header {
	bool refusal; /* no message: the last header before its sender ends the connection */
	uint16_t type;
	uint32_t length;   /* of the payload */
	uint16_t fd_count; /* descriptors; they travel with the header's first byte */
};

/* Writes MESSAGE_HEADER_SIZE bytes. */
void message_header_put(unsigned char *bytes, const struct message_header *header);

/* Reads MESSAGE_HEADER_SIZE bytes. Returns NULL, or the fault in words that follow "the peer sent". */
const char *message_header_get(const unsigned char *bytes, struct message_header *header);

#endif
