/* Descriptors are sent with their descriptions, and the receiver makes a stream, a bufferevent or a
 * listener of each. The scenario runs again and again, and another allocation or system call fails
 * each time. After every failure either the descriptor arrives with its true kind, or an end gets
 * an error. Nothing leaks or is closed twice. */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/ferry.h"

#include "fault_sweep.h"
#include "heap.h"
#include "samples.h"
#include "seen_calls.h"
#include "test.h"

static const int sent[] = {
    SAMPLE_FILE_APPEND, SAMPLE_MEMFD,    SAMPLE_PIPE_READ,      SAMPLE_EVENTFD, SAMPLE_UNIX_STREAM,
    SAMPLE_TCP4,        SAMPLE_TERMINAL, SAMPLE_TCP4_LISTENING, SAMPLE_UDP4,    SAMPLE_TCP4};
enum { SENT = sizeof(sent) / sizeof(sent[0]) };

static struct sample samples[SENT];

static struct {
	struct ferry_message_stream *near, *far;
	unsigned int accepted; /* by the near end */
	unsigned int received; /* messages */
	unsigned int arrived;  /* and descriptors, whole */
	unsigned int refused;
	bool wrong; /* a descriptor arrived that differs from the one sent */
	bool near_lost, far_lost;
	int reason;
	int call_error; /* the first */
} run;

static int note_error(int status)
{
	if (run.call_error == 0 && status != 0)
		run.call_error = status;
	return status;
}

/* ---- objects made of a descriptor ---- */

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                      int length, void *context)
{
	(void)listener, (void)fd, (void)address, (void)length, (void)context;
}

static void make_stream(struct ferry_descriptor *descriptor)
{
	FILE *file;
	if (note_error(ferry_descriptor_to_file(&file, descriptor)) < 0)
		return;
	disarm();
	(void)fclose(file);
	arm();
}

static void make_bufferevent(struct ferry_descriptor *descriptor, struct event_base *loop)
{
	struct bufferevent *bev;
	if (note_error(
	        ferry_descriptor_to_bufferevent(&bev, descriptor, loop, BEV_OPT_CLOSE_ON_FREE)) == 0)
		bufferevent_free(bev);
}

static void make_listener(struct ferry_descriptor *descriptor, struct event_base *loop)
{
	struct evconnlistener *listener;
	if (note_error(ferry_descriptor_to_listener(&listener, descriptor, loop, on_accept, NULL,
	                                            LEV_OPT_CLOSE_ON_FREE)) == 0)
		evconnlistener_free(listener);
}

static void make_something(struct ferry_descriptor *descriptor, struct event_base *loop)
{
	const struct ferry_descriptor_info *info = ferry_descriptor_get_info(descriptor);

	switch (info->kind) {
	case FERRY_DESCRIPTOR_FILE:
	case FERRY_DESCRIPTOR_MEMFD:
	case FERRY_DESCRIPTOR_PIPE:
	case FERRY_DESCRIPTOR_TTY:
		make_stream(descriptor);
		break;
	case FERRY_DESCRIPTOR_SOCKET:
		if (info->listening)
			make_listener(descriptor, loop);
		else if (info->connected && info->type == SOCK_STREAM)
			make_bufferevent(descriptor, loop);
		break;
	default:
		break;
	}
}

/* The descriptor's name is the index of its sample. */
static bool is_what_was_sent(const struct ferry_descriptor *descriptor)
{
	disarm();
	size_t which = (size_t)ferry_descriptor_get_name(descriptor)[0] - '0';
	bool is = which < SENT && same_file(ferry_descriptor_get_fd(descriptor), samples[which].fd) &&
	          ferry_descriptor_get_info(descriptor)->kind == samples[which].kind;
	arm();
	return is;
}

/* ---- the two ends ---- */

static void on_message(struct ferry_message_stream *stream, struct ferry_message *message,
                       void *context)
{
	struct ferry_descriptor *descriptor;

	(void)stream;
	run.received++;
	if (note_error(ferry_descriptor_receive(&descriptor, message)) < 0) {
		run.refused++;
		return;
	}
	run.arrived++;
	run.wrong |= !is_what_was_sent(descriptor);
	make_something(descriptor, context);
	ferry_descriptor_free(descriptor);
}

static void note_lost(int reason)
{
	if (run.reason == 0)
		run.reason = reason;
}

