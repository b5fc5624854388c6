/* Lines over a transport: what is handed out in which order, and that every callback may do anything.
 * What a line is, is tests/unit/line/scanner.c. The far end is bare system calls. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/thread.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

/* ---- what was told ---- */

enum { STORY_MAX = 1 << 20 };

/* As a text: M made, [line], (incomplete line), <beginning of one too long>, {raw bytes}, F descriptor,
 * L descriptors lost, R the peer's end, X the connection's. */
struct reader {
	struct ferry_line_stream *stream; /* NULL once freed */
	struct ferry_transport *transport;
	char story[STORY_MAX];
	size_t length;
	unsigned int events, lines, lost;
	int reason;
	unsigned int depth;
	bool ended; /* R came */
	void (*hook)(struct reader *reader, char event, const char *bytes, size_t length);
	void (*on_raw)(struct reader *reader, struct evbuffer *input);
};

static struct reader reader;
static int ends[2]; /* the stream's, and the far one; -1: closed */

static void tell(struct reader *to, struct ferry_line_stream *stream, char event, const char *bytes,
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

static void on_made(struct ferry_line_stream *stream, void *context)
{
	tell(context, stream, 'M', NULL, 0);
}

static void on_line(struct ferry_line_stream *stream, const char *line, size_t length,
                    void *context)
{
	tell(context, stream, '[', line, length);
}

static void on_incomplete(struct ferry_line_stream *stream, const char *line, size_t length,
                          void *context)
{
	tell(context, stream, '(', line, length);
}

static void on_exceeded(struct ferry_line_stream *stream, const char *beginning, size_t length,
                        void *context)
{
	tell(context, stream, '<', beginning, length);
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
	tell(to, stream, '{', bytes, length);
	free(bytes);
}

static void on_fd(struct ferry_line_stream *stream, int fd, void *context)
{
	ck_assert(fd_is_open(fd));
	close(fd);
	tell(context, stream, 'F', NULL, 0);
}

static void on_fds_lost(struct ferry_line_stream *stream, void *context)
{
	tell(context, stream, 'L', NULL, 0);
}

static void on_read_lost(struct ferry_line_stream *stream, void *context)
{
	tell(context, stream, 'R', NULL, 0);
}

static void on_lost(struct ferry_line_stream *stream, int reason, void *context)
{
	struct reader *to = context;
	to->reason = reason;
	tell(to, stream, 'X', NULL, 0);
	to->lost++;
}

static const struct ferry_line_callbacks callbacks = {
    .connection_made = on_made,
    .line_received = on_line,
    .incomplete_line_received = on_incomplete,
    .line_length_exceeded = on_exceeded,
    .data_received = on_raw,
    .file_descriptor_received = on_fd,
    .file_descriptors_lost = on_fds_lost,
    .read_connection_lost = on_read_lost,
    .connection_lost = on_lost,
};

static const struct ferry_line_callbacks without_half_close = {
    .connection_made = on_made,
    .line_received = on_line,
    .incomplete_line_received = on_incomplete,
    .connection_lost = on_lost,
};

/* ---- a stream, and its far end ---- */

/* The ways in which libevent calls back; most tests run in each. */
static const int ways[] = {0, BEV_OPT_DEFER_CALLBACKS, BEV_OPT_THREADSAFE,
                           BEV_OPT_THREADSAFE | BEV_OPT_DEFER_CALLBACKS,
                           BEV_OPT_THREADSAFE | BEV_OPT_DEFER_CALLBACKS | BEV_OPT_UNLOCK_CALLBACKS};
enum { WAYS = sizeof(ways) / sizeof(*ways) };

static void open_with(enum pair_kind kind, int options, const struct ferry_line_callbacks *table)
{
	memset(&reader, 0, sizeof(reader));
	make_pair(kind, ends);
	struct bufferevent *bev =
	    bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE | options);
	ck_assert_int_eq(ferry_transport_new(&reader.transport, bev), 0);
	ck_assert_int_eq(ferry_line_stream_new(&reader.stream, reader.transport, table, &reader), 0);
	ck_assert_ptr_eq(ferry_line_stream_get_transport(reader.stream), reader.transport);
	ck_assert_uint_eq(reader.events, 0);
}

static void open_stream(int way)
{
	open_with(PAIR_UNIX, ways[way], &callbacks);
}

static void free_stream(void)
{
	struct ferry_line_stream *stream = reader.stream;
	reader.stream = NULL;
	ferry_line_stream_free(stream);
}

static void close_far(void)
{
	if (ends[1] >= 0)
		close(ends[1]);
	ends[1] = -1;
}

static void close_stream(void)
{
	free_stream();
	close_far();
}

static void far_send(const char *bytes, size_t length)
{
	ck_assert_int_eq(wire_send(ends[1], bytes, length, NULL, 0), (ssize_t)length);
}

static void far_text(const char *text)
{
	far_send(text, strlen(text));
}

static void far_end(void)
{
	ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
}

static bool story_is(void *text)
{
	return reader.length == strlen(text) && memcmp(reader.story, text, reader.length) == 0;
}

/* Until it has been told, and then nothing more. */
static void expect(const char *text)
{
	for (int turn = 0; turn < 200 && !story_is((void *)(uintptr_t)text); turn++)
		pump_turns(1);
	pump_turns(4);
	reader.story[reader.length] = '\0';
	ck_assert_str_eq(reader.story, text);
}

static void expect_lost(int reason)
{
	pump_until_count(&reader.lost, 1);
	ck_assert_int_eq(reader.reason, reason);
}

