#ifndef FERRY_TESTS_CLOSES_H
#define FERRY_TESTS_CLOSES_H

/* Counts each close of a number that is not open, by close(2) or close_range(2). A program that uses this is linked
 * with --wrap=close and --wrap=syscall, and with the library's objects, so that the library's calls are counted too. */

/* A descriptor that nobody may close for now: doing it counts, too. */
void closes_forbid(int fd);
void closes_permit(int fd);

/* The calls of close_range(2) so far, those that a sandbox has denied included. */
unsigned int count_closed_ranges(void);

/* Fails the test if there was one. A tear-down function, too. */
void check_closes(void);

#endif
