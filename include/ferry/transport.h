#ifndef FERRY_TRANSPORT_H
#define FERRY_TRANSPORT_H

/**
 * @file transport.h
 * @brief A libevent bufferevent that also carries open file descriptors and whole files.
 *
 * A transport is one connected stream: a plain socket `bufferevent` of the program, with two
 * changes. It reads by recvmsg(2) with room for descriptors, and it writes by sendmsg(2) and
 * sendfile(2). Every `bufferevent_*` call still works on it.
 * Bytes, descriptors and files leave in the order of the calls.
 *
 * @code
 * static void got_fd(struct ferry_transport *t, int fd, void *context)
 * {
 *     (void)t, (void)context;
 *     close(fd);                             // the callback owns it
 * }
 * static const struct ferry_protocol protocol = {.file_descriptor_received = got_fd};
 *
 * struct ferry_transport *t;
 * if (ferry_transport_new_socket(&t, base, fd) == 0 && ferry_transport_set_protocol(t, &protocol, NULL) == 0) {
 *     ferry_transport_send_fd(t, STDIN_FILENO, FERRY_FD_DUP);
 *     ferry_transport_write(t, "\n", 1);      // the byte that the descriptor travels with
 * }
 * @endcode
 *
 * Every function of ferry keeps these conventions. A function that can fail returns 0 or a negative
 * errno value, and changes nothing when it fails. A call that returns an error never runs its
 * callback.
 *
 * @par Callers
 * In every callback. Only in the thread that runs the transport's event_base; if the bufferevent was made with
 * BEV_OPT_THREADSAFE, in any thread. Callbacks then run with the bufferevent's lock held; BEV_OPT_UNLOCK_CALLBACKS
 * applies only to the bufferevent's own callbacks.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ferry/export.h"
#include "ferry/file_producer.h"
#include "ferry/producer.h"

FERRY_BEGIN_DECLS

struct bufferevent;
struct bufferevent_rate_limit_group;
struct evbuffer;
struct event_base;
struct iovec;
struct timeval;

/** One connected stream. Opaque. */
struct ferry_transport;

/** The owner of a descriptor that is passed to ferry: the owner closes it. Since 0.1. */
enum ferry_fd_ownership {
	/** ferry uses a duplicate. The caller still owns its descriptor and may close it at once. */
	FERRY_FD_DUP = 1,
	/** On success ferry owns the descriptor, and closes it once the kernel has taken it or the
	 *  connection has ended. On any failure the caller still owns it. */
	FERRY_FD_TAKE = 2
};

/**
 * The callbacks by which a transport notifies its owner. Every member may be NULL. ferry keeps the
 * pointer, not a copy: the table must outlive the transport, and is usually static const.
 *
 * Every callback may call any ferry function on its transport, ferry_transport_free() included.
 * Since 0.1.
 */
struct ferry_protocol {
	/** The connection is established. Runs from the loop, before every other callback, once for
	 *  each ferry_transport_set_protocol(). Does not run if the connection attempt fails. */
	void (*connection_made)(struct ferry_transport *transport, void *context);

	/** Bytes arrived. @p input is the bufferevent's own input buffer; the callback drains the bytes
	 *  that it wants. Bytes under the read low-water mark are offered when nothing can follow. The
	 *  transport offers the rest again with the next bytes, after
	 *  ferry_transport_resume_reading(), or to another protocol. */
	void (*data_received)(struct ferry_transport *transport, struct evbuffer *input, void *context);

	/** One descriptor arrived, with close-on-exec set. Runs once for each descriptor, in the order
	 *  of sending, before data_received for the bytes that it came with. These may begin with bytes
	 *  that were sent before it, unless ferry_transport_set_fd_positions() excludes that. The
	 *  callback owns @p fd.
	 *  If NULL, descriptors are closed and counted (`fds_unclaimed`), and the bytes are still
	 *  delivered. */
	void (*file_descriptor_received)(struct ferry_transport *transport, int fd, void *context);

	/** The kernel could not install descriptors that the peer sent: the process is at RLIMIT_NOFILE,
	 *  or a security module refused. The descriptors that did arrive were delivered before.
	 *  If NULL, the connection is lost with -EMSGSIZE. */
	void (*file_descriptors_lost)(struct ferry_transport *transport, void *context);

	/** The peer closed its sending half; this side can still send. Runs once for each
	 *  ferry_transport_set_protocol(), also for a protocol that is set after that end. If NULL, the transport stops its
	 *  producer, sends what is queued, and ends the connection with reason 0. */
	void (*read_connection_lost)(struct ferry_transport *transport, void *context);

	/** The connection has ended. Runs exactly once, from the loop, never inside the call that caused
	 *  the end. @p reason is 0 after a clean end, else a negative errno: -ETIMEDOUT after a
	 *  bufferevent timeout, -ECONNABORTED after ferry_transport_abort_connection(), -EMSGSIZE if
	 *  descriptors were lost, -ENODATA if descriptors had no byte to travel with, or the kernel's
	 *  error (-EPIPE, -ECONNRESET, …). With TLS in the kernel also -ECONNABORTED after a fatal alert,
	 *  -EKEYEXPIRED after a KeyUpdate, -EPROTO after a renegotiation or an end without close_notify,
	 *  -EBADMSG after a record that was changed on the way. No callback follows. The owner frees the transport here or
	 *  later. */
	void (*connection_lost)(struct ferry_transport *transport, int reason, void *context);

	/** Reserved for later versions; leave NULL. */
	void (*reserved[4])(void);
};

