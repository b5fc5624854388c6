/* Reading a header. Each call starts at the first byte: of version 1 that is a short line, and of version 2 only the
 * fixed part is looked at before all has come. */

#include "proxy_protocol/crc32c.h"
#include "proxy_protocol/header.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

struct reading {
	struct evbuffer *input;
	size_t limit;
	const char *error;
	size_t length; /* of the header, once it has been read */
};

static int refuse_header(struct reading *reading, const char *error)
{
	reading->error = error;
	return -EPROTO;
}

/* ---- version 1: words with one space between them ---- */

struct words {
	const char *next; /* NULL: the line has ended */
	const char *end;
};

/* Copies the next word, and ends it with a zero. False: there is none, it is too long, or it contains a zero. */
static bool take_word(struct words *words, char *out, size_t size)
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
	return take_word(words, word, sizeof(word)) && inet_pton(family, word, host) == 1;
}

static bool take_port(struct words *words, uint16_t *port)
{
	char word[6];
	unsigned int number = 0;
	if (!take_word(words, word, sizeof(word)))
		return false;
	size_t digits = strspn(word, "0123456789");
	if (word[digits] != '\0' || (word[0] == '0' && digits > 1))
		return false;
	for (size_t i = 0; i < digits; i++)
		number = number * 10 + (unsigned int)(word[i] - '0');
	*port = (uint16_t)number;
	return number <= UINT16_MAX;
}

static bool take_addresses(struct words *words, int family, struct ferry_proxy_protocol *header)
{
	unsigned char source[16], destination[16];
	uint16_t source_port, destination_port;
	if (!take_host(words, family, source) || !take_host(words, family, destination) ||
	    !take_port(words, &source_port) || !take_port(words, &destination_port) ||
	    words->next != NULL)
		return false;
	header->kind = FERRY_PROXY_PROTOCOL_PROXIED;
	header->socket_type = SOCK_STREAM;
	proxy_protocol_set_inet(&header->source, &header->source_length, family, source, source_port);
	proxy_protocol_set_inet(&header->destination, &header->destination_length, family, destination,
	                        destination_port);
	return true;
}

static int read_line(struct reading *reading, struct ferry_proxy_protocol *header, const char *text,
                     size_t end)
{
	struct words words = {text + sizeof(proxy_protocol_v1_start), text + end};
	char protocol[8];
	if (!take_word(&words, protocol, sizeof(protocol)))
		return refuse_header(reading, "no protocol");
	if (strcmp(protocol, "UNKNOWN") == 0) /* the rest of the line is ignored */
		return 0;
	if (strcmp(protocol, "TCP4") != 0 && strcmp(protocol, "TCP6") != 0)
		return refuse_header(reading, "a protocol that is neither TCP4, TCP6 nor UNKNOWN");
	if (!take_addresses(&words, protocol[3] == '4' ? AF_INET : AF_INET6, header))
		return refuse_header(reading, "malformed addresses");
	return 0;
}

static int read_v1(struct reading *reading, struct ferry_proxy_protocol *header)
{
	char text[FERRY_PROXY_PROTOCOL_V1_MAX];
	size_t length = (size_t)evbuffer_copyout(reading->input, text, sizeof(text)), end = 0;
	while (end < length && text[end] != '\r' && text[end] != '\n')
		end++;
	if (end >= sizeof(text) - 1) /* there is no room for the CRLF */
		return refuse_header(reading, "the line is too long");
	if (end == length || (text[end] == '\r' && end + 1 == length))
		return -EAGAIN;
	if (text[end] == '\n' || text[end + 1] != '\n')
		return refuse_header(reading, "the line does not end with CRLF");
	reading->length = end + 2;
	return read_line(reading, header, text, end);
}

/* ---- version 2 ---- */

static const size_t address_sizes[] = {[FAMILY_UNSPEC] = 0,
                                       [FAMILY_INET] = V2_INET,
                                       [FAMILY_INET6] = V2_INET6,
                                       [FAMILY_UNIX] = V2_UNIX};

