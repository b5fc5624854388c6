/* The reader of PROXY headers: it returns its result as soon as the header is complete, and not before. The bytes
 * behind the header do not change the result, and stay. What was read is written, and read again, with the same
 * contents. */

#include "fuzz.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/buffer.h>

#include "ferry/proxy_protocol.h"

enum { LIMIT = FERRY_PROXY_PROTOCOL_LIMIT };

/* The header, or NULL; the result is its length, or the error. */
static int parse(const uint8_t *bytes, size_t length, struct ferry_proxy_protocol **header)
{
	struct evbuffer *input = evbuffer_new();
	const char *error;

	*header = NULL;
	FUZZ_CHECK(input != NULL && evbuffer_add(input, bytes, length) == 0);
	int status = ferry_proxy_protocol_read(header, input, 0, &error);
	size_t left = evbuffer_get_length(input);
	FUZZ_CHECK((status == 0) == (*header != NULL));
	FUZZ_CHECK(status == 0 || left == length);
	FUZZ_CHECK((error != NULL) == (status == -EPROTO || status == -EMSGSIZE));
	FUZZ_CHECK(status == 0 || error != NULL || status == -EAGAIN);
	evbuffer_free(input);
	return status < 0 ? status : (int)(length - left);
}

static void check_tlvs(const struct ferry_proxy_protocol *header,
                       const struct ferry_proxy_protocol_info *info)
{
	struct ferry_proxy_protocol_tlv tlv, found;
	struct ferry_proxy_protocol_ssl ssl;
	size_t position = 0;

	while (ferry_proxy_protocol_tlv_next(&tlv, info->tlvs, info->tlvs_length, &position) == 0) {
		FUZZ_CHECK(tlv.type != FERRY_PROXY_PROTOCOL_TLV_CRC32C);
		FUZZ_CHECK(ferry_proxy_protocol_find_tlv(&found, header, tlv.type) == 0);
	}
	FUZZ_CHECK(position == info->tlvs_length);
	if (ferry_proxy_protocol_get_ssl(&ssl, header) < 0)
		return;
	position = 0;
	while (ferry_proxy_protocol_tlv_next(&tlv, ssl.tlvs, ssl.tlvs_length, &position) == 0)
		FUZZ_CHECK(position <= ssl.tlvs_length);
}

static void check_info(const struct ferry_proxy_protocol_info *info, int length)
{
	bool proxied = info->kind == FERRY_PROXY_PROTOCOL_PROXIED;

	FUZZ_CHECK(info->version == 1 || info->version == 2);
	FUZZ_CHECK(length <= (info->version == 1 ? FERRY_PROXY_PROTOCOL_V1_MAX : LIMIT));
	FUZZ_CHECK((info->source != NULL) == proxied && (info->destination != NULL) == proxied);
	FUZZ_CHECK((info->source_length > 0) == proxied && (info->destination_length > 0) == proxied);
	FUZZ_CHECK((info->socket_type != 0) == proxied);
	FUZZ_CHECK(!proxied || info->source->sa_family == info->destination->sa_family);
}

static bool same(const void *a, size_t a_length, const void *b, size_t b_length)
{
	return a_length == b_length && (a_length == 0 || memcmp(a, b, a_length) == 0);
}

/* Written in version 2, and read again. */
static void check_round(const struct ferry_proxy_protocol *header,
                        const struct ferry_proxy_protocol_info *info)
{
	struct ferry_proxy_protocol *copy;
	struct ferry_proxy_protocol_info again;
	struct evbuffer *buffer = evbuffer_new();

	FUZZ_CHECK(buffer != NULL && ferry_proxy_protocol_write(header, 2, buffer) == 0);
	FUZZ_CHECK(ferry_proxy_protocol_read(&copy, buffer, FERRY_PROXY_PROTOCOL_V2_MAX, NULL) == 0);
	FUZZ_CHECK(evbuffer_get_length(buffer) == 0);
	FUZZ_CHECK(ferry_proxy_protocol_get_info(copy, &again) == 0);
	FUZZ_CHECK(again.kind == info->kind && again.socket_type == info->socket_type);
	FUZZ_CHECK(same(again.source, again.source_length, info->source, info->source_length));
	FUZZ_CHECK(same(again.destination, again.destination_length, info->destination,
	                info->destination_length));
	FUZZ_CHECK(same(again.tlvs, again.tlvs_length, info->tlvs, info->tlvs_length));
	FUZZ_CHECK(again.has_checksum == info->has_checksum);
	ferry_proxy_protocol_free(copy);
	evbuffer_free(buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ferry_proxy_protocol *header, *part;
	struct ferry_proxy_protocol_info info;

	int result = parse(data, size, &header);
	if (header != NULL) {
		FUZZ_CHECK(ferry_proxy_protocol_get_info(header, &info) == 0);
		check_info(&info, result);
		check_tlvs(header, &info);
		check_round(header, &info);
		ferry_proxy_protocol_free(header);
		FUZZ_CHECK(parse(data, (size_t)result, &part) == result);
		ferry_proxy_protocol_free(part);
	}
	/* For a part of the input, the reader returns the same result, or -EAGAIN. */
	size_t looked_at = size < LIMIT ? size : LIMIT;
	size_t step = 1 + looked_at / 64;
	for (size_t length = 0; length < looked_at; length += step) {
		int early = parse(data, length, &part);
		FUZZ_CHECK(early == -EAGAIN || early == result);
		FUZZ_CHECK(early <= 0 || (size_t)early <= length);
		FUZZ_CHECK(result <= 0 || early != -EAGAIN || length < (size_t)result);
		ferry_proxy_protocol_free(part);
	}
	return 0;
}
