#include "upgrade/core.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "ferry/listener.h"
#include "ferry/transport.h"

#include "kernel/clock.h"
#include "process/child.h"
#include "takeover/socket_set.h"
#include "util/little_endian.h"
#include "util/log.h"

/* From the moment from which a process serves to its end. */

/* The time between two attempts to start a successor that was killed. */
static const struct timeval restart_interval = {.tv_sec = 1};

/* The most time from the connection of a process to its first message. */
static const struct timeval candidate_timeout = {.tv_sec = 10};

/* ---- the end ---- */

static void finish(struct ferry_upgrade *upgrade)
{
	if (!upgrade->finishing || upgrade->phase == UPGRADE_OVER || !ferry_upgrade_is_settled(upgrade))
		return;
	upgrade->phase = UPGRADE_OVER;
	if (upgrade->callbacks->finished != NULL)
		upgrade->callbacks->finished(upgrade, upgrade->context);
}

static void finish_in_turn(struct ferry_upgrade *upgrade)
{
	if (upgrade->finishing)
		upgrade_run_in_turn(upgrade, finish);
}

static void on_probation_over(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	finish_in_turn(argument);
}

/* Without memory for it there is none. */
static void begin_probation(struct ferry_upgrade *upgrade)
{
	if (upgrade->probation == NULL)
		upgrade->probation = evtimer_new(upgrade->base, on_probation_over, upgrade);
	if (upgrade->probation != NULL)
		(void)event_add(upgrade->probation, &upgrade->options.probation);
}

static void on_giver_changed(void *context)
{
	finish_in_turn(context);
}

/* The giver's channel ends, if no process accepts on the socket. */
static void drop_kept(struct ferry_upgrade *upgrade)
{
	ferry_socket_set_free(upgrade->kept);
	upgrade->kept = NULL;
	upgrade->restarting = false;
	if (upgrade->probation != NULL)
		event_del(upgrade->probation);
	finish_in_turn(upgrade);
}

/* ---- a successor ---- */

static int on_state_requested(struct evbuffer *state, void *context)
{
	struct ferry_upgrade *upgrade = context;
	unsigned char generation[UPGRADE_GENERATION_SIZE];

	little_endian_put(generation, upgrade->generation + 1, sizeof(generation));
	if (evbuffer_add(state, generation, sizeof(generation)) < 0)
		return -ENOMEM;
	upgrade_enter(upgrade);
	if (upgrade->callbacks->state_requested != NULL)
		upgrade->callbacks->state_requested(upgrade, state, upgrade->context);
	upgrade_leave(upgrade);
	return 0;
}

void upgrade_reach(struct ferry_upgrade *upgrade, const struct ferry_socket_set *taken)
{
	const int status =
	    giver_new(&upgrade->giver, upgrade->base, ferry_socket_set_find(taken, UPGRADE_CONNECTIONS),
	              on_giver_changed, upgrade);

	if (status != 0)
		log_line(FERRY_LOG_WARNING, "no other process gets connections: %s", strerror(-status));
}

/* This process stops everything that the successor does now. */
static void leave(struct ferry_upgrade *upgrade, const struct ferry_socket_set *taken)
{
	upgrade->phase = UPGRADE_REPLACED;
	predecessor_notify_of_successor(upgrade->predecessor);
	ferry_listener_free(upgrade->listener);
	upgrade->listener = NULL;
	candidates_free(upgrade->candidates);
	upgrade->candidates = NULL;
	upgrade_reach(upgrade, taken);
	taker_free(upgrade->taker);
	upgrade->taker = NULL;
}

static void on_committed(struct ferry_socket_set *taken, pid_t pid, bool watched, void *context)
{
	struct ferry_upgrade *upgrade = context;
	struct ferry_socket_set *unwatched = watched ? NULL : taken;

	upgrade_enter(upgrade);
	if (pid > 0 && upgrade->options.service_manager != NULL)
		(void)ferry_service_manager_set_main_pid(upgrade->options.service_manager, pid);
	ferry_socket_set_free(upgrade->kept);
	upgrade->kept = watched ? taken : NULL;
	if (watched)
		begin_probation(upgrade);
	if (upgrade->restarting) {
		upgrade->restarting = false;
		finish_in_turn(upgrade);
	} else {
		leave(upgrade, taken);
		upgrade->callbacks->replaced(upgrade, upgrade->context);
	}
	ferry_socket_set_free(unwatched);
	upgrade_leave(upgrade);
}

static void restart(struct ferry_upgrade *upgrade);

