/* The calls that send and receive a descriptor with its description: what may change on the way, and which
 * arguments they refuse. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "descriptor_inbox.h"
#include "descriptor_link.h"
#include "samples.h"
#include "test.h"
#include "wire.h"

TEST_CASE("on the way");

/* The client resets the connection, or both ends have closed it. _i: 1: resets */
LOOP_TEST(a_connection_that_ended_on_the_way_still_matches_its_description, 2)
{
	struct sample sample;
	struct bufferevent *bev = NULL;
	const struct linger now = {.l_onoff = 1};
	open_streams();
	ck_assert(sample_make(&sample, SAMPLE_TCP4));
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, sample.fd, "client", FERRY_FD_DUP), 0);
	if (_i)
		ck_assert_int_eq(setsockopt(sample.other, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	else
		ck_assert_int_eq(shutdown(sample.fd, SHUT_WR), 0);
	close(sample.other);
	sample.other = -1;
	ck_assert(is_readable(sample.fd, LONG));

	ck_assert_int_eq(inbox_wait(&inbox), 0);
	ck_assert(!ferry_descriptor_get_info(inbox.descriptor)->connected);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(&bev, inbox.descriptor, base, 0), -ENOTCONN);
	close_streams();
	sample_close(&sample);
}

TEST(a_terminal_that_was_hung_up_on_the_way_still_matches_its_description)
{
	struct sample sample;
	open_streams();
	ck_assert(sample_make(&sample, SAMPLE_TERMINAL));
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, sample.fd, "tty", FERRY_FD_DUP), 0);
	close(sample.other);
	sample.other = -1;
	ck_assert_int_eq(inbox_wait(&inbox), 0);
	FILE *file = to_file(inbox.descriptor);
	ck_assert_int_eq(fgetc(file), EOF);
	fclose(file);
	close_streams();
	sample_close(&sample);
}

/* Changes position, size, seals and O_NONBLOCK. */
TEST(properties_that_may_change_are_not_compared)
{
	struct sample sample;
	open_streams();
	ck_assert(sample_make(&sample, SAMPLE_MEMFD));
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, sample.fd, "memfd", FERRY_FD_DUP), 0);
	ck_assert_int_eq(ftruncate(sample.fd, 8), 0);
	ck_assert_int_eq(lseek(sample.fd, 6, SEEK_SET), 6);
	ck_assert_int_eq(fcntl(sample.fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	ck_assert_int_eq(fcntl(sample.fd, F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_eq(inbox_wait(&inbox), 0);
	const struct ferry_descriptor_info *info = ferry_descriptor_get_info(inbox.descriptor);
	ck_assert_int_eq(info->size, 8);
	ck_assert_int_eq(info->offset, 6);
	ck_assert_uint_eq(info->seals, F_SEAL_GROW);
	ck_assert(info->non_blocking);
	FILE *file = to_file(inbox.descriptor);
	expect_line(file, "67");
	fclose(file);
	close_streams();
	sample_close(&sample);
}

TEST_CASE("calls");

TEST(a_descriptor_that_cannot_be_sent_stays_the_callers)
{
	char name[258];
	struct sample sample;
	open_streams();
	ck_assert(sample_make(&sample, SAMPLE_MEMFD));
	int fd = sample.fd, gone = dup(fd);
	close(gone);
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	ck_assert_int_eq(ferry_descriptor_send(NULL, TYPE, fd, "x", FERRY_FD_TAKE), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, "x", 0), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, -1, "x", FERRY_FD_TAKE), -EBADF);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, gone, "x", FERRY_FD_TAKE), -EBADF);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, name, FERRY_FD_TAKE), -EMSGSIZE);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, name + 1, FERRY_FD_TAKE), -EMSGSIZE);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, "\xff", FERRY_FD_TAKE), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_set_limits(sender, 32, 253), 0);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, "x", FERRY_FD_TAKE), -EMSGSIZE);
	ck_assert_int_eq(ferry_message_stream_set_limits(sender, 1000, 0), 0);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, "x", FERRY_FD_TAKE), -EMSGSIZE);
	ck_assert_int_eq(ferry_message_stream_set_limits(sender, 1000, 1), 0);
	ck_assert(fd_is_open(fd));

	/* None of these calls has queued anything; the longest name is accepted. */
	struct ferry_descriptor *descriptor = send_over(fd, name + 2);
	ck_assert_str_eq(ferry_descriptor_get_name(descriptor), name + 2);
	ck_assert_uint_eq(strlen(name + 2), FERRY_DESCRIPTOR_NAME_MAX);
	ck_assert_uint_eq(inbox.count, 1);
	ferry_descriptor_free(descriptor);
	close_streams();
	sample_close(&sample);
}

