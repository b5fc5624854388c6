#include "programs/ferry-copy/frame.h"

#include <errno.h>
#include <string.h>

#include <event2/buffer.h>
#include <ferry/ferry.h>

static const unsigned char start[5] = {'f', 'F', 'i', 'l', 1};

static void put_number(unsigned char *bytes, unsigned int size, uint64_t number)
{
	for (unsigned int i = 0; i < size; i++)
		bytes[i] = (unsigned char)(number >> (8 * i) & 0xff);
}

static uint64_t get_number(const unsigned char *bytes, unsigned int size)
{
	uint64_t number = 0;
	for (unsigned int i = 0; i < size; i++)
		number |= (uint64_t)bytes[i] << (8 * i);
	return number;
}

int frame_write(struct ferry_transport *transport, const struct frame *frame)
{
	unsigned char bytes[FRAME_HEADER_SIZE + FRAME_TEXT_MAX] = {0};
	size_t length = strnlen(frame->text, FRAME_TEXT_MAX);
	memcpy(bytes, start, sizeof(start));
	bytes[5] = (unsigned char)frame->type;
	put_number(bytes + 6, 2, length);
	put_number(bytes + 8, 8, frame->size);
	put_number(bytes + 16, 8, frame->offset);
	put_number(bytes + 24, 8, frame->modified);
	memcpy(bytes + FRAME_HEADER_SIZE, frame->text, length);
	return ferry_transport_write(transport, bytes, FRAME_HEADER_SIZE + length);
}

static bool is_printable(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)text[i];
		if (byte < ' ' || byte == 0x7f)
			return false;
	}
	return true;
}

int frame_take(struct evbuffer *input, struct frame *frame)
{
	unsigned char header[FRAME_HEADER_SIZE];
	if (evbuffer_copyout(input, header, sizeof(header)) < (ev_ssize_t)sizeof(header))
		return 0;
	size_t length = (size_t)get_number(header + 6, 2);
	if (memcmp(header, start, sizeof(start)) != 0 || header[5] < FRAME_OFFER ||
	    header[5] > FRAME_STOP || length > FRAME_TEXT_MAX)
		return -EPROTO;
	*frame = (struct frame){.type = (enum frame_type)header[5],
	                        .size = get_number(header + 8, 8),
	                        .offset = get_number(header + 16, 8),
	                        .modified = get_number(header + 24, 8)};
	if ((frame->size > FRAME_SIZE_MAX && frame->size != FRAME_NO_SIZE) ||
	    frame->offset > FRAME_SIZE_MAX || frame->offset > frame->size)
		return -EPROTO;
	if (evbuffer_get_length(input) - sizeof(header) < length)
		return 0;
	evbuffer_drain(input, sizeof(header));
	evbuffer_remove(input, frame->text, length);
	return is_printable(frame->text, length) ? 1 : -EPROTO;
}

bool frame_name_is_fine(const char *name)
{
	size_t length = strlen(name);
	return length > 0 && length <= FRAME_TEXT_MAX && name[0] != '.' && strchr(name, '/') == NULL &&
	       is_printable(name, length);
}
