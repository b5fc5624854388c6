#ifndef FERRY_CHAOS_PLAN_H
#define FERRY_CHAOS_PLAN_H

/* The plan of a client: determined by the seed alone, and not by events of the run. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REQUESTS_MAX = 20 };

/* The ways in which a client ends a connection after its last answer. */
enum leaving {
	CLOSES,         /* sends a FIN right after the last answer */
	RESETS,         /* sends an RST */
	ENDS_ITS_HALF,  /* sends a FIN after the last request, and waits for the server's */
	ASKS_FOR_CLOSE, /* sends Connection: close, and waits for the server's FIN */
	LEAVINGS
};

struct request {
	unsigned int file;
	bool has_range;
	size_t first, length;  /* the expected part of the file */
	unsigned int pause_ms; /* before it */
	unsigned int split;    /* bytes of the head before a pause; 0: no pause */
	unsigned int split_pause_ms;
};

struct plan {
	unsigned int request_count;
	enum leaving leaving;
	bool small_buffer; /* a small receive buffer: the worker waits for the client */
	struct request requests[REQUESTS_MAX];
};

/* The plan of one connection of a client; both are numbers. */
void plan_make(struct plan *plan, uint64_t seed, unsigned int client, unsigned int connection);

#endif
