/* A client's address on the wire: if the bytes can be parsed, the parsed address is written as the
 * same bytes. */

#include "fuzz.h"

#include <errno.h>
#include <string.h>

#include "programs/shared/client_address.h"

enum { SAID_PROXIED = 1, AT_FLAGS = 5 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	unsigned char again[CLIENT_ADDRESS_MAX];
	struct client_address address, second;
	static const struct client_address untouched;
	char text[FERRY_ADDRESS_TEXT_SIZE];

	memset(&address, 0, sizeof(address));
	int status = client_address_get(&address, data, size);
	FUZZ_CHECK(status == 0 || status == -EPROTO || status == -EPROTONOSUPPORT);
	if (status < 0) {
		FUZZ_CHECK(address.client.length == untouched.client.length &&
		           address.server.length == untouched.server.length);
		return 0;
	}
	FUZZ_CHECK(size <= sizeof(again) && client_address_put(&address, again) == size);
	FUZZ_CHECK(memcmp(again, data, size) == 0);
	FUZZ_CHECK(address.proxied == ((data[AT_FLAGS] & SAID_PROXIED) != 0));
	FUZZ_CHECK(client_address_get(&second, again, size) == 0);
	FUZZ_CHECK(ferry_address_equal(&address.client, &second.client));
	FUZZ_CHECK(ferry_address_equal(&address.server, &second.server));
	ferry_address_format(&address.client, text, sizeof(text));
	ferry_address_format_host(&address.server, text, sizeof(text));
	return 0;
}
