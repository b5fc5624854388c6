#ifndef FERRY_KERNEL_SIGPIPE_H
#define FERRY_KERNEL_SIGPIPE_H

#include <stdbool.h>

/*
 * Keeps SIGPIPE from the program for calls that have no flag against it: sendfile(2), splice(2) and
 * writev(2) on a pipe. (sendmsg(2) has MSG_NOSIGNAL.)
 *
 * The signal is blocked on this thread only; SIGPIPE from a write is always sent to the thread that
 * wrote. What the program itself had blocked, pending or ignored is as before afterwards.
 */
struct sigpipe_guard {
	bool blocked; /* we blocked it: unblock at the end */
	bool consume; /* a signal that appears meanwhile is ours to swallow */
};

void sigpipe_block(struct sigpipe_guard *guard);

/* `raised`: one of the guarded calls failed with EPIPE. errno is kept. */
void sigpipe_restore(struct sigpipe_guard *guard, bool raised);

#endif
