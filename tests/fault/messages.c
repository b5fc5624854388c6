/* Messages with descriptors go both ways, again and again; another allocation or system call fails
 * each time. After every failure, the messages that arrive are the first ones that were sent, in
 * order, each with its own descriptors. An error reports the others. Nothing leaks or is closed
 * twice. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/ferry.h"

#include "fault_sweep.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"
#include "wire.h"

/* ---- what happened ---- */

/* The last: the far end has sent a message and gone, before the near end starts to send. */
enum { LINK_UNIX, LINK_TCP, LINK_UNIX_GONE };
enum { HEADER = 16, LARGE = 100000, REPLY = 1000, REPLIES = 3, FDS_MAX = 40, RESERVE = 50 };

struct sent {
	size_t length, fd_count;
	enum ferry_fd_ownership ownership;
};
static const struct sent plan[] = {
    {10, 0, FERRY_FD_DUP}, {0, 1, FERRY_FD_DUP},        {LARGE, FDS_MAX, FERRY_FD_DUP},
    {0, 0, FERRY_FD_DUP},  {7, FDS_MAX, FERRY_FD_TAKE}, {LARGE, 0, FERRY_FD_DUP},
    {1, 1, FERRY_FD_TAKE},
};
enum { PLANNED = sizeof(plan) / sizeof(plan[0]) };

struct side {
	struct ferry_message_stream *stream;
	unsigned int accepted[PLANNED + REPLIES], accepted_count; /* the types sent */
	unsigned int received, fds_lost;
	bool out_of_step, lost;
	int reason;
};

static struct {
	int kind;
	struct side near, far;
	int call_error; /* the first */
} run;

static char payload[LARGE];

static struct side *other(const struct side *side)
{
	return side == &run.near ? &run.far : &run.near;
}

static void note_error(int status)
{
	if (run.call_error == 0 && status != 0)
		run.call_error = status;
}

static size_t fds_of(size_t fd_count)
{
	return run.kind == LINK_TCP ? 0 : fd_count;
}

static void send_message(struct side *side, unsigned int type, const struct sent *sent)
{
	int fds[FDS_MAX];
	size_t count = fds_of(sent->fd_count);

	if (side->stream == NULL)
		return;
	disarm();
	for (size_t i = 0; i < count; i++)
		fds[i] = dup(STDERR_FILENO);
	arm();
	int status = ferry_message_stream_send(side->stream, (uint16_t)type, payload, sent->length, fds,
	                                       count, sent->ownership);
	note_error(status);
	if (status == 0)
		side->accepted[side->accepted_count++] = type;
	disarm();
	for (size_t i = 0; i < count; i++)
		if (status != 0 || sent->ownership == FERRY_FD_DUP)
			close(fds[i]);
	arm();
}

static const struct sent reply = {REPLY, 1, FERRY_FD_TAKE};

/* Returns whether the message is the next one that the other end has sent, with its payload and
 * descriptors. */
static bool is_next(struct side *side, struct ferry_message *message)
{
	const struct side *sender = other(side);
	size_t length;
	unsigned int type = ferry_message_get_type(message);
	const char *bytes = ferry_message_get_payload(message, &length);
	const struct sent *sent = type < PLANNED ? &plan[type] : &reply;

	return side->received < sender->accepted_count && sender->accepted[side->received] == type &&
	       length == sent->length && memcmp(bytes, payload, length) == 0 &&
	       ferry_message_get_fd_count(message) == fds_of(sent->fd_count);
}

static void on_message(struct ferry_message_stream *stream, struct ferry_message *message,
                       void *context)
{
	struct side *side = context;

	side->out_of_step |= stream != side->stream || !is_next(side, message);
	side->received++;
	side->fds_lost += (unsigned int)ferry_message_get_fds_lost(message);
	int fd = ferry_message_steal_fd(message, 0); /* the others are closed by ferry */
	disarm();
	if (fd >= 0)
		close(fd);
	arm();
	if (side == &run.far && side->received <= REPLIES)
		send_message(side, PLANNED, &reply);
}

static void on_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	struct side *side = context;
	once(&side->lost);
	side->reason = reason;
	side->stream = NULL;
	ferry_message_stream_free(stream);
}

static const struct ferry_message_callbacks callbacks = {.message_received = on_message,
                                                         .connection_lost = on_lost};

/* ---- the scenario ---- */

static bool open_side(struct side *side, struct event_base *loop, int fd)
{
	struct ferry_transport *transport = NULL;
	int status = make_swept_transport(&transport, loop, fd);
	note_error(status);
	if (status != 0)
		return false;
	status = ferry_message_stream_new(&side->stream, transport, &callbacks, side);
	note_error(status);
	if (status != 0)
		ferry_transport_free(transport);
	return status == 0;
}

