/* Channels and the heap: repeated polls do not let it grow, and every allocation fails once, in turn. */

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "heap.h"
#include "heap_sweep.h"
#include "listening.h"
#include "message_inbox.h"
#include "test.h"
#include "wire.h"

enum { POLLS = 10000, EVENTS = 16 };

static const struct timeval at_once = {0};
static struct ferry_channel_event events[EVENTS];

/* ---- growth ---- */

/* _i: 0 with bytes, 1 with lines. */
LOOP_TEST(ten_thousand_polls_take_no_memory, 2)
{
	struct ferry_poller *poller;
	struct ferry_channel *channel;
	int ends[2];

	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(ferry_poller_new(&poller), 0);
	ck_assert_int_eq(ferry_channel_new_socket(&channel, poller, ends[0]), 0);
	if (_i == 1)
		ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, 100), 0);
	ck_assert_int_eq(ferry_poller_register(poller, channel), 0);
	heap_watch(0);
	size_t bytes = 0;
	for (int i = 0; i < POLLS; i++) {
		char back[64];
		must(write(ends[1], "a line\nanother\n", 15) == 15);
		if (i % 10 == 0)
			must(wire_send(ends[1], "x\n", 2, &(int){STDERR_FILENO}, 1) == 2);
		int count = ferry_poller_poll(poller, &at_once, events, EVENTS);
		must(count >= 1);
		for (int j = 0; j < count; j++)
			if (events[j].length > 0)
				must(ferry_channel_write(channel, events[j].data, events[j].length) == 0);
		must(read(ends[1], back, sizeof(back)) > 0);
		must(ferry_poller_poll(poller, &at_once, events, EVENTS) == 0);
		if (i == POLLS / 10)
			bytes = heap_bytes();
	}
	size_t after = heap_bytes();
	heap_unwatch();
	printf("%zu bytes after a tenth of the polls, %zu after all\n", bytes, after);
	ck_assert_uint_le(after, bytes + 1024);
	ferry_poller_free(poller);
	close(ends[1]);
}

/* ---- failing allocations ---- */

static unsigned int failures;

static bool failed(int status)
{
	failures += status == -ENOMEM;
	return status < 0;
}

static int connect_to_server(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *name = own_abstract_name();
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	must(fd >= 0);
	memcpy(address.sun_path + 1, name + 1, strlen(name) - 1);
	must(connect(fd, (struct sockaddr *)&address,
	             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))) == 0);
	return fd;
}

struct heard {
	char lines[64]; /* the first bytes of all events */
	size_t length;
	unsigned int fds, lost, accepted, closed;
};

/* A poll that fails for want of memory loses nothing: the next one returns the events. */
static void hear(struct ferry_poller *poller, struct heard *heard)
{
	int count;

	for (int polls = 0; polls < 20; polls++) {
		do
			count = ferry_poller_poll(poller, &at_once, events, 3);
		while (failed(count) && count == -ENOMEM);
		for (int i = 0; i < count; i++) {
			const struct ferry_channel_event *event = &events[i];
			for (size_t j = 0; j < event->length; j++)
				if (heard->length < sizeof(heard->lines))
					heard->lines[heard->length++] = event->data[j];
			heard->fds += event->kind == FERRY_CHANNEL_FD;
			heard->lost += event->kind == FERRY_CHANNEL_FDS_LOST;
			heard->closed += event->kind == FERRY_CHANNEL_CLOSED;
			heard->accepted += event->kind == FERRY_CHANNEL_ACCEPTED;
		}
	}
}

/* Uses a pipe, a socket and a server. Whichever allocation fails, nothing crashes or leaks, and the events are
 * right. */
