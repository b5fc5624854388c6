#ifndef FERRY_KERNEL_OPTIONAL_CALL_H
#define FERRY_KERNEL_OPTIONAL_CALL_H

/* System calls that may be missing, because the kernel is older or a sandbox forbids them. ferry has another way
 * for each. */

#include <stdbool.h>

enum optional_call {
	CALL_FCHMODAT2, /* Linux 6.6 */
	CALL_UNSHARE,   /* forbidden in many containers */
};

/* Whether the call failed with `error` because it is not to be had here, and not because of its arguments. */
bool optional_call_is_absent(enum optional_call call, int error);

#endif
