#ifndef FERRY_ENDPOINT_QUOTA_H
#define FERRY_ENDPOINT_QUOTA_H

/* Counts the connections of each user. Connections outlive the listener that accepted them: the quota is freed
 * when the listener has left it and the last connection has ended. */

#include <sys/types.h>

struct quota;

/* The count of one user. It exists while the user has a connection. */
struct quota_share;

/* -ENOMEM. */
int quota_new(struct quota **out);

/* Counts a connection of `uid`. `limit` 0: none. -EDQUOT: the user has `limit` connections already. -ENOMEM. */
int quota_take(struct quota *quota, uid_t uid, unsigned int limit, struct quota_share **out);

/* Counts one connection less. `argument` is the `struct quota_share *` of quota_take(). */
void quota_give_back(void *argument);

/* The listener counts no more connections. NULL: nothing happens. */
void quota_leave(struct quota *quota);

#endif
