#include "handoff/wire.h"

#include <string.h>

#include "util/little_endian.h"

/* ---- hello ---- */

void handoff_wire_hello_put(unsigned char *payload, const struct handoff_wire_hello *hello)
{
	memset(payload, 0, HANDOFF_WIRE_HELLO_SIZE);
	little_endian_put(payload, hello->version_min, 2);
	little_endian_put(payload + 2, hello->version_max, 2);
	little_endian_put(payload + 4, hello->credits, 4);
	little_endian_put(payload + 8, hello->epoch, 8);
}

const char *handoff_wire_hello_get(const unsigned char *payload, size_t length,
                                   struct handoff_wire_hello *hello)
{
	if (length < HANDOFF_WIRE_HELLO_SIZE)
		return "a hello that is too short";
	hello->version_min = (uint16_t)little_endian_get(payload, 2);
	hello->version_max = (uint16_t)little_endian_get(payload + 2, 2);
	hello->credits = (uint32_t)little_endian_get(payload + 4, 4);
	hello->epoch = little_endian_get(payload + 8, 8);
	if (hello->version_min == 0 || hello->version_min > hello->version_max)
		return "a hello without a version";
	return NULL;
}

unsigned int handoff_wire_common_version(const struct handoff_wire_hello *other,
                                         unsigned int highest)
{
	if (other->version_max < highest)
		highest = other->version_max;
	return highest < HANDOFF_WIRE_VERSION_MIN || highest < other->version_min ? 0 : highest;
}

/* ---- handoff ---- */

enum { FLAG_INET_STREAM = 1 }; /* others are for later versions */

void handoff_wire_handoff_put(unsigned char *payload, const struct handoff_wire_handoff *handoff)
{
	little_endian_put(payload, handoff->id, 8);
	little_endian_put(payload + 8, handoff->epoch, 8);
	little_endian_put(payload + 16, handoff->identity.cookie, 8);
	little_endian_put(payload + 24, handoff->identity.device, 8);
	payload[32] = handoff->identity.kind;
	payload[33] = handoff->attempt;
	little_endian_put(payload + 34, handoff->name_length, 2);
	little_endian_put(payload + 36, handoff->blob_length, 4);
	little_endian_put(payload + 40, handoff->bytes_length, 4);
	little_endian_put(payload + 44, handoff->inet_stream ? FLAG_INET_STREAM : 0, 4);
}

static const char *check_lengths(const struct handoff_wire_handoff *handoff, size_t length)
{
	if (handoff->name_length > FERRY_HANDOFF_NAME_MAX ||
	    handoff->blob_length > FERRY_HANDOFF_BLOB_MAX ||
	    handoff->bytes_length > FERRY_HANDOFF_BYTES_MAX)
		return "a handoff over the limits";
	if (length != HANDOFF_WIRE_HANDOFF_SIZE + (size_t)handoff->name_length + 1 +
	                  handoff->blob_length + handoff->bytes_length)
		return "a handoff of another length than it declares";
	return NULL;
}

const char *handoff_wire_handoff_get_fixed(const unsigned char *payload, size_t length,
                                           struct handoff_wire_handoff *handoff)
{
	if (length < HANDOFF_WIRE_HANDOFF_SIZE)
		return "a handoff that is too short";
	handoff->id = little_endian_get(payload, 8);
	handoff->epoch = little_endian_get(payload + 8, 8);
	handoff->identity.cookie = little_endian_get(payload + 16, 8);
	handoff->identity.device = little_endian_get(payload + 24, 8);
	handoff->identity.kind = payload[32];
	handoff->attempt = payload[33];
	handoff->name_length = (uint16_t)little_endian_get(payload + 34, 2);
	handoff->blob_length = (uint32_t)little_endian_get(payload + 36, 4);
	handoff->bytes_length = (uint32_t)little_endian_get(payload + 40, 4);
	handoff->inet_stream = (little_endian_get(payload + 44, 4) & FLAG_INET_STREAM) != 0;
	return NULL;
}

const char *handoff_wire_handoff_get(const unsigned char *payload, size_t length,
                                     struct handoff_wire_handoff *handoff)
{
	const char *fault = handoff_wire_handoff_get_fixed(payload, length, handoff);
	if (fault == NULL)
		fault = check_lengths(handoff, length);
	if (fault != NULL)
		return fault;
	handoff->name = (const char *)payload + HANDOFF_WIRE_HANDOFF_SIZE;
	handoff->blob = payload + HANDOFF_WIRE_HANDOFF_SIZE + handoff->name_length + 1;
	handoff->bytes = handoff->blob + handoff->blob_length;
	if (memchr(handoff->name, '\0', (size_t)handoff->name_length + 1) !=
	    handoff->name + handoff->name_length)
		return "a handoff whose name does not end where it declares";
	return NULL;
}

/* ---- answers ---- */

void handoff_wire_answer_put(unsigned char *payload, const struct handoff_wire_answer *answer)
{
	little_endian_put(payload, answer->id, 8);
	little_endian_put(payload + 8, answer->epoch, 8);
	little_endian_put(payload + 16, (uint32_t)answer->reason, 4);
	little_endian_put(payload + 20, 0, 4);
}

const char *handoff_wire_answer_get(const unsigned char *payload, size_t length,
                                    struct handoff_wire_answer *answer)
{
	if (length < HANDOFF_WIRE_ANSWER_SIZE)
		return "an answer that is too short";
	answer->id = little_endian_get(payload, 8);
	answer->epoch = little_endian_get(payload + 8, 8);
	answer->reason = (int32_t)little_endian_get(payload + 16, 4);
	return NULL;
}

/* ---- one number ---- */

static void put_number(unsigned char *payload, uint32_t number)
{
	little_endian_put(payload, number, 4);
	little_endian_put(payload + 4, 0, 4);
}

void handoff_wire_credits_put(unsigned char *payload, uint32_t credits)
{
	put_number(payload, credits);
}

const char *handoff_wire_credits_get(const unsigned char *payload, size_t length, uint32_t *credits)
{
	if (length < HANDOFF_WIRE_CREDITS_SIZE)
		return "credits that are too short";
	*credits = (uint32_t)little_endian_get(payload, 4);
	return NULL;
}

void handoff_wire_recall_put(unsigned char *payload, uint32_t spread_msec)
{
	put_number(payload, spread_msec);
}

const char *handoff_wire_recall_get(const unsigned char *payload, size_t length,
                                    uint32_t *spread_msec)
{
	if (length < HANDOFF_WIRE_RECALL_SIZE)
		return "a recall that is too short";
	*spread_msec = (uint32_t)little_endian_get(payload, 4);
	return NULL;
}
