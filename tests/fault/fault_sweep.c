#include "fault_sweep.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <event2/bufferevent.h>

#include "heap.h"
#include "record.h"
#include "seen_calls.h"

static const struct fault_sweep *current;
static char what_failed[200];
static unsigned int failures;
enum { FAILURES_MAX = 20 };

static enum fault fault_of(const struct swept_call *swept, int error)
{
	for (const int *one = swept->recoverable; *one != 0; one++)
		if (*one == error)
			return FAULT_RECOVERABLE;
	return FAULT_FATAL;
}

void check_that(bool holds, const char *sentence)
{
	if (holds)
		return;
	if (++failures > FAILURES_MAX)
		ck_abort_msg("%s, and more failures", what_failed);
	record_failure();
	printf("NOT: %s\n%s: ", sentence, what_failed);
	current->describe();
	fflush(stdout);
}

static void tick(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
}

/* Whether a thread of the library is still closing what it had: nobody waits for it. */
static bool has_threads(void)
{
	bool found = false;
	DIR *directory = opendir("/proc/self/task");
	ck_assert_ptr_nonnull(directory);
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
		char path[300], name[32] = "";
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		FILE *file = fopen(path, "re");
		if (file == NULL)
			continue;
		found |= fgets(name, sizeof(name), file) != NULL && strcmp(name, "ferry-readahead\n") == 0;
		fclose(file);
	}
	closedir(directory);
	return found;
}

static void run_in_loop(int kind)
{
	disarm();
	struct event_base *loop = event_base_new();
	struct event *ticker = event_new(loop, -1, EV_PERSIST, tick, NULL);
	if (current->ticks)
		event_add(ticker, &(struct timeval){.tv_usec = 2000});
	arm();

	current->run(loop, kind);
	for (int i = 0; i < 3; i++) /* freed bufferevents are finalised by the loop */
		event_base_loop(loop, EVLOOP_NONBLOCK);

	disarm();
	event_free(ticker);
	event_base_free(loop);
	while (has_threads())
		sched_yield();
}

static unsigned int runs; /* of a sweep */
static enum call asks_by; /* of a scenario */

static enum fault fault_fired(void)
{
	struct fired_fault fired[FAULTS_MAX];
	unsigned int count = fired_faults(fired);
	for (unsigned int i = 0; i < count; i++)
		if (fired[i].call == asks_by || !call_recovers(fired[i].call, fired[i].error))
			return FAULT_FATAL;
	return count > 0 ? FAULT_RECOVERABLE : FAULT_NONE;
}

