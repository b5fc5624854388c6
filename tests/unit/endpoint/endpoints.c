/* Listening and connecting unix sockets, adopted listeners. White-box: the test watches each system call that
 * makes the socket file, and lets it fail. */

#include "test.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "endpoint/address.h"
#include "ferry/connector.h"
#include "ferry/listener.h"
#include "ferry/log.h"
#include "ferry/transport.h"
#include "listener_options.h"

/* ---- the system calls under watch, by the linker's --wrap ---- */

/* NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the linker's names */
int __real_bind(int fd, const struct sockaddr *address, socklen_t length);
int __real_listen(int fd, int backlog);
int __real_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
int __real_connect(int fd, const struct sockaddr *address, socklen_t length);
int __real_chmod(const char *path, mode_t mode);
int __real_openat(int directory, const char *name, int flags, ...);
int __real_fchmod(int fd, mode_t mode);
int __real_fstatat(int directory, const char *name, struct stat *status, int flags);
int __real_unlinkat(int directory, const char *name, int flags);
int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
mode_t __real_umask(mode_t mask);
int __real_ferry_transport_new(struct ferry_transport **out, struct bufferevent *bev);
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_listen(int fd, int backlog);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_chmod(const char *path, mode_t mode);
int __wrap_openat(int directory, const char *name, int flags, ...);
int __wrap_fchmod(int fd, mode_t mode);
int __wrap_fstatat(int directory, const char *name, struct stat *status, int flags);
int __wrap_unlinkat(int directory, const char *name, int flags);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);
mode_t __wrap_umask(mode_t mask);
int __wrap_ferry_transport_new(struct ferry_transport **out, struct bufferevent *bev);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static struct {
	void (*after_bind)(void);
	void (*before_listen)(void);
	void (*before_openat)(void);
	int listen_error;
	int chmod_error;
	int fchmod_error;
	int fstatat_error;
	int unlinkat_error;
	int poll_error;
	unsigned int poll_calls;
	int transport_error;
	int accept_errors[8]; /* of the first accepts, one after the other */
	unsigned int accept_errors_given;
	unsigned int accept_calls;
	unsigned int connect_calls;
	unsigned int umask_calls;
	unsigned int allocation_to_fail; /* 1: the next one; 0: none */
	bool allocations_over;           /* the callback ran before that one */
} watch;

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	int result = __real_bind(fd, address, length);
	if (result == 0 && watch.after_bind != NULL)
		watch.after_bind();
	return result;
}

int __wrap_listen(int fd, int backlog)
{
	if (watch.before_listen != NULL)
		watch.before_listen();
	if (watch.listen_error == 0)
		return __real_listen(fd, backlog);
	errno = watch.listen_error;
	return -1;
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	watch.accept_calls++;
	if (watch.accept_errors_given < 8 && watch.accept_errors[watch.accept_errors_given] != 0) {
		errno = watch.accept_errors[watch.accept_errors_given++];
		return -1;
	}
	return __real_accept4(fd, address, length, flags);
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length)
{
	watch.connect_calls++;
	return __real_connect(fd, address, length);
}

int __wrap_chmod(const char *path, mode_t mode)
{
	if (watch.chmod_error == 0)
		return __real_chmod(path, mode);
	errno = watch.chmod_error;
	return -1;
}

int __wrap_openat(int directory, const char *name, int flags, ...)
{
	if (watch.before_openat != NULL)
		watch.before_openat();
	return __real_openat(directory, name, flags);
}

int __wrap_fchmod(int fd, mode_t mode)
{
	if (watch.fchmod_error == 0)
		return __real_fchmod(fd, mode);
	errno = watch.fchmod_error;
	return -1;
}

int __wrap_fstatat(int directory, const char *name, struct stat *status, int flags)
{
	if (watch.fstatat_error == 0)
		return __real_fstatat(directory, name, status, flags);
	errno = watch.fstatat_error;
	return -1;
}

int __wrap_unlinkat(int directory, const char *name, int flags)
{
	if (watch.unlinkat_error == 0)
		return __real_unlinkat(directory, name, flags);
	errno = watch.unlinkat_error;
	return -1;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout)
{
	watch.poll_calls++;
	if (watch.poll_error == 0)
		return __real_poll(fds, count, timeout);
	errno = watch.poll_error;
	return -1;
}

mode_t __wrap_umask(mode_t mask)
{
	watch.umask_calls++;
	return __real_umask(mask);
}

int __wrap_ferry_transport_new(struct ferry_transport **out, struct bufferevent *bev)
{
	return watch.transport_error != 0 ? watch.transport_error
	                                  : __real_ferry_transport_new(out, bev);
}

static bool allocation_fails(void)
{
	return watch.allocation_to_fail != 0 && --watch.allocation_to_fail == 0;
}

/* To be called first in a callback: check's own allocations must not fail. */
static void allow_allocations(void)
{
	if (watch.allocation_to_fail != 0)
		watch.allocations_over = true;
	watch.allocation_to_fail = 0;
}

void *__wrap_malloc(size_t size)
{
	return allocation_fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return allocation_fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
	return allocation_fails() ? NULL : __real_realloc(memory, size);
}

/* NOLINTEND(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp) */

/* ---- a directory for each test ---- */

static char directory[64];
static char path[128];
static unsigned int warnings;

static void count_warning(enum ferry_log_level level, const char *line)
{
	(void)line;
	if (level == FERRY_LOG_WARNING)
		warnings++;
}

static void make_directory(void)
{
	memset(&watch, 0, sizeof(watch));
	warnings = 0;
	ferry_log_set_cb(count_warning);
	strcpy(directory, "/tmp/ferry-endpoint-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/socket", directory);
}

