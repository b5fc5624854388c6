/* Connections between bufferevents and handoffs: no byte is lost on the way in, the loop does not know
 * the descriptor afterwards, and on the way out the read callback gets the bytes whenever reading
 * begins. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/util.h>

#include "ferry/handoff.h"

#include "recorder.h"
#include "test.h"
#include "wire.h"

uint32_t __real_event_get_version_number(void);
uint32_t __wrap_event_get_version_number(void);

static bool other_libevent;

uint32_t __wrap_event_get_version_number(void)
{
	return other_libevent ? 0x03000000 : __real_event_get_version_number();
}

/* ---- a bufferevent and its callbacks ---- */

static int ends[2]; /* the bufferevent's, and the client's */
static unsigned int reads, writes;
static short events;
static void (*hook)(struct bufferevent *bev);

static void run_hook(struct bufferevent *bev)
{
	void (*now)(struct bufferevent *) = hook;
	hook = NULL;
	if (now != NULL)
		now(bev);
}

static void on_read(struct bufferevent *bev, void *context)
{
	(void)context;
	reads++;
	run_hook(bev);
}

static void on_write(struct bufferevent *bev, void *context)
{
	(void)context;
	writes++;
	run_hook(bev);
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
	(void)context;
	events = (short)(events | what);
	run_hook(bev);
}

static void set_callbacks(struct bufferevent *bev)
{
	bufferevent_setcb(bev, on_read, on_write, on_event, NULL);
}

/* A bufferevent that reads, with the client at the other end. */
static struct bufferevent *make_reader(int options)
{
	make_pair(PAIR_TCP, ends);
	struct bufferevent *bev =
	    bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE | options);
	ck_assert_ptr_nonnull(bev);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	return bev;
}

static size_t input_length(struct bufferevent *bev)
{
	return evbuffer_get_length(bufferevent_get_input(bev));
}

static bool input_is_full(void *argument)
{
	void **arguments = argument;
	return input_length(arguments[0]) == *(size_t *)arguments[1];
}

/* The client sends, and the bufferevent reads. */
static void receive(struct bufferevent *bev, size_t length)
{
	for (size_t sent = 0; sent < length;) {
		size_t step = length - sent < 4096 ? length - sent : 4096;
		wire_put(ends[1], sent, step);
		sent += step;
		pump_until(input_is_full, (void *[]){bev, &sent});
	}
}

static void expect_input(struct bufferevent *bev, size_t length)
{
	ck_assert_uint_eq(input_length(bev), length);
	const unsigned char *bytes = evbuffer_pullup(bufferevent_get_input(bev), -1);
	for (size_t i = 0; i < length; i++)
		ck_assert_uint_eq(bytes[i], support_byte(i));
}

static void free_bufferevent(struct bufferevent *bev)
{
	bufferevent_free(bev);
	pump_turns(2);
}

/* ---- the descriptors of epoll ---- */

static bool points_to(int directory, const char *name, const char *expected)
{
	char target[64];
	ssize_t length = readlinkat(directory, name, target, sizeof(target) - 1);
	target[length > 0 ? length : 0] = '\0';
	return strcmp(target, expected) == 0;
}

static int find_epoll(void)
{
	DIR *fds = opendir("/proc/self/fd");
	struct dirent *entry;
	int found = -1;
	while ((entry = readdir(fds)) != NULL)
		if (points_to(dirfd(fds), entry->d_name, "anon_inode:[eventpoll]"))
			found = atoi(entry->d_name);
	closedir(fds);
	ck_assert_int_ge(found, 0);
	return found;
}

/* The events that the loop waits for on a descriptor; 0 if it does not know it. It may still know a
 * closed one. */
static unsigned int epoll_events(int fd)
{
	char path[64], line[256];
	unsigned int found = 0;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", find_epoll());
	FILE *info = fopen(path, "r");
	ck_assert_ptr_nonnull(info);
	while (fgets(line, sizeof(line), info) != NULL) {
		int target;
		unsigned int mask;
		if (sscanf(line, "tfd: %d events: %x", &target, &mask) == 2 && target == fd)
			found = mask;
	}
	fclose(info);
	return found;
}

