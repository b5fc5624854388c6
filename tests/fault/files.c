/* A file from each kind of source, between a header and a trailer, sent again and again; another
 * allocation or system call fails each time. After every failure nothing crashes, leaks or is
 * closed twice, an error or a status reports each part that did not arrive, and the bytes that
 * arrived are the right ones. */

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/ferry.h"

#include "fault_sweep.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"

/* ---- what is sent, and where ---- */

enum source { REGULAR, PIPE, SOCKET, TTY, PROC };
enum link { UNIX, TCP, PIPES };

/* Or'ed to the ownership: with FERRY_FILE_COPY. */
#define SEND_COPIED 0x100U

static const struct file_scenario {
	enum source source;
	enum link link;
	unsigned int ownership; /* or'ed with SEND_COPIED or not */
	int64_t offset;
	size_t size; /* of the source */
	enum kernel kernel;
} files[] = {
    {REGULAR, TCP, FERRY_FD_TAKE, 0, 100000, AS_IT_IS},
    {REGULAR, UNIX, FERRY_FD_DUP, FERRY_FILE_POSITION, 100000, AS_IT_IS},
    {REGULAR, TCP, FERRY_FD_DUP, 100, 1000, AS_IT_IS},
    {REGULAR, UNIX, FERRY_FD_TAKE, FERRY_FILE_POSITION, 1000, AS_IT_IS},
    {REGULAR, UNIX, FERRY_FD_TAKE | SEND_COPIED, 10, 100000, AS_IT_IS},
    {REGULAR, TCP, FERRY_FD_DUP | SEND_COPIED, FERRY_FILE_POSITION, 100000, AS_IT_IS},
    {REGULAR, PIPES, FERRY_FD_TAKE | SEND_COPIED, 0, 100000, AS_IT_IS},
    {REGULAR, UNIX, FERRY_FD_TAKE, 0, 300000, COLD_CACHE},
    {REGULAR, TCP, FERRY_FD_DUP, FERRY_FILE_POSITION, 300000, COLD_CACHE},
    {REGULAR, UNIX, FERRY_FD_DUP | SEND_COPIED, 0, 300000, COLD_CACHE},
    {REGULAR, TCP, FERRY_FD_TAKE, 0, 300000, COLD_CACHE_WITHOUT_CACHESTAT},
    {PIPE, UNIX, FERRY_FD_TAKE, 0, 30000, AS_IT_IS},
    {PIPE, TCP, FERRY_FD_DUP, 0, 30000, AS_IT_IS},
    {PIPE, PIPES, FERRY_FD_DUP, 0, 30000, AS_IT_IS},
    {PIPE, UNIX, FERRY_FD_TAKE | SEND_COPIED, 0, 30000, AS_IT_IS},
    {PIPE, UNIX, FERRY_FD_DUP | SEND_COPIED, 0, 30000, WITHOUT_NOWAIT},
    {SOCKET, UNIX, FERRY_FD_TAKE, 0, 30000, AS_IT_IS},
    {SOCKET, TCP, FERRY_FD_DUP, 0, 30000, AS_IT_IS},
    {SOCKET, PIPES, FERRY_FD_TAKE, 0, 30000, AS_IT_IS},
    {SOCKET, UNIX, FERRY_FD_TAKE | SEND_COPIED, 0, 30000, AS_IT_IS},
    {SOCKET, TCP, FERRY_FD_DUP | SEND_COPIED, 0, 30000, WITHOUT_NOWAIT},
    {TTY, UNIX, FERRY_FD_TAKE, 0, 3000, AS_IT_IS},
    {PROC, UNIX, FERRY_FD_TAKE, 0, 0, AS_IT_IS},
    {PROC, TCP, FERRY_FD_DUP | SEND_COPIED, 0, 0, AS_IT_IS},
    {PROC, UNIX, FERRY_FD_TAKE | SEND_COPIED, FERRY_FILE_POSITION, 0, AS_IT_IS},
};

static const char header[] = "header", trailer[] = "trailer";
enum { HEADER = sizeof(header) - 1, TRAILER = sizeof(trailer) - 1, ARRIVED_MAX = 400000 };

/* A pipe, socket or terminal is empty at first. The test then writes its bytes in this many
 * parts. */
enum { PARTS = 2 };

static struct {
	const struct file_scenario *scenario;
	struct event_base *loop;
	struct ferry_transport *transport;
	bool lost;
	int reason;
	int call_error; /* the first */
	bool header_accepted, file_accepted, trailer_accepted;
	unsigned int finished;
	int status;
	uint64_t sent;