static void remove_directory(void)
{
	DIR *entries = opendir(directory);
	struct dirent *entry;
	ck_assert_ptr_nonnull(entries);
	while ((entry = readdir(entries)) != NULL)
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(entries), entry->d_name, 0);
	closedir(entries);
	ck_assert_int_eq(rmdir(directory), 0);
}

static bool exists(const char *name)
{
	struct stat status;
	return lstat(name, &status) == 0;
}

static mode_t mode_of(const char *name)
{
	struct stat status;
	ck_assert_int_eq(lstat(name, &status), 0);
	return status.st_mode & 07777;
}

static void make_plain_file(const char *name)
{
	int fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "mine", 4), 4);
	close(fd);
}

static void assert_plain_file(const char *name)
{
	struct stat status;
	ck_assert_int_eq(lstat(name, &status), 0);
	ck_assert(S_ISREG(status.st_mode));
	ck_assert_int_eq(status.st_size, 4);
	ck_assert_int_eq(status.st_mode & 07777, 0600);
}

/* ---- plain sockets, without ferry ---- */

static int plain_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static int plain_connect(const char *name)
{
	struct address address;
	int fd = plain_socket();
	ck_assert_int_eq(address_from_string(&address, name), 0);
	if (__real_connect(fd, (struct sockaddr *)&address.un, address.length) < 0) {
		int error = errno;
		close(fd);
		return -error;
	}
	return fd;
}

static int plain_bind(const char *name)
{
	struct address address;
	int fd = plain_socket();
	ck_assert_int_eq(address_from_string(&address, name), 0);
	ck_assert_int_eq(__real_bind(fd, (struct sockaddr *)&address.un, address.length), 0);
	return fd;
}

static int plain_listen(const char *name, int backlog)
{
	int fd = plain_bind(name);
	ck_assert_int_eq(__real_listen(fd, backlog), 0);
	return fd;
}

/* Whether the other end has closed the connection: an end of file or a reset. */
static bool is_hung_up(void *argument)
{
	char byte;
	ssize_t count = recv(*(int *)argument, &byte, 1, MSG_PEEK);
	return count == 0 || (count < 0 && errno == ECONNRESET);
}

/* ---- what the callbacks saw ---- */

enum { TRANSPORTS_MAX = 256 };

struct host {
	struct ferry_listener *listener;
	unsigned int accepted;
	struct ferry_transport *transports[TRANSPORTS_MAX];
	bool free_listener;
	bool disable_listener;
	bool free_transport;
};

static void on_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                        void *context)
{
	struct host *host = context;
	allow_allocations();
	ck_assert_ptr_eq(listener, host->listener);
	ck_assert_ptr_nonnull(transport);
	ck_assert_uint_lt(host->accepted, TRANSPORTS_MAX);
	if (host->free_transport)
		ferry_transport_free(transport);
	else
		host->transports[host->accepted] = transport;
	host->accepted++;
	if (host->disable_listener)
		ck_assert_int_eq(ferry_listener_disable(listener), 0);
	if (host->free_listener) {
		ferry_listener_free(listener);
		host->listener = NULL;
	}
}

static void host_listen(struct host *host, const char *name, int backlog)
{
	ck_assert_int_eq(ferry_listener_new_unix(&host->listener, base, name, with_backlog(backlog),
	                                         on_accepted, host),
	                 0);
}

static void host_free(struct host *host)
{
	ferry_listener_free(host->listener);
	for (unsigned int i = 0; i < TRANSPORTS_MAX; i++)
		ferry_transport_free(host->transports[i]);
}

struct guest {
	struct ferry_connector *connector;
	unsigned int told;
	int status;
	struct ferry_transport *transport;
	bool free_connector;
};

static void on_connected(struct ferry_connector *connector, int status,
                         struct ferry_transport *transport, void *context)
{
	struct guest *guest = context;
	allow_allocations();
	ck_assert(guest->connector == NULL || guest->connector == connector);
	ck_assert_int_eq(status == 0, transport != NULL);
	guest->told++;
	guest->status = status;
	guest->transport = transport;
	if (guest->free_connector)
		ferry_connector_free(connector);
}

static void on_unexpected(struct ferry_connector *connector, int status,
                          struct ferry_transport *transport, void *context)
{
	(void)connector, (void)status, (void)transport, (void)context;
	ck_abort_msg("a callback after a failed or cancelled call");
}

static void let_pass(int milliseconds)
{
	struct timeval time = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000L};
	event_base_loopexit(base, &time);
	event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
}

