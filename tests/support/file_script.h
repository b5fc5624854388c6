#ifndef FERRY_TESTS_FILE_SCRIPT_H
#define FERRY_TESTS_FILE_SCRIPT_H

/* sendfile(2), sendmsg(2) and writev(2) that do less than they were asked to, or fail, as a script has it. A
 * program that uses this is linked with --wrap for the three, and with the library's objects. */

#include <stdbool.h>
#include <stddef.h>

#include "file_link.h"

/* What the next calls of one function do, in turn: a negative errno, or at most so many bytes. Then the
 * last of them for ever, or the real thing. */
struct file_script {
	const int *steps;
	size_t count, next;
	bool repeat;
};

extern struct file_script by_sendfile, by_write;

void play_file_script(struct file_script *file_script, const int *steps, size_t count, bool repeat);

enum { SMALL = 24 };

extern struct told file; /* the one that most cases need */

/* Lets the loop run for much longer than the write timeout. */
void pump_past_the_timeout(void);

#endif
