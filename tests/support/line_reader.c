#include "line_reader.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/thread.h>

#include "recorder.h"
#include "support.h"
#include "wire.h"

struct reader reader;

int reader_ends[2];

void reader_note(struct reader *to, struct ferry_line_stream *stream, char event, const char *bytes,
                 size_t length)
{
	static const char opening[] = "[(<{", closing[] = "])>}";
	const char *bracket = strchr(opening, event);
	ck_assert_msg(to->stream != NULL, "%c after ferry_line_stream_free()", event);
	ck_assert_ptr_eq(stream, to->stream);
	ck_assert_msg(to->lost == 0, "%c after connection_lost", event);
	ck_assert_msg(to->depth == 0, "%c inside another callback", event);
	ck_assert_msg(!to->ended || bracket == NULL, "%c after the peer's end", event);
	ck_assert_msg(event == 'M' || to->events > 0, "%c before connection_made", event);
	ck_assert_uint_lt(to->length + length + 2, STORY_MAX);
	to->story[to->length++] = event;
	if (bracket != NULL) {
		if (length > 0)
			memcpy(to->story + to->length, bytes, length);
		to->length += length;
		to->story[to->length++] = closing[bracket - opening];
	}
	to->events++;
	to->lines += event == '[';
	to->ended = to->ended || event == 'R';
	to->depth++;
	if (to->hook != NULL)
		to->hook(to, event, bytes, length);
	to->depth--;
}

void reader_on_made(struct ferry_line_stream *stream, void *context)
{
	reader_note(context, stream, 'M', NULL, 0);
}

void reader_on_line(struct ferry_line_stream *stream, const char *line, size_t length,
                    void *context)
{
	reader_note(context, stream, '[', line, length);
}

static void on_incomplete(struct ferry_line_stream *stream, const char *line, size_t length,
                          void *context)
{
	reader_note(context, stream, '(', line, length);
}

static void on_exceeded(struct ferry_line_stream *stream, const char *beginning, size_t length,
                        void *context)
{
	reader_note(context, stream, '<', beginning, length);
}

static void on_raw(struct ferry_line_stream *stream, struct evbuffer *input, void *context)
{
	struct reader *to = context;
	size_t length = evbuffer_get_length(input);
	ck_assert_uint_gt(length, 0);
	if (to->on_raw != NULL) {
		to->on_raw(to, input);
		return;
	}
	char *bytes = malloc(length);
	ck_assert_int_eq(evbuffer_remove(input, bytes, length), (int)length);
	reader_note(to, stream, '{', bytes, length);
	free(bytes);
}

static void on_fd(struct ferry_line_stream *stream, int fd, void *context)
{
	ck_assert(fd_is_open(fd));
	close(fd);
	reader_note(context, stream, 'F', NULL, 0);
}

static void on_fds_lost(struct ferry_line_stream *stream, void *context)
{
	reader_note(context, stream, 'L', NULL, 0);
}

static void on_read_lost(struct ferry_line_stream *stream, void *context)
{
	reader_note(context, stream, 'R', NULL, 0);
}

void reader_on_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	struct reader *to = context;
	to->reason = reason;
	reader_note(to, stream, 'X', NULL, 0);
	to->lost++;
}

const struct ferry_line_callbacks reader_callbacks = {
    .connection_made = reader_on_made,
    .line_received = reader_on_line,
    .incomplete_line_received = on_incomplete,
    .line_length_exceeded = on_exceeded,
    .data_received = on_raw,
    .file_descriptor_received = on_fd,
    .file_descriptors_lost = on_fds_lost,
    .read_connection_lost = on_read_lost,
    .connection_lost = reader_on_lost,
};

const struct ferry_line_callbacks reader_no_half_close = {
    .connection_made = reader_on_made,
    .line_received = reader_on_line,
    .incomplete_line_received = on_incomplete,
    .connection_lost = reader_on_lost,
};