/* Runs the events that are ready now, in one turn of the loop at most. */
static void turn_once(void)
{
	event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

static int64_t milliseconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Fails if the loop spun: if accept4(2) was called more than once per pause since `start`. */
static void assert_no_spin(int64_t start)
{
	ck_assert_int_ge(watch.accept_calls, 1);
	ck_assert_int_le(watch.accept_calls, 2 + (milliseconds_now() - start) / 100);
}

/* ---- addresses ---- */

TEST_CASE("address");

TEST(an_address_holds_107_bytes_of_path_and_a_zero)
{
	struct address address;
	char name[110];
	memset(name, 'a', sizeof(name));

	name[107] = '\0';
	ck_assert_int_eq(address_from_string(&address, name), 0);
	ck_assert_uint_eq(address.length, offsetof(struct sockaddr_un, sun_path) + 108);
	ck_assert(!address_is_abstract(&address));
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
	ck_assert(address_is_abstract(&address));

	memset(name, '@', sizeof(name));
	name[108] = '\0';
	ck_assert_int_eq(address_from_string(&address, name), 0);
	ck_assert_uint_eq(address.length, sizeof(struct sockaddr_un));
	name[108] = '@';
	name[109] = '\0';
	ck_assert_int_eq(address_from_string(&address, name), -ENAMETOOLONG);
}

TEST_CASE("socket file", make_directory, remove_directory);

TEST(bad_arguments_are_refused_at_the_call)
{
	struct ferry_listener *listener = NULL;
	struct ferry_connector *connector = NULL;
	char longer[200];
	memset(longer, 'x', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';

	ck_assert_int_eq(ferry_listener_new_unix(NULL, base, path, NULL, on_accepted, NULL), -EINVAL);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, NULL, path, NULL, on_accepted, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, NULL, NULL, on_accepted, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, "", NULL, on_accepted, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, "@", NULL, on_accepted, NULL),
	                 -EINVAL);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, path, with_mode(01777), on_accepted, NULL),
	    -EINVAL);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, path, with_backlog(-1), on_accepted, NULL),
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
	ck_assert_int_eq(ferry_connector_new_unix(&connector, NULL, path, NULL, on_unexpected, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, NULL, NULL, on_unexpected, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, path, NULL, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, "", NULL, on_unexpected, NULL),
	                 -EINVAL);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, "@", NULL, on_unexpected, NULL),
	                 -EINVAL);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_int_eq(
		    ferry_connector_new_unix(&connector, base, path, &wrong[i], on_unexpected, NULL),
		    -EINVAL);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, longer, NULL, on_unexpected, NULL),
	                 -ENAMETOOLONG);
	ferry_connector_free(NULL);
	ck_assert_ptr_null(connector);
	ck_assert(!exists(path));
}

/* ---- the socket file ---- */

static mode_t mode_asked;
static unsigned int looks;

static void look_after_bind(void)
{
	ck_assert_uint_eq(mode_of(path) & ~mode_asked, 0);
	looks++;
}

static void look_before_listen(void)
{
	ck_assert_uint_eq(mode_of(path), mode_asked);
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
			ck_assert_int_eq(address_from_string(&address, path), 0);
			ck_assert_int_eq(fchmod(fd, modes[j]), 0);
			ck_assert_int_eq(__real_bind(fd, (struct sockaddr *)&address.un, address.length), 0);
			__real_umask(before);
			ck_assert_uint_eq(mode_of(path), modes[j] & ~umasks[i]);
			unlink(path);
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
			ck_assert_int_eq(ferry_listener_new_unix(&listener, base, path, with_mode(mode_asked),
			                                         on_accepted, NULL),
			                 0);
			ck_assert_uint_eq(__real_umask(before), umasks[i]);
			ck_assert_uint_eq(looks, 2);
			ck_assert_uint_eq(mode_of(path), mode_asked);
			ferry_listener_free(listener);
			ck_assert(!exists(path));
		}
	ck_assert_uint_eq(watch.umask_calls, 0);
}

TEST(mode_0_is_0600)
{
	struct host host = {0};
	mode_t before = __real_umask(0);
	host_listen(&host, path, 0);
	__real_umask(before);
	ck_assert_uint_eq(mode_of(path), 0600);
	host_free(&host);
}

TEST(what_exists_at_the_path_is_refused_and_left)
{
	struct ferry_listener *listener = NULL;

	make_plain_file(path);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, path, with_mode(0666), on_accepted, NULL),
	    -EADDRINUSE);
	assert_plain_file(path);
	unlink(path);

	ck_assert_int_eq(symlink("nowhere", path), 0);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, path, with_mode(0666), on_accepted, NULL),
	    -EADDRINUSE);
	ck_assert(exists(path));
	unlink(path);

	int fd = plain_listen(path, 1);
	mode_t mode = mode_of(path);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, path, with_mode(0666), on_accepted, NULL),
	    -EADDRINUSE);
	ck_assert_uint_eq(mode_of(path), mode);
	int client = plain_connect(path);
	ck_assert_int_ge(client, 0);
	close(client);
	close(fd);

	char with_slash[sizeof(directory) + 1];
	snprintf(with_slash, sizeof(with_slash), "%s/", directory);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, with_slash, NULL, on_accepted, NULL),
	                 -EADDRINUSE);
	ck_assert_ptr_null(listener);
}

TEST(a_missing_directory_is_told)
{
	struct ferry_listener *listener = NULL;
	char deep[256];
	snprintf(deep, sizeof(deep), "%s/none/socket", directory);
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, deep, NULL, on_accepted, NULL),
	                 -ENOENT);
	ck_assert_ptr_null(listener);
}

TEST(a_file_that_took_the_place_of_ours_is_not_removed)
{
	struct host host = {0};

	host_listen(&host, path, 0);
	unlink(path);
	make_plain_file(path);
	host_free(&host);
	assert_plain_file(path);
	unlink(path);

	/* Another socket, whose inode number may be the one that was just freed. */
	host = (struct host){0};
	host_listen(&host, path, 0);
	unlink(path);
	int fd = plain_listen(path, 1);
	host_free(&host);
	ck_assert(exists(path));
	close(fd);
	unlink(path);

	/* Nothing at all. */
	host = (struct host){0};
	host_listen(&host, path, 0);
	unlink(path);
	host_free(&host);
	ck_assert(!exists(path));
}

TEST(the_file_is_found_again_after_chdir)
{
	struct host host = {0};
	char before[1024];
	ck_assert_ptr_nonnull(getcwd(before, sizeof(before)));
	ck_assert_int_eq(chdir(directory), 0);
	host_listen(&host, "socket", 0);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert(exists(path));
	host_free(&host);
	ck_assert(!exists(path));
	ck_assert_int_eq(chdir(before), 0);
}

static void remove_file(void)
{
	unlink(path);
}

static void replace_by_plain_file(void)
{
	unlink(path);
	make_plain_file(path);
}

static int intruder = -1;

static void replace_by_socket(void)
{
	unlink(path);
	intruder = plain_bind(path);
	ck_assert_int_eq(__real_chmod(path, 0600), 0);
}

