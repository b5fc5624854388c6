/* fork(2): each sentence of docs/fork.md. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "children.h"
#include "listening.h"
#include "plain_link.h"
#include "test.h"
#include "wire.h"

/* Forks a child that acts, and waits until it is dead. Nothing of the parent's is then left in it. */
static void in_child(void (*act)(void))
{
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		act();
		die();
	}
	wait_for_death(child);
}

static void take_base(void)
{
	ck_assert_int_eq(event_reinit(base), 0);
}

static void free_near(void)
{
	ferry_transport_free(near.transport);
	for (int i = 0; i < 3; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

static void take_base_and_free(void)
{
	take_base();
	free_near();
}

/* The parent's connection carries bytes both ways. */
static void expect_link_lives(void)
{
	size_t length = recorder_length(&near);

	ck_assert_int_eq(write(far_out, "to the parent", 13), 13);
	pump_until_length(&near, length + 13);
	write_text("from the parent");
	expect_far_text("from the parent");
	ck_assert_uint_eq(near.lost + near.read_lost, 0);
}

TEST_CASE("what a child inherits");

LOOP_TEST(the_connection_lives_until_the_last_copy_is_closed, 2)
{
	open_plain_link(_i);
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		while (getppid() > 1)
			pause();
		die();
	}
	recorder_free_transport(&near);
	pump_turns(3);
	char byte;
	ck_assert(read(far_in, &byte, 1) < 0 && errno == EAGAIN);
	kill(child, SIGKILL);
	wait_for_death(child);
	ck_assert_int_eq(far_end(), 0);
	close_plain_link();
}

static void send_queue(void)
{
	take_base();
	for (int i = 0; i < 3; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

LOOP_TEST(bytes_that_are_queued_when_it_forks_are_in_both_processes, LINK_KINDS)
{
	open_plain_link(_i);
	write_text("twice");
	in_child(send_queue);
	expect_far_text("twice");
	expect_far_text("twice");
	close_plain_link();
}

TEST(a_flush_before_fork_leaves_no_bytes_to_be_sent_twice)
{
	char byte;

	open_plain_link(LINK_UNIX);
	write_text("once");
	ck_assert_int_eq(ferry_transport_flush(near.transport, NULL), 0);
	in_child(send_queue);
	expect_far_text("once");
	pump_turns(3);
	ck_assert(read(far_in, &byte, 1) < 0 && errno == EAGAIN);
	close_plain_link();
}

TEST_CASE("freeing in a child");

LOOP_TEST(a_child_that_has_called_event_reinit_may_free_a_transport, LINK_KINDS)
{
	open_plain_link(_i);
	in_child(take_base_and_free);
	expect_link_lives();
	close_plain_link();
}

LOOP_TEST(what_a_child_frees_is_still_sent_by_the_parent, LINK_KINDS)
{
	int file = make_file(10000);

	open_plain_link(_i);
	write_text("queued");
	if (_i == LINK_UNIX)
		ck_assert_int_eq(ferry_transport_send_fd(near.transport, STDERR_FILENO, FERRY_FD_DUP), 0);
	ck_assert_int_eq(ferry_transport_send_file(NULL, near.transport, file, FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, 0, NULL, NULL),
	                 0);
	write_text("behind");
	in_child(take_base_and_free);
	size_t arrived = 0;
	static char buffer[20000];
	while (arrived < 6 + 10000 + 6) {
		struct wire_read result = {.bytes = -1};
		pump_turns(1);
		if (_i == LINK_UNIX)
			wire_receive(far_in, buffer, sizeof(buffer), &result);
		else
			result.bytes = read(far_in, buffer, sizeof(buffer));
		arrived += result.bytes > 0 ? (size_t)result.bytes : 0;
		if (_i == LINK_UNIX)
			wire_close_fds(&result);
	}
	expect_link_lives();
	ck_assert_uint_eq(stats_of(near.transport).fds_sent, _i == LINK_UNIX);
	close_plain_link();
}

static struct ferry_line_stream *lines;
static struct ferry_message_stream *messages;

static void free_streams(void)
{
	take_base();
	ferry_line_stream_free(lines);
	ferry_message_stream_free(messages);
	for (int i = 0; i < 3; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

static unsigned int message_count, line_count;

static void got_line(struct ferry_line_stream *stream, const char *line, size_t length,
                     void *context)
{
	(void)stream, (void)line, (void)length, (void)context;
	line_count++;
}

static void got_message(struct ferry_message_stream *stream, struct ferry_message *message,
                        void *context)
{
	(void)stream, (void)message, (void)context;
	message_count++;
}

TEST(a_child_may_free_streams_of_lines_and_messages)
{
	static const struct ferry_line_callbacks line_callbacks = {.line_received = got_line};
	static const struct ferry_message_callbacks callbacks = {.message_received = got_message};
	static const unsigned char frame[] = {0x46, 0x52, 0x59, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	int a[2], b[2];

	make_pair(PAIR_UNIX, a);
	make_pair(PAIR_UNIX, b);
	ck_assert_int_eq(ferry_line_stream_new(&lines, make_transport(a[0]), &line_callbacks, NULL), 0);
	ck_assert_int_eq(ferry_message_stream_new(&messages, make_transport(b[0]), &callbacks, NULL),
	                 0);
	pump_turns(2);
	in_child(free_streams);
	ck_assert_int_eq(write(a[1], "line\n", 5), 5);
	ck_assert_int_eq(write(b[1], frame, sizeof(frame)), (ssize_t)sizeof(frame));
	pump_until_count(&line_count, 1);
	pump_until_count(&message_count, 1);
	ferry_line_stream_free(lines);
	ferry_message_stream_free(messages);
	pump_turns(3);
	close(a[1]);
	close(b[1]);
}

static unsigned int sent_count;
static int sent_status;

static void note_sent(struct ferry_message_stream *stream, int status, void *context)
{
	(void)stream, (void)context;
	sent_count++;
	sent_status = status;
}

static void free_messages_and_expect_cancelled(void)
{
	take_base();
	ferry_message_stream_free(messages);
	ck_assert_uint_eq(sent_count, 1);
	ck_assert_int_eq(sent_status, -ECANCELED);
}

TEST(a_callback_that_waits_for_a_message_runs_in_both_processes)
{
	static const struct ferry_message_callbacks callbacks = {.message_received = got_message};
	int ends[2];

	sent_count = 0;
	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(ferry_message_stream_new(&messages, make_transport(ends[0]), &callbacks, NULL),
	                 0);
	ck_assert_int_eq(ferry_message_stream_send(messages, 1, "x", 1, NULL, 0, 0), 0);
	ck_assert_int_eq(ferry_message_stream_notify_sent(messages, note_sent, NULL), 0);
	in_child(free_messages_and_expect_cancelled);
	ck_assert_uint_eq(sent_count, 0);
	pump_until_count(&sent_count, 1);
	ck_assert_int_eq(sent_status, 0);
	ferry_message_stream_free(messages);
	pump_turns(3);
	close(ends[1]);
}

static void detach_near(void)
{
	struct bufferevent *bev;

	take_base();
	ck_assert_int_eq(ferry_transport_detach(near.transport, &bev), 0);
	bufferevent_free(bev);
	for (int i = 0; i < 3; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

TEST(a_child_may_detach_a_transport)
{
	open_plain_link(LINK_UNIX);
	in_child(detach_near);
	expect_link_lives();
	close_plain_link();
}

static struct ferry_worker *worker;

static void free_worker(void)
{
	take_base();
	ferry_worker_free(worker);
	for (int i = 0; i < 3; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

TEST(a_child_may_free_a_worker)
{
	static const struct ferry_worker_callbacks callbacks = {0};
	char buffer[1024];
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(ferry_worker_new(&worker, make_transport(ends[0]), &callbacks, NULL), 0);
	pump_turns(3);
	ck_assert_int_gt(read(ends[1], buffer, sizeof(buffer)), 0); /* its hello */
	in_child(free_worker);
	ck_assert(read(ends[1], buffer, sizeof(buffer)) < 0 && errno == EAGAIN);
	ferry_worker_free(worker);
	pump_turns(3);
	close(ends[1]);
}

static struct ferry_poller *poller;

static void free_poller(void)
{
	ck_assert_int_eq(event_reinit(ferry_poller_get_base(poller)), 0);
	ferry_poller_free(poller);
}

TEST(a_child_may_free_a_poller_and_its_channels)
{
	struct ferry_channel *channel;
	struct ferry_channel_event event;
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(ferry_poller_new(&poller), 0);
	ck_assert_int_eq(ferry_channel_new_socket(&channel, poller, ends[0]), 0);
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	ck_assert_int_eq(ferry_poller_poll(poller, &(struct timeval){0}, &event, 1), 0);
	in_child(free_poller);
	ck_assert_int_eq(write(ends[1], "x", 1), 1);
	ck_assert_int_eq(ferry_poller_poll(poller, NULL, &event, 1), 1);
	ck_assert_int_eq(event.kind, FERRY_CHANNEL_BYTES);
	ferry_poller_free(poller);
	close(ends[1]);
}

/* With poll(2) and select(2) nothing is shared. */
TEST(without_event_reinit_a_child_takes_events_out_of_the_parents_epoll)
{
	if (strcmp(event_base_get_method(base), "epoll") != 0)
		return;
	open_plain_link(LINK_UNIX);
	in_child(free_near);
	ck_assert_int_eq(write(far_out, "x", 1), 1);
	pump_turns(5);
	ck_assert_uint_eq(recorder_length(&near), 0);
	close_plain_link();
}

static void go_on(void)
{
	char byte;

	take_base();
	ck_assert_int_eq(read(far_out, &byte, 1), -1);
	ck_assert_int_eq(ferry_transport_write(near.transport, "from the child", 14), 0);
	ck_assert_int_eq(ferry_transport_lose_connection(near.transport), 0);
	pump_until_lost(&near);
}

LOOP_TEST(a_child_may_go_on_with_a_connection_in_place_of_its_parent, 2)
{
	open_plain_link(_i);
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		go_on();
		die();
	}
	recorder_free_transport(&near);
	pump_turns(3);
	expect_far_text("from the child");
	ck_assert_int_eq(shutdown(far_out, SHUT_WR), 0);
	ck_assert_int_eq(far_end(), 0);
	wait_for_death(child);
	close_plain_link();
}

TEST_CASE("what reaches the parent");

static void abort_near(void)
{
	take_base();
	(void)ferry_transport_abort_connection(near.transport);
}

static void lose_near(void)
{
	take_base();
	(void)ferry_transport_lose_write_connection(near.transport);
}

LOOP_TEST(closing_and_aborting_in_a_child_end_the_parents_connection, 2)
{
	open_plain_link(LINK_UNIX);
	in_child(_i == 0 ? abort_near : lose_near);
	ck_assert_int_eq(far_end(), 0);
	close_plain_link();
}

TEST_CASE("listeners", make_directory, remove_directory);

static struct ferry_listener *listener;

static struct ferry_transport *accepted;

static struct ferry_worker_client *worker_client;

static void free_worker_client(void)
{
	take_base();
	ferry_worker_client_free(worker_client);
	for (int i = 0; i < 3; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

/* _i: 1: it is forked before it connects */
LOOP_TEST(a_child_may_free_a_worker_client, 2)
{
	static const struct ferry_worker_callbacks callbacks = {0};
	char buffer[1024];
	int fd = listen_unix(socket_path);

	ck_assert_int_eq(ferry_worker_client_new(&worker_client, base, &callbacks, NULL), 0);
	ck_assert_int_eq(ferry_worker_client_add_unix(worker_client, socket_path), 0);
	if (_i == 1)
		in_child(free_worker_client);
	pump_turns(8);
	int far_end = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	ck_assert_int_ge(far_end, 0);
	ck_assert_int_gt(read(far_end, buffer, sizeof(buffer)), 0); /* its hello */
	if (_i == 0)
		in_child(free_worker_client);
	ck_assert(read(far_end, buffer, sizeof(buffer)) < 0 && errno == EAGAIN);
	ferry_worker_client_free(worker_client);
	pump_turns(3);
	ck_assert_int_eq(read(far_end, buffer, sizeof(buffer)), 0);
	close(far_end);
	close(fd);
	ck_assert_int_eq(unlink(socket_path), 0);
}

static struct ferry_connector *connector;
static unsigned int connected;

static void on_connected(struct ferry_connector *from, int status,
                         struct ferry_transport *transport, void *context)
{
	(void)from, (void)context;
	ck_assert_int_eq(status, 0);
	connected++;
	ferry_transport_free(transport);
}

static void free_connector(void)
{
	take_base();
	ferry_connector_free(connector);
	for (int i = 0; i < 3; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

TEST(a_child_may_free_a_connector)
{
	int fd = listen_unix(socket_path);

	connected = 0;
	ck_assert_int_eq(
	    ferry_connector_new_unix(&connector, base, socket_path, NULL, on_connected, NULL), 0);
	in_child(free_connector);
	pump_until_count(&connected, 1);
	pump_turns(3);
	close(fd);
	ck_assert_int_eq(unlink(socket_path), 0);
}

static void on_accepted(struct ferry_listener *from, struct ferry_transport *transport,
                        void *context)
{
	(void)from, (void)context;
	accepted = transport;
}

static void open_listener(void)
{
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, socket_path, NULL, on_accepted, NULL),
	                 0);
}

static void free_listener(void)
{
	take_base();
	ferry_listener_free(listener);
}

TEST(a_child_that_frees_a_listener_removes_its_socket_file)
{
	open_listener();
	in_child(free_listener);
	ck_assert(!path_exists(socket_path));
	ferry_listener_free(listener);
}

static struct ferry_socket_set *set;

static void free_socket_set(void)
{
	ferry_socket_set_free(set);
}

TEST(a_child_that_frees_a_socket_set_removes_the_files_that_the_set_owns)
{
	ck_assert_int_eq(ferry_socket_set_new(&set), 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "name", listen_unix(socket_path), FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_own_path(set, "name"), 0);
	in_child(free_socket_set);
	ck_assert(!path_exists(socket_path));
	ferry_socket_set_free(set);
}

static void close_listener_copy(void)
{
	close(ferry_listener_get_fd(listener));
}

static bool is_accepted(void *argument)
{
	(void)argument;
	return accepted != NULL;
}

TEST(a_child_may_close_its_copy_of_a_listening_socket)
{
	open_listener();
	in_child(close_listener_copy);
	ck_assert(path_exists(socket_path));
	int client = connect_to(ferry_listener_get_fd(listener));
	ck_assert_int_ge(client, 0);
	pump_until(is_accepted, NULL);
	ferry_transport_free(accepted);
	ferry_listener_free(listener);
	close(client);
	pump_turns(3);
}

static bool is_close_on_exec(int fd)
{
	return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

TEST(what_ferry_opens_or_receives_is_close_on_exec)
{
	int fd = STDERR_FILENO;

	open_listener();
	ck_assert(is_close_on_exec(ferry_listener_get_fd(listener)));
	int client = connect_to(ferry_listener_get_fd(listener));
	ck_assert_int_ge(client, 0);
	pump_until(is_accepted, NULL);
	struct bufferevent *bev = ferry_transport_get_bufferevent(accepted);
	ck_assert(is_close_on_exec((int)bufferevent_getfd(bev)));
	recorder_attach(&near, accepted, &recorder_protocol);
	ck_assert_int_eq(wire_send(client, "x", 1, &fd, 1), 1);
	pump_until_fds(&near, 1);
	ck_assert(is_close_on_exec(near.fds[0]));
	recorder_close(&near);
	ferry_listener_free(listener);
	close(client);
	pump_turns(3);
}

LOOP_TEST(the_flag_of_the_programs_own_socket_stays_as_it_is, 2)
{
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(fcntl(ends[0], F_SETFD, _i == 0 ? 0 : FD_CLOEXEC), 0);
	struct ferry_transport *transport = make_transport(ends[0]);
	ck_assert_int_eq(is_close_on_exec(ends[0]), _i);
	ferry_transport_free(transport);
	pump_turns(3);
	close(ends[1]);
}

TEST_CASE("dispatchers");

static struct ferry_dispatcher *dispatcher;

static void free_dispatcher(void)
{
	take_base();
	ferry_dispatcher_free(dispatcher);
}

TEST(a_child_that_frees_a_dispatcher_ends_the_channels_of_its_workers)
{
	int ends[2];
	char buffer[1024];

	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(ferry_dispatcher_new(&dispatcher, base, NULL, NULL), 0);
	ck_assert_int_eq(ferry_dispatcher_add_worker(NULL, dispatcher, make_transport(ends[0]), "one"),
	                 0);
	pump_turns(2);
	(void)!read(ends[1], buffer, sizeof(buffer));
	in_child(free_dispatcher);
	ck_assert_int_eq(read(ends[1], buffer, sizeof(buffer)), 0);
	ferry_dispatcher_free(dispatcher);
	pump_turns(3);
	close(ends[1]);
}
