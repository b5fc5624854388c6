#ifndef FERRY_PROXY_PROTOCOL_HEADER_H
#define FERRY_PROXY_PROTOCOL_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "ferry/proxy_protocol.h"

/*
 * Version 2 on the wire: 12 bytes of signature, a byte of version and command, a byte of family and protocol, two of
 * the length of the rest; the addresses; TLVs of one byte of type, two of length and the value. Numbers are in
 * network order.
 */
enum {
	V2_SIGNATURE = 12,
	V2_FIXED = 16,
	V2_INET = 12,
	V2_INET6 = 36,
	V2_UNIX_PATH = 108,
	V2_UNIX = 2 * V2_UNIX_PATH,
	V2_TLV_HEADER = 3,
	V2_CRC = 4,
	V2_CRC_TLV = V2_TLV_HEADER + V2_CRC,
	V2_REST_MAX = 65535
};

enum { V2_LOCAL = 0x20, V2_PROXY = 0x21 };                      /* version and command */
enum { FAMILY_UNSPEC, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX }; /* the high half of the next byte */
enum { PROTOCOL_UNSPEC, PROTOCOL_STREAM, PROTOCOL_DATAGRAM };   /* its low half */

extern const unsigned char proxy_protocol_signature[V2_SIGNATURE];
extern const char proxy_protocol_v1_start[6]; /* "PROXY ", without a zero */

struct ferry_proxy_protocol {
	enum ferry_proxy_protocol_kind kind;
	unsigned int version;
	int socket_type;
	bool has_checksum;
	socklen_t source_length, destination_length; /* 0 unless PROXIED */
	struct sockaddr_storage source, destination;
	unsigned char *tlvs; /* without that of the checksum */
	size_t tlvs_length;
};

static inline uint16_t proxy_protocol_get_16(const unsigned char *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static inline void proxy_protocol_put_16(unsigned char *bytes, size_t number)
{
	bytes[0] = (unsigned char)(number >> 8);
	bytes[1] = (unsigned char)number;
}

/* Set one address, of which `length` becomes the length. `host` is in network order, the port in host order. The path
 * is without a zero at its end, and at most V2_UNIX_PATH bytes. */
void proxy_protocol_set_inet(struct sockaddr_storage *address, socklen_t *length, int family,
                             const unsigned char *host, uint16_t port);
void proxy_protocol_set_unix(struct sockaddr_storage *address, socklen_t *length,
                             const unsigned char *path, size_t path_length);

/* The path of a unix address of that length, in the same form. */
const unsigned char *proxy_protocol_unix_path(const struct sockaddr *address, socklen_t length,
                                              size_t *path_length);

#endif
