#ifndef FERRY_UTIL_UTF8_H
#define FERRY_UTIL_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the bytes are UTF-8 as in RFC 3629: shortest forms only, no surrogates, no code point above U+10FFFF.
 * Zero bytes are valid. */
bool utf8_is_valid(const char *text, size_t length);

#endif
