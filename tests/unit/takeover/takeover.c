/* Listeners on their way from one process to another, both of which are this one, or the far end is
 * bare system calls and bytes written by hand. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "listener_options.h"
#include "listening.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

enum {
	HELLO = 32,
	REQUEST,
	LISTENER,
	END,
	ACCEPTING,
	RELEASED,
	WITHDRAWN,
	HEADER = 16,
	FRAME_MAX = 1024
};

static struct takeover_end old_end, new_end;
static struct ferry_socket_set *set; /* the old process's */
static int ends[2];

static void add(const char *name, int fd)
{
	ck_assert_int_eq(ferry_socket_set_add(set, name, fd, FERRY_FD_TAKE), 0);
}

/* A set with one of each family, the two TCP ones under one name. */
static void open_set(void)
{
	memset(&old_end, 0, sizeof(old_end));
	memset(&new_end, 0, sizeof(new_end));
	ck_assert_int_eq(ferry_socket_set_new(&set), 0);
	add("www", listen_tcp());
	add("control", listen_unix(socket_path));
	add("www", listen_tcp());
	add("hidden", listen_abstract());
	ck_assert_int_eq(ferry_socket_set_own_path(set, "control"), 0);
}

static void start(const char *const *names, size_t count)
{
	make_pair(PAIR_UNIX, ends);
	serve_on(&old_end, set, ends[0]);
	request_on(&new_end, ends[1], names, count);
}

static void start_all(void)
{
	open_set();
	start(NULL, 0);
}

static void close_all(void)
{
	takeover_end_close(&new_end);
	takeover_end_close(&old_end);
	ferry_socket_set_free(set);
	set = NULL;
	pump_turns(3);
}

static void say_accepting(struct takeover_end *end)
{
	ck_assert_int_eq(ferry_takeover_commit(end->takeover), 0);
}

static void pump_until_both_ended(void)
{
	pump_until_count(&old_end.ended, 1);
	pump_until_count(&new_end.ended, 1);
}

/* ---- all goes well ---- */

TEST_CASE("taken over", make_directory, remove_directory);

TEST(all_listeners_arrive_as_they_were)
{
	int fds[4];
	open_set();
	for (size_t i = 0; i < 4; i++)
		fds[i] = ferry_socket_set_get_fd(set, i);
	start(NULL, 0);
	pump_until_count(&new_end.received, 1);
	ck_assert_uint_eq(ferry_socket_set_count(new_end.set), 4);
	for (size_t i = 0; i < 4; i++) {
		int fd = ferry_socket_set_get_fd(new_end.set, i);
		ck_assert_int_ne(fd, fds[i]);
		ck_assert(same_file(fd, fds[i]));
		ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
		ck_assert_str_eq(ferry_socket_set_get_name(new_end.set, i),
		                 ferry_socket_set_get_name(set, i));
		ck_assert(is_reachable(fd));
	}
	say_accepting(&new_end);
	pump_until_both_ended();
	ck_assert_int_eq(old_end.status, 0);
	ck_assert_int_eq(new_end.status, 0);
	ck_assert_uint_eq(ferry_socket_set_count(set), 0);
	for (size_t i = 0; i < 4; i++) {
		ck_assert(!fd_is_open(fds[i]));
		ck_assert(is_reachable(ferry_socket_set_get_fd(new_end.set, i)));
	}
	close_all();
}

TEST(the_old_one_keeps_all_until_the_new_one_accepts)
{
	start_all();
	pump_until_count(&new_end.received, 1);
	pump_turns(20);
	ck_assert_uint_eq(old_end.ended + new_end.ended, 0);
	ck_assert_uint_eq(ferry_socket_set_count(set), 4);
	ck_assert(is_reachable(ferry_socket_set_find(set, "control")));
	close_all();
	ck_assert(!path_exists(socket_path));
}

static int www_of_old;

static void old_looks(struct takeover_end *end)
{
	ck_assert_int_eq(end->status, 0);
	ck_assert_uint_eq(new_end.ended, 0);
	ck_assert_uint_eq(ferry_socket_set_count(set), 0);
	ck_assert(fd_is_open(www_of_old)); /* until this returns */
}

static void new_looks(struct takeover_end *end)
{
	ck_assert_int_eq(end->status, 0);
	ck_assert_uint_eq(old_end.ended, 1);
	ck_assert(!fd_is_open(www_of_old));
}

TEST(the_new_one_is_told_once_the_old_one_has_stopped)
{
	open_set();
	www_of_old = ferry_socket_set_find(set, "www");
	old_end.on_ended = old_looks;
	new_end.on_received = say_accepting;
	new_end.on_ended = new_looks;
	start(NULL, 0);
	pump_until_both_ended();
	close_all();
}

