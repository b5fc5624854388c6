/* A peer that reads slowly: the write timeout comes only when the kernel took nothing and the peer took nothing, for
 * bytes and for each way to send a file. The timeout and the peer are timers of one loop, and the peer's is always
 * due first: however late the loop runs, the peer has read between two timeouts. */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <linux/sockios.h>

#include "kernel/peer_unread.h"
#include "kernel/send_queue.h"
#include "plain_link.h"
#include "test.h"
#include "wire.h"

enum { PACE_MS = 8, TIMEOUT_MS = 20, STEPS = 15, LARGE = 16 << 20 };

enum way { BYTES, BY_SENDFILE, BY_COPY, WAYS };

static const struct timeval timeout = {.tv_usec = TIMEOUT_MS * 1000};
static int write_end; /* the transport's */
static unsigned int steps;

static void send_much(int way)
{
	if (way == BYTES) {
		char *bytes = calloc(1, LARGE);
		ck_assert_int_eq(ferry_transport_write(near.transport, bytes, LARGE), 0);
		free(bytes);
		return;
	}
	int file = make_file(LARGE);
	ck_assert_int_eq(ferry_transport_send_file(NULL, near.transport, file, FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, way == BY_COPY ? FERRY_FILE_COPY : 0,
	                                           NULL, NULL),
	                 0);
}

/* TCP's window opens by acknowledgements, which take their way. */
static void read_some(void)
{
	char bytes[512];

	ck_assert_int_eq(poll(&(struct pollfd){.fd = far_in, .events = POLLIN}, 1, 20000), 1);
	ck_assert_int_gt(read(far_in, bytes, sizeof(bytes)), 0);
}

/* Reads the least that the writer's kernel shows. */
static void read_a_little(evutil_socket_t fd, short what, void *argument)
{
	int before = send_queue_length(write_end);

	(void)fd, (void)what, (void)argument;
	if (before == 0) /* the file comes from the disk */
		return;
	while (send_queue_length(write_end) == before)
		read_some();
	steps++;
}

/* With the writing descriptor of the near end. */
static void open_slow_link(int kind)
{
	if (kind == LINK_PIPES) {
		int there[2], back[2];
		make_pipe(there);
		make_pipe(back);
		far_in = there[0];
		far_out = back[1];
		recorder_open_pipes(&near, back[0], there[1], &recorder_protocol);
		write_end = there[1];
		return;
	}
	open_plain_link(kind);
	write_end = bufferevent_getfd(ferry_transport_get_bufferevent(near.transport));
}

/* _i: link, way. */
LOOP_TEST(a_write_timeout_comes_only_after_a_slow_reader_has_stopped, LINK_KINDS *WAYS)
{
	open_slow_link(_i % LINK_KINDS);
	send_much(_i / LINK_KINDS);
	pump_turns(3);
	struct event *reader = event_new(base, -1, EV_PERSIST, read_a_little, NULL);
	steps = 0;
	event_add(reader, &(struct timeval){.tv_usec = PACE_MS * 1000});
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(near.transport), NULL, &timeout);

	pump_until_count(&steps, STEPS);
	ck_assert_uint_eq(near.lost, 0);
	event_free(reader);

	check_lost(-ETIMEDOUT);
	close_plain_link();
}

static void read_one_piece(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	read_some();
	steps++;
}

/* Of a buffer of the kernel's, which the send queue has until it is read whole. */
TEST(a_write_timeout_does_not_come_while_the_peer_reads_pieces_of_a_buffer)
{
	open_slow_link(LINK_UNIX);
	send_much(BYTES);
	pump_turns(3);
	if (peer_unread_count(write_end) < 0)
		skip("no diagnosis of sockets");
	struct event *reader = event_new(base, -1, EV_PERSIST, read_one_piece, NULL);
	steps = 0;
	event_add(reader, &(struct timeval){.tv_usec = PACE_MS * 1000});
	bufferevent_set_timeouts(ferry_transport_get_bufferevent(near.transport), NULL, &timeout);
	const int queue = send_queue_length(write_end);

	if (peer_unread_count(write_end) >= 0) {
		pump_until_count(&steps, STEPS);
		ck_assert_uint_eq(near.lost, 0);
		ck_assert_int_eq(send_queue_length(write_end), queue);
	}
	event_free(reader);

	check_lost(-ETIMEDOUT);
	close_plain_link();
}

TEST_CASE("the send queue");

LOOP_TEST(the_send_queue_shrinks_long_before_the_writer_can_write_again, LINK_KINDS)
{
	open_slow_link(_i);
	ck_assert_uint_gt(wire_fill(write_end), 0);
	int full = send_queue_length(write_end);
	ck_assert_int_gt(full, 0);

	while (send_queue_length(write_end) == full)
		read_some();

	ck_assert_int_eq(poll(&(struct pollfd){.fd = write_end, .events = POLLOUT}, 1, 0), 0);
	close_plain_link();
}

TEST(the_bytes_that_a_peer_has_not_read_are_counted)
{
	char bytes[100] = {0};

	open_slow_link(LINK_UNIX);
	ck_assert_int_eq(write(write_end, bytes, sizeof(bytes)), sizeof(bytes));
	if (peer_unread_count(write_end) < 0) {
		skip("no diagnosis of sockets");
	} else {
		ck_assert_int_eq(peer_unread_count(write_end), 100);
		ck_assert_int_eq(read(far_in, bytes, 30), 30);
		ck_assert_int_eq(peer_unread_count(write_end), 70);
		ck_assert_int_eq(peer_unread_count(far_in), 0);
		ck_assert_int_eq(peer_unread_count(-1), -EBADF);
	}
	close_plain_link();
}

TEST(a_descriptor_without_a_send_queue_has_an_error)
{
	int counter = eventfd(0, EFD_CLOEXEC);
	ck_assert_int_eq(send_queue_length(counter), -ENOTTY);
	close(counter);
	ck_assert_int_eq(send_queue_length(-1), -EBADF);
}
