/* ferry starts a thread that reads ahead, and ends it with the last file. */

#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cold_disk.h"
#include "recorder.h"
#include "test.h"

TEST(the_threads_go_with_the_last_file_that_was_on_the_disk)
{
	open_cold_link(0);
	open_cold_link_at(&two, 1);
	cachestat_says = COLD;
	send_new_file(&one);
	send_new_file(&two);
	while (waits(&one) == 0 || waits(&two) == 0)
		pump_turns(1);
	pump_until(cold_file_has_arrived, &one);
	pump_until(cold_file_has_arrived, &two);
	expect_threads(0);
	recorder_close(&one.sender);
	pump_turns(3);
	close_cold_link_of(&two);
	close(one.far);
	one.far = -1;
	/* And the next begins anew. */
	open_cold_link_at(&one, 0);
	send_new_file(&one);
	check_whole(&one);
	close_cold_link();
}

/* A base of its own, in a thread of its own, without check or the recorder, which are not made for it. */
struct run {
	struct event_base *base;
	struct ferry_transport *transport;
	int far;
	uint64_t arrived;
	int status;
	bool finished;
};

static void run_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                         void *context)
{
	(void)producer, (void)sent;
	struct run *run = context;
	run->status = status;
	run->finished = true;
}

static const struct ferry_file_callbacks run_callbacks = {.finished = run_finished};

static void *run_base(void *argument)
{
	struct run *run = argument;
	char buffer[65536];

	for (int round = 0; round < 3; round++) {
		int fds[2];
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) < 0)
			return NULL;
		run->base = event_base_new();
		run->finished = false;
		struct bufferevent *bev = bufferevent_socket_new(run->base, fds[0], BEV_OPT_CLOSE_ON_FREE);
		if (ferry_transport_new(&run->transport, bev) != 0 ||
		    ferry_transport_send_file(NULL, run->transport, run->far, FERRY_FD_DUP, 0, FERRY_TO_END,
		                              0, &run_callbacks, run) != 0)
			return NULL;
		while (!run->finished) {
			event_base_loop(run->base, EVLOOP_NONBLOCK);
			ssize_t length = read(fds[1], buffer, sizeof(buffer));
			if (length > 0)
				run->arrived += (uint64_t)length;
		}
		ferry_transport_free(run->transport);
		for (ssize_t length; (length = read(fds[1], buffer, sizeof(buffer))) > 0;)
			run->arrived += (uint64_t)length;
		event_base_free(run->base);
		close(fds[1]);
	}
	return NULL;
}

TEST(two_bases_in_two_threads_get_their_files)
{
	struct run runs[2] = {{0}};
	pthread_t threads[2];

	cachestat_says = COLD;
	for (int i = 0; i < 2; i++) {
		runs[i].far = make_file(SIZE);
		ck_assert_int_eq(__real_pthread_create(&threads[i], NULL, run_base, &runs[i]), 0);
	}
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
		ck_assert_uint_eq(runs[i].arrived, 3 * (uint64_t)SIZE);
		ck_assert_int_eq(runs[i].status, 0);
		close(runs[i].far);
	}
	ck_assert_uint_gt(readahead_calls, 0);
	expect_threads(0);
}

TEST(after_a_fork_the_child_can_free_and_the_parent_goes_on)
{
	open_cold_link(0);
	send_stuck_file(&one);
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		event_reinit(base);
		ferry_transport_free(one.sender.transport);
		event_base_loop(base, EVLOOP_NONBLOCK);
		event_base_loop(base, EVLOOP_NONBLOCK);
		_exit(one.finished == 1 ? 0 : 1);
	}
	int status;
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	hold_disk(false);
	pump_turns(3);
	close_cold_link();
}
