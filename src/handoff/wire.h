#ifndef FERRY_HANDOFF_WIRE_H
#define FERRY_HANDOFF_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "ferry/handoff.h"

/*
 * What dispatcher and worker say to each other: the payloads of messages, as they are on the wire. See
 * docs/handoff.md.
 */

enum {
	FRAME_VERSION_MIN = 1, /* the versions that we speak */
	FRAME_VERSION_MAX = 1,
	FRAME_HELLO_SIZE = 24,
	FRAME_HANDOFF_SIZE = 48, /* without name, blob and bytes */
	FRAME_ANSWER_SIZE = 24,
	FRAME_CREDITS_SIZE = 8,
	FRAME_PAYLOAD_MAX = FRAME_HANDOFF_SIZE + FERRY_HANDOFF_NAME_MAX + 1 + FERRY_HANDOFF_BLOB_MAX +
	                    FERRY_HANDOFF_BYTES_MAX
};

/* Message types. Others are ignored: they are for later versions. */
enum frame_type {
	FRAME_HELLO = 1,   /* both: the first message */
	FRAME_HANDOFF = 2, /* dispatcher: with one descriptor */
	FRAME_CLAIM = 3,   /* worker, as the next four: answers */
	FRAME_LOST = 4,    /* the descriptor did not arrive */
	FRAME_REJECT = 5,  /* refused, before or after the claim */
	FRAME_DONE = 6,
	FRAME_CREDITS = 7,
	FRAME_DRAIN = 8 /* both, without payload: no more handoffs */
};

struct frame_hello {
	uint16_t version_min, version_max;
	uint32_t credits; /* of a worker */
	uint64_t epoch;   /* of a dispatcher: the channel's number */
};

/* What a descriptor is, for both ends to compare. */
struct frame_identity {
	uint8_t kind;    /* enum ferry_descriptor_kind, as coarse as fstat(2) */
	uint64_t cookie; /* SO_COOKIE of a socket, the inode number of anything else */
	uint64_t device; /* 0 for a socket */
};

struct frame_handoff {
	uint64_t id;
	uint64_t epoch;
	struct frame_identity identity;
	uint8_t attempt;
	uint16_t name_length; /* without its terminating zero, which is on the wire */
	uint32_t blob_length;
	uint32_t bytes_length;
	/* Set by frame_handoff_get(), in place; behind the fixed part, in this order. */
	const char *name;
	const unsigned char *blob;
	const unsigned char *bytes;
};

struct frame_answer {
	uint64_t id;
	uint64_t epoch;
	int32_t reason; /* of REJECT */
};

/* Each writes the fixed part of its payload. */
void frame_hello_put(unsigned char *payload, const struct frame_hello *hello);
void frame_handoff_put(unsigned char *payload, const struct frame_handoff *handoff);
void frame_answer_put(unsigned char *payload, const struct frame_answer *answer);
void frame_credits_put(unsigned char *payload, uint32_t credits);

/* Each takes a payload apart: NULL, or what is wrong with it. Longer ones than those of this version are
 * welcome where there is no variable part. */
const char *frame_hello_get(const unsigned char *payload, size_t length, struct frame_hello *hello);
const char *frame_handoff_get(const unsigned char *payload, size_t length,
                              struct frame_handoff *handoff);
const char *frame_answer_get(const unsigned char *payload, size_t length,
                             struct frame_answer *answer);
const char *frame_credits_get(const unsigned char *payload, size_t length, uint32_t *credits);

/* The version to speak with the other end, or 0 if there is none. */
unsigned int frame_common_version(const struct frame_hello *other);

#endif