static void replace_by_link(void)
{
	char other[160];
	snprintf(other, sizeof(other), "%s.other", path);
	intruder = plain_bind(other);
	ck_assert_int_eq(__real_chmod(other, 0600), 0);
	unlink(path);
	ck_assert_int_eq(link(other, path), 0);
}

/* A process that may write to the directory can swap files between any two system calls. A file that the listener
 * has not made must not get the wider mode, and must not be removed. */
static void assert_swap_is_noticed(int expected)
{
	struct ferry_listener *listener = NULL;
	mode_t before = __real_umask(077);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, path, with_mode(0666), on_accepted, NULL),
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
	assert_plain_file(path);
	unlink(path);

	watch.after_bind = replace_by_link;
	assert_swap_is_noticed(-EPERM);
	char other[160];
	snprintf(other, sizeof(other), "%s.other", path);
	ck_assert_uint_eq(mode_of(other), 0600);
	unlink(other);
	unlink(path);

	watch.after_bind = remove_file;
	assert_swap_is_noticed(-ENOENT);

	watch.after_bind = NULL;
	watch.before_openat = replace_by_plain_file;
	assert_swap_is_noticed(-EADDRINUSE);
	assert_plain_file(path);
	unlink(path);

	watch.before_openat = replace_by_socket;
	assert_swap_is_noticed(-EADDRINUSE);
	ck_assert_uint_eq(mode_of(path), 0600);
}

TEST(a_failure_after_bind_leaves_no_file)
{
	struct ferry_listener *listener = NULL;

	watch.listen_error = EADDRNOTAVAIL;
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, path, NULL, on_accepted, NULL),
	                 -EADDRNOTAVAIL);
	ck_assert(!exists(path));
	watch.listen_error = 0;

	watch.chmod_error = EROFS;
	mode_t before = __real_umask(077);
	ck_assert_int_eq(
	    ferry_listener_new_unix(&listener, base, path, with_mode(0666), on_accepted, NULL), -EROFS);
	__real_umask(before);
	ck_assert(!exists(path));
	ck_assert_ptr_null(listener);
}

TEST(a_mode_that_cannot_be_set_is_told_before_there_is_a_file)
{
	struct ferry_listener *listener = NULL;

	watch.fchmod_error = EPERM;
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, path, NULL, on_accepted, NULL),
	                 -EPERM);
	ck_assert(!exists(path));
	ck_assert_ptr_null(listener);
}

/* A file that fstatat(2) fails for may belong to somebody else: it stays. */
TEST(a_file_that_cannot_be_looked_at_or_removed_is_left)
{
	struct ferry_listener *listener = NULL;

	watch.fstatat_error = EIO;
	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, path, NULL, on_accepted, NULL), -EIO);
	ck_assert_ptr_null(listener);
	ck_assert(exists(path));
	watch.fstatat_error = 0;
	unlink(path);

	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, path, NULL, on_accepted, NULL), 0);
	watch.fstatat_error = EACCES;
	ferry_listener_free(listener);
	ck_assert(exists(path));
	watch.fstatat_error = 0;
	unlink(path);

	ck_assert_int_eq(ferry_listener_new_unix(&listener, base, path, NULL, on_accepted, NULL), 0);
	watch.unlinkat_error = EROFS;
	ferry_listener_free(listener);
	ck_assert(exists(path));
	watch.unlinkat_error = 0;
}

/* Lowers the descriptor limit until `spare` slots are free. Returns the limit before. */
static struct rlimit limit_numbers(unsigned int spare)
{
	struct rlimit before, now;
	int fds[16];
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	now = before;
	for (unsigned int i = 0; i <= spare; i++)
		fds[i] = dup(STDIN_FILENO);
	now.rlim_cur = (rlim_t)fds[spare];
	for (unsigned int i = 0; i <= spare; i++)
		close(fds[i]);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &now), 0);
	return before;
}

TEST(without_descriptors_the_call_says_so_and_leaves_no_file)
{
	struct ferry_listener *listener = NULL;
	struct ferry_connector *connector = NULL;
	unsigned int spare = 0;
	int status = -EMFILE;
	mode_t before = __real_umask(077);

	/* The slots are for the socket, its directory, and the file whose mode is set. */
	for (; status == -EMFILE; spare++) {
		struct rlimit limit = limit_numbers(spare);
		status = ferry_listener_new_unix(&listener, base, path, with_mode(0666), on_accepted, NULL);
		setrlimit(RLIMIT_NOFILE, &limit);
		ck_assert(status == 0 || !exists(path));
	}
	__real_umask(before);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(spare, 4);

	struct rlimit limit = limit_numbers(0);
	status = ferry_connector_new_unix(&connector, base, path, NULL, on_unexpected, NULL);
	setrlimit(RLIMIT_NOFILE, &limit);
	ck_assert_int_eq(status, -EMFILE);
	ck_assert_ptr_null(connector);
	ferry_listener_free(listener);
}

/* ---- accepting ---- */

TEST_CASE("listener", make_directory, remove_directory);

