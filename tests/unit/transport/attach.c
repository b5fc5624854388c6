/* Attaching a transport to a bufferevent changes nothing that it need not, and a paused transport calls nothing. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

static int ends[2];
static struct bufferevent *bev;
static struct ferry_transport *transport;
static struct recorder recorder;

/* In the order of the callbacks: F descriptor, D read callback, C connected, E end. */
static char story[64];
static bool paused;

static void tell(char letter)
{
	size_t length = strlen(story);

	ck_assert_uint_lt(length, sizeof(story) - 1);
	story[length] = letter;
}

static void on_readable(struct bufferevent *from, void *argument)
{
	struct evbuffer *input = bufferevent_get_input(from);

	(void)argument;
	ck_assert(!paused);
	ck_assert_uint_gt(evbuffer_get_length(input), 0);
	tell('D');
	evbuffer_drain(input, evbuffer_get_length(input));
}

static void on_event(struct bufferevent *from, short what, void *argument)
{
	(void)from, (void)argument;
	if ((what & BEV_EVENT_CONNECTED) != 0)
		tell('C');
	if ((what & BEV_EVENT_EOF) != 0)
		tell('E');
}

static void open_bev(enum pair_kind kind, int options)
{
	make_pair(kind, ends);
	bev = bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE | options);
	ck_assert_ptr_nonnull(bev);
	bufferevent_setcb(bev, on_readable, NULL, on_event, NULL);
}

static void attach(void)
{
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
}

static void close_all(void)
{
	ferry_transport_free(transport);
	transport = NULL;
	pump_turns(3);
	close(ends[1]);
}

TEST_CASE("settings");

TEST(limits_of_one_read_and_write_that_the_user_has_set_stay)
{
	open_bev(PAIR_UNIX, 0);
	bufferevent_set_max_single_read(bev, 100);
	bufferevent_set_max_single_write(bev, 50);
	attach();
	ck_assert_int_eq(bufferevent_get_max_single_read(bev), 100);
	ck_assert_int_eq(bufferevent_get_max_single_write(bev), 50);
	close_all();
}

TEST(limits_that_the_user_has_not_set_are_raised)
{
	open_bev(PAIR_TCP, 0);
	attach();
	ck_assert_int_eq(bufferevent_get_max_single_read(bev), 256 * 1024);
	ck_assert_int_eq(bufferevent_get_max_single_write(bev), 1024 * 1024);
	close_all();
}

/* _i & 1: the bufferevent has a limit of its own, too; _i & 2: the group's bucket is spent. */
LOOP_TEST(a_bufferevent_in_a_rate_limit_group_is_refused_unchanged, 4)
{
	struct ev_token_bucket_cfg *limit = ev_token_bucket_cfg_new(1000, 1000, 1000, 1000, NULL);
	struct ev_token_bucket_cfg *own = ev_token_bucket_cfg_new(500, 500, 500, 500, NULL);
	struct bufferevent_rate_limit_group *group = bufferevent_rate_limit_group_new(base, limit);

	open_bev(PAIR_UNIX, 0);
	bufferevent_set_max_single_read(bev, 300);
	if ((_i & 1) != 0)
		bufferevent_set_rate_limit(bev, own);
	ck_assert_int_eq(bufferevent_add_to_rate_limit_group(bev, group), 0);
	if ((_i & 2) != 0)
		bufferevent_rate_limit_group_decrement_write(group, 2000);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), -EBUSY);
	ck_assert_int_eq(bufferevent_get_max_single_read(bev), 300);
	if ((_i & 1) != 0)
		ck_assert_int_eq(bufferevent_get_read_limit(bev), 500);
	ck_assert_int_eq(bufferevent_remove_from_rate_limit_group(bev), 0);
	attach();
	ck_assert_int_eq(ferry_transport_set_rate_limit_group(transport, group), 0);
	close_all();
	bufferevent_rate_limit_group_free(group);
	ev_token_bucket_cfg_free(limit);
	ev_token_bucket_cfg_free(own);
}