static void expect_sent(const char *text)
{
	char bytes[1000];
	size_t length = 0;
	while (length < strlen(text)) {
		pump_turns(1);
		ssize_t n = read(ends[1], bytes + length, sizeof(bytes) - length);
		if (n == 0)
			break;
		length += n > 0 ? (size_t)n : 0;
	}
	ck_assert_uint_eq(length, strlen(text));
	ck_assert_mem_eq(bytes, text, length);
}

static void set_max(size_t max_length, enum ferry_line_overflow overflow)
{
	ck_assert_int_eq(ferry_line_stream_set_max_length(reader.stream, max_length, overflow), 0);
}

static void set_raw(bool raw)
{
	ck_assert_int_eq(ferry_line_stream_set_raw(reader.stream, raw), 0);
}

static void set_delimiter(const char *delimiter)
{
	ck_assert_int_eq(ferry_line_stream_set_delimiter(reader.stream, delimiter, strlen(delimiter)),
	                 0);
}

static void pause_reading(void)
{
	ck_assert_int_eq(ferry_transport_pause_reading(reader.transport), 0);
}

static void resume_reading(void)
{
	ck_assert_int_eq(ferry_transport_resume_reading(reader.transport), 0);
}

/* ---- lines ---- */

TEST_CASE("lines");

LOOP_TEST(lines_arrive_without_their_delimiter, WAYS)
{
	open_stream(_i);
	far_text("one\ntwo\n\n \nthree\n");
	expect("M[one][two][][ ][three]");
	close_stream();
}

LOOP_TEST(a_line_is_handed_out_when_its_delimiter_is_there, WAYS)
{
	open_stream(_i);
	set_delimiter("\r\n");
	far_text("on");
	expect("M");
	far_text("e\r");
	expect("M");
	far_text("\ntwo\r\n");
	expect("M[one][two]");
	close_stream();
}

LOOP_TEST(a_line_may_hold_zero_bytes, WAYS)
{
	open_stream(_i);
	far_send("a\0b\n\0\n", 6);
	pump_until_count(&reader.lines, 2);
	ck_assert_uint_eq(reader.length, 9);
	ck_assert_mem_eq(reader.story, "M[a\0b][\0]", 9);
	close_stream();
}

TEST(lines_arrive_over_tcp_and_pipes)
{
	open_with(PAIR_TCP, 0, &callbacks);
	far_text("one\ntwo\n");
	expect("M[one][two]");
	close_stream();

	int to[2], from[2];
	make_pipe(to);
	make_pipe(from);
	memset(&reader, 0, sizeof(reader));
	ck_assert_int_eq(ferry_transport_new_pipes(&reader.transport, base, to[0], from[1]), 0);
	ck_assert_int_eq(ferry_line_stream_new(&reader.stream, reader.transport, &callbacks, &reader),
	                 0);
	ck_assert_int_eq(write(to[1], "one\ntwo", 7), 7);
	close(to[1]);
	expect("M[one](two)R");
	free_stream();
	close(from[0]);
}

static const char *first_bytes;

static void note_bytes(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)length;
	struct evbuffer *input = bufferevent_get_input(ferry_transport_get_bufferevent(to->transport));
	struct evbuffer_iovec piece;
	if (event != '[')
		return;
	ck_assert_int_ge(evbuffer_peek(input, 1, NULL, &piece, 1), 1);
	ck_assert_ptr_eq(bytes, piece.iov_base);
	ck_assert(first_bytes == NULL || bytes == first_bytes + 6);
	first_bytes = bytes;
}

LOOP_TEST(lines_are_read_in_place, WAYS)
{
	open_stream(_i);
	reader.hook = note_bytes;
	first_bytes = NULL;
	far_text("first\nsecon\nthird\n");
	expect("M[first][secon][third]");
	close_stream();
}

TEST(bytes_of_an_earlier_protocol_are_the_first_of_the_lines)
{
	int fds[2];
	make_pair(PAIR_UNIX, fds);
	memset(&reader, 0, sizeof(reader));
	reader.transport = make_transport(fds[0]);
	bufferevent_enable(ferry_transport_get_bufferevent(reader.transport), EV_READ);
	ck_assert_int_eq(wire_send(fds[1], "one\ntw", 6, NULL, 0), 6);
	pump_turns(3);
	ends[1] = fds[1];
	ck_assert_int_eq(ferry_line_stream_new(&reader.stream, reader.transport, &callbacks, &reader),
	                 0);
	expect("M[one]");
	far_text("o\n");
	expect("M[one][two]");
	close_stream();
}

static void keep_input(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport, (void)input, (void)context;
}

static void note_end(struct ferry_transport *transport, void *context)
{
	(void)transport;
	*(unsigned int *)context += 1;
}

/* _i: while reading is paused */
LOOP_TEST(an_end_that_an_earlier_protocol_heard_of_is_the_end_of_the_lines, 2)
{
	static const struct ferry_protocol earlier = {.data_received = keep_input,
	                                              .read_connection_lost = note_end};
	unsigned int heard = 0;
	make_pair(PAIR_UNIX, ends);
	memset(&reader, 0, sizeof(reader));
	reader.transport = make_transport(ends[0]);
	ck_assert_int_eq(ferry_transport_set_protocol(reader.transport, &earlier, &heard), 0);
	far_text("one\nlast");
	far_end();
	pump_until_count(&heard, 1);
	if (_i == 1)
		pause_reading();
	ck_assert_int_eq(ferry_line_stream_new(&reader.stream, reader.transport, &callbacks, &reader),
	                 0);
	if (_i == 1) {
		expect("M");
		resume_reading();
	}
	expect("M[one](last)R");
	close_stream();
}

