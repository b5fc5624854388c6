#ifndef FERRY_DESCRIPTOR_DESCRIPTION_H
#define FERRY_DESCRIPTOR_DESCRIPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ferry/descriptor.h"

/*
 * The description of a descriptor that one process sends to another. It has the results of the inspection
 * that are the same in both processes and do not change on the way. docs/descriptor.md describes the bytes.
 */

enum {
	DESCRIPTION_SIZE = 32 /* on the wire, without the name */
};

enum description_flags {
	DESCRIPTION_APPEND = 1,
	DESCRIPTION_LISTENING = 2,
	DESCRIPTION_CONNECTED = 4,
	DESCRIPTION_COARSE = 8 /* the kind comes from fstat(2) alone: there was no /proc */
};

struct description {
	uint8_t kind;   /* enum ferry_descriptor_kind */
	uint8_t access; /* O_RDONLY, O_WRONLY, O_RDWR, 3 for neither, 4 for O_PATH */
	uint8_t flags;  /* enum description_flags */
	uint16_t family, type, protocol;
	uint64_t identity; /* a socket's cookie, or the inode's number */
	uint64_t device;   /* 0 for a socket */
};

/* Makes the description of an inspected descriptor. */
void description_make(struct description *description, const struct ferry_descriptor_info *info,
                      bool coarse);

/* Writes DESCRIPTION_SIZE bytes. The caller writes the name behind them. */
void description_put(unsigned char *payload, const struct description *description,
                     size_t name_length);

/* Parses a payload. Returns NULL, or the fault in words that follow "the peer sent". The name points into the
 * payload and is not terminated. */
const char *description_get(const unsigned char *payload, size_t length,
                            struct description *description, const char **name,
                            size_t *name_length);

/* Compares the description that was received with one of the descriptor that has arrived. Returns NULL, or the
 * difference in words that follow "the peer sent". */
const char *description_compare(const struct description *received,
                                const struct description *found);

#endif
