/* With exact positions, descriptors are delivered behind all bytes that were sent before them, and right before their
 * own. */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fd_receiver.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { ROUNDS = 30, MESSAGES = 60, PIECE_MAX = 40000 };

/* What was sent: the position of each descriptor. */
static struct {
	uint64_t bytes, at[RECORDER_MAX_FDS];
	unsigned int fds;
} sent;

static void set_exact(struct ferry_transport *transport)
{
	ck_assert_int_eq(ferry_transport_set_fd_positions(transport, FERRY_FD_EXACT), 0);
}

static void open_exact(const struct ferry_protocol *protocol)
{
	open_fd_receiver(protocol);
	set_exact(fd_receiver.transport);
	memset(&sent, 0, sizeof(sent));
}

/* One message with `count` descriptors; false if the socket is full. */
static bool send_message(size_t length, unsigned int count)
{
	static unsigned char bytes[PIECE_MAX];
	int fds[WIRE_MAX_FDS] = {0};

	for (size_t i = 0; i < length; i++)
		bytes[i] = support_byte(sent.bytes + i);
	for (unsigned int i = 0; i < count; i++)
		fds[i] = make_marked_fd(sent.fds + i);
	ssize_t taken = wire_send(receiver_ends[0], bytes, length, fds, count);
	for (unsigned int i = 0; i < count; i++)
		close(fds[i]);
	if (taken <= 0)
		return false;
	for (unsigned int i = 0; i < count; i++)
		sent.at[sent.fds++] = sent.bytes;
	sent.bytes += (uint64_t)taken;
	return true;
}

static void send_random_message(void)
{
	size_t max = support_random_below(8) == 0 ? PIECE_MAX : 300;
	unsigned int fds = support_random_below(3) == 0 ? 1 + support_random_below(3) : 0;

	(void)send_message(1 + support_random_below((uint32_t)max), fds);
}

static bool all_has_come(void *argument)
{
	(void)argument;
	return recorder_length(&fd_receiver) == sent.bytes;
}

/* Also what is under the low-water mark. */
static bool all_is_read(void *argument)
{
	(void)argument;
	struct bufferevent *bev = ferry_transport_get_bufferevent(fd_receiver.transport);
	return recorder_length(&fd_receiver) + evbuffer_get_length(bufferevent_get_input(bev)) ==
	       sent.bytes;
}

static void expect_all(void)
{
	pump_until(all_has_come, NULL);
	check_received(0, sent.fds);
	for (unsigned int i = 0; i < sent.fds; i++)
		ck_assert_uint_eq(fd_receiver.fd_at[i], sent.at[i]);
	recorder_expect_bytes(&fd_receiver, 0, (size_t)sent.bytes);
}

/* The ways in which bytes are delivered later, or in pieces. */
enum { PLAINLY, DEFERRED, LOW_MARK, SMALL_READS, PAUSING, WAYS };

static void pause_sometimes(struct recorder *recorder, char event)
{
	if ((event == EVENT_DATA || event == EVENT_FD) && support_random_below(4) == 0)
		ck_assert_int_eq(ferry_transport_pause_reading(recorder->transport), 0);
}

static void open_way(int way)
{
	make_pair(PAIR_UNIX, receiver_ends);
	memset(&sent, 0, sizeof(sent));
	struct bufferevent *bev = bufferevent_socket_new(
	    base, receiver_ends[1],
	    BEV_OPT_CLOSE_ON_FREE | (way == DEFERRED ? BEV_OPT_DEFER_CALLBACKS : 0));
	struct ferry_transport *transport;
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	set_exact(transport);
	recorder_attach(&fd_receiver, transport, &recorder_protocol);
	if (way == LOW_MARK)
		bufferevent_setwatermark(bev, EV_READ, 100, 0);
	if (way == SMALL_READS)
		bufferevent_set_max_single_read(bev, 200);
	if (way == PAUSING)
		fd_receiver.hook = pause_sometimes;
}

