/* Only one process owns a locked path. The lock leaves every other file at the path and at the lock file
 * untouched. */

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ferry/listener.h"

#include "children.h"
#include "listener_options.h"
#include "listening.h"
#include "lock_watch.h"
#include "recorder.h"
#include "test.h"

static ino_t inode_of(const char *path)
{
	struct stat status;
	ck_assert_int_eq(lstat(path, &status), 0);
	return status.st_ino;
}

/* A child notifies the test by one byte. */
static void say(int fd)
{
	ck_assert_int_eq(write(fd, "x", 1), 1);
}

static void hear(int fd)
{
	char byte;
	ck_assert_int_eq(read(fd, &byte, 1), 1);
}

static void make_blocking_pipe(int fds[2])
{
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
}

TEST_CASE("lock", set_up_lock, tear_down_lock);

TEST(the_lock_comes_and_goes_with_the_listener)
{
	static const mode_t umasks[] = {0, 022, 077, 0777};
	for (size_t i = 0; i < sizeof(umasks) / sizeof(umasks[0]); i++) {
		mode_t before = umask(umasks[i]);
		own_and_leave();
		umask(before);
	}
}

TEST(there_is_one_owner_at_a_time)
{
	struct ferry_listener *first = own();
	ino_t inode = inode_of(socket_path), lock = inode_of(lock_path);
	expect_refusal(-EADDRINUSE);
	ck_assert_uint_eq(inode_of(socket_path), inode);
	ck_assert_uint_eq(inode_of(lock_path), lock);
	ck_assert(is_reachable(ferry_listener_get_fd(first)));
	ferry_listener_free(first);
	own_and_leave();
}

TEST(a_killed_owner_is_replaced)
{
	int ready[2];
	make_blocking_pipe(ready);
	pid_t owner = start_child();
	if (owner == 0) {
		own();
		say(ready[1]);
		for (;;)
			pause();
	}
	hear(ready[0]);
	expect_lock_of(owner);
	expect_refusal(-EADDRINUSE);
	expect_lock_of(owner);
	kill(owner, SIGKILL);
	wait_for_death(owner);
	expect_lock_of(owner);
	ck_assert(path_exists(socket_path));
	own_and_leave();
	close(ready[0]);
	close(ready[1]);
}

TEST(a_dead_owner_may_have_left_half_of_its_files)
{
	leave_stale_socket();
	own_and_leave();
	write_file(lock_path, "", 0600);
	own_and_leave();
	write_file(lock_path, "1234567890\n",
	           0666); /* longer than a lock of ferry, and open to everybody */
	own_and_leave();
}

/* The child has the socket too, and clients may wait in its backlog. */
TEST(a_child_of_the_owner_has_the_lock_too)
{
	int ready[2];
	pid_t child;
	make_blocking_pipe(ready);
	pid_t owner = start_child();
	if (owner == 0) {
		own();
		child = start_child();
		if (child == 0)
			for (;;)
				pause();
		ck_assert_int_eq(write(ready[1], &child, sizeof(child)), sizeof(child));
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(ready[0], &child, sizeof(child)), sizeof(child));
	kill(owner, SIGKILL);
	wait_for_death(owner);
	expect_refusal(-EADDRINUSE);
	kill(child, SIGKILL);
	struct ferry_listener *listener;
	int status;
	do /* init reaps the child, so the test cannot wait for it */
		status = try_to_own(&listener);
	while (status == -EADDRINUSE && sched_yield() == 0);
	ck_assert_int_eq(status, 0);
	ferry_listener_free(listener);
	close(ready[0]);
	close(ready[1]);
}

TEST(an_abstract_name_needs_no_lock)
{
	char name[sizeof(socket_path) + 2];
	struct ferry_listener *first = NULL, *second = NULL;
	snprintf(name, sizeof(name), "@%s", socket_path);
	ck_assert_int_eq(ferry_listener_new_unix(&first, base, name, with_lock(), close_accepted, NULL),
	                 0);
	ck_assert(is_reachable(ferry_listener_get_fd(first)));
	ck_assert_int_eq(
	    ferry_listener_new_unix(&second, base, name, with_lock(), close_accepted, NULL),
	    -EADDRINUSE);
	ferry_listener_free(first);
	ck_assert(!path_exists(lock_path));
}

