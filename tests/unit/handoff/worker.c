/* The worker: the handoffs that it takes, its answers, and its callback, which runs exactly for the
 * handoffs whose claim the kernel has taken. The dispatcher is bare system calls and frames written by
 * hand. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "ferry/worker.h"

#include "handoff_info.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { HEADER = 16, HELLO_SIZE = 24, HANDOFF_SIZE = 48, ANSWER_SIZE = 24 };
enum { HELLO = 1, HANDOFF, CLAIM, LOST, REJECT, DONE, CREDITS, DRAIN };
enum { BLOCK_MAX = 65536, FRAME_MAX = HEADER + HANDOFF_SIZE + 256 + 2 * BLOCK_MAX };
enum { BURST = 5 };
static const uint64_t epoch = UINT64_C(0x1122334455667788);

/* ---- the results of sendmsg(2) for the worker ---- */

static int ends[2] = {-1, -1}; /* the worker's, and the dispatcher's */

/* The results of the worker's next calls. 0: as in the kernel; positive: at most so many bytes;
 * negative: an error. */
static int script[8];
static unsigned int script_next, script_length;

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);

static ssize_t send_less(int fd, const struct msghdr *message, int flags, size_t max)
{
	struct iovec vectors[80];
	struct msghdr less = *message;
	less.msg_iov = vectors;
	less.msg_iovlen = 0;
	for (size_t i = 0; i < message->msg_iovlen && max > 0; i++) {
		struct iovec *vector = &vectors[less.msg_iovlen++];
		*vector = message->msg_iov[i];
		if (vector->iov_len > max)
			vector->iov_len = max;
		max -= vector->iov_len;
	}
	return __real_sendmsg(fd, &less, flags);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (fd != ends[0] || script_next == script_length)
		return __real_sendmsg(fd, message, flags);
	int step = script[script_next++];
	if (step < 0) {
		errno = -step;
		return -1;
	}
	return step == 0 ? __real_sendmsg(fd, message, flags)
	                 : send_less(fd, message, flags, (size_t)step);
}

static void plan(int step)
{
	if (script_next == script_length)
		script_next = script_length = 0;
	script[script_length++] = step;
}

/* ---- the worker ---- */

static struct {
	struct ferry_worker *worker; /* NULL once freed */
	unsigned int received, drains, lost;
	int reason;
	uint64_t id; /* of the last handoff */
	int fd;      /* stolen from the last, or -1 */
	void (*on_handoff)(struct ferry_handoff *handoff);
	void (*on_event)(void); /* drain_requested, dispatcher_lost */
} told;

static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	ck_assert_ptr_eq(context, &told);
	ck_assert_ptr_eq(worker, told.worker);
	ck_assert_uint_eq(told.lost, 0);
	int fd = ferry_handoff_get_fd(handoff);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	told.received++;
	told.id = handoff_info(handoff).id;
	if (told.on_handoff != NULL)
		told.on_handoff(handoff);
}

static void drain_requested(struct ferry_worker *worker, void *context)
{
	ck_assert_ptr_eq(context, &told);
	ck_assert_ptr_eq(worker, told.worker);
	told.drains++;
	if (told.on_event != NULL)
		told.on_event();
}

static void dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	ck_assert_ptr_eq(context, &told);
	ck_assert_ptr_eq(worker, told.worker);
	told.lost++;
	ck_assert_uint_eq(told.lost, 1);
	told.reason = reason;
	if (told.on_event != NULL)
		told.on_event();
}

static const struct ferry_worker_callbacks callbacks = {
    .handoff_received = handoff_received,
    .drain_requested = drain_requested,
    .dispatcher_lost = dispatcher_lost,
};

static int bev_options = BEV_OPT_CLOSE_ON_FREE;

static void open_worker_with(const struct ferry_worker_callbacks *table)
{
	struct ferry_transport *transport = NULL;
	make_pair(PAIR_UNIX, ends);
	told.fd = -1;
	struct bufferevent *bev = bufferevent_socket_new(base, ends[0], bev_options);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_worker_new(&told.worker, transport, table, &told), 0);
}

static void free_worker(void)
{
	struct ferry_worker *worker = told.worker;
	told.worker = NULL;
	ferry_worker_free(worker);
}

static void close_dispatcher(void)
{
	if (ends[1] >= 0)
		close(ends[1]);
	ends[1] = -1;
}

static void close_worker(void)
{
	free_worker();
	close_dispatcher();
	if (told.fd >= 0)
		close(told.fd);
	told.fd = -1;
}

static struct ferry_worker_stats stats(void)
{
	struct ferry_worker_stats result;
	ck_assert_int_eq(ferry_worker_get_stats(told.worker, &result), 0);
	return result;
}

static struct ferry_transport_stats channel_stats(void)
{
	return stats_of(ferry_worker_get_transport(told.worker));
}

/* ---- frames by hand ---- */

static unsigned char frame[FRAME_MAX + 64];

static void put(size_t offset, uint64_t number, size_t size)
{
	for (size_t i = 0; i < size; i++)
		frame[offset + i] = (unsigned char)(number >> (8 * i));
}

static size_t put_header(unsigned int type, size_t length, size_t fds)
{
	memset(frame, 0, HEADER);
	put(0, 0x01595246, 4); /* "FRY" 1 */
	put(4, type, 2);
	put(8, length, 4);
	put(12, fds, 2);
	return HEADER + length;
}

/* Sends the whole frame. */
static void send_frame(size_t length, const int *fds, size_t fd_count)
{
	size_t sent = 0;
	while (sent < length) {
		ssize_t n = wire_send(ends[1], frame + sent, length - sent, fds, sent == 0 ? fd_count : 0);
		if (n == -EAGAIN)
			pump_turns(1);
		else
			ck_assert_int_gt(n, 0);
		sent += n > 0 ? (size_t)n : 0;
	}
}

static void send_plain(unsigned int type, size_t length)
{
	memset(frame + HEADER, 0, length);
	send_frame(put_header(type, length, 0), NULL, 0);
}

