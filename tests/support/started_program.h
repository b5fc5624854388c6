#ifndef FERRY_TESTS_STARTED_PROGRAM_H
#define FERRY_TESTS_STARTED_PROGRAM_H

/* Programs that a test starts by process/child.h, and what the kernel says of them. */

#include <stdbool.h>
#include <stddef.h>

#include "process/child.h"
#include "support.h"

/* The end of a program, for ended_note(). */
struct end_note {
	unsigned int count;
	int status;
	bool free; /* the callback frees the child */
};

void end_note(struct child *child, int status, void *context);

/* Starts a program with these options and waits for nothing. */
struct child *start_program(const struct child_options *options, struct end_note *note);

/* The same for a shell that runs a script. */
struct child *start_script(const char *script, struct end_note *note);

/* Pumps until the callback has run, checks that the status is this one, and frees the child. */
void expect_end(struct child *child, struct end_note *note, int status);

/* The status of a program that exits, or that a signal kills. */
int exit_status(int code);
int kill_status(int signal_number);

/* /proc/PID/NAME, with a zero at the end. Returns the length. */
size_t read_proc(pid_t pid, const char *name, char *out, size_t size);

/* A line of /proc/PID/status without its name: "Uid". */
void read_proc_status(pid_t pid, const char *name, char *out, size_t size);

/* Pumps until a process has these open descriptors and no other: "0 1 2 7". A program that begins has its libraries
 * open for a moment. */
void expect_open_fds(pid_t pid, const char *numbers);

/* Whether this process has no child, zombies included. */
bool has_no_child(void);

#endif
