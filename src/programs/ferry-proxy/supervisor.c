#include "programs/ferry-proxy/supervisor.h"

#include "programs/ferry-proxy/child_process.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sys/socket.h>
#include <sys/wait.h>

#include <event2/event.h>

enum { FIRST_BACKOFF_MS = 100, LONGEST_BACKOFF_MS = 10000 };

/* After a process that lived this number of seconds, the next one is started without a long pause. */
enum { LONG_LIFE = 10 };

static const struct timeval kill_grace = {.tv_sec = 5};

struct place {
	struct supervisor *supervisor;
	struct worker_process *current;
	struct worker_process *successor; /* replaces `current` once it is ready */
	struct event *restart;
	unsigned int backoff_ms;
	unsigned long starts;
};

struct supervisor {
	struct event_base *base;
	struct supervisor_options options;
	const struct supervisor_callbacks *callbacks;
	void *context;
	struct event *child_ended;
	struct place *places;
	struct worker_process *processes;
	unsigned int replacing; /* the place to replace next; the number of places: none */
	bool replace_again;     /* requested during a replacement */
	bool retiring;
};

static void replace_next(struct supervisor *supervisor);

static void log_process(const struct worker_process *process, const char *what)
{
	program_log("worker %s-%u (pid %ld) %s", process->supervisor->options.name, process->place + 1,
	            (long)process->pid, what);
}

static void get_monotonic_time(struct timeval *time)
{
	struct timespec clock;
	clock_gettime(CLOCK_MONOTONIC, &clock);
	*time = (struct timeval){.tv_sec = clock.tv_sec, .tv_usec = clock.tv_nsec / 1000};
}

static void restart_later(struct place *place)
{
	if (place->supervisor->retiring || place->current != NULL || place->successor != NULL ||
	    event_pending(place->restart, EV_TIMEOUT, NULL))
		return;
	struct timeval delay = {.tv_sec = (time_t)place->backoff_ms / 1000,
	                        .tv_usec = (suseconds_t)(place->backoff_ms % 1000) * 1000};
	if (event_add(place->restart, &delay) < 0)
		program_log("no memory to restart a worker");
	place->backoff_ms *= 2;
	if (place->backoff_ms > LONGEST_BACKOFF_MS)
		place->backoff_ms = LONGEST_BACKOFF_MS;
}

static void set_deadline(struct worker_process *process, const struct timeval *timeout)
{
	if (event_add(process->deadline, timeout) < 0)
		kill(process->pid, SIGKILL); /* without a deadline it could stay for ever */
}

/* Takes the place from the process. */
static void leave_place(struct worker_process *process)
{
	struct supervisor *supervisor = process->supervisor;
	struct place *place = &supervisor->places[process->place];
	struct timeval life;
	get_monotonic_time(&life);
	timersub(&life, &process->born, &life);
	if (process->served || life.tv_sec >= LONG_LIFE)
		place->backoff_ms = FIRST_BACKOFF_MS;
	if (place->current == process)
		place->current = NULL;
	if (place->successor == process) {
		place->successor = NULL;
		if (supervisor->retiring)
			return;
		program_log("the workers of %s are not replaced: the new one was not ready",
		            supervisor->options.name);
		supervisor->replacing = supervisor->options.places;
		supervisor->replace_again = false;
	}
}

static void start_leaving(struct worker_process *process, bool drain)
{
	struct supervisor *supervisor = process->supervisor;
	if (process->state == WORKER_PROCESS_LEAVING)
		return;
	process->state = WORKER_PROCESS_LEAVING;
	leave_place(process);
	if (!process->terminated)
		set_deadline(process, &supervisor->options.drain_timeout);
	if (drain)
		supervisor->callbacks->drain(process, supervisor->context);
}

void supervisor_is_leaving(struct worker_process *process)
{
	start_leaving(process, false);
	restart_later(&process->supervisor->places[process->place]);
}

static void free_process(struct worker_process *process)
{
	struct worker_process **link = &process->supervisor->processes;
	while (*link != process)
		link = &(*link)->next;
	*link = process->next;
	event_free(process->deadline);
	free(process);
}

