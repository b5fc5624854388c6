#ifndef FERRY_TESTS_TLS_HELLOS_H
#define FERRY_TESTS_TLS_HELLOS_H

/* ClientHellos as bytes: those that clients have sent, and those that a test builds of parts. */

#include <stdint.h>
#include <string.h>

/* OpenSSL 3.0: s_client -servername Files.Example.ORG -alpn h2,http/1.1 */
#define OPENSSL_1_3                                                                                \
	"16030101500100014c0303aab8e2b7dd02be996dc6b289c5e0db17420d205b2b131c174953e64b56128096204ec3" \
	"44a6dfd6e197d36e19e9cb9e3f663a8fad6f8b02184f9547f41a1213e0c3003e130213031301c02cc030009fcca9" \
	"cca8ccaac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c003d003c0035002f" \
	"00ff010000c500000016001400001146696c65732e4578616d706c652e4f5247000b000403000102000a00160014" \
	"001d0017001e0019001801000101010201030104002300000010000e000c02683208687474702f312e3100160000" \
	"00170000000d002a0028040305030603080708080809080a080b0804080508060401050106010303010303020402" \
	"05020602002b0009080304030303020301002d00020101003300260024001d00200de152ebf2d58eacfa17f61101" \
	"9cc917ef7c825fc8080d408bdcaa7c83d79140"

/* The same without a server name, and with TLS 1.2 alone. */
#define OPENSSL_1_2                                                                                \
	"16030100b7010000b30303e7d8a38d54e441dc12c01f08dc29b468bf87d5ec500b5379abb9075e7830652c000038" \
	"c02cc030009fcca9cca8ccaac02bc02f009ec024c028006bc023c0270067c00ac0140039c009c0130033009d009c" \
	"003d003c0035002f00ff01000052000b000403000102000a000c000a001d0017001e001900180023000000160000" \
	"00170000000d002a0028040305030603080708080809080a080b0804080508060401050106010303010303020402" \
	"05020602"

enum { HELLO_ROOM = 4096, RECORD_HEADER_BYTES = 5, RANDOM_BYTES = 32, EXTENSIONS_AT = 50 };

/* A ClientHello in one record. */
struct hello {
	unsigned char bytes[HELLO_ROOM];
	size_t length;
};

static inline void put(struct hello *hello, const void *bytes, size_t length)
{
	memcpy(hello->bytes + hello->length, bytes, length);
	hello->length += length;
}

static inline void put_length(unsigned char *at, size_t length)
{
	at[0] = (unsigned char)(length >> 8);
	at[1] = (unsigned char)length;
}

/* Sets the lengths of the record, of the message, and of the extensions if there are any. */
static inline void set_lengths(struct hello *hello)
{
	size_t record = hello->length - RECORD_HEADER_BYTES;
	put_length(hello->bytes + 3, record);
	put_length(hello->bytes + 7, record - 4);
	if (hello->length > EXTENSIONS_AT)
		put_length(hello->bytes + EXTENSIONS_AT, hello->length - EXTENSIONS_AT - 2);
}

/* TLS 1.2, no session, one cipher, no compression, no extensions. */
static inline void make_hello(struct hello *hello)
{
	static const unsigned char zeros[RANDOM_BYTES];
	hello->length = 0;
	put(hello, "\x16\x03\x01\0\0\x01\0\0\0\x03\x03", 11);
	put(hello, zeros, RANDOM_BYTES);
	put(hello, "\0\0\x02\x13\x01\x01\0", 7);
	set_lengths(hello);
}

static inline void add_extension(struct hello *hello, unsigned int type, const void *bytes,
                                 size_t length)
{
	unsigned char header[4];
	if (hello->length == EXTENSIONS_AT)
		hello->length += 2;
	put_length(header, type);
	put_length(header + 2, length);
	put(hello, header, sizeof(header));
	put(hello, bytes, length);
	set_lengths(hello);
}

/* A server_name with one name. */
static inline void add_server_name(struct hello *hello, const void *name, size_t length)
{
	unsigned char extension[HELLO_ROOM / 2] = {0};
	put_length(extension, length + 3);
	put_length(extension + 3, length);
	memcpy(extension + 5, name, length);
	add_extension(hello, 0, extension, length + 5);
}

#endif
