/* A transport on a socket with TLS in the kernel. Here the kernel is support/fake_tls.c; tests/kernels has real ones. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "fake_tls.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { TICKET = 4, KEY_UPDATE = 24 };

static int ends[2]; /* the transport's, the far one: -1 once closed */
static struct recorder recorder;
static struct fake_tls *fake;

static void open_pair(void)
{
	fake_tls_clear();
	make_pair(PAIR_TCP, ends);
	recorder = (struct recorder){0};
}

static void close_pair(void)
{
	if (recorder.received != NULL)
		recorder_close(&recorder);
	if (ends[1] >= 0)
		close(ends[1]);
	fake_tls_clear();
}

static void open_tls(const struct ferry_protocol *protocol)
{
	fake = fake_tls_set(ends[0], FAKE_KEYS, FAKE_KEYS);
	recorder_open(&recorder, ends[0], protocol);
}

static void close_far(void)
{
	close(ends[1]);
	ends[1] = -1;
}

static void put_bytes(uint64_t position, size_t length)
{
	unsigned char bytes[1 << 14];

	for (size_t i = 0; i < length; i++)
		bytes[i] = support_byte(position + i);
	fake_tls_put(ends[1], FAKE_DATA, bytes, length);
}

static void put_ticket(void)
{
	static const unsigned char ticket[] = {TICKET, 0, 0, 2, 1, 2};

	fake_tls_put(ends[1], FAKE_HANDSHAKE, ticket, sizeof(ticket));
}

/* Reads what the near end sends, of support_byte() from `position` on, up to its end. */
static size_t read_to_end(uint64_t position)
{
	size_t total = 0;
	ssize_t length;

	do {
		pump_turns(1);
		length = wire_expect(ends[1], position + total, 1 << 16);
		total += length > 0 ? (size_t)length : 0;
	} while (length > 0 || length == -EAGAIN);
	ck_assert_int_eq(length, 0);
	return total;
}

static void write_bytes(size_t length)
{
	unsigned char *bytes = malloc(length);

	ck_assert_ptr_nonnull(bytes);
	for (size_t i = 0; i < length; i++)
		bytes[i] = support_byte(i);
	ck_assert_int_eq(ferry_transport_write(recorder.transport, bytes, length), 0);
	free(bytes);
}

static unsigned int events;
static int event_error;

static void on_event(struct bufferevent *bev, short what, void *context)
{
	(void)bev, (void)context;
	event_error = errno;
	events += (what & BEV_EVENT_ERROR) != 0;
}

/* ---- attaching ---- */

TEST_CASE("attach", open_pair, close_pair);

LOOP_TEST(keys_for_one_direction_are_no_transport, 2)
{
	struct ferry_transport *transport = NULL;
	struct bufferevent *bev = bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE);

	fake_tls_set(ends[0], _i == 0 ? FAKE_KEYS : FAKE_WITHOUT_KEYS,
	             _i == 1 ? FAKE_KEYS : FAKE_WITHOUT_KEYS);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), -EPROTOTYPE);
	ck_assert_ptr_null(transport);
	bufferevent_free(bev);
}

TEST(a_plain_socket_is_asked_once_and_is_plain)
{
	struct ferry_transport_tls tls;

	recorder_open(&recorder, ends[0], &recorder_protocol);
	ck_assert_uint_eq(fake_tls_questions(), 1);
	ck_assert_int_eq(ferry_transport_get_tls(recorder.transport, &tls), -EOPNOTSUPP);
	ck_assert_uint_eq(stats_of(recorder.transport).tls_version, 0);
}

TEST(a_unix_socket_is_not_asked)
{
	int pair[2];

	recorder_open(&recorder, ends[0], &recorder_protocol);
	unsigned int before = fake_tls_questions();
	make_pair(PAIR_UNIX, pair);
	struct ferry_transport *transport = make_transport(pair[0]);
	ck_assert_uint_eq(fake_tls_questions(), before);
	ferry_transport_free(transport);
	close(pair[1]);
	pump_turns(2);
}

TEST(tls_without_keys_is_plain)
{
	struct ferry_transport_tls tls;

	fake_tls_set(ends[0], FAKE_WITHOUT_KEYS, FAKE_WITHOUT_KEYS);
	recorder_open(&recorder, ends[0], &recorder_protocol);
	ck_assert_int_eq(ferry_transport_get_tls(recorder.transport, &tls), -EOPNOTSUPP);
	wire_put(ends[1], 0, 10);
	pump_until_length(&recorder, 10);
}