LOOP_TEST(in_random_layouts_each_descriptor_comes_right_before_its_byte, WAYS)
{
	open_way(_i);
	for (int round = 0; round < ROUNDS; round++) {
		for (uint32_t messages = support_random_below(MESSAGES); messages > 0; messages--)
			send_random_message();
		pump_turns((int)support_random_below(3));
		(void)ferry_transport_resume_reading(fd_receiver.transport);
		if (_i ==
		    LOW_MARK) { /* a rest under the mark comes with the next message, which is read whole */
			pump_until(all_is_read, NULL);
			ck_assert(send_message(100, 0));
		}
		if (_i != PAUSING)
			pump_until(all_has_come, NULL);
	}
	fd_receiver.hook = NULL;
	(void)ferry_transport_resume_reading(fd_receiver.transport);
	expect_all();
	close_fd_receiver();
}

TEST(the_first_descriptor_behind_a_long_plain_stream_is_exact_too)
{
	open_exact(&recorder_protocol);
	/* Large reads, for which one look covers all that is in the socket. */
	for (int i = 0; i < 40; i++) {
		while (send_message(PIECE_MAX, 0))
			continue;
		pump_until(all_has_come, NULL);
	}
	(void)send_message(30000, 0);
	(void)send_message(30000, 0);
	(void)send_message(10, 2);
	(void)send_message(30000, 0);
	expect_all();
	close_fd_receiver();
}

TEST(bytes_under_the_low_water_mark_are_offered_before_a_descriptor)
{
	open_exact(&recorder_protocol);
	bufferevent_setwatermark(ferry_transport_get_bufferevent(fd_receiver.transport), EV_READ, 1000,
	                         0);
	(void)send_message(10, 0);
	pump_turns(3);
	ck_assert_uint_eq(fd_receiver.data, 0);

	(void)send_message(1, 1);
	pump_until_fds(&fd_receiver, 1);

	ck_assert_uint_eq(fd_receiver.fd_at[0], 10);
	close_fd_receiver();
}

static void pause_at_data(struct recorder *recorder, char event)
{
	if (event == EVENT_DATA)
		ck_assert_int_eq(ferry_transport_pause_reading(recorder->transport), 0);
}

TEST(a_pause_at_the_bytes_before_a_descriptor_leaves_it_in_the_socket)
{
	open_exact(&recorder_protocol);
	fd_receiver.hook = pause_at_data;
	(void)send_message(10, 0);
	(void)send_message(1, 1);
	pump_turns(5);
	ck_assert_uint_eq(stats_of(fd_receiver.transport).fds_received, 0);

	fd_receiver.hook = NULL;
	ck_assert_int_eq(ferry_transport_resume_reading(fd_receiver.transport), 0);
	expect_all();
	close_fd_receiver();
}

static void free_at_data(struct recorder *recorder, char event)
{
	if (event == EVENT_DATA)
		recorder_free_transport(recorder);
}

TEST(the_transport_may_be_freed_at_the_bytes_before_a_descriptor)
{
	open_exact(&recorder_protocol);
	fd_receiver.hook = free_at_data;
	bufferevent_setwatermark(ferry_transport_get_bufferevent(fd_receiver.transport), EV_READ, 1000,
	                         0);
	(void)send_message(10, 0);
	(void)send_message(1, 1);
	pump_turns(5);
	ck_assert_uint_eq(fd_receiver.fd_count, 0);
	close_fd_receiver();
}

/* ---- without a protocol ---- */

static uint64_t taken;
static unsigned int fds_taken;

static void take_bytes(struct bufferevent *bev, void *context)
{
	struct evbuffer *input = bufferevent_get_input(bev);

	(void)context;
	taken += evbuffer_get_length(input);
	evbuffer_drain(input, evbuffer_get_length(input));
}

static void take_fd(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport, (void)context;
	ck_assert_uint_eq(marked_number(fd), fds_taken);
	ck_assert_uint_eq(taken, sent.at[fds_taken++]);
	close(fd);
}

static bool all_is_received(void *argument)
{
	return stats_of(argument).bytes_received == sent.bytes;
}

static bool all_is_taken(void *argument)
{
	(void)argument;
	return taken == sent.bytes;
}

