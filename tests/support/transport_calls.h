#ifndef FERRY_TESTS_TRANSPORT_CALLS_H
#define FERRY_TESTS_TRANSPORT_CALLS_H

/* The calls on the transports of two objects that own one each, for a table of every_call.h: each is made on both. */

#include "every_call.h"
#include "ferry/ferry.h"

/* The test's: return the transports, or NULL once they are gone. */
extern struct ferry_transport *(*transport_of_first)(void), *(*transport_of_second)(void);

extern const struct every_call transport_calls[];
extern const int transport_call_count;

#endif
