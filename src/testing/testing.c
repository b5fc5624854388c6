#include "ferry/testing.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

/*
 * The far end of a socket pair, read and written by plain system calls, so that no transport judges the output
 * of a transport.
 *
 * A read that brings descriptors may also bring plain bytes from before them. Only a read of a single byte
 * shows which byte they travelled with. A MSG_PEEK without room for control data finds the bytes that need
 * such reads: the kernel sets MSG_CTRUNC.
 */

enum {
	FDS_MAX = 253, /* of one message */
	READ_SIZE = 16384,
	TURNS_MAX = 1000000, /* of one pump; more mean that the work never ends */
	TICK_MSEC = 5
};

struct received_fd {
	uint64_t position;
	int fd;
};

struct ferry_testing {
	struct event_base *base;
	struct event *turn_end;
	struct ferry_transport *transport;
	int fd; /* -1: closed, to break the connection */
	struct evbuffer *written;
	struct evbuffer *rest;   /* of what was put: the socket had no room for it yet */
	bool rest_ends;          /* then comes the end */
	struct received_fd *fds; /* the first `fds_taken` belong to the test already */
	size_t fds_taken, fd_count, fd_capacity;
	uint64_t position; /* bytes read so far */
	size_t filling;    /* bytes in the socket that ferry_testing_set_full() has sent */
	bool full;
	bool ended;
	unsigned char *payload; /* of the message that was taken last */
};

/* The header of a message, as docs/message.md has it. */
enum {
	HEADER_SIZE = 16,
	AT_VERSION = 3,
	AT_TYPE = 4,
	AT_FLAGS = 6,
	AT_LENGTH = 8,
	AT_FD_COUNT = 12,
	AT_ZERO = 14,
	VERSION = 1,
	PAYLOAD_MAX = 1024 * 1024 * 1024
};

/* ---- lifetime ---- */

/* Ends the loop's turn, even if some event activates itself over and over. */
static void end_turn(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	event_base_loopbreak(argument);
}

static int make_near_end(struct ferry_testing *far, int fd)
{
	int status = ferry_transport_new_socket(&far->transport, far->base, fd);

	if (status < 0)
		close(fd);
	return status;
}

static int make_both_ends(struct ferry_testing *far)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	far->fd = ends[1];
	far->written = evbuffer_new();
	far->rest = evbuffer_new();
	if (far->written == NULL || far->rest == NULL) {
		close(ends[0]);
		return -ENOMEM;
	}
	return make_near_end(far, ends[0]);
}

int ferry_testing_new(struct ferry_testing **out, struct event_base *base)
{
	if (out == NULL || base == NULL)
		return -EINVAL;
	struct ferry_testing *far = calloc(1, sizeof(*far));
	if (far == NULL)
		return -ENOMEM;
	far->base = base;
	far->fd = -1;
	int status = -ENOMEM;
	far->turn_end = event_new(base, -1, 0, end_turn, base);
	if (far->turn_end != NULL)
		status = make_both_ends(far);
	if (status < 0) {
		ferry_testing_free(far);
		return status;
	}
	*out = far;
	return 0;
}

int ferry_testing_new_pair(struct ferry_transport *out[2], struct event_base *base)
{
	struct ferry_transport *made[2];
	int ends[2];

	if (out == NULL || base == NULL)
		return -EINVAL;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	int status = ferry_transport_new_socket(&made[0], base, ends[0]);
	if (status < 0) {
		close(ends[0]);
		close(ends[1]);
		return status;
	}
	status = ferry_transport_new_socket(&made[1], base, ends[1]);
	if (status < 0) {
		ferry_transport_free(made[0]);
		close(ends[1]);
		return status;
	}
	memcpy(out, made, sizeof(made));
	return 0;
}

void ferry_testing_free(struct ferry_testing *far)
{
	if (far == NULL)
		return;
	for (size_t i = far->fds_taken; i < far->fd_count; i++)
		close(far->fds[i].fd);
	free(far->fds);
	free(far->payload);
	if (far->fd >= 0)
		close(far->fd);
	if (far->written != NULL)
		evbuffer_free(far->written);
	if (far->rest != NULL)
		evbuffer_free(far->rest);
	if (far->turn_end != NULL)
		event_free(far->turn_end);
	free(far);
}

