/* The memory of an idle transport, what happens without memory for what it allocates when needed, and the system calls
 * and memory that a round trip must not cost. */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "heap.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

/* The promise is 640 bytes of heap beyond the bufferevent, with the arrays of the event base. */
enum { IDLE_MAX = 632, TRANSPORTS = 200, WARM_UP = 50, ROUNDS = 500 };

/* In libc's place, for libevent too. */
static unsigned int epoll_ctl_calls;
int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event);

int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
	epoll_ctl_calls++;
	return (int)syscall(SYS_epoll_ctl, epoll_fd, operation, fd, event);
}

/* ---- idle ---- */

static int sockets[TRANSPORTS][2];
static struct bufferevent *bevs[TRANSPORTS];
static struct ferry_transport *transports[TRANSPORTS];

static void make_bufferevents(void)
{
	for (int i = 0; i < TRANSPORTS; i++) {
		make_pair(PAIR_UNIX, sockets[i]);
		bevs[i] = bufferevent_socket_new(base, sockets[i][0], BEV_OPT_CLOSE_ON_FREE);
		ck_assert_ptr_nonnull(bevs[i]);
		bufferevent_enable(bevs[i], EV_READ);
	}
}

static void free_all(void)
{
	for (int i = 0; i < TRANSPORTS; i++) {
		ferry_transport_free(transports[i]);
		close(sockets[i][1]);
	}
	pump_turns(3);
}

static void ignore_data(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport, (void)context;
	evbuffer_drain(input, evbuffer_get_length(input));
}

static const struct ferry_protocol silent = {.data_received = ignore_data};

TEST_CASE("idle");

TEST(an_idle_transport_adds_less_than_promised_to_its_bufferevent)
{
	make_bufferevents();
	pump_turns(3);
	heap_watch(0);
	for (int i = 0; i < TRANSPORTS; i++) {
		if (ferry_transport_new(&transports[i], bevs[i]) != 0)
			break;
		ferry_transport_set_protocol(transports[i], &silent, NULL);
	}
	pump_turns(3);
	heap_unwatch();

	size_t each = heap_bytes() / TRANSPORTS;
	printf("an idle transport: %zu bytes of heap in %zu blocks beyond the bufferevent\n", each,
	       heap_blocks() / TRANSPORTS);
	ck_assert_uint_le(each, IDLE_MAX);
	free_all();
	ck_assert_uint_eq(heap_blocks(), 0);
}

/* Large bytes each way, descriptors and a file; drained again. */
static void work(int i)
{
	static char block[300000];
	struct ferry_transport *t = transports[i];
	ck_assert_int_eq(ferry_transport_write(t, block, sizeof(block)), 0);
	for (int n = 0; n < 40; n++) {
		ck_assert_int_eq(ferry_transport_send_fd(t, STDERR_FILENO, FERRY_FD_DUP), 0);
		ck_assert_int_eq(ferry_transport_write(t, "x", 1), 0);
	}
	ck_assert_int_eq(ferry_transport_send_file(NULL, t, make_file(1000), FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, 0, NULL, NULL),
	                 0);
	for (int n = 0; n < 20; n++) {
		(void)!write(sockets[i][1], block, sizeof(block));
		pump_turns(1);
		wire_drain(sockets[i][1]);
	}
	/* A few small ones let the room for reading shrink again. */
	for (int n = 0; n < 20; n++) {
		ck_assert_int_eq(write(sockets[i][1], "x", 1), 1);
		pump_turns(1);
	}
	struct ferry_transport_stats stats = stats_of(t);
	ck_assert_uint_eq(stats.bytes_queued + stats.fds_queued + stats.files_queued, 0);
}

TEST(a_transport_that_idles_again_takes_no_more_memory_than_promised)
{
	make_bufferevents();
	heap_watch(0);
	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(ferry_transport_new(&transports[i], bevs[i]), 0);
		ck_assert_int_eq(ferry_transport_set_protocol(transports[i], &silent, NULL), 0);
	}
	pump_turns(3);
	for (int i = 0; i < 20; i++)
		work(i);
	pump_turns(3);
	heap_unwatch();

	size_t each = heap_bytes() / 20;
	printf("after work: %zu bytes of heap\n", each);
	ck_assert_uint_le(each, IDLE_MAX + 160); /* descriptors and files have been sent */
	for (int i = 20; i < TRANSPORTS; i++)
		bufferevent_free(bevs[i]);
	free_all();
}

