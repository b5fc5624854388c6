/* Connections of a predecessor, without memory for a report: the predecessor does not wait for it for ever. */

#include "upgrade/taker.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/ferry.h"
#include "test.h"
#include "upgrade/giver.h"

int __real_ferry_worker_done(struct ferry_worker *worker, uint64_t id);
int __wrap_ferry_worker_done(struct ferry_worker *worker, uint64_t id);

static unsigned int shortages; /* reports that are left to fail */
static unsigned int received, changes;

int __wrap_ferry_worker_done(struct ferry_worker *worker, uint64_t id)
{
	if (shortages == 0)
		return __real_ferry_worker_done(worker, id);
	shortages--;
	return -ENOMEM;
}

static void on_received(struct ferry_handoff *handoff, void *context)
{
	(void)context;
	received++;
	ferry_handoff_free(handoff);
}

static void on_changed(void *context)
{
	(void)context;
	changes++;
}

/* The kernel chooses an abstract name. */
static int listen_somewhere(void)
{
	const struct sockaddr address = {.sa_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, &address, sizeof(address.sa_family)), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	return fd;
}

static void give(struct giver *giver)
{
	struct ferry_handoff *handoff;
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	close(ends[1]);
	ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	ck_assert_int_eq(giver_give(giver, handoff), 0);
}

static bool is_settled(void *giver)
{
	return giver_is_settled(giver);
}

/* _i: reports that fail */
LOOP_TEST(the_predecessor_is_settled_without_memory_for_a_report, 3)
{
	struct giver *giver;
	struct taker *taker;
	uint64_t given, taken;
	int listener = listen_somewhere();

	received = 0;
	shortages = (unsigned int)_i;
	ck_assert_int_eq(taker_new(&taker, base, listener, on_received, NULL), 0);
	ck_assert_int_eq(giver_new(&giver, base, listener, on_changed, NULL), 0);
	for (int i = 0; i < 4; i++)
		give(giver);

	pump_until(is_settled, giver);

	giver_count(giver, &given, &taken);
	ck_assert_uint_eq(given, 4);
	ck_assert_uint_eq(taken, 4);
	ck_assert_uint_eq(received, 4);
	ck_assert_uint_eq(shortages, 0);
	giver_free(giver);
	taker_free(taker);
	close(listener);
	pump_turns(3);
}
