/* Every descriptor that arrives is handed over, kept or closed, and loss is never silent. Linked with
 * the library's objects so that a test can put its own control messages in recvmsg(2)'s place. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SO_PASSSEC
#define SO_PASSSEC 34
#endif

/* ---- recvmsg(2) in the test's hand ---- */

static int scripted_fd = -1;
static ssize_t (*script)(struct msghdr *message); /* for the next read of scripted_fd */

ssize_t __real_recvmsg(int fd, struct msghdr *message, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags);

ssize_t __wrap_recvmsg(int fd, struct msghdr *message, int flags)
{
	ssize_t (*play)(struct msghdr *) = script;
	if (play == NULL || fd != scripted_fd)
		return __real_recvmsg(fd, message, flags);
	script = NULL;
	return play(message);
}

/* ---- arrangement ---- */

static int ends[2];
static struct recorder receiver;

static const struct ferry_protocol no_fd_callback = {
    .connection_made = recorder_connection_made,
    .data_received = recorder_data_received,
    .file_descriptors_lost = recorder_fds_lost,
    .connection_lost = recorder_connection_lost,
};

static const struct ferry_protocol no_lost_callback = {
    .connection_made = recorder_connection_made,
    .data_received = recorder_data_received,
    .file_descriptor_received = recorder_fd_received,
    .connection_lost = recorder_connection_lost,
};

static void open_receiver(const struct ferry_protocol *protocol)
{
	make_pair(PAIR_UNIX, ends);
	recorder_open(&receiver, ends[1], protocol);
	pump_turns(2);
}

static void close_receiver(void)
{
	recorder_close(&receiver);
	if (ends[0] >= 0)
		close(ends[0]);
}

/* Sends marked descriptors first, first + 1, … with the text. */
static void send_marked(const char *text, uint32_t first, size_t count)
{
	int fds[WIRE_MAX_FDS];
	for (size_t i = 0; i < count; i++)
		fds[i] = make_marked_fd(first + (uint32_t)i);
	ck_assert_int_eq(wire_send(ends[0], text, strlen(text), fds, count), (ssize_t)strlen(text));
	for (size_t i = 0; i < count; i++)
		close(fds[i]);
}

static void check_received(uint32_t first, unsigned int count)
{
	ck_assert_uint_eq(receiver.fd_count, count);
	for (unsigned int i = 0; i < count; i++)
		ck_assert_uint_eq(marked_number(receiver.fds[i]), first + i);
}

static void check_text(const char *text)
{
	ck_assert_uint_eq(recorder_length(&receiver), strlen(text));
	if (*text != '\0')
		ck_assert_mem_eq(evbuffer_pullup(receiver.received, -1), text, strlen(text));
}

/* ---- delivery ---- */

TEST_CASE("delivery");

TEST(a_descriptor_comes_before_the_bytes_it_came_with)
{
	open_receiver(&recorder_protocol);
	send_marked("first", 0, 1);
	send_marked("second", 1, 2);

	pump_until_length(&receiver, strlen("firstsecond"));

	check_received(0, 3);
	check_text("firstsecond");
	ck_assert_uint_eq(receiver.fd_at[0], 0);
	ck_assert_uint_le(receiver.fd_at[1], strlen("first"));
	ck_assert_uint_le(receiver.fd_at[2], strlen("first"));
	ck_assert_uint_eq(stats_of(receiver.transport).fds_received, 3);
	close_receiver();
}

TEST(received_descriptors_are_close_on_exec)
{
	open_receiver(&recorder_protocol);
	send_marked("x", 0, 5);

	pump_until_length(&receiver, 1);

	check_received(0, 5);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(fcntl(receiver.fds[i], F_GETFD), FD_CLOEXEC);
	close_receiver();
}

TEST(a_message_of_253_descriptors_arrives_whole)
{
	open_receiver(&recorder_protocol);
	int one = 1;
	/* With all that can stand beside them in the control buffer. */
	ck_assert_int_eq(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)), 0);
	(void)setsockopt(ends[1], SOL_SOCKET, SO_PASSPIDFD, &one, sizeof(one));
	(void)setsockopt(ends[1], SOL_SOCKET, SO_PASSSEC, &one, sizeof(one));
	send_marked("x", 0, WIRE_MAX_FDS);

	pump_until_length(&receiver, 1);

	check_received(0, WIRE_MAX_FDS);
	ck_assert_uint_eq(receiver.fds_lost, 0);
	close_receiver();
}

