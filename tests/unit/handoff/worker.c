/* A worker greets the dispatcher, and receives handoffs with everything that belongs to them. The dispatcher
 * is plain system calls. */

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "ferry/worker.h"

#include "handoff_info.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"
#include "worker_link.h"

TEST_CASE("greeting");

TEST(the_worker_sends_its_hello_first)
{
	open_worker_with(&worker_callbacks);
	struct answer hello = expect_frame(HELLO);
	ck_assert_uint_eq(hello.length, HELLO_SIZE);
	ck_assert_uint_eq(get_number(hello.payload, 2), 1);
	ck_assert_uint_eq(get_number(hello.payload + 2, 2), 2);
	ck_assert_uint_eq(get_number(hello.payload + 4, 4), 256);
	ck_assert_uint_eq(get_number(hello.payload + 8, 8), 0);
	ck_assert_uint_eq(get_number(hello.payload + 16, 8), 0);
	expect_silence();
	close_worker();
}

TEST(an_unsuitable_transport_is_refused)
{
	struct ferry_worker *worker = NULL;
	struct recorder recorder = {0};
	make_pair(PAIR_TCP, worker_ends);
	recorder_open(&recorder, worker_ends[0], &recorder_protocol);
	struct ferry_transport *transport = recorder.transport;
	ck_assert_int_eq(ferry_worker_new(NULL, transport, &worker_callbacks, NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_new(&worker, NULL, &worker_callbacks, NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_new(&worker, transport, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_new(&worker, transport, &worker_callbacks, NULL), -EOPNOTSUPP);
	ck_assert_int_eq(write(worker_ends[1], "still yours", 11), 11);
	pump_until_length(&recorder, 11);
	recorder_close(&recorder);
	close_dispatcher();

	make_pair(PAIR_UNIX, worker_ends);
	recorder_open(&recorder, worker_ends[0], &recorder_protocol);
	ferry_transport_abort_connection(recorder.transport);
	ck_assert_int_eq(ferry_worker_new(&worker, recorder.transport, &worker_callbacks, NULL),
	                 -ENOTCONN);
	ck_assert_ptr_null(worker);
	pump_until_lost(&recorder);
	recorder_close(&recorder);
	close_dispatcher();

	ferry_worker_free(NULL);
	ck_assert_ptr_null(ferry_worker_get_transport(NULL));
	ck_assert_int_eq(ferry_worker_set_credits(NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_worker_drain(NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_done(NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_worker_get_stats(NULL, &(struct ferry_worker_stats){0}), -EINVAL);
	open_worker();
	ck_assert_int_eq(ferry_worker_get_stats(worker_notes.worker, NULL), -EINVAL);
	close_worker();
}

static const struct {
	unsigned int min, max;
	size_t length;
	int reason; /* 0: accepted */
} hellos[] = {
    {1, 1, HELLO_SIZE, 0},
    {1, 9, HELLO_SIZE, 0},
    {1, 65535, HELLO_SIZE + 40, 0}, /* of a later version */
    {3, 3, HELLO_SIZE, -EPROTONOSUPPORT},
    {3, 65535, HELLO_SIZE, -EPROTONOSUPPORT},
    {0, 1, HELLO_SIZE, -EPROTO},
    {0, 0, HELLO_SIZE, -EPROTO},
    {2, 1, HELLO_SIZE, -EPROTO},
    {1, 1, HELLO_SIZE - 1, -EPROTO},
    {1, 1, 0, -EPROTO},
};

LOOP_TEST(versions_are_compared, COUNT(hellos))
{
	open_worker_with(&worker_callbacks);
	struct client client = make_client();
	send_hello(hellos[_i].min, hellos[_i].max, hellos[_i].length);
	give_client(&client, 1);
	if (hellos[_i].reason == 0) {
		pump_until_count(&worker_notes.received, 1);
	} else {
		expect_worker_lost(hellos[_i].reason);
		ck_assert_uint_eq(worker_notes.received, 0);
	}
	free_worker();
	expect_closed(&client);
	expect_frame(HELLO); /* even if the other HELLO came before ours had left */
	close_worker();
}

/* _i: its type */
LOOP_TEST_FROM(nothing_comes_before_the_hello, HANDOFF, DRAIN + 2)
{
	open_worker_with(&worker_callbacks);
	struct client client = make_client();
	if (_i == HANDOFF)
		give_client(&client, 1);
	else
		send_plain((unsigned int)_i, ANSWER_SIZE);
	expect_worker_lost(-EPROTO);
	ck_assert_uint_eq(worker_notes.received + worker_notes.drains, 0);
	ck_assert_uint_eq(worker_stats().received + worker_stats().ignored, 0);
	if (client.near >= 0)
		close(client.near);
	free_worker();
	expect_closed(&client);
	close_worker();
}

TEST(a_second_hello_is_none)
{
	open_worker();
	send_hello(1, 1, HELLO_SIZE);
	expect_worker_lost(-EPROTO);
	close_worker();
}

static const size_t sizes[] = {0, 1, 4095, 65535, BLOCK_MAX};

enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

TEST_CASE("handoff");

/* _i: sizes of bytes and blob */
LOOP_TEST(a_handoff_arrives_with_all_that_belongs_to_it, SIZES *SIZES)
{
	open_worker();
	struct client client = make_client();
	expected = make_parcel(UINT64_MAX - (uint64_t)_i, client.near);
	expected.bytes = sizes[_i % SIZES];
	expected.blob = sizes[_i / SIZES];
	expected.name = _i % 3 == 0 ? 0 : _i % 3 == 1 ? 1 : 255;
	expected.attempt = 1 + (unsigned int)_i % 3;
	worker_notes.on_handoff = check_parcel;
	give_parcel(&expected);
	pump_until_count(&worker_notes.received, 1);
	expect_answer(CLAIM, expected.id, 0);
	expect_answer(DONE, expected.id, 0);
	expect_silence();
	close(client.near);
	expect_closed(&client); /* was not stolen */
	ck_assert_uint_eq(worker_stats().received, 1);
	ck_assert_uint_eq(worker_stats().claimed, 1);
	ck_assert_uint_eq(worker_stats().done, 1);
	ck_assert_uint_eq(worker_stats().waited + worker_stats().unclaimed + worker_stats().refused +
	                      worker_stats().lost,
	                  0);
	close_worker();
}

static int open_descriptor(int which, int *other)
{
	int pair[2];
	*other = -1;
	switch (which) {
	case 0:
		make_pair(PAIR_TCP, pair);
		break;
	case 1:
		make_pair(PAIR_UNIX, pair);
		break;
	case 2: /* a client that is gone */
		make_pair(PAIR_TCP, pair);
		ck_assert_int_eq(write(pair[0], "unread", 6), 6);
		close(pair[1]);
		return pair[0];
	case 3: /* one that sends no more */
		make_pair(PAIR_TCP, pair);
		shutdown(pair[1], SHUT_WR);
		break;
	case 4:
	case 5:
		make_pipe(pair);
		*other = pair[which == 4];
		return pair[which == 5];
	case 6:
		return make_file(100);
	case 7:
		return make_marked_fd(7);
	case 8:
		return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	case 9:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	default:
		*other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		ck_assert_int_eq(listen(*other, 8), 0);
		return fcntl(*other, F_DUPFD_CLOEXEC, 0);
	}
	*other = pair[1];
	return pair[0];
}

LOOP_TEST(every_kind_of_descriptor_is_taken, 11)
{
	int other;
	open_worker();
	int fd = open_descriptor(_i, &other);
	struct parcel parcel = make_parcel(1, fd);
	worker_notes.on_handoff = steal_descriptor;
	give_parcel(&parcel);
	pump_until_count(&worker_notes.received, 1);
	ck_assert(same_file(worker_notes.fd, fd));
	expect_answer(CLAIM, 1, 0);
	expect_silence();
	close(fd);
	if (other >= 0)
		close(other);
	close_worker();
}

TEST(a_stolen_handoff_is_done_when_the_program_calls_done)
{
	open_worker();
	struct client client = make_client();
	worker_notes.on_handoff = steal_descriptor;
	give_client(&client, 77);
	pump_until_count(&worker_notes.received, 1);
	expect_answer(CLAIM, 77, 0);
	expect_silence();
	expect_open(&client);
	ck_assert_uint_eq(worker_stats().done, 0);
	ck_assert_int_eq(ferry_worker_done(worker_notes.worker, 77), 0);
	expect_answer(DONE, 77, 0);
	ck_assert_int_eq(ferry_worker_done(worker_notes.worker, 77), 0); /* the dispatcher ignores it */
	expect_answer(DONE, 77, 0);
	ck_assert_uint_eq(worker_stats().done, 2);
	close(worker_notes.fd);
	worker_notes.fd = -1;
	expect_closed(&client);
	close_worker();
}

static void say_done_of_all(struct ferry_handoff *handoff)
{
	ck_assert_int_eq(ferry_worker_done(worker_notes.worker, 5), 0);
	ck_assert_int_eq(ferry_worker_done(worker_notes.worker, handoff_info(handoff).id), 0);
}

TEST(done_is_sent_once_though_the_callback_has_called_it)
{
	open_worker();
	struct client client = make_client();
	worker_notes.on_handoff = say_done_of_all;
	give_client(&client, 6);
	expect_closed(&client);
	expect_answer(CLAIM, 6, 0);
	expect_answer(DONE, 5, 0);
	expect_answer(DONE, 6, 0);
	expect_silence();
	ck_assert_uint_eq(worker_stats().done, 2);
	close_worker();
}

static void reject(struct ferry_handoff *handoff)
{
	ck_assert_int_eq(write(ferry_handoff_get_fd(handoff), "no", 2), 2);
	ck_assert_int_eq(ferry_handoff_reject(handoff, -12345), 0);
	ck_assert_int_eq(ferry_handoff_steal_fd(handoff), -ENOENT);
}

TEST(a_handoff_that_the_callback_rejects_is_answered_and_closed)
{
	char said[2];
	open_worker();
	struct client client = make_client();
	worker_notes.on_handoff = reject;
	give_client(&client, 8);
	expect_answer(CLAIM, 8, 0);
	expect_answer(REJECT, 8, -12345);
	expect_silence();
	ck_assert_int_eq(read(client.far, said, sizeof(said)), 2);
	expect_closed(&client);
	ck_assert_uint_eq(worker_stats().claimed, 1);
	ck_assert_uint_eq(worker_stats().rejected, 1);
	ck_assert_uint_eq(worker_stats().done, 0);
	close_worker();
}

TEST(without_a_callback_a_handoff_is_done)
{
	static const struct ferry_worker_callbacks none = {.handoff_received = NULL};
	open_worker_with(&none);
	greet();
	struct client client = make_client();
	give_client(&client, 9);
	send_plain(DRAIN, 0);
	expect_closed(&client);
	expect_answer(CLAIM, 9, 0);
	expect_answer(DONE, 9, 0);
	close_dispatcher();
	pump_turns(5);
	ck_assert_int_eq(ferry_worker_done(worker_notes.worker, 9), -ENOTCONN);
	close_worker();
}

/* _i: what is wrong */
LOOP_TEST(another_descriptor_than_was_sent_is_rejected_unclaimed, 3)
{
	open_worker();
	struct client client = make_client();
	struct parcel parcel = make_parcel(10, client.near);
	parcel.kind += _i == 0;
	parcel.cookie += _i == 1;
	parcel.device += _i == 2;
	give_parcel(&parcel);
	close(client.near);
	expect_closed(&client);
	expect_answer(REJECT, 10, -EBADMSG);
	expect_silence();
	ck_assert_uint_eq(worker_notes.received, 0);
	ck_assert_uint_eq(worker_stats().received, 1);
	ck_assert_uint_eq(worker_stats().refused, 1);
	ck_assert_uint_eq(worker_stats().rejected + worker_stats().claimed, 0);
	close_worker();
}
