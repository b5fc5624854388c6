/* Another thread adds to the evbuffer that a call was given, in the middle of that call. Its bytes are in what the call
 * does, or stay in the evbuffer. */

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/thread.h>

#include "file_link.h"
#include "message_inbox.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

size_t __real_evbuffer_get_length(const struct evbuffer *buffer);
size_t __wrap_evbuffer_get_length(const struct evbuffer *buffer);
int __real_evbuffer_reserve_space(struct evbuffer *buffer, ev_ssize_t size,
                                  struct evbuffer_iovec *pieces, int count);
int __wrap_evbuffer_reserve_space(struct evbuffer *buffer, ev_ssize_t size,
                                  struct evbuffer_iovec *pieces, int count);

enum { ADDED = 5 };

static struct evbuffer *shared;
static pthread_mutex_t mutex; /* of `shared` */
static bool armed;            /* the thread is to run */
static size_t added;

/* While the call has the lock, the thread would wait. */
static void *add(void *unused)
{
	if (pthread_mutex_trylock(&mutex) != 0)
		return unused;
	ck_assert_int_eq(evbuffer_add(shared, "other", ADDED), 0);
	added += ADDED;
	pthread_mutex_unlock(&mutex);
	return unused;
}

static void run_other_thread(const struct evbuffer *buffer)
{
	pthread_t thread;

	if (!armed || buffer != shared)
		return;
	armed = false;
	ck_assert_int_eq(pthread_create(&thread, NULL, add, NULL), 0);
	pthread_join(thread, NULL);
}

size_t __wrap_evbuffer_get_length(const struct evbuffer *buffer)
{
	const size_t length = __real_evbuffer_get_length(buffer);

	run_other_thread(buffer);
	return length;
}

int __wrap_evbuffer_reserve_space(struct evbuffer *buffer, ev_ssize_t size,
                                  struct evbuffer_iovec *pieces, int count)
{
	const int result = __real_evbuffer_reserve_space(buffer, size, pieces, count);

	run_other_thread(buffer);
	return result;
}

static void set_up(void)
{
	pthread_mutexattr_t recursive;

	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&mutex, &recursive);
	pthread_mutexattr_destroy(&recursive);
	shared = evbuffer_new();
	ck_assert_int_eq(evbuffer_enable_locking(shared, &mutex), 0);
	added = 0;
	armed = false;
}

static void tear_down(void)
{
	evbuffer_free(shared);
	pthread_mutex_destroy(&mutex);
}

TEST_CASE("an evbuffer of two threads", set_up, tear_down);

TEST(the_length_of_a_message_is_that_of_its_bytes)
{
	unsigned char bytes[64];

	open_messages();
	evbuffer_add(shared, "first", 5);
	armed = true;
	ck_assert_int_eq(
	    ferry_message_stream_send_buffer(inbox.stream, 7, shared, NULL, 0, FERRY_FD_DUP), 0);
	ck_assert(!armed);
	pump_turns(2);
	const ssize_t length = read(inbox_ends[1], bytes, sizeof(bytes));
	ck_assert_int_ge(length, INBOX_HEADER + 5);
	ck_assert_uint_eq(bytes[8], (size_t)length - INBOX_HEADER);
	ck_assert_uint_eq(bytes[8] + evbuffer_get_length(shared), 5 + added);
	close_messages();
}

TEST(no_more_bytes_are_queued_than_were_admitted)
{
	open_link(LINK_UNIX);
	ck_assert_int_eq(ferry_transport_set_byte_limit(sender.transport, ADDED + 4), 0);
	evbuffer_add(shared, "first", 5);
	armed = true;
	ck_assert_int_eq(ferry_transport_write_buffer(sender.transport, shared), 0);
	ck_assert(!armed);
	ck_assert_uint_eq(stats_of(sender.transport).bytes_queued, 5);
	ck_assert_uint_eq(evbuffer_get_length(shared), added);
	close_link();
}

TEST(a_proxy_header_is_written_as_a_whole)
{
	struct ferry_proxy_protocol *header, *copy;

	ck_assert_int_eq(ferry_proxy_protocol_new(&header), 0);
	armed = true;
	ck_assert_int_eq(ferry_proxy_protocol_write(header, 2, shared), 0);
	ck_assert(!armed);
	ck_assert_int_eq(ferry_proxy_protocol_read(&copy, shared, 0, NULL), 0);
	ck_assert_uint_eq(evbuffer_get_length(shared), added);
	ferry_proxy_protocol_free(copy);
	ferry_proxy_protocol_free(header);
}

static void take_unsent(struct told *told)
{
	const uint64_t unsent = ferry_file_producer_get_unsent(told->producer);

	ck_assert_uint_gt(unsent, 0);
	armed = true;
	ck_assert_int_eq(ferry_file_producer_take_unsent(told->producer, shared), 0);
	ck_assert(!armed);
	ck_assert_uint_eq(evbuffer_get_length(shared), unsent + added);
}

TEST(unsent_bytes_of_a_file_are_all_given_back)
{
	struct told file = {.fd = -1, .on_finished = take_unsent};
	int ends[2];

	open_link(LINK_UNIX);
	wire_fill(bufferevent_getfd(ferry_transport_get_bufferevent(sender.transport)));
	make_pipe(ends);
	wire_put(ends[1], 0, 1000);
	ck_assert_int_eq(try_send(&file, ends[0], FERRY_FD_TAKE | SEND_COPIED, 0, FERRY_TO_END), 0);
	pump_turns(3);
	ferry_file_producer_stop(file.producer);
	pump_until_count(&file.finished, 1);
	close(ends[1]);
	close_link();
}

BEFORE_ALL
{
	evthread_use_pthreads();
}
