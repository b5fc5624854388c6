#ifndef FERRY_MESSAGE_WIRE_H
#define FERRY_MESSAGE_WIRE_H

#include <stdint.h>

/*
 * The header of a message, as it is on the wire: see docs/message.md.
 */

enum { MESSAGE_HEADER_SIZE = 16 };

struct message_header {
	uint16_t type;
	uint32_t length;   /* of the payload */
	uint16_t fd_count; /* that travel with the header's first byte */
};

void message_header_put(unsigned char *bytes, const struct message_header *header);

/* NULL, or what is wrong with the bytes. */
const char *message_header_get(const unsigned char *bytes, struct message_header *header);

#endif
