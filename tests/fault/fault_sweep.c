#include "fault_sweep.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include <event2/bufferevent.h>

#include "heap.h"

static const struct fault_sweep *current;
static char what_failed[100];
static unsigned int faults;

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
	faults++;
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

/* Runs the scenario once, with the fault that plan_fault() has planned, or with allocation number
 * `allocation` failing (0: none). Returns the count of allocations. */
static unsigned long run_and_judge(int kind, unsigned long allocation, enum fault fault)
{
	int fds_before = count_open_fds();
	size_t blocks_before = heap_blocks();

	heap_watch(allocation);
	run_in_loop(kind);
	unsigned long count = heap_unwatch();
	current->judge(fault);
	check_that(count_open_fds() == fds_before, "no descriptor leaks");
	check_that(take_bad_closes() == 0, "none is closed twice");
	check_that(heap_blocks() == blocks_before, "no memory leaks");
	return count;
}

static unsigned long run_with_allocation(int kind, const char *name, unsigned long number)
{
	snprintf(what_failed, sizeof(what_failed), "%s, allocation %lu", name, number);
	plan_fault(CALL_NONE, 0, 0);
	return run_and_judge(kind, number, number == 0 ? FAULT_NONE : FAULT_FATAL);
}

static void run_with_call(int kind, const char *name, const struct swept_call *swept,
                          unsigned int number, int error)
{
	snprintf(what_failed, sizeof(what_failed), "%s, %s number %u: %s", name, swept->name, number,
	         strerrorname_np(error));
	plan_fault(swept->call, number, error);
	run_and_judge(kind, 0, fault_of(swept, error));
}

void sweep_allocations(const struct fault_sweep *sweep, int kind, const char *name,
                       unsigned long at_least)
{
	current = sweep;
	unsigned long count = run_with_allocation(kind, name, 0);
	for (unsigned long number = 1; number <= count; number++)
		run_with_allocation(kind, name, number);
	printf("%s: %lu allocations\n", name, count);
	ck_assert_uint_gt(count, at_least);
	ck_assert_uint_eq(faults, 0);
}

unsigned int sweep_call(const struct fault_sweep *sweep, int kind, const char *name,
                        const struct swept_call *swept)
{
	current = sweep;
	run_with_allocation(kind, name, 0);
	unsigned int count = count_calls(swept->call);
	unsigned int step = count > sweep->parts ? count / sweep->parts : 1;
	for (unsigned int number = 1; number <= count; number += number < sweep->first ? 1 : step)
		for (const int *error = swept->errors; *error != 0; error++)
			run_with_call(kind, name, swept, number, *error);
	if (count > 0)
		printf("%s: %s called %u times\n", name, swept->name, count);
	ck_assert_uint_eq(faults, 0);
	return count;
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
