/* A listener checks its address and makes its socket file. The file has the right mode from the start, and
 * the listener replaces or removes no other file. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "endpoint/address.h"
#include "ferry/connector.h"
#include "ferry/listener.h"
#include "ferry/log.h"
#include "ferry/transport.h"

#include "endpoint_watch.h"
#include "listener_options.h"
#include "test.h"

static mode_t mode_of(const char *name)
{
	struct stat status;
	ck_assert_int_eq(lstat(name, &status), 0);
	return status.st_mode & 07777;
}

static void assert_plain_file(const char *name)
{
	struct stat status;
	ck_assert_int_eq(lstat(name, &status), 0);
	ck_assert(S_ISREG(status.st_mode));
	ck_assert_int_eq(status.st_size, 4);
	ck_assert_int_eq(status.st_mode & 07777, 0600);
}

TEST_CASE("address");

TEST(an_address_has_107_bytes_of_path_and_a_zero)
{
	struct address address;
	char name[110];
	memset(name, 'a', sizeof(name));

	name[107] = '\0';
	ck_assert_int_eq(address_from_string(&address, name), 0);
	ck_assert_uint_eq(address.length, offsetof(struct sockaddr_un, sun_path) + 108);
	ck_assert(!address_is_abstract(name));
	name[107] = 'a';
	name[108] = '\0';
	ck_assert_int_eq(address_from_string(&address, name), -ENAMETOOLONG);
}

TEST(an_abstract_name_has_no_terminating_zero)
{
	struct address address;
	char name[111];

	ck_assert_int_eq(address_from_string(&address, "@ab"), 0);
	ck_assert_uint_eq(address.length, offsetof(struct sockaddr_un, sun_path) + 3);
	ck_assert_mem_eq(address.un.sun_path, "\0ab", 3);
	ck_assert(address_is_abstract("@ab"));

	memset(name, '@', sizeof(name));
	name[108] = '\0';
	ck_assert_int_eq(address_from_string(&address, name), 0);
	ck_assert_uint_eq(address.length, sizeof(struct sockaddr_un));
	name[108] = '@';
	name[109] = '\0';
	ck_assert_int_eq(address_from_string(&address, name), -ENAMETOOLONG);
}

TEST_CASE("socket file", set_up_endpoint, tear_down_endpoint);

TEST(bad_arguments_are_refused_at_the_call)
{
	struct ferry_listener *listener = NULL;
	struct ferry_connector *connector = NULL;
	char longer[200];
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';

	ck_assert_int_eq(ferry_listener_new_unix(NULL, base, endpoint_path, NULL, on_accepted, NULL),
	                 -EINVAL);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, NULL, endpoint_path, NULL, on_accepted, NULL), -EINVAL);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, NULL, NULL, on_accepted, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, "", NULL, on_accepted, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, "@", NULL, on_accepted, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, endpoint_path, with_mode(01777),
	                                         on_accepted, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, endpoint_path, with_backlog(-1),
	                                         on_accepted, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, longer, NULL, on_accepted, NULL),
	                 -ENAMETOOLONG);
	ck_assert_int_eq(ferry_listener_new_fd(NULL, base, 0, on_accepted, NULL), -EINVAL);
	ck_assert_int_eq(ferry_listener_new_fd(&listener, NULL, 0, on_accepted, NULL), -EINVAL);
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, 0, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_listener_disable(NULL), -EINVAL);
	ck_assert_int_eq(ferry_listener_enable(NULL), -EINVAL);
	ck_assert_int_eq(ferry_listener_get_fd(NULL), -EINVAL);
	ferry_listener_free(NULL);
	ck_assert_ptr_null(listener);

	const struct timeval wrong[] = {{.tv_sec = -1}, {.tv_usec = -1}, {.tv_usec = 1000000}};
	ck_assert_int_eq(
	    ferry_connector_new_unix(&connector, NULL, endpoint_path, NULL, on_unexpected, NULL),
	    -EINVAL);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, NULL, NULL, on_unexpected, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, endpoint_path, NULL, NULL, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, "", NULL, on_unexpected, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, "@", NULL, on_unexpected, NULL),
	                 -EINVAL);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_int_eq(ferry_connector_new_unix(&connector, base, endpoint_path, &wrong[i],
		                                          on_unexpected, NULL),
		                 -EINVAL);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, longer, NULL, on_unexpected, NULL),
	                 -ENAMETOOLONG);
	ferry_connector_free(NULL);
	ck_assert_ptr_null(connector);
	ck_assert(!exists(endpoint_path));
}

static mode_t mode_asked;
static unsigned int looks;

static void look_after_bind(void)
{
	ck_assert_uint_eq(mode_of(endpoint_path) & ~mode_asked, 0);
	looks++;
}

static void look_before_listen(void)
{
	ck_assert_uint_eq(mode_of(endpoint_path), mode_asked);
	looks++;
}

static const mode_t umasks[] = {0, 022, 077, 0777};
static const mode_t modes[] = {0600, 0660, 0666, 0777, 0200};

TEST(the_kernel_gives_the_file_the_mode_of_the_socket_less_the_umask)
{
	for (size_t i = 0; i < sizeof(umasks) / sizeof(umasks[0]); i++)
		for (size_t j = 0; j < sizeof(modes) / sizeof(modes[0]); j++) {
			struct address address;
			int fd = plain_socket();
			mode_t before = __real_umask(umasks[i]);
			ck_assert_int_eq(address_from_string(&address, endpoint_path), 0);
			ck_assert_int_eq(fchmod(fd, modes[j]), 0);
			ck_assert_int_eq(__real_bind(fd, (struct sockaddr *)&address.un, address.length), 0);
			__real_umask(before);
			ck_assert_uint_eq(mode_of(endpoint_path), modes[j] & ~umasks[i]);
			unlink(endpoint_path);
			close(fd);
		}
}

TEST(the_file_has_its_mode_from_the_first_moment)
{
	watch.after_bind = look_after_bind;
	watch.before_listen = look_before_listen;
	for (size_t i = 0; i < sizeof(umasks) / sizeof(umasks[0]); i++)
		for (size_t j = 0; j < sizeof(modes) / sizeof(modes[0]); j++) {
			struct ferry_listener *listener;
			mode_t before = __real_umask(umasks[i]);
			mode_asked = modes[j];
			looks = 0;
			ck_assert_int_eq(ferry_listener_new_unix(&listener, base, endpoint_path,
			                                         with_mode(mode_asked), on_accepted, NULL),
			                 0);
			ck_assert_uint_eq(__real_umask(before), umasks[i]);
			ck_assert_uint_eq(looks, 2);
			ck_assert_uint_eq(mode_of(endpoint_path), mode_asked);
			ferry_listener_free(listener);
			ck_assert(!exists(endpoint_path));
		}
	ck_assert_uint_eq(watch.umask_calls, 0);
}

TEST(mode_0_is_0600)
{
	struct host host = {0};
	mode_t before = __real_umask(0);
	host_listen(&host, endpoint_path, 0);
	__real_umask(before);
	ck_assert_uint_eq(mode_of(endpoint_path), 0600);
	host_free(&host);
}

TEST(a_file_that_exists_at_the_path_is_refused_and_left)
{
	struct ferry_listener *listener = NULL;

	make_plain_file(endpoint_path);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, endpoint_path, with_mode(0666), on_accepted, NULL),
	    -EADDRINUSE);
	assert_plain_file(endpoint_path);
	unlink(endpoint_path);

	ck_assert_int_eq(symlink("nowhere", endpoint_path), 0);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, endpoint_path, with_mode(0666), on_accepted, NULL),
	    -EADDRINUSE);
	ck_assert(exists(endpoint_path));
	unlink(endpoint_path);

	int fd = plain_listen(endpoint_path, 1);
	mode_t mode = mode_of(endpoint_path);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, endpoint_path, with_mode(0666), on_accepted, NULL),
	    -EADDRINUSE);
	ck_assert_uint_eq(mode_of(endpoint_path), mode);
	int client = plain_connect(endpoint_path);
	ck_assert_int_ge(client, 0);
	close(client);
	close(fd);

	char with_slash[sizeof(endpoint_directory) + 1];
	snprintf(with_slash, sizeof(with_slash), "%s/", endpoint_directory);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, with_slash, NULL, on_accepted, NULL),
	                 -EADDRINUSE);
	ck_assert_ptr_null(listener);
}

TEST(a_missing_directory_is_an_error)
{
	struct ferry_listener *listener = NULL;
	char deep[256];
	snprintf(deep, sizeof(deep), "%s/none/socket", endpoint_directory);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, deep, NULL, on_accepted, NULL),
	                 -ENOENT);
	ck_assert_ptr_null(listener);
}

TEST(a_file_that_took_the_place_of_ours_is_not_removed)
{
	struct host host = {0};

	host_listen(&host, endpoint_path, 0);
	unlink(endpoint_path);
	make_plain_file(endpoint_path);
	host_free(&host);
	assert_plain_file(endpoint_path);
	unlink(endpoint_path);

	/* Another socket, whose inode number may be the one that was just freed. */
	host = (struct host){0};
	host_listen(&host, endpoint_path, 0);
	unlink(endpoint_path);
	int fd = plain_listen(endpoint_path, 1);
	host_free(&host);
	ck_assert(exists(endpoint_path));
	close(fd);
	unlink(endpoint_path);

	/* Nothing at all. */
	host = (struct host){0};
	host_listen(&host, endpoint_path, 0);
	unlink(endpoint_path);
	host_free(&host);
	ck_assert(!exists(endpoint_path));
}

