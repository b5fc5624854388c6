/* The kernel drops descriptors at the descriptor limit, and control messages are unusual or broken. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fd_receiver.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

static int scripted_fd = -1;
static ssize_t (*script)(struct msghdr *message); /* for the next read of scripted_fd */

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
	ssize_t (*step)(struct msghdr *) = script;
	if (step == NULL || fd != scripted_fd)
		return __real_recvmsg(fd, message, flags);
	script = NULL;
	return step(message);
}

static const struct ferry_protocol no_lost_callback = {
    .connection_made = recorder_connection_made,
    .data_received = recorder_data_received,
    .file_descriptor_received = recorder_fd_received,
    .connection_lost = recorder_connection_lost,
};

TEST_CASE("loss");

/* _i: the count of the five descriptors that find a free slot. */
LOOP_TEST(at_the_descriptor_limit_the_loss_comes_after_the_descriptors_that_arrived, 5)
{
	open_fd_receiver(&recorder_protocol);
	send_marked("bytes", 0, 5);

	limit_descriptors((unsigned int)_i);
	pump_turns(5);
	unlimit_descriptors();

	ck_assert_uint_eq(fd_receiver.fds_lost, 1);
	check_received(0, (unsigned int)_i);
	check_text("bytes");
	char expected[] = "MFFFFFLD";
	memmove(expected + 1 + _i, expected + 6, sizeof(expected) - 6);
	ck_assert_str_eq(fd_receiver.events, expected);
	ck_assert_uint_eq(stats_of(fd_receiver.transport).fds_lost, 1);

	/* The connection lives. */
	send_marked("more", 5, 1);
	pump_until_length(&fd_receiver, strlen("bytesmore"));
	ck_assert_uint_eq(fd_receiver.fd_count, (unsigned int)_i + 1);
	ck_assert_uint_eq(marked_number(fd_receiver.fds[_i]), 5);
	ck_assert_uint_eq(fd_receiver.lost, 0);
	close_fd_receiver();
}

TEST(each_loss_is_a_callback)
{
	open_fd_receiver(&recorder_protocol);
	send_marked("a", 0, 1);
	send_marked("b", 1, 1);
	send_marked("c", 2, 1);

	limit_descriptors(0);
	pump_until_length(&fd_receiver, 3);
	unlimit_descriptors();

	ck_assert_uint_eq(fd_receiver.fds_lost, 3);
	ck_assert_uint_eq(fd_receiver.fd_count, 0);
	ck_assert_uint_eq(stats_of(fd_receiver.transport).fds_lost, 3);
	close_fd_receiver();
}

LOOP_TEST(without_a_loss_callback_the_connection_is_lost_with_emsgsize, 5)
{
	open_fd_receiver(&no_lost_callback);
	send_marked("bytes", 0, 5);

	limit_descriptors((unsigned int)_i);
	pump_until_lost(&fd_receiver);
	unlimit_descriptors();

	ck_assert_int_eq(fd_receiver.reason, -EMSGSIZE);
	check_received(0, (unsigned int)_i);
	ck_assert_uint_eq(stats_of(fd_receiver.transport).fds_lost, 1);
	/* The peer sees it. */
	char byte;
	ck_assert_int_eq(recv(receiver_ends[0], &byte, 1, MSG_DONTWAIT), 0);
	close_fd_receiver();
}

TEST(without_any_descriptor_callback_loss_is_not_silent_either)
{
	static const struct ferry_protocol neither = {
	    .connection_made = recorder_connection_made,
	    .data_received = recorder_data_received,
	    .connection_lost = recorder_connection_lost,
	};
	open_fd_receiver(&neither);
	send_marked("bytes", 0, 5);

	limit_descriptors(2);
	pump_until_lost(&fd_receiver);
	unlimit_descriptors();

	ck_assert_int_eq(fd_receiver.reason, -EMSGSIZE);
	close_fd_receiver();
}

static void note_loss(struct ferry_transport *transport, void *context)
{
	(void)transport;
	ck_assert_ptr_eq(context, &cb_losses);
	cb_losses++;
}

TEST(a_bufferevent_gets_an_error_event_with_emsgsize)
{
	make_pair(PAIR_UNIX, receiver_ends);
	struct ferry_transport *transport = make_transport(receiver_ends[1]);
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	bufferevent_setcb(bev, note_read, NULL, note_event, NULL);
	bufferevent_enable(bev, EV_READ);
	ferry_transport_set_fd_cb(transport, take_and_close, &cb_fds);
	send_marked("bytes", 0, 5);

	limit_descriptors(1);
	pump_until_count(&cb_events, 1);
	unlimit_descriptors();
	pump_turns(5);

	ck_assert_uint_eq(cb_events, 1);
	ck_assert_int_eq(cb_what, BEV_EVENT_ERROR | BEV_EVENT_READING);
	ck_assert_int_eq(cb_errno, EMSGSIZE);
	ck_assert_uint_ge(cb_fds, 1);
	char byte;
	ck_assert_int_eq(recv(receiver_ends[0], &byte, 1, MSG_DONTWAIT), 0);
	ferry_transport_free(transport);
	close(receiver_ends[0]);
}

