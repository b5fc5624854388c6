#ifndef FERRY_TAKEOVER_WIRE_H
#define FERRY_TAKEOVER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What the two ends of a takeover say to each other: the payloads of messages, as they are on the wire.
 * See docs/handoff.md.
 */

enum {
	TAKEOVER_WIRE_VERSION_MIN = 1, /* the versions that we speak */
	TAKEOVER_WIRE_VERSION_MAX = 1,
	TAKEOVER_WIRE_HELLO_SIZE = 8,
	TAKEOVER_WIRE_REQUEST_SIZE = 8, /* without the names */
	TAKEOVER_WIRE_REQUEST_MAX = 1024 * 1024,
	TAKEOVER_WIRE_LISTENER_SIZE = 32, /* without the names */
	TAKEOVER_WIRE_NUMBER_SIZE = 8
};

/* Message types, apart from those of enum handoff_wire_type. Others are ignored: they are for later versions. */
enum takeover_wire_type {
	TAKEOVER_WIRE_HELLO = 32,   /* both: the first message */
	TAKEOVER_WIRE_REQUEST = 33, /* new: which listeners */
	TAKEOVER_WIRE_LISTENER =
	    34,                 /* old: one of them, with its socket, its file's directory, its lock */
	TAKEOVER_WIRE_END = 35, /* old: a number: how many that were */
	TAKEOVER_WIRE_ACCEPTING = 36, /* new, without payload */
	TAKEOVER_WIRE_RELEASED = 37,  /* old, without payload: it has stopped */
	TAKEOVER_WIRE_WITHDRAWN = 38  /* old: a number: a negative errno. Everything stays its own */
};

struct takeover_wire_listener {
	uint64_t cookie; /* SO_COOKIE */
	uint64_t device; /* of the file, where there is one */
	uint64_t inode;
	uint16_t name_length;
	uint16_t file_name_length; /* 0: no file */
	bool locked;               /* there is a lock beside the file */
	const char *name;          /* set by the get function, in place: neither ends with a zero */
	const char *file_name;     /* in the directory */
};

/* Each writes a whole payload of fixed size, or the fixed part of one. */
void takeover_wire_hello_put(unsigned char *payload);
void takeover_wire_request_put(unsigned char *payload, uint32_t count);
void takeover_wire_listener_put(unsigned char *payload,
                                const struct takeover_wire_listener *listener);
void takeover_wire_number_put(unsigned char *payload, int32_t number);

/* 0, -EPROTO, or -EPROTONOSUPPORT: a hello without a version in common. */
int takeover_wire_hello_get(const unsigned char *payload, size_t length);
int takeover_wire_request_get(const unsigned char *payload, size_t length, uint32_t *count);
int takeover_wire_listener_get(const unsigned char *payload, size_t length,
                               struct takeover_wire_listener *listener);
int takeover_wire_number_get(const unsigned char *payload, size_t length, int32_t *number);

#endif
