/* The TLVs of a header: found one by one and by type, in each other, and added. */

#include <errno.h>
#include <string.h>

#include <event2/buffer.h>

#include "ferry/proxy_protocol.h"

#include "samples.h"
#include "test.h"

static struct ferry_proxy_protocol *header;
static struct ferry_proxy_protocol_tlv tlv;

static void set_up(void)
{
	ck_assert_int_eq(ferry_proxy_protocol_new(&header), 0);
}

static void tear_down(void)
{
	ferry_proxy_protocol_free(header);
}

static void check_tlv(unsigned int type, const char *value)
{
	ck_assert_uint_eq(tlv.type, type);
	ck_assert_uint_eq(tlv.length, strlen(value));
	if (tlv.length > 0)
		ck_assert_mem_eq(tlv.value, value, tlv.length);
}

TEST_CASE("TLVs", set_up, tear_down);

TEST(tlvs_come_in_their_order)
{
	static const char tlvs[] = TLVS;
	size_t position = 0, length = sizeof(tlvs) - 1;
	ck_assert_int_eq(ferry_proxy_protocol_tlv_next(&tlv, tlvs, length, &position), 0);
	check_tlv(FERRY_PROXY_PROTOCOL_TLV_AUTHORITY, "a.bc");
	ck_assert_int_eq(ferry_proxy_protocol_tlv_next(&tlv, tlvs, length, &position), 0);
	check_tlv(0xe0, "z");
	ck_assert_int_eq(ferry_proxy_protocol_tlv_next(&tlv, tlvs, length, &position), 0);
	check_tlv(FERRY_PROXY_PROTOCOL_TLV_NOOP, "");
	ck_assert_uint_eq(position, length);
	ck_assert_int_eq(ferry_proxy_protocol_tlv_next(&tlv, tlvs, length, &position), -ENOENT);
	check_tlv(FERRY_PROXY_PROTOCOL_TLV_NOOP, ""); /* unchanged */
}

TEST(a_tlv_that_is_cut_is_refused)
{
	static const char tlvs[] = "\x02\x00\x02xy";
	for (size_t length = 1; length < 5; length++) {
		size_t position = 0;
		ck_assert_int_eq(ferry_proxy_protocol_tlv_next(&tlv, tlvs, length, &position), -EPROTO);
		ck_assert_uint_eq(position, 0);
	}
	size_t position = 100; /* behind the end */
	ck_assert_int_eq(ferry_proxy_protocol_tlv_next(&tlv, tlvs, 5, &position), -ENOENT);
}

TEST(a_tlv_is_found_by_its_type)
{
	ck_assert_int_eq(ferry_proxy_protocol_find_tlv(&tlv, header, 0xe0), -ENOENT);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 0xe0, "one", 3), 0);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 0xff, NULL, 0), 0);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 0xe0, "two", 3), 0);
	ck_assert_int_eq(ferry_proxy_protocol_find_tlv(&tlv, header, 0xe0), 0);
	check_tlv(0xe0, "one");
	ck_assert_int_eq(ferry_proxy_protocol_find_tlv(&tlv, header, 0xff), 0);
	check_tlv(0xff, "");
	/* The value may be in the header itself. */
	ck_assert_int_eq(ferry_proxy_protocol_find_tlv(&tlv, header, 0xe0), 0);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 0xe1, tlv.value, tlv.length), 0);
	ck_assert_int_eq(ferry_proxy_protocol_find_tlv(&tlv, header, 0xe1), 0);
	check_tlv(0xe1, "one");
}

TEST(the_clients_tls_is_taken_apart)
{
	struct ferry_proxy_protocol_ssl ssl;
	size_t position = 0;
	static const char value[] = "\x05\x01\x02\x03\x04\x21\x00\x07TLSv1.3\x22\x00\x01n";
	ck_assert_int_eq(ferry_proxy_protocol_get_ssl(&ssl, header), -ENOENT);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, FERRY_PROXY_PROTOCOL_TLV_SSL, value,
	                                              sizeof(value) - 1),
	                 0);
	ck_assert_int_eq(ferry_proxy_protocol_get_ssl(&ssl, header), 0);
	ck_assert_uint_eq(ssl.client,
	                  FERRY_PROXY_PROTOCOL_CLIENT_SSL | FERRY_PROXY_PROTOCOL_CLIENT_CERT_SESS);
	ck_assert_uint_eq(ssl.verify, 0x01020304);
	ck_assert_int_eq(ferry_proxy_protocol_tlv_next(&tlv, ssl.tlvs, ssl.tlvs_length, &position), 0);
	check_tlv(FERRY_PROXY_PROTOCOL_TLV_SSL_VERSION, "TLSv1.3");
	ck_assert_int_eq(ferry_proxy_protocol_tlv_next(&tlv, ssl.tlvs, ssl.tlvs_length, &position), 0);
	check_tlv(FERRY_PROXY_PROTOCOL_TLV_SSL_CN, "n");
	ck_assert_int_eq(ferry_proxy_protocol_tlv_next(&tlv, ssl.tlvs, ssl.tlvs_length, &position),
	                 -ENOENT);
}

TEST(a_tls_part_that_is_too_short_is_refused)
{
	struct ferry_proxy_protocol_ssl ssl;
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, FERRY_PROXY_PROTOCOL_TLV_SSL, "1234", 4),
	                 0);
	ck_assert_int_eq(ferry_proxy_protocol_get_ssl(&ssl, header), -EPROTO);
}

TEST(tlvs_have_a_longest_length)
{
	static const char value[65536];
	struct ferry_proxy_protocol_info info;
	/* 65535 less two paths of 108 bytes and a checksum of 7. */
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 0xe0, value, 65310), -EMSGSIZE);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 0xe0, value, SIZE_MAX), -EMSGSIZE);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 0xe0, value, 65309), 0);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 0xe0, value, 0), -EMSGSIZE);
	ck_assert_int_eq(ferry_proxy_protocol_get_info(header, &info), 0);
	ck_assert_uint_eq(info.tlvs_length, 65312);
}

TEST(arguments_are_checked)
{
	struct ferry_proxy_protocol_ssl ssl;
	size_t position = 0;
	ck_assert_int_eq(ferry_proxy_protocol_tlv_next(NULL, "", 0, &position), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_tlv_next(&tlv, NULL, 1, &position), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_tlv_next(&tlv, NULL, 0, &position), -ENOENT);
	ck_assert_int_eq(ferry_proxy_protocol_tlv_next(&tlv, "", 0, NULL), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_find_tlv(NULL, header, 1), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_find_tlv(&tlv, NULL, 1), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_get_ssl(NULL, header), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_get_ssl(&ssl, NULL), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(NULL, 1, "", 0), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 256, "", 0), -EINVAL);
	ck_assert_int_eq(ferry_proxy_protocol_add_tlv(header, 1, NULL, 1), -EINVAL);
	ck_assert_int_eq(
	    ferry_proxy_protocol_add_tlv(header, FERRY_PROXY_PROTOCOL_TLV_CRC32C, "1234", 4), -EINVAL);
}
