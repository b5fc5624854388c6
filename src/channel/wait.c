#include "channel/wait.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

#include "kernel/clock.h"
#include "kernel/fd_slots.h"
#include "libevent/reentry.h"

enum {
	BASE_FDS = 3 /* of an event_base: one for epoll, two for signals */
};
static const int64_t longest_sleep = (int64_t)3600 * CLOCK_SECOND;

/* ---- opening and closing ---- */

/* The timer has done its work by waking the loop. */
static void on_timer(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
}

static void on_interruption(evutil_socket_t fd, short what, void *argument)
{
	(void)what;
	struct wait_loop *loop = argument;
	uint64_t count;

	if (read((int)fd, &count, sizeof(count)) > 0)
		loop->interrupted = true;
}

int wait_open(struct wait_loop *loop)
{
	*loop = (struct wait_loop){.interruption_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	if (loop->interruption_fd < 0)
		return -errno;
	/* event_base_new() ends the process if it cannot open its descriptors. */
	if (!fd_slots_are_free(loop->interruption_fd, BASE_FDS))
		return -EMFILE;
	loop->base = event_base_new();
	if (loop->base == NULL)
		return -ENOMEM;
	loop->timer = event_new(loop->base, -1, 0, on_timer, NULL);
	loop->interruption =
	    event_new(loop->base, loop->interruption_fd, EV_READ | EV_PERSIST, on_interruption, loop);
	if (loop->timer == NULL || loop->interruption == NULL ||
	    event_add(loop->interruption, NULL) < 0)
		return -ENOMEM;
	return 0;
}

void wait_close(struct wait_loop *loop)
{
	if (loop->timer != NULL)
		event_free(loop->timer);
	if (loop->interruption != NULL)
		event_free(loop->interruption);
	if (loop->interruption_fd >= 0)
		close(loop->interruption_fd);
	if (loop->base != NULL)
		event_base_free(loop->base);
}

/* ---- running ---- */

int wait_deadline(const struct timeval *timeout, int64_t *deadline)
{
	*deadline = WAIT_FOR_EVER;
	if (timeout == NULL)
		return 0;
	int64_t usec = clock_from_timeval(timeout);
	if (usec < 0)
		return -EINVAL;
	*deadline = usec == 0 ? 0 : clock_now() + usec; /* zero: without reading the clock */
	return 0;
}

bool wait_is_busy(const struct wait_loop *loop)
{
	return loop->running || reentry_is_inside(loop->base);
}

/* At least one event is active or will be, and so the loop returns. */
static int run_once(struct wait_loop *loop)
{
	loop->running = true;
	int status = event_base_loop(loop->base, EVLOOP_ONCE);
	loop->running = false;
	return status < 0 ? -EIO : 0;
}

int wait_turn(struct wait_loop *loop)
{
	event_active(loop->timer, EV_TIMEOUT, 0);
	return run_once(loop);
}

/* libevent counts the events that were active in a turn. In a quiet turn the timer is the only one. */
int wait_turn_and_look(struct wait_loop *loop, bool *quiet)
{
	event_base_get_max_events(loop->base, EVENT_BASE_COUNT_ACTIVE, 1);
	int status = wait_turn(loop);
	*quiet = event_base_get_max_events(loop->base, EVENT_BASE_COUNT_ACTIVE, 0) <= 1;
	return status;
}

static int sleep_and_run(struct wait_loop *loop, int64_t usec)
{
	const struct timeval longest = clock_to_timeval(usec < longest_sleep ? usec : longest_sleep);

	if (event_add(loop->timer, &longest) < 0)
		return -ENOMEM;
	int status = run_once(loop);
	event_del(loop->timer);
	return status;
}

int wait_run(struct wait_loop *loop, int64_t deadline)
{
	if (wait_is_busy(loop))
		return -EBUSY;
	int64_t left = deadline == 0 || deadline == WAIT_FOR_EVER ? deadline : deadline - clock_now();
	int status = left > 0 ? sleep_and_run(loop, left) : wait_turn(loop);
	if (status == 0)
		status = wait_take_interruption(loop);
	return status == 0 && left <= 0 ? -ETIMEDOUT : status;
}

/* ---- interrupting ---- */

int wait_take_interruption(struct wait_loop *loop)
{
	bool interrupted = loop->interrupted;
	loop->interrupted = false;
	return interrupted ? -EINTR : 0;
}

void wait_interrupt(const struct wait_loop *loop)
{
	const uint64_t one = 1;
	const int error = errno; /* a signal handler must not change it */

	/* The write fails if 2^64 - 2 interruptions are pending already. */
	(void)!write(loop->interruption_fd, &one, sizeof(one));
	errno = error;
}
