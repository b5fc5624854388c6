#include "endpoint/quota.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/* A hash table of users. It doubles when each bucket has one share on average, and never shrinks. */

enum { BUCKETS_MIN = 16 };

struct quota_share {
	struct quota *quota;
	struct quota_share *next; /* of its bucket */
	uid_t uid;
	unsigned int connections;
};

struct quota {
	struct quota_share **buckets;
	size_t bucket_count; /* a power of two */
	size_t share_count;
	bool left;
};

/* The upper bits of a product decide: user ids of containers differ in their upper halves only. */
static struct quota_share **bucket_of(struct quota_share **buckets, size_t count, uid_t uid)
{
	const uint64_t product = (uint64_t)uid * UINT64_C(0x9e3779b97f4a7c15);

	return &buckets[(product >> 32) & (count - 1)];
}

int quota_new(struct quota **out)
{
	struct quota *quota = calloc(1, sizeof(*quota));
	if (quota == NULL)
		return -ENOMEM;
	quota->buckets = calloc(BUCKETS_MIN, sizeof(struct quota_share *));
	if (quota->buckets == NULL) {
		free(quota);
		return -ENOMEM;
	}
	quota->bucket_count = BUCKETS_MIN;
	*out = quota;
	return 0;
}

/* If memory is short, the chains get longer, and nothing else happens. */
static void grow_buckets(struct quota *quota)
{
	const size_t count = 2 * quota->bucket_count;
	struct quota_share **buckets = calloc(count, sizeof(struct quota_share *));
	if (buckets == NULL)
		return;
	for (size_t i = 0; i < quota->bucket_count; i++) {
		struct quota_share *share = quota->buckets[i];
		while (share != NULL) {
			struct quota_share *next = share->next;
			struct quota_share **bucket = bucket_of(buckets, count, share->uid);
			share->next = *bucket;
			*bucket = share;
			share = next;
		}
	}
	free(quota->buckets);
	quota->buckets = buckets;
	quota->bucket_count = count;
}

static int insert_share(struct quota *quota, uid_t uid, struct quota_share **out)
{
	struct quota_share *share = calloc(1, sizeof(*share));
	if (share == NULL)
		return -ENOMEM;
	if (quota->share_count == quota->bucket_count)
		grow_buckets(quota);
	struct quota_share **bucket = bucket_of(quota->buckets, quota->bucket_count, uid);
	*share = (struct quota_share){.quota = quota, .next = *bucket, .uid = uid, .connections = 1};
	*bucket = share;
	quota->share_count++;
	*out = share;
	return 0;
}

int quota_take(struct quota *quota, uid_t uid, unsigned int limit, struct quota_share **out)
{
	struct quota_share *share = *bucket_of(quota->buckets, quota->bucket_count, uid);

	while (share != NULL && share->uid != uid)
		share = share->next;
	if (share == NULL)
		return insert_share(quota, uid, out);
	if (limit != 0 && share->connections >= limit)
		return -EDQUOT;
	share->connections++;
	*out = share;
	return 0;
}

static void free_if_unused(struct quota *quota)
{
	if (!quota->left || quota->share_count > 0)
		return;
	free(quota->buckets);
	free(quota);
}

void quota_give_back(void *argument)
{
	struct quota_share *share = argument;
	struct quota *quota = share->quota;

	if (--share->connections > 0)
		return;
	struct quota_share **link = bucket_of(quota->buckets, quota->bucket_count, share->uid);
	while (*link != share)
		link = &(*link)->next;
	*link = share->next;
	free(share);
	quota->share_count--;
	free_if_unused(quota);
}

void quota_leave(struct quota *quota)
{
	if (quota == NULL)
		return;
	quota->left = true;
	free_if_unused(quota);
}
