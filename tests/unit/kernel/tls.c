/* TLS in the kernel: what the records that are no data mean, with plain bytes, and the calls on a socket. */

#include "kernel/tls.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fake_tls.h"
#include "test.h"

enum { KEY_UPDATE = 24, TICKET = 4, HELLO_REQUEST = 0, CLIENT_HELLO = 1 };

/* ---- records ---- */

struct row {
	unsigned char type;
	unsigned char bytes[12];
	size_t length;
	int status;
	bool ended;
};

static const struct row rows[] = {
    {FAKE_ALERT, {1, 0}, 2, 0, true},    /* close_notify */
    {FAKE_ALERT, {2, 0}, 2, 0, true},    /* of TLS 1.3, where the level means nothing */
    {FAKE_ALERT, {1, 90}, 2, 0, false},  /* user_canceled */
    {FAKE_ALERT, {1, 100}, 2, 0, false}, /* no_renegotiation */
    {FAKE_ALERT, {1, 90, 1, 0}, 4, 0, true},
    {FAKE_ALERT, {1, 0, 2, 20}, 4, 0, true}, /* nothing is behind it */
    {FAKE_ALERT, {2, 20}, 2, -ECONNABORTED, false},
    {FAKE_ALERT, {1, 20}, 2, -ECONNABORTED, false}, /* an error as a warning */
    {FAKE_ALERT, {0, 100}, 2, -ECONNABORTED, false},
    {FAKE_HANDSHAKE, {TICKET, 0, 0, 2, 9, 9}, 6, 0, false},
    {FAKE_HANDSHAKE, {TICKET, 0, 0, 0, TICKET, 0, 0, 1, 9}, 9, 0, false},
    {FAKE_HANDSHAKE, {TICKET, 0, 0, 1, 9, KEY_UPDATE, 0, 0, 1, 0}, 10, -EKEYEXPIRED, false},
    {FAKE_HANDSHAKE, {KEY_UPDATE, 0, 0, 1, 1}, 5, -EKEYEXPIRED, false},
    {FAKE_HANDSHAKE, {HELLO_REQUEST, 0, 0, 0}, 4, -EPROTO, false},
    {FAKE_HANDSHAKE, {CLIENT_HELLO, 0, 0, 99}, 4, -EPROTO, false},
    {20, {1}, 1, -EPROTO, false}, /* change_cipher_spec */
    {24, {1}, 1, -EPROTO, false}, /* heartbeat */
};

LOOP_TEST(a_record_means_what_tls_says, COUNT(rows))
{
	const struct row *row = &rows[_i];
	struct tls_records records = {0};

	ck_assert_int_eq(tls_take(&records, row->type, row->bytes, row->length), row->status);
	ck_assert_int_eq(records.ended, row->ended);
	ck_assert_int_eq(records.error, row->status);
}

LOOP_TEST(a_record_that_comes_byte_by_byte_means_the_same, COUNT(rows))
{
	const struct row *row = &rows[_i];
	struct tls_records records = {0};
	int status = 0;

	for (size_t i = 0; i < row->length && status == 0; i++)
		status = tls_take(&records, row->type, row->bytes + i, 1);
	ck_assert_int_eq(status, row->status);
	ck_assert_int_eq(records.ended, row->ended);
}

TEST(a_message_may_be_spread_over_records_with_an_alert_between)
{
	struct tls_records records = {0};
	const unsigned char first[] = {TICKET, 0}, warning[] = {1, 90}, second[] = {0, 3, 24, 24};
	const unsigned char third[] = {24, KEY_UPDATE, 0, 0, 1};

	ck_assert_int_eq(tls_take(&records, FAKE_HANDSHAKE, first, sizeof(first)), 0);
	ck_assert_int_eq(tls_take(&records, FAKE_ALERT, warning, sizeof(warning)), 0);
	ck_assert_int_eq(tls_take(&records, FAKE_HANDSHAKE, second, sizeof(second)), 0);
	ck_assert_int_eq(tls_take(&records, FAKE_HANDSHAKE, third, sizeof(third)), -EKEYEXPIRED);
	ck_assert_uint_eq(records.ignored, 3);
}

TEST(an_error_stays_and_an_end_too)
{
	struct tls_records failed = {0}, ended = {0};
	const unsigned char fatal[] = {2, 20}, warning[] = {1, 90}, end[] = {1, 0};

	ck_assert_int_eq(tls_take(&failed, FAKE_ALERT, fatal, sizeof(fatal)), -ECONNABORTED);
	ck_assert_int_eq(tls_take(&failed, FAKE_ALERT, warning, sizeof(warning)), -ECONNABORTED);
	ck_assert_int_eq(tls_end(&failed), -ECONNABORTED);
	ck_assert_int_eq(tls_take(&ended, FAKE_ALERT, end, sizeof(end)), 0);
	ck_assert_int_eq(tls_take(&ended, FAKE_ALERT, fatal, sizeof(fatal)), 0);
	ck_assert_int_eq(tls_end(&ended), 0);
}

TEST(an_end_without_close_notify_is_an_error_unless_it_is_accepted)
{
	struct tls_records records = {0};

	ck_assert_int_eq(tls_end(&records), -EPROTO);
	records.truncation_is_end = true;
	ck_assert_int_eq(tls_end(&records), 0);
}

TEST(an_empty_record_of_tls_itself_is_none)
{
	struct tls_records records = {0};

	ck_assert_int_eq(tls_take(&records, FAKE_HANDSHAKE, NULL, 0), -EPROTO);
}

/* ---- a socket ---- */

static int ends[2];

static void open_pair(void)
{
	fake_tls_clear();
	make_pair(PAIR_TCP, ends);
}

