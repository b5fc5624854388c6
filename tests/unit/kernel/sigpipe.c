/* No SIGPIPE reaches a program that does not ignore it. ferry does not change the program's own use
 * of the signal. */

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { LINK_UNIX, LINK_TCP, LINK_PIPES, LINK_KINDS };
enum { SEND_BYTES, SEND_FD, SEND_FILE, SEND_ALL, SEND_KINDS };

static struct recorder sender;
static int far = -1, far_input = -1;

static void open_link(int kind)
{
	int fds[2], back[2];
	if (kind == LINK_PIPES) {
		make_pipe(fds);
		make_pipe(back);
		far = fds[0];
		far_input = back[1];
		recorder_open_pipes(&sender, back[0], fds[1], &recorder_protocol);
	} else {
		make_pair(kind == LINK_UNIX ? PAIR_UNIX : PAIR_TCP, fds);
		far = fds[1];
		recorder_open(&sender, fds[0], &recorder_protocol);
	}
	pump_turns(2);
}

/* Closes only the descriptor that the sender writes to. The other direction stays open, and the
 * sender notices only by a write. */
static void close_far(void)
{
	close(far);
	far = -1;
}

static void close_link(void)
{
	recorder_close(&sender);
	pump_turns(3);
	if (far >= 0)
		close(far);
	if (far_input >= 0)
		close(far_input);
}

static void send_something(int kind)
{
	if (kind == SEND_FD || kind == SEND_ALL) {
		int status = ferry_transport_send_fd(sender.transport, STDERR_FILENO, FERRY_FD_DUP);
		ck_assert(status == 0 || status == -EOPNOTSUPP || status == -EPIPE);
	}
	if (kind != SEND_FILE)
		(void)ferry_transport_write(sender.transport, "bytes", 5);
	if (kind == SEND_FILE || kind == SEND_ALL) {
		int fd = make_file(100000);
		if (ferry_transport_send_file(NULL, sender.transport, fd, FERRY_FD_TAKE, 0, FERRY_TO_END, 0,
		                              NULL, NULL) != 0)
			close(fd);
	}
}

static void check_dispositions(void)
{
	struct sigaction action;
	sigset_t mask, pending;
	ck_assert_int_eq(sigaction(SIGPIPE, NULL, &action), 0);
	ck_assert(action.sa_handler == SIG_DFL);
	ck_assert_int_eq(sigprocmask(SIG_SETMASK, NULL, &mask), 0);
	ck_assert(!sigismember(&mask, SIGPIPE));
	ck_assert_int_eq(sigpending(&pending), 0);
	ck_assert(!sigismember(&pending, SIGPIPE));
}

