#include "programs/shared/program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

/* No umask hides a log from its owner: the next process, or SIGUSR1, opens it again. */
static int open_log(const char *path)
{
	const mode_t mask = umask(0);

	umask(mask & ~(mode_t)0600);
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0640);
	umask(mask);
	return fd;
}

bool program_reopen(int *fd, const char *path)
{
	if (path == NULL)
		return true;
	int opened = open_log(path);
	if (opened < 0) {
		program_log("%s: %s", path, strerror(errno));
		return false;
	}
	if (*fd >= 0)
		close(*fd);
	*fd = opened;
	return true;
}

/* ---- messages ---- */

/* Of lines with one format, so many are printed in a second. */
enum { LINES_PER_SECOND = 100, FORMATS = 32 };

struct line_budget {
	const char *format; /* NULL: the place is free */
	time_t second;
	unsigned int printed;
	unsigned long left_out;
};

static struct line_budget budgets[FORMATS];
static unsigned long lines_lost;

/* Whether a write of a line would not block. A pipe has room for PIPE_BUF bytes then; the descriptor may be shared with
 * other programs, and is therefore not made non-blocking. */
static bool takes_line(void)
{
	struct pollfd stderr_fd = {.fd = STDERR_FILENO, .events = POLLOUT};
	return poll(&stderr_fd, 1, 0) == 1 && (stderr_fd.revents & POLLOUT) != 0;
}

/* A pipe is opened for the line, non-blocking for this process alone: another one may fill it between poll(2) and
 * write(2). */
static bool write_bytes(const char *line, size_t length)
{
	struct stat status;
	int own = -1;
	if (!takes_line())
		return false;
	if (fstat(STDERR_FILENO, &status) == 0 && S_ISFIFO(status.st_mode))
		own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	bool written = write(own >= 0 ? own : STDERR_FILENO, line, length) == (ssize_t)length;
	if (own >= 0)
		close(own);
	return written;
}

__attribute__((format(printf, 1, 2))) static bool write_line(const char *format, ...)
{
	char line[640];
	va_list arguments;
	int start = snprintf(line, 64, "%.60s: ", program_invocation_short_name);
	va_start(arguments, format);
	/* clang-tidy 14 does not see va_start() here. */
	(void)vsnprintf(line + start, sizeof(line) - (size_t)start - 1, format, arguments);
	va_end(arguments);
	size_t length = strlen(line);
	line[length++] = '\n';
	return write_bytes(line, length);
}

static void print_line(const char *line)
{
	if (lines_lost > 0 && write_line("%lu lines could not be written", lines_lost))
		lines_lost = 0;
	if (lines_lost > 0 || !write_line("%s", line))
		lines_lost++;
}

/* Prints the counts of what was left out in former seconds. */
static void print_left_out(time_t now)
{
	char line[256];
	for (size_t i = 0; i < FORMATS; i++) {
		struct line_budget *budget = &budgets[i];
		if (budget->left_out == 0 || budget->second == now)
			continue;
		(void)snprintf(line, sizeof(line), "%lu lines like '%.100s' were left out",
		               budget->left_out, budget->format);
		budget->left_out = 0;
		print_line(line);
	}
}

static struct line_budget *find_budget(const char *format, time_t now)
{
	struct line_budget *oldest = &budgets[0];
	for (size_t i = 0; i < FORMATS; i++) {
		if (budgets[i].format == format)
			return &budgets[i];
		if (budgets[i].second < oldest->second)
			oldest = &budgets[i];
	}
	*oldest = (struct line_budget){.format = format, .second = now};
	return oldest;
}

void program_log(const char *format, ...)
{
	char line[512];
	va_list arguments;
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	print_left_out(now.tv_sec);
	struct line_budget *budget = find_budget(format, now.tv_sec);
	if (budget->second != now.tv_sec) {
		budget->second = now.tv_sec;
		budget->printed = 0;
	}
	if (budget->printed >= LINES_PER_SECOND) {
		budget->left_out++;
		return;
	}
	budget->printed++;
	va_start(arguments, format);
	/* clang-tidy 14 does not see va_start() here. */
	(void)vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	print_line(line);
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

int program_signals_add(struct program_signals *signals, struct event_base *base, int number,
                        event_callback_fn callback, void *context)
{
	struct event *event = evsignal_new(base, number, callback, context);
	if (event == NULL)
		return -ENOMEM;
	signals->events[signals->count++] = event;
	return event_add(event, NULL) == 0 ? 0 : -ENOMEM;
}

int program_signals_init(struct program_signals *signals, struct event_base *base)
{
	int status = program_signals_add(signals, base, SIGINT, break_loop, base);
	return status < 0 ? status : program_signals_add(signals, base, SIGTERM, break_loop, base);
}

/* libevent puts the default action back, which would end a process that tidies up. The signal is blocked meanwhile. */
static void ignore_from_now_on(struct event *event)
{
	int number = event_get_signal(event);
	sigset_t one, before;
	sigemptyset(&one);
	sigaddset(&one, number);
	sigprocmask(SIG_BLOCK, &one, &before);
	event_free(event);
	signal(number, SIG_IGN);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

void program_signals_free(struct program_signals *signals)
{
	while (signals->count > 0)
		ignore_from_now_on(signals->events[--signals->count]);
}

void program_free_base(struct event_base *base)
{
	for (int turn = 0; turn < 4; turn++)
		event_base_loop(base, EVLOOP_NONBLOCK);
	event_base_free(base);
}