struct ferry_transport *ferry_testing_get_transport(const struct ferry_testing *far)
{
	return far != NULL ? far->transport : NULL;
}

/* ---- putting in ---- */

static ssize_t send_some(int fd, const void *data, size_t length, const int *fds, size_t fd_count)
{
	_Alignas(struct cmsghdr) unsigned char control[CMSG_SPACE(FDS_MAX * sizeof(int))];
	struct iovec bytes = {(void *)(uintptr_t)data, length};
	struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};

	if (fd_count > 0) {
		memset(control, 0, sizeof(control));
		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		struct cmsghdr *header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(header), fds, fd_count * sizeof(int));
	}
	ssize_t count;
	do
		count = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (count < 0 && errno == EINTR);
	return count < 0 ? -errno : count;
}

/* Sends the rest. The descriptors travel with its first byte. -EAGAIN: the socket is full. */
static int send_rest(struct ferry_testing *far, const int *fds, size_t fd_count)
{
	struct evbuffer_iovec piece;

	while (evbuffer_peek(far->rest, -1, NULL, &piece, 1) > 0) {
		ssize_t count = send_some(far->fd, piece.iov_base, piece.iov_len, fds, fd_count);
		if (count < 0)
			return (int)count;
		evbuffer_drain(far->rest, (size_t)count);
		fd_count = 0;
	}
	return 0;
}

static void drop_rest(struct ferry_testing *far)
{
	evbuffer_drain(far->rest, evbuffer_get_length(far->rest));
}

/* 0; or -EPIPE, or -EAGAIN: the socket has yet to take what was put before. */
static int check_put(struct ferry_testing *far)
{
	return far->fd < 0 || far->rest_ends ? -EPIPE : send_rest(far, NULL, 0);
}

/* Puts two parts: all of both, or nothing. */
static int put_parts(struct ferry_testing *far, const struct iovec *first,
                     const struct iovec *second, const int *fds, size_t fd_count)
{
	const size_t length = first->iov_len + second->iov_len;
	int status = check_put(far);

	if (status < 0)
		return status;
	if (evbuffer_add(far->rest, first->iov_base, first->iov_len) < 0 ||
	    evbuffer_add(far->rest, second->iov_base, second->iov_len) < 0)
		status = -ENOMEM;
	if (status == 0)
		status = send_rest(far, fds, fd_count);
	/* The socket has the first bytes, and the descriptors. */
	if (status == -EAGAIN && evbuffer_get_length(far->rest) < length)
		status = 0;
	if (status < 0)
		drop_rest(far);
	return status;
}

int ferry_testing_put(struct ferry_testing *far, const void *data, size_t length)
{
	if (far == NULL || (data == NULL && length > 0))
		return -EINVAL;
	return put_parts(far, &(struct iovec){(void *)(uintptr_t)data, length},
	                 &(struct iovec){NULL, 0}, NULL, 0);
}

int ferry_testing_put_fds(struct ferry_testing *far, const void *data, size_t length,
                          const int *fds, size_t fd_count)
{
	if (far == NULL || data == NULL || length == 0 || fd_count > FDS_MAX ||
	    (fds == NULL && fd_count > 0))
		return -EINVAL;
	return put_parts(far, &(struct iovec){(void *)(uintptr_t)data, length},
	                 &(struct iovec){NULL, 0}, fds, fd_count);
}

static void put_number(unsigned char *bytes, size_t value, unsigned int size)
{
	for (unsigned int i = 0; i < size; i++)
		bytes[i] = (unsigned char)(value >> 8 * i);
}

static size_t get_number(const unsigned char *bytes, unsigned int size)
{
	size_t value = 0;

	for (unsigned int i = 0; i < size; i++)
		value |= (size_t)bytes[i] << 8 * i;
	return value;
}