/* ---- from a bufferevent ---- */

static struct ferry_handoff *take(struct bufferevent *bev)
{
	struct ferry_handoff *handoff = NULL;
	int fd = bufferevent_getfd(bev);
	ck_assert_int_eq(ferry_handoff_from_bufferevent(&handoff, bev), 0);
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), fd);
	ck_assert_int_eq(bufferevent_getfd(bev), -1);
	ck_assert_int_eq(bufferevent_get_enabled(bev), 0);
	ck_assert_uint_eq(input_length(bev), 0);
	return handoff;
}

static void expect_bytes(const struct ferry_handoff *handoff, size_t length)
{
	size_t found;
	const unsigned char *bytes = ferry_handoff_get_bytes(handoff, &found);
	ck_assert_uint_eq(found, length);
	for (size_t i = 0; i < length; i++)
		ck_assert_uint_eq(bytes[i], support_byte(i));
}

static const size_t sizes[] = {0, 1, 4096, 10000, FERRY_HANDOFF_BYTES_MAX};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

TEST_CASE("from");

/* _i: of sizes */
LOOP_TEST(unread_input_goes_along, SIZES)
{
	struct bufferevent *bev = make_reader(0);
	receive(bev, sizes[_i]);
	struct ferry_handoff *handoff = take(bev);
	expect_bytes(handoff, sizes[_i]);
	free_bufferevent(bev);
	ck_assert(fd_is_open(ends[0])); /* the bufferevent has no descriptor to close */
	/* Bytes that the client sends now are for the next process. */
	wire_put(ends[1], 0, 10);
	ck_assert_int_eq(wire_expect(ends[0], 0, 10), 10);
	ferry_handoff_free(handoff);
	close(ends[1]);
}

TEST(the_loop_knows_nothing_of_the_descriptor_though_a_copy_lives)
{
	struct bufferevent *bev = make_reader(0);
	bufferevent_setwatermark(bev, EV_READ, 0, 100);
	receive(bev, 10);
	ck_assert_uint_ne(epoll_events(ends[0]), 0);
	struct ferry_handoff *handoff = take(bev);
	ck_assert_uint_eq(epoll_events(ends[0]), 0);
	int copy = fcntl(ends[0], F_DUPFD_CLOEXEC, 0);
	ferry_handoff_free(handoff);
	free_bufferevent(bev);
	wire_put(ends[1], 0, 10);
	unsigned int before = reads;
	pump_turns(5);
	ck_assert_uint_eq(reads, before);
	ck_assert_int_eq(events, 0);
	ck_assert_uint_eq(epoll_events(ends[0]), 0);
	close(copy);
	close(ends[1]);
}

static void expect_unchanged(struct bufferevent *bev, int expected)
{
	struct ferry_handoff *handoff = NULL;
	int fd = bufferevent_getfd(bev);
	short enabled = bufferevent_get_enabled(bev);
	size_t input = input_length(bev);
	size_t output = evbuffer_get_length(bufferevent_get_output(bev));
	unsigned int waiting = fd >= 0 ? epoll_events(fd) : 0;
	ck_assert_int_eq(ferry_handoff_from_bufferevent(&handoff, bev), expected);
	ck_assert_ptr_null(handoff);
	ck_assert_int_eq(bufferevent_getfd(bev), fd);
	ck_assert_int_eq(bufferevent_get_enabled(bev), enabled);
	ck_assert_uint_eq(input_length(bev), input);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_output(bev)), output);
	ck_assert_uint_eq(fd >= 0 ? epoll_events(fd) : 0, waiting);
}

TEST(more_input_than_a_handoff_carries_stays)
{
	struct bufferevent *bev = make_reader(0);
	receive(bev, FERRY_HANDOFF_BYTES_MAX + 1);
	expect_unchanged(bev, -EMSGSIZE);
	expect_input(bev, FERRY_HANDOFF_BYTES_MAX + 1);
	receive(bev, 0);
	free_bufferevent(bev);
	close(ends[1]);
}

