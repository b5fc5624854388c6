/* The loops of several threads in a ring: descriptors go round, from loop to loop, while signals interrupt every
 * system call. Nothing has a lock. Mainly for ThreadSanitizer. */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/ferry.h"

#include "test.h"
#include "wire.h"

enum { LOOPS = 4, TOKENS = 40, FDS = 3, HOPS = 200 };

/* A message that goes round: its descriptors are marked with the token's number. */
struct token {
	uint32_t number, hops;
};

struct loop {
	pthread_t thread;
	struct event_base *base;
	struct ferry_message_stream *in, *out; /* from the loop before, and to the next one */
	struct event *ending;
	int fds[2]; /* of `in` and `out` */
	int stop;   /* an eventfd */
	unsigned int lost;
};

static struct loop loops[LOOPS];
static _Atomic unsigned int ended, running;
static _Atomic unsigned int signals;

static void on_signal(int number)
{
	(void)number;
	signals++;
}

static void pass_on(struct loop *loop, const struct token *token, const int *fds)
{
	ck_assert_int_eq(
	    ferry_message_stream_send(loop->out, 1, token, sizeof(*token), fds, FDS, FERRY_FD_TAKE), 0);
}

static void on_token(struct ferry_message_stream *stream, struct ferry_message *message,
                     void *context)
{
	struct loop *loop = context;
	struct token token;
	size_t length;
	int fds[FDS];
	const void *payload = ferry_message_get_payload(message, &length);

	ck_assert_ptr_eq(stream, loop->in);
	ck_assert_uint_eq(length, sizeof(token));
	memcpy(&token, payload, sizeof(token));
	ck_assert_uint_eq(ferry_message_get_fd_count(message), FDS);
	for (size_t i = 0; i < FDS; i++) {
		fds[i] = ferry_message_steal_fd(message, i);
		ck_assert_uint_eq(marked_number(fds[i]), token.number);
	}
	if (token.hops-- > 0) {
		pass_on(loop, &token, fds);
		return;
	}
	for (size_t i = 0; i < FDS; i++)
		close(fds[i]);
	ended++;
}

static void on_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)stream, (void)reason;
	struct loop *loop = context;
	loop->lost++;
}

static const struct ferry_message_callbacks callbacks = {.message_received = on_token,
                                                         .connection_lost = on_lost};

static struct ferry_message_stream *open_stream(struct loop *loop, int fd)
{
	struct ferry_message_stream *stream = NULL;
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = bufferevent_socket_new(loop->base, fd, BEV_OPT_CLOSE_ON_FREE);

	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_message_stream_new(&stream, transport, &callbacks, loop), 0);
	return stream;
}

static void on_stop(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct loop *loop = argument;
	event_base_loopbreak(loop->base);
}

/* Each loop begins some of the tokens. */
static void begin_tokens(struct loop *loop)
{
	for (uint32_t number = (uint32_t)(loop - loops); number < TOKENS; number += LOOPS) {
		struct token token = {.number = number, .hops = HOPS + number};
		int fds[FDS];
		for (size_t i = 0; i < FDS; i++)
			fds[i] = make_marked_fd(number);
		pass_on(loop, &token, fds);
	}
}

static void *run(void *argument)
{
	struct loop *loop = argument;

	loop->base = event_base_new();
	loop->in = open_stream(loop, loop->fds[0]);
	loop->out = open_stream(loop, loop->fds[1]);
	loop->ending = event_new(loop->base, loop->stop, EV_READ, on_stop, loop);
	event_add(loop->ending, NULL);
	running++;
	begin_tokens(loop);
	event_base_dispatch(loop->base);
	ferry_message_stream_free(loop->in);
	ferry_message_stream_free(loop->out);
	event_free(loop->ending);
	event_base_loop(loop->base, EVLOOP_NONBLOCK);
	event_base_free(loop->base);
	return NULL;
}

static void start_loops(void)
{
	for (unsigned int i = 0; i < LOOPS; i++) {
		int fds[2];
		make_pair(PAIR_UNIX, fds);
		loops[i].fds[1] = fds[0];
		loops[(i + 1) % LOOPS].fds[0] = fds[1];
		loops[i].stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
	for (unsigned int i = 0; i < LOOPS; i++)
		ck_assert_int_eq(pthread_create(&loops[i].thread, NULL, run, &loops[i]), 0);
}

static void stop_loops(void)
{
	for (unsigned int i = 0; i < LOOPS; i++)
		ck_assert_int_eq(write(loops[i].stop, &(uint64_t){1}, sizeof(uint64_t)), sizeof(uint64_t));
	for (unsigned int i = 0; i < LOOPS; i++) {
		pthread_join(loops[i].thread, NULL);
		close(loops[i].stop);
		/* One that stops first is the end of its neighbour's connection. */
		ck_assert_uint_le(loops[i].lost, 2);
	}
}

TEST(descriptors_go_round_through_the_loops_of_threads_under_signals)
{
	struct sigaction action = {.sa_handler = on_signal}; /* without SA_RESTART */
	int before = count_open_fds();

	sigaction(SIGUSR1, &action, NULL);
	start_loops();
	while (ended < TOKENS) {
		for (unsigned int i = 0; i < LOOPS && running == LOOPS; i++)
			pthread_kill(loops[i].thread, SIGUSR1);
		sched_yield();
	}
	stop_loops();
	ck_assert_uint_gt(signals, 0);
	ck_assert_int_eq(count_open_fds(), before);
}
