#include "file_script.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.h"

struct file_script by_sendfile, by_write;

void play_file_script(struct file_script *file_script, const int *steps, size_t count, bool repeat)
{
	*file_script = (struct file_script){steps, count, 0, repeat};
}

/* Returns the count of bytes that the next call may take of `length`, or a negative errno. */
static ssize_t next_step(struct file_script *file_script, size_t length)
{
	if (file_script->next == file_script->count)
		return (ssize_t)length;
	int step = file_script->steps[file_script->next++];
	if (file_script->next == file_script->count && file_script->repeat)
		file_script->next = 0;
	if (step < 0)
		errno = -step;
	return step < 0 || length > (size_t)step ? step : (ssize_t)length;
}

ssize_t __real_sendfile(int out, int in, off_t *offset, size_t length);

ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length);

ssize_t __real_sendmsg(int fd, const struct msghdr *message, int flags);

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);

ssize_t __real_writev(int fd, const struct iovec *vectors, int count);

ssize_t __wrap_writev(int fd, const struct iovec *vectors, int count);

ssize_t __wrap_sendfile(int out, int in, off_t *offset, size_t length)
{
	ck_assert_uint_gt(length, 0);
	ck_assert_uint_le(length, 0x7ffff000);
	ssize_t max = next_step(&by_sendfile, length);
	return max < 0 ? -1 : __real_sendfile(out, in, offset, (size_t)max);
}

enum { VECTORS_MAX = 80 };

/* Copies the vectors, cut to the bytes that the next write may take. Returns the count of vectors
 * left, or -1. */
static int cut(const struct iovec *vectors, size_t count, struct iovec *cut_vectors)
{
	size_t length = 0;
	int used = 0;
	ck_assert_uint_le(count, VECTORS_MAX);
	for (size_t i = 0; i < count; i++)
		length += vectors[i].iov_len;
	ck_assert_uint_gt(length, 0);
	ssize_t left = next_step(&by_write, length);
	if (left < 0)
		return -1;
	for (; left > 0; used++) {
		cut_vectors[used] = vectors[used];
		if (cut_vectors[used].iov_len > (size_t)left)
			cut_vectors[used].iov_len = (size_t)left;
		left -= (ssize_t)cut_vectors[used].iov_len;
	}
	return used;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct iovec vectors[VECTORS_MAX];
	struct msghdr less = *message;
	int count = cut(message->msg_iov, message->msg_iovlen, vectors);
	if (count < 0)
		return -1;
	less.msg_iov = vectors;
	less.msg_iovlen = (size_t)count;
	return __real_sendmsg(fd, &less, flags);
}

ssize_t __wrap_writev(int fd, const struct iovec *vectors, int count)
{
	struct iovec less[VECTORS_MAX];
	count = cut(vectors, (size_t)count, less);
	return count < 0 ? -1 : __real_writev(fd, less, count);
}

struct told file;

static bool time_is_up;

static void time_up(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	time_is_up = true;
}

void pump_past_the_timeout(void)
{
	time_is_up = false;
	event_base_once(base, -1, EV_TIMEOUT, time_up, NULL, &(struct timeval){.tv_usec = 60000});
	pump_until_set(&time_is_up);
}
