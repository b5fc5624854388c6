#include "supervisor/report.h"

#include <stdio.h>
#include <string.h>

#include "kernel/clock.h"
#include "process/child.h"
#include "supervisor/fields.h"
#include "util/log.h"

void report_worker(const struct ferry_supervisor_worker *worker, const char *text)
{
	log_line(FERRY_LOG_WARNING, "worker %s-%u (pid %ld) %s", worker->supervisor->settings.name,
	         worker->number + 1, (long)child_pid(worker->child), text);
}

/* Whether a line may be logged; `more` gets the number of those that were not. */
static bool may_log(struct ferry_supervisor *supervisor, int64_t now, char *more, size_t size)
{
	if (now < supervisor->may_log_at) {
		supervisor->unlogged++;
		return false;
	}
	*more = '\0';
	if (supervisor->unlogged > 0)
		snprintf(more, size, ", and %u more since the last line", supervisor->unlogged);
	supervisor->unlogged = 0;
	supervisor->may_log_at = now + CLOCK_SECOND;
	return true;
}

void report_end(const struct ferry_supervisor_worker *worker, bool soon, int64_t now)
{
	char how[64] = "has ended", more[64] = "", text[160];

	if (soon && !may_log(worker->supervisor, now, more, sizeof(more)))
		return;
	if (worker->status != 0)
		child_describe(worker->status, how, sizeof(how));
	snprintf(text, sizeof(text), "%s%s", how, more);
	/* One that was asked may end by the signal that it got. */
	if (!worker->asked || (worker->status != 0 && worker->stage < FERRY_SUPERVISOR_TERMINATE))
		report_worker(worker, text);
}

void report_failed_start(struct ferry_supervisor *supervisor, int error, int64_t now)
{
	char more[64];

	if (may_log(supervisor, now, more, sizeof(more)))
		log_line(FERRY_LOG_WARNING, "cannot start %s: %s%s", supervisor->settings.program,
		         strerror(-error), more);
}

/* ---- crashes and the state ---- */

void report_crash(struct ferry_supervisor *supervisor, int64_t now)
{
	supervisor->stats.crashes++;
	supervisor->crashes[supervisor->next_crash] = now;
	supervisor->next_crash = (supervisor->next_crash + 1) % supervisor->settings.crash_limit;
}

static void set_state(struct ferry_supervisor *supervisor, enum ferry_supervisor_state state)
{
	if (supervisor->state == state)
		return;
	supervisor->state = state;
	if (state == FERRY_SUPERVISOR_FAILING)
		log_line(FERRY_LOG_WARNING, "the workers of %s fail: %u have ended within %lld seconds",
		         supervisor->settings.name, supervisor->settings.crash_limit,
		         (long long)(supervisor->settings.crash_window / CLOCK_SECOND));
}

int64_t report_update_state(struct ferry_supervisor *supervisor, int64_t now)
{
	/* The oldest of the last `crash_limit` crashes. */
	int64_t oldest = supervisor->crashes[supervisor->next_crash];
	int64_t end = oldest + supervisor->settings.crash_window;

	if (supervisor->stop != 0) {
		set_state(supervisor, TAILQ_EMPTY(&supervisor->workers) ? FERRY_SUPERVISOR_STOPPED
		                                                        : FERRY_SUPERVISOR_STOPPING);
		return 0;
	}
	bool failing = oldest != 0 && end > now;
	set_state(supervisor, failing ? FERRY_SUPERVISOR_FAILING : FERRY_SUPERVISOR_RUNNING);
	return failing ? end : 0;
}
