/* Reading a ClientHello (RFC 8446 4.1.2, RFC 5246 7.4.1.2) without consuming it. Each call starts at the first byte:
 * until all has come, it looks at the headers of the records alone, and there are few of them. */

#include "ferry/client_hello.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>

enum {
	RECORD_HEADER = 5,
	RECORD_HANDSHAKE = 22,
	RECORD_MAX = 16384, /* bytes behind the header */
	MESSAGE_HEADER = 4,
	MESSAGE_CLIENT_HELLO = 1,
	RANDOM = 32,
	SESSION_ID_MAX = 32
};

enum {
	EXTENSION_SERVER_NAME = 0,
	EXTENSION_ALPN = 16,
	EXTENSION_SUPPORTED_VERSIONS = 43,
	EXTENSION_ECH = 0xfe0d,
	NAME_TYPE_HOST = 0
};

struct ferry_client_hello {
	unsigned int version;
	unsigned int protocols;
	bool has_ech;
	bool has_server_name;
	size_t length;
	const unsigned char
	    *alpn; /* in `message`: names with a byte of length before each; NULL: none */
	size_t alpn_length;
	char server_name[FERRY_CLIENT_HELLO_SERVER_NAME_MAX + 1];
	unsigned char message[]; /* without the headers of the records */
};

struct reading {
	struct evbuffer *input;
	size_t limit;
	const char *error;
	size_t length;  /* with the headers of the records, once the last record is known */
	size_t message; /* bytes of the message with its header, once they are known; 0 before */
	unsigned char message_header[MESSAGE_HEADER];
};

static int refuse(struct reading *reading, int status, const char *error)
{
	reading->error = error;
	return status;
}

static int malformed(struct reading *reading, const char *error)
{
	return refuse(reading, -EPROTO, error);
}

/* ---- records ---- */

/* Copies `size` bytes from the offset `at`, or as many as there are. Returns their number. */
static size_t copy_from(struct evbuffer *input, size_t at, void *out, size_t size)
{
	struct evbuffer_ptr position;
	if (at >= evbuffer_get_length(input) ||
	    evbuffer_ptr_set(input, &position, at, EVBUFFER_PTR_SET) < 0)
		return 0;
	ev_ssize_t copied = evbuffer_copyout_from(input, &position, out, size);
	return copied > 0 ? (size_t)copied : 0;
}

/* Looks at the header of a record, of which `count` bytes have come. */
static int check_record(struct reading *reading, const unsigned char *header, size_t count,
                        bool is_first)
{
	if (count > 0 && header[0] != RECORD_HANDSHAKE)
		return is_first ? refuse(reading, -EPROTONOSUPPORT, "no TLS")
		                : malformed(reading, "another record within the ClientHello");
	if (count > 1 && header[1] != 3)
		return is_first ? refuse(reading, -EPROTONOSUPPORT, "no TLS")
		                : malformed(reading, "a record of an unknown version");
	if (count < RECORD_HEADER)
		return -EAGAIN;
	size_t length = (size_t)header[3] << 8 | header[4];
	if (length == 0 || length > RECORD_MAX)
		return malformed(reading, "a record that is empty or too long");
	return 0;
}

/* Looks at the header of the message, of which `count` bytes have come. */
static int check_message(struct reading *reading, size_t count)
{
	const unsigned char *header = reading->message_header;
	if (count > 0 && header[0] != MESSAGE_CLIENT_HELLO)
		return malformed(reading, "the first message is no ClientHello");
	if (count < MESSAGE_HEADER)
		return 0;
	reading->message =
	    MESSAGE_HEADER + ((size_t)header[1] << 16 | (size_t)header[2] << 8 | header[3]);
	if (reading->message > reading->limit)
		return refuse(reading, -EMSGSIZE, "the ClientHello is longer than the limit");
	return 0;
}

/* Finds the end of the last record, and checks that all has come. */
static int find_end(struct reading *reading)
{
	unsigned char header[RECORD_HEADER];
	size_t at = 0, before = 0; /* bytes of the message in the records before */
	for (unsigned int records = 0; records < FERRY_CLIENT_HELLO_RECORDS_MAX; records++) {
		size_t count = copy_from(reading->input, at, header, sizeof(header));
		int status = check_record(reading, header, count, records == 0);
		if (status < 0)
			return status;
		size_t length = (size_t)header[3] << 8 | header[4];
		at += RECORD_HEADER;
		if (at + length > reading->limit)
			return refuse(reading, -EMSGSIZE, "the ClientHello is longer than the limit");
		if (before < MESSAGE_HEADER) {
			size_t room = MESSAGE_HEADER - before;
			status = check_message(reading, before + copy_from(reading->input, at,
			                                                   reading->message_header + before,
			                                                   length < room ? length : room));
		}
		at += length;
		before += length;
		if (status < 0)
			return status;
		if (reading->message > 0 && before > reading->message)
			return malformed(reading, "something follows the ClientHello in its record");
		reading->length = at;
		if (reading->message > 0 && before == reading->message)
			return evbuffer_get_length(reading->input) < at ? -EAGAIN : 0;
		if (evbuffer_get_length(reading->input) < at)
			return -EAGAIN;
	}
	return malformed(reading, "the ClientHello is spread over too many records");
}

