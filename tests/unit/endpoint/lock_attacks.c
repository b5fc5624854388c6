/* Another process changes the path or the lock file before each system call of a listener, and each system
 * call fails once, in turn. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ferry/listener.h"

#include "listening.h"
#include "lock_watch.h"
#include "recorder.h"
#include "test.h"

static int intruder = -1;

static void put_victim(const char *name)
{
	unlink(name);
	write_file(name, "mine", 0600);
}

static void attack_path_by_file(void)
{
	put_victim(socket_path);
}

static void attack_path_by_socket(void)
{
	unlink(socket_path);
	intruder = listen_unix(socket_path);
}

static void attack_path_by_link(void)
{
	unlink(socket_path);
	ck_assert_int_eq(symlink(victim_path, socket_path), 0);
}

static void attack_path_by_link_to_socket(void)
{
	unlink(socket_path);
	unlink(other_path);
	intruder = listen_unix(other_path);
	ck_assert_int_eq(symlink(other_path, socket_path), 0);
}

static void attack_path_by_nothing(void)
{
	unlink(socket_path);
}

static void attack_lock_by_nothing(void)
{
	unlink(lock_path);
}

static void attack_lock_by_file(void)
{
	unlink(lock_path);
	write_file(lock_path, "", 0600);
}

static void attack_lock_by_long_file(void)
{
	unlink(lock_path);
	write_file(lock_path, "what somebody has written, and wants to keep", 0640);
}

static void attack_lock_by_link(void)
{
	unlink(lock_path);
	ck_assert_int_eq(symlink(victim_path, lock_path), 0);
}

static void attack_lock_by_hard_link(void)
{
	unlink(lock_path);
	ck_assert_int_eq(link(victim_path, lock_path), 0);
}

static void attack_lock_by_one_that_is_held(void)
{
	attack_lock_by_file();
	intruder = open(lock_path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(__real_flock(intruder, LOCK_EX), 0);
}

static void attack_all_by_nothing(void)
{
	unlink(socket_path);
	unlink(lock_path);
}

static void (*const attacks[])(void) = {
    attack_path_by_file,           attack_path_by_socket,    attack_path_by_link,
    attack_path_by_link_to_socket, attack_path_by_nothing,   attack_lock_by_nothing,
    attack_lock_by_file,           attack_lock_by_long_file, attack_lock_by_link,
    attack_lock_by_hard_link,      attack_all_by_nothing,    attack_lock_by_one_that_is_held,
};

enum { ATTACKS = sizeof(attacks) / sizeof(attacks[0]) };

static void clean_up(void)
{
	if (intruder >= 0)
		close(intruder);
	intruder = -1;
	unlink(socket_path);
	unlink(lock_path);
	unlink(other_path);
}

/* The files that the attack has put there are still there. Nothing can protect a file that is put there between
 * the last fstatat(2) of its name and unlinkat(2): a user who can put it there can remove it as well. */
static void expect_nothing_lost(void (*attack)(void))
{
	struct stat status;
	expect_file(victim_path, "secret", 0640);
	if (lock_watch.step < lock_watch.at || lock_watch.before_unlink)
		return;
	if (attack == attack_path_by_file)
		expect_file(socket_path, "mine", 0600);
	/* A socket that is put there right after bind(2) passes for ours: see docs/decisions/listener.md. */
	if (attack == attack_path_by_socket && !lock_watch.after_bind)
		ck_assert_msg(is_reachable(intruder), "attacked before call %u", lock_watch.at);
	if (attack == attack_path_by_link || attack == attack_path_by_link_to_socket)
		ck_assert(lstat(socket_path, &status) == 0 && S_ISLNK(status.st_mode));
	if (attack == attack_lock_by_link)
		ck_assert(lstat(lock_path, &status) == 0 && S_ISLNK(status.st_mode));
	if (attack == attack_lock_by_long_file)
		expect_file(lock_path, "what somebody has written, and wants to keep", 0640);
	if (attack == attack_lock_by_one_that_is_held)
		ck_assert(lstat(lock_path, &status) == 0);
}

/* Attacks before the system call `at` of ferry_listener_new_unix(). Returns whether there was such a call. */
static bool attack_start(void (*attack)(void), unsigned int at)
{
	struct ferry_listener *listener;
	memset(&lock_watch, 0, sizeof(lock_watch));
	leave_stale_files();
	lock_watch.attack = attack;
	lock_watch.at = at;
	lock_watch.armed = true;
	const int status = try_to_own(&listener);
	lock_watch.armed = false;
	const bool was_disturbed = lock_watch.step >= at;

	ck_assert(status == 0 || status == -EADDRINUSE || status == -EPERM || status == -ELOOP ||
	          status == -ENOENT);
	expect_nothing_lost(attack);
	ferry_listener_free(listener);
	expect_nothing_lost(attack);
	clean_up();
	return was_disturbed;
}

