#ifndef FERRY_TAKEOVER_WIRE_H
#define FERRY_TAKEOVER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The messages between the two ends of a takeover: their payloads as they are on the wire. See
 * docs/handoff.md.
 */

enum {
	TAKEOVER_WIRE_VERSION_MIN = 1, /* the versions of this library */
	TAKEOVER_WIRE_VERSION_MAX = 1,
	TAKEOVER_WIRE_HELLO_SIZE = 8,
	TAKEOVER_WIRE_REQUEST_SIZE = 8, /* without the names */
	TAKEOVER_WIRE_REQUEST_MAX = 1024 * 1024,
	TAKEOVER_WIRE_LISTENER_SIZE = 32, /* without the names */
	TAKEOVER_WIRE_NUMBER_SIZE = 8
};

/* Message types, apart from those of enum handoff_wire_type. Both ends ignore others, which are for later
 * versions. */
enum takeover_wire_type {
	TAKEOVER_WIRE_HELLO = 32,     /* from both: the first message */
	TAKEOVER_WIRE_REQUEST = 33,   /* from the new process: the names of the sockets */
	TAKEOVER_WIRE_LISTENER = 34,  /* from the old one: a socket, its file's directory, its lock */
	TAKEOVER_WIRE_END = 35,       /* from the old one: a number, the count of LISTENERs */
	TAKEOVER_WIRE_ACCEPTING = 36, /* from the new one, without payload */
	TAKEOVER_WIRE_RELEASED = 37,  /* from the old one, without payload: it has stopped */
	TAKEOVER_WIRE_WITHDRAWN = 38, /* from the old one: a number, a negative errno. It goes on */
	TAKEOVER_WIRE_STATE = 39      /* from the old one, before END: bytes of the application's */
};

struct takeover_wire_listener {
	uint64_t cookie; /* SO_COOKIE */
	uint64_t device; /* of the file, if there is one */
	uint64_t inode;
	uint16_t name_length;
	uint16_t file_name_length; /* 0: no file */
	bool locked;               /* there is a lock beside the file */
	/* Set by takeover_wire_listener_get() only: pointers into the payload. No zero follows. */
	const char *name;
	const char *file_name; /* in the directory */
};

/* Each writes the fixed part of its payload. */
void takeover_wire_hello_put(unsigned char *payload);
void takeover_wire_request_put(unsigned char *payload, uint32_t count);
void takeover_wire_listener_put(unsigned char *payload,
                                const struct takeover_wire_listener *listener);
void takeover_wire_number_put(unsigned char *payload, int32_t number);

/* Each reads a payload: 0, -EPROTO, or -EPROTONOSUPPORT if a HELLO has no version in common. */
int takeover_wire_hello_get(const unsigned char *payload, size_t length);
int takeover_wire_request_get(const unsigned char *payload, size_t length, uint32_t *count);
int takeover_wire_listener_get(const unsigned char *payload, size_t length,
                               struct takeover_wire_listener *listener);
int takeover_wire_number_get(const unsigned char *payload, size_t length, int32_t *number);

#endif
