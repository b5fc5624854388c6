#include "message/wire.h"

#include <string.h>

#include "util/little_endian.h"

/* The last byte is the version of everything behind it. */
static const unsigned char magic[4] = {'F', 'R', 'Y', 1};

enum { AT_TYPE = 4, AT_FLAGS = 6, AT_LENGTH = 8, AT_FD_COUNT = 12, AT_RESERVED = 14 };
enum { FLAG_REFUSAL = 1 };

void message_header_put(unsigned char *bytes, const struct message_header *header)
{
	memcpy(bytes, magic, sizeof(magic));
	little_endian_put(bytes + AT_TYPE, header->type, 2);
	little_endian_put(bytes + AT_FLAGS, header->refusal ? FLAG_REFUSAL : 0, 2);
	little_endian_put(bytes + AT_LENGTH, header->length, 4);
	little_endian_put(bytes + AT_FD_COUNT, header->fd_count, 2);
	little_endian_put(bytes + AT_RESERVED, 0, 2);
}

const char *message_header_get(const unsigned char *bytes, struct message_header *header)
{
	if (memcmp(bytes, magic, sizeof(magic) - 1) != 0)
		return "no header where one should be";
	if (bytes[sizeof(magic) - 1] != magic[sizeof(magic) - 1])
		return "a header of another version";
	uint64_t flags = little_endian_get(bytes + AT_FLAGS, 2);
	if ((flags & ~(uint64_t)FLAG_REFUSAL) != 0 || little_endian_get(bytes + AT_RESERVED, 2) != 0)
		return "a header with flags that this version does not have";
	header->refusal = flags != 0;
	header->type = (uint16_t)little_endian_get(bytes + AT_TYPE, 2);
	header->length = (uint32_t)little_endian_get(bytes + AT_LENGTH, 4);
	header->fd_count = (uint16_t)little_endian_get(bytes + AT_FD_COUNT, 2);
	if (header->refusal && (header->length > 0 || header->fd_count > 0))
		return "a refusal that is a message";
	return NULL;
}