const int reader_ways[READER_WAYS] = {
    0, BEV_OPT_DEFER_CALLBACKS, BEV_OPT_THREADSAFE, BEV_OPT_THREADSAFE | BEV_OPT_DEFER_CALLBACKS,
    BEV_OPT_THREADSAFE | BEV_OPT_DEFER_CALLBACKS | BEV_OPT_UNLOCK_CALLBACKS};

void open_reader_with(enum pair_kind kind, int options, const struct ferry_line_callbacks *table)
{
	memset(&reader, 0, sizeof(reader));
	make_pair(kind, reader_ends);
	struct bufferevent *bev =
	    bufferevent_socket_new(base, reader_ends[0], BEV_OPT_CLOSE_ON_FREE | options);
	ck_assert_int_eq(ferry_transport_new(&reader.transport, bev), 0);
	ck_assert_int_eq(ferry_line_stream_new(&reader.stream, reader.transport, table, &reader), 0);
	ck_assert_ptr_eq(ferry_line_stream_get_transport(reader.stream), reader.transport);
	ck_assert_uint_eq(reader.events, 0);
}

void open_reader(int way)
{
	open_reader_with(PAIR_UNIX, reader_ways[way], &reader_callbacks);
}

void free_reader(void)
{
	struct ferry_line_stream *stream = reader.stream;
	reader.stream = NULL;
	ferry_line_stream_free(stream);
}

void close_far_end(void)
{
	if (reader_ends[1] >= 0)
		close(reader_ends[1]);
	reader_ends[1] = -1;
}

void close_reader(void)
{
	free_reader();
	close_far_end();
}

void far_bytes(const char *bytes, size_t length)
{
	ck_assert_int_eq(wire_send(reader_ends[1], bytes, length, NULL, 0), (ssize_t)length);
}

void far_text(const char *text)
{
	far_bytes(text, strlen(text));
}

void end_far_text(void)
{
	ck_assert_int_eq(shutdown(reader_ends[1], SHUT_WR), 0);
}

static bool story_is(void *text)
{
	return reader.length == strlen(text) && memcmp(reader.story, text, reader.length) == 0;
}

void expect_story(const char *text)
{
	for (int turn = 0; turn < 200 && !story_is((void *)(uintptr_t)text); turn++)
		pump_turns(1);
	pump_turns(4);
	reader.story[reader.length] = '\0';
	ck_assert_str_eq(reader.story, text);
}

void expect_reader_lost(int reason)
{
	pump_until_count(&reader.lost, 1);
	ck_assert_int_eq(reader.reason, reason);
}

void expect_sent_text(const char *text)
{
	char bytes[1000];
	size_t length = 0;
	while (length < strlen(text)) {
		pump_turns(1);
		ssize_t n = read(reader_ends[1], bytes + length, sizeof(bytes) - length);
		if (n == 0)
			break;
		length += n > 0 ? (size_t)n : 0;
	}
	ck_assert_uint_eq(length, strlen(text));
	ck_assert_mem_eq(bytes, text, length);
}

void set_max(size_t max_length, enum ferry_line_overflow overflow)
{
	ck_assert_int_eq(ferry_line_stream_set_max_length(reader.stream, max_length, overflow), 0);
}

void set_raw(bool raw)
{
	ck_assert_int_eq(ferry_line_stream_set_raw(reader.stream, raw), 0);
}

void set_delimiter(const char *delimiter)
{
	ck_assert_int_eq(ferry_line_stream_set_delimiter(reader.stream, delimiter, strlen(delimiter)),
	                 0);
}

void pause_reading(void)
{
	ck_assert_int_eq(ferry_transport_pause_reading(reader.transport), 0);
}

void resume_reading(void)
{
	ck_assert_int_eq(ferry_transport_resume_reading(reader.transport), 0);
}

size_t reader_input_length(void)
{
	return evbuffer_get_length(
	    bufferevent_get_input(ferry_transport_get_bufferevent(reader.transport)));
}

void pause_and_resume(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to, (void)bytes, (void)length;
	if (event == '[') {
		pause_reading();
		resume_reading();
	}
}