TEST(a_transport_returns_version_and_cipher)
{
	struct ferry_transport_tls tls;

	open_tls(&recorder_protocol);
	ck_assert_int_eq(ferry_transport_get_tls(recorder.transport, &tls), 0);
	ck_assert_uint_eq(tls.version, 0x0304);
	ck_assert_uint_eq(tls.cipher, 51);
	ck_assert_uint_eq(stats_of(recorder.transport).tls_version, 0x0304);
	ck_assert_uint_eq(stats_of(recorder.transport).tls_cipher, 51);
	ck_assert_int_eq(ferry_transport_get_tls(NULL, &tls), -EINVAL);
	ck_assert_int_eq(ferry_transport_get_tls(recorder.transport, NULL), -EINVAL);
	ck_assert_int_eq(ferry_transport_set_tls_truncation(NULL, true), -EINVAL);
}

TEST(a_standing_transport_becomes_tls_and_plain_again)
{
	int other[2];

	recorder_open(&recorder, ends[0], &recorder_protocol);
	wire_put(ends[1], 0, 10);
	pump_until_length(&recorder, 10);
	fake_tls_set(ends[0], FAKE_KEYS, FAKE_WITHOUT_KEYS);
	ck_assert_int_eq(ferry_transport_set_socket(recorder.transport, ends[0]), -EPROTOTYPE);
	wire_put(ends[1], 10, 10);
	pump_until_length(&recorder, 20);
	fake_tls_set(ends[0], FAKE_KEYS, FAKE_KEYS);
	ck_assert_int_eq(ferry_transport_set_socket(recorder.transport, ends[0]), 0);
	put_ticket();
	put_bytes(20, 10);
	pump_until_length(&recorder, 30);
	make_pair(PAIR_TCP, other);
	ck_assert_int_eq(ferry_transport_set_socket(recorder.transport, other[0]), 0);
	close(ends[0]);
	wire_put(other[1], 30, 10);
	pump_until_length(&recorder, 40);
	recorder_expect_bytes(&recorder, 0, 40);
	close(other[1]);
}

/* By libevent's own call, which asks nobody. */
LOOP_TEST(a_move_to_keys_for_one_direction_ends_the_connection, 2)
{
	int other[2];

	recorder_open(&recorder, ends[0], &recorder_protocol);
	pump_turns(2);
	make_pair(PAIR_TCP, other);
	fake_tls_set(other[0], _i == 0 ? FAKE_KEYS : FAKE_WITHOUT_KEYS,
	             _i == 1 ? FAKE_KEYS : FAKE_WITHOUT_KEYS);
	struct bufferevent *bev = ferry_transport_get_bufferevent(recorder.transport);
	ck_assert_int_eq(bufferevent_setfd(bev, other[0]), 0);
	wire_put(other[1], 0, 100);
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, -EPROTOTYPE);
	ck_assert_uint_eq(recorder.data, 0);
	close(ends[0]);
	close(other[1]);
}

/* The transport notices it in the next call, which fails; without a protocol, the event callback has the errno. */
TEST(a_move_to_keys_for_one_direction_is_an_error_event_without_a_protocol)
{
	int other[2];

	struct ferry_transport *transport = make_transport(ends[0]);
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	bufferevent_setcb(bev, NULL, NULL, on_event, NULL);
	make_pair(PAIR_TCP, other);
	fake_tls_set(other[0], FAKE_KEYS, FAKE_WITHOUT_KEYS);
	events = 0;
	ck_assert_int_eq(bufferevent_setfd(bev, other[0]), 0);
	ck_assert_int_eq(ferry_transport_write(transport, "x", 1), -EPIPE);
	pump_until_count(&events, 1);
	ck_assert_int_eq(event_error, EPROTOTYPE);
	ferry_transport_free(transport);
	pump_turns(2);
	close(ends[0]);
	close(other[1]);
}

/* ---- receiving ---- */

TEST_CASE("receiving", open_pair, close_pair);

TEST(records_that_are_no_data_never_reach_the_input)
{
	open_tls(&recorder_protocol);
	for (uint64_t i = 0; i < 20; i++) {
		put_ticket();
		put_bytes(i * 1000, 1000);
		fake_tls_put_alert(ends[1], 1, 90);
	}
	pump_until_length(&recorder, 20000);
	recorder_expect_bytes(&recorder, 0, 20000);
	pump_turns(3);
	ck_assert_uint_eq(stats_of(recorder.transport).tls_records_ignored, 40);
	ck_assert_uint_eq(recorder.read_lost, 0);
}

