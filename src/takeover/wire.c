#include "takeover/wire.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "ferry/socket_set.h"

#include "util/little_endian.h"

/* Flags of a LISTENER. Others are for later versions. */
enum { FLAG_LOCKED = 1 };

void takeover_wire_hello_put(unsigned char *payload)
{
	little_endian_put(payload, TAKEOVER_WIRE_VERSION_MIN, 2);
	little_endian_put(payload + 2, TAKEOVER_WIRE_VERSION_MAX, 2);
	little_endian_put(payload + 4, 0, 4);
}

int takeover_wire_hello_get(const unsigned char *payload, size_t length)
{
	if (length < TAKEOVER_WIRE_HELLO_SIZE)
		return -EPROTO;
	const uint64_t lowest = little_endian_get(payload, 2);
	const uint64_t highest = little_endian_get(payload + 2, 2);
	if (lowest == 0 || lowest > highest)
		return -EPROTO;
	/* This library has one version, so the ranges overlap if it is in the other one. */
	return lowest <= TAKEOVER_WIRE_VERSION_MAX && highest >= TAKEOVER_WIRE_VERSION_MIN
	           ? 0
	           : -EPROTONOSUPPORT;
}

void takeover_wire_request_put(unsigned char *payload, uint32_t count)
{
	little_endian_put(payload, count, 4);
	little_endian_put(payload + 4, 0, 4);
}

/* Whether the bytes are exactly `count` names, each behind its length and without a zero byte. */
static bool are_names(const unsigned char *bytes, size_t length, uint32_t count)
{
	while (count > 0 && length > 0 && length > bytes[0]) {
		const size_t size = 1 + (size_t)bytes[0];
		if (memchr(bytes + 1, '\0', bytes[0]) != NULL)
			return false;
		bytes += size;
		length -= size;
		count--;
	}
	return count == 0 && length == 0;
}

int takeover_wire_request_get(const unsigned char *payload, size_t length, uint32_t *count)
{
	if (length < TAKEOVER_WIRE_REQUEST_SIZE)
		return -EPROTO;
	*count = (uint32_t)little_endian_get(payload, 4);
	return are_names(payload + TAKEOVER_WIRE_REQUEST_SIZE, length - TAKEOVER_WIRE_REQUEST_SIZE,
	                 *count)
	           ? 0
	           : -EPROTO;
}

void takeover_wire_listener_put(unsigned char *payload,
                                const struct takeover_wire_listener *listener)
{
	little_endian_put(payload, listener->cookie, 8);
	little_endian_put(payload + 8, listener->device, 8);
	little_endian_put(payload + 16, listener->inode, 8);
	little_endian_put(payload + 24, listener->name_length, 2);
	little_endian_put(payload + 26, listener->file_name_length, 2);
	little_endian_put(payload + 28, listener->locked ? FLAG_LOCKED : 0, 4);
}

int takeover_wire_listener_get(const unsigned char *payload, size_t length,
                               struct takeover_wire_listener *listener)
{
	if (length < TAKEOVER_WIRE_LISTENER_SIZE)
		return -EPROTO;
	listener->cookie = little_endian_get(payload, 8);
	listener->device = little_endian_get(payload + 8, 8);
	listener->inode = little_endian_get(payload + 16, 8);
	listener->name_length = (uint16_t)little_endian_get(payload + 24, 2);
	listener->file_name_length = (uint16_t)little_endian_get(payload + 26, 2);
	listener->locked = (little_endian_get(payload + 28, 4) & FLAG_LOCKED) != 0;
	listener->name = (const char *)payload + TAKEOVER_WIRE_LISTENER_SIZE;
	listener->file_name = listener->name + listener->name_length;
	const size_t names = (size_t)listener->name_length + listener->file_name_length;
	if (listener->name_length > FERRY_SOCKET_SET_NAME_MAX ||
	    (listener->locked && listener->file_name_length == 0) ||
	    length != TAKEOVER_WIRE_LISTENER_SIZE + names ||
	    memchr(listener->name, '\0', names) != NULL ||
	    memchr(listener->file_name, '/', listener->file_name_length) != NULL)
		return -EPROTO;
	return 0;
}

void takeover_wire_number_put(unsigned char *payload, int32_t number)
{
	little_endian_put(payload, (uint32_t)number, 4);
	little_endian_put(payload + 4, 0, 4);
}

int takeover_wire_number_get(const unsigned char *payload, size_t length, int32_t *number)
{
	if (length < TAKEOVER_WIRE_NUMBER_SIZE)
		return -EPROTO;
	*number = (int32_t)(uint32_t)little_endian_get(payload, 4);
	return 0;
}
