#ifndef FERRY_PROXY_PROTOCOL_H
#define FERRY_PROXY_PROTOCOL_H

/**
 * @file proxy_protocol.h
 * @brief The PROXY protocol: the client's address in front of a connection that a load balancer makes.
 *
 * A load balancer writes a header in front of the client's bytes: a line of text (version 1), or a binary block
 * (version 2), which may have further values (TLVs) and a checksum. ferry_proxy_protocol_read() takes the header off
 * an evbuffer once all of it has come; ferry_proxy_protocol_write() writes one.
 * https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt is the specification.
 *
 * A peer that can connect can claim any address. Read headers only on a listener that is for balancers, and only from
 * their addresses (ferry_proxy_protocol_sources_contain()). A listener for both does not work: a client could send a
 * header of its own.
 *
 * @code
 * static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
 * {
 *     struct client *client = context;
 *     struct ferry_proxy_protocol *header;
 *     const char *error;
 *     int status = client->expects_header ? ferry_proxy_protocol_read(&header, input, 0, &error) : -EALREADY;
 *     if (status == -EAGAIN)
 *         return; // the rest follows
 *     if (status == 0) {
 *         remember_addresses(client, header); // ferry_proxy_protocol_get_info()
 *         ferry_proxy_protocol_free(header);
 *         client->expects_header = false;
 *     } else if (status != -EALREADY) {
 *         ferry_transport_abort_connection(transport); // because of `error`
 *         return;
 *     }
 *     serve(client, input);
 * }
 * @endcode
 *
 * @par Callers
 * In every callback. In any thread, an object in one thread at a time. No function calls back.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "ferry/export.h"

FERRY_BEGIN_DECLS

struct evbuffer;

/** A header that was read, or one to write. Opaque. */
struct ferry_proxy_protocol;

/** Addresses whose headers are trusted. Opaque. */
struct ferry_proxy_protocol_sources;

/** Limits of the format. */
enum {
	FERRY_PROXY_PROTOCOL_V1_MAX = 107,   /**< bytes of the longest header of version 1 */
	FERRY_PROXY_PROTOCOL_V2_MAX = 65551, /**< bytes of the longest header of version 2 */
	FERRY_PROXY_PROTOCOL_LIMIT =
	    4096 /**< the limit of ferry_proxy_protocol_read() unless another is given */
};

/** The meaning of a header. Since 0.1. */
enum ferry_proxy_protocol_kind {
	/** The sender does not give the addresses: use those of the socket. */
	FERRY_PROXY_PROTOCOL_UNKNOWN = 0,
	/** The connection is that of a client, whose addresses are in the header. */
	FERRY_PROXY_PROTOCOL_PROXIED = 1,
	/** The connection is the sender's own, for example a health check: use the addresses of the socket. */
	FERRY_PROXY_PROTOCOL_LOCAL = 2
};

/** The types of TLVs in the specification. Applications may use 0xe0 to 0xef. Since 0.1. */
enum {
	FERRY_PROXY_PROTOCOL_TLV_ALPN = 0x01,      /**< the application protocol of the client's TLS */
	FERRY_PROXY_PROTOCOL_TLV_AUTHORITY = 0x02, /**< the host name that the client asked for */
	FERRY_PROXY_PROTOCOL_TLV_CRC32C =
	    0x03,                             /**< the checksum, which ferry checks and writes itself */
	FERRY_PROXY_PROTOCOL_TLV_NOOP = 0x04, /**< padding */
	FERRY_PROXY_PROTOCOL_TLV_UNIQUE_ID = 0x05, /**< up to 128 bytes that identify the connection */
	FERRY_PROXY_PROTOCOL_TLV_SSL = 0x20, /**< the client's TLS: ferry_proxy_protocol_get_ssl() */
	FERRY_PROXY_PROTOCOL_TLV_SSL_VERSION = 0x21, /**< in a TLV_SSL: "TLSv1.3" */
	FERRY_PROXY_PROTOCOL_TLV_SSL_CN =
	    0x22, /**< in a TLV_SSL: the common name of the client's certificate */
	FERRY_PROXY_PROTOCOL_TLV_SSL_CIPHER = 0x23, /**< in a TLV_SSL: the cipher's name */
	FERRY_PROXY_PROTOCOL_TLV_SSL_SIG_ALG =
	    0x24, /**< in a TLV_SSL: the signature algorithm of the certificate */
	FERRY_PROXY_PROTOCOL_TLV_SSL_KEY_ALG =
	    0x25,                             /**< in a TLV_SSL: the key algorithm of the certificate */
	FERRY_PROXY_PROTOCOL_TLV_NETNS = 0x30 /**< the name of the network namespace */
};

