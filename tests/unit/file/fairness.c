/* A large file takes its turns and no more: others get theirs, and rate limits hold for its bytes.
 * Counted in turns of the loop and in bytes, not in time. Linked with the library's objects, for a
 * reader that is always faster than the file. */

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

/* A socket that takes all: no bytes go anywhere. */
static bool endless;

ssize_t __real_sendfile(int out, int in, off_t *offset, size_t length);
ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length);

ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length)
{
	if (!endless)
		return __real_sendfile(out, in, offset, length);
	*offset += (off_t)length;
	return (ssize_t)length;
}

enum { MIB = 1024 * 1024, OTHERS = 10 };

static const uint64_t budgets[] = {256 * 1024, MIB}; /* by enum pair_kind */

static struct recorder sender, others[OTHERS];
static int far, other_ends[OTHERS];
static unsigned int finished;

static void told_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                          void *context)
{
	(void)producer, (void)sent, (void)context;
	ck_assert_int_eq(status, 0);
	finished++;
}

static const struct ferry_file_callbacks callbacks = {.finished = told_finished};

static void open_one(struct recorder *recorder, enum pair_kind kind, int *end)
{
	int fds[2];
	make_pair(kind, fds);
	*end = fds[1];
	recorder_open(recorder, fds[0], &recorder_protocol);
}

static void close_one(struct recorder *recorder, int end)
{
	recorder_close(recorder);
	pump_turns(3);
	close(end);
}

/* Its bytes do not matter, but they are in memory, and stay there: a file that waits for the disk gives its
 * turns away. */
static void send_file_of(struct recorder *recorder, int64_t size, unsigned int copy)
{
	int fd = memfd_create("large", MFD_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fallocate(fd, 0, 0, size), 0);
	ck_assert_int_eq(ferry_transport_send_file(NULL, recorder->transport, fd, FERRY_FD_TAKE, 0,
	                                           size, copy, &callbacks, NULL),
	                 0);
}

static uint64_t file_bytes(const struct recorder *recorder)
{
	return stats_of(recorder->transport).file_bytes_sent;
}

TEST_CASE("turns");

LOOP_TEST(in_each_turn_a_large_file_sends_its_share_and_all_others_get_theirs, 2)
{
	enum pair_kind kind = (enum pair_kind)_i;
	open_one(&sender, kind, &far);
	for (int i = 0; i < OTHERS; i++)
		open_one(&others[i], kind, &other_ends[i]);
	pump_turns(2);
	endless = true;
	send_file_of(&sender, 64 * MIB, 0);

	unsigned int turns = 0;
	for (uint64_t before = 0; finished == 0; turns++) {
		for (int i = 0; i < OTHERS; i++)
			ck_assert_int_eq(write(other_ends[i], "x", 1), 1);
		/* Does not wait: bytes that TCP has not delivered yet come in the next turn. */
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		uint64_t after = file_bytes(&sender);
		ck_assert_uint_le(after - before, budgets[kind]);
		before = after;
		for (int i = 0; kind == PAIR_UNIX && i < OTHERS; i++)
			ck_assert_uint_eq(recorder_length(&others[i]), turns + 1);
	}
	/* The file sends in each turn, even if others have bytes. A check for cold pages may take some
	 * turns more. */
	ck_assert_uint_ge(turns, 64 * MIB / budgets[kind]);
	for (int i = 0; i < OTHERS; i++)
		pump_until_length(&others[i], turns);
	for (int i = 0; i < OTHERS; i++)
		close_one(&others[i], other_ends[i]);
	close_one(&sender, far);
}

/* Over TCP one of the files may stop for a while when the kernel retransmits a segment. The test
 * compares their progress on unix sockets only. */
TEST(two_large_files_take_turns)
{
	const enum pair_kind kind = PAIR_UNIX;
	open_one(&sender, kind, &far);
	open_one(&others[0], kind, &other_ends[0]);
	pump_turns(2);
	endless = true;
	send_file_of(&sender, 64 * MIB, 0);
	send_file_of(&others[0], 64 * MIB, 0);
	while (finished == 0) {
		pump_turns(1);
		uint64_t first = file_bytes(&sender), second = file_bytes(&others[0]);
		uint64_t apart = first > second ? first - second : second - first;
		ck_assert_uint_le(apart, 8 * budgets[kind]);
	}
	pump_until_count(&finished, 2);
	close_one(&others[0], other_ends[0]);
	close_one(&sender, far);
}

