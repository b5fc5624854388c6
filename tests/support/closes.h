#ifndef FERRY_TESTS_CLOSES_H
#define FERRY_TESTS_CLOSES_H

/* Counts each close(2) of a number that is not open. A program that uses this is linked with --wrap=close,
 * and with the library's objects, so that the library's calls are counted too. */

/* A descriptor that nobody may close for now: doing it counts, too. */
void closes_forbid(int fd);
void closes_permit(int fd);

/* Fails the test if there was one. A tear-down function, too. */
void check_closes(void);

#endif
