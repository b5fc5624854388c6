/* The reader of ClientHellos: it returns its result as soon as it is known, and not before. It consumes nothing, and the
 * bytes behind the ClientHello do not change the result. */

#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include <event2/buffer.h>

#include "ferry/client_hello.h"

/* 0 with the contents, or the error. */
static int parse(const uint8_t *bytes, size_t length, struct ferry_client_hello **hello,
                 struct ferry_client_hello_info *info)
{
	struct evbuffer *input = evbuffer_new();
	const char *error;

	*hello = NULL;
	FUZZ_CHECK(input != NULL && evbuffer_add(input, bytes, length) == 0);
	int status = ferry_client_hello_read(hello, input, 0, &error);
	FUZZ_CHECK(evbuffer_get_length(input) == length);
	evbuffer_free(input);
	FUZZ_CHECK((status == 0) == (*hello != NULL));
	FUZZ_CHECK((error == NULL) == (status == 0 || status == -EAGAIN));
	FUZZ_CHECK(status == 0 || status == -EAGAIN || status == -EPROTO ||
	           status == -EPROTONOSUPPORT || status == -EMSGSIZE);
	if (status == 0)
		FUZZ_CHECK(ferry_client_hello_get_info(*hello, info) == 0);
	return status;
}

static void check(const struct ferry_client_hello *hello,
                  const struct ferry_client_hello_info *info, size_t size)
{
	struct ferry_client_hello_protocol protocol;
	unsigned int count = 0;

	FUZZ_CHECK(info->length <= size && info->length <= FERRY_CLIENT_HELLO_LIMIT);
	FUZZ_CHECK(info->version == 0 || (info->version >= FERRY_CLIENT_HELLO_TLS_1_0 &&
	                                  info->version <= FERRY_CLIENT_HELLO_TLS_1_3));
	for (const char *letter = info->server_name; letter != NULL && *letter != '\0'; letter++)
		FUZZ_CHECK(*letter > ' ' && *letter <= '~' && !(*letter >= 'A' && *letter <= 'Z'));
	FUZZ_CHECK(info->server_name == NULL || info->server_name[0] != '\0');
	while (ferry_client_hello_get_protocol(&protocol, hello, count) == 0) {
		FUZZ_CHECK(protocol.length >= 1 && protocol.length <= 255);
		count++;
	}
	FUZZ_CHECK(count == info->protocols);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ferry_client_hello *hello, *part;
	struct ferry_client_hello_info info, of_part;

	int result = parse(data, size, &hello, &info);
	if (result == 0) {
		check(hello, &info, size);
		FUZZ_CHECK(parse(data, info.length, &part, &of_part) == 0);
		FUZZ_CHECK(of_part.length == info.length);
		ferry_client_hello_free(part);
		FUZZ_CHECK(parse(data, info.length - 1, &part, &of_part) == -EAGAIN);
	}
	ferry_client_hello_free(hello);
	/* For a part of the input, the reader returns the same result, or -EAGAIN. */
	size_t looked_at = size < FERRY_CLIENT_HELLO_LIMIT ? size : FERRY_CLIENT_HELLO_LIMIT;
	size_t step = 1 + looked_at / 64;
	for (size_t length = 0; length < looked_at; length += step) {
		int early = parse(data, length, &part, &of_part);
		FUZZ_CHECK(early == -EAGAIN || early == result);
		ferry_client_hello_free(part);
	}
	return 0;
}
