/* White-box: many descriptors are checked, or closed, in one system call. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "closes.h"
#include "kernel/fds.h"
#include "test.h"
#include "wire.h"

static int own[2]; /* the socket with the cookie, and its peer */
static uint64_t cookie;

static void open_own(void)
{
	make_pair(PAIR_UNIX, own);
	ck_assert_int_eq(
	    getsockopt(own[0], SOL_SOCKET, SO_COOKIE, &cookie, &(socklen_t){sizeof(cookie)}), 0);
}

static void close_own(void)
{
	close(own[0]);
	close(own[1]);
}

static void fill_own(void)
{
	static char bytes[65536];

	while (send(own[0], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		continue;
	ck_assert_int_eq(errno, EAGAIN);
}

/* Every kind of descriptor that is open and not the socket. Returns how many. */
static unsigned int open_kinds(int fds[16])
{
	unsigned int count = 0;

	fds[count++] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	fds[count++] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fds[count++] = open("/", O_PATH | O_CLOEXEC);
	fds[count++] = make_file(1);
	fds[count++] = eventfd(0, EFD_CLOEXEC);
	fds[count++] = epoll_create1(EPOLL_CLOEXEC);
	make_pipe(fds + count);
	count += 2;
	make_pair(PAIR_TCP, fds + count);
	count += 2;
	make_pair(PAIR_UNIX, fds + count);
	count += 2;
	fds[count++] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return count;
}

TEST_CASE("checking", open_own, close_own);

TEST(open_descriptors_of_every_kind_pass)
{
	int fds[16];
	unsigned int count = open_kinds(fds);

	for (unsigned int i = 0; i < count; i++)
		ck_assert_int_eq(fds_check(fds + i, 1, cookie), 0);
	ck_assert_int_eq(fds_check(fds, count, cookie), 0);
	ck_assert_int_eq(fds_check(fds, count, 0), 0);
	fds_close(fds, count);
}

/* _i: the place of one that is not open. */
LOOP_TEST(one_that_is_not_open_is_found_in_each_place, 16)
{
	int fds[16];
	unsigned int count = open_kinds(fds), place = (unsigned int)_i % count;
	int open_one = fds[place];

	fds[place] = 1000000;
	ck_assert_int_eq(fds_check(fds, count, cookie), -EBADF);
	ck_assert_int_eq(fds_check(fds + place, 1, cookie), -EBADF);
	fds[place] = -1;
	ck_assert_int_eq(fds_check(fds, count, cookie), -EBADF);
	ck_assert_int_eq(fds_check(fds + place, 1, cookie), -EBADF);
	fds[place] = open_one;
	fds_close(fds, count);
}

/* _i: 0 there is room in the socket, 1 it is full, 2 its peer has closed, 3 it is shut down */
LOOP_TEST(the_socket_and_its_copies_are_found, 4)
{
	int fds[16];
	unsigned int count = open_kinds(fds);

	if (_i == 1)
		fill_own();
	else if (_i == 2)
		ck_assert_int_eq(shutdown(own[1], SHUT_RDWR), 0);
	else if (_i == 3)
		ck_assert_int_eq(shutdown(own[0], SHUT_RDWR), 0);
	fds[count] = fcntl(own[0], F_DUPFD_CLOEXEC, 0);
	ck_assert_int_eq(fds_check(fds, count + 1, cookie), -ELOOP);
	ck_assert_int_eq(fds_check(fds, count + 1, 0), 0);
	ck_assert_int_eq(fds_check((int[]){fds[0], own[0]}, 2, cookie), -ELOOP);
	ck_assert_int_eq(fds_check(&own[0], 1, cookie), -ELOOP);
	ck_assert_int_eq(fds_check(&own[1], 1, cookie), 0);
	fds_close(fds, count + 1);
}

TEST(a_limit_below_the_number_of_descriptors_changes_nothing)
{
	struct rlimit limit, low;
	int fds[20];
	for (int i = 0; i < 20; i++)
		fds[i] = fcntl(own[1], F_DUPFD_CLOEXEC, 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	low = limit;
	low.rlim_cur = 5;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);

	int all = fds_check(fds, 20, cookie);
	int missing = fds_check((int[]){fds[0], 1000000, fds[1], fds[2], fds[3], fds[4]}, 6, cookie);
	int found = fds_check((int[]){fds[0], own[0], fds[1], fds[2], fds[3], fds[4]}, 6, cookie);

	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_int_eq(all, 0);
	ck_assert_int_eq(missing, -EBADF);
	ck_assert_int_eq(found, -ELOOP);
	fds_close(fds, 20);
}

TEST_CASE("closing", open_own, close_own);

/* From this number on no other descriptor is open. */
enum { FIRST = 400 };

static void open_at(int number)
{
	ck_assert_int_eq(dup3(own[0], number, O_CLOEXEC), number);
}

TEST(consecutive_numbers_are_closed_in_one_call)
{
	int fds[100];
	for (int i = 0; i < 100; i++) {
		fds[i] = FIRST + i;
		open_at(fds[i]);
	}
	unsigned int before = count_closed_ranges();
	ck_assert_uint_eq(fds_close(fds, 100), 100);
	ck_assert_uint_eq(count_closed_ranges() - before, 1);
	for (int i = 0; i < 100; i++)
		ck_assert(!fd_is_open(fds[i]));
	check_closes();
}

TEST(numbers_between_and_beside_stay_open)
{
	static const int fds[] = {FIRST + 1, FIRST + 2,  FIRST + 4, -1, FIRST + 5, FIRST + 6,
	                          FIRST + 8, FIRST + 12, -1,        -1, FIRST + 11};
	enum { COUNT = sizeof(fds) / sizeof(fds[0]), NUMBERS = 14 };
	bool closes[NUMBERS] = {false};

	for (int i = 0; i < COUNT; i++)
		if (fds[i] >= 0)
			closes[fds[i] - FIRST] = true;
	for (int i = 0; i < NUMBERS; i++) {
		open_at(FIRST + i);
		if (!closes[i])
			closes_forbid(FIRST + i);
	}

	ck_assert_uint_eq(fds_close(fds, COUNT), 8);

	for (int i = 0; i < NUMBERS; i++) {
		ck_assert_int_eq(fd_is_open(FIRST + i), !closes[i]);
		closes_permit(FIRST + i);
		if (!closes[i])
			close(FIRST + i);
	}
	check_closes();
}

TEST(none_is_no_call)
{
	const int fds[] = {-1, -1};
	unsigned int before = count_closed_ranges();
	ck_assert_uint_eq(fds_close(fds, 2), 0);
	ck_assert_uint_eq(fds_close(NULL, 0), 0);
	ck_assert_uint_eq(count_closed_ranges(), before);
}