TEST(descriptors_on_single_bytes_keep_their_order)
{
	open_receiver(&recorder_protocol);
	for (uint32_t i = 0; i < 50; i++)
		send_marked("x", i, 1);

	pump_until_length(&receiver, 50);

	check_received(0, 50);
	for (unsigned int i = 0; i < 50; i++)
		ck_assert_uint_le(receiver.fd_at[i], i);
	close_receiver();
}

TEST(a_long_text_after_a_descriptor_may_come_in_pieces)
{
	/* Twisted's documentation example puts the descriptor on the first byte of a line. */
	open_receiver(&recorder_protocol);
	send_marked("/", 0, 1);
	pump_until_length(&receiver, 1);
	check_received(0, 1);

	wire_send(ends[0], "etc/motd\r\n", 10, NULL, 0);
	pump_until_length(&receiver, 11);

	check_text("/etc/motd\r\n");
	close_receiver();
}

TEST(what_came_before_the_transport_was_made_is_delivered)
{
	make_pair(PAIR_UNIX, ends);
	send_marked("early", 0, 2);
	recorder_open(&receiver, ends[1], &recorder_protocol);

	pump_until_length(&receiver, strlen("early"));

	ck_assert_str_eq(receiver.events, "MFFD");
	check_received(0, 2);
	close_receiver();
}

TEST(descriptors_and_bytes_are_delivered_before_the_end)
{
	open_receiver(&recorder_no_half_close);
	send_marked("last", 0, 3);
	close(ends[0]);
	ends[0] = -1;

	pump_until_lost(&receiver);

	ck_assert_str_eq(receiver.events, "MFFFDX");
	ck_assert_int_eq(receiver.reason, 0);
	check_received(0, 3);
	check_text("last");
	close_receiver();
}

TEST(descriptors_and_bytes_are_delivered_before_a_reset)
{
	open_receiver(&recorder_no_half_close);
	ck_assert_int_eq(ferry_transport_write(receiver.transport, "never read", 10), 0);
	pump_turns(3);
	send_marked("last", 0, 3);
	close(ends[0]);
	ends[0] = -1;

	pump_until_lost(&receiver);

	ck_assert_str_eq(receiver.events, "MFFFDX");
	ck_assert_int_eq(receiver.reason, -ECONNRESET);
	check_received(0, 3);
	check_text("last");
	close_receiver();
}

TEST(descriptors_and_bytes_are_delivered_when_writing_finds_the_peer_gone)
{
	open_receiver(&recorder_no_half_close);
	send_marked("one", 0, 1);
	send_marked("two", 1, 1);
	send_marked("three", 2, 1);
	close(ends[0]);
	ends[0] = -1;
	ck_assert_int_eq(ferry_transport_write(receiver.transport, "into the void", 13), 0);

	pump_until_lost(&receiver);

	check_received(0, 3);
	check_text("onetwothree");
	ck_assert_int_eq(receiver.reason, -EPIPE);
	close_receiver();
}

/* ---- nobody takes them ---- */

TEST_CASE("nobody takes them");

TEST(without_a_callback_descriptors_are_closed_and_counted_and_bytes_delivered)
{
	open_receiver(&no_fd_callback);
	send_marked("bytes", 0, 10);

	pump_until_length(&receiver, 5);

	check_text("bytes");
	ck_assert_str_eq(receiver.events, "MD");
	ck_assert_uint_eq(stats_of(receiver.transport).fds_unclaimed, 10);
	ck_assert_uint_eq(stats_of(receiver.transport).fds_received, 10);
	close_receiver();
}

