#include "programs/ferry-proxy/proxy_protocol.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

enum {
	V2_FIXED = 16, /* signature, version and command, family and protocol, length */
	INET_SIZE = 12,
	INET6_SIZE = 36,
	UNIX_PATH_SIZE = 108,
	UNIX_SIZE = 2 * UNIX_PATH_SIZE,
	TLV_HEADER = 3,
	TLV_CRC32C = 3,
	CRC_SIZE = 4
};

static const unsigned char v1_start[] = {'P', 'R', 'O', 'X', 'Y', ' '};
static const unsigned char v2_start[] = {'\r', '\n', '\r', '\n', '\0', '\r',
                                         '\n', 'Q',  'U',  'I',  'T',  '\n'};

static int refuse_header(struct proxy_protocol *header, const char *why)
{
	memset(&header->source, 0, sizeof(header->source));
	memset(&header->destination, 0, sizeof(header->destination));
	header->error = why;
	return -EPROTO;
}

static bool starts_like(const void *bytes, size_t length, const unsigned char *start, size_t size)
{
	return memcmp(bytes, start, length < size ? length : size) == 0;
}

/* Version 1: words with one space between them. */
struct words {
	const char *next;
	const char *end;
};

/* Copies the next word, and ends it with a zero. False: there is none, or it is too long, or contains a
 * zero. */
static bool take_header_word(struct words *words, char *out, size_t size)
{
	const char *start = words->next;
	if (start == NULL)
		return false;
	const char *space = memchr(start, ' ', (size_t)(words->end - start));
	size_t length = (size_t)((space != NULL ? space : words->end) - start);
	words->next = space != NULL ? space + 1 : NULL;
	if (length == 0 || length >= size || memchr(start, '\0', length) != NULL)
		return false;
	memcpy(out, start, length);
	out[length] = '\0';
	return true;
}

static bool take_host(struct words *words, int family, unsigned char *host)
{
	char word[INET6_ADDRSTRLEN];
	return take_header_word(words, word, sizeof(word)) && inet_pton(family, word, host) == 1;
}

static bool take_port(struct words *words, uint16_t *port)
{
	char word[6];
	if (!take_header_word(words, word, sizeof(word)))
		return false;
	size_t digits = strspn(word, "0123456789");
	unsigned int number = 0;
	if (word[digits] != '\0' || (word[0] == '0' && digits > 1))
		return false;
	for (size_t i = 0; i < digits; i++)
		number = number * 10 + (unsigned int)(word[i] - '0');
	*port = (uint16_t)number;
	return number <= UINT16_MAX;
}

static void set_inet_address(struct socket_address *address, int family, const unsigned char *host,
                             uint16_t port)
{
	if (family == AF_INET)
		socket_address_set_inet(address, host, port);
	else
		socket_address_set_inet6(address, host, port);
}

static bool take_addresses(struct words *words, int family, struct proxy_protocol *header)
{
	unsigned char source[16], destination[16];
	uint16_t source_port, destination_port;
	if (!take_host(words, family, source) || !take_host(words, family, destination) ||
	    !take_port(words, &source_port) || !take_port(words, &destination_port) ||
	    words->next != NULL)
		return false;
	set_inet_address(&header->source, family, source, source_port);
	set_inet_address(&header->destination, family, destination, destination_port);
	return true;
}

static int parse_v1(const char *text, size_t length, struct proxy_protocol *header)
{
	size_t end = 0;
	while (end < length && end < PROXY_PROTOCOL_V1_MAX && text[end] != '\r' && text[end] != '\n')
		end++;
	if (end >= PROXY_PROTOCOL_V1_MAX - 1) /* there is no room for the CRLF */
		return refuse_header(header, "the line is too long");
	if (end == length || (text[end] == '\r' && end + 1 == length))
		return PROXY_PROTOCOL_MORE;
	if (text[end] == '\n' || text[end + 1] != '\n')
		return refuse_header(header, "the line does not end with CRLF");

	struct words words = {text + sizeof(v1_start), text + end};
	char protocol[8];
	if (!take_header_word(&words, protocol, sizeof(protocol)))
		return refuse_header(header, "no protocol");
	if (strcmp(protocol, "UNKNOWN") == 0) { /* the rest of the line is ignored */
		header->kind = PROXY_PROTOCOL_UNKNOWN;
	} else if (strcmp(protocol, "TCP4") == 0 || strcmp(protocol, "TCP6") == 0) {
		header->kind = PROXY_PROTOCOL_PROXIED;
		if (!take_addresses(&words, protocol[3] == '4' ? AF_INET : AF_INET6, header))
			return refuse_header(header, "bad addresses");
	} else {
		return refuse_header(header, "a protocol that is neither TCP4, TCP6 nor UNKNOWN");
	}
	return (int)end + 2;
}

static uint16_t get_16(const unsigned char *bytes)
{
	return (uint16_t)(bytes[0] << 8 | bytes[1]);
}

static uint32_t crc32c_add(uint32_t crc, const unsigned char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 1 ? crc >> 1 ^ 0x82f63b78U : crc >> 1;
	}
	return crc;
}

