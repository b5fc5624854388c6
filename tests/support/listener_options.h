#ifndef FERRY_TESTS_LISTENER_OPTIONS_H
#define FERRY_TESTS_LISTENER_OPTIONS_H

/* Options of ferry_listener_new_unix(). Each function sets the option in its name, and leaves the
 * others at their defaults. The result is valid until the next call of the same function. */

#include "ferry/listener.h"

static inline const struct ferry_listener_options *with_mode(mode_t mode)
{
	static struct ferry_listener_options options;

	options = (struct ferry_listener_options)FERRY_LISTENER_OPTIONS_INIT;
	options.mode = mode;
	return &options;
}

static inline const struct ferry_listener_options *with_backlog(int backlog)
{
	static struct ferry_listener_options options;

	options = (struct ferry_listener_options)FERRY_LISTENER_OPTIONS_INIT;
	options.backlog = backlog;
	return &options;
}

static inline const struct ferry_listener_options *with_lock(void)
{
	static struct ferry_listener_options options;

	options = (struct ferry_listener_options)FERRY_LISTENER_OPTIONS_INIT;
	options.lock = true;
	return &options;
}

static inline const struct ferry_listener_options *with_owner(uid_t owner, gid_t group, mode_t mode)
{
	static struct ferry_listener_options options;

	options = (struct ferry_listener_options)FERRY_LISTENER_OPTIONS_INIT;
	options.owner = owner;
	options.group = group;
	options.mode = mode;
	return &options;
}

#endif
