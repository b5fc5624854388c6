/* Messages: the bytes of a frame; each message arrives with its own descriptors, or with the number of those
 * that were lost. The far end is mostly bare system calls and bytes written by hand. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { HEADER = 16, MARKED = 256, NOTES_MAX = 8192 };

/* ---- what arrived ---- */

struct note {
	uint16_t type;
	size_t length;
	size_t declared, lost;
	uint32_t first_mark; /* of the first descriptor */
};

struct inbox {
	struct ferry_message_stream *stream; /* NULL once freed */
	unsigned int made, count, lost, depth;
	int reason;
	struct note notes[NOTES_MAX];
	unsigned char payload[70000]; /* of the last, as far as it fits */
	void (*hook)(struct inbox *inbox, struct ferry_message *message);
	void (*on_lost)(struct inbox *inbox);
	int stolen[WIRE_MAX_FDS];
};

static struct inbox inbox, second;
static int ends[2]; /* of the stream, and the far end */

static void on_made(struct ferry_message_stream *stream, void *context)
{
	struct inbox *box = context;
	ck_assert_ptr_eq(stream, box->stream);
	ck_assert_uint_eq(box->count + box->lost, 0);
	box->made++;
}

static void on_message(struct ferry_message_stream *stream, struct ferry_message *message,
                       void *context)
{
	struct inbox *box = context;
	ck_assert_ptr_nonnull(box->stream);
	ck_assert_ptr_eq(stream, box->stream);
	ck_assert_uint_eq(box->made, 1);
	ck_assert_uint_eq(box->lost, 0);
	ck_assert_uint_lt(box->count, NOTES_MAX);
	ck_assert_uint_eq(box->depth, 0);
	box->depth++;

	struct note *note = &box->notes[box->count++];
	note->type = ferry_message_get_type(message);
	const void *payload = ferry_message_get_payload(message, &note->length);
	note->declared = ferry_message_get_fd_count(message);
	note->lost = ferry_message_get_fds_lost(message);
	ck_assert_uint_le(note->lost, note->declared);
	size_t arrived = note->declared - note->lost;
	for (size_t i = 0; i < arrived; i++) {
		int fd = ferry_message_get_fd(message, i);
		ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
		if (i == 0)
			note->first_mark = marked_number(fd);
		ck_assert_uint_eq(marked_number(fd), (note->first_mark + i) % MARKED);
	}
	ck_assert_int_eq(ferry_message_get_fd(message, arrived), -ENOENT);
	ck_assert_int_eq(ferry_message_steal_fd(message, arrived), -ENOENT);
	ck_assert_int_eq(ferry_message_steal_fd(message, SIZE_MAX), -ENOENT);
	size_t copied = note->length < sizeof(box->payload) ? note->length : sizeof(box->payload);
	memcpy(box->payload, payload, copied);
	if (box->hook != NULL)
		box->hook(box, message);
	box->depth--;
}

static void on_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	struct inbox *box = context;
	ck_assert_ptr_eq(stream, box->stream);
	ck_assert_uint_eq(box->made, 1);
	box->lost++;
	ck_assert_uint_eq(box->lost, 1);
	box->reason = reason;
	if (box->on_lost != NULL)
		box->on_lost(box);
}

static const struct ferry_message_callbacks callbacks = {
    .connection_made = on_made, .message_received = on_message, .connection_lost = on_lost};

static void open_inbox(struct inbox *box, int fd, int options)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE | options);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_message_stream_new(&box->stream, transport, &callbacks, box), 0);
	ck_assert_ptr_eq(ferry_message_stream_get_transport(box->stream), transport);
}

static void open_kind(enum pair_kind kind)
{
	make_pair(kind, ends);
	open_inbox(&inbox, ends[0], 0);
}

static void open_stream(void)
{
	open_kind(PAIR_UNIX);
}

static void free_stream(struct inbox *box)
{
	struct ferry_message_stream *stream = box->stream;
	box->stream = NULL;
	ferry_message_stream_free(stream);
}

static void close_far(void)
{
	if (ends[1] >= 0)
		close(ends[1]);
	ends[1] = -1;
}

static void close_stream(void)
{
	free_stream(&inbox);
	close_far();
}

static struct ferry_transport *transport_of(const struct inbox *box)
{
	return ferry_message_stream_get_transport(box->stream);
}

static struct bufferevent *bev_of(const struct inbox *box)
{
	return ferry_transport_get_bufferevent(transport_of(box));
}

static void expect_lost(int reason)
{
	pump_until_count(&inbox.lost, 1);
	ck_assert_int_eq(inbox.reason, reason);
	pump_turns(3);
}

/* ---- frames by hand ---- */

static size_t put_frame(unsigned char *out, unsigned int type, size_t length, unsigned int fds)
{
	const unsigned char header[HEADER] = {
	    'F',
	    'R',
	    'Y',
	    1,
	    (unsigned char)type,
	    (unsigned char)(type >> 8),
	    0,
	    0,
	    (unsigned char)length,
	    (unsigned char)(length >> 8),
	    (unsigned char)(length >> 16),
	    (unsigned char)(length >> 24),
	    (unsigned char)fds,
	    (unsigned char)(fds >> 8),
	    0,
	    0,
	};
	memcpy(out, header, HEADER);
	for (size_t i = 0; i < length; i++)
		out[HEADER + i] = support_byte(i);
	return HEADER + length;
}

/* Makes descriptors with the marks first, first + 1, … */
static size_t open_marked(int *fds, uint32_t first, size_t count)
{
	for (size_t i = 0; i < count; i++)
		fds[i] = make_marked_fd((first + (uint32_t)i) % MARKED);
	return count;
}

static void close_fds(const int *fds, size_t count)
{
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(close(fds[i]), 0);
}

/* Sends bytes from the far end, with marked descriptors on the first of them. */
static void far_send(const unsigned char *bytes, size_t length, uint32_t mark, size_t count)
{
	int fds[WIRE_MAX_FDS] = {0};
	open_marked(fds, mark, count);
	ck_assert_int_eq(wire_send(ends[1], bytes, length, fds, count), (ssize_t)length);
	close_fds(fds, count);
}

/* Sends a frame that declares the descriptors it carries. */
static void far_frame(unsigned int type, size_t length, uint32_t mark, unsigned int count)
{
	unsigned char frame[4096];
	ck_assert_uint_le(HEADER + length, sizeof(frame));
	far_send(frame, put_frame(frame, type, length, count), mark, count);
}

static void expect_note(unsigned int index, unsigned int type, size_t length, size_t declared,
                        uint32_t mark)
{
	const struct note *note = &inbox.notes[index];
	ck_assert_uint_gt(inbox.count, index);
	ck_assert_uint_eq(note->type, type);
	ck_assert_uint_eq(note->length, length);
	ck_assert_uint_eq(note->declared, declared);
	if (declared > 0 && note->lost < declared)
		ck_assert_uint_eq(note->first_mark, mark % MARKED);
}

static void expect_payload(const struct inbox *box, uint64_t position)
{
	size_t length = box->notes[box->count - 1].length;
	for (size_t i = 0; i < length && i < sizeof(box->payload); i++)
		if (box->payload[i] != support_byte(position + i))
			ck_abort_msg("another byte at %zu of %zu", i, length);
}