TEST(a_bufferevent_without_a_descriptor_callback_closes_and_counts_them)
{
	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *transport = make_transport(ends[1]);
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	bufferevent_enable(bev, EV_READ);
	send_marked("bytes", 0, 10);

	pump_turns(3);

	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(bev)), 5);
	ck_assert_uint_eq(stats_of(transport).fds_unclaimed, 10);
	ferry_transport_free(transport);
	close(ends[0]);
}

static unsigned int cb_fds, cb_reads, fds_at_read;

static void take_and_close(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport;
	ck_assert_ptr_eq(context, &cb_fds);
	ck_assert_uint_eq(marked_number(fd), cb_fds);
	close(fd);
	cb_fds++;
}

static void note_read(struct bufferevent *bev, void *context)
{
	(void)bev, (void)context;
	cb_reads++;
	fds_at_read = cb_fds;
}

/* _i: bufferevent options. */
LOOP_TEST(a_bufferevents_descriptor_callback_runs_before_its_read_callback, 2)
{
	make_pair(PAIR_UNIX, ends);
	int options = BEV_OPT_CLOSE_ON_FREE | (_i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	struct bufferevent *bev = bufferevent_socket_new(base, ends[1], options);
	struct ferry_transport *transport;
	bufferevent_setcb(bev, note_read, NULL, NULL, NULL);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_transport_set_fd_cb(transport, take_and_close, &cb_fds), 0);
	send_marked("x", 0, 7);

	pump_until_count(&cb_reads, 1);

	ck_assert_uint_eq(fds_at_read, 7);
	ck_assert_uint_eq(stats_of(transport).fds_unclaimed, 0);
	ferry_transport_free(transport);
	close(ends[0]);
}

/* ---- loss ---- */

TEST_CASE("loss");

/* _i: how many of five find a number. */
LOOP_TEST(at_the_descriptor_limit_the_loss_is_told_after_those_that_arrived, 5)
{
	open_receiver(&recorder_protocol);
	send_marked("bytes", 0, 5);

	limit_descriptors((unsigned int)_i);
	pump_turns(5);
	unlimit_descriptors();

	ck_assert_uint_eq(receiver.fds_lost, 1);
	check_received(0, (unsigned int)_i);
	check_text("bytes");
	char expected[] = "MFFFFFLD";
	memmove(expected + 1 + _i, expected + 6, sizeof(expected) - 6);
	ck_assert_str_eq(receiver.events, expected);
	ck_assert_uint_eq(stats_of(receiver.transport).fds_lost, 1);

	/* The connection lives. */
	send_marked("more", 5, 1);
	pump_until_length(&receiver, strlen("bytesmore"));
	ck_assert_uint_eq(receiver.fd_count, (unsigned int)_i + 1);
	ck_assert_uint_eq(marked_number(receiver.fds[_i]), 5);
	ck_assert_uint_eq(receiver.lost, 0);
	close_receiver();
}

TEST(each_loss_is_told)
{
	open_receiver(&recorder_protocol);
	send_marked("a", 0, 1);
	send_marked("b", 1, 1);
	send_marked("c", 2, 1);

	limit_descriptors(0);
	pump_until_length(&receiver, 3);
	unlimit_descriptors();

	ck_assert_uint_eq(receiver.fds_lost, 3);
	ck_assert_uint_eq(receiver.fd_count, 0);
	ck_assert_uint_eq(stats_of(receiver.transport).fds_lost, 3);
	close_receiver();
}

LOOP_TEST(without_a_loss_callback_the_connection_is_lost_with_emsgsize, 5)
{
	open_receiver(&no_lost_callback);
	send_marked("bytes", 0, 5);

	limit_descriptors((unsigned int)_i);
	pump_until_lost(&receiver);
	unlimit_descriptors();

	ck_assert_int_eq(receiver.reason, -EMSGSIZE);
	check_received(0, (unsigned int)_i);
	ck_assert_uint_eq(stats_of(receiver.transport).fds_lost, 1);
	/* The peer sees it. */
	char byte;
	ck_assert_int_eq(recv(ends[0], &byte, 1, MSG_DONTWAIT), 0);
	close_receiver();
}

