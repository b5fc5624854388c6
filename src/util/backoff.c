#include "util/backoff.h"

int64_t backoff_double(int64_t usec, int64_t longest)
{
	return usec < longest / 2 ? usec * 2 : longest;
}

int64_t backoff_add_jitter(uint32_t *random, int64_t usec)
{
	const int64_t most = usec / 4;

	*random = *random * 1664525 + 1013904223;
	const int64_t share = *random >> 16; /* of 65536 */
	/* In two parts: the product of the whole would overflow for a pause of 18 years. */
	return usec + most / 65536 * share + most % 65536 * share / 65536;
}
