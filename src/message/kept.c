#include "message/kept.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/fds.h"
#include "message/core.h"

/* One piece of memory: the descriptors and the payload are behind the message. */
struct kept_message {
	struct ferry_message message; /* first: its address is that of the whole */
	int *fds;
	int memory[];
};

struct ferry_message *message_keep(struct ferry_message *message)
{
	const size_t fds_size = message->arrived * sizeof(int);
	struct kept_message *kept = malloc(sizeof(*kept) + fds_size + message->length);
	if (kept == NULL)
		return NULL;
	kept->message = *message;
	kept->message.stream = NULL;
	kept->message.fds = &kept->fds;
	kept->message.payload = (unsigned char *)kept->memory + fds_size;
	kept->fds = kept->memory;
	if (message->length > 0)
		memcpy((unsigned char *)kept->memory + fds_size, message->payload, message->length);
	for (unsigned int i = 0; i < message->arrived; i++) {
		kept->fds[i] = (*message->fds)[i];
		(*message->fds)[i] = -1;
	}
	return (struct ferry_message *)kept;
}

unsigned int message_count_arrived(const struct ferry_message *message)
{
	return message->arrived;
}

void message_free_kept(struct ferry_message *message)
{
	if (message == NULL)
		return;
	(void)fds_close(*message->fds, message->arrived);
	free(message);
}
