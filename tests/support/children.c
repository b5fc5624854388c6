#include "children.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

pid_t start_child(void)
{
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		static struct event_base *parents;
		parents = base; /* kept: valgrind looks for what is lost, also when a child is killed */
		(void)parents;
		base = event_base_new();
		ck_assert_ptr_nonnull(base);
	}
	return child;
}

void die(void)
{
	raise(SIGKILL);
	abort();
}

void wait_for_death(pid_t child)
{
	int status;
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}
