#ifndef EXAMPLES_PROGRAM_H
#define EXAMPLES_PROGRAM_H

/* What the example daemons share as programs. */

#include <stdbool.h>

struct event_base;

/* A decimal number of 0 to `max`, and nothing else. */
bool program_number(const char *text, unsigned long max, unsigned long *number);

/* Lifts the soft limit of open descriptors to the hard one, and returns what it then is. */
unsigned long program_raise_descriptor_limit(void);

/* Prints a line to the standard error output, with the program's name. */
__attribute__((format(printf, 1, 2))) void program_say(const char *format, ...);

/* Has ferry's own lines printed in the same way. */
void program_print_ferry_log(void);

/* Runs the loop until SIGINT or SIGTERM. 0, or -1 when the loop could not be run. */
int program_run(struct event_base *base);

#endif