static int send_plain(unsigned int type, const void *payload, size_t length)
{
	return ferry_message_stream_send(inbox.stream, (uint16_t)type, payload, length, NULL, 0,
	                                 FERRY_FD_DUP);
}

static int send_fds(unsigned int type, const int *fds, size_t count,
                    enum ferry_fd_ownership ownership)
{
	return ferry_message_stream_send(inbox.stream, (uint16_t)type, "payload", 7, fds, count,
	                                 ownership);
}

/* ---- the format ---- */

TEST_CASE("the format");

TEST(a_frame_is_these_bytes)
{
	static const unsigned char expected[] = {'F', 'R', 'Y', 1, 0x34, 0x12, 0,   0,   5,   0,  0,
	                                         0,   0,   0,   0, 0,    'h',  'e', 'l', 'l', 'o'};
	unsigned char bytes[100];
	struct wire_read result;
	open_stream();
	ck_assert_int_eq(send_plain(0x1234, "hello", 5), 0);
	pump_turns(2);

	wire_receive(ends[1], bytes, sizeof(bytes), &result);

	ck_assert_int_eq(result.bytes, sizeof(expected));
	ck_assert_mem_eq(bytes, expected, sizeof(expected));
	ck_assert_uint_eq(result.fd_count, 0);
	close_stream();
}

TEST(every_byte_of_the_length_counts)
{
	static unsigned char payload[0x010203], bytes[sizeof(payload) + HEADER],
	    expected[sizeof(bytes)];
	open_stream();
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = support_byte(i);
	ck_assert_int_eq(send_plain(0xffff, payload, sizeof(payload)), 0);

	size_t got = 0;
	while (got < sizeof(bytes)) {
		struct wire_read result;
		pump_turns(1);
		wire_receive(ends[1], bytes + got, sizeof(bytes) - got, &result);
		got += result.bytes > 0 ? (size_t)result.bytes : 0;
	}

	put_frame(expected, 0xffff, sizeof(payload), 0);
	ck_assert_mem_eq(bytes, expected, sizeof(bytes));
	close_stream();
}

static const unsigned int fd_counts[] = {1, 2, 252, 253};

LOOP_TEST(descriptors_travel_with_the_first_byte_of_the_header, COUNT(fd_counts))
{
	unsigned int count = fd_counts[_i];
	int fds[WIRE_MAX_FDS];
	unsigned char bytes[100], expected[HEADER];
	struct wire_read result;
	open_stream();
	open_marked(fds, 0, count);
	ck_assert_int_eq(send_plain(1, "before", 6), 0);
	ck_assert_int_eq(send_fds(2, fds, count, FERRY_FD_TAKE), 0);
	pump_turns(2);

	wire_receive(ends[1], bytes, HEADER + 6, &result);
	ck_assert_int_eq(result.bytes, HEADER + 6);
	ck_assert_uint_eq(result.fd_count, 0);
	wire_receive(ends[1], bytes, 1, &result);
	ck_assert_uint_eq(result.fd_count, count);
	for (unsigned int i = 0; i < count; i++)
		ck_assert_uint_eq(marked_number(result.fds[i]), i % MARKED);
	wire_close_fds(&result);
	wire_receive(ends[1], bytes + 1, sizeof(bytes) - 1, &result);

	put_frame(expected, 2, 0, count);
	expected[8] = 7;
	ck_assert_mem_eq(bytes, expected, HEADER);
	ck_assert_int_eq(result.bytes, HEADER + 7 - 1);
	close_stream();
}

TEST(each_frame_with_descriptors_is_a_message_of_its_own)
{
	unsigned char bytes[1000];
	struct wire_read result;
	open_stream();
	for (int i = 0; i < 5; i++) {
		int fd = make_marked_fd(0);
		ck_assert_int_eq(send_fds(1, &fd, 1, FERRY_FD_TAKE), 0);
		ck_assert_int_eq(send_plain(2, NULL, 0), 0);
	}
	pump_turns(2);

	for (int i = 0; i < 5; i++) {
		wire_receive(ends[1], bytes, sizeof(bytes), &result);
		ck_assert_uint_eq(result.fd_count, 1);
		ck_assert_int_eq(result.bytes, HEADER + 7 + HEADER);
		wire_close_fds(&result);
	}
	close_stream();
}

TEST(a_frame_made_by_hand_arrives)
{
	open_stream();
	far_frame(0xabcd, 300, 7, 3);
	pump_until_count(&inbox.count, 1);
	expect_note(0, 0xabcd, 300, 3, 7);
	ck_assert_uint_eq(inbox.notes[0].lost, 0);
	expect_payload(&inbox, 0);
	/* Nobody stole them. */
	ck_assert_uint_eq(stats_of(transport_of(&inbox)).fds_unclaimed, 3);
	close_stream();
}

TEST(empty_messages_arrive_with_and_without_descriptors)
{
	open_stream();
	far_frame(1, 0, 0, 0);
	far_frame(2, 0, 0, WIRE_MAX_FDS);
	far_frame(3, 0, 0, 1);
	pump_until_count(&inbox.count, 3);
	expect_note(0, 1, 0, 0, 0);
	expect_note(1, 2, 0, WIRE_MAX_FDS, 0);
	expect_note(2, 3, 0, 1, 0);
	close_stream();
}

/* ---- pieces ---- */

enum { PIECES_PAYLOAD = 5, PIECES = HEADER + PIECES_PAYLOAD };

TEST_CASE("pieces");

LOOP_TEST(a_frame_may_be_split_anywhere, PIECES - 1)
{
	unsigned char frame[PIECES];
	size_t split = (size_t)_i + 1;
	put_frame(frame, 9, PIECES_PAYLOAD, 2);
	open_stream();

	far_send(frame, split, 4, 2);
	pump_turns(4);
	ck_assert_uint_eq(inbox.count, 0);
	ck_assert_uint_eq(inbox.lost, 0);
	far_send(frame + split, sizeof(frame) - split, 0, 0);
	pump_until_count(&inbox.count, 1);

	expect_note(0, 9, PIECES_PAYLOAD, 2, 4);
	expect_payload(&inbox, 0);
	far_frame(10, 1, 1, 1);
	pump_until_count(&inbox.count, 2);
	expect_note(1, 10, 1, 1, 1);
	close_stream();
}

LOOP_TEST(three_frames_may_be_read_by_any_number_of_bytes_at_once, 60)
{
	open_stream();
	ck_assert_int_eq(bufferevent_set_max_single_read(bev_of(&inbox), (size_t)_i + 1), 0);
	far_frame(1, 3, 10, 2);
	far_frame(2, 2, 0, 0);
	far_frame(3, 1, 20, 1);
	pump_until_count(&inbox.count, 3);
	expect_note(0, 1, 3, 2, 10);
	expect_note(1, 2, 2, 0, 0);
	expect_note(2, 3, 1, 1, 20);
	close_stream();
}

TEST(plain_frames_are_glued_to_the_read_that_brings_descriptors)
{
	open_stream();
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
	ck_assert_uint_le(stats_of(transport_of(&inbox)).receive_calls, 4);
	close_stream();
}

