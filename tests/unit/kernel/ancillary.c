/* White-box: control messages that no kernel sends today, and the bounds of those that one does. */

#include "kernel/ancillary.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "closes.h"
#include "test.h"

#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

enum { MANY = ANCILLARY_MAX_FDS + 2 };

static union {
	struct cmsghdr align;
	unsigned char bytes[CMSG_SPACE(MANY * sizeof(int)) + 256];
} room;
static struct msghdr message;
static struct ancillary taken;

static void begin(void)
{
	memset(&room, 0, sizeof(room));
	memset(&taken, 0xff, sizeof(taken));
	message = (struct msghdr){.msg_control = room.bytes};
}

/* Appends a header that gives `length`, and these descriptors behind it, whatever it gives. */
static void put_at(int level, int type, size_t length, const int *fds, size_t count)
{
	struct cmsghdr header = {.cmsg_len = length, .cmsg_level = level, .cmsg_type = type};
	unsigned char *at = room.bytes + message.msg_controllen;

	message.msg_controllen += CMSG_SPACE(count * sizeof(int));
	ck_assert_uint_le(message.msg_controllen, sizeof(room));
	memcpy(at, &header, sizeof(header));
	if (count > 0)
		memcpy(at + CMSG_LEN(0), fds, count * sizeof(int));
}

static void put(int type, size_t length, const int *fds, size_t count)
{
	put_at(SOL_SOCKET, type, length, fds, count);
}

static int open_one(void)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void close_taken(void)
{
	for (unsigned int i = 0; i < taken.count; i++)
		close(taken.fds[i]);
}

TEST_CASE("control messages", NULL, check_closes);

TEST(a_pidfd_is_closed_and_descriptors_behind_it_are_taken)
{
	int pidfd = open_one(), fd = open_one();
	begin();
	put(SCM_PIDFD, CMSG_LEN(sizeof(int)), &pidfd, 1);
	put(SCM_RIGHTS, CMSG_LEN(sizeof(int)), &fd, 1);
	ancillary_take(&message, &taken);
	ck_assert(!fd_is_open(pidfd));
	ck_assert_uint_eq(taken.ignored, 1);
	ck_assert_uint_eq(taken.count, 1);
	ck_assert_int_eq(taken.fds[0], fd);
	ck_assert(!taken.truncated);
	close_taken();
}

TEST(a_pidfd_with_the_number_0_is_closed)
{
	int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3), other = open_one(), zero = 0;
	ck_assert_int_ge(saved, 0);
	ck_assert_int_eq(dup2(other, zero), zero);
	begin();
	put(SCM_PIDFD, CMSG_LEN(sizeof(int)), &zero, 1);
	ancillary_take(&message, &taken);
	ck_assert(!fd_is_open(zero));
	ck_assert_int_eq(dup2(saved, zero), zero);
	close(saved);
	close(other);
}

/* A kernel without a slot for the pidfd sends an errno in its place. */
TEST(a_pidfd_that_was_not_made_closes_nothing)
{
	begin();
	put(SCM_PIDFD, CMSG_LEN(sizeof(int)), &(int){-24}, 1);
	ancillary_take(&message, &taken);
	ck_assert_uint_eq(taken.ignored, 1);
	ck_assert_uint_eq(taken.count, 0);
}

/* _i: the bytes of it that arrived */
LOOP_TEST(a_part_of_a_pidfd_closes_nothing, sizeof(int))
{
	closes_forbid(STDIN_FILENO);
	begin();
	put(SCM_PIDFD, CMSG_LEN((size_t)_i), &(int){STDIN_FILENO}, 1);
	ancillary_take(&message, &taken);
	closes_permit(STDIN_FILENO);
	ck_assert(fd_is_open(STDIN_FILENO));
	ck_assert_uint_eq(taken.ignored, 1);
	ck_assert_uint_eq(taken.count, 0);
}

/* CMSG_NXTHDR() returns no header behind this one. What stands there is not read. */
LOOP_TEST(a_header_that_is_shorter_than_itself_has_no_descriptors, 2)
{
	begin();
	put(SCM_RIGHTS, _i == 0 ? 0 : CMSG_LEN(0) - 1, &(int){STDIN_FILENO}, 1);
	ancillary_take(&message, &taken);
	ck_assert_uint_eq(taken.count, 0);
	ck_assert_uint_eq(taken.ignored, 0);
}

TEST(a_length_beyond_the_buffer_ends_with_the_buffer)
{
	int fds[2] = {open_one(), open_one()};
	begin();
	put(SCM_RIGHTS, CMSG_LEN(100 * sizeof(int)), fds, 2);
	ancillary_take(&message, &taken);
	ck_assert_uint_eq(taken.count, 2);
	ck_assert_int_eq(taken.fds[0], fds[0]);
	ck_assert_int_eq(taken.fds[1], fds[1]);
	close_taken();
}

/* _i: as many as there is room for, one more */
LOOP_TEST(descriptors_without_room_are_closed_and_count_as_lost, 2)
{
	int fds[MANY];
	size_t count = ANCILLARY_MAX_FDS + 1 + (size_t)_i;
	for (size_t i = 0; i < count; i++)
		fds[i] = open_one();
	begin();
	put(SCM_RIGHTS, CMSG_LEN(count * sizeof(int)), fds, count);
	ancillary_take(&message, &taken);
	ck_assert_uint_eq(taken.count, ANCILLARY_MAX_FDS + 1);
	ck_assert_int_eq(taken.fds[ANCILLARY_MAX_FDS], fds[ANCILLARY_MAX_FDS]);
	ck_assert(taken.truncated == (_i == 1));
	ck_assert(_i == 0 || !fd_is_open(fds[ANCILLARY_MAX_FDS + 1]));
	close_taken();
}

TEST(truncation_that_the_kernel_reports_is_told)
{
	begin();
	message.msg_flags = MSG_CTRUNC;
	ancillary_take(&message, &taken);
	ck_assert(taken.truncated);
	ck_assert_uint_eq(taken.count, 0);
	ck_assert_uint_eq(taken.ignored, 0);
}

TEST(another_control_message_is_no_pidfd)
{
	closes_forbid(STDIN_FILENO);
	begin();
	put(SCM_CREDENTIALS, CMSG_LEN(sizeof(int)), &(int){STDIN_FILENO}, 1);
	ancillary_take(&message, &taken);
	closes_permit(STDIN_FILENO);
	ck_assert(fd_is_open(STDIN_FILENO));
	ck_assert_uint_eq(taken.ignored, 1);
}

/* Another protocol gives the numbers of both types another meaning. */
LOOP_TEST(the_same_type_at_another_level_has_no_descriptors, 2)
{
	closes_forbid(STDIN_FILENO);
	begin();
	put_at(IPPROTO_IP, _i == 0 ? SCM_RIGHTS : SCM_PIDFD, CMSG_LEN(sizeof(int)),
	       &(int){STDIN_FILENO}, 1);
	ancillary_take(&message, &taken);
	closes_permit(STDIN_FILENO);
	ck_assert(fd_is_open(STDIN_FILENO));
	ck_assert_uint_eq(taken.ignored, 1);
	ck_assert_uint_eq(taken.count, 0);
}