TEST(pending_output_is_sent_first)
{
	struct bufferevent *bev = make_reader(0);
	bufferevent_write(bev, "answer", 6);
	expect_unchanged(bev, -EBUSY);
	pump_until_count(&writes, 1);
	ferry_handoff_free(take(bev));
	free_bufferevent(bev);
	close(ends[1]);
}

TEST(frozen_input_is_refused)
{
	struct bufferevent *bev = make_reader(0);
	receive(bev, 10);
	evbuffer_freeze(bufferevent_get_input(bev), 1);
	expect_unchanged(bev, -EINVAL);
	evbuffer_unfreeze(bufferevent_get_input(bev), 1);
	ferry_handoff_free(take(bev));
	free_bufferevent(bev);
	close(ends[1]);
}

TEST(arguments_are_checked)
{
	struct ferry_handoff *handoff = NULL;
	struct bufferevent *bev = bufferevent_socket_new(base, -1, 0);
	ck_assert_int_eq(ferry_handoff_from_bufferevent(NULL, bev), -EINVAL);
	ck_assert_int_eq(ferry_handoff_from_bufferevent(&handoff, NULL), -EINVAL);
	expect_unchanged(bev, -EINVAL); /* no descriptor */
	free_bufferevent(bev);
}

TEST(pairs_and_filters_are_refused)
{
	struct bufferevent *pair[2];
	ck_assert_int_eq(bufferevent_pair_new(base, 0, pair), 0);
	expect_unchanged(pair[0], -EINVAL);
	free_bufferevent(pair[0]);
	free_bufferevent(pair[1]);

	struct bufferevent *bev = make_reader(0);
	struct bufferevent *filter =
	    bufferevent_filter_new(bev, NULL, NULL, BEV_OPT_CLOSE_ON_FREE, NULL, NULL);
	struct ferry_handoff *handoff = NULL;
	ck_assert_int_eq(ferry_handoff_from_bufferevent(&handoff, filter), -EINVAL);
	ck_assert_ptr_null(handoff);
	free_bufferevent(filter);
	close(ends[1]);
}

TEST(a_transport_keeps_its_connection)
{
	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *transport = make_transport(ends[0]);
	expect_unchanged(ferry_transport_get_bufferevent(transport), -EINVAL);
	ferry_transport_free(transport);
	pump_turns(2);
	close(ends[1]);
}

TEST(a_libevent_that_is_not_known_is_refused)
{
	struct bufferevent *bev = make_reader(0);
	other_libevent = true;
	expect_unchanged(bev, -ENOTSUP);
	other_libevent = false;
	struct ferry_handoff *handoff = take(bev);
	free_bufferevent(bev);

	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "x", 1), 0);
	bev = NULL;
	other_libevent = true;
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE),
	                 -ENOTSUP);
	other_libevent = false;
	pump_turns(2);
	ck_assert_ptr_null(bev);
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), ends[0]);
	ck_assert(fd_is_open(ends[0]));
	ferry_handoff_free(handoff);
	close(ends[1]);
}

TEST(a_closed_descriptor_is_refused)
{
	struct ferry_handoff *handoff = NULL;
	make_pair(PAIR_TCP, ends);
	struct bufferevent *bev = bufferevent_socket_new(base, ends[0], 0);
	close(ends[0]);
	ck_assert_int_eq(ferry_handoff_from_bufferevent(&handoff, bev), -EBADF);
	ck_assert_int_eq(bufferevent_getfd(bev), ends[0]);
	ck_assert_ptr_null(handoff);
	free_bufferevent(bev);
	close(ends[1]);
}

/* A socket that is not connected yet, and the address that it can be connected to. */
static int make_listener(struct sockaddr_in *address)
{
	socklen_t length = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*address =
	    (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	ck_assert_int_eq(bind(fd, (struct sockaddr *)address, length), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)address, &length), 0);
	return fd;
}

static struct ferry_handoff *taken;

static void take_in_callback(struct bufferevent *bev)
{
	taken = take(bev);
}

static void take_and_free_in_callback(struct bufferevent *bev)
{
	taken = take(bev);
	bufferevent_free(bev);
}