TEST(the_file_is_found_again_after_chdir)
{
	struct host host = {0};
	char before[1024];
	ck_assert_ptr_nonnull(getcwd(before, sizeof(before)));
	ck_assert_int_eq(chdir(endpoint_directory), 0);
	host_listen(&host, "socket", 0);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert(exists(endpoint_path));
	host_free(&host);
	ck_assert(!exists(endpoint_path));
	ck_assert_int_eq(chdir(before), 0);
}

static void remove_file(void)
{
	unlink(endpoint_path);
}

static void replace_by_plain_file(void)
{
	unlink(endpoint_path);
	make_plain_file(endpoint_path);
}

static int intruder = -1;

static void replace_by_socket(void)
{
	unlink(endpoint_path);
	intruder = plain_bind(endpoint_path);
	ck_assert_int_eq(__real_chmod(endpoint_path, 0600), 0);
}

static void replace_by_link(void)
{
	char other[160];
	snprintf(other, sizeof(other), "%s.other", endpoint_path);
	intruder = plain_bind(other);
	ck_assert_int_eq(__real_chmod(other, 0600), 0);
	unlink(endpoint_path);
	ck_assert_int_eq(link(other, endpoint_path), 0);
}

/* A process that may write to the directory can swap files between any two system calls. A file that the listener
 * has not made must not get the wider mode, and must not be removed. */