int ferry_testing_put_message(struct ferry_testing *far, uint16_t type, const void *payload,
                              size_t length, const int *fds, size_t fd_count)
{
	if (far == NULL || (payload == NULL && length > 0) || (fds == NULL && fd_count > 0) ||
	    length > PAYLOAD_MAX || fd_count > FDS_MAX)
		return -EINVAL;
	unsigned char header[HEADER_SIZE] = {'F', 'R', 'Y', VERSION};
	put_number(header + AT_TYPE, type, 2);
	put_number(header + AT_LENGTH, length, 4);
	put_number(header + AT_FD_COUNT, fd_count, 2);
	return put_parts(far, &(struct iovec){header, sizeof(header)},
	                 &(struct iovec){(void *)(uintptr_t)payload, length}, fds, fd_count);
}

int ferry_testing_put_eof(struct ferry_testing *far)
{
	if (far == NULL)
		return -EINVAL;
	far->rest_ends = far->fd >= 0 && send_rest(far, NULL, 0) == -EAGAIN;
	if (!far->rest_ends && (far->fd < 0 || shutdown(far->fd, SHUT_WR) < 0))
		return -EPIPE;
	return 0;
}

/* If a unix socket is closed with unread bytes, its peer gets ECONNRESET. */
int ferry_testing_put_reset(struct ferry_testing *far)
{
	if (far == NULL)
		return -EINVAL;
	if (far->fd < 0 || far->ended)
		return -EPIPE;
	int near_fd = (int)bufferevent_getfd(ferry_transport_get_bufferevent(far->transport));
	(void)send_some(near_fd, "", 1, NULL, 0); /* if it is full, unread bytes are there */
	drop_rest(far);
	close(far->fd);
	far->fd = -1;
	far->ended = true;
	return 0;
}

/* ---- reading at the far end ---- */

static int reserve_fds(struct ferry_testing *far, size_t count)
{
	if (count <= far->fd_capacity - far->fd_count)
		return 0;
	size_t capacity = 2 * (far->fd_capacity + count);
	struct received_fd *fds = realloc(far->fds, capacity * sizeof(*fds));
	if (fds == NULL)
		return -ENOMEM;
	far->fds = fds;
	far->fd_capacity = capacity;
	return 0;
}

static int store_fds(struct ferry_testing *far, const int *fds, size_t count)
{
	int status = reserve_fds(far, count);

	for (size_t i = 0; i < count; i++) {
		if (status == 0)
			far->fds[far->fd_count++] = (struct received_fd){far->position, fds[i]};
		else
			close(fds[i]);
	}
	return status;
}

static int store_control(struct ferry_testing *far, struct msghdr *message)
{
	int status = (message->msg_flags & MSG_CTRUNC) != 0 ? -EMFILE : 0;

	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL;
	     header = CMSG_NXTHDR(message, header)) {
		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		int fds[FDS_MAX + 1];
		size_t length = header->cmsg_len - CMSG_LEN(0);
		memcpy(fds, CMSG_DATA(header), length);
		int stored = store_fds(far, fds, length / sizeof(int));
		status = status == 0 ? stored : status;
	}
	return status;
}

/* Reads `size` bytes that are known to be in the socket. */
static int read_known(struct ferry_testing *far, size_t size)
{
	unsigned char bytes[READ_SIZE];
	_Alignas(struct cmsghdr) unsigned char control[CMSG_SPACE((FDS_MAX + 1) * sizeof(int))];
	struct iovec room = {bytes, size};
	struct msghdr message = {.msg_iov = &room,
	                         .msg_iovlen = 1,
	                         .msg_control = control,
	                         .msg_controllen = sizeof(control)};

	ssize_t count = recvmsg(far->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (count < 0)
		return -errno;
	int status = store_control(far, &message);
	if (evbuffer_add(far->written, bytes, (size_t)count) < 0)
		status = -ENOMEM;
	far->position += (uint64_t)count;
	return status;
}

/* Returns the number of bytes that are in the socket, and sets `with_fds` if any descriptors travel with them.
 * 0: there are none, or the transport has ended. */
static size_t peek_bytes(struct ferry_testing *far, bool *with_fds)
{
	unsigned char bytes[READ_SIZE];
	struct iovec room = {bytes, sizeof(bytes)};
	struct msghdr message = {.msg_iov = &room, .msg_iovlen = 1};

	ssize_t count = recvmsg(far->fd, &message, MSG_DONTWAIT | MSG_PEEK);
	if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR))
		far->ended = true;
	*with_fds = (message.msg_flags & MSG_CTRUNC) != 0;
	return count > 0 ? (size_t)count : 0;
}

