/* What ferry_descriptor_inspect() says, beside what the test has made. */

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/descriptor.h"

#include "support.h"

START_TEST(what_is_not_open_is_refused)
{
	struct ferry_descriptor_info info;
	ck_assert_int_eq(ferry_descriptor_inspect(-1, &info), -EBADF);
	ck_assert_int_eq(ferry_descriptor_inspect(STDERR_FILENO, NULL), -EINVAL);
}
END_TEST

START_TEST(a_connected_socket)
{
	struct ferry_descriptor_info info;
	int ends[2];
	make_pair(PAIR_TCP, ends);
	ck_assert_int_eq(ferry_descriptor_inspect(ends[0], &info), 0);
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_SOCKET);
	ck_assert_int_eq(info.family, AF_INET);
	ck_assert(info.connected);
	close(ends[0]);
	close(ends[1]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("descriptor_inspect");
	TCase *inspect = support_case(suite, "inspect");
	tcase_add_test(inspect, what_is_not_open_is_refused);
	tcase_add_test(inspect, a_connected_socket);
	return support_run(suite);
}
