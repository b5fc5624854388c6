#include "endpoint/admission.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* The kernel has written down who called connect(2), and a process that changes its user later changes
 * nothing about it. Its groups are two answers: SO_PEERCRED has the effective one, SO_PEERGROUPS (Linux
 * 4.13) the supplementary ones. Most processes have a few of these, and some have thousands. */

enum { GROUPS_USUAL = 64 };

/* uid_t and gid_t are one type on Linux. */
static int add(uid_t **set, size_t *count, uid_t number)
{
	for (size_t i = 0; i < *count; i++)
		if ((*set)[i] == number)
			return 0;
	uid_t *larger = realloc(*set, (*count + 1) * sizeof(uid_t));
	if (larger == NULL)
		return -ENOMEM;
	larger[(*count)++] = number;
	*set = larger;
	return 0;
}

static bool has(const uid_t *set, size_t count, uid_t number)
{
	for (size_t i = 0; i < count; i++)
		if (set[i] == number)
			return true;
	return false;
}

int admission_allow_uid(struct admission *admission, uid_t uid)
{
	return add(&admission->uids, &admission->uid_count, uid);
}

int admission_allow_gid(struct admission *admission, gid_t gid)
{
	return add(&admission->gids, &admission->gid_count, gid);
}

int admission_limit(struct admission *admission, unsigned int per_uid)
{
	if (admission->quota == NULL && per_uid != 0) {
		const int status = quota_new(&admission->quota);
		if (status != 0)
			return status;
	}
	admission->per_uid = per_uid;
	return 0;
}

static int look_for(const struct admission *admission, const gid_t *groups, socklen_t size)
{
	for (size_t i = 0; i < size / sizeof(gid_t); i++)
		if (has(admission->gids, admission->gid_count, groups[i]))
			return 0;
	return -EACCES;
}

/* More than usual: `size` is how large they are. They do not change any more. */
static int check_many_groups(const struct admission *admission, int fd, socklen_t size)
{
	gid_t *groups = malloc(size);
	if (groups == NULL)
		return -ENOMEM;
	int status = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) < 0 ? -errno : 0;
	if (status == 0)
		status = look_for(admission, groups, size);
	free(groups);
	return status;
}

static int check_groups(const struct admission *admission, int fd)
{
	gid_t groups[GROUPS_USUAL];
	socklen_t size = sizeof(groups);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0)
		return look_for(admission, groups, size);
	if (errno == ERANGE)
		return check_many_groups(admission, fd, size);
	return errno == ENOPROTOOPT ? -EACCES : -errno;
}

static int check_allowed(const struct admission *admission, int fd, const struct ucred *peer)
{
	if (admission->uid_count + admission->gid_count == 0 ||
	    has(admission->uids, admission->uid_count, peer->uid) ||
	    has(admission->gids, admission->gid_count, peer->gid))
		return 0;
	return admission->gid_count > 0 ? check_groups(admission, fd) : -EACCES;
}

int admission_ask(const struct admission *admission, int fd, struct ucred *peer,
                  struct quota_share **share)
{
	socklen_t length = sizeof(*peer);

	*share = NULL;
	*peer = (struct ucred){.uid = (uid_t)-1, .gid = (gid_t)-1};
	if (admission->uid_count + admission->gid_count == 0 && admission->quota == NULL)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, peer, &length) < 0)
		return -errno;
	const int status = check_allowed(admission, fd, peer);
	if (status != 0 || admission->quota == NULL)
		return status;
	return quota_take(admission->quota, peer->uid, admission->per_uid, share);
}

void admission_clear(struct admission *admission)
{
	free(admission->uids);
	free(admission->gids);
	quota_leave(admission->quota);
	*admission = (struct admission){0};
}
