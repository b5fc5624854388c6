#ifndef FERRY_PROGRAMS_HTTP_HEAD_H
#define FERRY_PROGRAMS_HTTP_HEAD_H

/* The head of one HTTP/1.x request: the request line and the header fields, up to and including the empty
 * line.
 *
 * The caller passes all bytes that have arrived, each time that more arrive; the parser looks at each byte
 * once. It refuses at the first byte that cannot belong to a valid head, so that bytes of another protocol
 * are answered before their end.
 *
 * The parser is strict where leniency lets two programs disagree about the end of a request (RFC 9112,
 * RFC 9110): a line ends with CRLF and nothing else; one space between the parts of the request line; no
 * space before a colon; no folded lines; no control bytes; one Host; one Content-Length of digits only;
 * never Content-Length and Transfer-Encoding together. Empty lines before the request line are skipped, as
 * RFC 9112 section 2.2 requires.
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
	HTTP_HEAD_LIMIT = 8192, /* bytes of a head with its empty line; a longer one is 431, or 414 */
	HTTP_HEAD_FIELDS = 100, /* header fields; more are 431 */
	/* The most that http_head_set_limits() takes. */
	HTTP_HEAD_LIMIT_MAX = 65535,
	HTTP_HEAD_FIELDS_MAX = 256
};

/* A piece of the text, as offsets: the text may move when more bytes arrive. */
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
	HTTP_KNOWN_METHOD,  /* of RFC 9110 or 5789: 405 */
	HTTP_UNKNOWN_METHOD /* 501 */
};

struct http_head {
	enum http_method method;
	unsigned int minor;      /* HTTP/1.minor */
	struct http_slice path;  /* still percent-encoded; empty or starting with a slash */
	struct http_slice query; /* with its question mark, or empty */
	struct http_slice
	    authority;          /* the host of the target, which then replaces that of the Host field
	                                (RFC 9112 section 3.2.2); else empty */
	struct http_slice host; /* the value of the Host field */
	bool keep_alive;        /* requested by the client */
	bool chunked;
	bool has_content_length;
	uint64_t content_length;

	unsigned int field_count;

	const char *error; /* static text, if the head was refused */

	/* For the parser alone. */
	size_t limit;
	unsigned int field_limit;
	unsigned int state;
	size_t scanned;
	struct http_slice method_text;
	struct http_slice target;
	struct http_slice version;
	unsigned int major;
	bool has_host;
	bool wants_close;
	bool wants_keep_alive;

	struct http_field fields[HTTP_HEAD_FIELDS_MAX]; /* last: http_head_init() does not clear them */
};

void http_head_init(struct http_head *head);

/* Sets other limits than HTTP_HEAD_LIMIT and HTTP_HEAD_FIELDS, before the first byte. */
void http_head_set_limits(struct http_head *head, size_t bytes, unsigned int fields);

/* HTTP_HEAD_MORE, the length of the head in bytes, or the negative of the status to refuse it with: 400,
 * 414, 431, 501 or 505. After a refusal, and after a complete head, another call returns the same. */
int http_head_parse(struct http_head *head, const char *text, size_t length);

/* Whether the head was parsed to its end. */
bool http_head_is_complete(const struct http_head *head);

/* The request line of a complete head, without its CRLF. */
struct http_slice http_head_line(const struct http_head *head);

/* The field of this name (any case), or NULL. Of several fields it is the first one, and `*repeated`,
 * unless NULL, is set. */
const struct http_field *http_head_find(const struct http_head *head, const char *text,
                                        const char *name, bool *repeated);

/* Whether a request body follows the head. */
bool http_head_has_body(const struct http_head *head);

/* The lower case of an ASCII letter, in every locale. */
char http_lower_case(char c);

/* Whether `length` bytes are `word`, in any case. */
bool http_equal_ignoring_case(const char *text, size_t length, const char *word);

#endif