/* Reads what the transport has sent, unless the socket is to be full. Returns the number of bytes, or a
 * negative errno. */
static ssize_t read_all(struct ferry_testing *far)
{
	uint64_t start = far->position;
	bool with_fds;
	size_t count;

	while (far->fd >= 0 && !far->full && !far->ended && (count = peek_bytes(far, &with_fds)) > 0) {
		size_t step = with_fds ? 1 : count;
		for (size_t done = 0; done < count; done += step) {
			int status = read_known(far, step);
			if (status < 0)
				return status;
		}
	}
	return (ssize_t)(far->position - start);
}

/* ---- taking out ---- */

struct evbuffer *ferry_testing_get_written(struct ferry_testing *far)
{
	return far != NULL ? far->written : NULL;
}

size_t ferry_testing_count_fds(const struct ferry_testing *far)
{
	return far != NULL ? far->fd_count - far->fds_taken : 0;
}

int ferry_testing_take_fd(struct ferry_testing *far, uint64_t *position)
{
	if (far == NULL)
		return -EINVAL;
	if (far->fds_taken == far->fd_count)
		return -ENOENT;
	const struct received_fd first = far->fds[far->fds_taken++];
	if (far->fds_taken == far->fd_count)
		far->fds_taken = far->fd_count = 0;
	if (position != NULL)
		*position = first.position;
	return first.fd;
}

/* Reads the header of what was written. The length of the payload goes to `message`, and the number of descriptors. */
static int read_header(struct ferry_testing *far, struct ferry_testing_message *message)
{
	const size_t written = evbuffer_get_length(far->written);
	if (written < HEADER_SIZE)
		return -EAGAIN;
	const unsigned char *header = evbuffer_pullup(far->written, HEADER_SIZE);
	if (header == NULL)
		return -ENOMEM;
	if (memcmp(header, "FRY", AT_VERSION) != 0 || header[AT_VERSION] != VERSION ||
	    get_number(header + AT_FLAGS, 2) > 1 || get_number(header + AT_ZERO, 2) != 0)
		return -EPROTO;
	if (get_number(header + AT_FLAGS, 2) == 1)
		return -EMSGSIZE;
	message->type = (uint16_t)get_number(header + AT_TYPE, 2);
	message->length = get_number(header + AT_LENGTH, 4);
	message->fd_count = get_number(header + AT_FD_COUNT, 2);
	if (message->length > PAYLOAD_MAX || message->fd_count > FDS_MAX)
		return -EPROTO;
	return written < HEADER_SIZE + message->length ? -EAGAIN : 0;
}

/* Whether the first descriptors that were received are those of the first message that was written. They came with its
 * first byte, and the next ones with a later message. */
static bool has_own_fds(const struct ferry_testing *far,
                        const struct ferry_testing_message *message)
{
	const uint64_t start = far->position - evbuffer_get_length(far->written);
	const size_t there = far->fd_count - far->fds_taken;

	if (message->fd_count > there)
		return false;
	for (size_t i = 0; i < message->fd_count; i++)
		if (far->fds[far->fds_taken + i].position != start)
			return false;
	return message->fd_count == there || far->fds[far->fds_taken + message->fd_count].position >=
	                                         start + HEADER_SIZE + message->length;
}

int ferry_testing_take_message(struct ferry_testing *far, struct ferry_testing_message *message)
{
	struct ferry_testing_message first;

	if (far == NULL || message == NULL)
		return -EINVAL;
	const int status = read_header(far, &first);
	if (status < 0)
		return status;
	if (!has_own_fds(far, &first))
		return -EPROTO;
	unsigned char *payload = malloc(first.length + 1);
	if (payload == NULL)
		return -ENOMEM;
	evbuffer_drain(far->written, HEADER_SIZE);
	evbuffer_remove(far->written, payload, first.length);
	free(far->payload);
	far->payload = payload;
	payload[first.length] = '\0';
	first.payload = payload;
	for (size_t i = 0; i < first.fd_count; i++)
		first.fds[i] = ferry_testing_take_fd(far, NULL);
	*message = first;
	return 0;
}

