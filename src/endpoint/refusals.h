#ifndef FERRY_ENDPOINT_REFUSALS_H
#define FERRY_ENDPOINT_REFUSALS_H

/* Log lines about connections that a listener closed at once. The clients decide how many of these there are,
 * so at most one line a second is logged, with the number of the connections that got none. */

#include <stdint.h>
#include <sys/types.h>

/* All zero: the next refusal is logged. */
struct refusals {
	int64_t next_line; /* clock_now() from which on the next line may be logged */
	uint64_t unlogged; /* refusals since the last line */
};

/* Counts a refused connection of the listening socket `fd`, and logs it if a line is due. `uid` is that of the
 * client, or -1 if the user is not the reason. */
void refusals_log(struct refusals *refusals, int fd, uid_t uid, const char *reason);

#endif