/* ---- the watch over the peer, which is allocated when needed ---- */

TEST_CASE("without memory");

/* Reading is off: the watch alone finds the peer's end. */
TEST(the_end_of_a_peer_is_noticed_although_there_was_no_memory_for_the_watch)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct recorder recorder;
	recorder_open(&recorder, fds[0], &recorder_protocol);
	pump_turns(3);
	bufferevent_disable(ferry_transport_get_bufferevent(recorder.transport), EV_READ);
	heap_watch(1);
	must(ferry_transport_pause_reading(recorder.transport) == 0);
	must(heap_unwatch() >= 1);

	close(fds[1]);
	pump_until_count(&recorder.read_lost, 1);
	recorder_close(&recorder);
}

TEST(a_close_waits_for_the_peer_although_there_was_no_memory_for_the_watch)
{
	int fds[2];
	make_pair(PAIR_TCP, fds);
	struct recorder recorder;
	recorder_open(&recorder, fds[0], &recorder_protocol);
	pump_turns(3);
	heap_watch(1);
	must(ferry_transport_lose_connection(recorder.transport) == 0);
	must(heap_unwatch() >= 1);
	pump_turns(4);
	ck_assert_uint_eq(recorder.lost, 0);

	close(fds[1]);
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, 0);
	recorder_close(&recorder);
}

TEST(a_deadline_is_not_set_without_memory)
{
	static const struct timeval second = {1, 0};
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct ferry_transport *transport = make_transport(fds[0]);
	heap_watch(1);
	must(ferry_transport_set_close_timeout(transport, &second) == -ENOMEM);
	heap_unwatch();
	heap_watch(1);
	must(ferry_transport_set_linger_timeout(transport, &second) == -ENOMEM);
	heap_unwatch();
	ck_assert_int_eq(ferry_transport_set_close_timeout(transport, &second), 0);
	ferry_transport_free(transport);
	close(fds[1]);
}

TEST(what_is_not_set_is_removed_without_memory)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct ferry_transport *transport = make_transport(fds[0]);
	heap_watch(0);
	must(ferry_transport_set_fd_cb(transport, NULL, NULL) == 0);
	must(ferry_transport_set_fds_lost_cb(transport, NULL, NULL) == 0);
	must(ferry_transport_set_close_timeout(transport, NULL) == 0);
	must(ferry_transport_set_linger_timeout(transport, &(struct timeval){0}) == 0);
	must(ferry_transport_set_linger_timeout(transport, &(struct timeval){2, 0}) == 0);
	must(ferry_transport_set_tls_truncation(transport, false) == 0);
	must(ferry_transport_set_fd_positions(transport, FERRY_FD_EARLY) == 0);
	ck_assert_uint_eq(heap_unwatch(), 0);
	ferry_transport_free(transport);
	close(fds[1]);
}

/* ---- round trips ---- */

static struct ferry_transport *ping, *pong;
static unsigned int round_trips;
static bool with_fds;

static void answer(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)context;
	if (evbuffer_get_length(input) < 64)
		return;
	char message[64];
	evbuffer_remove(input, message, sizeof(message));
	if (transport == ping)
		round_trips++;
	if (with_fds)
		ferry_transport_send_fd(transport, STDERR_FILENO, FERRY_FD_DUP);
	ferry_transport_write(transport, message, sizeof(message));
}

static void close_received(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport, (void)context;
	close(fd);
}

static const struct ferry_protocol echo = {.data_received = answer,
                                           .file_descriptor_received = close_received};

static void turn_until(unsigned int count)
{
	while (round_trips < count)
		event_base_loop(base, EVLOOP_ONCE);
}

TEST_CASE("round trips");

