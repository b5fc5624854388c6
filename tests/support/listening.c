#include "listening.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "recorder.h"
#include "support.h"

char socket_path[128];
static char directory[64];

void make_directory(void)
{
	strcpy(directory, "/tmp/ferry-listeners-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(socket_path, sizeof(socket_path), "%s/socket", directory);
}

void set_directory_mode(mode_t mode)
{
	ck_assert_int_eq(chmod(directory, mode), 0);
}

void remove_directory(void)
{
	ck_assert_int_eq(rmdir(directory), 0);
}

bool path_exists(const char *path)
{
	struct stat status;
	return lstat(path, &status) == 0;
}

static int listen_at(int family, const void *address, socklen_t length)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, address, length), 0);
	ck_assert_int_eq(listen(fd, SOMAXCONN), 0);
	return fd;
}

int listen_tcp(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	return listen_at(AF_INET, &address, sizeof(address));
}

int listen_unix(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path) + 1);
	return listen_at(AF_UNIX, &address, sizeof(address));
}

int listen_abstract(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	return listen_at(AF_UNIX, &address, sizeof(sa_family_t));
}

int connect_to(int fd)
{
	struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
	socklen_t length = sizeof(address);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	int client = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(client, 0);
	if (connect(client, (struct sockaddr *)&address, length) == 0)
		return client;
	int error = errno;
	close(client);
	return -error;
}

bool is_reachable(int fd)
{
	int client = connect_to(fd);
	if (client < 0)
		return false;
	int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	close(client);
	if (accepted >= 0)
		close(accepted);
	return accepted >= 0;
}

/* ---- takeovers ---- */

static void on_received(struct ferry_takeover *takeover, struct ferry_socket_set *set,
                        void *context)
{
	struct takeover_end *end = context;
	ck_assert_ptr_eq(takeover, end->takeover);
	ck_assert_ptr_nonnull(set);
	ck_assert_uint_eq(end->received++ + end->ended, 0);
	end->set = set;
	if (end->on_received != NULL)
		end->on_received(end);
}

static void on_ended(struct ferry_takeover *takeover, int status, void *context)
{
	struct takeover_end *end = context;
	ck_assert_ptr_eq(takeover, end->takeover);
	ck_assert_uint_eq(end->ended++, 0);
	ck_assert_int_le(status, 0);
	end->status = status;
	if (end->on_ended != NULL)
		end->on_ended(end);
}

const struct ferry_takeover_callbacks takeover_end_callbacks = {.received = on_received,
                                                                .ended = on_ended};

void serve_on(struct takeover_end *end, struct ferry_socket_set *set, int fd)
{
	ck_assert_int_eq(
	    ferry_takeover_serve(&end->takeover, set, make_transport(fd), &takeover_end_callbacks, end),
	    0);
}

void request_on(struct takeover_end *end, int fd, const char *const *names, size_t count)
{
	ck_assert_int_eq(ferry_takeover_request(&end->takeover, make_transport(fd), names, count,
	                                        &takeover_end_callbacks, end),
	                 0);
}

void commit_takeover(struct takeover_end *end)
{
	ck_assert_int_eq(ferry_takeover_commit(end->takeover), 0);
}

void takeover_end_close(struct takeover_end *end)
{
	ferry_takeover_free(end->takeover);
	ferry_socket_set_free(end->set);
	end->takeover = NULL;
	end->set = NULL;
}
