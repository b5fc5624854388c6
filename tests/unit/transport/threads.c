/* A transport of BEV_OPT_THREADSAFE that several threads write, flush, pause, set and free while another one runs the
 * loop, and signals interrupt the system calls of all. Mainly for ThreadSanitizer. */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/thread.h>

#include "ferry/ferry.h"

#include "test.h"
#include "wire.h"

enum { WRITERS = 2, PIECES = 2000, FD_EACH = 16, ROUNDS = 40, BULK = 200000 };

/* A writer's pieces are whole and in order, whatever the other threads do. */
struct piece {
	uint32_t writer, number;
	char filling[24];
};

struct end {
	struct ferry_transport *transport;
	uint32_t next[WRITERS];
	_Atomic unsigned int pieces, bytes, fds, lost;
};
static struct end ends[2];
static pthread_t loop;
static atomic_bool done; /* what goes on beside the writers may end */
static _Atomic unsigned int signals;

/* ---- callbacks, in the loop's thread ---- */

static struct piece make_piece(uint32_t writer, uint32_t number)
{
	struct piece piece = {.writer = writer, .number = number};
	memset(piece.filling, (int)(writer * 31 + number), sizeof(piece.filling));
	return piece;
}

static void on_pieces(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport;
	struct end *end = context;
	struct piece piece;

	while (evbuffer_get_length(input) >= sizeof(piece)) {
		evbuffer_remove(input, &piece, sizeof(piece));
		ck_assert_uint_lt(piece.writer, WRITERS);
		struct piece expected = make_piece(piece.writer, end->next[piece.writer]++);
		ck_assert_mem_eq(&piece, &expected, sizeof(piece));
		end->pieces++;
	}
}

static void on_bytes(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport;
	struct end *end = context;

	end->bytes += (unsigned int)evbuffer_get_length(input);
	evbuffer_drain(input, evbuffer_get_length(input));
}

static void on_fd(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport;
	struct end *end = context;

	close(fd);
	end->fds++;
}

static void on_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport, (void)reason;
	struct end *end = context;
	end->lost++;
}

static const struct ferry_protocol takes_pieces = {
    .data_received = on_pieces, .file_descriptor_received = on_fd, .connection_lost = on_lost};
static const struct ferry_protocol takes_bytes = {
    .data_received = on_bytes, .file_descriptor_received = on_fd, .connection_lost = on_lost};

/* ---- the loop, and signals ---- */

static void on_signal(int number)
{
	(void)number;
	signals++;
}

static void *run_loop(void *unused)
{
	event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
	return unused;
}

static void start_loop(void)
{
	struct sigaction action = {.sa_handler = on_signal}; /* without SA_RESTART */

	sigaction(SIGUSR1, &action, NULL);
	atomic_store(&done, false);
	ck_assert_int_eq(pthread_create(&loop, NULL, run_loop, NULL), 0);
}

static void stop_loop(void)
{
	event_base_loopbreak(base);
	pthread_join(loop, NULL);
}

static void open_ends(const struct ferry_protocol *protocol)
{
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	memset(ends, 0, sizeof(ends));
	for (int i = 0; i < 2; i++) {
		struct bufferevent *bev =
		    bufferevent_socket_new(base, fds[i], BEV_OPT_CLOSE_ON_FREE | BEV_OPT_THREADSAFE);
		ck_assert_int_eq(ferry_transport_new(&ends[i].transport, bev), 0);
		ck_assert_int_eq(ferry_transport_set_protocol(ends[i].transport, protocol, &ends[i]), 0);
	}
}

/* ---- one transport, several threads ---- */

/* A thread ends with what went wrong, or NULL. */
static void *write_pieces(void *argument)
{
	const uint32_t writer = *(const uint32_t *)argument;

	for (uint32_t number = 0; number < PIECES; number++) {
		struct piece piece = make_piece(writer, number);
		int status;
		while (number % FD_EACH == 0 && (status = ferry_transport_send_fd(
		                                     ends[0].transport, STDIN_FILENO, FERRY_FD_DUP)) != 0) {
			if (status != -ENOBUFS)
				return "a descriptor was refused";
			sched_yield(); /* the loop's thread sends meanwhile */
		}
		if (ferry_transport_write(ends[0].transport, &piece, sizeof(piece)) != 0)
			return "a write was refused";
	}
	return NULL;
}

static void *flush(void *unused)
{
	(void)unused;
	while (!atomic_load(&done)) {
		int status = ferry_transport_flush(ends[0].transport, &(struct timeval){.tv_usec = 500});
		if (status != 0 && status != -ETIMEDOUT)
			return "a flush failed";
		sched_yield();
	}
	return NULL;
}

