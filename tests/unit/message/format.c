/* A message has the documented bytes. It arrives with its own descriptors, in whatever pieces its bytes come. */

#include <errno.h>
#include <unistd.h>

#include "message_inbox.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

TEST_CASE("the format");

TEST(a_frame_is_these_bytes)
{
	static const unsigned char expected[] = {'F', 'R', 'Y', 1, 0x34, 0x12, 0,   0,   5,   0,  0,
	                                         0,   0,   0,   0, 0,    'h',  'e', 'l', 'l', 'o'};
	unsigned char bytes[100];
	struct wire_read result;
	open_messages();
	ck_assert_int_eq(send_plain(0x1234, "hello", 5), 0);
	pump_turns(2);

	wire_receive(inbox_ends[1], bytes, sizeof(bytes), &result);

	ck_assert_int_eq(result.bytes, sizeof(expected));
	ck_assert_mem_eq(bytes, expected, sizeof(expected));
	ck_assert_uint_eq(result.fd_count, 0);
	close_messages();
}

TEST(every_byte_of_the_length_counts)
{
	static unsigned char payload[0x010203], bytes[sizeof(payload) + INBOX_HEADER],
	    expected[sizeof(bytes)];
	open_messages();
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = support_byte(i);
	ck_assert_int_eq(send_plain(0xffff, payload, sizeof(payload)), 0);

	size_t got = 0;
	while (got < sizeof(bytes)) {
		struct wire_read result;
		pump_turns(1);
		wire_receive(inbox_ends[1], bytes + got, sizeof(bytes) - got, &result);
		got += result.bytes > 0 ? (size_t)result.bytes : 0;
	}

	put_message_frame(expected, 0xffff, sizeof(payload), 0);
	ck_assert_mem_eq(bytes, expected, sizeof(bytes));
	close_messages();
}

static const unsigned int fd_counts[] = {1, 2, 252, 253};

LOOP_TEST(descriptors_travel_with_the_first_byte_of_the_header, COUNT(fd_counts))
{
	unsigned int count = fd_counts[_i];
	int fds[WIRE_MAX_FDS];
	unsigned char bytes[100], expected[INBOX_HEADER];
	struct wire_read result;
	open_messages();
	open_marked(fds, 0, count);
	ck_assert_int_eq(send_plain(1, "before", 6), 0);
	ck_assert_int_eq(send_fds(2, fds, count, FERRY_FD_TAKE), 0);
	pump_turns(2);

	wire_receive(inbox_ends[1], bytes, INBOX_HEADER + 6, &result);
	ck_assert_int_eq(result.bytes, INBOX_HEADER + 6);
	ck_assert_uint_eq(result.fd_count, 0);
	wire_receive(inbox_ends[1], bytes, 1, &result);
	ck_assert_uint_eq(result.fd_count, count);
	for (unsigned int i = 0; i < count; i++)
		ck_assert_uint_eq(marked_number(result.fds[i]), i % INBOX_MARKS);
	wire_close_fds(&result);
	wire_receive(inbox_ends[1], bytes + 1, sizeof(bytes) - 1, &result);

	put_message_frame(expected, 2, 0, count);
	expected[8] = 7;
	ck_assert_mem_eq(bytes, expected, INBOX_HEADER);
	ck_assert_int_eq(result.bytes, INBOX_HEADER + 7 - 1);
	close_messages();
}

TEST(each_frame_with_descriptors_is_a_message_of_its_own)
{
	unsigned char bytes[1000];
	struct wire_read result;
	open_messages();
	for (int i = 0; i < 5; i++) {
		int fd = make_marked_fd(0);
		ck_assert_int_eq(send_fds(1, &fd, 1, FERRY_FD_TAKE), 0);
		ck_assert_int_eq(send_plain(2, NULL, 0), 0);
	}
	pump_turns(2);

	for (int i = 0; i < 5; i++) {
		wire_receive(inbox_ends[1], bytes, sizeof(bytes), &result);
		ck_assert_uint_eq(result.fd_count, 1);
		ck_assert_int_eq(result.bytes, INBOX_HEADER + 7 + INBOX_HEADER);
		wire_close_fds(&result);
	}
	close_messages();
}

TEST(a_frame_made_by_hand_arrives)
{
	open_messages();
	far_frame(0xabcd, 300, 7, 3);
	pump_until_count(&inbox.count, 1);
	expect_note(0, 0xabcd, 300, 3, 7);
	ck_assert_uint_eq(inbox.notes[0].lost, 0);
	expect_payload(&inbox, 0);
	/* Nobody stole them. */
	ck_assert_uint_eq(stats_of(inbox_transport(&inbox)).fds_unclaimed, 3);
	close_messages();
}

