/* A transport on sockets with TLS in this machine's own kernel. Without it, all is skipped: see tests/README.md for
 * kernels that have it. */

#include <errno.h>
#include <linux/tls.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "recorder.h"
#include "test.h"
#include "tls_pair.h"
#include "wire.h"

enum { ALERT = 21, HANDSHAKE = 22, DATA = 23 };
enum { BIG = 2 << 20, VERSIONS = 2 };

static const unsigned char close_notify[] = {1, 0}, ticket[] = {4, 0, 0, 2, 7, 7};
static const uint16_t versions[VERSIONS] = {TLS_1_2_VERSION, TLS_1_3_VERSION};
static int ends[2]; /* the transport's, the far one: -1 once closed */
static struct recorder recorder;

/* False: skipped. */
static bool open_tls(int version, const struct ferry_protocol *protocol)
{
	const char *reason = make_tls_pair(ends, versions[version]);

	recorder = (struct recorder){0};
	if (reason != NULL) {
		skip("%s", reason);
		close(ends[0]);
		close(ends[1]);
		return false;
	}
	recorder_open(&recorder, ends[0], protocol);
	return true;
}

static void close_far(void)
{
	close(ends[1]);
	ends[1] = -1;
}

static void close_all(void)
{
	recorder_close(&recorder);
	if (ends[1] >= 0)
		close(ends[1]);
}

/* What the far end receives: bytes of support_byte(), and the record behind them. */
struct received {
	uint64_t bytes;
	unsigned char type; /* of the last that was no data; 0: the end of the stream */
	unsigned char alert[2];
	bool ended, different;
	ssize_t error;
};

static void receive_piece(struct received *received)
{
	static unsigned char bytes[1 << 16];
	unsigned char type;
	ssize_t length = tls_get(ends[1], bytes, sizeof(bytes), &type);

	if (length == -EAGAIN)
		return;
	received->error = length < 0 ? length : 0;
	received->ended = length <= 0;
	if (type == ALERT && length == 2) {
		received->type = type;
		memcpy(received->alert, bytes, 2);
	}
	for (ssize_t i = 0; type == DATA && i < length; i++)
		received->different |= bytes[i] != support_byte(received->bytes + (uint64_t)i);
	received->bytes += type == DATA ? (uint64_t)length : 0;
}

static bool has_ended(void *argument)
{
	struct received *received = argument;

	for (unsigned int i = 0; i < 16 && !received->ended; i++)
		receive_piece(received);
	return received->ended;
}

static void receive_to_close_notify(uint64_t bytes)
{
	struct received received = {0};

	pump_until(has_ended, &received);
	ck_assert_int_eq(received.error, 0);
	ck_assert_uint_eq(received.bytes, bytes);
	ck_assert(!received.different);
	ck_assert_uint_eq(received.type, ALERT);
	ck_assert_mem_eq(received.alert, close_notify, sizeof(close_notify));
}

TEST_CASE("kernel");

LOOP_TEST(keys_and_data_are_found, VERSIONS)
{
	struct ferry_transport_tls tls;

	if (!open_tls(_i, &recorder_protocol))
		return;
	ck_assert_int_eq(ferry_transport_get_tls(recorder.transport, &tls), 0);
	ck_assert_uint_eq(tls.version, versions[_i]);
	ck_assert_uint_eq(tls.cipher, TLS_CIPHER_AES_GCM_128);
	for (unsigned int i = 0; i < 50; i++) {
		tls_put(ends[1], HANDSHAKE, ticket, sizeof(ticket));
		wire_put(ends[1], i * 1000, 1000);
	}
	pump_until_length(&recorder, 50000);
	recorder_expect_bytes(&recorder, 0, 50000);
	tls_put(ends[1], ALERT, close_notify, sizeof(close_notify));
	pump_until_count(&recorder.read_lost, 1);
	ck_assert_int_eq(ferry_transport_lose_connection(recorder.transport), 0);
	receive_to_close_notify(0);
	close_far();
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, 0);
	close_all();
}