static void send_hello(unsigned int min, unsigned int max, size_t length)
{
	memset(frame + HEADER, 0, length > HELLO_SIZE ? length : HELLO_SIZE);
	put_header(HELLO, length, 0);
	put(HEADER, min, 2);
	put(HEADER + 2, max, 2);
	put(HEADER + 8, epoch, 8);
	send_frame(HEADER + length, NULL, 0);
}

/* A handoff to be sent. */
struct parcel {
	uint64_t id, cookie, device;
	unsigned int kind, attempt;
	size_t name, blob, bytes; /* lengths */
	int fd;
};

static void identify(struct parcel *parcel)
{
	struct stat status;
	socklen_t length = sizeof(parcel->cookie);
	if (getsockopt(parcel->fd, SOL_SOCKET, SO_COOKIE, &parcel->cookie, &length) == 0) {
		parcel->kind = FERRY_DESCRIPTOR_SOCKET;
		return;
	}
	ck_assert_int_eq(fstat(parcel->fd, &status), 0);
	parcel->cookie = status.st_ino;
	parcel->device = status.st_dev;
	parcel->kind = S_ISREG(status.st_mode)    ? FERRY_DESCRIPTOR_FILE
	               : S_ISFIFO(status.st_mode) ? FERRY_DESCRIPTOR_PIPE
	                                          : FERRY_DESCRIPTOR_DEVICE;
}

static struct parcel make_parcel(uint64_t id, int fd)
{
	struct parcel parcel = {.id = id, .attempt = 1, .fd = fd, .name = 3, .blob = 2, .bytes = 4};
	identify(&parcel);
	return parcel;
}

static unsigned char filling(char part, size_t i)
{
	return part == 'n' ? (unsigned char)('a' + i % 26) : support_byte(i + (unsigned char)part);
}

static size_t fill_in(size_t at, char part, size_t length)
{
	for (size_t i = 0; i < length; i++)
		frame[at + i] = filling(part, i);
	return at + length;
}

static size_t put_handoff(const struct parcel *parcel)
{
	size_t at = HEADER;
	put(at, parcel->id, 8);
	put(at + 8, epoch, 8);
	put(at + 16, parcel->cookie, 8);
	put(at + 24, parcel->device, 8);
	put(at + 32, parcel->kind, 1);
	put(at + 33, parcel->attempt, 1);
	put(at + 34, parcel->name, 2);
	put(at + 36, parcel->blob, 4);
	put(at + 40, parcel->bytes, 4);
	put(at + 44, 0, 4);
	at = fill_in(at + HANDOFF_SIZE, 'n', parcel->name);
	frame[at] = '\0';
	at = fill_in(at + 1, 'o', parcel->blob);
	at = fill_in(at, 'b', parcel->bytes);
	return put_header(HANDOFF, at - HEADER, 1);
}

static void give(const struct parcel *parcel)
{
	send_frame(put_handoff(parcel), &parcel->fd, 1);
}

/* ---- the messages of the worker ---- */

struct answer {
	unsigned int type;
	size_t length;
	uint64_t id, epoch;
	int reason;
	const unsigned char *payload;
};

static unsigned char arrived[1 << 20];
static size_t arrived_length, taken;

static uint64_t number(const unsigned char *at, size_t size)
{
	uint64_t result = 0;
	while (size-- > 0)
		result = result << 8 | at[size];
	return result;
}

static void take_in(void)
{
	ssize_t n;
	do {
		ck_assert_uint_lt(arrived_length, sizeof(arrived));
		n = recv(ends[1], arrived + arrived_length, sizeof(arrived) - arrived_length, MSG_DONTWAIT);
		arrived_length += n > 0 ? (size_t)n : 0;
	} while (n > 0);
}

/* Reads the answer at `*at` from the bytes that have arrived, and moves behind it. */
static bool look(size_t *at, struct answer *answer)
{
	const unsigned char *header = arrived + *at;
	if (arrived_length - *at < HEADER)
		return false;
	ck_assert_uint_eq(number(header, 4), 0x01595246);
	size_t length = (size_t)number(header + 8, 4);
	ck_assert_uint_eq(number(header + 12, 2), 0);
	if (arrived_length - *at < HEADER + length)
		return false;
	*answer = (struct answer){
	    .type = (unsigned int)number(header + 4, 2), .length = length, .payload = header + HEADER};
	*at += HEADER + length;
	if (answer->type >= CLAIM && answer->type <= DONE) {
		ck_assert_uint_eq(length, ANSWER_SIZE);
		answer->id = number(answer->payload, 8);
		answer->epoch = number(answer->payload + 8, 8);
		answer->reason = (int)(int32_t)number(answer->payload + 16, 4);
	}
	return true;
}

static bool next_answer(struct answer *answer)
{
	take_in();
	return look(&taken, answer);
}

static bool has_answer(void *unused)
{
	(void)unused;
	struct answer answer;
	size_t at = taken;
	take_in();
	return look(&at, &answer);
}

static struct answer expect(unsigned int type)
{
	struct answer answer = {0};
	pump_until(has_answer, NULL);
	ck_assert(next_answer(&answer));
	ck_assert_uint_eq(answer.type, type);
	return answer;
}

static void expect_answer(unsigned int type, uint64_t id, int reason)
{
	struct answer answer = expect(type);
	ck_assert_uint_eq(answer.id, id);
	ck_assert_uint_eq(answer.epoch, epoch);
	ck_assert_int_eq(answer.reason, reason);
}

static void expect_credits(uint64_t credits)
{
	struct answer answer = expect(CREDITS);
	ck_assert_uint_eq(answer.length, 8);
	ck_assert_uint_eq(number(answer.payload, 8), credits);
}

static void expect_silence(void)
{
	struct answer answer = {0};
	pump_turns(5);
	ck_assert(!next_answer(&answer));
}

static unsigned int count_waiting(unsigned int type)
{
	struct answer answer;
	unsigned int count = 0;
	take_in();
	for (size_t at = taken; look(&at, &answer);)
		count += answer.type == type;
	return count;
}