static bool is_taken(void *argument)
{
	(void)argument;
	return taken != NULL;
}

TEST(a_connection_that_is_being_made_waits)
{
	struct sockaddr_in address;
	int listener = make_listener(&address);
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(bufferevent_socket_connect(bev, (struct sockaddr *)&address, sizeof(address)),
	                 0);
	expect_unchanged(bev, -ENOTCONN);
	/* In the callback with BEV_EVENT_CONNECTED the connection is complete. */
	hook = take_in_callback;
	pump_until(is_taken, NULL);
	ck_assert_int_eq(events, BEV_EVENT_CONNECTED);
	int client = accept(listener, NULL, NULL);
	ck_assert_uint_eq(epoll_events(ferry_handoff_get_fd(taken)), 0);
	free_bufferevent(bev);
	wire_put(client, 0, 1);
	ck_assert_int_eq(wire_expect(ferry_handoff_get_fd(taken), 0, 1), 1);
	ferry_handoff_free(taken);
	close(client);
	close(listener);
}

/* _i: options */
LOOP_TEST(it_may_be_taken_in_the_read_callback, 2)
{
	static const int options[] = {0, BEV_OPT_DEFER_CALLBACKS};
	for (int with_free = 0; with_free < 2; with_free++) {
		struct bufferevent *bev = make_reader(options[_i]);
		taken = NULL;
		hook = with_free ? take_and_free_in_callback : take_in_callback;
		wire_put(ends[1], 0, 10);
		pump_until(is_taken, NULL);
		expect_bytes(taken, 10);
		if (!with_free)
			bufferevent_free(bev);
		pump_turns(3);
		ck_assert(fd_is_open(ends[0]));
		ck_assert_uint_eq(epoll_events(ends[0]), 0);
		ferry_handoff_free(taken);
		close(ends[1]);
	}
}

TEST(it_may_be_taken_in_the_write_callback)
{
	struct bufferevent *bev = make_reader(0);
	hook = take_in_callback;
	bufferevent_write(bev, "x", 1);
	pump_until(is_taken, NULL);
	ck_assert_uint_eq(writes, 1);
	ck_assert_uint_eq(epoll_events(ends[0]), 0);
	pump_turns(3);
	free_bufferevent(bev);
	ferry_handoff_free(taken);
	close(ends[1]);
}

/* ---- to a bufferevent ---- */

/* A handoff with `length` bytes that were read already, and the client at the other end. */
static struct ferry_handoff *make_handoff(size_t length)
{
	static unsigned char bytes[FERRY_HANDOFF_BYTES_MAX];
	struct ferry_handoff *handoff = NULL;
	for (size_t i = 0; i < length; i++)
		bytes[i] = support_byte(i);
	make_pair(PAIR_TCP, ends);
	ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, bytes, length), 0);
	return handoff;
}

static struct bufferevent *make_of_handoff(size_t length, int options)
{
	struct bufferevent *bev = NULL;
	struct ferry_handoff *handoff = make_handoff(length);
	ck_assert_int_eq(
	    ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE | options), 0);
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), -ENOENT);
	ferry_handoff_free(handoff);
	ck_assert_int_eq(bufferevent_getfd(bev), ends[0]);
	return bev;
}

static void finish(struct bufferevent *bev)
{
	free_bufferevent(bev);
	ck_assert(!fd_is_open(ends[0]));
	close(ends[1]);
}

enum {
	CALLBACKS_FIRST = 1,
	ENABLED_LATER = 2,
	DEFERRED = 4,
	TIMINGS = 8 /* all of them */
};

TEST_CASE("to");

