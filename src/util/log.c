#include "util/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>

/* The transports of a process share the pointer to the user's callback. It is atomic, because
 * event_bases in different threads read it while another thread may set it. A line that is being formatted
 * meanwhile goes to the callback that was set when log_line() began. */

/* A longer line is cut: log_line() needs no memory from the heap, and so works in a process that has none. */
enum { LINE_SIZE = 512 };

static _Atomic(ferry_log_cb) callback;

void ferry_log_set_cb(ferry_log_cb cb)
{
	atomic_store(&callback, cb);
}

void log_line(enum ferry_log_level level, const char *format, ...)
{
	ferry_log_cb cb = atomic_load(&callback);
	if (cb == NULL)
		return;

	int saved_errno = errno;
	char line[LINE_SIZE];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	if (length >= 0)
		cb(level, line);
	errno = saved_errno;
}