/* ---- long mixed sequences ---- */

struct sequence {
	int marked[MARKED];
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
		sequence.marks[i] = support_random_below(MARKED);
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
		fds[i] = sequence.marked[(sequence.marks[index] + i) % MARKED];
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
	       stats_of(transport_of(&inbox)).fds_queued < 300)
		send_in_sequence(sequence.sent++);
	ck_assert_uint_eq(second.lost + inbox.lost, 0);
	return second.count == sequence.count;
}

/* _i: 0 default, 1 deferred callbacks, 2 the smallest socket buffers, 3 a few bytes at once */
LOOP_TEST(thousands_of_frames_arrive_as_they_were_sent, 4)
{
	raise_descriptor_limit();
	open_marked(sequence.marked, 0, MARKED);
	make_pair(PAIR_UNIX, ends);
	if (_i == 2) {
		wire_shrink(ends[0]);
		wire_shrink(ends[1]);
	}
	open_inbox(&inbox, ends[0], 0);
	open_inbox(&second, ends[1], _i == 1 ? BEV_OPT_DEFER_CALLBACKS : 0);
	if (_i == 3)
		bufferevent_set_max_single_read(bev_of(&second), 1 + support_random_below(40));
	second.hook = check_in_sequence;
	plan_sequence(_i == 3 ? 150 : 4000);

	pump_until(sequence_has_arrived, NULL);

	free_stream(&inbox);
	free_stream(&second);
	close_fds(sequence.marked, MARKED);
}

TEST(the_most_descriptors_with_the_first_byte_of_a_header_do_not_stop_the_reading)
{
	raise_descriptor_limit();
	open_marked(sequence.marked, 0, MARKED);
	make_pair(PAIR_UNIX, ends);
	open_inbox(&inbox, ends[0], 0);
	open_inbox(&second, ends[1], 0);
	bufferevent_set_max_single_read(bev_of(&second), 1);
	sequence.count = 1;
	sequence.lengths[0] = 10;
	sequence.fds[0] = WIRE_MAX_FDS;
	sequence.marks[0] = 0;
	second.hook = check_in_sequence;

	pump_until(sequence_has_arrived, NULL);

	free_stream(&inbox);
	free_stream(&second);
	close_fds(sequence.marked, MARKED);
}

/* ---- loss ---- */

TEST_CASE("loss");

/* _i: free descriptor slots */
LOOP_TEST(loss_is_reported_with_the_frame_that_it_befell, 7)
{
	open_stream();
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
	ck_assert_uint_eq(stats_of(transport_of(&inbox)).fds_lost, _i < 5 ? 1 : 0);
	far_frame(4, 1, 40, 10);
	pump_until_count(&inbox.count, 4);
	expect_note(3, 4, 1, 10, 40);
	ck_assert_uint_eq(inbox.notes[3].lost, 0);
	close_stream();
}

/* Each message takes slots that are never freed: the next one loses more descriptors. */
static void steal_all(struct inbox *box, struct ferry_message *message)
{
	for (size_t i = 0; i < 3; i++)
		box->stolen[(box->count - 1) * 3 + i] = ferry_message_steal_fd(message, i);
}

TEST(several_frames_with_loss_stay_in_step)
{
	open_stream();
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
	close_stream();
}

/* ---- a peer that breaks the format ---- */

TEST_CASE("a broken format");

LOOP_TEST(any_other_bit_of_the_header_is_caught, HEADER * 8)
{
	unsigned char frame[HEADER + 8];
	put_frame(frame, 9, 8, 1);
	size_t byte = (size_t)_i / 8;
	frame[byte] ^= (unsigned char)(1U << (_i % 8));
	bool is_type = byte == 4 || byte == 5;
	open_stream();
	far_send(frame, sizeof(frame), 0, 1);
	far_frame(10, 3, 0, 0);
	close_far();

	expect_lost(is_type ? 0 : -EPROTO);

	ck_assert(inbox.count == 0 || is_type || byte == 8);
	if (is_type)
		ck_assert_uint_eq(inbox.count, 2);
	close_stream();
}

LOOP_TEST(garbage_ends_the_connection, 100)
{
	unsigned char garbage[400];
	open_stream();
	for (size_t i = 0; i < sizeof(garbage); i++)
		garbage[i] = (unsigned char)support_random();
	garbage[0] = 'G';
	size_t length = 1 + support_random_below(sizeof(garbage));
	far_send(garbage, length, 0, support_random_below(4));
	close_far();
	expect_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 0);
	close_stream();
}

LOOP_TEST(valid_frames_with_one_byte_changed_never_leak_or_crash, 300)
{
	unsigned char bytes[2048];
	open_stream();
	size_t length = 0;
	for (unsigned int i = 0; i < 4; i++)
		length += put_frame(bytes + length, i, support_random_below(100), support_random_below(3));
	bytes[support_random_below((uint32_t)length)] = (unsigned char)support_random();
	size_t done = 0;
	while (done < length) {
		size_t step = 1 + support_random_below((uint32_t)(length - done));
		far_send(bytes + done, step, 0, support_random_below(3));
		pump_turns((int)support_random_below(3));
		done += step;
		if (inbox.lost > 0)
			break;
	}
	close_far();
	pump_until_count(&inbox.lost, 1);
	ck_assert(inbox.reason == 0 || inbox.reason == -EPROTO);
	close_stream();
}

/* The number of descriptors that the frame declares, and the number that is sent. */
static const struct {
	unsigned int declared, sent;
} lies[] = {{1, 0}, {0, 1}, {2, 1}, {1, 2}, {253, 252}, {252, 253}, {254, 253}, {65535, 1}};

LOOP_TEST(other_descriptors_than_declared_end_the_connection, COUNT(lies))
{
	unsigned char frame[HEADER + 1];
	open_stream();
	far_send(frame, put_frame(frame, 1, 1, lies[_i].declared), 0, lies[_i].sent);
	expect_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 0);
	ck_assert_uint_eq(stats_of(transport_of(&inbox)).fds_unclaimed, lies[_i].sent);
	close_stream();
}

/* _i + 1: the byte of the frame with the descriptor; only byte 0 is correct. */
LOOP_TEST(a_descriptor_on_another_byte_ends_the_connection, HEADER + 3)
{
	unsigned char frame[HEADER + 4];
	size_t at = (size_t)_i + 1;
	open_stream();
	put_frame(frame, 1, 4, 1);
	far_send(frame, at, 0, 0);
	/* In a read of both parts the descriptor would look as if it came with the first byte. */
	while (stats_of(transport_of(&inbox)).bytes_received < at)
		pump_turns(1);
	(void)wire_send(ends[1], frame + at, sizeof(frame) - at, &(int){STDERR_FILENO}, 1);
	expect_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 0);
	close_stream();
}

TEST(descriptors_inside_of_a_header_do_not_pile_up)
{
	unsigned char frame[HEADER];
	open_stream();
	put_frame(frame, 1, 0, 1);
	far_send(frame, 1, 0, 1);
	far_send(frame + 1, 1, 0, 1);
	expect_lost(-EPROTO);
	ck_assert_uint_eq(stats_of(transport_of(&inbox)).fds_unclaimed, 2);
	close_stream();
}

