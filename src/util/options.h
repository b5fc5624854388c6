#ifndef FERRY_UTIL_OPTIONS_H
#define FERRY_UTIL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { OPTIONS_SIZE_MAX = 4096 /* more than any version has: the caller has not set the size */ };

/* Whether the size, with which public options begin, is one that this library accepts. A program that was compiled with
 * a later version may use options of `known` bytes and more, as long as the members that this library does not know
 * have their default, which is zero. Such a member must not lie in the padding of today's structure: programs leave
 * padding uninitialised. */
static inline bool options_fit(const void *options, size_t known)
{
	const unsigned char *bytes = options;
	size_t size;

	memcpy(&size, options, sizeof(size));
	if (size < known || size > OPTIONS_SIZE_MAX)
		return false;
	for (size_t i = known; i < size; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

#endif
