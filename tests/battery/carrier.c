#include "carrier.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent_struct.h>
#include <event2/event.h>

#include "../support/tls_pair.h"

enum { TLS_1_3 = 0x0304, RECORD_ALERT = 21, RECORD_DATA = 23 };

enum carrier carrier;

const struct timeval soon = {.tv_usec = SOON_MS * 1000};
const struct timeval never = {.tv_sec = 100000};

bool carrier_is_ferry(void)
{
	return carrier >= FERRY_UNIX;
}

bool carrier_is_tcp(void)
{
	return carrier == STOCK_TCP || carrier == FERRY_TCP || carrier == FERRY_TLS;
}

void carrier_select(int index)
{
	carrier = (enum carrier)index;
	signal(SIGPIPE, carrier_is_ferry() ? SIG_DFL : SIG_IGN);
}

/* Ends */

void attach(struct end *end, struct bufferevent *bev)
{
	*end = (struct end){.bev = bev};
	if (!carrier_is_ferry())
		return;
	ck_assert_int_eq(ferry_transport_new(&end->transport, bev), 0);
	ck_assert_ptr_eq(ferry_transport_get_bufferevent(end->transport), bev);
}

void make_end_on(struct end *end, int fd, int options)
{
	struct bufferevent *bev = bufferevent_socket_new(base, fd, options);
	ck_assert_ptr_nonnull(bev);
	attach(end, bev);
}

static void make_end_on_pipes(struct end *end, int read_fd, int write_fd)
{
	ck_assert_int_eq(ferry_transport_new_pipes(&end->transport, base, read_fd, write_fd), 0);
	end->bev = ferry_transport_get_bufferevent(end->transport);
	ck_assert_ptr_nonnull(end->bev);
}

void make_carrier_pair(int fds[2])
{
	if (carrier == FERRY_TLS)
		ck_assert_ptr_null(make_tls_pair(fds, TLS_1_3));
	else
		make_pair(carrier_is_tcp() ? PAIR_TCP : PAIR_UNIX, fds);
}

void make_ends(struct end *a, struct end *b, int options)
{
	if (carrier == FERRY_PIPES) {
		int there[2], back[2];
		make_pipe(there);
		make_pipe(back);
		make_end_on_pipes(a, back[0], there[1]);
		make_end_on_pipes(b, there[0], back[1]);
		return;
	}
	int fds[2];
	make_carrier_pair(fds);
	make_end_on(a, fds[0], options | BEV_OPT_CLOSE_ON_FREE);
	make_end_on(b, fds[1], options | BEV_OPT_CLOSE_ON_FREE);
}

/* The writing descriptor of the pipe transport that make_end() made last. The transport does not
 * give it out; writing_fd() returns it. */
static int pipe_writing_fd = -1;

void make_end(struct end *near, struct far *far, int options)
{
	*far = (struct far){0};
	if (carrier == FERRY_PIPES) {
		int there[2], back[2];
		make_pipe(there);
		make_pipe(back);
		make_end_on_pipes(near, back[0], there[1]);
		pipe_writing_fd = there[1];
		far->in = there[0];
		far->out = back[1];
		return;
	}
	int fds[2];
	make_carrier_pair(fds);
	make_end_on(near, fds[0], options | BEV_OPT_CLOSE_ON_FREE);
	far->in = far->out = fds[1];
}

int writing_fd(const struct end *end)
{
	return carrier == FERRY_PIPES ? pipe_writing_fd : bufferevent_getfd(end->bev);
}

void free_end(struct end *end)
{
	if (end->transport != NULL)
		ferry_transport_free(end->transport);
	else if (end->bev != NULL)
		bufferevent_free(end->bev);
	*end = (struct end){0};
}

void end_sending(struct end *end)
{
	if (carrier == FERRY_PIPES || carrier == FERRY_TLS)
		ck_assert_int_eq(ferry_transport_lose_write_connection(end->transport), 0);
	else
		ck_assert_int_eq(shutdown(bufferevent_getfd(end->bev), SHUT_WR), 0);
}

static bool has_input(int fd)
{
	return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1;
}

static void say_close_notify(const struct far *far)
{
	static const unsigned char close_notify[] = {1, 0};
	(void)tls_send(far->out, RECORD_ALERT, close_notify, sizeof(close_notify));
}

void far_end_sending(struct far *far)
{
	if (carrier == FERRY_TLS) {
		say_close_notify(far); /* which the other end answers with a reset, if it is closed */
		ck_assert(shutdown(far->out, SHUT_WR) == 0 || errno == ENOTCONN);
	} else if (carrier == FERRY_PIPES) {
		close(far->out);
		far->out = -1;
	} else {
		ck_assert_int_eq(shutdown(far->out, SHUT_WR), 0);
	}
}

