#include "kernel/sigpipe.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

static void fill_with_sigpipe(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGPIPE);
}

void sigpipe_block(struct sigpipe_guard *guard)
{
	struct sigaction action;
	sigset_t set, previous, pending;

	*guard = (struct sigpipe_guard){0};
	/* The program may change the action at any time, so it is not cached. */
	if (sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
		return;

	fill_with_sigpipe(&set);
	if (pthread_sigmask(SIG_BLOCK, &set, &previous) != 0)
		return;
	if (!sigismember(&previous, SIGPIPE)) {
		guard->blocked = true;
		guard->consume = true;
		return;
	}
	/* The program blocks the signal itself. A signal that is pending already belongs to the program, and one of a
	 * guarded call would merge with it: then the guard consumes none. */
	guard->consume = sigpending(&pending) == 0 && !sigismember(&pending, SIGPIPE);
}

void sigpipe_restore(struct sigpipe_guard *guard, bool raised)
{
	int saved = errno;
	sigset_t set;

	fill_with_sigpipe(&set);
	if (raised && guard->consume) {
		while (sigtimedwait(&set, NULL, &(struct timespec){0}) < 0 && errno == EINTR)
			continue;
	}
	if (guard->blocked)
		pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	errno = saved;
}
