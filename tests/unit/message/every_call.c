/* Every call that a stream of messages has, in every callback of it; and the same for lines. */

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "every_call.h"
#include "listening.h"
#include "message_inbox.h"
#include "test.h"

static struct ferry_message_stream *messages; /* NULL once freed */
static struct ferry_message *message_now;     /* in message_received */
static struct ferry_line_stream *lines;       /* NULL once freed */
static int far;
static char big[300000];

/* ---- messages ---- */

static void message_made(struct ferry_message_stream *stream, void *context)
{
	(void)stream, (void)context;
	strike("connection_made");
}

static void message_received(struct ferry_message_stream *stream, struct ferry_message *message,
                             void *context)
{
	(void)stream, (void)context;
	message_now = message;
	strike("message_received");
	message_now = NULL;
}

static void message_read_lost(struct ferry_message_stream *stream, void *context)
{
	(void)stream, (void)context;
	strike("read_connection_lost");
}

static void message_lost(struct ferry_message_stream *stream, int reason, void *context)
{
	(void)stream, (void)reason, (void)context;
	strike("connection_lost");
}

static const struct ferry_message_callbacks message_callbacks = {
    .connection_made = message_made,
    .message_received = message_received,
    .connection_lost = message_lost,
    .read_connection_lost = message_read_lost,
};

static void was_sent(struct ferry_message_stream *stream, int status, void *context)
{
	(void)stream, (void)context;
	if (status == 0)
		strike("sent");
	else
		strike(status == -ECONNABORTED ? "sent, at the end" : "sent, in the free");
}

static void resumed(void *context)
{
	(void)context;
}

static void paused(void *context)
{
	(void)context;
	strike("pause_producing");
}

static void stopped(void *context)
{
	(void)context;
	strike("stop_producing");
}

static const struct ferry_producer_callbacks producer = {
    .resume_producing = resumed, .pause_producing = paused, .stop_producing = stopped};

static struct ferry_transport *transport(void)
{
	return messages != NULL ? ferry_message_stream_get_transport(messages)
	                        : ferry_line_stream_get_transport(lines);
}

/* Two messages, of which the first has a descriptor, then the peer's end. */
static void by_messages(void)
{
	unsigned char frame[INBOX_HEADER + 10];
	int fd = dup(0);

	put_message_frame(frame, 1, 10, 1);
	ck_assert_int_gt(wire_send(far, frame, sizeof(frame), &fd, 1), 0);
	close(fd);
	put_message_frame(frame, 1, 10, 0);
	ck_assert_int_gt(wire_send(far, frame, sizeof(frame), NULL, 0), 0);
	shutdown(far, SHUT_WR);
	pump_turns(8);
}

static void by_abort(void)
{
	ferry_transport_register_producer(transport(), &producer, NULL, FERRY_PRODUCER_PUSH);
	ferry_transport_abort_connection(transport());
	pump_turns(8);
}

static void by_long_message(void)
{
	ferry_transport_register_producer(transport(), &producer, NULL, FERRY_PRODUCER_PUSH);
	ferry_message_stream_send(messages, 1, big, sizeof(big), NULL, 0, 0);
	pump_turns(8);
}

/* Two callbacks for the same message: the second one runs though the first has ended everything. */
static void notify_twice(void)
{
	ferry_message_stream_send(messages, 1, "x", 1, NULL, 0, 0);
	ferry_message_stream_notify_sent(messages, was_sent, NULL);
	ferry_message_stream_notify_sent(messages, was_sent, NULL);
}

static void by_sending(void)
{
	notify_twice();
	pump_turns(8);
}

static void by_end_of_sending(void)
{
	notify_twice();
	ferry_transport_abort_connection(transport());
	pump_turns(8);
}

static void by_free_of_sending(void)
{
	struct ferry_message_stream *freed = messages;

	notify_twice();
	messages = NULL;
	ferry_message_stream_free(freed);
	pump_turns(8);
}

/* A message that has a descriptor and its description. */
static void by_descriptor(int fd)
{
	static const struct ferry_message_callbacks none;
	struct ferry_message_stream *sender;

	ck_assert_int_eq(ferry_message_stream_new(&sender, make_transport(dup(far)), &none, NULL), 0);
	ck_assert_int_eq(ferry_descriptor_send(sender, 1, fd, "name", FERRY_FD_TAKE), 0);
	pump_turns(8);
	ferry_message_stream_free(sender);
	pump_turns(2);
}

static void by_described_file(void)
{
	by_descriptor(make_file(10));
}

static void by_described_socket(void)
{
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	by_descriptor(fds[0]);
	close(fds[1]);
}

static void by_described_listener(void)
{
	by_descriptor(listen_abstract());
}

