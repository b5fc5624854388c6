#include "handoff_frame.h"

#include <errno.h>
#include <string.h>

#include <event2/buffer.h>

static const unsigned char start[5] = {'f', 'H', 'n', 'd', 1};

int handoff_frame_add_header(struct evbuffer *out, enum handoff_frame_type type, uint32_t length)
{
	unsigned char header[HANDOFF_FRAME_HEADER_SIZE] = {0};
	memcpy(header, start, sizeof(start));
	header[5] = (unsigned char)type;
	for (unsigned int i = 0; i < 4; i++)
		header[8 + i] = (unsigned char)(length >> (8 * i) & 0xff);
	return evbuffer_add(out, header, sizeof(header)) == 0 ? 0 : -ENOMEM;
}

int handoff_frame_take_header(struct evbuffer *input, enum handoff_frame_type *type,
                              uint32_t *length)
{
	unsigned char header[HANDOFF_FRAME_HEADER_SIZE];
	if (evbuffer_copyout(input, header, sizeof(header)) < (ev_ssize_t)sizeof(header))
		return 0;
	if (memcmp(header, start, sizeof(start)) != 0 || header[6] != 0 || header[7] != 0)
		return -EPROTO;
	if (header[5] != HANDOFF_CONNECTION && header[5] != HANDOFF_DONE)
		return -EPROTO;
	*length = 0;
	for (unsigned int i = 0; i < 4; i++)
		*length |= (uint32_t)header[8 + i] << (8 * i);
	if (*length > HANDOFF_FRAME_PAYLOAD_MAX)
		return -EPROTO;
	if (evbuffer_get_length(input) - sizeof(header) < *length)
		return 0;
	*type = (enum handoff_frame_type)header[5];
	evbuffer_drain(input, sizeof(header));
	return 1;
}
