#include "supervisor/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ferry/transport.h"

#include "endpoint/connection.h"
#include "handoff/dispatcher_worker.h"
#include "handoff/worker_environment.h"
#include "kernel/clock.h"
#include "process/child.h"
#include "supervisor/report.h"
#include "supervisor/schedule.h"
#include "supervisor/settings.h"
#include "util/backoff.h"
#include "util/log.h"

/* ---- the channel's worker in the dispatcher ---- */

void worker_add_stats(struct ferry_dispatcher_stats *sum,
                      const struct ferry_dispatcher_stats *stats)
{
	sum->accepted += stats->accepted;
	sum->sent += stats->sent;
	sum->claimed += stats->claimed;
	sum->done += stats->done;
	sum->rejected += stats->rejected;
	sum->expired += stats->expired;
	sum->kept += stats->kept;
	sum->lost += stats->lost;
	sum->fenced += stats->fenced;
	sum->retried += stats->retried;
	sum->stale += stats->stale;
	sum->malformed += stats->malformed;
	sum->workers_lost += stats->workers_lost;
	sum->returned += stats->returned;
	sum->refused += stats->refused;
}

/* The dispatcher's worker is over, or no longer observed. The place keeps its counters. */
static void forget_channel(struct ferry_supervisor_worker *worker)
{
	struct ferry_dispatcher_stats stats;

	if (ferry_dispatcher_worker_get_stats(worker->dispatcher_worker, &stats) < 0)
		return;
	if (worker->place != NULL)
		worker_add_stats(&worker->place->past, &stats);
	worker->served = worker->served || stats.done + stats.returned > 0;
	worker->dispatcher_worker = NULL;
}

static void on_ready(void *context)
{
	struct ferry_supervisor_worker *worker = context;

	worker->hello = true;
	schedule_turn(worker->supervisor);
}

/* The process or the dispatcher's owner wants it, unless the process is LEAVING. */
static void on_draining(void *context)
{
	struct ferry_supervisor_worker *worker = context;

	worker->retires = worker->state != FERRY_SUPERVISOR_LEAVING;
	schedule_turn(worker->supervisor);
}

static void on_drained(void *context)
{
	struct ferry_supervisor_worker *worker = context;

	worker->drained = true;
	schedule_turn(worker->supervisor);
}

static void on_gone(void *context)
{
	struct ferry_supervisor_worker *worker = context;

	forget_channel(worker);
	worker->channel_over = true;
	child_look(worker->child);
	schedule_turn(worker->supervisor);
}

static const struct dispatcher_worker_observer observer = {
    .draining = on_draining, .ready = on_ready, .drained = on_drained, .gone = on_gone};

/* The process keeps what it has claimed; its handoffs that it has not claimed go to others. */
static void remove_channel(struct ferry_supervisor_worker *worker)
{
	struct ferry_dispatcher_worker *removed = worker->dispatcher_worker;

	if (removed == NULL)
		return;
	/* One that has ended has closed its channel, though the dispatcher may not have seen that yet. */
	dispatcher_worker_dismiss(removed, worker->ended ? 0 : -ECANCELED);
	forget_channel(worker); /* it lives until the dispatcher's turn */
	worker->channel_over = true;
}

static void drain_channel(struct ferry_supervisor_worker *worker)
{
	struct ferry_dispatcher_worker *drained = worker->dispatcher_worker;

	if (drained == NULL)
		return;
	/* Returns are best effort: a worker that cannot return serves to the end. */
	ferry_dispatcher_worker_recall(drained, &worker->supervisor->settings.recall_spread);
	if (!worker->hello || ferry_dispatcher_worker_drain(drained) < 0)
		remove_channel(worker);
}

/* ---- the start ---- */

static void on_child_ended(struct child *child, int status, void *context)
{
	(void)child;
	struct ferry_supervisor_worker *worker = context;

	worker->status = status;
	worker->ended = true;
	schedule_turn(worker->supervisor);
}

