/* A locked path changes its owner: the owner dies, or hands its sockets over to a new process. */

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ferry/listener.h"

#include "children.h"
#include "listener_options.h"
#include "listening.h"
#include "lock_watch.h"
#include "recorder.h"
#include "test.h"

enum { GENERATIONS = 200, STANDBYS = 2 };

static struct shared {
	atomic_uint generation; /* the owner's */
	atomic_uint ended;      /* the last generation that was killed or was about to end */
	atomic_uint told_to_leave;
	atomic_int failure; /* line */
	atomic_uint go, done;
	atomic_int pids[GENERATIONS + STANDBYS + 1]; /* by generation */
	atomic_int status[8];
} * shared;

static void make_shared(void)
{
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(shared, MAP_FAILED);
}

static _Noreturn void fail_in_child(int line)
{
	atomic_store(&shared->failure, line);
	die();
}

/* The owner of the socket at the path: the kernel records which process called listen(2). */
static pid_t listener_at_path(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred peer = {0};
	socklen_t length = sizeof(peer);
	memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (__real_connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length);
	close(fd);
	return peer.pid;
}

/* Tries until this process is the owner. No other owner is alive then. */
static _Noreturn void be_standby(void)
{
	struct ferry_listener *listener = NULL;
	int status;
	do
		status = ferry_listener_new_unix(&listener, base, socket_path, with_lock(), close_accepted,
		                                 NULL);
	while (status == -EADDRINUSE && sched_yield() == 0);
	if (status != 0)
		fail_in_child(__LINE__);
	const unsigned int before = atomic_load(&shared->generation);
	if (atomic_load(&shared->ended) != before)
		fail_in_child(__LINE__);
	if (listener_at_path() != getpid())
		fail_in_child(__LINE__);
	atomic_store(&shared->pids[before + 1], getpid());
	atomic_store(&shared->generation, before + 1);
	while (atomic_load(&shared->told_to_leave) != before + 1)
		sched_yield();
	atomic_store(&shared->ended, before + 1);
	ferry_listener_free(listener);
	die();
}

static void wait_until(const atomic_uint *counter, unsigned int value)
{
	while (atomic_load(counter) < value && atomic_load(&shared->failure) == 0)
		sched_yield();
	ck_assert_int_eq(atomic_load(&shared->failure), 0);
}

static void start_standby(void)
{
	if (start_child() == 0)
		be_standby();
}

TEST_CASE("deaths", set_up_lock, tear_down_lock);

TEST(there_are_never_two_live_owners_and_never_none_for_long)
{
	make_shared();
	for (int i = 0; i < STANDBYS; i++)
		start_standby();
	for (unsigned int generation = 1; generation <= GENERATIONS; generation++) {
		wait_until(&shared->generation, generation);
		const pid_t owner = atomic_load(&shared->pids[generation]);
		start_standby();
		for (uint32_t turns = support_random_below(20); turns > 0; turns--)
			sched_yield();
		ck_assert_uint_eq(atomic_load(&shared->generation), generation);
		if (generation % 3 == 0) {
			atomic_store(&shared->told_to_leave, generation);
		} else {
			atomic_store(&shared->ended, generation);
			kill(owner, SIGKILL);
		}
		wait_for_death(owner);
	}
	for (unsigned int i = 1; i <= STANDBYS; i++) {
		wait_until(&shared->generation, GENERATIONS + i);
		atomic_store(&shared->told_to_leave, GENERATIONS + i);
		wait_for_death(atomic_load(&shared->pids[GENERATIONS + i]));
	}
	ck_assert_int_eq(atomic_load(&shared->failure), 0);
	ck_assert(!path_exists(socket_path));
	ck_assert(!path_exists(lock_path));
	munmap(shared, sizeof(*shared));
}

enum { RACERS = 3 };

static _Noreturn void race(unsigned int round, int number)
{
	struct ferry_listener *listener = NULL;
	while (atomic_load(&shared->go) != round)
		sched_yield();
	const int status =
	    ferry_listener_new_unix(&listener, base, socket_path, with_lock(), close_accepted, NULL);
	atomic_store(&shared->status[number], status);
	atomic_fetch_add(&shared->done, 1);
	for (;;)
		pause();
}