static const struct every_callback of_messages[] = {
    {"connection_made", by_messages},
    {"message_received", by_messages},
    {"message_received", by_described_file},
    {"message_received", by_described_socket},
    {"message_received", by_described_listener},
    {"read_connection_lost", by_messages},
    {"connection_lost", by_abort},
    {"sent", by_sending},
    {"sent, at the end", by_end_of_sending},
    {"sent, in the free", by_free_of_sending},
    {"pause_producing", by_long_message},
    {"stop_producing", by_abort},
};

/* ---- lines ---- */

static void line_made(struct ferry_line_stream *stream, void *context)
{
	(void)stream, (void)context;
	strike("connection_made");
}

static void line_received(struct ferry_line_stream *stream, const char *line, size_t length,
                          void *context)
{
	(void)stream, (void)line, (void)length, (void)context;
	strike("line_received");
}

static void line_exceeded(struct ferry_line_stream *stream, const char *line, size_t length,
                          void *context)
{
	(void)stream, (void)line, (void)length, (void)context;
	strike("line_length_exceeded");
}

static void line_incomplete(struct ferry_line_stream *stream, const char *line, size_t length,
                            void *context)
{
	(void)stream, (void)line, (void)length, (void)context;
	strike("incomplete_line_received");
}

static void line_data(struct ferry_line_stream *stream, struct evbuffer *input, void *context)
{
	(void)stream, (void)context;
	evbuffer_drain(input, 1);
	strike("data_received");
}

static void line_fd(struct ferry_line_stream *stream, int fd, void *context)
{
	(void)stream, (void)context;
	close(fd);
	strike("file_descriptor_received");
}

static void line_read_lost(struct ferry_line_stream *stream, void *context)
{
	(void)stream, (void)context;
	strike("read_connection_lost");
}

static void line_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	(void)stream, (void)reason, (void)context;
	strike("connection_lost");
}

static const struct ferry_line_callbacks line_callbacks = {
    .connection_made = line_made,
    .line_received = line_received,
    .line_length_exceeded = line_exceeded,
    .incomplete_line_received = line_incomplete,
    .data_received = line_data,
    .file_descriptor_received = line_fd,
    .read_connection_lost = line_read_lost,
    .connection_lost = line_lost,
};

static void by_lines(void)
{
	int fd = dup(0);

	ck_assert_int_eq(wire_send(far, "a line\n0123456789abcdef\nrest", 28, &fd, 1), 28);
	close(fd);
	shutdown(far, SHUT_WR);
	pump_turns(8);
}

static void by_raw(void)
{
	ferry_line_stream_set_raw(lines, true);
	by_lines();
}

static const struct every_callback of_lines[] = {
    {"connection_made", by_lines},      {"line_received", by_lines},
    {"line_length_exceeded", by_lines}, {"incomplete_line_received", by_lines},
    {"data_received", by_raw},          {"file_descriptor_received", by_lines},
    {"read_connection_lost", by_lines}, {"connection_lost", by_abort},
    {"stop_producing", by_abort},
};

/* ---- the calls; those of the other kind of stream get NULL ---- */

static void free_stream(void)
{
	struct ferry_message_stream *freed_messages = messages;
	struct ferry_line_stream *freed_lines = lines;

	messages = NULL;
	lines = NULL;
	ferry_message_stream_free(freed_messages);
	ferry_line_stream_free(freed_lines);
}

static void print_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void print_line(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	ferry_line_stream_vprintf(lines, format, arguments);
	va_end(arguments);
}

static void send_all(void)
{
	const struct iovec part = {big, sizeof(big)};
	struct evbuffer *buffer = evbuffer_new();

	ferry_message_stream_send(messages, 1, big, sizeof(big), &(int){0}, 1, FERRY_FD_DUP);
	ferry_message_stream_sendv(messages, 1, &part, 1, &(int){0}, 1, FERRY_FD_DUP);
	evbuffer_add(buffer, big, sizeof(big));
	ferry_message_stream_send_buffer(messages, 1, buffer, &(int){0}, 1, FERRY_FD_DUP);
	evbuffer_free(buffer);
	ferry_line_stream_send(lines, "line", 4);
	ferry_line_stream_printf(lines, "%d", 4);
	print_line("%d", 5);
}

static void notify_sent(void)
{
	ferry_message_stream_notify_sent(messages, was_sent, NULL);
}

static void send_descriptor(void)
{
	if (messages != NULL)
		ferry_descriptor_send(messages, 1, 0, "name", FERRY_FD_DUP);
}

static void take_message(void)
{
	struct ferry_descriptor *descriptor;
	int fd = ferry_message_steal_fd(message_now, 0);

	if (fd >= 0)
		close(fd);
	if (message_now != NULL && ferry_descriptor_receive(&descriptor, message_now) == 0)
		ferry_descriptor_free(descriptor);
}

static void look_at_message(void)
{
	size_t length;

	ferry_message_get_type(message_now);
	ferry_message_get_payload(message_now, &length);
	ferry_message_get_fd_count(message_now);
	ferry_message_get_fds_lost(message_now);
	ferry_message_get_fd(message_now, 0);
}

