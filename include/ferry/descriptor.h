#ifndef FERRY_DESCRIPTOR_H
#define FERRY_DESCRIPTOR_H

/**
 * @file descriptor.h
 * @brief Descriptors inspected, sent with a description and a name, and rebuilt as an object.
 *
 * ferry_descriptor_inspect() asks the kernel about one descriptor: its kind, its access mode, and the
 * state of a file or socket.
 *
 * ferry_descriptor_send() sends one descriptor as one message (ferry/message.h), with its name and its
 * description: the kind, the access mode, and the protocol and state of a socket.
 * ferry_descriptor_receive() inspects the descriptor that has arrived and returns it only if it matches
 * the description. The receiver makes a FILE, a bufferevent or a listener of it. docs/descriptor.md
 * describes the bytes on the wire.
 *
 * Every descriptor that a unix socket carries can be sent in this way. Both processes then share the open
 * file description: the position in a file, O_NONBLOCK, the connection.
 *
 * @code
 * // One process:
 * ferry_descriptor_send(stream, MY_TYPE, fd, "settings", FERRY_FD_DUP);
 *
 * // The other, in its message_received:
 * struct ferry_descriptor *descriptor;
 * if (ferry_message_get_type(message) == MY_TYPE &&
 *     ferry_descriptor_receive(&descriptor, message) == 0) {
 *     FILE *file;
 *     if (ferry_descriptor_to_file(&file, descriptor) == 0)
 *         read_settings(ferry_descriptor_get_name(descriptor), file);   // and fclose(file)
 *     ferry_descriptor_free(descriptor);
 * }
 * @endcode
 *
 * @par Callers
 * In every callback. Of a descriptor: in any thread, an object in one thread at a time. Of a stream of messages:
 * as ferry_message_stream_send().
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include <event2/listener.h>

#include "ferry/export.h"
#include "ferry/message.h"

FERRY_BEGIN_DECLS

struct bufferevent;
struct event_base;

/* ---- inspecting ---- */

/** The kinds of descriptors. Later versions may add kinds: treat one that you do not know as
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

/** The result of ferry_descriptor_inspect(). A member that does not apply to the kind is 0. Without /proc
 *  a memfd is reported as FILE, and an eventfd, timerfd, signalfd, inotify, pidfd or epoll as OTHER. Since
 *  0.1. */
