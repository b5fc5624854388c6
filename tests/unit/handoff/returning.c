/* A worker gives a connection back. It changes hands once the kernel has the whole return, whatever becomes of the
 * worker, the dispatcher and the channel. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/dispatcher.h"
#include "ferry/worker.h"
#include "handoff/handoff.h"
#include "handoff/wire.h"
#include "message/wire.h"

#include "dispatcher_peer.h"
#include "handoff_info.h"
#include "test.h"
#include "wire.h"
#include "worker_frames.h"

/* ---- a worker of ferry's ---- */

static struct ferry_worker *worker;
static struct ferry_handoff *failed; /* the last return that failed */
static uint64_t id, failed_id;
static unsigned int received, recalled, lost;
static struct timeval spread;
static int served_fd;
static bool came_as_inet;

static void on_received(struct ferry_worker *from, struct ferry_handoff *handoff, void *context)
{
	(void)from, (void)context;
	received++;
	id = handoff_info(handoff).id;
	came_as_inet = handoff_info(handoff).inet_stream;
	served_fd = ferry_handoff_steal_fd(handoff);
}

static void on_recall(struct ferry_worker *from, const struct timeval *time, void *context)
{
	(void)from, (void)context;
	recalled++;
	spread = *time;
}

static void on_failed(struct ferry_worker *from, uint64_t number, struct ferry_handoff *handoff,
                      void *context)
{
	(void)from, (void)context;
	ck_assert_uint_eq(lost, 0);
	failed_id = number;
	failed = handoff;
}

static void on_dispatcher_lost(struct ferry_worker *from, int reason, void *context)
{
	(void)from, (void)reason, (void)context;
	lost++;
}

static const struct ferry_worker_callbacks worker_callbacks = {
    .handoff_received = on_received,
    .recall_requested = on_recall,
    .return_failed = on_failed,
    .dispatcher_lost = on_dispatcher_lost,
};

/* Returns the worker's end of the channel. */
static int open_worker(void)
{
	int ends[2];

	received = recalled = lost = 0;
	failed = NULL;
	served_fd = -1;
	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(
	    ferry_dispatcher_add_worker(&peers[0].worker, dispatcher, make_transport(ends[0]), NULL),
	    0);
	ck_assert_int_eq(ferry_worker_new(&worker, make_transport(ends[1]), &worker_callbacks, NULL),
	                 0);
	pump_until_count(&notes.ready, 1);
	return ends[1];
}

static struct ferry_handoff *make_return(void)
{
	struct ferry_handoff *handoff = NULL;

	ck_assert_int_eq(ferry_handoff_new(&handoff, served_fd), 0);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "unread", 6), 0);
	ck_assert_int_eq(ferry_handoff_set_blob(handoff, "state", 5), 0);
	return handoff;
}

static void hand_off_named(unsigned int number)
{
	struct ferry_handoff *handoff = make_handoff(number);

	ck_assert_int_eq(ferry_handoff_set_name(handoff, "www"), 0);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "GET", 3), 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &notes.of[number]),
	                 0);
}

static void expect_back(const char *bytes, const char *blob)
{
	size_t length;

	pump_until_count(&notes.returned, 1);
	const void *there = ferry_handoff_get_bytes(notes.back, &length);
	ck_assert_uint_eq(length, strlen(bytes));
	ck_assert_mem_eq(there, bytes, length);
	there = ferry_handoff_get_blob(notes.back, &length);
	ck_assert_uint_eq(length, strlen(blob));
	ck_assert_mem_eq(there, blob, length);
}

TEST_CASE("by ferry's worker");