static void close_pair(void)
{
	close(ends[0]);
	if (ends[1] >= 0)
		close(ends[1]);
	fake_tls_clear();
}

TEST_CASE("socket", open_pair, close_pair);

TEST(keys_for_both_directions_are_tls)
{
	struct tls_keys keys;

	fake_tls_set(ends[0], FAKE_KEYS, FAKE_KEYS);
	ck_assert_int_eq(tls_examine(ends[0], &keys), 1);
	ck_assert_uint_eq(keys.version, 0x0304);
	ck_assert_uint_eq(keys.cipher, 51);
}

TEST(keys_for_one_direction_are_refused)
{
	struct tls_keys keys;

	fake_tls_set(ends[0], FAKE_KEYS, FAKE_WITHOUT_KEYS);
	ck_assert_int_eq(tls_examine(ends[0], &keys), -EPROTOTYPE);
	fake_tls_set(ends[0], FAKE_WITHOUT_KEYS, FAKE_KEYS);
	ck_assert_int_eq(tls_examine(ends[0], &keys), -EPROTOTYPE);
}

TEST(no_keys_are_no_tls_and_a_plain_socket_is_asked_once)
{
	struct tls_keys keys;

	ck_assert_int_eq(tls_examine(ends[0], &keys), 0);
	ck_assert_uint_eq(fake_tls_questions(), 1);
	ck_assert_uint_eq(keys.version, 0);
	fake_tls_set(ends[0], FAKE_WITHOUT_KEYS, FAKE_WITHOUT_KEYS);
	ck_assert_int_eq(tls_examine(ends[0], &keys), 0);
	ck_assert_uint_eq(keys.version, 0);
}

static ssize_t receive(struct tls_records *records, char *bytes, size_t first, size_t second)
{
	struct iovec vectors[] = {{bytes, first}, {bytes + first, second}};

	return tls_receive(ends[0], vectors, 2, records);
}

TEST(data_comes_without_what_is_between)
{
	static const unsigned char ticket[] = {TICKET, 0, 0, 3, 1, 2, 3};
	struct tls_records records = {0};
	char bytes[16];

	fake_tls_set(ends[0], FAKE_KEYS, FAKE_KEYS);
	ck_assert_int_eq(receive(&records, bytes, 1, 15), -EAGAIN);
	fake_tls_put(ends[1], FAKE_DATA, "abc", 3);
	fake_tls_put(ends[1], FAKE_HANDSHAKE, ticket, sizeof(ticket));
	fake_tls_put(ends[1], FAKE_DATA, "", 0);
	fake_tls_put(ends[1], FAKE_DATA, "de", 2);
	fake_tls_put(ends[1], FAKE_DATA, "f", 1);
	fake_tls_put_close_notify(ends[1]);
	fake_tls_put(ends[1], FAKE_DATA, "late", 4);
	ck_assert_int_eq(receive(&records, bytes, 1, 15), 3);
	ck_assert_mem_eq(bytes, "abc", 3);
	ck_assert_int_eq(receive(&records, bytes, 1, 1), 2);
	ck_assert_mem_eq(bytes, "de", 2);
	ck_assert_int_eq(receive(&records, bytes, 1, 15), 1);
	ck_assert_int_eq(receive(&records, bytes, 1, 15), 0);
	ck_assert_int_eq(receive(&records, bytes, 1, 15), 0);
}

TEST(a_flood_of_records_leaves_other_connections_their_turn)
{
	enum { FLOOD = 1000 };
	struct tls_records records = {0};
	char bytes[4];
	unsigned int reads = 0;
	ssize_t length;

	fake_tls_set(ends[0], FAKE_KEYS, FAKE_KEYS);
	for (unsigned int i = 0; i < FLOOD; i++)
		fake_tls_put_alert(ends[1], 1, 90);
	fake_tls_put(ends[1], FAKE_DATA, "x", 1);
	do {
		length = receive(&records, bytes, 2, 2);
		reads++;
	} while (length == -EAGAIN && reads < FLOOD);
	ck_assert_int_eq(length, 1);
	ck_assert_uint_gt(reads, 1);
	ck_assert_uint_eq(records.ignored, FLOOD);
}

TEST(a_look_takes_what_is_no_data_and_nothing_else)
{
	struct tls_records records = {0};
	char bytes[4];

	fake_tls_set(ends[0], FAKE_KEYS, FAKE_KEYS);
	ck_assert(!tls_has_data(ends[0], &records));
	fake_tls_put_alert(ends[1], 1, 90);
	fake_tls_put(ends[1], FAKE_DATA, "xy", 2);
	ck_assert(tls_has_data(ends[0], &records));
	ck_assert_uint_eq(records.ignored, 1);
	ck_assert_int_eq(receive(&records, bytes, 1, 3), 2);
	fake_tls_put_close_notify(ends[1]);
	ck_assert(!tls_has_data(ends[0], &records));
	ck_assert(records.ended);
}

TEST(close_notify_waits_for_room)
{
	static char bytes[1 << 16];
	struct fake_tls *fake = fake_tls_set(ends[0], FAKE_KEYS, FAKE_KEYS);
	ssize_t length;

	while (write(ends[0], bytes, sizeof(bytes)) > 0)
		continue;
	ck_assert_int_eq(tls_send_close_notify(ends[0]), -EAGAIN);
	ck_assert_int_eq(tls_push(ends[0]), -EAGAIN);
	ck_assert_uint_eq(fake->close_notifies, 0);
	do {
		length = read(ends[1], bytes, sizeof(bytes));
	} while (length > 0 || tls_send_close_notify(ends[0]) == -EAGAIN);
	ck_assert_uint_eq(fake->close_notifies, 1);
	ck_assert_int_eq(tls_push(ends[0]), 0);
	ck_assert_uint_eq(fake->pushes, 1);
}