TEST(the_last_owner_removes_the_file)
{
	struct stat before, after;
	start_all();
	ck_assert_int_eq(lstat(socket_path, &before), 0);
	new_end.on_received = say_accepting;
	pump_until_both_ended();
	takeover_end_close(&old_end);
	ferry_socket_set_free(set);
	set = NULL;
	ck_assert_int_eq(lstat(socket_path, &after), 0);
	ck_assert_uint_eq(before.st_ino, after.st_ino);
	ck_assert(is_reachable(ferry_socket_set_find(new_end.set, "control")));
	close_all();
	ck_assert(!path_exists(socket_path));
}

TEST(a_file_that_the_old_one_does_not_own_is_not_owned_by_the_new_one)
{
	memset(&old_end, 0, sizeof(old_end));
	memset(&new_end, 0, sizeof(new_end));
	ck_assert_int_eq(ferry_socket_set_new(&set), 0);
	add("control", listen_unix(socket_path));
	start(NULL, 0);
	new_end.on_received = say_accepting;
	pump_until_both_ended();
	ck_assert_int_eq(new_end.status, 0);
	close_all();
	ck_assert_int_eq(unlink(socket_path), 0);
}

TEST(what_is_not_asked_for_stays)
{
	static const char *const names[] = {"hidden", "www", "hidden"};
	open_set();
	start(names, 3);
	new_end.on_received = say_accepting;
	pump_until_both_ended();
	ck_assert_uint_eq(ferry_socket_set_count(new_end.set), 3);
	ck_assert_str_eq(ferry_socket_set_get_name(new_end.set, 0), "www");
	ck_assert_str_eq(ferry_socket_set_get_name(new_end.set, 1), "www");
	ck_assert_str_eq(ferry_socket_set_get_name(new_end.set, 2), "hidden");
	ck_assert_uint_eq(ferry_socket_set_count(set), 1);
	ck_assert(is_reachable(ferry_socket_set_find(set, "control")));
	takeover_end_close(&new_end);
	ck_assert(path_exists(socket_path));
	close_all();
	ck_assert(!path_exists(socket_path));
}

TEST(an_empty_set_can_be_taken_over)
{
	memset(&old_end, 0, sizeof(old_end));
	memset(&new_end, 0, sizeof(new_end));
	ck_assert_int_eq(ferry_socket_set_new(&set), 0);
	new_end.on_received = say_accepting;
	start(NULL, 0);
	pump_until_both_ended();
	ck_assert_int_eq(old_end.status, 0);
	ck_assert_int_eq(new_end.status, 0);
	ck_assert_uint_eq(ferry_socket_set_count(new_end.set), 0);
	close_all();
}

TEST(three_hundred_listeners_arrive_in_order)
{
	char name[FERRY_SOCKET_SET_NAME_MAX + 1] = "";
	raise_descriptor_limit();
	memset(&old_end, 0, sizeof(old_end));
	memset(&new_end, 0, sizeof(new_end));
	ck_assert_int_eq(ferry_socket_set_new(&set), 0);
	for (int i = 0; i < 300; i++) {
		memset(name, '.', sizeof(name) - 1);
		memcpy(name, &(char[]){(char)('a' + i / 26), (char)('a' + i % 26)}, 2);
		add(name, i % 2 == 0 ? listen_tcp() : listen_abstract());
	}
	new_end.on_received = say_accepting;
	start(NULL, 0);
	pump_until_both_ended();
	ck_assert_int_eq(new_end.status, 0);
	ck_assert_uint_eq(ferry_socket_set_count(new_end.set), 300);
	for (size_t i = 0; i < 300; i++) {
		const char *arrived = ferry_socket_set_get_name(new_end.set, i);
		ck_assert_int_eq((arrived[0] - 'a') * 26 + arrived[1] - 'a', (int)i);
		ck_assert_uint_eq(strlen(arrived), FERRY_SOCKET_SET_NAME_MAX);
	}
	close_all();
}

