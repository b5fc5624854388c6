#ifndef FERRY_PROGRAMS_HTTP_HEAD_H
#define FERRY_PROGRAMS_HTTP_HEAD_H

/* The head of one HTTP/1.x request: request line and header fields, up to and with the empty line.
 *
 * The parser is given all of the bytes that have come so far, as often as more come, and looks at
 * each byte once. It refuses at the first byte that cannot belong to a valid head, so that what is
 * not HTTP at all is answered before its "end" comes.
 *
 * It is strict where leniency lets two programs disagree about where a request ends (RFC 9112,
 * RFC 9110): a line ends with CRLF and nothing else; one space between the parts of the request
 * line; no space before a colon; no folded lines; no control bytes; one Host; one Content-Length of
 * digits only; never Content-Length and Transfer-Encoding together. Empty lines before the request
 * line are skipped, as RFC 9112 section 2.2 asks.
 *
 *     struct http_head head;
 *     http_head_init(&head);
 *     for (;;) {
 *         int result = http_head_parse(&head, text, length);
 *         if (result == HTTP_HEAD_MORE) continue with more bytes behind the same ones;
 *         if (result < 0) answer with status -result, because of head.error;
 *         else the head is the first `result` bytes of text;
 *     }
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	HTTP_HEAD_MORE = 0,
	HTTP_HEAD_LIMIT = 8192, /* bytes of a head, its empty line included; beyond it is 431 */
	HTTP_HEAD_FIELDS = 100  /* header fields; beyond it is 431 */
};

/* A piece of the text, as offsets: the text may move when more bytes come. */
struct http_slice {
	uint16_t start;
	uint16_t length;
};

struct http_field {
	struct http_slice name;
	struct http_slice value; /* without the white space around it */
};

enum http_method {
	HTTP_GET,
	HTTP_HEAD,
	HTTP_KNOWN_METHOD,  /* of RFC 9110 or 5789, for 405 */
	HTTP_UNKNOWN_METHOD /* for 501 */
};

struct http_head {
	enum http_method method;
	unsigned int minor;          /* HTTP/1.minor */
	struct http_slice path;      /* still percent-encoded; empty or starting with a slash */
	struct http_slice query;     /* with its question mark, or empty */
	struct http_slice authority; /* of a target that names its host, and then before any Host field
	                                (RFC 9112 section 3.2.2); else empty */
	bool keep_alive;             /* what the client wishes */
	bool chunked;
	bool has_content_length;
	uint64_t content_length;

	struct http_field fields[HTTP_HEAD_FIELDS];
	unsigned int field_count;

	const char *error; /* static text, when the head was refused */

	/* The parser's own. */
	unsigned int state;
	size_t scanned;
	struct http_slice method_text;
	struct http_slice target;
	struct http_slice version;
	unsigned int major;
	bool has_host;
	bool wants_close;
	bool wants_keep_alive;
};

void http_head_init(struct http_head *head);

/* HTTP_HEAD_MORE, the head's length in bytes, or the negative of the status to refuse it with: 400,
 * 431, 501 or 505. After a refusal, and after a complete head, it says the same again. */
int http_head_parse(struct http_head *head, const char *text, size_t length);

/* Whether all of the head was there and in order. */
bool http_head_is_complete(const struct http_head *head);

/* The request line of a complete head, in the text: where it starts, and its length without CRLF. */
struct http_slice http_head_line(const struct http_head *head);

/* The field of this name (any case), or NULL. When there are several it is the first, and
 * `*repeated`, if wanted, tells so. */
const struct http_field *http_head_find(const struct http_head *head, const char *text,
                                        const char *name, bool *repeated);

/* Whether a request body follows the head. */
bool http_head_has_body(const struct http_head *head);

/* Whether `length` bytes are `word`, letters in any case. */
bool http_equal_ignoring_case(const char *text, size_t length, const char *word);

#endif
