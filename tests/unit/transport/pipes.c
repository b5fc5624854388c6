/* A transport reads from one pipe and writes to another. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "closes.h"
#include "plain_link.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

static void make_two_pipes(int *read_fd, int *write_fd)
{
	int fds[2], back[2];
	make_pipe(fds);
	make_pipe(back);
	far_in = fds[0];
	far_out = back[1];
	*read_fd = back[0];
	*write_fd = fds[1];
}

TEST_CASE("pipes", NULL, check_closes);

/* _i: freed, aborted, closed, ended by the peer. */
LOOP_TEST(both_pipes_are_closed_once, 4)
{
	int read_fd, write_fd;
	make_two_pipes(&read_fd, &write_fd);
	recorder_open_pipes(&near, read_fd, write_fd, &recorder_no_half_close);
	ck_assert_int_eq(bufferevent_getfd(ferry_transport_get_bufferevent(near.transport)), read_fd);
	pump_turns(2);
	if (_i == 0)
		recorder_free_transport(&near);
	else if (_i == 1)
		ck_assert_int_eq(ferry_transport_abort_connection(near.transport), 0);
	else if (_i == 2)
		ck_assert_int_eq(ferry_transport_lose_connection(near.transport), 0);
	else
		close_plain_far();
	if (_i > 0)
		pump_until_lost(&near);
	pump_turns(3);
	ck_assert(!fd_is_open(read_fd));
	ck_assert(!fd_is_open(write_fd));

	/* Other files at the same numbers stay. */
	int low = make_marked_fd(1), marked = fcntl(low, F_DUPFD_CLOEXEC, 700);
	close(low);
	ck_assert_int_eq(dup3(marked, write_fd, O_CLOEXEC), write_fd);
	ck_assert_int_eq(dup3(marked, read_fd, O_CLOEXEC), read_fd);
	recorder_free_transport(&near);
	pump_turns(3);
	ck_assert(fd_is_open(read_fd));
	ck_assert(fd_is_open(write_fd));
	close(write_fd);
	close(read_fd);
	close(marked);
	close_plain_link();
}

LOOP_TEST(one_descriptor_may_serve_both_ways, 2)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	far_in = far_out = fds[1];
	recorder_open_pipes(&near, fds[0], fds[0], &recorder_no_half_close);
	pump_turns(2);
	write_text("out");
	expect_far_text("out");
	ck_assert_int_eq(write(far_out, "in", 2), 2);
	pump_until_length(&near, 2);
	if (_i == 0)
		ck_assert_int_eq(ferry_transport_lose_connection(near.transport), 0);
	else
		end_far_output();

	check_lost(0);

	ck_assert_int_eq(far_end(), 0);
	ck_assert(!fd_is_open(fds[0]));
	close_plain_link();
}

TEST(pipes_are_made_non_blocking)
{
	int in[2], out[2];
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	recorder_open_pipes(&near, in[0], out[1], &recorder_protocol);
	ck_assert_int_ne(fcntl(in[0], F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_ne(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
	far_out = in[1];
	far_in = out[0];
	close_plain_link();
}

/* A terminal is examined by an epoll of its own. */
TEST(a_terminal_can_be_a_pipe_if_a_slot_is_free_while_it_is_examined)
{
	int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	struct ferry_transport *transport;
	struct rlimit limit, none;

	ck_assert_int_ge(terminal, 0);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	ck_assert_int_eq(ferry_transport_new_pipes(&transport, base, terminal, terminal), -EMFILE);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_int_eq(ferry_transport_new_pipes(&transport, base, terminal, terminal), 0);
	ferry_transport_free(transport);
	pump_turns(3);
}

static void check_pipes_refused(int expected, int read_fd, int write_fd)
{
	struct ferry_transport *untouched = (struct ferry_transport *)&expected, *out = untouched;
	int read_flags = fcntl(read_fd, F_GETFL), write_flags = fcntl(write_fd, F_GETFL);
	ck_assert_int_eq(ferry_transport_new_pipes(&out, base, read_fd, write_fd), expected);
	ck_assert_ptr_eq(out, untouched);
	ck_assert_int_eq(fcntl(read_fd, F_GETFL), read_flags);
	ck_assert_int_eq(fcntl(write_fd, F_GETFL), write_flags);
}

TEST(pipes_that_will_not_do_are_refused_and_left_as_they_were)
{
	int in[2], out[2];
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	int file = make_file(10), directory = open("/", O_RDONLY | O_CLOEXEC);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct ferry_transport *transport;

	ck_assert_int_eq(ferry_transport_new_pipes(NULL, base, in[0], out[1]), -EINVAL);
	ck_assert_int_eq(ferry_transport_new_pipes(&transport, NULL, in[0], out[1]), -EINVAL);
	check_pipes_refused(-EINVAL, in[1], out[1]); /* the wrong ends */
	check_pipes_refused(-EINVAL, in[0], out[0]);
	check_pipes_refused(-EPERM, file, out[1]);
	check_pipes_refused(-EPERM, in[0], file);
	check_pipes_refused(-EPERM, directory, out[1]);
	check_pipes_refused(-EPERM, null, out[1]);
	check_pipes_refused(-EPERM, in[0], null);
	close(null);
	check_pipes_refused(-EBADF, -1, out[1]);
	check_pipes_refused(-EBADF, in[0], -1);
	close(file);
	check_pipes_refused(-EBADF, file, out[1]);
	check_pipes_refused(-EBADF, in[0], file);

	close(directory);
	close(in[0]);
	close(in[1]);
	close(out[0]);
	close(out[1]);
}

TEST(the_socket_of_pipes_cannot_be_changed)
{
	open_plain_link(LINK_PIPES);
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	ck_assert_int_eq(ferry_transport_set_socket(near.transport, fds[0]), -EINVAL);
	close(fds[0]);
	close(fds[1]);
	close_plain_link();
}