static void end_process(struct worker_process *process, int status)
{
	struct supervisor *supervisor = process->supervisor;
	struct place *place = &supervisor->places[process->place];
	if (status == 0) {
		log_process(process, "has ended");
	} else {
		char how[64];
		child_process_describe(status, how, sizeof(how));
		log_process(process, how);
	}
	start_leaving(process, false);
	supervisor->callbacks->ended(process, supervisor->context);
	free_process(process);
	restart_later(place);
}

/* One SIGCHLD may stand for several children. Only own ones are waited for. */
static void children_ended(evutil_socket_t signal_number, short what, void *context)
{
	(void)signal_number, (void)what;
	struct supervisor *supervisor = context;
	struct worker_process *next;
	int status;
	for (struct worker_process *process = supervisor->processes; process != NULL; process = next) {
		next = process->next;
		if (child_process_has_ended(process->pid, &status))
			end_process(process, status);
	}
}

/* Sends SIGTERM the first time, and SIGKILL the second time. */
static void terminate_process(struct worker_process *process, const struct timeval *grace)
{
	if (kill(process->pid, process->terminated ? SIGKILL : SIGTERM) < 0)
		log_process(process, strerror(errno));
	kill(process->pid, SIGCONT); /* a stopped process does not handle signals */
	process->terminated = true;
	set_deadline(process, grace);
}

static void process_timed_out(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct worker_process *process = context;
	log_process(process,
	            process->terminated ? "does not end: it is killed" : "has not ended in time");
	terminate_process(process, &kill_grace);
}

static struct worker_process *new_process(struct place *place)
{
	struct supervisor *supervisor = place->supervisor;
	struct worker_process *process = malloc(sizeof(*process));
	if (process == NULL)
		return NULL;
	*process = (struct worker_process){
	    .supervisor = supervisor,
	    .place = (unsigned int)(place - supervisor->places),
	    .state = WORKER_PROCESS_STARTING,
	    .deadline = evtimer_new(supervisor->base, process_timed_out, process),
	};
	if (process->deadline == NULL) {
		free(process);
		return NULL;
	}
	get_monotonic_time(&process->born);
	evutil_gettimeofday(&process->started, NULL);
	process->next = supervisor->processes;
	supervisor->processes = process;
	return process;
}

