#ifndef FERRY_ADDRESS_H
#define FERRY_ADDRESS_H

/**
 * @file address.h
 * @brief Addresses of sockets as users write them and as logs show them: IPv4, IPv6 and unix.
 *
 *     127.0.0.1:8080    [::1]:8080    unix:/run/www.sock    unix:@name    (Linux's abstract names)
 *
 * Hosts are numbers: a look-up of a name may give several addresses, and another one tomorrow. Every text of
 * ferry_address_format() but "unix:" and "unknown" is one that ferry_address_parse() reads, unless a path had bytes
 * that were escaped.
 *
 * @code
 * struct ferry_address address;
 * char text[FERRY_ADDRESS_TEXT_SIZE];
 * int fd = ferry_address_parse(&address, "[::1]:0") == 0 ? ferry_address_listen(&address, 0) : -EINVAL;
 * if (fd >= 0 && ferry_address_set_own(&address, fd) == 0)
 *     printf("listening %s\n", ferry_address_format(&address, text, sizeof(text))); // with the port
 * if (fd >= 0)
 *     ferry_listener_new_fd(&listener, base, fd, accepted, context);
 * @endcode
 *
 * An address is plain memory: copy it, keep it, and free nothing.
 *
 * @par Callers
 * In every callback and in every thread. No function calls back.
 */

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "ferry/export.h"

FERRY_BEGIN_DECLS

/** Bytes of the longest text with its zero: "unix:", and a path all of whose bytes are escaped. Since 0.1. */
#define FERRY_ADDRESS_TEXT_SIZE (4 * sizeof(((struct sockaddr_un *)NULL)->sun_path) + 8)

/** An address, for bind(2), connect(2) and the like as `&address.name.any, address.length`. Since 0.1. */
struct ferry_address {
	/** As the kernel has it; all zero without an address. A path that fills `sun_path` has its zero behind it. */
	union {
		struct sockaddr any;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
		struct sockaddr_storage storage;
	} name;
	/** Bytes of it; 0: no address. That of a unix socket without a name is the size of the family alone. */
	socklen_t length;

	uint32_t reserved[3]; /**< zero, for later versions */
};

/**
 * Reads an address. Port 0 stands for a free port, of ferry_address_listen().
 *
 * @param[out] out the address; on failure it stays as it was
 * @param text as above, and nothing else before or behind it
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or @p text is not an address
 * @retval -ENAMETOOLONG the path does not fit into the address of a unix socket, which takes 107 bytes;
 *         ferry/listener.h and ferry/connector.h take longer ones
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_address_parse(struct ferry_address *out, const char *text);

/**
 * Copies an address of accept(2), recvfrom(2) and the like.
 *
 * @param[out] out the address; on failure it stays as it was
 * @param from the address
 * @param length bytes; that of a unix path may contain its terminating zero or not
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or @p length is not one of the address's family
 * @retval -EAFNOSUPPORT the family is neither AF_INET, AF_INET6 nor AF_UNIX
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_address_set(struct ferry_address *out, const struct sockaddr *from,
                                   socklen_t length);

/**
 * Sets the address of the other end of a connection (getpeername(2)).
 *
 * @param fd the socket
 * @retval 0 done
 * @retval -EINVAL @p out is NULL
 * @retval -EAFNOSUPPORT as ferry_address_set()
 * @retval -EBADF, -ENOTSOCK @p fd is not a socket
 * @retval -ENOTCONN it is not connected
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_address_set_peer(struct ferry_address *out, int fd);

/**
 * Sets the address that a socket is bound to (getsockname(2)).
 *
 * @param fd the socket
 * @retval 0 done
 * @retval -EINVAL @p out is NULL
 * @retval -EAFNOSUPPORT as ferry_address_set()
 * @retval -EBADF, -ENOTSOCK @p fd is not a socket
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_address_set_own(struct ferry_address *out, int fd);

/**
 * Writes the text of an address. Bytes of a path that are not printable ASCII, blanks and backslashes are escaped
 * ("\x0a"): the text is safe for a terminal and a line of a log. "unix:" is a socket without a name, "unknown" is no
 * address.
 *
 * @param address the address; NULL: none
 * @param[out] text the text with its zero; cut if it does not fit. NULL: nothing is written
 * @param size bytes at @p text, FERRY_ADDRESS_TEXT_SIZE for any address; 0: nothing is written
 * @return @p text
 *
 * Since 0.1.
 */
FERRY_EXPORT const char *ferry_address_format(const struct ferry_address *address, char *text,
                                              size_t size);

/**
 * Writes the same as ferry_address_format() without the port and its brackets, for logs and keys of a hash.
 *
 * @param address the address
 * @param[out] text room for the text
 * @param size of @p text, in bytes
 * @return @p text
 *
 * Since 0.1.
 */
FERRY_EXPORT const char *ferry_address_format_host(const struct ferry_address *address, char *text,
                                                   size_t size);

/** Returns the path of the socket's file, which is in @p address. NULL: the address is NULL or none, not of a unix
 *  socket, or has an abstract name or none. Since 0.1. */
FERRY_EXPORT const char *ferry_address_get_path(const struct ferry_address *address);

/** Whether only processes of this machine reach it by TCP: 127.0.0.0/8 or ::1. False: @p address is NULL. Since 0.1. */
FERRY_EXPORT bool ferry_address_is_loopback(const struct ferry_address *address);

/** Whether @p a and @p b are the same, with the port and the scope. False: one is NULL. Since 0.1. */
FERRY_EXPORT bool ferry_address_equal(const struct ferry_address *a, const struct ferry_address *b);

/**
 * Makes a socket that listens, for ferry_listener_new_fd(), ferry_socket_set_add() or evconnlistener_new(). It is a
 * stream, non-blocking and close-on-exec. SO_REUSEADDR is set for TCP. A socket of IPv6 takes IPv6 only: "0.0.0.0:80"
 * and "[::]:80" can be listened on at the same time. The file of a unix path has mode 0600 from the first moment, and
 * the caller removes it; ferry_listener_new_unix() also replaces the file of a process that has died.
 *
 * @param address the address
 * @param backlog of listen(2); 0: SOMAXCONN
 * @return the descriptor, which the caller closes
 * @retval -EINVAL @p address is NULL or none, or @p backlog is negative
 * @retval -EADDRINUSE another socket has the address, or the file exists
 * @retval -EADDRNOTAVAIL the machine does not have the address
 * @retval -EACCES the port or the directory is not for this user
 * @retval -ENOENT the directory of the path does not exist
 * @retval -EMFILE, -ENFILE the process or the system is at its descriptor limit
 * @retval other the error of socket(2), setsockopt(2), fchmod(2), bind(2) or listen(2)
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_address_listen(const struct ferry_address *address, int backlog);

FERRY_END_DECLS

#endif
