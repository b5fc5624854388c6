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