TEST(without_any_descriptor_callback_loss_is_not_silent_either)
{
	static const struct ferry_protocol neither = {
	    .connection_made = recorder_connection_made,
	    .data_received = recorder_data_received,
	    .connection_lost = recorder_connection_lost,
	};
	open_receiver(&neither);
	send_marked("bytes", 0, 5);

	limit_descriptors(2);
	pump_until_lost(&receiver);
	unlimit_descriptors();

	ck_assert_int_eq(receiver.reason, -EMSGSIZE);
	close_receiver();
}

static unsigned int cb_events, cb_losses;
static short cb_what;
static int cb_errno;

static void note_event(struct bufferevent *bev, short what, void *context)
{
	cb_errno = EVUTIL_SOCKET_ERROR();
	(void)bev, (void)context;
	cb_what = what;
	cb_events++;
}

static void note_loss(struct ferry_transport *transport, void *context)
{
	(void)transport;
	ck_assert_ptr_eq(context, &cb_losses);
	cb_losses++;
}

TEST(a_bufferevent_gets_an_error_event_with_emsgsize)
{
	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *transport = make_transport(ends[1]);
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	bufferevent_setcb(bev, note_read, NULL, note_event, NULL);
	bufferevent_enable(bev, EV_READ);
	ferry_transport_set_fd_cb(transport, take_and_close, &cb_fds);
	send_marked("bytes", 0, 5);

	limit_descriptors(1);
	pump_until_count(&cb_events, 1);
	unlimit_descriptors();
	pump_turns(5);

	ck_assert_uint_eq(cb_events, 1);
	ck_assert_int_eq(cb_what, BEV_EVENT_ERROR | BEV_EVENT_READING);
	ck_assert_int_eq(cb_errno, EMSGSIZE);
	ck_assert_uint_ge(cb_fds, 1);
	char byte;
	ck_assert_int_eq(recv(ends[0], &byte, 1, MSG_DONTWAIT), 0);
	ferry_transport_free(transport);
	close(ends[0]);
}

TEST(a_bufferevents_loss_callback_keeps_the_connection)
{
	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *transport = make_transport(ends[1]);
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	bufferevent_setcb(bev, note_read, NULL, note_event, NULL);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(ferry_transport_set_fds_lost_cb(transport, note_loss, &cb_losses), 0);
	send_marked("bytes", 0, 5);

	limit_descriptors(1);
	pump_until_count(&cb_losses, 1);
	unlimit_descriptors();
	pump_turns(5);

	ck_assert_uint_eq(cb_losses, 1);
	ck_assert_uint_eq(cb_events, 0);
	ck_assert_uint_eq(cb_reads, 1);
	ferry_transport_free(transport);
	close(ends[0]);
}

/* ---- callbacks that end it ---- */

static unsigned int hook_at; /* descriptors before the hook acts */

static void free_in_hook(struct recorder *recorder, char event)
{
	if (event == EVENT_FD && recorder->fd_count == hook_at)
		recorder_free_transport(recorder);
}

static void abort_in_hook(struct recorder *recorder, char event)
{
	if (event == EVENT_FD && recorder->fd_count == hook_at)
		ck_assert_int_eq(ferry_transport_abort_connection(recorder->transport), 0);
}

static void lose_in_hook(struct recorder *recorder, char event)
{
	if (event == EVENT_FD && recorder->fd_count == hook_at)
		ck_assert_int_eq(ferry_transport_lose_connection(recorder->transport), 0);
}

TEST_CASE("callbacks that end it");

/* _i: after which of six descriptors. */
LOOP_TEST_FROM(freeing_in_the_callback_closes_the_rest_of_the_read, 1, 7)
{
	open_receiver(&recorder_protocol);
	hook_at = (unsigned int)_i;
	receiver.hook = free_in_hook;
	send_marked("bytes", 0, 6);
	send_marked("and more", 6, 6);
	int open_before = count_open_fds();

	pump_turns(5);

	check_received(0, hook_at);
	ck_assert_ptr_null(receiver.transport);
	/* The socket is gone, the descriptors of the test are there. */
	ck_assert_int_eq(count_open_fds(), open_before - 1 + _i);
	ck_assert_uint_eq(receiver.data, 0);
	close_receiver();
}

