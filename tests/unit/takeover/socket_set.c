/* Sets of listening sockets: their sockets, the process that closes them, and the process that removes
 * the files. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/listener.h>

#include "listening.h"
#include "test.h"
#include "wire.h"

static struct ferry_socket_set *new_set(void)
{
	struct ferry_socket_set *set = NULL;
	ck_assert_int_eq(ferry_socket_set_new(&set), 0);
	ck_assert_uint_eq(ferry_socket_set_count(set), 0);
	return set;
}

/* ---- the sockets of a set ---- */

TEST_CASE("set");

TEST(bad_arguments_are_refused)
{
	struct ferry_socket_set *set = new_set();
	struct ferry_listener *listener = NULL;
	int fd = listen_tcp();
	ck_assert_int_eq(ferry_socket_set_new(NULL), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_add(NULL, "a", fd, FERRY_FD_DUP), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_add(set, NULL, fd, FERRY_FD_DUP), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_add(set, "a", fd, (enum ferry_fd_ownership)0), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_add_listener(set, "a", listener), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_own_path(NULL, "a"), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_own_path(set, NULL), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_own_path(set, "a"), -ENOENT);
	ck_assert_int_eq(ferry_socket_set_find(NULL, "a"), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_find(set, NULL), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_get_fd(NULL, 0), -EINVAL);
	ck_assert_ptr_null(ferry_socket_set_get_name(NULL, 0));
	ck_assert_ptr_null(ferry_socket_set_get_name(set, 0));
	ck_assert_uint_eq(ferry_socket_set_count(NULL), 0);
	ck_assert_uint_eq(ferry_socket_set_count(set), 0);
	ferry_socket_set_free(NULL);
	ferry_socket_set_free(set);
	close(fd);
}

TEST(only_listening_sockets_are_added)
{
	struct ferry_socket_set *set = new_set();
	int pipe_fds[2];
	make_pipe(pipe_fds);
	int stream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int datagram = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "a", pipe_fds[0], FERRY_FD_TAKE), -ENOTSOCK);
	ck_assert_int_eq(ferry_socket_set_add(set, "a", stream, FERRY_FD_TAKE), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_add(set, "a", stream, FERRY_FD_DUP), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_add(set, "a", datagram, FERRY_FD_TAKE), 0);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	close(stream); /* the caller still owns it */
	ck_assert_int_eq(ferry_socket_set_add(set, "a", stream, FERRY_FD_TAKE), -EBADF);
	ck_assert_int_eq(ferry_socket_set_add(set, "a", stream, FERRY_FD_DUP), -EBADF);
	ck_assert_uint_eq(ferry_socket_set_count(set), 1);
	ferry_socket_set_free(set);
	ck_assert(!fd_is_open(datagram));
}

TEST(a_name_has_at_most_255_bytes_and_may_be_there_twice)
{
	struct ferry_socket_set *set = new_set();
	char name[FERRY_SOCKET_SET_NAME_MAX + 2] = "";
	int fds[4] = {listen_tcp(), listen_tcp(), listen_tcp(), listen_tcp()};
	memset(name, '\xff', FERRY_SOCKET_SET_NAME_MAX + 1);
	ck_assert_int_eq(ferry_socket_set_add(set, name, fds[0], FERRY_FD_TAKE), -EMSGSIZE);
	name[FERRY_SOCKET_SET_NAME_MAX] = '\0';
	ck_assert_int_eq(ferry_socket_set_add(set, name, fds[0], FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "www", fds[1], FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "www", fds[2], FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "", fds[3], FERRY_FD_TAKE), 0);
	ck_assert_uint_eq(ferry_socket_set_count(set), 4);
	ck_assert_int_eq(ferry_socket_set_find(set, name), fds[0]);
	ck_assert_int_eq(ferry_socket_set_find(set, "www"), fds[1]);
	ck_assert_int_eq(ferry_socket_set_get_fd(set, 2), fds[2]);
	ck_assert_str_eq(ferry_socket_set_get_name(set, 2), "www");
	ck_assert_int_eq(ferry_socket_set_find(set, ""), fds[3]);
	ck_assert_int_eq(ferry_socket_set_find(set, "ww"), -ENOENT);
	ck_assert_int_eq(ferry_socket_set_get_fd(set, 4), -ENOENT);
	ferry_socket_set_free(set);
	for (int i = 0; i < 4; i++)
		ck_assert(!fd_is_open(fds[i]));
}