static void scenario(struct event_base *loop)
{
	(void)loop;
	static char large[20000];
	struct ferry_poller *poller;
	struct ferry_listener *listener;
	struct ferry_channel *server, *channel;
	struct heard heard = {0};
	int ends[2], pipes[2];

	if (failed(ferry_poller_new(&poller)))
		return;
	heap_suspend();
	make_pair(PAIR_UNIX, ends);
	make_pipe(pipes);
	heap_continue();

	if (failed(ferry_channel_new_pipes(&channel, poller, pipes[0], -1)))
		close(pipes[0]);
	else if (failed(ferry_poller_register(poller, channel)))
		ferry_channel_free(channel);
	close(pipes[1]);
	if (failed(ferry_channel_new_socket(&channel, poller, ends[0]))) {
		must(fd_is_open(ends[0]));
		close(ends[0]);
	} else {
		must(ferry_channel_set_lines(channel, "\n", 1, 20) == 0);
		int registered = ferry_poller_register(poller, channel);
		must(wire_send(ends[1], "one\ntwo\nth", 10, &(int){STDERR_FILENO}, 1) == 10);
		if (!failed(registered)) {
			hear(poller, &heard);
			if (heard.length < 6 || memcmp(heard.lines, "onetwo", 6) != 0 ||
			    heard.fds + heard.lost < 1) {
				/* The read had no memory: the transport has ended, and the channel has its last event. */
				must(heard.closed > 0);
			}
		}
		failed(ferry_channel_write(channel, large, sizeof(large)));
		failed(ferry_channel_send_fd(channel, STDERR_FILENO, FERRY_FD_DUP));
		failed(ferry_channel_write(channel, "x", 1));
		failed(ferry_channel_flush(channel, &at_once));
		if (registered < 0)
			ferry_channel_free(channel);
	}
	if (failed(ferry_listener_new_unix(&listener, ferry_poller_get_base(poller),
	                                   own_abstract_name(), NULL, NULL, NULL)))
		listener = NULL;
	else if (!failed(ferry_poller_add_server(&server, poller, ferry_listener_get_fd(listener)))) {
		int client = connect_to_server();
		ssize_t sent = send(client, large, sizeof(large), MSG_NOSIGNAL);
		must(sent == sizeof(large));
		hear(poller, &heard);
		close(client);
		hear(poller, &heard);
	}
	close(ends[1]);
	failed(ferry_poller_close_all(poller, &at_once));
	ferry_poller_free(poller);
	ferry_listener_free(listener);
}

static void judge(unsigned long failing)
{
	if (failing == 0)
		ck_assert_uint_eq(failures, 0);
}

TEST(every_allocation_fails_in_turn_and_nothing_is_lost)
{
	sweep_scenario(scenario, judge, 30);
	printf("%u refusals\n", failures);
	ck_assert_uint_gt(failures, 10);
}

/* ---- messages ---- */

static unsigned int message_count, message_fds;
static int message_end; /* the reason of FERRY_CHANNEL_CLOSED; 1: it did not come */
static bool messages_started;

static void hear_messages(struct ferry_poller *poller)
{
	for (int polls = 0; polls < 20; polls++)
		for (int i = ferry_poller_poll(poller, &at_once, events, 3); i-- > 0;)
			if (events[i].kind == FERRY_CHANNEL_CLOSED) {
				message_end = events[i].reason;
			} else if (events[i].kind == FERRY_CHANNEL_MESSAGE) {
				message_count++;
				message_fds += ferry_message_get_fd(events[i].message, 0) >= 0;
			}
}

/* Two messages, of which the second has a descriptor, and an answer. Without memory for one the channel ends. */
static void message_scenario(struct event_base *loop)
{
	static char payload[20000];
	unsigned char frames[2 * INBOX_HEADER + 10];
	struct ferry_poller *poller;
	struct ferry_channel *channel;
	int ends[2];
	(void)loop;

	message_count = message_fds = 0;
	message_end = 1;
	messages_started = false;
	if (failed(ferry_poller_new(&poller)))
		return;
	heap_suspend();
	make_pair(PAIR_UNIX, ends);
	size_t first = put_message_frame(frames, 1, 10, 0);
	put_message_frame(frames + first, 2, 0, 1);
	must(wire_send(ends[1], frames, first, NULL, 0) == (ssize_t)first);
	must(wire_send(ends[1], frames + first, INBOX_HEADER, &(int){STDERR_FILENO}, 1) ==
	     INBOX_HEADER);
	heap_continue();
	if (failed(ferry_channel_new_socket(&channel, poller, ends[0]))) {
		close(ends[0]);
	} else if (failed(ferry_channel_set_messages(channel, 20000, 1))) {
		must(ferry_channel_write(channel, "x", 1) != -EINVAL); /* still one of bytes */
		ferry_channel_free(channel);
	} else if (failed(ferry_poller_register(poller, channel))) {
		ferry_channel_free(channel);
	} else {
		messages_started = true;
		hear_messages(poller);
		failed(ferry_channel_send_message(channel, 1, payload, sizeof(payload),
		                                  &(int){STDERR_FILENO}, 1, FERRY_FD_DUP));
		hear_messages(poller);
	}
	close(ends[1]);
	ferry_poller_free(poller);
}