static int start_program(struct ferry_supervisor_worker *worker, int channel)
{
	static const char *const channel_variable[] = {WORKER_ENVIRONMENT_NAME "=3:", NULL};
	struct ferry_supervisor *supervisor = worker->supervisor;
	struct settings *settings = &supervisor->settings;
	const struct child_options options = {
	    .program = settings->program,
	    .argv = settings->argv,
	    .environment = (const char *const *)settings->environment,
	    .pid_environment = channel_variable,
	    .fds = settings->fds,
	    .fd_count = settings->fd_count,
	    .limits = settings->limits,
	    .limit_count = settings->limit_count,
	    .identity = settings->has_identity ? &settings->identity : NULL,
	    .group = settings->group,
	};

	struct child_fd *slot = &settings->fds[settings->fd_count - 1];
	slot->fd = channel;
	int status = child_start(&worker->child, supervisor->base, &options, on_child_ended, worker);
	slot->fd = -1; /* the caller's, who closes it */
	return status;
}

/* Makes the channel, and starts the program at its far end. */
static int start_with_channel(struct ferry_supervisor_worker *worker, struct ferry_transport **out)
{
	int fds[2];

	/* The program's end blocks until the program decides otherwise. */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	evutil_make_socket_nonblocking(fds[0]);
	int status = connection_to_transport(out, worker->supervisor->base, fds[0]);
	if (status == 0) {
		status = start_program(worker, fds[1]);
		if (status < 0)
			ferry_transport_free(*out);
	}
	close(fds[1]);
	return status;
}

static int join_dispatcher(struct ferry_supervisor_worker *worker,
                           struct ferry_transport *transport)
{
	char name[256];

	/* The name of the former process of this place, for the same share of the keys. */
	snprintf(name, sizeof(name), "%s-%u", worker->supervisor->settings.name, worker->number + 1);
	int status = ferry_dispatcher_add_worker(&worker->dispatcher_worker,
	                                         worker->supervisor->dispatcher, transport, name);
	if (status == 0)
		dispatcher_worker_observe(worker->dispatcher_worker, &observer, worker);
	return status;
}

static int try_to_start(struct ferry_supervisor_worker *worker, struct ferry_transport **out)
{
	int status = start_with_channel(worker, out);

	if (status < 0 || worker->supervisor->dispatcher == NULL)
		return status;
	status = join_dispatcher(worker, *out);
	if (status < 0) {
		ferry_transport_free(*out);
		child_free(worker->child);
	}
	return status;
}

static void notify_started(struct ferry_supervisor_worker *worker,
                           struct ferry_transport *transport)
{
	struct ferry_supervisor *supervisor = worker->supervisor;
	const struct ferry_supervisor_callbacks *callbacks = supervisor->callbacks;

	if (callbacks->worker_started != NULL)
		callbacks->worker_started(supervisor, worker, supervisor->context);
	if (supervisor->dispatcher != NULL)
		return;
	if (supervisor->freed)
		ferry_transport_free(transport);
	else
		callbacks->channel_opened(supervisor, worker, transport, supervisor->context);
}

int worker_start(struct ferry_supervisor_worker **out, struct ferry_supervisor *supervisor,
                 unsigned int number)
{
	struct ferry_transport *transport = NULL;
	struct ferry_supervisor_worker *worker = calloc(1, sizeof(*worker));

	if (worker == NULL)
		return -ENOMEM;
	*worker = (struct ferry_supervisor_worker){.supervisor = supervisor,
	                                           .place = supervisor->places[number],
	                                           .number = number,
	                                           .state = FERRY_SUPERVISOR_STARTING,
	                                           .generation = supervisor->generation,
	                                           .born = clock_now()};
	evutil_gettimeofday(&worker->started, NULL);
	int status = try_to_start(worker, &transport);
	if (status < 0) {
		supervisor->stats.failed_starts++;
		free(worker);
		return status;
	}
	supervisor->stats.starts++;
	worker->place->starts++;
	worker->deadline = worker->born + supervisor->settings.start_timeout;
	TAILQ_INSERT_TAIL(&supervisor->workers, worker, link);
	*out = worker;
	notify_started(worker, transport);
	return 0;
}

