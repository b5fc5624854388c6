/* Bad arguments, a descriptor limit that is too low, and a channel over a transport that exists already. */

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "ferry/testing.h"
#include "poll_log.h"
#include "test.h"
#include "wire.h"

TEST_CASE("a transport");

TEST(a_transport_becomes_a_channel)
{
	struct ferry_testing *testing;

	open_poller();
	ck_assert_int_eq(ferry_testing_new(&testing, ferry_poller_get_base(poller)), 0);
	struct ferry_transport *transport = ferry_testing_get_transport(testing);
	ck_assert_int_eq(ferry_channel_new_transport(&channel, poller, transport), 0);
	ck_assert_ptr_eq(ferry_channel_get_transport(channel), transport);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, 100), 0);
	ck_assert_int_eq(ferry_testing_put(testing, "early\n", 6), 0);
	ck_assert_int_eq(ferry_testing_pump(testing), 0);
	ck_assert_int_eq(poll_now(), -ENOENT);
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	poll_until_events("[early]");
	ck_assert_int_eq(ferry_testing_set_full(testing, true), 0);
	ck_assert_int_eq(ferry_channel_write(channel, "answer", 6), 0);
	ck_assert_int_eq(ferry_channel_flush(channel, &at_once), -ETIMEDOUT);
	ck_assert_int_eq(ferry_testing_set_full(testing, false), 0);
	ck_assert_int_eq(ferry_channel_flush(channel, NULL), 0);
	ck_assert_int_eq(ferry_testing_pump(testing), 0);
	ck_assert_uint_eq(evbuffer_get_length(ferry_testing_get_written(testing)), 6);
	ck_assert_int_eq(ferry_testing_put(testing, "end", 3), 0);
	ck_assert_int_eq(ferry_testing_put_eof(testing), 0);
	poll_until_events("(end)X0");
	ferry_testing_free(testing);
	close_poller();
}

TEST_CASE("arguments");

