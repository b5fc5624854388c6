/* The tournament finds its first item at once, and a change moves one other item at most. */

#include <stdint.h>

#include "util/tournament.h"

#include "test.h"

enum { ITEMS = 1000, CHANGES = 20000 };

struct item {
	struct tournament_node node; /* first: the node's address is the item's */
	struct tournament_key key;
};

static struct item items[ITEMS];
static struct tournament tournament;

static bool is_less(struct tournament_key first, struct tournament_key second)
{
	return first.major < second.major ||
	       (first.major == second.major && first.minor < second.minor);
}

/* Some keys are equal, and some in one half. */
static void put_anywhere(struct item *item)
{
	item->key = (struct tournament_key){support_random_below(30), support_random_below(30)};
	tournament_put(&tournament, &item->node, item->key);
}

static void fill(void)
{
	tournament = (struct tournament){0};
	ck_assert_int_eq(tournament_reserve(&tournament, ITEMS), 0);
	for (unsigned int i = 0; i < ITEMS; i++) {
		items[i] = (struct item){0};
		put_anywhere(&items[i]);
	}
	ck_assert_uint_eq(tournament.count, ITEMS);
}

static void expect_in_order(void)
{
	struct tournament_key last = {0};

	for (struct tournament_node *first; (first = tournament_first(&tournament)) != NULL;) {
		const struct tournament_key key = ((const struct item *)first)->key;
		ck_assert(!is_less(key, last));
		last = key;
		tournament_remove(&tournament, first);
		ck_assert_uint_eq(first->place, 0);
	}
	tournament_clear(&tournament);
}

TEST(items_come_in_order)
{
	fill();
	expect_in_order();
}

TEST(an_item_that_changes_finds_its_place)
{
	fill();
	for (unsigned int i = 0; i < CHANGES; i++)
		put_anywhere(&items[support_random_below(ITEMS)]);
	expect_in_order();
}

TEST(any_item_can_be_removed)
{
	unsigned int left = ITEMS;

	fill();
	for (unsigned int i = 0; i < ITEMS; i += 1 + support_random_below(3)) {
		tournament_remove(&tournament, &items[i].node);
		tournament_remove(&tournament, &items[i].node); /* it is in none: nothing happens */
		left--;
	}
	ck_assert_uint_eq(tournament.count, left);
	expect_in_order();
}

static unsigned int count_moved(const size_t places[ITEMS])
{
	unsigned int moved = 0;

	for (unsigned int i = 0; i < ITEMS; i++)
		moved += items[i].node.place != places[i];
	return moved;
}

TEST(a_change_moves_one_other_at_most)
{
	size_t places[ITEMS];

	fill();
	for (unsigned int i = 0; i < ITEMS; i++) {
		struct item *item = &items[support_random_below(ITEMS)];
		for (unsigned int j = 0; j < ITEMS; j++)
			places[j] = items[j].node.place;
		put_anywhere(item);
		ck_assert_uint_eq(count_moved(places), 0);
		tournament_remove(&tournament, &item->node);
		ck_assert_uint_le(count_moved(places), 2);
		put_anywhere(item);
	}
	tournament_clear(&tournament);
}

TEST(room_grows)
{
	tournament = (struct tournament){0};
	for (unsigned int i = 0; i < ITEMS; i++) {
		ck_assert_int_eq(tournament_reserve(&tournament, i + 1), 0);
		items[i] = (struct item){0};
		put_anywhere(&items[i]);
	}
	expect_in_order();
	ck_assert_ptr_null(tournament_first(&tournament));
}