TEST(close_notify_is_the_end_of_that_half)
{
	open_tls(&recorder_protocol);
	put_bytes(0, 100);
	fake_tls_put_close_notify(ends[1]);
	pump_until_count(&recorder.read_lost, 1);
	ck_assert_uint_eq(recorder_length(&recorder), 100);
	write_bytes(50);
	ck_assert_int_eq(ferry_transport_lose_connection(recorder.transport), 0);
	ck_assert_uint_eq(read_to_end(0), 50);
	close_far();
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, 0);
}

TEST(nothing_behind_close_notify_is_delivered)
{
	open_tls(&recorder_protocol);
	fake_tls_put_close_notify(ends[1]);
	put_bytes(0, 100);
	pump_until_count(&recorder.read_lost, 1);
	bufferevent_enable(ferry_transport_get_bufferevent(recorder.transport), EV_READ);
	pump_turns(5);
	ck_assert_uint_eq(recorder_length(&recorder), 0);
	ck_assert_uint_eq(recorder.read_lost, 1);
}

struct end {
	unsigned char type, bytes[6];
	size_t length;
	int reason;
};

static const struct end bad_ends[] = {
    {FAKE_ALERT, {2, 20}, 2, -ECONNABORTED},
    {FAKE_HANDSHAKE, {KEY_UPDATE, 0, 0, 1, 0}, 5, -EKEYEXPIRED},
    {FAKE_HANDSHAKE, {0, 0, 0, 0}, 4, -EPROTO}, /* renegotiation: HelloRequest */
    {FAKE_HANDSHAKE, {1, 0, 0, 0}, 4, -EPROTO}, /* and ClientHello */
    {99, {1}, 1, -EPROTO},
};

LOOP_TEST(a_record_that_ends_the_connection_does_so_behind_the_data, COUNT(bad_ends))
{
	const struct end *end = &bad_ends[_i];

	open_tls(&recorder_protocol);
	put_bytes(0, 100);
	fake_tls_put(ends[1], end->type, end->bytes, end->length);
	put_bytes(100, 100);
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, end->reason);
	ck_assert_uint_eq(recorder.read_lost, 0);
	recorder_expect_bytes(&recorder, 0, 100);
	ck_assert_uint_eq(fake->close_notifies, 0);
}

TEST(an_end_without_close_notify_is_an_error)
{
	open_tls(&recorder_protocol);
	put_bytes(0, 100);
	close_far();
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, -EPROTO);
	ck_assert_uint_eq(recorder_length(&recorder), 100);
	ck_assert_uint_eq(recorder.read_lost, 0);
}

TEST(a_protocol_that_frames_itself_accepts_that_end)
{
	open_tls(&recorder_protocol);
	ck_assert_int_eq(ferry_transport_set_tls_truncation(recorder.transport, true), 0);
	put_bytes(0, 100);
	ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
	pump_until_count(&recorder.read_lost, 1);
	ck_assert_uint_eq(recorder_length(&recorder), 100);
	ck_assert_uint_eq(recorder.lost, 0);
}

TEST(the_setting_is_made_before_tls_and_stays)
{
	recorder_open(&recorder, ends[0], &recorder_protocol);
	ck_assert_int_eq(ferry_transport_set_tls_truncation(recorder.transport, false), 0);
	ck_assert_int_eq(ferry_transport_set_tls_truncation(recorder.transport, true), 0);
	fake_tls_set(ends[0], FAKE_KEYS, FAKE_KEYS);
	ck_assert_int_eq(ferry_transport_set_socket(recorder.transport, ends[0]), 0);
	ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
	pump_until_count(&recorder.read_lost, 1);
}

TEST(watermarks_and_rate_limits_hold)
{
	open_tls(&recorder_protocol);
	struct bufferevent *bev = ferry_transport_get_bufferevent(recorder.transport);
	ck_assert_int_eq(bufferevent_set_max_single_read(bev, 7), 0);
	bufferevent_setwatermark(bev, EV_READ, 0, 13);
	put_bytes(0, 1000);
	put_ticket();
	put_bytes(1000, 1000);
	pump_until_length(&recorder, 2000);
	recorder_expect_bytes(&recorder, 0, 2000);
}

