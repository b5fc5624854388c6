#include "ferry/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { PATH_AT = offsetof(struct sockaddr_un, sun_path), PREFIX_LENGTH = 5 /* "unix:" */ };

/* ---- read ---- */

static bool parse_port(const char *text, in_port_t *port)
{
	unsigned int number = 0;
	const size_t digits = strspn(text, "0123456789");

	if (digits == 0 || digits > 5 || text[digits] != '\0')
		return false;
	for (size_t i = 0; i < digits; i++)
		number = number * 10 + (unsigned int)(text[i] - '0');
	*port = htons((uint16_t)number);
	return number <= UINT16_MAX;
}

/* bind(2) needs room for the zero of a path; an abstract name has none. */
static int parse_unix(struct ferry_address *out, const char *path)
{
	struct ferry_address address = {.name.un.sun_family = AF_UNIX};
	const bool is_file = path[0] != '@';
	const size_t length = strlen(path) + (is_file ? 1 : 0);

	if (length == 1)
		return -EINVAL;
	if (length > sizeof(address.name.un.sun_path))
		return -ENAMETOOLONG;
	memcpy(address.name.un.sun_path, path, length);
	if (!is_file)
		address.name.un.sun_path[0] = '\0';
	address.length = (socklen_t)(PATH_AT + length);
	*out = address;
	return 0;
}

static int parse_inet(struct ferry_address *out, const char *host, in_port_t port)
{
	struct ferry_address address = {.name.in = {.sin_family = AF_INET, .sin_port = port},
	                                .length = sizeof(address.name.in)};

	if (inet_pton(AF_INET, host, &address.name.in.sin_addr) != 1)
		return -EINVAL;
	*out = address;
	return 0;
}

static int parse_inet6(struct ferry_address *out, const char *host, in_port_t port)
{
	struct ferry_address address = {.name.in6 = {.sin6_family = AF_INET6, .sin6_port = port},
	                                .length = sizeof(address.name.in6)};

	if (inet_pton(AF_INET6, host, &address.name.in6.sin6_addr) != 1)
		return -EINVAL;
	*out = address;
	return 0;
}

int ferry_address_parse(struct ferry_address *out, const char *text)
{
	char host[INET6_ADDRSTRLEN];
	in_port_t port;

	if (out == NULL || text == NULL)
		return -EINVAL;
	if (strncmp(text, "unix:", PREFIX_LENGTH) == 0)
		return parse_unix(out, text + PREFIX_LENGTH);

	const char *colon = strrchr(text, ':');
	const bool bracketed = text[0] == '[';
	if (colon == NULL || !parse_port(colon + 1, &port) ||
	    (bracketed && (colon < text + 2 || colon[-1] != ']')))
		return -EINVAL;
	const char *start = bracketed ? text + 1 : text;
	const size_t length = (size_t)(colon - start) - (bracketed ? 1 : 0);
	if (length >= sizeof(host))
		return -EINVAL;
	memcpy(host, start, length);
	host[length] = '\0';
	return bracketed ? parse_inet6(out, host, port) : parse_inet(out, host, port);
}

/* ---- written ---- */

static void escape_path(const char *path, size_t length, char *out, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < length; i++) {
		const unsigned char c = (unsigned char)path[i];
		const bool abstract = i == 0 && c == '\0';
		const bool plain = abstract || (c > 0x20 && c < 0x7f && c != '\\');
		const size_t needed = plain ? 1 : 4;

		if (used + needed >= size)
			break;
		if (plain)
			out[used] = (char)(abstract ? '@' : path[i]);
		else
			(void)snprintf(out + used, size - used, "\\x%02x", c);
		used += needed;
	}
	out[used] = '\0';
}

static void format_unix(const struct ferry_address *address, char *text, size_t size)
{
	const char *path = address->name.un.sun_path;
	size_t length = address->length - PATH_AT;

	if (length > 0 && path[0] != '\0')
		length--; /* the zero */
	(void)snprintf(text, size, "unix:");
	if (size > PREFIX_LENGTH)
		escape_path(path, length, text + PREFIX_LENGTH, size - PREFIX_LENGTH);
}

/* Of a number below 100,000. Returns the end of its digits. */
static char *put_number(char *end, unsigned int number)
{
	char digits[5];
	size_t count = 0;

	do {
		digits[count++] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	while (count > 0)
		*end++ = digits[--count];
	return end;
}

/* Without printf(3), which costs more than ten times as much: a server writes the address of each client. */
static void format_inet(const struct ferry_address *address, bool with_port, char *text,
                        size_t size)
{
	const unsigned char *bytes = (const unsigned char *)&address->name.in.sin_addr;
	char whole[sizeof("255.255.255.255:65535")], *end = whole;

	for (int i = 0; i < 4; i++) {
		if (i > 0)
			*end++ = '.';
		end = put_number(end, bytes[i]);
	}
	if (with_port) {
		*end++ = ':';
		end = put_number(end, ntohs(address->name.in.sin_port));
	}
	const size_t length = (size_t)(end - whole), fits = length < size ? length : size - 1;
	memcpy(text, whole, fits);
	text[fits] = '\0';
}

static const char *format_address(const struct ferry_address *address, bool with_port, char *text,
                                  size_t size)
{
	char host[INET6_ADDRSTRLEN];
	const int family =
	    address != NULL && address->length > 0 ? address->name.any.sa_family : AF_UNSPEC;

	if (text == NULL || size == 0)
		return text;
	if (family == AF_UNIX)
		format_unix(address, text, size);
	else if (family == AF_INET)
		format_inet(address, with_port, text, size);
	else if (family == AF_INET6 &&
	         inet_ntop(family, &address->name.in6.sin6_addr, host, sizeof(host)) != NULL)
		(void)snprintf(text, size, with_port ? "[%s]:%u" : "%s", host,
		               (unsigned int)ntohs(address->name.in6.sin6_port));
	else
		(void)snprintf(text, size, "unknown");
	return text;
}

const char *ferry_address_format(const struct ferry_address *address, char *text, size_t size)
{
	return format_address(address, true, text, size);
}

const char *ferry_address_format_host(const struct ferry_address *address, char *text, size_t size)
{
	return format_address(address, false, text, size);
}
