/* Loops in several threads share the limit of descriptors in flight, and nothing else. */

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/ferry.h"

#include "test.h"
#include "wire.h"

enum { THREADS = 4, LINKS = 3, DESCRIPTORS = 300 };

static struct loop {
	pthread_t thread;
	struct event_base *base;
	struct ferry_transport *transports[LINKS];
	int fars[LINKS];
	unsigned int sent[LINKS], received[LINKS];
} loops[THREADS];
static int passed_fd;

static void open_loop(struct loop *loop)
{
	loop->base = event_base_new();
	ck_assert_ptr_nonnull(loop->base);
	for (int i = 0; i < LINKS; i++) {
		int ends[2];
		make_pair(PAIR_UNIX, ends);
		struct bufferevent *bev =
		    bufferevent_socket_new(loop->base, ends[0], BEV_OPT_CLOSE_ON_FREE);
		ck_assert_int_eq(ferry_transport_new(&loop->transports[i], bev), 0);
		loop->fars[i] = ends[1];
	}
}

static void close_loop(struct loop *loop)
{
	for (int i = 0; i < LINKS; i++) {
		ferry_transport_free(loop->transports[i]);
		close(loop->fars[i]);
	}
	for (int i = 0; i < 2; i++)
		event_base_loop(loop->base, EVLOOP_NONBLOCK);
	event_base_free(loop->base);
}

static void send_some(struct loop *loop, int link)
{
	while (loop->sent[link] < DESCRIPTORS &&
	       ferry_transport_send_fd(loop->transports[link], passed_fd, FERRY_FD_DUP) == 0) {
		ck_assert_int_eq(ferry_transport_write(loop->transports[link], "n", 1), 0);
		if (++loop->sent[link] % 16 == 0)
			break;
	}
}

static bool receive_some(struct loop *loop, int link)
{
	struct wire_read got;
	bool any = false;
	char byte;

	while (wire_receive(loop->fars[link], &byte, 1, &got), got.bytes == 1) {
		loop->received[link] += (unsigned int)got.fd_count;
		wire_close_fds(&got);
		any = true;
	}
	ck_assert_int_eq(got.bytes, -EAGAIN);
	return any;
}

static void *run(void *argument)
{
	struct loop *loop = argument;
	struct ferry_in_flight_info info;
	unsigned int received = 0;

	while (received < LINKS * DESCRIPTORS) {
		bool any = false;
		received = 0;
		for (int i = 0; i < LINKS; i++)
			send_some(loop, i);
		event_base_loop(loop->base, EVLOOP_NONBLOCK);
		for (int i = 0; i < LINKS; i++) {
			any |= receive_some(loop, i);
			received += loop->received[i];
		}
		ck_assert_int_eq(ferry_in_flight_get_info(&info), 0);
		ck_assert_uint_le(info.fds, 6);
		ferry_in_flight_set_limit(6);
		if (!any && received < LINKS * DESCRIPTORS)
			event_base_loop(loop->base, EVLOOP_ONCE);
	}
	return NULL;
}

TEST(loops_in_threads_stay_within_one_limit)
{
	struct ferry_in_flight_info info;

	ferry_in_flight_set_limit(6);
	passed_fd = make_marked_fd(1);
	for (int i = 0; i < THREADS; i++)
		open_loop(&loops[i]);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&loops[i].thread, NULL, run, &loops[i]), 0);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_join(loops[i].thread, NULL), 0);
	for (int i = 0; i < THREADS; i++)
		for (int link = 0; link < LINKS; link++)
			ck_assert_uint_eq(loops[i].received[link], DESCRIPTORS);
	for (int i = 0; i < THREADS; i++)
		close_loop(&loops[i]);
	ck_assert_int_eq(ferry_in_flight_get_info(&info), 0);
	ck_assert_uint_eq(info.fds, 0);
	close(passed_fd);
}

static atomic_bool done;

static void *use_ledger(void *argument)
{
	struct ferry_in_flight_info info;

	/* No assertion in here: check writes each one down. */
	while (!atomic_load(&done))
		(void)ferry_in_flight_get_info(&info);
	return argument;
}

/* The thread has the lock at some of the forks, and is not in the child. */
TEST(a_child_of_fork_does_not_wait_for_a_thread_of_its_parent)
{
	struct ferry_in_flight_info info;
	pthread_t thread;
	int status;

	ck_assert_int_eq(pthread_create(&thread, NULL, use_ledger, NULL), 0);
	for (int i = 0; i < 200; i++) {
		pid_t child = fork();
		ck_assert_int_ge(child, 0);
		if (child == 0)
			_exit(ferry_in_flight_get_info(&info) == 0 ? 0 : 1);
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert_int_eq(status, 0);
	}
	atomic_store(&done, true);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
