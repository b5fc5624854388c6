#ifndef FERRY_ENDPOINT_QUOTA_H
#define FERRY_ENDPOINT_QUOTA_H

/* How many connections each user has. Connections outlive the listener that accepted them: the quota goes
 * when that has left and the last of them has ended. */

#include <sys/types.h>

struct quota;

/* What one user has of it. Each user is there while it has a connection. */
struct quota_share;

/* -ENOMEM. */
int quota_new(struct quota **out);

/* One connection more. `limit` 0: as many as there are. -EDQUOT: it has that many. -ENOMEM. */
int quota_take(struct quota *quota, uid_t uid, unsigned int limit, struct quota_share **out);

/* One less, of what quota_take() gave, a `struct quota_share *`. */
void quota_give_back(void *argument);

/* Nothing is taken any more. NULL: nothing happens. */
void quota_leave(struct quota *quota);

#endif