TEST(a_received_set_is_handed_on)
{
	start_all();
	new_end.on_received = say_accepting;
	pump_until_both_ended();
	for (int generation = 0; generation < 20; generation++) {
		struct takeover_end next = {.on_received = say_accepting};
		int open = count_open_fds();
		takeover_end_close(&old_end);
		ferry_socket_set_free(set);
		set = new_end.set;
		new_end.set = NULL;
		takeover_end_close(&new_end);
		memset(&old_end, 0, sizeof(old_end));
		make_pair(PAIR_UNIX, ends);
		serve_on(&old_end, set, ends[0]);
		request_on(&next, ends[1], NULL, 0);
		pump_until_count(&next.ended, 1);
		ck_assert_int_eq(next.status, 0);
		new_end.set = next.set;
		next.set = NULL;
		takeover_end_close(&next);
		takeover_end_close(&old_end);
		pump_turns(3);
		ck_assert_int_le(count_open_fds(), open);
		ck_assert(is_reachable(ferry_socket_set_find(new_end.set, "control")));
	}
	close_all();
	ck_assert(!path_exists(socket_path));
}

/* ---- freeing in callbacks ---- */

static void free_takeover(struct takeover_end *end)
{
	ferry_takeover_free(end->takeover);
	end->takeover = NULL;
}

static void free_takeover_and_sets(struct takeover_end *end)
{
	free_takeover(end);
	if (end == &old_end) {
		ferry_socket_set_free(set);
		set = NULL;
	}
	ferry_socket_set_free(end->set);
	end->set = NULL;
}

LOOP_TEST(all_may_be_freed_in_the_last_callback, 2)
{
	open_set();
	old_end.on_ended = _i == 0 ? free_takeover : free_takeover_and_sets;
	new_end.on_received = say_accepting;
	new_end.on_ended = old_end.on_ended;
	start(NULL, 0);
	pump_until_both_ended();
	ck_assert_int_eq(old_end.status, 0);
	ck_assert_int_eq(new_end.status, 0);
	ck_assert_int_eq(path_exists(socket_path), _i == 0);
	close_all();
	ck_assert(!path_exists(socket_path));
}

LOOP_TEST(the_takeover_may_be_freed_when_all_is_received, 2)
{
	open_set();
	new_end.on_received = _i == 0 ? free_takeover : free_takeover_and_sets;
	start(NULL, 0);
	pump_until_count(&old_end.ended, 1);
	ck_assert(old_end.status == -ECONNRESET || old_end.status == -EPIPE);
	ck_assert_uint_eq(new_end.ended, 0);
	ck_assert_uint_eq(ferry_socket_set_count(set), 4);
	ck_assert(is_reachable(ferry_socket_set_find(set, "control")));
	close_all();
	ck_assert(!path_exists(socket_path));
}

/* ---- giving up ---- */

/* What is left after an attempt that changed nothing: the old one goes on, another may try. */
static void expect_nothing_changed(void)
{
	takeover_end_close(&new_end);
	takeover_end_close(&old_end);
	ck_assert_uint_eq(ferry_socket_set_count(set), 4);
	ck_assert(is_reachable(ferry_socket_set_find(set, "control")));
	memset(&old_end, 0, sizeof(old_end));
	memset(&new_end, 0, sizeof(new_end));
	new_end.on_received = say_accepting;
	start(NULL, 0);
	pump_until_both_ended();
	ck_assert_int_eq(new_end.status, 0);
	ck_assert_uint_eq(ferry_socket_set_count(new_end.set), 4);
	close_all();
	ck_assert(!path_exists(socket_path));
}

TEST_CASE("given up", make_directory, remove_directory);

TEST(a_name_that_is_not_there_is_told_to_both)
{
	static const char *const names[] = {"www", "ww"};
	open_set();
	start(names, 2);
	pump_until_both_ended();
	ck_assert_int_eq(old_end.status, -ENOENT);
	ck_assert_int_eq(new_end.status, -ENOENT);
	ck_assert_uint_eq(new_end.received, 0);
	ck_assert_int_eq(ferry_takeover_commit(new_end.takeover), -ENOTCONN);
	expect_nothing_changed();
}

TEST(the_old_one_may_withdraw)
{
	start_all();
	pump_until_count(&new_end.received, 1);
	free_takeover(&old_end);
	pump_until_count(&new_end.ended, 1);
	ck_assert_int_eq(new_end.status, -ECANCELED);
	ck_assert_int_eq(ferry_takeover_commit(new_end.takeover), -ENOTCONN);
	ck_assert_uint_eq(old_end.ended, 0);
	expect_nothing_changed();
}

TEST(the_old_one_may_withdraw_when_the_new_one_has_said_that_it_accepts)
{
	start_all();
	pump_until_count(&new_end.received, 1);
	say_accepting(&new_end);
	free_takeover(&old_end);
	pump_until_count(&new_end.ended, 1);
	ck_assert_int_eq(new_end.status, -ECANCELED);
	expect_nothing_changed();
}

