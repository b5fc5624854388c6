#include "model_trace.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <check.h>

/* The end of the text is enough: the fault is in the last steps. */
enum { KEPT = 24 * 1024, LINE = 256 };

unsigned int trace_depth;

static char text[2 * KEPT];
static size_t length;
static char walk[LINE];
static bool at_once; /* FERRY_MODEL_TRACE: every line, as it comes */

static void print(const char *what, size_t size)
{
	while (size > 0) {
		ssize_t n = write(STDERR_FILENO, what, size);
		if (n <= 0)
			return;
		what += n;
		size -= (size_t)n;
	}
}

static void print_walk(void)
{
	if (!at_once)
		print(text, length);
	if (walk[0] == '\0')
		return;
	print("to repeat: ", 11);
	print(walk, strlen(walk));
	print("\n", 1);
}

static void on_signal(int number)
{
	print_walk();
	signal(number, SIG_DFL);
	raise(number);
}

/* Of the sanitizers; NULL without them. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

static void prepare(void)
{
	static bool prepared;

	if (prepared)
		return;
	prepared = true;
	at_once = getenv("FERRY_MODEL_TRACE") != NULL;
	if (__sanitizer_set_death_callback != NULL) {
		__sanitizer_set_death_callback(print_walk);
		return;
	}
	signal(SIGABRT, on_signal);
	signal(SIGSEGV, on_signal);
	signal(SIGBUS, on_signal);
}

void trace_begin(const char *command)
{
	if (command != NULL)
		prepare();
	snprintf(walk, sizeof(walk), "%s", command != NULL ? command : "");
	length = 0;
	trace_depth = 0;
}

void trace(const char *format, ...)
{
	va_list arguments;

	if (length > sizeof(text) - LINE) {
		memmove(text, text + length - KEPT, KEPT);
		length = KEPT;
	}
	size_t start = length;
	for (unsigned int i = 0; i < trace_depth && i < 16; i++)
		text[length++] = '\t';
	va_start(arguments, format);
	int n = vsnprintf(text + length, LINE - 32, format, arguments);
	va_end(arguments);
	length += n < LINE - 32 ? (size_t)n : LINE - 33;
	text[length++] = '\n';
	if (at_once)
		print(text + start, length - start);
}

void demand_failed(const char *condition, const char *format, ...)
{
	char reason[LINE];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason, sizeof(reason), format, arguments);
	va_end(arguments);
	print_walk();
	if (walk[0] != '\0')
		ck_abort_msg("%s (%s); %s", reason, condition, walk);
	print(reason, strlen(reason));
	print("\n", 1);
	abort();
}