TEST(keys_for_one_direction_are_refused)
{
	struct ferry_transport *transport = NULL;
	const char *reason = make_tls_pair(ends, TLS_1_2_VERSION);

	for (int direction = TLS_TX; reason == NULL && direction <= TLS_RX; direction++) {
		int fds[2];
		make_pair(PAIR_TCP, fds);
		ck_assert_int_eq(setsockopt(fds[0], IPPROTO_TCP, 31, "tls", sizeof("tls")), 0);
		struct bufferevent *bev = bufferevent_socket_new(base, fds[0], BEV_OPT_CLOSE_ON_FREE);
		use_tls_keys(fds[0], direction, TLS_1_2_VERSION);
		ck_assert_int_eq(ferry_transport_new(&transport, bev), -EPROTOTYPE);
		use_tls_keys(fds[0], direction == TLS_TX ? TLS_RX : TLS_TX, TLS_1_2_VERSION);
		ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
		ferry_transport_free(transport);
		pump_turns(2);
		close(fds[1]);
	}
	if (reason != NULL)
		skip("%s", reason);
	close(ends[0]);
	close(ends[1]);
}

TEST(a_move_to_keys_for_one_direction_ends_the_connection)
{
	int other[2];

	if (!open_tls(1, &recorder_protocol))
		return;
	make_pair(PAIR_TCP, other);
	ck_assert_int_eq(setsockopt(other[0], IPPROTO_TCP, 31, "tls", sizeof("tls")), 0);
	use_tls_keys(other[0], TLS_TX, TLS_1_3_VERSION);
	struct bufferevent *bev = ferry_transport_get_bufferevent(recorder.transport);
	ck_assert_int_eq(bufferevent_setfd(bev, other[0]), 0);
	wire_put(other[1], 0, 1000);
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, -EPROTOTYPE);
	ck_assert_uint_eq(recorder.data, 0);
	close(ends[0]);
	close(other[1]);
	close_all();
}

struct end {
	unsigned char type, bytes[6];
	size_t length;
	int reason;
};

static const struct end bad_ends[] = {
    {ALERT, {2, 20}, 2, -ECONNABORTED},
    {HANDSHAKE, {24, 0, 0, 1, 0}, 5, -EKEYEXPIRED},
    {HANDSHAKE, {0, 0, 0, 0}, 4, -EPROTO},
    {0, {0}, 0, -EPROTO}, /* cut off */
};

LOOP_TEST(a_bad_end_is_told_from_a_good_one, COUNT(bad_ends))
{
	const struct end *end = &bad_ends[_i];

	if (!open_tls(1, &recorder_protocol))
		return;
	wire_put(ends[1], 0, 1000);
	if (end->length > 0)
		tls_put(ends[1], end->type, end->bytes, end->length);
	else
		close_far();
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, end->reason);
	recorder_expect_bytes(&recorder, 0, 1000);
	close_all();
}

/* Into a socket that is full most of the time, also when the last byte is taken. */
LOOP_TEST(all_bytes_and_files_arrive_before_close_notify, VERSIONS)
{
	int file;

	if (!open_tls(_i, &recorder_protocol))
		return;
	/* With less room than a few segments of the loopback, TCP waits for a timer again and again. */
	ck_assert_int_eq(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &(int){1 << 18}, sizeof(int)), 0);
	ck_assert_int_eq(setsockopt(ends[1], SOL_SOCKET, SO_RCVBUF, &(int){1 << 18}, sizeof(int)), 0);
	file = make_file(BIG);
	for (int64_t at = 0; at < BIG; at += BIG / 4)
		ck_assert_int_eq(ferry_transport_send_file(NULL, recorder.transport, file, FERRY_FD_DUP, at,
		                                           BIG / 4, 0, NULL, NULL),
		                 0);
	close(file);
	ck_assert_int_eq(ferry_transport_lose_connection(recorder.transport), 0);
	receive_to_close_notify(BIG);
	ck_assert_uint_gt(stats_of(recorder.transport).sendfile_calls, 0);
	close_far();
	pump_until_lost(&recorder);
	ck_assert_int_eq(recorder.reason, 0);
	close_all();
}

static bool has_received_all(void *argument)
{
	struct received *received = argument;

	receive_piece(received);
	return received->bytes == 50000;
}