/* _i: of timings. The client sends nothing more. */
LOOP_TEST(the_bytes_are_told_once_reading_is_enabled, TIMINGS)
{
	struct bufferevent *bev = make_of_handoff(100, _i & DEFERRED ? BEV_OPT_DEFER_CALLBACKS : 0);
	if (_i & CALLBACKS_FIRST)
		set_callbacks(bev);
	if (_i & ENABLED_LATER) {
		pump_turns(5);
		ck_assert_uint_eq(reads, 0);
	}
	bufferevent_enable(bev, EV_READ);
	if (!(_i & CALLBACKS_FIRST))
		set_callbacks(bev);
	ck_assert_uint_eq(reads, 0); /* never inside a call */
	pump_until_count(&reads, 1);
	expect_input(bev, 100);
	pump_turns(5);
	ck_assert_uint_eq(reads, 1);
	ck_assert_uint_eq(writes, 0);
	ck_assert_int_eq(events, 0);
	ck_assert_uint_eq(epoll_events(ends[0]) & (EPOLLIN | EPOLLOUT), EPOLLIN);

	wire_put(ends[1], 100, 50);
	pump_until_count(&reads, 2);
	expect_input(bev, 150);
	finish(bev);
}

TEST(the_input_is_for_libevent_to_add_to)
{
	struct bufferevent *bev = make_of_handoff(10, 0);
	ck_assert_int_eq(evbuffer_add(bufferevent_get_input(bev), "x", 1), -1);
	finish(bev);
}

/* _i: of sizes */
LOOP_TEST(the_client_goes_on_where_it_was, SIZES)
{
	struct bufferevent *bev = make_of_handoff(sizes[_i], 0);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	wire_put(ends[1], sizes[_i], 20);
	size_t all = sizes[_i] + 20;
	pump_until(input_is_full, (void *[]){bev, &all});
	expect_input(bev, all);
	bufferevent_write(bev, "answer", 6);
	pump_until_count(&writes, 1);
	char answer[10];
	ck_assert_int_eq(read(ends[1], answer, sizeof(answer)), 6);
	finish(bev);
}

/* _i: in a later turn */
LOOP_TEST(fewer_than_the_low_watermark_wait_for_the_rest, 2)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	bufferevent_setwatermark(bev, EV_READ, 101, 0);
	if (_i)
		pump_turns(3);
	bufferevent_enable(bev, EV_READ);
	pump_turns(5);
	ck_assert_uint_eq(reads, 0);
	wire_put(ends[1], 100, 1);
	pump_until_count(&reads, 1);
	expect_input(bev, 101);
	finish(bev);
}

static void drain_in_callback(struct bufferevent *bev)
{
	expect_input(bev, 100);
	evbuffer_drain(bufferevent_get_input(bev), 100);
}

TEST(a_high_watermark_does_not_hold_them_back)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	bufferevent_setwatermark(bev, EV_READ, 0, 50);
	bufferevent_enable(bev, EV_READ);
	hook = drain_in_callback; /* libevent repeats the call while the input is over the mark */
	pump_until_count(&reads, 1);
	wire_put(ends[1], 0, 10);
	pump_until_count(&reads, 2);
	expect_input(bev, 10);
	finish(bev);
}

TEST(nothing_is_told_while_reading_is_disabled)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	bufferevent_disable(bev, EV_READ);
	pump_turns(5);
	bufferevent_enable(bev, EV_READ);
	bufferevent_disable(bev, EV_READ);
	pump_turns(5);
	ck_assert_uint_eq(reads, 0);
	bufferevent_enable(bev, EV_READ);
	pump_until_count(&reads, 1);
	finish(bev);
}

/* _i: in a later turn */
LOOP_TEST(what_was_taken_by_hand_is_not_told, 2)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	if (_i)
		pump_turns(3);
	evbuffer_drain(bufferevent_get_input(bev), 100);
	bufferevent_enable(bev, EV_READ);
	pump_turns(5);
	ck_assert_uint_eq(reads, 0);
	wire_put(ends[1], 0, 10);
	pump_until_count(&reads, 1);
	expect_input(bev, 10);
	ck_assert_uint_eq(epoll_events(ends[0]) & (EPOLLIN | EPOLLOUT), EPOLLIN);
	finish(bev);
}

TEST(without_room_to_write_they_come_with_the_next_byte)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	wire_fill(ends[0]);
	pump_turns(3);
	bufferevent_enable(bev, EV_READ);
	pump_turns(5);
	wire_put(ends[1], 100, 1);
	size_t all = 101;
	pump_until(input_is_full, (void *[]){bev, &all});
	expect_input(bev, 101);
	ck_assert_uint_ge(reads, 1);
	finish(bev);
}

