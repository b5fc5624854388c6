#ifndef FERRY_TESTS_SUPPORT_TEST_H
#define FERRY_TESTS_SUPPORT_TEST_H

/* Tests over check. A test registers itself:
 *
 *     TEST(a_descriptor_arrives_no_later_than_its_byte)
 *     {
 *         arrange, act, assert
 *     }
 *
 * A program is made of one or more files of tests, and takes its main() from tests/support. The tests
 * run in the order in which they stand, with the fixture of support_case(). */

#include <check.h>

#include "support.h"

/* A test. LOOP_TEST runs it `count` times with `_i` from 0 on, LOOP_TEST_FROM with `_i` from `from` up to
 * `to` - 1; each run is a check of its own. */
#define TEST(sentence) LOOP_TEST_FROM(sentence, 0, 1)
#define LOOP_TEST(sentence, count) LOOP_TEST_FROM(sentence, 0, count)
#define LOOP_TEST_FROM(sentence, from, to)                                   \
	static void sentence(int _i);                                            \
	__attribute__((constructor)) static void register_##sentence(void)       \
	{                                                                        \
		static const TTest test = {#sentence, sentence, __FILE__, __LINE__}; \
		static struct registered_test registered = {.test = &test};          \
		register_test(&registered, (int)(from), (int)(to));                  \
	}                                                                        \
	static void sentence(int _i __attribute__((unused)))

/* The count of an array's elements, for a LOOP_TEST over it. */
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* TEST_CASE("name", set_up, tear_down); puts the tests below it, up to the next one in the same file, into
 * the case of that name (CK_RUN_CASE). Its fixture, which may be left out, runs inside that of support_case().
 * The tests above the first are in a case with the program's name. */
#define TEST_CASE(...) TEST_CASE_ON(__LINE__, __VA_ARGS__, NULL, NULL, NULL)
#define TEST_CASE_ON(at_line, ...) TEST_CASE_ON_LINE(at_line, __VA_ARGS__)
#define TEST_CASE_ON_LINE(at_line, case_name, before, after, ...)               \
	__attribute__((constructor)) static void register_test_case_##at_line(void) \
	{                                                                           \
		static struct registered_case registered = {.file = __FILE__,           \
		                                            .line = (at_line),          \
		                                            .name = (case_name),        \
		                                            .set_up = (before),         \
		                                            .tear_down = (after)};      \
		register_case(&registered);                                             \
	}                                                                           \
	struct registered_case

/* BEFORE_ALL { … } runs at the start of main(), with its `argc` and `argv`, before descriptors are counted. It
 * may end the program: exit(77) skips it. */
#define BEFORE_ALL                                                             \
	static void before_all(int argc, char **argv);                             \
	__attribute__((constructor)) static void register_before_all_of_file(void) \
	{                                                                          \
		register_before_all(before_all);                                       \
	}                                                                          \
	static void before_all(int argc __attribute__((unused)), char **argv __attribute__((unused)))

/* A test or a test case, as the macros register it. */
struct registered_case {
	const char *file;
	int line;
	const char *name;
	void (*set_up)(void);
	void (*tear_down)(void);
	TCase *tcase;
	struct registered_case *next;
};

struct registered_test {
	const TTest *test;
	int from, to;
	struct registered_test *next;
};

void register_test(struct registered_test *test, int from, int to);
void register_case(struct registered_case *test_case);
void register_before_all(void (*function)(int argc, char **argv));

#endif
