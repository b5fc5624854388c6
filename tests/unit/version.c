#include "support.h"

#include <stdio.h>

#include "ferry/version.h"

START_TEST(library_and_headers_have_the_same_version)
{
	ck_assert_str_eq(ferry_version(), FERRY_VERSION);
}
END_TEST

START_TEST(version_string_is_made_of_the_three_numbers)
{
	char expected[32];
	snprintf(expected, sizeof(expected), "%d.%d.%d", FERRY_VERSION_MAJOR, FERRY_VERSION_MINOR,
	         FERRY_VERSION_PATCH);
	ck_assert_str_eq(FERRY_VERSION, expected);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("version");
	TCase *tcase = support_case(suite, "version");
	tcase_add_test(tcase, library_and_headers_have_the_same_version);
	tcase_add_test(tcase, version_string_is_made_of_the_three_numbers);
	return support_run(suite);
}
