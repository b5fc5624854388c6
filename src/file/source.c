#include "file/source.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kernel/optional_call.h"
#include "kernel/preadv2.h"
#include "kernel/socket.h"
#include "kernel/tls.h"

/* The most bytes that Linux moves in one call (MAX_RW_COUNT). It cuts a larger count, and fails with EINVAL
 * for a far larger one. */
static const size_t call_max = 0x7ffff000;

enum {
	COPY_SIZE = 64 * 1024,
};

static size_t copied(const struct file_source *source)
{
	return source->copy != NULL ? source->copy->end - source->copy->start : 0;
}

static size_t smaller(uint64_t left, size_t max)
{
	if (max > call_max)
		max = call_max;
	return left < max ? (size_t)left : max;
}

/* ---- the kind of source ---- */

/* Returns the descriptor's flags, or a negative errno. */
static int check_readable(int fd, struct stat *status)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	/* A directory is EISDIR even if another check would fail too. */
	if (fstat(fd, status) < 0)
		return -errno;
	if (S_ISDIR(status->st_mode))
		return -EISDIR;
	if ((flags & O_ACCMODE) == O_WRONLY || (flags & O_PATH) != 0)
		return -EBADF;
	return flags;
}

static bool is_stream_socket(int fd)
{
	return socket_get_type(fd) == SOCK_STREAM;
}

/* splice(2) fails at a record of TLS that is no data: the bytes are copied. */
static int examine_tls(struct file_source *source)
{
	struct tls_keys keys;
	int status = socket_is_tcp(source->fd) ? tls_examine(source->fd, &keys) : 0;

	if (status <= 0)
		return status;
	source->from_tls = true;
	source->method = FERRY_FILE_BY_COPY;
	return 0;
}

static enum ferry_file_method choose_method(int fd, const struct stat *status, bool seekable)
{
	if (S_ISFIFO(status->st_mode) || (S_ISSOCK(status->st_mode) && is_stream_socket(fd)))
		return FERRY_FILE_BY_SPLICE;
	return seekable ? FERRY_FILE_BY_SENDFILE : FERRY_FILE_BY_COPY;
}

/* 0 if a read would not wait, else FILE_SOURCE_DRY. After an error of poll(2) a read could wait for ever, and the error
 * comes back. poll(2) reports a descriptor that it does not support as ready. */
static ssize_t check_input(int fd)
{
	struct pollfd query = {.fd = fd, .events = POLLIN};
	int ready = socket_poll_now(&query, 1);

	if (ready < 0)
		return -errno;
	return ready > 0 ? 0 : FILE_SOURCE_DRY;
}

static uint64_t bytes_to_end(int fd, const struct stat *status, int64_t offset)
{
	char byte;

	if (S_ISREG(status->st_mode) && status->st_size > 0)
		return status->st_size > offset ? (uint64_t)(status->st_size - offset) : 0;
	/* The size of every file of /proc is 0. A file that is really empty has no byte to read either;
	 * bytes appended to it later are not to be sent. */
	if (S_ISREG(status->st_mode) && check_input(fd) == 0 && pread(fd, &byte, 1, offset) == 0)
		return 0;
	return INT64_MAX; /* until it ends */
}

int file_source_init(struct file_source *source, int fd, int64_t offset, int64_t length, bool copy)
{
	struct stat status = {0};
	bool at_position = offset == FERRY_FILE_POSITION;

	if (length < 0 || (offset < 0 && !at_position))
		return -EINVAL;
	int flags = check_readable(fd, &status);
	if (flags < 0)
		return flags;
	off_t position = lseek(fd, 0, SEEK_CUR);
	/* An eventfd and similar files accept lseek(2), but refuse pread(2). */
	bool seekable = position >= 0 && (status.st_mode & S_IFMT) != 0;
	if (!seekable && !at_position && offset != 0)
		return -ESPIPE;
	if (at_position)
		offset = seekable ? position : 0;
	if (length != FERRY_TO_END && offset > INT64_MAX - length)
		return -EINVAL;

	*source = (struct file_source){
	    .fd = fd,
	    .method = copy ? FERRY_FILE_BY_COPY : choose_method(fd, &status, seekable),
	    .seekable = seekable,
	    .regular = S_ISREG(status.st_mode),
	    .at_position = at_position && seekable,
	    .to_end = length == FERRY_TO_END,
	    .offset = offset,
	    .from_pipe = S_ISFIFO(status.st_mode),
	    .end = status.st_size,
	    .remaining = length == FERRY_TO_END ? bytes_to_end(fd, &status, offset) : (uint64_t)length,
	    .pipe = {-1, -1},
	};
	/* Only a file that is read through the page cache can be checked there. */
	bool cached = source->regular && status.st_size > 0 && (flags & O_DIRECT) == 0;
	source->small = cached && seekable && source->remaining <= FILE_SOURCE_SMALL;
	warmth_init(&source->warmth, cached);
	return S_ISSOCK(status.st_mode) ? examine_tls(source) : 0;
}