/* _i: overdrawn. */
LOOP_TEST(a_bufferevents_own_rate_limit_stays_as_it_is, 2)
{
	/* The bucket is not filled again during the test. */
	const struct timeval tick = {.tv_sec = 1000};
	struct ev_token_bucket_cfg *own = ev_token_bucket_cfg_new(500, 500, 500, 500, &tick);

	open_bev(PAIR_UNIX, 0);
	bufferevent_set_rate_limit(bev, own);
	bufferevent_decrement_write_limit(bev, _i == 0 ? 100 : 600);
	attach();
	ck_assert_int_eq(bufferevent_get_write_limit(bev), _i == 0 ? 400 : -100);
	ck_assert_int_eq(bufferevent_get_read_limit(bev), 500);
	bufferevent_write(bev, "x", 1);
	pump_turns(3);
	ck_assert_uint_eq(wire_drain(ends[1]), _i == 0);
	close_all();
	ev_token_bucket_cfg_free(own);
}

/* _i: the user has corked; else ferry's own cork goes. The file's last segment shares one with the byte. */
LOOP_TEST(the_users_cork_stays, 2)
{
	int on = _i;
	socklen_t length = sizeof(on);

	open_bev(PAIR_TCP, 0);
	attach();
	ck_assert_int_eq(setsockopt(ends[0], IPPROTO_TCP, TCP_CORK, &on, length), 0);
	ck_assert_int_eq(ferry_transport_send_file(NULL, transport, make_file(100000), FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, 0, NULL, NULL),
	                 0);
	ck_assert_int_eq(ferry_transport_write(transport, "x", 1), 0);
	size_t arrived = 0;
	while (arrived < 90000) {
		pump_turns(1);
		arrived += wire_drain(ends[1]);
	}
	ck_assert_int_eq(getsockopt(ends[0], IPPROTO_TCP, TCP_CORK, &on, &length), 0);
	ck_assert_int_eq(on, _i);
	close_all();
}

TEST_CASE("connected at once");

static struct sockaddr_un abstract_name(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "ferry-attach-%ld",
	         (long)getpid());
	return address;
}

/* A unix connect(2), which succeeds at once, with writing disabled. */
static int open_connecting(void)
{
	struct sockaddr_un address = abstract_name();
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(listener, 5), 0);
	bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(bev, on_readable, NULL, on_event, NULL);
	bufferevent_disable(bev, EV_WRITE);
	ck_assert_int_eq(
	    bufferevent_socket_connect(bev, (struct sockaddr *)&address, (int)sizeof(address)), 0);
	attach();
	ends[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	ck_assert_int_ge(ends[1], 0);
	return listener;
}

TEST(connected_is_reported_when_writing_is_enabled)
{
	int listener = open_connecting();

	pump_turns(3);
	ck_assert_str_eq(story, "");
	ck_assert_int_eq(bufferevent_write(bev, "hello", 5), 0);
	bufferevent_enable(bev, EV_WRITE);
	pump_turns(3);
	ck_assert_str_eq(story, "C");
	ck_assert_uint_eq(wire_drain(ends[1]), 5);
	close_all();
	close(listener);
}

TEST(bytes_are_read_before_connected_is_reported)
{
	int listener = open_connecting();

	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(wire_send(ends[1], "x", 1, NULL, 0), 1);
	pump_turns(3);
	ck_assert_str_eq(story, "D");
	bufferevent_enable(bev, EV_WRITE);
	pump_turns(3);
	ck_assert_str_eq(story, "DC");
	close_all();
	close(listener);
}

TEST(a_connection_that_was_there_at_once_may_close_with_writing_disabled)
{
	int listener = open_connecting();

	recorder_attach(&recorder, transport, &recorder_protocol);
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_lose_connection(transport), 0);
	pump_until_lost(&recorder);
	ck_assert_str_eq(recorder.events, "MX");
	recorder_close(&recorder);
	pump_turns(3);
	close(ends[1]);
	close(listener);
}

TEST_CASE("priority");

static struct event *hog;
static unsigned int turns_of_hog, turns_until_lost;

static void on_hog(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	if (++turns_of_hog < 1000)
		event_active(hog, EV_READ, 0);
}

static void note_turns(struct recorder *at, char event)
{
	(void)at;
	if (event == EVENT_LOST)
		turns_until_lost = turns_of_hog;
}

TEST(connection_lost_has_the_priority_that_the_bufferevent_has_now)
{
	ck_assert_int_eq(event_base_priority_init(base, 3), 0);
	open_bev(PAIR_UNIX, 0);
	attach();
	recorder_attach(&recorder, transport, &recorder_protocol);
	pump_turns(2);
	ck_assert_int_eq(bufferevent_priority_set(bev, 0), 0);
	hog = event_new(base, -1, 0, on_hog, NULL);
	event_priority_set(hog, 0);
	event_active(hog, EV_READ, 0);
	ck_assert_int_eq(ferry_transport_abort_connection(transport), 0);
	recorder.hook = note_turns;
	pump_until_lost(&recorder);
	ck_assert_uint_le(turns_until_lost, 3);
	recorder_close(&recorder);
	event_free(hog);
	pump_turns(3);
	close(ends[1]);
}