LOOP_TEST(the_old_one_may_withdraw_before_all_is_there, 12)
{
	start_all();
	pump_turns(_i); /* in whatever state that brings both into */
	free_takeover(&old_end);
	pump_until_count(&new_end.ended, 1);
	ck_assert(new_end.status == -ECANCELED || new_end.status == -ECONNRESET ||
	          new_end.status == -EPIPE);
	expect_nothing_changed();
}

TEST(freeing_the_set_withdraws)
{
	start_all();
	pump_until_count(&new_end.received, 1);
	ferry_socket_set_free(set);
	set = NULL;
	ck_assert_uint_eq(old_end.ended, 0);
	pump_until_both_ended();
	ck_assert_int_eq(old_end.status, -ECANCELED);
	ck_assert_int_eq(new_end.status, -ECANCELED);
	ck_assert(!path_exists(socket_path));
	close_all();
}

TEST(freeing_the_received_set_gives_up)
{
	start_all();
	pump_until_count(&new_end.received, 1);
	ferry_socket_set_free(new_end.set);
	new_end.set = NULL;
	pump_until_both_ended();
	ck_assert_int_eq(new_end.status, -ECANCELED);
	ck_assert_int_lt(old_end.status, 0);
	expect_nothing_changed();
}

TEST(one_takeover_of_a_set_at_a_time)
{
	struct ferry_takeover *another = NULL;
	int more[2];
	start_all();
	make_pair(PAIR_UNIX, more);
	struct ferry_transport *transport = make_transport(more[0]);
	ck_assert_int_eq(ferry_takeover_serve(&another, set, transport, &takeover_end_callbacks, NULL),
	                 -EBUSY);
	pump_until_count(&new_end.received, 1);
	ck_assert_int_eq(
	    ferry_takeover_serve(&another, new_end.set, transport, &takeover_end_callbacks, NULL),
	    -EBUSY);
	say_accepting(&new_end);
	pump_until_both_ended();
	ferry_takeover_free(old_end.takeover);
	old_end.takeover = NULL;
	ck_assert_int_eq(
	    ferry_takeover_serve(&another, new_end.set, transport, &takeover_end_callbacks, NULL), 0);
	ferry_takeover_free(another);
	close(more[1]);
	close_all();
}

