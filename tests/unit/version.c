/* The version of the headers is that of the library. */

#include "test.h"

#include <stdio.h>

#include "ferry/version.h"

TEST(library_and_headers_have_the_same_version)
{
	ck_assert_str_eq(ferry_version(), FERRY_VERSION);
}

TEST(version_string_is_made_of_the_three_numbers)
{
	char expected[32];
	snprintf(expected, sizeof(expected), "%d.%d.%d", FERRY_VERSION_MAJOR, FERRY_VERSION_MINOR,
	         FERRY_VERSION_PATCH);
	ck_assert_str_eq(FERRY_VERSION, expected);
}

#if FERRY_VERSION_NUMBER < 0x00010000 || FERRY_VERSION_NUMBER >= 0x01000000
#error "the preprocessor cannot compare FERRY_VERSION_NUMBER"
#endif

TEST(version_number_has_one_byte_for_each_of_the_three)
{
	ck_assert_int_eq(FERRY_VERSION_NUMBER >> 24, FERRY_VERSION_MAJOR);
	ck_assert_int_eq(FERRY_VERSION_NUMBER >> 16 & 0xff, FERRY_VERSION_MINOR);
	ck_assert_int_eq(FERRY_VERSION_NUMBER >> 8 & 0xff, FERRY_VERSION_PATCH);
	ck_assert_int_eq(FERRY_VERSION_NUMBER & 0xff, 0);
}