TEST(all_sockets_of_a_name_are_removed)
{
	struct ferry_socket_set *set = new_set();
	int fds[3] = {listen_tcp(), listen_tcp(), listen_tcp()};
	ck_assert_int_eq(ferry_socket_set_add(set, "www", fds[0], FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "admin", fds[1], FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "www", fds[2], FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_remove(set, "none"), -ENOENT);
	ck_assert_int_eq(ferry_socket_set_remove(NULL, "www"), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_remove(set, NULL), -EINVAL);
	ck_assert_int_eq(ferry_socket_set_remove(set, "www"), 0);
	ck_assert_uint_eq(ferry_socket_set_count(set), 1);
	ck_assert_int_eq(ferry_socket_set_find(set, "admin"), fds[1]);
	ck_assert(!fd_is_open(fds[0]) && fd_is_open(fds[1]) && !fd_is_open(fds[2]));
	ck_assert_int_eq(ferry_socket_set_remove(set, "www"), -ENOENT);
	ferry_socket_set_free(set);
}

TEST(a_name_of_the_set_itself_is_removed)
{
	struct ferry_socket_set *set = new_set();
	int fds[3] = {listen_tcp(), listen_tcp(), listen_tcp()};
	ck_assert_int_eq(ferry_socket_set_add(set, "www", fds[0], FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "www", fds[1], FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "admin", fds[2], FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_remove(set, ferry_socket_set_get_name(set, 0)), 0);
	ck_assert_uint_eq(ferry_socket_set_count(set), 1);
	ck_assert_int_eq(ferry_socket_set_find(set, "admin"), fds[2]);
	ck_assert(!fd_is_open(fds[0]) && !fd_is_open(fds[1]) && fd_is_open(fds[2]));
	ferry_socket_set_free(set);
}

TEST(a_duplicate_leaves_the_callers_own)
{
	struct ferry_socket_set *set = new_set();
	int fd = listen_tcp();
	ck_assert_int_eq(ferry_socket_set_add(set, "a", fd, FERRY_FD_DUP), 0);
	int copy = ferry_socket_set_find(set, "a");
	ck_assert_int_ne(copy, fd);
	ck_assert(same_file(copy, fd));
	ck_assert_int_eq(fcntl(copy, F_GETFD), FD_CLOEXEC);
	ferry_socket_set_free(set);
	ck_assert(fd_is_open(fd));
	close(fd);
}

TEST(without_a_free_number_there_is_no_duplicate)
{
	struct ferry_socket_set *set = new_set();
	int fd = listen_tcp();
	limit_descriptors(0);
	int status = ferry_socket_set_add(set, "a", fd, FERRY_FD_DUP);
	unlimit_descriptors();
	ck_assert_int_eq(status, -EMFILE);
	ferry_socket_set_free(set);
	close(fd);
}

TEST(added_sockets_do_not_block)
{
	struct ferry_socket_set *set = new_set();
	int fd = listen_tcp();
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "a", fd, FERRY_FD_DUP), 0);
	ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
	ferry_socket_set_free(set);
	close(fd);
}

/* ---- listeners on its sockets ---- */

static unsigned int accepted_count;

static void on_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                        void *context)
{
	(void)listener, (void)context;
	accepted_count++;
	ferry_transport_free(transport);
}

static void on_connection(struct evconnlistener *listener, evutil_socket_t fd,
                          struct sockaddr *address, int length, void *context)
{
	(void)listener, (void)address, (void)length, (void)context;
	accepted_count++;
	close(fd);
}

TEST(libevents_listener_and_ferrys_accept_on_it)
{
	struct ferry_socket_set *set = new_set();
	struct ferry_listener *listener = NULL;
	accepted_count = 0;
	ck_assert_int_eq(ferry_socket_set_add(set, "a", listen_tcp(), FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "b", listen_tcp(), FERRY_FD_TAKE), 0);
	int a = ferry_socket_set_find(set, "a");
	int b = ferry_socket_set_find(set, "b");
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, a, on_accepted, NULL), 0);
	struct evconnlistener *other = evconnlistener_new(base, on_connection, NULL, 0, 0, b);
	ck_assert_ptr_nonnull(other);
	int first = connect_to(a);
	int second = connect_to(b);
	pump_until_count(&accepted_count, 2);
	close(first);
	close(second);
	evconnlistener_free(other);
	ferry_listener_free(listener);
	ferry_socket_set_free(set);
}