/* The same for ferry_listener_free(). */
static bool attack_end(void (*attack)(void), unsigned int at)
{
	struct ferry_listener *listener;
	memset(&lock_watch, 0, sizeof(lock_watch));
	ck_assert_int_eq(try_to_own(&listener), 0);
	lock_watch.attack = attack;
	lock_watch.at = at;
	lock_watch.armed = true;
	ferry_listener_free(listener);
	lock_watch.armed = false;
	const bool was_disturbed = lock_watch.step >= at;
	expect_nothing_lost(attack);
	clean_up();
	return was_disturbed;
}

TEST_CASE("attacks", set_up_lock, tear_down_lock);

LOOP_TEST(an_attack_before_any_system_call_costs_nothing, ATTACKS)
{
	unsigned int at;
	int fds = count_open_fds();
	write_file(victim_path, "secret", 0640);
	for (at = 1; attack_start(attacks[_i], at); at++)
		ck_assert_int_eq(count_open_fds(), fds);
	ck_assert_uint_ge(at, 12); /* there were calls to attack */
	for (at = 1; attack_end(attacks[_i], at); at++)
		ck_assert_int_eq(count_open_fds(), fds);
	ck_assert_uint_ge(at, 4);
	own_and_leave();
}

/* Another process removes the lock's file and makes it again, over and over. */
LOOP_TEST(a_lock_that_never_stays_is_not_waited_for, 2)
{
	leave_stale_socket();
	lock_watch.before_flock = _i == 0 ? attack_lock_by_nothing : attack_lock_by_file;
	expect_refusal(-EADDRINUSE);
	ck_assert_uint_le(lock_watch.flocks, 100);
	ck_assert(path_exists(socket_path));
	lock_watch.before_flock = NULL;
	unlink(lock_path);
	own_and_leave();
}

/* An administrator, or a program that cleans /tmp, has removed the lock. */
TEST(an_owner_without_its_lock_file_is_not_replaced)
{
	struct ferry_listener *owner = own();
	ck_assert_int_eq(unlink(lock_path), 0);
	expect_refusal(-EADDRINUSE);
	ck_assert(is_reachable(ferry_listener_get_fd(owner)));
	ferry_listener_free(owner);
	own_and_leave();
}

static bool fail_start(int error, unsigned int at)
{
	struct ferry_listener *listener;
	int fds = count_open_fds();
	memset(&lock_watch, 0, sizeof(lock_watch));
	leave_stale_files();
	lock_watch.error = error;
	lock_watch.at = at;
	lock_watch.armed = true;
	const int status = try_to_own(&listener);
	lock_watch.armed = false;
	const bool was_disturbed = lock_watch.step >= at;
	if (status == 0)
		ferry_listener_free(listener);
	else
		ck_assert_int_eq(status, -error);
	ck_assert_int_eq(count_open_fds(), fds);
	own_and_leave(); /* no file that is left keeps the next owner out */
	return was_disturbed;
}

static bool fail_end(int error, unsigned int at)
{
	struct ferry_listener *listener;
	int fds = count_open_fds();
	memset(&lock_watch, 0, sizeof(lock_watch));
	ck_assert_int_eq(try_to_own(&listener), 0);
	lock_watch.error = error;
	lock_watch.at = at;
	lock_watch.armed = true;
	ferry_listener_free(listener);
	lock_watch.armed = false;
	ck_assert_int_eq(count_open_fds(), fds);
	own_and_leave();
	return lock_watch.step >= at;
}

TEST(any_system_call_may_fail)
{
	unsigned int at = 0;
	do
		at++;
	while (fail_start(EIO, at));
	ck_assert_uint_ge(at, 12);
	at = 0;
	do
		at++;
	while (fail_end(EIO, at));
	ck_assert_uint_ge(at, 4);
}

TEST(a_lock_that_cannot_be_signed_is_empty)
{
	struct ferry_listener *listener;
	leave_stale_files();
	/* openat, fstat, flock, fstatat, pwrite; socket(2) is before them all */
	lock_watch.at = 6;
	lock_watch.error = ENOSPC;
	lock_watch.armed = true;
	ck_assert_int_eq(try_to_own(&listener), 0);
	lock_watch.armed = false;
	expect_file(lock_path, "", 0600);
	ferry_listener_free(listener);
}
