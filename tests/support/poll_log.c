#include "poll_log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test.h"
#include "wire.h"

enum { LOG_MAX = 1 << 16 };

const struct timeval at_once = {0};
const struct timeval soon = {.tv_usec = 20000};
const struct timeval deadline = {.tv_sec = 120};

struct ferry_poller *poller;
struct ferry_channel *channel;
struct ferry_listener *server_listener;
int peer;
struct ferry_channel_event events[EVENTS_MAX];
int event_count;

/* ---- events as a text ---- */

static char poll_log[LOG_MAX];
size_t poll_log_length;

static void log_text(const struct ferry_channel_event *event, char opening, char closing)
{
	ck_assert_uint_lt(poll_log_length + event->length + 2, LOG_MAX);
	poll_log[poll_log_length++] = opening;
	memcpy(poll_log + poll_log_length, event->data, event->length);
	poll_log_length += event->length;
	poll_log[poll_log_length++] = closing;
}

static void log_number(char letter, int number)
{
	poll_log_length += (size_t)snprintf(poll_log + poll_log_length, LOG_MAX - poll_log_length,
	                                    "%c%d", letter, number);
}

static void log_event(const struct ferry_channel_event *event)
{
	ck_assert_ptr_nonnull(event->channel);
	switch (event->kind) {
	case FERRY_CHANNEL_BYTES:
		ck_assert_uint_gt(event->length, 0);
		log_text(event, '{', '}');
		break;
	case FERRY_CHANNEL_LINE:
		log_text(event, event->incomplete ? '(' : '[', event->incomplete ? ')' : ']');
		break;
	case FERRY_CHANNEL_LINE_TOO_LONG:
		log_text(event, '<', '>');
		break;
	case FERRY_CHANNEL_FD:
		log_number('F', (int)marked_number(event->fd));
		break;
	case FERRY_CHANNEL_CLOSED:
		log_number('X', event->reason);
		break;
	default:
		poll_log[poll_log_length++] = "LAEW"[event->kind - FERRY_CHANNEL_FDS_LOST];
		break;
	}
}

int poll_for(int max, const struct timeval *timeout)
{
	event_count = ferry_poller_poll(poller, timeout, events, max);
	for (int i = 0; i < event_count; i++)
		log_event(&events[i]);
	return event_count;
}

int poll_now(void)
{
	return poll_for(EVENTS_MAX, &at_once);
}

void expect_events(const char *expected)
{
	poll_log[poll_log_length] = '\0';
	ck_assert_str_eq(poll_log, expected);
	poll_log_length = 0;
}

void poll_until_events(const char *expected)
{
	while (poll_log_length < strlen(expected))
		ck_assert_int_gt(poll_for(EVENTS_MAX, &deadline), 0);
	expect_events(expected);
}

/* ---- fixtures ---- */

void open_poller(void)
{
	ck_assert_int_eq(ferry_poller_new(&poller), 0);
	poll_log_length = 0;
	event_count = 0;
	channel = NULL;
	server_listener = NULL;
	peer = -1;
}

void close_peer(void)
{
	if (peer >= 0)
		close(peer);
	peer = -1;
}

void free_server_listener(void)
{
	ferry_listener_free(server_listener);
	server_listener = NULL;
}

void close_poller(void)
{
	ferry_poller_free(poller);
	free_server_listener();
	close_peer();
}

struct ferry_channel *add_channel(enum pair_kind kind, int *far_end)
{
	struct ferry_channel *made;
	int fds[2];

	make_pair(kind, fds);
	ck_assert_int_eq(ferry_channel_new_socket(&made, poller, fds[0]), 0);
	ck_assert_int_eq(ferry_poller_register(poller, made), 0);
	*far_end = fds[1];
	return made;
}

void open_channel(enum pair_kind kind)
{
	open_poller();
	channel = add_channel(kind, &peer);
}

void open_lines(void)
{
	open_channel(PAIR_UNIX);
	ck_assert_int_eq(ferry_channel_set_lines(channel, "\n", 1, 100), 0);
}

/* ---- the peer ---- */

void peer_put(const char *text)
{
	ck_assert_int_eq(write(peer, text, strlen(text)), (ssize_t)strlen(text));
}

void peer_put_fd(const char *text, uint32_t mark)
{
	int fd = make_marked_fd(mark);
	ck_assert_int_eq(wire_send(peer, text, strlen(text), &fd, 1), (ssize_t)strlen(text));
	close(fd);
}

void expect_sent(int from, const char *expected)
{
	char text[256];
	size_t length = 0;

	ck_assert_uint_lt(strlen(expected), sizeof(text));
	while (length < strlen(expected)) {
		ssize_t count = read(from, text + length, sizeof(text) - length);
		if (count < 0 && errno == EAGAIN)
			continue; /* TCP delivers later */
		ck_assert_int_gt(count, 0);
		length += (size_t)count;
	}
	ck_assert_uint_eq(length, strlen(expected));
	ck_assert_mem_eq(text, expected, length);
}

void expect_peer_end(void)
{
	char byte;
	ssize_t count;

	do
		count = read(peer, &byte, 1);
	while (count < 0 && errno == EAGAIN);
	ck_assert_int_eq(count, 0);
}

unsigned char *make_bytes(size_t length)
{
	unsigned char *bytes = malloc(length);
	ck_assert_ptr_nonnull(bytes);
	for (size_t i = 0; i < length; i++)
		bytes[i] = support_byte(i);
	return bytes;
}