/* Nothing is sent behind the file, and nothing ends. */
TEST(a_file_that_ends_early_leaves_no_record_open)
{
	struct received received = {0};

	if (!open_tls(1, &recorder_protocol))
		return;
	int file = make_file(60000);
	ck_assert_int_eq(ferry_transport_send_file(NULL, recorder.transport, dup(file), FERRY_FD_TAKE,
	                                           0, 60000, 0, NULL, NULL),
	                 0);
	ck_assert_int_eq(ftruncate(file, 50000), 0);
	close(file);
	pump_until(has_received_all, &received);
	close_all();
}

TEST(an_abort_resets)
{
	struct received received = {0};

	if (!open_tls(1, &recorder_protocol))
		return;
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_abort_connection(recorder.transport), 0);
	pump_until_lost(&recorder);
	recorder_free_transport(&recorder);
	pump_until(has_ended, &received);
	ck_assert_int_eq(received.error, -ECONNRESET);
	close_all();
}

/* What is unread of a broken connection is not counted by the kernel. */
TEST(the_rest_of_a_broken_connection_arrives)
{
	if (!open_tls(1, &recorder_protocol))
		return;
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_pause_reading(recorder.transport), 0);
	wire_put(ends[1], 0, 50000);
	ck_assert_int_eq(ferry_transport_write(recorder.transport, "x", 1), 0);
	pump_turns(3);
	close_far(); /* with an unread byte: a reset */
	while (ferry_transport_write(recorder.transport, "x", 1) == 0 && recorder.lost == 0 &&
	       stats_of(recorder.transport).bytes_queued == 0)
		pump_turns(1);
	ck_assert_int_eq(ferry_transport_resume_reading(recorder.transport), 0);
	pump_until_lost(&recorder);
	recorder_expect_bytes(&recorder, 0, 50000);
	close_all();
}

/* A socket with TLS as a file, whose far end closes well. */
TEST(a_socket_with_tls_is_the_source_of_a_file)
{
	int source[2];

	if (!open_tls(1, &recorder_protocol))
		return;
	ck_assert_ptr_null(make_tls_pair(source, TLS_1_3_VERSION));
	ck_assert_int_eq(ferry_transport_send_file(NULL, recorder.transport, source[0], FERRY_FD_TAKE,
	                                           0, FERRY_TO_END, 0, NULL, NULL),
	                 0);
	wire_put(source[1], 0, 1000);
	tls_put(source[1], HANDSHAKE, ticket, sizeof(ticket));
	wire_put(source[1], 1000, 1000);
	tls_put(source[1], ALERT, close_notify, sizeof(close_notify));
	ck_assert_int_eq(ferry_transport_lose_connection(recorder.transport), 0);
	receive_to_close_notify(2000);
	close(source[1]);
	close_all();
}

/* The descriptor moves to another transport, as in a handoff and a return. */
TEST(a_handoff_carries_the_connection_there_and_back)
{
	struct ferry_handoff *handoff;

	if (!open_tls(1, &recorder_protocol))
		return;
	wire_put(ends[1], 0, 1000);
	pump_until_length(&recorder, 1000);
	for (unsigned int i = 1; i < 4; i++) {
		struct ferry_transport *transport = recorder.transport;
		wire_put(ends[1], i * 1000, 1000);
		ck_assert_int_eq(ferry_handoff_from_transport(&handoff, transport), 0);
		ck_assert_int_eq(
		    ferry_handoff_to_transport(&transport, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
		ferry_handoff_free(handoff);
		recorder.transport = transport;
		recorder.made = 0;
		ck_assert_int_eq(ferry_transport_set_protocol(transport, &recorder_protocol, &recorder), 0);
		ck_assert_uint_eq(stats_of(transport).tls_version, TLS_1_3_VERSION);
		pump_until_length(&recorder, (i + 1) * 1000);
	}
	recorder_expect_bytes(&recorder, 0, 4000);
	tls_put(ends[1], ALERT, close_notify, sizeof(close_notify));
	pump_until_count(&recorder.read_lost, 1);
	close_all();
}
