#include "upgrade/core.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#include <event2/event.h>

#include "util/log.h"

static const int numbers[UPGRADE_SIGNALS] = {SIGUSR2, SIGHUP, SIGINT, SIGQUIT, SIGTERM};

static void on_signal(evutil_socket_t number, short what, void *argument)
{
	(void)what;
	struct ferry_upgrade *upgrade = argument;

	if (!upgrade_is_owner(upgrade))
		return;
	if (number == SIGUSR2) {
		const int status = ferry_upgrade_start(upgrade);
		if (status != 0)
			log_line(FERRY_LOG_WARNING, "no successor is started: %s", strerror(-status));
	} else if (upgrade->callbacks->signalled != NULL) {
		upgrade->callbacks->signalled(upgrade, (int)number, upgrade->context);
	}
}

int ferry_upgrade_watch_signals(struct ferry_upgrade *upgrade)
{
	if (upgrade == NULL)
		return -EINVAL;
	if (!upgrade_is_owner(upgrade))
		return -ECHILD;
	for (int i = 0; i < UPGRADE_SIGNALS; i++) {
		if (upgrade->signals[i] == NULL)
			upgrade->signals[i] = evsignal_new(upgrade->base, numbers[i], on_signal, upgrade);
		if (upgrade->signals[i] == NULL || event_add(upgrade->signals[i], NULL) < 0)
			return -ENOMEM;
	}
	return 0;
}