bool ferry_testing_has_ended(const struct ferry_testing *far)
{
	return far != NULL && far->ended;
}

/* ---- a full socket ---- */

/* Sends from the near end, behind the bytes of the transport, until the socket takes no more. */
static int fill_socket(struct ferry_testing *far)
{
	static const unsigned char zeroes[READ_SIZE];
	int near_fd = (int)bufferevent_getfd(ferry_transport_get_bufferevent(far->transport));
	size_t size = sizeof(zeroes);

	while (size > 0) {
		ssize_t count = send_some(near_fd, zeroes, size, NULL, 0);
		if (count == -EAGAIN)
			size /= 2; /* a smaller piece may still fit */
		else if (count < 0)
			return (int)count;
		else
			far->filling += (size_t)count;
	}
	return 0;
}

/* Reads the filling, of which the bytes are the first in the socket. */
static int drain_filling(struct ferry_testing *far)
{
	unsigned char bytes[READ_SIZE];

	while (far->filling > 0) {
		size_t size = far->filling < sizeof(bytes) ? far->filling : sizeof(bytes);
		ssize_t count = recv(far->fd, bytes, size, MSG_DONTWAIT);
		if (count <= 0)
			return -EPIPE;
		far->filling -= (size_t)count;
	}
	return 0;
}

int ferry_testing_set_full(struct ferry_testing *far, bool full)
{
	if (far == NULL)
		return -EINVAL;
	if (far->fd < 0)
		return -EPIPE;
	if (full == far->full)
		return 0;
	if (!full) {
		far->full = false;
		return drain_filling(far);
	}
	ssize_t count = read_all(far); /* then the first bytes in the socket are the filling */
	if (count < 0)
		return (int)count;
	if (far->ended)
		return -EPIPE;
	far->full = true;
	return fill_socket(far);
}

/* ---- the loop ---- */

/* Sends what the socket has room for by now. Returns 1 if it took anything. */
static int put_rest(struct ferry_testing *far)
{
	const size_t before = evbuffer_get_length(far->rest);

	if (before == 0)
		return 0;
	const int status = send_rest(far, NULL, 0);
	if (status == 0 && far->rest_ends)
		shutdown(far->fd, SHUT_WR);
	if (status == -EPIPE || status == -ECONNRESET)
		drop_rest(far); /* the transport's end shows it */
	else if (status < 0 && status != -EAGAIN)
		return status;
	return evbuffer_get_length(far->rest) < before;
}

/* Runs one turn of the loop. Returns 1 if anything was put or read or any event ran, apart from the turn's own. */
static int run_turn(struct ferry_testing *far)
{
	const int put = put_rest(far);
	if (put < 0)
		return put;
	event_base_get_max_events(far->base, EVENT_BASE_COUNT_ACTIVE, 1);
	event_active(far->turn_end, EV_TIMEOUT, 0);
	event_base_loop(far->base, EVLOOP_NONBLOCK);
	ssize_t count = read_all(far);
	if (count < 0)
		return (int)count;
	return put > 0 || count > 0 ||
	       event_base_get_max_events(far->base, EVENT_BASE_COUNT_ACTIVE, 0) > 1;
}

int ferry_testing_pump(struct ferry_testing *far)
{
	int status = 1;

	if (far == NULL)
		return -EINVAL;
	for (int turns = 0; status > 0; turns++) {
		if (turns == TURNS_MAX)
			return -EBUSY;
		status = run_turn(far);
	}
	return status;
}

static time_t seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

int ferry_testing_pump_until(struct ferry_testing *far, bool (*condition)(void *argument),
                             void *argument, unsigned int seconds)
{
	if (far == NULL || condition == NULL)
		return -EINVAL;
	time_t deadline = seconds_now() + (time_t)seconds;
	while (!condition(argument)) {
		int status = run_turn(far);
		if (status < 0)
			return status;
		if (status > 0)
			continue;
		if (seconds_now() >= deadline)
			return -ETIMEDOUT;
		poll(NULL, 0, TICK_MSEC);
	}
	return 0;
}
