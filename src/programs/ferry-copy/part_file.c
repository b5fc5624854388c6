#include "programs/ferry-copy/part_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <event2/buffer.h>

#ifndef RENAME_NOREPLACE /* musl has no renameat2(2) */
#define RENAME_NOREPLACE 1U
static int renameat2(int from, const char *old, int to, const char *new, unsigned int flags)
{
	return (int)syscall(SYS_renameat2, from, old, to, new, flags);
}
#endif

static void set_part_names(struct part_file *part, const struct frame *offer)
{
	(void)snprintf(part->name, sizeof(part->name), "%s", offer->text);
	if (offer->size == FRAME_NO_SIZE)
		(void)snprintf(part->part_name, sizeof(part->part_name), "%s.part", offer->text);
	else
		(void)snprintf(part->part_name, sizeof(part->part_name), "%s.%" PRIx64 "-%" PRIx64 ".part",
		               offer->text, offer->size, offer->modified);
}

/* The lock keeps a second process from writing to the same part. */
static int prepare_part(struct part_file *part, const struct frame *offer)
{
	struct stat status;
	if (flock(part->fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EBUSY : -errno;
	if (fstat(part->fd, &status) < 0)
		return -errno;
	/* A link count other than 1: the file has a second name, or was removed before the lock. */
	if (!S_ISREG(status.st_mode) || status.st_nlink != 1)
		return -EINVAL;
	if (offer->size == FRAME_NO_SIZE || (uint64_t)status.st_size > offer->size) {
		if (ftruncate(part->fd, 0) < 0)
			return -errno;
		status.st_size = 0;
	}
	part->size = (uint64_t)status.st_size;
	part->started = part->size;
	return 0;
}

int part_file_open(struct part_file *part, int directory, const struct frame *offer, bool replace)
{
	struct stat ignored;
	part->directory = directory;
	set_part_names(part, offer);
	if (!replace && fstatat(directory, part->name, &ignored, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	/* O_NONBLOCK: if the name is that of a FIFO, do not wait for its reader. */
	part->fd = openat(directory, part->part_name,
	                  O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
	if (part->fd < 0)
		return -errno;
	int status = prepare_part(part, offer);
	if (status < 0) {
		close(part->fd);
		part->fd = -1;
	}
	return status;
}

/* The kernel begins early to write the file to the disk: little is left for the fsync(2) at the end, for which the
 * sender waits. */
static void start_writing(struct part_file *part)
{
	enum { PIECE = 8 * 1024 * 1024 };
	if (part->size - part->started < PIECE)
		return;
	(void)sync_file_range(part->fd, (off_t)part->started, (off_t)(part->size - part->started),
	                      SYNC_FILE_RANGE_WRITE);
	part->started = part->size;
}

int part_file_write(struct part_file *part, struct evbuffer *input, size_t count)
{
	while (count > 0) {
		errno = 0;
		int written = evbuffer_write_atmost(input, part->fd, (ev_ssize_t)count);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return errno != 0 ? -errno : -EIO;
		part->size += (uint64_t)written;
		count -= (size_t)written;
	}
	start_writing(part);
	return 0;
}

/* Not every file system can sync a directory. */
static int sync_directory(int directory)
{
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int status = fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
	close(fd);
	return status;
}

int part_file_finish(struct part_file *part, bool replace)
{
	if (fsync(part->fd) < 0) {
		int status = -errno;
		part->size = 0;
		(void)ftruncate(part->fd, 0);
		return status;
	}
	if (renameat2(part->directory, part->part_name, part->directory, part->name,
	              replace ? 0 : RENAME_NOREPLACE) < 0)
		return -errno;
	close(part->fd);
	part->fd = -1;
	return sync_directory(part->directory);
}

void part_file_close(struct part_file *part)
{
	if (part->fd < 0)
		return;
	if (part->size == 0)
		unlinkat(part->directory, part->part_name, 0);
	close(part->fd);
	part->fd = -1;
}
