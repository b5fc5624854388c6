/* One scenario uses all of a transport, again and again; another allocation or system call fails
 * each time. After every failure nothing crashes, leaks or is closed twice, and all that did not
 * arrive is reported: by an error of the call, a reason, or a file's status. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/ferry.h"

#include "fault_sweep.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"
#include "wire.h"

/* ---- what happened ---- */

/* In the last two, the far end has sent some bytes and closed before the near end starts to
 * send. */
enum { LINK_UNIX, LINK_TCP, LINK_PIPES, LINK_UNIX_GONE, LINK_PIPES_GONE };
enum { FILES = 2, FD_BURST = 20, LARGE = 300000, FILE_SIZE = 20000 };

struct side {
	struct ferry_transport *transport;
	bool lost;
	int reason;
};

static struct {
	int kind;
	struct side near, far;
	int call_error; /* the first */
	size_t bytes_accepted, bytes_received;
	unsigned int fds_accepted, fds_received, losses_told;
	unsigned int files_accepted, files_finished;
	int file_status; /* the first that is not 0 */
	bool freed;      /* after this, reasons and statuses do not count */
} run;

static bool is_gone(int kind)
{
	return kind == LINK_UNIX_GONE || kind == LINK_PIPES_GONE;
}

static bool is_unix(int kind)
{
	return kind == LINK_UNIX || kind == LINK_UNIX_GONE;
}

static bool is_pipes(int kind)
{
	return kind == LINK_PIPES || kind == LINK_PIPES_GONE;
}

static void note_error(int status)
{
	if (run.call_error == 0 && status != 0)
		run.call_error = status;
}

static void on_data(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport, (void)context;
	run.bytes_received += evbuffer_get_length(input);
	evbuffer_drain(input, evbuffer_get_length(input));
}

static void on_fd(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport, (void)context;
	run.fds_received++;
	disarm();
	close(fd);
	arm();
}

static void on_fds_lost(struct ferry_transport *transport, void *context)
{
	(void)transport, (void)context;
	run.losses_told++;
}

static void on_lost(struct ferry_transport *transport, int reason, void *context)
{
	struct side *side = context;
	once(&side->lost);
	side->reason = reason;
	side->transport = NULL;
	ferry_transport_free(transport);
}

static const struct ferry_protocol protocol = {
    .data_received = on_data,
    .file_descriptor_received = on_fd,
    .file_descriptors_lost = on_fds_lost,
    .connection_lost = on_lost,
};

static void on_file_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                             void *context)
{
	(void)producer, (void)context;
	run.files_finished++;
	if (status != 0 && run.file_status == 0 && !run.freed)
		run.file_status = status;
	run.bytes_accepted -= FILE_SIZE - (size_t)sent;
}

static const struct ferry_file_callbacks file_callbacks = {.finished = on_file_finished};

static void on_resume(void *context)
{
	(void)context;
}

static const struct ferry_producer_callbacks producer_callbacks = {
    .resume_producing = on_resume,
    .pause_producing = on_resume,
    .stop_producing = on_resume,
};

/* ---- the scenario ---- */

static void write_bytes(size_t length)
{
	static char block[LARGE];
	int status = ferry_transport_write(run.near.transport, block, length);
	note_error(status);
	if (status == 0)
		run.bytes_accepted += length;
}

static void write_buffer(void)
{
	disarm();
	struct evbuffer *buffer = evbuffer_new();
	evbuffer_add(buffer, "buffer", 6);
	arm();
	int status = ferry_transport_write_buffer(run.near.transport, buffer);
	note_error(status);
	if (status == 0)
		run.bytes_accepted += 6;
	disarm();
	evbuffer_free(buffer);
	arm();
}

static void send_fd(enum ferry_fd_ownership ownership)
{
	if (!is_unix(run.kind))
		return;
	disarm();
	int fd = dup(STDERR_FILENO);
	arm();
	int status = ferry_transport_send_fd(run.near.transport, fd, ownership);
	note_error(status);
	run.fds_accepted += status == 0;
	disarm();
	if (status != 0 || ownership == FERRY_FD_DUP)
		close(fd);
	arm();
}

static void send_file(enum ferry_fd_ownership ownership, int64_t offset)
{
	disarm();
	int fd = make_file(FILE_SIZE);
	arm();
	int status = ferry_transport_send_file(NULL, run.near.transport, fd, ownership, offset,
	                                       FILE_SIZE, 0, &file_callbacks, NULL);
	note_error(status);
	if (status == 0) {
		run.files_accepted++;
		run.bytes_accepted += FILE_SIZE;
	}
	disarm();
	if (status != 0 || ownership == FERRY_FD_DUP)
		close(fd);
	arm();
}

static void send_everything(void)
{
	struct ferry_transport *t = run.near.transport;

	note_error(
	    ferry_transport_register_producer(t, &producer_callbacks, NULL, FERRY_PRODUCER_PUSH));
	write_bytes(5);
	for (int i = 0; i < FD_BURST; i++)
		send_fd(i % 2 == 0 ? FERRY_FD_DUP : FERRY_FD_TAKE);
	write_bytes(1);
	send_fd(FERRY_FD_DUP);
	send_file(FERRY_FD_DUP, 0);
	write_buffer();
	for (int i = 0; i < FD_BURST; i++) {
		send_fd(FERRY_FD_TAKE);
		write_bytes(1);
	}
	write_bytes(LARGE);
	send_file(FERRY_FD_TAKE, FERRY_FILE_POSITION);
	write_bytes(1);
	(void)ferry_transport_unregister_producer(t);
	if (!is_gone(run.kind)) /* which stops the reading */
		note_error(ferry_transport_lose_connection(t));
}

