#ifndef FERRY_PROCESS_LAUNCH_H
#define FERRY_PROCESS_LAUNCH_H

#include <sys/types.h>

/*
 * fork(2) and exec in two steps. The child waits after fork(2), so that the caller can open a pidfd and prepare for its
 * end first; a failure there leaves no program that was started.
 *
 *     caller                     child
 *     launch_fork  ----------->  waits
 *     launch_go    --- go ---->  descriptors, session, limits, user, exec
 *                  <-- errno --  if one of them fails
 *                  <-- end ----  exec: the socket is close-on-exec
 *     launch_cancel -- end --->  ends
 */

struct child_options;

struct launch {
	pid_t pid;
	int fd; /* to the child; close-on-exec */
};

/* -EINVAL, -ENOMEM, -EAGAIN, -EMFILE, -ENFILE. */
int launch_fork(struct launch *out, const struct child_options *options);

/* 0: the program runs. A negative errno: the child has ended, and was waited for. */
int launch_go(struct launch *launch);

/* Ends the child, and waits for it. */
void launch_cancel(struct launch *launch);

#endif
