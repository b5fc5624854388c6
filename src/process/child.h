#ifndef FERRY_PROCESS_CHILD_H
#define FERRY_PROCESS_CHILD_H

/*
 * A program started by exec, and its end.
 *
 * No signal handler is installed, and no other child is waited for: the program may have a SIGCHLD handler, ignore
 * SIGCHLD, and call system(3). If it waits for any child (-1) or ignores SIGCHLD, the status is unknown.
 *
 *   options.h      what the child is to have
 *   image.c        what exec needs, made before fork(2)
 *   descriptors.c  the descriptors of the child, set after fork(2)
 *   launch.c       fork(2), the steps of the child, and errors back to the caller
 *   child.c        the end, in the loop
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "kernel/pidfd.h"
#include "process/options.h"

struct child;
struct event_base;

enum { CHILD_STATUS_UNKNOWN = PIDFD_STATUS_UNKNOWN };

/* The program has ended; `status` is as that of waitpid(2), or CHILD_STATUS_UNKNOWN. Runs once, from the loop. The
 * callee may free the child. */
typedef void (*child_ended_cb)(struct child *child, int status, void *context);

/*
 * Starts a program, with all signals at their default action and none blocked. Returns when exec has succeeded or
 * failed; an exec that takes longer than a second counts as started, and its failure is exit status 127 then.
 *
 *   -EINVAL  no program, a number is negative, or two are the same
 *   -ENOMEM, -EAGAIN, -EMFILE, -ENFILE  there is not enough of something
 *   -EBADF   a descriptor is not open, or its number is above the limit of descriptors
 *   -EPERM   the caller may not change the user or a limit
 *   and the errors of execve(2): -ENOENT, -EACCES, -ENOEXEC, -E2BIG, ….
 */
int child_start(struct child **out, struct event_base *base, const struct child_options *options,
                child_ended_cb ended, void *context);

pid_t child_pid(const struct child *child);

/* The pidfd, which stays the child's; -1: there is none. */
int child_pidfd(const struct child *child);

/* Whether it has ended, and the loop has noticed it. */
bool child_has_ended(const struct child *child);

/* Sends a signal. 0, or a negative errno; -ESRCH: the program has ended, or this process is a fork of the one that
 * has started it. */
int child_signal(struct child *child, int signal_number);

/* The caller has reason to believe that it has ended: the loop looks in its next turn. Needed for speed alone, where
 * there is no pidfd. */
void child_look(struct child *child);

/* Kills the program and waits for its end; no callback. In a forked child of the process that has started it, only the
 * memory and the pidfd are freed. NULL: does nothing. */
void child_free(struct child *child);

/* Frees the object; the program continues. After its end it is a zombie until this process ends or waits for it. NULL:
 * does nothing. */
void child_release(struct child *child);

/* A status for a log line: "exited with status 1", "killed by signal 9 (Killed)", "ended". */
void child_describe(int status, char *out, size_t size);

#endif
