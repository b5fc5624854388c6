/* A list of addresses and prefixes. It is short: a load balancer has a few addresses. */

#include "ferry/proxy_protocol.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM_MIN = 8, BITS = 128, MAPPED_BITS = 96 };

/* IPv4 is in ::ffff:0:0/96 here; a prefix that is shorter than these 96 bits does not cover it. */
struct prefix {
	unsigned char host[16];
	unsigned int bits;
};

struct ferry_proxy_protocol_sources {
	struct prefix *prefixes;
	size_t count, room;
	bool has_unix;
};

static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

int ferry_proxy_protocol_sources_new(struct ferry_proxy_protocol_sources **out)
{
	if (out == NULL)
		return -EINVAL;
	*out = calloc(1, sizeof(**out));
	return *out != NULL ? 0 : -ENOMEM;
}

void ferry_proxy_protocol_sources_free(struct ferry_proxy_protocol_sources *sources)
{
	if (sources == NULL)
		return;
	free(sources->prefixes);
	free(sources);
}

static bool starts_with(const unsigned char *host, const struct prefix *prefix)
{
	unsigned int bytes = prefix->bits / 8, bits = prefix->bits % 8;
	if (memcmp(host, prefix->host, bytes) != 0)
		return false;
	return bits == 0 || (host[bytes] ^ prefix->host[bytes]) >> (8 - bits) == 0;
}

static bool has_bits_behind(const struct prefix *prefix)
{
	for (unsigned int bit = prefix->bits; bit < BITS; bit++)
		if ((prefix->host[bit / 8] >> (7 - bit % 8) & 1) != 0)
			return true;
	return false;
}

/* The number of bits of a prefix, at most `most`. */
static bool parse_bits(const char *text, unsigned int most, unsigned int *bits)
{
	size_t digits = strspn(text, "0123456789");
	unsigned int number = 0;
	if (digits == 0 || digits > 3 || text[digits] != '\0' || (text[0] == '0' && digits > 1))
		return false;
	for (size_t i = 0; i < digits; i++)
		number = number * 10 + (unsigned int)(text[i] - '0');
	*bits = number;
	return number <= most;
}

static bool parse_prefix(const char *text, struct prefix *prefix)
{
	char host[INET6_ADDRSTRLEN];
	size_t length = strcspn(text, "/");
	unsigned int bits;
	if (length >= sizeof(host))
		return false;
	memcpy(host, text, length);
	host[length] = '\0';
	bool inet = inet_pton(AF_INET, host, prefix->host + sizeof(mapped)) == 1;
	if (inet)
		memcpy(prefix->host, mapped, sizeof(mapped));
	else if (inet_pton(AF_INET6, host, prefix->host) != 1)
		return false;
	unsigned int first = inet ? MAPPED_BITS : 0;
	prefix->bits = BITS;
	if (text[length] == '/') {
		if (!parse_bits(text + length + 1, BITS - first, &bits))
			return false;
		prefix->bits = first + bits;
	}
	return !has_bits_behind(prefix);
}

int ferry_proxy_protocol_sources_add(struct ferry_proxy_protocol_sources *sources, const char *text)
{
	struct prefix prefix;
	if (sources == NULL || text == NULL)
		return -EINVAL;
	if (strcmp(text, "unix") == 0) {
		sources->has_unix = true;
		return 0;
	}
	if (!parse_prefix(text, &prefix))
		return -EINVAL;
	if (sources->count == sources->room) {
		size_t room = sources->room == 0 ? ROOM_MIN : sources->room * 2;
		struct prefix *prefixes = realloc(sources->prefixes, room * sizeof(*prefixes));
		if (prefixes == NULL)
			return -ENOMEM;
		sources->prefixes = prefixes;
		sources->room = room;
	}
	sources->prefixes[sources->count++] = prefix;
	return 0;
}

bool ferry_proxy_protocol_sources_contain(const struct ferry_proxy_protocol_sources *sources,
                                          const struct sockaddr *address, socklen_t length)
{
	unsigned char host[16];
	if (sources == NULL || address == NULL || length < sizeof(address->sa_family))
		return false;
	if (address->sa_family == AF_UNIX)
		return sources->has_unix;
	if (address->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
		memcpy(host, mapped, sizeof(mapped));
		memcpy(host + sizeof(mapped), &((const struct sockaddr_in *)address)->sin_addr, 4);
	} else if (address->sa_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
		memcpy(host, &((const struct sockaddr_in6 *)address)->sin6_addr, sizeof(host));
	} else {
		return false;
	}
	unsigned int least = memcmp(host, mapped, sizeof(mapped)) == 0 ? MAPPED_BITS : 0;
	for (size_t i = 0; i < sources->count; i++)
		if (sources->prefixes[i].bits >= least && starts_with(host, &sources->prefixes[i]))
			return true;
	return false;
}
