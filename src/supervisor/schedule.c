#include "supervisor/schedule.h"

#include "kernel/clock.h"
#include "supervisor/fields.h"

void schedule_turn(struct ferry_supervisor *supervisor)
{
	event_active(supervisor->event, EV_READ, 0);
}

void schedule_wake_at(struct ferry_supervisor *supervisor, int64_t time)
{
	if (time == 0 || (supervisor->wakes_at != 0 && supervisor->wakes_at <= time))
		return;
	int64_t now = clock_now();
	const struct timeval delay = clock_to_timeval(time > now ? time - now : 0);
	/* Without memory for the timer the turn runs again at once, until there is some. */
	if (event_add(supervisor->event, &delay) == 0)
		supervisor->wakes_at = time;
	else
		schedule_turn(supervisor);
}