TEST(a_bufferevents_loss_callback_keeps_the_connection)
{
	make_pair(PAIR_UNIX, receiver_ends);
	struct ferry_transport *transport = make_transport(receiver_ends[1]);
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	bufferevent_setcb(bev, note_read, NULL, note_event, NULL);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(ferry_transport_set_fds_lost_cb(transport, note_loss, &cb_losses), 0);
	send_marked("bytes", 0, 5);

	limit_descriptors(1);
	pump_until_count(&cb_losses, 1);
	unlimit_descriptors();
	pump_turns(5);

	ck_assert_uint_eq(cb_losses, 1);
	ck_assert_uint_eq(cb_events, 0);
	ck_assert_uint_eq(cb_reads, 1);
	ferry_transport_free(transport);
	close(receiver_ends[0]);
}

TEST_CASE("control messages");

TEST(credentials_and_pidfds_do_no_harm_and_leak_nothing)
{
	open_fd_receiver(&recorder_protocol);
	int one = 1;
	ck_assert_int_eq(setsockopt(receiver_ends[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)), 0);
	bool pidfds = setsockopt(receiver_ends[1], SOL_SOCKET, SO_PASSPIDFD, &one, sizeof(one)) == 0;
	(void)setsockopt(receiver_ends[1], SOL_SOCKET, SO_PASSSEC, &one, sizeof(one));
	int open_before = count_open_fds();

	send_marked("with", 0, 3);
	pump_until_length(&fd_receiver, 4);
	wire_send(receiver_ends[0], "without", 7, NULL, 0);
	pump_until_length(&fd_receiver, 11);

	check_received(0, 3);
	ck_assert_int_eq(count_open_fds(), open_before + 3);
	ck_assert_uint_ge(stats_of(fd_receiver.transport).controls_ignored, pidfds ? 4 : 2);
	ck_assert_uint_eq(fd_receiver.fds_lost, 0);
	close_fd_receiver();
}

TEST(a_pidfd_without_room_for_it_is_no_loss_of_descriptors_and_no_harm)
{
	open_fd_receiver(&recorder_protocol);
	int one = 1;
	(void)setsockopt(receiver_ends[1], SOL_SOCKET, SO_PASSPIDFD, &one, sizeof(one));
	wire_send(receiver_ends[0], "bytes", 5, NULL, 0);

	limit_descriptors(0);
	pump_turns(5);
	unlimit_descriptors();

	ck_assert_uint_eq(fd_receiver.lost, 0);
	check_text("bytes");
	close_fd_receiver();
}

/* Puts one control message at `at`; the offset after it. */
static size_t put_control(struct msghdr *message, size_t at, int level, int type, size_t length,
                          const int *fds, size_t count)
{
	struct cmsghdr header = {.cmsg_len = length, .cmsg_level = level, .cmsg_type = type};
	char *control = message->msg_control;
	ck_assert_uint_le(at + CMSG_SPACE(count * sizeof(int)), message->msg_controllen);
	memcpy(control + at, &header, sizeof(header));
	if (count > 0)
		memcpy(control + at + CMSG_LEN(0), fds, count * sizeof(int));
	return at + CMSG_SPACE(count * sizeof(int));
}

static ssize_t finish_script(struct msghdr *message, size_t control_length)
{
	message->msg_controllen = control_length;
	message->msg_flags = MSG_CMSG_CLOEXEC;
	ck_assert_uint_gt(message->msg_iovlen, 0);
	ck_assert_uint_gt(message->msg_iov[0].iov_len, 0);
	memcpy(message->msg_iov[0].iov_base, "x", 1);
	return 1;
}

static ssize_t two_blocks(struct msghdr *message)
{
	int first[2] = {make_marked_fd(0), make_marked_fd(1)}, second[1] = {make_marked_fd(2)};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(first)), first, 2);
	at = put_control(message, at, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(second)), second, 1);
	return finish_script(message, at);
}

static ssize_t unknown_between(struct msghdr *message)
{
	int first[1] = {make_marked_fd(0)}, second[2] = {make_marked_fd(1), make_marked_fd(2)};
	int noise[2] = {STDIN_FILENO, STDOUT_FILENO};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(first)), first, 1);
	at = put_control(message, at, SOL_SOCKET, 0x7777, CMSG_LEN(sizeof(noise)), noise, 2);
	/* The type of SCM_RIGHTS at another level. */
	at = put_control(message, at, IPPROTO_IP, SCM_RIGHTS, CMSG_LEN(sizeof(noise)), noise, 2);
	at = put_control(message, at, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(second)), second, 2);
	return finish_script(message, at);
}

static ssize_t empty_block_first(struct msghdr *message)
{
	int fds[3] = {make_marked_fd(0), make_marked_fd(1), make_marked_fd(2)};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(0), NULL, 0);
	at = put_control(message, at, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(fds)), fds, 3);
	return finish_script(message, at);
}

