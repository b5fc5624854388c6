#include "closes.h"

#include <errno.h>

#include "support.h"

static unsigned int bad_closes;

int __real_close(int fd);
int __wrap_close(int fd);

int __wrap_close(int fd)
{
	int result = __real_close(fd);
	if (result != 0 && errno == EBADF)
		bad_closes++;
	return result;
}

void check_closes(void)
{
	ck_assert_uint_eq(bad_closes, 0);
}
