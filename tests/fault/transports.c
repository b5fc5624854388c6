/* The ways to send, to receive and to end with a transport, each as a scenario of its own. */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ends.h"
#include "heap.h"
#include "seen_calls.h"
#include "test.h"

enum { LENGTH = 3000 };
static const char bytes[LENGTH];

/* The near end ends, and both ends are waited for. */
static void finish(struct event_base *loop, size_t length, unsigned int fds)
{
	if (near_end.transport != NULL)
		called(ferry_transport_lose_connection(near_end.transport));
	pump_swept(loop, ends_are_lost);
	if (ends_have(length, fds))
		completed();
	free_ends();
}

/* ---- sending ---- */

static void write_bytes(struct event_base *loop, int kind)
{
	if (open_ends(loop, kind) &&
	    called(ferry_transport_write(near_end.transport, bytes, LENGTH)) == 0)
		finish(loop, LENGTH, 0);
	free_ends();
}

static void write_a_buffer(struct event_base *loop, int kind)
{
	disarm();
	struct evbuffer *buffer = evbuffer_new();
	evbuffer_add(buffer, bytes, LENGTH);
	arm();
	if (open_ends(loop, kind) &&
	    called(ferry_transport_write_buffer(near_end.transport, buffer)) == 0)
		finish(loop, LENGTH, 0);
	free_ends();
	disarm();
	evbuffer_free(buffer);
	arm();
}

/* One is taken, and one is copied. */
static bool send_two(void)
{
	for (int i = 0; i < 2; i++) {
		enum ferry_fd_ownership ownership = i == 0 ? FERRY_FD_TAKE : FERRY_FD_DUP;
		disarm();
		int fd = dup(STDERR_FILENO);
		arm();
		int status = called(ferry_transport_send_fd(near_end.transport, fd, ownership));
		if (status < 0 || ownership == FERRY_FD_DUP)
			close_quietly(fd);
		if (status < 0)
			return false;
	}
	return called(ferry_transport_write(near_end.transport, bytes, LENGTH)) == 0;
}

static void send_descriptors(struct event_base *loop, int kind)
{
	(void)kind;
	if (open_ends(loop, ENDS_UNIX) && send_two())
		finish(loop, LENGTH, 2);
	free_ends();
}

static void send_exactly(struct event_base *loop, int kind)
{
	(void)kind;
	if (open_ends(loop, ENDS_UNIX) &&
	    called(ferry_transport_set_fd_positions(far_end.transport, FERRY_FD_EXACT)) == 0 &&
	    called(ferry_transport_write(near_end.transport, bytes, LENGTH)) == 0 && send_two())
		finish(loop, 2 * (size_t)LENGTH, 2);
	free_ends();
}

static void send_one_by_one(struct event_base *loop, int kind)
{
	(void)kind;
	if (open_ends(loop, ENDS_UNIX) &&
	    called(ferry_transport_set_fd_coalescing(near_end.transport, false)) == 0 && send_two() &&
	    called(ferry_transport_set_max_fds_per_message(near_end.transport, 1)) == 0)
		finish(loop, LENGTH, 2);
	free_ends();
}

/* ---- producers ---- */

static unsigned int chunks;
static bool stopped;

static void produce(void *context)
{
	struct ferry_transport *transport = context;
	if (chunks > 0 && called(ferry_transport_write(transport, bytes, LENGTH)) == 0)
		chunks--;
	if (chunks == 0)
		called(ferry_transport_unregister_producer(transport));
}

static void on_pause(void *context)
{
	(void)context;
}

static void on_stop(void *context)
{
	(void)context;
	once(&stopped);
}

static const struct ferry_producer_callbacks producer = {
    .resume_producing = produce, .pause_producing = on_pause, .stop_producing = on_stop};

static void pull_from_producer(struct event_base *loop, int kind)
{
	chunks = 3;
	stopped = false;
	if (open_ends(loop, kind) &&
	    called(ferry_transport_register_producer(near_end.transport, &producer, near_end.transport,
	                                             FERRY_PRODUCER_PULL)) == 0)
		finish(loop, 3 * (size_t)LENGTH, 0);
	free_ends();
}