/* The checksum is that of the whole header with zeros in the place of the checksum. */
static bool checksum_is_right(const unsigned char *bytes, size_t length, size_t at)
{
	static const unsigned char zeros[CRC_SIZE];
	uint32_t crc = crc32c_add(0xffffffffU, bytes, at);
	crc = crc32c_add(crc, zeros, CRC_SIZE);
	crc = ~crc32c_add(crc, bytes + at + CRC_SIZE, length - at - CRC_SIZE);
	return crc == ((uint32_t)get_16(bytes + at) << 16 | get_16(bytes + at + 2));
}

static int check_tlvs(const unsigned char *bytes, size_t length, size_t at,
                      struct proxy_protocol *header)
{
	while (at < length) {
		if (length - at < TLV_HEADER)
			return refuse_header(header, "a TLV is cut short");
		size_t size = get_16(bytes + at + 1);
		if (length - at - TLV_HEADER < size)
			return refuse_header(header, "a TLV is longer than the header");
		if (bytes[at] == TLV_CRC32C) {
			if (size != CRC_SIZE || header->has_checksum)
				return refuse_header(header, "a malformed or repeated checksum");
			header->has_checksum = true;
			if (!checksum_is_right(bytes, length, at + TLV_HEADER))
				return refuse_header(header, "the checksum is wrong");
		}
		at += TLV_HEADER + size;
	}
	return 0;
}

/* Each side of the connection may have no name. An abstract name ends with its last byte that is not
 * zero. */
static void set_unix(struct socket_address *address, const unsigned char *path)
{
	size_t length = UNIX_PATH_SIZE;
	if (path[0] != '\0')
		length = strnlen((const char *)path, UNIX_PATH_SIZE);
	while (length > 0 && path[length - 1] == '\0')
		length--;
	(void)socket_address_set_unix(address, path, length);
}

static void set_addresses(struct proxy_protocol *header, unsigned int family,
                          const unsigned char *bytes)
{
	switch (family) {
	case 1:
		socket_address_set_inet(&header->source, bytes, get_16(bytes + 8));
		socket_address_set_inet(&header->destination, bytes + 4, get_16(bytes + 10));
		break;
	case 2:
		socket_address_set_inet6(&header->source, bytes, get_16(bytes + 32));
		socket_address_set_inet6(&header->destination, bytes + 16, get_16(bytes + 34));
		break;
	default:
		set_unix(&header->source, bytes);
		set_unix(&header->destination, bytes + UNIX_PATH_SIZE);
	}
}

static int parse_v2(const unsigned char *bytes, size_t length, struct proxy_protocol *header)
{
	static const size_t sizes[] = {0, INET_SIZE, INET6_SIZE, UNIX_SIZE};
	enum { VERSION_AT = sizeof(v2_start), FAMILY_AT, LENGTH_AT };
	if (length > VERSION_AT && bytes[VERSION_AT] != 0x20 && bytes[VERSION_AT] != 0x21)
		return refuse_header(header, "an unknown version or command");
	if (length < V2_FIXED)
		return PROXY_PROTOCOL_MORE;
	bool local = bytes[VERSION_AT] == 0x20;
	unsigned int family = bytes[FAMILY_AT] >> 4;
	unsigned int protocol = bytes[FAMILY_AT] & 0xf;
	size_t whole = V2_FIXED + (size_t)get_16(bytes + LENGTH_AT);
	if (whole > PROXY_PROTOCOL_V2_MAX)
		return refuse_header(header, "the header is too long");
	if (!local && (family > 3 || protocol > 2))
		return refuse_header(header, "an unknown address family or protocol");
	if (!local && whole < V2_FIXED + sizes[family])
		return refuse_header(header, "the header is too short for its addresses");
	if (length < whole)
		return PROXY_PROTOCOL_MORE;

	if (local) { /* the rest is discarded, the family included */
		header->kind = PROXY_PROTOCOL_LOCAL;
		return (int)whole;
	}
	if (check_tlvs(bytes, whole, V2_FIXED + sizes[family], header) < 0)
		return -EPROTO;
	if (family == 0 || protocol != 1) {
		header->kind = PROXY_PROTOCOL_UNKNOWN;
		return (int)whole;
	}
	header->kind = PROXY_PROTOCOL_PROXIED;
	set_addresses(header, family, bytes + V2_FIXED);
	return (int)whole;
}

int proxy_protocol_parse(const void *bytes, size_t length, struct proxy_protocol *header)
{
	*header = (struct proxy_protocol){.kind = PROXY_PROTOCOL_UNKNOWN};
	if (length == 0)
		return PROXY_PROTOCOL_MORE;
	if (starts_like(bytes, length, v1_start, sizeof(v1_start))) {
		header->version = 1;
		return length < sizeof(v1_start) ? PROXY_PROTOCOL_MORE : parse_v1(bytes, length, header);
	}
	if (starts_like(bytes, length, v2_start, sizeof(v2_start))) {
		header->version = 2;
		return length < sizeof(v2_start) ? PROXY_PROTOCOL_MORE : parse_v2(bytes, length, header);
	}
	return refuse_header(header, "no PROXY header");
}