LOOP_TEST_FROM(aborting_in_the_callback_closes_the_rest_of_the_read, 1, 7)
{
	open_receiver(&recorder_protocol);
	hook_at = (unsigned int)_i;
	receiver.hook = abort_in_hook;
	send_marked("bytes", 0, 6);

	pump_until_lost(&receiver);

	check_received(0, hook_at);
	ck_assert_int_eq(receiver.reason, -ECONNABORTED);
	ck_assert_uint_eq(receiver.data, 0);
	ck_assert_uint_eq(stats_of(receiver.transport).fds_unclaimed, 6 - hook_at);
	close_receiver();
}

LOOP_TEST_FROM(closing_in_the_callback_closes_the_rest_of_the_read, 1, 7)
{
	open_receiver(&recorder_protocol);
	hook_at = (unsigned int)_i;
	receiver.hook = lose_in_hook;
	send_marked("bytes", 0, 6);

	pump_until_lost(&receiver);

	check_received(0, hook_at);
	ck_assert_int_eq(receiver.reason, 0);
	ck_assert_uint_eq(receiver.data, 0);
	ck_assert_uint_eq(stats_of(receiver.transport).fds_unclaimed, 6 - hook_at);
	close_receiver();
}

static void free_at_loss(struct recorder *recorder, char event)
{
	if (event == EVENT_FDS_LOST)
		recorder_free_transport(recorder);
}

TEST(freeing_when_told_of_a_loss_is_fine)
{
	open_receiver(&recorder_protocol);
	receiver.hook = free_at_loss;
	send_marked("bytes", 0, 5);

	limit_descriptors(2);
	pump_turns(5);
	unlimit_descriptors();

	ck_assert_uint_eq(receiver.fds_lost, 1);
	ck_assert_uint_eq(receiver.data, 0);
	check_received(0, 2);
	close_receiver();
}

static void free_transport(struct ferry_transport *transport, int fd, void *context)
{
	(void)context;
	cb_fds++;
	close(fd);
	ferry_transport_free(transport);
}

TEST(a_bufferevents_descriptor_callback_may_free_too)
{
	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *transport = make_transport(ends[1]);
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	bufferevent_setcb(bev, note_read, NULL, note_event, NULL);
	bufferevent_enable(bev, EV_READ);
	ferry_transport_set_fd_cb(transport, free_transport, NULL);
	send_marked("bytes", 0, 6);

	pump_turns(5);

	ck_assert_uint_eq(cb_fds, 1);
	ck_assert_uint_eq(cb_reads, 0);
	ck_assert_uint_eq(cb_events, 0);
	close(ends[0]);
}

/* ---- callbacks that change things ---- */

static void pause_at_first(struct recorder *recorder, char event)
{
	if (event == EVENT_FD && recorder->fd_count == 1)
		ck_assert_int_eq(ferry_transport_pause_reading(recorder->transport), 0);
}

TEST_CASE("callbacks that change things");

TEST(pausing_in_the_callback_holds_the_rest_back_and_loses_none)
{
	open_receiver(&recorder_protocol);
	receiver.hook = pause_at_first;
	send_marked("bytes", 0, 6);

	pump_turns(5);
	check_received(0, 1);
	ck_assert_uint_eq(receiver.data, 0);
	ck_assert_int_eq(ferry_transport_resume_reading(receiver.transport), 0);
	pump_until_length(&receiver, 5);

	check_received(0, 6);
	ck_assert_str_eq(receiver.events, "MFFFFFFD");
	close_receiver();
}

TEST(freeing_while_descriptors_are_held_back_closes_them)
{
	open_receiver(&recorder_protocol);
	receiver.hook = pause_at_first;
	send_marked("bytes", 0, 6);
	pump_turns(5);

	/* The fixture counts. */
	close_receiver();
}

static void pause_then_resume(struct recorder *recorder, char event)
{
	if (event != EVENT_FD)
		return;
	recorder->quiet = true;
	ck_assert_int_eq(ferry_transport_pause_reading(recorder->transport), 0);
	ck_assert_int_eq(ferry_transport_resume_reading(recorder->transport), 0);
	recorder->quiet = false;
}

