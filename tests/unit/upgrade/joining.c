/* The beginning of a process: with a predecessor, without one, and with one that somebody else knows; and arguments that
 * are refused. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app.h"
#include "children.h"
#include "listening.h"
#include "test.h"

BEFORE_ALL
{
	app_become_successor(argc, argv);
}

static void nothing(struct ferry_upgrade *upgrade, struct ferry_socket_set *set, void *context)
{
	(void)upgrade, (void)set, (void)context;
}

TEST(bad_arguments_are_refused)
{
	static const struct ferry_upgrade_callbacks none, started = {.started = nothing};
	char *argv[] = {(char *)(uintptr_t) "name", NULL};
	struct ferry_upgrade *upgrade;
	struct ferry_upgrade_options options = {.size = sizeof(options)};
	ck_assert_int_eq(ferry_upgrade_new(NULL, base, &options, &started, NULL), -EINVAL);
	ck_assert_int_eq(ferry_upgrade_new(&upgrade, NULL, &options, &started, NULL), -EINVAL);
	ck_assert_int_eq(ferry_upgrade_new(&upgrade, base, NULL, &started, NULL), -EINVAL);
	ck_assert_int_eq(ferry_upgrade_new(&upgrade, base, &options, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_upgrade_new(&upgrade, base, &options, &none, NULL), -EINVAL);
	options.argv = argv;
	ck_assert_int_eq(ferry_upgrade_new(&upgrade, base, &options, &started, NULL), -EINVAL);
	options = (struct ferry_upgrade_options){.size = sizeof(options) - 1};
	ck_assert_int_eq(ferry_upgrade_new(&upgrade, base, &options, &started, NULL), -EINVAL);
	options = (struct ferry_upgrade_options){.size = sizeof(options), .timeout = {.tv_sec = -1}};
	ck_assert_int_eq(ferry_upgrade_new(&upgrade, base, &options, &started, NULL), -EINVAL);
	options = (struct ferry_upgrade_options){.size = sizeof(options), .probation = {.tv_usec = -1}};
	ck_assert_int_eq(ferry_upgrade_new(&upgrade, base, &options, &started, NULL), -EINVAL);
	options = (struct ferry_upgrade_options){.size = sizeof(options), .predecessor = ""};
	ck_assert_int_eq(ferry_upgrade_new(&upgrade, base, &options, &started, NULL), -EINVAL);
}

TEST(options_of_a_later_version_are_refused_unless_they_are_zero)
{
	static const struct ferry_upgrade_callbacks started = {.started = nothing};
	struct {
		struct ferry_upgrade_options options;
		char later[16];
	} longer = {{.size = sizeof(longer)}, {0}};
	struct ferry_upgrade *upgrade;
	ck_assert_int_eq(ferry_upgrade_new(&upgrade, base, &longer.options, &started, NULL), 0);
	ferry_upgrade_free(upgrade);
	longer.later[3] = 1;
	ck_assert_int_eq(ferry_upgrade_new(&upgrade, base, &longer.options, &started, NULL), -EINVAL);
}

TEST(null_is_no_upgrade)
{
	struct ferry_upgrade_stats stats;
	size_t length = 1;
	ck_assert_int_eq(ferry_upgrade_ready(NULL), -EINVAL);
	ck_assert_int_eq(ferry_upgrade_start(NULL), -EINVAL);
	ck_assert_int_eq(ferry_upgrade_listen(NULL, "name"), -EINVAL);
	ck_assert_int_eq(ferry_upgrade_give(NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_upgrade_finish(NULL), -EINVAL);
	ck_assert_int_eq(ferry_upgrade_watch_signals(NULL), -EINVAL);
	ck_assert_int_eq(ferry_upgrade_get_stats(NULL, &stats), -EINVAL);
	ck_assert_ptr_null(ferry_upgrade_get_set(NULL));
	ck_assert_str_eq(ferry_upgrade_get_state(NULL, &length), "");
	ck_assert_uint_eq(length, 0);
	ck_assert_uint_eq(ferry_upgrade_get_generation(NULL), 0);
	ck_assert(ferry_upgrade_is_settled(NULL));
	ferry_upgrade_free(NULL);
}

TEST(calls_before_their_time_are_refused)
{
	static const struct ferry_upgrade_callbacks started = {.started = nothing};
	struct ferry_upgrade *upgrade;
	struct ferry_upgrade_options options = {.size = sizeof(options)};
	struct ferry_handoff *handoff;
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	ck_assert_int_eq(ferry_handoff_new(&handoff, fds[0]), 0);
	ck_assert_int_eq(ferry_upgrade_new(&upgrade, base, &options, &started, NULL), 0);
	ck_assert_ptr_null(ferry_upgrade_get_set(upgrade));
	ck_assert_int_eq(ferry_upgrade_ready(upgrade), -EINVAL);
	ck_assert_int_eq(ferry_upgrade_give(upgrade, handoff), -ENOTCONN);
	ck_assert_int_eq(ferry_upgrade_finish(upgrade), -ENOTCONN);
	ck_assert_int_eq(ferry_upgrade_listen(upgrade, "control"), -EINVAL);
	pump_turns(2);
	ck_assert_int_eq(ferry_upgrade_ready(upgrade), 0);
	ck_assert_int_eq(ferry_upgrade_ready(upgrade), -EINVAL);
	ferry_upgrade_free(upgrade);
	ferry_handoff_free(handoff);
	close(fds[1]);
	pump_turns(2);
}

TEST(a_variable_of_another_process_is_ignored_and_removed)
{
	struct app app = {0};
	setenv("FERRY_UPGRADE", "1", 1);
	app_begin(&app, "normal");
	ck_assert_ptr_null(getenv("FERRY_UPGRADE"));
	ck_assert_uint_eq(ferry_upgrade_get_generation(app.upgrade), 0);
	app_end(&app);
}

TEST(a_variable_without_descriptors_is_an_error)
{
	struct app app = {.base = base};
	char pid[16];
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	setenv("FERRY_UPGRADE", pid, 1);
	ck_assert_int_eq(app_new(&app, "normal"), -EPROTO);
	ck_assert_ptr_null(getenv("FERRY_UPGRADE"));
}

/* ---- somebody else starts the new process ---- */