int file_source_init_regular(struct file_source *source, int fd, int64_t offset, int64_t length,
                             bool copy)
{
	if (offset < 0 || length < 0 || length == FERRY_TO_END || offset > INT64_MAX - length)
		return -EINVAL;
	if (fd < 0)
		return -EBADF;
	*source = (struct file_source){
	    .fd = fd,
	    .method = copy ? FERRY_FILE_BY_COPY : FERRY_FILE_BY_SENDFILE,
	    .seekable = true,
	    .regular = true,
	    .small = length <= FILE_SOURCE_SMALL,
	    .offset = offset,
	    .end = offset + length,
	    .remaining = (uint64_t)length,
	    .pipe = {-1, -1},
	};
	warmth_init(&source->warmth, true);
	return 0;
}

/* libevent 2.1 takes the file's size for the length of what is left from the offset on. */
static bool overshoots(const struct file_source *source, size_t length)
{
	return source->regular && source->end > 0 && source->offset > 0 &&
	       source->offset < source->end && (int64_t)length == source->end;
}

int file_source_init_lent(struct file_source *source, int fd, int64_t offset, size_t length)
{
	int status = file_source_init(source, fd, offset, (int64_t)length, false);

	if (status < 0)
		return status;
	source->lent = true;
	if (overshoots(source, length)) {
		source->remaining = (uint64_t)(source->end - offset);
		source->to_end = true;
	}
	return 0;
}

void file_source_set_output(struct file_source *source, bool output_is_pipe)
{
	source->to_pipe = output_is_pipe;
}

void file_source_close(struct file_source *source)
{
	if (!source->lent)
		close(source->fd);
	source->fd = -1;
}

void file_source_release(struct file_source *source)
{
	for (int i = 0; i < 2; i++) {
		if (source->pipe[i] >= 0)
			close(source->pipe[i]);
		source->pipe[i] = -1;
	}
	free(source->copy);
	source->copy = NULL;
	free(source->tls);
	source->tls = NULL;
}

int64_t file_source_position(const struct file_source *source)
{
	return source->at_position ? lseek(source->fd, 0, SEEK_CUR) : source->offset;
}

int file_source_end_status(const struct file_source *source)
{
	struct stat status;

	if (!source->to_end)
		return -EIO;
	/* The file was truncated; or it is a file of /sys, which has fewer bytes than its size. */
	if (source->regular && fstat(source->fd, &status) == 0 && status.st_size < source->end)
		return -EIO;
	return 0;
}

/* ---- bytes that were taken and not sent ---- */

size_t file_source_get_unsent(const struct file_source *source)
{
	/* A file with a position has all its bytes still. */
	return source->seekable ? 0 : copied(source) + source->in_pipe;
}

/* Reads what is in the pipe: the kernel has all of it at once. */
static size_t empty_pipe(struct file_source *source, unsigned char *to)
{
	size_t done = 0;

	while (source->in_pipe > 0) {
		ssize_t length = read(source->pipe[0], to + done, source->in_pipe);
		if (length < 0 && errno == EINTR)
			continue;
		if (length <= 0)
			break;
		done += (size_t)length;
		source->in_pipe -= (size_t)length;
	}
	return done;
}

static int move_unsent(struct file_source *source, size_t all, struct evbuffer *buffer)
{
	struct evbuffer_iovec room;
	size_t length = copied(source);

	if (evbuffer_reserve_space(buffer, (ev_ssize_t)all, &room, 1) != 1)
		return -ENOMEM;
	/* The bytes of the buffer were taken before those in the pipe. */
	if (length > 0) {
		memcpy(room.iov_base, source->copy->bytes + source->copy->start, length);
		source->copy->start = source->copy->end;
	}
	room.iov_len = length + empty_pipe(source, (unsigned char *)room.iov_base + length);
	return evbuffer_commit_space(buffer, &room, 1) == 0 ? 0 : -ENOMEM;
}

