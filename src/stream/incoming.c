#include "stream/incoming.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "libevent/vectors.h"

/* A busy connection reads a full socket buffer at once. A connection with messages of a few bytes offers
 * room for which libevent allocates no more than 1 KiB, its own header included: malloc(3) does not cache
 * larger blocks, and would take one and return it for each message. */
static const unsigned int space_min = 960;
static const unsigned int space_first = 4096;
static const unsigned int space_max = 256 * 1024;

void incoming_init(struct incoming *incoming, bool is_socket)
{
	incoming->space = space_first;
	incoming->is_socket = is_socket;
}

static ssize_t read_into(const struct incoming *incoming, int fd, struct iovec *vectors, int count,
                         struct ancillary *ancillary)
{
	union ancillary_input room;
	struct msghdr message = {
	    .msg_iov = vectors,
	    .msg_iovlen = (size_t)count,
	    .msg_control = room.bytes,
	    .msg_controllen = sizeof(room.bytes),
	};
	ssize_t length;

	do {
		length = incoming->is_socket ? recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT)
		                             : readv(fd, vectors, count);
	} while (length < 0 && errno == EINTR);
	if (length < 0)
		return -errno;
	if (incoming->is_socket)
		ancillary_take(&message, ancillary);
	return length;
}

/* Offers the next read more room, or less. */
static void adapt_space(struct incoming *incoming, size_t length)
{
	if (length >= incoming->space)
		incoming->space = incoming->space < space_max / 2 ? incoming->space * 2 : space_max;
	else if (length < incoming->space / 4)
		incoming->space = incoming->space > space_min * 2 ? incoming->space / 2 : space_min;
}

ssize_t incoming_read(struct incoming *incoming, int fd, struct evbuffer *input, size_t max,
                      struct ancillary *ancillary, bool *maybe_more)
{
	struct evbuffer_iovec vectors[2];
	size_t space = incoming->space < max ? incoming->space : max;
	ssize_t length = -ENOMEM;

	ancillary_clear(ancillary);
	evbuffer_unfreeze(input, 0);
	int count = evbuffer_reserve_space(input, (ev_ssize_t)space, vectors, 2);
	if (count > 0) {
		/* libevent may find more room than was asked for. */
		count = vectors_cut(vectors, count, space);
		length = read_into(incoming, fd, vectors, count, ancillary);
	}
	if (length > 0) {
		adapt_space(incoming, (size_t)length);
		count = vectors_cut(vectors, count, (size_t)length);
		evbuffer_commit_space(input, vectors, count);
	}
	evbuffer_freeze(input, 0);
	/* The kernel ends a read at a descriptor: more bytes may wait behind it. */
	*maybe_more = length == (ssize_t)space || ancillary->count > 0 || ancillary->truncated;
	return length;
}