/* ---- rate limits ---- */

/* A tick that does not end while the test runs: the transport sends the bytes of one tick, and then
 * none. */
static const struct timeval one_tick = {.tv_sec = 24 * 3600};
enum { LIMIT = 100000, SIZE = 1000000 };

static void drain_turns(int turns)
{
	for (int i = 0; i < turns; i++) {
		pump_turns(1);
		wire_drain(far);
	}
}

TEST_CASE("rate limits");

LOOP_TEST(a_rate_limit_applies_to_the_bytes_of_a_file, 4)
{
	unsigned int copy = _i / 2 == 0 ? 0 : FERRY_FILE_COPY;
	open_one(&sender, (enum pair_kind)(_i % 2), &far);
	pump_turns(2);
	struct bufferevent *bev = ferry_transport_get_bufferevent(sender.transport);
	struct ev_token_bucket_cfg *limit =
	    ev_token_bucket_cfg_new(LIMIT, LIMIT, LIMIT, LIMIT, &one_tick);
	ck_assert_int_eq(bufferevent_set_rate_limit(bev, limit), 0);
	ck_assert_int_eq(ferry_transport_write(sender.transport, "head", 4), 0);
	send_file_of(&sender, SIZE, copy);

	while (file_bytes(&sender) < LIMIT - 4)
		drain_turns(1);
	drain_turns(50);
	ck_assert_uint_eq(file_bytes(&sender), LIMIT - 4);
	ck_assert_uint_eq(stats_of(sender.transport).bytes_sent, LIMIT);
	ck_assert_int_eq(bufferevent_get_write_limit(bev), 0);

	/* The next tick's share. */
	ck_assert_int_eq(bufferevent_decrement_write_limit(bev, -LIMIT), 0);
	while (file_bytes(&sender) < 2 * LIMIT - 4)
		drain_turns(1);
	drain_turns(50);
	ck_assert_uint_eq(file_bytes(&sender), 2 * LIMIT - 4);

	ck_assert_int_eq(bufferevent_set_rate_limit(bev, NULL), 0);
	while (finished == 0)
		drain_turns(1);
	ck_assert_uint_eq(file_bytes(&sender), SIZE);
	close_one(&sender, far);
	ev_token_bucket_cfg_free(limit);
}

LOOP_TEST(a_groups_limit_applies_to_the_files_of_all_members, 2)
{
	open_one(&sender, (enum pair_kind)_i, &far);
	open_one(&others[0], (enum pair_kind)_i, &other_ends[0]);
	pump_turns(2);
	struct ev_token_bucket_cfg *limit =
	    ev_token_bucket_cfg_new(LIMIT, LIMIT, LIMIT, LIMIT, &one_tick);
	struct bufferevent_rate_limit_group *group = bufferevent_rate_limit_group_new(base, limit);
	ck_assert_int_eq(ferry_transport_set_rate_limit_group(sender.transport, group), 0);
	ck_assert_int_eq(ferry_transport_set_rate_limit_group(others[0].transport, group), 0);
	send_file_of(&sender, SIZE, 0);
	send_file_of(&others[0], SIZE, 0);

	while (bufferevent_rate_limit_group_get_write_limit(group) > 0) {
		drain_turns(1);
		wire_drain(other_ends[0]);
	}
	drain_turns(50);
	/* A member may always send 64 bytes when it has its turn. */
	uint64_t both = file_bytes(&sender) + file_bytes(&others[0]);
	ck_assert_uint_ge(both, LIMIT);
	ck_assert_uint_le(both, LIMIT + 128);

	ck_assert_int_eq(ferry_transport_set_rate_limit_group(sender.transport, NULL), 0);
	ck_assert_int_eq(ferry_transport_set_rate_limit_group(others[0].transport, NULL), 0);
	while (finished < 2) {
		drain_turns(1);
		wire_drain(other_ends[0]);
	}
	close_one(&others[0], other_ends[0]);
	close_one(&sender, far);
	bufferevent_rate_limit_group_free(group);
	ev_token_bucket_cfg_free(limit);
}