TEST_CASE("pausing without a protocol");

static unsigned int fd_count;
static char on_fd; /* p: pauses, l: loses the connection */

static void got_fd(struct ferry_transport *from, int fd, void *context)
{
	(void)context;
	close(fd);
	ck_assert(!paused);
	fd_count++;
	tell('F');
	if (on_fd == 'l') {
		ck_assert_int_eq(ferry_transport_lose_connection(from), 0);
	} else if (on_fd == 'p') {
		ck_assert_int_eq(ferry_transport_pause_reading(from), 0);
		paused = true;
	}
}

static void open_with_fds(int options, char action)
{
	open_bev(PAIR_UNIX, options);
	attach();
	on_fd = action;
	ck_assert_int_eq(ferry_transport_set_fd_cb(transport, got_fd, NULL), 0);
	bufferevent_enable(bev, EV_READ);
	pump_turns(1);
}

static void resume(void)
{
	paused = false;
	ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	pump_turns(4);
}

static const int three_fds[] = {STDERR_FILENO, STDERR_FILENO, STDERR_FILENO};
static const int defer_options[] = {0, BEV_OPT_DEFER_CALLBACKS};

/* _i / 2: after bufferevent_priority_set(). */
LOOP_TEST(the_read_callback_overtakes_no_descriptor, 4)
{
	ck_assert_int_eq(event_base_priority_init(base, 3), 0);
	open_with_fds(defer_options[_i % 2], 'p');
	if (_i / 2 == 1)
		ck_assert_int_eq(bufferevent_priority_set(bev, 0), 0);
	ck_assert_int_eq(wire_send(ends[1], "x", 1, three_fds, 3), 1);
	pump_turns(4);
	ck_assert_str_eq(story, "F");
	resume();
	ck_assert_str_eq(story, "FF");
	resume();
	ck_assert_str_eq(story, "FFF");
	ck_assert_int_eq(wire_send(ends[1], "y", 1, NULL, 0), 1);
	resume();
	ck_assert(strcmp(story, "FFFD") == 0 || strcmp(story, "FFFDD") == 0);
	close_all();
}

/* The byte is read first, and its callback is deferred; the descriptor's callback pauses in the same step. */
TEST(a_deferred_read_callback_does_not_run_while_paused)
{
	open_with_fds(BEV_OPT_DEFER_CALLBACKS, 'p');
	ck_assert_int_eq(ferry_transport_set_fd_positions(transport, FERRY_FD_EARLY), 0);
	bufferevent_set_max_single_read(bev, 1000);
	ck_assert_int_eq(wire_send(ends[1], "a", 1, three_fds, 1), 1);
	on_fd = 0;
	ck_assert_int_eq(wire_send(ends[1], "b", 1, NULL, 0), 1);
	pump_turns(4);
	ck_assert_str_eq(story, "FD");
	bufferevent_trigger(bev, EV_READ, BEV_TRIG_IGNORE_WATERMARKS);
	ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
	paused = true;
	pump_turns(4);
	ck_assert_str_eq(story, "FD");
	ck_assert_int_eq(wire_send(ends[1], "c", 1, NULL, 0), 1);
	resume();
	ck_assert_str_eq(story, "FDD");
	close_all();
}

LOOP_TEST(no_read_callback_comes_after_lose_connection, COUNT(defer_options))
{
	static char block[1 << 20];

	open_with_fds(defer_options[_i], 'l');
	ck_assert_int_eq(ferry_transport_write(transport, block, sizeof(block)), 0);
	ck_assert_int_eq(wire_send(ends[1], "x", 1, three_fds, 3), 1);
	pump_turns(5);
	ck_assert_str_eq(story, "F");
	ck_assert_uint_eq(stats_of(transport).fds_unclaimed, 2);
	close_all();
}

