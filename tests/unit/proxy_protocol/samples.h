#ifndef FERRY_TESTS_PROXY_PROTOCOL_SAMPLES_H
#define FERRY_TESTS_PROXY_PROTOCOL_SAMPLES_H

/* Headers as bytes, and addresses as text. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define INET_BLOCK "\xc0\x00\x02\x01\xc6\x33\x64\x02\xdb\xf6\x00\x50" /* 192.0.2.1 … port 80 */
#define INET6_BLOCK                              \
	"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01" \
	"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02" \
	"\xff\xff\x01\xbb"

/* An authority, a private TLV, and one without a value. */
#define TLVS        \
	"\x02\x00\x04"  \
	"a.bc"          \
	"\xe0\x00\x01z" \
	"\x04\x00\x00"

/* The checksum comes from another implementation, which computes e3069283 for "123456789". */
#define SUMMED                                                      \
	V2 "\x21\x11\x00\x18" INET_BLOCK "\x03\x00\x04\x3f\xf9\x19\x6f" \
	   "\x20\x00\x02\xaa\xbb"

enum { ADDRESS_TEXT = 2 * 120 };

/* "192.0.2.1:80", "[::1]:80", "unix:/path", "unix:@name"; "none" for NULL. */
static inline const char *address_text(char *out, const struct sockaddr *address, socklen_t length)
{
	char host[INET6_ADDRSTRLEN];
	if (address == NULL) {
		(void)snprintf(out, ADDRESS_TEXT, "none");
	} else if (address->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)address;
		(void)snprintf(out, ADDRESS_TEXT, "%s:%d",
		               inet_ntop(AF_INET, &in->sin_addr, host, sizeof(host)), ntohs(in->sin_port));
	} else if (address->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
		(void)snprintf(out, ADDRESS_TEXT, "[%s]:%d",
		               inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host)),
		               ntohs(in6->sin6_port));
	} else {
		const char *path = (const char *)address + offsetof(struct sockaddr_un, sun_path);
		size_t size = length - offsetof(struct sockaddr_un, sun_path), used = 5;
		(void)snprintf(out, ADDRESS_TEXT, "unix:");
		if (size > 0 && path[0] != '\0')
			size--; /* the zero behind a path */
		for (size_t i = 0; i < size; i++)
			if ((out[used++] = path[i]) == '\0')
				out[used - 1] = '@';
		out[used] = '\0';
	}
	return out;
}

#endif