/* ---- the end ---- */

TEST_CASE("end");

LOOP_TEST(an_incomplete_line_is_told_before_the_peers_end, WAYS)
{
	open_stream(_i);
	far_text("one\ntwo");
	far_end();
	expect("M[one](two)R");
	/* This side can go on sending. */
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "late", 4), 0);
	expect_sent("late\n");
	close_stream();
}

LOOP_TEST(a_complete_last_line_is_no_incomplete_one, WAYS)
{
	open_stream(_i);
	far_text("one\n");
	far_end();
	expect("M[one]R");
	close_stream();
}

LOOP_TEST(half_a_delimiter_at_the_end_is_part_of_the_incomplete_line, WAYS)
{
	open_stream(_i);
	set_delimiter("\r\n");
	far_text("one\r");
	far_end();
	expect("M(one\r)R");
	close_stream();
}

LOOP_TEST(without_half_close_the_connection_ends_when_all_is_sent, WAYS)
{
	open_with(PAIR_UNIX, ways[_i], &without_half_close);
	pump_turns(2);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "out", 3), 0);
	far_text("one\ntwo");
	far_end();
	expect("M[one](two)X");
	ck_assert_int_eq(reader.reason, 0);
	expect_sent("out\n");
	close_stream();
}

LOOP_TEST(an_incomplete_line_is_dropped_when_nobody_wants_it, WAYS)
{
	static const struct ferry_line_callbacks few = {.connection_made = on_made,
	                                                .connection_lost = on_lost};
	open_with(PAIR_UNIX, ways[_i], &few);
	far_text("one\ntwo");
	far_end();
	expect("MX");
	ck_assert_int_eq(reader.reason, 0);
	close_stream();
}

LOOP_TEST(an_error_makes_no_incomplete_line, WAYS)
{
	open_with(PAIR_TCP, ways[_i], &callbacks);
	far_text("one\ntwo");
	expect("M[one]");
	struct linger reset = {.l_onoff = 1, .l_linger = 0};
	setsockopt(ends[1], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close_far();
	expect("M[one]X");
	ck_assert_int_eq(reader.reason, -ECONNRESET);
	close_stream();
}

/* ---- lines that are too long ---- */

TEST_CASE("limits");

LOOP_TEST(a_line_of_the_longest_length_arrives, WAYS)
{
	open_stream(_i);
	set_max(5, FERRY_LINE_LOSE);
	far_text("12345\n1234\n");
	expect("M[12345][1234]");
	close_stream();
}

LOOP_TEST(a_line_that_is_too_long_loses_the_connection, WAYS)
{
	open_stream(_i);
	set_max(5, FERRY_LINE_LOSE);
	far_text("ok\n123456\nnever\n");
	expect("M[ok]<12345>X");
	ck_assert_int_eq(reader.reason, -EMSGSIZE);
	close_stream();
}

LOOP_TEST(sixteen_kibibytes_are_the_default_and_more_loses_the_connection, WAYS)
{
	static char line[16384 + 2];
	memset(line, 'x', sizeof(line));
	open_stream(_i);
	line[16384] = '\n';
	far_send(line, 16385);
	pump_until_count(&reader.lines, 1);
	line[16384] = 'x';
	far_send(line, sizeof(line));
	expect_lost(-EMSGSIZE);
	close_stream();
}

LOOP_TEST(the_rest_of_a_line_that_is_too_long_is_skipped, WAYS)
{
	open_stream(_i);
	set_max(5, FERRY_LINE_SKIP);
	far_text("123456789\nok\n1234567");
	expect("M<12345>[ok]<12345>");
	far_text("8901234567890");
	far_text("\n12345\n");
	expect("M<12345>[ok]<12345>[12345]");
	close_stream();
}

LOOP_TEST(a_delimiter_in_two_reads_ends_what_is_skipped, WAYS)
{
	open_stream(_i);
	set_delimiter("\r\n");
	set_max(3, FERRY_LINE_SKIP);
	far_text("12345\r");
	expect("M<123>");
	far_text("\nok\r\n");
	expect("M<123>[ok]");
	close_stream();
}

LOOP_TEST(the_end_of_a_skipped_line_is_no_incomplete_line, WAYS)
{
	open_stream(_i);
	set_max(3, FERRY_LINE_SKIP);
	far_text("1234567");
	far_end();
	expect("M<123>R");
	close_stream();
}

/* The delimiter could still have come: only the end shows it. */
LOOP_TEST(an_incomplete_line_may_be_too_long_too, WAYS)
{
	open_stream(_i);
	set_delimiter("\r\n\r\n");
	set_max(3, FERRY_LINE_SKIP);
	far_text("1234\r");
	far_end();
	expect("M<123>R");
	close_stream();

	open_stream(_i);
	set_delimiter("\r\n\r\n");
	set_max(3, FERRY_LINE_LOSE);
	far_text("1234\r");
	far_end();
	expect("M<123>X");
	ck_assert_int_eq(reader.reason, -EMSGSIZE);
	close_stream();
}

LOOP_TEST(without_a_callback_the_choice_is_followed, WAYS)
{
	open_with(PAIR_UNIX, ways[_i], &without_half_close);
	set_max(3, FERRY_LINE_SKIP);
	far_text("1234\n123\n");
	expect("M[123]");
	set_max(3, FERRY_LINE_LOSE);
	far_text("1234\n");
	expect("M[123]X");
	ck_assert_int_eq(reader.reason, -EMSGSIZE);
	close_stream();
}

static void answer_and_leave(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)bytes, (void)length;
	if (event != '<')
		return;
	ck_assert_int_eq(ferry_line_stream_send(to->stream, "too long", 8), 0);
	ck_assert_int_eq(ferry_transport_lose_connection(to->transport), 0);
}

