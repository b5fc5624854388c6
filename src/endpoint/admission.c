#include "endpoint/admission.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "kernel/socket.h"

/* The kernel records the credentials of a process when that calls connect(2); they stay the same if the process
 * changes its user later. SO_PEERCRED has the effective group, SO_PEERGROUPS (Linux 4.13) the supplementary
 * groups. Most processes have a few of these, some have thousands. */

enum { GROUPS_USUAL = 64 };

/* uid_t and gid_t are one type on Linux. */
static int insert_id(uid_t **ids, size_t *count, uid_t id)
{
	for (size_t i = 0; i < *count; i++)
		if ((*ids)[i] == id)
			return 0;
	uid_t *larger = realloc(*ids, (*count + 1) * sizeof(uid_t));
	if (larger == NULL)
		return -ENOMEM;
	larger[(*count)++] = id;
	*ids = larger;
	return 0;
}

static bool has_id(const uid_t *ids, size_t count, uid_t id)
{
	for (size_t i = 0; i < count; i++)
		if (ids[i] == id)
			return true;
	return false;
}

int admission_allow_uid(struct admission *admission, uid_t uid)
{
	return insert_id(&admission->uids, &admission->uid_count, uid);
}

int admission_allow_gid(struct admission *admission, gid_t gid)
{
	return insert_id(&admission->gids, &admission->gid_count, gid);
}

int admission_set_limit(struct admission *admission, unsigned int per_uid)
{
	if (admission->quota == NULL && per_uid != 0) {
		const int status = quota_new(&admission->quota);
		if (status != 0)
			return status;
	}
	admission->per_uid = per_uid;
	return 0;
}

static int match_groups(const struct admission *admission, const gid_t *groups, socklen_t size)
{
	for (size_t i = 0; i < size / sizeof(gid_t); i++)
		if (has_id(admission->gids, admission->gid_count, groups[i]))
			return 0;
	return -EACCES;
}

/* The process has more groups than usual: `size` bytes, a number that does not change any more. */
static int check_many_groups(const struct admission *admission, int fd, socklen_t size)
{
	gid_t *groups = malloc(size);
	if (groups == NULL)
		return -ENOMEM;
	int status = socket_get_peer_groups(fd, groups, &size);
	if (status == 0)
		status = match_groups(admission, groups, size);
	free(groups);
	return status;
}

static int check_groups(const struct admission *admission, int fd)
{
	gid_t groups[GROUPS_USUAL];
	socklen_t size = sizeof(groups);
	const int status = socket_get_peer_groups(fd, groups, &size);

	switch (status) {
	case 0:
		return match_groups(admission, groups, size);
	case -ERANGE:
		return check_many_groups(admission, fd, size);
	case -ENOPROTOOPT:
		return -EACCES;
	default:
		return status;
	}
}

static int check_allowed(const struct admission *admission, int fd, const struct ucred *peer)
{
	if (admission->uid_count + admission->gid_count == 0 ||
	    has_id(admission->uids, admission->uid_count, peer->uid) ||
	    has_id(admission->gids, admission->gid_count, peer->gid))
		return 0;
	return admission->gid_count > 0 ? check_groups(admission, fd) : -EACCES;
}

int admission_check(const struct admission *admission, int fd, struct ucred *peer,
                    struct quota_share **share)
{
	*share = NULL;
	*peer = (struct ucred){.uid = (uid_t)-1, .gid = (gid_t)-1};
	if (admission->uid_count + admission->gid_count == 0 && admission->quota == NULL)
		return 0;
	int status = socket_get_peer(fd, peer);
	if (status == 0)
		status = check_allowed(admission, fd, peer);
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
