#include "proxy_protocol/header.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

const unsigned char proxy_protocol_signature[V2_SIGNATURE] = {'\r', '\n', '\r', '\n', '\0', '\r',
                                                              '\n', 'Q',  'U',  'I',  'T',  '\n'};
const char proxy_protocol_v1_start[6] = {'P', 'R', 'O', 'X', 'Y', ' '};

enum { PATH_AT = offsetof(struct sockaddr_un, sun_path) };

/* ---- addresses ---- */

void proxy_protocol_set_inet(struct sockaddr_storage *address, socklen_t *length, int family,
                             const unsigned char *host, uint16_t port)
{
	memset(address, 0, sizeof(*address));
	if (family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)address;
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		memcpy(&in->sin_addr, host, sizeof(in->sin_addr));
		*length = sizeof(*in);
	} else {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		memcpy(&in6->sin6_addr, host, sizeof(in6->sin6_addr));
		*length = sizeof(*in6);
	}
}

/* As from the kernel, the length includes the zero behind a path. A path of 108 bytes has it behind sun_path. */
void proxy_protocol_set_unix(struct sockaddr_storage *address, socklen_t *length,
                             const unsigned char *path, size_t path_length)
{
	memset(address, 0, sizeof(*address));
	address->ss_family = AF_UNIX;
	if (path_length > 0)
		memcpy((unsigned char *)address + PATH_AT, path, path_length);
	*length = (socklen_t)(PATH_AT + path_length + (path_length > 0 && path[0] != '\0'));
}

const unsigned char *proxy_protocol_unix_path(const struct sockaddr *address, socklen_t length,
                                              size_t *path_length)
{
	const unsigned char *path = (const unsigned char *)address + PATH_AT;
	*path_length = length > PATH_AT ? length - PATH_AT : 0;
	if (*path_length == 0 || path[0] == '\0')
		return path;
	/* The kernel counts the zero behind a path of 108 bytes also if the caller's sockaddr_un had no room for it. */
	if (*path_length > V2_UNIX_PATH)
		*path_length = V2_UNIX_PATH;
	*path_length = strnlen((const char *)path, *path_length);
	return path;
}

/* An address of IPv4 or IPv6 in the form of IPv6. */
struct inet {
	bool is_mapped; /* ::ffff:0:0/96 */
	unsigned char host[16];
	uint16_t port;
};

static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static int read_inet(struct inet *inet, const struct sockaddr *address, socklen_t length)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	if (address->sa_family == AF_INET && length >= sizeof(in)) {
		memcpy(&in, address, sizeof(in));
		memcpy(inet->host, mapped, sizeof(mapped));
		memcpy(inet->host + sizeof(mapped), &in.sin_addr, sizeof(in.sin_addr));
		inet->port = ntohs(in.sin_port);
	} else if (address->sa_family == AF_INET6 && length >= sizeof(in6)) {
		memcpy(&in6, address, sizeof(in6));
		memcpy(inet->host, &in6.sin6_addr, sizeof(inet->host));
		inet->port = ntohs(in6.sin6_port);
	} else {
		return -EINVAL;
	}
	inet->is_mapped = memcmp(inet->host, mapped, sizeof(mapped)) == 0;
	return 0;
}

static int set_inet_pair(struct ferry_proxy_protocol *header, const struct sockaddr *source,
                         socklen_t source_length, const struct sockaddr *destination,
                         socklen_t destination_length)
{
	struct inet from, to;
	if (read_inet(&from, source, source_length) < 0 ||
	    read_inet(&to, destination, destination_length) < 0)
		return -EINVAL;
	bool both_mapped = from.is_mapped && to.is_mapped;
	int family = both_mapped ? AF_INET : AF_INET6;
	size_t at = both_mapped ? sizeof(mapped) : 0;
	proxy_protocol_set_inet(&header->source, &header->source_length, family, from.host + at,
	                        from.port);
	proxy_protocol_set_inet(&header->destination, &header->destination_length, family, to.host + at,
	                        to.port);
	return 0;
}