/* Makes of it the object that its kind allows. */
static void use_descriptor(struct ferry_descriptor *descriptor)
{
	struct bufferevent *bev;
	struct evconnlistener *listener;
	FILE *stream;

	ferry_descriptor_get_fd(descriptor);
	ferry_descriptor_get_info(descriptor);
	ferry_descriptor_get_name(descriptor);
	if (ferry_descriptor_to_file(&stream, descriptor) == 0)
		fclose(stream);
	else if (ferry_descriptor_to_bufferevent(&bev, descriptor, base, BEV_OPT_CLOSE_ON_FREE) == 0)
		bufferevent_free(bev);
	else if (ferry_descriptor_to_listener(&listener, descriptor, base, NULL, NULL,
	                                      LEV_OPT_CLOSE_ON_FREE) == 0)
		evconnlistener_free(listener);
}

static void receive_descriptor(void)
{
	struct ferry_descriptor_info info;
	struct ferry_descriptor *descriptor;

	ferry_descriptor_inspect(0, &info);
	if (message_now == NULL || ferry_descriptor_receive(&descriptor, message_now) < 0)
		return;
	use_descriptor(descriptor);
	int fd = ferry_descriptor_steal_fd(descriptor);
	if (fd >= 0)
		close(fd);
	ferry_descriptor_free(descriptor);
}

static void settle(void)
{
	ferry_message_stream_set_limits(messages, 5, 0);
	ferry_message_stream_set_fd_reserve(messages, 1);
	ferry_line_stream_set_delimiter(lines, "e", 1);
	ferry_line_stream_set_max_length(lines, 1, FERRY_LINE_SKIP);
	ferry_line_stream_set_raw(lines, true);
	ferry_line_stream_set_raw(lines, false);
}

static void pause_reading(void)
{
	ferry_transport_pause_reading(transport());
}

static void resume_reading(void)
{
	ferry_transport_pause_reading(transport());
	ferry_transport_resume_reading(transport());
}

static void lose(void)
{
	ferry_transport_lose_connection(transport());
}

static void lose_write(void)
{
	ferry_transport_lose_write_connection(transport());
}

static void abort_connection(void)
{
	ferry_transport_abort_connection(transport());
}

static void change_producer(void)
{
	ferry_transport_unregister_producer(transport());
	ferry_transport_register_producer(transport(), &producer, NULL, FERRY_PRODUCER_PULL);
}

static void lose_through_the_stream(void)
{
	ferry_message_stream_lose_connection(messages);
	ferry_line_stream_lose_connection(lines);
}

static void lose_write_through_the_stream(void)
{
	ferry_message_stream_lose_write_connection(messages);
	ferry_line_stream_lose_write_connection(lines);
}

static void abort_through_the_stream(void)
{
	ferry_message_stream_abort_connection(messages);
	ferry_line_stream_abort_connection(lines);
}

static const struct every_call calls[] = {
    {"…_stream_free", free_stream},
    {"…_stream_send, _sendv, _send_buffer, _printf", send_all},
    {"ferry_message_stream_notify_sent", notify_sent},
    {"ferry_descriptor_send", send_descriptor},
    {"ferry_message_steal_fd, ferry_descriptor_receive", take_message},
    {"ferry_message_get_…", look_at_message},
    {"ferry_descriptor_receive, _to_…", receive_descriptor},
    {"…_stream_set_…", settle},
    {"ferry_transport_pause_reading", pause_reading},
    {"ferry_transport_resume_reading", resume_reading},
    {"ferry_transport_lose_connection", lose},
    {"ferry_transport_lose_write_connection", lose_write},
    {"ferry_transport_abort_connection", abort_connection},
    {"…_stream_lose_connection", lose_through_the_stream},
    {"…_stream_lose_write_connection", lose_write_through_the_stream},
    {"…_stream_abort_connection", abort_through_the_stream},
    {"ferry_transport_register_producer", change_producer},
};

/* ---- the world ---- */

static void open_messages_world(void)
{
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	far = fds[1];
	ck_assert_int_eq(
	    ferry_message_stream_new(&messages, make_transport(fds[0]), &message_callbacks, NULL), 0);
}

static void open_lines_world(void)
{
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	far = fds[1];
	ck_assert_int_eq(ferry_line_stream_new(&lines, make_transport(fds[0]), &line_callbacks, NULL),
	                 0);
	ck_assert_int_eq(ferry_line_stream_set_max_length(lines, 10, FERRY_LINE_SKIP), 0);
}

static void tear_down(void)
{
	free_stream();
	pump_turns(4);
	close(far);
}

LOOP_TEST(every_call_is_safe_in_every_callback_for_messages, COUNT(of_messages))
{
	every_call_run(&of_messages[_i], calls, COUNT(calls), open_messages_world, tear_down);
}

LOOP_TEST(every_call_is_safe_in_every_callback_for_lines, COUNT(of_lines))
{
	every_call_run(&of_lines[_i], calls, COUNT(calls), open_lines_world, tear_down);
}
