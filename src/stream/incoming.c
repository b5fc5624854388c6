#include "stream/incoming.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "libevent/vectors.h"

/* A busy connection reads a full socket buffer at once. A connection with messages of a few bytes, and one that begins,
 * offers room for which libevent allocates no more than 1 KiB, its own header included: malloc(3) does not cache
 * larger blocks, and would take one and return it for each message. */
static const unsigned int space_min = 960;
static const unsigned int space_max = 256 * 1024;

/* Now and then a try is made although the last one found nothing. */
static const unsigned char untried_max = 8;

/* Above, copying costs more than the second call of fd_ahead_look_far(). */
static const unsigned int look_copies_max = 16 * 1024;

void incoming_init(struct incoming *incoming, bool is_socket)
{
	incoming->space = space_min;
	incoming->tries_behind_fds = true;
	incoming->is_socket = is_socket;
}

void incoming_release(struct incoming *incoming)
{
	free(incoming->part);
}

int incoming_need_part(struct incoming *incoming)
{
	if (incoming->part == NULL)
		incoming->part = calloc(1, sizeof(*incoming->part));
	return incoming->part != NULL ? 0 : -ENOMEM;
}

static void forget_look(struct incoming_positions *positions)
{
	positions->clear = 0;
	positions->next = 0;
}

void incoming_set_way(struct incoming *incoming, enum incoming_way way)
{
	incoming->way = (unsigned char)way;
	if (incoming->part == NULL)
		return;
	forget_look(&incoming->part->positions);
	incoming->part->records = (struct tls_records){
	    .truncation_is_end = incoming->part->records.truncation_is_end,
	};
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
	if (incoming->is_socket &&
	    (message.msg_controllen > 0 || (message.msg_flags & MSG_CTRUNC) != 0))
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

/* Returns as fd_ahead_look(); and -EBUSY, -ENOBUFS. */
static int look_ahead(const struct incoming *incoming, int fd, const struct evbuffer_iovec *vectors,
                      int count, size_t space)
{
	struct incoming_positions *positions = &incoming->part->positions;
	bool far = positions->support == FD_AHEAD_FREE && space > look_copies_max;
	struct fd_ahead ahead = {.length = positions->next, .descriptors = true};
	int status = 1;

	if (positions->clear > 0)
		return 1;
	if (ahead.length == 0)
		status = far ? fd_ahead_look_far(fd, vectors, count, &ahead)
		             : fd_ahead_look(fd, vectors, count, &ahead);
	if (status <= 0)
		return status;
	if (ahead.descriptors && incoming->undelivered)
		return -EBUSY;
	if (ahead.descriptors && positions->admits_fds != NULL &&
	    !positions->admits_fds(positions->argument))
		return -ENOBUFS;
	positions->clear = ahead.length;
	positions->next = ahead.next;
	return 1;
}

/* A short read has met something that the look passed over, like a byte out of band: the next one looks again. */
static void note_cleared(struct incoming_positions *positions, ssize_t length, size_t room)
{
	if (length == (ssize_t)room)
		positions->clear -= room;
	else
		forget_look(positions);
}

/* Whether another read is worth a try after one that has brought descriptors. Otherwise the loop's next turn reads
 * what is there. */
static bool tries_more(struct incoming *incoming)
{
	incoming->trying = incoming->tries_behind_fds || ++incoming->untried == untried_max;
	if (incoming->trying)
		incoming->untried = 0;
	return incoming->trying;
}

static void note_try(struct incoming *incoming, ssize_t length)
{
	if (incoming->trying)
		incoming->tries_behind_fds = length > 0;
	incoming->trying = false;
}

/* Before a read in another way than the plain one. `room`: the bytes that it may bring. Returns as look_ahead(). */
static int prepare(const struct incoming *incoming, int fd, const struct evbuffer_iovec *vectors,
                   int count, size_t *room)
{
	if (incoming->way == INCOMING_TLS)
		return 1;
	int status = look_ahead(incoming, fd, vectors, count, *room);
	if (status > 0 && *room > incoming->part->positions.clear)
		*room = incoming->part->positions.clear;
	return status;
}

ssize_t incoming_read(struct incoming *incoming, int fd, struct evbuffer *input, size_t max,
                      struct ancillary *ancillary, bool *maybe_more)
{
	struct evbuffer_iovec vectors[VECTORS_PIECES];
	size_t space = incoming->space < max ? incoming->space : max, room = space;
	ssize_t length = -ENOMEM;

	ancillary_clear(ancillary);
	evbuffer_unfreeze(input, 0);
	int count = vectors_reserve(input, space, vectors);
	if (count > 0) {
		/* libevent may find more room than was asked for. */
		count = vectors_cut(vectors, count, space);
		length = incoming->way != INCOMING_PLAIN ? prepare(incoming, fd, vectors, count, &room) : 1;
	}
	if (length > 0) {
		count = vectors_cut(vectors, count, room);
		length = incoming->way == INCOMING_TLS
		             ? tls_receive(fd, vectors, count, &incoming->part->records)
		             : read_into(incoming, fd, vectors, count, ancillary);
		if (incoming->way == INCOMING_EXACT)
			note_cleared(&incoming->part->positions, length, room);
	}
	if (length > 0) {
		incoming->undelivered = true;
		adapt_space(incoming, (size_t)length);
		count = vectors_cut(vectors, count, (size_t)length);
		evbuffer_commit_space(input, vectors, count);
	}
	evbuffer_freeze(input, 0);
	note_try(incoming, length);
	*maybe_more = length == (ssize_t)space || length == -EBUSY ||
	              (incoming->way == INCOMING_EXACT && incoming->part->positions.next > 0);
	if (!*maybe_more && (ancillary->count > 0 || ancillary->truncated))
		*maybe_more = tries_more(incoming);
	return length;
}
