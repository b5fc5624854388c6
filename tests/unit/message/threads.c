/* Several threads send messages at once while another one runs the loop, and streams are freed meanwhile.
 * Mainly for ThreadSanitizer. */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/thread.h>

#include "ferry/ferry.h"

#include "test.h"
#include "wire.h"

/* Both ends are in this process: the descriptors of AHEAD_MAX messages must fit under a limit of 1024 twice. */
enum { SENDERS = 2, MESSAGES = 1500, FDS_MAX = 3, MARKS = 256, STREAMS = 60, AHEAD_MAX = 200 };

/* One end: its callbacks run in the loop's thread. */
struct end {
	struct ferry_message_stream *stream;
	unsigned int next[SENDERS]; /* of each sender, the next number to arrive */
	_Atomic unsigned int received, lost;
};
static struct end ends[2];

static size_t fds_of(uint32_t number)
{
	return number % (FDS_MAX + 1);
}

/* The type is the sender, the payload the number; the descriptors are marked with the number. */
static void on_message(struct ferry_message_stream *stream, struct ferry_message *message,
                       void *context)
{
	struct end *end = context;
	unsigned int sender = ferry_message_get_type(message);
	size_t length;
	uint32_t number;
	ck_assert_ptr_eq(stream, end->stream);
	ck_assert_uint_lt(sender, SENDERS);
	const void *payload = ferry_message_get_payload(message, &length);
	ck_assert_uint_eq(length, sizeof(number));
	memcpy(&number, payload, sizeof(number));
	ck_assert_uint_eq(number, end->next[sender]++);
	ck_assert_uint_eq(ferry_message_get_fd_count(message), fds_of(number));
	ck_assert_uint_eq(ferry_message_get_fds_lost(message), 0);
	for (size_t i = 0; i < fds_of(number); i++)
		ck_assert_uint_eq(marked_number(ferry_message_get_fd(message, i)), number % MARKS);
	if (number % 2 == 0 && fds_of(number) > 0)
		ck_assert_int_eq(close(ferry_message_steal_fd(message, 0)), 0);
	end->received++;
}

static void on_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)stream, (void)reason;
	struct end *end = context;
	end->lost++;
}

static const struct ferry_message_callbacks callbacks = {.message_received = on_message,
                                                         .connection_lost = on_lost};

static void open_ends(void)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	memset(ends, 0, sizeof(ends));
	for (int i = 0; i < 2; i++) {
		struct ferry_transport *transport = NULL;
		struct bufferevent *bev =
		    bufferevent_socket_new(base, fds[i], BEV_OPT_CLOSE_ON_FREE | BEV_OPT_THREADSAFE);
		ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
		/* Callbacks that read `stream` may run in the loop's thread before ferry_message_stream_new() returns. */
		bufferevent_lock(bev);
		ck_assert_int_eq(ferry_message_stream_new(&ends[i].stream, transport, &callbacks, &ends[i]),
		                 0);
		bufferevent_unlock(bev);
	}
}

static void *run_loop(void *unused)
{
	event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
	return unused;
}

static void stop_loop(pthread_t loop)
{
	event_base_loopbreak(base);
	pthread_join(loop, NULL);
}

/* Every second message takes its descriptors, the others duplicate them. */
static void send_one(struct ferry_message_stream *stream, unsigned int sender, uint32_t number)
{
	int fds[FDS_MAX];
	size_t count = fds_of(number);
	enum ferry_fd_ownership ownership = number % 2 == 0 ? FERRY_FD_DUP : FERRY_FD_TAKE;
	int status;
	for (size_t i = 0; i < count; i++)
		fds[i] = make_marked_fd(number % MARKS);
	while ((status = ferry_message_stream_send(stream, (uint16_t)sender, &number, sizeof(number),
	                                           fds, count, ownership)) == -ENOBUFS)
		sched_yield(); /* the loop's thread sends meanwhile */
	ck_assert_int_eq(status, 0);
	for (size_t i = 0; i < count && ownership == FERRY_FD_DUP; i++)
		close(fds[i]);
}

static _Atomic unsigned int sent;

/* One thread for each sender of the first end. */
static void *send_all(void *argument)
{
	unsigned int sender = *(unsigned int *)argument;
	for (uint32_t number = 0; number < MESSAGES; number++) {
		while (sent >= ends[1].received + AHEAD_MAX)
			sched_yield();
		sent++;
		send_one(ends[0].stream, sender, number);
	}
	return NULL;
}

static void disturb(void)
{
	struct ferry_transport *transport = ferry_message_stream_get_transport(ends[1].stream);
	struct ferry_transport_stats stats;
	ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
	ck_assert_int_eq(ferry_transport_get_stats(transport, &stats), 0);
	ck_assert_int_eq(ferry_message_stream_set_fd_reserve(ends[1].stream, FDS_MAX), 0);
	ck_assert_int_eq(ferry_message_stream_set_limits(ends[1].stream, 100, FDS_MAX), 0);
	ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	sched_yield();
}

TEST(messages_of_several_threads_arrive_whole_and_each_threads_in_order)
{
	static unsigned int numbers[SENDERS] = {0, 1};
	pthread_t loop, senders[SENDERS];
	open_ends();
	sent = 0;
	ck_assert_int_eq(pthread_create(&loop, NULL, run_loop, NULL), 0);
	for (int i = 0; i < SENDERS; i++)
		ck_assert_int_eq(pthread_create(&senders[i], NULL, send_all, &numbers[i]), 0);
	while (ends[1].received < SENDERS * MESSAGES)
		disturb();
	for (int i = 0; i < SENDERS; i++)
		pthread_join(senders[i], NULL);
	stop_loop(loop);
	for (int i = 0; i < 2; i++) {
		ck_assert_uint_eq(ends[i].lost, 0);
		ferry_message_stream_free(ends[i].stream);
	}
}

TEST(a_stream_may_be_freed_from_another_thread_with_messages_under_way)
{
	pthread_t loop;
	ck_assert_int_eq(pthread_create(&loop, NULL, run_loop, NULL), 0);
	for (int i = 0; i < STREAMS; i++) {
		open_ends();
		uint32_t count = support_random_below(100);
		for (uint32_t number = 0; number < count; number++) {
			send_one(ends[0].stream, 0, number);
			send_one(ends[1].stream, 1, number);
		}
		unsigned int some = support_random_below(count + 1);
		while (ends[1].received < some)
			sched_yield();
		/* The peer of the stream that is freed first may get connection_lost; after its own free it gets none. */
		ferry_message_stream_free(ends[i % 2].stream);
		ferry_message_stream_free(ends[1 - i % 2].stream);
		for (int j = 0; j < 2; j++)
			ck_assert_uint_le(ends[j].lost, 1);
	}
	stop_loop(loop);
}

BEFORE_ALL
{
	evthread_use_pthreads();
}
