/* A stream sends a message whole or not at all. */

#include <errno.h>
#include <unistd.h>

#include "message_inbox.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

static void expect_refused(int expected, const int *fds, size_t count,
                           enum ferry_fd_ownership ownership)
{
	struct ferry_transport_stats before = stats_of(inbox_transport(&inbox));
	int open_before = count_open_fds();
	ck_assert_int_eq(send_fds(1, fds, count, ownership), expected);
	struct ferry_transport_stats after = stats_of(inbox_transport(&inbox));
	ck_assert_uint_eq(after.fds_queued, before.fds_queued);
	ck_assert_uint_eq(after.bytes_queued, before.bytes_queued);
	ck_assert_int_eq(count_open_fds(), open_before);
}

/* _i: the ownership. */
LOOP_TEST(a_refused_message_leaves_nothing_queued_and_all_descriptors_the_callers, 2)
{
	enum ferry_fd_ownership ownership = _i == 0 ? FERRY_FD_DUP : FERRY_FD_TAKE;
	struct ferry_message_stream *stream;
	int fds[20];
	open_messages();
	open_marked(fds, 0, 20);
	int good = fds[10];

	fds[10] = -1;
	expect_refused(-EBADF, fds, 20, ownership);
	fds[10] = 100000;
	expect_refused(-EBADF, fds, 20, ownership);
	fds[10] = inbox_ends[0];
	expect_refused(-ELOOP, fds, 20, ownership);
	fds[10] = good;
	ck_assert_int_eq(ferry_transport_set_fd_buffer(inbox_transport(&inbox), 1, 19), 0);
	expect_refused(-ENOBUFS, fds, 20, ownership);
	ck_assert_int_eq(ferry_transport_set_fd_buffer(inbox_transport(&inbox), 1, 20), 0);

	/* The stream still works. */
	ck_assert_int_eq(send_fds(5, fds, 20, ownership), 0);
	expect_refused(-ENOBUFS, fds, 1, FERRY_FD_DUP);
	open_inbox(&second_inbox, inbox_ends[1], 0);
	stream = second_inbox.stream;
	pump_until_count(&second_inbox.count, 1);
	ck_assert_uint_eq(second_inbox.notes[0].declared, 20);
	ck_assert_uint_eq(second_inbox.notes[0].first_mark, 0);
	if (ownership == FERRY_FD_DUP)
		close_fds(fds, 20);
	ck_assert_ptr_eq(stream, second_inbox.stream);
	free_messages(&inbox);
	free_messages(&second_inbox);
}

TEST(without_slots_for_the_duplicates_nothing_is_queued)
{
	int fds[10];
	open_messages();
	open_marked(fds, 0, 10);
	pump_turns(2);
	limit_descriptors(5);
	int status = send_fds(1, fds, 10, FERRY_FD_DUP);
	unlimit_descriptors();
	ck_assert_int_eq(status, -EMFILE);
	ck_assert_uint_eq(stats_of(inbox_transport(&inbox)).fds_queued, 0);
	ck_assert_uint_eq(stats_of(inbox_transport(&inbox)).bytes_queued, 0);
	close_fds(fds, 10);
	close_messages();
}

TEST(a_descriptor_cannot_be_taken_twice_but_be_sent_twice)
{
	open_messages();
	int fd = make_marked_fd(0);
	const int fds[3] = {STDERR_FILENO, fd, fd};
	expect_refused(-EINVAL, fds, 3, FERRY_FD_TAKE);
	ck_assert_int_eq(send_fds(1, fds, 3, FERRY_FD_DUP), 0);
	close(fd);
	close_messages();
}

TEST(taken_descriptors_are_closed_once_the_kernel_has_them)
{
	int fds[3];
	open_messages();
	open_marked(fds, 0, 3);
	ck_assert_int_eq(send_fds(1, fds, 3, FERRY_FD_TAKE), 0);
	pump_turns(2);
	for (int i = 0; i < 3; i++)
		ck_assert(!fd_is_open(fds[i]));
	wire_drain(inbox_ends[1]);
	close_messages();
}

/* _i: 0 closing, 1 aborted, 2 the peer is gone */
LOOP_TEST(nothing_can_be_sent_when_the_connection_ends, 3)
{
	int fd = make_marked_fd(0);
	open_messages();
	pump_turns(2);
	if (_i == 0)
		ferry_transport_lose_connection(inbox_transport(&inbox));
	else if (_i == 1)
		ferry_transport_abort_connection(inbox_transport(&inbox));
	else
		close_inbox_far();
	if (_i == 2)
		expect_inbox_lost(0);
	ck_assert_int_eq(send_plain(1, "x", 1), -EPIPE);
	ck_assert_int_eq(send_fds(1, &fd, 1, FERRY_FD_TAKE), -EPIPE);
	ck_assert(fd_is_open(fd));
	close(fd);
	pump_until_count(&inbox.lost, 1);
	struct ferry_message_stream *stream = NULL;
	ck_assert_int_eq(
	    ferry_message_stream_new(&stream, inbox_transport(&inbox), &inbox_callbacks, NULL),
	    -ENOTCONN);
	close_messages();
}

static void free_in_pause(void *context)
{
	(void)context;
	free_messages(&inbox);
}

static void ignore_call(void *context)
{
	(void)context;
}

TEST(the_stream_may_be_freed_when_a_send_pauses_the_producer)
{
	static const struct ferry_producer_callbacks producer = {.resume_producing = ignore_call,
	                                                         .pause_producing = free_in_pause};
	static char payload[100000];
	int fd = make_marked_fd(0);
	open_messages();
	ck_assert_int_eq(ferry_transport_register_producer(inbox_transport(&inbox), &producer, NULL,
	                                                   FERRY_PRODUCER_PUSH),
	                 0);
	ck_assert_int_eq(
	    ferry_message_stream_send(inbox.stream, 1, payload, sizeof(payload), &fd, 1, FERRY_FD_TAKE),
	    0);
	ck_assert_ptr_null(inbox.stream);
	ck_assert(!fd_is_open(fd));
	close_inbox_far();
}

/* _i: 0 TCP, 1 pipes */
LOOP_TEST(messages_without_descriptors_flow_where_there_are_none, 2)
{
	unsigned char frame[INBOX_HEADER + 5];
	int fd = STDERR_FILENO, there[2], back[2];
	if (_i == 0) {
		open_messages_over(PAIR_TCP);
	} else {
		struct ferry_transport *transport = NULL;
		make_pipe(there);
		make_pipe(back);
		ck_assert_int_eq(ferry_transport_new_pipes(&transport, base, there[0], back[1]), 0);
		ck_assert_int_eq(
		    ferry_message_stream_new(&inbox.stream, transport, &inbox_callbacks, &inbox), 0);
		inbox_ends[1] = there[1];
	}
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 1000000), 0);
	ck_assert_int_eq(send_fds(1, &fd, 1, FERRY_FD_TAKE), -EOPNOTSUPP);
	ck_assert_int_eq(send_plain(1, "hello", 5), 0);

	ck_assert_int_eq(write(inbox_ends[1], frame, put_message_frame(frame, 1, 5, 0)),
	                 INBOX_HEADER + 5);
	pump_until_count(&inbox.count, 1);
	expect_note(0, 1, 5, 0, 0);
	ck_assert_int_eq(write(inbox_ends[1], frame, put_message_frame(frame, 2, 5, 1)),
	                 INBOX_HEADER + 5);
	expect_inbox_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 1);
	close_messages();
	if (_i == 1)
		close(back[0]);
}
