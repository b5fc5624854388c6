#include "plan.h"

#include "files.h"

/* splitmix64 */
static uint64_t next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static unsigned int below(uint64_t *state, unsigned int bound)
{
	return (unsigned int)(next(state) % bound);
}

static bool chance(uint64_t *state, unsigned int percent)
{
	return below(state, 100) < percent;
}

static void choose_range(struct request *request, uint64_t *state)
{
	size_t size = file_size(request->file);

	request->first = 0;
	request->length = size;
	request->has_range = size > 0 && chance(state, 30);
	if (request->has_range) {
		request->first = (size_t)(next(state) % size);
		request->length = 1 + (size_t)(next(state) % (size - request->first));
	}
}

static void choose_request(struct request *request, uint64_t *state)
{
	request->file = chance(state, 90) ? below(state, SMALL_FILES) : below(state, FILES);
	choose_range(request, state);
	request->pause_ms = 0;
	if (chance(state, 25))
		request->pause_ms = chance(state, 20) ? below(state, 300) : below(state, 20);
	request->split = chance(state, 10) ? 1 + below(state, 30) : 0;
	request->split_pause_ms = below(state, 20);
}

void plan_make(struct plan *plan, uint64_t seed, unsigned int client, unsigned int connection)
{
	uint64_t state = seed;

	state = next(&state) ^ client;
	state = next(&state) ^ connection;
	plan->request_count = chance(&state, 60) ? 1 : 2 + below(&state, REQUESTS_MAX - 1);
	plan->leaving = (enum leaving)below(&state, LEAVINGS);
	plan->small_buffer = chance(&state, 10);
	for (unsigned int i = 0; i < plan->request_count; i++)
		choose_request(&plan->requests[i], &state);
}
