#ifndef FERRY_UPGRADE_SUCCEEDED_H
#define FERRY_UPGRADE_SUCCEEDED_H

#include <stdbool.h>

/*
 * A process that was replaced watches its successor until it ends itself: one that is killed is started again. If the
 * successor was replaced in turn, its death harms nobody. It therefore leaves a byte in the channel by which it was
 * started, whose takeover has ended; each of the two keeps a duplicate of its end.
 */

/* In the successor. */
void succeeded_send(int token);

/* In its predecessor: whether the byte is there. */
bool succeeded_look(int token);

#endif