TEST(descriptors_in_the_payload_end_the_connection)
{
	unsigned char frame[HEADER + 100];
	open_stream();
	put_frame(frame, 1, 100, 1);
	far_send(frame, HEADER + 10, 0, 1);
	far_send(frame + HEADER + 10, 10, 0, 1);
	expect_lost(-EPROTO);
	ck_assert_uint_eq(stats_of(transport_of(&inbox)).fds_unclaimed, 2);
	close_stream();
}

static void note_no_more(struct inbox *box, struct ferry_message *message)
{
	(void)message;
	ck_assert_uint_eq(box->count, 1);
}

TEST(what_came_before_the_fault_is_delivered_and_nothing_behind_it)
{
	unsigned char frame[HEADER];
	open_stream();
	inbox.hook = note_no_more;
	far_frame(1, 10, 5, 2);
	put_frame(frame, 2, 0, 0);
	frame[3] = 2;
	far_send(frame, HEADER, 0, 0);
	far_frame(3, 10, 5, 2);
	ck_assert_int_eq(send_plain(7, "unsent", 6), 0);
	expect_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 1);
	ck_assert_int_eq(send_plain(7, "unsent", 6), -EPIPE);
	close_stream();
}

/* ---- limits ---- */

static const struct {
	size_t length;
	unsigned int fds;
	bool fits;
} sizes[] = {{1000, 0, true},        {1001, 0, false},       {0x7fffffff, 0, false},
             {0x80000000, 0, false}, {0xffffffff, 0, false}, {0xfffffff0, 0, false},
             {1000, 3, true},        {0, 4, false}};

TEST_CASE("limits");

LOOP_TEST(a_frame_over_the_limits_is_refused_by_its_header_alone, COUNT(sizes))
{
	static unsigned char frame[HEADER + 1000];
	open_stream();
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, 1000, 3), 0);
	put_frame(frame, 1, 0, sizes[_i].fds);
	for (int i = 0; i < 4; i++)
		frame[8 + i] = (unsigned char)(sizes[_i].length >> (8 * i));
	far_send(frame, HEADER, 0, sizes[_i].fds);
	if (sizes[_i].fits) {
		far_send(frame + HEADER, sizes[_i].length, 0, 0);
		pump_until_count(&inbox.count, 1);
	} else {
		expect_lost(-EPROTO);
	}
	close_stream();
}

TEST(limits_hold_for_sending_too)
{
	int fds[4];
	static char payload[1001];
	open_stream();
	open_marked(fds, 0, 4);
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, 1000, 3), 0);
	ck_assert_int_eq(send_plain(1, payload, 1000), 0);
	ck_assert_int_eq(send_plain(1, payload, 1001), -EMSGSIZE);
	ck_assert_int_eq(send_plain(1, payload, SIZE_MAX), -EMSGSIZE);
	ck_assert_int_eq(send_fds(1, fds, 4, FERRY_FD_TAKE), -EMSGSIZE);
	ck_assert_int_eq(send_fds(1, fds, SIZE_MAX, FERRY_FD_TAKE), -EMSGSIZE);
	ck_assert_int_eq(send_fds(1, fds, 3, FERRY_FD_TAKE), 0);
	ck_assert(fd_is_open(fds[3]));
	close(fds[3]);
	close_stream();
}

TEST(limits_are_1_mib_and_253_at_first)
{
	static char payload[(1 << 20) + 1];
	static int fds[254];
	open_stream();
	ck_assert_int_eq(send_plain(1, payload, sizeof(payload)), -EMSGSIZE);
	ck_assert_int_eq(send_plain(1, payload, sizeof(payload) - 1), 0);
	ck_assert_int_eq(send_fds(1, fds, 254, FERRY_FD_DUP), -EMSGSIZE);
	for (int i = 0; i < 253; i++)
		fds[i] = STDERR_FILENO;
	ck_assert_int_eq(send_fds(1, fds, 253, FERRY_FD_DUP), 0);
	close_stream();
}

TEST(bad_arguments_are_refused)
{
	struct ferry_message_stream *stream = NULL;
	struct ferry_transport *transport;
	int fd = STDERR_FILENO;
	open_stream();
	transport = transport_of(&inbox);

	ck_assert_int_eq(ferry_message_stream_new(NULL, transport, &callbacks, NULL), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_new(&stream, NULL, &callbacks, NULL), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_new(&stream, transport, NULL, NULL), -EINVAL);
	ck_assert_ptr_null(stream);
	ck_assert_int_eq(ferry_message_stream_set_limits(NULL, 1, 1), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, (1U << 30) + 1, 1), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, 1, 254), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, 1U << 30, 253), 0);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_send(NULL, 1, "", 0, NULL, 0, FERRY_FD_DUP), -EINVAL);
	ck_assert_int_eq(send_plain(1, NULL, 1), -EINVAL);
	ck_assert_int_eq(send_fds(1, NULL, 1, FERRY_FD_DUP), -EINVAL);
	ck_assert_int_eq(send_fds(1, &fd, 1, (enum ferry_fd_ownership)0), -EINVAL);
	ck_assert_int_eq(send_fds(1, &fd, 1, (enum ferry_fd_ownership)3), -EINVAL);
	ck_assert_ptr_null(ferry_message_stream_get_transport(NULL));
	ferry_message_stream_free(NULL);
	close_stream();
}

/* ---- all or nothing ---- */

static void expect_refused(int expected, const int *fds, size_t count,
                           enum ferry_fd_ownership ownership)
{
	struct ferry_transport_stats before = stats_of(transport_of(&inbox));
	int open_before = count_open_fds();
	ck_assert_int_eq(send_fds(1, fds, count, ownership), expected);
	struct ferry_transport_stats after = stats_of(transport_of(&inbox));
	ck_assert_uint_eq(after.fds_queued, before.fds_queued);
	ck_assert_uint_eq(after.bytes_queued, before.bytes_queued);
	ck_assert_int_eq(count_open_fds(), open_before);
}

TEST_CASE("all or nothing");

/* _i: the ownership. */
LOOP_TEST(a_refused_message_leaves_nothing_queued_and_all_descriptors_the_callers, 2)
{
	enum ferry_fd_ownership ownership = _i == 0 ? FERRY_FD_DUP : FERRY_FD_TAKE;
	struct ferry_message_stream *stream;
	int fds[20];
	open_stream();
	open_marked(fds, 0, 20);
	int good = fds[10];

	fds[10] = -1;
	expect_refused(-EBADF, fds, 20, ownership);
	fds[10] = 100000;
	expect_refused(-EBADF, fds, 20, ownership);
	fds[10] = ends[0];
	expect_refused(-ELOOP, fds, 20, ownership);
	fds[10] = good;
	ck_assert_int_eq(ferry_transport_set_fd_buffer(transport_of(&inbox), 1, 19), 0);
	expect_refused(-ENOBUFS, fds, 20, ownership);
	ck_assert_int_eq(ferry_transport_set_fd_buffer(transport_of(&inbox), 1, 20), 0);

	/* The stream still works. */
	ck_assert_int_eq(send_fds(5, fds, 20, ownership), 0);
	expect_refused(-ENOBUFS, fds, 1, FERRY_FD_DUP);
	open_inbox(&second, ends[1], 0);
	stream = second.stream;
	pump_until_count(&second.count, 1);
	ck_assert_uint_eq(second.notes[0].declared, 20);
	ck_assert_uint_eq(second.notes[0].first_mark, 0);
	if (ownership == FERRY_FD_DUP)
		close_fds(fds, 20);
	ck_assert_ptr_eq(stream, second.stream);
	free_stream(&inbox);
	free_stream(&second);
}