TEST(a_returned_connection_has_its_name_bytes_state_and_record)
{
	open_dispatcher_for_returns();
	open_worker();
	hand_off_named(0);
	pump_until_count(&received, 1);
	ck_assert(ferry_worker_can_return(worker));
	ck_assert_int_eq(ferry_worker_return(worker, id, make_return()), 0);
	ck_assert(!fd_is_open(served_fd)); /* the kernel has it: this copy is closed at once */
	expect_back("unread", "state");
	struct ferry_handoff_info info = handoff_info(notes.back);
	ck_assert_str_eq(info.name, "www");
	ck_assert_ptr_eq(info.context, &notes.of[0]);
	ck_assert_uint_eq(info.returned, 1);
	ck_assert_uint_eq(info.id, 0);
	ck_assert_uint_eq(notes.of[0].count, 0);
	ck_assert_uint_eq(dispatcher_stats().returned, 1);
	ck_assert_uint_eq(dispatcher_stats().outstanding, 0);
	ck_assert_int_eq(write(notes.client[0], "x", 1), 1);
	ck_assert_int_eq(write(ferry_handoff_get_fd(notes.back), "y", 1), 1);
	ferry_handoff_free(notes.back);
	ferry_worker_free(worker);
	free_dispatcher();
	close_clients(1);
}

/* As a worker without ferry does that has threads. A transport on a blocking socket would hold up its loop. */
TEST(a_socket_that_a_worker_has_made_blocking_does_not_block_after_its_return)
{
	struct ferry_transport *transport;
	open_dispatcher_for_returns();
	open_worker();
	struct ferry_handoff *handoff = make_handoff(0);
	ck_assert_int_eq(ferry_handoff_set_inet_stream(handoff), 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &notes.of[0]), 0);
	pump_until_count(&received, 1);
	ck_assert_int_eq(fcntl(served_fd, F_SETFL, 0), 0);
	ck_assert_int_eq(ferry_worker_return(worker, id, make_return()), 0);
	expect_back("unread", "state");
	int fd = ferry_handoff_get_fd(notes.back);
	ck_assert_int_eq(
	    ferry_handoff_to_transport(&transport, notes.back, base, BEV_OPT_CLOSE_ON_FREE), 0);
	ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	ferry_transport_free(transport);
	ferry_handoff_free(notes.back);
	ferry_worker_free(worker);
	free_dispatcher();
	close_clients(1);
}

/* _i: which of the two states it. The dispatcher's statement ends with the hand-off: a worker may make the socket
 * blocking. */
LOOP_TEST(that_a_stream_is_one_of_inet_travels_both_ways, 4)
{
	open_dispatcher_for_returns();
	open_worker();
	struct ferry_handoff *handoff = make_handoff(0);
	if ((_i & 1) != 0)
		ck_assert_int_eq(ferry_handoff_set_inet_stream(handoff), 0);
	ck_assert_int_eq(ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &notes.of[0]), 0);
	pump_until_count(&received, 1);
	ck_assert(came_as_inet == ((_i & 1) != 0));
	handoff = make_return();
	if ((_i & 2) != 0)
		ck_assert_int_eq(ferry_handoff_set_inet_stream(handoff), 0);
	ck_assert_int_eq(ferry_worker_return(worker, id, handoff), 0);
	expect_back("unread", "state");
	ck_assert(handoff_info(notes.back).inet_stream == ((_i & 2) != 0));
	ferry_handoff_free(notes.back);
	ferry_worker_free(worker);
	free_dispatcher();
	close_clients(1);
}

TEST(a_returned_connection_is_handed_off_again)
{
	enum { ROUNDS = 20 };

	open_dispatcher_for_returns();
	open_worker();
	hand_off_named(0);
	for (unsigned int i = 1; i <= ROUNDS; i++) {
		pump_until_count(&received, i);
		ck_assert_int_eq(ferry_worker_return(worker, id, make_return()), 0);
		pump_until_count(&notes.returned, i);
		ck_assert_uint_eq(handoff_info(notes.back).returned, i);
		ck_assert_int_eq(
		    ferry_dispatcher_hand_off(dispatcher, notes.back, on_outcome, &notes.of[0]), 0);
	}
	pump_until_count(&received, ROUNDS + 1);
	ck_assert_int_eq(ferry_worker_done(worker, id), 0);
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	close(served_fd);
	ferry_worker_free(worker);
	free_dispatcher();
	ck_assert(client_is_closed(&notes.client[0]));
	close_clients(1);
}

