/* Short pieces for the reference: tests of programs that use ferry. */

#include <assert.h>
#include <unistd.h>

#include <ferry/ferry.h>
#include <ferry/testing.h>

static bool has_descriptor(void *argument)
{
	return ferry_testing_count_fds(argument) > 0;
}

/* The program under test sends a descriptor behind "file: ", when a timer has run. */
void expect_descriptor(struct ferry_testing *far)
{
	uint64_t position;

	assert(ferry_testing_pump_until(far, has_descriptor, far, 10) == 0);
	int fd = ferry_testing_take_fd(far, &position);
	assert(fd >= 0 && position == 6);
	close(fd);
}
