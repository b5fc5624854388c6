#ifndef FERRY_SUPERVISOR_REPLACING_H
#define FERRY_SUPERVISOR_REPLACING_H

#include <stdint.h>

/* The steps of a replacement. In each, every place of the step gets a second process; once all of these are ready, they
 * have the places. A place without a process is not waited for: it starts one of the new generation. */

struct ferry_supervisor;

/* Goes as far as it can. Runs callbacks: the caller looks at `freed` of the supervisor. */
void replacing_advance(struct ferry_supervisor *supervisor, int64_t now);

#endif
