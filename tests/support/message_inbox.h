#ifndef FERRY_TESTS_MESSAGE_INBOX_H
#define FERRY_TESTS_MESSAGE_INBOX_H

/* A message stream that records the messages that arrive, and its far end in plain system calls,
 * with messages put together by hand. */

#include <stddef.h>
#include <stdint.h>

#include "recorder.h"
#include "support.h"
#include "wire.h"

enum { INBOX_HEADER = 16, INBOX_MARKS = 256, NOTES_MAX = 8192 };

struct note {
	uint16_t type;
	size_t length;
	size_t declared, lost;
	uint32_t first_mark; /* of the first descriptor */
};

struct inbox {
	struct ferry_message_stream *stream; /* NULL once freed */
	unsigned int made, count, lost, depth;
	int reason;
	struct note notes[NOTES_MAX];
	unsigned char payload[70000]; /* of the last, as far as it fits */
	void (*hook)(struct inbox *inbox, struct ferry_message *message);
	void (*on_lost)(struct inbox *inbox);
	int stolen[WIRE_MAX_FDS];
};

extern struct inbox inbox, second_inbox;
extern int inbox_ends[2]; /* of the stream, and the far end */

extern const struct ferry_message_callbacks inbox_callbacks;

void open_inbox(struct inbox *box, int fd, int options);
void open_messages_over(enum pair_kind kind);
void open_messages(void);
void free_messages(struct inbox *box);
void close_inbox_far(void);
void close_messages(void);

struct ferry_transport *inbox_transport(const struct inbox *box);

struct bufferevent *inbox_bufferevent(const struct inbox *box);
void expect_inbox_lost(int reason);
size_t put_message_frame(unsigned char *out, unsigned int type, size_t length, unsigned int fds);

/* Makes descriptors with the marks first, first + 1, … */
size_t open_marked(int *fds, uint32_t first, size_t count);
void close_fds(const int *fds, size_t count);

/* Sends bytes from the far end, with marked descriptors on the first of them. */
void far_send_marked(const unsigned char *bytes, size_t length, uint32_t mark, size_t count);

/* Sends a frame that declares the descriptors it carries. */
void far_frame(unsigned int type, size_t length, uint32_t mark, unsigned int count);

void expect_note(unsigned int index, unsigned int type, size_t length, size_t declared,
                 uint32_t mark);
void expect_payload(const struct inbox *box, uint64_t position);
int send_plain(unsigned int type, const void *payload, size_t length);

int send_fds(unsigned int type, const int *fds, size_t count, enum ferry_fd_ownership ownership);

enum { PIECES_PAYLOAD = 5, PIECES = INBOX_HEADER + PIECES_PAYLOAD };

void pause_inbox(struct inbox *box, struct ferry_message *message);

#endif
