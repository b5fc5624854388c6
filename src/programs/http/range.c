#include "programs/http/range.h"

#include "programs/http/head.h"

#include <stdbool.h>

/* Reads the digits at the front. A number that does not fit becomes the largest one. */
static size_t take_position(const char *text, size_t length, uint64_t *number)
{
	size_t digits = 0;
	*number = 0;
	while (digits < length && text[digits] >= '0' && text[digits] <= '9') {
		uint64_t digit = (uint64_t)(text[digits++] - '0');
		*number = *number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : *number * 10 + digit;
	}
	return digits;
}

static enum http_range_kind last_bytes(uint64_t count, uint64_t size, struct http_range *range)
{
	if (count == 0)
		return HTTP_RANGE_UNSATISFIABLE;
	/* The last bytes of an empty file are satisfiable (RFC 9110 section 14.1.2), and no Content-Range can express
	 * them. */
	if (size == 0)
		return HTTP_RANGE_WHOLE;
	if (count > size)
		count = size;
	range->first = size - count;
	range->length = count;
	return HTTP_RANGE_PART;
}

enum http_range_kind http_range_parse(const char *value, size_t length, uint64_t size,
                                      struct http_range *range)
{
	*range = (struct http_range){.first = 0, .length = size};
	if (length < 6 || !http_equal_ignoring_case(value, 6, "bytes="))
		return HTTP_RANGE_WHOLE;
	value += 6;
	length -= 6;

	uint64_t first, last;
	size_t first_digits = take_position(value, length, &first);
	if (first_digits == length || value[first_digits] != '-')
		return HTTP_RANGE_WHOLE;
	value += first_digits + 1;
	length -= first_digits + 1;
	size_t last_digits = take_position(value, length, &last);
	if (last_digits != length || (first_digits == 0 && last_digits == 0))
		return HTTP_RANGE_WHOLE;

	if (first_digits == 0)
		return last_bytes(last, size, range);
	if (last_digits > 0 && last < first)
		return HTTP_RANGE_WHOLE;
	if (first >= size)
		return HTTP_RANGE_UNSATISFIABLE;
	if (last_digits == 0 || last >= size)
		last = size - 1;
	range->first = first;
	range->length = last - first + 1;
	return HTTP_RANGE_PART;
}
