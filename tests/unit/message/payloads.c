/* The payload of a message is made of several places, or is an evbuffer. */

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "message_inbox.h"
#include "test.h"

enum { SIZE = 100000, FILE_SIZE = 50000 };

static struct evbuffer *buffer;
static unsigned char bytes[SIZE];

static void open_both(void)
{
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = support_byte(i);
	make_pair(PAIR_UNIX, inbox_ends);
	open_inbox(&inbox, inbox_ends[0], 0);
	open_inbox(&second_inbox, inbox_ends[1], 0);
	buffer = evbuffer_new();
	ck_assert_ptr_nonnull(buffer);
}

static void close_both(void)
{
	evbuffer_free(buffer);
	free_messages(&inbox);
	free_messages(&second_inbox);
}

static void expect_received(unsigned int count, size_t length, size_t fds)
{
	pump_until_count(&second_inbox.count, count);
	ck_assert_uint_eq(second_inbox.notes[count - 1].length, length);
	ck_assert_uint_eq(second_inbox.notes[count - 1].declared, fds);
	expect_payload(&second_inbox, 0);
}

static int send_buffer(const int *fds, size_t count, enum ferry_fd_ownership ownership)
{
	return ferry_message_stream_send_buffer(inbox.stream, 7, buffer, fds, count, ownership);
}

TEST(the_bytes_of_several_places_are_one_payload)
{
	const struct iovec parts[] = {{bytes, 10}, {NULL, 0}, {bytes + 10, 500}, {bytes + 510, 60000}};
	int fd = make_marked_fd(3);

	open_both();
	ck_assert_int_eq(ferry_message_stream_sendv(inbox.stream, 7, parts, 4, &fd, 1, FERRY_FD_TAKE),
	                 0);
	expect_received(1, 60510, 1);
	ck_assert_uint_eq(second_inbox.notes[0].first_mark, 3);
	ck_assert_int_eq(ferry_message_stream_sendv(inbox.stream, 7, NULL, 0, NULL, 0, 0), 0);
	expect_received(2, 0, 0);
	close_both();
}

TEST(an_evbuffer_is_a_payload_and_is_empty_then)
{
	int fds[2];

	open_marked(fds, 5, 2);
	open_both();
	evbuffer_add(buffer, bytes, SIZE);
	ck_assert_int_eq(send_buffer(fds, 2, FERRY_FD_TAKE), 0);
	ck_assert_uint_eq(evbuffer_get_length(buffer), 0);
	expect_received(1, SIZE, 2);
	ck_assert_uint_eq(second_inbox.notes[0].first_mark, 5);
	ck_assert_int_eq(send_buffer(NULL, 0, 0), 0);
	expect_received(2, 0, 0);
	close_both();
}

TEST(a_file_of_an_evbuffer_is_a_part_of_the_payload)
{
	int fd = make_marked_fd(9), file = make_file(FILE_SIZE);

	open_both();
	ck_assert_int_eq(evbuffer_add_file(buffer, file, 0, FILE_SIZE), 0); /* takes the file */
	ck_assert_int_eq(send_buffer(&fd, 1, FERRY_FD_TAKE), 0);
	expect_received(1, FILE_SIZE, 1);
	ck_assert_int_eq(send_plain(1, bytes, 10), 0);
	expect_received(2, 10, 0);
	close_both();
}

static void expect_kept(int expected, const int *fds, size_t count)
{
	const int open_before = count_open_fds();

	ck_assert_int_eq(send_buffer(fds, count, FERRY_FD_DUP), expected);
	ck_assert_uint_eq(stats_of(inbox_transport(&inbox)).bytes_queued, 0);
	ck_assert_uint_eq(evbuffer_get_length(buffer), SIZE);
	ck_assert_mem_eq(evbuffer_pullup(buffer, -1), bytes, SIZE);
	ck_assert_int_eq(count_open_fds(), open_before);
}

TEST(a_message_that_is_refused_leaves_the_evbuffer_its_bytes)
{
	const int bad = 100000, own = STDERR_FILENO;

	open_both();
	evbuffer_add(buffer, bytes, SIZE);
	expect_kept(-EBADF, &bad, 1);
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, SIZE - 1, 253), 0);
	expect_kept(-EMSGSIZE, NULL, 0);
	ck_assert_int_eq(ferry_message_stream_set_limits(inbox.stream, SIZE, 0), 0);
	expect_kept(-EMSGSIZE, &own, 1);
	ck_assert_int_eq(ferry_transport_set_byte_limit(inbox_transport(&inbox), SIZE), 0);
	expect_kept(-ENOBUFS, NULL, 0); /* with the header it is more */
	evbuffer_freeze(buffer, 1);
	ck_assert_int_eq(ferry_transport_set_byte_limit(inbox_transport(&inbox), 0), 0);
	ck_assert_int_eq(send_buffer(NULL, 0, 0), -ENOMEM);
	evbuffer_unfreeze(buffer, 1);
	ferry_transport_abort_connection(inbox_transport(&inbox));
	expect_kept(-EPIPE, NULL, 0);
	close_both();
}

