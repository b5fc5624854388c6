#include "process/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "process/launch.h"

struct child {
	struct event *readable; /* the pidfd; NULL: there is none */
	struct event *timer;    /* looks from time to time, where no pidfd reports the end */
	int pidfd;              /* -1: none */
	pid_t pid;
	pid_t parent; /* the process that has started it, and that alone may wait for it */
	bool ended;
	child_ended_cb callback;
	void *context;
};

static const struct timeval look_interval = {.tv_usec = 100000};

static void disarm(struct child *child)
{
	if (child->readable != NULL)
		event_del(child->readable);
	event_del(child->timer);
}

/* While a debugger has the ended program, the pidfd is readable, and there is no status yet. */
static void look_later(struct child *child)
{
	if (child->readable != NULL && event_add(child->timer, &look_interval) == 0)
		event_del(child->readable);
}

static void on_event(evutil_socket_t fd, short what, void *argument)
{
	(void)fd;
	struct child *child = argument;
	int status;

	if (child->parent != getpid()) {
		disarm(child);
		return;
	}
	if (pidfd_wait(child->pidfd, child->pid, &status) == 0) {
		if ((what & EV_READ) != 0)
			look_later(child);
		return;
	}
	disarm(child);
	child->ended = true;
	child->callback(child, status, child->context);
}

/* ---- started and freed ---- */

static void free_object(struct child *child)
{
	if (child->readable != NULL)
		event_free(child->readable);
	if (child->timer != NULL)
		event_free(child->timer);
	if (child->pidfd >= 0)
		close(child->pidfd);
	free(child);
}

static int watch(struct child *child, struct event_base *base)
{
	child->timer = event_new(base, -1, EV_PERSIST, on_event, child);
	if (child->timer == NULL)
		return -ENOMEM;
	child->pidfd = pidfd_open_child(child->pid);
	if (child->pidfd < -1)
		return child->pidfd;
	if (child->pidfd < 0)
		return event_add(child->timer, &look_interval) == 0 ? 0 : -ENOMEM;
	child->readable = event_new(base, child->pidfd, EV_READ | EV_PERSIST, on_event, child);
	if (child->readable == NULL || event_add(child->readable, NULL) < 0)
		return -ENOMEM;
	return 0;
}

int child_start(struct child **out, struct event_base *base, const struct child_options *options,
                child_ended_cb ended, void *context)
{
	struct launch launch;
	struct child *child = calloc(1, sizeof(*child));
	if (child == NULL)
		return -ENOMEM;
	child->pidfd = -1;
	child->parent = getpid();
	child->callback = ended;
	child->context = context;
	int status = launch_fork(&launch, options);
	if (status == 0) {
		child->pid = launch.pid;
		status = watch(child, base);
		if (status == 0)
			status = launch_go(&launch);
		else
			launch_cancel(&launch);
	}
	if (status < 0) {
		free_object(child);
		return status;
	}
	*out = child;
	return 0;
}

void child_release(struct child *child)
{
	if (child != NULL)
		free_object(child);
}

void child_free(struct child *child)
{
	int status;

	if (child == NULL)
		return;
	if (!child->ended && child->parent == getpid()) {
		/* A program that this process may not signal, because of its user, is not waited for. */
		if (child_signal(child, SIGKILL) == 0)
			pidfd_wait_for_end(child->pidfd, child->pid, &status);
		else
			pidfd_wait(child->pidfd, child->pid, &status);
	}
	free_object(child);
}

/* ---- while it runs ---- */

pid_t child_pid(const struct child *child)
{
	return child->pid;
}

int child_pidfd(const struct child *child)
{
	return child->pidfd;
}

bool child_has_ended(const struct child *child)
{
	return child->ended;
}

int child_signal(struct child *child, int signal_number)
{
	if (child->ended || child->parent != getpid())
		return -ESRCH;
	return pidfd_signal(child->pidfd, child->pid, signal_number);
}

void child_look(struct child *child)
{
	if (!child->ended)
		event_active(child->timer, EV_TIMEOUT, 0);
}

void child_describe(int status, char *out, size_t size)
{
	if (status == CHILD_STATUS_UNKNOWN)
		snprintf(out, size, "ended");
	else if (WIFSIGNALED(status))
		snprintf(out, size, "killed by signal %d (%s)", WTERMSIG(status),
		         strsignal(WTERMSIG(status)));
	else
		snprintf(out, size, "exited with status %d", WEXITSTATUS(status));
}
