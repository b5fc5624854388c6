#include "util/backoff.h"

int64_t backoff_double(int64_t usec, int64_t longest)
{
	return usec < longest / 2 ? usec * 2 : longest;
}

int64_t backoff_add_jitter(uint32_t *random, int64_t usec)
{
	*random = *random * 1664525 + 1013904223;
	return usec + (usec / 4) * (int64_t)(*random >> 16) / 65536;
}