/* Another thread may add to the buffer, between the room and the bytes. */
int file_source_take_unsent(struct file_source *source, struct evbuffer *buffer)
{
	const size_t all = file_source_get_unsent(source);

	if (all == 0)
		return 0;
	evbuffer_lock(buffer);
	const int status = move_unsent(source, all, buffer);
	evbuffer_unlock(buffer);
	return status;
}

/* ---- in the kernel ---- */

/* Whether the kernel refused to move the bytes itself, and copying may succeed. */
static bool is_refusal(const struct file_source *source, int error)
{
	switch (error) {
	case EINVAL:
	case EOPNOTSUPP:
	case EIO: /* a true I/O error comes again when reading */
		return true;
	case ESPIPE:
	case EOVERFLOW:
	case EXDEV:
	case ENOTSOCK:
		return !source->progressed;
	default:
		return !source->progressed &&
		       optional_call_is_absent(
		           source->method == FERRY_FILE_BY_SPLICE ? CALL_SPLICE : CALL_SENDFILE, error);
	}
}

uint64_t file_source_left_at(const struct file_source *source, int64_t offset)
{
	int64_t position = file_source_position(source);
	uint64_t skipped = (uint64_t)(offset - position);

	/* Bytes appended since the start are sent if they are in the range, but are not read ahead. */
	if (offset < position || offset >= source->end || skipped >= source->remaining)
		return 0;
	uint64_t to_end = (uint64_t)(source->end - offset), left = source->remaining - skipped;
	return left < to_end ? left : to_end;
}

/* Whether the next piece is in the page cache, or needs no further check. Cuts `length` to it. */
static bool is_warm(struct file_source *source, size_t *length)
{
	if (source->warmth.until == INT64_MAX)
		return true;
	int64_t position = file_source_position(source);
	uint64_t left = file_source_left_at(source, position);
	return left == 0 ||
	       warmth_check(&source->warmth, source->fd, position, smaller(left, SIZE_MAX), length);
}

/* Whether a file is so small that one call reads it if it is in memory, and fails if it is not. The call starts to
 * read a missing page, which may take longer for more pages. */
static bool asks_by_reading(const struct file_source *source, int64_t position)
{
	return source->small && !source->by_thread && warmth_is_open(&source->warmth, position);
}

bool file_source_may_peek(struct file_source *source)
{
	return asks_by_reading(source, file_source_position(source)) || file_source_is_ready(source);
}

bool file_source_is_ready(struct file_source *source)
{
	size_t length = 1;
	return copied(source) > 0 ||
	       (source->regular && !source->by_thread && is_warm(source, &length));
}

void file_source_read_by_thread(struct file_source *source)
{
	source->by_thread = true;
	source->method = FERRY_FILE_BY_COPY;
}

void file_source_give(struct file_source *source, struct file_copy *copy, int error)
{
	free(source->copy);
	source->copy = copy;
	source->given_end = copied(source) == 0;
	source->given_error = error;
	if (source->remaining < copied(source))
		copy->end = copy->start + (size_t)source->remaining;
}

/* Whether the source has no bytes now: read(2) and sendfile(2) would wait. A device may have none, and a
 * file whose size is 0 may be of any kind (/proc/kmsg). */
static ssize_t check_whether_dry(const struct file_source *source)
{
	return source->regular && source->end != 0 ? 0 : check_input(source->fd);
}

static ssize_t send_by_sendfile(struct file_source *source, int out_fd, size_t max)
{
	off_t offset = source->offset;
	size_t length = smaller(source->remaining, max);

	ssize_t dry = check_whether_dry(source);
	if (dry != 0)
		return dry;
	if (!is_warm(source, &length))
		return FILE_SOURCE_COLD;
	ssize_t sent = sendfile(out_fd, source->fd, source->at_position ? NULL : &offset, length);
	return sent < 0 ? -errno : sent;
}

