#include "libevent/deferred_free.h"

#include <stdlib.h>

static void release_memory(struct event *event, void *argument)
{
	(void)event;
	free(argument);
}

void deferred_free(struct event *event, event_finalize_callback_fn release)
{
	event_free_finalize(0, event, release != NULL ? release : release_memory);
}
