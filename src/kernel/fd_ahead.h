#ifndef FERRY_KERNEL_FD_AHEAD_H
#define FERRY_KERNEL_FD_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/*
 * How far a unix stream socket can be read without a descriptor in the middle.
 *
 * The kernel returns plain bytes in the same read as the bytes and descriptors of the message behind them. The
 * position of the descriptors is then lost. It can be found before the read, by peeking:
 *
 *   - A peek without room for control messages sets MSG_CTRUNC if the read would bring descriptors. None is
 *     installed. It ends, as the read does, at the end of their message at the latest.
 *   - If the last byte of a peek goes to memory that cannot be written, the copy fails in the message that has this
 *     byte. The call returns the whole messages before it.
 *   - A peek of no bytes passes over all messages, up to the first that has descriptors.
 *
 * unit.kernel.positions pins these facts. Only one process may read from the socket, and SO_PEEK_OFF must be unset.
 */

/* How the kernel lets positions be found. */
enum fd_ahead_support {
	FD_AHEAD_NONE,   /* it does not */
	FD_AHEAD_COPIES, /* by peeks that copy the bytes */
	FD_AHEAD_FREE    /* a peek of no bytes also finds that there are no descriptors */
};

/* Tries the facts above on a pair of sockets. If it cannot make one, the result is FD_AHEAD_COPIES. */
enum fd_ahead_support fd_ahead_probe(void);

struct fd_ahead {
	size_t length;    /* a read of so many bytes has descriptors at its first byte or not at all */
	bool descriptors; /* it may have */
	size_t next; /* as `length`, for the read behind it, which may have descriptors; 0: unknown */
};

/*
 * Looks as far as the vectors go, which are one or two; their memory is overwritten.
 *   1    there are bytes: `ahead` is set
 *   0    end of file
 *   < 0  a negative errno, which the kernel may not return again: the result of the read
 */
int fd_ahead_look(int fd, const struct iovec *vectors, int count, struct fd_ahead *ahead);

/* The number of bytes in the socket, on a kernel with FD_AHEAD_FREE, if none of them has descriptors. Copies no byte.
 * 0: there are none, or one may have descriptors. Negative: as above. */
ssize_t fd_ahead_count_clear(int fd);

/* As fd_ahead_look(), on a kernel with FD_AHEAD_FREE, in a socket that has many bytes: if there is no descriptor among them,
 * no byte is copied, and `ahead` may go further than the vectors. */
int fd_ahead_look_far(int fd, const struct iovec *vectors, int count, struct fd_ahead *ahead);

#endif
