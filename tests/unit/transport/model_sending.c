#include "model_sending.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "closes.h"
#include "model_channel.h"
#include "model_trace.h"

/* Most are small; 0 is among them. */
static size_t random_length(void)
{
	switch (below(12)) {
	case 0:
		return below(150000);
	case 1:
	case 2:
	case 3:
		return below(20000);
	default:
		return below(300);
	}
}

bool model_may_refuse(const struct model_end *end)
{
	return end->closing || end->half_closing || end->aborted || end->over ||
	       model_end_is_leaving(end->other) || end->other->half_closing ||
	       end->write_timeout != 0 || end->read_timeout != 0 ||
	       end->other->write_timeout != 0; /* whose callback may be to come */
}

/* Whether the stream is open. A registered producer holds up its end. */
static bool takes_output(const struct model_end *end)
{
	return end->producer != NULL ||
	       !(end->closing || end->half_closing || end->aborted || end->over);
}

static struct evbuffer *output_of(const struct model_end *end)
{
	return bufferevent_get_output(ferry_transport_get_bufferevent(end->transport));
}

/* A call that puts something into the stream. `takes`: the stream was still open, before callbacks in the call. */
static void check_sending(struct model_end *end, int status, bool takes)
{
	demand(status == 0 || ((status == -EPIPE || status == -ENOTCONN) && model_may_refuse(end)),
	       "%s: sending: %d", end->name, status);
	demand(status != 0 || takes, "%s: the stream takes more after its end", end->name);
	if (status == 0 && model_end_is_alive(end))
		model_end_check_producer(end);
}

/* Whether that many bytes more are beyond the limit of an end that has one. */
static bool is_beyond_limit(struct model_end *end, size_t length)
{
	if (end->byte_limit == 0 || length == 0)
		return false;
	model_end_look(end);
	return end->stats.bytes_queued + length > end->byte_limit;
}

/* True: the write was refused because of the limit, and rightly. */
static bool check_limit(const struct model_end *end, int status, bool beyond)
{
	demand(status != -ENOBUFS || beyond, "%s: a write under the limit is refused", end->name);
	demand(status != 0 || !beyond, "%s: a write beyond the limit is queued", end->name);
	return status == -ENOBUFS;
}

/* ---- bytes ---- */

static void write_length(struct model_end *end, size_t length)
{
	bool takes = takes_output(end), beyond = is_beyond_limit(end, length);
	unsigned int item = model_stream_add(&end->out, length);

	trace("%s: write %zu bytes, item %u", end->name, length, item);
	int status = end->channel != NULL
	                 ? model_channel_write(end, item, length)
	                 : CALL(ferry_transport_write(end->transport, model_bytes(item), length));
	if (status != 0)
		model_stream_take_back(&end->out, item);
	if (check_limit(end, status, beyond))
		return;
	if (length > 0 && (status != -EAGAIN || end->channel == NULL))
		check_sending(end, status, takes);
}

void model_write(struct model_end *end)
{
	write_length(end, random_length());
}

void model_write_many(struct model_end *end)
{
	write_length(end, MODEL_BYTES_MAX);
}

/* An evbuffer with the item's bytes, in chains of more than one kind. */
static struct evbuffer *make_buffer(unsigned int item, size_t length)
{
	struct evbuffer *buffer = evbuffer_new();

	evbuffer_add(buffer, model_bytes(item), length / 2);
	evbuffer_add_reference(buffer, model_bytes(item) + length / 2, length - length / 2, NULL, NULL);
	return buffer;
}

static void send_buffer(struct model_end *end, unsigned int item, struct evbuffer *buffer)
{
	size_t length = evbuffer_get_length(buffer);
	bool takes = takes_output(end), beyond = is_beyond_limit(end, length);

	int status = CALL(ferry_transport_write_buffer(end->transport, buffer));
	if (status != 0)
		model_stream_take_back(&end->out, item);
	demand(evbuffer_get_length(buffer) == (status == 0 ? 0 : length),
	       "%s: write_buffer: %d, and %zu bytes are left", end->name, status,
	       evbuffer_get_length(buffer));
	evbuffer_free(buffer);
	if (!check_limit(end, status, beyond) && status != -EINVAL) /* a refused segment */
		check_sending(end, status, takes);
}

void model_write_buffer(struct model_end *end)
{
	size_t length = random_length();
	unsigned int item = model_stream_add(&end->out, length);

	trace("%s: write_buffer of %zu bytes, item %u", end->name, length, item);
	send_buffer(end, item, make_buffer(item, length));
}

void model_write_by_libevent(struct model_end *end)
{
	if (model_may_refuse(end))
		return; /* libevent's calls cannot refuse */
	size_t length = random_length();
	unsigned int item = model_stream_add(&end->out, length);
	struct bufferevent *bev = ferry_transport_get_bufferevent(end->transport);
	struct evbuffer *buffer = make_buffer(item, length);
	int status;

	trace("%s: %zu bytes by libevent's calls, item %u", end->name, length, item);
	switch (below(3)) {
	case 0:
		status = CALL(bufferevent_write_buffer(bev, buffer));
		break;
	case 1:
		status = CALL(evbuffer_add_buffer(output_of(end), buffer));
		break;
	default:
		status = CALL(bufferevent_write(bev, model_bytes(item), length));
	}
	evbuffer_free(buffer);
	check_sending(end, status, true);
}

