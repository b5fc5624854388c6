/* The worker's memory. A handoff needs no allocation of its own. When each allocation fails in turn, the
 * worker still calls its callback exactly once for each claim. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/worker.h"

#include "heap.h"
#include "heap_sweep.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { HEADER = 16, HELLO_SIZE = 24, HANDOFF_SIZE = 48, CLAIM = 3, BYTES = 30000, GIVEN = 6 };
enum { MANY = 1000 };

static struct {
	struct ferry_worker *worker;
	unsigned int received, lost, failed;
	int reason;
	int fds[GIVEN];
	unsigned int fd_count;
} told;

static void note(int status)
{
	must(status == 0 || status == -ENOMEM || status == -ENOTCONN);
	told.failed += status != 0;
}

/* Steals one handoff of three, and rejects another. */
static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	(void)context;
	struct ferry_handoff_info info;
	size_t length;
	must(told.lost == 0);
	must(ferry_handoff_get_info(handoff, &info) == 0);
	must(ferry_handoff_get_bytes(handoff, &length) != NULL);
	unsigned int kind = told.received++ % 3;
	if (kind == 1 && told.fd_count < GIVEN) {
		told.fds[told.fd_count++] = ferry_handoff_steal_fd(handoff);
		note(ferry_worker_done(worker, info.id));
	} else if (kind == 2) {
		must(ferry_handoff_reject(handoff, 1) == 0);
	}
}

static void dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	(void)worker, (void)context;
	must(told.lost++ == 0);
	told.reason = reason;
}

static const struct ferry_worker_callbacks callbacks = {
    .handoff_received = handoff_received,
    .dispatcher_lost = dispatcher_lost,
};

/* ---- the dispatcher, without a heap ---- */

static int ends[2];

static void put(unsigned char *at, uint64_t number, size_t size)
{
	for (size_t i = 0; i < size; i++)
		at[i] = (unsigned char)(number >> (8 * i));
}

static size_t put_header(unsigned char *frame, unsigned int type, size_t length, size_t fds)
{
	memset(frame, 0, HEADER + length);
	put(frame, 0x01595246, 4);
	put(frame + 4, type, 2);
	put(frame + 8, length, 4);
	put(frame + 12, fds, 2);
	return HEADER + length;
}

static void send_hello(void)
{
	unsigned char frame[HEADER + HELLO_SIZE];
	size_t length = put_header(frame, 1, HELLO_SIZE, 0);
	put(frame + HEADER, 1, 2);
	put(frame + HEADER + 2, 1, 2);
	must(wire_send(ends[1], frame, length, NULL, 0) == (ssize_t)length);
}

static void give(uint64_t id, size_t bytes)
{
	static unsigned char frame[HEADER + HANDOFF_SIZE + 1 + BYTES];
	uint64_t cookie;
	socklen_t cookie_length = sizeof(cookie);
	must(getsockopt(ends[1], SOL_SOCKET, SO_COOKIE, &cookie, &cookie_length) == 0);
	size_t length = put_header(frame, 2, HANDOFF_SIZE + 1 + bytes, 1);
	put(frame + HEADER, id, 8);
	put(frame + HEADER + 16, cookie, 8);
	put(frame + HEADER + 32, FERRY_DESCRIPTOR_SOCKET, 1);
	put(frame + HEADER + 33, 1, 1);
	put(frame + HEADER + 40, bytes, 4);
	must(wire_send(ends[1], frame, length, &ends[1], 1) == (ssize_t)length);
}

static unsigned char said[1 << 17];
static size_t said_length;

static void listen_to_worker(void)
{
	ssize_t n = recv(ends[1], said + said_length, sizeof(said) - said_length, MSG_DONTWAIT);
	said_length += n > 0 ? (size_t)n : 0;
}

/* The claims among the messages that have arrived whole. */
static unsigned int count_claims(void)
{
	unsigned int count = 0;
	for (size_t at = 0; at + HEADER <= said_length;) {
		size_t length = HEADER + said[at + 8];
		if (at + length <= said_length)
			count += said[at + 4] == CLAIM;
		at += length;
	}
	return count;
}

/* ---- the amount of memory ---- */

TEST(a_handoff_takes_no_memory_but_its_share_of_the_buffers)
{
	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(ferry_worker_new(&told.worker, make_transport(ends[0]), &callbacks, NULL), 0);
	send_hello();
	unsigned long allocations = 0;
	for (unsigned int i = 1; i <= 2 * MANY; i++) {
		if (i == MANY) /* count allocations only after a warm-up */
			heap_watch(0);
		give(i, 100);
		if (i % 20 == 0) {
			while (told.received < i)
				event_base_loop(base, EVLOOP_ONCE);
			wire_drain(ends[1]);
		}
	}
	allocations = heap_unwatch();
	printf("%.2f allocations a handoff\n", (double)allocations / MANY);
	ck_assert_uint_le(allocations,
	                  3 * MANY); /* chains of the two buffers: see unit.message.memory */
	for (unsigned int i = 0; i < told.fd_count; i++)
		close(told.fds[i]);
	ferry_worker_free(told.worker);
	close(ends[1]);
}

/* ---- no memory ---- */

static void start(struct event_base *loop)
{
	struct ferry_transport *transport = NULL;
	heap_suspend();
	make_pair(PAIR_UNIX, ends);
	struct bufferevent *bev = bufferevent_socket_new(loop, ends[0], BEV_OPT_CLOSE_ON_FREE);
	must(ferry_transport_new(&transport, bev) == 0);
	heap_continue();
	int status = ferry_worker_new(&told.worker, transport, &callbacks, NULL);
	note(status);
	if (status != 0) {
		told.worker = NULL;
		ferry_transport_free(transport); /* the caller still owns it */
	}
}

static void run_scenario(struct event_base *loop)
{
	memset(&told, 0, sizeof(told));
	said_length = 0;
	start(loop);
	if (told.worker != NULL) {
		send_hello();
		for (unsigned int i = 1; i <= GIVEN; i++)
			give(i, i % 2 == 0 ? BYTES : 0);
		note(ferry_worker_set_credits(told.worker, 5));
	}
	bool ended = false;
	/* No recovery needs more turns of the loop. */
	for (int i = 0; i < 100 && told.worker != NULL && told.lost == 0; i++) {
		event_base_loop(loop, EVLOOP_ONCE);
		listen_to_worker();
		if (told.received == GIVEN && !ended) {
			ended = true;
			note(ferry_worker_drain(told.worker));
			shutdown(ends[1], SHUT_WR);
		}
	}
	ferry_worker_free(told.worker);
}

static void judge(unsigned long failing)
{
	listen_to_worker();
	close(ends[1]);
	for (unsigned int i = 0; i < told.fd_count; i++)
		close(told.fds[i]);
	if (failing == 0) {
		ck_assert_uint_eq(told.failed, 0);
		ck_assert_uint_eq(told.received, GIVEN);
		ck_assert_int_eq(told.reason, 0);
	}
	ck_assert_msg(count_claims() == told.received, "allocation %lu: %u claims, %u callbacks",
	              failing, count_claims(), told.received);
	ck_assert_msg((told.received == GIVEN && told.reason == 0) || told.failed > 0 ||
	                  told.reason < 0,
	              "allocation %lu: what was not done is not told", failing);
}

TEST(every_allocation_may_fail)
{
	sweep_scenario(run_scenario, judge, 10);
}

BEFORE_ALL
{
	heap_take_over();
}