TEST(bytes_flow_between_a_connector_and_a_listener)
{
	static const char *const names[] = {NULL, "@ferry-test-endpoint"};
	for (size_t i = 0; i < 2; i++) {
		char name[160];
		snprintf(name, sizeof(name), "%s.%ld", names[i] != NULL ? names[i] : path, (long)getpid());
		struct host host = {0};
		struct guest guest = {0};
		host_listen(&host, name, 0);
		ck_assert_int_eq(
		    ferry_connector_new_unix(&guest.connector, base, name, NULL, on_connected, &guest), 0);
		ck_assert_uint_eq(guest.told, 0);
		pump_until_count(&guest.told, 1);
		pump_until_count(&host.accepted, 1);
		ck_assert_int_eq(guest.status, 0);

		struct bufferevent *from = ferry_transport_get_bufferevent(guest.transport);
		struct bufferevent *to = ferry_transport_get_bufferevent(host.transports[0]);
		int fd = bufferevent_getfd(to);
		ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
		ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
		fd = bufferevent_getfd(from);
		ck_assert_int_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
		ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);

		ck_assert_int_eq(bufferevent_get_enabled(to) & EV_READ, 0);
		bufferevent_enable(to, EV_READ);
		bufferevent_write(from, "ahoy", 4);
		while (evbuffer_get_length(bufferevent_get_input(to)) < 4)
			event_base_loop(base, EVLOOP_ONCE);
		ferry_transport_free(guest.transport);
		host_free(&host);
		ck_assert(!exists(name));
	}
}

TEST(a_taken_abstract_name_is_refused)
{
	struct host host = {0};
	struct ferry_listener *second = NULL;
	char name[64];
	snprintf(name, sizeof(name), "@ferry-test-%ld", (long)getpid());
	host_listen(&host, name, 0);
	ck_assert_int_eq(ferry_listener_new_unix(&second, base, name, NULL, on_accepted, NULL),
	                 -EADDRINUSE);
	host_free(&host);
	host = (struct host){0};
	host_listen(&host, name, 0);
	host_free(&host);
}

TEST(the_accepts_of_one_wakeup_are_bounded)
{
	enum { CLIENTS = 200 };
	int clients[CLIENTS];
	struct host host = {.free_transport = true};
	host_listen(&host, path, CLIENTS);
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_int_ge(clients[i] = plain_connect(path), 0);
	turn_once();
	ck_assert_uint_ge(host.accepted, 1);
	ck_assert_uint_lt(host.accepted, CLIENTS / 2);
	pump_until_count(&host.accepted, CLIENTS);
	for (int i = 0; i < CLIENTS; i++)
		close(clients[i]);
	host_free(&host);
}

TEST(the_callback_may_free_the_listener)
{
	struct host host = {.free_listener = true};
	host_listen(&host, path, 0);
	int first = plain_connect(path);
	int second = plain_connect(path);
	pump_until_count(&host.accepted, 1);
	pump_turns(3);
	ck_assert_uint_eq(host.accepted, 1);
	ck_assert(!exists(path));
	ck_assert(!is_hung_up(&first));
	ck_assert(is_hung_up(&second));
	close(first);
	close(second);
	host_free(&host);
}

TEST(the_callback_may_free_the_listener_and_the_transport)
{
	struct host host = {.free_listener = true, .free_transport = true};
	host_listen(&host, path, 0);
	int client = plain_connect(path);
	pump_until(is_hung_up, &client);
	close(client);
	host_free(&host);
}

TEST(a_disabled_listener_leaves_connections_in_the_backlog)
{
	struct host host = {.disable_listener = true};
	int clients[3];
	host_listen(&host, path, 0);
	for (int i = 0; i < 3; i++)
		clients[i] = plain_connect(path);
	for (unsigned int i = 1; i <= 3; i++) {
		pump_until_count(&host.accepted, i);
		let_pass(30);
		ck_assert_uint_eq(host.accepted, i);
		ck_assert_uint_eq(watch.accept_calls, i);
		ck_assert_int_eq(ferry_listener_disable(host.listener), 0);
		ck_assert_int_eq(ferry_listener_enable(host.listener), 0);
		ck_assert_int_eq(ferry_listener_enable(host.listener), 0);
	}
	for (int i = 0; i < 3; i++)
		close(clients[i]);
	host_free(&host);
}

TEST(errors_of_one_connection_are_passed_over)
{
	static const int errors[] = {ECONNABORTED, EINTR, EPROTO, ENETDOWN, EHOSTUNREACH, EOPNOTSUPP};
	struct host host = {0};
	memcpy(watch.accept_errors, errors, sizeof(errors));
	host_listen(&host, path, 0);
	int client = plain_connect(path);
	event_base_loop(base, EVLOOP_NONBLOCK);
	ck_assert_uint_eq(host.accepted, 1);
	ck_assert_uint_eq(warnings, 0);
	close(client);
	host_free(&host);
}

TEST(a_shortage_pauses_accepting_for_a_moment)
{
	static const int errors[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, EPERM};
	const unsigned int count = sizeof(errors) / sizeof(errors[0]);
	struct host host = {0};
	memcpy(watch.accept_errors, errors, sizeof(errors));
	host_listen(&host, path, 0);
	int client = plain_connect(path);

	const int64_t start = milliseconds_now();
	pump_turns(20);
	assert_no_spin(start);
	pump_until_count(&host.accepted, 1);
	ck_assert_uint_eq(watch.accept_errors_given, count);
	ck_assert_uint_le(watch.accept_calls, count + 2);
	ck_assert_uint_eq(warnings, 1);
	struct ferry_listener_stats stats;
	ck_assert_int_eq(ferry_listener_get_stats(host.listener, &stats), 0);
	ck_assert_uint_eq(stats.pauses, count);
	ck_assert_uint_eq(stats.accepted, 1);
	ck_assert_uint_eq(stats.dropped, 0);
	close(client);
	host_free(&host);
}

/* valgrind accepts first and then closes the descriptor above the limit: the connection is lost. */
static bool limits_are_real(void)
{
	const char *preload = getenv("LD_PRELOAD");
	return preload == NULL || strstr(preload, "vgpreload") == NULL;
}