TEST(bad_arguments_change_nothing)
{
	const struct timeval past = {.tv_sec = -1}, odd = {.tv_usec = 1000000};
	struct ferry_channel *made = NULL;
	struct ferry_poller *other;
	int fds[2], file = make_file(1);

	open_channel(PAIR_UNIX);
	make_pipe(fds);
	ck_assert_int_eq(ferry_poller_new(NULL), -EINVAL);
	ck_assert_int_eq(ferry_poller_new(&other), 0);
	ck_assert_int_eq(ferry_poller_register(NULL, channel), -EINVAL);
	ck_assert_int_eq(ferry_poller_register(poller, NULL), -EINVAL);
	ck_assert_int_eq(ferry_poller_register(other, channel), -EINVAL);
	ck_assert_int_eq(ferry_poller_unregister(NULL, channel), -EINVAL);
	ck_assert_int_eq(ferry_poller_unregister(poller, NULL), -EINVAL);
	ck_assert_int_eq(ferry_poller_unregister(other, channel), -EINVAL);
	ck_assert_int_eq(ferry_poller_poll(NULL, NULL, events, 1), -EINVAL);
	ck_assert_int_eq(ferry_poller_poll(poller, NULL, NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_poller_poll(poller, NULL, events, 0), -EINVAL);
	ck_assert_int_eq(ferry_poller_poll(poller, NULL, events, -1), -EINVAL);
	ck_assert_int_eq(ferry_poller_poll(poller, &past, events, 1), -EINVAL);
	ck_assert_int_eq(ferry_poller_poll(poller, &odd, events, 1), -EINVAL);
	ck_assert_int_eq(ferry_poller_steal_fd(NULL, events), -EINVAL);
	ck_assert_int_eq(ferry_poller_steal_fd(poller, NULL), -EINVAL);
	ck_assert_int_eq(ferry_poller_interrupt(NULL), -EINVAL);
	ck_assert_int_eq(ferry_poller_close_all(NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_poller_close_all(poller, &past), -EINVAL);
	ck_assert_ptr_null(ferry_poller_get_base(NULL));

	ck_assert_int_eq(ferry_poller_add_server(&made, NULL, peer), -EINVAL);
	ck_assert_int_eq(ferry_poller_add_server(&made, poller, peer), -EINVAL);
	ck_assert_int_eq(ferry_poller_add_server(&made, poller, -1), -EBADF);
	ck_assert_int_eq(ferry_poller_add_server(&made, poller, fds[0]), -ENOTSOCK);
	ck_assert_int_eq(ferry_poller_add_server(NULL, NULL, peer), -EINVAL);
	ck_assert_int_eq(ferry_poller_add_server(NULL, poller, peer), -EINVAL);
	ck_assert_int_eq(ferry_poller_add_server(NULL, poller, -1), -EBADF);

	ck_assert_int_eq(ferry_channel_new_socket(NULL, poller, peer), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_socket(&made, NULL, peer), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_socket(&made, poller, -1), -EBADF);
	ck_assert_int_eq(ferry_channel_new_socket(&made, poller, fds[0]), -ENOTSOCK);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(ferry_channel_new_pipes(NULL, poller, fds[0], fds[1]), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, NULL, fds[0], fds[1]), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, -1, -1), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, -2, fds[1]), -EBADF);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, fds[1], fds[0]), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, fds[1], -1), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, -1, fds[0]), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, file, fds[1]), -EPERM);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, null, fds[1]), -EPERM);
	ck_assert_int_eq(ferry_channel_new_pipes(&made, poller, -1, null), -EPERM);
	close(null);
	ck_assert_int_eq(
	    ferry_channel_new_transport(NULL, poller, ferry_channel_get_transport(channel)), -EINVAL);
	ck_assert_int_eq(ferry_channel_new_transport(&made, poller, NULL), -EINVAL);
	ck_assert_int_eq(
	    ferry_channel_new_transport(&made, other, ferry_channel_get_transport(channel)), -EINVAL);
	ck_assert_ptr_null(made);
	ck_assert(fd_is_open(fds[0]) && fd_is_open(fds[1]) && fd_is_open(peer) && fd_is_open(file));

	ck_assert_int_eq(ferry_channel_set_lines(NULL, NULL, 0, 0), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_lines(NULL, "\n", 1, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_lines(channel, NULL, 1, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 0, 1), 0);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "12345678901234567", 17, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, 0), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, (size_t)MIB * 1024 + 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_half_close(NULL, true), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_limits(NULL, 1, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_limits(channel, 0, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_limits(channel, 1, 0), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_limits(channel, 0, 0), -EINVAL);
	ck_assert_int_eq(ferry_channel_set_context(NULL, NULL), -EINVAL);
	ck_assert_ptr_null(ferry_channel_get_context(NULL));
	ck_assert_int_eq(ferry_channel_get_fd(NULL), -EINVAL);
	ck_assert_ptr_null(ferry_channel_get_transport(NULL));
	ck_assert_int_eq(ferry_channel_write(NULL, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_write(channel, NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_channel_write(channel, NULL, 0), 0);
	ck_assert_int_eq(ferry_channel_send_fd(NULL, 0, FERRY_FD_DUP), -EINVAL);
	ck_assert_int_eq(ferry_channel_flush(NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_channel_flush(channel, &past), -EINVAL);
	ck_assert_int_eq(ferry_channel_close(NULL), -EINVAL);
	ck_assert_int_eq(ferry_channel_close_write(NULL), -EINVAL);
	ferry_channel_free(NULL);
	ferry_poller_free(NULL);

	peer_put("unharmed");
	poll_until_events("{unharmed}");
	ferry_poller_free(other);
	close(fds[0]);
	close(fds[1]);
	close(file);
	close_poller();
}

TEST(without_descriptors_nothing_is_made)
{
	struct ferry_poller *other;
	struct ferry_channel *made;
	int fds[2];

	open_poller();
	make_pipe(fds);
	for (unsigned int free_slots = 0; free_slots < 8; free_slots++) {
		limit_descriptors(free_slots);
		int status = ferry_poller_new(&other);
		if (status == 0)
			ferry_poller_free(other);
		unlimit_descriptors();
		ck_assert_int_eq(status, free_slots < 4 ? -EMFILE : 0);
	}
	limit_descriptors(0);
	int faucet = ferry_channel_new_pipes(&made, poller, fds[0], -1);
	int sink = ferry_channel_new_pipes(&made, poller, -1, fds[1]);
	unlimit_descriptors();
	ck_assert_int_eq(faucet, -EMFILE);
	ck_assert_int_eq(sink, -EMFILE);
	close(fds[0]);
	close(fds[1]);
	close_poller();
}
