#ifndef FERRY_CHAOS_PLAN_H
#define FERRY_CHAOS_PLAN_H

/* What a client does: chosen by the seed alone, and not by what happens meanwhile. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REQUESTS_MAX = 20 };

/* How a client ends its connection, once it has its answers. */
enum leaving {
	CLOSES,         /* a FIN, right after the last answer */
	RESETS,         /* an RST in its place */
	ENDS_ITS_HALF,  /* a FIN behind the last request, and waits for the server's */
	ASKS_FOR_CLOSE, /* says so in the last request, and waits for the server's FIN */
	LEAVINGS
};

struct request {
	unsigned int file;
	bool has_range;
	size_t first, length;  /* of the file, without a range too */
	unsigned int pause_ms; /* before it */
	unsigned int split;    /* bytes of the head that go first; 0: all of it does */
	unsigned int split_pause_ms;
};

struct plan {
	unsigned int request_count;
	enum leaving leaving;
	bool small_buffer; /* at the client: the worker has to wait for it */
	struct request requests[REQUESTS_MAX];
};

/* The plan of a client's so-manieth connection. */
void plan_make(struct plan *plan, uint64_t seed, unsigned int client, unsigned int connection);

#endif
