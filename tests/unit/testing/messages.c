/* Messages at the far end, and pairs of transports, as the tests of a program that uses ferry would use them. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "ferry/message.h"
#include "ferry/testing.h"
#include "message_inbox.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

static struct ferry_testing *far;
static struct ferry_testing_message message;

static void open_far(void)
{
	ck_assert_int_eq(ferry_testing_new(&far, base), 0);
	ck_assert_int_eq(ferry_message_stream_new(&inbox.stream, ferry_testing_get_transport(far),
	                                          &inbox_callbacks, &inbox),
	                 0);
}

static void close_far(void)
{
	free_messages(&inbox);
	ferry_testing_free(far);
	pump_turns(3);
}

static void pump(void)
{
	ck_assert_int_eq(ferry_testing_pump(far), 0);
}

static int take(void)
{
	return ferry_testing_take_message(far, &message);
}

TEST(a_message_is_put_with_its_descriptors)
{
	unsigned char payload[1000];
	int fds[253];

	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = support_byte(i);
	open_marked(fds, 3, 253);
	open_far();
	ck_assert_int_eq(ferry_testing_put_message(far, 0x1234, payload, 1000, fds, 2), 0);
	ck_assert_int_eq(ferry_testing_put_message(far, 2, NULL, 0, NULL, 0), 0);
	ck_assert_int_eq(ferry_testing_put_message(far, 65535, payload, 300, fds, 253), 0);
	ck_assert_uint_eq(inbox.count, 0); /* callbacks run in the loop only */
	pump();
	ck_assert_uint_eq(inbox.count, 3);
	expect_note(0, 0x1234, 1000, 2, 3);
	expect_note(1, 2, 0, 0, 0);
	expect_note(2, 65535, 300, 253, 3);
	expect_payload(&inbox, 0);
	close_fds(fds, 253);
	close_far();
}

TEST(a_message_of_any_length_is_put)
{
	enum { LENGTH = 1024 * 1024 };
	unsigned char *payload = malloc(LENGTH);
	int fds[2];

	for (size_t i = 0; i < LENGTH; i++)
		payload[i] = support_byte(i);
	open_marked(fds, 8, 2);
	open_far();
	pump();
	ck_assert_int_eq(ferry_testing_put_message(far, 9, payload, LENGTH, fds, 2), 0);
	close_fds(fds, 2);
	/* Nothing comes between its bytes. */
	ck_assert_int_eq(ferry_testing_put_message(far, 10, "next", 4, NULL, 0), -EAGAIN);
	pump();
	ck_assert_uint_eq(inbox.count, 1);
	expect_note(0, 9, LENGTH, 2, 8);
	expect_payload(&inbox, 0);
	ck_assert_int_eq(ferry_testing_put_message(far, 10, "next", 4, NULL, 0), 0);
	pump();
	expect_note(1, 10, 4, 0, 0);
	close_far();
	free(payload);
}

TEST(the_end_comes_behind_all_that_was_put)
{
	enum { LENGTH = 600 * 1024 };
	unsigned char *payload = calloc(1, LENGTH);

	open_far();
	ck_assert_int_eq(ferry_transport_pause_reading(ferry_testing_get_transport(far)), 0);
	ck_assert_int_eq(ferry_testing_put_message(far, 9, payload, LENGTH, NULL, 0), 0);
	ck_assert_int_eq(ferry_testing_put_eof(far), 0);
	ck_assert_int_eq(ferry_testing_put(far, "x", 1), -EPIPE);
	pump();
	ck_assert_uint_eq(inbox.count, 0);
	ck_assert_int_eq(ferry_transport_resume_reading(ferry_testing_get_transport(far)), 0);
	pump();
	ck_assert_uint_eq(inbox.count, 1);
	ck_assert_uint_eq(inbox.notes[0].length, LENGTH);
	expect_inbox_lost(0);
	ck_assert_int_eq(ferry_testing_put(far, "x", 1), -EPIPE);
	close_far();
	free(payload);
}

TEST(messages_are_taken_with_their_descriptors)
{
	int fds[4];

	open_marked(fds, 7, 4);
	open_far();
	ck_assert_int_eq(take(), -EAGAIN);
	ck_assert_int_eq(send_plain(9, "first", 5), 0);
	ck_assert_int_eq(send_fds(10, fds, 3, FERRY_FD_TAKE), 0);
	ck_assert_int_eq(send_fds(11, fds + 3, 1, FERRY_FD_TAKE), 0);
	ck_assert_int_eq(take(), -EAGAIN); /* the loop has not run */
	pump();
	ck_assert_int_eq(take(), 0);
	ck_assert_uint_eq(message.type, 9);
	ck_assert_uint_eq(message.length, 5);
	ck_assert_str_eq(message.payload, "first");
	ck_assert_uint_eq(message.fd_count, 0);
	for (unsigned int i = 0, next = 0; i < 2; i++) {
		ck_assert_int_eq(take(), 0);
		ck_assert_uint_eq(message.type, 10 + i);
		ck_assert_uint_eq(message.fd_count, i == 0 ? 3 : 1);
		for (size_t j = 0; j < message.fd_count; j++) {
			ck_assert_uint_eq(marked_number(message.fds[j]), 7 + next++);
			close(message.fds[j]);
		}
	}
	ck_assert_int_eq(take(), -EAGAIN);
	ck_assert_uint_eq(message.type, 11);
	close_far();
}

