#ifndef FERRY_HANDOFF_WIRE_H
#define FERRY_HANDOFF_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/handoff.h"

/*
 * The messages between dispatcher and worker: their payloads as they are on the wire. See
 * docs/handoff.md.
 */

enum {
	HANDOFF_WIRE_VERSION_MIN = 1, /* the versions of this library */
	HANDOFF_WIRE_VERSION_MAX = 2, /* 2: RETURN and RECALL */
	HANDOFF_WIRE_HELLO_SIZE = 24,
	HANDOFF_WIRE_HANDOFF_SIZE = 48, /* without name, blob and bytes */
	HANDOFF_WIRE_ANSWER_SIZE = 24,
	HANDOFF_WIRE_CREDITS_SIZE = 8,
	HANDOFF_WIRE_RECALL_SIZE = 8,
	HANDOFF_WIRE_PAYLOAD_MAX = HANDOFF_WIRE_HANDOFF_SIZE + FERRY_HANDOFF_NAME_MAX + 1 +
	                           FERRY_HANDOFF_BLOB_MAX + FERRY_HANDOFF_BYTES_MAX
};

/* Message types. Both ends ignore others, which are for later versions. */
enum handoff_wire_type {
	HANDOFF_WIRE_HELLO = 1,   /* from both: the first message */
	HANDOFF_WIRE_HANDOFF = 2, /* from the dispatcher, with one descriptor */
	HANDOFF_WIRE_CLAIM = 3,   /* from the worker, as the next four; up to DONE: answers */
	HANDOFF_WIRE_LOST = 4,    /* the descriptor did not arrive */
	HANDOFF_WIRE_REJECT = 5,  /* refused, before or after the claim */
	HANDOFF_WIRE_DONE = 6,
	HANDOFF_WIRE_CREDITS = 7,
	HANDOFF_WIRE_DRAIN = 8, /* from both, without payload: no more handoffs */
	HANDOFF_WIRE_RETURN =
	    9, /* from the worker, with one descriptor, in place of DONE; payload as HANDOFF */
	HANDOFF_WIRE_RECALL = 10 /* from the dispatcher: return what is idle */
};

struct handoff_wire_hello {
	uint16_t version_min, version_max;
	uint32_t credits; /* of a worker */
	uint64_t epoch;   /* of a dispatcher: the channel's number */
};

/* The identity of a descriptor, which both ends compare. */
struct handoff_wire_identity {
	uint8_t kind;    /* enum ferry_descriptor_kind, as coarse as fstat(2) */
	uint64_t cookie; /* SO_COOKIE of a socket, the inode number of anything else */
	uint64_t device; /* 0 for a socket */
};

struct handoff_wire_handoff {
	uint64_t id;
	uint64_t epoch;
	struct handoff_wire_identity identity;
	bool inet_stream; /* a non-blocking stream of IPv4 or IPv6 */
	uint8_t attempt;
	uint16_t name_length; /* without its terminating zero, which is on the wire */
	uint32_t blob_length;
	uint32_t bytes_length;
	/* Set by handoff_wire_handoff_get() only: pointers into the payload, where these three follow the
	 * fixed part in this order. */
	const char *name;
	const unsigned char *blob;
	const unsigned char *bytes;
};

struct handoff_wire_answer {
	uint64_t id;
	uint64_t epoch;
	int32_t reason; /* of REJECT */
};

/* Each writes the fixed part of its payload. */
void handoff_wire_hello_put(unsigned char *payload, const struct handoff_wire_hello *hello);
void handoff_wire_handoff_put(unsigned char *payload, const struct handoff_wire_handoff *handoff);
void handoff_wire_answer_put(unsigned char *payload, const struct handoff_wire_answer *answer);
void handoff_wire_credits_put(unsigned char *payload, uint32_t credits);
void handoff_wire_recall_put(unsigned char *payload, uint32_t spread_msec);

/* Each reads a payload: NULL, or a text that names the fault. A payload without a variable part may be
 * longer than in this version. */
const char *handoff_wire_hello_get(const unsigned char *payload, size_t length,
                                   struct handoff_wire_hello *hello);
const char *handoff_wire_handoff_get(const unsigned char *payload, size_t length,
                                     struct handoff_wire_handoff *handoff);
/* Reads the fixed part alone: name, blob and bytes are not set. */
const char *handoff_wire_handoff_get_fixed(const unsigned char *payload, size_t length,
                                           struct handoff_wire_handoff *handoff);
const char *handoff_wire_answer_get(const unsigned char *payload, size_t length,
                                    struct handoff_wire_answer *answer);
const char *handoff_wire_credits_get(const unsigned char *payload, size_t length,
                                     uint32_t *credits);
const char *handoff_wire_recall_get(const unsigned char *payload, size_t length,
                                    uint32_t *spread_msec);

/* The highest version in common with the other end, or 0. `highest`: this end's. */
unsigned int handoff_wire_common_version(const struct handoff_wire_hello *other,
                                         unsigned int highest);

#endif
