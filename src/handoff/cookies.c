#include "handoff/cookies.h"

#include <errno.h>
#include <stdlib.h>

enum { BUCKETS_MIN = 16 };

/* Cookies are counted up, by each processor in its own part of the numbers. */
static struct cookie_node **find_bucket(const struct cookie_set *set, uint64_t cookie)
{
	uint64_t hash = cookie * UINT64_C(0x9e3779b97f4a7c15) >> 32;

	return &set->buckets[hash & (set->bucket_count - 1)];
}

static void insert(struct cookie_set *set, struct cookie_node *node)
{
	struct cookie_node **bucket = find_bucket(set, node->cookie);

	node->next = *bucket;
	*bucket = node;
}

/* Without memory for more buckets the lists become longer. */
int cookie_set_reserve(struct cookie_set *set)
{
	struct cookie_set old = *set;

	if (set->count < set->bucket_count)
		return 0;
	size_t bucket_count = old.bucket_count == 0 ? BUCKETS_MIN : old.bucket_count * 2;
	struct cookie_node **buckets = calloc(bucket_count, sizeof(struct cookie_node *));
	if (buckets == NULL)
		return old.bucket_count == 0 ? -ENOMEM : 0;
	set->buckets = buckets;
	set->bucket_count = bucket_count;
	for (size_t i = 0; i < old.bucket_count; i++) {
		struct cookie_node *node, *next;
		for (node = old.buckets[i]; node != NULL; node = next) {
			next = node->next;
			insert(set, node);
		}
	}
	free(old.buckets);
	return 0;
}

void cookie_set_add(struct cookie_set *set, struct cookie_node *node)
{
	if (node->cookie == 0)
		return;
	insert(set, node);
	set->count++;
}

void cookie_set_remove(struct cookie_set *set, struct cookie_node *node)
{
	if (node->cookie == 0)
		return;
	struct cookie_node **at = find_bucket(set, node->cookie);
	while (*at != node)
		at = &(*at)->next;
	*at = node->next;
	set->count--;
}

bool cookie_set_has(const struct cookie_set *set, uint64_t cookie)
{
	if (set->count == 0)
		return false;
	const struct cookie_node *node = *find_bucket(set, cookie);
	while (node != NULL && node->cookie != cookie)
		node = node->next;
	return node != NULL;
}

void cookie_set_clear(struct cookie_set *set)
{
	free(set->buckets);
	*set = (struct cookie_set){0};
}
