#include "record.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calls.h"
#include "faults.h"
#include "test.h"

/* Any process of the program adds lines: check runs each test in a child. */
static char path[4096];
static pid_t program;

__attribute__((format(printf, 1, 2))) static void add_line(const char *format, ...)
{
	va_list list;
	FILE *file = fopen(path, "ae");
	ck_assert_ptr_nonnull(file);
	va_start(list, format);
	vfprintf(file, format, list);
	va_end(list);
	ck_assert_int_eq(fclose(file), 0);
}

void record_scenario(const struct recorded_scenario *scenario)
{
	add_line("scenario %u %u %u %s\n", scenario->calls, scenario->runs, scenario->pairs,
	         scenario->name);
}

void record_part_of(const char *scenario, unsigned int runs)
{
	add_line("part %u %s\n", runs, scenario);
}

void record_call(const char *name)
{
	add_line("call %s\n", name);
}

void record_failure(void)
{
	add_line("failure\n");
}

int record_status(const char *function, int status)
{
	static struct {
		const char *function;
		int status;
	} known[500];
	static size_t count;

	if (status >= 0)
		return status;
	for (size_t i = 0; i < count; i++)
		if (known[i].status == status && strcmp(known[i].function, function) == 0)
			return status;
	if (count < sizeof(known) / sizeof(known[0])) {
		known[count].function = function;
		known[count++].status = status;
	}
	bool was_armed = disarm();
	add_line("error %s %s\n", function, error_name(-status));
	if (was_armed)
		arm();
	return status;
}

static void print_sums(void)
{
	char line[300];
	unsigned int calls, runs, pairs, scenarios = 0, failures = 0;
	unsigned long all_calls = 0, all_runs = 0;

	FILE *file = getpid() == program ? fopen(path, "re") : NULL;
	if (file == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL) {
		failures += strcmp(line, "failure\n") == 0;
		if (sscanf(line, "scenario %u %u %u", &calls, &runs, &pairs) == 3) {
			scenarios++;
			all_calls += calls;
			all_runs += runs;
		} else if (sscanf(line, "part %u", &runs) == 1) {
			all_runs += runs;
		}
	}
	fclose(file);
	printf("fault: %u scenarios, %lu calls, %lu runs, %u failures\n", scenarios, all_calls,
	       all_runs, failures);
}

BEFORE_ALL
{
	snprintf(path, sizeof(path), "%s/%s.seen", FERRY_TESTS_FAULT_FOLDER,
	         program_invocation_short_name);
	program = getpid();
	FILE *file = fopen(path, "we");
	if (file == NULL) {
		perror(path);
		exit(1);
	}
	fclose(file);
	atexit(print_sums);
}