static void greet(void)
{
	expect(HELLO);
	send_hello(1, 1, HELLO_SIZE);
}

static void open_worker(void)
{
	open_worker_with(&callbacks);
	greet();
}

/* With deferred callbacks more has been read, and more has happened, before the worker reads a
 * message. */
static void open_worker_deferred(bool deferred)
{
	if (deferred)
		bev_options |= BEV_OPT_DEFER_CALLBACKS;
	open_worker();
}

static void expect_lost(int reason)
{
	pump_until_count(&told.lost, 1);
	ck_assert_int_eq(told.reason, reason);
	pump_turns(3);
}

/* ---- connections to hand over ---- */

struct client {
	int near, far; /* the connection that is handed over, and its other end */
};

static struct client make_client(void)
{
	int pair[2];
	make_pair(PAIR_UNIX, pair);
	return (struct client){pair[0], pair[1]};
}

/* Sends the near end, and closes it here. */
static void give_client(struct client *client, uint64_t id)
{
	struct parcel parcel = make_parcel(id, client->near);
	give(&parcel);
	close(client->near);
	client->near = -1;
}

static bool has_ended(void *argument)
{
	struct client *client = argument;
	char byte;
	return recv(client->far, &byte, 1, MSG_DONTWAIT) == 0;
}

/* All copies of the near end are closed. */
static void expect_closed(struct client *client)
{
	pump_until(has_ended, client);
	close(client->far);
}

static void expect_open(struct client *client)
{
	ck_assert(!has_ended(client));
}

static void steal(struct ferry_handoff *handoff)
{
	ck_assert_int_eq(told.fd, -1);
	told.fd = ferry_handoff_steal_fd(handoff);
	ck_assert_int_ge(told.fd, 0);
}

/* ---- greeting ---- */

TEST_CASE("greeting");

TEST(the_worker_says_hello_first)
{
	open_worker_with(&callbacks);
	struct answer hello = expect(HELLO);
	ck_assert_uint_eq(hello.length, HELLO_SIZE);
	ck_assert_uint_eq(number(hello.payload, 2), 1);
	ck_assert_uint_eq(number(hello.payload + 2, 2), 1);
	ck_assert_uint_eq(number(hello.payload + 4, 4), 256);
	ck_assert_uint_eq(number(hello.payload + 8, 8), 0);
	ck_assert_uint_eq(number(hello.payload + 16, 8), 0);
	expect_silence();
	close_worker();
}

