#ifndef FERRY_PROGRAMS_SHARED_PROGRAM_H
#define FERRY_PROGRAMS_SHARED_PROGRAM_H

/* What the programs share as programs. */

#include <stdbool.h>

#include <event2/event.h>

struct event;
struct event_base;

/* Prints "NAME VERSION" to the standard output, with the version of ferry that the program was built
 * with: for --version. */
void program_print_version(const char *name);

/* A decimal number of 0 to `max`, and nothing else. */
bool program_number(const char *text, unsigned long max, unsigned long *number);

/* Lifts the soft limit of open descriptors to the hard one, and returns what it then is. */
unsigned long program_raise_descriptor_limit(void);

/* Prints a line to the standard error output, with the program's name. */
__attribute__((format(printf, 1, 2))) void program_log(const char *format, ...);

/* Has ferry's own lines printed in the same way. */
void program_print_ferry_log(void);

/* Has SIGINT and SIGTERM end the loop. To be set up before anything that is to be cleaned up at the
 * end, a socket's file above all: a signal that comes before the loop runs ends it at once then. */
struct program_signals {
	struct event *interrupt;
	struct event *terminate;
};

/* 0 or -ENOMEM; free in either case. */
int program_signals_init(struct program_signals *signals, struct event_base *base);

/* The same, with something else to be done: `callback` is an event's, its descriptor the signal. */
int program_signals_init_callback(struct program_signals *signals, struct event_base *base,
                                  event_callback_fn callback, void *context);
void program_signals_free(struct program_signals *signals);

#endif