TEST(a_message_that_waits_for_a_full_socket_is_not_there)
{
	static char payload[100000];

	open_far();
	pump();
	ck_assert_int_eq(ferry_testing_set_full(far, true), 0);
	ck_assert_int_eq(send_plain(1, payload, sizeof(payload)), 0);
	pump();
	ck_assert_int_eq(take(), -EAGAIN);
	ck_assert_int_eq(ferry_testing_set_full(far, false), 0);
	pump();
	ck_assert_int_eq(take(), 0);
	ck_assert_uint_eq(message.length, sizeof(payload));
	close_far();
}

/* _i: one of the texts */
LOOP_TEST(what_is_no_message_is_not_taken, 3)
{
	static const unsigned char texts[3][INBOX_HEADER] = {
	    "GET / HTTP/1.1\r",
	    {'F', 'R', 'Y', 2},                              /* another version */
	    {'F', 'R', 'Y', 1, 0, 0, 0, 0, 0, 0, 0, 0, 254}, /* descriptors that are not there */
	};

	ck_assert_int_eq(ferry_testing_new(&far, base), 0);
	struct ferry_transport *transport = ferry_testing_get_transport(far);
	ck_assert_int_eq(ferry_transport_write(transport, texts[_i], INBOX_HEADER), 0);
	pump();
	ck_assert_int_eq(take(), -EPROTO);
	ck_assert_uint_eq(evbuffer_get_length(ferry_testing_get_written(far)), INBOX_HEADER);
	ferry_transport_free(transport);
	ferry_testing_free(far);
}

/* _i: 0 one too few, 1 one too many, 2 one inside the payload */
LOOP_TEST(a_message_with_other_descriptors_is_not_taken, 3)
{
	unsigned char frame[INBOX_HEADER + 5];
	const size_t first = _i == 2 ? 5 : 0;

	ck_assert_int_eq(ferry_testing_new(&far, base), 0);
	struct ferry_transport *transport = ferry_testing_get_transport(far);
	put_message_frame(frame, 1, 5, _i == 0 ? 2 : 0);
	ck_assert_int_eq(ferry_transport_write(transport, frame, first), 0);
	ck_assert_int_eq(ferry_transport_send_fd(transport, STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_write(transport, frame + first, sizeof(frame) - first), 0);
	pump();
	ck_assert_int_eq(take(), -EPROTO);
	ck_assert_uint_eq(ferry_testing_count_fds(far), 1);
	ferry_transport_free(transport);
	ferry_testing_free(far);
}

TEST(a_refusal_is_reported)
{
	open_far();
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, 10, 0), 0);
	ck_assert_int_eq(ferry_testing_put_message(far, 1, "12345678901", 11, NULL, 0), 0);
	pump();
	ck_assert_uint_eq(inbox.lost, 1);
	ck_assert_int_eq(inbox.reason, -EPROTO);
	ck_assert_int_eq(take(), -EMSGSIZE);
	close_far();
}

TEST(a_pair_of_transports_is_connected)
{
	struct ferry_transport *ends[2];
	struct recorder recorders[2];

	ck_assert_int_eq(ferry_testing_new_pair(ends, base), 0);
	for (int i = 0; i < 2; i++)
		recorder_attach(&recorders[i], ends[i], &recorder_protocol);
	ck_assert_int_eq(ferry_transport_send_fd(ends[0], STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_write(ends[0], "there", 5), 0);
	ck_assert_int_eq(ferry_transport_write(ends[1], "back", 4), 0);
	pump_until_length(&recorders[1], 5);
	pump_until_fds(&recorders[1], 1);
	pump_until_length(&recorders[0], 4);
	for (int i = 0; i < 2; i++)
		recorder_close(&recorders[i]);
	pump_turns(3);
}

TEST(wrong_arguments_are_refused)
{
	struct ferry_transport *ends[2];
	int fd = 0;

	ck_assert_int_eq(ferry_testing_new_pair(NULL, base), -EINVAL);
	ck_assert_int_eq(ferry_testing_new_pair(ends, NULL), -EINVAL);
	limit_descriptors(1);
	const int status = ferry_testing_new_pair(ends, base);
	unlimit_descriptors();
	ck_assert_int_eq(status, -EMFILE);
	open_far();
	ck_assert_int_eq(ferry_testing_put_message(NULL, 1, NULL, 0, NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_testing_put_message(far, 1, NULL, 1, NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_testing_put_message(far, 1, NULL, 0, NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_testing_put_message(far, 1, NULL, 0, &fd, 254), -EINVAL);
	ck_assert_int_eq(ferry_testing_put_message(far, 1, "", SIZE_MAX, NULL, 0), -EINVAL);
	fd = -1;
	ck_assert_int_eq(ferry_testing_put_message(far, 1, NULL, 0, &fd, 1), -EBADF);
	ck_assert_int_eq(ferry_testing_take_message(NULL, &message), -EINVAL);
	ck_assert_int_eq(ferry_testing_take_message(far, NULL), -EINVAL);
	close_far();
}
