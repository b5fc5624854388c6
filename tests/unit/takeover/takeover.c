/* Takeovers that succeed, and takeovers that either side gives up. Both ends are ferry's, in one process. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "listening.h"
#include "recorder.h"
#include "takeover_pair.h"
#include "test.h"
#include "wire.h"

static void start(const char *const *names, size_t count)
{
	make_pair(PAIR_UNIX, takeover_fds);
	serve_on(&old_end, old_set, takeover_fds[0]);
	request_on(&new_end, takeover_fds[1], names, count);
}

static void start_all(void)
{
	open_set();
	start(NULL, 0);
}

static void pump_until_both_ended(void)
{
	pump_until_count(&old_end.ended, 1);
	pump_until_count(&new_end.ended, 1);
}

TEST_CASE("taken over", make_directory, remove_directory);

TEST(all_listeners_arrive_as_they_were)
{
	int fds[4];
	open_set();
	for (size_t i = 0; i < 4; i++)
		fds[i] = ferry_socket_set_get_fd(old_set, i);
	start(NULL, 0);
	pump_until_count(&new_end.received, 1);
	ck_assert_uint_eq(ferry_socket_set_count(new_end.set), 4);
	for (size_t i = 0; i < 4; i++) {
		int fd = ferry_socket_set_get_fd(new_end.set, i);
		ck_assert_int_ne(fd, fds[i]);
		ck_assert(same_file(fd, fds[i]));
		ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
		ck_assert_str_eq(ferry_socket_set_get_name(new_end.set, i),
		                 ferry_socket_set_get_name(old_set, i));
		ck_assert(is_reachable(fd));
	}
	commit_takeover(&new_end);
	pump_until_both_ended();
	ck_assert_int_eq(old_end.status, 0);
	ck_assert_int_eq(new_end.status, 0);
	ck_assert_uint_eq(ferry_socket_set_count(old_set), 0);
	for (size_t i = 0; i < 4; i++) {
		ck_assert(!fd_is_open(fds[i]));
		ck_assert(is_reachable(ferry_socket_set_get_fd(new_end.set, i)));
	}
	close_all();
}

static struct ferry_transport *make_limited_transport(int fd)
{
	struct ferry_transport *transport = make_transport(fd);
	ck_assert_int_eq(ferry_transport_set_byte_limit(transport, 1), 0);
	return transport;
}

TEST(a_byte_limit_of_the_transport_ends_no_takeover)
{
	open_set();
	make_pair(PAIR_UNIX, takeover_fds);
	ck_assert_int_eq(ferry_takeover_serve(&old_end.takeover, old_set,
	                                      make_limited_transport(takeover_fds[0]),
	                                      &takeover_end_callbacks, &old_end),
	                 0);
	ck_assert_int_eq(ferry_takeover_request(&new_end.takeover,
	                                        make_limited_transport(takeover_fds[1]), NULL, 0,
	                                        &takeover_end_callbacks, &new_end),
	                 0);
	new_end.on_received = commit_takeover;
	pump_until_both_ended();
	ck_assert_int_eq(old_end.status, 0);
	ck_assert_int_eq(new_end.status, 0);
	close_all();
}

TEST(the_old_one_keeps_all_until_the_new_one_accepts)
{
	start_all();
	pump_until_count(&new_end.received, 1);
	pump_turns(20);
	ck_assert_uint_eq(old_end.ended + new_end.ended, 0);
	ck_assert_uint_eq(ferry_socket_set_count(old_set), 4);
	ck_assert(is_reachable(ferry_socket_set_find(old_set, "control")));
	close_all();
	ck_assert(!path_exists(socket_path));
}

static int www_of_old;

static void old_looks(struct takeover_end *end)
{
	ck_assert_int_eq(end->status, 0);
	ck_assert_uint_eq(new_end.ended, 0);
	ck_assert_uint_eq(ferry_socket_set_count(old_set), 0);
	ck_assert(fd_is_open(www_of_old)); /* ferry closes it after this callback */
}

static void new_looks(struct takeover_end *end)
{
	ck_assert_int_eq(end->status, 0);
	ck_assert_uint_eq(old_end.ended, 1);
	ck_assert(!fd_is_open(www_of_old));
}