static void assert_swap_is_noticed(int expected)
{
	struct ferry_listener *listener = NULL;
	mode_t before = __real_umask(077);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, endpoint_path, with_mode(0666), on_accepted, NULL),
	    expected);
	__real_umask(before);
	ck_assert_ptr_null(listener);
	if (intruder >= 0)
		close(intruder);
	intruder = -1;
}

TEST(a_file_swapped_in_while_binding_keeps_its_mode)
{
	watch.after_bind = replace_by_plain_file;
	assert_swap_is_noticed(-EADDRINUSE);
	assert_plain_file(endpoint_path);
	unlink(endpoint_path);

	watch.after_bind = replace_by_link;
	assert_swap_is_noticed(-EPERM);
	char other[160];
	snprintf(other, sizeof(other), "%s.other", endpoint_path);
	ck_assert_uint_eq(mode_of(other), 0600);
	unlink(other);
	unlink(endpoint_path);

	watch.after_bind = remove_file;
	assert_swap_is_noticed(-ENOENT);

	watch.after_bind = NULL;
	watch.before_openat = replace_by_plain_file;
	assert_swap_is_noticed(-EADDRINUSE);
	assert_plain_file(endpoint_path);
	unlink(endpoint_path);

	watch.before_openat = replace_by_socket;
	assert_swap_is_noticed(-EADDRINUSE);
	ck_assert_uint_eq(mode_of(endpoint_path), 0600);
}