TEST(empty_messages_arrive_with_and_without_descriptors)
{
	open_messages();
	far_frame(1, 0, 0, 0);
	far_frame(2, 0, 0, WIRE_MAX_FDS);
	far_frame(3, 0, 0, 1);
	pump_until_count(&inbox.count, 3);
	expect_note(0, 1, 0, 0, 0);
	expect_note(1, 2, 0, WIRE_MAX_FDS, 0);
	expect_note(2, 3, 0, 1, 0);
	close_messages();
}

TEST_CASE("pieces");

LOOP_TEST(a_frame_may_be_split_anywhere, PIECES - 1)
{
	unsigned char frame[PIECES];
	size_t split = (size_t)_i + 1;
	put_message_frame(frame, 9, PIECES_PAYLOAD, 2);
	open_messages();

	far_send_marked(frame, split, 4, 2);
	pump_turns(4);
	ck_assert_uint_eq(inbox.count, 0);
	ck_assert_uint_eq(inbox.lost, 0);
	far_send_marked(frame + split, sizeof(frame) - split, 0, 0);
	pump_until_count(&inbox.count, 1);

	expect_note(0, 9, PIECES_PAYLOAD, 2, 4);
	expect_payload(&inbox, 0);
	far_frame(10, 1, 1, 1);
	pump_until_count(&inbox.count, 2);
	expect_note(1, 10, 1, 1, 1);
	close_messages();
}

LOOP_TEST(three_frames_may_be_read_by_any_number_of_bytes_at_once, 60)
{
	open_messages();
	ck_assert_int_eq(bufferevent_set_max_single_read(inbox_bufferevent(&inbox), (size_t)_i + 1), 0);
	far_frame(1, 3, 10, 2);
	far_frame(2, 2, 0, 0);
	far_frame(3, 1, 20, 1);
	pump_until_count(&inbox.count, 3);
	expect_note(0, 1, 3, 2, 10);
	expect_note(1, 2, 2, 0, 0);
	expect_note(2, 3, 1, 1, 20);
	close_messages();
}

TEST(plain_frames_are_glued_to_the_read_that_brings_descriptors)
{
	open_messages();
	for (unsigned int i = 0; i < 10; i++)
		far_frame(i, i, 0, 0);
	far_frame(10, 10, 50, 3);
	far_frame(11, 11, 60, 1);
	pump_until_count(&inbox.count, 12);
	for (unsigned int i = 0; i < 10; i++)
		expect_note(i, i, i, 0, 0);
	expect_note(10, 10, 10, 3, 50);
	expect_note(11, 11, 11, 1, 60);
	/* Reads are few: only descriptors split them. */
	ck_assert_uint_le(stats_of(inbox_transport(&inbox)).receive_calls, 4);
	close_messages();
}

struct sequence {
	int marked[INBOX_MARKS];
	size_t lengths[NOTES_MAX];
	unsigned int fds[NOTES_MAX], marks[NOTES_MAX];
	unsigned int sent, count;
};

static struct sequence sequence;

static void plan_sequence(unsigned int count)
{
	sequence.count = count;
	for (unsigned int i = 0; i < count; i++) {
		uint32_t dice = support_random_below(100);
		sequence.lengths[i] = dice < 60   ? support_random_below(64)
		                      : dice < 98 ? support_random_below(5000)
		                                  : support_random_below(300000);
		dice = support_random_below(100);
		sequence.fds[i] = dice < 50   ? 0
		                  : dice < 97 ? 1 + support_random_below(4)
		                              : 1 + support_random_below(WIRE_MAX_FDS);
		sequence.marks[i] = support_random_below(INBOX_MARKS);
	}
}

static void check_in_sequence(struct inbox *box, struct ferry_message *message)
{
	unsigned int index = box->count - 1;
	const struct note *note = &box->notes[index];
	ck_assert_uint_eq(note->type, index & 0xffff);
	ck_assert_uint_eq(note->length, sequence.lengths[index]);
	ck_assert_uint_eq(note->declared, sequence.fds[index]);
	ck_assert_uint_eq(note->lost, 0);
	if (note->declared > 0)
		ck_assert_uint_eq(note->first_mark, sequence.marks[index]);
	expect_payload(box, index);
	size_t length;
	const unsigned char *payload = ferry_message_get_payload(message, &length);
	if (length > 0)
		ck_assert_uint_eq(payload[length - 1], support_byte(index + length - 1));
}

static void send_in_sequence(unsigned int index)
{
	static unsigned char payload[300000];
	int fds[WIRE_MAX_FDS];
	for (size_t i = 0; i < sequence.lengths[index]; i++)
		payload[i] = support_byte(index + i);
	for (unsigned int i = 0; i < sequence.fds[index]; i++)
		fds[i] = sequence.marked[(sequence.marks[index] + i) % INBOX_MARKS];
	ck_assert_int_eq(ferry_message_stream_send(inbox.stream, (uint16_t)index, payload,
	                                           sequence.lengths[index], fds, sequence.fds[index],
	                                           FERRY_FD_DUP),
	                 0);
}