TEST(the_new_process_receives_its_end_once_the_old_one_has_stopped)
{
	open_set();
	www_of_old = ferry_socket_set_find(old_set, "www");
	old_end.on_ended = old_looks;
	new_end.on_received = commit_takeover;
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
	new_end.on_received = commit_takeover;
	pump_until_both_ended();
	takeover_end_close(&old_end);
	ferry_socket_set_free(old_set);
	old_set = NULL;
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
	ck_assert_int_eq(ferry_socket_set_new(&old_set), 0);
	add_to_set("control", listen_unix(socket_path));
	start(NULL, 0);
	new_end.on_received = commit_takeover;
	pump_until_both_ended();
	ck_assert_int_eq(new_end.status, 0);
	close_all();
	ck_assert_int_eq(unlink(socket_path), 0);
}

TEST(sockets_that_are_not_requested_stay)
{
	static const char *const names[] = {"hidden", "www", "hidden"};
	open_set();
	start(names, 3);
	new_end.on_received = commit_takeover;
	pump_until_both_ended();
	ck_assert_uint_eq(ferry_socket_set_count(new_end.set), 3);
	ck_assert_str_eq(ferry_socket_set_get_name(new_end.set, 0), "www");
	ck_assert_str_eq(ferry_socket_set_get_name(new_end.set, 1), "www");
	ck_assert_str_eq(ferry_socket_set_get_name(new_end.set, 2), "hidden");
	ck_assert_uint_eq(ferry_socket_set_count(old_set), 1);
	ck_assert(is_reachable(ferry_socket_set_find(old_set, "control")));
	takeover_end_close(&new_end);
	ck_assert(path_exists(socket_path));
	close_all();
	ck_assert(!path_exists(socket_path));
}

