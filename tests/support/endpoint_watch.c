#include "endpoint_watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "endpoint/address.h"
#include "ferry/log.h"
#include "listener_options.h"
#include "support.h"

int __real_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);

int __real_openat(int directory, const char *name, int flags, ...);

int __real_fchmod(int fd, mode_t mode);

int __real_fstatat(int directory, const char *name, struct stat *status, int flags);

int __real_unlinkat(int directory, const char *name, int flags);

int __real_poll(struct pollfd *fds, nfds_t count, int timeout);

int __real_ferry_transport_new_socket(struct ferry_transport **out, struct event_base *with,
                                      int fd);

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

int __wrap_ferry_transport_new_socket(struct ferry_transport **out, struct event_base *with,
                                      int fd);

void *__wrap_malloc(size_t size);

void *__wrap_calloc(size_t count, size_t size);

void *__wrap_realloc(void *memory, size_t size);

struct endpoint_watch watch;

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

int __wrap_ferry_transport_new_socket(struct ferry_transport **out, struct event_base *with, int fd)
{
	return watch.transport_error != 0 ? watch.transport_error
	                                  : __real_ferry_transport_new_socket(out, with, fd);
}

static bool allocation_fails(void)
{
	return watch.allocation_to_fail != 0 && --watch.allocation_to_fail == 0;
}

void allow_allocations(void)
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

char endpoint_directory[64];

char endpoint_path[128];

unsigned int warnings;

static void count_warning(enum ferry_log_level level, const char *line)
{
	(void)line;
	if (level == FERRY_LOG_WARNING)
		warnings++;
}

void set_up_endpoint(void)
{
	memset(&watch, 0, sizeof(watch));
	warnings = 0;
	ferry_log_set_cb(count_warning);
	strcpy(endpoint_directory, "/tmp/ferry-endpoint-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(endpoint_directory));
	snprintf(endpoint_path, sizeof(endpoint_path), "%s/socket", endpoint_directory);
}

void tear_down_endpoint(void)
{
	DIR *entries = opendir(endpoint_directory);
	struct dirent *entry;
	ck_assert_ptr_nonnull(entries);
	while ((entry = readdir(entries)) != NULL)
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(entries), entry->d_name, 0);
	closedir(entries);
	ck_assert_int_eq(rmdir(endpoint_directory), 0);
}

bool exists(const char *name)
{
	struct stat status;
	return lstat(name, &status) == 0;
}

void make_plain_file(const char *name)
{
	int fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, "mine", 4), 4);
	close(fd);
}

int plain_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	return fd;
}

int plain_connect(const char *name)
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

int plain_bind(const char *name)
{
	struct address address;
	int fd = plain_socket();
	ck_assert_int_eq(address_from_string(&address, name), 0);
	ck_assert_int_eq(__real_bind(fd, (struct sockaddr *)&address.un, address.length), 0);
	return fd;
}

int plain_listen(const char *name, int backlog)
{
	int fd = plain_bind(name);
	ck_assert_int_eq(__real_listen(fd, backlog), 0);
	return fd;
}

bool is_hung_up(void *argument)
{
	char byte;
	ssize_t count = recv(*(int *)argument, &byte, 1, MSG_PEEK);
	return count == 0 || (count < 0 && errno == ECONNRESET);
}

void on_accepted(struct ferry_listener *listener, struct ferry_transport *transport, void *context)
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

void host_listen(struct host *host, const char *name, int backlog)
{
	ck_assert_int_eq(ferry_listener_new_unix(&host->listener, base, name, with_backlog(backlog),
	                                         on_accepted, host),
	                 0);
}

void host_free(struct host *host)
{
	ferry_listener_free(host->listener);
	for (unsigned int i = 0; i < TRANSPORTS_MAX; i++)
		ferry_transport_free(host->transports[i]);
}

void on_connected(struct ferry_connector *connector, int status, struct ferry_transport *transport,
                  void *context)
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

void on_unexpected(struct ferry_connector *connector, int status, struct ferry_transport *transport,
                   void *context)
{
	(void)connector, (void)status, (void)transport, (void)context;
	ck_abort_msg("a callback after a failed or cancelled call");
}

void let_pass(int milliseconds)
{
	struct timeval time = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000L};
	event_base_loopexit(base, &time);
	event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
}

struct rlimit limit_descriptor_slots(unsigned int spare)
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
