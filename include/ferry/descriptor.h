#ifndef FERRY_DESCRIPTOR_H
#define FERRY_DESCRIPTOR_H

/**
 * @file descriptor.h
 * @brief What the kernel says a descriptor is.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "ferry/export.h"

FERRY_BEGIN_DECLS

/** What a descriptor stands for. Kinds may be added: treat those you do not know as
 *  FERRY_DESCRIPTOR_OTHER. Since 0.1. */
enum ferry_descriptor_kind {
	FERRY_DESCRIPTOR_OTHER = 0, /**< none of the following */
	FERRY_DESCRIPTOR_FILE = 1,  /**< a regular file, on a disk or in memory */
	FERRY_DESCRIPTOR_DIRECTORY = 2,
	FERRY_DESCRIPTOR_PIPE = 3,  /**< either end of a pipe, or a FIFO */
	FERRY_DESCRIPTOR_TTY = 4,   /**< a terminal, either side of a pseudo-terminal */
	FERRY_DESCRIPTOR_MEMFD = 5, /**< memfd_create(2) */
	FERRY_DESCRIPTOR_EVENTFD = 6,
	FERRY_DESCRIPTOR_TIMERFD = 7,
	FERRY_DESCRIPTOR_SIGNALFD = 8,
	FERRY_DESCRIPTOR_INOTIFY = 9,
	FERRY_DESCRIPTOR_PIDFD = 10,
	FERRY_DESCRIPTOR_EPOLL = 11,
	FERRY_DESCRIPTOR_SOCKET = 12,
	FERRY_DESCRIPTOR_DEVICE = 13 /**< another character device, or a block device */
};

/** What ferry_descriptor_inspect() found. What does not apply to a kind is 0. Without /proc a memfd is
 *  told as FILE, and eventfd, timerfd, signalfd, inotify, pidfd and epoll as OTHER. Since 0.1. */
struct ferry_descriptor_info {
	enum ferry_descriptor_kind kind; /**< what it stands for */
	int access;         /**< O_RDONLY, O_WRONLY or O_RDWR; O_PATH, which allows neither */
	bool append;        /**< O_APPEND */
	bool non_blocking;  /**< O_NONBLOCK */
	bool named;         /**< a pipe that has a name: a FIFO */
	int64_t offset;     /**< of a file or memfd */
	int64_t size;       /**< of a file or memfd, in bytes */
	uint64_t device;    /**< st_dev */
	uint64_t inode;     /**< st_ino */
	unsigned int seals; /**< of a memfd: F_SEAL_… */

	int family;      /**< of a socket, as the following: AF_UNIX, AF_INET, AF_INET6, … */
	int type;        /**< SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET, … */
	int protocol;    /**< IPPROTO_TCP, …; 0 for unix sockets */
	bool listening;  /**< listen(2) was called */
	bool connected;  /**< it has a peer */
	uint64_t cookie; /**< SO_COOKIE: the same in every process that has this socket */
	struct sockaddr_storage local_address; /**< getsockname(2) */
	socklen_t local_length;                /**< of local_address, as far as it is set */
	struct sockaddr_storage peer_address;  /**< getpeername(2) */
	socklen_t peer_length;                 /**< of peer_address; 0 if it is not connected */

	uint64_t reserved[8]; /**< for later versions */
};

/**
 * Says what a descriptor is. Changes nothing about it.
 *
 * @param fd the descriptor; stays the caller's
 * @param[out] info what it is
 * @retval 0 done
 * @retval -EINVAL @p info is NULL
 * @retval -EBADF @p fd is not open
 * @retval other what fstat(2) said
 *
 * May be called in any callback and thread. Since 0.1.
 */
FERRY_EXPORT int ferry_descriptor_inspect(int fd, struct ferry_descriptor_info *info);

FERRY_END_DECLS

#endif
