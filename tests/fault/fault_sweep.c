#include "fault_sweep.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <event2/bufferevent.h>

#include "heap.h"
#include "record.h"
#include "seen_calls.h"

static const struct scenario *current;
static char what_failed[200];
static unsigned int failures;
enum { FAILURES_MAX = 20 };

static struct {
	bool completed, twice, refused;
	int told; /* the first */
	int expected[2];
} now;

static void describe(void)
{
	struct planned_fault fired[FAULTS_MAX];
	unsigned int count = fired_faults(fired);
	for (unsigned int i = 0; i < count; i++)
		printf("%s number %u %s, ", call_name(fired[i].call), fired[i].number,
		       error_name(fired[i].error));
	printf("%s, told %d\n", now.completed ? "completed" : "not completed", now.told);
	if (current->large != NULL && current->large->describe != NULL)
		current->large->describe();
}

void check_that(bool holds, const char *sentence)
{
	if (holds)
		return;
	if (++failures > FAILURES_MAX)
		ck_abort_msg("%s, and more failures", what_failed);
	record_failure();
	printf("NOT: %s\n%s: ", sentence, what_failed);
	describe();
	fflush(stdout);
}

/* Ends a round of the loop that waits in vain: an event that was lost would be waited for without an end. The clock
 * alone ends no round, or their count would depend on the machine. */
static struct event *ticker;

static void ticked(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
}

