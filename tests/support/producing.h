#ifndef FERRY_TESTS_PRODUCING_H
#define FERRY_TESTS_PRODUCING_H

/* A transport with a producer that counts its callbacks, and a far end in plain system calls. */

#include <stdbool.h>
#include <stddef.h>

#include "recorder.h"

extern int producing_ends[2];
extern struct recorder producing;

/* A producer that counts its callbacks. */
struct producer {
	unsigned int resumed, paused, stopped;
	bool from_loop; /* no callback may run now */
	void (*on_resume)(struct producer *producer);
	void (*on_pause)(struct producer *producer);
	void (*on_stop)(struct producer *producer);
	size_t left; /* for chunks */
};

extern struct producer producer;

void producer_resume(void *context);
void producer_pause(void *context);

extern const struct ferry_producer_callbacks producer_callbacks;

void open_producing(void);
void close_producing(void);
int register_producer(enum ferry_producer_mode mode);
void open_push(void);

/* Fills the socket: no byte leaves until the test reads. */
void fill_socket(void);
void write_bytes(size_t length);
void queue_fd(void);
void pump_until_sent(void);

#endif
