#ifndef FERRY_UTIL_HASH_H
#define FERRY_UTIL_HASH_H

#include <stddef.h>
#include <stdint.h>

/* The hash FNV-1a of 64 bits. Its high bits depend little on the last bytes of short input. */
static inline uint64_t hash_fnv1a(const void *data, size_t length)
{
	const unsigned char *bytes = data;
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
	return hash;
}

#endif