TEST(an_empty_set_can_be_taken_over)
{
	memset(&old_end, 0, sizeof(old_end));
	memset(&new_end, 0, sizeof(new_end));
	ck_assert_int_eq(ferry_socket_set_new(&old_set), 0);
	new_end.on_received = commit_takeover;
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
	ck_assert_int_eq(ferry_socket_set_new(&old_set), 0);
	for (int i = 0; i < 300; i++) {
		memset(name, '.', sizeof(name) - 1);
		memcpy(name, &(char[]){(char)('a' + i / 26), (char)('a' + i % 26)}, 2);
		add_to_set(name, i % 2 == 0 ? listen_tcp() : listen_abstract());
	}
	new_end.on_received = commit_takeover;
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
	new_end.on_received = commit_takeover;
	pump_until_both_ended();
	for (int generation = 0; generation < 20; generation++) {
		struct takeover_end next = {.on_received = commit_takeover};
		int open = count_open_fds();
		takeover_end_close(&old_end);
		ferry_socket_set_free(old_set);
		old_set = new_end.set;
		new_end.set = NULL;
		takeover_end_close(&new_end);
		memset(&old_end, 0, sizeof(old_end));
		make_pair(PAIR_UNIX, takeover_fds);
		serve_on(&old_end, old_set, takeover_fds[0]);
		request_on(&next, takeover_fds[1], NULL, 0);
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

static void free_takeover_and_sets(struct takeover_end *end)
{
	free_takeover(end);
	if (end == &old_end) {
		ferry_socket_set_free(old_set);
		old_set = NULL;
	}
	ferry_socket_set_free(end->set);
	end->set = NULL;
}

LOOP_TEST(all_may_be_freed_in_the_last_callback, 2)
{
	open_set();
	old_end.on_ended = _i == 0 ? free_takeover : free_takeover_and_sets;
	new_end.on_received = commit_takeover;
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
	ck_assert_uint_eq(ferry_socket_set_count(old_set), 4);
	ck_assert(is_reachable(ferry_socket_set_find(old_set, "control")));
	close_all();
	ck_assert(!path_exists(socket_path));
}

/* A failed takeover has changed nothing: the old process still owns its sockets, and the next takeover
 * succeeds. */
static void expect_nothing_changed(void)
{
	takeover_end_close(&new_end);
	takeover_end_close(&old_end);
	ck_assert_uint_eq(ferry_socket_set_count(old_set), 4);
	ck_assert(is_reachable(ferry_socket_set_find(old_set, "control")));
	memset(&old_end, 0, sizeof(old_end));
	memset(&new_end, 0, sizeof(new_end));
	new_end.on_received = commit_takeover;
	start(NULL, 0);
	pump_until_both_ended();
	ck_assert_int_eq(new_end.status, 0);
	ck_assert_uint_eq(ferry_socket_set_count(new_end.set), 4);
	close_all();
	ck_assert(!path_exists(socket_path));
}

TEST_CASE("given up", make_directory, remove_directory);

TEST(an_unknown_name_ends_the_takeover_at_both_ends)
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

TEST(the_old_process_may_withdraw_after_the_new_one_has_accepted)
{
	start_all();
	pump_until_count(&new_end.received, 1);
	commit_takeover(&new_end);
	free_takeover(&old_end);
	pump_until_count(&new_end.ended, 1);
	ck_assert_int_eq(new_end.status, -ECANCELED);
	expect_nothing_changed();
}

LOOP_TEST(the_old_one_may_withdraw_before_all_is_there, 12)
{
	start_all();
	pump_turns(_i); /* the states of both ends depend on _i */
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
	ferry_socket_set_free(old_set);
	old_set = NULL;
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
	ck_assert_int_eq(
	    ferry_takeover_serve(&another, old_set, transport, &takeover_end_callbacks, NULL), -EBUSY);
	pump_until_count(&new_end.received, 1);
	ck_assert_int_eq(
	    ferry_takeover_serve(&another, new_end.set, transport, &takeover_end_callbacks, NULL),
	    -EBUSY);
	commit_takeover(&new_end);
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
	make_pair(PAIR_UNIX, takeover_fds);
	struct ferry_transport *t = make_transport(takeover_fds[0]);
	ck_assert_int_eq(ferry_takeover_serve(NULL, old_set, t, all, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_serve(&takeover, NULL, t, all, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_serve(&takeover, old_set, NULL, all, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_serve(&takeover, old_set, t, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_takeover_serve(&takeover, old_set, t, &none, NULL), -EINVAL);
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

	/* After the failed calls the caller still owns the transport. */
	ck_assert_int_eq(ferry_takeover_serve(&takeover, old_set, t, all, NULL), 0);
	ck_assert_int_eq(ferry_takeover_commit(takeover), -EINVAL);
	ferry_takeover_free(takeover);
	close(takeover_fds[1]);
	close_all();
}

/* As many of the longest ones as fit, and one that fills the rest. */
TEST(the_names_of_a_request_have_a_mebibyte)
{
	enum {
		SIZE = 1024 * 1024 - 8,
		LONGEST = FERRY_SOCKET_SET_NAME_MAX,
		NAMES = SIZE / (1 + LONGEST) + 1
	};
	static char longest[LONGEST + 1], last[SIZE % (1 + LONGEST) + 1];
	const char *names[NAMES];
	struct ferry_takeover *takeover = NULL;

	memset(longest, 'n', LONGEST);
	memset(last, 'n', sizeof(last) - 1);
	for (size_t i = 0; i < NAMES; i++)
		names[i] = i < NAMES - 1 ? longest : last;
	make_pair(PAIR_UNIX, takeover_fds);
	struct ferry_transport *transport = make_transport(takeover_fds[0]);
	ck_assert_int_eq(
	    ferry_takeover_request(&takeover, transport, names, NAMES, &takeover_end_callbacks, NULL),
	    -EMSGSIZE);
	last[sizeof(last) - 2] = '\0';
	ck_assert_int_eq(
	    ferry_takeover_request(&takeover, transport, names, NAMES, &takeover_end_callbacks, NULL),
	    0);
	ferry_takeover_free(takeover);
	close(takeover_fds[1]);
	pump_turns(3);
}

TEST(a_connection_that_is_not_of_a_unix_socket_is_refused)
{
	struct ferry_takeover *takeover = NULL;
	open_set();
	make_pair(PAIR_TCP, takeover_fds);
	struct ferry_transport *transport = make_transport(takeover_fds[0]);
	ck_assert_int_eq(
	    ferry_takeover_serve(&takeover, old_set, transport, &takeover_end_callbacks, NULL),
	    -EOPNOTSUPP);
	ck_assert_int_eq(
	    ferry_takeover_request(&takeover, transport, NULL, 0, &takeover_end_callbacks, NULL),
	    -EOPNOTSUPP);
	ferry_transport_free(transport);
	close(takeover_fds[1]);
	close_all();
}

TEST(a_takeover_is_committed_once_and_only_after_it_is_received)
{
	start_all();
	ck_assert_int_eq(ferry_takeover_commit(new_end.takeover), -EINVAL);
	pump_until_count(&new_end.received, 1);
	commit_takeover(&new_end);
	ck_assert_int_eq(ferry_takeover_commit(new_end.takeover), -EINVAL);
	pump_until_both_ended();
	close_all();
}