LOOP_TEST(an_answer_to_a_line_that_is_too_long_is_sent, WAYS)
{
	open_stream(_i);
	reader.hook = answer_and_leave;
	set_max(5, FERRY_LINE_LOSE);
	far_text("123456\nnever\n");
	expect("M<12345>X");
	ck_assert_int_eq(reader.reason, 0);
	expect_sent("too long\n");
	close_stream();
}

static void go_raw_when_exceeded(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to, (void)bytes, (void)length;
	if (event == '<')
		set_raw(true);
}

LOOP_TEST(raw_mode_takes_the_rest_of_a_line_that_is_too_long, WAYS)
{
	open_stream(_i);
	reader.hook = go_raw_when_exceeded;
	set_max(5, FERRY_LINE_LOSE);
	far_text("1234567\nrest");
	expect("M<12345>{67\nrest}");
	close_stream();
}

static void skip_when_exceeded(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to, (void)bytes, (void)length;
	if (event == '<')
		set_max(10, FERRY_LINE_SKIP);
}

LOOP_TEST(the_choice_may_be_changed_when_a_line_is_too_long, WAYS)
{
	open_stream(_i);
	reader.hook = skip_when_exceeded;
	set_max(3, FERRY_LINE_LOSE);
	far_text("1234567890\n1234567890\n12345678901\n");
	expect("M<123>[1234567890]<1234567890>");
	close_stream();
}

static size_t input_length(void)
{
	return evbuffer_get_length(
	    bufferevent_get_input(ferry_transport_get_bufferevent(reader.transport)));
}

/* _i: the way. A peer that never sends a delimiter. */
LOOP_TEST(no_more_is_kept_than_the_longest_line_and_a_read, WAYS)
{
	enum { BLOCK = 8192, LONGEST = 20000, READ_MAX = 256 * 1024 };
	static char block[BLOCK];
	size_t most = 0;
	memset(block, 'x', sizeof(block));
	open_stream(_i);
	set_max(LONGEST, FERRY_LINE_SKIP);
	for (int i = 0; i < 500; i++) {
		ck_assert_int_ge(wire_send(ends[1], block, sizeof(block), NULL, 0), 1);
		pump_turns(1);
		most = input_length() > most ? input_length() : most;
	}
	pump_turns(3);
	ck_assert_uint_eq(input_length(), 0);
	ck_assert_uint_gt(most, LONGEST - BLOCK);
	ck_assert_uint_le(most, LONGEST + 1 + READ_MAX);
	ck_assert_uint_eq(reader.events, 2);
	far_text("\nok\n");
	pump_until_count(&reader.lines, 1);
	close_stream();
}

/* ---- raw mode ---- */

static void go_raw_at_raw(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to;
	if (event == '[' && length == 3 && memcmp(bytes, "raw", 3) == 0)
		set_raw(true);
}

TEST_CASE("raw");

LOOP_TEST(the_rest_of_the_input_is_raw_at_once, WAYS)
{
	open_stream(_i);
	reader.hook = go_raw_at_raw;
	far_text("one\nraw\ntwo\nthree");
	expect("M[one][raw]{two\nthree}");
	far_text("\nfour\n");
	expect("M[one][raw]{two\nthree}{\nfour\n}");
	close_stream();
}

LOOP_TEST(raw_mode_with_nothing_left_waits, WAYS)
{
	open_stream(_i);
	reader.hook = go_raw_at_raw;
	far_text("raw\n");
	expect("M[raw]");
	far_text("more");
	expect("M[raw]{more}");
	far_end();
	expect("M[raw]{more}R");
	close_stream();
}

static unsigned int offers;

/* Takes three bytes, and then lines again. */
static void take_three(struct reader *to, struct evbuffer *input)
{
	char bytes[3];
	offers++;
	if (evbuffer_get_length(input) < 3)
		return;
	ck_assert_int_eq(evbuffer_remove(input, bytes, 3), 3);
	tell(to, to->stream, '{', bytes, 3);
	set_raw(false);
}

LOOP_TEST(what_raw_mode_leaves_is_lines_again, WAYS)
{
	open_stream(_i);
	reader.hook = go_raw_at_raw;
	reader.on_raw = take_three;
	far_text("raw\nab\nline\nraw\nc\nd\nlast");
	far_end();
	expect("M[raw]{ab\n}[line][raw]{c\nd}[](last)R");
	close_stream();
}

LOOP_TEST(what_raw_mode_leaves_is_offered_with_more, WAYS)
{
	open_stream(_i);
	reader.hook = go_raw_at_raw;
	reader.on_raw = take_three;
	offers = 0;
	far_text("raw\na");
	expect("M[raw]");
	far_text("b");
	expect("M[raw]");
	ck_assert_uint_eq(offers, 2);
	far_text("cd\n");
	expect("M[raw]{abc}[d]");
	ck_assert_uint_eq(offers, 3);
	close_stream();
}

LOOP_TEST(what_raw_mode_leaves_at_the_end_stays_in_the_input, WAYS)
{
	open_stream(_i);
	reader.hook = go_raw_at_raw;
	reader.on_raw = take_three;
	offers = 0;
	far_text("raw\nab");
	far_end();
	expect("M[raw]R");
	ck_assert_uint_eq(offers, 1);
	ck_assert_uint_eq(input_length(), 2);
	/* Nothing follows the end. */
	set_raw(false);
	expect("M[raw]R");
	ck_assert_uint_eq(input_length(), 2);
	close_stream();
}