/* _i: with a protocol. */
LOOP_TEST(reading_that_is_enabled_during_a_pause_reads_nothing, 2)
{
	open_with_fds(0, 0);
	if (_i == 1)
		recorder_attach(&recorder, transport, &recorder_protocol);
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
	paused = true;
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(wire_send(ends[1], "x", 1, three_fds, 1), 1);
	pump_turns(5);
	ck_assert_uint_eq(stats_of(transport).bytes_received, 0);
	resume();
	ck_assert_uint_eq(stats_of(transport).bytes_received, 1);
	ck_assert_str_eq(_i == 1 ? recorder.events : story, _i == 1 ? "MFD" : "FD");
	if (_i == 1) {
		recorder_close(&recorder);
		transport = NULL;
	}
	close_all();
}

static int (*const stopping_calls[])(struct ferry_transport *) = {ferry_transport_pause_reading,
                                                                  ferry_transport_lose_connection,
                                                                  ferry_transport_abort_connection};

static void stop_and_enable(struct ferry_transport *of, struct evbuffer *input, void *context)
{
	(void)input;
	ck_assert_int_eq(stopping_calls[*(int *)context](of), 0);
	bufferevent_enable(ferry_transport_get_bufferevent(of), EV_READ);
}

static const struct ferry_protocol stops_and_enables = {.data_received = stop_and_enable};

/* libevent runs the read callback again while reading is enabled and the input is at the high-water mark: pump_turns()
 * would never return. _i: the call. */
LOOP_TEST(input_over_the_high_water_mark_is_left_alone_though_reading_is_enabled, 3)
{
	static char block[1 << 20];

	open_bev(PAIR_UNIX, 0);
	bufferevent_setwatermark(bev, EV_READ, 0, 10);
	attach();
	ck_assert_int_eq(ferry_transport_write(transport, block, sizeof(block)), 0);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &stops_and_enables, &_i), 0);
	ck_assert_int_eq(wire_send(ends[1], "0123456789", 10, NULL, 0), 10);
	pump_turns(5);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(bev)), 10);
	close_all();
}

static void take_all_but_the_second(struct ferry_transport *of, struct evbuffer *input,
                                    void *context)
{
	unsigned int *calls = context;
	size_t length = evbuffer_get_length(input);

	if (++*calls == 2)
		bufferevent_setwatermark(ferry_transport_get_bufferevent(of), EV_READ, 0, length);
	else
		evbuffer_drain(input, length);
}

/* Nothing more is read, so that no read would offer it. */
TEST(input_at_a_high_water_mark_that_the_callback_has_set_is_offered_again)
{
	static const struct ferry_protocol protocol = {.data_received = take_all_but_the_second};
	unsigned int calls = 0;

	open_bev(PAIR_UNIX, 0);
	attach();
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &protocol, &calls), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(wire_send(ends[1], "0123456789", 10, NULL, 0), 10);
		pump_turns(3);
	}
	ck_assert_uint_eq(calls, 3);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(bev)), 0);
	close_all();
}

static struct event *other;

static void leave_three(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	struct evbuffer *input = bufferevent_get_input(bev);

	evbuffer_drain(input, evbuffer_get_length(input) - 3);
}

static void set_marks_once(struct ferry_transport *of, struct evbuffer *input, void *context)
{
	unsigned int *calls = context;

	if (++*calls == 2) {
		bufferevent_setwatermark(ferry_transport_get_bufferevent(of), EV_READ, 5, 10);
		event_active(other, EV_TIMEOUT, 0);
	} else {
		evbuffer_drain(input, evbuffer_get_length(input));
	}
}

TEST(input_that_is_offered_again_is_not_under_the_low_water_mark)
{
	static const struct ferry_protocol protocol = {.data_received = set_marks_once};
	unsigned int calls = 0;

	open_bev(PAIR_UNIX, 0);
	attach();
	other = event_new(base, -1, 0, leave_three, NULL);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &protocol, &calls), 0);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(wire_send(ends[1], "0123456789", 10, NULL, 0), 10);
		pump_turns(3);
	}
	ck_assert_uint_eq(calls, 2);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(bev)), 3);
	event_free(other);
	close_all();
}

TEST(the_read_callback_that_the_user_sets_during_a_pause_is_the_one_that_runs)
{
	open_with_fds(0, 0);
	bufferevent_setcb(bev, NULL, NULL, on_event, NULL);
	ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
	bufferevent_setcb(bev, on_readable, NULL, on_event, NULL);
	ck_assert_int_eq(wire_send(ends[1], "x", 1, NULL, 0), 1);
	pump_turns(3);
	ck_assert_str_eq(story, "");
	resume();
	ck_assert_str_eq(story, "D");
	close_all();
}