/** The counters of a transport since it was made; see ferry_transport_get_stats(). Since 0.1. */
struct ferry_transport_stats {
	uint64_t bytes_sent;      /**< bytes the kernel took, those of files included */
	uint64_t bytes_received;  /**< bytes read */
	uint64_t fds_sent;        /**< descriptors the kernel took */
	uint64_t fds_received;    /**< descriptors that arrived */
	uint64_t files_sent;      /**< files sent whole */
	uint64_t file_bytes_sent; /**< the part of bytes_sent that came from files */

	uint64_t send_calls;     /**< calls of sendmsg(2) or writev(2) */
	uint64_t sendfile_calls; /**< calls of sendfile(2) and splice(2) */
	uint64_t receive_calls;  /**< calls of recvmsg(2) or readv(2) */
	uint64_t send_eagain;    /**< times the socket was full */
	/** retries after ENOBUFS, ENOMEM or ETOOMANYREFS, or at the limit of descriptors in flight (ferry/in_flight.h) */
	uint64_t send_retries;

	uint64_t fds_unclaimed;    /**< descriptors received and closed: no callback took them */
	uint64_t fds_unsent;       /**< descriptors queued and closed: the connection ended */
	uint64_t fds_lost;         /**< reads in which the kernel reported lost descriptors */
	uint64_t controls_ignored; /**< control messages of another type than SCM_RIGHTS */

	uint64_t bytes_queued;     /**< bytes queued now, without those of files */
	uint64_t fds_queued;       /**< descriptors queued now */
	uint64_t files_queued;     /**< files queued or being sent now */
	uint64_t bytes_queued_max; /**< the highest bytes_queued so far */
	uint64_t fds_queued_max;   /**< the highest fds_queued so far */

	uint64_t file_waits; /**< times a file waited for its source or for the disk */
	/** bytes taken out of a pipe, a socket or a terminal, and not sent when that file ended */
	uint64_t file_bytes_unsent;

	uint64_t tls_version; /**< of TLS in the kernel, as ferry_transport_get_tls(); 0: none */
	uint64_t tls_cipher;  /**< the same */
	/** pieces of records of TLS that were neither data nor an end: session tickets, warnings */
	uint64_t tls_records_ignored;

	/** descriptors in flight now, at most: those that the peer has read since ferry asked the kernel last, at the
	 *  limit of ferry/in_flight.h, still count */
	uint64_t fds_in_flight;

	uint64_t reserved[6]; /**< zero, for later versions */
};

/** The process at the other end of a unix socket, as the kernel recorded it at connect(2), listen(2) or
 *  socketpair(2). It stays the same if that process changes its user, ends, or gives the socket away. Since 0.1. */
struct ferry_peer_credentials {
	/** 0: in a process id namespace that this process does not see. The process may have ended, and its number may be
	 *  that of another one by now: see ferry_transport_get_peer_pidfd() */
	pid_t pid;
	/** the effective user; 65534 stands for all users without an id in this user namespace */
	uid_t uid;
	/** the effective group */
	gid_t gid;

	uint32_t reserved[5]; /**< zero, for later versions */
};

/** Receives a descriptor, and owns it. See ferry_transport_set_fd_cb(). Since 0.1. */
typedef void (*ferry_fd_cb)(struct ferry_transport *transport, int fd, void *context);

/** Runs when the kernel has lost descriptors. See ferry_transport_set_fds_lost_cb(). Since 0.1. */
typedef void (*ferry_fds_lost_cb)(struct ferry_transport *transport, void *context);

/**
 * Turns a plain socket bufferevent into a transport.
 *
 * On success the transport owns @p bev: ferry_transport_free() frees it, and closes its socket if
 * @p bev was made with BEV_OPT_CLOSE_ON_FREE. Callbacks, watermarks, timeouts, enabled events,
 * priority, TCP_CORK and the contents of the buffers stay as they are. The socket becomes
 * non-blocking. Limits of one read and one write that are libevent's default (16 KiB) become 256 KiB
 * (1 MiB for writes on other than unix sockets); others stay, and bufferevent_set_max_single_read()
 * and _write() change them. @p bev may still be connecting, but
 * must not be looking up a name (bufferevent_socket_connect_hostname()). From then on the caller
 * must not change its event_base (bufferevent_base_set()).
 *
 * The write timeout of bufferevent_set_timeouts() comes when for that long neither the kernel took
 * bytes from the transport nor the peer took bytes from the kernel, as far as the kernel shows it.
 * Neither timeout comes while the descriptor is ready, however late the loop runs.
 *
 * On failure the caller still owns @p bev, and it is unchanged.
 *
 * @param[out] out the transport
 * @param bev a bufferevent of bufferevent_socket_new(), with an event_base and a descriptor
 * @retval 0 done
 * @retval -EINVAL an argument is NULL; @p bev is a filter, a pair or a TLS bufferevent, or has no
 *         event_base or no descriptor
 * @retval -EBADF the descriptor is not open
 * @retval -ENOTSOCK the descriptor is not a socket; see ferry_transport_new_pipes()
 * @retval -EPROTOTYPE the socket is not a stream socket, or the kernel has the keys of TLS for one direction
 *         only (ferry_transport_get_tls())
 * @retval -EALREADY @p bev already belongs to a transport
 * @retval -EBUSY @p bev is in a rate limit group, which ferry could not charge: take it out, and use
 *         ferry_transport_set_rate_limit_group(). A group without a limit (EV_RATE_LIMIT_MAX) does not
 *         show, and is no longer charged
 * @retval -ENOTSUP the major.minor version of libevent at run time differs from that at build time
 * @retval -ENOMEM out of memory
 * @retval other the error of getsockopt(2)
 *
 * May be called in a callback of @p bev. Since 0.1.
 */
FERRY_EXPORT int ferry_transport_new(struct ferry_transport **out, struct bufferevent *bev);

