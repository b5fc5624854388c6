/* Every allocation of the calls on descriptors made to fail in turn: the call changes nothing then, and succeeds
 * afterwards. */

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "descriptor_inbox.h"
#include "heap.h"
#include "heap_sweep.h"
#include "samples.h"
#include "test.h"

static struct descriptor_inbox inbox;
static struct ferry_message_stream *sender;
static struct ferry_message *message;
static struct sample sample;
static struct bufferevent *bev;
static struct evconnlistener *listener;
static int fd; /* of the received descriptor */

/* ---- the calls, and their arguments ---- */

static void open_streams(int which)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	sender = open_message_stream(ends[0], NULL);
	open_message_stream(ends[1], &inbox);
	ck_assert(sample_make(&sample, which));
}

static void make_sender(void)
{
	open_streams(SAMPLE_MEMFD);
}

static void receive(int which)
{
	open_streams(which);
	ck_assert_int_eq(ferry_descriptor_send(sender, 1, sample.fd, "name", FERRY_FD_DUP), 0);
	ck_assert_int_eq(inbox_wait(&inbox), 0);
	fd = ferry_descriptor_get_fd(inbox.descriptor);
}

static void receive_connection(void)
{
	receive(SAMPLE_TCP4);
}

static void receive_listener(void)
{
	receive(SAMPLE_TCP4_LISTENING);
}

static int call_send(void)
{
	return ferry_descriptor_send(sender, 1, sample.fd, "name", FERRY_FD_TAKE);
}

static int call_to_bufferevent(void)
{
	return ferry_descriptor_to_bufferevent(&bev, inbox.descriptor, base, BEV_OPT_CLOSE_ON_FREE);
}

static int call_to_listener(void)
{
	return ferry_descriptor_to_listener(&listener, inbox.descriptor, base, NULL, NULL,
	                                    LEV_OPT_CLOSE_ON_FREE);
}

/* ---- after a failure, and after success ---- */

static void nothing_is_sent(void)
{
	pump_turns(3);
	ck_assert_uint_eq(inbox.count + inbox.lost, 0);
	ck_assert(fd_is_open(sample.fd));
}

static void is_still_there(void)
{
	ck_assert(bev == NULL && listener == NULL);
	ck_assert_int_eq(ferry_descriptor_get_fd(inbox.descriptor), fd);
	ck_assert(fd_is_open(fd));
	ck_assert_str_eq(ferry_descriptor_get_name(inbox.descriptor), "name");
}

static void is_sent(void)
{
	sample.fd = -1;
	ck_assert_int_eq(inbox_wait(&inbox), 0);
	ck_assert_str_eq(ferry_descriptor_get_name(inbox.descriptor), "name");
}

static void is_taken(void)
{
	ck_assert(bev != NULL || listener != NULL);
	ck_assert_int_eq(ferry_descriptor_get_fd(inbox.descriptor), -ENOENT);
	ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

static const struct swept_function calls[] = {
    {"send", make_sender, call_send, nothing_is_sent, is_sent, 1, 0},
    /* The callback on the output of a new bufferevent. */
    {"to_bufferevent", receive_connection, call_to_bufferevent, is_still_there, is_taken, 4, 1},
    {"to_listener", receive_listener, call_to_listener, is_still_there, is_taken, 2, 0},
};
enum { CALLS = sizeof(calls) / sizeof(calls[0]) };

static void clean_up(void)
{
	if (bev != NULL)
		bufferevent_free(bev);
	if (listener != NULL)
		evconnlistener_free(listener);
	bev = NULL;
	listener = NULL;
	ferry_message_stream_free(sender);
	inbox_close(&inbox);
	sample_close(&sample);
}

/* _i: of calls */
LOOP_TEST(without_memory_nothing_has_changed, CALLS)
{
	sweep_function(&calls[_i], clean_up);
}

/* ---- receiving, inside a callback ---- */

static void receive_without_memory(struct descriptor_inbox *box, struct ferry_message *received)
{
	message = received;
	fd = ferry_message_get_fd(message, 0);
	heap_watch(1);
	int status = ferry_descriptor_receive(&box->descriptor, message);
	unsigned long count = heap_unwatch();
	ck_assert_uint_eq(count, 1);
	ck_assert_int_eq(status, -ENOMEM);
	ck_assert_ptr_null(box->descriptor);
	ck_assert_int_eq(ferry_message_get_fd(message, 0), fd);
	ck_assert(fd_is_open(fd));
}

static void receive_the_second_time(struct descriptor_inbox *box, struct ferry_message *received)
{
	receive_without_memory(box, received);
	box->status = ferry_descriptor_receive(&box->descriptor, message);
	ck_assert_int_eq(ferry_descriptor_get_fd(box->descriptor), fd);
}

TEST(without_memory_a_message_keeps_its_descriptor)
{
	make_sender();
	int before = count_open_fds();
	inbox.hook = receive_without_memory; /* and closes it on return */
	ck_assert_int_eq(ferry_descriptor_send(sender, 1, sample.fd, "name", FERRY_FD_DUP), 0);
	inbox_wait(&inbox);
	ck_assert_int_eq(count_open_fds(), before);
	inbox.hook = receive_the_second_time;
	ck_assert_int_eq(ferry_descriptor_send(sender, 1, sample.fd, "name", FERRY_FD_DUP), 0);
	ck_assert_int_eq(inbox_wait(&inbox), 0);
	ck_assert_int_eq(count_open_fds(), before + 1);
	clean_up();
}

BEFORE_ALL
{
	heap_take_over();
}