/* One splice(2). EAGAIN may come from either end. */
static ssize_t splice_once(int in_fd, int out_fd, size_t length)
{
	ssize_t moved = splice(in_fd, NULL, out_fd, NULL, length, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	return moved < 0 ? -errno : moved;
}

static ssize_t splice_from_input(struct file_source *source, int out_fd, size_t length)
{
	/* splice(2) waits for a blocking TCP socket in spite of SPLICE_F_NONBLOCK. */
	ssize_t dry = check_input(source->fd);
	return dry != 0 ? dry : splice_once(source->fd, out_fd, length);
}

/* splice(2) requires a pipe at one end. The bytes of a socket go through a pipe of the source. */
static ssize_t fill_pipe(struct file_source *source, size_t max)
{
	if (source->pipe[0] < 0 && pipe2(source->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
		return -EOPNOTSUPP; /* no descriptor slot is free: copy */
	ssize_t moved = splice_from_input(source, source->pipe[1], smaller(source->remaining, max));
	if (moved > 0)
		source->in_pipe = (size_t)moved;
	source->read_failed = moved < 0;
	return moved;
}

static ssize_t splice_directly(struct file_source *source, int out_fd, size_t max)
{
	ssize_t sent = splice_from_input(source, out_fd, smaller(source->remaining, max));
	/* A pipe fails only with EPIPE. Every other error comes from the socket, at whichever end it is. */
	source->read_failed = !source->from_pipe && sent < 0 && sent != -EPIPE;
	return sent;
}

static ssize_t send_by_splice(struct file_source *source, int out_fd, size_t max)
{
	if (source->from_pipe || source->to_pipe)
		return splice_directly(source, out_fd, max);

	if (source->in_pipe == 0) {
		ssize_t filled = fill_pipe(source, max);
		if (filled <= 0)
			return filled == -EAGAIN ? FILE_SOURCE_DRY : filled;
	}
	ssize_t sent = splice_once(source->pipe[0], out_fd, smaller(source->in_pipe, max));
	if (sent > 0)
		source->in_pipe -= (size_t)sent;
	return sent;
}

static void move_on(struct file_source *source, size_t count)
{
	source->offset += (int64_t)count;
	source->remaining -= count;
}

/* Whether reading the file fails. The error of a file system may look like one of the connection: FUSE
 * without its daemon fails with ENOTCONN, NFS with ETIMEDOUT. */
static bool is_files_own_error(const struct file_source *source, int error)
{
	char byte;

	if (source->method != FERRY_FILE_BY_SENDFILE || !source->regular || error == EAGAIN ||
	    error == EPIPE)
		return false;
	return pread(source->fd, &byte, 1, file_source_position(source)) < 0;
}

ssize_t file_source_send(struct file_source *source, int out_fd, size_t max)
{
	ssize_t sent;

	source->read_failed = false;
	do {
		sent = source->method == FERRY_FILE_BY_SENDFILE ? send_by_sendfile(source, out_fd, max)
		                                                : send_by_splice(source, out_fd, max);
	} while (sent == -EINTR);
	if (sent > 0) {
		move_on(source, (size_t)sent);
		source->progressed = true;
	} else if (sent > FILE_SOURCE_DRY && is_refusal(source, (int)-sent)) {
		source->method = FERRY_FILE_BY_COPY;
		return FILE_SOURCE_CHANGED;
	} else if (sent < 0 && sent > FILE_SOURCE_DRY && is_files_own_error(source, (int)-sent)) {
		source->read_failed = true;
	}
	return sent;
}

/* ---- by copying ---- */

bool file_source_must_copy(const struct file_source *source)
{
	return source->method == FERRY_FILE_BY_COPY || copied(source) > 0;
}

/* O_DIRECT requires an aligned buffer, offset and length. Reads from the last boundary before the position,
 * and skips the bytes between. */
static ssize_t read_aligned(struct file_source *source, int64_t position)
{
	struct file_copy *copy = source->copy;
	int64_t boundary = position - position % FILE_COPY_ALIGNMENT;

	ssize_t length = pread(source->fd, copy->bytes, copy->size, boundary);
	if (length < 0)
		return -errno;
	ssize_t before = (ssize_t)(position - boundary);
	if (length <= before)
		return 0;
	copy->start = (size_t)before;
	return length - before;
}

/* Returns the number of bytes; FILE_SOURCE_COLD; or FILE_SOURCE_CHANGED: another call must find out, because the file
 * cannot be read so, or to find the error again. */
static ssize_t read_if_warm(struct file_source *source, int64_t position, size_t length)
{
	struct iovec vector = {source->copy->bytes, length};
	ssize_t got = preadv2(source->fd, &vector, 1, position, RWF_NOWAIT);

	if (got < 0)
		return errno == EAGAIN ? FILE_SOURCE_COLD : FILE_SOURCE_CHANGED;
	return got;
}

static ssize_t read_seekable(struct file_source *source, size_t max)
{
	int64_t position = file_source_position(source);
	size_t length = smaller(source->remaining, max);

	if (source->given_end)
		return source->given_error;
	if (source->by_thread)
		return FILE_SOURCE_COLD;
	if (position < 0)
		return -errno;
	ssize_t got = check_whether_dry(source);
	if (got != 0)
		return got;
	got = FILE_SOURCE_CHANGED;
	if (asks_by_reading(source, position))
		got = read_if_warm(source, position, length);
	if (got != FILE_SOURCE_CHANGED)
		return got;
	if (!is_warm(source, &length))
		return FILE_SOURCE_COLD;
	got = pread(source->fd, source->copy->bytes, length, position);
	if (got < 0 && errno == EINVAL && (fcntl(source->fd, F_GETFL) & O_DIRECT) != 0)
		return read_aligned(source, position);
	return got < 0 ? -errno : got;
}

static ssize_t read_tls(struct file_source *source, struct iovec *vector)
{
	if (source->tls == NULL)
		source->tls = calloc(1, sizeof(*source->tls));
	return source->tls != NULL ? tls_receive(source->fd, vector, 1, source->tls) : -ENOMEM;
}

static ssize_t read_stream(struct file_source *source, size_t max)
{
	struct iovec vector = {source->copy->bytes, smaller(source->remaining, max)};
	int fd = source->in_pipe > 0 ? source->pipe[0] : source->fd;

	/* Other processes share O_NONBLOCK, and ferry must not change it. poll(2) first; then the calls that
	 * have a flag for a single non-blocking read, if the source supports one. */
	ssize_t got = check_input(fd);
	if (got != 0)
		return got;
	if (source->from_tls)
		return read_tls(source, &vector);
	got = preadv2(fd, &vector, 1, -1, RWF_NOWAIT);
	if (got < 0 && optional_call_is_absent(CALL_PREADV2, errno))
		got = recv(fd, vector.iov_base, vector.iov_len, MSG_DONTWAIT);
	if (got < 0 && errno == ENOTSOCK)
		got = read(fd, vector.iov_base, vector.iov_len);
	if (got > 0 && source->in_pipe > 0)
		source->in_pipe -= (size_t)got;
	return got < 0 ? -errno : got;
}

static ssize_t fill_copy(struct file_source *source, size_t max)
{
	ssize_t got;

	source->copy->start = 0;
	source->copy->end = 0;
	do {
		got = source->seekable ? read_seekable(source, max) : read_stream(source, max);
	} while (got == -EINTR);
	if (got == -EAGAIN)
		return FILE_SOURCE_DRY;
	if (got > 0) {
		/* An aligned read may bring more than the range has. */
		got = (ssize_t)smaller(source->remaining, (size_t)got);
		source->copy->end = source->copy->start + (size_t)got;
	}
	return got;
}

ssize_t file_source_peek(struct file_source *source, const void **data, size_t max)
{
	source->read_failed = true; /* an error below can only be the source's */
	if (source->copy == NULL)
		source->copy =
		    file_copy_new(smaller(source->remaining, COPY_SIZE - 2 * FILE_COPY_ALIGNMENT));
	if (source->copy == NULL)
		return -ENOMEM;
	if (copied(source) == 0) {
		ssize_t got = fill_copy(source, smaller(source->copy->size, max));
		if (got <= 0)
			return got;
	}
	*data = source->copy->bytes + source->copy->start;
	return (ssize_t)smaller(copied(source), max);
}

int file_source_skip(struct file_source *source, size_t count)
{
	source->copy->start += count;
	move_on(source, count);
	/* lseek(2) on a file of /proc allocates memory, and may fail. */
	return source->at_position && lseek(source->fd, (off_t)count, SEEK_CUR) < 0 ? -errno : 0;
}