void far_close(struct far *far)
{
	/* With bytes unread it is a reset. */
	if (carrier == FERRY_TLS && far->out >= 0 && !has_input(far->in))
		say_close_notify(far);
	if (far->out >= 0 && far->out != far->in)
		close(far->out);
	if (far->in >= 0)
		close(far->in);
	far->in = far->out = -1;
}

void shrink_buffers(const struct end *near, const struct far *far)
{
	if (carrier == FERRY_PIPES)
		return;
	/* TCP's segments on the loopback are 64 KiB: with less room than a few of them it crawls from
	 * one window probe to the next. */
	int size = carrier_is_tcp() ? 262144 : 4096;
	ck_assert_int_eq(
	    setsockopt(bufferevent_getfd(near->bev), SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	ck_assert_int_eq(setsockopt(far->in, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)), 0);
}

/* The pattern repeats after 251 * 256 bytes: two periods in a row hold every piece of up to one. */
enum { PATTERN_PERIOD = 251 * 256 };

static const unsigned char *pattern_at(uint64_t position)
{
	static unsigned char pattern[2 * PATTERN_PERIOD];
	static bool made;
	if (!made)
		for (size_t i = 0; i < sizeof(pattern); i++)
			pattern[i] = support_byte(i);
	made = true;
	return pattern + position % PATTERN_PERIOD;
}

static size_t piece_of(size_t length)
{
	return length < PATTERN_PERIOD ? length : PATTERN_PERIOD;
}

bool is_pattern(const void *bytes, uint64_t position, size_t length)
{
	const unsigned char *at = bytes;
	while (length > 0) {
		size_t piece = piece_of(length);
		if (memcmp(at, pattern_at(position), piece) != 0)
			return false;
		at += piece;
		position += piece;
		length -= piece;
	}
	return true;
}

void write_pattern(struct bufferevent *bev, uint64_t position, size_t length)
{
	while (length > 0) {
		size_t piece = piece_of(length);
		ck_assert_int_eq(bufferevent_write(bev, pattern_at(position), piece), 0);
		position += piece;
		length -= piece;
	}
}

void far_send(struct far *far, size_t length)
{
	while (length > 0) {
		size_t piece = piece_of(length);
		ck_assert_int_eq(write(far->out, pattern_at(far->sent), piece), (ssize_t)piece);
		far->sent += piece;
		length -= piece;
	}
}

/* As read(2), without the records that are no data. */
static ssize_t far_read(const struct far *far, void *bytes, size_t size)
{
	ssize_t length;
	unsigned char type;
	if (carrier != FERRY_TLS)
		return read(far->in, bytes, size);
	do {
		length = tls_get(far->in, bytes, size, &type);
	} while (length > 0 && type != RECORD_DATA);
	return length;
}

size_t far_receive_now(struct far *far)
{
	unsigned char bytes[16384];
	size_t total = 0;
	for (;;) {
		ssize_t n = far_read(far, bytes, sizeof(bytes));
		if (n <= 0)
			return total;
		ck_assert(is_pattern(bytes, far->received, (size_t)n));
		far->received += (uint64_t)n;
		total += (size_t)n;
	}
}

struct far_goal {
	struct far *far;
	uint64_t total;
};

static bool far_has_received(void *argument)
{
	struct far_goal *goal = argument;
	far_receive_now(goal->far);
	return goal->far->received >= goal->total;
}

void far_receive_until(struct far *far, uint64_t total)
{
	pump_until(far_has_received, &(struct far_goal){far, total});
	ck_assert_uint_eq(far->received, total);
}

static bool far_is_at_the_end(void *argument)
{
	struct far *far = argument;
	far_receive_now(far);
	char byte;
	return far_read(far, &byte, 1) == 0;
}

void far_receive_to_the_end(struct far *far)
{
	pump_until(far_is_at_the_end, far);
}

/* Time */

static void set_flag(evutil_socket_t fd, short what, void *flag)
{
	(void)fd, (void)what;
	*(bool *)flag = true;
}

void pump_past(unsigned int milliseconds)
{
	bool fired = false;
	struct timeval delay = {.tv_sec = (time_t)milliseconds / 1000,
	                        .tv_usec = (suseconds_t)(milliseconds % 1000) * 1000};
	struct event *timer = evtimer_new(base, set_flag, &fired);
	ck_assert_int_eq(evtimer_add(timer, &delay), 0);
	pump_until_set(&fired);
	event_free(timer);
	pump_turns(2);
}

/* TCP's windows settle in their own time: it may stand still for some turns and then go on. */
static bool is_stuck(void *argument)
{
	const struct end *near = argument;
	size_t before = output_length(near->bev);
	if (carrier_is_tcp())
		pump_past(300);
	else
		pump_turns(3);
	return output_length(near->bev) == before;
}

uint64_t fill(const struct end *near, size_t left)
{
	/* More than the kernel's buffers take: up to ten megabytes, unless they were shrunk. */
	size_t length = carrier_is_tcp() ? 16000000 : 1000000;
	uint64_t written = 0;
	do {
		write_pattern(near->bev, written, length);
		written += length;
		pump_until(is_stuck, (void *)(uintptr_t)near);
	} while (output_length(near->bev) < left);
	return written;
}

bool deadline(const struct bufferevent *bev, short direction, struct timeval *when)
{
	const struct event *event = direction == EV_READ ? &bev->ev_read : &bev->ev_write;
	return event_pending(event, EV_TIMEOUT, when) != 0;
}

/* The record */

static void note(struct record *record, const char *text)
{
	size_t length = strlen(record->log);
	/* snprintf() drops the text that does not fit. No case compares a log as long as the array. */
	snprintf(record->log + length, sizeof(record->log) - length, "%s", text);
}

void record_read(struct bufferevent *bev, void *argument)
{
	struct record *record = argument;
	ck_assert_ptr_eq(bev, record->bev);
	record->reads++;
	note(record, "r");
	if (record->keep)
		return;
	struct evbuffer *input = bufferevent_get_input(bev);
	while (evbuffer_get_length(input) > 0) {
		size_t length = evbuffer_get_contiguous_space(input);
		ck_assert(is_pattern(evbuffer_pullup(input, (ev_ssize_t)length), record->received, length));
		ck_assert_int_eq(evbuffer_drain(input, length), 0);
		record->received += length;
	}
}

void record_write(struct bufferevent *bev, void *argument)
{
	struct record *record = argument;
	ck_assert_ptr_eq(bev, record->bev);
	record->writes++;
	note(record, "w");
}

void record_event(struct bufferevent *bev, short what, void *argument)
{
	int error = errno;
	struct record *record = argument;
	ck_assert_ptr_eq(bev, record->bev);
	record->events++;
	record->what = what;
	record->error = error;
	record->ended = true;

	char text[128];
	snprintf(text, sizeof(text), "[%s%s%s%s%s%s%s]", what & BEV_EVENT_READING ? "reading " : "",
	         what & BEV_EVENT_WRITING ? "writing " : "", what & BEV_EVENT_EOF ? "eof" : "",
	         what & BEV_EVENT_TIMEOUT ? "timeout" : "",
	         what & BEV_EVENT_CONNECTED ? "connected" : "", what & BEV_EVENT_ERROR ? "error " : "",
	         what & BEV_EVENT_ERROR ? strerror(error) : "");
	note(record, text);
}

void record(struct record *record, struct bufferevent *bev)
{
	*record = (struct record){.bev = bev};
	bufferevent_setcb(bev, record_read, record_write, record_event, record);
}

void forget(struct record *record)
{
	record->log[0] = '\0';
	record->reads = record->writes = record->events = 0;
	record->what = 0;
	record->error = 0;
	record->ended = false;
}

struct received_goal {
	const struct record *record;
	uint64_t total;
};

static bool has_received(void *argument)
{
	const struct received_goal *goal = argument;
	return goal->record->received >= goal->total;
}

void pump_until_received(const struct record *record, uint64_t total)
{
	pump_until(has_received, &(struct received_goal){record, total});
	ck_assert_uint_eq(record->received, total);
}

void pump_until_event(const struct record *record)
{
	pump_until_set(&record->ended);
}

/* Buffers */

size_t input_length(const struct bufferevent *bev)
{
	return evbuffer_get_length(bufferevent_get_input((struct bufferevent *)(uintptr_t)bev));
}

size_t output_length(const struct bufferevent *bev)
{
	return evbuffer_get_length(bufferevent_get_output((struct bufferevent *)(uintptr_t)bev));
}

struct length_goal {
	const struct bufferevent *bev;
	size_t length;
};

static bool input_holds(void *argument)
{
	const struct length_goal *goal = argument;
	return input_length(goal->bev) >= goal->length;
}

void pump_until_input(const struct bufferevent *bev, size_t at_least)
{
	pump_until(input_holds, &(struct length_goal){bev, at_least});
}

static bool output_holds(void *argument)
{
	const struct length_goal *goal = argument;
	return output_length(goal->bev) <= goal->length;
}

void pump_until_output(const struct bufferevent *bev, size_t at_most)
{
	pump_until(output_holds, &(struct length_goal){bev, at_most});
}
