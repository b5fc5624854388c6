/* The set of the channels' cookies: each is found while it is in the set, also after the table has grown. */

#include "handoff/cookies.h"

#include "test.h"

enum { NODES = 1000 };

static struct cookie_set set;
static struct cookie_node nodes[NODES];

static uint64_t cookie_number(unsigned int number)
{
	return 1 + (uint64_t)number * 0x10001;
}

TEST(a_cookie_is_found_while_it_is_there)
{
	ck_assert(!cookie_set_has(&set, 1));
	for (unsigned int i = 0; i < NODES; i++) {
		nodes[i].cookie = cookie_number(i);
		ck_assert_int_eq(cookie_set_reserve(&set), 0);
		cookie_set_add(&set, &nodes[i]);
	}
	ck_assert_uint_ge(set.bucket_count, NODES);
	for (unsigned int i = 0; i < NODES; i += 2)
		cookie_set_remove(&set, &nodes[i]);
	for (unsigned int i = 0; i < NODES; i++)
		ck_assert_int_eq(cookie_set_has(&set, cookie_number(i)), i % 2 == 1);
	ck_assert_uint_eq(set.count, NODES / 2);
	cookie_set_clear(&set);
	ck_assert(!cookie_set_has(&set, cookie_number(1)));
}

/* Before Linux 4.6 a socket has no cookie. Such channels are not the same socket. */
TEST(no_cookie_is_not_in_the_set)
{
	struct cookie_node none = {0};

	ck_assert_int_eq(cookie_set_reserve(&set), 0);
	cookie_set_add(&set, &none);
	ck_assert(!cookie_set_has(&set, 0));
	cookie_set_remove(&set, &none);
	cookie_set_clear(&set);
}
