#ifndef FERRY_KERNEL_OPTIONAL_CALL_H
#define FERRY_KERNEL_OPTIONAL_CALL_H

/* System calls that may be missing, because the kernel is older or a sandbox forbids them. ferry has another way
 * for each. */

#include <stdbool.h>

enum optional_call {
	CALL_CLOSE_RANGE, /* Linux 5.9 */
	CALL_FCHMODAT2,   /* Linux 6.6 */
	CALL_PIDFD, /* pidfd_open(2), Linux 5.3; pidfd_send_signal(2), 5.1; waitid(2) with P_PIDFD, 5.4 */
	CALL_PREADV2,       /* Linux 4.6, and RWF_NOWAIT 4.14 */
	CALL_SENDFILE,      /* forbidden in some sandboxes, as are splice(2) and unshare(2) */
	CALL_SOCKET_OPTION, /* of getsockopt(2) and setsockopt(2): those newer than Linux 3.8 */
	CALL_SPLICE,
	CALL_UNSHARE,
};

/* Whether the call failed with `error` because it is not to be had here, or not for this kind of descriptor. */
bool optional_call_is_absent(enum optional_call call, int error);

#endif