LOOP_TEST(modes_may_be_changed_outside_of_callbacks, WAYS)
{
	open_stream(_i);
	far_text("unfinished");
	expect("M");
	set_raw(true);
	set_raw(true);
	ck_assert_uint_eq(reader.events, 1);
	expect("M{unfinished}");
	reader.on_raw = take_three;
	far_text("a\n");
	expect("M{unfinished}");
	set_raw(false);
	expect("M{unfinished}[a]");
	close_stream();
}

LOOP_TEST(raw_mode_from_the_start, WAYS)
{
	open_stream(_i);
	set_raw(true);
	far_text("one\ntwo");
	expect("M{one\ntwo}");
	close_stream();
}

LOOP_TEST(raw_mode_ends_the_skipping, WAYS)
{
	open_stream(_i);
	set_max(3, FERRY_LINE_SKIP);
	far_text("12345");
	expect("M<123>");
	set_raw(true);
	set_raw(false);
	far_text("67\n");
	expect("M<123>[67]");
	close_stream();
}

/* ---- a length, and then so many bytes: both modes, in packets of every size ---- */

static size_t body_left;

static void begin_body(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to;
	char number[20] = "";
	if (event != '[' || length < 5 || memcmp(bytes, "len ", 4) != 0)
		return;
	memcpy(number, bytes + 4, length - 4);
	body_left = strtoul(number, NULL, 10);
	if (body_left > 0)
		set_raw(true);
}

static char body[1000];
static size_t body_length;

static void take_body(struct reader *to, struct evbuffer *input)
{
	size_t length = evbuffer_get_length(input);
	length = length < body_left ? length : body_left;
	ck_assert_int_eq(evbuffer_remove(input, body + body_length, length), (int)length);
	body_length += length;
	body_left -= length;
	if (body_left > 0)
		return;
	tell(to, to->stream, '{', body, body_length);
	body_length = 0;
	set_raw(false);
}

/* _i: the packets' size */
LOOP_TEST_FROM(headers_and_bodies_in_packets_of_every_size, 1, 12)
{
	static const char text[] = "len 10\n0123456789len 5\n123\n\nfoo\n\nlen 0\nlen 20\n"
	                           "foo 123\n\n0123456789\nlen 1\nalast";
	for (int way = 0; way < WAYS; way++) {
		open_stream(way);
		reader.hook = begin_body;
		reader.on_raw = take_body;
		for (size_t at = 0; at < sizeof(text) - 1; at += (size_t)_i) {
			size_t left = sizeof(text) - 1 - at;
			far_send(text + at, (size_t)_i < left ? (size_t)_i : left);
			pump_turns(1);
		}
		far_end();
		expect("M[len 10]{0123456789}[len 5]{123\n\n}[foo][][len 0][len 20]"
		       "{foo 123\n\n0123456789\n}[len 1]{a}(last)R");
		close_stream();
	}
}

/* ---- pausing ---- */

static void pause_at_each_line(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to, (void)bytes, (void)length;
	if (event == '[')
		pause_reading();
}

TEST_CASE("pausing");

LOOP_TEST(a_pause_holds_the_next_line_back, WAYS)
{
	open_stream(_i);
	reader.hook = pause_at_each_line;
	far_text("one\ntwo\nthree\nfo");
	expect("M[one]");
	far_text("ur\n");
	expect("M[one]");
	resume_reading();
	ck_assert_uint_eq(reader.lines, 1);
	expect("M[one][two]");
	resume_reading();
	expect("M[one][two][three]");
	resume_reading();
	expect("M[one][two][three][four]");
	close_stream();
}

static void pause_and_resume(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to, (void)bytes, (void)length;
	if (event == '[') {
		pause_reading();
		resume_reading();
	}
}

LOOP_TEST(a_pause_that_is_over_holds_nothing_back, WAYS)
{
	open_stream(_i);
	reader.hook = pause_and_resume;
	far_text("one\ntwo\nthree\n");
	expect("M[one][two][three]");
	close_stream();
}

/* Behind a descriptor the transport reads once more in the same step: when callbacks are deferred it has
 * seen the end before they run. */
static void far_text_with_fd_and_end(const char *text)
{
	int fd = make_marked_fd(1);
	ck_assert_int_eq(wire_send(ends[1], text, strlen(text), &fd, 1), (ssize_t)strlen(text));
	close(fd);
	far_end();
}

LOOP_TEST(a_pause_holds_the_peers_end_back_with_its_lines, WAYS)
{
	open_stream(_i);
	reader.hook = pause_at_each_line;
	far_text_with_fd_and_end("one\ntwo\nlast");
	expect("MF[one]");
	resume_reading();
	expect("MF[one][two]");
	resume_reading();
	expect("MF[one][two](last)R");
	close_stream();
}

LOOP_TEST(a_pause_holds_lines_back_when_both_ends_have_closed, WAYS)
{
	open_stream(_i);
	reader.hook = pause_at_each_line;
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_lose_write_connection(reader.transport), 0);
	pump_turns(2);
	far_text_with_fd_and_end("one\ntwo\nlast");
	expect("MF[one]");
	resume_reading();
	expect("MF[one][two]");
	resume_reading();
	expect("MF[one][two](last)RX");
	ck_assert_int_eq(reader.reason, 0);
	close_stream();
}

static void go_raw_and_pause(struct reader *to, char event, const char *bytes, size_t length)
{
	go_raw_at_raw(to, event, bytes, length);
	if (event == '[' && length == 3 && memcmp(bytes, "raw", 3) == 0)
		pause_reading();
}

