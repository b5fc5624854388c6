#include "programs/shared/program.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <event2/event.h>
#include <ferry/ferry.h>

void program_print_version(const char *name)
{
	printf("%s %s\n", name, FERRY_VERSION);
}

bool program_number(const char *text, unsigned long max, unsigned long *number)
{
	if (*text < '0' || *text > '9') /* strtoul() takes signs and spaces */
		return false;
	char *end;
	errno = 0;
	*number = strtoul(text, &end, 10);
	return errno == 0 && *end == '\0' && *number <= max;
}

unsigned long program_raise_descriptor_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 256;
	rlim_t soft = limit.rlim_cur;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		limit.rlim_cur = soft;
	/* Callers derive a number of clients from the limit: bound a huge or infinite one. */
	return limit.rlim_cur < 1048576 ? (unsigned long)limit.rlim_cur : 1048576;
}

void program_log(const char *format, ...)
{
	char line[512];
	va_list arguments;
	va_start(arguments, format);
	/* clang-tidy 14 does not see va_start() here. */
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) */
	(void)vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	(void)fprintf(stderr, "%s: %s\n", program_invocation_short_name, line);
}

static void print_ferry_line(enum ferry_log_level level, const char *line)
{
	if (level >= FERRY_LOG_WARNING)
		program_log("%s", line);
}

void program_print_ferry_log(void)
{
	ferry_log_set_cb(print_ferry_line);
}

static void break_loop(evutil_socket_t signal_number, short what, void *base)
{
	(void)signal_number, (void)what;
	event_base_loopbreak(base);
}

int program_signals_init_callback(struct program_signals *signals, struct event_base *base,
                                  event_callback_fn callback, void *context)
{
	signals->interrupt = evsignal_new(base, SIGINT, callback, context);
	signals->terminate = evsignal_new(base, SIGTERM, callback, context);
	if (signals->interrupt == NULL || signals->terminate == NULL ||
	    event_add(signals->interrupt, NULL) < 0 || event_add(signals->terminate, NULL) < 0)
		return -ENOMEM;
	return 0;
}

int program_signals_init(struct program_signals *signals, struct event_base *base)
{
	return program_signals_init_callback(signals, base, break_loop, base);
}

void program_signals_free(struct program_signals *signals)
{
	if (signals->interrupt != NULL)
		event_free(signals->interrupt);
	if (signals->terminate != NULL)
		event_free(signals->terminate);
}