static void on_far_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)context;
	note_lost(reason);
	run.far_lost = true;
	run.far = NULL;
	ferry_message_stream_free(stream);
}

static void on_near_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)context;
	note_lost(reason);
	run.near_lost = true;
	run.near = NULL;
	ferry_message_stream_free(stream);
}

static const struct ferry_message_callbacks near_callbacks = {.connection_lost = on_near_lost};
static const struct ferry_message_callbacks far_callbacks = {.message_received = on_message,
                                                             .connection_lost = on_far_lost};

static bool open_side(struct ferry_message_stream **stream, struct event_base *loop, int fd,
                      const struct ferry_message_callbacks *callbacks)
{
	struct ferry_transport *transport = NULL;
	if (note_error(make_swept_transport(&transport, loop, fd)) < 0)
		return false;
	int status = note_error(ferry_message_stream_new(stream, transport, callbacks, loop));
	if (status < 0)
		ferry_transport_free(transport);
	return status == 0;
}

/* Half of them are taken. */
static void send_sample(unsigned int which)
{
	char name[] = {(char)('0' + which), '\0'};
	bool takes = which % 2 == 1;
	disarm();
	int fd = dup(samples[which].fd);
	arm();
	int status = note_error(
	    ferry_descriptor_send(run.near, 1, fd, name, takes ? FERRY_FD_TAKE : FERRY_FD_DUP));
	run.accepted += status == 0;
	disarm();
	if (status < 0 || !takes)
		close(fd);
	arm();
}

/* More rounds than any recovery takes: a run that is not over by then hangs. */
enum { ROUNDS_MAX = 1000 };

/* The last connection is reset on its way. */
static void reset_last(void)
{
	const struct linger now = {.l_onoff = 1};
	struct pollfd end = {.fd = samples[SENT - 1].fd, .events = POLLIN};
	disarm();
	setsockopt(samples[SENT - 1].other, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(samples[SENT - 1].other);
	samples[SENT - 1].other = -1;
	poll(&end, 1, -1);
	arm();
}

static void converse(struct event_base *loop)
{
	for (unsigned int i = 0; i < SENT && run.near != NULL; i++)
		send_sample(i);
	reset_last();
	if (run.near != NULL)
		ferry_transport_lose_connection(ferry_message_stream_get_transport(run.near));
	for (int i = 0; i < ROUNDS_MAX && !(run.near_lost && run.far_lost); i++)
		event_base_loop(loop, EVLOOP_ONCE);
}

static void run_scenario(struct event_base *loop, int kind)
{
	(void)kind;
	int ends[2];
	memset(&run, 0, sizeof(run));
	disarm();
	for (size_t i = 0; i < SENT; i++)
		ck_assert(sample_make(&samples[i], sent[i]));
	make_pair(PAIR_UNIX, ends);
	arm();

	bool opened = open_side(&run.near, loop, ends[0], &near_callbacks);
	opened &= open_side(&run.far, loop, ends[1], &far_callbacks);
	if (opened)
		converse(loop);
	ferry_message_stream_free(run.near);
	ferry_message_stream_free(run.far);

	disarm();
	for (size_t i = 0; i < SENT; i++)
		sample_close(&samples[i]);
	arm();
}

/* ---- the judgement ---- */

static void describe(void)
{
	printf("call %d, reason %d, accepted %u, received %u, arrived %u, refused %u\n", run.call_error,
	       run.reason, run.accepted, run.received, run.arrived, run.refused);
}

static void judge(void)
{
	if (run.near_lost && run.far_lost && run.arrived == SENT)
		completed();
	told(run.call_error);
	told(run.reason);
	check_that(!run.wrong, "what arrives is what was sent");
	check_that(run.received == run.arrived + run.refused && run.received <= run.accepted,
	           "each is received once or refused");
}

/* ---- the sweep ---- */

static const struct large_scenario large = {
    .judge = judge,
    .describe = describe,
    .first = 30,
    .parts = 60,
    .unharmed_by = {{CALL_LSEEK, EIO}},
};

static const struct scenario scenario = {"descriptors", run_scenario, 0,
                                         CALL_LSEEK,    CALL_NONE,    &large};

TEST(every_call_may_fail)
{
	sweep_scenario_of(&scenario, 0);
}

BEFORE_ALL
{
	heap_take_over();
}
