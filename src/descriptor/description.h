#ifndef FERRY_DESCRIPTOR_DESCRIPTION_H
#define FERRY_DESCRIPTOR_DESCRIPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/descriptor.h"

/*
 * What one process says of a descriptor to another: of all that inspection finds, what is the same
 * at both ends and does not change on the way. See docs/descriptor.md.
 */

enum {
	DESCRIPTION_SIZE = 32 /* on the wire, without the name */
};

enum description_flags {
	DESCRIPTION_APPEND = 1,
	DESCRIPTION_LISTENING = 2,
	DESCRIPTION_CONNECTED = 4,
	DESCRIPTION_COARSE = 8 /* the kind is what fstat(2) says: there was no /proc */
};

struct description {
	uint8_t kind;   /* enum ferry_descriptor_kind */
	uint8_t access; /* O_RDONLY, O_WRONLY, O_RDWR, 3 for neither, 4 for O_PATH */
	uint8_t flags;  /* enum description_flags */
	uint16_t family, type, protocol;
	uint64_t identity; /* a socket's cookie, or the inode's number */
	uint64_t device;   /* 0 for a socket */
};

/* The description of what was found. */
void description_make(struct description *description, const struct ferry_descriptor_info *info,
                      bool coarse);

/* Writes DESCRIPTION_SIZE bytes, which the name follows. */
void description_put(unsigned char *payload, const struct description *description,
                     size_t name_length);

/* Takes a payload apart: NULL, or what is wrong with it. The name is in it, and not terminated. */
const char *description_get(const unsigned char *payload, size_t length,
                            struct description *description, const char **name,
                            size_t *name_length);

/* Compares what was said with what has arrived: NULL, or what differs. */
const char *description_compare(const struct description *said, const struct description *found);

#endif