TEST(a_read_timeout_begins_after_them)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	pump_turns(3);
	bufferevent_set_timeouts(bev, &(struct timeval){.tv_usec = 20000}, NULL);
	bufferevent_enable(bev, EV_READ);
	pump_until_count(&reads, 1);
	ck_assert_int_eq(events, 0);
	while (events == 0)
		event_base_loop(base, EVLOOP_ONCE);
	ck_assert_int_eq(events, BEV_EVENT_READING | BEV_EVENT_TIMEOUT);
	ck_assert_uint_eq(reads, 1);
	finish(bev);
}

static void free_in_callback(struct bufferevent *bev)
{
	bufferevent_free(bev);
}

/* _i: in a later turn */
LOOP_TEST(it_may_be_freed_in_the_callback_for_them, 2)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	hook = free_in_callback;
	if (_i)
		pump_turns(3);
	bufferevent_enable(bev, EV_READ);
	pump_until_count(&reads, 1);
	pump_turns(3);
	ck_assert(!fd_is_open(ends[0]));
	close(ends[1]);
}

/* _i: enabled. The fixture frees the base, and counts descriptors. */
LOOP_TEST(it_may_be_freed_when_the_loop_never_runs_again, 2)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	if (_i)
		bufferevent_enable(bev, EV_READ);
	bufferevent_free(bev);
	close(ends[1]);
}

/* _i: in a later turn */
LOOP_TEST(it_may_be_handed_on_unread, 2)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	set_callbacks(bev);
	if (_i)
		pump_turns(3);
	struct ferry_handoff *handoff = take(bev);
	expect_bytes(handoff, 100);
	pump_turns(3);
	free_bufferevent(bev);
	ck_assert_uint_eq(reads, 0);
	ck_assert_uint_eq(epoll_events(ends[0]), 0);

	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
	ferry_handoff_free(handoff);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	pump_until_count(&reads, 1);
	expect_input(bev, 100);
	finish(bev);
}

static bool has_ended(void *argument)
{
	(void)argument;
	return (events & BEV_EVENT_EOF) != 0;
}

/* _i: in a later turn */
LOOP_TEST(a_client_that_is_gone_had_its_say, 2)
{
	struct bufferevent *bev = make_reader(0);
	receive(bev, 100);
	struct ferry_handoff *handoff = take(bev);
	free_bufferevent(bev);
	wire_put(ends[1], 100, 20);
	close(ends[1]);
	reads = 0;

	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
	ferry_handoff_free(handoff);
	set_callbacks(bev);
	if (_i)
		pump_turns(3);
	bufferevent_enable(bev, EV_READ);
	pump_until(has_ended, NULL);
	expect_input(bev, 120);
	ck_assert_uint_ge(reads, 1);
	free_bufferevent(bev);
}

TEST(a_client_that_has_half_closed_gets_its_answer)
{
	struct bufferevent *bev = make_of_handoff(100, 0);
	shutdown(ends[1], SHUT_WR);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	pump_until(has_ended, NULL);
	ck_assert_uint_eq(reads, 1);
	expect_input(bev, 100);
	bufferevent_write(bev, "answer", 6);
	pump_until_count(&writes, 1);
	char answer[10];
	ck_assert_int_eq(read(ends[1], answer, sizeof(answer)), 6);
	finish(bev);
}

TEST(a_descriptor_that_blocks_does_so_no_more)
{
	struct bufferevent *bev = NULL;
	struct ferry_handoff *handoff = make_handoff(0);
	ck_assert_int_eq(fcntl(ends[0], F_SETFL, 0), 0);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
	ck_assert(fcntl(ends[0], F_GETFL) & O_NONBLOCK);
	ferry_handoff_free(handoff);
	finish(bev);
}

TEST(without_close_on_free_closing_is_the_callers_affair)
{
	struct bufferevent *bev = NULL;
	struct ferry_handoff *handoff = make_handoff(10);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, 0), 0);
	ferry_handoff_free(handoff);
	free_bufferevent(bev);
	ck_assert(fd_is_open(ends[0]));
	close(ends[0]);
	close(ends[1]);
}

