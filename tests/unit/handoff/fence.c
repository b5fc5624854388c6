/* The fence, between processes: workers that claim as fast as they can, or are stopped, or killed, and
 * a dispatcher that ends their channels at random moments. The two sides agree on the claims, and user
 * code gets no handoff twice. */

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/dispatcher.h"
#include "ferry/worker.h"
#include "test.h"
#include "wire.h"

enum {
	ROUNDS = 10000,
	CREDITS = 64,
	AHEAD = 24,
	HANDOFFS_MAX = ROUNDS * AHEAD,
	NEVER_SECONDS = 1000
};

/* The worker processes write this, and the test reads it. */
struct board {
	atomic_uint begun[HANDOFFS_MAX]; /* number of times that user code got it */
	atomic_int by[HANDOFFS_MAX];     /* the process that got it */
	atomic_uint channels;            /* taken by a worker process */
};

static struct board *board;

/* ---- a worker process: gets channels over a socket, and serves each ---- */

static struct event_base *child_base;
static unsigned int child_channels;
static bool child_ends; /* with its last channel */
static bool keeps;      /* does not close its connections at once */

static void handoff_received(struct ferry_worker *worker, struct ferry_handoff *handoff,
                             void *context)
{
	(void)worker, (void)context;
	unsigned int number;
	size_t length;
	const void *blob = ferry_handoff_get_blob(handoff, &length);

	if (length != sizeof(number))
		abort();
	memcpy(&number, blob, sizeof(number));
	atomic_fetch_add(&board->begun[number], 1);
	atomic_store(&board->by[number], getpid());
	if (keeps)
		ferry_handoff_steal_fd(handoff);
}

static void leave_if_done(void)
{
	if (child_ends && child_channels == 0)
		event_base_loopexit(child_base, NULL);
}

static void dispatcher_lost(struct ferry_worker *worker, int reason, void *context)
{
	(void)reason, (void)context;
	ferry_worker_free(worker);
	child_channels--;
	leave_if_done();
}

static const struct ferry_worker_callbacks worker_callbacks = {
    .handoff_received = handoff_received,
    .dispatcher_lost = dispatcher_lost,
};

static void take_channel(evutil_socket_t control, short what, void *argument)
{
	(void)what;
	struct ferry_transport *transport;
	struct ferry_worker *worker;
	struct wire_read result;
	char byte;

	wire_receive((int)control, &byte, 1, &result);
	if (result.bytes == 0) {
		child_ends = true;
		event_del(argument);
		leave_if_done();
	}
	if (result.bytes <= 0)
		return;
	struct bufferevent *bev =
	    bufferevent_socket_new(child_base, result.fds[0], BEV_OPT_CLOSE_ON_FREE);
	if (ferry_transport_new(&transport, bev) < 0 ||
	    ferry_worker_new(&worker, transport, &worker_callbacks, NULL) < 0 ||
	    ferry_worker_set_credits(worker, CREDITS) < 0)
		abort();
	child_channels++;
	atomic_fetch_add(&board->channels, 1);
}

struct process {
	pid_t pid;
	int control;
};

static void run_child(int control)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* A copy of the parent's: only its numbers are used. */
	child_base = event_base_new();
	struct event *event =
	    event_new(child_base, control, EV_READ | EV_PERSIST, take_channel, event_self_cbarg());
	event_add(event, NULL);
	event_base_dispatch(child_base);
	for (int turn = 0; turn < 3; turn++) /* frees what is finalised by the loop */
		event_base_loop(child_base, EVLOOP_NONBLOCK);
	event_free(event);
	event_base_free(child_base);
	_exit(0);
}

static void start(struct process *process)
{
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	fflush(NULL);
	process->pid = fork();
	ck_assert_int_ge(process->pid, 0);
	if (process->pid == 0) {
		for (int fd = 3; fd < 64; fd++)
			if (fd != ends[1])
				close(fd);
		run_child(ends[1]);
	}
	close(ends[1]);
	process->control = ends[0];
}

/* The process ends when the dispatcher has ended its channels. */
static void stop(struct process *process)
{
	int status;

	close(process->control);
	ck_assert_int_eq(waitpid(process->pid, &status, 0), process->pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- the dispatcher ---- */

static struct ferry_dispatcher *dispatcher;
static unsigned char outcome_of[HANDOFFS_MAX];
static unsigned int outcomes, handed_off, workers_lost, ready;

static void on_outcome(struct ferry_dispatcher *from, struct ferry_handoff *handoff,
                       enum ferry_handoff_outcome outcome, int reason, void *context)
{
	(void)from, (void)handoff, (void)reason;
	unsigned char *of = context;
	ck_assert_uint_eq(*of, 0);
	*of = (unsigned char)outcome;
	outcomes++;
}

static void on_lost(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                    int reason, void *context)
{
	(void)from, (void)worker, (void)reason, (void)context;
	workers_lost++;
}

static void on_ready(struct ferry_dispatcher *from, struct ferry_dispatcher_worker *worker,
                     void *context)
{
	(void)from, (void)worker, (void)context;
	ready++;
}

static const struct ferry_dispatcher_callbacks callbacks = {.worker_lost = on_lost,
                                                            .worker_ready = on_ready};

static void open_dispatcher(void)
{
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(board, MAP_FAILED);
	outcomes = handed_off = workers_lost = ready = 0;
	keeps = false;
	memset(outcome_of, 0, sizeof(outcome_of));
	const struct timeval never = {.tv_sec = NEVER_SECONDS};
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, &callbacks, NULL), 0);
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &never, &never), 0);
}