TEST(a_dispatcher_without_the_callback_takes_no_returns)
{
	open_dispatcher();
	open_worker();
	hand_off_named(0);
	pump_until_count(&received, 1);
	struct ferry_handoff *handoff = make_return();
	ck_assert(!ferry_worker_can_return(worker));
	ck_assert_int_eq(ferry_worker_return(worker, id, handoff), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_dispatcher_worker_recall(peers[0].worker, &(struct timeval){0}),
	                 -EOPNOTSUPP);
	ck_assert_int_eq(ferry_handoff_steal_fd(handoff), served_fd);
	ferry_handoff_free(handoff);
	close(served_fd);
	ferry_worker_free(worker);
	free_dispatcher();
	close_clients(1);
}

TEST(bad_arguments_are_refused)
{
	open_dispatcher_for_returns();
	open_worker();
	hand_off_named(0);
	pump_until_count(&received, 1);
	struct ferry_handoff *handoff = make_return();
	ck_assert_int_eq(ferry_worker_return(NULL, id, handoff), -EINVAL);
	ck_assert(!ferry_worker_can_return(NULL));
	ck_assert_int_eq(ferry_worker_return(worker, id, NULL), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_worker_recall(NULL, &spread), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_worker_recall(peers[0].worker, NULL), -EINVAL);
	ck_assert_int_eq(ferry_dispatcher_worker_recall(peers[0].worker, &(struct timeval){-1, 0}),
	                 -EINVAL);
	ck_assert_int_eq(ferry_handoff_steal_fd(handoff), served_fd);
	ck_assert_int_eq(ferry_worker_return(worker, id, handoff), -EBADF);
	ferry_handoff_free(handoff);
	close(served_fd);
	ferry_worker_free(worker);
	free_dispatcher();
	close_clients(1);
}

/* _i: whether the worker learns of the end first */
LOOP_TEST(a_return_on_an_ended_channel_fails, 2)
{
	open_dispatcher_for_returns();
	open_worker();
	hand_off_named(0);
	pump_until_count(&received, 1);
	struct ferry_handoff *handoff = make_return();
	ferry_dispatcher_worker_remove(peers[0].worker);
	if (_i == 1)
		pump_until_count(&lost, 1);
	ck_assert_int_eq(ferry_worker_return(worker, id, handoff), -ENOTCONN);
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), served_fd);
	expect_outcome(0, FERRY_HANDOFF_KEPT, -ECANCELED);
	ck_assert_int_eq(write(served_fd, "x", 1), 1);
	ck_assert(!client_is_closed(&notes.client[0]));
	ferry_handoff_free(handoff);
	ferry_worker_free(worker);
	free_dispatcher();
	close_clients(1);
}

