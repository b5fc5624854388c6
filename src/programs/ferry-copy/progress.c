#include "programs/ferry-copy/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <event2/event.h>

enum { WIDEST_LINE = 512, LONGEST_NAME = 30, NARROWEST_BAR = 10, SECONDS_BETWEEN_LINES = 10 };

static const struct timeval tick_interval = {.tv_usec = 200000};

static double seconds_between(const struct timespec *from, const struct timespec *to)
{
	return (double)(to->tv_sec - from->tv_sec) + (double)(to->tv_nsec - from->tv_nsec) / 1e9;
}

static void print_size(char *out, size_t size, double bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned int unit = 0;
	while (bytes >= 1024 && unit < sizeof(units) / sizeof(units[0]) - 1) {
		bytes /= 1024;
		unit++;
	}
	(void)snprintf(out, size, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

static void print_time_left(const struct progress *progress, char *out, size_t size)
{
	uint64_t left = progress->total - progress->now;
	double seconds = progress->rate > 0 ? (double)left / progress->rate : 1e9;
	if (left == 0)
		(void)snprintf(out, size, "done");
	else if (seconds >= 100 * 3600)
		(void)snprintf(out, size, "--:-- left");
	else if (seconds >= 3600)
		(void)snprintf(out, size, "%u:%02u:%02u left", (unsigned int)seconds / 3600,
		               (unsigned int)seconds / 60 % 60, (unsigned int)seconds % 60);
	else
		(void)snprintf(out, size, "%u:%02u left", (unsigned int)seconds / 60,
		               (unsigned int)seconds % 60);
}

static bool has_total(const struct progress *progress)
{
	return progress->total != PROGRESS_NO_TOTAL;
}

/* The fraction that has been copied; 1 for an empty file. */
static double fraction(const struct progress *progress)
{
	return progress->total > 0 ? (double)progress->now / (double)progress->total : 1;
}

/* Formats the text to the right of the bar. */
static void print_numbers(const struct progress *progress, char *out, size_t size)
{
	char now[32], rate[32], left[32];
	print_size(now, sizeof(now), (double)progress->now);
	print_size(rate, sizeof(rate), progress->rate);
	if (has_total(progress)) {
		print_time_left(progress, left, sizeof(left));
		(void)snprintf(out, size, "%3u%%  %s  %s/s  %s", (unsigned int)(100 * fraction(progress)),
		               now, rate, left);
	} else {
		(void)snprintf(out, size, "%s  %s/s", now, rate);
	}
}

static size_t terminal_width(void)
{
	struct winsize window = {0};
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) < 0 || window.ws_col == 0)
		return 80;
	return window.ws_col < WIDEST_LINE ? window.ws_col : WIDEST_LINE - 1;
}

/* "[####----]" of `width` columns, and two blanks. */
static void print_bar(char *out, size_t width, double part)
{
	size_t full = (size_t)(part * (double)(width - 2));
	out[0] = '[';
	memset(out + 1, '-', width - 2);
	memset(out + 1, '#', full < width - 2 ? full : width - 2);
	memcpy(out + width - 1, "]  ", sizeof("]  "));
}

/* The last column stays free: terminals differ in the handling of a character there. */
static void draw_bar(const struct progress *progress)
{
	char numbers[160], bar[WIDEST_LINE] = "", line[2 * WIDEST_LINE];
	size_t width = terminal_width() - 1;
	size_t name = strnlen(progress->name, LONGEST_NAME);
	print_numbers(progress, numbers, sizeof(numbers));
	size_t used = name + 2 + strlen(numbers);
	if (has_total(progress) && used + 2 + NARROWEST_BAR <= width) {
		print_bar(bar, width - used - 2, fraction(progress));
	}
	/* The line always has the same width, and overwrites the one before. */
	(void)snprintf(line, sizeof(line), "%.*s  %s%s", (int)name, progress->name, bar, numbers);
	(void)fprintf(stderr, "\r%-*.*s", (int)width, (int)width, line);
}

static void print_progress_line(struct progress *progress)
{
	char numbers[160];
	print_numbers(progress, numbers, sizeof(numbers));
	(void)fprintf(stderr, "%s  %s\n", progress->name, numbers);
	clock_gettime(CLOCK_MONOTONIC, &progress->printed);
}

static void measure_rate(struct progress *progress)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	double seconds = seconds_between(&progress->measured, &time);
	if (seconds <= 0)
		return;
	double rate = (double)(progress->now - progress->then) / seconds;
	bool first = progress->then == progress->first && progress->rate == 0;
	/* A moving average: the weight of a value is half after three or four ticks. */
	progress->rate = first ? rate : 0.8 * progress->rate + 0.2 * rate;
	progress->measured = time;
	progress->then = progress->now;
}

static void progress_ticked(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct progress *progress = argument;
	measure_rate(progress);
	if (progress->is_terminal)
		draw_bar(progress);
	else if (seconds_between(&progress->printed, &progress->measured) >= SECONDS_BETWEEN_LINES)
		print_progress_line(progress);
}

void progress_start(struct progress *progress, struct event_base *base, const char *name,
                    uint64_t first, uint64_t total)
{
	*progress = (struct progress){.name = name,
	                              .first = first,
	                              .now = first,
	                              .then = first,
	                              .total = total,
	                              .is_terminal = isatty(STDERR_FILENO) == 1};
	clock_gettime(CLOCK_MONOTONIC, &progress->started);
	progress->measured = progress->printed = progress->started;
	if (has_total(progress))
		progress->lines = (unsigned int)(fraction(progress) * 10);
	progress->tick = event_new(base, -1, EV_PERSIST, progress_ticked, progress);
	if (progress->tick != NULL)
		event_add(progress->tick, &tick_interval);
	if (progress->is_terminal)
		draw_bar(progress);
}

void progress_update(struct progress *progress, uint64_t now)
{
	progress->now = now;
	if (progress->tick == NULL || progress->is_terminal || !has_total(progress))
		return;
	unsigned int tenths = (unsigned int)(fraction(progress) * 10);
	if (tenths > progress->lines && tenths < 10) { /* progress_stop() prints the last line */
		progress->lines = tenths;
		if (progress->rate == 0)
			measure_rate(progress);
		print_progress_line(progress);
	}
}

/* The time of the whole copy. */
static double whole_seconds(const struct progress *progress)
{
	double seconds = seconds_between(&progress->started, &progress->measured);
	return seconds > 0 ? seconds : 1e-9;
}

void progress_stop(struct progress *progress)
{
	if (progress->tick == NULL)
		return;
	event_free(progress->tick);
	progress->tick = NULL;
	clock_gettime(CLOCK_MONOTONIC, &progress->measured);
	progress->rate = (double)(progress->now - progress->first) / whole_seconds(progress);
	if (progress->is_terminal) {
		draw_bar(progress);
		(void)fputc('\n', stderr);
	} else {
		print_progress_line(progress);
	}
}

void progress_summary(const struct progress *progress, char *out, size_t size)
{
	char rate[32];
	uint64_t bytes = progress->now - progress->first;
	print_size(rate, sizeof(rate), (double)bytes / whole_seconds(progress));
	(void)snprintf(out, size, "%" PRIu64 " bytes in %.2f s, %s/s", bytes, whole_seconds(progress),
	               rate);
}