	int source, writer; /* -1: the transport has it; none */
	int terminal;       /* as source; -1: it is none */
	unsigned int rounds;
	size_t fed, size;
	const unsigned char *bytes; /* of the source, from where it is sent */
	int back;                   /* of a link of pipes */
	int far;
	bool far_ended;
	size_t arrived;
} run;

static unsigned char content[ARRIVED_MAX], arrived[ARRIVED_MAX];

static bool is_written_to(void)
{
	return run.writer >= 0;
}

static void open_tty(void)
{
	struct termios raw;
	ck_assert_int_eq(openpty(&run.writer, &run.source, NULL, NULL, NULL), 0);
	ck_assert_int_eq(tcgetattr(run.source, &raw), 0);
	cfmakeraw(&raw);
	ck_assert_int_eq(tcsetattr(run.source, TCSANOW, &raw), 0);
	run.terminal = fcntl(run.source, F_DUPFD_CLOEXEC, 0);
	ck_assert_int_ge(run.terminal, 0);
}

static void open_proc(void)
{
	run.source = open("/proc/filesystems", O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(run.source, 0);
	run.size = 0;
	for (ssize_t length = 1; length > 0; run.size += (size_t)length) {
		length = pread(run.source, content + run.size, 4096, (off_t)run.size);
		ck_assert_int_ge(length, 0);
	}
	ck_assert_uint_gt(run.size, 100);
}

static void make_content(size_t size)
{
	for (size_t i = 0; i < size; i++)
		content[i] = support_byte(i);
}

/* The file of a test, made once: each run opens it anew. */
static int kept_file = -1;

static void open_kept_file(const struct file_scenario *scenario)
{
	if (scenario->source == REGULAR)
		kept_file = make_file(scenario->size);
}

static void close_kept_file(void)
{
	if (kept_file >= 0)
		close(kept_file);
	kept_file = -1;
}

static void open_file(void)
{
	bool at_position = run.scenario->offset == FERRY_FILE_POSITION;
	int64_t skipped = at_position ? 50 : run.scenario->offset;
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", kept_file);
	run.source = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(run.source, 0);
	if (at_position)
		ck_assert_int_eq(lseek(run.source, skipped, SEEK_SET), skipped);
	run.bytes = content + skipped;
	run.size = run.scenario->size - (size_t)skipped;
}

static void open_source(void)
{
	int fds[2] = {-1, -1};

	run.bytes = content;
	run.size = run.scenario->size;
	switch (run.scenario->source) {
	case REGULAR:
		open_file();
		return;
	case PROC:
		open_proc();
		return;
	case TTY:
		open_tty();
		return;
	case PIPE:
		make_pipe(fds);
		break;
	case SOCKET:
		make_pair(PAIR_UNIX, fds);
		break;
	}
	run.source = fds[0];
	run.writer = fds[1];
	/* Blocking: to read from it while it has nothing hangs. */
	ck_assert_int_eq(fcntl(run.source, F_SETFL, fcntl(run.source, F_GETFL) & ~O_NONBLOCK), 0);
}

static int unread_of(int terminal)
{
	int unread = 0;
	ck_assert_int_eq(ioctl(terminal, FIONREAD, &unread), 0);
	return unread;
}

/* A thread of the kernel brings the bytes of a terminal, in parts: in as many calls they would be read. */
static ssize_t write_to_terminal(const void *bytes, size_t length)
{
	int before = unread_of(run.terminal);
	ssize_t written = write(run.writer, bytes, length);
	while (written > 0 && unread_of(run.terminal) < before + written)
		sched_yield();
	return written;
}

static void feed(void)
{
	if (!is_written_to() || ++run.rounds % 4 != 0)
		return;
	size_t part = run.size / PARTS;
	if (run.fed < run.size) {
		ssize_t length = run.terminal >= 0 ? write_to_terminal(content + run.fed, part)
		                                   : write(run.writer, content + run.fed, part);
		/* The reading end may be closed already. */
		run.fed = length > 0 ? run.fed + (size_t)length : run.size;
	} else if (run.scenario->source != TTY) { /* a terminal would lose its unread bytes */
		close(run.writer);
		run.writer = -1;
	}
}

/* ---- the reports of failures ---- */

static void note_error(int status)
{
	if (run.call_error == 0)
		run.call_error = status;
}

static void on_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)context;
	once(&run.lost);
	run.reason = reason;
	run.transport = NULL;
	ferry_transport_free(transport);
}

static const struct ferry_protocol protocol = {.connection_lost = on_lost};