TEST(pausing_and_resuming_in_the_callback_changes_nothing)
{
	open_receiver(&recorder_protocol);
	receiver.hook = pause_then_resume;
	send_marked("bytes", 0, 6);

	pump_until_length(&receiver, 5);

	check_received(0, 6);
	check_text("bytes");
	close_receiver();
}

static struct recorder successor;

static void hand_over_at_first(struct recorder *recorder, char event)
{
	if (event != EVENT_FD || recorder->fd_count != 1)
		return;
	struct ferry_transport *transport = recorder->transport;
	recorder->transport = NULL; /* no callback of the old protocol any more */
	recorder_attach(&successor, transport, &recorder_protocol);
}

TEST(a_protocol_set_in_the_callback_gets_the_rest_after_connection_made)
{
	open_receiver(&recorder_protocol);
	receiver.hook = hand_over_at_first;
	send_marked("bytes", 0, 6);

	pump_turns(5);

	check_received(0, 1);
	ck_assert_str_eq(successor.events, "MFFFFFD");
	ck_assert_uint_eq(successor.fd_count, 5);
	for (uint32_t i = 0; i < 5; i++)
		ck_assert_uint_eq(marked_number(successor.fds[i]), 1 + i);
	recorder_close(&successor);
	close_receiver();
}

TEST(a_paused_transport_delivers_nothing_until_resumed)
{
	open_receiver(&recorder_protocol);
	ck_assert_int_eq(ferry_transport_pause_reading(receiver.transport), 0);
	ck_assert_int_eq(ferry_transport_pause_reading(receiver.transport), 0);
	send_marked("bytes", 0, 2);
	pump_turns(5);
	ck_assert_str_eq(receiver.events, "M");

	receiver.quiet = true;
	ck_assert_int_eq(ferry_transport_resume_reading(receiver.transport), 0);
	receiver.quiet = false;
	pump_until_length(&receiver, 5);

	ck_assert_str_eq(receiver.events, "MFFD");
	close_receiver();
}

static size_t offered[8];
static unsigned int offers;

static void leave_bytes(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport, (void)context;
	ck_assert_uint_lt(offers, 8);
	offered[offers++] = evbuffer_get_length(input);
}

TEST(bytes_left_in_the_input_are_offered_again)
{
	static const struct ferry_protocol lazy = {.data_received = leave_bytes};
	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *transport = make_transport(ends[1]);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &lazy, NULL), 0);

	wire_send(ends[0], "abc", 3, NULL, 0);
	pump_turns(5);
	ck_assert_uint_eq(offers, 1);
	ck_assert_uint_eq(offered[0], 3);

	wire_send(ends[0], "de", 2, NULL, 0);
	pump_turns(5);
	ck_assert_uint_eq(offers, 2);
	ck_assert_uint_eq(offered[1], 5);

	ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
	ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	ck_assert_uint_eq(offers, 2);
	pump_turns(5);
	ck_assert_uint_eq(offers, 3);
	ck_assert_uint_eq(offered[2], 5);

	/* Not when it was not paused: a callback that resumes to be sure would be called for ever. */
	ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	pump_turns(5);
	ck_assert_uint_eq(offers, 3);
	ferry_transport_free(transport);
	close(ends[0]);
}

/* ---- other control messages ---- */

TEST_CASE("control messages");

TEST(credentials_and_pidfds_do_no_harm_and_leak_nothing)
{
	open_receiver(&recorder_protocol);
	int one = 1;
	ck_assert_int_eq(setsockopt(ends[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)), 0);
	bool pidfds = setsockopt(ends[1], SOL_SOCKET, SO_PASSPIDFD, &one, sizeof(one)) == 0;
	(void)setsockopt(ends[1], SOL_SOCKET, SO_PASSSEC, &one, sizeof(one));
	int open_before = count_open_fds();

	send_marked("with", 0, 3);
	pump_until_length(&receiver, 4);
	wire_send(ends[0], "without", 7, NULL, 0);
	pump_until_length(&receiver, 11);

	check_received(0, 3);
	ck_assert_int_eq(count_open_fds(), open_before + 3);
	ck_assert_uint_ge(stats_of(receiver.transport).controls_ignored, pidfds ? 4 : 2);
	ck_assert_uint_eq(receiver.fds_lost, 0);
	close_receiver();
}

