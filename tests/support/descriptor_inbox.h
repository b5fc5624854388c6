#ifndef FERRY_TESTS_DESCRIPTOR_INBOX_H
#define FERRY_TESTS_DESCRIPTOR_INBOX_H

/* Message streams for tests: plain ones, and one that reads every message as a descriptor with its
 * description. */

#include <stdbool.h>

#include "ferry/ferry.h"

struct descriptor_inbox {
	struct ferry_message_stream *stream; /* NULL once freed */
	unsigned int count, lost;
	int reason;
	int status; /* of the last */
	struct ferry_descriptor *descriptor;
	/* In place of ferry_descriptor_receive(). */
	void (*hook)(struct descriptor_inbox *inbox, struct ferry_message *message);
};

/* Opens a message stream on `fd`. Its callbacks write into the inbox; NULL: the stream has no
 * callbacks. */
struct ferry_message_stream *open_message_stream(int fd, struct descriptor_inbox *inbox);

/* Pumps until the next message has come; its status. */
int inbox_wait(struct descriptor_inbox *inbox);

/* Frees what was received. */
void inbox_discard(struct descriptor_inbox *inbox);

/* Frees the stream too. */
void inbox_close(struct descriptor_inbox *inbox);

#endif