TEST(what_a_worker_cannot_stand_on_is_refused)
{
	struct ferry_worker *worker = NULL;
	struct recorder recorder = {0};
	make_pair(PAIR_TCP, ends);
	recorder_open(&recorder, ends[0], &recorder_protocol);
	struct ferry_transport *transport = recorder.transport;
	ck_assert_int_eq(ferry_worker_new(NULL, transport, &callbacks, NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_new(&worker, NULL, &callbacks, NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_new(&worker, transport, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_worker_new(&worker, transport, &callbacks, NULL), -EOPNOTSUPP);
	ck_assert_int_eq(write(ends[1], "still yours", 11), 11);
	pump_until_length(&recorder, 11);
	recorder_close(&recorder);
	close_dispatcher();

	make_pair(PAIR_UNIX, ends);
	recorder_open(&recorder, ends[0], &recorder_protocol);
	ferry_transport_abort_connection(recorder.transport);
	ck_assert_int_eq(ferry_worker_new(&worker, recorder.transport, &callbacks, NULL), -ENOTCONN);
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
	ck_assert_int_eq(ferry_worker_get_stats(told.worker, NULL), -EINVAL);
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
    {2, 2, HELLO_SIZE, -EPROTONOSUPPORT},
    {2, 65535, HELLO_SIZE, -EPROTONOSUPPORT},
    {0, 1, HELLO_SIZE, -EPROTO},
    {0, 0, HELLO_SIZE, -EPROTO},
    {2, 1, HELLO_SIZE, -EPROTO},
    {1, 1, HELLO_SIZE - 1, -EPROTO},
    {1, 1, 0, -EPROTO},
};

LOOP_TEST(versions_are_compared, COUNT(hellos))
{
	open_worker_with(&callbacks);
	struct client client = make_client();
	send_hello(hellos[_i].min, hellos[_i].max, hellos[_i].length);
	give_client(&client, 1);
	if (hellos[_i].reason == 0) {
		pump_until_count(&told.received, 1);
	} else {
		expect_lost(hellos[_i].reason);
		ck_assert_uint_eq(told.received, 0);
	}
	free_worker();
	expect_closed(&client);
	expect(HELLO); /* even if the other HELLO came before ours had left */
	close_worker();
}

/* _i: its type */
LOOP_TEST_FROM(nothing_comes_before_the_hello, HANDOFF, DRAIN + 2)
{
	open_worker_with(&callbacks);
	struct client client = make_client();
	if (_i == HANDOFF)
		give_client(&client, 1);
	else
		send_plain((unsigned int)_i, ANSWER_SIZE);
	expect_lost(-EPROTO);
	ck_assert_uint_eq(told.received + told.drains, 0);
	ck_assert_uint_eq(stats().received + stats().ignored, 0);
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
	expect_lost(-EPROTO);
	close_worker();
}

/* ---- a handoff ---- */

static struct parcel expected;

static void check_part(const void *data, size_t length, char part, size_t expected_length)
{
	const unsigned char *bytes = data;
	ck_assert_uint_eq(length, expected_length);
	for (size_t i = 0; i < length; i++)
		if (bytes[i] != filling(part, i))
			ck_abort_msg("another byte at %zu of part %c", i, part);
}

static void check_parcel(struct ferry_handoff *handoff)
{
	size_t length = 1;
	const char *name = handoff_info(handoff).name;
	check_part(name, strlen(name), 'n', expected.name);
	const void *bytes = ferry_handoff_get_bytes(handoff, &length);
	check_part(bytes, length, 'b', expected.bytes);
	const void *blob = ferry_handoff_get_blob(handoff, &length);
	check_part(blob, length, 'o', expected.blob);
	ck_assert_uint_eq(handoff_info(handoff).id, expected.id);
	ck_assert_uint_eq(handoff_info(handoff).attempt, expected.attempt);
	ck_assert(same_file(ferry_handoff_get_fd(handoff), expected.fd));
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
	told.on_handoff = check_parcel;
	give(&expected);
	pump_until_count(&told.received, 1);
	expect_answer(CLAIM, expected.id, 0);
	expect_answer(DONE, expected.id, 0);
	expect_silence();
	close(client.near);
	expect_closed(&client); /* was not stolen */
	ck_assert_uint_eq(stats().received, 1);
	ck_assert_uint_eq(stats().claimed, 1);
	ck_assert_uint_eq(stats().done, 1);
	ck_assert_uint_eq(stats().waited + stats().unclaimed + stats().refused + stats().lost, 0);
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
	told.on_handoff = steal;
	give(&parcel);
	pump_until_count(&told.received, 1);
	ck_assert(same_file(told.fd, fd));
	expect_answer(CLAIM, 1, 0);
	expect_silence();
	close(fd);
	if (other >= 0)
		close(other);
	close_worker();
}

TEST(what_was_stolen_is_done_when_the_user_says_so)
{
	open_worker();
	struct client client = make_client();
	told.on_handoff = steal;
	give_client(&client, 77);
	pump_until_count(&told.received, 1);
	expect_answer(CLAIM, 77, 0);
	expect_silence();
	expect_open(&client);
	ck_assert_uint_eq(stats().done, 0);
	ck_assert_int_eq(ferry_worker_done(told.worker, 77), 0);
	expect_answer(DONE, 77, 0);
	ck_assert_int_eq(ferry_worker_done(told.worker, 77), 0); /* the dispatcher ignores it */
	expect_answer(DONE, 77, 0);
	ck_assert_uint_eq(stats().done, 2);
	close(told.fd);
	told.fd = -1;
	expect_closed(&client);
	close_worker();
}

static void say_done_of_all(struct ferry_handoff *handoff)
{
	ck_assert_int_eq(ferry_worker_done(told.worker, 5), 0);
	ck_assert_int_eq(ferry_worker_done(told.worker, handoff_info(handoff).id), 0);
}

TEST(done_is_said_once_though_the_callback_has_said_it)
{
	open_worker();
	struct client client = make_client();
	told.on_handoff = say_done_of_all;
	give_client(&client, 6);
	expect_closed(&client);
	expect_answer(CLAIM, 6, 0);
	expect_answer(DONE, 5, 0);
	expect_answer(DONE, 6, 0);
	expect_silence();
	ck_assert_uint_eq(stats().done, 2);
	close_worker();
}

static void reject(struct ferry_handoff *handoff)
{
	ck_assert_int_eq(write(ferry_handoff_get_fd(handoff), "no", 2), 2);
	ck_assert_int_eq(ferry_handoff_reject(handoff, -12345), 0);
	ck_assert_int_eq(ferry_handoff_steal_fd(handoff), -ENOENT);
}

TEST(what_the_callback_rejects_is_answered_and_closed)
{
	char said[2];
	open_worker();
	struct client client = make_client();
	told.on_handoff = reject;
	give_client(&client, 8);
	expect_answer(CLAIM, 8, 0);
	expect_answer(REJECT, 8, -12345);
	expect_silence();
	ck_assert_int_eq(read(client.far, said, sizeof(said)), 2);
	expect_closed(&client);
	ck_assert_uint_eq(stats().claimed, 1);
	ck_assert_uint_eq(stats().rejected, 1);
	ck_assert_uint_eq(stats().done, 0);
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
	ck_assert_int_eq(ferry_worker_done(told.worker, 9), -ENOTCONN);
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
	give(&parcel);
	close(client.near);
	expect_closed(&client);
	expect_answer(REJECT, 10, -EBADMSG);
	expect_silence();
	ck_assert_uint_eq(told.received, 0);
	ck_assert_uint_eq(stats().received, 1);
	ck_assert_uint_eq(stats().refused, 1);
	ck_assert_uint_eq(stats().rejected + stats().claimed, 0);
	close_worker();
}

/* ---- the claim ---- */

static void see_claim(struct ferry_handoff *handoff)
{
	struct answer answer = {0};
	ck_assert(next_answer(&answer));
	ck_assert_uint_eq(answer.type, CLAIM);
	ck_assert_uint_eq(answer.id, handoff_info(handoff).id);
	ck_assert(!next_answer(&answer));
}

TEST_CASE("claim");

TEST(the_claim_is_in_the_kernel_before_the_callback_runs)
{
	open_worker();
	struct client client = make_client();
	told.on_handoff = see_claim;
	give_client(&client, 11);
	expect_closed(&client);
	expect_answer(DONE, 11, 0);
	close_worker();
}

static void see_own_claim_only(struct ferry_handoff *handoff)
{
	ck_assert_uint_eq(handoff_info(handoff).id, told.received);
	ck_assert_uint_eq(count_waiting(CLAIM), told.received);
}

static void give_burst(struct client *clients)
{
	for (uint64_t i = 0; i < BURST; i++) {
		clients[i] = make_client();
		give_client(&clients[i], i + 1);
	}
}

LOOP_TEST(of_a_burst_only_the_one_in_work_is_claimed, 2)
{
	struct client clients[BURST];
	open_worker_deferred(_i > 0);
	pump_turns(5);
	uint64_t before = channel_stats().send_calls;
	told.on_handoff = see_own_claim_only;
	give_burst(clients);
	pump_until_count(&told.received, BURST);
	for (uint64_t i = 0; i < BURST; i++) {
		expect_closed(&clients[i]);
		expect_answer(CLAIM, i + 1, 0);
		expect_answer(DONE, i + 1, 0);
	}
	/* One call for each claim, together with the DONE before it, and one for the last DONE. */
	ck_assert_uint_eq(channel_stats().send_calls - before, BURST + 1);
	close_worker();
}

LOOP_TEST(after_the_fence_nothing_is_claimed, 2)
{
	struct client clients[BURST];
	open_worker_deferred(_i > 0);
	pump_turns(5);
	give_burst(clients);
	ck_assert_int_eq(shutdown(ends[1], SHUT_RD), 0);
	expect_lost(-EPIPE);
	ck_assert_uint_eq(told.received, 0);
	ck_assert_uint_eq(count_waiting(CLAIM), 0);
	ck_assert_uint_ge(stats().unclaimed, 1);
	ck_assert_uint_eq(stats().claimed, 0);
	free_worker();
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);
	close_worker();
}

static void fence(struct ferry_handoff *handoff)
{
	(void)handoff;
	if (told.received == 2)
		ck_assert_int_eq(shutdown(ends[1], SHUT_RD), 0);
}

LOOP_TEST(a_fence_in_the_middle_parts_the_claimed_from_the_others, 2)
{
	struct client clients[BURST];
	open_worker_deferred(_i > 0);
	told.on_handoff = fence;
	give_burst(clients);
	expect_lost(-EPIPE);
	free_worker();
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);
	ck_assert_uint_eq(told.received, 2);
	ck_assert_uint_eq(count_waiting(CLAIM), 2);
	close_worker();
}

/* ---- a claim that waits ---- */

/* The worker sends until the channel is full. */
static unsigned int fill_channel(void)
{
	unsigned int count = 0;
	wire_shrink(ends[0]);
	pump_turns(3);
	do {
		ck_assert_int_eq(ferry_worker_done(told.worker, 1000), 0);
		count++;
		pump_turns(2);
	} while (channel_stats().bytes_queued == 0);
	return count;
}

static bool has_waited(void *unused)
{
	(void)unused;
	return stats().waited == 1;
}

/* Sends a burst to a worker whose channel is full. Nothing is claimed. */
static unsigned int give_to_full_channel(struct client *clients)
{
	unsigned int filled = fill_channel();
	give_burst(clients);
	pump_until(has_waited, NULL);
	pump_turns(5);
	ck_assert_uint_eq(told.received, 0);
	ck_assert_uint_eq(stats().received, 1); /* those behind it wait unread */
	return filled;
}

static void see_last_claim(struct ferry_handoff *handoff)
{
	struct answer answer = {0};
	struct answer last = {0};
	take_in();
	while (look(&taken, &answer))
		last = answer;
	ck_assert_uint_eq(last.type, CLAIM);
	ck_assert_uint_eq(last.id, handoff_info(handoff).id);
	ck_assert_uint_eq(last.id, told.received);
}

/* _i: as usual, with deferred callbacks, or with a mark below the deferred message, for which libevent
 * would repeat the callback without end. */
LOOP_TEST(a_full_channel_holds_the_callback_back, 3)
{
	struct client clients[BURST];
	open_worker_deferred(_i == 1);
	if (_i == 2)
		bufferevent_setwatermark(
		    ferry_transport_get_bufferevent(ferry_worker_get_transport(told.worker)), EV_READ, 0,
		    10);
	give_to_full_channel(clients);
	for (int i = 0; i < BURST; i++)
		expect_open(&clients[i]);
	told.on_handoff = see_last_claim;
	do {
		take_in();
		pump_turns(1);
	} while (told.received == 0);
	while (told.received < BURST) {
		take_in();
		pump_turns(1);
	}
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);
	expect_answer(DONE, BURST, 0);
	ck_assert_uint_eq(stats().claimed, BURST);
	ck_assert_uint_eq(told.lost, 0);
	close_worker();
}