TEST(without_slots_for_the_duplicates_nothing_is_queued)
{
	int fds[10];
	open_stream();
	open_marked(fds, 0, 10);
	pump_turns(2);
	limit_descriptors(5);
	int status = send_fds(1, fds, 10, FERRY_FD_DUP);
	unlimit_descriptors();
	ck_assert_int_eq(status, -EMFILE);
	ck_assert_uint_eq(stats_of(transport_of(&inbox)).fds_queued, 0);
	ck_assert_uint_eq(stats_of(transport_of(&inbox)).bytes_queued, 0);
	close_fds(fds, 10);
	close_stream();
}

TEST(a_descriptor_cannot_be_taken_twice_but_be_sent_twice)
{
	open_stream();
	int fd = make_marked_fd(0);
	const int fds[3] = {STDERR_FILENO, fd, fd};
	expect_refused(-EINVAL, fds, 3, FERRY_FD_TAKE);
	ck_assert_int_eq(send_fds(1, fds, 3, FERRY_FD_DUP), 0);
	close(fd);
	close_stream();
}

TEST(taken_descriptors_are_closed_once_the_kernel_has_them)
{
	int fds[3];
	open_stream();
	open_marked(fds, 0, 3);
	ck_assert_int_eq(send_fds(1, fds, 3, FERRY_FD_TAKE), 0);
	pump_turns(2);
	for (int i = 0; i < 3; i++)
		ck_assert(!fd_is_open(fds[i]));
	wire_drain(ends[1]);
	close_stream();
}

/* _i: 0 closing, 1 aborted, 2 the peer is gone */
LOOP_TEST(nothing_can_be_sent_when_the_connection_ends, 3)
{
	int fd = make_marked_fd(0);
	open_stream();
	pump_turns(2);
	if (_i == 0)
		ferry_transport_lose_connection(transport_of(&inbox));
	else if (_i == 1)
		ferry_transport_abort_connection(transport_of(&inbox));
	else
		close_far();
	if (_i == 2)
		expect_lost(0);
	ck_assert_int_eq(send_plain(1, "x", 1), -EPIPE);
	ck_assert_int_eq(send_fds(1, &fd, 1, FERRY_FD_TAKE), -EPIPE);
	ck_assert(fd_is_open(fd));
	close(fd);
	pump_until_count(&inbox.lost, 1);
	struct ferry_message_stream *stream = NULL;
	ck_assert_int_eq(ferry_message_stream_new(&stream, transport_of(&inbox), &callbacks, NULL),
	                 -ENOTCONN);
	close_stream();
}

static void free_in_pause(void *context)
{
	(void)context;
	free_stream(&inbox);
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
	open_stream();
	ck_assert_int_eq(ferry_transport_register_producer(transport_of(&inbox), &producer, NULL,
	                                                   FERRY_PRODUCER_PUSH),
	                 0);
	ck_assert_int_eq(
	    ferry_message_stream_send(inbox.stream, 1, payload, sizeof(payload), &fd, 1, FERRY_FD_TAKE),
	    0);
	ck_assert_ptr_null(inbox.stream);
	ck_assert(!fd_is_open(fd));
	close_far();
}

/* ---- other transports ---- */

/* _i: 0 TCP, 1 pipes */
LOOP_TEST(messages_without_descriptors_flow_where_there_are_none, 2)
{
	unsigned char frame[HEADER + 5];
	int fd = STDERR_FILENO, there[2], back[2];
	if (_i == 0) {
		open_kind(PAIR_TCP);
	} else {
		struct ferry_transport *transport = NULL;
		make_pipe(there);
		make_pipe(back);
		ck_assert_int_eq(ferry_transport_new_pipes(&transport, base, there[0], back[1]), 0);
		ck_assert_int_eq(ferry_message_stream_new(&inbox.stream, transport, &callbacks, &inbox), 0);
		ends[1] = there[1];
	}
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 1000000), 0);
	ck_assert_int_eq(send_fds(1, &fd, 1, FERRY_FD_TAKE), -EOPNOTSUPP);
	ck_assert_int_eq(send_plain(1, "hello", 5), 0);

	ck_assert_int_eq(write(ends[1], frame, put_frame(frame, 1, 5, 0)), HEADER + 5);
	pump_until_count(&inbox.count, 1);
	expect_note(0, 1, 5, 0, 0);
	ck_assert_int_eq(write(ends[1], frame, put_frame(frame, 2, 5, 1)), HEADER + 5);
	expect_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 1);
	close_stream();
	if (_i == 1)
		close(back[0]);
}

/* ---- the end ---- */

TEST_CASE("the end");

TEST(an_end_between_messages_is_clean)
{
	open_stream();
	far_frame(1, 10, 0, 2);
	close_far();
	expect_lost(0);
	ck_assert_uint_eq(inbox.count, 1);
	close_stream();
}

/* _i bytes of the frame came. */
LOOP_TEST(an_end_inside_a_message_is_a_broken_format, PIECES - 1)
{
	unsigned char frame[PIECES];
	put_frame(frame, 1, PIECES_PAYLOAD, 2);
	open_stream();
	far_frame(0, 1, 0, 1);
	far_send(frame, (size_t)_i + 1, 0, 2);
	close_far();
	expect_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 1);
	close_stream();
}

TEST(queued_messages_are_sent_when_the_peer_ends_its_half)
{
	open_stream();
	size_t filled = wire_fill(ends[0]);
	ck_assert_int_eq(send_plain(1, "answer", 6), 0);
	shutdown(ends[1], SHUT_WR);
	pump_turns(3);
	size_t got = 0;
	while (inbox.lost == 0) {
		got += wire_drain(ends[1]);
		pump_turns(1);
	}
	got += wire_drain(ends[1]);
	ck_assert_uint_eq(got, filled + HEADER + 6);
	ck_assert_int_eq(inbox.reason, 0);
	close_stream();
}

/* ---- stealing ---- */

static void steal_some(struct inbox *box, struct ferry_message *message)
{
	int first = ferry_message_get_fd(message, 0);
	ck_assert_int_eq(ferry_message_steal_fd(message, 0), first);
	ck_assert_int_eq(ferry_message_steal_fd(message, 0), -ENOENT);
	ck_assert_int_eq(ferry_message_get_fd(message, 0), -ENOENT);
	box->stolen[0] = first;
	box->stolen[1] = ferry_message_steal_fd(message, 2);
	ck_assert_int_ge(ferry_message_get_fd(message, 1), 0);
	box->stolen[2] = ferry_message_get_fd(message, 1);
	ck_assert_uint_eq(ferry_message_get_fd_count(message), 3);
	ck_assert_uint_eq(ferry_message_get_fds_lost(message), 0);
}