/* ---- file segments ---- */

/* Adds a file to a buffer, which owns its descriptor then. */
static void add_segment(unsigned int item, size_t length, struct evbuffer *buffer)
{
	int64_t offset = below(64);
	int fd = memfd_create("ferry-test", MFD_CLOEXEC);

	demand(fd >= 0, "no memfd");
	demand(pwrite(fd, model_bytes(item), length, offset) == (ssize_t)length, "no file");
	demand(evbuffer_add_file(buffer, fd, offset, (ev_off_t)length) == 0, "add_file");
}

/* libevent refuses to add a file without bytes. */
static size_t segment_length(void)
{
	return 1 + (one_in(3) ? below(60000) : below(5000));
}

void model_add_segment(struct model_end *end)
{
	if (model_may_refuse(end))
		return;
	size_t length = segment_length();
	unsigned int item = model_stream_add(&end->out, length);

	trace("%s: a file segment of %zu bytes, item %u", end->name, length, item);
	if (one_in(3)) {
		model_calls++;
		add_segment(item, length, output_of(end));
		model_calls--;
		check_sending(end, 0, true);
		return;
	}
	struct evbuffer *buffer = evbuffer_new();
	if (!one_in(4)) /* else libevent maps the file */
		evbuffer_set_flags(buffer, EVBUFFER_FLAG_DRAINS_TO_FD);
	add_segment(item, length, buffer);
	if (one_in(2)) {
		send_buffer(end, item, buffer);
		return;
	}
	int status =
	    CALL(bufferevent_write_buffer(ferry_transport_get_bufferevent(end->transport), buffer));
	evbuffer_free(buffer);
	check_sending(end, status, true);
}

void model_add_segment_to(struct model_end *end, struct evbuffer *output)
{
	size_t length = segment_length();
	unsigned int item = model_stream_add(&end->out, length);

	trace("%s: a file segment of %zu bytes before attaching, item %u", end->name, length, item);
	add_segment(item, length, output);
}

/* ---- a callback on the output ---- */

static void on_output(struct evbuffer *output, const struct evbuffer_cb_info *info, void *context)
{
	struct model_end *end = context;

	if (end->in_output_cb || info->n_added == 0 || !model_end_is_alive(end) ||
	    model_may_refuse(end) || !one_in(8) || !model_stream_has_room(&end->out))
		return;
	end->in_output_cb = true;
	if (one_in(3)) {
		model_add_segment_to(end, output);
	} else {
		size_t length = below(3000);
		unsigned int item = model_stream_add(&end->out, length);
		trace("%s: %zu bytes in a callback on the output, item %u", end->name, length, item);
		demand(evbuffer_add(output, model_bytes(item), length) == 0, "no memory");
	}
	end->in_output_cb = false;
}

void model_add_output_cb(struct model_end *end)
{
	demand(evbuffer_add_cb(output_of(end), on_output, end) != NULL, "no memory");
}

/* ---- descriptors ---- */

/* A descriptor with an inode of its own. */
static int make_fd(void)
{
	int fds[2];

	switch (below(3)) {
	case 0:
		demand(pipe2(fds, O_CLOEXEC) == 0, "no pipe");
		break;
	case 1:
		demand(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0, "no sockets");
		break;
	default:
		fds[0] = memfd_create("ferry-test", MFD_CLOEXEC);
		demand(fds[0] >= 0, "no memfd");
		return fds[0];
	}
	close(fds[1]);
	return fds[0];
}

void model_send_fd(struct model_end *end)
{
	if (!model_stream_has_fd_room(&end->out))
		return;
	bool takes = takes_output(end), take = one_in(2);
	enum ferry_fd_ownership ownership = take ? FERRY_FD_TAKE : FERRY_FD_DUP;
	int fd = make_fd();

	model_stream_add_fd(&end->out, fd);
	trace("%s: send_fd %d %s", end->name, fd, take ? "TAKE" : "DUP");
	if (!take)
		closes_forbid(fd);
	int status = end->channel != NULL
	                 ? CALL(ferry_channel_send_fd(end->channel, fd, ownership))
	                 : CALL(ferry_transport_send_fd(end->transport, fd, ownership));
	if (status != 0)
		model_stream_take_back_fd(&end->out);
	closes_permit(fd);
	if (status != 0 || !take)
		demand(close(fd) == 0, "ferry closed a descriptor that is not its own");
	if (status == -EOPNOTSUPP)
		demand(end->link != MODEL_UNIX, "no descriptors on a unix socket");
	else if (status != -ENOBUFS)
		check_sending(end, status, takes);
}

/* ---- files ---- */

/* A pipe or a socket, which has no bytes yet. */
static void open_source(struct model_file *file, int fds[2])
{
	int status = one_in(2)
	                 ? pipe2(fds, O_CLOEXEC | O_NONBLOCK)
	                 : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds);

	demand(status == 0, "no source");
	file->feed = fds[1];
}

