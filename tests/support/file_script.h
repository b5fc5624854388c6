#ifndef FERRY_TESTS_FILE_SCRIPT_H
#define FERRY_TESTS_FILE_SCRIPT_H

/* A script makes sendfile(2), sendmsg(2) and writev(2) take fewer bytes than the caller offers, or
 * fail. A program that uses this is linked with --wrap for the three, and with the library's
 * objects. */

#include <stdbool.h>
#include <stddef.h>

#include "file_link.h"

/* The script of one function. Each call takes the next step: a negative errno, or the most bytes
 * that the call may take. After the last step the script starts again if `repeat` is set; otherwise
 * the calls are the real ones. */
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