enum { END_CLOSE, END_FENCE, END_ABORT, END_FREE, ENDINGS };

/* _i: how */
LOOP_TEST(a_claim_that_waits_when_the_channel_ends_is_none, ENDINGS)
{
	struct client clients[BURST];
	open_worker();
	give_to_full_channel(clients);
	switch (_i) {
	case END_CLOSE:
		close_dispatcher();
		break;
	case END_FENCE: /* as in a dispatcher, which then reads the rest */
		ck_assert_int_eq(shutdown(ends[1], SHUT_RD), 0);
		take_in();
		ck_assert_uint_eq(count_waiting(CLAIM), 0);
		break;
	case END_ABORT:
		ferry_transport_abort_connection(ferry_worker_get_transport(told.worker));
		break;
	default:
		free_worker();
		break;
	}
	if (_i != END_FREE) {
		pump_until_count(&told.lost, 1);
		ck_assert_int_lt(told.reason, 0);
		ck_assert_uint_ge(stats().unclaimed, 1);
		ck_assert_uint_eq(stats().claimed, 0);
	}
	free_worker();
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);
	ck_assert_uint_eq(told.received, 0);
	close_worker();
}

enum { CLAIM_SIZE = HEADER + ANSWER_SIZE };

/* _i: how much of it */
LOOP_TEST(half_a_claim_is_none, CLAIM_SIZE)
{
	open_worker();
	pump_turns(3);
	struct client client = make_client();
	if (_i > 0)
		plan(_i);
	else
		plan(-EAGAIN);
	plan(-EPIPE);
	give_client(&client, 1);
	expect_lost(-EPIPE);
	expect_closed(&client);
	ck_assert_uint_eq(told.received, 0);
	ck_assert_uint_eq(stats().waited, 1);
	ck_assert_uint_eq(stats().unclaimed, 1);
	ck_assert_uint_eq(count_waiting(CLAIM), 0);
	close_worker();
}