TEST_CASE("callbacks");

TEST(stolen_descriptors_are_the_callers_and_the_others_are_closed)
{
	open_stream();
	inbox.hook = steal_some;
	far_frame(1, 0, 20, 3);
	pump_until_count(&inbox.count, 1);
	ck_assert_uint_eq(marked_number(inbox.stolen[0]), 20);
	ck_assert_uint_eq(marked_number(inbox.stolen[1]), 22);
	ck_assert(!fd_is_open(inbox.stolen[2]));
	ck_assert_uint_eq(stats_of(transport_of(&inbox)).fds_unclaimed, 1);
	close_fds(inbox.stolen, 2);
	close_stream();
}

TEST(without_callbacks_everything_is_closed)
{
	static const struct ferry_message_callbacks none = {NULL, NULL, NULL, {NULL}};
	struct ferry_transport *transport;
	struct ferry_message_stream *stream;
	make_pair(PAIR_UNIX, ends);
	transport = make_transport(ends[0]);
	ck_assert_int_eq(ferry_message_stream_new(&stream, transport, &none, NULL), 0);
	far_frame(1, 10, 0, 2);
	far_frame(1, 10, 0, 2);
	close_far();
	pump_turns(5);
	ck_assert_uint_eq(stats_of(transport).fds_unclaimed, 4);
	ferry_message_stream_free(stream);
}

/* ---- inside callbacks ---- */

static void free_it(struct inbox *box, struct ferry_message *message)
{
	size_t length;
	free_stream(box);
	/* The message is valid until the callback returns. */
	const unsigned char *payload = ferry_message_get_payload(message, &length);
	for (size_t i = 0; i < length; i++)
		ck_assert_uint_eq(payload[i], support_byte(i));
	if (ferry_message_get_fd_count(message) > 0)
		box->stolen[0] = ferry_message_steal_fd(message, 1);
}