LOOP_TEST(a_pause_holds_raw_bytes_back, WAYS)
{
	open_stream(_i);
	reader.hook = go_raw_and_pause;
	far_text_with_fd_and_end("raw\nab\n");
	expect("MF[raw]");
	resume_reading();
	expect("MF[raw]{ab\n}R");
	close_stream();
}

static void pause_when_exceeded(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to, (void)bytes, (void)length;
	if (event == '<')
		pause_reading();
}

LOOP_TEST(a_pause_in_a_line_that_is_too_long_holds_the_next_line_back, WAYS)
{
	open_stream(_i);
	reader.hook = pause_when_exceeded;
	set_max(3, FERRY_LINE_SKIP);
	far_text("1234567\nok\n");
	expect("M<123>");
	resume_reading();
	expect("M<123>[ok]");
	close_stream();
}

/* ---- settings ---- */

static void obey(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to;
	if (event != '[' || length < 2)
		return;
	if (bytes[0] == 'd')
		ck_assert_int_eq(ferry_line_stream_set_delimiter(reader.stream, bytes + 1, length - 1), 0);
	if (bytes[0] == 'm')
		set_max((size_t)(bytes[1] - '0'), FERRY_LINE_SKIP);
}

TEST_CASE("settings");

LOOP_TEST(a_delimiter_set_in_a_callback_ends_the_next_line, WAYS)
{
	open_stream(_i);
	reader.hook = obey;
	far_text("one\nd;;\na\nb;c;;d, ;;x\n;;y, z");
	expect("M[one][d;;][a\nb;c][d, ][x\n;;y]");
	close_stream();
}

LOOP_TEST(a_length_set_in_a_callback_bounds_the_next_line, WAYS)
{
	open_stream(_i);
	reader.hook = obey;
	far_text("123456\nm3\n123\n1234\nm5\n12345\n");
	expect("M[123456][m3][123]<123>[m5][12345]");
	close_stream();
}

LOOP_TEST(settings_look_at_an_unfinished_line_again, WAYS)
{
	open_stream(_i);
	far_text("a;b");
	expect("M");
	set_delimiter(";");
	ck_assert_uint_eq(reader.events, 1);
	expect("M[a]");
	far_text("cd");
	expect("M[a]");
	set_max(2, FERRY_LINE_SKIP);
	expect("M[a]<bc>");
	far_text(";ok;");
	expect("M[a]<bc>[ok]");
	close_stream();
}

TEST(bad_arguments_are_refused)
{
	static const struct ferry_line_callbacks none = {.line_received = on_line};
	open_with(PAIR_UNIX, 0, &none);
	struct ferry_line_stream *stream = reader.stream, *out = NULL;
	ck_assert_int_eq(ferry_line_stream_new(NULL, reader.transport, &callbacks, NULL), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_new(&out, NULL, &callbacks, NULL), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_new(&out, reader.transport, NULL, NULL), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_delimiter(NULL, "\n", 1), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_delimiter(stream, NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_delimiter(stream, "", 0), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_delimiter(stream, "0123456789abcdefg", 17), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_delimiter(stream, "0123456789abcdef", 16), 0);
	ck_assert_int_eq(ferry_line_stream_set_max_length(NULL, 1, FERRY_LINE_SKIP), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_max_length(stream, 0, FERRY_LINE_SKIP), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_max_length(stream, (1 << 30) + 1, FERRY_LINE_SKIP),
	                 -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_max_length(stream, 1 << 30, FERRY_LINE_SKIP), 0);
	ck_assert_int_eq(ferry_line_stream_set_max_length(stream, 1, (enum ferry_line_overflow)0),
	                 -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_max_length(stream, 1, (enum ferry_line_overflow)3),
	                 -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_raw(NULL, true), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_raw(stream, true), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_set_raw(stream, false), 0);
	ck_assert_int_eq(ferry_line_stream_send(NULL, "x", 1), -EINVAL);
	ck_assert_int_eq(ferry_line_stream_send(stream, NULL, 1), -EINVAL);
	ck_assert_ptr_null(ferry_line_stream_get_transport(NULL));
	ck_assert_ptr_null(out);
	ferry_line_stream_free(NULL);
	close_stream();
}

TEST(a_connection_that_is_over_gets_no_lines)
{
	struct recorder recorder;
	struct ferry_line_stream *stream = NULL;
	make_pair(PAIR_UNIX, ends);
	recorder_open(&recorder, ends[0], &recorder_protocol);
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_abort_connection(recorder.transport), 0);
	ck_assert_int_eq(ferry_line_stream_new(&stream, recorder.transport, &callbacks, NULL),
	                 -ENOTCONN);
	ck_assert_ptr_null(stream);
	pump_until_lost(&recorder);
	recorder_close(&recorder);
	close_far();
}

/* ---- anything in any callback ---- */

enum { DO_FREE, DO_LOSE, DO_ABORT, DO_COUNT };
static const char doing_events[] = "M[(<{FR";
static char doing_at;
static int doing;

static void do_it(struct reader *to, char event, const char *bytes, size_t length)
{
	char copy[100];
	ck_assert_uint_lt(length, sizeof(copy));
	if (length > 0)
		memcpy(copy, bytes, length);
	if (event == '[' && length == 3 && memcmp(bytes, "raw", 3) == 0)
		set_raw(true);
	if (event != doing_at)
		return;
	struct ferry_line_stream *stream = to->stream;
	if (doing == DO_FREE) {
		free_stream();
		ferry_line_stream_free(stream); /* its memory goes with the loop */
	} else if (doing == DO_LOSE) {
		ck_assert_int_eq(ferry_transport_lose_connection(to->transport), 0);
	} else {
		ck_assert_int_eq(ferry_transport_abort_connection(to->transport), 0);
	}
	/* Valid until the callback returns. */
	if (length > 0)
		ck_assert_mem_eq(bytes, copy, length);
}

