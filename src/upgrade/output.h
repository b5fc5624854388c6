#ifndef FERRY_UPGRADE_OUTPUT_H
#define FERRY_UPGRADE_OUTPUT_H

/*
 * The standard error of a successor: read from a pipe, passed on, and the end of it kept.
 *
 * The writing end of the pipe is non-blocking, and both processes have the reading end. The predecessor reads until
 * the successor is ready. The successor then leaves the pipe, and reads what programs write that it has started
 * before. A writer is therefore never blocked, nor is it killed by SIGPIPE when the predecessor ends.
 */

struct event_base;
struct output;

/* `fds` becomes the reading and the writing end. A negative errno of pipe2(2). */
int output_make_pipe(int fds[2]);

/* Reads `pipe`, which the object owns, also after a failure, and passes on to `to`, which stays the caller's. If `to`
 * takes nothing at the moment, it does not get that part. -ENOMEM. */
int output_new(struct output **out, struct event_base *base, int pipe, int to);

/* Reads what is there now. */
void output_read(struct output *output);

/* The last lines, up to FERRY_UPGRADE_OUTPUT_MAX bytes. Valid until the next read. */
const char *output_get_text(struct output *output);

/* NULL: does nothing. */
void output_free(struct output *output);

#endif
