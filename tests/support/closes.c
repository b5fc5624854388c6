#include "closes.h"

#include <errno.h>
#include <stdbool.h>

#include "support.h"

enum { FDS = 1024 };

static unsigned int bad_closes;
static bool forbidden[FDS];

void closes_forbid(int fd)
{
	if (fd < FDS)
		forbidden[fd] = true;
}

void closes_permit(int fd)
{
	if (fd < FDS)
		forbidden[fd] = false;
}

int __real_close(int fd);
int __wrap_close(int fd);

int __wrap_close(int fd)
{
	if (fd >= 0 && fd < FDS && forbidden[fd])
		bad_closes++;
	int result = __real_close(fd);
	if (result != 0 && errno == EBADF)
		bad_closes++;
	return result;
}

void check_closes(void)
{
	ck_assert_uint_eq(bad_closes, 0);
}
