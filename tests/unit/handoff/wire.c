/* White-box: each payload, byte by byte, as docs/handoff.md has it. Each byte is written: a payload lies on the stack of
 * its sender, and what was there before is not for the peer. */

#include "handoff/wire.h"

#include <string.h>

#include "test.h"

enum { ROOM = 64, BEFORE = 0xa5 };

static unsigned char payload[ROOM];

static void begin(void)
{
	memset(payload, BEFORE, sizeof(payload));
}

/* Nothing behind it is written. */
static void expect_payload(const unsigned char *expected, size_t length)
{
	ck_assert_mem_eq(payload, expected, length);
	for (size_t i = length; i < sizeof(payload); i++)
		ck_assert_uint_eq(payload[i], BEFORE);
}

TEST(a_hello)
{
	static const unsigned char expected[HANDOFF_WIRE_HELLO_SIZE] = {
	    0x02, 0x01, 0x04, 0x03,                         /* versions */
	    0x08, 0x07, 0x06, 0x05,                         /* credits */
	    0x10, 0x0f, 0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, /* epoch */
	};

	begin();
	handoff_wire_hello_put(payload, &(struct handoff_wire_hello){.version_min = 0x0102,
	                                                             .version_max = 0x0304,
	                                                             .credits = 0x05060708,
	                                                             .epoch = 0x090a0b0c0d0e0f10});
	expect_payload(expected, sizeof(expected));
}

/* _i: whether it is a stream of IPv4 or IPv6 */
LOOP_TEST(a_handoff, 2)
{
	unsigned char expected[HANDOFF_WIRE_HANDOFF_SIZE] = {
	    0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* id */
	    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, /* epoch */
	    0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21, /* cookie */
	    0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, /* device */
	    0x41, 0x42, 0x44, 0x43,                         /* kind, attempt, length of the name */
	    0x48, 0x47, 0x46, 0x45, 0x4c, 0x4b, 0x4a, 0x49, /* of the blob, of the bytes */
	};

	expected[44] = (unsigned char)_i; /* flags */
	begin();
	handoff_wire_handoff_put(
	    payload,
	    &(struct handoff_wire_handoff){
	        .id = 0x0102030405060708,
	        .epoch = 0x1112131415161718,
	        .identity = {.kind = 0x41, .cookie = 0x2122232425262728, .device = 0x3132333435363738},
	        .inet_stream = _i == 1,
	        .attempt = 0x42,
	        .name_length = 0x4344,
	        .blob_length = 0x45464748,
	        .bytes_length = 0x494a4b4c});
	expect_payload(expected, sizeof(expected));
}

TEST(an_answer)
{
	static const unsigned char expected[HANDOFF_WIRE_ANSWER_SIZE] = {
	    0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, /* id */
	    0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11, /* epoch */
	    0xfe, 0xff, 0xff, 0xff,                         /* reason */
	};

	begin();
	handoff_wire_answer_put(payload, &(struct handoff_wire_answer){.id = 0x0102030405060708,
	                                                               .epoch = 0x1112131415161718,
	                                                               .reason = -2});
	expect_payload(expected, sizeof(expected));
}

/* _i: credits, a recall */
LOOP_TEST(a_number, 2)
{
	static const unsigned char expected[HANDOFF_WIRE_CREDITS_SIZE] = {0x04, 0x03, 0x02, 0x01};

	begin();
	(_i == 0 ? handoff_wire_credits_put : handoff_wire_recall_put)(payload, 0x01020304);
	expect_payload(expected, sizeof(expected));
}