/* _i: how much of it at first */
LOOP_TEST(a_claim_in_pieces_is_one, CLAIM_SIZE)
{
	struct client clients[BURST];
	open_worker();
	pump_turns(3);
	if (_i > 0)
		plan(_i);
	plan(-EAGAIN);
	plan(-ENOBUFS);
	plan(CLAIM_SIZE - _i - 1 > 0 ? CLAIM_SIZE - _i - 1 : 1);
	told.on_handoff = see_own_claim_only;
	give_burst(clients);
	pump_until_count(&told.received, BURST);
	for (uint64_t i = 0; i < BURST; i++) {
		expect_closed(&clients[i]);
		expect_answer(CLAIM, i + 1, 0);
		expect_answer(DONE, i + 1, 0);
	}
	ck_assert_uint_eq(stats().waited, 1);
	close_worker();
}

enum { MANY = 4000 };

/* The claim leaves with the first message of a flush, and the next one finds the connection broken. */
LOOP_TEST(a_claim_that_has_left_counts_though_the_channel_breaks_behind_it, 2)
{
	open_worker_deferred(_i > 0);
	pump_turns(3);
	struct client client = make_client();
	plan(-EAGAIN);
	plan(-EAGAIN);
	give_client(&client, 1);
	pump_until(has_waited, NULL);
	for (int i = 0; i < MANY; i++)
		ck_assert_int_eq(ferry_worker_done(told.worker, 5), 0);
	script_next = script_length = 0;
	plan(0);
	plan(-EPIPE);
	expect_lost(-EPIPE);
	ck_assert_uint_eq(script_next, 2);
	expect_closed(&client);
	ck_assert_uint_eq(told.received, 1);
	ck_assert_uint_eq(stats().claimed, 1);
	ck_assert_uint_eq(stats().unclaimed, 0);
	expect_answer(CLAIM, 1, 0);
	close_worker();
}

/* The stream is empty then, which does not mean that the claim was sent. */
LOOP_TEST(what_the_end_has_thrown_away_was_not_sent, 2)
{
	open_worker_deferred(_i > 0);
	pump_turns(3);
	struct client clients[2] = {make_client(), make_client()};
	plan(-EPIPE);
	give_client(&clients[0], 1);
	give_client(&clients[1], 2);
	expect_lost(-EPIPE);
	expect_closed(&clients[0]);
	expect_closed(&clients[1]);
	ck_assert_uint_eq(told.received, 0);
	ck_assert_uint_eq(channel_stats().bytes_queued, 0);
	close_worker();
}

/* The dispatcher may send its last handoffs and close its half: the worker claims them too. */
LOOP_TEST(the_end_of_what_the_dispatcher_sends_waits_for_the_claims, 2)
{
	struct client clients[BURST];
	open_worker_deferred(_i > 0);
	pump_turns(3);
	plan(-EAGAIN);
	give_burst(clients);
	ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
	expect_lost(0);
	ck_assert_uint_eq(told.received, BURST);
	for (uint64_t i = 0; i < BURST; i++) {
		expect_closed(&clients[i]);
		expect_answer(CLAIM, i + 1, 0);
		expect_answer(DONE, i + 1, 0);
	}
	close_worker();
}

static void lose_connection(struct ferry_handoff *handoff)
{
	steal(handoff);
	ck_assert_int_eq(ferry_transport_lose_connection(ferry_worker_get_transport(told.worker)), 0);
}

TEST(a_connection_that_closes_while_a_claim_waits_is_claimed_if_that_leaves)
{
	open_worker();
	pump_turns(3);
	struct client client = make_client();
	plan(-EAGAIN);
	plan(-EAGAIN);
	told.on_handoff = steal;
	give_client(&client, 1);
	pump_until(has_waited, NULL);
	ck_assert_int_eq(ferry_transport_lose_connection(ferry_worker_get_transport(told.worker)), 0);
	expect_lost(0);
	expect_answer(CLAIM, 1, 0);
	ck_assert_uint_eq(told.received, 1);
	expect_open(&client);
	close(client.far);
	close_worker();
}

TEST(the_user_may_close_the_channel_in_the_callback)
{
	struct client clients[BURST];
	open_worker();
	told.on_handoff = lose_connection;
	give_burst(clients);
	expect_lost(0);
	ck_assert_uint_eq(told.received, 1);
	expect_open(&clients[0]);
	close(clients[0].far);
	free_worker();
	for (int i = 1; i < BURST; i++)
		expect_closed(&clients[i]);
	close_worker();
}

static void pause_reading(struct ferry_handoff *handoff)
{
	(void)handoff;
	ck_assert_int_eq(ferry_transport_pause_reading(ferry_worker_get_transport(told.worker)), 0);
}

/* _i: whether the claim waits */
LOOP_TEST(the_users_own_pause_holds, 2)
{
	struct client clients[BURST];
	open_worker();
	pump_turns(3);
	if (_i > 0)
		plan(-EAGAIN);
	told.on_handoff = pause_reading;
	give_burst(clients);
	for (unsigned int i = 1; i <= BURST; i++) {
		pump_until_count(&told.received, i);
		pump_turns(5);
		ck_assert_uint_eq(told.received, i);
		ferry_transport_resume_reading(ferry_worker_get_transport(told.worker));
	}
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);
	close_worker();
}

TEST(resuming_the_transport_does_not_let_others_overtake_a_claim)
{
	struct client clients[BURST];
	open_worker();
	give_to_full_channel(clients);
	struct ferry_transport *transport = ferry_worker_get_transport(told.worker);
	ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
	ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	pump_turns(10);
	ck_assert_uint_eq(stats().received, 1);
	ck_assert_uint_eq(told.received, 0);
	told.on_handoff = see_last_claim;
	while (told.received < BURST) {
		take_in();
		pump_turns(1);
	}
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);
	close_worker();
}

/* ---- short of descriptor slots ---- */

static void set_flag(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	bool *flag = argument;
	*flag = true;
}

/* A timer that is set later, and for a longer time, runs out after the worker's. */
static void run_later_timer(void)
{
	bool over = false;
	event_base_once(base, -1, EV_TIMEOUT, set_flag, &over, &(struct timeval){.tv_usec = 50000});
	pump_until_set(&over);
}

TEST_CASE("numbers");

