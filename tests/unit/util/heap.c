/* The heap finds its first item at once, and each change costs a number of comparisons that grows with the logarithm
 * of the count. */

#include <stdint.h>

#include "util/heap.h"

#include "test.h"

enum { ITEMS = 1000, LOGARITHM = 10, CHANGES = 20000 };

struct item {
	struct heap_node node; /* first: the node's address is the item's */
	uint32_t value;
};

static struct item items[ITEMS];
static struct heap heap;
static unsigned int comparisons;
static bool backwards;

static uint32_t value_of(const struct heap_node *node)
{
	return ((const struct item *)node)->value;
}

static bool is_less(const struct heap_node *first, const struct heap_node *second)
{
	comparisons++;
	return backwards ? value_of(first) > value_of(second) : value_of(first) < value_of(second);
}

static void fill(void)
{
	heap = (struct heap){.before = is_less};
	backwards = false;
	ck_assert_int_eq(heap_reserve(&heap, ITEMS), 0);
	for (unsigned int i = 0; i < ITEMS; i++) {
		items[i] = (struct item){.value = support_random_below(ITEMS / 2)}; /* some are equal */
		heap_add(&heap, &items[i].node);
	}
}

static void expect_in_order(void)
{
	unsigned int taken = 0;
	uint32_t last = 0;

	for (struct heap_node *first; (first = heap_first(&heap)) != NULL; taken++) {
		uint32_t value = value_of(first);
		ck_assert(taken == 0 || (backwards ? value <= last : value >= last));
		last = value;
		heap_remove(&heap, first);
		ck_assert_uint_eq(first->place, 0);
	}
	heap_clear(&heap);
}

TEST(items_come_in_order)
{
	fill();
	expect_in_order();
}

TEST(an_item_that_changes_finds_its_place)
{
	fill();
	for (unsigned int i = 0; i < CHANGES; i++) {
		struct item *item = &items[support_random_below(ITEMS)];
		item->value = support_random_below(ITEMS / 2);
		heap_update(&heap, &item->node);
	}
	expect_in_order();
}

TEST(any_item_can_be_removed)
{
	unsigned int left = ITEMS;

	fill();
	for (unsigned int i = 0; i < ITEMS; i += 1 + support_random_below(3)) {
		heap_remove(&heap, &items[i].node);
		heap_remove(&heap, &items[i].node); /* it is in no heap: nothing happens */
		left--;
	}
	ck_assert_uint_eq(heap.count, left);
	expect_in_order();
}

TEST(the_order_can_be_another)
{
	fill();
	backwards = true;
	heap_reorder(&heap);
	expect_in_order();
}

TEST(a_change_costs_the_logarithm_of_the_count)
{
	fill();
	for (unsigned int i = 0; i < CHANGES; i++) {
		struct item *item = &items[support_random_below(ITEMS)];
		item->value = support_random_below(ITEMS / 2);
		comparisons = 0;
		if (i % 2 == 0) {
			heap_update(&heap, &item->node);
		} else {
			heap_remove(&heap, &item->node);
			heap_add(&heap, &item->node);
		}
		ck_assert_uint_le(comparisons, 4 * LOGARITHM + 2);
	}
	heap_clear(&heap);
}

TEST(room_grows)
{
	heap = (struct heap){.before = is_less};
	for (unsigned int i = 0; i < ITEMS; i++) {
		ck_assert_int_eq(heap_reserve(&heap, i + 1), 0);
		items[i] = (struct item){.value = i};
		heap_add(&heap, &items[i].node);
	}
	expect_in_order();
	ck_assert_ptr_null(heap_first(&heap));
}