/* The first chunks cross the mark, and the last is written when it is resumed. */
static void push_from_producer(struct event_base *loop, int kind)
{
	chunks = 1;
	stopped = false;
	if (open_ends(loop, kind) &&
	    called(ferry_transport_register_producer(near_end.transport, &producer, near_end.transport,
	                                             FERRY_PRODUCER_PUSH)) == 0) {
		bufferevent_setwatermark(ferry_transport_get_bufferevent(near_end.transport), EV_WRITE, 0,
		                         1000);
		if (called(ferry_transport_write(near_end.transport, bytes, LENGTH)) == 0)
			finish(loop, 2 * (size_t)LENGTH, 0);
	}
	free_ends();
}

/* ---- the end ---- */

static bool near_ended(void)
{
	return near_end.half_ended || near_end.lost;
}

static void half_close(struct event_base *loop, int kind)
{
	if (open_ends(loop, kind) &&
	    called(ferry_transport_write(near_end.transport, bytes, LENGTH)) == 0 &&
	    called(ferry_transport_lose_write_connection(near_end.transport)) == 0) {
		pump_swept(loop, near_ended);
		pump_swept(loop, ends_are_lost);
		if (ends_have(LENGTH, 0))
			completed();
	}
	free_ends();
}

/* The far end of a connection that is aborted is lost, with or without an error. */
static bool is_aborted(void)
{
	return near_end.lost;
}

static void abort_connection(struct event_base *loop, int kind)
{
	if (open_ends(loop, kind) &&
	    called(ferry_transport_write(near_end.transport, bytes, LENGTH)) == 0 &&
	    called(ferry_transport_abort_connection(near_end.transport)) == 0) {
		expect_told(-ECONNABORTED);
		expect_told(-ECONNRESET); /* at the far end */
		pump_swept(loop, is_aborted);
		if (near_end.lost)
			completed();
	}
	free_ends();
}

static void flush(struct event_base *loop, int kind)
{
	if (open_ends(loop, kind) && (kind != ENDS_UNIX || send_two()) &&
	    called(ferry_transport_write(near_end.transport, bytes, LENGTH)) == 0 &&
	    called(ferry_transport_flush(near_end.transport, &(struct timeval){5, 0})) == 0)
		finish(loop, kind == ENDS_UNIX ? 2 * (size_t)LENGTH : LENGTH, kind == ENDS_UNIX ? 2 : 0);
	free_ends();
}

static bool far_is_made(void)
{
	return far_end.made > 0 && near_end.made > 0;
}

static bool far_has_all(void)
{
	return far_end.bytes >= LENGTH || far_end.lost;
}

/* Then libevent sends what is queued. */
static void detach(struct event_base *loop, int kind)
{
	struct bufferevent *bev = NULL;
	if (open_ends(loop, kind)) {
		pump_swept(loop, far_is_made);
		if (called(ferry_transport_write(near_end.transport, bytes, LENGTH)) == 0 &&
		    called(ferry_transport_detach(near_end.transport, &bev)) == 0)
			near_end.transport = NULL;
	}
	if (bev != NULL) {
		pump_swept(loop, far_has_all);
		if (far_end.bytes == LENGTH)
			completed();
		bufferevent_free(bev);
	}
	free_ends();
}

/* ---- settings ---- */

static bool is_paused_for_long(void)
{
	static unsigned int rounds;
	return ++rounds % 4 == 0;
}

static void pause_and_resume(struct event_base *loop, int kind)
{
	if (open_ends(loop, kind) && called(ferry_transport_pause_reading(far_end.transport)) == 0 &&
	    (kind != ENDS_UNIX || send_two()) &&
	    called(ferry_transport_write(near_end.transport, bytes, LENGTH)) == 0) {
		pump_swept(loop, is_paused_for_long);
		if (far_end.transport != NULL &&
		    called(ferry_transport_resume_reading(far_end.transport)) == 0)
			finish(loop, kind == ENDS_UNIX ? 2 * (size_t)LENGTH : LENGTH,
			       kind == ENDS_UNIX ? 2 : 0);
	}
	free_ends();
}