struct ferry_descriptor_info {
	enum ferry_descriptor_kind kind; /**< the kind */
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
 * Inspects a descriptor. Changes nothing about it.
 *
 * @param fd the descriptor; stays the caller's
 * @param[out] info the result
 * @retval 0 done
 * @retval -EINVAL @p info is NULL
 * @retval -EBADF @p fd is not open
 * @retval other the error of fstat(2)
 *
 * May be called in any callback and thread. Since 0.1.
 */
FERRY_EXPORT int ferry_descriptor_inspect(int fd, struct ferry_descriptor_info *info);

/* ---- sending and receiving ---- */

/** The limits of a description. */
enum {
	FERRY_DESCRIPTOR_NAME_MAX = 255 /**< bytes of a name, without the terminating zero */
};

/** A descriptor that was received, with its name. Opaque. */
struct ferry_descriptor;

/**
 * Sends a descriptor, its description and a name as one message: all of it is queued, or nothing.
 *
 * The description is made at the call. Every process that has the descriptor can change O_APPEND, and
 * whether a socket listens or is connected; if one of these changes before the receiver inspects the
 * descriptor, the receiver refuses it. A TCP connection that ends on the way is accepted. Send a socket
 * only when its connection is established. Position, size, seals and O_NONBLOCK are not described.
 *
 * @param stream a stream of messages on a unix socket
 * @param type of the message, the application's own, 0 to 65535
 * @param fd the descriptor
 * @param name for the receiver, valid UTF-8 of at most FERRY_DESCRIPTOR_NAME_MAX bytes; copied.
 *        NULL is the same as "".
 * @param ownership FERRY_FD_TAKE or FERRY_FD_DUP; on failure the descriptor is still the caller's
 * @retval 0 done
 * @retval -EINVAL @p stream is NULL, @p ownership is neither, or @p name is not valid UTF-8
 * @retval -EMSGSIZE @p name is longer than FERRY_DESCRIPTOR_NAME_MAX, or the message is over the stream's
 *         limits
 * @retval -EBADF @p fd is not open
 * @retval -ENOBUFS, -ELOOP, -EOPNOTSUPP, -EMFILE, -EPIPE, -ENOMEM as ferry_message_stream_send()
 * @retval other the error of fstat(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_descriptor_send(struct ferry_message_stream *stream, uint16_t type, int fd,
                                       const char *name, enum ferry_fd_ownership ownership);

/**
 * Takes a descriptor and its name out of a message; for message_received.
 *
 * The function inspects the descriptor and compares it with the description. It compares kind, access mode
 * and O_APPEND; of a socket family, type, protocol, SO_COOKIE, and whether it listens or is connected; of
 * everything else device and inode. If one of the two processes has no /proc, two kinds that only /proc
 * distinguishes (see struct ferry_descriptor_info) match each other.
 *
 * On -EPROTO, -EBADMSG and -EMFILE all descriptors of the message are closed, and the log callback gets a
 * line with the fault. The connection stays open; the caller may end it.
 *
 * @param[out] out the descriptor, the caller's to free
 * @param message the message; its sender is not trusted
 * @retval 0 done: the message no longer has the descriptor
 * @retval -EINVAL @p out or @p message is NULL
 * @retval -EPROTO it has no descriptor or more than one; its payload is no description; or the name
 *         is not valid UTF-8 or has a zero byte in it
 * @retval -EBADMSG the descriptor does not match the description, or cannot be inspected
 * @retval -EMFILE the descriptor was lost on the way, see ferry_message_get_fds_lost()
 * @retval -ENOENT the descriptor was stolen from the message before
 * @retval -ENOMEM out of memory; the message is as it was
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_descriptor_receive(struct ferry_descriptor **out,
                                          struct ferry_message *message);

/** Frees a received descriptor, and closes it unless it was stolen or made into an object. NULL: nothing
 *  happens. Since 0.1. */
FERRY_EXPORT void ferry_descriptor_free(struct ferry_descriptor *descriptor);

/** Returns the name, "" if it has none; valid as long as @p descriptor. Since 0.1. */
FERRY_EXPORT const char *ferry_descriptor_get_name(const struct ferry_descriptor *descriptor);

/** Returns the result of the inspection at arrival, which was made in this process; valid as long as
 *  @p descriptor. NULL for NULL. Since 0.1. */
FERRY_EXPORT const struct ferry_descriptor_info *
ferry_descriptor_get_info(const struct ferry_descriptor *descriptor);

/**
 * Returns the descriptor, which stays with @p descriptor.
 *
 * @return the descriptor
 * @retval -EINVAL @p descriptor is NULL
 * @retval -ENOENT it was stolen or made into an object
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_descriptor_get_fd(const struct ferry_descriptor *descriptor);

/**
 * Takes the descriptor, which is close-on-exec and the caller's from then on.
 *
 * @return the descriptor
 * @retval other as ferry_descriptor_get_fd()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_descriptor_steal_fd(struct ferry_descriptor *descriptor);

/* ---- making an object of it ---- */

/**
 * Makes a FILE, which owns the descriptor from then on.
 *
 * The mode is that of the descriptor: "r", "w" (nothing is truncated), "r+", "a" or "a+". The position
 * is the descriptor's own, which is shared with the sender; a FILE of mode "a" begins at the end of the file
 * without moving it. A FILE cannot wait for a non-blocking descriptor.
 *
 * @param[out] out the FILE, the caller's to fclose()
 * @param descriptor a file, memfd, pipe, terminal or other device
 * @retval 0 done
 * @retval -EINVAL @p out or @p descriptor is NULL
 * @retval -ENOENT it was stolen or made into an object
 * @retval -EISDIR a directory: use fdopendir() with the result of ferry_descriptor_steal_fd()
 * @retval -EOPNOTSUPP a kind that is not a stream of bytes: an eventfd, …; or a socket, which needs a FILE
 *         for each direction
 * @retval -EBADF open neither for reading nor for writing
 * @retval -ENOMEM out of memory
 *
 * On failure @p descriptor is as it was. Since 0.1.
 */
FERRY_EXPORT int ferry_descriptor_to_file(FILE **out, struct ferry_descriptor *descriptor);

/**
 * Makes a bufferevent, which has the descriptor from then on. The socket is made non-blocking.
 *
 * @param[out] out the bufferevent, made by bufferevent_socket_new()
 * @param descriptor a connected stream socket
 * @param base the event_base
 * @param options BEV_OPT_…; without BEV_OPT_CLOSE_ON_FREE the caller closes the socket
 * @retval 0 done
 * @retval -EINVAL @p out, @p descriptor or @p base is NULL
 * @retval -ENOENT it was stolen or made into an object
 * @retval -ENOTSOCK not a socket
 * @retval -EPROTOTYPE not a stream socket
 * @retval -ENOTCONN not connected, or no longer
 * @retval -ENOMEM out of memory, or BEV_OPT_THREADSAFE without libevent's locks
 *
 * On failure @p descriptor is as it was. Since 0.1.
 */
FERRY_EXPORT int ferry_descriptor_to_bufferevent(struct bufferevent **out,
                                                 struct ferry_descriptor *descriptor,
                                                 struct event_base *base, int options);

/**
 * Makes a listener, which has the descriptor from then on. The socket is made non-blocking and is not
 * changed in any other way.
 *
 * @param[out] out the listener, made by evconnlistener_new() with a backlog of 0
 * @param descriptor a listening socket
 * @param base the event_base
 * @param callback as in evconnlistener_new()
 * @param context handed to @p callback
 * @param flags LEV_OPT_…; without LEV_OPT_CLOSE_ON_FREE the caller closes the socket
 * @retval 0 done
 * @retval -EINVAL @p out, @p descriptor or @p base is NULL, or the socket does not listen
 * @retval -ENOENT it was stolen or made into an object
 * @retval -ENOTSOCK not a socket
 * @retval -ENOMEM out of memory
 *
 * On failure @p descriptor is as it was. Since 0.1.
 */
FERRY_EXPORT int ferry_descriptor_to_listener(struct evconnlistener **out,
                                              struct ferry_descriptor *descriptor,
                                              struct event_base *base, evconnlistener_cb callback,
                                              void *context, unsigned int flags);

FERRY_END_DECLS

#endif