/* Whoever has frozen the output's end may thaw it again: half a message would be in it then. */
TEST(a_frozen_output_takes_neither_the_payload_nor_the_descriptors)
{
	struct evbuffer *output;
	int fd = make_marked_fd(4);

	open_both();
	output = bufferevent_get_output(ferry_transport_get_bufferevent(inbox_transport(&inbox)));
	evbuffer_add(buffer, bytes, SIZE);
	evbuffer_freeze(output, 0);
	expect_kept(-ENOMEM, &fd, 1);
	ck_assert_uint_eq(stats_of(inbox_transport(&inbox)).fds_queued, 0);
	evbuffer_unfreeze(output, 0);
	ck_assert_int_eq(send_buffer(&fd, 1, FERRY_FD_TAKE), 0);
	expect_received(1, SIZE, 1);
	ck_assert_uint_eq(second_inbox.notes[0].first_mark, 4);
	close_both();
}

TEST(the_output_of_the_stream_itself_is_no_payload)
{
	struct evbuffer *output;

	open_both();
	output = bufferevent_get_output(ferry_transport_get_bufferevent(inbox_transport(&inbox)));
	ck_assert_int_eq(ferry_message_stream_send_buffer(inbox.stream, 1, output, NULL, 0, 0),
	                 -EINVAL);
	ck_assert_int_eq(send_plain(1, bytes, 10), 0);
	ck_assert_int_eq(ferry_message_stream_send_buffer(inbox.stream, 1, output, NULL, 0, 0),
	                 -EINVAL);
	expect_received(1, 10, 0);
	close_both();
}

TEST(arguments_that_are_no_payload_are_refused)
{
	const struct iovec nothing = {NULL, 1};
	const struct iovec too_much[] = {{bytes, 1}, {bytes, SSIZE_MAX}};

	open_both();
	struct ferry_message_stream *stream = inbox.stream;
	ck_assert_int_eq(ferry_message_stream_sendv(NULL, 1, NULL, 0, NULL, 0, 0), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_sendv(stream, 1, NULL, 1, NULL, 0, 0), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_sendv(stream, 1, &nothing, 1, NULL, 0, 0), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_sendv(stream, 1, too_much, 2, NULL, 0, 0), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_sendv(stream, 1, NULL, 0, NULL, 1, FERRY_FD_DUP),
	                 -EINVAL);
	ck_assert_int_eq(ferry_message_stream_sendv(stream, 1, NULL, 0, &(int){0}, 1, 0), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_send_buffer(NULL, 1, buffer, NULL, 0, 0), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_send_buffer(stream, 1, NULL, NULL, 0, 0), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_send_buffer(stream, 1, buffer, &(int){0}, 1, 0), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_send(stream, 1, bytes, SIZE_MAX, NULL, 0, 0), -EMSGSIZE);
	ck_assert_uint_eq(stats_of(inbox_transport(&inbox)).bytes_queued, 0);
	close_both();
}

static void free_the_stream(struct evbuffer *changed, const struct evbuffer_cb_info *info,
                            void *context)
{
	(void)changed, (void)info, (void)context;
	if (inbox.stream != NULL)
		free_messages(&inbox);
}

TEST(a_callback_of_the_evbuffer_may_free_the_stream)
{
	int fd = make_marked_fd(1);

	open_both();
	evbuffer_add(buffer, bytes, SIZE);
	evbuffer_add_cb(buffer, free_the_stream, NULL);
	ck_assert_int_eq(send_buffer(&fd, 1, FERRY_FD_TAKE), -EPIPE);
	ck_assert_ptr_null(inbox.stream);
	ck_assert_uint_eq(evbuffer_get_length(buffer), SIZE);
	ck_assert(fd_is_open(fd));
	close(fd);
	pump_until_count(&second_inbox.lost, 1);
	ck_assert_uint_eq(second_inbox.count, 0);
	close_both();
}

static void free_in_pause(void *context)
{
	(void)context;
	free_messages(&inbox);
}

static void ignore_call(void *context)
{
	(void)context;
}

TEST(a_producer_that_an_evbuffer_pauses_may_free_the_stream)
{
	static const struct ferry_producer_callbacks producer = {.resume_producing = ignore_call,
	                                                         .pause_producing = free_in_pause};

	open_both();
	ck_assert_int_eq(ferry_transport_register_producer(inbox_transport(&inbox), &producer, NULL,
	                                                   FERRY_PRODUCER_PUSH),
	                 0);
	evbuffer_add(buffer, bytes, SIZE);
	ck_assert_int_eq(send_buffer(NULL, 0, 0), 0);
	ck_assert_ptr_null(inbox.stream);
	ck_assert_uint_eq(evbuffer_get_length(buffer), 0);
	close_both();
}
