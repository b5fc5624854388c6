#include "ferry/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "handoff/dispatcher_fields.h"
#include "kernel/clock.h"
#include "process/child.h"
#include "supervisor/replacing.h"
#include "supervisor/report.h"
#include "supervisor/schedule.h"
#include "supervisor/settings.h"
#include "supervisor/worker.h"
#include "util/options.h"

/* The array of places has no more bytes than a size_t can count. */
enum { PLACES_MAX = 1 << 24 };

/* ---- the turn ---- */

static void destroy(struct ferry_supervisor *supervisor)
{
	struct ferry_supervisor_worker *worker;

	/* All get the signal before the first is waited for. */
	TAILQ_FOREACH (worker, &supervisor->workers, link)
		if (worker->child != NULL)
			(void)child_signal(worker->child, SIGKILL);
	while ((worker = TAILQ_FIRST(&supervisor->workers)) != NULL)
		worker_destroy(worker);
	for (size_t i = 0; i < sizeof(supervisor->signals) / sizeof(supervisor->signals[0]); i++)
		if (supervisor->signals[i] != NULL)
			event_free(supervisor->signals[i]);
	for (unsigned int i = 0; i < supervisor->place_count; i++)
		free(supervisor->places[i]);
	free(supervisor->places);
	free(supervisor->crashes);
	settings_clear(&supervisor->settings);
	if (supervisor->event != NULL)
		event_free(supervisor->event);
	free(supervisor);
}

static void advance_workers(struct ferry_supervisor *supervisor, int64_t now)
{
	struct ferry_supervisor_worker *worker = TAILQ_FIRST(&supervisor->workers), *next;

	/* The turn alone frees processes: those that callbacks stop stay in the list. */
	for (; worker != NULL && !supervisor->freed; worker = next) {
		next = TAILQ_NEXT(worker, link);
		worker_advance(worker, now);
	}
}

static bool is_due(const struct ferry_supervisor *supervisor, const struct place *place)
{
	return supervisor->stop == 0 && place->current == NULL && place->successor == NULL;
}

static void start_workers(struct ferry_supervisor *supervisor, int64_t now)
{
	for (unsigned int i = 0; i < supervisor->place_count && !supervisor->freed; i++) {
		struct place *place = supervisor->places[i];
		if (!is_due(supervisor, place) || place->start_at > now)
			continue;
		int status = worker_start(&place->current, supervisor, i);
		if (status == 0)
			continue;
		worker_delay_start(supervisor, place, now);
		report_failed_start(supervisor, status, now);
		if (supervisor->callbacks->start_failed != NULL)
			supervisor->callbacks->start_failed(supervisor, i, status, supervisor->context);
	}
}

static void notify_state(struct ferry_supervisor *supervisor, int64_t now)
{
	schedule_wake_at(supervisor, report_update_state(supervisor, now));
	if (supervisor->state == supervisor->notified)
		return;
	supervisor->notified = supervisor->state;
	if (supervisor->callbacks->state_changed != NULL)
		supervisor->callbacks->state_changed(supervisor, supervisor->state, supervisor->context);
}

static void schedule_next(struct ferry_supervisor *supervisor)
{
	const struct ferry_supervisor_worker *worker;

	TAILQ_FOREACH (worker, &supervisor->workers, link)
		schedule_wake_at(supervisor, worker->deadline);
	for (unsigned int i = 0; i < supervisor->place_count; i++)
		if (is_due(supervisor, supervisor->places[i]))
			schedule_wake_at(supervisor, supervisor->places[i]->start_at);
}

static void on_turn(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_supervisor *supervisor = argument;
	int64_t now = clock_now();

	if (supervisor->owner != getpid()) /* a forked child: the processes are not its own */
		return;
	event_del(supervisor->event);
	supervisor->wakes_at = 0;
	supervisor->running = true;
	advance_workers(supervisor, now);
	if (!supervisor->freed)
		replacing_advance(supervisor, now);
	if (!supervisor->freed)
		start_workers(supervisor, now);
	if (!supervisor->freed)
		notify_state(supervisor, now);
	supervisor->running = false;
	if (supervisor->freed)
		destroy(supervisor);
	else
		schedule_next(supervisor);
}