/** The bits of the client in struct ferry_proxy_protocol_ssl. Since 0.1. */
enum {
	FERRY_PROXY_PROTOCOL_CLIENT_SSL = 1,       /**< the client connected over TLS */
	FERRY_PROXY_PROTOCOL_CLIENT_CERT_CONN = 2, /**< it gave a certificate over this connection */
	FERRY_PROXY_PROTOCOL_CLIENT_CERT_SESS = 4  /**< it gave one at least once in the TLS session */
};

/** The contents of a header; see ferry_proxy_protocol_get_info(). Since 0.1. */
struct ferry_proxy_protocol_info {
	enum ferry_proxy_protocol_kind kind; /**< the meaning */
	unsigned int version;                /**< of a header that was read: 1 or 2; else 0 */
	int socket_type; /**< SOCK_STREAM, or SOCK_DGRAM: the client's connection; 0 unless PROXIED */
	bool
	    has_checksum; /**< it was read with a checksum, which is right; or will be written with one */
	/** The client's address, as getpeername(2) returns one: IPv4, IPv6 or unix. NULL unless PROXIED. */
	const struct sockaddr *source;
	/** The address that the client connected to, of the same family. NULL unless PROXIED. */
	const struct sockaddr *destination;
	socklen_t source_length;      /**< bytes; 0 unless PROXIED */
	socklen_t destination_length; /**< bytes; 0 unless PROXIED */
	const void *tlvs;             /**< for ferry_proxy_protocol_tlv_next(); without the checksum */
	size_t tlvs_length;           /**< bytes */
	uint64_t reserved[4];         /**< for later versions */
};

/** One TLV. Since 0.1. */
struct ferry_proxy_protocol_tlv {
	unsigned int type;    /**< 0 to 255 */
	const void *value;    /**< in the bytes that were passed; not terminated */
	size_t length;        /**< bytes of the value */
	uint64_t reserved[2]; /**< for later versions */
};

/** The value of a FERRY_PROXY_PROTOCOL_TLV_SSL. Since 0.1. */
struct ferry_proxy_protocol_ssl {
	unsigned int client;  /**< bits: FERRY_PROXY_PROTOCOL_CLIENT_SSL and so on */
	uint32_t verify;      /**< 0: the client gave a certificate, and it was verified */
	const void *tlvs;     /**< the inner TLVs, for ferry_proxy_protocol_tlv_next() */
	size_t tlvs_length;   /**< bytes */
	uint64_t reserved[2]; /**< for later versions */
};

