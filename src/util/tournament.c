#include "util/tournament.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

enum { ROOM_MIN = 2 };

static const struct tournament_key none = {UINT64_MAX, UINT64_MAX};

/* Without a branch: which of the two wins cannot be predicted. */
static inline uint32_t winner_of(const struct tournament_entry *entries, uint32_t first,
                                 uint32_t second)
{
	const struct tournament_key one = entries[first].key, other = entries[second].key;
	const bool before =
	    (one.major < other.major) | ((one.major == other.major) & (one.minor < other.minor));

	return before ? first : second;
}

/* Follows a change of the entry up to the root. */
static void replay(struct tournament *tournament, uint32_t index)
{
	uint32_t *winners = tournament->winners, winner = index;

	for (uint32_t at = tournament->room + index; at > 1; at /= 2) {
		winner = winner_of(tournament->entries, winner, winners[at ^ 1]);
		winners[at / 2] = winner;
	}
}

int tournament_reserve(struct tournament *tournament, size_t count)
{
	uint32_t room = tournament->room == 0 ? ROOM_MIN : tournament->room;

	if (count <= tournament->room)
		return 0;
	while (room < count)
		room *= 2;
	struct tournament_entry *entries = realloc(tournament->entries, room * sizeof(*entries));
	if (entries == NULL)
		return -ENOMEM;
	tournament->entries = entries;
	uint32_t *winners = realloc(tournament->winners, (size_t)2 * room * sizeof(*winners));
	if (winners == NULL)
		return -ENOMEM;
	tournament->winners = winners;
	tournament->room = room;
	for (uint32_t i = tournament->count; i < room; i++)
		entries[i] = (struct tournament_entry){.key = none};
	for (uint32_t i = 0; i < room; i++)
		winners[room + i] = i;
	for (size_t i = room - 1; i > 0; i--)
		winners[i] = winner_of(entries, winners[2 * i], winners[2 * i + 1]);
	return 0;
}

void tournament_put(struct tournament *tournament, struct tournament_node *node,
                    struct tournament_key key)
{
	if (node->place == 0)
		node->place = ++tournament->count;
	tournament->entries[node->place - 1] = (struct tournament_entry){key, node};
	replay(tournament, node->place - 1);
}

/* The last one takes its place. */
void tournament_remove(struct tournament *tournament, struct tournament_node *node)
{
	if (node->place == 0)
		return;
	const uint32_t index = node->place - 1, last = --tournament->count;
	tournament->entries[index] = tournament->entries[last];
	tournament->entries[index].node->place = index + 1;
	tournament->entries[last] = (struct tournament_entry){.key = none};
	replay(tournament, index);
	replay(tournament, last);
	node->place = 0;
}

void tournament_clear(struct tournament *tournament)
{
	free(tournament->entries);
	free(tournament->winners);
	*tournament = (struct tournament){0};
}