TEST(without_free_numbers_the_connection_waits)
{
	if (!limits_are_real())
		return;
	struct host host = {0};
	host_listen(&host, path, 0);
	int client = plain_connect(path);
	struct rlimit limit = limit_numbers(0);
	const int64_t start = milliseconds_now();
	let_pass(350);
	ck_assert_uint_eq(host.accepted, 0);
	assert_no_spin(start);
	ck_assert_uint_eq(warnings, 1);
	setrlimit(RLIMIT_NOFILE, &limit);
	pump_until_count(&host.accepted, 1);
	close(client);
	host_free(&host);
}

TEST(a_paused_listener_can_be_disabled_enabled_and_freed)
{
	struct host host = {0};
	watch.accept_errors[0] = EMFILE;
	host_listen(&host, path, 0);
	int client = plain_connect(path);
	turn_once();
	ck_assert_int_eq(ferry_listener_disable(host.listener), 0);
	let_pass(150);
	ck_assert_uint_eq(host.accepted, 0);
	ck_assert_int_eq(ferry_listener_enable(host.listener), 0);
	pump_until_count(&host.accepted, 1);

	memset(&watch, 0, sizeof(watch));
	watch.accept_errors[0] = EMFILE;
	int second = plain_connect(path);
	turn_once();
	ck_assert_int_eq(ferry_listener_enable(host.listener), 0);
	ck_assert_uint_eq(host.accepted, 1);
	host_free(&host);
	let_pass(150);
	close(client);
	close(second);
}

TEST(a_connection_that_makes_no_transport_is_closed)
{
	struct host host = {0};
	host_listen(&host, path, 0);

	watch.transport_error = -ENOTSUP;
	int first = plain_connect(path);
	int second = plain_connect(path);
	pump_until(is_hung_up, &first);
	pump_until(is_hung_up, &second);
	struct ferry_listener_stats stats;
	ck_assert_int_eq(ferry_listener_get_stats(host.listener, &stats), 0);
	ck_assert_uint_eq(stats.dropped, 2);
	ck_assert_uint_eq(stats.accepted, 0);
	ck_assert_uint_ge(warnings, 1); /* at most one a second */

	/* Out of memory: the second connection is not accepted. */
	watch.transport_error = -ENOMEM;
	warnings = 0;
	int third = plain_connect(path);
	int fourth = plain_connect(path);
	pump_until(is_hung_up, &third);
	ck_assert(!is_hung_up(&fourth));
	ck_assert_uint_eq(warnings, 1);
	watch.transport_error = 0;
	pump_until_count(&host.accepted, 1);

	close(first);
	close(second);
	close(third);
	close(fourth);
	host_free(&host);
}

/* ---- adopted listeners ---- */

struct socket_state {
	struct stat file;
	int flags;
	int fd_flags;
	int options[8];
};

static struct socket_state state_of(int fd, const char *name)
{
	static const int options[] = {SO_KEEPALIVE, SO_REUSEADDR, SO_REUSEPORT,  SO_RCVBUF,
	                              SO_SNDBUF,    SO_PASSCRED,  SO_ACCEPTCONN, SO_ERROR};
	struct socket_state state;
	memset(&state, 0, sizeof(state));
	if (name != NULL)
		ck_assert_int_eq(lstat(name, &state.file), 0);
	state.flags = fcntl(fd, F_GETFL);
	state.fd_flags = fcntl(fd, F_GETFD);
	for (size_t i = 0; i < 8; i++) {
		socklen_t length = sizeof(int);
		if (getsockopt(fd, SOL_SOCKET, options[i], &state.options[i], &length) < 0)
			state.options[i] = -errno; /* newer kernels: SO_PASSCRED is for unix sockets */
	}
	return state;
}

static void assert_same_state(const struct socket_state *a, const struct socket_state *b)
{
	ck_assert_uint_eq(a->file.st_mode, b->file.st_mode);
	ck_assert_uint_eq(a->file.st_ino, b->file.st_ino);
	ck_assert_int_eq(a->flags, b->flags);
	ck_assert_int_eq(a->fd_flags, b->fd_flags);
	ck_assert_mem_eq(a->options, b->options, sizeof(a->options));
}

TEST_CASE("adopted listener", make_directory, remove_directory);

TEST(an_adopted_unix_listener_is_left_as_it_was)
{
	int fd = plain_listen(path, 5);
	ck_assert_int_eq(chmod(path, 0640), 0);
	struct socket_state before = state_of(fd, path);
	for (int round = 0; round < 2; round++) {
		struct host host = {0};
		ck_assert_int_eq(ferry_listener_new_fd(&host.listener, base, fd, on_accepted, &host), 0);
		ck_assert_int_eq(ferry_listener_get_fd(host.listener), fd);
		int client = plain_connect(path);
		pump_until_count(&host.accepted, 1);
		host_free(&host);
		close(client);
	}
	struct socket_state after = state_of(fd, path);
	assert_same_state(&before, &after);
	int client = plain_connect(path);
	ck_assert_int_ge(client, 0);
	close(client);
	close(fd);
}

TEST(an_adopted_tcp_listener_is_left_as_it_was)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	ck_assert_int_eq(__real_bind(fd, (struct sockaddr *)&address, length), 0);
	ck_assert_int_eq(__real_listen(fd, 5), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	struct socket_state before = state_of(fd, NULL);

	struct host host = {0};
	ck_assert_int_eq(ferry_listener_new_fd(&host.listener, base, fd, on_accepted, &host), 0);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(__real_connect(client, (struct sockaddr *)&address, length), 0);
	pump_until_count(&host.accepted, 1);
	struct socket_state accepted =
	    state_of(bufferevent_getfd(ferry_transport_get_bufferevent(host.transports[0])), NULL);
	ck_assert_int_eq(accepted.options[0], 0);
	ck_assert_int_eq(accepted.fd_flags, FD_CLOEXEC);
	host_free(&host);
	close(client);

	struct socket_state after = state_of(fd, NULL);
	assert_same_state(&before, &after);
	close(fd);
}