TEST_CASE("the low-water mark");

enum { BY_END, BY_RESET, BY_TIMEOUT, WAYS };

/* _i: the way of the end. */
LOOP_TEST(bytes_under_the_low_water_mark_are_given_out_before_the_end, WAYS)
{
	static const struct timeval soon = {.tv_usec = 1000};
	static char block[1 << 20];

	open_bev(PAIR_UNIX, 0);
	bufferevent_setwatermark(bev, EV_READ, 10, 0);
	attach();
	recorder_attach(&recorder, transport, &recorder_no_half_close);
	if (_i == BY_RESET)
		ck_assert_int_eq(ferry_transport_write(transport, block, sizeof(block)), 0);
	ck_assert_int_eq(wire_send(ends[1], "12345", 5, NULL, 0), 5);
	pump_turns(3);
	ck_assert_uint_eq(recorder_length(&recorder), 0);
	if (_i == BY_TIMEOUT)
		bufferevent_set_timeouts(bev, &soon, NULL);
	else
		close(ends[1]);
	pump_until_lost(&recorder);
	ck_assert_str_eq(recorder.events, "MDX");
	ck_assert_uint_eq(recorder_length(&recorder), 5);
	recorder_close(&recorder);
	pump_turns(3);
	if (_i == BY_TIMEOUT)
		close(ends[1]);
}

static void expect_received(const char *bytes, size_t length)
{
	ck_assert_int_eq(wire_send(ends[1], bytes, strlen(bytes), NULL, 0), (int)strlen(bytes));
	pump_turns(5);
	ck_assert_uint_eq(recorder_length(&recorder), length);
}

/* The first bytes show the transport whether libevent defers the callback. _i: it does. */
LOOP_TEST(water_marks_may_be_set_after_the_first_bytes, 2)
{
	open_bev(PAIR_UNIX, _i == 0 ? 0 : BEV_OPT_DEFER_CALLBACKS);
	attach();
	recorder_attach(&recorder, transport, &recorder_no_half_close);
	expect_received("12345", 5);
	bufferevent_setwatermark(bev, EV_READ, 10, 0);
	expect_received("12345", 5);
	expect_received("12345", 15);
	bufferevent_setwatermark(bev, EV_READ, 0, 10);
	expect_received("123456789012345", 30);
	bufferevent_setwatermark(bev, EV_READ, 0, 0);
	expect_received("12345", 35);
	recorder_close(&recorder);
	close(ends[1]);
}

TEST_CASE("made of a socket");

TEST(a_transport_of_a_socket_owns_it)
{
	struct ferry_transport *made;
	int fds[2];
	char byte;
	make_pair(PAIR_TCP, fds);
	ck_assert_int_eq(fcntl(fds[0], F_SETFL, 0), 0);
	ck_assert_int_eq(ferry_transport_new_socket(&made, base, fds[0]), 0);
	ck_assert_int_eq(bufferevent_getfd(ferry_transport_get_bufferevent(made)), fds[0]);
	ck_assert_int_ne(fcntl(fds[0], F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_eq(ferry_transport_write(made, "x", 1), 0);
	ck_assert_int_eq(ferry_transport_flush(made, &(struct timeval){.tv_sec = 60}), 0);
	ferry_transport_free(made);
	pump_turns(3);
	ck_assert(!fd_is_open(fds[0]));
	ck_assert_int_eq(read(fds[1], &byte, 1), 1);
	close(fds[1]);
}

TEST(a_failure_leaves_the_descriptor_to_the_caller)
{
	struct ferry_transport *made;
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	int packets = socket(AF_UNIX, SOCK_DGRAM, 0), number = dup(packets);
	close(number);
	ck_assert_int_eq(ferry_transport_new_socket(NULL, base, fds[0]), -EINVAL);
	ck_assert_int_eq(ferry_transport_new_socket(&made, NULL, fds[0]), -EINVAL);
	ck_assert_int_eq(ferry_transport_new_socket(&made, base, -1), -EINVAL);
	ck_assert_int_eq(ferry_transport_new_socket(&made, base, number), -EBADF);
	ck_assert_int_eq(ferry_transport_new_socket(&made, base, packets), -EPROTOTYPE);
	pump_turns(3);
	ck_assert(fd_is_open(fds[0]) && fd_is_open(packets));
	close(fds[0]);
	close(fds[1]);
	close(packets);
}
