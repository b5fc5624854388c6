#ifndef FERRY_TESTS_FAULT_ENDS_H
#define FERRY_TESTS_FAULT_ENDS_H

/* Two transports, joined, whose callbacks count what arrives and tell the errors. */

#include "fault_sweep.h"

enum { ENDS_UNIX, ENDS_TCP, ENDS_PIPES };

struct end {
	struct ferry_transport *transport; /* NULL: not made, or lost and freed */
	bool lost, half_ended;
	size_t bytes;
	unsigned int fds;
	unsigned int made; /* calls of connection_made */
};
extern struct end near_end, far_end;

/* Makes both, armed, and sets their protocol. False if one is missing: the error is told. */
bool open_ends(struct event_base *loop, int kind);

/* As make_swept_transport(), and tells the error. */
struct ferry_transport *open_end(struct event_base *loop, int fd);

/* Sets the protocol that counts for this end. False if that failed: the error is told. */
bool count_at(struct end *end);

/* Whether both ends are lost. */
bool ends_are_lost(void);

/* Whether the far end has so much, and both ends were lost without an error. */
bool ends_have(size_t bytes, unsigned int fds);

/* A listening unix socket of the test, with a name by the kernel. */
int make_listening(void);

/* Frees what is left. */
void free_ends(void);

/* Closes a descriptor of the test. */
void close_quietly(int fd);

#endif