/* The channel is full, so that the return waits in the worker. */
static void fill_channel(int channel)
{
	char bytes[4096] = {0};
	size_t length = sizeof(bytes);

	while (length > 0)
		if (send(channel, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			length /= 2;
}

TEST(a_return_that_never_left_is_the_workers_again)
{
	open_dispatcher_for_returns();
	int channel = open_worker();
	hand_off_named(0);
	pump_until_count(&received, 1);
	ferry_transport_pause_reading(ferry_dispatcher_worker_get_transport(peers[0].worker));
	fill_channel(channel);
	struct ferry_handoff *handoff = make_return();
	ck_assert_int_eq(ferry_worker_return(worker, id, handoff), 0);
	ck_assert_int_eq(ferry_handoff_steal_fd(handoff), -EBUSY);
	ck_assert_int_eq(ferry_worker_return(worker, id, handoff), -EINVAL);
	ferry_dispatcher_worker_remove(peers[0].worker);
	pump_until_count(&lost, 1);
	ck_assert(!ferry_worker_can_return(worker));
	ck_assert_ptr_eq(failed, handoff);
	ck_assert_uint_eq(failed_id, id);
	ck_assert_int_eq(ferry_handoff_get_fd(failed), served_fd);
	ck_assert_int_eq(write(served_fd, "x", 1), 1);
	ferry_handoff_free(failed);
	ferry_worker_free(worker);
	free_dispatcher();
	close_clients(1);
}

TEST(a_recall_names_the_time_to_spread_the_returns_over)
{
	open_dispatcher_for_returns();
	open_worker();
	ck_assert_int_eq(ferry_dispatcher_worker_recall(peers[0].worker, &(struct timeval){2, 500000}),
	                 0);
	pump_until_count(&recalled, 1);
	ck_assert_int_eq(spread.tv_sec, 2);
	ck_assert_int_eq(spread.tv_usec, 500000);
	ferry_worker_free(worker);
	free_dispatcher();
}

/* _i: whether the channel was full, so that the report is still in the worker */
LOOP_TEST(a_report_before_free_is_sent, 2)
{
	open_dispatcher_for_returns();
	int channel = open_worker();
	struct ferry_transport *far = ferry_dispatcher_worker_get_transport(peers[0].worker);
	hand_off_named(0);
	pump_until_count(&received, 1);
	close(served_fd);
	ferry_transport_pause_reading(far);
	if (_i == 1) {
		/* whole messages that the dispatcher ignores */
		unsigned char header[MESSAGE_HEADER_SIZE];
		message_header_put(header, &(struct message_header){.type = 999});
		while (send(channel, header, sizeof(header), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(header))
			continue;
	}
	ck_assert_int_eq(ferry_worker_done(worker, id), 0);
	ferry_worker_free(worker);
	ferry_transport_resume_reading(far);
	expect_outcome(0, FERRY_HANDOFF_DONE, 0);
	pump_until_count(&notes.lost, 1);
	free_dispatcher();
	close_clients(1);
}

/* ---- a worker in plain system calls ---- */

TEST_CASE("by another worker");

/* Hands client 0 off to the peer, which claims it. */
static void give_to_peer(void)
{
	open_dispatcher_for_returns();
	add_peer(&peers[0], 4);
	hand_off(0);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
}

/* Returns the length of a return of the peer's handoff, written to `out`. */
static size_t return_frame(unsigned char *out, size_t bytes_length)
{
	unsigned char *payload = out + MESSAGE_HEADER_SIZE;
	const struct handoff_wire_handoff wire = {
	    .id = peers[0].frame.id,
	    .epoch = peers[0].frame.epoch,
	    .identity = peers[0].frame.identity,
	    .bytes_length = (uint32_t)bytes_length,
	};
	size_t length = HANDOFF_WIRE_HANDOFF_SIZE + 1 + bytes_length;

	message_header_put(out, &(struct message_header){.type = HANDOFF_WIRE_RETURN,
	                                                 .length = (uint32_t)length,
	                                                 .fd_count = 1});
	handoff_wire_handoff_put(payload, &wire);
	memset(payload + HANDOFF_WIRE_HANDOFF_SIZE, 'b', 1 + bytes_length);
	payload[HANDOFF_WIRE_HANDOFF_SIZE] = 0;
	return MESSAGE_HEADER_SIZE + length;
}

static unsigned char frame[MESSAGE_HEADER_SIZE + HANDOFF_WIRE_PAYLOAD_MAX];

static void send_return(size_t length)
{
	ck_assert_int_eq(wire_send(peers[0].fd, frame, length, &peers[0].got, 1), (ssize_t)length);
	peer_drop_fd(&peers[0]);
}

/* _i: how the channel ends: not; the peer closes it; the dispatcher ends it before it has read anything; or after
 * it has read the beginning */
LOOP_TEST(a_whole_return_is_not_lost_whatever_ends_the_channel, 4)
{
	static char bytes[20001];

	memset(bytes, 'b', sizeof(bytes) - 1);
	give_to_peer();
	size_t length = return_frame(frame, sizeof(bytes) - 1);
	if (_i == 3) {
		ck_assert_int_eq(wire_send(peers[0].fd, frame, 100, &peers[0].got, 1), 100);
		peer_drop_fd(&peers[0]);
		pump_turns(3);
		ck_assert_int_eq(wire_send(peers[0].fd, frame + 100, length - 100, NULL, 0),
		                 (ssize_t)length - 100);
	} else {
		send_return(length);
	}
	if (_i == 1)
		close_peer(&peers[0]);
	if (_i >= 2)
		ferry_dispatcher_worker_remove(peers[0].worker);
	expect_back(bytes, "");
	ck_assert_int_eq(write(notes.client[0], "x", 1), 1);
	char byte;
	ck_assert_int_eq(read(ferry_handoff_get_fd(notes.back), &byte, 1), 1);
	ferry_handoff_free(notes.back);
	ck_assert(client_is_closed(&notes.client[0]));
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

/* The dispatcher has read the start of a message that it ignores, and the rest is before the return. */
TEST(a_return_behind_half_a_message_is_not_lost)
{
	static const unsigned char payload[1000];
	unsigned char ignored[WORKER_FRAME_MAX];

	give_to_peer();
	size_t length = worker_frame(ignored, 999, payload, sizeof(payload));
	ck_assert_int_eq(wire_send(peers[0].fd, ignored, length - 1, NULL, 0), (ssize_t)length - 1);
	pump_turns(3);
	ck_assert_int_eq(wire_send(peers[0].fd, ignored + length - 1, 1, NULL, 0), 1);
	send_return(return_frame(frame, 0));
	ferry_dispatcher_worker_remove(peers[0].worker);
	expect_back("", "");
	ferry_handoff_free(notes.back);
	ck_assert(client_is_closed(&notes.client[0]));
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

/* _i: bytes of it that were sent */
LOOP_TEST(half_a_return_is_closed_and_the_worker_keeps_the_connection, 3)
{
	static const size_t lengths[] = {1, MESSAGE_HEADER_SIZE, MESSAGE_HEADER_SIZE + 50};

	give_to_peer();
	(void)return_frame(frame, 100);
	int own = dup(peers[0].got);
	send_return(lengths[_i]);
	pump_turns(_i);
	ferry_dispatcher_worker_remove(peers[0].worker);
	expect_outcome(0, FERRY_HANDOFF_KEPT, -ECANCELED);
	ck_assert_uint_eq(notes.returned, 0);
	ck_assert(!client_is_closed(&notes.client[0]));
	close(own);
	ck_assert(client_is_closed(&notes.client[0]));
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

/* _i: whether the dispatcher gets it in the slot 0 */
LOOP_TEST(another_descriptor_than_was_given_ends_the_channel, 2)
{
	int ends[2], input = -1;

	give_to_peer();
	size_t length = return_frame(frame, 0);
	peer_drop_fd(&peers[0]);
	make_pair(PAIR_UNIX, ends);
	peers[0].got = ends[0];
	send_return(length);
	if (_i == 1) {
		input = dup(STDIN_FILENO);
		close(STDIN_FILENO);
	}
	expect_outcome(0, FERRY_HANDOFF_KEPT, -EPROTO);
	ck_assert(client_is_closed(&ends[1])); /* nobody keeps the other one */
	ck_assert_uint_eq(notes.returned, 0);
	close(ends[1]);
	if (_i == 1) {
		ck_assert_int_eq(dup2(input, STDIN_FILENO), STDIN_FILENO);
		close(input);
	}
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}

/* _i: before the claim; a second one; of another channel */
LOOP_TEST(a_return_of_what_the_worker_does_not_have_is_closed_and_counted, 3)
{
	give_to_peer();
	size_t length = return_frame(frame, 0);
	if (_i == 0) {
		hand_off(1);
		peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
		length = return_frame(frame, 0);
	} else if (_i == 1) {
		int copy = dup(peers[0].got);
		send_return(length);
		pump_until_count(&notes.returned, 1);
		peers[0].got = copy;
	} else {
		peers[0].frame.epoch++;
		length = return_frame(frame, 0);
	}
	send_return(length);
	pump_turns(3);
	ck_assert_uint_eq(dispatcher_stats().stale, 1);
	ck_assert_uint_eq(notes.returned, _i == 1);
	if (_i == 1)
		ferry_handoff_free(notes.back);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(_i == 0 ? 2 : 1);
}

static int fill_slot(void)
{
	int filler = dup(STDERR_FILENO);

	ck_assert_int_ge(filler, 0);
	ck_assert_int_eq(dup(STDERR_FILENO), -1);
	return filler;
}

static void claim_second(const struct handoff_wire_handoff *second)
{
	peer_put_answer(&peers[0], HANDOFF_WIRE_CLAIM, second->id, second->epoch, 0);
}

static void wait_for_claims(unsigned int count)
{
	while (dispatcher_stats().claimed < count)
		pump_turns(1);
}

/* _i: what happens while the dispatcher has no slot: nothing; the worker dies; an answer behind the return becomes
 * overdue */
LOOP_TEST(a_return_waits_until_the_dispatcher_has_a_slot, 3)
{
	static char bytes[101];
	const struct timespec busy = {.tv_nsec = 2000000};
	int fillers[2] = {-1, -1};

	memset(bytes, 'b', 100);
	give_to_peer();
	size_t length = return_frame(frame, 100);
	int got = peers[0].got;
	peers[0].got = -1;
	hand_off(1);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	struct handoff_wire_handoff second = peers[0].frame;
	peer_drop_fd(&peers[0]);
	peers[0].got = got;
	if (_i < 2)
		claim_second(&second);
	wait_for_claims(_i < 2 ? 2 : 1);
	limit_descriptors(0);
	send_return(length);
	fillers[0] = fill_slot(); /* in place of the worker's copy */
	if (_i == 1) {
		close_peer(&peers[0]);
		fillers[1] = fill_slot();
	}
	if (_i == 2) {
		claim_second(&second);
		set_timeouts(NEVER_USEC, 1000);
	}
	for (unsigned int i = 0; i < 10; i++) {
		nanosleep(&busy, NULL);
		pump_turns(2);
		ck_assert_uint_eq(notes.lost + notes.returned + notes.outcomes, 0);
	}
	unlimit_descriptors();
	expect_back(bytes, "");
	ck_assert_int_eq(write(notes.client[0], "x", 1), 1);
	ferry_handoff_free(notes.back);
	wait_for_claims(2);
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(2);
	for (unsigned int i = 0; i < 2; i++)
		if (fillers[i] >= 0)
			close(fillers[i]);
}

TEST(a_freed_dispatcher_leaves_a_return_to_its_outcome)
{
	give_to_peer();
	send_return(return_frame(frame, 0));
	struct ferry_dispatcher *old = dispatcher;
	dispatcher = NULL;
	ferry_dispatcher_free(old);
	ck_assert_uint_eq(notes.of[0].count, 1);
	ck_assert_int_eq(notes.of[0].outcome, FERRY_HANDOFF_EXPIRED);
	ck_assert_int_eq(notes.of[0].reason, -ECANCELED);
	ck_assert(notes.of[0].has_fd);
	ck_assert(client_is_closed(&notes.client[0]));
	pump_turns(3);
	close_peer(&peers[0]);
	close_clients(1);
}

TEST(a_return_to_a_dispatcher_that_offers_none_ends_the_channel)
{
	open_dispatcher();
	add_peer(&peers[0], 4);
	hand_off(0);
	peer_expect(&peers[0], HANDOFF_WIRE_HANDOFF);
	peer_answer(&peers[0], HANDOFF_WIRE_CLAIM);
	send_return(return_frame(frame, 0));
	expect_outcome(0, FERRY_HANDOFF_KEPT, -EPROTO);
	ck_assert(client_is_closed(&notes.client[0]));
	free_dispatcher();
	close_peer(&peers[0]);
	close_clients(1);
}