/* Below the paused owner: the end of the peer, announced or not. */
LOOP_TEST(a_pause_notices_the_end_as_a_read_would, 2)
{
	bool announced = _i == 0;

	open_tls(&recorder_no_half_close);
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_pause_reading(recorder.transport), 0);
	ck_assert_int_eq(ferry_transport_lose_write_connection(recorder.transport), 0);
	ck_assert_uint_eq(read_to_end(0), 0);
	put_ticket();
	if (announced)
		fake_tls_put_close_notify(ends[1]);
	close_far();
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, announced ? 0 : -EPROTO);
}

/* The connection is broken while the owner has paused: the kernel does not count what is unread. */
TEST(the_rest_of_a_broken_connection_arrives)
{
	open_tls(&recorder_protocol);
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_pause_reading(recorder.transport), 0);
	for (uint64_t i = 0; i < 10; i++) {
		put_bytes(i * 1000, 1000);
		put_ticket();
	}
	write_bytes(10);
	pump_turns(2);
	close_far(); /* with unread bytes: a reset */
	while (stats_of(recorder.transport).bytes_queued == 0) {
		if (ferry_transport_write(recorder.transport, "x", 1) < 0)
			break;
		pump_turns(1);
	}
	ck_assert_int_eq(ferry_transport_resume_reading(recorder.transport), 0);
	pump_until_lost(&recorder);
	recorder_expect_bytes(&recorder, 0, 10000);
	ck_assert_int_lt(recorder.reason, 0);
}

/* ---- closing ---- */

TEST_CASE("closing", open_pair, close_pair);

static void lose(void)
{
	ck_assert_int_eq(ferry_transport_lose_connection(recorder.transport), 0);
}

static void lose_write(void)
{
	ck_assert_int_eq(ferry_transport_lose_write_connection(recorder.transport), 0);
}

static void (*const closers[])(void) = {lose, lose_write};

LOOP_TEST(close_notify_goes_behind_all_bytes, 2)
{
	open_tls(&recorder_protocol);
	write_bytes(1000);
	closers[_i]();
	ck_assert_uint_eq(read_to_end(0), 1000);
	ck_assert_uint_eq(fake->close_notifies, 1);
	ck_assert_uint_eq(fake->sent_before_close, 1000);
	fake_tls_put_close_notify(ends[1]);
	close_far();
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, 0);
	ck_assert_uint_eq(fake->close_notifies, 1);
}

/* The kernel has taken all bytes, and is full: neither the alert nor the end of the stream may go now. */
LOOP_TEST(close_notify_is_sent_also_when_the_socket_is_full, 2)
{
	size_t before;

	wire_shrink(ends[0]);
	open_tls(&recorder_protocol);
	pump_turns(2);
	before = wire_fill(ends[0]);
	closers[_i]();
	pump_turns(5);
	ck_assert_uint_eq(fake->close_notifies, 0);
	ck_assert_uint_eq(read_to_end(0), before);
	ck_assert_uint_ge(fake->close_notifies, 1);
	fake_tls_put_close_notify(ends[1]);
	close_far();
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, 0);
}

TEST(a_close_is_not_told_apart_from_a_peer_that_cuts_off_what_is_dropped)
{
	open_tls(&recorder_protocol);
	lose();
	ck_assert_uint_eq(read_to_end(0), 0);
	put_bytes(0, 100);
	put_ticket();
	close_far();
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, 0);
	ck_assert_uint_eq(recorder.data, 0);
}

TEST(a_close_ends_when_the_peer_says_close_notify_and_stays)
{
	open_tls(&recorder_protocol);
	lose();
	ck_assert_uint_eq(read_to_end(0), 0);
	fake_tls_put_close_notify(ends[1]);
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, 0);
}