/* ---- the removal of files ---- */

TEST_CASE("file", make_directory, remove_directory);

TEST(a_listeners_file_goes_over_to_the_set)
{
	struct ferry_socket_set *set = new_set();
	struct ferry_listener *listener = NULL;
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, socket_path, NULL, on_accepted, NULL),
	                 0);
	ck_assert_int_eq(ferry_socket_set_add_listener(set, "a", listener), 0);
	ck_assert_int_ne(ferry_socket_set_find(set, "a"), ferry_listener_get_fd(listener));
	ck_assert_int_eq(ferry_socket_set_own_path(set, "a"), 0); /* the set owns it already */
	ferry_listener_free(listener);
	ck_assert(path_exists(socket_path));
	ck_assert(is_reachable(ferry_socket_set_find(set, "a")));
	ferry_socket_set_free(set);
	ck_assert(!path_exists(socket_path));
}

TEST(a_listener_that_was_not_added_keeps_its_file)
{
	struct ferry_socket_set *set = new_set();
	struct ferry_listener *listener = NULL;
	char name[FERRY_SOCKET_SET_NAME_MAX + 2] = "";
	memset(name, 'n', FERRY_SOCKET_SET_NAME_MAX + 1);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, socket_path, NULL, on_accepted, NULL),
	                 0);
	ck_assert_int_eq(ferry_socket_set_add_listener(set, name, listener), -EMSGSIZE);
	ferry_socket_set_free(set);
	ck_assert(path_exists(socket_path));
	ferry_listener_free(listener);
	ck_assert(!path_exists(socket_path));
}

TEST(a_file_without_an_owner_is_left)
{
	struct ferry_socket_set *set = new_set();
	ck_assert_int_eq(ferry_socket_set_add(set, "a", listen_unix(socket_path), FERRY_FD_TAKE), 0);
	ferry_socket_set_free(set);
	ck_assert_int_eq(unlink(socket_path), 0);
}

TEST(a_path_can_be_owned_afterwards)
{
	struct ferry_socket_set *set = new_set();
	ck_assert_int_eq(ferry_socket_set_add(set, "a", listen_tcp(), FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "a", listen_unix(socket_path), FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "b", listen_abstract(), FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_own_path(set, "a"), 0);
	ck_assert_int_eq(ferry_socket_set_own_path(set, "b"), -ENOENT);
	ferry_socket_set_free(set);
	ck_assert(!path_exists(socket_path));
}

TEST(an_owned_relative_path_is_found_again_after_chdir)
{
	struct ferry_socket_set *set = new_set();
	char before[512];
	char inside[sizeof(socket_path)];
	ck_assert_ptr_nonnull(getcwd(before, sizeof(before)));
	memcpy(inside, socket_path, sizeof(inside));
	*strrchr(inside, '/') = '\0';
	ck_assert_int_eq(chdir(inside), 0);
	ck_assert_int_eq(ferry_socket_set_add(set, "a", listen_unix("socket"), FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_own_path(set, "a"), 0);
	ck_assert_int_eq(chdir(before), 0);
	ck_assert(path_exists(socket_path));
	ferry_socket_set_free(set);
	ck_assert(!path_exists(socket_path));
}

TEST(a_file_that_took_the_place_is_left)
{
	struct ferry_socket_set *set = new_set();
	ck_assert_int_eq(ferry_socket_set_add(set, "a", listen_unix(socket_path), FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_socket_set_own_path(set, "a"), 0);
	ck_assert_int_eq(unlink(socket_path), 0);
	int other = listen_unix(socket_path);
	ferry_socket_set_free(set);
	ck_assert(path_exists(socket_path));
	close(other);
	ck_assert_int_eq(unlink(socket_path), 0);
}

TEST(a_path_that_is_no_socket_is_not_owned)
{
	struct ferry_socket_set *set = new_set();
	ck_assert_int_eq(ferry_socket_set_add(set, "a", listen_unix(socket_path), FERRY_FD_TAKE), 0);
	ck_assert_int_eq(unlink(socket_path), 0);
	ck_assert_int_eq(ferry_socket_set_own_path(set, "a"), -ENOENT);
	ck_assert_int_eq(mkdir(socket_path, 0700), 0);
	ck_assert_int_eq(ferry_socket_set_own_path(set, "a"), -EADDRINUSE);
	ferry_socket_set_free(set);
	ck_assert_int_eq(rmdir(socket_path), 0);
}
