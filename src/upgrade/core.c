#include "upgrade/core.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/event.h>

void upgrade_enter(struct ferry_upgrade *upgrade)
{
	upgrade->calls++;
}

void upgrade_release(struct ferry_upgrade *upgrade)
{
	if (upgrade->turn != NULL)
		event_free(upgrade->turn);
	if (upgrade->again != NULL)
		event_free(upgrade->again);
	if (upgrade->probation != NULL)
		event_free(upgrade->probation);
	free(upgrade->path);
	free(upgrade->control);
	free(upgrade->state);
	free(upgrade);
}

void upgrade_leave(struct ferry_upgrade *upgrade)
{
	if (--upgrade->calls == 0 && upgrade->freed)
		upgrade_release(upgrade);
}

bool upgrade_is_owner(const struct ferry_upgrade *upgrade)
{
	return upgrade->owner == getpid();
}

static void on_turn(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_upgrade *upgrade = argument;

	if (!upgrade_is_owner(upgrade))
		return;
	upgrade_enter(upgrade);
	upgrade->in_turn(upgrade);
	upgrade_leave(upgrade);
}

int upgrade_init_turn(struct ferry_upgrade *upgrade)
{
	upgrade->turn = event_new(upgrade->base, -1, 0, on_turn, upgrade);
	return upgrade->turn != NULL ? 0 : -ENOMEM;
}

void upgrade_run_later(struct ferry_upgrade *upgrade,
                       void (*function)(struct ferry_upgrade *upgrade), const struct timeval *delay)
{
	upgrade->in_turn = function;
	if (event_add(upgrade->turn, delay) < 0)
		event_active(upgrade->turn, EV_TIMEOUT, 0);
}

void upgrade_run_in_turn(struct ferry_upgrade *upgrade,
                         void (*function)(struct ferry_upgrade *upgrade))
{
	upgrade->in_turn = function;
	event_active(upgrade->turn, EV_TIMEOUT, 0);
}