static void copy_message(const struct reading *reading, unsigned char *out)
{
	unsigned char header[RECORD_HEADER] = {0};
	for (size_t at = 0; at < reading->length;) {
		copy_from(reading->input, at, header, sizeof(header));
		size_t length = (size_t)header[3] << 8 | header[4];
		copy_from(reading->input, at + RECORD_HEADER, out, length);
		out += length;
		at += RECORD_HEADER + length;
	}
}

/* ---- the message ---- */

/* Bytes that have not been read yet. */
struct span {
	const unsigned char *next;
	size_t left;
};

static bool take_number(struct span *span, size_t bytes, size_t *out)
{
	if (span->left < bytes)
		return false;
	*out = 0;
	for (size_t i = 0; i < bytes; i++)
		*out = *out << 8 | span->next[i];
	span->next += bytes;
	span->left -= bytes;
	return true;
}

static bool take_bytes(struct span *span, size_t length, struct span *out)
{
	if (span->left < length)
		return false;
	*out = (struct span){span->next, length};
	span->next += length;
	span->left -= length;
	return true;
}

/* Takes a vector, whose length stands before it in so many bytes. */
static bool take_vector(struct span *span, size_t length_bytes, struct span *out)
{
	size_t length;
	return take_number(span, length_bytes, &length) && take_bytes(span, length, out);
}

/* RFC 8701: 0x0a0a, 0x1a1a, up to 0xfafa. */
static bool is_grease(const unsigned char *bytes)
{
	return bytes[0] == bytes[1] && (bytes[0] & 0xf) == 0xa;
}

static void offer_version(struct ferry_client_hello *hello, size_t version)
{
	if (version >= FERRY_CLIENT_HELLO_TLS_1_0 && version <= FERRY_CLIENT_HELLO_TLS_1_3 &&
	    version > hello->version)
		hello->version = (unsigned int)version;
}

/* One name: clients send no more, and servers refuse more. */
static const char *read_server_name(struct ferry_client_hello *hello, struct span extension)
{
	struct span list, name;
	size_t type;
	if (!take_vector(&extension, 2, &list) || extension.left > 0 || !take_number(&list, 1, &type) ||
	    type != NAME_TYPE_HOST || !take_vector(&list, 2, &name) || list.left > 0)
		return "a malformed list of server names";
	if (name.left == 0 || name.left > FERRY_CLIENT_HELLO_SERVER_NAME_MAX)
		return "a server name that is empty or too long";
	for (size_t i = 0; i < name.left; i++) {
		unsigned char letter = name.next[i];
		if (letter <= ' ' || letter > '~')
			return "a server name with other characters than visible ASCII";
		hello->server_name[i] =
		    (char)(letter >= 'A' && letter <= 'Z' ? letter - 'A' + 'a' : letter);
	}
	hello->server_name[name.left] = '\0';
	hello->has_server_name = true;
	return NULL;
}

/* The next protocol that is not reserved. */
static bool take_protocol(struct span *list, struct span *out)
{
	while (take_vector(list, 1, out))
		if (out->left != 2 || !is_grease(out->next))
			return true;
	return false;
}

static const char *read_alpn(struct ferry_client_hello *hello, struct span extension)
{
	struct span list, name;
	if (!take_vector(&extension, 2, &list) || extension.left > 0 || list.left == 0)
		return "a malformed list of protocols";
	hello->alpn = list.next;
	hello->alpn_length = list.left;
	for (struct span rest = list; rest.left > 0;)
		if (!take_vector(&rest, 1, &name) || name.left == 0)
			return "a malformed list of protocols";
	while (take_protocol(&list, &name))
		hello->protocols++;
	return NULL;
}

static const char *read_versions(struct ferry_client_hello *hello, struct span extension)
{
	struct span list;
	size_t version;
	if (!take_vector(&extension, 1, &list) || extension.left > 0 || list.left < 2 ||
	    list.left % 2 != 0)
		return "a malformed list of versions";
	/* The field before does not count then. */
	hello->version = 0;
	while (take_number(&list, 2, &version))
		offer_version(hello, version);
	return NULL;
}

static const struct {
	size_t type;
	const char *(*read)(struct ferry_client_hello *hello, struct span extension);
} extensions[] = {
    {EXTENSION_SERVER_NAME, read_server_name},
    {EXTENSION_ALPN, read_alpn},
    {EXTENSION_SUPPORTED_VERSIONS, read_versions},
};