/* ---- the way out ---- */

/* One that retires without having served anything would be started without end. */
static bool has_ended_soon(const struct ferry_supervisor_worker *worker, int64_t now)
{
	return (!worker->asked || worker->retires) && !worker->served &&
	       now - worker->born < worker->supervisor->settings.long_life;
}

static void set_next_start(struct ferry_supervisor *supervisor, struct place *place, bool asked,
                           bool soon, int64_t now)
{
	const struct settings *settings = &supervisor->settings;

	if (!soon)
		place->pause_usec = settings->first_pause;
	place->start_at = now;
	if (!asked || soon)
		place->start_at += backoff_add_jitter(&supervisor->random, place->pause_usec);
	if (soon)
		place->pause_usec = backoff_double(place->pause_usec, settings->longest_pause);
}

struct place *place_new(const struct settings *settings)
{
	struct place *place = calloc(1, sizeof(*place));

	if (place == NULL)
		return NULL;
	place->pause_usec = settings->first_pause;
	place->last_status = FERRY_SUPERVISOR_STATUS_UNKNOWN;
	return place;
}

void worker_delay_start(struct ferry_supervisor *supervisor, struct place *place, int64_t now)
{
	set_next_start(supervisor, place, false, true, now);
}

/* It has left by itself; how, its end will tell. */
static bool has_gone(const struct ferry_supervisor_worker *worker)
{
	return worker->channel_over || worker->ended;
}

void worker_leave(struct ferry_supervisor_worker *worker, bool asked, int64_t now)
{
	struct ferry_supervisor *supervisor = worker->supervisor;
	struct place *place = worker->place;

	if (worker->state == FERRY_SUPERVISOR_LEAVING)
		return;
	worker->asked = asked;
	worker->state = FERRY_SUPERVISOR_LEAVING;
	worker->leaving_pending = true;
	worker->deadline = now + supervisor->settings.drain_timeout;
	if (place == NULL)
		return;
	if (place->current == worker) {
		place->current = NULL;
		set_next_start(supervisor, place, asked, has_ended_soon(worker, now), now);
	} else if (place->successor == worker && (asked || !has_gone(worker))) {
		place->successor = NULL;
		supervisor->replacement.error = -ECHILD;
	}
}

static void send_signal(struct ferry_supervisor_worker *worker, int number)
{
	int status = child_signal(worker->child, number);

	if (status < 0 && status != -ESRCH)
		log_line(FERRY_LOG_WARNING, "worker %s-%u (pid %ld): no signal %d: %d",
		         worker->supervisor->settings.name, worker->number + 1,
		         (long)child_pid(worker->child), number, status);
}

void worker_stop(struct ferry_supervisor_worker *worker, enum ferry_supervisor_stop how,
                 int64_t now)
{
	const struct settings *settings = &worker->supervisor->settings;
	bool drains = worker->state == FERRY_SUPERVISOR_LEAVING;

	if (how <= worker->stage || worker->ended)
		return;
	worker_leave(worker, true, now);
	worker->stage = how;
	if (how == FERRY_SUPERVISOR_DRAIN) {
		drain_channel(worker);
	} else if (how == FERRY_SUPERVISOR_TERMINATE) {
		worker->deadline = now + (drains ? settings->kill_timeout : settings->drain_timeout);
		send_signal(worker, SIGTERM);
		send_signal(worker, SIGCONT); /* a stopped process does not handle signals */
	} else {
		worker->deadline = 0;
		worker->supervisor->stats.killed++;
		send_signal(worker, SIGKILL);
	}
}

/* Its successor starts while it serves its clients to the end. */
static void retire(struct ferry_supervisor_worker *worker, int64_t now)
{
	struct ferry_dispatcher_stats stats;

	if (ferry_dispatcher_worker_get_stats(worker->dispatcher_worker, &stats) == 0)
		worker->served = worker->served || stats.claimed > 0;
	worker_stop(worker, FERRY_SUPERVISOR_DRAIN, now);
}

/* ---- what has happened to it ---- */