TEST(lost_descriptors_are_answered_and_credits_withdrawn)
{
	struct client clients[BURST];
	open_worker();
	pump_turns(3);
	give_burst(clients);
	limit_descriptors(0);
	expect_credits(0); /* first: the loss that follows is no attempt then */
	expect_answer(LOST, 1, 0);
	for (uint64_t i = 2; i <= BURST; i++)
		expect_answer(LOST, i, 0);
	run_later_timer(); /* the worker has checked again, and no slot is free */
	expect_silence();
	ck_assert_uint_eq(stats().lost, BURST);
	unlimit_descriptors();
	expect_credits(256);
	expect_silence();
	for (int i = 0; i < BURST; i++)
		expect_closed(&clients[i]);

	struct client client = make_client();
	give_client(&client, 50);
	expect_answer(CLAIM, 50, 0);
	expect_closed(&client);
	ck_assert_uint_eq(stats().received, BURST + 1);
	ck_assert_uint_eq(told.received, 1);
	close_worker();
}

enum { SOME = 8 };

TEST(credits_set_meanwhile_are_what_is_stated_then)
{
	int spare[SOME];
	open_worker();
	pump_turns(3);
	struct client client = make_client();
	give_client(&client, 1);
	for (int i = 0; i < SOME; i++)
		spare[i] = dup(STDERR_FILENO);
	limit_descriptors(0);
	expect_credits(0);
	expect_answer(LOST, 1, 0);
	ck_assert_int_eq(ferry_worker_set_credits(told.worker, SOME - 1), 0);
	expect_silence();
	for (int i = 0; i < SOME; i++)
		close(spare[i]);
	expect_credits(SOME - 1); /* no more slots are free than these */
	unlimit_descriptors();
	expect_closed(&client);
	close_worker();
}

/* _i: 0: the worker has drained meanwhile; 1: the channel is lost; 2: the worker is freed */
LOOP_TEST(what_ends_while_numbers_are_short_ends, 3)
{
	open_worker();
	pump_turns(3);
	struct client client = make_client();
	give_client(&client, 1);
	limit_descriptors(0);
	expect_credits(0);
	expect_answer(LOST, 1, 0);
	if (_i == 0) {
		ck_assert_int_eq(ferry_worker_drain(told.worker), 0);
		expect(DRAIN);
	} else if (_i == 1) {
		shutdown(ends[1], SHUT_RDWR); /* the child that sets the limit has a copy */
		pump_until_count(&told.lost, 1);
	} else {
		free_worker();
	}
	unlimit_descriptors();
	expect_closed(&client);
	run_later_timer();
	if (_i == 0)
		expect_silence();
	close_worker();
}

/* ---- credits and draining ---- */

TEST(credits_are_stated)
{
	open_worker();
	ck_assert_int_eq(ferry_worker_set_credits(told.worker, 0), 0);
	expect_credits(0);
	ck_assert_int_eq(ferry_worker_set_credits(told.worker, UINT32_MAX), 0);
	expect_credits(UINT32_MAX);
	close_worker();
}

TEST(a_drained_worker_states_no_credits)
{
	open_worker();
	ck_assert_int_eq(ferry_worker_drain(told.worker), 0);
	ck_assert_int_eq(ferry_worker_drain(told.worker), 0);
	ck_assert_uint_eq(expect(DRAIN).length, 0);
	ck_assert_int_eq(ferry_worker_set_credits(told.worker, 9), 0);
	expect_silence();
	struct client client = make_client(); /* on its way already */
	give_client(&client, 1);
	expect_answer(CLAIM, 1, 0);
	expect_answer(DONE, 1, 0);
	expect_closed(&client);
	close_worker();
}

TEST(the_dispatchers_drain_is_told_once)
{
	open_worker();
	send_plain(DRAIN, 0);
	send_plain(DRAIN, 8); /* of a later version */
	struct client client = make_client();
	give_client(&client, 1);
	expect_answer(CLAIM, 1, 0);
	expect_closed(&client);
	ck_assert_uint_eq(told.drains, 1);
	close_worker();
}

/* ---- broken formats ---- */

struct fault {
	size_t offset, size;
	uint64_t value;
	int longer; /* bytes of the frame beyond its parts */
	unsigned int declared;
	size_t fds;
};

static const struct fault faults[] = {
    {34, 2, 256, 0, 1, 1},                                         /* name over the limit */
    {34, 2, 2, 0, 1, 1},                                           /* and shorter than it is */
    {34, 2, 4, 0, 1, 1},                                           /* and longer */
    {34, 2, 65535, 0, 1, 1},      {36, 4, BLOCK_MAX + 1, 0, 1, 1}, /* blob */
    {36, 4, UINT32_MAX, 0, 1, 1}, {36, 4, 1, 0, 1, 1},
    {36, 4, 3, 0, 1, 1},          {40, 4, BLOCK_MAX + 1, 0, 1, 1}, /* bytes */
    {40, 4, UINT32_MAX, 0, 1, 1}, {40, 4, 3, 0, 1, 1},
    {40, 4, 5, 0, 1, 1},          {48, 1, 0, 0, 1, 1},   /* a zero in the name */
    {50, 1, 0, 0, 1, 1},          {51, 1, 'x', 0, 1, 1}, /* none at its end */
    {48, 0, 0, 1, 1, 1},                                 /* the frame is longer than its lengths */
    {48, 0, 0, -1, 1, 1},         {48, 0, 0, -10, 1, 1},
    {48, 0, 0, -11, 1, 1},        {48, 0, 0, -57, 1, 1},
    {48, 0, 0, -58, 1, 1},       /* and has nothing in it */
    {48, 0, 0, FRAME_MAX, 1, 1}, /* over all limits */
    {48, 0, 0, 0, 0, 0},         /* no descriptor is declared */
    {48, 0, 0, 0, 0, 1},         /* and one comes */
    {48, 0, 0, 0, 1, 0},         /* none comes */
    {48, 0, 0, 0, 1, 2},          {48, 0, 0, 0, 2, 2},
    {48, 0, 0, 0, 2, 1},
};