TEST(what_cannot_be_accepted_from_is_not_adopted)
{
	struct ferry_listener *listener = NULL;
	int pipe_fds[2];
	make_pipe(pipe_fds);
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, pipe_fds[0], on_accepted, NULL),
	                 -ENOTSOCK);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, pipe_fds[0], on_accepted, NULL),
	                 -EBADF);
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, -1, on_accepted, NULL), -EBADF);

	int fd = plain_bind(path);
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, fd, on_accepted, NULL), -EINVAL);
	ck_assert_int_eq(__real_listen(fd, 1), 0);
	ck_assert_int_eq(fcntl(fd, F_SETFL, 0), 0);
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, fd, on_accepted, NULL), -EINVAL);
	close(fd);

	static const int types[] = {SOCK_DGRAM, SOCK_SEQPACKET};
	for (int i = 0; i < 2; i++) {
		fd = socket(AF_UNIX, types[i] | SOCK_NONBLOCK, 0);
		ck_assert_int_eq(ferry_listener_new_fd(&listener, base, fd, on_accepted, NULL),
		                 -EPROTOTYPE);
		close(fd);
	}
	ck_assert_ptr_null(listener);
}

/* Another process was faster, and a signal interrupts poll(2), which looks for a shutdown. */
TEST(woken_for_nothing_it_goes_on_if_poll_fails)
{
	struct host host = {0};
	host_listen(&host, path, 0);
	watch.accept_errors[0] = EAGAIN;
	watch.poll_error = EINTR;
	int fd = plain_connect(path);
	ck_assert_int_ge(fd, 0);
	pump_until_count(&host.accepted, 1);
	ck_assert_uint_eq(watch.poll_calls, 1);
	ck_assert_uint_eq(warnings, 0);
	host_free(&host);
	close(fd);
}

/* The other owner of an adopted socket may shut it down. */
TEST(a_listener_shut_down_by_another_does_not_spin)
{
	struct host host = {0};
	int fd = plain_listen(path, 5);
	ck_assert_int_eq(ferry_listener_new_fd(&host.listener, base, fd, on_accepted, &host), 0);
	ck_assert_int_eq(shutdown(fd, SHUT_RDWR), 0);
	const int64_t start = milliseconds_now();
	let_pass(250);
	assert_no_spin(start);
	host_free(&host);
	close(fd);
}

/* ---- connecting ---- */

TEST_CASE("connector", make_directory, remove_directory);

TEST(nobody_there_is_told_by_the_call)
{
	struct ferry_connector *connector = NULL;
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, path, NULL, on_unexpected, NULL),
	                 -ENOENT);
	ck_assert_int_eq(
	    ferry_connector_new_unix(&connector, base, "@ferry-nobody", NULL, on_unexpected, NULL),
	    -ECONNREFUSED);
	int fd = plain_bind(path);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, path, NULL, on_unexpected, NULL),
	                 -ECONNREFUSED);
	close(fd);
	unlink(path);
	make_plain_file(path);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, path, NULL, on_unexpected, NULL),
	                 -ECONNREFUSED);
	ck_assert_ptr_null(connector);
	let_pass(20);
}

/* A listener that does not accept, with its backlog full. */
struct jam {
	struct host host;
	int clients[16];
	int count;
};

static void jam_make(struct jam *jam)
{
	*jam = (struct jam){0};
	host_listen(&jam->host, path, 1);
	ferry_listener_disable(jam->host.listener);
	while ((jam->clients[jam->count] = plain_connect(path)) >= 0)
		jam->count++;
	ck_assert_int_eq(jam->clients[jam->count], -EAGAIN);
}

static void jam_free(struct jam *jam)
{
	for (int i = 0; i < jam->count; i++)
		close(jam->clients[i]);
	host_free(&jam->host);
}

TEST(a_full_backlog_is_tried_again)
{
	struct jam jam;
	struct guest guest = {0};
	jam_make(&jam);
	ck_assert_int_eq(ferry_connector_new_unix(NULL, base, path, NULL, on_connected, &guest), 0);
	pump_until_count(&watch.connect_calls, 4);
	ck_assert_uint_eq(guest.told, 0);

	ferry_listener_enable(jam.host.listener);
	pump_until_count(&guest.told, 1);
	ck_assert_int_eq(guest.status, 0);
	pump_until_count(&jam.host.accepted, (unsigned int)jam.count + 1);
	pump_turns(3);
	ck_assert_uint_eq(guest.told, 1);
	ferry_transport_free(guest.transport);
	jam_free(&jam);
}

TEST(a_backlog_full_until_the_deadline_is_a_timeout)
{
	struct jam jam;
	const struct timeval none = {0}, some = {.tv_usec = 150000};
	jam_make(&jam);

	struct guest guest = {0};
	ck_assert_int_eq(
	    ferry_connector_new_unix(&guest.connector, base, path, &none, on_connected, &guest), 0);
	ck_assert_uint_eq(guest.told, 0);
	pump_until_count(&guest.told, 1);
	ck_assert_int_eq(guest.status, -ETIMEDOUT);
	ck_assert_uint_eq(watch.connect_calls, 1);

	guest = (struct guest){.free_connector = true};
	ck_assert_int_eq(
	    ferry_connector_new_unix(&guest.connector, base, path, &some, on_connected, &guest), 0);
	pump_until_count(&guest.told, 1);
	ck_assert_int_eq(guest.status, -ETIMEDOUT);
	ck_assert_uint_ge(watch.connect_calls, 2);
	ck_assert_uint_le(watch.connect_calls, 20);
	jam_free(&jam);
}