static bool checksum_is_right(const unsigned char *bytes, size_t length, size_t at)
{
	static const unsigned char zeros[V2_CRC];
	uint32_t crc = crc32c_add(CRC32C_START, bytes, at);
	crc = crc32c_add(crc, zeros, V2_CRC);
	crc = ~crc32c_add(crc, bytes + at + V2_CRC, length - at - V2_CRC);
	return crc == ((uint32_t)proxy_protocol_get_16(bytes + at) << 16 |
	               proxy_protocol_get_16(bytes + at + 2));
}

/* Checks the TLVs behind the addresses, and copies them, without the checksum, to header->tlvs. */
static int read_tlvs(struct reading *reading, struct ferry_proxy_protocol *header,
                     const unsigned char *bytes, size_t at)
{
	struct ferry_proxy_protocol_tlv tlv;
	size_t before = at;
	int status;
	for (; (status = ferry_proxy_protocol_tlv_next(&tlv, bytes, reading->length, &at)) == 0;
	     before = at) {
		if (tlv.type != FERRY_PROXY_PROTOCOL_TLV_CRC32C) {
			memcpy(header->tlvs + header->tlvs_length, bytes + before, at - before);
			header->tlvs_length += at - before;
			continue;
		}
		if (tlv.length != V2_CRC || header->has_checksum)
			return refuse_header(reading, "a malformed or repeated checksum");
		header->has_checksum = true;
		if (!checksum_is_right(bytes, reading->length, at - V2_CRC))
			return refuse_header(reading, "the checksum is wrong");
	}
	return status == -ENOENT ? 0 : refuse_header(reading, "a TLV is longer than the header");
}

/* An abstract name ends with its last byte that is not zero. No name: all are. */
static void set_path(struct sockaddr_storage *address, socklen_t *length, const unsigned char *path)
{
	size_t size = V2_UNIX_PATH;
	if (path[0] != '\0')
		size = strnlen((const char *)path, V2_UNIX_PATH);
	while (size > 0 && path[size - 1] == '\0')
		size--;
	proxy_protocol_set_unix(address, length, path, size);
}

static void set_addresses(struct ferry_proxy_protocol *header, unsigned int family,
                          const unsigned char *bytes)
{
	struct sockaddr_storage *source = &header->source, *destination = &header->destination;
	if (family == FAMILY_UNIX) {
		set_path(source, &header->source_length, bytes);
		set_path(destination, &header->destination_length, bytes + V2_UNIX_PATH);
		return;
	}
	bool inet = family == FAMILY_INET;
	size_t host = inet ? 4 : 16;
	int af = inet ? AF_INET : AF_INET6;
	const unsigned char *ports = bytes + 2 * host;
	proxy_protocol_set_inet(source, &header->source_length, af, bytes,
	                        proxy_protocol_get_16(ports));
	proxy_protocol_set_inet(destination, &header->destination_length, af, bytes + host,
	                        proxy_protocol_get_16(ports + 2));
}

/* All bytes of the header have come. */
static int read_block(struct reading *reading, struct ferry_proxy_protocol *header,
                      const unsigned char *bytes)
{
	unsigned int family = bytes[V2_SIGNATURE + 1] >> 4, protocol = bytes[V2_SIGNATURE + 1] & 0xf;
	if (bytes[V2_SIGNATURE] == V2_LOCAL) { /* the rest is discarded, the family included */
		header->kind = FERRY_PROXY_PROTOCOL_LOCAL;
		return 0;
	}
	size_t at = V2_FIXED + address_sizes[family];
	header->tlvs = malloc(reading->length - at + 1); /* one more: malloc(0) may return NULL */
	if (header->tlvs == NULL)
		return -ENOMEM;
	int status = read_tlvs(reading, header, bytes, at);
	if (status < 0 || family == FAMILY_UNSPEC || protocol == PROTOCOL_UNSPEC)
		return status;
	header->kind = FERRY_PROXY_PROTOCOL_PROXIED;
	header->socket_type = protocol == PROTOCOL_STREAM ? SOCK_STREAM : SOCK_DGRAM;
	set_addresses(header, family, bytes + V2_FIXED);
	return 0;
}