static bool open_socket_side(struct side *side, struct event_base *loop, int fd)
{
	int status = make_swept_transport(&side->transport, loop, fd);
	note_error(status);
	return status == 0;
}

static bool open_pipes_side(struct side *side, struct event_base *loop, int read_fd, int write_fd)
{
	int status = ferry_transport_new_pipes(&side->transport, loop, read_fd, write_fd);
	note_error(status);
	if (status != 0) {
		disarm();
		close(read_fd);
		close(write_fd);
		arm();
	}
	return status == 0;
}

static void make_link(int there[2], int back[2])
{
	if (is_pipes(run.kind)) {
		make_pipe(there);
		make_pipe(back);
	} else {
		make_pair(is_unix(run.kind) ? PAIR_UNIX : PAIR_TCP, there);
	}
}

/* The far end leaves bytes and a descriptor behind. */
static void leave(int there[2], int back[2])
{
	int fd = dup(STDERR_FILENO);
	disarm();
	if (is_pipes(run.kind)) {
		(void)!write(back[1], "last words", 10);
		close(back[1]);
		close(there[0]);
	} else {
		wire_send(there[1], "last words", 10, &fd, 1);
		close(there[1]);
	}
	close(fd);
	run.bytes_accepted += 10; /* to be received */
	run.fds_accepted += is_unix(run.kind);
	run.far.lost = true;
	arm();
}

static bool open_sides(struct event_base *loop)
{
	int there[2] = {-1, -1}, back[2] = {-1, -1};
	disarm();
	make_link(there, back);
	arm();
	bool opened = is_pipes(run.kind) ? open_pipes_side(&run.near, loop, back[0], there[1])
	                                 : open_socket_side(&run.near, loop, there[0]);
	if (is_gone(run.kind))
		leave(there, back);
	else if (is_pipes(run.kind))
		opened &= open_pipes_side(&run.far, loop, there[0], back[1]);
	else
		opened &= open_socket_side(&run.far, loop, there[1]);
	if (!opened)
		return false;
	int status = ferry_transport_set_protocol(run.near.transport, &protocol, &run.near);
	note_error(status);
	if (status == 0 && run.far.transport != NULL) {
		status = ferry_transport_set_protocol(run.far.transport, &protocol, &run.far);
		note_error(status);
	}
	return status == 0;
}

/* More rounds than any recovery takes: a run that is not over by then hangs. */
enum { ROUNDS_MAX = 1000 };

static void run_scenario(struct event_base *loop, int kind)
{
	memset(&run, 0, sizeof(run));
	run.kind = kind;
	if (open_sides(loop)) {
		send_everything();
		for (int i = 0; i < ROUNDS_MAX && !(run.near.lost && run.far.lost); i++)
			event_base_loop(loop, EVLOOP_ONCE);
	}
	run.freed = true;
	ferry_transport_free(run.near.transport);
	ferry_transport_free(run.far.transport);
}

/* ---- the judgement ---- */

static bool is_complete(void)
{
	if (is_gone(run.kind))
		return run.near.lost && run.near.reason < 0;
	return run.near.lost && run.far.lost && run.bytes_received == run.bytes_accepted &&
	       run.fds_received == run.fds_accepted && run.files_finished == run.files_accepted &&
	       run.files_accepted == FILES;
}

static void describe(void)
{
	printf("call %d, near %d/%d, far %d/%d, file %d, bytes %zu of %zu, fds %u of %u, files %u "
	       "of %u, losses %u\n",
	       run.call_error, run.near.lost, run.near.reason, run.far.lost, run.far.reason,
	       run.file_status, run.bytes_received, run.bytes_accepted, run.fds_received,
	       run.fds_accepted, run.files_finished, run.files_accepted, run.losses_told);
}

static void judge(void)
{
	if (is_complete())
		completed();
	told(run.call_error);
	if (!is_gone(run.kind)) {
		told(run.near.reason);
		told(run.far.reason);
		told(run.file_status);
		told(run.losses_told > 0 ? -EMSGSIZE : 0);
	}
	/* If no call failed, each end must get its connection_lost. */
	if (run.call_error == 0) {
		check_that(run.near.lost, "the sender is told its end");
		check_that(run.far.lost, "the receiver is told its end");
	}
	check_that(run.files_finished == run.files_accepted, "every file is finished once");
	check_that(run.bytes_received <= run.bytes_accepted && run.fds_received <= run.fds_accepted,
	           "nothing arrives twice");
}

/* ---- the sweeps ---- */

/* A program that blocks SIGPIPE itself makes ferry look closer. */
static void block_sigpipe(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static const struct large_scenario large = {
    .judge = judge,
    .describe = describe,
    .first = 30,
    .parts = 60,
    .unharmed_by = {{CALL_SETSOCKOPT, 0}, {CALL_PREADV2, 0}},
};

static const struct scenario scenarios[] = {
    {"unix", run_scenario, LINK_UNIX, CALL_CACHESTAT, CALL_NONE, &large},
    {"TCP", run_scenario, LINK_TCP, CALL_SETSOCKOPT, CALL_NONE, &large},
    {"pipes", run_scenario, LINK_PIPES, CALL_SENDFILE, CALL_NONE, &large},
    {"unix, gone", run_scenario, LINK_UNIX_GONE, CALL_IOCTL, CALL_NONE, &large},
    {"pipes, gone", run_scenario, LINK_PIPES_GONE, CALL_SIGTIMEDWAIT, CALL_NONE, &large},
};

TEST_CASE("sweep", block_sigpipe);

LOOP_TEST(every_call_may_fail, COUNT(scenarios))
{
	sweep_scenario_of(&scenarios[_i], 0);
}

BEFORE_ALL
{
	heap_take_over();
}