/* _i: 1: with deferred callbacks; all pending messages were read already */
LOOP_TEST(the_stream_may_be_freed_with_more_messages_and_descriptors_waiting, 2)
{
	make_pair(PAIR_UNIX, ends);
	open_inbox(&inbox, ends[0], _i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	inbox.hook = free_it;
	for (unsigned int i = 0; i < 5; i++)
		far_frame(i, 100, 0, 3);
	pump_until_count(&inbox.count, 1);
	pump_turns(5);
	ck_assert_uint_eq(inbox.count, 1);
	ck_assert_uint_eq(marked_number(inbox.stolen[0]), 1);
	close(inbox.stolen[0]);
	close_far();
}

static void free_when_lost(struct inbox *box)
{
	free_stream(box);
}

TEST(the_stream_may_be_freed_in_connection_lost)
{
	unsigned char frame[HEADER];
	open_stream();
	inbox.on_lost = free_when_lost;
	put_frame(frame, 1, 0, 1);
	far_send(frame, 3, 0, 1);
	pump_turns(3);
	close_far();
	pump_until_count(&inbox.lost, 1);
	pump_turns(3);
	close_stream();
}

static void abort_it(struct inbox *box, struct ferry_message *message)
{
	(void)message;
	ck_assert_int_eq(ferry_transport_abort_connection(transport_of(box)), 0);
}

static void lose_it(struct inbox *box, struct ferry_message *message)
{
	(void)message;
	ck_assert_int_eq(send_plain(9, "last", 4), 0);
	ck_assert_int_eq(ferry_transport_lose_connection(transport_of(box)), 0);
}

/* _i & 1: lose or abort; _i & 2: deferred callbacks */
LOOP_TEST(nothing_is_delivered_after_the_connection_was_ended_in_a_callback, 4)
{
	make_pair(PAIR_UNIX, ends);
	open_inbox(&inbox, ends[0], (_i & 2) != 0 ? BEV_OPT_DEFER_CALLBACKS : 0);
	inbox.hook = (_i & 1) != 0 ? lose_it : abort_it;
	for (unsigned int i = 0; i < 5; i++)
		far_frame(i, 100, 0, 3);
	expect_lost((_i & 1) != 0 ? 0 : -ECONNABORTED);
	ck_assert_uint_eq(inbox.count, 1);
	close_stream();
}

static void echo(struct inbox *box, struct ferry_message *message)
{
	size_t length;
	const void *payload = ferry_message_get_payload(message, &length);
	int fd = ferry_message_steal_fd(message, 0);
	ck_assert_int_eq(ferry_message_stream_send(box->stream, ferry_message_get_type(message),
	                                           payload, length, &fd, 1, FERRY_FD_TAKE),
	                 0);
	/* Both calls offer the input again while the delivery loop is on the stack. */
	bufferevent_trigger(bev_of(box), EV_READ, 0);
	ferry_transport_resume_reading(transport_of(box));
}

TEST(messages_may_be_sent_and_the_input_be_offered_in_a_callback)
{
	make_pair(PAIR_UNIX, ends);
	open_inbox(&inbox, ends[0], 0);
	open_inbox(&second, ends[1], 0);
	second.hook = echo;
	for (unsigned int i = 0; i < 50; i++) {
		int fd = make_marked_fd(i);
		ck_assert_int_eq(send_fds(i, &fd, 1, FERRY_FD_TAKE), 0);
	}
	pump_until_count(&inbox.count, 50);
	for (unsigned int i = 0; i < 50; i++)
		expect_note(i, i, 7, 1, i);
	free_stream(&inbox);
	free_stream(&second);
}

static void pause_it(struct inbox *box, struct ferry_message *message)
{
	(void)message;
	ck_assert_int_eq(ferry_transport_pause_reading(transport_of(box)), 0);
}

/* _i: deferred callbacks */
LOOP_TEST(a_pause_in_a_callback_defers_the_next_message, 2)
{
	make_pair(PAIR_UNIX, ends);
	open_inbox(&inbox, ends[0], _i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	inbox.hook = pause_it;
	for (unsigned int i = 0; i < 6; i++)
		far_frame(i, 100, i, i % 3);
	for (unsigned int i = 0; i < 6; i++) {
		pump_until_count(&inbox.count, i + 1);
		pump_turns(5);
		ck_assert_uint_eq(inbox.count, i + 1);
		expect_note(i, i, 100, i % 3, i);
		ck_assert_int_eq(ferry_transport_resume_reading(transport_of(&inbox)), 0);
	}
	close_stream();
}

/* _i: deferred callbacks */
LOOP_TEST(paused_messages_are_delivered_before_the_peers_end, 2)
{
	make_pair(PAIR_UNIX, ends);
	open_inbox(&inbox, ends[0], _i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	inbox.hook = pause_it;
	for (unsigned int i = 0; i < 6; i++)
		far_frame(i, 100, i, i % 3);
	close_far();
	for (unsigned int i = 0; i < 6; i++) {
		pump_until_count(&inbox.count, i + 1);
		pump_turns(3);
		ck_assert_uint_eq(inbox.count, i + 1);
		if (i < 5)
			ck_assert_uint_eq(inbox.lost, 0);
		if (inbox.lost == 0)
			ck_assert_int_eq(ferry_transport_resume_reading(transport_of(&inbox)), 0);
	}
	expect_lost(0);
	close_stream();
}

/* Reading is paused when a write finds that the peer is gone: all messages are delivered, then the end.
 * _i: deferred callbacks */
LOOP_TEST(a_paused_stream_gets_everything_when_the_peer_is_gone, 2)
{
	make_pair(PAIR_UNIX, ends);
	open_inbox(&inbox, ends[0], _i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	inbox.hook = pause_it;
	for (unsigned int i = 0; i < 6; i++)
		far_frame(i, 100, i, i % 3);
	pump_until_count(&inbox.count, 1);
	close_far();
	ck_assert_int_eq(send_plain(1, "x", 1), 0);
	expect_lost(-EPIPE);
	ck_assert_uint_eq(inbox.count, 6);
	close_stream();
}

TEST(messages_read_before_a_reset_are_delivered_though_the_stream_pauses)
{
	make_pair(PAIR_UNIX, ends);
	open_inbox(&inbox, ends[0], BEV_OPT_DEFER_CALLBACKS);
	inbox.hook = pause_it;
	ck_assert_int_eq(send_plain(1, "unread", 6), 0);
	pump_turns(2);
	for (unsigned int i = 0; i < 6; i++)
		far_frame(i, 100, i, i % 3);
	close_far();
	/* The reset is noticed in the same turn, or at the latest when reading is resumed. */
	while (inbox.lost == 0) {
		pump_turns(1);
		(void)ferry_transport_resume_reading(transport_of(&inbox));
	}
	ck_assert_int_eq(inbox.reason, -ECONNRESET);
	ck_assert_uint_eq(inbox.count, 6);
	close_stream();
}

static int open_before;

static void see_few_open(struct inbox *box, struct ferry_message *message)
{
	(void)box, (void)message;
	ck_assert_int_le(count_open_fds(), open_before + 400);
}

TEST(deferred_callbacks_do_not_let_descriptors_pile_up)
{
	make_pair(PAIR_UNIX, ends);
	open_inbox(&inbox, ends[0], BEV_OPT_DEFER_CALLBACKS);
	for (unsigned int i = 0; i < 20; i++)
		far_frame(i, 1, 0, 100);
	open_before = count_open_fds();
	inbox.hook = see_few_open;
	pump_until_count(&inbox.count, 20);
	close_stream();
}

/* ---- watermarks ---- */

static const size_t high_marks[] = {1, 15, 16, 17, 100, 315};
enum { HIGH_MARKS = sizeof(high_marks) / sizeof(high_marks[0]) };

TEST_CASE("watermarks");

/* _i: the mark, with and without deferred callbacks */
LOOP_TEST(a_high_water_mark_below_a_message_does_not_stop_the_reading, 2 * HIGH_MARKS)
{
	make_pair(PAIR_UNIX, ends);
	open_inbox(&inbox, ends[0], _i < HIGH_MARKS ? 0 : BEV_OPT_DEFER_CALLBACKS);
	bufferevent_setwatermark(bev_of(&inbox), EV_READ, 0, high_marks[_i % HIGH_MARKS]);
	for (unsigned int i = 0; i < 6; i++)
		far_frame(i, i % 2 == 0 ? 300 : 3, i, i % 3);
	pump_until_count(&inbox.count, 6);
	for (unsigned int i = 0; i < 6; i++)
		expect_note(i, i, i % 2 == 0 ? 300 : 3, i % 3, i);
	expect_payload(&inbox, 0);
	close_stream();
}

TEST(a_high_water_mark_still_bounds_a_read)
{
	unsigned char frame[HEADER + 1000];
	open_stream();
	bufferevent_setwatermark(bev_of(&inbox), EV_READ, 0, 10);
	far_send(frame, put_frame(frame, 1, 1000, 0), 0, 0);
	pump_until_count(&inbox.count, 1);
	expect_payload(&inbox, 0);
	ck_assert_uint_ge(stats_of(transport_of(&inbox)).receive_calls, sizeof(frame) / 10);
	close_stream();
}

static bool has_read_some(void *unused)
{
	(void)unused;
	return stats_of(transport_of(&inbox)).bytes_received >= 100;
}

/* The mark is lower than the number of bytes of the message that have arrived. _i: deferred callbacks */
LOOP_TEST(a_high_water_mark_may_be_set_in_the_middle_of_a_message, 2)
{
	unsigned char frame[HEADER + 300];
	put_frame(frame, 5, 300, 2);
	make_pair(PAIR_UNIX, ends);
	open_inbox(&inbox, ends[0], _i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	far_send(frame, 100, 7, 2);
	pump_until(has_read_some, NULL);
	pump_turns(2);
	bufferevent_setwatermark(bev_of(&inbox), EV_READ, 0, 20);
	far_send(frame + 100, sizeof(frame) - 100, 0, 0);
	pump_until_count(&inbox.count, 1);
	expect_note(0, 5, 300, 2, 7);
	expect_payload(&inbox, 0);
	close_stream();
}

static void set_low_high_mark(struct inbox *box, struct ferry_message *message)
{
	(void)message;
	bufferevent_setwatermark(bev_of(box), EV_READ, 0, 20);
}

TEST(a_high_water_mark_may_be_set_in_a_callback)
{
	unsigned char frames[HEADER + 10 + HEADER + 300];
	size_t length = put_frame(frames, 1, 10, 0);
	put_frame(frames + length, 2, 300, 0);
	open_stream();
	inbox.hook = set_low_high_mark;
	far_send(frames, length + 100, 0, 0);
	pump_until_count(&inbox.count, 1);
	far_send(frames + length + 100, sizeof(frames) - length - 100, 0, 0);
	pump_until_count(&inbox.count, 2);
	expect_payload(&inbox, 0);
	close_stream();
}

/* _i: deferred callbacks */
LOOP_TEST(a_low_water_mark_does_not_defer_messages, 2)
{
	make_pair(PAIR_UNIX, ends);
	open_inbox(&inbox, ends[0], _i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	bufferevent_setwatermark(bev_of(&inbox), EV_READ, 1000000, 0);
	inbox.hook = pause_it;
	for (unsigned int i = 0; i < 3; i++)
		far_frame(i, 10, i, i);
	for (unsigned int i = 0; i < 3; i++) {
		pump_until_count(&inbox.count, i + 1);
		ck_assert_int_eq(ferry_transport_resume_reading(transport_of(&inbox)), 0);
	}
	close_stream();
}

/* The beginning of a message is in the stream's partial buffer. _i + 1: its bytes */
LOOP_TEST(an_end_inside_a_message_is_an_error_under_a_high_water_mark_too, HEADER + 20 - 1)
{
	unsigned char frame[HEADER + 20];
	put_frame(frame, 1, 20, 1);
	open_stream();
	bufferevent_setwatermark(bev_of(&inbox), EV_READ, 0, 5);
	far_send(frame, (size_t)_i + 1, 0, 1);
	close_far();
	expect_lost(-EPROTO);
	ck_assert_uint_eq(inbox.count, 0);
	close_stream();
}

/* ---- after another protocol ---- */

static void upgrade(struct recorder *recorder, char event)
{
	if (event != EVENT_DATA)
		return;
	struct evbuffer *input =
	    bufferevent_get_input(ferry_transport_get_bufferevent(recorder->transport));
	/* The recorder has taken all bytes: puts those behind the old protocol's back. */
	evbuffer_drain(recorder->received, 3);
	evbuffer_unfreeze(input, 0);
	evbuffer_prepend_buffer(input, recorder->received);
	ck_assert_int_eq(
	    ferry_message_stream_new(&inbox.stream, recorder->transport, &callbacks, &inbox), 0);
}

TEST_CASE("callbacks");

TEST(a_transport_may_change_to_messages)
{
	struct recorder recorder;
	make_pair(PAIR_UNIX, ends);
	recorder_open(&recorder, ends[0], &recorder_protocol);
	recorder.hook = upgrade;
	pump_turns(2);
	unsigned char bytes[3 + 2 * (HEADER + 10)] = "go\n";
	size_t length = 3 + put_frame(bytes + 3, 1, 10, 0);
	length += put_frame(bytes + length, 2, 10, 0);
	far_send(bytes, length, 0, 0);
	pump_until_count(&inbox.count, 2);
	far_frame(3, 5, 9, 3);
	pump_until_count(&inbox.count, 3);
	expect_note(2, 3, 5, 3, 9);
	evbuffer_free(recorder.received);
	close_stream();
}

/* ---- the reserve of descriptor slots ---- */

static void expect_nothing_yet(void)
{
	uint64_t before = stats_of(transport_of(&inbox)).bytes_received;
	pump_turns(10);
	ck_assert_uint_eq(stats_of(transport_of(&inbox)).bytes_received, before);
	ck_assert_uint_eq(inbox.lost, 0);
}

/* pump_until() could not report a failure at the descriptor limit. */
static void turn_until(const unsigned int *counter, unsigned int value)
{
	while (*counter < value)
		event_base_loop(base, EVLOOP_ONCE);
}

TEST_CASE("the reserve");

TEST(nothing_is_read_while_fewer_slots_than_the_reserve_are_free)
{
	open_stream();
	pump_turns(2);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 10), 0);
	far_frame(1, 5, 0, 10);
	far_frame(2, 5, 50, 10);
	limit_descriptors(9);
	expect_nothing_yet();
	int calls = (int)stats_of(transport_of(&inbox)).receive_calls;
	unlimit_descriptors();
	ck_assert_int_eq(calls, 0);

	pump_until_count(&inbox.count, 2);
	expect_note(0, 1, 5, 10, 0);
	expect_note(1, 2, 5, 10, 50);
	ck_assert_uint_eq(inbox.notes[0].lost + inbox.notes[1].lost, 0);
	close_stream();
}

static void steal_into_list(struct inbox *box, struct ferry_message *message)
{
	for (size_t i = 0; i < 5; i++)
		box->stolen[(box->count - 1) * 5 + i] = ferry_message_steal_fd(message, i);
}

TEST(frames_come_one_by_one_as_slots_become_free)
{
	open_stream();
	pump_turns(2);
	inbox.hook = steal_into_list;
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 5), 0);
	for (unsigned int i = 0; i < 6; i++)
		far_frame(i, 5, 10 * i, 5);
	limit_descriptors(11);
	size_t lost = 0;
	for (unsigned int i = 0; i < 6; i += 2) {
		turn_until(&inbox.count, i + 2);
		expect_nothing_yet();
		lost += inbox.notes[i].lost + inbox.notes[i + 1].lost;
		for (unsigned int j = 0; j < 10; j++)
			close(inbox.stolen[5 * i + j]);
	}
	unlimit_descriptors();
	ck_assert_uint_eq(inbox.count, 6);
	ck_assert_uint_eq(lost, 0);
	close_stream();
}

/* _i: 1: the reserve is one more than the free slots */
LOOP_TEST(slots_below_used_ones_count_as_free, 2)
{
	int numbers[20];
	open_stream();
	pump_turns(2);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 15 + (unsigned int)_i), 0);
	far_frame(1, 5, 0, 15);
	limit_descriptors(20);
	/* Uses the upper end of the descriptor table. */
	for (int i = 0; i < 20; i++)
		numbers[i] = dup(ends[1]);
	for (int i = 0; i < 15; i++)
		close(numbers[i]);
	if (_i == 1) {
		expect_nothing_yet();
		close(numbers[19]);
	}
	turn_until(&inbox.count, 1);
	unlimit_descriptors();
	ck_assert_uint_eq(inbox.notes[0].lost, 0);
	for (int i = 15; i < 20 - _i; i++)
		close(numbers[i]);
	close_stream();
}