/**
 * Makes a transport of a connected socket, on a bufferevent of its own.
 *
 * The short way to bufferevent_socket_new() with BEV_OPT_CLOSE_ON_FREE and ferry_transport_new(). For other options of
 * the bufferevent, such as BEV_OPT_THREADSAFE, take those two. On success the transport owns @p fd, and closes it when
 * it is freed. On failure the caller still owns @p fd, which is open.
 *
 * @param[out] out the transport
 * @param base the event_base that runs the transport
 * @param fd a stream socket, connected or connecting
 * @retval 0 done
 * @retval -EINVAL @p out or @p base is NULL, or @p fd is negative
 * @retval -EBADF, -ENOTSOCK, -EPROTOTYPE, -ENOTSUP, -ENOMEM as ferry_transport_new()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_new_socket(struct ferry_transport **out, struct event_base *base,
                                            int fd);

/**
 * Makes a transport that reads from one descriptor and writes to another: pipes, FIFOs, terminals.
 *
 * The transport carries bytes and files; ferry_transport_send_fd() returns -EOPNOTSUPP. The
 * transport makes its own bufferevent (ferry_transport_get_bufferevent()); bufferevent_getfd()
 * returns @p read_fd. On success the transport owns both descriptors, which may be the same one,
 * makes them non-blocking, and closes them when the connection ends. On failure the caller still
 * owns them, and they are unchanged.
 *
 * @param[out] out the transport
 * @param base the event_base that runs the transport
 * @param read_fd the descriptor to read from
 * @param write_fd the descriptor to write to
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or a descriptor is not open in the direction needed
 * @retval -EPERM the kernel cannot wait for a descriptor, as epoll_ctl(2): a regular file, a directory, /dev/null
 * @retval -EBADF a descriptor is not open
 * @retval -EMFILE a descriptor is neither a pipe nor a socket, and no slot is free to examine it by epoll(7)
 * @retval -ENOTSUP as ferry_transport_new()
 * @retval -ENOMEM out of memory
 * @retval other the error of fstat(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_new_pipes(struct ferry_transport **out, struct event_base *base,
                                           int read_fd, int write_fd);

/**
 * Frees a transport. Legal at any time, in any callback.
 *
 * Queued output is dropped; call ferry_transport_lose_connection() first to have it sent. Queued
 * descriptors are closed. The producer's stop_producing runs before the call returns. No protocol
 * callback runs any more; the `finished` callback of a file in the stream still runs, from the loop,
 * with -ECANCELED. The bufferevent is freed. As with any bufferevent, its memory is released when the
 * loop next runs, and its descriptor is closed then if it was made with BEV_OPT_CLOSE_ON_FREE.
 *
 * The call makes no shutdown(2). Without BEV_OPT_CLOSE_ON_FREE the socket is still the caller's and
 * still connected, and copies of it elsewhere (dup(2), a parent or child process) live on. The peer
 * sees the end when the last copy is closed; after ferry_transport_abort_connection(), at once.
 * A transport on pipes closes its own copies of both descriptors in this call.
 *
 * @param transport the transport; NULL does nothing
 *
 * Since 0.1.
 */
FERRY_EXPORT void ferry_transport_free(struct ferry_transport *transport);

/**
 * Gives the bufferevent back to the caller as it was before ferry_transport_new(), and frees the
 * transport.
 *
 * The bufferevent has libevent's own I/O steps again. Its callbacks, watermarks, timeouts, enabled
 * events and its limits of one read and one write are those that it had when it was attached. A rate
 * limit of its own stays; it leaves the group of ferry_transport_set_rate_limit_group(). Bytes that
 * are queued stay in the output and are sent. Bytes in the input stay there, and are offered to the
 * read callback from the loop, or when reading is enabled. If the peer has ended, libevent reports it
 * once reading is enabled. From then on libevent's reads discard descriptors that arrive.
 *
 * No callback of the transport runs any more, except `finished` of a file that has left the stream
 * already.
 *
 * @param transport the transport; on success it is freed
 * @param[out] out the bufferevent, which the caller owns
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or @p transport uses pipes
 * @retval -EBUSY descriptors or files are queued; received descriptors are pending because of a pause, or
 *         behind the one whose callback runs; a producer is registered; the connection or its sending half is
 *         closing; or a line stream, a message stream, a channel, a dispatcher, a worker or a takeover owns
 *         @p transport
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_detach(struct ferry_transport *transport,
                                        struct bufferevent **out);

/** Returns the transport's bufferevent. The transport still owns it: do not free it. NULL for NULL.
 *  Since 0.1. */
FERRY_EXPORT struct bufferevent *
ferry_transport_get_bufferevent(const struct ferry_transport *transport);