/* _i: options of the bufferevent, and a low-water mark. */
LOOP_TEST(without_a_protocol_the_read_callback_has_run_for_all_earlier_bytes, 4)
{
	struct ferry_transport *transport;

	make_pair(PAIR_UNIX, receiver_ends);
	memset(&sent, 0, sizeof(sent));
	taken = fds_taken = 0;
	struct bufferevent *bev = bufferevent_socket_new(
	    base, receiver_ends[1],
	    BEV_OPT_CLOSE_ON_FREE | ((_i & 1) != 0 ? BEV_OPT_DEFER_CALLBACKS : 0));
	bufferevent_setwatermark(bev, EV_READ, _i >= 2 ? 200 : 0, 0);
	bufferevent_setcb(bev, take_bytes, NULL, NULL, NULL);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_transport_set_fd_cb(transport, take_fd, NULL), 0);
	set_exact(transport);
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < MESSAGES / 3; i++)
			send_random_message();
		pump_until(all_is_received, transport);
		/* The last bytes may be under the mark. */
		bufferevent_trigger(bev, EV_READ, BEV_TRIG_IGNORE_WATERMARKS);
		pump_until(all_is_taken, NULL);
	}
	ck_assert_uint_eq(fds_taken, sent.fds);
	ferry_transport_free(transport);
	close(receiver_ends[0]);
}

/* ---- the setting ---- */

TEST(positions_can_be_switched_at_any_time)
{
	open_exact(&recorder_protocol);
	(void)send_message(10, 0);
	(void)send_message(1, 1);
	expect_all();
	ck_assert_int_eq(ferry_transport_set_fd_positions(fd_receiver.transport, FERRY_FD_EARLY), 0);
	(void)send_message(10, 0);
	(void)send_message(1, 1);
	pump_until_fds(&fd_receiver, 2);
	ck_assert_uint_eq(fd_receiver.fd_at[1], 0); /* expect_all() has taken 11 bytes out */
	close_fd_receiver();
}

TEST(early_positions_cost_no_look)
{
	open_fd_receiver(&recorder_protocol);
	memset(&sent, 0, sizeof(sent));
	(void)send_message(10, 0);
	(void)send_message(1, 1);
	pump_until_fds(&fd_receiver, 1);
	ck_assert_uint_eq(fd_receiver.fd_at[0], 0);
	close_fd_receiver();
}

TEST(another_socket_has_exact_positions_too)
{
	int others[2];

	open_exact(&recorder_protocol);
	make_pair(PAIR_UNIX, others);
	close(receiver_ends[0]);
	ck_assert_int_eq(ferry_transport_set_socket(fd_receiver.transport, others[1]), 0);
	close(receiver_ends[1]);
	receiver_ends[0] = others[0];
	(void)send_message(10, 0);
	(void)send_message(1, 1);
	expect_all();
	close_fd_receiver();
}

TEST(on_tcp_the_call_has_no_effect)
{
	make_pair(PAIR_TCP, receiver_ends);
	memset(&sent, 0, sizeof(sent));
	recorder_open(&fd_receiver, receiver_ends[1], &recorder_protocol);
	set_exact(fd_receiver.transport);
	for (int i = 0; i < MESSAGES; i++)
		(void)send_message(1000, 0);
	expect_all();
	close_fd_receiver();
}

TEST(the_end_comes_behind_the_last_descriptor)
{
	open_exact(&recorder_no_half_close);
	(void)send_message(10, 0);
	(void)send_message(1, 1);
	close(receiver_ends[0]);
	receiver_ends[0] = -1;
	pump_until_lost(&fd_receiver);
	ck_assert_uint_eq(fd_receiver.fd_at[0], 10);
	ck_assert_int_eq(fd_receiver.reason, 0);
	close_fd_receiver();
}

TEST(bad_positions_are_refused)
{
	open_fd_receiver(&recorder_protocol);
	ck_assert_int_eq(ferry_transport_set_fd_positions(NULL, FERRY_FD_EXACT), -EINVAL);
	ck_assert_int_eq(
	    ferry_transport_set_fd_positions(fd_receiver.transport, (enum ferry_fd_positions)2),
	    -EINVAL);
	close_fd_receiver();
}