static void on_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                        void *context)
{
	(void)producer, (void)context;
	run.finished++;
	run.status = status;
	run.sent = sent;
}

static const struct ferry_file_callbacks callbacks = {.finished = on_finished};

/* ---- the scenario ---- */

static void send_source(void)
{
	const struct file_scenario *scenario = run.scenario;
	/* A terminal has no end while a writer is open. */
	int64_t length = scenario->source == TTY ? (int64_t)run.size : FERRY_TO_END;
	int status = ferry_transport_send_file(
	    NULL, run.transport, run.source, scenario->ownership & ~SEND_COPIED, scenario->offset,
	    length, (scenario->ownership & SEND_COPIED) != 0 ? FERRY_FILE_COPY : 0, &callbacks, NULL);
	note_error(status);
	run.file_accepted = status == 0;
	if (run.file_accepted && (scenario->ownership & ~SEND_COPIED) == FERRY_FD_TAKE)
		run.source = -1;
}

static void send_everything(void)
{
	int status = ferry_transport_write(run.transport, header, HEADER);
	note_error(status);
	run.header_accepted = status == 0;
	send_source();
	status = ferry_transport_write(run.transport, trailer, TRAILER);
	note_error(status);
	run.trailer_accepted = status == 0;
	note_error(ferry_transport_lose_connection(run.transport));
}

/* The far end only reads, disarmed: sweep.c covers its failures. */
static bool open_link(void)
{
	int fds[2], back[2], status;

	disarm();
	if (run.scenario->link == PIPES) {
		make_pipe(fds);
		make_pipe(back);
		run.far = fds[0];
		run.back = back[1];
		arm();
		status = ferry_transport_new_pipes(&run.transport, run.loop, back[0], fds[1]);
		disarm();
		if (status != 0) {
			close(back[0]);
			close(fds[1]);
		}
	} else {
		make_pair(run.scenario->link == UNIX ? PAIR_UNIX : PAIR_TCP, fds);
		run.far = fds[1];
		status = make_swept_transport(&run.transport, run.loop, fds[0]);
		/* The far end closes when the run is over. */
		if (status == 0)
			ferry_transport_set_linger_timeout(run.transport, &(struct timeval){0});
	}
	arm();
	note_error(status);
	if (status == 0) {
		status = ferry_transport_set_protocol(run.transport, &protocol, NULL);
		note_error(status);
	}
	return status == 0;
}

static void receive(void)
{
	while (!run.far_ended && run.arrived < sizeof(arrived)) {
		ssize_t length = read(run.far, arrived + run.arrived, sizeof(arrived) - run.arrived);
		if (length > 0)
			run.arrived += (size_t)length;
		else if (length < 0 && errno == EAGAIN)
			return;
		else
			run.far_ended = true;
	}
}

