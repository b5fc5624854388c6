#include "file_source.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ferry/file_producer.h"

/* What Linux moves in one call at most (MAX_RW_COUNT); more is cut, and far more is EINVAL. */
static const size_t call_max = 0x7ffff000;

static int check_readable(int fd, struct stat *status)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	/* Reading a directory is EISDIR whatever else is wrong. */
	if (fstat(fd, status) < 0)
		return -errno;
	if (S_ISDIR(status->st_mode))
		return -EISDIR;
	if ((flags & O_ACCMODE) == O_WRONLY || (flags & O_PATH) != 0)
		return -EBADF;
	return 0;
}

static uint64_t bytes_to_end(const struct stat *status, int64_t offset)
{
	if (!S_ISREG(status->st_mode))
		return INT64_MAX;
	return status->st_size > offset ? (uint64_t)(status->st_size - offset) : 0;
}

int file_source_init(struct file_source *source, int fd, int64_t offset, int64_t length)
{
	struct stat status = {0};
	bool at_position = offset == FERRY_FILE_POSITION;

	if (length < 0 || (offset < 0 && !at_position))
		return -EINVAL;
	int error = check_readable(fd, &status);
	if (error < 0)
		return error;
	if (at_position) {
		offset = lseek(fd, 0, SEEK_CUR);
		if (offset < 0)
			return -errno;
	}
	if (length != FERRY_TO_END && offset > INT64_MAX - length)
		return -EINVAL;

	*source = (struct file_source){
	    .fd = fd,
	    .at_position = at_position,
	    .offset = offset,
	    .open_ended = length == FERRY_TO_END && !S_ISREG(status.st_mode),
	    .remaining = length == FERRY_TO_END ? bytes_to_end(&status, offset) : (uint64_t)length,
	};
	return 0;
}

static size_t next_length(const struct file_source *source, size_t max)
{
	if (max > call_max)
		max = call_max;
	return source->remaining < max ? (size_t)source->remaining : max;
}

ssize_t file_source_send(struct file_source *source, int out_fd, size_t max)
{
	off_t offset = source->offset;
	ssize_t sent;

	do {
		sent = sendfile(out_fd, source->fd, source->at_position ? NULL : &offset,
		                next_length(source, max));
	} while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return -errno;
	source->offset += sent;
	source->remaining -= (uint64_t)sent;
	return sent;
}

ssize_t file_source_peek(const struct file_source *source, void *buffer, size_t max)
{
	off_t offset = source->at_position ? lseek(source->fd, 0, SEEK_CUR) : source->offset;
	ssize_t length;

	if (offset < 0)
		return -errno;
	do {
		length = pread(source->fd, buffer, next_length(source, max), offset);
	} while (length < 0 && errno == EINTR);
	return length < 0 ? -errno : length;
}

void file_source_skip(struct file_source *source, size_t count)
{
	source->offset += (int64_t)count;
	source->remaining -= count;
	if (source->at_position)
		lseek(source->fd, (off_t)count, SEEK_CUR);
}
