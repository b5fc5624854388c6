#ifndef FERRY_TESTS_MODEL_WALK_H
#define FERRY_TESTS_MODEL_WALK_H

/* Random calls at both ends of a connection, from outside the loop and in callbacks, against a model of what must
 * come of them: the bytes in order and the files whole, each descriptor no later than its byte and not before
 * earlier ones, each callback that is due and no other, and no descriptor leaked or closed twice.
 *
 * The clock stands still between the walk's own steps. A walk depends on the numbers of support_random_below() alone
 * (on TCP also on the kernel's timers), and no verdict on the time. */

#include <stdbool.h>

/* One walk, of as many steps as `goes_on` allows; its argument is the count of those before. */
void model_walk(bool (*goes_on)(unsigned int steps));

#endif
