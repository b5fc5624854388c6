#ifndef FERRY_UTIL_LITTLE_ENDIAN_H
#define FERRY_UTIL_LITTLE_ENDIAN_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Numbers in the wire format: `size` bytes, at most 8, the lowest first. */

static inline void little_endian_put(unsigned char *bytes, uint64_t number, size_t size)
{
	number = htole64(number);
	memcpy(bytes, &number, size);
}

static inline uint64_t little_endian_get(const unsigned char *bytes, size_t size)
{
	uint64_t number = 0;

	memcpy(&number, bytes, size);
	return le64toh(number);
}

#endif