/**
 * Gives the transport another socket, as bufferevent_setfd() does, without losing descriptors.
 *
 * bufferevent_setfd() and bufferevent_socket_connect() restore libevent's own I/O steps. ferry
 * notices that at its next call or callback, but descriptors that arrive before then are lost; and a
 * socket with the keys of TLS for one direction ends the connection with -EPROTOTYPE. This
 * function loses none. It does not close the old socket. Descriptors and files in the stream stay
 * queued.
 *
 * A connection that has become TLS is given the same socket again, once the kernel has its keys
 * (ferry_transport_get_tls()).
 *
 * @param transport the transport
 * @param fd the new socket; the bufferevent closes it when freed if BEV_OPT_CLOSE_ON_FREE is set
 *
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL or uses pipes, or @p fd is negative
 * @retval -EBADF, -ENOTSOCK, -EPROTOTYPE as ferry_transport_new()
 * @retval -EOPNOTSUPP descriptors are queued and @p fd is not a unix socket
 * @retval -ENOTCONN the connection is over (connection_lost has run or is about to)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_set_socket(struct ferry_transport *transport, int fd);

/**
 * Sets the protocol, which the transport calls in place of the bufferevent's own callbacks, and
 * enables reading. May be called again, in a callback too, to change the protocol. The new protocol's
 * connection_made runs from the loop before its other callbacks, also if it is set in the
 * connection_made of the protocol before. Bytes that are already in the input
 * are offered to its data_received if they reach the read low-water mark.
 *
 * @param transport the transport
 * @param protocol the callbacks; must outlive the transport
 * @param context the last argument of each callback
 * @retval 0 done
 * @retval -EINVAL @p transport or @p protocol is NULL
 * @retval -EBUSY a line stream, a message stream, a channel, a dispatcher, a worker or a takeover owns the transport
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_set_protocol(struct ferry_transport *transport,
                                              const struct ferry_protocol *protocol, void *context);

/**
 * Sets the callback for received descriptors, for a transport that is used as a bufferevent, without
 * a protocol. It runs before the bufferevent's read callback for the bytes that the descriptor came
 * with; directly from the read step, even under BEV_OPT_DEFER_CALLBACKS.
 *
 * @param transport the transport
 * @param cb the callback, which owns the descriptor that it receives; if NULL, descriptors are closed
 *        and counted
 * @param context the last argument of @p cb
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL
 * @retval -ENOMEM out of memory; nothing has changed
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_set_fd_cb(struct ferry_transport *transport, ferry_fd_cb cb,
                                           void *context);

/**
 * Sets the callback for descriptors that the kernel could not install, for a transport that is used
 * without a protocol. With NULL, the default, the bufferevent's event callback gets
 * BEV_EVENT_ERROR|BEV_EVENT_READING with errno EMSGSIZE, and the connection is shut down.
 *
 * @param transport the transport
 * @param cb the callback, or NULL
 * @param context the last argument of @p cb
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL
 * @retval -ENOMEM out of memory; nothing has changed
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_set_fds_lost_cb(struct ferry_transport *transport,
                                                 ferry_fds_lost_cb cb, void *context);

/**
 * Queues bytes, as bufferevent_write() on the transport's bufferevent does, but returns an error if
 * they can no longer be sent.
 *
 * @param transport the transport
 * @param data the bytes, copied; may be NULL when @p length is 0
 * @param length the number of bytes
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL, or @p data is NULL and @p length is not 0
 * @retval -EPIPE the connection is over or being closed, or its sending half is
 * @retval -ENOBUFS more bytes would be queued than ferry_transport_set_byte_limit() permits
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_write(struct ferry_transport *transport, const void *data,
                                       size_t length);

/**
 * Sends bytes at once, without a copy, if nothing is queued before them: one system call from the caller's memory, as
 * libuv's uv_try_write(). For what is complete and short, such as an answer: bytes that ferry_transport_write() queues
 * in one callback leave together, and each call of this function is a write of its own.
 *
 * The caller queues what is left, with ferry_transport_write(). No callback of the transport, of the bufferevent or of
 * the output buffer runs for the bytes that were sent. Rate limits count them.
 *
 * @param transport the transport
 * @param data the bytes; may be NULL when @p length is 0
 * @param length the number of bytes
 * @return how many bytes the kernel has taken. 0: it takes none now; or bytes, a descriptor or a file are queued, there
 *         is a producer, the transport is connecting, writing is disabled or a rate limit is used up; or the connection
 *         has just broken, which the loop then reports
 * @retval -EINVAL @p transport is NULL, or @p data is NULL and @p length is not 0
 * @retval -EPIPE the connection is over or being closed, or its sending half is
 *
 * Since 0.1.
 */
FERRY_EXPORT ssize_t ferry_transport_try_write(struct ferry_transport *transport, const void *data,
                                               size_t length);