TEST(what_is_no_connection_makes_no_bufferevent)
{
	struct bufferevent *bev = NULL;
	struct ferry_handoff *handoff = make_handoff(10);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(NULL, handoff, base, 0), -EINVAL);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, NULL, base, 0), -EINVAL);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, NULL, 0), -EINVAL);
	/* This process has not set up libevent's locks. */
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base,
	                                              BEV_OPT_THREADSAFE | BEV_OPT_CLOSE_ON_FREE),
	                 -ENOMEM);
	expect_bytes(handoff, 10);
	close(ferry_handoff_steal_fd(handoff));
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, 0), -ENOENT);
	ferry_handoff_free(handoff);
	close(ends[1]);

	ck_assert_int_eq(ferry_handoff_new(&handoff, make_file(10)), 0);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, 0), -ENOTSOCK);
	ck_assert_ptr_null(bev);
	ferry_handoff_free(handoff);
}

/* ---- a transport on top ---- */

enum { PROTOCOL_LATER = 1, TRANSPORT_LATER = 2, TRANSPORT_TIMINGS = 4 };

TEST_CASE("transports");

/* _i: when */
LOOP_TEST(a_protocol_is_offered_the_bytes, TRANSPORT_TIMINGS)
{
	struct ferry_transport *transport = NULL;
	struct recorder recorder;
	struct bufferevent *bev = make_of_handoff(100, 0);
	if (_i & TRANSPORT_LATER)
		pump_turns(3);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	if (_i & PROTOCOL_LATER)
		pump_turns(3);
	recorder_attach(&recorder, transport, &recorder_protocol);
	pump_until_length(&recorder, 100);
	ck_assert_uint_eq(recorder.made, 1);
	ck_assert_uint_eq(recorder.data, 1);
	wire_put(ends[1], 100, 50);
	pump_until_length(&recorder, 150);
	recorder_expect_bytes(&recorder, 0, 150);
	pump_turns(3);
	ck_assert_uint_eq(epoll_events(ends[0]) & (EPOLLIN | EPOLLOUT), EPOLLIN);
	recorder_close(&recorder);
	pump_turns(2);
	close(ends[1]);
}

TEST(a_transport_without_a_protocol_tells_the_read_callback)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = make_of_handoff(100, 0);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	set_callbacks(bev);
	bufferevent_enable(bev, EV_READ);
	pump_until_count(&reads, 1);
	expect_input(bev, 100);
	ferry_transport_free(transport);
	pump_turns(2);
	close(ends[1]);
}

static unsigned int fds_received;

static void on_fd(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport, (void)context;
	fds_received++;
	close(fd);
}

/* The transport's events are its own, although reading is off when the bytes are due. */
TEST(a_transport_gets_the_descriptors_too)
{
	struct ferry_transport *transport = NULL;
	struct ferry_handoff *handoff = NULL;
	struct bufferevent *bev = NULL;
	make_pair(PAIR_UNIX, ends);
	ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "read", 4), 0);
	ck_assert_int_eq(ferry_handoff_to_bufferevent(&bev, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
	ferry_handoff_free(handoff);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_transport_set_fd_cb(transport, on_fd, NULL), 0);
	set_callbacks(bev);
	pump_turns(3);
	bufferevent_enable(bev, EV_READ);
	ck_assert_int_eq(wire_send(ends[1], "x", 1, &(int){STDERR_FILENO}, 1), 1);
	size_t all = 5;
	pump_until(input_is_full, (void *[]){bev, &all});
	ck_assert_uint_eq(fds_received, 1);
	ferry_transport_free(transport);
	pump_turns(2);
	close(ends[1]);
}

/* _i: in a later turn */
LOOP_TEST(a_transport_that_is_freed_leaves_nothing, 2)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = make_of_handoff(100, 0);
	if (_i)
		pump_turns(3);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ferry_transport_free(transport);
	pump_turns(3);
	ck_assert(!fd_is_open(ends[0]));
	close(ends[1]);
}
