#ifndef FERRY_KERNEL_SIGPIPE_H
#define FERRY_KERNEL_SIGPIPE_H

#include <stdbool.h>

/*
 * Protects the program from SIGPIPE during calls that have no flag against it: sendfile(2), splice(2) and
 * writev(2) on a pipe. (sendmsg(2) has MSG_NOSIGNAL.)
 *
 * The guard blocks the signal on this thread only, because the kernel sends the SIGPIPE of a write to the thread
 * that wrote. sigpipe_restore() leaves the program's signal mask, pending signals and actions as they were.
 */
struct sigpipe_guard {
	bool blocked; /* by the guard, which unblocks it at the end */
	bool consume; /* a signal that becomes pending meanwhile is removed */
};

void sigpipe_block(struct sigpipe_guard *guard);

/* `raised`: one of the guarded calls failed with EPIPE. errno stays as it was. */
void sigpipe_restore(struct sigpipe_guard *guard, bool raised);

#endif