static void report(struct ferry_upgrade *upgrade, const struct ferry_upgrade_failure *failure)
{
	char end[64] = "";

	if (upgrade->callbacks->failed != NULL) {
		upgrade->callbacks->failed(upgrade, failure, upgrade->context);
		return;
	}
	if (failure->wait_status >= 0)
		child_describe(failure->wait_status, end, sizeof(end));
	log_line(FERRY_LOG_WARNING, "the successor %ld has failed: %s%s%s", (long)failure->pid,
	         strerror(-failure->status), end[0] != '\0' ? ", " : "", end);
}

static void on_failed(const struct ferry_upgrade_failure *failure, void *context)
{
	struct ferry_upgrade *upgrade = context;
	struct successor *failed = upgrade->successor;

	upgrade_enter(upgrade);
	upgrade->successor = NULL;
	if (upgrade->restarting) {
		restart(upgrade);
	} else {
		if (upgrade->options.service_manager != NULL)
			(void)ferry_service_manager_ready(upgrade->options.service_manager);
		report(upgrade, failure);
	}
	successor_free(failed);
	upgrade_leave(upgrade);
}

/* ---- a successor that is killed ---- */

/* These signals end a process that somebody wants to end. */
static bool was_killed(int wait_status)
{
	if (wait_status < 0 || !WIFSIGNALED(wait_status))
		return false;
	switch (WTERMSIG(wait_status)) {
	case SIGTERM:
	case SIGINT:
	case SIGQUIT:
	case SIGHUP:
		return false;
	default:
		return true;
	}
}

static void on_died(int wait_status, void *context)
{
	struct ferry_upgrade *upgrade = context;
	struct successor *dead = upgrade->successor;

	upgrade_enter(upgrade);
	upgrade->successor = NULL;
	if (upgrade->kept != NULL && was_killed(wait_status) && !successor_was_replaced(dead)) {
		log_line(FERRY_LOG_WARNING, "the successor was killed by signal %d", WTERMSIG(wait_status));
		socket_set_own_files(upgrade->kept);
		upgrade->restarting = true;
		restart(upgrade);
	} else {
		drop_kept(upgrade);
	}
	successor_free(dead);
	upgrade_leave(upgrade);
}

static int start_successor(struct ferry_upgrade *upgrade, struct ferry_socket_set *set)
{
	static const struct successor_callbacks callbacks = {.state_requested = on_state_requested,
	                                                     .committed = on_committed,
	                                                     .failed = on_failed,
	                                                     .died = on_died};
	const struct successor_options options = {
	    .base = upgrade->base, .upgrade = &upgrade->options, .set = set};

	return successor_start(&upgrade->successor, &options, &callbacks, upgrade);
}

static void give_up_restart(struct ferry_upgrade *upgrade)
{
	const struct ferry_upgrade_failure failure = {
	    .status = -ECHILD, .wait_status = -1, .output = ""};

	drop_kept(upgrade);
	report(upgrade, &failure);
}

static void on_again(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_upgrade *upgrade = argument;

	upgrade_enter(upgrade);
	const int status = upgrade->restarting ? start_successor(upgrade, upgrade->kept) : 0;
	if (status != 0)
		restart(upgrade);
	else if (upgrade->successor != NULL)
		log_line(FERRY_LOG_WARNING, "the successor is started again: %ld",
		         (long)successor_get_pid(upgrade->successor));
	upgrade_leave(upgrade);
}

/* The first time at once. */
static void restart(struct ferry_upgrade *upgrade)
{
	static const struct timeval now = {0};
	const struct timeval *after = upgrade->restarts > 0 ? &restart_interval : &now;

	if (upgrade->again == NULL)
		upgrade->again = evtimer_new(upgrade->base, on_again, upgrade);
	if (upgrade->restarts++ >= UPGRADE_RESTARTS || upgrade->again == NULL ||
	    event_add(upgrade->again, after) < 0)
		give_up_restart(upgrade);
}

/* ---- the public functions ---- */

int ferry_upgrade_start(struct ferry_upgrade *upgrade)
{
	if (upgrade == NULL || upgrade->options.argv == NULL)
		return -EINVAL;
	if (!upgrade_is_owner(upgrade))
		return -ECHILD;
	if (upgrade->phase >= UPGRADE_REPLACED)
		return -ESHUTDOWN;
	if (upgrade->phase != UPGRADE_SERVING)
		return -EAGAIN;
	if (upgrade->successor != NULL)
		return -EALREADY;
	const int status = start_successor(upgrade, upgrade->set);
	if (status == 0 && upgrade->options.service_manager != NULL)
		(void)ferry_service_manager_reloading(upgrade->options.service_manager);
	return status;
}