/* A story in which all of them occur, up to the first `event`. */
static void expect_until(char event, const char *more)
{
	static const char story[] = "MF[one]<123>[raw]{body}(la)R";
	const char *at = strchr(story, event);
	char text[100];
	size_t length = (size_t)(at - story) + 1;
	if (strchr("[(<{", event) != NULL)
		length += strcspn(at, "])>}");
	snprintf(text, sizeof(text), "%.*s%s", (int)length, story, more);
	expect(text);
}

static void take_four(struct reader *to, struct evbuffer *input)
{
	char bytes[4];
	ck_assert_int_eq(evbuffer_remove(input, bytes, 4), 4);
	tell(to, to->stream, '{', bytes, 4);
	if (to->stream != NULL)
		set_raw(false);
}

TEST_CASE("anything");

/* _i: which callback, and what it does */
LOOP_TEST(any_callback_may_end_it_all, (int)(sizeof(doing_events) - 1) * DO_COUNT)
{
	doing_at = doing_events[_i / DO_COUNT];
	doing = _i % DO_COUNT;
	for (int way = 0; way < WAYS; way++) {
		static const char text[] = "one\n12345\nraw\nbodyla";
		open_stream(way);
		reader.hook = do_it;
		reader.on_raw = take_four;
		set_max(3, FERRY_LINE_SKIP);
		int fd = make_marked_fd(1);
		ck_assert_int_eq(wire_send(ends[1], text, sizeof(text) - 1, &fd, 1),
		                 (ssize_t)sizeof(text) - 1);
		close(fd);
		far_end();
		expect_until(doing_at, doing == DO_FREE ? "" : "X");
		if (doing != DO_FREE)
			ck_assert_int_eq(reader.reason, doing == DO_LOSE ? 0 : -ECONNABORTED);
		close_stream();
		pump_turns(3);
	}
}

static void free_when_lost(struct reader *to, char event, const char *bytes, size_t length)
{
	(void)to, (void)bytes, (void)length;
	if (event == 'X') {
		free_stream();
		reader.reason = 1;
	}
}

LOOP_TEST(connection_lost_may_free_the_stream, WAYS)
{
	open_stream(_i);
	reader.hook = free_when_lost;
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_abort_connection(reader.transport), 0);
	pump_until_count(&reader.lost, 1);
	ck_assert_int_eq(reader.reason, 1);
	close_far();
}

/* ---- descriptors ---- */

TEST_CASE("descriptors");

LOOP_TEST(descriptors_come_before_the_bytes_they_came_with, WAYS)
{
	open_stream(_i);
	pump_turns(2);
	int fds[2] = {make_marked_fd(1), make_marked_fd(2)};
	far_text("one\n");
	expect("M[one]");
	ck_assert_int_eq(wire_send(ends[1], "two\nthr", 7, fds, 2), 7);
	expect("M[one]FF[two]");
	ck_assert_int_eq(wire_send(ends[1], "ee\n", 3, fds, 1), 3);
	expect("M[one]FF[two]F[three]");
	close(fds[0]);
	close(fds[1]);
	close_stream();
}

LOOP_TEST(descriptors_that_nobody_wants_are_closed_and_counted, WAYS)
{
	open_with(PAIR_UNIX, ways[_i], &without_half_close);
	int fd = make_marked_fd(1);
	ck_assert_int_eq(wire_send(ends[1], "one\n", 4, &fd, 1), 4);
	close(fd);
	expect("M[one]");
	ck_assert_uint_eq(stats_of(reader.transport).fds_unclaimed, 1);
	close_stream();
}

/* _i: whether there is a callback */
LOOP_TEST(lost_descriptors_are_told_or_end_the_connection, 2)
{
	open_with(PAIR_UNIX, 0, _i == 0 ? &without_half_close : &callbacks);
	pump_turns(2);
	int fds[2] = {make_marked_fd(1), make_marked_fd(2)};
	ck_assert_int_eq(wire_send(ends[1], "one\n", 4, fds, 2), 4);
	close(fds[0]);
	close(fds[1]);
	limit_descriptors(0);
	pump_until_count(&reader.events, 2);
	unlimit_descriptors();
	if (_i == 0)
		expect_lost(-EMSGSIZE);
	else
		expect("ML[one]");
	close_stream();
}

LOOP_TEST(a_descriptor_travels_with_the_line_sent_after_it, WAYS)
{
	char bytes[100];
	struct wire_read result;
	open_stream(_i);
	int fd = make_marked_fd(7);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "before", 6), 0);
	ck_assert_int_eq(ferry_transport_send_fd(reader.transport, fd, FERRY_FD_TAKE), 0);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "", 0), 0);
	pump_turns(3);
	wire_receive(ends[1], bytes, 7, &result);
	ck_assert_uint_eq(result.fd_count, 0);
	wire_receive(ends[1], bytes, sizeof(bytes), &result);
	ck_assert_int_eq(result.bytes, 1);
	ck_assert_uint_eq(result.fd_count, 1);
	ck_assert_uint_eq(marked_number(result.fds[0]), 7);
	wire_close_fds(&result);
	close_stream();
}

/* ---- sending ---- */

TEST_CASE("sending");

