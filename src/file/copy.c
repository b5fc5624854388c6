#include "file/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct file_copy *file_copy_new(size_t length)
{
	/* An aligned read starts up to one unit early, and ends up to one late. */
	size_t size = (length / FILE_COPY_ALIGNMENT + 2) * FILE_COPY_ALIGNMENT;
	struct file_copy *copy = aligned_alloc(FILE_COPY_ALIGNMENT, sizeof(*copy) + size);

	if (copy != NULL) {
		/* An initialiser would clear a page of padding, too. */
		copy->start = 0;
		copy->end = 0;
		copy->size = size;
	}
	return copy;
}

size_t file_copy_fill(struct file_copy *copy, int fd, int64_t offset, size_t length, int *error)
{
	size_t before = (size_t)(offset % FILE_COPY_ALIGNMENT), done = 0, wanted = before + length;

	*error = 0;
	while (done < wanted) {
		ssize_t got = pread(fd, copy->bytes + done, copy->size - done,
		                    offset - (int64_t)before + (int64_t)done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			*error = -errno;
		if (got <= 0)
			break;
		done += (size_t)got;
		/* An unaligned end is the end of the file; a further read of O_DIRECT would fail. */
		if (done % FILE_COPY_ALIGNMENT != 0)
			break;
	}
	if (done > wanted)
		done = wanted;
	copy->start = before;
	copy->end = done > before ? done : before;
	return copy->end - copy->start;
}