TEST(a_failure_after_bind_leaves_no_file)
{
	struct ferry_listener *listener = NULL;

	watch.listen_error = EADDRNOTAVAIL;
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, endpoint_path, NULL, on_accepted, NULL),
	    -EADDRNOTAVAIL);
	ck_assert(!exists(endpoint_path));
	watch.listen_error = 0;

	watch.chmod_error = EROFS;
	mode_t before = __real_umask(077);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, endpoint_path, with_mode(0666), on_accepted, NULL),
	    -EROFS);
	__real_umask(before);
	ck_assert(!exists(endpoint_path));
	ck_assert_ptr_null(listener);
}

TEST(a_mode_that_cannot_be_set_is_an_error_before_there_is_a_file)
{
	struct ferry_listener *listener = NULL;

	watch.fchmod_error = EPERM;
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, endpoint_path, NULL, on_accepted, NULL), -EPERM);
	ck_assert(!exists(endpoint_path));
	ck_assert_ptr_null(listener);
}

/* A file that fstatat(2) fails for may belong to somebody else: it stays. */
TEST(a_file_that_cannot_be_looked_at_or_removed_is_left)
{
	struct ferry_listener *listener = NULL;

	watch.fstatat_error = EIO;
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, endpoint_path, NULL, on_accepted, NULL), -EIO);
	ck_assert_ptr_null(listener);
	ck_assert(exists(endpoint_path));
	watch.fstatat_error = 0;
	unlink(endpoint_path);

	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, endpoint_path, NULL, on_accepted, NULL), 0);
	watch.fstatat_error = EACCES;
	ferry_listener_free(listener);
	ck_assert(exists(endpoint_path));
	watch.fstatat_error = 0;
	unlink(endpoint_path);

	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, endpoint_path, NULL, on_accepted, NULL), 0);
	watch.unlinkat_error = EROFS;
	ferry_listener_free(listener);
	ck_assert(exists(endpoint_path));
	watch.unlinkat_error = 0;
}

TEST(without_descriptor_slots_the_call_fails_and_leaves_no_file)
{
	struct ferry_listener *listener = NULL;
	struct ferry_connector *connector = NULL;
	unsigned int spare = 0;
	int status = -EMFILE;
	mode_t before = __real_umask(077);

	/* The slots are for the socket, its directory, and the file whose mode is set. */
	for (; status == -EMFILE; spare++) {
		struct rlimit limit = limit_descriptor_slots(spare);
		status = ferry_listener_new_unix(&listener, base, endpoint_path, with_mode(0666),
		                                 on_accepted, NULL);
		setrlimit(RLIMIT_NOFILE, &limit);
		ck_assert(status == 0 || !exists(endpoint_path));
	}
	__real_umask(before);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(spare, 4);

	struct rlimit limit = limit_descriptor_slots(0);
	status = ferry_connector_new_unix(&connector, base, endpoint_path, NULL, on_unexpected, NULL);
	setrlimit(RLIMIT_NOFILE, &limit);
	ck_assert_int_eq(status, -EMFILE);
	ck_assert_ptr_null(connector);
	ferry_listener_free(listener);
}

BEFORE_ALL
{
	/* libevent's allocations are counted with ours. */
	event_set_mem_functions(__wrap_malloc, __wrap_realloc, free);
}