/* _i: unix, TCP, unix with a descriptor on each message. */
LOOP_TEST(a_round_trip_costs_one_call_each_way_no_epoll_ctl_and_no_memory, 3)
{
	int fds[2];
	make_pair(_i == 1 ? PAIR_TCP : PAIR_UNIX, fds);
	with_fds = _i == 2;
	ping = make_transport(fds[0]);
	pong = make_transport(fds[1]);
	ck_assert_int_eq(ferry_transport_set_protocol(ping, &echo, NULL), 0);
	ck_assert_int_eq(ferry_transport_set_protocol(pong, &echo, NULL), 0);
	char message[64] = {0};
	ck_assert_int_eq(ferry_transport_write(ping, message, sizeof(message)), 0);
	turn_until(WARM_UP);
	struct ferry_transport_stats before = stats_of(ping);
	unsigned int epoll_before = epoll_ctl_calls;
	heap_watch(0);

	turn_until(WARM_UP + ROUNDS);

	unsigned long allocations = heap_unwatch();
	ck_assert_uint_eq(epoll_ctl_calls, epoll_before);
	ck_assert_uint_le(heap_blocks(), 4); /* of a message under way */
	struct ferry_transport_stats after = stats_of(ping);
	ck_assert_uint_le(after.send_calls - before.send_calls, ROUNDS + 1);
	/* Behind a descriptor more may wait, so that is looked for. */
	ck_assert_uint_le(after.receive_calls - before.receive_calls,
	                  with_fds ? 2 * ROUNDS + 2 : ROUNDS + 1);
	ck_assert_uint_eq(after.send_eagain, before.send_eagain);
	printf("%d: %.2f allocations a round trip\n", _i, (double)allocations / ROUNDS);
	ferry_transport_free(ping);
	ferry_transport_free(pong);
}

TEST(an_idle_connection_with_nothing_to_write_causes_no_turns)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct recorder recorder;
	recorder_open(&recorder, fds[0], &recorder_protocol);
	ck_assert_int_eq(ferry_transport_write(recorder.transport, "x", 1), 0);
	pump_turns(5);
	struct ferry_transport_stats before = stats_of(recorder.transport);
	unsigned int epoll_before = epoll_ctl_calls;

	pump_turns(100);

	struct ferry_transport_stats after = stats_of(recorder.transport);
	ck_assert_mem_eq(&before, &after, sizeof(before));
	ck_assert_uint_eq(epoll_ctl_calls, epoll_before);
	recorder_close(&recorder);
	close(fds[1]);
}

TEST(writes_of_one_turn_leave_in_one_message)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct recorder recorder;
	recorder_open(&recorder, fds[0], &recorder_protocol);
	pump_turns(2);
	for (int i = 0; i < 50; i++)
		ck_assert_int_eq(ferry_transport_write(recorder.transport, "bytes", 5), 0);
	pump_turns(3);
	ck_assert_uint_eq(stats_of(recorder.transport).send_calls, 1);
	ck_assert_uint_eq(stats_of(recorder.transport).bytes_sent, 250);
	recorder_close(&recorder);
	close(fds[1]);
}

/* The first write waits for the socket: the event has had the timeout as its interval since. */
TEST(writes_with_a_write_timeout_cost_no_epoll_ctl)
{
	const struct timeval minute = {60, 0};
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	struct recorder recorder;
	recorder_open(&recorder, fds[0], &recorder_protocol);
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(recorder.transport), NULL, &minute);
	wire_fill(fds[0]);
	ck_assert_int_eq(ferry_transport_write(recorder.transport, "x", 1), 0);
	pump_turns(3);
	wire_drain(fds[1]);
	pump_turns(3);
	ck_assert_uint_eq(stats_of(recorder.transport).bytes_sent, 1);
	unsigned int epoll_before = epoll_ctl_calls;

	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(ferry_transport_write(recorder.transport, "x", 1), 0);
		pump_turns(2);
	}

	ck_assert_uint_eq(stats_of(recorder.transport).bytes_sent, 101);
	ck_assert_uint_eq(epoll_ctl_calls, epoll_before);
	recorder_close(&recorder);
	close(fds[1]);
}

BEFORE_ALL
{
	heap_take_over();
}