static void set_limits(struct event_base *loop, int kind)
{
	const struct timeval time = {60, 0};
	if (open_ends(loop, kind) &&
	    called(ferry_transport_set_byte_limit(near_end.transport, LENGTH)) == 0 &&
	    called(ferry_transport_set_fd_buffer(near_end.transport, 2, 4)) == 0 &&
	    called(ferry_transport_set_close_timeout(near_end.transport, &time)) == 0 &&
	    called(ferry_transport_set_linger_timeout(near_end.transport, &time)) == 0 && send_two())
		finish(loop, LENGTH, 2);
	free_ends();
}

static void ask_for_peer(struct event_base *loop, int kind)
{
	struct ferry_peer_credentials peer;
	gid_t groups[64];
	size_t count = 64;
	(void)kind;
	if (open_ends(loop, ENDS_UNIX) &&
	    called(ferry_transport_get_peer_credentials(near_end.transport, &peer)) == 0 &&
	    called(ferry_transport_get_peer_groups(near_end.transport, groups, &count)) == 0) {
		int pidfd = called(ferry_transport_get_peer_pidfd(near_end.transport));
		close_quietly(pidfd);
		if (pidfd >= 0)
			finish(loop, 0, 0);
	}
	free_ends();
}

static const struct scenario scenarios[] = {
    {"write, unix", write_bytes, ENDS_UNIX, CALL_SENDMSG, CALL_NONE, NULL},
    {"write, TCP", write_bytes, ENDS_TCP, CALL_RECVMSG, CALL_NONE, NULL},
    {"write, pipes", write_bytes, ENDS_PIPES, CALL_WRITEV, CALL_NONE, NULL},
    {"write a buffer", write_a_buffer, ENDS_TCP, CALL_SENDMSG, CALL_NONE, NULL},
    {"send descriptors", send_descriptors, 0, CALL_FCNTL, CALL_NONE, NULL},
    {"send descriptors to exact positions", send_exactly, 0, CALL_SOCKETPAIR, CALL_RECVMSG, NULL},
    {"send descriptors one by one", send_one_by_one, 0, CALL_SENDMSG, CALL_NONE, NULL},
    {"pull producer", pull_from_producer, ENDS_TCP, CALL_SENDMSG, CALL_NONE, NULL},
    {"push producer", push_from_producer, ENDS_PIPES, CALL_WRITEV, CALL_NONE, NULL},
    {"half-close, unix", half_close, ENDS_UNIX, CALL_SHUTDOWN, CALL_NONE, NULL},
    {"half-close, TCP", half_close, ENDS_TCP, CALL_SHUTDOWN, CALL_NONE, NULL},
    {"half-close, pipes", half_close, ENDS_PIPES, CALL_CLOSE, CALL_NONE, NULL},
    {"abort, TCP", abort_connection, ENDS_TCP, CALL_SHUTDOWN, CALL_NONE, NULL},
    {"abort, unix", abort_connection, ENDS_UNIX, CALL_SHUTDOWN, CALL_NONE, NULL},
    {"flush, unix", flush, ENDS_UNIX, CALL_SENDMSG, CALL_NONE, NULL},
    {"flush, pipes", flush, ENDS_PIPES, CALL_POLL, CALL_NONE, NULL},
    {"detach, unix", detach, ENDS_UNIX, CALL_NONE, CALL_NONE, NULL},
    {"pause and resume, unix", pause_and_resume, ENDS_UNIX, CALL_RECVMSG, CALL_NONE, NULL},
    {"pause and resume, pipes", pause_and_resume, ENDS_PIPES, CALL_READV, CALL_NONE, NULL},
    {"limits and timeouts", set_limits, ENDS_UNIX, CALL_SENDMSG, CALL_NONE, NULL},
    {"peer", ask_for_peer, 0, CALL_GETSOCKOPT, CALL_NONE, NULL},
};

LOOP_TEST(every_call_may_fail, COUNT(scenarios))
{
	sweep_scenario_of(&scenarios[_i], PAIRS_OF);
}

BEFORE_ALL
{
	heap_take_over();
}