/* ---- made and freed ---- */

static int check(const struct ferry_supervisor_options *options,
                 const struct ferry_supervisor_callbacks *callbacks, const struct event_base *base)
{
	if (!options_fit(options, sizeof(*options)))
		return -EINVAL;
	if (options->dispatcher == NULL)
		return callbacks == NULL || callbacks->channel_opened == NULL ? -EINVAL : 0;
	return options->dispatcher->base != base ? -EINVAL : 0;
}

static void free_places(struct ferry_supervisor *supervisor, unsigned int count)
{
	while (supervisor->place_count > count)
		free(supervisor->places[--supervisor->place_count]);
}

/* The processes of the places that do not exist any more are drained in the next turn. */
static void remove_places(struct ferry_supervisor *supervisor, unsigned int count)
{
	struct ferry_supervisor_worker *worker;

	TAILQ_FOREACH (worker, &supervisor->workers, link) {
		if (worker->place == NULL || worker->number < count)
			continue;
		if (worker->state != FERRY_SUPERVISOR_LEAVING && worker->wanted < FERRY_SUPERVISOR_DRAIN)
			worker->wanted = FERRY_SUPERVISOR_DRAIN;
		worker->place = NULL;
	}
	free_places(supervisor, count);
}

static int add_place(struct ferry_supervisor *supervisor)
{
	struct place *place = place_new(&supervisor->settings);

	if (place == NULL)
		return -ENOMEM;
	supervisor->places[supervisor->place_count++] = place;
	return 0;
}

static int add_places(struct ferry_supervisor *supervisor, unsigned int count)
{
	const unsigned int before = supervisor->place_count;
	struct place **places = NULL;

	if (count <= PLACES_MAX)
		places = realloc(supervisor->places, count * sizeof(struct place *));
	int status = places != NULL ? 0 : -ENOMEM;
	if (status == 0)
		supervisor->places = places;
	while (status == 0 && supervisor->place_count < count)
		status = add_place(supervisor);
	if (status < 0)
		free_places(supervisor, before);
	return status;
}

static int set_place_count(struct ferry_supervisor *supervisor, unsigned int count)
{
	int status = 0;

	if (count > supervisor->place_count)
		status = add_places(supervisor, count);
	else
		remove_places(supervisor, count);
	schedule_turn(supervisor);
	return status;
}

static int init(struct ferry_supervisor *supervisor, const struct ferry_supervisor_options *options)
{
	int status = settings_copy(&supervisor->settings, options);
	if (status < 0)
		return status;
	supervisor->event = event_new(supervisor->base, -1, 0, on_turn, supervisor);
	supervisor->crashes = calloc(supervisor->settings.crash_limit, sizeof(int64_t));
	if (supervisor->event == NULL || supervisor->crashes == NULL)
		return -ENOMEM;
	return set_place_count(supervisor, options->workers);
}

int ferry_supervisor_new(struct ferry_supervisor **out, struct event_base *base,
                         const struct ferry_supervisor_options *options,
                         const struct ferry_supervisor_callbacks *callbacks, void *context)
{
	static const struct ferry_supervisor_callbacks no_callbacks;

	if (out == NULL || base == NULL || options == NULL || check(options, callbacks, base) < 0)
		return -EINVAL;
	struct ferry_supervisor *supervisor = calloc(1, sizeof(*supervisor));
	if (supervisor == NULL)
		return -ENOMEM;
	*supervisor = (struct ferry_supervisor){
	    .base = base,
	    .dispatcher = options->dispatcher,
	    .callbacks = callbacks != NULL ? callbacks : &no_callbacks,
	    .context = context,
	    .generation = 1,
	    .random = (uint32_t)clock_now() ^ (uint32_t)getpid(),
	    .owner = getpid(),
	};
	TAILQ_INIT(&supervisor->workers);
	int status = init(supervisor, options);
	if (status < 0) {
		destroy(supervisor);
		return status;
	}
	*out = supervisor;
	return 0;
}