static void *pause_and_resume(void *unused)
{
	(void)unused;
	while (!atomic_load(&done)) {
		if (ferry_transport_pause_reading(ends[1].transport) != 0)
			return "no pause";
		sched_yield();
		if (ferry_transport_resume_reading(ends[1].transport) != 0)
			return "no end of the pause";
		sched_yield();
	}
	return NULL;
}

static int set_all(struct ferry_transport *transport, unsigned int round)
{
	struct ferry_transport_stats stats;
	int status = ferry_transport_set_max_fds_per_message(transport, 1 + round % 253);

	if (status == 0)
		status = ferry_transport_set_fd_buffer(transport, 1 + round % 64, 100);
	if (status == 0)
		status = ferry_transport_set_byte_limit(transport, round % 2 == 0 ? 0 : 100000000);
	if (status == 0)
		status = ferry_transport_set_fd_coalescing(transport, round % 2 == 0);
	if (status == 0)
		status = ferry_transport_set_close_timeout(transport, &(struct timeval){.tv_sec = 1000});
	if (status == 0)
		status = ferry_transport_get_stats(transport, &stats);
	return ferry_transport_peer_has_closed(transport) ? -EPIPE : status;
}

static void *set_and_look(void *unused)
{
	(void)unused;
	for (unsigned int round = 0; !atomic_load(&done); round++) {
		if (set_all(ends[round % 2].transport, round) != 0)
			return "a setter failed";
		sched_yield();
	}
	return NULL;
}

static void join(pthread_t thread)
{
	void *complaint;
	ck_assert_int_eq(pthread_join(thread, &complaint), 0);
	ck_assert_msg(complaint == NULL, "%s", (const char *)complaint);
}

TEST(threads_write_flush_pause_and_set_one_transport_under_signals)
{
	static uint32_t numbers[WRITERS] = {0, 1};
	static void *(*const others[])(void *) = {flush, pause_and_resume, set_and_look};
	enum { THREADS = WRITERS + COUNT(others) };
	pthread_t threads[THREADS];

	open_ends(&takes_pieces);
	start_loop();
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL,
		                                i < WRITERS ? write_pieces : others[i - WRITERS],
		                                i < WRITERS ? &numbers[i] : NULL),
		                 0);
	while (ends[1].pieces < WRITERS * PIECES) {
		for (int i = 0; i < THREADS; i++)
			pthread_kill(threads[i], SIGUSR1);
		pthread_kill(loop, SIGUSR1);
		sched_yield();
	}
	atomic_store(&done, true);
	for (int i = 0; i < THREADS; i++)
		join(threads[i]);
	stop_loop();
	ck_assert_uint_gt(signals, 0);
	ck_assert_uint_eq(ends[1].fds, WRITERS * (PIECES / FD_EACH));
	for (int i = 0; i < 2; i++) {
		ck_assert_uint_eq(ends[i].lost, 0);
		ferry_transport_free(ends[i].transport);
	}
}

/* ---- a free ---- */

/* As soon as some bytes have come. The peer may get connection_lost; the end itself gets none. */
static void *free_early(void *argument)
{
	const unsigned int round = *(const unsigned int *)argument;

	while (ends[0].bytes < 1000 * round && ends[0].lost == 0)
		sched_yield();
	(void)ferry_transport_flush(ends[0].transport, &(struct timeval){.tv_usec = 100});
	(void)ferry_transport_pause_reading(ends[0].transport);
	ferry_transport_free(ends[0].transport);
	return NULL;
}

static void fill(struct ferry_transport *transport)
{
	static const char zeroes[BULK];

	ck_assert_int_eq(ferry_transport_send_fd(transport, STDIN_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_write(transport, zeroes, sizeof(zeroes)), 0);
	ck_assert_int_eq(ferry_transport_send_fd(transport, STDIN_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_write(transport, zeroes, sizeof(zeroes)), 0);
}

TEST(a_transport_is_flushed_paused_and_freed_by_another_thread_under_signals)
{
	start_loop();
	for (unsigned int round = 0; round < ROUNDS; round++) {
		pthread_t thread;
		open_ends(&takes_bytes);
		fill(ends[0].transport);
		fill(ends[1].transport);
		ck_assert_int_eq(pthread_create(&thread, NULL, free_early, &round), 0);
		while (ends[1].lost == 0) {
			pthread_kill(loop, SIGUSR1);
			pthread_kill(thread, SIGUSR1);
			sched_yield();
		}
		join(thread);
		ck_assert_uint_eq(ends[0].lost, 0);
		ck_assert_uint_eq(ends[1].lost, 1);
		ferry_transport_free(ends[1].transport);
	}
	stop_loop();
}

BEFORE_ALL
{
	evthread_use_pthreads();
}
