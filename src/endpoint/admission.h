#ifndef FERRY_ENDPOINT_ADMISSION_H
#define FERRY_ENDPOINT_ADMISSION_H

/* Who may connect to a unix socket, beyond what its file's mode says, and how often at once. */

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "endpoint/quota.h"

/* All zero: everybody, as often as they like, and nobody is asked for. */
struct admission {
	uid_t *uids;
	gid_t *gids;
	size_t uid_count, gid_count;
	struct quota *quota; /* NULL: no connections are counted */
	unsigned int per_uid;
};

/* Each adds one; -ENOMEM. Once there is one of either, all others are refused. */
int admission_allow_uid(struct admission *admission, uid_t uid);
int admission_allow_gid(struct admission *admission, gid_t gid);

/* Limits the connections of each user. 0: no limit; they go on being counted. -ENOMEM. */
int admission_limit(struct admission *admission, unsigned int per_uid);

/* Whether the accepted socket's other end may stay. 0: it may, and `share` is to be given back, unless it
 * is NULL. -EACCES: it is not allowed. -EDQUOT: it has too many. -ENOMEM, or what getsockopt(2) said: not
 * known. `peer` is who it is, as far as that was found out. */
int admission_ask(const struct admission *admission, int fd, struct ucred *peer,
                  struct quota_share **share);

/* Frees what it holds. */
void admission_clear(struct admission *admission);

#endif