/**
 * Queues the bytes of several places, one behind the other, as one ferry_transport_write(): all of them, or nothing.
 *
 * @param transport the transport
 * @param parts the places, as for writev(2); may be NULL when @p count is 0. The bytes are copied
 * @param count the number of places
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL, @p parts is NULL and @p count is not 0, the bytes of a part are NULL and its
 *         length is not 0, or the lengths add up to more than SSIZE_MAX
 * @retval -EPIPE, -ENOBUFS, -ENOMEM as ferry_transport_write()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_writev(struct ferry_transport *transport,
                                        const struct iovec *parts, size_t count);

/**
 * Queues a text of printf(3), without its terminating zero, as ferry_transport_write().
 *
 * @param transport the transport
 * @param format the format, and the arguments behind it
 * @retval 0 done
 * @retval -EINVAL @p transport or @p format is NULL, or @p format is no format of printf(3)
 * @retval -EILSEQ a wide character of the arguments has no multibyte character
 * @retval -EOVERFLOW the text is longer than INT_MAX
 * @retval -EPIPE, -ENOBUFS, -ENOMEM as ferry_transport_write()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_printf(struct ferry_transport *transport, const char *format, ...)
    FERRY_PRINTF(2, 3);

/**
 * Does what ferry_transport_printf() does, with @p format and the arguments in a va_list, @p arguments: for functions
 * that have such arguments themselves.
 *
 * @retval 0 done
 * @retval other as ferry_transport_printf()
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_vprintf(struct ferry_transport *transport, const char *format,
                                         va_list arguments) FERRY_PRINTF(2, 0);

/**
 * Queues all bytes of an evbuffer without copying them, and leaves @p buffer empty.
 *
 * Files that evbuffer_add_file() has put into @p buffer arrive as these files, in their places (docs/files.md). Another
 * thread may add to @p buffer if that has a lock (evbuffer_enable_locking()): its bytes are queued by this call, and
 * count for ferry_transport_set_byte_limit(), or stay.
 *
 * @param transport the transport
 * @param buffer the bytes; the caller still owns the evbuffer
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or @p buffer is the output of @p transport
 * @retval -EPIPE, -ENOBUFS as ferry_transport_write()
 * @retval -ENOMEM out of memory; or the front of @p buffer, or the end of the output, is frozen (evbuffer_freeze()), as
 *         the front of each bufferevent's output is
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_write_buffer(struct ferry_transport *transport,
                                              struct evbuffer *buffer);

/**
 * Queues a descriptor. It travels with the next byte written after this call: it reaches the peer
 * no later than that byte, and never before the bytes already written.
 *
 * The call itself checks that the descriptor is open. It never pauses a push producer, however many
 * descriptors wait for that byte: the byte does.
 *
 * @param transport the transport
 * @param fd the descriptor
 * @param ownership FERRY_FD_TAKE or FERRY_FD_DUP
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL or @p ownership is neither
 * @retval -EBADF @p fd is not open
 * @retval -EOPNOTSUPP the transport's descriptor is not a unix socket
 * @retval -ELOOP @p fd is the transport's own socket: only the kernel's garbage collector could free
 *         a socket that is in flight over itself
 * @retval -ENOBUFS the queue is at its limit; or the descriptors that are pending for the same byte
 *         fill one message (with an unsent file between them, 253 in all, because the file may turn
 *         out to be empty): write a byte first
 * @retval -EPIPE as ferry_transport_write()
 * @retval -EMFILE @p ownership is FERRY_FD_DUP, and no descriptor slot is free
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_send_fd(struct ferry_transport *transport, int fd,
                                         enum ferry_fd_ownership ownership);

/**
 * Permits a sendmsg(2) to carry, with its first byte, the descriptors of its later bytes too. This is
 * faster, but a descriptor may then reach the peer before bytes that were written before it. Off by
 * default.
 *
 * @param transport the transport
 * @param coalescing true to permit it
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_set_fd_coalescing(struct ferry_transport *transport,
                                                   bool coalescing);

/** Where descriptors are delivered among the bytes that arrive. Since 0.1. */
enum ferry_fd_positions {
	/** No later than their byte: the read that brings them may begin with bytes that were sent before. */
	FERRY_FD_EARLY = 0,
	/** Right before their byte, behind all bytes that were sent before. */
	FERRY_FD_EXACT = 1
};