TEST(of_those_that_start_at_once_exactly_one_is_the_owner)
{
	make_shared();
	for (unsigned int round = 1; round <= GENERATIONS; round++) {
		pid_t racers[RACERS], owner = 0;
		atomic_store(&shared->done, 0);
		for (int i = 0; i < RACERS; i++) {
			racers[i] = start_child();
			if (racers[i] == 0)
				race(round, i);
		}
		atomic_store(&shared->go, round);
		wait_until(&shared->done, RACERS);
		for (int i = 0; i < RACERS; i++) {
			const int status = atomic_load(&shared->status[i]);
			ck_assert(status == -EADDRINUSE || (status == 0 && owner == 0));
			if (status == 0)
				owner = racers[i];
		}
		ck_assert_int_ne(owner, 0);
		ck_assert_int_eq(listener_at_path(), owner);
		expect_lock_of(owner);
		for (int i = 0; i < RACERS; i++) {
			kill(racers[i], SIGKILL);
			wait_for_death(racers[i]);
		}
	}
	own_and_leave();
	munmap(shared, sizeof(*shared));
}

/* An owner is killed in the middle of its start, or of its end. */
TEST(wherever_an_owner_was_killed_the_next_one_starts)
{
	make_shared();
	for (unsigned int round = 0; round < GENERATIONS; round++) {
		atomic_store(&shared->go, 0);
		pid_t child = start_child();
		if (child == 0) {
			struct ferry_listener *listener = NULL;
			atomic_store(&shared->go, 1);
			for (;;) {
				if (ferry_listener_new_unix(&listener, base, socket_path, with_lock(),
				                            close_accepted, NULL) != 0)
					fail_in_child(__LINE__);
				ferry_listener_free(listener);
			}
		}
		wait_until(&shared->go, 1);
		for (uint32_t turns = support_random_below(50); turns > 0; turns--)
			sched_yield();
		kill(child, SIGKILL);
		wait_for_death(child);
		ck_assert_int_eq(atomic_load(&shared->failure), 0);
		ferry_listener_free(own());
	}
	munmap(shared, sizeof(*shared));
}

static struct takeover_end old_end, new_end;
static int ends[2];

/* A set that owns the path, without a listener. */
static struct ferry_socket_set *make_set(void)
{
	struct ferry_socket_set *set = NULL;
	struct ferry_listener *listener = own();
	ck_assert_int_eq(ferry_socket_set_new(&set), 0);
	ck_assert_int_eq(ferry_socket_set_add_listener(set, "local", listener), 0);
	ferry_listener_free(listener);
	memset(&old_end, 0, sizeof(old_end));
	memset(&new_end, 0, sizeof(new_end));
	return set;
}

static void expect_taken(void)
{
	expect_refusal(-EADDRINUSE);
	ck_assert(path_exists(socket_path));
	ck_assert(path_exists(lock_path));
}

static void expect_free(void)
{
	ck_assert(!path_exists(socket_path));
	ck_assert(!path_exists(lock_path));
	own_and_leave();
}

TEST_CASE("takeovers", set_up_lock, tear_down_lock);

TEST(a_set_has_the_lock_of_its_listener)
{
	struct ferry_socket_set *set = make_set();
	expect_taken();
	ck_assert_int_eq(ferry_socket_set_own_path(set, "local"), 0); /* changes nothing */
	expect_taken();
	ferry_socket_set_free(set);
	expect_free();
}

TEST(the_lock_is_taken_over_with_the_socket)
{
	struct ferry_socket_set *set = make_set();
	make_pair(PAIR_UNIX, ends);
	serve_on(&old_end, set, ends[0]);
	request_on(&new_end, ends[1], NULL, 0);
	pump_until_count(&new_end.received, 1);
	expect_taken();
	commit_takeover(&new_end);
	pump_until_count(&old_end.ended, 1);
	expect_taken();
	pump_until_count(&new_end.ended, 1);
	ck_assert_int_eq(new_end.status, 0);
	takeover_end_close(&old_end);
	ferry_socket_set_free(set);
	expect_taken();
	takeover_end_close(&new_end);
	expect_free();
}