TEST(the_longest_path_has_a_lock)
{
	char before[1024], name[109];
	struct ferry_listener *listener = NULL;
	memset(name, 'n', sizeof(name));
	name[108] = '\0';
	ck_assert_ptr_nonnull(getcwd(before, sizeof(before)));
	*strrchr(socket_path, '/') = '\0';
	ck_assert_int_eq(chdir(socket_path), 0);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, name, with_lock(), close_accepted, NULL),
	    -ENAMETOOLONG);
	name[107] = '\0';
	for (int round = 0; round < 2; round++) {
		ck_assert_int_eq(
		    ferry_listener_new_unix(&listener, base, name, with_lock(), close_accepted, NULL), 0);
		/* The listener finds the file again from another directory. */
		ck_assert_int_eq(chdir("/"), 0);
		ferry_listener_free(listener);
		ck_assert_int_eq(chdir(socket_path), 0);
		ck_assert(!path_exists(name));
		close(listen_unix(name)); /* stale, for the second round */
	}
	ck_assert_int_eq(unlink(name), 0);
	ck_assert_int_eq(chdir(before), 0);
}

TEST(bad_arguments_are_refused)
{
	struct ferry_listener *listener = NULL;
	struct ferry_listener_options wrong_mode = *with_mode(01777), no_backlog = *with_backlog(-1);
	wrong_mode.lock = no_backlog.lock = true;
	ck_assert_int_eq(
	    ferry_listener_new_unix(NULL, base, socket_path, with_lock(), close_accepted, NULL),
	    -EINVAL);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, NULL, socket_path, with_lock(), close_accepted, NULL),
	    -EINVAL);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, NULL, with_lock(), close_accepted, NULL), -EINVAL);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, socket_path, &wrong_mode, close_accepted, NULL),
	    -EINVAL);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, socket_path, &no_backlog, close_accepted, NULL),
	    -EINVAL);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, "/nowhere/s", with_lock(), close_accepted, NULL),
	    -ENOENT);
	ck_assert_ptr_null(listener);
}

TEST_CASE("what is there", set_up_lock, tear_down_lock);

TEST(a_listener_without_the_lock_is_left)
{
	int fd = listen_unix(socket_path);
	expect_refusal(-EADDRINUSE);
	ck_assert(!path_exists(lock_path));
	int accepted =
	    accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); /* by the listener, to find out */
	ck_assert_int_ge(accepted, 0);
	close(accepted);
	ck_assert(is_reachable(fd));

	/* With its backlog full. */
	int clients[2], count = 0;
	ck_assert_int_eq(__real_listen(fd, 0), 0);
	while (count < 2) {
		struct sockaddr_un address = {.sun_family = AF_UNIX};
		memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
		clients[count] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (__real_connect(clients[count++], (struct sockaddr *)&address, sizeof(address)) < 0)
			break;
	}
	ck_assert_int_eq(count, 2);
	ck_assert_int_eq(errno, EAGAIN);
	expect_refusal(-EADDRINUSE);
	close(clients[0]);
	close(clients[1]);
	close(fd);
	own_and_leave();
}

TEST(a_datagram_socket_is_left_while_it_lives)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(__real_bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	expect_refusal(-EADDRINUSE);
	ck_assert(path_exists(socket_path));
	close(fd);
	own_and_leave();
}

static void expect_path_is_left(void)
{
	ino_t inode = inode_of(socket_path);
	expect_refusal(-EADDRINUSE);
	ck_assert_uint_eq(inode_of(socket_path), inode);
	ck_assert(!path_exists(lock_path));
}