/**
 * Sets where received descriptors are delivered among the bytes. A relay needs FERRY_FD_EXACT, and so does a
 * receiver of a protocol that ties a descriptor to a byte: those of OpenSSH, sd-bus, vhost-user, Python's
 * multiprocessing.
 *
 * With FERRY_FD_EXACT, each read ends before a message that has descriptors. All bytes that were sent before are
 * offered to data_received (or to the bufferevent's read callback), those under the low-water mark too; then
 * file_descriptor_received runs for each descriptor; then data_received for the bytes that begin with their byte. The
 * byte is exact if the sender attaches descriptors to the first byte of a message, as sendmsg(2) does, and ferry
 * with coalescing off. A data_received that leaves bytes in the input has the descriptors behind these bytes.
 *
 * The cost: before each read ferry looks for descriptors by recvmsg(2) with MSG_PEEK, one more system call; one
 * more if there are some. In a stream that brings much at a time one look, which copies nothing, covers all that is
 * in the socket; see docs/decisions/exact-positions.md. The default has no such cost. Without a protocol, the
 * bytes before descriptors are offered in one turn of the loop, and the descriptors in the next.
 *
 * No other process may read from the socket, and its option SO_PEEK_OFF must be unset. On sockets that carry no
 * descriptors, and on pipes, the call has no effect, until ferry_transport_set_socket() brings a unix socket.
 *
 * @param transport the transport
 * @param positions FERRY_FD_EARLY, the default, or FERRY_FD_EXACT
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL or @p positions is neither
 * @retval -ENOTSUP FERRY_FD_EXACT, and this kernel does not show where descriptors are
 * @retval -ENOMEM FERRY_FD_EXACT, and out of memory; nothing has changed
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_set_fd_positions(struct ferry_transport *transport,
                                                  enum ferry_fd_positions positions);

/**
 * Sets the highest number of descriptors in one message, and so of those pending for the same byte.
 *
 * @param transport the transport
 * @param max 1 to 253, the kernel's limit; the default is 64
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL or @p max is out of range
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_set_max_fds_per_message(struct ferry_transport *transport,
                                                         unsigned int max);

/**
 * Sets the bounds of the queue of descriptors.
 *
 * @param transport the transport
 * @param high the number of queued descriptors at which a push producer is paused; it is resumed at
 *        half of that. Descriptors that still have no byte to travel with do not count: the producer
 *        may be the one that has the byte. The default is 64
 * @param limit the number of queued descriptors at which ferry_transport_send_fd() returns -ENOBUFS.
 *        The default is 1024
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL, @p high is 0, or @p limit is less than @p high or more than
 *         1048576
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_set_fd_buffer(struct ferry_transport *transport, size_t high,
                                               size_t limit);

/**
 * Sets a hard limit of queued bytes. Beyond it ferry_transport_write(), ferry_message_stream_send(),
 * ferry_line_stream_send() and their variants queue nothing and return -ENOBUFS. The
 * limit should be above the write high-water mark, which pauses a producer, and not below the longest
 * message or line, which else can never be sent. Files of ferry_transport_send_file() do not count: they
 * take no memory. Those of evbuffer_add_file() count as bytes of their buffer. What bypasses ferry,
 * bufferevent_write() and the evbuffer functions on the output, is not refused.
 *
 * On the channel of a dispatcher or a worker the limit holds for messages with a descriptor: a handoff goes
 * to another worker or waits in the dispatcher's queue, and ferry_worker_return() returns -ENOBUFS. An empty
 * channel takes one of any length. The other messages, of 64 bytes at most, count and are not refused: the
 * other end needs each answer, and there are five at most for a handoff.
 *
 * @param transport the transport
 * @param limit bytes; 0, the default, for none
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_set_byte_limit(struct ferry_transport *transport, size_t limit);

/**
 * Writes queued output without the loop, and waits until all bytes and files are sent or the timeout
 * is over: for the moment before exit, execve(2) or fork(2).
 *
 * "Sent" means that the kernel has taken it. Descriptors that still have no byte to travel with stay
 * queued. Neither rate limits nor disabled writing hold the call up. No callback runs inside it, except
 * the program's own on the output buffer; those that became due (the write callback, `finished`,
 * resume_producing) run from the loop, if that runs again. A file on the disk may make the call wait
 * longer than the timeout.
 *
 * @param transport the transport
 * @param timeout how long to wait; 0 to write only what the kernel takes now; NULL to wait without end
 * @retval 0 all is sent
 * @retval -EINVAL @p transport is NULL, or @p timeout is negative or has a tv_usec of a second or more
 * @retval -ETIMEDOUT the rest is still queued
 * @retval -EAGAIN the next item is a paused file
 * @retval -EBUSY called in a callback on the output buffer, in the middle of a write
 * @retval -ENOTCONN the connection is over, or the attempt to connect failed
 * @retval -EPIPE, -ECONNRESET or another error of the kernel's: the connection is broken, which the
 *         loop then reports
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_flush(struct ferry_transport *transport,
                                       const struct timeval *timeout);

/**
 * Puts the transport into a rate limit group, or takes it out. Use this in place of
 * bufferevent_add_to_rate_limit_group(), which cannot count the bytes that ferry sends and receives.
 * bufferevent_set_rate_limit() has no such problem.
 *
 * @param transport the transport
 * @param group the group, which must outlive the membership; NULL to leave
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_set_rate_limit_group(struct ferry_transport *transport,
                                                      struct bufferevent_rate_limit_group *group);

/**
 * Pauses reading: neither data_received nor a callback for descriptors runs until
 * ferry_transport_resume_reading(), and nothing is read, also if the program enables EV_READ meanwhile. Without a
 * protocol the bufferevent has no read callback during the pause (bufferevent_getcb()): not even one that libevent
 * has deferred runs. With a protocol a pause costs no system call, unless something arrives meanwhile; no read
 * timeout runs. If a write finds meanwhile that the peer is gone, what it had sent waits too: the producer is
 * stopped, and connection_lost comes when the owner has resumed and got all of it; or at once, if there is
 * nothing.
 *
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL
 * @retval -ENOTCONN the connection is over
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_pause_reading(struct ferry_transport *transport);

/**
 * Resumes reading after ferry_transport_pause_reading(); does nothing if reading is not paused. Undelivered
 * descriptors are delivered, and bytes that were left in the input are offered again, from the loop.
 *
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL
 * @retval -ENOTCONN the connection is over
 * @retval -ENOMEM out of memory; reading stays paused
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_resume_reading(struct ferry_transport *transport);

/**
 * Sends all queued output, then ends the connection: connection_lost runs with 0. Nothing is delivered
 * any more. If a producer is registered, the close waits until it unregisters. Descriptors that still
 * have no byte to travel with are closed and counted, and the reason is -ENODATA.
 *
 * What the peer still sends is read and dropped: two ends that close with full queues do not wait for
 * each other. If a TCP socket were closed while the peer sends, the kernel would reset the connection,
 * and the peer would lose what it has not read. The transport therefore half-closes once all is sent,
 * and waits until the peer has acknowledged everything and ended its half; or until the deadline of
 * ferry_transport_set_linger_timeout(); or until the peer has sent 64 MiB more, which ends the
 * connection with -ECONNABORTED. At the deadline the reason is 0 if the peer has acknowledged
 * everything and nothing of it is unread, and else -ETIMEDOUT. After a reset the reason is
 * -ECONNRESET or -EPIPE. On unix sockets and pipes there is no reset to wait for.
 *
 * Without a protocol no callback runs; the socket is shut down at the end.
 *
 * @param transport the transport
 * @retval 0 done, also while it is closing already
 * @retval -EINVAL @p transport is NULL
 * @retval -ENOTCONN the connection is over
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_lose_connection(struct ferry_transport *transport);

/**
 * Sets the time for which a closing TCP connection waits, after the last byte was acknowledged, for the
 * peer to end too; 2 seconds at first. See ferry_transport_lose_connection(). Applies from now on to a
 * connection that waits already.
 *
 * @param transport the transport
 * @param timeout the time; 0: does not wait at all, and the reason is 0 once the kernel has taken
 *        everything; NULL: waits for as long as the peer does not end
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL, or @p timeout is negative
 * @retval -ENOMEM out of memory; nothing has changed. 0 and 2 seconds need none
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_set_linger_timeout(struct ferry_transport *transport,
                                                    const struct timeval *timeout);

/**
 * Sets the time that closing may take in all: from ferry_transport_lose_connection(), or from the peer's
 * end if the protocol has no read_connection_lost, to connection_lost. After it the rest is dropped,
 * and the reason is -ETIMEDOUT. There is none at first. It bounds what neither the kernel nor a
 * write timeout reports: a queued file whose source is silent, a producer that does not unregister.
 * Applies from now on to a connection that closes already.
 *
 * @param transport the transport
 * @param timeout the time, or NULL for none
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL, or @p timeout is negative
 * @retval -ENOMEM out of memory; nothing has changed. NULL needs none
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_set_close_timeout(struct ferry_transport *transport,
                                                   const struct timeval *timeout);

/**
 * Sends all queued output, then ends the sending half: shutdown(2) with SHUT_WR, or on pipes the
 * close of the write end. Reading goes on until the peer has ended its half too; then
 * connection_lost runs. If a producer is registered, the sending half ends after it unregisters.
 * Descriptors that have no byte to travel with are handled as by ferry_transport_lose_connection().
 *
 * @param transport the transport
 * @retval 0 done, also when called again
 * @retval -EINVAL @p transport is NULL
 * @retval -ENOTCONN the connection is over
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_lose_write_connection(struct ferry_transport *transport);

/**
 * Ends the connection now and drops all queued output; on TCP with a reset. connection_lost
 * follows from the loop, with -ECONNABORTED. Files in the stream finish with -ECONNABORTED.
 *
 * @param transport the transport
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL
 * @retval -ENOTCONN the connection is over
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_abort_connection(struct ferry_transport *transport);

/**
 * Returns whether the peer has closed its end of the connection, and not only shut down its sending half: it will
 * read nothing any more. Of use in read_connection_lost, for a relay that passes the close on
 * (ferry_transport_lose_connection()) where it would pass on a half-close
 * (ferry_transport_lose_write_connection()); and at any time later. In and after connection_lost: whether it had
 * closed when the connection ended.
 *
 * The kernel shows it on unix sockets (POLLHUP), and on two pipes once both are closed. On TCP it shows a reset, while
 * a close looks like a half-close. After this side has shut down its own sending half, it shows only a peer that has
 * closed with unread bytes.
 *
 * @param transport the transport; false for NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT bool ferry_transport_peer_has_closed(const struct ferry_transport *transport);

/** TLS in the kernel: see ferry_transport_get_tls(). Since 0.1. */
struct ferry_transport_tls {
	uint16_t version; /**< 0x0303 for TLS 1.2, 0x0304 for TLS 1.3 */
	uint16_t cipher;  /**< TLS_CIPHER_AES_GCM_128 and its like, of linux/tls.h */