static bool sequence_has_arrived(void *argument)
{
	(void)argument;
	/* Sends some at a time: the queues stay short, and the two ends are at different positions. */
	unsigned int burst = 1 + support_random_below(20);
	while (burst-- > 0 && sequence.sent < sequence.count &&
	       stats_of(inbox_transport(&inbox)).fds_queued < 100)
		send_in_sequence(sequence.sent++);
	ck_assert_uint_eq(second_inbox.lost + inbox.lost, 0);
	return second_inbox.count == sequence.count;
}

/* _i: 0 default, 1 deferred callbacks, 2 the smallest socket buffers, 3 a few bytes at once */
LOOP_TEST(thousands_of_frames_arrive_as_they_were_sent, 4)
{
	raise_descriptor_limit();
	open_marked(sequence.marked, 0, INBOX_MARKS);
	make_pair(PAIR_UNIX, inbox_ends);
	if (_i == 2) {
		wire_shrink(inbox_ends[0]);
		wire_shrink(inbox_ends[1]);
	}
	open_inbox(&inbox, inbox_ends[0], 0);
	open_inbox(&second_inbox, inbox_ends[1], _i == 1 ? BEV_OPT_DEFER_CALLBACKS : 0);
	if (_i == 3)
		bufferevent_set_max_single_read(inbox_bufferevent(&second_inbox),
		                                1 + support_random_below(40));
	second_inbox.hook = check_in_sequence;
	plan_sequence(_i == 3 ? 150 : 4000);

	pump_until(sequence_has_arrived, NULL);

	free_messages(&inbox);
	free_messages(&second_inbox);
	close_fds(sequence.marked, INBOX_MARKS);
}

TEST(the_most_descriptors_with_the_first_byte_of_a_header_do_not_stop_the_reading)
{
	raise_descriptor_limit();
	open_marked(sequence.marked, 0, INBOX_MARKS);
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], 0);
	open_inbox(&second_inbox, inbox_ends[1], 0);
	bufferevent_set_max_single_read(inbox_bufferevent(&second_inbox), 1);
	sequence.count = 1;
	sequence.lengths[0] = 10;
	sequence.fds[0] = WIRE_MAX_FDS;
	sequence.marks[0] = 0;
	second_inbox.hook = check_in_sequence;

	pump_until(sequence_has_arrived, NULL);

	free_messages(&inbox);
	free_messages(&second_inbox);
	close_fds(sequence.marked, INBOX_MARKS);
}

TEST_CASE("loss");

/* _i: free descriptor slots */
LOOP_TEST(loss_is_reported_with_the_frame_that_it_befell, 7)
{
	open_messages();
	pump_turns(2);
	far_frame(1, 4, 0, 0);
	far_frame(2, 5, 30, 5);
	far_frame(3, 6, 0, 0);
	limit_descriptors((unsigned int)_i);

	while (inbox.count < 3)
		pump_turns(1);

	unlimit_descriptors();
	expect_note(0, 1, 4, 0, 0);
	expect_note(1, 2, 5, 5, 30);
	ck_assert_uint_eq(inbox.notes[1].lost, _i < 5 ? 5 - (unsigned int)_i : 0);
	expect_note(2, 3, 6, 0, 0);
	ck_assert_uint_eq(stats_of(inbox_transport(&inbox)).fds_lost, _i < 5 ? 1 : 0);
	far_frame(4, 1, 40, 10);
	pump_until_count(&inbox.count, 4);
	expect_note(3, 4, 1, 10, 40);
	ck_assert_uint_eq(inbox.notes[3].lost, 0);
	close_messages();
}

/* Each message takes slots that are never freed: the next one loses more descriptors. */
static void steal_all(struct inbox *box, struct ferry_message *message)
{
	for (size_t i = 0; i < 3; i++)
		box->stolen[(box->count - 1) * 3 + i] = ferry_message_steal_fd(message, i);
}

TEST(several_frames_with_loss_stay_in_step)
{
	open_messages();
	pump_turns(2);
	inbox.hook = steal_all;
	for (unsigned int i = 0; i < 4; i++)
		far_frame(i, i, 10 * i, 3);
	limit_descriptors(5);

	while (inbox.count < 4)
		pump_turns(1);

	unlimit_descriptors();
	for (unsigned int i = 0; i < 4; i++)
		expect_note(i, i, i, 3, 10 * i);
	ck_assert_uint_eq(inbox.notes[0].lost, 0);
	ck_assert_uint_eq(inbox.notes[1].lost, 1);
	ck_assert_uint_eq(inbox.notes[2].lost, 3);
	ck_assert_uint_eq(inbox.notes[3].lost, 3);
	for (int i = 0; i < 5; i++)
		close(inbox.stolen[i]);
	ck_assert_int_eq(inbox.stolen[5], -ENOENT);
	close_messages();
}