void ferry_supervisor_free(struct ferry_supervisor *supervisor)
{
	if (supervisor == NULL || supervisor->freed)
		return;
	supervisor->freed = true;
	if (!supervisor->running)
		destroy(supervisor);
}

/* ---- signals ---- */

static void on_hangup(evutil_socket_t number, short what, void *context)
{
	(void)number, (void)what;
	ferry_supervisor_replace(context);
}

static void on_termination(evutil_socket_t number, short what, void *context)
{
	(void)number, (void)what;
	const struct ferry_supervisor *supervisor = context;

	if (supervisor->stop < FERRY_SUPERVISOR_KILL)
		ferry_supervisor_stop(context, supervisor->stop + 1);
}

int ferry_supervisor_handle_signals(struct ferry_supervisor *supervisor)
{
	static const int numbers[] = {SIGHUP, SIGTERM, SIGINT};

	if (supervisor == NULL)
		return -EINVAL;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		if (supervisor->signals[i] != NULL)
			continue;
		struct event *event = evsignal_new(supervisor->base, numbers[i],
		                                   i == 0 ? on_hangup : on_termination, supervisor);
		if (event == NULL || event_add(event, NULL) < 0) {
			if (event != NULL)
				event_free(event);
			return -ENOMEM;
		}
		supervisor->signals[i] = event;
	}
	return 0;
}

/* ---- for the owner ---- */

int ferry_supervisor_set_workers(struct ferry_supervisor *supervisor, unsigned int workers)
{
	if (supervisor == NULL)
		return -EINVAL;
	return supervisor->stop != 0 || supervisor->freed ? -ESHUTDOWN
	                                                  : set_place_count(supervisor, workers);
}

int ferry_supervisor_set_argv(struct ferry_supervisor *supervisor, const char *const *argv)
{
	return supervisor != NULL ? settings_set_argv(&supervisor->settings, argv) : -EINVAL;
}

int ferry_supervisor_set_standard_fd(struct ferry_supervisor *supervisor, int number, int fd)
{
	return supervisor != NULL ? settings_set_standard_fd(&supervisor->settings, number, fd)
	                          : -EINVAL;
}

int ferry_supervisor_replace(struct ferry_supervisor *supervisor)
{
	if (supervisor == NULL)
		return -EINVAL;
	if (supervisor->stop != 0)
		return -ESHUTDOWN;
	supervisor->replacement.requested = true;
	schedule_turn(supervisor);
	return 0;
}

static bool is_known(enum ferry_supervisor_stop how)
{
	return how >= FERRY_SUPERVISOR_DRAIN && how <= FERRY_SUPERVISOR_KILL;
}

int ferry_supervisor_stop(struct ferry_supervisor *supervisor, enum ferry_supervisor_stop how)
{
	if (supervisor == NULL || !is_known(how))
		return -EINVAL;
	if (how > supervisor->stop)
		supervisor->stop = how;
	schedule_turn(supervisor);
	return 0;
}

int ferry_supervisor_worker_signal(struct ferry_supervisor_worker *worker, int signal_number)
{
	if (worker == NULL || signal_number <= 0)
		return -EINVAL;
	return child_signal(worker->child, signal_number);
}

int ferry_supervisor_signal(struct ferry_supervisor *supervisor, int signal_number)
{
	struct ferry_supervisor_worker *worker;
	int result = 0;

	if (supervisor == NULL || signal_number <= 0 || signal_number >= NSIG)
		return -EINVAL;
	TAILQ_FOREACH (worker, &supervisor->workers, link) {
		int status = child_signal(worker->child, signal_number);
		if (status < 0 && status != -ESRCH)
			result = status;
	}
	return result;
}

int ferry_supervisor_get_stats(const struct ferry_supervisor *supervisor,
                               struct ferry_supervisor_stats *stats)
{
	const struct ferry_supervisor_worker *worker;

