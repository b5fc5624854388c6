#include "channel/lifetime.h"

#include <assert.h>
#include <stdlib.h>

#include "channel/ready.h"
#include "libevent/reentry.h"

/*
 * The end of a poller. The user may free it in any callback; its event_base goes when no call uses that any more.
 */

void poller_destroy(struct ferry_poller *poller)
{
	wait_close(&poller->loop);
	batch_destroy(&poller->batch);
	free(poller);
}

/* The pollers that this thread has freed inside pause_producing or stop_producing. The call that runs such a
 * callback uses objects of the poller's loop until it returns, and may know no poller. */
static REENTRY_THREAD_LOCAL LIST_HEAD(poller_list, ferry_poller) abandoned;

static void abandon(struct ferry_poller *poller)
{
	if (!poller->abandoned)
		LIST_INSERT_HEAD(&abandoned, poller, abandoned_link);
	poller->abandoned = true;
}

/* The last turn of the loop finalises transports, and runs the callbacks that are due. */
static void finish_free(struct ferry_poller *poller)
{
	if (poller->abandoned)
		LIST_REMOVE(poller, abandoned_link);
	assert(LIST_FIRST(&abandoned) != poller); /* for the static analyzer */
	poller->abandoned = false;
	(void)wait_turn(&poller->loop);
	ready_clear_freed(poller);
	if (poller->channels == 0)
		poller_destroy(poller);
}

void poller_settle(struct ferry_poller *poller)
{
	if (!poller->freed || poller->loop.running) /* the call that runs the loop settles it */
		return;
	if (wait_is_busy(&poller->loop))
		abandon(poller);
	else
		finish_free(poller);
}

void poller_settle_abandoned(void)
{
	struct ferry_poller *poller = LIST_FIRST(&abandoned);

	while (poller != NULL) {
		if (wait_is_busy(&poller->loop)) {
			poller = LIST_NEXT(poller, abandoned_link);
		} else {
			finish_free(poller);
			poller = LIST_FIRST(&abandoned); /* callbacks may have changed the list */
		}
	}
}
