#include "endpoint/roster.h"

#include <errno.h>
#include <stdlib.h>

#include "endpoint/quota.h"
#include "transport/interface.h"

struct roster_entry {
	TAILQ_ENTRY(roster_entry) link;
	struct roster *roster; /* NULL: the listener is gone */
	struct ferry_transport *transport;
	struct quota_share *share; /* or NULL */
};

void roster_init(struct roster *roster)
{
	TAILQ_INIT(&roster->entries);
}

static void strike_off(struct roster *roster, struct roster_entry *entry)
{
	for (struct roster_walk *walk = roster->walks; walk != NULL; walk = walk->outer)
		if (walk->next == entry)
			walk->next = TAILQ_NEXT(entry, link);
	TAILQ_REMOVE(&roster->entries, entry, link);
	roster->count--;
}

/* The transport is freed. */
static void forget_entry(void *argument)
{
	struct roster_entry *entry = argument;

	if (entry->roster != NULL)
		strike_off(entry->roster, entry);
	if (entry->share != NULL)
		quota_give_back(entry->share);
	free(entry);
}

int roster_add(struct roster *roster, struct ferry_transport *transport, struct quota_share *share)
{
	struct roster_entry *entry = malloc(sizeof(*entry));
	if (entry == NULL)
		return -ENOMEM;
	*entry = (struct roster_entry){.roster = roster, .transport = transport, .share = share};
	TAILQ_INSERT_TAIL(&roster->entries, entry, link);
	roster->count++;
	transport_set_free_cb(transport, forget_entry, entry);
	return 0;
}

void roster_clear(struct roster *roster)
{
	struct roster_entry *entry;

	TAILQ_FOREACH (entry, &roster->entries, link)
		entry->roster = NULL;
	for (struct roster_walk *walk = roster->walks; walk != NULL; walk = walk->outer)
		walk->roster = NULL;
	roster_init(roster);
}

void roster_walk_begin(struct roster_walk *walk, struct roster *roster)
{
	*walk = (struct roster_walk){
	    .roster = roster, .next = TAILQ_FIRST(&roster->entries), .outer = roster->walks};
	roster->walks = walk;
}

struct ferry_transport *roster_walk_next(struct roster_walk *walk)
{
	struct roster_entry *entry = walk->next;

	if (walk->roster == NULL)
		return NULL;
	if (entry == NULL) {
		walk->roster->walks = walk->outer;
		return NULL;
	}
	walk->next = TAILQ_NEXT(entry, link);
	return entry->transport;
}