static void close_dispatcher(void)
{
	ferry_dispatcher_free(dispatcher);
	pump_turns(3);
	munmap(board, sizeof(*board));
}

static struct ferry_dispatcher_worker *add_worker(const struct process *process)
{
	int ends[2];
	struct ferry_transport *transport = NULL;
	struct ferry_dispatcher_worker *worker = NULL;

	make_pair(PAIR_UNIX, ends);
	ssize_t sent;
	while ((sent = wire_send(process->control, "c", 1, &ends[1], 1)) == -EAGAIN)
		pump_turns(1);
	ck_assert_int_eq(sent, 1);
	close(ends[1]);
	struct bufferevent *bev = bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_dispatcher_add_worker(&worker, dispatcher, transport, NULL), 0);
	return worker;
}

static void hand_off(int fd)
{
	struct ferry_handoff *handoff = NULL;

	ck_assert_int_eq(ferry_handoff_new(&handoff, fd), 0);
	ck_assert_int_eq(ferry_handoff_set_blob(handoff, &handed_off, sizeof(handed_off)), 0);
	ck_assert_int_eq(
	    ferry_dispatcher_hand_off(dispatcher, handoff, on_outcome, &outcome_of[handed_off]), 0);
	handed_off++;
}

static struct ferry_dispatcher_stats stats(void)
{
	struct ferry_dispatcher_stats now;
	ck_assert_int_eq(ferry_dispatcher_get_stats(dispatcher, &now), 0);
	return now;
}

static void check_agreement(void)
{
	unsigned int claimed = 0, begun = 0;

	for (unsigned int i = 0; i < handed_off; i++) {
		unsigned int times = atomic_load(&board->begun[i]);
		bool was_claimed =
		    outcome_of[i] == FERRY_HANDOFF_DONE || outcome_of[i] == FERRY_HANDOFF_KEPT;
		ck_assert_uint_ne(outcome_of[i], 0);
		ck_assert_uint_le(times, 1);
		ck_assert_uint_eq(times, was_claimed);
		claimed += was_claimed;
		begun += times;
	}
	ck_assert_uint_eq(claimed, begun);
	ck_assert_uint_eq(stats().claimed, claimed);
	printf("handed off %u, claimed %u, begun %u, fenced attempts %llu, expired %llu\n", handed_off,
	       claimed, begun, (unsigned long long)stats().fenced, (unsigned long long)stats().expired);
}

static void spin(unsigned int usec)
{
	struct timespec start, now;

	clock_gettime(CLOCK_MONOTONIC, &start);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((int64_t)(now.tv_sec - start.tv_sec) * 1000000 + (now.tv_nsec - start.tv_nsec) / 1000 <
	       usec);
}

/* ---- the cases ---- */

static int rounds(void)
{
	const char *rounds = getenv("FERRY_TEST_ROUNDS");
	return rounds != NULL && atoi(rounds) > 0 && atoi(rounds) < ROUNDS ? atoi(rounds) : ROUNDS;
}

/* Whether as many claims as rounds were made, and a tenth of the fences found unclaimed handoffs. */
static bool has_seen_enough(void)
{
	struct ferry_dispatcher_stats counters = stats();

	return counters.claimed > (uint64_t)rounds() && counters.fenced > (uint64_t)rounds() / 10;
}

TEST(workers_removed_at_random_moments_agree_with_the_dispatcher)
{
	struct process process;
	int file = make_file(1);

	open_dispatcher();
	start(&process);
	/* On a busy machine most fences come before the worker has run: more rounds then, up to a bound. */
	for (int round = 0; round < rounds() || (!has_seen_enough() && round < 20 * rounds());
	     round++) {
		unsigned int was_ready = ready;
		struct ferry_dispatcher_worker *worker = add_worker(&process);
		while (stats().queued + stats().outstanding < AHEAD && handed_off < HANDOFFS_MAX)
			hand_off(dup(file));
		if (support_random_below(16) != 0) /* otherwise perhaps before its HELLO */
			pump_until_count(&ready, was_ready + 1);
		pump_turns((int)support_random_below(4));
		spin(support_random_below(150));
		ferry_dispatcher_worker_remove(worker);
	}
	ck_assert(has_seen_enough());
	/* The remaining handoffs are served. */
	add_worker(&process);
	pump_until_count(&outcomes, handed_off);
	check_agreement();
	close_dispatcher();
	stop(&process);
	close(file);
}