/**
 * Takes a header off the front of an evbuffer, if all of it is there. The bytes behind it stay. Call it again with the
 * same evbuffer when more has come; a call for each byte is cheap. Bytes are refused at the first one that cannot be
 * part of a header, and a length that is too long as soon as it has come.
 *
 * @param[out] out the header, which the caller frees
 * @param input the bytes of the connection from its start; on failure they stay as they are
 * @param limit the bytes of the longest header of version 2 that is read: 16 and more; 0: FERRY_PROXY_PROTOCOL_LIMIT
 * @param[out] error a text without a newline on -EPROTO and -EMSGSIZE, valid for ever; NULL otherwise. May be NULL
 * @retval 0 done
 * @retval -EAGAIN the header is not complete
 * @retval -EPROTO no header, or a malformed one, or its checksum is wrong: close the connection
 * @retval -EMSGSIZE the header is longer than @p limit: close the connection
 * @retval -EINVAL @p out or @p input is NULL
 * @retval -EPERM bytes are there, and the front of @p input is frozen (evbuffer_freeze()): nobody may take them off
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_proxy_protocol_read(struct ferry_proxy_protocol **out,
                                           struct evbuffer *input, size_t limit,
                                           const char **error);

/**
 * Makes a header to write, of kind UNKNOWN and without TLVs.
 *
 * @retval 0 done
 * @retval -EINVAL @p out is NULL
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_proxy_protocol_new(struct ferry_proxy_protocol **out);

/** Frees a header. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_proxy_protocol_free(struct ferry_proxy_protocol *header);

/**
 * Copies the contents. The pointers in it are valid until the header changes or is freed.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_proxy_protocol_get_info(const struct ferry_proxy_protocol *header,
                                               struct ferry_proxy_protocol_info *info);

/**
 * Finds the next TLV in the TLVs of a header or of a TLV_SSL.
 *
 * @param[out] out the TLV, which points into @p tlvs
 * @param tlvs the TLVs, of struct ferry_proxy_protocol_info or struct ferry_proxy_protocol_ssl
 * @param length their length in bytes
 * @param position the offset of the TLV, 0 at first; moved behind it
 * @retval 0 done
 * @retval -ENOENT no TLV follows
 * @retval -EPROTO the next TLV is longer than what is left; those of a header that was read never are
 * @retval -EINVAL @p out or @p position is NULL, or @p tlvs is and @p length is not 0
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_proxy_protocol_tlv_next(struct ferry_proxy_protocol_tlv *out,
                                               const void *tlvs, size_t length, size_t *position);

/**
 * Finds the first TLV of a type.
 *
 * @param header the header
 * @param type FERRY_PROXY_PROTOCOL_TLV_ALPN and its like, 0 to 255
 * @retval 0 done
 * @retval -ENOENT there is none
 * @retval -EINVAL @p out or @p header is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_proxy_protocol_find_tlv(struct ferry_proxy_protocol_tlv *out,
                                               const struct ferry_proxy_protocol *header,
                                               unsigned int type);

/**
 * Takes the first TLV_SSL apart.
 *
 * @param header the header
 * @retval 0 done
 * @retval -ENOENT there is none
 * @retval -EPROTO it is shorter than its fixed part
 * @retval -EINVAL @p out or @p header is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_proxy_protocol_get_ssl(struct ferry_proxy_protocol_ssl *out,
                                              const struct ferry_proxy_protocol *header);

/**
 * Sets the addresses of the client's connection; the kind is PROXIED then. If one of the addresses is IPv4 and the
 * other IPv6, or both are IPv4 in IPv6 (IPv4-mapped, RFC 4291), they are converted to one family.
 *
 * @param header the header
 * @param socket_type of the client's connection: SOCK_STREAM, or SOCK_DGRAM
 * @param source the client's address, of getpeername(2) for example; copied. The scope of an IPv6 address is not
 *        part of the format
 * @param source_length bytes
 * @param destination the address that the client connected to, of getsockname(2) for example; copied
 * @param destination_length bytes
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, @p socket_type is another one, or a length is not one of the address's family
 * @retval -EAFNOSUPPORT a family is neither AF_INET, AF_INET6 nor AF_UNIX, or one address is AF_UNIX and the other not
 *
 * On failure the header stays as it was. Since 0.1.
 */
FERRY_EXPORT int ferry_proxy_protocol_set_addresses(struct ferry_proxy_protocol *header,
                                                    int socket_type, const struct sockaddr *source,
                                                    socklen_t source_length,
                                                    const struct sockaddr *destination,
                                                    socklen_t destination_length);