static void close_ours(void)
{
	int fds[] = {run.source, run.writer, run.terminal, run.back, run.far};
	for (int i = 0; i < 5; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* Longer than any recovery takes: a run that is not over by then hangs. */
enum { SECONDS_MAX = 20 };

static time_t seconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* Without waiting: the pauses of an idle loop would make up most of the time. */
static void run_loop(void)
{
	time_t deadline = seconds_now() + SECONDS_MAX;

	while (!(run.lost && run.far_ended) && seconds_now() < deadline) {
		event_base_loop(run.loop, EVLOOP_NONBLOCK);
		disarm();
		feed();
		receive();
		arm();
	}
}

static void run_scenario(struct event_base *loop, int kind)
{
	memset(&run, 0, sizeof(run));
	run.scenario = &files[kind];
	run.loop = loop;
	run.source = run.writer = run.terminal = run.back = run.far = -1;
	disarm();
	open_source();
	set_kernel(run.scenario->kernel);
	arm();

	if (open_link()) {
		send_everything();
		run_loop();
	}
	ferry_transport_free(run.transport);
	for (int i = 0; i < 3; i++)
		event_base_loop(run.loop, EVLOOP_NONBLOCK);

	disarm();
	set_kernel(AS_IT_IS);
	receive();
	close_ours();
	arm();
}

/* ---- the judgement ---- */

static void describe(void)
{
	printf("call %d, lost %d/%d, file %u/%d, sent %ju of %zu, arrived %zu\n", run.call_error,
	       run.lost, run.reason, run.finished, run.status, (uintmax_t)run.sent, run.size,
	       run.arrived);
}

/* Compares the bytes that have arrived from `position` on with the expected part. Returns the
 * position of the next part. */
static size_t check_part(size_t position, const void *expected, size_t length)
{
	size_t there = run.arrived > position ? run.arrived - position : 0;
	if (there > length)
		there = length;
	check_that(memcmp(arrived + position, expected, there) == 0, "the bytes are right");
	return position + length;
}

static bool is_complete(void)
{
	return run.lost && run.finished == 1 && run.sent == run.size &&
	       run.arrived == HEADER + run.size + TRAILER;
}

static void judge(void)
{
	size_t position = 0;

	if (is_complete())
		completed();
	told(run.call_error);
	told(run.reason);
	told(run.status);

	if (run.header_accepted)
		position = check_part(position, header, HEADER);
	if (run.file_accepted)
		position = check_part(position, run.bytes, (size_t)run.sent);
	if (run.trailer_accepted)
		position = check_part(position, trailer, TRAILER);
	check_that(run.arrived <= position, "nothing arrives that was not sent");
	if (run.call_error == 0)
		check_that(run.lost, "the sender is told its end");
	check_that(run.finished == (run.file_accepted ? 1 : 0), "the file is finished once");
}

/* ---- the sweeps ---- */

static const struct large_scenario large = {
    .judge = judge,
    .describe = describe,
    .first = 8,
    .parts = 8,
    .unharmed_by = {{CALL_PIPE2, 0},
                    {CALL_SETSOCKOPT, 0},
                    {CALL_THREAD, 0},
                    {CALL_READ, ENOMEM},
                    {CALL_RECV, ENOMEM}},
};

static const struct scenario scenarios[] = {
    {"a file", run_scenario, 0, CALL_SETSOCKOPT, CALL_NONE, &large},
    {"a file at its position", run_scenario, 1, CALL_SENDFILE, CALL_NONE, &large},
    {"a small file", run_scenario, 2, CALL_PREADV2, CALL_NONE, &large},
    {"a small file at its position", run_scenario, 3, CALL_LSEEK, CALL_NONE, &large},
    {"a file, copied", run_scenario, 4, CALL_PREAD, CALL_NONE, &large},
    {"a file at its position, copied", run_scenario, 5, CALL_LSEEK, CALL_NONE, &large},
    {"a file, copied to a pipe", run_scenario, 6, CALL_WRITEV, CALL_NONE, &large},
    {"a cold file", run_scenario, 7, CALL_READAHEAD, CALL_NONE, &large},
    {"a cold file at its position", run_scenario, 8, CALL_CACHESTAT, CALL_NONE, &large},
    {"a cold file, copied", run_scenario, 9, CALL_THREAD, CALL_NONE, &large},
    {"a cold file without cachestat", run_scenario, 10, CALL_PREADV2, CALL_NONE, &large},
    {"a pipe", run_scenario, 11, CALL_SPLICE, CALL_NONE, &large},
    {"a pipe, to TCP", run_scenario, 12, CALL_SPLICE, CALL_NONE, &large},
    {"a pipe, to a pipe", run_scenario, 13, CALL_SPLICE, CALL_NONE, &large},
    {"a pipe, copied", run_scenario, 14, CALL_PREADV2, CALL_NONE, &large},
    {"a pipe, copied, without RWF_NOWAIT", run_scenario, 15, CALL_READ, CALL_NONE, &large},
    {"a socket", run_scenario, 16, CALL_PIPE2, CALL_NONE, &large},
    {"a socket, to TCP", run_scenario, 17, CALL_SPLICE, CALL_NONE, &large},
    {"a socket, to a pipe", run_scenario, 18, CALL_SPLICE, CALL_NONE, &large},
    {"a socket, copied", run_scenario, 19, CALL_PREADV2, CALL_NONE, &large},
    {"a socket, copied, without RWF_NOWAIT", run_scenario, 20, CALL_RECV, CALL_NONE, &large},
    {"a terminal", run_scenario, 21, CALL_POLL, CALL_NONE, &large},
    {"a file of /proc", run_scenario, 22, CALL_POLL, CALL_NONE, &large},
    {"a file of /proc, copied", run_scenario, 23, CALL_PREAD, CALL_NONE, &large},
    {"a file of /proc at its position, copied", run_scenario, 24, CALL_LSEEK, CALL_NONE, &large},
};

LOOP_TEST(every_call_may_fail, COUNT(scenarios))
{
	make_content(files[_i].size);
	open_kept_file(&files[_i]);
	sweep_scenario_of(&scenarios[_i], 0);
	close_kept_file();
}

BEFORE_ALL
{
	heap_take_over();
}