/* Sets the length of the header. */
static int read_fixed(struct reading *reading, const unsigned char *bytes, size_t length)
{
	if (length > V2_SIGNATURE && bytes[V2_SIGNATURE] != V2_LOCAL && bytes[V2_SIGNATURE] != V2_PROXY)
		return refuse_header(reading, "an unknown version or command");
	if (length < V2_FIXED)
		return -EAGAIN;
	bool local = bytes[V2_SIGNATURE] == V2_LOCAL;
	unsigned int family = bytes[V2_SIGNATURE + 1] >> 4, protocol = bytes[V2_SIGNATURE + 1] & 0xf;
	reading->length = V2_FIXED + (size_t)proxy_protocol_get_16(bytes + V2_SIGNATURE + 2);
	if (reading->length > reading->limit) {
		reading->error = "the header is longer than the limit";
		return -EMSGSIZE;
	}
	if (!local && (family > FAMILY_UNIX || protocol > PROTOCOL_DATAGRAM))
		return refuse_header(reading, "an unknown address family or protocol");
	if (!local && reading->length < V2_FIXED + address_sizes[family])
		return refuse_header(reading, "the header is too short for its addresses");
	return evbuffer_get_length(reading->input) < reading->length ? -EAGAIN : 0;
}

static int read_v2(struct reading *reading, struct ferry_proxy_protocol *header)
{
	unsigned char fixed[V2_FIXED];
	size_t length = (size_t)evbuffer_copyout(reading->input, fixed, sizeof(fixed));
	int status = read_fixed(reading, fixed, length);
	if (status < 0)
		return status;
	unsigned char *bytes = malloc(reading->length);
	if (bytes == NULL)
		return -ENOMEM;
	evbuffer_copyout(reading->input, bytes, reading->length);
	status = read_block(reading, header, bytes);
	free(bytes);
	return status;
}

/* ---- both ---- */

static bool starts_like(const unsigned char *bytes, size_t length, const void *start, size_t size)
{
	return memcmp(bytes, start, length < size ? length : size) == 0;
}

static int read_header(struct reading *reading, struct ferry_proxy_protocol *header)
{
	unsigned char bytes[V2_SIGNATURE];
	ev_ssize_t copied = evbuffer_copyout(reading->input, bytes, sizeof(bytes));
	size_t length = copied > 0 ? (size_t)copied : 0;
	if (copied < 0)
		return -EPERM; /* the one reason of evbuffer_copyout(3) */
	if (length == 0)
		return -EAGAIN;
	if (starts_like(bytes, length, proxy_protocol_v1_start, sizeof(proxy_protocol_v1_start))) {
		header->version = 1;
		return length < sizeof(proxy_protocol_v1_start) ? -EAGAIN : read_v1(reading, header);
	}
	if (starts_like(bytes, length, proxy_protocol_signature, V2_SIGNATURE)) {
		header->version = 2;
		return length < V2_SIGNATURE ? -EAGAIN : read_v2(reading, header);
	}
	return refuse_header(reading, "no PROXY header");
}

int ferry_proxy_protocol_read(struct ferry_proxy_protocol **out, struct evbuffer *input,
                              size_t limit, const char **error)
{
	struct reading reading = {.input = input, .limit = limit};
	struct ferry_proxy_protocol header = {.kind = FERRY_PROXY_PROTOCOL_UNKNOWN};
	struct ferry_proxy_protocol *copy = NULL;
	if (out == NULL || input == NULL)
		return -EINVAL;
	if (limit == 0)
		reading.limit = FERRY_PROXY_PROTOCOL_LIMIT;
	int status = read_header(&reading, &header);
	if (error != NULL)
		*error = reading.error;
	if (status == 0)
		copy = malloc(sizeof(*copy));
	if (copy == NULL) {
		free(header.tlvs);
		return status < 0 ? status : -ENOMEM;
	}
	*copy = header;
	evbuffer_drain(input, reading.length);
	*out = copy;
	return 0;
}