TEST(a_suspended_stream_can_be_paused_resumed_and_freed)
{
	open_stream();
	pump_turns(2);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 10), 0);
	far_frame(1, 5, 0, 1);
	far_frame(2, 5, 0, 1);
	limit_descriptors(9);
	expect_nothing_yet();
	ferry_transport_pause_reading(transport_of(&inbox));
	expect_nothing_yet();
	ferry_transport_resume_reading(transport_of(&inbox));
	expect_nothing_yet();
	/* Enabling reading by libevent's own function does not read either. */
	bufferevent_enable(bev_of(&inbox), EV_READ);
	expect_nothing_yet();
	ferry_transport_pause_reading(transport_of(&inbox));
	unlimit_descriptors();
	expect_nothing_yet();
	ferry_transport_resume_reading(transport_of(&inbox));
	pump_until_count(&inbox.count, 2);

	far_frame(3, 5, 0, 1);
	limit_descriptors(9);
	expect_nothing_yet();
	free_stream(&inbox);
	pump_turns(3);
	unlimit_descriptors();
	close_far();
}

/* _i: 1: the user has paused reading too */
LOOP_TEST(a_suspended_stream_gets_everything_when_the_peer_is_gone, 2)
{
	open_stream();
	pump_turns(2);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 10), 0);
	for (unsigned int i = 0; i < 4; i++)
		far_frame(i, 5, 0, 10);
	limit_descriptors(9);
	expect_nothing_yet();
	if (_i == 1)
		ferry_transport_pause_reading(transport_of(&inbox));
	/* close() would not do: the process that sets the limits has a copy. */
	ck_assert_int_eq(shutdown(ends[1], SHUT_RDWR), 0);
	int status = send_plain(1, "x", 1);
	pump_turns(10);
	unsigned int lost = inbox.lost;
	unlimit_descriptors();
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(lost, 0);

	expect_lost(-EPIPE);
	ck_assert_uint_eq(inbox.count, 4);
	for (unsigned int i = 0; i < 4; i++)
		ck_assert_uint_eq(inbox.notes[i].lost, 0);
	close_stream();
}

TEST(a_reserve_may_be_larger_than_one_look_and_than_the_limit)
{
	raise_descriptor_limit();
	open_stream();
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 700), 0);
	far_frame(1, 5, 0, 10);
	pump_until_count(&inbox.count, 1);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, UINT32_MAX), 0);
	far_frame(2, 5, 0, 10);
	expect_nothing_yet();
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(inbox.stream, 0), 0);
	pump_until_count(&inbox.count, 2);
	close_stream();
}