	uint32_t reserved[5]; /**< zero, for later versions */
};

/**
 * Returns whether the kernel encrypts and decrypts this connection (kTLS), and how. ferry asks the kernel when the
 * transport is made and in ferry_transport_set_socket(): keys that a TLS library gives to the kernel later are noticed
 * by ferry_transport_set_socket() with the same descriptor. Both directions must have keys by then.
 *
 * Such a transport is like any other, and its files leave by sendfile(2) (docs/tls.md). Records that are no data never
 * reach the input. close_notify is the end of the peer's half, and is sent by ferry_transport_lose_connection() and
 * ferry_transport_lose_write_connection(). The connection is reset after ferry_transport_abort_connection(), when the
 * last copy of its descriptor is closed.
 *
 * @param transport the transport
 * @param[out] tls version and cipher
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 * @retval -EOPNOTSUPP the kernel has no keys for this connection
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_get_tls(const struct ferry_transport *transport,
                                         struct ferry_transport_tls *tls);

/**
 * Sets what the end of a TLS connection without close_notify is: an error, because anybody on the way can cut a
 * connection off, or a clean end. The latter is right for a protocol whose messages have their length or their end in
 * themselves, and whose peers often leave close_notify out. At first it is an error, -EPROTO. Without TLS in the kernel
 * the call has no effect, until ferry_transport_set_socket() brings it.
 *
 * @param transport the transport
 * @param accept true: a clean end
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL
 * @retval -ENOMEM out of memory; nothing has changed
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_set_tls_truncation(struct ferry_transport *transport, bool accept);

/**
 * Copies the transport's counters to @p stats.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_get_stats(const struct ferry_transport *transport,
                                           struct ferry_transport_stats *stats);

/**
 * Writes the address of the other end of a transport's connection, as ferry_address_format() of ferry/address.h:
 *
 * @code
 * char text[FERRY_ADDRESS_TEXT_SIZE];
 * printf("%s connected\n", ferry_transport_format_peer(transport, text, sizeof(text)));
 * @endcode
 *
 * The kernel is asked now: once a TCP connection has been reset or its end was read on both sides, it has no address
 * any more. A program that logs the address in connection_lost takes it in connection_made. A client of a unix socket
 * has no name as a rule, and is "unix:"; ferry_transport_get_peer_credentials() finds its process.
 *
 * @param transport the transport
 * @param[out] text the text with its zero; cut if it does not fit. "unknown": the transport is NULL or on pipes, or its
 *        socket is closed or not connected. NULL: nothing is written
 * @param size bytes at @p text, FERRY_ADDRESS_TEXT_SIZE for any address; 0: nothing is written
 * @return @p text
 *
 * Since 0.1.
 */
FERRY_EXPORT const char *ferry_transport_format_peer(const struct ferry_transport *transport,
                                                     char *text, size_t size);

/**
 * Asks the kernel for the process at the other end of the connection (SO_PEERCRED). It needs no preparation: the
 * listener need not have asked for users or groups, and the transport may be of ferry_transport_new().
 *
 * On an accepted socket this is the process that called connect(2); on a connected one, the process that called
 * listen(2), or that gave the listening socket its latest backlog; on one of socketpair(2), the process that called
 * that. A child of fork(2), or a process that the socket was sent to, may be the one that writes.
 *
 * @param transport the transport, on a unix socket
 * @param[out] credentials the process
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 * @retval -EOPNOTSUPP the transport is not on a unix socket
 * @retval -ENOTCONN the socket has never been connected
 * @retval -EBADF the socket has been closed behind the transport's back
 * @retval other the error of getsockopt(2)
 *
 * May be called in callbacks, also in connection_lost. Since 0.1.
 */