LOOP_TEST(a_line_is_sent_with_its_delimiter, WAYS)
{
	open_stream(_i);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "one", 3), 0);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, NULL, 0), 0);
	set_delimiter("\r\n");
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "t\nw\ro", 5), 0);
	expect_sent("one\n\nt\nw\ro\r\n");
	close_stream();
}

struct refusal {
	const char *delimiter, *line;
	bool refused;
};

static const struct refusal refusals[] = {
    {"\n", "a\nb", true},   {"\n", "\n", true},    {"\n", "a\r", false},  {"\r\n", "a\r\nb", true},
    {"\r\n", "a\r", false}, {"\n\n", "a\n", true}, {"\n\n", "\n", true},  {"\n\n", "a\nb", false},
    {"aab", "a", false},    {"aab", "xaa", false}, {"abab", "xab", true}, {"abab", "xaba", false},
    {"abab", "ab", true},   {"aaa", "xa", true},   {"abc", "ab", false},
};

TEST(a_line_that_the_peer_would_see_as_others_is_refused)
{
	open_stream(0);
	for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		const struct refusal *refusal = &refusals[i];
		set_delimiter(refusal->delimiter);
		ck_assert_msg(ferry_line_stream_send(reader.stream, refusal->line, strlen(refusal->line)) ==
		                  (refusal->refused ? -EILSEQ : 0),
		              "%zu", i);
	}
	close_stream();
}

LOOP_TEST(nothing_is_sent_on_a_closed_connection, WAYS)
{
	open_stream(_i);
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_lose_connection(reader.transport), 0);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "x", 1), -EPIPE);
	expect_lost(0);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "x", 1), -EPIPE);
	close_stream();
}

static unsigned int pauses;
static size_t queued_at_pause;

static void note_pause(void *context)
{
	(void)context;
	pauses++;
	queued_at_pause = stats_of(reader.transport).bytes_queued;
}

static void note_resume(void *context)
{
	(void)context;
}

static const struct ferry_producer_callbacks push = {.resume_producing = note_resume,
                                                     .pause_producing = note_pause};

LOOP_TEST(a_producer_is_paused_behind_the_delimiter, WAYS)
{
	open_stream(_i);
	pump_turns(2);
	bufferevent_setwatermark(ferry_transport_get_bufferevent(reader.transport), EV_WRITE, 0, 3);
	pauses = 0;
	ck_assert_int_eq(
	    ferry_transport_register_producer(reader.transport, &push, NULL, FERRY_PRODUCER_PUSH), 0);
	ck_assert_int_eq(ferry_line_stream_send(reader.stream, "12345", 5), 0);
	ck_assert_uint_eq(pauses, 1);
	ck_assert_uint_eq(queued_at_pause, 6);
	close_stream();
}

/* ---- all of it at random ---- */

TEST_CASE("many");

/* _i: the way. Lines in random chunks, with pauses, against what a simple splitter makes of them. */
LOOP_TEST(random_chunks_with_pauses_arrive_as_lines, WAYS)
{
	static char text[20000], expected[3 * sizeof(text)];
	for (int round = 0; round < 20; round++) {
		size_t length = support_random_below(sizeof(text)), out = 1;
		expected[0] = 'M';
		bool open = false;
		for (size_t i = 0; i < length; i++) {
			text[i] = (char)('a' + support_random_below(9));
			if (support_random_below(40) == 0)
				text[i] = '\n';
			if (!open)
				expected[out++] = '[';
			open = text[i] != '\n';
			expected[out] = text[i];
			if (!open)
				expected[out] = ']';
			out++;
		}
		if (open) {
			size_t start = out;
			while (expected[start - 1] != '[')
				start--;
			expected[start - 1] = '(';
			expected[out++] = ')';
		}
		expected[out++] = 'R';
		open_stream(_i);
		for (size_t at = 0, step = 0; at < length; at += step) {
			step = 1 + support_random_below(2000);
			step = step < length - at ? step : length - at;
			far_send(text + at, step);
			if (support_random_below(4) == 0)
				pause_reading();
			pump_turns(1 + (int)support_random_below(2));
			resume_reading();
		}
		far_end();
		while (!reader.ended)
			pump_turns(1);
		ck_assert_uint_eq(reader.length, out);
		ck_assert_mem_eq(reader.story, expected, out);
		close_stream();
		pump_turns(2);
	}
}

LOOP_TEST(a_long_line_arrives_byte_by_byte, 2)
{
	enum { LONG_LINE = 20000 };
	open_stream(_i);
	set_max(LONG_LINE, FERRY_LINE_LOSE);
	for (int i = 0; i < LONG_LINE; i++) {
		far_text("x");
		event_base_loop(base, EVLOOP_NONBLOCK);
	}
	ck_assert_uint_eq(reader.lines, 0);
	far_text("\n");
	pump_until_count(&reader.lines, 1);
	ck_assert_uint_eq(reader.length, 1 + LONG_LINE + 2);
	close_stream();
}

/* As deep a stack for many lines as for one. */
LOOP_TEST(many_lines_in_one_read_are_no_recursion, WAYS)
{
	open_stream(_i);
	reader.hook = pause_and_resume;
	static char text[20000];
	memset(text, '\n', sizeof(text));
	size_t sent = 0;
	while (sent < sizeof(text)) {
		ssize_t n = wire_send(ends[1], text + sent, sizeof(text) - sent, NULL, 0);
		sent += n > 0 ? (size_t)n : 0;
		pump_turns(1);
	}
	pump_until_count(&reader.lines, sizeof(text));
	close_stream();
}

BEFORE_ALL
{
	if (evthread_use_pthreads() < 0)
		exit(EXIT_FAILURE);
}