static int serve_successor(struct ferry_upgrade *upgrade, struct ferry_transport *transport)
{
	static const struct successor_callbacks callbacks = {.state_requested = on_state_requested,
	                                                     .committed = on_committed,
	                                                     .failed = on_failed,
	                                                     .died = on_died};
	const struct successor_options options = {
	    .base = upgrade->base, .upgrade = &upgrade->options, .set = upgrade->set};

	if (upgrade->successor != NULL)
		return -EBUSY;
	return successor_serve(&upgrade->successor, &options, transport, &callbacks, upgrade);
}

static void refuse(struct ferry_transport *transport, int status)
{
	log_line(FERRY_LOG_WARNING, "a process that wants to replace this one is refused: %s",
	         strerror(-status));
	ferry_transport_free(transport);
}

static void on_begun(struct ferry_transport *transport, void *context)
{
	const int status = serve_successor(context, transport);

	if (status != 0)
		refuse(transport, status);
}

static void on_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                        void *context)
{
	(void)listener;
	const struct ferry_upgrade *upgrade = context;
	const int status = candidates_add(upgrade->candidates, transport);

	if (status != 0)
		refuse(transport, status);
}

int upgrade_accept_successors(struct ferry_upgrade *upgrade)
{
	const struct timeval *timeout = &upgrade->options.timeout;

	if (upgrade->control == NULL)
		return 0;
	if (clock_from_timeval(timeout) > clock_from_timeval(&candidate_timeout))
		timeout = &candidate_timeout;
	int status = candidates_new(&upgrade->candidates, upgrade->base, timeout, on_begun, upgrade);
	if (status != 0)
		return status;
	status = ferry_listener_new_fd(&upgrade->listener, upgrade->base,
	                               ferry_socket_set_find(upgrade->set, upgrade->control),
	                               on_accepted, upgrade);
	if (status != 0) {
		candidates_free(upgrade->candidates);
		upgrade->candidates = NULL;
	}
	return status;
}

int ferry_upgrade_listen(struct ferry_upgrade *upgrade, const char *name)
{
	if (upgrade == NULL || name == NULL || upgrade->callbacks->replaced == NULL)
		return -EINVAL;
	if (!upgrade_is_owner(upgrade))
		return -ECHILD;
	if (upgrade->phase >= UPGRADE_REPLACED)
		return -ESHUTDOWN;
	if (upgrade->control != NULL)
		return -EBUSY;
	if (upgrade->set == NULL || ferry_socket_set_find(upgrade->set, name) < 0)
		return -ENOENT;
	upgrade->control = strdup(name);
	if (upgrade->control == NULL)
		return -ENOMEM;
	const int status = upgrade->phase == UPGRADE_SERVING ? upgrade_accept_successors(upgrade) : 0;
	if (status != 0) {
		free(upgrade->control);
		upgrade->control = NULL;
	}
	return status;
}

int ferry_upgrade_give(struct ferry_upgrade *upgrade, struct ferry_handoff *handoff)
{
	if (upgrade == NULL || handoff == NULL)
		return -EINVAL;
	if (!upgrade_is_owner(upgrade))
		return -ECHILD;
	if (upgrade->giver == NULL)
		return -ENOTCONN;
	return giver_give(upgrade->giver, handoff);
}

bool ferry_upgrade_is_settled(const struct ferry_upgrade *upgrade)
{
	if (upgrade == NULL)
		return true;
	const bool stays =
	    upgrade->restarting ||
	    (upgrade->probation != NULL && event_pending(upgrade->probation, EV_TIMEOUT, NULL) != 0);
	return !stays && (upgrade->giver == NULL || giver_is_settled(upgrade->giver));
}

int ferry_upgrade_finish(struct ferry_upgrade *upgrade)
{
	if (upgrade == NULL)
		return -EINVAL;
	if (!upgrade_is_owner(upgrade))
		return -ECHILD;
	if (upgrade->phase != UPGRADE_REPLACED)
		return -ENOTCONN;
	upgrade->finishing = true;
	finish_in_turn(upgrade);
	return 0;
}

pid_t ferry_upgrade_get_successor(const struct ferry_upgrade *upgrade)
{
	return upgrade != NULL && upgrade->successor != NULL ? successor_get_pid(upgrade->successor)
	                                                     : 0;
}

int ferry_upgrade_get_stats(const struct ferry_upgrade *upgrade, struct ferry_upgrade_stats *stats)
{
	if (upgrade == NULL || stats == NULL)
		return -EINVAL;
	*stats = (struct ferry_upgrade_stats){.received = upgrade->received};
	if (upgrade->giver != NULL)
		giver_count(upgrade->giver, &stats->given, &stats->taken);
	return 0;
}
