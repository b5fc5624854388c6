#ifndef FERRY_TESTS_LINE_READER_H
#define FERRY_TESTS_LINE_READER_H

/* A stream of lines that writes down its callbacks as one text, and its far end in plain system calls. */

#include <stdbool.h>
#include <stddef.h>

#include "ferry/ferry.h"
#include "support.h"

enum { STORY_MAX = 1 << 20 };

/* `story` is a text: M made, [line], (incomplete line), <beginning of one too long>, {raw bytes}, F descriptor,
 * L descriptors lost, R the peer's end, X the connection's end. */
struct reader {
	struct ferry_line_stream *stream; /* NULL once freed */
	struct ferry_transport *transport;
	char story[STORY_MAX];
	size_t length;
	unsigned int events, lines, lost;
	int reason;
	unsigned int depth;
	bool ended; /* R is in the story */
	void (*hook)(struct reader *reader, char event, const char *bytes, size_t length);
	void (*on_raw)(struct reader *reader, struct evbuffer *input);
};

extern struct reader reader;
extern int reader_ends[2]; /* of the stream, and the far end; -1: closed */

void reader_note(struct reader *to, struct ferry_line_stream *stream, char event, const char *bytes,
                 size_t length);
void reader_on_made(struct ferry_line_stream *stream, void *context);

void reader_on_line(struct ferry_line_stream *stream, const char *line, size_t length,
                    void *context);
void reader_on_lost(struct ferry_line_stream *stream, int reason, void *context);
extern const struct ferry_line_callbacks reader_callbacks;
extern const struct ferry_line_callbacks reader_no_half_close;

enum { READER_WAYS = 5 };

/* The ways in which libevent runs callbacks; most tests run with each. */
extern const int reader_ways[READER_WAYS];

void open_reader_with(enum pair_kind kind, int options, const struct ferry_line_callbacks *table);
void open_reader(int way);
void free_reader(void);
void close_far_end(void);
void close_reader(void);
void far_bytes(const char *bytes, size_t length);
void far_text(const char *text);
void end_far_text(void);

/* Waits for this story, and for a few turns in which nothing may follow it. */
void expect_story(const char *text);
void expect_reader_lost(int reason);
void expect_sent_text(const char *text);
void set_max(size_t max_length, enum ferry_line_overflow overflow);
void set_raw(bool raw);
void set_delimiter(const char *delimiter);
void pause_reading(void);
void resume_reading(void);
size_t reader_input_length(void);
void pause_and_resume(struct reader *to, char event, const char *bytes, size_t length);

#endif
