#include "upgrade/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "ferry/listener.h"

#include "kernel/clock.h"
#include "upgrade/inheritance.h"
#include "util/options.h"

static const struct timeval default_timeout = {.tv_sec = 60};
static const struct timeval default_probation = {.tv_sec = 1};

static int check_options(const struct ferry_upgrade_options *options,
                         const struct ferry_upgrade_callbacks *callbacks)
{
	if (options == NULL || callbacks == NULL || !options_fit(options, sizeof(*options)) ||
	    callbacks->started == NULL || (options->argv != NULL && callbacks->replaced == NULL) ||
	    (options->argv != NULL && options->argv[0] == NULL))
		return -EINVAL;
	return clock_from_timeval(&options->timeout) < 0 || clock_from_timeval(&options->probation) < 0
	           ? -EINVAL
	           : 0;
}

static void free_parts(struct ferry_upgrade *upgrade)
{
	for (int i = 0; i < UPGRADE_SIGNALS; i++)
		if (upgrade->signals[i] != NULL)
			event_free(upgrade->signals[i]);
	event_del(upgrade->turn);
	if (upgrade->again != NULL)
		event_del(upgrade->again);
	if (upgrade->probation != NULL)
		event_del(upgrade->probation);
	ferry_listener_free(upgrade->listener);
	candidates_free(upgrade->candidates);
	predecessor_free(upgrade->predecessor);
	successor_free(upgrade->successor);
	taker_free(upgrade->taker);
	giver_free(upgrade->giver);
	output_free(upgrade->output);
	if (upgrade->inherited)
		inheritance_close();
	ferry_socket_set_free(upgrade->set);
	ferry_socket_set_free(upgrade->kept);
}

int ferry_upgrade_new(struct ferry_upgrade **out, struct event_base *base,
                      const struct ferry_upgrade_options *options,
                      const struct ferry_upgrade_callbacks *callbacks, void *context)
{
	int status = check_options(options, callbacks);
	if (status != 0 || out == NULL || base == NULL)
		return -EINVAL;
	struct ferry_upgrade *upgrade = calloc(1, sizeof(*upgrade));
	if (upgrade == NULL)
		return -ENOMEM;
	*upgrade = (struct ferry_upgrade){.base = base,
	                                  .options = *options,
	                                  .callbacks = callbacks,
	                                  .context = context,
	                                  .owner = getpid()};
	if (clock_from_timeval(&options->timeout) == 0)
		upgrade->options.timeout = default_timeout;
	if (clock_from_timeval(&options->probation) == 0)
		upgrade->options.probation = default_probation;
	status = upgrade_init_turn(upgrade);
	if (status == 0)
		status = upgrade_join(upgrade);
	if (status != 0) {
		if (upgrade->turn != NULL)
			free_parts(upgrade);
		upgrade_release(upgrade);
		return status;
	}
	*out = upgrade;
	return 0;
}

/* The sockets, their files and the channels are the parent's. */
void ferry_upgrade_free(struct ferry_upgrade *upgrade)
{
	if (upgrade == NULL || upgrade->freed || !upgrade_is_owner(upgrade))
		return;
	upgrade_enter(upgrade);
	upgrade->freed = true;
	free_parts(upgrade);
	upgrade_leave(upgrade);
}

struct ferry_socket_set *ferry_upgrade_get_set(const struct ferry_upgrade *upgrade)
{
	const bool has_set =
	    upgrade != NULL && upgrade->phase >= UPGRADE_PREPARING && upgrade->phase < UPGRADE_REPLACED;

	return has_set ? upgrade->set : NULL;
}
