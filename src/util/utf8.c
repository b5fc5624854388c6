#include "util/utf8.h"

/* The bytes that may follow a first byte: their count, and the bounds of the first of them. These bounds exclude
 * long forms, surrogates and code points above U+10FFFF. */
struct tail {
	unsigned int length; /* 0: not a first byte */
	unsigned char low, high;
};

static struct tail tail_of(unsigned char first)
{
	if (first >= 0xc2 && first <= 0xdf)
		return (struct tail){1, 0x80, 0xbf};
	if (first >= 0xe0 && first <= 0xef)
		return (struct tail){2, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf};
	if (first >= 0xf0 && first <= 0xf4)
		return (struct tail){3, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf};
	return (struct tail){0};
}

static bool is_tail(const unsigned char *bytes, const struct tail *tail)
{
	if (bytes[0] < tail->low || bytes[0] > tail->high)
		return false;
	for (unsigned int i = 1; i < tail->length; i++)
		if (bytes[i] < 0x80 || bytes[i] > 0xbf)
			return false;
	return true;
}

bool utf8_is_valid(const char *text, size_t length)
{
	const unsigned char *bytes = (const unsigned char *)text;

	for (size_t i = 0; i < length; i++) {
		if (bytes[i] < 0x80)
			continue;
		struct tail tail = tail_of(bytes[i]);
		if (tail.length == 0 || tail.length > length - i - 1 || !is_tail(bytes + i + 1, &tail))
			return false;
		i += tail.length;
	}
	return true;
}