TEST(a_file_at_the_path_that_is_no_socket_is_left)
{
	write_file(socket_path, "mine", 0600);
	expect_path_is_left();
	expect_file(socket_path, "mine", 0600);
	unlink(socket_path);

	ck_assert_int_eq(mkdir(socket_path, 0700), 0);
	expect_path_is_left();
	rmdir(socket_path);

	ck_assert_int_eq(mkfifo(socket_path, 0600), 0);
	expect_path_is_left();
	unlink(socket_path);

	ck_assert_int_eq(symlink("nothing", socket_path), 0);
	expect_path_is_left();
	unlink(socket_path);

	close(listen_unix(other_path)); /* stale, but not at the path */
	ck_assert_int_eq(symlink(other_path, socket_path), 0);
	expect_path_is_left();
	ck_assert(path_exists(other_path));
	unlink(socket_path);
}

static void expect_lock_refusal(int expected)
{
	ino_t inode = inode_of(lock_path);
	leave_stale_socket();
	expect_refusal(expected);
	ck_assert_uint_eq(inode_of(lock_path), inode);
	ck_assert(path_exists(socket_path));
	unlink(socket_path);
}

TEST(a_lock_that_is_something_else_is_refused_and_left)
{
	write_file(victim_path, "secret", 0640);

	ck_assert_int_eq(symlink(victim_path, lock_path), 0);
	expect_lock_refusal(-ELOOP);
	unlink(lock_path);
	ck_assert_int_eq(symlink(other_path, lock_path), 0); /* the target is not created */
	expect_lock_refusal(-ELOOP);
	ck_assert(!path_exists(other_path));
	unlink(lock_path);

	ck_assert_int_eq(link(victim_path, lock_path), 0);
	expect_lock_refusal(-EPERM);
	unlink(lock_path);
	expect_file(victim_path, "secret", 0640);

	ck_assert_int_eq(mkfifo(lock_path, 0600), 0);
	expect_lock_refusal(-EPERM); /* and does not block */
	unlink(lock_path);

	ck_assert_int_eq(mkdir(lock_path, 0700), 0);
	expect_lock_refusal(-EISDIR);
	rmdir(lock_path);

	close(listen_unix(lock_path));
	expect_lock_refusal(-ENXIO);
	unlink(lock_path);

	/* A file of this user that somebody has moved here. */
	static const char text[] = "what somebody has written, and wants to keep";
	write_file(lock_path, text, 0600);
	expect_lock_refusal(-EPERM);
	expect_file(lock_path, text, 0600);
	unlink(lock_path);
}

