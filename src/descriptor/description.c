#include "descriptor/description.h"

#include <fcntl.h>
#include <string.h>

#include "util/little_endian.h"
#include "util/utf8.h"

enum { VERSION = 1, ACCESS_PATH = 4 };

enum {
	AT_VERSION = 0,
	AT_KIND = 1,
	AT_ACCESS = 2,
	AT_FLAGS = 3,
	AT_FAMILY = 4,
	AT_TYPE = 6,
	AT_PROTOCOL = 8,
	AT_NAME_LENGTH = 10,
	AT_RESERVED = 11, /* 5 bytes */
	AT_IDENTITY = 16,
	AT_DEVICE = 24,
	RESERVED_SIZE = 5
};

/* ---- making ---- */

static uint8_t description_flags_of(const struct ferry_descriptor_info *info, bool coarse)
{
	unsigned int flags = 0;

	if (info->append)
		flags |= DESCRIPTION_APPEND;
	if (info->listening)
		flags |= DESCRIPTION_LISTENING;
	if (info->connected)
		flags |= DESCRIPTION_CONNECTED;
	if (coarse)
		flags |= DESCRIPTION_COARSE;
	return (uint8_t)flags;
}

void description_make(struct description *description, const struct ferry_descriptor_info *info,
                      bool coarse)
{
	bool is_socket = info->kind == FERRY_DESCRIPTOR_SOCKET;

	*description = (struct description){
	    .kind = (uint8_t)info->kind,
	    .access = (uint8_t)(info->access == O_PATH ? ACCESS_PATH : info->access),
	    .flags = description_flags_of(info, coarse),
	    .family = (uint16_t)info->family,
	    .type = (uint16_t)info->type,
	    .protocol = (uint16_t)info->protocol,
	    .identity = is_socket ? info->cookie : info->inode,
	    .device = is_socket ? 0 : info->device,
	};
}

/* ---- on the wire ---- */

void description_put(unsigned char *payload, const struct description *description,
                     size_t name_length)
{
	payload[AT_VERSION] = VERSION;
	payload[AT_KIND] = description->kind;
	payload[AT_ACCESS] = description->access;
	payload[AT_FLAGS] = description->flags;
	little_endian_put(payload + AT_FAMILY, description->family, 2);
	little_endian_put(payload + AT_TYPE, description->type, 2);
	little_endian_put(payload + AT_PROTOCOL, description->protocol, 2);
	payload[AT_NAME_LENGTH] = (unsigned char)name_length;
	memset(payload + AT_RESERVED, 0, RESERVED_SIZE);
	little_endian_put(payload + AT_IDENTITY, description->identity, 8);
	little_endian_put(payload + AT_DEVICE, description->device, 8);
}

static const char *check_form(const unsigned char *payload, size_t length)
{
	static const unsigned char zeroes[RESERVED_SIZE];

	if (length < DESCRIPTION_SIZE)
		return "a description that is too short";
	if (payload[AT_VERSION] != VERSION)
		return "a description of another version";
	if (length != DESCRIPTION_SIZE + (size_t)payload[AT_NAME_LENGTH])
		return "a description of another length than it says";
	if (memcmp(payload + AT_RESERVED, zeroes, RESERVED_SIZE) != 0)
		return "a description with bytes of a later version";
	return NULL;
}

static const char *check_name(const char *name, size_t length)
{
	if (memchr(name, '\0', length) != NULL)
		return "a name with a zero byte in it";
	return utf8_is_valid(name, length) ? NULL : "a name that is not UTF-8";
}

static const char *check_values(const struct description *description)
{
	const unsigned int flags =
	    DESCRIPTION_APPEND | DESCRIPTION_LISTENING | DESCRIPTION_CONNECTED | DESCRIPTION_COARSE;

	if (description->kind > FERRY_DESCRIPTOR_DEVICE || description->access > ACCESS_PATH ||
	    (description->flags & ~flags) != 0)
		return "a description with unknown words";
	/* Every other kind is either known without /proc, or not known without it. */
	if ((description->flags & DESCRIPTION_COARSE) != 0 &&
	    description->kind != FERRY_DESCRIPTOR_FILE && description->kind != FERRY_DESCRIPTOR_OTHER)
		return "a description that contradicts itself";
	return NULL;
}

const char *description_get(const unsigned char *payload, size_t length,
                            struct description *description, const char **name, size_t *name_length)
{
	const char *fault = check_form(payload, length);
	if (fault != NULL)
		return fault;
	*description = (struct description){
	    .kind = payload[AT_KIND],
	    .access = payload[AT_ACCESS],
	    .flags = payload[AT_FLAGS],
	    .family = (uint16_t)little_endian_get(payload + AT_FAMILY, 2),
	    .type = (uint16_t)little_endian_get(payload + AT_TYPE, 2),
	    .protocol = (uint16_t)little_endian_get(payload + AT_PROTOCOL, 2),
	    .identity = little_endian_get(payload + AT_IDENTITY, 8),
	    .device = little_endian_get(payload + AT_DEVICE, 8),
	};
	*name = (const char *)payload + DESCRIPTION_SIZE;
	*name_length = payload[AT_NAME_LENGTH];
	fault = check_name(*name, *name_length);
	return fault != NULL ? fault : check_values(description);
}

/* ---- comparing ---- */

/* Whether a process without /proc finds the kind `coarse` for a descriptor of `kind`. */
static bool looks_like(uint8_t kind, uint8_t coarse)
{
	switch (kind) {
	case FERRY_DESCRIPTOR_MEMFD:
		return coarse == FERRY_DESCRIPTOR_FILE;
	case FERRY_DESCRIPTOR_PIDFD: /* since Linux 6.9 a file to fstat(2) */
		return coarse == FERRY_DESCRIPTOR_FILE || coarse == FERRY_DESCRIPTOR_OTHER;
	case FERRY_DESCRIPTOR_EVENTFD:
	case FERRY_DESCRIPTOR_TIMERFD:
	case FERRY_DESCRIPTOR_SIGNALFD:
	case FERRY_DESCRIPTOR_INOTIFY:
	case FERRY_DESCRIPTOR_EPOLL:
		return coarse == FERRY_DESCRIPTOR_OTHER;
	default:
		return false;
	}
}

/* Whether the kinds match, although one of the two processes may have no /proc. */
static bool is_same_kind(const struct description *received, const struct description *found)
{
	bool received_coarse = (received->flags & DESCRIPTION_COARSE) != 0;
	bool found_coarse = (found->flags & DESCRIPTION_COARSE) != 0;

	if (received->kind == found->kind)
		return true;
	return (received_coarse && looks_like(found->kind, received->kind)) ||
	       (found_coarse && looks_like(received->kind, found->kind));
}

const char *description_compare(const struct description *received, const struct description *found)
{
	unsigned int differing = received->flags ^ found->flags;

	if (!is_same_kind(received, found))
		return "a descriptor of another kind than it says";
	if (received->access != found->access || (differing & DESCRIPTION_APPEND) != 0)
		return "a descriptor with another access mode than it says";
	if (received->family != found->family || received->type != found->type ||
	    received->protocol != found->protocol)
		return "a socket of another protocol than it says";
	if ((differing & (DESCRIPTION_LISTENING | DESCRIPTION_CONNECTED)) != 0)
		return "a socket in another state than it says";
	if (received->identity != found->identity || received->device != found->device)
		return "another descriptor than it says";
	return NULL;
}