TEST(over_tcp_nothing_is_sent)
{
	int ends[2];
	make_pair(PAIR_TCP, ends);
	struct ferry_message_stream *stream = open_message_stream(ends[0], NULL);
	int fd = make_marked_fd(1);
	ck_assert_int_eq(ferry_descriptor_send(stream, TYPE, fd, "x", FERRY_FD_TAKE), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_descriptor_send(stream, TYPE, ends[0], "x", FERRY_FD_DUP), -EOPNOTSUPP);
	close(fd);
	close(ends[1]);
	ferry_message_stream_free(stream);
	pump_turns(3);
}

TEST(null_is_refused_and_nothing_changes)
{
	FILE *file = NULL;
	struct bufferevent *bev = NULL;
	struct evconnlistener *listener = NULL;
	struct ferry_descriptor *out = NULL;
	struct sample sample;
	open_streams();
	ck_assert(sample_make(&sample, SAMPLE_MEMFD));
	struct ferry_descriptor *descriptor = send_over(sample.fd, "x");
	int fd = ferry_descriptor_get_fd(descriptor);
	ck_assert_int_eq(ferry_descriptor_receive(&out, NULL), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_file(NULL, descriptor), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_file(&file, NULL), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(NULL, descriptor, base, 0), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(&bev, NULL, base, 0), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(&bev, descriptor, NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_listener(NULL, descriptor, base, NULL, NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_listener(&listener, NULL, base, NULL, NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_listener(&listener, descriptor, NULL, NULL, NULL, 0),
	                 -EINVAL);
	ck_assert_int_eq(ferry_descriptor_get_fd(NULL), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_steal_fd(NULL), -EINVAL);
	ck_assert_str_eq(ferry_descriptor_get_name(NULL), "");
	ck_assert_ptr_null(ferry_descriptor_get_info(NULL));
	ferry_descriptor_free(NULL);
	ck_assert(file == NULL && bev == NULL && listener == NULL && out == NULL);

	no_memory = true;
	ck_assert_int_eq(ferry_descriptor_to_file(&file, descriptor), -ENOMEM);
	no_memory = false;
	ck_assert_ptr_null(file);
	ck_assert_int_eq(ferry_descriptor_steal_fd(descriptor), fd);
	close(fd);
	/* After the descriptor was stolen, no object can be made of it. */
	ck_assert_int_eq(ferry_descriptor_to_file(&file, descriptor), -ENOENT);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(&bev, descriptor, base, 0), -ENOENT);
	ck_assert_int_eq(ferry_descriptor_to_listener(&listener, descriptor, base, NULL, NULL, 0),
	                 -ENOENT);
	ferry_descriptor_free(descriptor);
	close_streams();
	sample_close(&sample);
}

static void receive_twice(struct descriptor_inbox *box, struct ferry_message *message)
{
	struct ferry_descriptor *again = NULL;
	ck_assert_int_eq(ferry_descriptor_receive(NULL, message), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_receive(&box->descriptor, message), 0);
	ck_assert_int_eq(ferry_descriptor_receive(&again, message), -ENOENT);
	ck_assert_ptr_null(again);
}

TEST(a_message_gives_its_descriptor_once)
{
	open_streams();
	int fd = make_marked_fd(7);
	inbox.hook = receive_twice;
	struct ferry_descriptor *descriptor = send_over(fd, "x");
	ck_assert_uint_eq(marked_number(ferry_descriptor_get_fd(descriptor)), 7);
	ferry_descriptor_free(descriptor);
	close(fd);
	close_streams();
}

static void free_before(struct descriptor_inbox *box, struct ferry_message *message)
{
	ferry_message_stream_free(box->stream);
	box->stream = NULL;
	ck_assert_int_eq(ferry_descriptor_receive(&box->descriptor, message), 0);
}

TEST(a_message_outlives_its_stream)
{
	open_streams();
	int fd = make_marked_fd(7);
	inbox.hook = free_before;
	struct ferry_descriptor *descriptor = send_over(fd, "x");
	ck_assert_uint_eq(marked_number(ferry_descriptor_get_fd(descriptor)), 7);
	ferry_descriptor_free(descriptor);
	close(fd);
	close_streams();
}
