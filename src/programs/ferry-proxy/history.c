#include "programs/ferry-proxy/history.h"

#include "programs/ferry-proxy/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* The resident memory of a process; 0: it has ended. */
static uint64_t memory_of(pid_t pid)
{
	char path[48];
	uint64_t pages = 0;
	snprintf(path, sizeof(path), "/proc/%ld/statm", (long)pid);
	FILE *file = fopen(path, "re");
	if (file == NULL)
		return 0;
	if (fscanf(file, "%*u %" SCNu64, &pages) != 1)
		pages = 0;
	fclose(file);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void history_add(struct history *history, const struct snapshot *snapshot)
{
	struct history_sample sample = {{0}};
	sample.values[HISTORY_MEMORY] = memory_of(snapshot->pid);
	for (size_t i = 0; i < snapshot->service_count; i++) {
		const struct service_snapshot *service = &snapshot->services[i];
		sample.values[HISTORY_REQUESTS] += service->has_answers
		                                       ? answer_sums_count(&service->answers, 0, 999)
		                                       : service->stats.accepted;
		sample.values[HISTORY_HANDOFFS] += service->stats.sent;
		sample.values[HISTORY_CLAIMS] += service->stats.claimed;
		sample.values[HISTORY_RETRIES] += service->stats.retried;
		sample.values[HISTORY_QUEUE] += service->stats.queued;
		for (size_t j = 0; j < service->worker_count; j++)
			if (service->workers[j].pid > 0 && service->workers[j].is_own)
				sample.values[HISTORY_MEMORY] += memory_of(service->workers[j].pid);
	}
	history->samples[history->next] = sample;
	history->next = (history->next + 1) % HISTORY_SAMPLES;
	if (history->count < HISTORY_SAMPLES)
		history->count++;
}

bool history_is_sum(enum history_series series)
{
	return series < HISTORY_QUEUE;
}

/* The samples from the oldest one on. */
static const struct history_sample *sample_at(const struct history *history, unsigned int index)
{
	unsigned int oldest = history->count < HISTORY_SAMPLES ? 0 : history->next;
	return &history->samples[(oldest + index) % HISTORY_SAMPLES];
}

unsigned int history_points(const struct history *history, enum history_series series,
                            double *points)
{
	bool sum = history_is_sum(series);
	unsigned int count = 0;
	for (unsigned int i = sum ? 1 : 0; i < history->count; i++) {
		uint64_t value = sample_at(history, i)->values[series];
		if (!sum) {
			points[count++] = (double)value;
			continue;
		}
		uint64_t before = sample_at(history, i - 1)->values[series];
		/* A dispatcher that was given up has no counters any more. */
		points[count++] = value > before ? (double)(value - before) / HISTORY_SECONDS : 0;
	}
	return count;
}
