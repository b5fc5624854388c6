#include "descriptor_link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "support.h"

FILE *__real_fdopen(int fd, const char *mode);

FILE *__wrap_fdopen(int fd, const char *mode);

ssize_t __real_readlink(const char *path, char *buffer, size_t size);

ssize_t __wrap_readlink(const char *path, char *buffer, size_t size);

bool no_memory, no_proc;

FILE *__wrap_fdopen(int fd, const char *mode)
{
	if (no_memory) {
		errno = ENOMEM;
		return NULL;
	}
	return __real_fdopen(fd, mode);
}

ssize_t __wrap_readlink(const char *path, char *buffer, size_t size)
{
	if (no_proc) {
		errno = ENOENT;
		return -1;
	}
	return __real_readlink(path, buffer, size);
}

struct descriptor_inbox inbox;

struct ferry_message_stream *sender;

void open_streams(void)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	sender = open_message_stream(ends[0], NULL);
	open_message_stream(ends[1], &inbox);
}

void close_streams(void)
{
	ferry_message_stream_free(sender);
	inbox_close(&inbox);
}

struct ferry_descriptor *send_over(int fd, const char *name)
{
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, name, FERRY_FD_DUP), 0);
	ck_assert_int_eq(inbox_wait(&inbox), 0);
	struct ferry_descriptor *descriptor = inbox.descriptor;
	inbox.descriptor = NULL;
	return descriptor;
}

FILE *to_file(struct ferry_descriptor *descriptor)
{
	FILE *file = NULL;
	int fd = ferry_descriptor_get_fd(descriptor);
	ck_assert_int_eq(ferry_descriptor_to_file(&file, descriptor), 0);
	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fileno(file), fd);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(ferry_descriptor_get_fd(descriptor), -ENOENT);
	return file;
}

void expect_line(FILE *file, const char *expected)
{
	char line[64] = "";
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), file));
	ck_assert_str_eq(line, expected);
}

bool is_readable(int fd, int milliseconds)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	return poll(&poll_fd, 1, milliseconds) == 1 && (poll_fd.revents & POLLIN) != 0;
}