FERRY_EXPORT int ferry_transport_get_peer_credentials(struct ferry_transport *transport,
                                                      struct ferry_peer_credentials *credentials);

/**
 * Asks the kernel for the supplementary groups of that process (SO_PEERGROUPS).
 *
 * @param transport the transport, on a unix socket
 * @param[out] groups room for the groups; may be NULL if @p count is 0
 * @param[in,out] count the room in @p groups, in groups; becomes the number of groups
 * @retval 0 done
 * @retval -EINVAL @p transport or @p count is NULL, or @p groups is NULL and @p count is not 0
 * @retval -ERANGE there are more groups: @p count is how many
 * @retval -EOPNOTSUPP, -ENOTCONN, -EBADF as ferry_transport_get_peer_credentials()
 * @retval -ENOPROTOOPT the kernel is older than Linux 4.13
 * @retval other the error of getsockopt(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_get_peer_groups(struct ferry_transport *transport, gid_t *groups,
                                                 size_t *count);

/**
 * Asks the kernel for a descriptor of that process (SO_PEERPIDFD), which stays with the process when it ends: unlike
 * its number, it cannot become another one's. It is readable when the process has ended.
 *
 * @param transport the transport, on a unix socket
 * @return the descriptor, close-on-exec, which the caller owns
 * @retval -EINVAL @p transport is NULL
 * @retval -EOPNOTSUPP, -ENOTCONN, -EBADF as ferry_transport_get_peer_credentials()
 * @retval -ENOPROTOOPT the kernel is older than Linux 6.5
 * @retval -ESRCH the process has ended, and the kernel is older than Linux 6.16
 * @retval -EMFILE the descriptor limit is reached
 * @retval other the error of getsockopt(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_get_peer_pidfd(struct ferry_transport *transport);

/**
 * Puts a file, or a range of one, into the stream.
 *
 * @param[out] out the file, to pause, resume or stop it; may be NULL
 * @param transport the transport, on any kind of socket or on pipes
 * @param fd the file, open for reading; anything but a directory. A socket with TLS in the kernel ends with
 *        close_notify, or with the errors that a transport on it ends with (ferry_transport_get_tls()). It may be
 *        blocking or not; ferry does not change its O_NONBLOCK. Nothing else should read from a pipe, socket or
 *        terminal meanwhile
 * @param ownership FERRY_FD_TAKE: ferry closes @p fd when the file is finished; FERRY_FD_DUP: ferry uses a
 *        duplicate, which shares the position. On failure the caller still owns @p fd
 * @param offset the first byte, 0 or more, which leaves the file's own position alone; or
 *        FERRY_FILE_POSITION. 0 for a file without a position
 * @param length bytes to send, or FERRY_TO_END. If the file has fewer, `finished` gets -EIO and the number of
 *        bytes that were sent
 * @param flags 0, or FERRY_FILE_COPY and FERRY_FILE_REGULAR, or one of them
 * @param callbacks the callbacks, or NULL; must outlive the file's sending
 * @param context the last argument of each callback
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL, @p ownership is neither, @p flags has unknown bits, @p offset or
 *         @p length is negative, or their sum overflows; FERRY_FILE_REGULAR with FERRY_FILE_POSITION or
 *         FERRY_TO_END
 * @retval -EBADF @p fd is not open, or not for reading; with FERRY_FILE_REGULAR: it is negative
 * @retval -EISDIR @p fd is a directory; with FERRY_FILE_REGULAR `finished` gets this
 * @retval -ESPIPE @p offset is more than 0 and the file has no position; with FERRY_FILE_REGULAR `finished` gets this
 * @retval -EPROTOTYPE @p fd is a socket for which the kernel has the keys of TLS for one direction only
 * @retval -EPIPE the connection is over or closing, or its sending half is
 * @retval -EMFILE FERRY_FD_DUP, and no descriptor slot is free
 * @retval -ENOMEM out of memory
 * @retval other the error of fstat(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_send_file(struct ferry_file_producer **out,
                                           struct ferry_transport *transport, int fd,
                                           enum ferry_fd_ownership ownership, int64_t offset,
                                           int64_t length, unsigned int flags,
                                           const struct ferry_file_callbacks *callbacks,
                                           void *context);

/**
 * Registers the transport's producer.
 *
 * A push producer is paused when more bytes are queued than the write high-water mark
 * (bufferevent_setwatermark() with EV_WRITE; a high of 0 means 64 KiB), or as many descriptors as the mark of
 * ferry_transport_set_fd_buffer(), those without a byte to travel with not counted. It is resumed when both are at or
 * under their low marks: EV_WRITE's low, and half of the descriptors' high. Each change runs one callback. If a mark is
 * crossed already, the producer is paused inside this call.
 *
 * A pull producer is resumed from the loop each time nothing is queued, and again only after it has written.
 *
 * @param transport the transport
 * @param callbacks the producer; must outlive the registration
 * @param context the last argument of each callback
 * @param mode FERRY_PRODUCER_PUSH or FERRY_PRODUCER_PULL
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, a required callback is missing, or @p mode is neither
 * @retval -EBUSY a producer is registered
 * @retval -EPIPE the connection is over or being closed, or its sending half is
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_register_producer(struct ferry_transport *transport,
                                                   const struct ferry_producer_callbacks *callbacks,
                                                   void *context, enum ferry_producer_mode mode);

/**
 * Unregisters the producer; none of its callbacks runs any more. A close that waits for it goes on.
 *
 * @param transport the transport
 * @retval 0 done
 * @retval -EINVAL @p transport is NULL
 * @retval -ENOENT no producer is registered
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_transport_unregister_producer(struct ferry_transport *transport);

FERRY_END_DECLS

#endif
