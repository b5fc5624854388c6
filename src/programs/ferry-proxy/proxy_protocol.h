#ifndef FERRY_PROGRAMS_FERRY_PROXY_PROXY_PROTOCOL_H
#define FERRY_PROGRAMS_FERRY_PROXY_PROXY_PROTOCOL_H

/* The PROXY protocol, versions 1 (text) and 2 (binary). A load balancer writes it in front of a
 * connection to pass the client's address on:
 * https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt. Only for listeners that nobody but the
 * balancer can reach: a peer that can connect can claim any address.
 *
 *     struct proxy_protocol header;
 *     int result = proxy_protocol_parse(bytes, length, &header);
 *     if (result == PROXY_PROTOCOL_MORE) wait, and parse again with more bytes behind the same ones;
 *     if (result < 0) close the connection, because of header.error;
 *     else the header is the first `result` bytes, which the caller takes off
 *
 * The parser refuses bytes at the first one that cannot be part of a header, and a length that is out of
 * bounds as soon as it has arrived. It checks the lengths of the TLVs of version 2 and skips them,
 * except for the checksum (PP2_TYPE_CRC32C), which has to be right if there is one. */

#include "programs/shared/socket_address.h"

#include <stdbool.h>
#include <stddef.h>

enum {
	PROXY_PROTOCOL_MORE = 0,
	PROXY_PROTOCOL_V1_MAX = 107,  /* bytes, the CRLF included */
	PROXY_PROTOCOL_V2_MAX = 4096, /* our bound: the format allows 65551 */
	PROXY_PROTOCOL_MAX = PROXY_PROTOCOL_V2_MAX
};

enum proxy_protocol_kind {
	PROXY_PROTOCOL_PROXIED, /* source and destination are those of the client's connection */
	PROXY_PROTOCOL_LOCAL,   /* the balancer's own connection, a health check */
	PROXY_PROTOCOL_UNKNOWN /* the balancer does not give the addresses, or the client's connection is not
	                           a stream: use the addresses of the socket */
};

struct proxy_protocol {
	enum proxy_protocol_kind kind;
	unsigned int version;
	bool has_checksum;
	struct socket_address source; /* of length 0 unless PROXIED */
	struct socket_address destination;
	const char *error; /* static text, if it was refused */
};

/* PROXY_PROTOCOL_MORE, the header's length in bytes, or -EPROTO: the bytes are no header, or a malformed
 * one. */
int proxy_protocol_parse(const void *bytes, size_t length, struct proxy_protocol *header);

#endif