static ssize_t half_a_number_at_the_end(struct msghdr *message)
{
	int fds[4] = {make_marked_fd(0), make_marked_fd(1), make_marked_fd(2), -1};
	size_t at =
	    put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(3 * sizeof(int)) + 2, fds, 4);
	return finish_script(message, at);
}

static ssize_t no_length_at_the_end(struct msghdr *message)
{
	int fds[3] = {make_marked_fd(0), make_marked_fd(1), make_marked_fd(2)};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(fds)), fds, 3);
	at = put_control(message, at, SOL_SOCKET, SCM_RIGHTS, 0, NULL, 0);
	return finish_script(message, at);
}

static ssize_t too_short_at_the_end(struct msghdr *message)
{
	int fds[3] = {make_marked_fd(0), make_marked_fd(1), make_marked_fd(2)};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(fds)), fds, 3);
	at = put_control(message, at, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(0) - 4, NULL, 0);
	return finish_script(message, at);
}

static ssize_t trailing_garbage(struct msghdr *message)
{
	int fds[3] = {make_marked_fd(0), make_marked_fd(1), make_marked_fd(2)};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(fds)), fds, 3);
	memset((char *)message->msg_control + at, 0xff, 7);
	return finish_script(message, at + 7);
}

static ssize_t (*const three_descriptors[])(struct msghdr *) = {
    two_blocks,           unknown_between,      empty_block_first, half_a_number_at_the_end,
    no_length_at_the_end, too_short_at_the_end, trailing_garbage,
};

enum { THREE_DESCRIPTORS = sizeof(three_descriptors) / sizeof(three_descriptors[0]) };

static void play(ssize_t (*what)(struct msghdr *message))
{
	scripted_fd = receiver_ends[1];
	script = what;
	/* Wakes the transport; the byte itself is read later. */
	ck_assert_int_eq(wire_send(receiver_ends[0], "y", 1, NULL, 0), 1);
	pump_until_length(&fd_receiver, 2);
	ck_assert(script == NULL);
	check_text("xy");
}

LOOP_TEST(all_descriptors_of_an_odd_control_buffer_are_delivered, THREE_DESCRIPTORS)
{
	open_fd_receiver(&recorder_protocol);

	play(three_descriptors[_i]);

	check_received(0, 3);
	ck_assert_uint_eq(fd_receiver.fds_lost, 0);
	close_fd_receiver();
}

LOOP_TEST(all_descriptors_of_an_odd_control_buffer_are_closed_without_a_callback, THREE_DESCRIPTORS)
{
	open_fd_receiver(&no_fd_callback);

	play(three_descriptors[_i]);

	ck_assert_uint_eq(stats_of(fd_receiver.transport).fds_unclaimed, 3);
	close_fd_receiver();
}

static ssize_t longer_than_the_buffer(struct msghdr *message)
{
	int fds[2] = {make_marked_fd(0), make_marked_fd(1)};
	size_t at =
	    put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(100 * sizeof(int)), fds, 2);
	return finish_script(message, at);
}

static ssize_t absurdly_long(struct msghdr *message)
{
	int fds[2] = {make_marked_fd(0), make_marked_fd(1)};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, SIZE_MAX, fds, 2);
	return finish_script(message, at);
}

static ssize_t (*const too_long[])(struct msghdr *) = {longer_than_the_buffer, absurdly_long};

LOOP_TEST(a_length_beyond_the_control_buffer_is_not_followed, 2)
{
	/* The transport may deliver or close the descriptors inside the buffer. It must not read past
	 * the buffer. */
	open_fd_receiver(&recorder_protocol);

	play(too_long[_i]);

	ck_assert_uint_le(fd_receiver.fd_count, 2);
	for (unsigned int i = 0; i < fd_receiver.fd_count; i++)
		ck_assert_uint_eq(marked_number(fd_receiver.fds[i]), i);
	if (fd_receiver.fd_count == 0) {
		/* The transport did not see the script's own descriptors; close them here. They are in the
		 * lowest slots. */
		for (int fd = 3; fd < 64; fd++) {
			uint32_t content[2];
			if (pread(fd, content, sizeof(content), 0) == sizeof(content) &&
			    content[0] == 0xfe44f11e)
				close(fd);
		}
	}
	close_fd_receiver();
}

static ssize_t truncated_without_descriptors(struct msghdr *message)
{
	finish_script(message, 0);
	message->msg_flags |= MSG_CTRUNC;
	return 1;
}

TEST(a_truncation_that_left_no_descriptor_is_a_loss)
{
	open_fd_receiver(&recorder_protocol);

	play(truncated_without_descriptors);

	ck_assert_uint_eq(fd_receiver.fds_lost, 1);
	ck_assert_uint_eq(fd_receiver.fd_count, 0);
	close_fd_receiver();
}

TEST(null_is_refused)
{
	ck_assert_int_eq(ferry_transport_set_fd_cb(NULL, take_and_close, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_fds_lost_cb(NULL, note_loss, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_pause_reading(NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_resume_reading(NULL), -EINVAL);
}
