#include "source_link.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "support.h"

struct script by_sendfile, by_splice, by_pread;

bool direct_is_strict;

size_t sendfile_max;

static bool is_scripted_to_fail(struct script *script)
{
	script->calls++;
	int step = script->next < script->count ? script->steps[script->next++] : 0;
	errno = -step;
	return step != 0;
}

static bool is_refused_as_unaligned(int fd, uintptr_t address, int64_t offset, size_t length)
{
	if (!direct_is_strict || (fcntl(fd, F_GETFL) & O_DIRECT) == 0)
		return false;
	errno = EINVAL;
	return (address | (uintptr_t)offset | length) % 4096 != 0;
}

ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length);

ssize_t __real_splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t length,
                      unsigned int flags);

ssize_t __wrap_splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t length,
                      unsigned int flags);

ssize_t __real_pread(int fd, void *buffer, size_t length, off_t offset);

ssize_t __wrap_pread(int fd, void *buffer, size_t length, off_t offset);

ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length)
{
	if (is_scripted_to_fail(&by_sendfile))
		return -1;
	off_t from = offset != NULL ? *offset : lseek(in, 0, SEEK_CUR);
	if (is_refused_as_unaligned(in, 0, from, length))
		return -1;
	if (sendfile_max != 0 && length > sendfile_max)
		length = sendfile_max;
	return __real_sendfile(out, in, offset, length);
}

ssize_t __wrap_splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t length,
                      unsigned int flags)
{
	ck_assert_uint_gt(length, 0);
	ck_assert_uint_ne(flags & SPLICE_F_NONBLOCK, 0);
	if (is_scripted_to_fail(&by_splice))
		return -1;
	return __real_splice(in, in_offset, out, out_offset, length, flags);
}

ssize_t __wrap_pread(int fd, void *buffer, size_t length, off_t offset)
{
	if (is_scripted_to_fail(&by_pread) ||
	    is_refused_as_unaligned(fd, (uintptr_t)buffer, offset, length))
		return -1;
	return __real_pread(fd, buffer, length, offset);
}

int source = -1, writer = -1;

int link_kind;

unsigned int copy;

struct told file;

enum ferry_file_method method;

static void open_fifo(void)
{
	char directory[] = "/tmp/ferry-test-XXXXXX", path[64];
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/fifo", directory);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	source = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	writer = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	unlink(path);
	rmdir(directory);
}

void open_tty(void)
{
	struct termios raw;
	ck_assert_int_eq(openpty(&writer, &source, NULL, NULL, NULL), 0);
	ck_assert_int_eq(tcgetattr(source, &raw), 0);
	cfmakeraw(&raw);
	ck_assert_int_eq(tcsetattr(source, TCSANOW, &raw), 0);
	evutil_make_socket_nonblocking(writer);
}

void open_source(int of_kind)
{
	int fds[2] = {-1, -1};
	link_kind = of_kind;
	if (link_kind == FROM_PIPE)
		make_pipe(fds);
	else if (link_kind == FROM_UNIX || link_kind == FROM_TCP)
		make_pair(link_kind == FROM_UNIX ? PAIR_UNIX : PAIR_TCP, fds);
	if (link_kind == FROM_TCP) { /* left alone its buffers grow to megabytes */
		setsockopt(fds[0], SOL_SOCKET, SO_RCVBUF, &(int){65536}, sizeof(int));
		setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &(int){65536}, sizeof(int));
	}
	source = fds[0];
	writer = fds[1];
	if (link_kind == FROM_FIFO)
		open_fifo();
	else if (link_kind == FROM_TTY)
		open_tty();
	ck_assert_int_ge(source, 0);
	ck_assert_int_ge(writer, 0);
	ck_assert_int_eq(fcntl(source, F_SETFL, fcntl(source, F_GETFL) & ~O_NONBLOCK), 0);
}

void note_method(struct told *told)
{
	method = (enum ferry_file_method)ferry_file_producer_get_method(told->producer);
}

void send_source(int64_t length)
{
	file.on_finished = note_method;
	ck_assert_int_eq(try_send(&file, source, FERRY_FD_DUP | copy, 0, length), 0);
}

void close_writer(void)
{
	if (writer >= 0)
		close(writer);
	writer = -1;
}

void close_all(void)
{
	close_writer();
	close(source);
	close_link();
}

uint64_t to_feed, fed;

bool closes_at_end;

void feed_some(void)
{
	unsigned char block[4096];
	while (writer >= 0 && fed < to_feed) {
		size_t length = to_feed - fed < sizeof(block) ? (size_t)(to_feed - fed) : sizeof(block);
		for (size_t i = 0; i < length; i++)
			block[i] = support_byte(fed + i);
		ssize_t n = write(writer, block, length);
		if (n <= 0)
			return;
		fed += (uint64_t)n;
	}
	/* A terminal loses its unread bytes when the other end closes. Close it only after the file has
	 * read all. */
	if (closes_at_end && (link_kind != FROM_TTY || file.sent >= fed))
		close_writer();
}

void feed(uint64_t length)
{
	to_feed += length;
	feed_some();
	ck_assert_uint_eq(fed, to_feed);
}

bool has_arrived(void *length)
{
	stream_has_ended(NULL);
	return arrived_length >= *(const size_t *)length;
}