TEST(bad_arguments_of_a_takeover_are_refused)
{
	static const struct ferry_takeover_callbacks none = {.received = NULL};
	static const char *const no_name[] = {"www", NULL};
	static char long_name[FERRY_SOCKET_SET_NAME_MAX + 2];
	const struct ferry_takeover_callbacks *all = &takeover_end_callbacks;
	struct ferry_takeover *takeover = NULL;
	open_set();
	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *t = make_transport(ends[0]);
	ck_assert_int_eq(ferry_takeover_serve(NULL, set, t, all, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_serve(&takeover, NULL, t, all, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_serve(&takeover, set, NULL, all, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_serve(&takeover, set, t, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_serve(&takeover, set, t, &none, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_request(NULL, t, NULL, 0, all, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_request(&takeover, NULL, NULL, 0, all, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_request(&takeover, t, NULL, 1, all, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_request(&takeover, t, NULL, 0, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_request(&takeover, t, NULL, 0, &none, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_request(&takeover, t, no_name, 2, all, NULL), -EINVAL);
	memset(long_name, 'n', sizeof(long_name) - 1);
	ck_assert_int_eq(
	    ferry_takeover_request(&takeover, t, (const char *[]){long_name}, 1, all, NULL), -EMSGSIZE);
	ck_assert_int_eq(ferry_takeover_commit(NULL), -EINVAL);
	ck_assert_ptr_null(takeover);
	ferry_takeover_free(NULL);

	/* None of that took the transport. */
	ck_assert_int_eq(ferry_takeover_serve(&takeover, set, t, all, NULL), 0);
	ck_assert_int_eq(ferry_takeover_commit(takeover), -EINVAL);
	ferry_takeover_free(takeover);
	close(ends[1]);
	close_all();
}

TEST(a_connection_that_is_not_of_a_unix_socket_is_refused)
{
	struct ferry_takeover *takeover = NULL;
	open_set();
	make_pair(PAIR_TCP, ends);
	struct ferry_transport *transport = make_transport(ends[0]);
	ck_assert_int_eq(ferry_takeover_serve(&takeover, set, transport, &takeover_end_callbacks, NULL),
	                 -EOPNOTSUPP);
	ck_assert_int_eq(
	    ferry_takeover_request(&takeover, transport, NULL, 0, &takeover_end_callbacks, NULL),
	    -EOPNOTSUPP);
	ferry_transport_free(transport);
	close(ends[1]);
	close_all();
}

TEST(it_accepts_only_what_it_has_received)
{
	start_all();
	ck_assert_int_eq(ferry_takeover_commit(new_end.takeover), -EINVAL);
	pump_until_count(&new_end.received, 1);
	say_accepting(&new_end);
	ck_assert_int_eq(ferry_takeover_commit(new_end.takeover), -EINVAL);
	pump_until_both_ended();
	close_all();
}

/* ---- the far end by hand ---- */

static size_t put_frame(unsigned char *out, unsigned int type, const void *payload, size_t length,
                        unsigned int fds)
{
	const unsigned char header[HEADER] = {'F',
	                                      'R',
	                                      'Y',
	                                      1,
	                                      (unsigned char)type,
	                                      0,
	                                      0,
	                                      0,
	                                      (unsigned char)length,
	                                      (unsigned char)(length >> 8),
	                                      0,
	                                      0,
	                                      (unsigned char)fds,
	                                      0,
	                                      0,
	                                      0};
	memcpy(out, header, HEADER);
	if (length > 0)
		memcpy(out + HEADER, payload, length);
	return HEADER + length;
}

static void far_send(unsigned int type, const void *payload, size_t length, const int *fds,
                     unsigned int count)
{
	unsigned char frame[FRAME_MAX];
	size_t size = put_frame(frame, type, payload, length, count);
	ck_assert_int_eq(wire_send(ends[1], frame, size, fds, count), (ssize_t)size);
}

static void far_hello(unsigned int lowest, unsigned int highest)
{
	const unsigned char hello[8] = {
	    (unsigned char)lowest, 0, (unsigned char)highest, 0, 0, 0, 0, 0};
	far_send(HELLO, hello, sizeof(hello), NULL, 0);
}

/* The next frame that our side sends; its type. */
static unsigned char far_payload[FRAME_MAX];
static struct wire_read far_read;

static bool frame_is_there(void *argument)
{
	unsigned char header[HEADER];
	(void)argument;
	return recv(ends[1], header, HEADER, MSG_PEEK | MSG_DONTWAIT) == HEADER;
}

static unsigned int far_receive(void)
{
	unsigned char header[HEADER];
	struct wire_read rest;
	pump_until(frame_is_there, NULL);
	wire_receive(ends[1], header, HEADER, &far_read);
	ck_assert_int_eq(far_read.bytes, HEADER);
	ck_assert_uint_eq(far_read.fd_count, header[12]);
	size_t length = header[8] | (size_t)header[9] << 8;
	memset(far_payload, 0, sizeof(far_payload));
	if (length > 0) {
		wire_receive(ends[1], far_payload, length, &rest);
		ck_assert_int_eq(rest.bytes, (ssize_t)length);
		ck_assert_uint_eq(rest.fd_count, 0);
	}
	return header[4];
}

static int far_number(void)
{
	return (int)(far_payload[0] | (unsigned int)far_payload[1] << 8 |
	             (unsigned int)far_payload[2] << 16 | (unsigned int)far_payload[3] << 24);
}

static void open_far(void)
{
	open_set();
	make_pair(PAIR_UNIX, ends);
	serve_on(&old_end, set, ends[0]);
	ck_assert_uint_eq(far_receive(), HELLO);
}

static void close_far(void)
{
	close(ends[1]);
	close_all();
	ck_assert(!path_exists(socket_path));
}

static const unsigned char all_names[8] = {0};

static void nothing_is_said_yet(struct takeover_end *end)
{
	char byte;
	(void)end;
	ck_assert_int_eq(recv(ends[1], &byte, 1, MSG_PEEK | MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EAGAIN);
}

TEST_CASE("by hand", make_directory, remove_directory);

TEST(the_bytes_are_those_of_the_documentation)
{
	static const unsigned char hello[8] = {1, 0, 1, 0, 0, 0, 0, 0};
	static const unsigned char two[8 + 4 + 8] = {2,   0,   0, 0,   0,   0,   0,   0,   3,   'w',
	                                             'w', 'w', 7, 'c', 'o', 'n', 't', 'r', 'o', 'l'};
	struct stat file, parent;
	char inside[sizeof(socket_path)];
	uint64_t cookie, device, inode;
	socklen_t length = sizeof(cookie);
	open_set();
	make_pair(PAIR_UNIX, ends);
	serve_on(&old_end, set, ends[0]);
	ck_assert_uint_eq(far_receive(), HELLO);
	ck_assert_mem_eq(far_payload, hello, sizeof(hello));
	far_hello(1, 1);
	far_send(REQUEST, two, sizeof(two), NULL, 0);

	ck_assert_uint_eq(far_receive(), LISTENER); /* in the order of the set */
	ck_assert_uint_eq(far_read.fd_count, 1);
	ck_assert(same_file(far_read.fds[0], ferry_socket_set_get_fd(set, 0)));
	ck_assert_mem_eq(far_payload + 24, "\3\0\0\0\0\0\0\0www", 11);
	wire_close_fds(&far_read);

	ck_assert_uint_eq(far_receive(), LISTENER);
	ck_assert_uint_eq(far_read.fd_count, 2);
	ck_assert(same_file(far_read.fds[0], ferry_socket_set_get_fd(set, 1)));
	ck_assert_int_eq(getsockopt(far_read.fds[0], SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
	ck_assert_mem_eq(far_payload, &cookie, 8); /* the tests run on little-endian machines */
	ck_assert_int_eq(lstat(socket_path, &file), 0);
	device = file.st_dev;
	inode = file.st_ino;
	ck_assert_mem_eq(far_payload + 8, &device, 8);
	ck_assert_mem_eq(far_payload + 16, &inode, 8);
	ck_assert_mem_eq(far_payload + 24, "\7\0\6\0\0\0\0\0controlsocket", 21);
	memcpy(inside, socket_path, sizeof(inside));
	*strrchr(inside, '/') = '\0';
	ck_assert_int_eq(stat(inside, &parent), 0);
	ck_assert_int_eq(fstat(far_read.fds[1], &file), 0);
	ck_assert_uint_eq(file.st_ino, parent.st_ino);
	wire_close_fds(&far_read);

	ck_assert_uint_eq(far_receive(), LISTENER);
	wire_close_fds(&far_read);
	ck_assert_uint_eq(far_receive(), END);
	ck_assert_int_eq(far_number(), 3);
	old_end.on_ended = nothing_is_said_yet;
	far_send(ACCEPTING, NULL, 0, NULL, 0);
	ck_assert_uint_eq(far_receive(), RELEASED);
	ck_assert_uint_eq(old_end.ended, 1);
	ck_assert_int_eq(old_end.status, 0);
	ck_assert_uint_eq(ferry_socket_set_count(set), 1);
	close(ends[1]);
	close_all();
	ck_assert_int_eq(unlink(socket_path), 0); /* ours to do */
}

static void accept_nothing(struct ferry_listener *listener, struct ferry_transport *transport,
                           void *context)
{
	(void)listener, (void)context;
	ferry_transport_free(transport);
}

TEST(a_lock_is_the_third_descriptor)
{
	char lock_path[sizeof(socket_path) + 8];
	struct ferry_listener *listener = NULL;
	struct stat named, sent;
	memset(&old_end, 0, sizeof(old_end));
	memset(&new_end, 0, sizeof(new_end));
	ck_assert_int_eq(ferry_socket_set_new(&set), 0);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, socket_path, with_lock(), accept_nothing, NULL),
	    0);
	ck_assert_int_eq(ferry_socket_set_add_listener(set, "control", listener), 0);
	ferry_listener_free(listener);
	make_pair(PAIR_UNIX, ends);
	serve_on(&old_end, set, ends[0]);
	ck_assert_uint_eq(far_receive(), HELLO);
	far_hello(1, 1);
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0);

	ck_assert_uint_eq(far_receive(), LISTENER);
	ck_assert_uint_eq(far_read.fd_count, 3);
	ck_assert_mem_eq(far_payload + 24, "\7\0\6\0\1\0\0\0controlsocket", 21);
	ck_assert(same_file(far_read.fds[0], ferry_socket_set_find(set, "control")));
	snprintf(lock_path, sizeof(lock_path), "%s.lock", socket_path);
	ck_assert_int_eq(lstat(lock_path, &named), 0);
	ck_assert_int_eq(fstat(far_read.fds[2], &sent), 0);
	ck_assert_uint_eq(named.st_ino, sent.st_ino);
	wire_close_fds(&far_read);
	close_far();
	ck_assert(!path_exists(lock_path));
}

/* What the old process must not be told, after HELLO; the state stays TALKING. */
static const struct {
	unsigned int type;
	size_t length;
	const char *payload;
} bad_requests[] = {
    {HELLO, 8, "\1\0\1\0\0\0\0\0"},          {ACCEPTING, 0, ""},
    {REQUEST, 7, "\0\0\0\0\0\0\0"},          {REQUEST, 8, "\1\0\0\0\0\0\0\0"},
    {REQUEST, 9, "\0\0\0\0\0\0\0\0\0"},      {REQUEST, 11, "\1\0\0\0\0\0\0\0\3ww"},
    {REQUEST, 13, "\1\0\0\0\0\0\0\0\3wwww"}, {REQUEST, 12, "\1\0\0\0\0\0\0\0\3w\0w"},
    {REQUEST, 12, "\2\0\0\0\0\0\0\0\3www"},  {REQUEST, 12, "\377\377\377\377\0\0\0\0\3www"},
};

LOOP_TEST(a_malformed_request_gets_nothing, COUNT(bad_requests))
{
	open_far();
	far_hello(1, 1);
	far_send(bad_requests[_i].type, bad_requests[_i].payload, bad_requests[_i].length, NULL, 0);
	ck_assert_uint_eq(far_receive(), WITHDRAWN);
	ck_assert_int_eq(far_number(), -EPROTO);
	ck_assert_uint_eq(old_end.ended, 1);
	ck_assert_int_eq(old_end.status, -EPROTO);
	ck_assert_uint_eq(ferry_socket_set_count(set), 4);
	close_far();
}

TEST(hello_comes_first)
{
	open_far();
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0);
	ck_assert_uint_eq(far_receive(), WITHDRAWN);
	ck_assert_int_eq(old_end.status, -EPROTO);
	close_far();
}

TEST(bytes_that_are_no_message_change_nothing)
{
	open_far();
	far_hello(1, 1);
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0);
	for (int i = 0; i < 4; i++) {
		ck_assert_uint_eq(far_receive(), LISTENER);
		wire_close_fds(&far_read);
	}
	ck_assert_uint_eq(far_receive(), END);
	ck_assert_int_eq(wire_send(ends[1], "garbage garbage garbage", 23, NULL, 0), 23);
	pump_until_count(&old_end.ended, 1);
	ck_assert_int_eq(old_end.status, -EPROTO);
	ck_assert_uint_eq(ferry_socket_set_count(set), 4);
	close_far(); /* and the file was still the old one's to remove */
}

LOOP_TEST(versions_must_meet, 3)
{
	static const struct {
		unsigned int lowest, highest;
		int status;
	} hellos[] = {{2, 3, -EPROTONOSUPPORT}, {0, 1, -EPROTO}, {2, 1, -EPROTO}};
	open_far();
	far_hello(hellos[_i].lowest, hellos[_i].highest);
	ck_assert_uint_eq(far_receive(), WITHDRAWN);
	ck_assert_int_eq(far_number(), hellos[_i].status);
	ck_assert_int_eq(old_end.status, hellos[_i].status);
	close_far();
}

TEST(a_later_version_and_its_messages_are_welcome)
{
	static const unsigned char longer[12] = {1, 0, 9, 0, 0, 0, 0, 0, 7, 7, 7, 7};
	open_far();
	far_send(HELLO, longer, sizeof(longer), NULL, 0);
	far_send(77, longer, sizeof(longer), NULL, 0);
	far_send(1, longer, sizeof(longer), NULL, 0);
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0);
	for (int i = 0; i < 4; i++) {
		ck_assert_uint_eq(far_receive(), LISTENER);
		wire_close_fds(&far_read);
	}
	ck_assert_uint_eq(far_receive(), END);
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0); /* one is answered */
	ck_assert_uint_eq(far_receive(), WITHDRAWN);
	ck_assert_int_eq(old_end.status, -EPROTO);
	close_far();
}

/* A new process that does not read: nothing can be said to it when the old one gives up. */
TEST(files_are_left_when_the_withdrawal_cannot_be_sent)
{
	open_set();
	raise_descriptor_limit();
	make_pair(PAIR_UNIX, ends);
	wire_shrink(ends[0]);
	serve_on(&old_end, set, ends[0]);
	pump_turns(3);
	far_hello(1, 1);
	far_send(REQUEST, all_names, sizeof(all_names), NULL, 0);
	pump_turns(10);
	/* The socket is full by the test's own bytes. */
	wire_fill(ends[0]);
	free_takeover(&old_end);
	ferry_socket_set_free(set);
	set = NULL;
	ck_assert(path_exists(socket_path));
	ck_assert_int_eq(unlink(socket_path), 0);
	close(ends[1]);
	close_all();
}

/* ---- the old process by hand ---- */

static void open_far_old(void)
{
	open_set();
	make_pair(PAIR_UNIX, ends);
	request_on(&new_end, ends[0], NULL, 0);
	ck_assert_uint_eq(far_receive(), HELLO);
	ck_assert_uint_eq(far_receive(), REQUEST);
	ck_assert_mem_eq(far_payload, all_names, sizeof(all_names));
	far_hello(1, 1);
}

/* A LISTENER for the first of the set, with one byte changed by the test. */
static size_t put_listener(unsigned char *payload, int fd, const char *name, const char *file)
{
	uint64_t cookie;
	socklen_t length = sizeof(cookie);
	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
	memset(payload, 0, 32);
	memcpy(payload, &cookie, sizeof(cookie));
	payload[24] = (unsigned char)strlen(name);
	payload[26] = (unsigned char)strlen(file);
	snprintf((char *)payload + 32, FRAME_MAX - 32, "%s%s", name, file);
	return 32 + strlen(name) + strlen(file);
}

static void expect_new_ended(int status)
{
	pump_until_count(&new_end.ended, 1);
	ck_assert_int_eq(new_end.status, status);
	close_far();
}

LOOP_TEST(what_is_not_what_it_is_said_to_be_is_refused, 16)
{
	unsigned char payload[FRAME_MAX];
	int fds[2];
	open_far_old();
	fds[0] = fds[1] = ferry_socket_set_find(set, "www");
	int connected[2];
	make_pair(PAIR_TCP, connected);
	size_t length = put_listener(payload, fds[0], "www", "");
	switch (_i) {
	case 0: /* another cookie */
		payload[0] ^= 1;
		far_send(LISTENER, payload, length, fds, 1);
		break;
	case 1: /* it does not listen */
		length = put_listener(payload, connected[0], "www", "");
		far_send(LISTENER, payload, length, connected, 1);
		break;
	case 2: /* without a descriptor */
		far_send(LISTENER, payload, length, NULL, 0);
		break;
	case 3: /* with one too many */
		far_send(LISTENER, payload, length, fds, 2);
		break;
	case 4: /* a file without its directory */
		length = put_listener(payload, fds[0], "www", "socket");
		far_send(LISTENER, payload, length, fds, 1);
		break;
	case 5: /* a file that is elsewhere */
		length = put_listener(payload, fds[0], "www", "../socket");
		far_send(LISTENER, payload, length, fds, 2);
		break;
	case 6: /* shorter than it says */
		far_send(LISTENER, payload, length - 1, fds, 1);
		break;
	case 7: /* a zero in a name */
		payload[33] = 0;
		far_send(LISTENER, payload, length, fds, 1);
		break;
	case 8: /* another number of them */
		far_send(LISTENER, payload, length, fds, 1);
		far_send(END, "\2\0\0\0\0\0\0\0", 8, NULL, 0);
		break;
	case 9: /* released before it was taken */
		far_send(RELEASED, NULL, 0, NULL, 0);
		break;
	case 10: /* withdrawn for no reason */
		far_send(WITHDRAWN, "\0\0\0\0\0\0\0\0", 8, NULL, 0);
		break;
	case 11: /* a number cut short */
		far_send(END, "\0\0\0\0", 4, NULL, 0);
		break;
	case 12: /* a file name longer than an address */
		length = put_listener(payload, fds[0], "www",
		                      "0123456789012345678901234567890123456789012345678901234567890123456"
		                      "78901234567890123456789012345678901234567");
		far_send(LISTENER, payload, length, fds, 2);
		break;
	case 13: /* a lock beside no file */
		payload[28] = 1;
		far_send(LISTENER, payload, length, fds, 1);
		break;
	case 14: /* a lock that is not there */
		length = put_listener(payload, fds[0], "www", "socket");
		payload[28] = 1;
		far_send(LISTENER, payload, length, fds, 2);
		break;
	default: /* shorter than any */
		far_send(LISTENER, payload, 31, fds, 1);
		break;
	}
	close(connected[0]);
	close(connected[1]);
	expect_new_ended(-EPROTO);
}

TEST(a_withdrawal_tells_why)
{
	open_far_old();
	far_send(WITHDRAWN, "\xf3\xff\xff\xff\0\0\0\0", 8, NULL, 0);
	expect_new_ended(-EACCES);
}

TEST(an_old_one_that_goes_before_all_is_there_is_told)
{
	open_far_old();
	close(ends[1]);
	ends[1] = dup(STDERR_FILENO);
	expect_new_ended(-ECONNRESET);
}

TEST(a_lost_descriptor_is_told)
{
	unsigned char payload[FRAME_MAX];
	open_far_old();
	int fd = ferry_socket_set_find(set, "www");
	size_t length = put_listener(payload, fd, "www", "");
	far_send(LISTENER, payload, length, &fd, 1);
	limit_descriptors(0);
	pump_until_count(&new_end.ended, 1);
	unlimit_descriptors();
	expect_new_ended(-EMFILE);
}