/* A worker is stopped past the deadline with unclaimed handoffs in its channel, and continues after
 * another worker has served them. */
TEST(a_stopped_worker_claims_nothing_after_the_fence)
{
	enum { COUNT = 20 };
	struct process first, second;
	const struct timeval never = {.tv_sec = NEVER_SECONDS}, answer = {.tv_usec = 200000};
	int file = make_file(1);

	open_dispatcher();
	start(&first);
	start(&second);
	add_worker(&first);
	pump_until_count(&ready, 1);
	ck_assert_int_eq(kill(first.pid, SIGSTOP), 0);
	ck_assert_int_eq(waitpid(first.pid, NULL, WUNTRACED), first.pid);
	for (unsigned int i = 0; i < COUNT; i++)
		hand_off(dup(file));
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &never, &answer), 0);
	pump_until_count(&workers_lost, 1);
	ck_assert_uint_eq(stats().queued, COUNT);
	ck_assert_int_eq(ferry_dispatcher_set_timeouts(dispatcher, &never, &never), 0);
	add_worker(&second);
	pump_until_count(&outcomes, COUNT);
	ck_assert_int_eq(kill(first.pid, SIGCONT), 0);
	stop(&first); /* it reads its channel, and ends by itself */
	for (unsigned int i = 0; i < COUNT; i++) {
		ck_assert_uint_eq(outcome_of[i], FERRY_HANDOFF_DONE);
		ck_assert_int_eq(atomic_load(&board->by[i]), second.pid);
	}
	check_agreement();
	close_dispatcher();
	stop(&second);
	close(file);
}

/* Workers are killed at random moments. For each death one handoff at most is claimed and not begun. */
TEST(each_death_leaves_at_most_one_claim_unbegun)
{
	enum { DEATHS = 100 };
	int file = make_file(1);
	unsigned int unbegun = 0;

	open_dispatcher();
	for (int death = 0; death < DEATHS; death++) {
		struct process process;
		start(&process);
		unsigned int was_lost = workers_lost, was_ready = ready;
		add_worker(&process);
		while (stats().queued + stats().outstanding < AHEAD)
			hand_off(dup(file));
		pump_until_count(&ready, was_ready + 1);
		pump_turns((int)support_random_below(3));
		spin(support_random_below(200));
		ck_assert_int_eq(kill(process.pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(process.pid, NULL, 0), process.pid);
		close(process.control);
		pump_until_count(&workers_lost, was_lost + 1);
	}
	struct process last;
	start(&last);
	add_worker(&last);
	pump_until_count(&outcomes, handed_off);
	for (unsigned int i = 0; i < handed_off; i++) {
		unsigned int times = atomic_load(&board->begun[i]);
		ck_assert_uint_le(times, 1);
		if (outcome_of[i] == FERRY_HANDOFF_DONE)
			ck_assert_uint_eq(times, 1);
		else if (outcome_of[i] == FERRY_HANDOFF_KEPT)
			unbegun += times == 0;
		else
			ck_assert_uint_eq(times, 0);
	}
	ck_assert_uint_le(unbegun, DEATHS);
	printf("handed off %u, claimed and not begun %u\n", handed_off, unbegun);
	close_dispatcher();
	stop(&last);
	close(file);
}

/* Whether a descriptor of this process is a copy of that socket. */
static bool has_socket(ino_t inode)
{
	DIR *directory = opendir("/proc/self/fd");
	struct dirent *entry;
	bool found = false;

	ck_assert_ptr_nonnull(directory);
	while ((entry = readdir(directory)) != NULL) {
		struct stat status;
		if (entry->d_name[0] != '.' && fstat(atoi(entry->d_name), &status) == 0)
			found = found || status.st_ino == inode;
	}
	closedir(directory);
	return found;
}

static bool is_claimed(void *argument)
{
	(void)argument;
	return stats().claimed == 1;
}

TEST(the_dispatcher_has_no_copy_after_the_claim)
{
	struct process process;
	struct stat status;
	int ends[2];

	open_dispatcher();
	keeps = true;
	start(&process);
	make_pair(PAIR_TCP, ends);
	ck_assert_int_eq(fstat(ends[0], &status), 0);
	hand_off(ends[0]);
	pump_turns(3);
	ck_assert(has_socket(status.st_ino));
	add_worker(&process);
	pump_until(is_claimed, NULL);
	ck_assert(!has_socket(status.st_ino));
	/* The client sees the end when the worker closes, and not before. */
	char byte;
	ck_assert_int_eq(recv(ends[1], &byte, 1, MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EAGAIN);
	close_dispatcher();
	stop(&process);
	ck_assert_int_eq(recv(ends[1], &byte, 1, 0), 0);
	close(ends[1]);
}
