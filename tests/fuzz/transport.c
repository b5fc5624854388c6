/* Public calls at both ends of a connection, against the model of unit.transport.model. The bytes are the random numbers
 * of a walk; behind their end a generator goes on, which always begins with the same number. */

#include "fuzz.h"

#include "model_trace.h"
#include "model_walk.h"
#include "support.h"

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the linker's names */
void __wrap__mark_point(const char *file, int line);
_Noreturn void __wrap__ck_assert_failed(const char *file, int line, const char *expression, ...);

/* What check's macros call, where no test of check runs. */
void __wrap__mark_point(const char *file, int line)
{
	(void)file, (void)line;
}

void __wrap__ck_assert_failed(const char *file, int line, const char *expression, ...)
{
	fuzz_fail(expression, file, line);
}
/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

enum { STEPS_MAX = 300, LARGE = 2000 };

static struct fuzz_input input;

/* Of a large range, the lowest part is left out: a reader of single bytes, which is rare in a walk, would be found again
 * and again, and takes minutes. */
static uint32_t choose(uint32_t bound)
{
	size_t size = bound <= UINT8_MAX + 1 ? 1 : bound <= UINT16_MAX + 1 ? 2 : 4;
	uint32_t least = bound >= LARGE ? bound / 20 : 0;
	uint32_t number = input.left > 0 ? (uint32_t)fuzz_number(&input, size) : support_random();

	return least + number % (bound - least);
}

static bool goes_on(unsigned int steps)
{
	return input.left > 0 && steps < STEPS_MAX;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > FUZZ_INPUT_MAX)
		return 0;
	fuzz_begin();
	base = fuzz_base;
	input = (struct fuzz_input){data, size};
	support_reseed(1);
	support_set_random_below(choose);
	trace_begin(NULL);

	int open_before = count_open_fds();
	model_walk(goes_on);
	fuzz_turns(3);
	wait_for_threads(open_before);
	fuzz_end();
	return 0;
}