enum { EXTENSIONS = sizeof(extensions) / sizeof(extensions[0]) };

static const char *read_extensions(struct ferry_client_hello *hello, struct span list)
{
	bool seen[EXTENSIONS] = {false};
	while (list.left > 0) {
		size_t type;
		struct span extension;
		if (!take_number(&list, 2, &type) || !take_vector(&list, 2, &extension))
			return "a malformed list of extensions";
		hello->has_ech = hello->has_ech || type == EXTENSION_ECH;
		for (size_t i = 0; i < EXTENSIONS; i++) {
			if (type != extensions[i].type)
				continue;
			if (seen[i])
				return "an extension that is repeated";
			seen[i] = true;
			const char *error = extensions[i].read(hello, extension);
			if (error != NULL)
				return error;
		}
	}
	return NULL;
}

/* Returns an error's text, or NULL. */
static const char *read_message(struct ferry_client_hello *hello, struct span body)
{
	struct span random, session, ciphers, compressions, list;
	size_t version;
	if (!take_number(&body, 2, &version) || !take_bytes(&body, RANDOM, &random) ||
	    !take_vector(&body, 1, &session) || session.left > SESSION_ID_MAX ||
	    !take_vector(&body, 2, &ciphers) || ciphers.left < 2 || ciphers.left % 2 != 0 ||
	    !take_vector(&body, 1, &compressions) || compressions.left == 0)
		return "a malformed ClientHello";
	/* A client that speaks a later version than this field can say has an extension for it. */
	offer_version(hello,
	              version < FERRY_CLIENT_HELLO_TLS_1_2 ? version : FERRY_CLIENT_HELLO_TLS_1_2);
	if (body.left == 0) /* clients before TLS 1.2 may have no extensions */
		return NULL;
	if (!take_vector(&body, 2, &list) || body.left > 0)
		return "a malformed list of extensions";
	return read_extensions(hello, list);
}

static int read_hello(struct ferry_client_hello **out, struct reading *reading)
{
	int status = find_end(reading);
	if (status < 0)
		return status;
	struct ferry_client_hello *hello = malloc(sizeof(*hello) + reading->message);
	if (hello == NULL)
		return -ENOMEM;
	memset(hello, 0, sizeof(*hello));
	hello->length = reading->length;
	copy_message(reading, hello->message);
	const char *error = read_message(
	    hello, (struct span){hello->message + MESSAGE_HEADER, reading->message - MESSAGE_HEADER});
	if (error != NULL) {
		free(hello);
		return malformed(reading, error);
	}
	*out = hello;
	return 0;
}

int ferry_client_hello_read(struct ferry_client_hello **out, struct evbuffer *input, size_t limit,
                            const char **error)
{
	unsigned char first;
	struct reading reading = {.input = input,
	                          .limit = limit > 0 ? limit : FERRY_CLIENT_HELLO_LIMIT};
	if (error != NULL)
		*error = NULL;
	if (out == NULL || input == NULL || evbuffer_copyout(input, &first, 1) < 0)
		return -EINVAL;
	int status = read_hello(out, &reading);
	if (error != NULL)
		*error = reading.error;
	return status;
}

void ferry_client_hello_free(struct ferry_client_hello *hello)
{
	free(hello);
}

int ferry_client_hello_get_info(const struct ferry_client_hello *hello,
                                struct ferry_client_hello_info *info)
{
	if (hello == NULL || info == NULL)
		return -EINVAL;
	*info = (struct ferry_client_hello_info){
	    .server_name = hello->has_server_name ? hello->server_name : NULL,
	    .version = hello->version,
	    .protocols = hello->protocols,
	    .has_ech = hello->has_ech,
	    .length = hello->length,
	};
	return 0;
}

int ferry_client_hello_get_protocol(struct ferry_client_hello_protocol *out,
                                    const struct ferry_client_hello *hello, unsigned int index)
{
	struct span name = {NULL, 0};
	if (out == NULL || hello == NULL)
		return -EINVAL;
	if (index >= hello->protocols)
		return -ENOENT;
	struct span list = {hello->alpn, hello->alpn_length};
	for (unsigned int i = 0; i <= index; i++)
		take_protocol(&list, &name);
	*out = (struct ferry_client_hello_protocol){.name = name.next, .length = name.left};
	return 0;
}

bool ferry_client_hello_offers(const struct ferry_client_hello *hello, const char *protocol)
{
	struct span name;
	if (hello == NULL || protocol == NULL)
		return false;
	size_t length = strlen(protocol);
	struct span list = {hello->alpn, hello->alpn_length};
	while (take_protocol(&list, &name))
		if (name.left == length && memcmp(name.next, protocol, length) == 0)
			return true;
	return false;
}
