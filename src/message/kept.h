#ifndef FERRY_MESSAGE_KEPT_H
#define FERRY_MESSAGE_KEPT_H

#include <stddef.h>

struct ferry_message;

/* Messages that outlive message_received, for the layers above. */

/* Called in message_received: a copy, with the descriptors of `message`, which has none then. NULL: no memory, and nothing
 * has changed. */
struct ferry_message *message_keep(struct ferry_message *message);

/* The number of descriptors that have arrived with it. */
unsigned int message_count_arrived(const struct ferry_message *message);

/* Frees the copy, and closes its descriptors that were not stolen. NULL: nothing happens. */
void message_free_kept(struct ferry_message *message);

#endif
