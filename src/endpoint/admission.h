#ifndef FERRY_ENDPOINT_ADMISSION_H
#define FERRY_ENDPOINT_ADMISSION_H

/* Which users may connect to a unix socket, in addition to the mode of its file, and how many connections each
 * of them may have at once. */

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "endpoint/quota.h"

/* All zero: every user may connect, without a limit, and the kernel is not asked for the user. */
struct admission {
	uid_t *uids;
	gid_t *gids;
	size_t uid_count, gid_count;
	struct quota *quota; /* NULL: connections are not counted */
	unsigned int per_uid;
};

/* Each adds a user or a group; -ENOMEM. Once there is one, admission_check() refuses everybody else. */
int admission_allow_uid(struct admission *admission, uid_t uid);
int admission_allow_gid(struct admission *admission, gid_t gid);

/* Limits the connections of each user. 0: no limit, but connections are still counted. -ENOMEM. */
int admission_set_limit(struct admission *admission, unsigned int per_uid);

/* Decides about an accepted socket. 0: it may stay; the caller returns `share` to the quota when the connection
 * ends, unless it is NULL. -EACCES: neither the user nor its groups are allowed. -EDQUOT: the user has as many
 * connections as it may have. -ENOMEM, or an error of getsockopt(2): the user is not known. `peer` is the
 * process at the other end, as far as the kernel has answered; its ids are -1 otherwise. */
int admission_check(const struct admission *admission, int fd, struct ucred *peer,
                    struct quota_share **share);

/* Frees the lists and leaves the quota. */
void admission_clear(struct admission *admission);

#endif
