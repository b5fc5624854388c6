#include "libevent/reentry.h"

#include <stddef.h>

static REENTRY_THREAD_LOCAL struct reentry *innermost;

void reentry_enter(struct reentry *reentry, const struct event_base *base)
{
	*reentry = (struct reentry){base, innermost};
	innermost = reentry;
}

void reentry_leave(struct reentry *reentry)
{
	innermost = reentry->outer;
}

bool reentry_is_inside(const struct event_base *base)
{
	const struct reentry *reentry = innermost;

	while (reentry != NULL && reentry->base != base)
		reentry = reentry->outer;
	return reentry != NULL;
}