static void tick(void)
{
	event_active(ticker, EV_TIMEOUT, 1);
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

static void run_in_loop(void)
{
	disarm();
	struct event_base *loop = event_base_new();
	ticker = event_new(loop, -1, EV_PERSIST, ticked, NULL);
	event_add(ticker, &(struct timeval){.tv_sec = 3600}); /* a loop without events does not wait */
	call_when_idle(tick);
	arm();

	current->run(loop, current->kind);
	for (int i = 0; i < 3; i++) /* freed bufferevents are finalised by the loop */
		event_base_loop(loop, EVLOOP_NONBLOCK);

	disarm();
	call_when_idle(NULL);
	event_free(ticker);
	event_base_free(loop);
	while (has_threads())
		sched_yield();
}

static unsigned int runs; /* of a sweep */

static bool is_harmed_by(const struct planned_fault *fault)
{
	if (fault->call == current->asks_by)
		return true;
	for (int i = 0; current->large != NULL && current->large->unharmed_by[i].call != CALL_NONE; i++)
		if (current->large->unharmed_by[i].call == fault->call &&
		    (current->large->unharmed_by[i].error == 0 ||
		     current->large->unharmed_by[i].error == fault->error))
			return false;
	return !call_recovers(fault->call, fault->error);
}

static bool is_harmed(void)
{
	struct planned_fault fired[FAULTS_MAX];
	unsigned int count = fired_faults(fired);
	for (unsigned int i = 0; i < count; i++)
		if (is_harmed_by(&fired[i]))
			return true;
	return false;
}

/* has_threads() may miss a thread while another one ends: the list of /proc changes as it is read. */
static void wait_for_heap(size_t blocks)
{
	for (int i = 0; i < 10000 && heap_blocks() != blocks; i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void judge(void)
{
	if (current->large != NULL && current->large->judge != NULL)
		current->large->judge();
	check_that(now.completed || now.told < 0, "what did not get through is told");
	check_that(!now.twice, "no callback comes twice");
	if (!is_harmed()) {
		check_that(now.completed, "what can be waited out changes nothing");
		check_that(now.told == 0, "what can be waited out is not told");
	}
}

/* Returns the length of the sequence. */
static unsigned int run_planned(const struct planned_fault *faults, unsigned int count)
{
	int fds_before = count_open_fds();
	size_t blocks_before = heap_blocks();

	runs++;
	memset(&now, 0, sizeof(now));
	heap_watch(0);
	plan_faults(faults, count);
	run_in_loop();
	unsigned int length = end_sequence();
	heap_unwatch();
	judge();
	wait_for_heap(blocks_before);
	check_that(count_open_fds() == fds_before, "no descriptor leaks");
	check_that(take_bad_closes() == 0, "none is closed twice");
	check_that(heap_blocks() == blocks_before, "no memory leaks");
	return length;
}

/* ---- what has happened in a run ---- */

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

/* ---- sweeps ---- */

/* The calls of a run without a fault. */
static struct planned_fault calls[SEQUENCE_MAX];
static unsigned int call_count, counts[CALL_COUNT];
enum { SINGLES_MAX = 50000 };

static void run_without_fault(void)
{
	snprintf(what_failed, sizeof(what_failed), "%s", current->name);
	run_planned(NULL, 0); /* what a process does once */
	call_count = run_planned(NULL, 0);
	ck_assert_msg(call_count > 0 && call_count <= SEQUENCE_MAX, "%s: %u calls", current->name,
	              call_count);
	memset(counts, 0, sizeof(counts));
	for (unsigned int i = 0; i < call_count; i++) {
		enum call call = sequence_call(i + 1);
		calls[i] = (struct planned_fault){call, ++counts[call], 0};
		if (counts[call] == 1)
			record_call(call_name(call));
	}
	ck_assert_msg(current->here_for == CALL_NONE || counts[current->here_for] > 0,
	              "%s never calls %s", current->name, call_name(current->here_for));
	ck_assert_uint_eq(failures, 0);
}

/* The call at this place, with one of its errors. */
static struct planned_fault fault_at(unsigned int place, unsigned int variant)
{
	struct planned_fault fault = calls[place];
	const int *errors = call_errors(fault.call);
	unsigned int count = 1; /* each call has one */
	while (errors[count] != 0)
		count++;
	fault.error = errors[variant % count];
	return fault;
}

static bool is_left_out(const struct planned_fault *call)
{
	const struct large_scenario *large = current->large;
	if (large == NULL || call->call == CALL_ALLOCATION || call->number <= large->first)
		return false;
	unsigned int step = counts[call->call] / large->parts;
	return step > 1 && (call->number - large->first) % step != 0;
}

/* Returns whether the run has reached the fault. */
static bool run_with_fault(const struct planned_fault *fault)
{
	struct planned_fault fired[FAULTS_MAX];
	snprintf(what_failed, sizeof(what_failed), "%s", current->name);
	run_planned(fault, 1);
	return fired_faults(fired) == 1;
}

/* Stores the faults of the sweep, and returns their count. */
static unsigned int list_faults(struct planned_fault *faults)
{
	unsigned int count = 0;
	for (int asks_again = 1; asks_again >= 0; asks_again--) /* after ENOSYS the library does not */
		for (unsigned int i = 0; i < call_count; i++)
			for (const int *error = call_errors(calls[i].call); *error != 0; error++)
				if (asks_again == (*error != ENOSYS) && !is_left_out(&calls[i])) {
					ck_assert_uint_lt(count, SINGLES_MAX);
					faults[count] = calls[i];
					faults[count++].error = *error;
				}
	return count;
}

static void sweep_singles(unsigned int share, unsigned int shares)
{
	static struct planned_fault faults[SINGLES_MAX];
	unsigned int reached = 0, faulty = 0, count = list_faults(faults);

	for (unsigned int i = share; i < count; i += shares, faulty++)
		reached += run_with_fault(&faults[i]);
	ck_assert_uint_eq(failures, 0);
	/* The order in which threads, processes and connections of TCP go on may differ from run to run, but not so often. */
	ck_assert_msg(reached * 10 >= faulty * 8, "%s: %u of %u faults reached", current->name, reached,
	              faulty);
}

static unsigned int sweep_pairs(void)
{
	unsigned int before = runs;
	for (unsigned int i = 0; i + 1 < call_count; i++)
		for (unsigned int k = i + 1; k < call_count; k++)
			run_planned((struct planned_fault[]){fault_at(i, k + 1), fault_at(k, i + 1)}, 2);
	ck_assert_uint_eq(failures, 0);
	return runs - before;
}

static void start_sweep(const struct scenario *scenario)
{
	current = scenario;
	runs = 0;
	run_without_fault();
}

void sweep_scenario_of(const struct scenario *scenario, unsigned int pairs_of)
{
	start_sweep(scenario);
	sweep_singles(0, 1);
	unsigned int pairs = call_count <= pairs_of ? sweep_pairs() : 0;
	printf("%s: %u calls, %u runs\n", scenario->name, call_count, runs);
	record_scenario(&(struct recorded_scenario){scenario->name, call_count, runs, pairs});
}

void sweep_share_of(const struct scenario *scenario, unsigned int share, unsigned int shares)
{
	start_sweep(scenario);
	sweep_singles(share, shares);
	printf("%s, share %u of %u: %u calls, %u runs\n", scenario->name, share + 1, shares, call_count,
	       runs);
	if (share == 0)
		record_scenario(&(struct recorded_scenario){scenario->name, call_count, runs, 0});
	else
		record_part_of(scenario->name, runs);
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