static struct app old, new;

static void listen_for_others(struct app *app)
{
	int fd = listen_unix(socket_path);
	ck_assert_int_eq(
	    ferry_socket_set_add(ferry_upgrade_get_set(app->upgrade), "control", fd, FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_own_path(ferry_upgrade_get_set(app->upgrade), "control"), 0);
	ck_assert_int_eq(ferry_upgrade_listen(app->upgrade, "none"), -ENOENT);
	ck_assert_int_eq(ferry_upgrade_listen(app->upgrade, "control"), 0);
	ck_assert_int_eq(ferry_upgrade_listen(app->upgrade, "control"), -EBUSY);
}

static void start(void)
{
	make_directory();
	old = (struct app){0};
	app_begin(&old, "normal");
	listen_for_others(&old);
	new = (struct app){.base = base, .predecessor = socket_path};
}

static void stop(void)
{
	app_end(&new);
	app_end(&old);
	remove_directory();
}

TEST_CASE("predecessor", start, stop);

TEST(a_process_replaces_the_one_that_listens_at_a_path)
{
	int port = app_port(&old), fds[2];
	ck_assert_int_eq(app_new(&new, "normal"), 0);
	pump_until_count(&new.serving, 1);
	ck_assert_uint_eq(old.replaced, 1);
	ck_assert_uint_eq(app_ask_generation(port), 1);
	make_pair(PAIR_UNIX, fds);
	struct ferry_handoff *handoff;
	ck_assert_int_eq(ferry_handoff_new(&handoff, fds[0]), 0);
	ck_assert_int_eq(ferry_upgrade_give(old.upgrade, handoff), 0);
	char line[64];
	ck_assert(app_read_line(fds[1], line, sizeof(line)));
	ck_assert_int_eq(ferry_upgrade_finish(old.upgrade), 0);
	pump_until_count(&old.finished, 1);
	close(fds[1]);
}

TEST(nobody_behind_the_path_is_a_rejection)
{
	char path[sizeof(socket_path) + 8];
	snprintf(path, sizeof(path), "%s.none", socket_path);
	new.predecessor = path;
	ck_assert_int_eq(app_new(&new, "normal"), -ENOENT);
}

TEST(a_predecessor_that_dies_before_it_gives_its_sockets_is_like_none)
{
	ferry_upgrade_free(old.upgrade);
	old.upgrade = NULL;
	int listener = listen_unix(socket_path), far;
	ck_assert_int_eq(app_new(&new, "normal"), 0);
	while ((far = accept(listener, NULL, NULL)) < 0)
		pump_turns(1);
	close(listener);
	close(far);
	pump_until_count(&new.serving, 1);
	ck_assert_uint_eq(new.rejected, 0);
	ck_assert_uint_eq(ferry_upgrade_get_generation(new.upgrade), 0);
	ck_assert_int_eq(app_ask_pid(app_port(&new)), getpid());
	ck_assert_int_eq(unlink(socket_path), 0);
}

TEST(a_second_one_is_refused_while_the_first_is_under_way)
{
	ck_assert_int_eq(app_new(&new, "is never ready"), 0);
	new.behaviour = "is never ready";
	pump_until_count(&new.started, 1);
	struct app third = {.base = base, .predecessor = socket_path};
	ck_assert_int_eq(app_new(&third, "normal"), 0);
	pump_until_count(&third.rejected, 1);
	ck_assert_int_eq(third.rejection, -ECONNRESET);
	ck_assert_int_eq(ferry_upgrade_start(old.upgrade), -EALREADY);
	app_end(&third);
	ck_assert_uint_eq(old.failed, 0);
}

/* ---- others at the path ---- */

enum { STRANGERS = 200 };

static int connect_stranger(void)
{
	const int fd = connect_to(ferry_socket_set_find(ferry_upgrade_get_set(old.upgrade), "control"));
	ck_assert_int_ge(fd, 0);
	return fd;
}

static bool has_ended(void *argument)
{
	const int *fd = argument;
	char byte;
	return recv(*fd, &byte, 1, MSG_DONTWAIT) == 0 || (errno != EAGAIN && errno != EINTR);
}

TEST(silent_ones_do_not_keep_the_real_one_out)
{
	int strangers[STRANGERS];
	for (size_t i = 0; i < STRANGERS; i++)
		strangers[i] = connect_stranger();
	pump_until(has_ended, &strangers[0]); /* for a later one */
	ck_assert_int_eq(ferry_upgrade_get_successor(old.upgrade), 0);
	ck_assert_int_eq(app_new(&new, "normal"), 0);
	pump_until_count(&new.serving, 1);
	ck_assert_uint_eq(old.replaced, 1);
	for (size_t i = 0; i < STRANGERS; i++) {
		pump_until(has_ended, &strangers[i]);
		close(strangers[i]);
	}
}

TEST(a_silent_one_is_closed_at_the_deadline)
{
	app_end(&old);
	old = (struct app){.timeout = {.tv_usec = 50000}};
	app_begin(&old, "normal");
	listen_for_others(&old);
	int stranger = connect_stranger();
	pump_until(has_ended, &stranger);
	close(stranger);
	ck_assert_uint_eq(old.failed, 0);
}

TEST(one_that_begins_no_takeover_is_closed)
{
	static const char lines[] = "GET / HTTP/1.1\r\n\r\n";
	for (size_t length = 1; length < sizeof(lines); length++) {
		int stranger = connect_stranger();
		ck_assert_int_eq(send(stranger, lines, length, MSG_NOSIGNAL), (ssize_t)length);
		pump_until(has_ended, &stranger);
		close(stranger);
	}
	ck_assert_uint_eq(old.failed, 0);
}

TEST(silent_ones_end_with_the_process_that_they_have_connected_to)
{
	int stranger = connect_stranger();
	pump_turns(3);
	ferry_upgrade_free(old.upgrade);
	old.upgrade = NULL;
	pump_turns(3);
	ck_assert(has_ended(&stranger));
	close(stranger);
}

TEST(a_new_process_that_frees_withdraws)
{
	new.behaviour = "is never ready";
	ck_assert_int_eq(app_new(&new, "normal"), 0);
	pump_until_count(&new.started, 1);
	ferry_upgrade_free(new.upgrade);
	new.upgrade = NULL;
	pump_until_count(&old.failed, 1);
	ck_assert_int_eq(old.failure.wait_status, -1);
	ck_assert_int_eq(app_ask_pid(app_port(&old)), getpid());
}

TEST(a_new_process_that_hangs_is_left_behind_at_the_deadline)
{
	app_end(&old);
	/* Long enough for the first steps of the new one on a busy machine. */
	old = (struct app){.timeout = {.tv_sec = 2}};
	app_begin(&old, "normal");
	listen_for_others(&old);
	new.behaviour = "is never ready";
	ck_assert_int_eq(app_new(&new, "normal"), 0);
	pump_until_count(&old.failed, 1);
	ck_assert_int_eq(old.failure.status, -ETIMEDOUT);
	pump_until_count(&new.rejected, 1);
	ck_assert_int_eq(new.rejection, -ECANCELED);
}