TEST(a_process_that_gives_a_takeover_up_does_not_have_the_lock)
{
	struct ferry_socket_set *set = make_set();
	make_pair(PAIR_UNIX, ends);
	serve_on(&old_end, set, ends[0]);
	request_on(&new_end, ends[1], NULL, 0);
	pump_until_count(&new_end.received, 1);
	takeover_end_close(&new_end);
	pump_until_count(&old_end.ended, 1);
	takeover_end_close(&old_end);
	expect_taken();
	ferry_socket_set_free(set);
	expect_free();
}

/* The old process is a child, which serves on ends[0]; this process requests on ends[1]. */
static pid_t start_old(void)
{
	memset(&new_end, 0, sizeof(new_end));
	make_pair(PAIR_UNIX, ends);
	pid_t child = start_child();
	if (child == 0) {
		close(ends[1]);
		serve_on(&old_end, make_set(), ends[0]);
		event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
	}
	close(ends[0]);
	request_on(&new_end, ends[1], NULL, 0);
	pump_until_count(&new_end.received, 1);
	return child;
}

TEST(the_new_process_signs_the_lock)
{
	pid_t old = start_old();
	expect_lock_of(old);
	commit_takeover(&new_end);
	pump_until_count(&new_end.ended, 1);
	ck_assert_int_eq(new_end.status, 0);
	expect_lock_of(getpid());
	expect_taken();
	kill(old, SIGKILL);
	wait_for_death(old);
	expect_taken();
	takeover_end_close(&new_end);
	expect_free();
}

/* As soon as the new process has the socket, no other process gets the path. */
LOOP_TEST(an_old_process_that_dies_leaves_the_lock_to_the_new_one, 2)
{
	pid_t old = start_old();
	if (_i == 1)
		commit_takeover(&new_end);
	kill(old, SIGKILL);
	wait_for_death(old);
	expect_taken();
	if (_i == 0)
		commit_takeover(&new_end);
	pump_until_count(&new_end.ended, 1);
	ck_assert_int_eq(new_end.status, 0);
	expect_lock_of(getpid());
	expect_taken();
	takeover_end_close(&new_end);
	expect_free();
}

TEST(own_path_keeps_the_lock_that_came_with_the_socket)
{
	pid_t old = start_old();
	kill(old, SIGKILL);
	wait_for_death(old);
	pump_turns(20);
	ck_assert_int_eq(ferry_socket_set_own_path(new_end.set, "local"), 0);
	expect_taken();
	takeover_end_close(&new_end);
	expect_free();
}

/* No process takes over the files of the old process, and none keeps the next owner out. */
TEST(a_takeover_without_an_end_leaves_a_stale_socket)
{
	pid_t old = start_old();
	kill(old, SIGKILL);
	wait_for_death(old);
	takeover_end_close(&new_end);
	ck_assert(path_exists(socket_path));
	ck_assert(path_exists(lock_path));
	own_and_leave();
}

static void die_in(struct takeover_end *end)
{
	(void)end;
	die();
}

/* The child is forked before there is a lock, so that it has only the descriptors that are sent to it. */
TEST(a_new_process_that_is_killed_is_replaced)
{
	make_pair(PAIR_UNIX, ends);
	pid_t new = start_child();
	if (new == 0) {
		close(ends[0]);
		new_end.on_received = commit_takeover;
		new_end.on_ended = die_in;
		request_on(&new_end, ends[1], NULL, 0);
		event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
	}
	close(ends[1]);
	struct ferry_socket_set *set = make_set();
	serve_on(&old_end, set, ends[0]);
	pump_until_count(&old_end.ended, 1);
	ck_assert_int_eq(old_end.status, 0);
	takeover_end_close(&old_end);
	ferry_socket_set_free(set);
	pump_turns(3);
	wait_for_death(new);
	expect_lock_of(new);
	ck_assert(path_exists(socket_path));
	own_and_leave();
}
