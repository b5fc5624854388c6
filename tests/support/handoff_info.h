#ifndef FERRY_TESTS_HANDOFF_INFO_H
#define FERRY_TESTS_HANDOFF_INFO_H

#include <check.h>

#include "ferry/handoff.h"

/* The properties of a handoff, by value: handoff_info(handoff).id. */
static inline struct ferry_handoff_info handoff_info(const struct ferry_handoff *handoff)
{
	struct ferry_handoff_info info;

	ck_assert_int_eq(ferry_handoff_get_info(handoff, &info), 0);
	return info;
}

#endif
