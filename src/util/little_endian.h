#ifndef FERRY_UTIL_LITTLE_ENDIAN_H
#define FERRY_UTIL_LITTLE_ENDIAN_H

#include <stddef.h>
#include <stdint.h>

/* Numbers in the wire format: `size` bytes, at most 8, the lowest first. */

static inline void little_endian_put(unsigned char *bytes, uint64_t number, size_t size)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(number >> (8 * i));
}

static inline uint64_t little_endian_get(const unsigned char *bytes, size_t size)
{
	uint64_t number = 0;

	for (size_t i = size; i > 0; i--)
		number = number << 8 | bytes[i - 1];
	return number;
}

#endif