TEST(a_pidfd_without_room_for_it_is_no_loss_of_descriptors_and_no_harm)
{
	open_receiver(&recorder_protocol);
	int one = 1;
	(void)setsockopt(ends[1], SOL_SOCKET, SO_PASSPIDFD, &one, sizeof(one));
	wire_send(ends[0], "bytes", 5, NULL, 0);

	limit_descriptors(0);
	pump_turns(5);
	unlimit_descriptors();

	ck_assert_uint_eq(receiver.lost, 0);
	check_text("bytes");
	close_receiver();
}

/* ---- what no kernel of today sends ---- */

/* Puts one control message at `at`; the offset after it. */
static size_t put_control(struct msghdr *message, size_t at, int level, int type, size_t length,
                          const int *fds, size_t count)
{
	struct cmsghdr header = {.cmsg_len = length, .cmsg_level = level, .cmsg_type = type};
	char *control = message->msg_control;
	ck_assert_uint_le(at + CMSG_SPACE(count * sizeof(int)), message->msg_controllen);
	memcpy(control + at, &header, sizeof(header));
	if (count > 0)
		memcpy(control + at + CMSG_LEN(0), fds, count * sizeof(int));
	return at + CMSG_SPACE(count * sizeof(int));
}

static ssize_t finish_script(struct msghdr *message, size_t control_length)
{
	message->msg_controllen = control_length;
	message->msg_flags = MSG_CMSG_CLOEXEC;
	ck_assert_uint_gt(message->msg_iovlen, 0);
	ck_assert_uint_gt(message->msg_iov[0].iov_len, 0);
	memcpy(message->msg_iov[0].iov_base, "x", 1);
	return 1;
}

static ssize_t two_blocks(struct msghdr *message)
{
	int first[2] = {make_marked_fd(0), make_marked_fd(1)}, second[1] = {make_marked_fd(2)};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(first)), first, 2);
	at = put_control(message, at, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(second)), second, 1);
	return finish_script(message, at);
}

static ssize_t unknown_between(struct msghdr *message)
{
	int first[1] = {make_marked_fd(0)}, second[2] = {make_marked_fd(1), make_marked_fd(2)};
	int noise[2] = {STDIN_FILENO, STDOUT_FILENO};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(first)), first, 1);
	at = put_control(message, at, SOL_SOCKET, 0x7777, CMSG_LEN(sizeof(noise)), noise, 2);
	/* The type of SCM_RIGHTS at another level. */
	at = put_control(message, at, IPPROTO_IP, SCM_RIGHTS, CMSG_LEN(sizeof(noise)), noise, 2);
	at = put_control(message, at, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(second)), second, 2);
	return finish_script(message, at);
}

static ssize_t empty_block_first(struct msghdr *message)
{
	int fds[3] = {make_marked_fd(0), make_marked_fd(1), make_marked_fd(2)};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(0), NULL, 0);
	at = put_control(message, at, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(fds)), fds, 3);
	return finish_script(message, at);
}

static ssize_t half_a_number_at_the_end(struct msghdr *message)
{
	int fds[4] = {make_marked_fd(0), make_marked_fd(1), make_marked_fd(2), -1};
	size_t at =
	    put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(3 * sizeof(int)) + 2, fds, 4);
	return finish_script(message, at);
}

static ssize_t no_length_at_the_end(struct msghdr *message)
{
	int fds[3] = {make_marked_fd(0), make_marked_fd(1), make_marked_fd(2)};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(fds)), fds, 3);
	at = put_control(message, at, SOL_SOCKET, SCM_RIGHTS, 0, NULL, 0);
	return finish_script(message, at);
}

static ssize_t too_short_at_the_end(struct msghdr *message)
{
	int fds[3] = {make_marked_fd(0), make_marked_fd(1), make_marked_fd(2)};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(fds)), fds, 3);
	at = put_control(message, at, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(0) - 4, NULL, 0);
	return finish_script(message, at);
}