static void pass_deadline(struct ferry_supervisor_worker *worker, int64_t now)
{
	if (worker->deadline == 0 || worker->deadline > now || worker->ended)
		return;
	if (worker->state == FERRY_SUPERVISOR_STARTING) {
		report_worker(worker, "is not ready in time");
		worker_leave(worker, false, now); /* this counts as a crash */
		worker_stop(worker, FERRY_SUPERVISOR_TERMINATE, now);
	} else if (worker->stage < FERRY_SUPERVISOR_TERMINATE) {
		report_worker(worker, "has not ended in time");
		worker_stop(worker, FERRY_SUPERVISOR_TERMINATE, now);
	} else {
		report_worker(worker, "does not end: it is killed");
		worker_stop(worker, FERRY_SUPERVISOR_KILL, now);
	}
}

static void become_ready(struct ferry_supervisor_worker *worker)
{
	struct ferry_supervisor *supervisor = worker->supervisor;

	worker->state = FERRY_SUPERVISOR_READY;
	worker->deadline = 0;
	if (supervisor->callbacks->worker_ready != NULL)
		supervisor->callbacks->worker_ready(supervisor, worker, supervisor->context);
}

static void notify_leaving(struct ferry_supervisor_worker *worker)
{
	struct ferry_supervisor *supervisor = worker->supervisor;

	worker->leaving_pending = false;
	if (supervisor->callbacks->worker_leaving != NULL)
		supervisor->callbacks->worker_leaving(supervisor, worker, supervisor->context);
}

/* SIGKILL tells nothing of the program: another process takes the place of the one that somebody has killed. */
static void lose_successor(const struct ferry_supervisor_worker *worker)
{
	bool killed = WIFSIGNALED(worker->status) && WTERMSIG(worker->status) == SIGKILL &&
	              worker->stage < FERRY_SUPERVISOR_KILL;

	worker->place->successor = NULL;
	if (killed)
		worker->place->successor_killed = true;
	else
		worker->supervisor->replacement.error = -ECHILD;
}

static void finish(struct ferry_supervisor_worker *worker, int64_t now)
{
	struct ferry_supervisor *supervisor = worker->supervisor;

	report_end(worker, has_ended_soon(worker, now), now);
	if (!worker->asked)
		report_crash(supervisor, now);
	if (worker->place != NULL) {
		worker->place->last_status = worker->status;
		if (worker->place->successor == worker)
			lose_successor(worker);
	}
	if (supervisor->callbacks->worker_ended != NULL)
		supervisor->callbacks->worker_ended(supervisor, worker, worker->status,
		                                    supervisor->context);
}

static void free_worker(struct ferry_supervisor_worker *worker)
{
	struct ferry_supervisor *supervisor = worker->supervisor;

	TAILQ_REMOVE(&supervisor->workers, worker, link);
	if (worker->dispatcher_worker != NULL)
		dispatcher_worker_observe(worker->dispatcher_worker, NULL, NULL);
	child_free(worker->child);
	free(worker);
}

bool worker_advance(struct ferry_supervisor_worker *worker, int64_t now)
{
	const struct ferry_supervisor *supervisor = worker->supervisor;

	if (worker->hello && worker->state == FERRY_SUPERVISOR_STARTING)
		become_ready(worker);
	if (worker->retires && worker->state == FERRY_SUPERVISOR_READY && !worker->ended)
		retire(worker, now);
	if (worker->drained || worker->ended)
		remove_channel(worker);
	if (has_gone(worker))
		worker_leave(worker, false, now);
	pass_deadline(worker, now);
	worker_stop(worker, worker->wanted > supervisor->stop ? worker->wanted : supervisor->stop, now);
	if (worker->leaving_pending && !supervisor->freed)
		notify_leaving(worker);
	if (!worker->ended || supervisor->freed)
		return true;
	finish(worker, now);
	free_worker(worker);
	return false;
}

void worker_destroy(struct ferry_supervisor_worker *worker)
{
	/* In a forked child, the channel's end would be that of the parent's too. */
	if (worker->supervisor->owner == getpid())
		remove_channel(worker);
	free_worker(worker);
}