	if (supervisor == NULL || stats == NULL)
		return -EINVAL;
	*stats = supervisor->stats;
	stats->state = supervisor->state;
	stats->places = supervisor->place_count;
	stats->generation = supervisor->generation;
	TAILQ_FOREACH (worker, &supervisor->workers, link) {
		stats->ready += worker->state == FERRY_SUPERVISOR_READY;
		stats->leaving += worker->state == FERRY_SUPERVISOR_LEAVING;
	}
	return 0;
}

static void add_present_stats(const struct ferry_supervisor_worker *worker,
                              struct ferry_dispatcher_stats *sum)
{
	struct ferry_dispatcher_stats stats;

	if (worker == NULL || ferry_dispatcher_worker_get_stats(worker->dispatcher_worker, &stats) < 0)
		return;
	worker_add_stats(sum, &stats);
	sum->outstanding = stats.outstanding;
	sum->unclaimed = stats.unclaimed;
	sum->credits = stats.credits;
	sum->workers = stats.workers;
}

int ferry_supervisor_get_place(const struct ferry_supervisor *supervisor, unsigned int number,
                               struct ferry_supervisor_place_info *info)
{
	if (supervisor == NULL || info == NULL || number >= supervisor->place_count)
		return -EINVAL;
	const struct place *place = supervisor->places[number];
	struct ferry_supervisor_worker *worker =
	    place->current != NULL ? place->current : place->successor;
	int64_t pause = place->start_at - clock_now();
	*info = (struct ferry_supervisor_place_info){
	    .starts = place->starts, .last_status = place->last_status, .stats = place->past};
	if (worker == NULL) {
		info->pause = clock_to_timeval(pause > 0 ? pause : 0);
		return 0;
	}
	info->worker = worker;
	info->state = worker->state;
	info->pid = child_pid(worker->child);
	info->generation = worker->generation;
	info->started = worker->started;
	add_present_stats(worker, &info->stats);
	return 0;
}

struct ferry_supervisor_worker *
ferry_supervisor_find_worker(const struct ferry_supervisor *supervisor,
                             const struct ferry_dispatcher_worker *wanted)
{
	struct ferry_supervisor_worker *worker;

	if (supervisor == NULL || wanted == NULL)
		return NULL;
	TAILQ_FOREACH (worker, &supervisor->workers, link)
		if (worker->dispatcher_worker == wanted)
			return worker;
	return NULL;
}

int ferry_supervisor_worker_get_info(const struct ferry_supervisor_worker *worker,
                                     struct ferry_supervisor_worker_info *info)
{
	if (worker == NULL || info == NULL)
		return -EINVAL;
	*info = (struct ferry_supervisor_worker_info){
	    .place = worker->number,
	    .state = worker->state,
	    .pid = child_pid(worker->child),
	    .pidfd = child_pidfd(worker->child),
	    .asked = worker->asked,
	    .has_place = worker->place != NULL && worker->place->current == worker,
	    .generation = worker->generation,
	    .started = worker->started,
	    .dispatcher_worker = worker->dispatcher_worker,
	};
	return 0;
}

int ferry_supervisor_worker_ready(struct ferry_supervisor_worker *worker)
{
	if (worker == NULL || worker->supervisor->dispatcher != NULL)
		return -EINVAL;
	worker->hello = true;
	schedule_turn(worker->supervisor);
	return 0;
}

int ferry_supervisor_worker_served(struct ferry_supervisor_worker *worker)
{
	if (worker == NULL)
		return -EINVAL;
	worker->served = true;
	return 0;
}

int ferry_supervisor_worker_stop(struct ferry_supervisor_worker *worker,
                                 enum ferry_supervisor_stop how)
{
	if (worker == NULL || !is_known(how))
		return -EINVAL;
	if (how > worker->wanted)
		worker->wanted = how;
	schedule_turn(worker->supervisor);
	return 0;
}

void ferry_supervisor_worker_set_context(struct ferry_supervisor_worker *worker, void *context)
{
	if (worker != NULL)
		worker->context = context;
}

void *ferry_supervisor_worker_get_context(const struct ferry_supervisor_worker *worker)
{
	return worker != NULL ? worker->context : NULL;
}