static void feed_file(struct model_file *file)
{
	struct pollfd peer = {.fd = file->feed, .events = POLLOUT};
	size_t length = below(6000);

	if (file->feed < 0)
		return;
	if (one_in(3)) {
		trace("%s: the source of item %u ends", file->end->name, file->item);
		close(file->feed);
		file->feed = -1;
		return;
	}
	if (poll(&peer, 1, 0) != 1 || peer.revents != POLLOUT ||
	    file->length + length > MODEL_BYTES_MAX)
		return;
	ssize_t n = write(file->feed, model_bytes(file->item) + file->length, length);
	if (n <= 0)
		return;
	trace("%s: the source of item %u has %zd bytes more", file->end->name, file->item, n);
	file->length += (uint64_t)n;
	model_stream_grow(&file->end->out, file->item, (uint64_t)n);
}

/* The file in a memfd, with something in front of it, and behind it unless it must end there. */
static int make_memfd(const struct model_file *file, int64_t offset)
{
	static const char other[64] = "other bytes than those of the file";
	int fd = memfd_create("ferry-test", MFD_CLOEXEC);

	demand(fd >= 0, "no memfd");
	demand(pwrite(fd, other, (size_t)offset, 0) == offset, "no file");
	demand(pwrite(fd, model_bytes(file->item), (size_t)file->length, offset) ==
	           (ssize_t)file->length,
	       "no file");
	if (!file->cut && one_in(2))
		demand(pwrite(fd, other, sizeof(other), offset + (int64_t)file->length) == sizeof(other),
		       "no file");
	demand(lseek(fd, offset, SEEK_SET) == offset, "no file");
	return fd;
}

static int send_file(struct model_file *file, int fd, int64_t offset, int64_t length, bool take)
{
	unsigned int flags = one_in(4) ? FERRY_FILE_COPY : 0;

	trace("%s: send_file of %llu bytes%s%s, item %u", file->end->name,
	      (unsigned long long)file->length, take ? ", TAKE" : ", DUP", file->cut ? ", cut" : "",
	      file->item);
	return CALL(ferry_transport_send_file(
	    &file->producer, file->end->transport, fd, take ? FERRY_FD_TAKE : FERRY_FD_DUP,
	    one_in(2) ? FERRY_FILE_POSITION : offset, length, flags, &model_file_callbacks, file));
}

void model_send_file(struct model_end *end)
{
	if (end->file_count == MODEL_FILES_MAX)
		return;
	struct model_file *file = &end->files[end->file_count++];
	bool takes = takes_output(end), has_size = !one_in(4), take = one_in(2);
	int64_t offset = has_size ? below(64) : 0, length = FERRY_TO_END;
	int fds[2];

	*file = (struct model_file){.end = end, .feed = -1};
	file->length = has_size ? random_length() : 0;
	file->cut = has_size && one_in(8);
	file->item = model_stream_add_file(&end->out, file->length);
	if (has_size) {
		length = (int64_t)file->length + (file->cut ? 100 : 0);
		fds[0] = make_memfd(file, offset);
	} else {
		open_source(file, fds);
	}
	if (file->cut)
		model_stream_cut(&end->out, file->item);
	int status = send_file(file, fds[0], offset, length, take);
	if (status != 0) {
		model_stream_take_back(&end->out, file->item);
		if (file->feed >= 0)
			close(file->feed);
		end->file_count--;
	}
	if (status != 0 || !take)
		demand(close(fds[0]) == 0, "ferry closed a file that is not its own");
	check_sending(end, status, takes);
}

void model_steer_file(struct model_end *end)
{
	if (end->file_count == 0)
		return;
	struct model_file *file = &end->files[below(end->file_count)];
	if (file->finished)
		return;
	model_calls++;
	switch (below(6)) {
	case 0:
		trace("%s: pause item %u", end->name, file->item);
		file->paused = true;
		ferry_file_producer_pause(file->producer);
		break;
	case 1:
		trace("%s: stop item %u", end->name, file->item);
		file->stopped = true;
		model_stream_cut(&end->out, file->item);
		ferry_file_producer_stop(file->producer);
		break;
	case 2:
	case 3:
		trace("%s: resume item %u", end->name, file->item);
		file->paused = false;
		ferry_file_producer_resume(file->producer);
		break;
	default:
		feed_file(file);
	}
	model_calls--;
}

/* ---- flushing ---- */

void model_flush(struct model_end *end)
{
	int status = CALL(ferry_transport_flush(end->transport, &(struct timeval){0, 0}));

	trace("%s: flush: %d", end->name, status);
	demand(status == 0 || status == -ETIMEDOUT || status == -EAGAIN || model_may_refuse(end),
	       "%s: flush: %d", end->name, status);
	model_end_look(end);
	demand(status != 0 || (end->stats.bytes_queued == 0 && end->stats.files_queued == 0),
	       "%s: all is sent, and %llu bytes are queued", end->name,
	       (unsigned long long)end->stats.bytes_queued);
}