static void judge_messages(unsigned long failing)
{
	const bool complete = message_count == 2 && message_fds == 1;

	ck_assert_msg(complete || !messages_started || message_end < 0,
	              "allocation %lu: %u messages and no end", failing, message_count);
	if (failing == 0)
		ck_assert(complete);
}

TEST(without_memory_for_a_message_the_channel_ends)
{
	sweep_scenario(message_scenario, judge_messages, 10);
}

/* ---- servers ---- */

static struct ferry_poller *server_poller;
static struct ferry_listener *server_socket;

static void open_server(bool messages)
{
	struct ferry_channel *server;

	must(ferry_poller_new(&server_poller) == 0);
	must(ferry_listener_new_unix(&server_socket, ferry_poller_get_base(server_poller),
	                             own_abstract_name(), NULL, NULL, NULL) == 0);
	must(ferry_poller_add_server(&server, server_poller, ferry_listener_get_fd(server_socket)) ==
	     0);
	must(!messages || ferry_channel_set_messages(server, 100, 1) == 0);
	must(ferry_poller_poll(server_poller, &at_once, events, EVENTS) == 0);
}

static void close_server(void)
{
	ferry_poller_close_all(server_poller, &at_once);
	ferry_poller_free(server_poller);
	ferry_listener_free(server_socket);
}

static struct ferry_channel *added;

static void prepare_socket(void)
{
	must(ferry_poller_new(&server_poller) == 0);
	must(ferry_listener_new_unix(&server_socket, ferry_poller_get_base(server_poller),
	                             own_abstract_name(), NULL, NULL, NULL) == 0);
	added = NULL;
}

static int call_add_server(void)
{
	return ferry_poller_add_server(&added, server_poller, ferry_listener_get_fd(server_socket));
}

static void expect_no_server(void)
{
	ck_assert_ptr_null(added);
	ck_assert_int_eq(ferry_poller_poll(server_poller, &at_once, events, EVENTS), -ENOENT);
}

static void expect_server(void)
{
	int client = connect_to_server();

	ck_assert_int_eq(ferry_poller_poll(server_poller, &at_once, events, EVENTS), 1);
	ck_assert_ptr_eq(events[0].channel, added);
	ck_assert_int_eq(events[0].kind, FERRY_CHANNEL_ACCEPTED);
	close(client);
}

TEST(without_memory_no_server_is_added)
{
	static const struct swept_function add_server = {
	    "add_server", prepare_socket, call_add_server, expect_no_server, expect_server, 4, 0};

	sweep_function(&add_server, close_server);
}

/* Whether the server has the client's connection now; or has closed it, for want of memory. */
static bool is_accepted_or_closed(int client)
{
	char byte;

	for (int polls = 0; polls < 20; polls++)
		for (int i = ferry_poller_poll(server_poller, &at_once, events, EVENTS); i-- > 0;)
			if (events[i].kind == FERRY_CHANNEL_ACCEPTED)
				return true;
	return recv(client, &byte, 1, MSG_DONTWAIT) == 0;
}

/* _i: 1: of messages */
LOOP_TEST(a_poll_without_memory_for_a_channel_fails_and_the_next_returns_it, 2)
{
	unsigned long failing = 0, allocations;
	unsigned int polls_failed = 0;

	do {
		open_server(_i == 1);
		int client = connect_to_server();
		heap_watch(++failing);
		int count = ferry_poller_poll(server_poller, &at_once, events, EVENTS);
		allocations = heap_unwatch();
		bool now = count == 1 && events[0].kind == FERRY_CHANNEL_ACCEPTED;
		polls_failed += count == -ENOMEM;
		ck_assert(now || is_accepted_or_closed(client));
		close(client);
		close_server();
	} while (failing <= allocations);
	ck_assert_uint_gt(polls_failed, 0);
}

BEFORE_ALL
{
	heap_take_over();
}
