/* Files sent, paused and stopped from one thread while another runs the loop, from sources that are
 * dry and from the disk. For ThreadSanitizer above all. */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/thread.h>

#include "ferry/ferry.h"

#include "test.h"
#include "wire.h"

enum { FILES = 300, PIECE = 3000 };

/* Guarded by the bufferevent's lock, which callbacks are called with. */
struct sent_file {
	struct ferry_file_producer *producer; /* NULL once finished */
	uint64_t sent;
	bool finished;
};

static struct sent_file files[FILES];
static unsigned int finished_count;

static void told_progress(struct ferry_file_producer *producer, uint64_t sent, uint64_t total,
                          void *context)
{
	struct sent_file *file = context;
	ck_assert_ptr_eq(producer, file->producer);
	ck_assert_uint_le(sent, total);
	file->sent = sent;
}

static void told_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                          void *context)
{
	struct sent_file *file = context;
	ck_assert_ptr_eq(producer, file->producer);
	ck_assert(status == 0 || status == -ECANCELED);
	ck_assert(!file->finished);
	file->sent = sent;
	file->finished = true;
	file->producer = NULL;
	finished_count++;
}

static const struct ferry_file_callbacks callbacks = {.progress = told_progress,
                                                      .finished = told_finished};

static void *run_loop(void *unused)
{
	event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
	return unused;
}

/* Takes all that arrives, to its end. */
static void *count_bytes(void *argument)
{
	static uint64_t total;
	char buffer[65536];
	ssize_t n;
	total = 0;
	while ((n = read(*(int *)argument, buffer, sizeof(buffer))) > 0)
		total += (uint64_t)n;
	return &total;
}

/* Half of them pipes, some of which get their bytes only when the stream has come to them. */
static void send_one(struct ferry_transport *transport, struct sent_file *file, unsigned int i)
{
	int fds[2] = {-1, -1};
	unsigned int flags = i % 3 == 0 ? FERRY_FILE_COPY : 0;
	bool is_pipe = i % 2 == 0;
	if (is_pipe)
		make_pipe(fds);
	ck_assert_int_eq(ferry_transport_send_file(&file->producer, transport,
	                                           is_pipe ? fds[0] : make_file(PIECE), FERRY_FD_TAKE,
	                                           0, FERRY_TO_END, flags, &callbacks, file),
	                 0);
	if (is_pipe) {
		wire_put(fds[1], 0, PIECE);
		close(fds[1]);
	}
}

static void disturb(struct bufferevent *bev, struct sent_file *file)
{
	bufferevent_lock(bev);
	if (file->producer != NULL) {
		ferry_file_producer_pause(file->producer);
		ck_assert_int_gt(ferry_file_producer_get_method(file->producer), 0);
		if (support_random_below(4) == 0)
			ferry_file_producer_stop(file->producer);
		ferry_file_producer_resume(file->producer);
	}
	bufferevent_unlock(bev);
}

static unsigned int count_finished(struct bufferevent *bev)
{
	bufferevent_lock(bev);
	unsigned int count = finished_count;
	bufferevent_unlock(bev);
	return count;
}

LOOP_TEST(files_are_sent_paused_and_stopped_from_another_thread, 2)
{
	int fds[2];
	pthread_t loop, reader;
	struct ferry_transport *transport = NULL;
	void *total;
	make_pair(_i == 0 ? PAIR_UNIX : PAIR_TCP, fds);
	evutil_make_socket_nonblocking(fds[0]);
	ck_assert_int_eq(fcntl(fds[1], F_SETFL, 0), 0);
	struct bufferevent *bev =
	    bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE | BEV_OPT_THREADSAFE);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	bufferevent_enable(bev, EV_WRITE);
	ck_assert_int_eq(pthread_create(&loop, NULL, run_loop, NULL), 0);
	ck_assert_int_eq(pthread_create(&reader, NULL, count_bytes, &fds[1]), 0);

	for (unsigned int i = 0; i < FILES; i++) {
		send_one(transport, &files[i], i);
		disturb(bev, &files[support_random_below(i + 1)]);
	}
	while (count_finished(bev) < FILES)
		sched_yield();
	ck_assert_int_eq(ferry_transport_lose_connection(transport), 0);
	pthread_join(reader, &total);
	event_base_loopbreak(base);
	pthread_join(loop, NULL);

	uint64_t sent = 0;
	for (unsigned int i = 0; i < FILES; i++)
		sent += files[i].sent;
	ck_assert_uint_eq(sent, *(uint64_t *)total);
	ferry_transport_free(transport);
	close(fds[1]);
}

BEFORE_ALL
{
	evthread_use_pthreads();
}
