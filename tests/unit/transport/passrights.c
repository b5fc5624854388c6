/* If the receiver refuses descriptors, the sender's call fails for good, and trying again is of no use. Linux 6.16
 * and later; skipped before. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

enum { SKIPPED = 77 };

static int refuse_descriptors(int socket)
{
	int zero = 0;
	return setsockopt(socket, SOL_SOCKET, SO_PASSRIGHTS, &zero, sizeof(zero)) == 0 ? 0 : -errno;
}

TEST(sending_to_a_socket_that_refuses_descriptors_fails_with_eperm)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	int fd = make_marked_fd(1);
	ck_assert_int_eq(refuse_descriptors(ends[1]), 0);

	ck_assert_int_eq(wire_send(ends[0], "x", 1, &fd, 1), -EPERM);

	ck_assert_int_eq(wire_send(ends[0], "x", 1, NULL, 0), 1);
	close(fd);
	close(ends[0]);
	close(ends[1]);
}

TEST(a_transport_whose_peer_refuses_descriptors_is_lost_with_eperm)
{
	int ends[2];
	struct recorder sender;
	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(refuse_descriptors(ends[1]), 0);
	recorder_open(&sender, ends[0], &recorder_protocol);
	int fd = make_marked_fd(1);
	ck_assert_int_eq(ferry_transport_write(sender.transport, "before", 6), 0);
	ck_assert_int_eq(ferry_transport_send_fd(sender.transport, fd, FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_transport_write(sender.transport, "with", 4), 0);

	pump_until_lost(&sender);

	ck_assert_int_eq(sender.reason, -EPERM);
	ck_assert(!fd_is_open(fd));
	ck_assert_uint_eq(stats_of(sender.transport).fds_unsent, 1);
	ck_assert_uint_eq(stats_of(sender.transport).send_retries, 0);
	char buffer[16];
	ck_assert_int_eq(read(ends[1], buffer, sizeof(buffer)), 6);
	recorder_close(&sender);
	close(ends[1]);
}

static int kernel_support(void)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
		return -errno;
	int status = refuse_descriptors(ends[1]);
	close(ends[0]);
	close(ends[1]);
	return status;
}

BEFORE_ALL
{
	if (kernel_support() == -ENOPROTOOPT) {
		puts("SKIPPED: this kernel has no SO_PASSRIGHTS");
		exit(SKIPPED);
	}
}