static ssize_t trailing_garbage(struct msghdr *message)
{
	int fds[3] = {make_marked_fd(0), make_marked_fd(1), make_marked_fd(2)};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(sizeof(fds)), fds, 3);
	memset((char *)message->msg_control + at, 0xff, 7);
	return finish_script(message, at + 7);
}

static ssize_t (*const three_descriptors[])(struct msghdr *) = {
    two_blocks,           unknown_between,      empty_block_first, half_a_number_at_the_end,
    no_length_at_the_end, too_short_at_the_end, trailing_garbage,
};
enum { THREE_DESCRIPTORS = sizeof(three_descriptors) / sizeof(three_descriptors[0]) };

static void play(ssize_t (*what)(struct msghdr *message))
{
	scripted_fd = ends[1];
	script = what;
	/* Wakes the transport; the byte itself is read later. */
	ck_assert_int_eq(wire_send(ends[0], "y", 1, NULL, 0), 1);
	pump_until_length(&receiver, 2);
	ck_assert(script == NULL);
	check_text("xy");
}

LOOP_TEST(all_descriptors_of_an_odd_control_buffer_are_delivered, THREE_DESCRIPTORS)
{
	open_receiver(&recorder_protocol);

	play(three_descriptors[_i]);

	check_received(0, 3);
	ck_assert_uint_eq(receiver.fds_lost, 0);
	close_receiver();
}

LOOP_TEST(all_descriptors_of_an_odd_control_buffer_are_closed_without_a_callback, THREE_DESCRIPTORS)
{
	open_receiver(&no_fd_callback);

	play(three_descriptors[_i]);

	ck_assert_uint_eq(stats_of(receiver.transport).fds_unclaimed, 3);
	close_receiver();
}

static ssize_t longer_than_the_buffer(struct msghdr *message)
{
	int fds[2] = {make_marked_fd(0), make_marked_fd(1)};
	size_t at =
	    put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, CMSG_LEN(100 * sizeof(int)), fds, 2);
	return finish_script(message, at);
}

static ssize_t absurdly_long(struct msghdr *message)
{
	int fds[2] = {make_marked_fd(0), make_marked_fd(1)};
	size_t at = put_control(message, 0, SOL_SOCKET, SCM_RIGHTS, SIZE_MAX, fds, 2);
	return finish_script(message, at);
}

static ssize_t (*const too_long[])(struct msghdr *) = {longer_than_the_buffer, absurdly_long};

LOOP_TEST(a_length_beyond_the_control_buffer_is_not_followed, 2)
{
	/* What is inside the buffer may be delivered or closed; what is outside is not touched. */
	open_receiver(&recorder_protocol);

	play(too_long[_i]);

	ck_assert_uint_le(receiver.fd_count, 2);
	for (unsigned int i = 0; i < receiver.fd_count; i++)
		ck_assert_uint_eq(marked_number(receiver.fds[i]), i);
	if (receiver.fd_count == 0) {
		/* Nobody could know of them: the script's own, at the two lowest numbers. */
		for (int fd = 3; fd < 64; fd++) {
			uint32_t content[2];
			if (pread(fd, content, sizeof(content), 0) == sizeof(content) &&
			    content[0] == 0xfe44f11e)
				close(fd);
		}
	}
	close_receiver();
}

static ssize_t truncated_without_descriptors(struct msghdr *message)
{
	finish_script(message, 0);
	message->msg_flags |= MSG_CTRUNC;
	return 1;
}

TEST(a_truncation_that_left_no_descriptor_is_told)
{
	open_receiver(&recorder_protocol);

	play(truncated_without_descriptors);

	ck_assert_uint_eq(receiver.fds_lost, 1);
	ck_assert_uint_eq(receiver.fd_count, 0);
	close_receiver();
}

/* ---- arguments ---- */

TEST(null_is_refused)
{
	ck_assert_int_eq(ferry_transport_set_fd_cb(NULL, take_and_close, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_fds_lost_cb(NULL, note_loss, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_pause_reading(NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_resume_reading(NULL), -EINVAL);
}