TEST(an_abort_resets_when_the_socket_is_closed)
{
	char byte;

	open_tls(&recorder_protocol);
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_abort_connection(recorder.transport), 0);
	ck_assert_int_eq(fake->linger, 1);
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, -ECONNABORTED);
	ck_assert_int_eq(recv(ends[1], &byte, 1, MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EAGAIN); /* no end of the stream before */
	recorder_free_transport(&recorder);
	pump_turns(2);
	ck_assert_int_eq(recv(ends[1], &byte, 1, MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, ECONNRESET);
	ck_assert_uint_eq(fake->close_notifies, 0);
}

TEST(a_free_says_nothing)
{
	open_tls(&recorder_protocol);
	pump_turns(2);
	recorder_free_transport(&recorder);
	pump_turns(2);
	ck_assert_uint_eq(fake->close_notifies, 0);
}

/* ---- files ---- */

TEST_CASE("files", open_pair, close_pair);

static void send_file(int fd, int64_t length, unsigned int flags)
{
	ck_assert_int_eq(ferry_transport_send_file(NULL, recorder.transport, fd, FERRY_FD_TAKE, 0,
	                                           length, flags, NULL, NULL),
	                 0);
}

TEST(bytes_and_files_delay_no_record)
{
	open_tls(&recorder_protocol);
	write_bytes(100);
	send_file(make_file(100000), FERRY_TO_END, 0);
	write_bytes(100);
	send_file(make_file(100), FERRY_TO_END, 0);
	write_bytes(100);
	lose_write();
	while (fake->close_notifies == 0) {
		pump_turns(1);
		wire_drain(ends[1]);
	}
	ck_assert_uint_eq(fake->sent_before_close, 100400);
	ck_assert_uint_eq(fake_tls_corks(), 0);
	ck_assert_uint_eq(stats_of(recorder.transport).files_sent, 2);
	ck_assert_uint_gt(stats_of(recorder.transport).sendfile_calls, 0);
}

/* The kernel was asked for more than there is, and keeps the record open for it. */
TEST(a_file_that_ends_early_leaves_no_record_open)
{
	int fd = make_file(100000);

	open_tls(&recorder_protocol);
	send_file(dup(fd), 100000, 0);
	ck_assert_int_eq(ftruncate(fd, 50000), 0);
	close(fd);
	while (stats_of(recorder.transport).files_queued > 0 || fake->sent < 50000) {
		pump_turns(1);
		wire_drain(ends[1]);
	}
	ck_assert(!fake->open_record);
	ck_assert_uint_ge(fake->pushes, 1);
	ck_assert_uint_eq(stats_of(recorder.transport).files_sent, 0);
}

/* A socket with TLS as a file: what arrives there, without the records that are no data. */
struct source_end {
	bool announced;
	int status;
};

static const struct source_end source_ends[] = {{true, 0}, {false, -EPROTO}};
static unsigned int finished;
static int finished_status;

static void on_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                        void *context)
{
	(void)producer, (void)context;
	finished++;
	finished_status = status;
	ck_assert_uint_eq(sent, 2000);
}

LOOP_TEST(a_socket_with_tls_is_the_source_of_a_file, COUNT(source_ends))
{
	static const struct ferry_file_callbacks callbacks = {.finished = on_finished};
	int source[2], far = ends[1];

	make_pair(PAIR_TCP, source);
	open_tls(&recorder_protocol);
	fake_tls_set(source[0], FAKE_KEYS, FAKE_KEYS);
	ck_assert_int_eq(ferry_transport_send_file(NULL, recorder.transport, source[0], FERRY_FD_TAKE,
	                                           0, FERRY_TO_END, 0, &callbacks, NULL),
	                 0);
	finished = 0;
	ends[1] = source[1];
	put_bytes(0, 1000);
	put_ticket();
	pump_turns(3);
	put_bytes(1000, 1000);
	if (source_ends[_i].announced)
		fake_tls_put_close_notify(source[1]);
	ends[1] = far;
	close(source[1]);
	pump_until_count(&finished, 1);
	ck_assert_int_eq(finished_status, source_ends[_i].status);
	lose_write();
	ck_assert_uint_eq(read_to_end(0), 2000);
}

TEST(a_source_with_keys_for_one_direction_is_refused)
{
	int source[2];

	make_pair(PAIR_TCP, source);
	open_tls(&recorder_protocol);
	fake_tls_set(source[0], FAKE_KEYS, FAKE_WITHOUT_KEYS);
	ck_assert_int_eq(ferry_transport_send_file(NULL, recorder.transport, source[0], FERRY_FD_DUP, 0,
	                                           FERRY_TO_END, 0, NULL, NULL),
	                 -EPROTOTYPE);
	close(source[0]);
	close(source[1]);
}

TEST(a_plain_socket_still_joins_header_and_file)
{
	recorder_open(&recorder, ends[0], &recorder_protocol);
	write_bytes(100);
	send_file(make_file(100000), FERRY_TO_END, 0);
	write_bytes(100);
	while (stats_of(recorder.transport).bytes_sent < 100200) {
		pump_turns(1);
		wire_drain(ends[1]);
	}
	ck_assert_uint_gt(fake_tls_corks(), 0);
}