/* Starts the program with one end of a socket pair; the other end is in `fds[0]`. */
static int spawn_process(struct worker_process *process, int fds[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	int status = child_process_start(&process->pid, process->supervisor->options.argv, fds[1],
	                                 process->supervisor->options.memory, true);
	close(fds[1]);
	if (status < 0)
		close(fds[0]);
	return status;
}

static struct worker_process *start_process(struct place *place)
{
	struct supervisor *supervisor = place->supervisor;
	struct worker_process *process = new_process(place);
	int fds[2];
	int status = process != NULL ? spawn_process(process, fds) : -ENOMEM;
	if (status < 0) {
		program_log("cannot start %s: %s", supervisor->options.argv[0], strerror(-status));
		if (process != NULL)
			free_process(process);
		return NULL;
	}
	place->starts++;
	status = supervisor->callbacks->started(process, fds[0], supervisor->context);
	if (status < 0) {
		log_process(process, strerror(-status));
		process->terminated = true;
		terminate_process(process, &kill_grace);
		process->state = WORKER_PROCESS_LEAVING;
		return NULL;
	}
	return process;
}

static void start_place(struct place *place)
{
	event_del(place->restart);
	place->current = start_process(place);
	if (place->current == NULL)
		restart_later(place);
}

static void restart_place(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	start_place(context);
}

void supervisor_start(struct supervisor *supervisor)
{
	for (unsigned int i = 0; i < supervisor->options.places; i++)
		start_place(&supervisor->places[i]);
}

void supervisor_is_ready(struct worker_process *process)
{
	struct supervisor *supervisor = process->supervisor;
	struct place *place = &supervisor->places[process->place];
	if (process->state != WORKER_PROCESS_STARTING)
		return;
	process->state = WORKER_PROCESS_READY;
	log_process(process, "is ready");
	if (place->successor != process)
		return;
	struct worker_process *old = place->current;
	place->successor = NULL;
	place->current = process;
	if (old != NULL)
		start_leaving(old, true);
	supervisor->replacing++;
	replace_next(supervisor);
}

static bool all_replaced(struct supervisor *supervisor)
{
	if (supervisor->replacing < supervisor->options.places)
		return false;
	program_log("the workers of %s are replaced", supervisor->options.name);
	if (!supervisor->replace_again)
		return true;
	supervisor->replace_again = false;
	supervisor->replacing = 0;
	return false;
}

/* Starts new processes up to the first one to wait for. A place without a process needs no wait. */
static void replace_next(struct supervisor *supervisor)
{
	while (!supervisor->retiring && !all_replaced(supervisor)) {
		struct place *place = &supervisor->places[supervisor->replacing];
		if (place->current == NULL) {
			place->backoff_ms = FIRST_BACKOFF_MS;
			start_place(place);
			supervisor->replacing++;
			continue;
		}
		place->successor = start_process(place);
		if (place->successor == NULL)
			supervisor->replacing = supervisor->options.places;
		return;
	}
}

void supervisor_has_served(struct worker_process *process)
{
	process->served = true;
}

void supervisor_replace(struct supervisor *supervisor)
{
	if (supervisor->retiring)
		return;
	if (supervisor->replacing < supervisor->options.places) {
		supervisor->replace_again = true;
		return;
	}
	supervisor->replacing = 0;
	replace_next(supervisor);
}

static void stop_restarts(struct supervisor *supervisor)
{
	supervisor->retiring = true;
	for (unsigned int i = 0; i < supervisor->options.places; i++)
		event_del(supervisor->places[i].restart);
}

void supervisor_retire(struct supervisor *supervisor)
{
	stop_restarts(supervisor);
	for (struct worker_process *process = supervisor->processes; process != NULL;
	     process = process->next)
		start_leaving(process, true);
}

void supervisor_terminate(struct supervisor *supervisor)
{
	stop_restarts(supervisor);
	for (struct worker_process *process = supervisor->processes; process != NULL;
	     process = process->next)
		terminate_process(process,
		                  process->terminated ? &kill_grace : &supervisor->options.drain_timeout);
}

bool supervisor_is_empty(const struct supervisor *supervisor)
{
	return supervisor->processes == NULL;
}

const struct worker_process *supervisor_at(const struct supervisor *supervisor, unsigned int place)
{
	return supervisor->places[place].current;
}

unsigned long supervisor_starts(const struct supervisor *supervisor, unsigned int place)
{
	return supervisor->places[place].starts;
}

static int init_supervisor(struct supervisor *supervisor)
{
	supervisor->places = calloc(supervisor->options.places, sizeof(*supervisor->places));
	if (supervisor->places == NULL)
		return -ENOMEM;
	for (unsigned int i = 0; i < supervisor->options.places; i++) {
		struct place *place = &supervisor->places[i];
		place->supervisor = supervisor;
		place->backoff_ms = FIRST_BACKOFF_MS;
		place->restart = evtimer_new(supervisor->base, restart_place, place);
		if (place->restart == NULL)
			return -ENOMEM;
	}
	supervisor->child_ended = evsignal_new(supervisor->base, SIGCHLD, children_ended, supervisor);
	if (supervisor->child_ended == NULL || event_add(supervisor->child_ended, NULL) < 0)
		return -ENOMEM;
	return 0;
}

int supervisor_new(struct supervisor **out, struct event_base *base,
                   const struct supervisor_options *options,
                   const struct supervisor_callbacks *callbacks, void *context)
{
	struct supervisor *supervisor = calloc(1, sizeof(*supervisor));
	if (supervisor == NULL)
		return -ENOMEM;
	supervisor->base = base;
	supervisor->options = *options;
	supervisor->callbacks = callbacks;
	supervisor->context = context;
	supervisor->replacing = options->places;
	int status = init_supervisor(supervisor);
	if (status < 0) {
		supervisor_free(supervisor);
		return status;
	}
	*out = supervisor;
	return 0;
}

void supervisor_free(struct supervisor *supervisor)
{
	if (supervisor == NULL)
		return;
	struct worker_process *next;
	for (struct worker_process *process = supervisor->processes; process != NULL; process = next) {
		next = process->next;
		kill(process->pid, SIGKILL);
		waitpid(process->pid, NULL, 0);
		event_free(process->deadline);
		free(process);
	}
	for (unsigned int i = 0; supervisor->places != NULL && i < supervisor->options.places; i++)
		if (supervisor->places[i].restart != NULL)
			event_free(supervisor->places[i].restart);
	if (supervisor->child_ended != NULL)
		event_free(supervisor->child_ended);
	free(supervisor->places);
	free(supervisor);
}
