/* main() of the test programs: makes a suite of the tests that have registered themselves, and runs it.
 *
 * The compiler may run the constructors of a file in any order. Tests are therefore sorted by file and line, and
 * the case of a test is the last above its line. */

#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BEFORE_ALL_MAX = 4 };

static struct registered_test *tests;
static struct registered_case *cases;
static void (*before_all[BEFORE_ALL_MAX])(int argc, char **argv);
static int before_all_count;

static bool stands_before(const char *file, int line, const char *other_file, int other_line)
{
	int order = strcmp(file, other_file);
	return order < 0 || (order == 0 && line < other_line);
}

void register_test(struct registered_test *test, int from, int to)
{
	test->from = from;
	test->to = to;
	struct registered_test **at = &tests;
	while (*at != NULL &&
	       stands_before((*at)->test->file, (*at)->test->line, test->test->file, test->test->line))
		at = &(*at)->next;
	test->next = *at;
	*at = test;
}

void register_case(struct registered_case *test_case)
{
	test_case->next = cases;
	cases = test_case;
}

void register_before_all(void (*function)(int argc, char **argv))
{
	if (before_all_count == BEFORE_ALL_MAX)
		abort();
	before_all[before_all_count++] = function;
}

static struct registered_case *case_of(const TTest *test)
{
	struct registered_case *found = NULL;
	for (struct registered_case *one = cases; one != NULL; one = one->next)
		if (strcmp(one->file, test->file) == 0 && one->line < test->line &&
		    (found == NULL || found->line < one->line))
			found = one;
	return found;
}

/* A case may be continued further down, or in another file: check knows one by its name. */
static TCase *made_before(const struct registered_case *wanted)
{
	for (struct registered_case *one = cases; one != NULL; one = one->next)
		if (one->tcase != NULL && strcmp(one->name, wanted->name) == 0 &&
		    one->set_up == wanted->set_up && one->tear_down == wanted->tear_down)
			return one->tcase;
	return NULL;
}

static TCase *make_case(Suite *suite, struct registered_case *test_case)
{
	if (test_case->tcase == NULL)
		test_case->tcase = made_before(test_case);
	if (test_case->tcase != NULL)
		return test_case->tcase;
	test_case->tcase = support_case(suite, test_case->name);
	if (test_case->set_up != NULL || test_case->tear_down != NULL)
		tcase_add_checked_fixture(test_case->tcase, test_case->set_up, test_case->tear_down);
	return test_case->tcase;
}

int main(int argc, char **argv)
{
	for (int i = 0; i < before_all_count; i++)
		before_all[i](argc, argv);

	Suite *suite = suite_create(program_invocation_short_name);
	static struct registered_case no_case;
	no_case.name = program_invocation_short_name;
	for (const struct registered_test *test = tests; test != NULL; test = test->next) {
		struct registered_case *test_case = case_of(test->test);
		TCase *tcase = make_case(suite, test_case != NULL ? test_case : &no_case);
		tcase_add_loop_test(tcase, test->test, test->from, test->to);
	}
	return support_run(suite);
}
