#include "message_frame.h"

#include <string.h>

/* The last byte is the version of all that follows. */
static const unsigned char magic[4] = {'F', 'R', 'Y', 1};

enum { AT_TYPE = 4, AT_FLAGS = 6, AT_LENGTH = 8, AT_FD_COUNT = 12, AT_RESERVED = 14 };

static void put16(unsigned char *bytes, uint16_t value)
{
	bytes[0] = (unsigned char)(value & 0xff);
	bytes[1] = (unsigned char)(value >> 8);
}

static uint16_t get16(const unsigned char *bytes)
{
	return (uint16_t)(bytes[0] | bytes[1] << 8);
}

void message_header_put(unsigned char *bytes, const struct message_header *header)
{
	memcpy(bytes, magic, sizeof(magic));
	put16(bytes + AT_TYPE, header->type);
	put16(bytes + AT_FLAGS, 0);
	put16(bytes + AT_LENGTH, (uint16_t)(header->length & 0xffff));
	put16(bytes + AT_LENGTH + 2, (uint16_t)(header->length >> 16));
	put16(bytes + AT_FD_COUNT, header->fd_count);
	put16(bytes + AT_RESERVED, 0);
}

const char *message_header_get(const unsigned char *bytes, struct message_header *header)
{
	if (memcmp(bytes, magic, sizeof(magic) - 1) != 0)
		return "no header where one should be";
	if (bytes[sizeof(magic) - 1] != magic[sizeof(magic) - 1])
		return "a header of another version";
	if (get16(bytes + AT_FLAGS) != 0 || get16(bytes + AT_RESERVED) != 0)
		return "a header with flags that this version does not have";
	header->type = get16(bytes + AT_TYPE);
	header->length = get16(bytes + AT_LENGTH) | (uint32_t)get16(bytes + AT_LENGTH + 2) << 16;
	header->fd_count = get16(bytes + AT_FD_COUNT);
	return NULL;
}