static bool is_unix_length(socklen_t length)
{
	return length <= PATH_AT + V2_UNIX_PATH + 1;
}

static int set_unix_pair(struct ferry_proxy_protocol *header, const struct sockaddr *source,
                         socklen_t source_length, const struct sockaddr *destination,
                         socklen_t destination_length)
{
	size_t from_length, to_length;
	if (!is_unix_length(source_length) || !is_unix_length(destination_length))
		return -EINVAL;
	const unsigned char *from = proxy_protocol_unix_path(source, source_length, &from_length);
	const unsigned char *to = proxy_protocol_unix_path(destination, destination_length, &to_length);
	if (from_length > V2_UNIX_PATH || to_length > V2_UNIX_PATH)
		return -EINVAL;
	/* The paths may be those of this header: both are copied before one is set. */
	struct sockaddr_storage new_source, new_destination;
	socklen_t new_length;
	proxy_protocol_set_unix(&new_source, &new_length, from, from_length);
	proxy_protocol_set_unix(&new_destination, &header->destination_length, to, to_length);
	header->source = new_source;
	header->source_length = new_length;
	header->destination = new_destination;
	return 0;
}

static bool is_inet(const struct sockaddr *address)
{
	return address->sa_family == AF_INET || address->sa_family == AF_INET6;
}

int ferry_proxy_protocol_set_addresses(struct ferry_proxy_protocol *header, int socket_type,
                                       const struct sockaddr *source, socklen_t source_length,
                                       const struct sockaddr *destination,
                                       socklen_t destination_length)
{
	int status = -EAFNOSUPPORT;
	if (header == NULL || source == NULL || destination == NULL ||
	    source_length < sizeof(source->sa_family) ||
	    destination_length < sizeof(destination->sa_family) ||
	    (socket_type != SOCK_STREAM && socket_type != SOCK_DGRAM))
		return -EINVAL;
	if (is_inet(source) && is_inet(destination))
		status = set_inet_pair(header, source, source_length, destination, destination_length);
	else if (source->sa_family == AF_UNIX && destination->sa_family == AF_UNIX)
		status = set_unix_pair(header, source, source_length, destination, destination_length);
	if (status < 0)
		return status;
	header->kind = FERRY_PROXY_PROTOCOL_PROXIED;
	header->socket_type = socket_type;
	return 0;
}

int ferry_proxy_protocol_set_local(struct ferry_proxy_protocol *header)
{
	if (header == NULL)
		return -EINVAL;
	header->kind = FERRY_PROXY_PROTOCOL_LOCAL;
	header->socket_type = 0;
	header->source_length = header->destination_length = 0;
	return 0;
}

/* ---- the object ---- */

int ferry_proxy_protocol_new(struct ferry_proxy_protocol **out)
{
	if (out == NULL)
		return -EINVAL;
	*out = calloc(1, sizeof(**out));
	return *out != NULL ? 0 : -ENOMEM;
}

void ferry_proxy_protocol_free(struct ferry_proxy_protocol *header)
{
	if (header == NULL)
		return;
	free(header->tlvs);
	free(header);
}

int ferry_proxy_protocol_get_info(const struct ferry_proxy_protocol *header,
                                  struct ferry_proxy_protocol_info *info)
{
	if (header == NULL || info == NULL)
		return -EINVAL;
	*info = (struct ferry_proxy_protocol_info){.kind = header->kind,
	                                           .version = header->version,
	                                           .socket_type = header->socket_type,
	                                           .has_checksum = header->has_checksum,
	                                           .tlvs = header->tlvs,
	                                           .tlvs_length = header->tlvs_length};
	if (header->kind == FERRY_PROXY_PROTOCOL_PROXIED) {
		info->source = (const struct sockaddr *)&header->source;
		info->source_length = header->source_length;
		info->destination = (const struct sockaddr *)&header->destination;
		info->destination_length = header->destination_length;
	}
	return 0;
}

int ferry_proxy_protocol_set_checksum(struct ferry_proxy_protocol *header, bool checksum)
{
	if (header == NULL)
		return -EINVAL;
	header->has_checksum = checksum;
	return 0;
}
