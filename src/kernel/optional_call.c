#include "kernel/optional_call.h"

#include <errno.h>
#include <stddef.h>

/* A kernel without the call fails with ENOSYS. A seccomp filter fails with the errno that its author chose: ENOSYS
 * in newer container runtimes; EPERM in older ones, for every call that their list does not have, also where the
 * call itself never fails with EPERM. If EPERM was meant, the other way fails with it too. */

enum { ERRORS_MAX = 5 };

static const int absent[][ERRORS_MAX] = {
    [CALL_CLOSE_RANGE] = {ENOSYS, EPERM},
    [CALL_FCHMODAT2] = {ENOSYS, EPERM},
    /* Linux 5.3 has pidfd_open(2), but no waitid(2) for it: EINVAL. */
    [CALL_PIDFD] = {ENOSYS, EPERM, EINVAL},
    /* Without a position sockets fail with ESPIPE; with RWF_NOWAIT, file systems and devices that always wait
     * fail with EOPNOTSUPP, and kernels that do not know the flag with EINVAL. */
    [CALL_PREADV2] = {ENOSYS, EPERM, EOPNOTSUPP, EINVAL, ESPIPE},
    [CALL_SENDFILE] = {ENOSYS, EPERM},
    [CALL_SOCKET_OPTION] = {ENOSYS, EPERM, ENOPROTOOPT},
    [CALL_SPLICE] = {ENOSYS, EPERM},
    [CALL_UNSHARE] = {ENOSYS, EPERM},
};

bool optional_call_is_absent(enum optional_call call, int error)
{
	for (size_t i = 0; i < ERRORS_MAX; i++)
		if (absent[call][i] == error)
			return error != 0;
	return false;
}
