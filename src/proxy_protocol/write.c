/* Writing a header. */

#include "proxy_protocol/crc32c.h"
#include "proxy_protocol/header.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <event2/buffer.h>

/* ---- version 1 ---- */

static int write_v1(const struct ferry_proxy_protocol *header, struct evbuffer *output)
{
	char line[FERRY_PROXY_PROTOCOL_V1_MAX + 1];
	char source[INET6_ADDRSTRLEN], destination[INET6_ADDRSTRLEN];
	int length;
	const struct sockaddr_in *in = (const struct sockaddr_in *)&header->source;
	const struct sockaddr_in *to = (const struct sockaddr_in *)&header->destination;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&header->source;
	const struct sockaddr_in6 *to6 = (const struct sockaddr_in6 *)&header->destination;
	int family = header->socket_type == SOCK_STREAM ? header->source.ss_family : AF_UNSPEC;
	if (header->tlvs_length > 0 || header->has_checksum)
		return -EOPNOTSUPP;
	if (family == AF_INET) {
		inet_ntop(AF_INET, &in->sin_addr, source, sizeof(source));
		inet_ntop(AF_INET, &to->sin_addr, destination, sizeof(destination));
		length = snprintf(line, sizeof(line), "PROXY TCP4 %s %s %d %d\r\n", source, destination,
		                  ntohs(in->sin_port), ntohs(to->sin_port));
	} else if (family == AF_INET6) {
		inet_ntop(AF_INET6, &in6->sin6_addr, source, sizeof(source));
		inet_ntop(AF_INET6, &to6->sin6_addr, destination, sizeof(destination));
		length = snprintf(line, sizeof(line), "PROXY TCP6 %s %s %d %d\r\n", source, destination,
		                  ntohs(in6->sin6_port), ntohs(to6->sin6_port));
	} else {
		length = snprintf(line, sizeof(line), "PROXY UNKNOWN\r\n");
	}
	return evbuffer_add(output, line, (size_t)length) == 0 ? 0 : -ENOMEM;
}

/* ---- version 2 ---- */

/* The bytes of the addresses; `family` becomes the byte of family and protocol. */
static size_t put_addresses(unsigned char *out, const struct ferry_proxy_protocol *header,
                            unsigned char *family)
{
	const struct sockaddr_storage *source = &header->source, *destination = &header->destination;
	int protocol = header->socket_type == SOCK_STREAM ? PROTOCOL_STREAM : PROTOCOL_DATAGRAM;
	size_t length;
	if (header->kind != FERRY_PROXY_PROTOCOL_PROXIED) {
		*family = FAMILY_UNSPEC << 4 | PROTOCOL_UNSPEC;
		return 0;
	}
	if (source->ss_family == AF_INET) {
		const struct sockaddr_in *from = (const struct sockaddr_in *)source;
		const struct sockaddr_in *to = (const struct sockaddr_in *)destination;
		*family = (unsigned char)(FAMILY_INET << 4 | protocol);
		memcpy(out, &from->sin_addr, 4);
		memcpy(out + 4, &to->sin_addr, 4);
		memcpy(out + 8, &from->sin_port, 2);
		memcpy(out + 10, &to->sin_port, 2);
		return V2_INET;
	}
	if (source->ss_family == AF_INET6) {
		const struct sockaddr_in6 *from = (const struct sockaddr_in6 *)source;
		const struct sockaddr_in6 *to = (const struct sockaddr_in6 *)destination;
		*family = (unsigned char)(FAMILY_INET6 << 4 | protocol);
		memcpy(out, &from->sin6_addr, 16);
		memcpy(out + 16, &to->sin6_addr, 16);
		memcpy(out + 32, &from->sin6_port, 2);
		memcpy(out + 34, &to->sin6_port, 2);
		return V2_INET6;
	}
	*family = (unsigned char)(FAMILY_UNIX << 4 | protocol);
	memset(out, 0, V2_UNIX);
	const unsigned char *path =
	    proxy_protocol_unix_path((const struct sockaddr *)source, header->source_length, &length);
	memcpy(out, path, length);
	path = proxy_protocol_unix_path((const struct sockaddr *)destination,
	                                header->destination_length, &length);
	memcpy(out + V2_UNIX_PATH, path, length);
	return V2_UNIX;
}

/* The checksum is that of the whole header with zeros in its place. */
static void put_checksum(unsigned char *bytes, size_t length)
{
	unsigned char *tlv = bytes + length - V2_CRC_TLV;
	tlv[0] = FERRY_PROXY_PROTOCOL_TLV_CRC32C;
	proxy_protocol_put_16(tlv + 1, V2_CRC);
	memset(tlv + V2_TLV_HEADER, 0, V2_CRC);
	uint32_t crc = ~crc32c_add(CRC32C_START, bytes, length);
	proxy_protocol_put_16(tlv + V2_TLV_HEADER, crc >> 16);
	proxy_protocol_put_16(tlv + V2_TLV_HEADER + 2, crc & 0xffff);
}

static int write_v2(const struct ferry_proxy_protocol *header, struct evbuffer *output)
{
	unsigned char addresses[V2_UNIX], family;
	struct evbuffer_iovec space;
	size_t size = put_addresses(addresses, header, &family);
	size_t rest = size + header->tlvs_length + (header->has_checksum ? V2_CRC_TLV : 0);
	if (rest > V2_REST_MAX)
		return -EMSGSIZE;
	if (evbuffer_reserve_space(output, (ev_ssize_t)(V2_FIXED + rest), &space, 1) != 1)
		return -ENOMEM;
	unsigned char *bytes = space.iov_base;
	memcpy(bytes, proxy_protocol_signature, V2_SIGNATURE);
	bytes[V2_SIGNATURE] = header->kind == FERRY_PROXY_PROTOCOL_LOCAL ? V2_LOCAL : V2_PROXY;
	bytes[V2_SIGNATURE + 1] = family;
	proxy_protocol_put_16(bytes + V2_SIGNATURE + 2, rest);
	memcpy(bytes + V2_FIXED, addresses, size);
	if (header->tlvs_length > 0)
		memcpy(bytes + V2_FIXED + size, header->tlvs, header->tlvs_length);
	if (header->has_checksum)
		put_checksum(bytes, V2_FIXED + rest);
	space.iov_len = V2_FIXED + rest;
	return evbuffer_commit_space(output, &space, 1) == 0 ? 0 : -ENOMEM;
}

int ferry_proxy_protocol_write(const struct ferry_proxy_protocol *header, unsigned int version,
                               struct evbuffer *output)
{
	if (header == NULL || output == NULL || version < 1 || version > 2)
		return -EINVAL;
	/* Another thread may add to it, between the room for the header and its bytes. */
	evbuffer_lock(output);
	const int status = version == 1 ? write_v1(header, output) : write_v2(header, output);
	evbuffer_unlock(output);
	return status;
}
