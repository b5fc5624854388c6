#ifndef FERRY_DESCRIPTOR_MESSAGE_H
#define FERRY_DESCRIPTOR_MESSAGE_H

/**
 * @file descriptor_message.h
 * @brief A descriptor sent with what it is and a name, and rebuilt as what the receiver wants.
 *
 * One message (ferry/message.h) carries one descriptor, its name, and a description: kind, access
 * mode, and of a socket what it speaks and whether it listens. The receiver looks at what has
 * arrived; it gets the descriptor only if that is what was described, and makes a FILE, a
 * bufferevent or a listener of it. What is on the wire is described in docs/descriptor.md.
 *
 * Everything that can be sent over a unix socket can be sent so. Both ends share what is open: the
 * position in a file, O_NONBLOCK, the connection.
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
 */

#include <stdint.h>
#include <stdio.h>

#include <event2/listener.h>

#include "ferry/descriptor.h"
#include "ferry/export.h"
#include "ferry/message.h"

FERRY_BEGIN_DECLS

struct bufferevent;
struct event_base;

/** Bounds of what goes with a descriptor. */
enum {
	FERRY_DESCRIPTOR_NAME_MAX = 255 /**< bytes of a name, without the terminating zero */
};

/** A descriptor that was received, with its name. Opaque. */
struct ferry_descriptor;

/**
 * Sends a descriptor, with what it is and a name, as one message: all of it is queued, or nothing.
 * It is described as it is now. Of what is described, O_APPEND can be changed by whoever shares it,
 * and so can whether a socket listens and is connected: the receiver takes a descriptor for another
 * one if that happens on the way. A TCP connection that ends on the way is none the worse
 * for it; one that is being made is to be sent when it stands. Position, size, seals and O_NONBLOCK
 * are not described.
 *
 * @param stream a stream of messages on a unix socket
 * @param type of the message, the application's own, 0 to 65535
 * @param fd the descriptor
 * @param name for the receiver, valid UTF-8 of at most FERRY_DESCRIPTOR_NAME_MAX bytes; copied.
 *        NULL is the same as "".
 * @param ownership FERRY_FD_TAKE or FERRY_FD_DUP; on failure the descriptor is still the caller's
 * @retval 0 done
 * @retval -EINVAL @p stream is NULL, @p ownership is neither, or @p name is not valid UTF-8
 * @retval -EMSGSIZE @p name is longer than that, or the message is over the stream's limits
 * @retval -EBADF @p fd is not open
 * @retval -ENOBUFS, -ELOOP, -EOPNOTSUPP, -EMFILE, -EPIPE, -ENOMEM as ferry_message_stream_send()
 *
 * May be called in any callback. Since 0.1.
 */
FERRY_EXPORT int ferry_descriptor_send(struct ferry_message_stream *stream, uint16_t type, int fd,
                                       const char *name, enum ferry_fd_ownership ownership);

/**
 * Takes a descriptor and its name out of a message, in message_received. What has arrived is
 * inspected, and must be what the sender says that it is: its kind, access mode and O_APPEND; of a
 * socket family, type, protocol, whether it listens or is connected, and the cookie; of all others
 * device and inode. Where one of the two processes has no /proc, kinds that only that tells apart
 * (ferry/descriptor.h) pass for each other.
 *
 * When something is wrong with the message (-EPROTO, -EBADMSG, -EMFILE), all descriptors that came
 * with it are closed, and the log callback is told what it is. The connection stands: whether to go
 * on with such a peer is for the caller to say.
 *
 * @param[out] out the descriptor, the caller's to free
 * @param message one that ferry_descriptor_send() has made, or somebody who pretends
 * @retval 0 done: the message no longer has the descriptor
 * @retval -EINVAL @p out or @p message is NULL
 * @retval -EPROTO it has no descriptor or more than one; its payload is no description; or the name
 *         is not valid UTF-8 or has a zero byte in it
 * @retval -EBADMSG what has arrived is not what is described, or cannot be inspected
 * @retval -EMFILE the descriptor was lost on the way, see ferry_message_get_fds_lost()
 * @retval -ENOENT the descriptor was stolen from the message before
 * @retval -ENOMEM out of memory; the message is as it was
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_descriptor_receive(struct ferry_descriptor **out,
                                          struct ferry_message *message);

/** Frees a received descriptor, and closes it unless it was stolen or made something else. NULL:
 *  nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_descriptor_free(struct ferry_descriptor *descriptor);

/** The name, "" if it has none; valid as long as @p descriptor. Since 0.1. */
FERRY_EXPORT const char *ferry_descriptor_get_name(const struct ferry_descriptor *descriptor);