/* A user who can read a file can lock it; therefore other users cannot read the lock. */
TEST(the_lock_of_another_program_is_respected)
{
	write_file(lock_path, "", 0600);
	int fd = open(lock_path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(__real_flock(fd, LOCK_SH), 0);
	expect_lock_refusal(-EADDRINUSE);
	close(fd);
	own_and_leave();
}

enum { NOBODY = 65534, SOMEBODY = 12345 };

/* The files of a dead owner that was another user, or gave its files to one. */
static void leave_stale_files_of(uid_t socket_owner, uid_t lock_owner)
{
	leave_stale_files();
	ck_assert_int_eq(chown(socket_path, socket_owner, socket_owner), 0);
	ck_assert_int_eq(chown(lock_path, lock_owner, lock_owner), 0);
}

/* Also in a directory like /tmp, where fs.protected_regular refuses O_CREAT for another user's file. */
LOOP_TEST(root_takes_the_place_of_a_dead_owner_of_any_user, 2)
{
	static const struct {
		uid_t socket, lock;
	} owners[] = {{NOBODY, 0}, {0, NOBODY}, {NOBODY, NOBODY}, {SOMEBODY, NOBODY}};
	if (!is_root())
		return;
	set_directory_mode(_i == 0 ? 0700 : 01777);
	for (int i = 0; i < COUNT(owners); i++) {
		leave_stale_files_of(owners[i].socket, owners[i].lock);
		own_and_leave();
	}
	write_file(lock_path, "", 0644); /* its owner was killed before it had signed */
	ck_assert_int_eq(chown(lock_path, NOBODY, NOBODY), 0);
	own_and_leave();
}

TEST(root_leaves_a_live_owner_of_any_user_in_its_place)
{
	if (!is_root())
		return;
	leave_stale_files_of(NOBODY, NOBODY);
	int fd = open(lock_path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(__real_flock(fd, LOCK_EX), 0);
	expect_refusal(-EADDRINUSE);
	ck_assert(path_exists(socket_path) && path_exists(lock_path));
	close(fd);
	own_and_leave();

	/* The owner knows nothing of locks. */
	fd = listen_unix(socket_path);
	ck_assert_int_eq(chown(socket_path, NOBODY, NOBODY), 0);
	expect_refusal(-EADDRINUSE);
	ck_assert(path_exists(socket_path));
	close(fd);
	own_and_leave();

	/* A listener whose files were given away, as `chown -R` does. */
	struct ferry_listener *listener = own();
	ck_assert_int_eq(chown(socket_path, NOBODY, NOBODY), 0);
	ck_assert_int_eq(chown(lock_path, NOBODY, NOBODY), 0);
	expect_refusal(-EADDRINUSE);
	ferry_listener_free(listener);
	ck_assert(!path_exists(socket_path) && !path_exists(lock_path));
}

TEST(root_leaves_what_is_not_the_lock_of_another_user)
{
	static const char *const contents[] = {"secret", "12345", "\n", "12 34\n", "12345\n\n"};
	if (!is_root())
		return;
	for (int i = 0; i < COUNT(contents); i++) {
		write_file(lock_path, contents[i], 0644);
		ck_assert_int_eq(chown(lock_path, NOBODY, NOBODY), 0);
		expect_lock_refusal(-EPERM);
		expect_file(lock_path, contents[i], 0644);
		unlink(lock_path);
	}
	write_file(other_path, "12345\n", 0600);
	ck_assert_int_eq(chown(other_path, NOBODY, NOBODY), 0);
	ck_assert_int_eq(link(other_path, lock_path), 0);
	expect_lock_refusal(-EPERM);
	unlink(lock_path);
	unlink(other_path);

	write_file(socket_path, "", 0644);
	ck_assert_int_eq(chown(socket_path, NOBODY, NOBODY), 0);
	expect_path_is_left();
	unlink(socket_path);
}

/* A child of another user tries. Returns the status that its call returned. */
static int try_as(uid_t uid)
{
	int result[2];
	signed char told = 0;
	make_blocking_pipe(result);
	pid_t child = start_child();
	if (child == 0) {
		struct ferry_listener *listener = NULL;
		if (setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0)
			die();
		told = (signed char)ferry_listener_new_unix(&listener, base, socket_path, with_lock(),
		                                            close_accepted, NULL);
		ferry_listener_free(listener);
		if (write(result[1], &told, 1) != 1)
			abort();
		die();
	}
	ck_assert_int_eq(read(result[0], &told, 1), 1);
	wait_for_death(child);
	close(result[0]);
	close(result[1]);
	return told;
}

TEST(another_user_takes_nothing_of_ours)
{
	if (!is_root())
		return;
	set_directory_mode(0755);
	ck_assert_int_eq(try_as(NOBODY), -EACCES); /* may not write here */
	set_directory_mode(01777);                 /* like /tmp */
	ck_assert_int_eq(try_as(NOBODY), 0);
	ck_assert(!path_exists(socket_path) && !path_exists(lock_path));

	leave_stale_files(); /* of this user */
	ck_assert_int_eq(try_as(NOBODY), -EACCES);
	unlink(lock_path);
	ck_assert_int_eq(try_as(NOBODY),
	                 -EADDRINUSE); /* the socket belongs to this user all the same */
	ck_assert(path_exists(socket_path));
	own_and_leave();

	/* The lock of another user, made before. */
	write_file(lock_path, "", 0666);
	ck_assert_int_eq(chown(lock_path, SOMEBODY, SOMEBODY), 0);
	const int told = try_as(NOBODY);
	ck_assert(told == -EPERM || told == -EACCES); /* depending on fs.protected_regular */
	unlink(lock_path);

	leave_stale_socket();
	ck_assert_int_eq(chown(socket_path, SOMEBODY, SOMEBODY), 0);
	ck_assert_int_eq(try_as(NOBODY), -EADDRINUSE);
	ck_assert(path_exists(socket_path));
	unlink(socket_path);
}
