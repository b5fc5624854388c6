#ifndef FERRY_CLIENT_HELLO_H
#define FERRY_CLIENT_HELLO_H

/**
 * @file client_hello.h
 * @brief The first message of a TLS client: the server name and the protocols that it asks for, without any key.
 *
 * A TLS client begins with a ClientHello, which is not encrypted. ferry_client_hello_read() reads it from an evbuffer
 * and leaves the bytes there. A proxy chooses the server by the name, and hands the connection over with these bytes
 * unread: the server does the whole handshake, and only the server has the keys.
 *
 * The server name is the client's claim. The server must check it again: its TLS library does so when it chooses the
 * certificate.
 *
 * @code
 * static void data_received(struct ferry_transport *transport, struct evbuffer *input, void *context)
 * {
 *     struct client *client = context;
 *     struct ferry_client_hello *hello;
 *     struct ferry_client_hello_info info;
 *     const char *error;
 *     int status = ferry_client_hello_read(&hello, input, 0, &error);
 *     if (status == -EAGAIN)
 *         return; // the rest follows
 *     if (status < 0) {
 *         ferry_transport_abort_connection(transport); // because of `error`
 *         return;
 *     }
 *     ferry_client_hello_get_info(hello, &info);
 *     hand_over(client, info.server_name, ferry_client_hello_offers(hello, "h2"));
 *     ferry_client_hello_free(hello);
 * }
 * @endcode
 *
 * @par Callers
 * In every callback. In any thread, an object in one thread at a time. No function calls back.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/export.h"

FERRY_BEGIN_DECLS

struct evbuffer;

/** A ClientHello that was read. Opaque. */
struct ferry_client_hello;

/** Limits. */
enum {
	FERRY_CLIENT_HELLO_LIMIT =
	    16384, /**< bytes, the limit of ferry_client_hello_read() unless another is given */
	FERRY_CLIENT_HELLO_RECORDS_MAX = 64,     /**< records that one ClientHello may be spread over */
	FERRY_CLIENT_HELLO_SERVER_NAME_MAX = 255 /**< bytes of the longest server name */
};

/** The versions of TLS, as struct ferry_client_hello_info has them. Since 0.1. */
enum {
	FERRY_CLIENT_HELLO_TLS_1_0 = 0x0301, /**< TLS 1.0 */
	FERRY_CLIENT_HELLO_TLS_1_1 = 0x0302, /**< TLS 1.1 */
	FERRY_CLIENT_HELLO_TLS_1_2 = 0x0303, /**< TLS 1.2 */
	FERRY_CLIENT_HELLO_TLS_1_3 = 0x0304  /**< TLS 1.3 */
};

/** The contents of a ClientHello; see ferry_client_hello_get_info(). Since 0.1. */
struct ferry_client_hello_info {
	/** The name of the server (SNI), with letters in lower case, terminated. It consists of visible ASCII characters
	 *  alone; nothing else about it has been checked. NULL: the client gives none. */
	const char *server_name;
	/** The highest version that the client offers and that has a name above. 0: it offers none of them. */
	unsigned int version;
	/** The number of application protocols (ALPN) that the client offers. */
	unsigned int protocols;
	/** The client sends a second, encrypted ClientHello (ECH). The server name is then that of the outer one. */
	bool has_ech;
	/** The bytes at the front of the evbuffer that the ClientHello had, with the headers of its records. */
	size_t length;
	uint64_t reserved[4]; /**< for later versions */
};

/** An application protocol, "h2" for example. Since 0.1. */
struct ferry_client_hello_protocol {
	const void *name;     /**< any bytes, not terminated; valid until the object is freed */
	size_t length;        /**< 1 to 255 bytes */
	uint64_t reserved[2]; /**< for later versions */
};

/**
 * Reads the ClientHello at the front of an evbuffer, if all of it is there. All bytes stay in the evbuffer. Call it
 * again with the same evbuffer when more has come; a call for each byte is cheap. Bytes are refused as soon as they
 * cannot be part of a ClientHello, and a length that is too long as soon as it has come.
 *
 * The ClientHello may be spread over several records. Nothing may follow it in its last record. Extensions other than
 * server_name, application_layer_protocol_negotiation, supported_versions and encrypted_client_hello are not looked
 * into. Values that RFC 8701 reserves (GREASE) count as neither version nor protocol.
 *
 * @param[out] out the ClientHello, which the caller frees
 * @param input the bytes of the connection from its start
 * @param limit the bytes of the longest ClientHello that is read, with the headers of its records; 0:
 *        FERRY_CLIENT_HELLO_LIMIT
 * @param[out] error a text without a newline on -EPROTONOSUPPORT, -EPROTO and -EMSGSIZE, valid for ever; NULL
 *        otherwise. May be NULL
 * @retval 0 done
 * @retval -EAGAIN the ClientHello is not complete
 * @retval -EPROTONOSUPPORT the bytes do not begin like TLS: it is another protocol, HTTP without TLS for example, or a
 *         ClientHello of SSL 2.0
 * @retval -EPROTO they begin like TLS, and are malformed
 * @retval -EMSGSIZE the ClientHello is longer than @p limit
 * @retval -EINVAL @p out or @p input is NULL, or the front of @p input is frozen
 * @retval -ENOMEM out of memory
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_client_hello_read(struct ferry_client_hello **out, struct evbuffer *input,
                                         size_t limit, const char **error);

/** Frees a ClientHello. NULL: nothing happens. Since 0.1. */
FERRY_EXPORT void ferry_client_hello_free(struct ferry_client_hello *hello);

/**
 * Copies the contents. The pointers in it are valid until the object is freed.
 *
 * @retval 0 done
 * @retval -EINVAL an argument is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_client_hello_get_info(const struct ferry_client_hello *hello,
                                             struct ferry_client_hello_info *info);

/**
 * Gets one of the application protocols, in the order of the client's preference.
 *
 * @param[out] out the protocol
 * @param hello the ClientHello
 * @param index 0 to protocols - 1 of struct ferry_client_hello_info
 * @retval 0 done
 * @retval -ENOENT @p index is too large
 * @retval -EINVAL @p out or @p hello is NULL
 *
 * Since 0.1.
 */
FERRY_EXPORT int ferry_client_hello_get_protocol(struct ferry_client_hello_protocol *out,
                                                 const struct ferry_client_hello *hello,
                                                 unsigned int index);

/** Whether the client offers an application protocol as @p protocol: "h2", "http/1.1". False also if an argument is
 *  NULL. Since 0.1. */
FERRY_EXPORT bool ferry_client_hello_offers(const struct ferry_client_hello *hello,
                                            const char *protocol);

FERRY_END_DECLS

#endif
