#ifndef FERRY_PROGRAMS_SHARED_PROGRAM_H
#define FERRY_PROGRAMS_SHARED_PROGRAM_H

/* Parts of main() that the programs share: numbers, messages, the descriptor limit, signals. */

#include <stdbool.h>

#include <event2/event.h>

struct event;
struct event_base;

/* For --version: prints "NAME VERSION" to the standard output. */
void program_print_version(const char *name);

/* Reads a decimal number from 0 to `max`. False: the text is none. */
bool program_number(const char *text, unsigned long max, unsigned long *number);

/* Raises the soft descriptor limit to the hard one, and returns the new soft limit. */
unsigned long program_raise_descriptor_limit(void);

/* Opens a log file for appending, or creates it, and closes the descriptor before, which may be -1. A FIFO or a terminal
 * never blocks a write. With the path NULL nothing is opened. False: it cannot be opened, a message has been printed,
 * and the descriptor stays. */
bool program_reopen(int *fd, const char *path);

/* Prints a line to the standard error output, after the name of the program. Never blocks: a line that a pipe does not
 * take is counted, and the count is printed before the next one that it takes. Of lines with one format, 100 are printed
 * in a second, and the others counted. For the main thread. */
__attribute__((format(printf, 1, 2))) void program_log(const char *format, ...);

/* Prints the log of the library in the same way. */
void program_print_ferry_log(void);

/* SIGINT and SIGTERM end the loop. Set this up before anything that has to be cleaned up, such as the
 * file of a socket: a signal that comes before the loop runs ends the loop as soon as it starts. */
struct program_signals {
	struct event *events[8];
	unsigned int count;
};

/* 0 or -ENOMEM; the caller frees the signals in both cases. */
int program_signals_init(struct program_signals *signals, struct event_base *base);

/* Adds a signal with an event callback, whose descriptor is the number of the signal. 0 or -ENOMEM. */
int program_signals_add(struct program_signals *signals, struct event_base *base, int number,
                        event_callback_fn callback, void *context);

/* From here on the process ignores the signals: it has ended but for tidying up, and its exit status is its own. */
void program_signals_free(struct program_signals *signals);

/* Frees the base of a loop, after some more turns: freed transports, and the files in their streams, are finalised in the
 * loop. */
void program_free_base(struct event_base *base);

#endif
