#include "supervisor/replacing.h"

#include <errno.h>

#include "supervisor/schedule.h"
#include "supervisor/worker.h"

static struct ferry_supervisor_worker *successor_of(const struct ferry_supervisor *supervisor,
                                                    unsigned int number)
{
	return supervisor->places[number]->successor;
}

/* The places of the step that exist. */
static unsigned int end_of_step(const struct ferry_supervisor *supervisor)
{
	unsigned int end = supervisor->replacement.end;

	return end < supervisor->place_count ? end : supervisor->place_count;
}

static void give_up(struct place *place, int64_t now)
{
	if (place->successor != NULL)
		worker_stop(place->successor, FERRY_SUPERVISOR_DRAIN, now);
	place->successor = NULL; /* it may have left before */
	place->successor_killed = false;
}

static void finish(struct ferry_supervisor *supervisor, int status, int64_t now)
{
	struct replacement *replacement = &supervisor->replacement;

	for (unsigned int i = replacement->next; i < end_of_step(supervisor); i++)
		give_up(supervisor->places[i], now);
	*replacement =
	    (struct replacement){.requested = replacement->requested && supervisor->stop == 0};
	if (replacement->requested)
		schedule_turn(supervisor);
	if (status == 0)
		supervisor->stats.replacements++;
	if (supervisor->callbacks->replaced != NULL)
		supervisor->callbacks->replaced(supervisor, status, supervisor->context);
}

static void begin(struct ferry_supervisor *supervisor)
{
	supervisor->replacement = (struct replacement){.active = true};
	supervisor->generation++;
}

/* Starts the processes of the next step. */
static void begin_step(struct ferry_supervisor *supervisor)
{
	struct replacement *replacement = &supervisor->replacement;
	unsigned int left = supervisor->place_count - replacement->next;
	unsigned int step = supervisor->settings.replace_step;

	replacement->end = replacement->next + (step > 0 && step < left ? step : left);
	for (unsigned int i = replacement->next; i < end_of_step(supervisor); i++) {
		struct place *place = supervisor->places[i];
		if (place->current == NULL) /* the program may have been repaired */
			place->pause_usec = supervisor->settings.first_pause;
		int status = worker_start(&place->successor, supervisor, i);
		if (supervisor->freed)
			return;
		if (status < 0) {
			replacement->error = status;
			return;
		}
	}
}

/* As often in a replacement as there are places. */
static void restart_killed(struct ferry_supervisor *supervisor)
{
	struct replacement *replacement = &supervisor->replacement;

	for (unsigned int i = replacement->next; i < end_of_step(supervisor); i++) {
		struct place *place = supervisor->places[i];
		if (!place->successor_killed || replacement->error < 0)
			continue;
		place->successor_killed = false;
		replacement->error = replacement->killed++ < supervisor->place_count
		                         ? worker_start(&place->successor, supervisor, i)
		                         : -ECHILD;
		if (supervisor->freed)
			return;
	}
}

static bool is_step_ready(const struct ferry_supervisor *supervisor)
{
	for (unsigned int i = supervisor->replacement.next; i < end_of_step(supervisor); i++)
		if (successor_of(supervisor, i) != NULL &&
		    successor_of(supervisor, i)->state != FERRY_SUPERVISOR_READY)
			return false;
	return true;
}

/* Gives the places of the step to the new processes. */
static void end_step(struct ferry_supervisor *supervisor, int64_t now)
{
	struct replacement *replacement = &supervisor->replacement;

	for (; replacement->next < end_of_step(supervisor); replacement->next++) {
		struct place *place = supervisor->places[replacement->next];
		struct ferry_supervisor_worker *old = place->current;
		if (place->successor == NULL)
			continue;
		place->current = place->successor;
		place->successor = NULL;
		if (old != NULL)
			worker_stop(old, FERRY_SUPERVISOR_DRAIN, now);
	}
}

void replacing_advance(struct ferry_supervisor *supervisor, int64_t now)
{
	struct replacement *replacement = &supervisor->replacement;

	if (supervisor->stop != 0) {
		if (replacement->active || replacement->requested)
			finish(supervisor, -ECANCELED, now);
		return;
	}
	if (replacement->requested && !replacement->active)
		begin(supervisor);
	restart_killed(supervisor);
	while (replacement->active && !supervisor->freed) {
		if (replacement->error < 0) {
			finish(supervisor, replacement->error, now);
		} else if (!is_step_ready(supervisor)) {
			return;
		} else {
			end_step(supervisor, now);
			if (replacement->next >= supervisor->place_count)
				finish(supervisor, 0, now);
			else
				begin_step(supervisor);
		}
	}
}