static void use_default_action(void)
{
	signal(SIGPIPE, SIG_DFL);
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* ---- the default action, which kills ---- */

TEST_CASE("the default action");

LOOP_TEST(sending_to_a_closed_peer_kills_no_process, LINK_KINDS *SEND_KINDS)
{
	open_link(_i % LINK_KINDS);
	use_default_action();
	close_far();
	/* TCP finds it out at the second packet. */
	for (int i = 0; i < 5 && sender.lost == 0; i++) {
		send_something(_i / LINK_KINDS);
		pump_turns(3);
	}

	pump_until_lost(&sender);

	ck_assert(sender.reason == -EPIPE || sender.reason == -ECONNRESET);
	check_dispositions();
	close_link();
}

LOOP_TEST(a_peer_that_closes_in_the_middle_kills_no_process, LINK_KINDS)
{
	open_link(_i);
	use_default_action();
	static char block[1 << 20];
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(ferry_transport_write(sender.transport, block, sizeof(block)), 0);
	send_something(SEND_FILE);
	pump_turns(3);

	close_far();
	pump_until_lost(&sender);

	ck_assert(sender.reason == -EPIPE || sender.reason == -ECONNRESET);
	check_dispositions();
	close_link();
}

LOOP_TEST(a_file_that_is_under_way_when_the_peer_closes_kills_no_process, LINK_KINDS)
{
	open_link(_i);
	use_default_action();
	ck_assert_int_eq(ferry_transport_send_file(NULL, sender.transport, make_file(8 << 20),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, NULL, NULL),
	                 0);
	pump_turns(3);

	close_far();
	pump_until_lost(&sender);

	ck_assert(sender.reason == -EPIPE || sender.reason == -ECONNRESET);
	check_dispositions();
	close_link();
}

LOOP_TEST(sending_after_ones_own_shutdown_kills_no_process, LINK_PIPES)
{
	open_link(_i);
	use_default_action();
	/* Behind the transport's back. */
	ck_assert_int_eq(
	    shutdown(bufferevent_getfd(ferry_transport_get_bufferevent(sender.transport)), SHUT_WR), 0);
	send_something(SEND_ALL);

	pump_until_lost(&sender);

	ck_assert_int_eq(sender.reason, -EPIPE);
	check_dispositions();
	close_link();
}

LOOP_TEST(a_reader_that_refuses_to_read_kills_no_process, SEND_KINDS)
{
	open_link(LINK_UNIX);
	use_default_action();
	ck_assert_int_eq(shutdown(far, SHUT_RD), 0);
	send_something(_i);

	pump_until_lost(&sender);

	ck_assert_int_eq(sender.reason, -EPIPE);
	check_dispositions();
	close_link();
}

static void write_at_end(struct recorder *recorder, char event)
{
	(void)recorder;
	if (event == EVENT_READ_LOST)
		send_something(SEND_ALL);
}

LOOP_TEST(answering_a_peer_that_has_gone_kills_no_process, LINK_KINDS)
{
	open_link(_i);
	use_default_action();
	sender.hook = write_at_end;
	close_far();
	if (far_input >= 0) {
		close(far_input);
		far_input = -1;
	}

	pump_until_count(&sender.read_lost, 1);
	for (int i = 0; i < 5 && sender.lost == 0; i++) {
		pump_turns(3);
		if (sender.lost == 0)
			send_something(SEND_ALL);
	}
	pump_until_lost(&sender);

	check_dispositions();
	close_link();
}

/* ---- the program's own use of it ---- */

static void block_sigpipe(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static int take_pending(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	return sigtimedwait(&set, NULL, &(struct timespec){0, 0});
}

TEST_CASE("the program's own use");

/* _i: the link, and the kind of data that is sent. */
LOOP_TEST(a_sigpipe_that_the_program_had_pending_stays_pending, LINK_KINDS *SEND_KINDS)
{
	open_link(_i % LINK_KINDS);
	signal(SIGPIPE, SIG_DFL);
	block_sigpipe();
	raise(SIGPIPE);
	close_far();
	for (int i = 0; i < 5 && sender.lost == 0; i++) {
		send_something(_i / LINK_KINDS);
		pump_turns(3);
	}
	pump_until_lost(&sender);

	ck_assert_int_eq(take_pending(), SIGPIPE);
	ck_assert_int_eq(take_pending(), -1);
	sigset_t mask;
	sigprocmask(SIG_SETMASK, NULL, &mask);
	ck_assert(sigismember(&mask, SIGPIPE));
	close_link();
}

LOOP_TEST(to_a_program_that_blocks_it_none_becomes_pending, LINK_KINDS *SEND_KINDS)
{
	open_link(_i % LINK_KINDS);
	signal(SIGPIPE, SIG_DFL);
	block_sigpipe();
	close_far();
	for (int i = 0; i < 5 && sender.lost == 0; i++) {
		send_something(_i / LINK_KINDS);
		pump_turns(3);
	}
	pump_until_lost(&sender);

	ck_assert_int_eq(take_pending(), -1);
	sigset_t mask;
	sigprocmask(SIG_SETMASK, NULL, &mask);
	ck_assert(sigismember(&mask, SIGPIPE));
	close_link();
}

static volatile sig_atomic_t caught;

static void catch_signal(int number)
{
	(void)number;
	caught++;
}

LOOP_TEST(a_handler_of_the_programs_is_not_run, LINK_KINDS *SEND_KINDS)
{
	open_link(_i % LINK_KINDS);
	struct sigaction action = {.sa_handler = catch_signal};
	sigaction(SIGPIPE, &action, NULL);
	close_far();
	for (int i = 0; i < 5 && sender.lost == 0; i++) {
		send_something(_i / LINK_KINDS);
		pump_turns(3);
	}
	pump_until_lost(&sender);

	ck_assert_int_eq(caught, 0);
	raise(SIGPIPE);
	ck_assert_int_eq(caught, 1);
	close_link();
}

static sigset_t mask_in_callback;
static bool file_ended;

static void note_mask(struct ferry_file_producer *producer, uint64_t sent, uint64_t total,
                      void *context)
{
	(void)producer, (void)sent, (void)total, (void)context;
	sigprocmask(SIG_SETMASK, NULL, &mask_in_callback);
}

static void note_mask_at_end(struct ferry_file_producer *producer, int status, uint64_t sent,
                             void *context)
{
	(void)status;
	note_mask(producer, sent, sent, context);
	file_ended = true;
}

static bool file_has_ended(void *argument)
{
	(void)argument;
	return file_ended;
}

LOOP_TEST(callbacks_run_with_the_programs_own_mask, LINK_KINDS)
{
	static const struct ferry_file_callbacks callbacks = {.progress = note_mask,
	                                                      .finished = note_mask_at_end};
	open_link(_i);
	use_default_action();
	sigfillset(&mask_in_callback);
	ck_assert_int_eq(ferry_transport_send_file(NULL, sender.transport, make_file(100),
	                                           FERRY_FD_TAKE, 0, FERRY_TO_END, 0, &callbacks, NULL),
	                 0);

	/* Without cachestat(2), which came with Linux 6.5, a thread looks at a file on tmpfs first. */
	pump_until(file_has_ended, NULL);

	ck_assert(!sigismember(&mask_in_callback, SIGPIPE));
	check_dispositions();
	close_link();
}

static unsigned int drained;

static void note_mask_of_buffer(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                                void *argument)
{
	(void)buffer, (void)argument;
	if (info->n_deleted > 0) {
		drained++;
		sigprocmask(SIG_SETMASK, NULL, &mask_in_callback);
	}
}

LOOP_TEST(a_buffer_callback_after_a_file_runs_with_the_programs_own_mask, LINK_KINDS)
{
	/* Bytes that follow a file in the same turn are drained while its guard could still stand. */
	open_link(_i);
	use_default_action();
	evbuffer_add_cb(bufferevent_get_output(ferry_transport_get_bufferevent(sender.transport)),
	                note_mask_of_buffer, NULL);
	send_something(SEND_FILE);
	ck_assert_int_eq(ferry_transport_write(sender.transport, "after", 5), 0);
	char block[65536];
	while (drained == 0) {
		pump_turns(1);
		(void)!read(far, block, sizeof(block));
	}

	ck_assert(!sigismember(&mask_in_callback, SIGPIPE));
	close_link();
}