TEST_CASE("end");

LOOP_TEST(a_malformed_handoff_ends_the_channel, COUNT(faults))
{
	const struct fault *fault = &faults[_i];
	open_worker();
	struct client clients[2] = {make_client(), make_client()};
	int fds[2] = {clients[0].near, clients[1].near};
	struct parcel parcel = make_parcel(1, fds[0]);
	size_t length = put_handoff(&parcel);
	ck_assert_uint_eq(length, HEADER + 58);
	put(HEADER + fault->offset, fault->value, fault->size);
	put(8, (uint64_t)((int64_t)length + fault->longer) - HEADER, 4);
	put(12, fault->declared, 2);
	/* Too long a frame is refused by its header. */
	send_frame(fault->longer > 64 ? length : (size_t)((int64_t)length + fault->longer), fds,
	           fault->fds);
	close(fds[0]);
	close(fds[1]);
	expect_lost(-EPROTO);
	expect_closed(&clients[0]);
	expect_closed(&clients[1]);
	ck_assert_uint_eq(told.received, 0);
	ck_assert_uint_eq(count_waiting(CLAIM), 0);
	close_worker();
}

TEST(what_was_answered_before_a_broken_format_leaves)
{
	struct client client = make_client();
	open_worker();
	give_client(&client, 1);
	send_hello(1, 1, HELLO_SIZE);
	expect_lost(-EPROTO);
	expect_answer(CLAIM, 1, 0);
	expect_answer(DONE, 1, 0);
	expect_closed(&client);
	close_worker();
}

TEST(types_that_are_unknown_are_ignored)
{
	static const unsigned int types[] = {0, 3, 4, 5, 6, 7, 9, 1000, 65535};
	enum { COUNT = sizeof(types) / sizeof(types[0]) };
	struct client client = make_client(), stray = make_client();
	open_worker();
	for (size_t i = 0; i < COUNT; i++)
		send_plain(types[i], i * 10);
	send_frame(put_header(77, 5, 1), &stray.near, 1);
	close(stray.near);
	give_client(&client, 1);
	expect_answer(CLAIM, 1, 0);
	expect_closed(&client);
	expect_closed(&stray);
	ck_assert_uint_eq(stats().ignored, COUNT + 1);
	ck_assert_uint_eq(told.lost, 0);
	close_worker();
}

/* ---- the end ---- */

TEST(after_the_dispatcher_is_lost_nothing_is_said)
{
	open_worker();
	struct client client = make_client();
	told.on_handoff = steal;
	give_client(&client, 1);
	expect_answer(CLAIM, 1, 0);
	close_dispatcher();
	expect_lost(0);
	ck_assert_int_eq(ferry_worker_done(told.worker, 1), -ENOTCONN);
	ck_assert_int_eq(ferry_worker_drain(told.worker), -ENOTCONN);
	ck_assert_int_eq(ferry_worker_set_credits(told.worker, 1), -ENOTCONN);
	ck_assert_uint_eq(stats().claimed, 1);
	ck_assert_uint_eq(stats().done, 0);
	expect_open(&client); /* a claimed handoff is still served */
	close(client.far);
	close_worker();
}

static void free_and_look(struct ferry_handoff *handoff)
{
	free_worker();
	check_parcel(handoff); /* it is still valid */
	if (told.id % 2 == 0)
		steal(handoff);
	else if (told.id % 4 == 1)
		ck_assert_int_eq(ferry_handoff_reject(handoff, 1), 0);
}

/* _i: 0-3: the end of the handoff; +4: after the claim has waited */
LOOP_TEST(the_worker_may_be_freed_in_its_callback, 8)
{
	struct client clients[2] = {make_client(), make_client()};
	open_worker();
	pump_turns(3);
	if (_i >= 4)
		plan(-EAGAIN);
	expected = make_parcel((uint64_t)_i, clients[0].near);
	expected.bytes = 30000;
	told.on_handoff = free_and_look;
	give(&expected);
	give_client(&clients[1], 100);
	pump_until_count(&told.received, 1);
	pump_turns(5);
	close(clients[0].near);
	if (_i % 2 == 0) {
		expect_open(&clients[0]);
		close(clients[0].far);
	} else {
		expect_closed(&clients[0]);
	}
	expect_answer(CLAIM, (uint64_t)_i, 0);
	close_dispatcher(); /* with the unread answers */
	expect_closed(&clients[1]);
	ck_assert_uint_eq(told.received, 1);
	close_worker();
}

/* _i: 0, drain_requested; 1, dispatcher_lost */
LOOP_TEST(the_worker_may_be_freed_in_its_other_callbacks, 2)
{
	open_worker();
	told.on_event = free_worker;
	if (_i == 0) {
		send_plain(DRAIN, 0);
		send_plain(DRAIN, 0);
		pump_until_count(&told.drains, 1);
	} else {
		close_dispatcher();
		pump_until_count(&told.lost, 1);
	}
	pump_turns(5);
	ck_assert_uint_eq(told.drains + told.lost, 1);
	close_worker();
}

static void do_everything(struct ferry_handoff *handoff)
{
	steal(handoff);
	ck_assert_int_eq(ferry_worker_set_credits(told.worker, 7), 0);
	ck_assert_int_eq(ferry_worker_done(told.worker, told.id), 0);
	ck_assert_int_eq(ferry_worker_drain(told.worker), 0);
}

/* _i: whether the claim has waited */
LOOP_TEST(everything_may_be_said_in_the_callback, 2)
{
	struct client client = make_client();
	open_worker();
	pump_turns(3);
	if (_i > 0)
		plan(-EAGAIN);
	told.on_handoff = do_everything;
	give_client(&client, 4);
	expect_answer(CLAIM, 4, 0);
	expect_credits(7);
	expect_answer(DONE, 4, 0);
	expect(DRAIN);
	expect_silence();
	expect_open(&client);
	close(client.far);
	close_worker();
}

/* ---- the suite ---- */
