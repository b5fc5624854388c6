#ifndef FERRY_PROGRAMS_FERRY_PROXY_PROXY_PROTOCOL_H
#define FERRY_PROGRAMS_FERRY_PROXY_PROXY_PROTOCOL_H

/* The PROXY protocol, versions 1 (text) and 2 (binary), as a load balancer puts it in front of a
 * connection to say whose it is: https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt. Only for
 * listeners that nobody but the balancer reaches: who can connect can say whatever he likes.
 *
 *     struct proxy_protocol header;
 *     int result = proxy_protocol_parse(bytes, length, &header);
 *     if (result == PROXY_PROTOCOL_MORE) come again with more bytes behind the same ones;
 *     if (result < 0) close the connection, because of header.error;
 *     else the header is the first `result` bytes, which are to be taken off
 *
 * What starts like no header is refused at its first byte that does, a length that is out of bounds as
 * soon as it is there. The TLVs of version 2 are checked for their lengths and skipped, but for the
 * checksum (PP2_TYPE_CRC32C), which has to be right if it is there. */

#include "programs/shared/socket_address.h"

#include <stdbool.h>
#include <stddef.h>

enum {
	PROXY_PROTOCOL_MORE = 0,
	PROXY_PROTOCOL_V1_MAX = 107,  /* bytes, the CRLF included */
	PROXY_PROTOCOL_V2_MAX = 4096, /* ours: the format would allow 65551 */
	PROXY_PROTOCOL_MAX = PROXY_PROTOCOL_V2_MAX
};

enum proxy_protocol_kind {
	PROXY_PROTOCOL_PROXIED, /* source and destination are the client's connection's */
	PROXY_PROTOCOL_LOCAL,   /* the balancer's own connection, a health check */
	PROXY_PROTOCOL_UNKNOWN /* a connection of which the balancer does not tell the addresses, or one
	                           that is no stream: the socket's own addresses are all there is */
};

struct proxy_protocol {
	enum proxy_protocol_kind kind;
	unsigned int version;
	bool has_checksum;
	struct socket_address source; /* of length 0 unless PROXIED */
	struct socket_address destination;
	const char *error; /* static text, when it was refused */
};

/* PROXY_PROTOCOL_MORE, the header's length in bytes, or -EPROTO: there is none, or it is malformed. */
int proxy_protocol_parse(const void *bytes, size_t length, struct proxy_protocol *header);

#endif