/** What it was when it arrived, as this process's kernel says; valid as long as @p descriptor. NULL
 *  for NULL. Since 0.1. */
FERRY_EXPORT const struct ferry_descriptor_info *
ferry_descriptor_get_info(const struct ferry_descriptor *descriptor);

/** Looks at the descriptor, which stays with @p descriptor. -EINVAL: NULL. -ENOENT: it was stolen
 *  or made something else. Since 0.1. */
FERRY_EXPORT int ferry_descriptor_get_fd(const struct ferry_descriptor *descriptor);

/** Takes the descriptor, close-on-exec: it is the caller's from then on. The errors of
 *  ferry_descriptor_get_fd(). Since 0.1. */
FERRY_EXPORT int ferry_descriptor_steal_fd(struct ferry_descriptor *descriptor);

/**
 * Makes a FILE of it, which has the descriptor from then on. It reads and writes as the descriptor
 * does: "r", "w" (nothing is truncated), "r+", "a" or "a+". The position is the descriptor's own,
 * which is shared with the sender; only what is opened for appending alone begins at its end,
 * without moving that. A FILE cannot wait for what is non-blocking.
 *
 * @param[out] out the FILE, the caller's to fclose()
 * @param descriptor a file, memfd, pipe, terminal or other device
 * @retval 0 done
 * @retval -EINVAL @p out or @p descriptor is NULL
 * @retval -ENOENT it was stolen or made something else
 * @retval -EISDIR a directory: fdopendir() takes what ferry_descriptor_steal_fd() gives
 * @retval -EOPNOTSUPP what is not read and written as a stream of bytes: an eventfd, …; or a
 *         socket, which takes a FILE for each direction
 * @retval -EBADF neither open for reading nor for writing
 * @retval -ENOMEM out of memory
 *
 * On failure @p descriptor is as it was. Since 0.1.
 */
FERRY_EXPORT int ferry_descriptor_to_file(FILE **out, struct ferry_descriptor *descriptor);

/**
 * Makes a bufferevent of it, which has the descriptor from then on. It is made non-blocking.
 *
 * @param[out] out the bufferevent, made by bufferevent_socket_new()
 * @param descriptor a connected stream socket
 * @param base the event_base
 * @param options BEV_OPT_…; without BEV_OPT_CLOSE_ON_FREE closing is the caller's affair
 * @retval 0 done
 * @retval -EINVAL @p out, @p descriptor or @p base is NULL
 * @retval -ENOENT it was stolen or made something else
 * @retval -ENOTSOCK not a socket
 * @retval -EPROTOTYPE not a stream socket
 * @retval -ENOTCONN not connected, or not any more
 * @retval -ENOMEM out of memory, or BEV_OPT_THREADSAFE without libevent's locks
 *
 * On failure @p descriptor is as it was. Since 0.1.
 */
FERRY_EXPORT int ferry_descriptor_to_bufferevent(struct bufferevent **out,
                                                 struct ferry_descriptor *descriptor,
                                                 struct event_base *base, int options);

/**
 * Makes a listener of it, which has the descriptor from then on. Nothing but non-blocking is
 * changed about the socket.
 *
 * @param[out] out the listener, made by evconnlistener_new() with a backlog of 0
 * @param descriptor a listening socket
 * @param base the event_base
 * @param callback as in evconnlistener_new()
 * @param context handed to @p callback
 * @param flags LEV_OPT_…; without LEV_OPT_CLOSE_ON_FREE closing is the caller's affair
 * @retval 0 done
 * @retval -EINVAL @p out, @p descriptor or @p base is NULL, or the socket does not listen
 * @retval -ENOENT it was stolen or made something else
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