/* The far end leaves a message with a descriptor behind, made by hand. */
static void leave(int fd)
{
	unsigned char frame[HEADER + REPLY] = {'F', 'R',          'Y',        1, PLANNED, 0, 0,
	                                       0,   REPLY & 0xff, REPLY >> 8, 0, 0,       1};
	disarm();
	memcpy(frame + HEADER, payload, REPLY);
	int given = dup(STDERR_FILENO);
	wire_send(fd, frame, sizeof(frame), &given, 1);
	close(given);
	close(fd);
	run.far.accepted[run.far.accepted_count++] = PLANNED;
	run.far.lost = true;
	arm();
}

static bool open_sides(struct event_base *loop)
{
	int ends[2];
	disarm();
	make_pair(run.kind == LINK_TCP ? PAIR_TCP : PAIR_UNIX, ends);
	arm();
	bool opened = open_side(&run.near, loop, ends[0]);
	if (run.kind == LINK_UNIX_GONE)
		leave(ends[1]);
	else
		opened &= open_side(&run.far, loop, ends[1]);
	struct side *receiver = run.kind == LINK_UNIX_GONE ? &run.near : &run.far;
	if (receiver->stream != NULL)
		ferry_message_stream_set_fd_reserve(receiver->stream, RESERVE);
	return opened;
}

/* It ends when it has its answers, or when there will be none. */
static void end_when_answered(void)
{
	if (run.near.stream != NULL && run.near.received >= run.far.accepted_count &&
	    (run.far.received >= run.near.accepted_count || run.far.lost) && run.kind != LINK_UNIX_GONE)
		ferry_transport_lose_connection(ferry_message_stream_get_transport(run.near.stream));
}

/* More rounds than any recovery takes: a run that is not over by then hangs. */
enum { ROUNDS_MAX = 1000 };

static void run_scenario(struct event_base *loop, int kind)
{
	memset(&run, 0, sizeof(run));
	run.kind = kind;
	if (open_sides(loop)) {
		for (unsigned int i = 0; i < PLANNED; i++)
			send_message(&run.near, i, &plan[i]);
		for (int i = 0; i < ROUNDS_MAX && !(run.near.lost && run.far.lost); i++) {
			event_base_loop(loop, EVLOOP_ONCE);
			end_when_answered();
		}
	}
	ferry_message_stream_free(run.near.stream);
	ferry_message_stream_free(run.far.stream);
}

/* ---- the judgement ---- */

static void describe(void)
{
	printf("call %d, near %d/%d got %u of %u, far %d/%d got %u of %u\n", run.call_error,
	       run.near.lost, run.near.reason, run.near.received, run.far.accepted_count, run.far.lost,
	       run.far.reason, run.far.received, run.near.accepted_count);
}

static bool is_complete(void)
{
	if (run.kind == LINK_UNIX_GONE)
		return run.near.lost && run.near.reason < 0;
	return run.near.lost && run.far.lost && run.far.received == PLANNED &&
	       run.near.accepted_count == PLANNED && run.near.received == REPLIES &&
	       run.far.accepted_count == REPLIES;
}

static void judge(void)
{
	struct planned_fault fired[FAULTS_MAX];

	if (is_complete())
		completed();
	told(run.call_error);
	if (run.kind != LINK_UNIX_GONE) {
		told(run.near.reason);
		told(run.far.reason);
	}
	told(run.near.fds_lost + run.far.fds_lost > 0 ? -EMSGSIZE : 0);
	check_that(!run.near.out_of_step && !run.far.out_of_step,
	           "each is the next that was sent, with its own descriptors");
	if (run.call_error == 0) {
		check_that(run.near.lost, "the near end is told its end");
		check_that(run.far.lost, "the far end is told its end");
	}
	if (run.kind == LINK_UNIX_GONE && fired_faults(fired) == 0)
		check_that(run.near.received == 1, "what a peer had sent before it went is received");
}

/* ---- the sweeps ---- */

static void fill_payload(void)
{
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (char)support_byte(i);
}

static const struct large_scenario large = {
    .judge = judge,
    .describe = describe,
    .first = 30,
    .parts = 60,
};

static const struct scenario scenarios[] = {
    {"messages, unix", run_scenario, LINK_UNIX, CALL_CLOSE_RANGE, CALL_NONE, &large},
    {"messages, TCP", run_scenario, LINK_TCP, CALL_IOCTL, CALL_NONE, &large},
    {"messages, unix, gone", run_scenario, LINK_UNIX_GONE, CALL_IOCTL, CALL_NONE, &large},
};

TEST_CASE("messages", fill_payload);

LOOP_TEST(every_call_may_fail, COUNT(scenarios))
{
	sweep_scenario_of(&scenarios[_i], 0);
}

BEFORE_ALL
{
	heap_take_over();
}
