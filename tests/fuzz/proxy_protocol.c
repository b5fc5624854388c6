/* The PROXY header's parser: it returns its result as soon as the header is complete, and not
 * before. The bytes behind the header do not change the result. */

#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "programs/ferry-proxy/proxy_protocol.h"

/* Of an exact heap copy. */
static int parse(const uint8_t *bytes, size_t length, struct proxy_protocol *header)
{
	uint8_t *copy = malloc(length > 0 ? length : 1);

	FUZZ_CHECK(copy != NULL);
	if (length > 0)
		memcpy(copy, bytes, length);
	memset(header, 0xa5, sizeof(*header));
	int result = proxy_protocol_parse(copy, length, header);
	free(copy);
	return result;
}

static void check_header(const struct proxy_protocol *header, int length)
{
	char text[SOCKET_ADDRESS_TEXT_SIZE];

	FUZZ_CHECK(header->version == 1 || header->version == 2);
	FUZZ_CHECK(length <= (header->version == 1 ? PROXY_PROTOCOL_V1_MAX : PROXY_PROTOCOL_V2_MAX));
	FUZZ_CHECK((header->kind == PROXY_PROTOCOL_PROXIED) == (header->source.length > 0));
	FUZZ_CHECK((header->kind == PROXY_PROTOCOL_PROXIED) == (header->destination.length > 0));
	FUZZ_CHECK(strlen(socket_address_format(&header->source, text, sizeof(text))) < sizeof(text));
	FUZZ_CHECK(strlen(socket_address_format(&header->destination, text, sizeof(text))) <
	           sizeof(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_protocol header, part;

	int result = parse(data, size, &header);
	FUZZ_CHECK(result == -EPROTO || (result >= 0 && (size_t)result <= size));
	FUZZ_CHECK(result != -EPROTO || header.error != NULL);
	if (result > 0)
		check_header(&header, result);
	if (result > 0)
		FUZZ_CHECK(parse(data, (size_t)result, &part) == result);
	/* For a part of the input, the parser returns the same result, or PROXY_PROTOCOL_MORE. */
	size_t looked_at = size < PROXY_PROTOCOL_MAX ? size : PROXY_PROTOCOL_MAX;
	size_t step = 1 + looked_at / 64;
	for (size_t length = 0; length < looked_at; length += step) {
		int early = parse(data, length, &part);
		FUZZ_CHECK(early == PROXY_PROTOCOL_MORE || early == result);
		FUZZ_CHECK(early <= 0 || (size_t)early <= length);
		FUZZ_CHECK(result <= 0 || early != PROXY_PROTOCOL_MORE || length < (size_t)result);
	}
	return 0;
}