TEST(a_listener_that_goes_while_waiting_is_told_by_the_callback)
{
	struct jam jam;
	struct guest guest = {0};
	jam_make(&jam);
	ck_assert_int_eq(
	    ferry_connector_new_unix(&guest.connector, base, path, NULL, on_connected, &guest), 0);
	ferry_listener_free(jam.host.listener);
	jam.host.listener = NULL;
	pump_until_count(&guest.told, 1);
	ck_assert_int_eq(guest.status, -ENOENT);
	jam_free(&jam);
}

TEST(a_cancelled_attempt_calls_nothing)
{
	struct jam jam;
	struct ferry_connector *connector;
	jam_make(&jam);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, path, NULL, on_unexpected, NULL),
	                 0);
	ferry_connector_free(connector);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, path, NULL, on_unexpected, NULL),
	                 0);
	pump_until_count(&watch.connect_calls, 4);
	ferry_connector_free(connector);
	let_pass(20);
	jam_free(&jam);

	/* Also when the connection is made already, and only the callback has not run. */
	struct host host = {0};
	host_listen(&host, path, 0);
	ck_assert_int_eq(ferry_connector_new_unix(&connector, base, path, NULL, on_unexpected, NULL),
	                 0);
	ferry_connector_free(connector);
	pump_until_count(&host.accepted, 1);
	host_free(&host);
}

TEST(the_callback_may_free_the_connector_and_the_transport)
{
	struct host host = {0};
	struct guest guest = {.free_connector = true};
	host_listen(&host, path, 0);
	ck_assert_int_eq(
	    ferry_connector_new_unix(&guest.connector, base, path, NULL, on_connected, &guest), 0);
	pump_until_count(&guest.told, 1);
	ck_assert_int_eq(guest.status, 0);
	ferry_transport_free(guest.transport);
	host_free(&host);
}

TEST(a_connection_that_makes_no_transport_is_an_error)
{
	struct host host = {0};
	struct guest guest = {0};
	host_listen(&host, path, 0);
	watch.transport_error = -ENOMEM;
	ck_assert_int_eq(
	    ferry_connector_new_unix(&guest.connector, base, path, NULL, on_connected, &guest), 0);
	pump_until_count(&guest.told, 1);
	ck_assert_int_eq(guest.status, -ENOMEM);
	watch.transport_error = 0;
	host_free(&host);
}

/* ---- memory ---- */

TEST_CASE("memory", make_directory, remove_directory);

TEST(every_allocation_of_a_call_may_fail)
{
	struct ferry_listener *listener = NULL;
	struct ferry_connector *connector = NULL;
	unsigned int failed = 0;
	int status;

	do {
		watch.allocation_to_fail = ++failed;
		status = ferry_listener_new_unix(&listener, base, path, NULL, on_accepted, NULL);
		watch.allocation_to_fail = 0;
		ck_assert(status == 0 || (status == -ENOMEM && !exists(path) && listener == NULL));
	} while (status != 0);
	ck_assert_uint_ge(failed, 4);

	failed = 0;
	do {
		watch.allocation_to_fail = ++failed;
		status = ferry_connector_new_unix(&connector, base, path, NULL, on_unexpected, NULL);
		watch.allocation_to_fail = 0;
		ck_assert(status == 0 || (status == -ENOMEM && connector == NULL));
	} while (status != 0);
	ck_assert_uint_ge(failed, 3);
	ferry_connector_free(connector);
	ferry_listener_free(listener);

	int fd = plain_listen(path, 1);
	listener = NULL;
	failed = 0;
	do {
		watch.allocation_to_fail = ++failed;
		status = ferry_listener_new_fd(&listener, base, fd, on_accepted, NULL);
		watch.allocation_to_fail = 0;
		ck_assert(status == 0 || (status == -ENOMEM && listener == NULL));
	} while (status != 0);
	ferry_listener_free(listener);
	close(fd);
}

/* A wake-up that runs out of memory at any point drops at most one connection. */
TEST(every_allocation_of_an_accept_may_fail)
{
	struct host host = {.free_transport = true};
	bool all_worked = false;
	host_listen(&host, path, 0);
	for (unsigned int n = 1; !all_worked; n++) {
		unsigned int before = host.accepted;
		int client = plain_connect(path);
		watch.allocation_to_fail = n;
		event_base_loop(base, EVLOOP_NONBLOCK);
		allow_allocations();
		all_worked = watch.allocations_over;
		ck_assert(host.accepted == before + 1 || !all_worked);
		pump_until(is_hung_up, &client);
		close(client);
		ck_assert_int_eq(ferry_listener_disable(host.listener), 0);
		ck_assert_int_eq(ferry_listener_enable(host.listener), 0);
	}
	ck_assert_uint_ge(warnings, 1);
	host_free(&host);
}

TEST(every_allocation_of_an_outcome_may_fail)
{
	struct host host = {.free_transport = true};
	bool all_worked = false;
	host_listen(&host, path, 0);
	ferry_listener_disable(host.listener);
	for (unsigned int n = 1; !all_worked; n++) {
		struct guest guest = {0};
		ck_assert_int_eq(
		    ferry_connector_new_unix(&guest.connector, base, path, NULL, on_connected, &guest), 0);
		watch.allocation_to_fail = n;
		event_base_loop(base, EVLOOP_NONBLOCK);
		allow_allocations();
		all_worked = watch.allocations_over;
		ck_assert_uint_eq(guest.told, 1);
		ck_assert(guest.status == -ENOMEM || guest.status == 0);
		ck_assert(guest.status == 0 || !all_worked);
		ferry_transport_free(guest.transport);
	}
	host_free(&host);
}

BEFORE_ALL
{
	/* libevent's allocations are counted with ours. */
	event_set_mem_functions(__wrap_malloc, __wrap_realloc, free);
}