/**
 * Makes the header one of the sender's own connection, without addresses: LOCAL in version 2, and "PROXY UNKNOWN"
 * in version 1, which has nothing else for it.
 *
 * @retval 0 done
 * @retval -EINVAL @p header is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_proxy_protocol_set_local(struct ferry_proxy_protocol *header);

/**
 * Adds a TLV behind those that are there.
 *
 * @param header the header; one that was read, too, to pass it on
 * @param type 0 to 255, but not FERRY_PROXY_PROTOCOL_TLV_CRC32C
 * @param value copied; may be NULL if @p length is 0
 * @param length bytes
 * @retval 0 done
 * @retval -EINVAL @p header is NULL, @p value is NULL and @p length is not 0, or @p type is another one
 * @retval -EMSGSIZE the header would be longer than FERRY_PROXY_PROTOCOL_V2_MAX, with addresses of the longest family
 *         and a checksum
 * @retval -ENOMEM out of memory
 *
 * On failure the header stays as it was. Since 0.1.
 */
FERRY_EXPORT int ferry_proxy_protocol_add_tlv(struct ferry_proxy_protocol *header,
                                              unsigned int type, const void *value, size_t length);

/**
 * Sets whether the header is written with a checksum; one that was read with a checksum is at first.
 *
 * @param checksum whether there is one
 * @retval 0 done
 * @retval -EINVAL @p header is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_proxy_protocol_set_checksum(struct ferry_proxy_protocol *header,
                                                   bool checksum);

/**
 * Appends a header to an evbuffer: the output of a connection, before anything else is written to it. Version 1 has
 * only addresses of TCP; for others, the header is "PROXY UNKNOWN".
 *
 * @param header the header, which stays the caller's
 * @param version 1 or 2
 * @param output the evbuffer; on failure it stays as it was
 * @retval 0 done
 * @retval -EINVAL an argument is NULL, or @p version is another one
 * @retval -EOPNOTSUPP the header has TLVs or a checksum, and @p version is 1
 * @retval -EMSGSIZE the header was read with so many TLVs that the addresses set since then do not fit
 * @retval -ENOMEM out of memory, or @p output is frozen
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_proxy_protocol_write(const struct ferry_proxy_protocol *header,
                                            unsigned int version, struct evbuffer *output);

/**
 * Makes an empty list.
 *
 * @retval 0 done
 * @retval -EINVAL @p out is NULL
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_proxy_protocol_sources_new(struct ferry_proxy_protocol_sources **out);

/** Frees a list. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_proxy_protocol_sources_free(struct ferry_proxy_protocol_sources *sources);

/**
 * Adds addresses to a list.
 *
 * @param sources the list
 * @param text an address or a prefix: "192.0.2.1", "192.0.2.0/24", "2001:db8::/32"; or "unix": each peer on a unix
 *        socket. Prefixes of IPv4-mapped addresses are those of IPv4
 * @retval 0 done
 * @retval -EINVAL @p sources or @p text is NULL, or @p text is none of these, or has bits behind its prefix
 * @retval -ENOMEM out of memory
 *
 * On failure the list stays as it was. Since 0.1.
 */
FERRY_EXPORT int ferry_proxy_protocol_sources_add(struct ferry_proxy_protocol_sources *sources,
                                                  const char *text);

/** Whether @p address of @p length bytes, that of accept(2) or getpeername(2), is in the list. The port does not count.
 *  An IPv4 address in an IPv6 one (IPv4-mapped, RFC 4291), which a listener for both has, counts as IPv4. False: an
 *  argument is NULL, or the address is too short, or of another family. Since 0.1. */
FERRY_EXPORT bool
ferry_proxy_protocol_sources_contain(const struct ferry_proxy_protocol_sources *sources,
                                     const struct sockaddr *address, socklen_t length);

FERRY_END_DECLS

#endif