/* has_threads() may miss a thread while another one ends: the list of /proc changes as it is read. */
static void wait_for_heap(size_t blocks)
{
	for (int i = 0; i < 10000 && heap_blocks() != blocks; i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* Runs the scenario once, with the fault that is planned, or with allocation number `allocation` failing (0: none).
 * `fault` is NULL for that of a sequence. Returns the count of allocations. */
static unsigned long run_and_judge(int kind, unsigned long allocation, const enum fault *fault)
{
	int fds_before = count_open_fds();
	size_t blocks_before = heap_blocks();

	runs++;
	heap_watch(allocation);
	run_in_loop(kind);
	unsigned long count = heap_unwatch();
	current->judge(fault != NULL ? *fault : fault_fired());
	wait_for_heap(blocks_before);
	check_that(count_open_fds() == fds_before, "no descriptor leaks");
	check_that(take_bad_closes() == 0, "none is closed twice");
	check_that(heap_blocks() == blocks_before, "no memory leaks");
	return count;
}

static unsigned long run_with_allocation(int kind, const char *name, unsigned long number)
{
	snprintf(what_failed, sizeof(what_failed), "%s, allocation %lu", name, number);
	plan_fault(CALL_NONE, 0, 0);
	enum fault fault = number == 0 ? FAULT_NONE : FAULT_FATAL;
	return run_and_judge(kind, number, &fault);
}

static void run_with_call(int kind, const char *name, const struct swept_call *swept,
                          unsigned int number, int error)
{
	snprintf(what_failed, sizeof(what_failed), "%s, %s number %u: %s", name, swept->name, number,
	         error_name(error));
	plan_fault(swept->call, number, error);
	enum fault fault = fault_of(swept, error);
	run_and_judge(kind, 0, &fault);
}

void sweep_allocations(const struct fault_sweep *sweep, int kind, const char *name,
                       unsigned long at_least)
{
	current = sweep;
	runs = 0;
	unsigned long count = run_with_allocation(kind, name, 0);
	for (unsigned long number = 1; number <= count; number++)
		run_with_allocation(kind, name, number);
	printf("%s: %lu allocations\n", name, count);
	record_scenario(&(struct recorded_scenario){name, (unsigned int)count, runs, 0});
	record_call(call_name(CALL_ALLOCATION));
	ck_assert_uint_gt(count, at_least);
	ck_assert_uint_eq(failures, 0);
}

/* A call of a scenario whose allocations have a line of their own. */
static void record_part(const char *name, const char *call, unsigned int calls, unsigned int done)
{
	char part[200];
	snprintf(part, sizeof(part), "%s: %s", name, call);
	record_part_of(&(struct recorded_scenario){part, calls, done, 0});
	record_call(call);
}

unsigned int sweep_call(const struct fault_sweep *sweep, int kind, const char *name,
                        const struct swept_call *swept)
{
	current = sweep;
	runs = 0;
	run_with_allocation(kind, name, 0);
	unsigned int count = count_calls(swept->call);
	unsigned int step = count > sweep->parts ? count / sweep->parts : 1;
	for (unsigned int number = 1; number <= count; number += number < sweep->first ? 1 : step)
		for (const int *error = swept->errors; *error != 0; error++)
			run_with_call(kind, name, swept, number, *error);
	if (count > 0) {
		printf("%s: %s called %u times\n", name, swept->name, count);
		record_part(name, swept->name, count, runs);
	}
	ck_assert_uint_eq(failures, 0);
	return count;
}

void sweep_call_of_kinds(const struct fault_sweep *sweep, unsigned int kinds,
                         const char *const *names, const struct swept_call *swept)
{
	ck_assert_msg(kinds != 0, "no scenario makes %s", swept->name);
	for (int kind = 0; kinds >> kind != 0; kind++)
		if ((kinds >> kind & 1) != 0)
			ck_assert_msg(sweep_call(sweep, kind, names[kind], swept) > 0, "%s: no %s", names[kind],
			              swept->name);
}

/* ---- scenarios ---- */

static struct {
	bool completed, twice, refused;
	int told; /* the first */
	int expected[2];
} now;

int told(int error)
{
	if (now.told == 0 && error < 0 && error != now.expected[0] && error != now.expected[1])
		now.told = error;
	return error;
}

void expect_told(int error)
{
	now.expected[now.expected[0] != 0] = error;
}

int called(int status)
{
	now.refused |= status < 0;
	return told(status);
}

void completed(void)
{
	now.completed = true;
}

void once(bool *flag)
{
	now.twice |= *flag;
	*flag = true;
}

/* More rounds than any recovery takes: a run that is not over by then hangs. */
enum { ROUNDS_MAX = 1000 };

void pump_swept(struct event_base *loop, bool (*is_over)(void))
{
	for (int i = 0; i < ROUNDS_MAX && !now.refused && !is_over(); i++)
		event_base_loop(loop, EVLOOP_ONCE);
}

static void describe_scenario(void)
{
	struct fired_fault fired[FAULTS_MAX];
	unsigned int count = fired_faults(fired);
	for (unsigned int i = 0; i < count; i++)
		printf("%s %s, ", call_name(fired[i].call), error_name(fired[i].error));
	printf("%s, told %d\n", now.completed ? "completed" : "not completed", now.told);
}

static void judge_scenario(enum fault fault)
{
	check_that(now.completed || now.told < 0, "what did not get through is told");
	check_that(!now.twice, "no callback comes twice");
	if (fault != FAULT_FATAL) {
		check_that(now.completed, "what can be waited out changes nothing");
		check_that(now.told == 0, "what can be waited out is not told");
	}
}

static void run_planned(const struct scenario *scenario, const struct planned_fault *faults,
                        unsigned int count)
{
	memset(&now, 0, sizeof(now));
	snprintf(what_failed, sizeof(what_failed), "%s, %u: %u, %u: %u", scenario->name,
	         count > 0 ? faults[0].number : 0, count > 0 ? faults[0].variant : 0,
	         count > 1 ? faults[1].number : 0, count > 1 ? faults[1].variant : 0);
	plan_sequence(faults, count);
	run_and_judge(scenario->kind, 0, NULL);
	end_sequence();
}

/* Returns whether the run has reached the fault. */
static bool run_with_fault(const struct scenario *scenario, unsigned int number,
                           unsigned int variant)
{
	struct fired_fault fired[FAULTS_MAX];
	run_planned(scenario, &(struct planned_fault){number, variant}, 1);
	return fired_faults(fired) == 1;
}

static unsigned int sweep_pairs(const struct scenario *scenario, unsigned int calls)
{
	unsigned int before = runs;
	for (unsigned int i = 1; i < calls; i++)
		for (unsigned int k = i + 1; k <= calls; k++)
			run_planned(scenario, (struct planned_fault[]){{i, k}, {k, i}}, 2);
	return runs - before;
}

void sweep_scenario_of(const struct scenario *scenario, unsigned int pairs_of)
{
	static enum call calls[SEQUENCE_MAX];
	bool made[CALL_COUNT] = {false};
	const struct fault_sweep whole = {.run = scenario->run,
	                                  .judge = judge_scenario,
	                                  .describe = describe_scenario,
	                                  .ticks = true};
	current = &whole;
	asks_by = scenario->asks_by;
	runs = 0;
	run_planned(scenario, NULL, 0); /* what a process does once */
	run_planned(scenario, NULL, 0);
	unsigned int count = end_sequence(), reached = 0, faulty = 0;
	ck_assert_msg(count > 0 && count <= SEQUENCE_MAX, "%s: %u calls", scenario->name, count);
	for (unsigned int i = 0; i < count; i++)
		calls[i] = sequence_call(i + 1);
	for (unsigned int i = 0; i < count; i++) {
		const int *errors = call_errors(calls[i]);
		for (unsigned int variant = 0; errors[variant] != 0; variant++) {
			faulty++;
			reached += run_with_fault(scenario, i + 1, variant);
		}
		if (!made[calls[i]])
			record_call(call_name(calls[i]));
		made[calls[i]] = true;
	}
	ck_assert_uint_eq(failures, 0);
	unsigned int pairs = count <= pairs_of ? sweep_pairs(scenario, count) : 0;
	printf("%s: %u calls, %u runs\n", scenario->name, count, runs);
	record_scenario(&(struct recorded_scenario){scenario->name, count, runs, pairs});
	ck_assert_msg(scenario->here_for == CALL_NONE || made[scenario->here_for], "%s never calls %s",
	              scenario->name, call_name(scenario->here_for));
	/* The kernel's order may differ from run to run, but not so often. */
	ck_assert_msg(reached * 10 >= faulty * 8, "%s: %u of %u faults reached", scenario->name,
	              reached, faulty);
	ck_assert_uint_eq(failures, 0);
}

int make_swept_transport(struct ferry_transport **out, struct event_base *loop, int fd)
{
	disarm();
	struct bufferevent *bev = bufferevent_socket_new(loop, fd, BEV_OPT_CLOSE_ON_FREE);
	arm();
	int status = ferry_transport_new(out, bev);
	disarm();
	if (status != 0)
		bufferevent_free(bev);
	else
		ferry_transport_set_linger_timeout(*out, &(struct timeval){.tv_usec = 100000});
	arm();
	return status;
}
