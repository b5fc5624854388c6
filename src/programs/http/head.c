#include "programs/http/head.h"

#include <string.h>

enum state {
	BEFORE_REQUEST,
	BEFORE_REQUEST_LF,
	METHOD,
	TARGET,
	VERSION,
	REQUEST_LF,
	LINE_START,
	NAME,
	BEFORE_VALUE,
	VALUE,
	FIELD_LF,
	HEAD_LF,
	COMPLETE,
	REFUSED
};

void http_head_init(struct http_head *head)
{
	memset(head, 0, offsetof(struct http_head, fields));
	head->method = HTTP_UNKNOWN_METHOD;
	head->state = BEFORE_REQUEST;
	head->limit = HTTP_HEAD_LIMIT;
	head->field_limit = HTTP_HEAD_FIELDS;
}

void http_head_set_limits(struct http_head *head, size_t bytes, unsigned int fields)
{
	head->limit = bytes < HTTP_HEAD_LIMIT_MAX ? bytes : HTTP_HEAD_LIMIT_MAX;
	head->field_limit = fields < HTTP_HEAD_FIELDS_MAX ? fields : HTTP_HEAD_FIELDS_MAX;
}

static int refuse_head(struct http_head *head, int status, const char *error)
{
	head->state = REFUSED;
	head->scanned = (size_t)status;
	head->error = error;
	return -status;
}

/* The parts that a byte may belong to. <ctype.h> depends on the locale and on the sign of char.
 *
 * RFC 3986 forbids more bytes in a target, but browsers send "|" and "^" unescaped. A "#" is refused: browsers do
 * not send the fragment. */
enum {
	TOKEN_BYTE = 1, /* of a method or a name: letters, digits and !#$%&'*+-.^_`|~ */
	TARGET_BYTE = 2,
	HOST_BYTE = 4, /* letters, digits and -._~!$&'()*+,;=:[]% */
	VALUE_BYTE = 8
};

static const unsigned char parts_of_byte[256] = {
    0,  0,  0,  0,  0,  0,  0,  0,  0,  8,  0,  0,  0,  0,  0,  0,  /* 0x00 */
    0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  /* 0x10 */
    8,  15, 10, 9,  15, 15, 15, 15, 14, 14, 15, 15, 14, 15, 15, 10, /* 0x20 */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 14, 10, 14, 10, 10, /* 0x30 */
    10, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, /* 0x40 */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 14, 10, 14, 11, 15, /* 0x50 */
    11, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, /* 0x60 */
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 10, 11, 10, 15, 0,  /* 0x70 */
    8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  /* 0x80 */
    8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  /* 0x90 */
    8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  /* 0xa0 */
    8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  /* 0xb0 */
    8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  /* 0xc0 */
    8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  /* 0xd0 */
    8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  /* 0xe0 */
    8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  8,  /* 0xf0 */
};

static bool is_of_part(char c, unsigned int part)
{
	return (parts_of_byte[(unsigned char)c] & part) != 0;
}

/* The end of the bytes from `at` on that may belong to this part. */
static size_t skip_part(const char *text, size_t at, size_t end, unsigned int part)
{
	while (at < end && is_of_part(text[at], part))
		at++;
	return at;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

char http_lower_case(char c)
{
	if (c >= 'A' && c <= 'Z')
		c = (char)(c + ('a' - 'A'));
	return c;
}

bool http_equal_ignoring_case(const char *text, size_t length, const char *word)
{
	if (strlen(word) != length)
		return false;
	if (memcmp(text, word, length) == 0) /* most are in the usual spelling */
		return true;
	for (size_t i = 0; i < length; i++)
		if (http_lower_case(text[i]) != http_lower_case(word[i]))
			return false;
	return true;
}

static bool slice_is(const char *text, struct http_slice slice, const char *word)
{
	return slice.length == strlen(word) && memcmp(text + slice.start, word, slice.length) == 0;
}

/* Offsets fit into 16 bits, because HTTP_HEAD_LIMIT is far below 64 KiB. */
static void slice_begin(struct http_slice *slice, size_t at)
{
	slice->start = (uint16_t)at;
	slice->length = 0;
}

static void slice_end(struct http_slice *slice, size_t at)
{
	slice->length = (uint16_t)(at - slice->start);
}

static enum http_method method_of(const char *text, struct http_slice method)
{
	static const char *const known[] = {"POST",    "PUT",   "DELETE", "CONNECT",
	                                    "OPTIONS", "TRACE", "PATCH"};
	if (slice_is(text, method, "GET"))
		return HTTP_GET;
	if (slice_is(text, method, "HEAD"))
		return HTTP_HEAD;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (slice_is(text, method, known[i]))
			return HTTP_KNOWN_METHOD;
	return HTTP_UNKNOWN_METHOD;
}

static bool all_host(const char *text, size_t length)
{
	return skip_part(text, 0, length, HOST_BYTE) == length;
}

static void set_target_path(struct http_head *head, const char *text, size_t start, size_t end)
{
	const char *mark = memchr(text + start, '?', end - start);
	size_t question = mark != NULL ? (size_t)(mark - text) : end;
	slice_begin(&head->path, start);
	slice_end(&head->path, question);
	slice_begin(&head->query, question);
	slice_end(&head->query, end);
}

/* absolute-form: "http://" authority [path] ["?" query] */
static bool accept_absolute(struct http_head *head, const char *text)
{
	size_t start = head->target.start;
	size_t end = start + head->target.length;
	if (head->target.length > 7 && http_equal_ignoring_case(text + start, 7, "http://"))
		start += 7;
	else if (head->target.length > 8 && http_equal_ignoring_case(text + start, 8, "https://"))
		start += 8;
	else
		return false;
	size_t path = start;
	while (path < end && text[path] != '/' && text[path] != '?')
		path++;
	if (path == start || !all_host(text + start, path - start))
		return false;
	slice_begin(&head->authority, start);
	slice_end(&head->authority, path);
	set_target_path(head, text, path, end);
	return true;
}

static bool accept_target(struct http_head *head, const char *text)
{
	const char *target = text + head->target.start;
	if (target[0] == '/') {
		set_target_path(head, text, head->target.start,
		                (size_t)head->target.start + head->target.length);
		return true;
	}
	/* These two forms are valid, although no such request is served. */
	if (slice_is(text, head->method_text, "OPTIONS") && slice_is(text, head->target, "*"))
		return true;
	if (slice_is(text, head->method_text, "CONNECT"))
		return all_host(target, head->target.length);
	return accept_absolute(head, text);
}

static int finish_request_line(struct http_head *head, const char *text)
{
	/* First the version: another version may define another request line. */
	const char *version = text + head->version.start;
	head->major = (unsigned int)(version[5] - '0');
	head->minor = (unsigned int)(version[7] - '0');
	if (head->major != 1)
		return refuse_head(head, 505, "only HTTP/1.x is supported");
	head->method = method_of(text, head->method_text);
	if (!accept_target(head, text))
		return refuse_head(head, 400, "bad request target");
	head->state = LINE_START;
	return 0;
}

/* ---- the fields that the parser knows ---- */

static int accept_content_length(struct http_head *head, const char *value, size_t length)
{
	if (head->has_content_length)
		return refuse_head(head, 400, "more than one Content-Length");
	if (length == 0)
		return refuse_head(head, 400, "bad Content-Length");
	uint64_t number = 0;
	for (size_t i = 0; i < length; i++) {
		if (!is_digit(value[i]))
			return refuse_head(head, 400, "bad Content-Length");
		uint64_t digit = (uint64_t)(value[i] - '0');
		if (number > (UINT64_MAX - digit) / 10)
			return refuse_head(head, 400, "Content-Length too large");
		number = number * 10 + digit;
	}
	head->has_content_length = true;
	head->content_length = number;
	return 0;
}

static int accept_transfer_encoding(struct http_head *head, const char *value, size_t length)
{
	if (head->minor == 0)
		return refuse_head(head, 400, "Transfer-Encoding in HTTP/1.0");
	if (head->chunked)
		return refuse_head(head, 400, "more than one Transfer-Encoding");
	if (http_equal_ignoring_case(value, length, "chunked")) {
		head->chunked = true;
		return 0;
	}
	if (length > 7 && http_equal_ignoring_case(value + length - 7, 7, "chunked") &&
	    (value[length - 8] == ',' || is_blank(value[length - 8])))
		return refuse_head(head, 501, "unknown transfer coding");
	return refuse_head(head, 400, "a request body whose end cannot be known");
}

static int accept_host(struct http_head *head, const char *value, size_t length)
{
	if (head->has_host)
		return refuse_head(head, 400, "more than one Host");
	if (!all_host(value, length))
		return refuse_head(head, 400, "bad Host");
	head->has_host = true;
	head->host = head->fields[head->field_count - 1].value;
	return 0;
}

static int accept_connection(struct http_head *head, const char *value, size_t length)
{
	for (size_t at = 0; at < length;) {
		size_t start = at;
		while (at < length && value[at] != ',')
			at++;
		size_t end = at++;
		while (start < end && is_blank(value[start]))
			start++;
		while (end > start && is_blank(value[end - 1]))
			end--;
		if (http_equal_ignoring_case(value + start, end - start, "close"))
			head->wants_close = true;
		else if (http_equal_ignoring_case(value + start, end - start, "keep-alive"))
			head->wants_keep_alive = true;
	}
	return 0;
}

static int finish_field(struct http_head *head, const char *text)
{
	static const struct {
		const char *name;
		int (*accept)(struct http_head *head, const char *value, size_t length);
	} known[] = {{"Host", accept_host},
	             {"Connection", accept_connection},
	             {"Content-Length", accept_content_length},
	             {"Transfer-Encoding", accept_transfer_encoding}};
	struct http_field *field = &head->fields[head->field_count];
	const char *name = text + field->name.start;
	const char *value = text + field->value.start;
	while (field->value.length > 0 && is_blank(value[field->value.length - 1]))
		field->value.length--;
	head->field_count++;
	head->state = LINE_START;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (http_equal_ignoring_case(name, field->name.length, known[i].name))
			return known[i].accept(head, value, field->value.length);
	return 0;
}

static int finish_head(struct http_head *head)
{
	if (head->minor >= 1 && !head->has_host)
		return refuse_head(head, 400, "no Host");
	if (head->chunked && head->has_content_length)
		return refuse_head(head, 400, "both Content-Length and Transfer-Encoding");
	head->keep_alive = !head->wants_close && (head->minor >= 1 || head->wants_keep_alive);
	head->state = COMPLETE;
	return 0;
}

/* ---- the bytes in their order ---- */

/* Each of these takes bytes from head->scanned on, before `end`, which is behind it: those of the part that the head is
 * in, and the byte behind the part. */

static int scan_version(struct http_head *head, const char *text, size_t end)
{
	static const char form[] = "HTTP/#.#\r", usual[] = "HTTP/1.1";
	const size_t start = head->version.start;
	size_t at = head->scanned;
	if (end - start >= strlen(usual) && memcmp(text + start, usual, strlen(usual)) == 0)
		at = start + strlen(usual);
	for (; at < end && head->state == VERSION; at++) {
		char expected = form[at - start];
		if (expected == '#' ? !is_digit(text[at]) : text[at] != expected)
			return refuse_head(head, 400, "bad HTTP version");
		if (expected == '\r') {
			slice_end(&head->version, at);
			head->state = REQUEST_LF;
		}
	}
	head->scanned = at;
	return 0;
}

static int scan_method(struct http_head *head, const char *text, size_t end)
{
	size_t at = skip_part(text, head->scanned, end, TOKEN_BYTE);
	head->scanned = at;
	if (at == end)
		return 0;
	if (text[at] != ' ')
		return refuse_head(head, 400, "bad method");
	slice_end(&head->method_text, at);
	slice_begin(&head->target, ++head->scanned);
	head->state = TARGET;
	return 0;
}

static int scan_target(struct http_head *head, const char *text, size_t end)
{
	size_t at = skip_part(text, head->scanned, end, TARGET_BYTE);
	head->scanned = at;
	if (at == end)
		return 0;
	slice_end(&head->target, at);
	if (text[at] != ' ' || head->target.length == 0)
		return refuse_head(head, 400, "bad request target");
	slice_begin(&head->version, ++head->scanned);
	head->state = VERSION;
	return 0;
}

static int scan_request_line(struct http_head *head, const char *text, size_t end)
{
	char c = text[head->scanned];
	switch (head->state) {
	case BEFORE_REQUEST:
		if (c == '\r') {
			head->scanned++;
			head->state = BEFORE_REQUEST_LF;
			return 0;
		}
		slice_begin(&head->method_text, head->scanned++);
		head->state = METHOD;
		return is_of_part(c, TOKEN_BYTE) ? 0 : refuse_head(head, 400, "bad method");
	case BEFORE_REQUEST_LF:
		head->scanned++;
		head->state = BEFORE_REQUEST;
		return c == '\n' ? 0 : refuse_head(head, 400, "CR without LF");
	case METHOD:
		return scan_method(head, text, end);
	case TARGET:
		return scan_target(head, text, end);
	case VERSION:
		return scan_version(head, text, end);
	default: /* REQUEST_LF */
		head->scanned++;
		return c == '\n' ? finish_request_line(head, text)
		                 : refuse_head(head, 400, "CR without LF");
	}
}

static int scan_name(struct http_head *head, const char *text, size_t end)
{
	size_t at = skip_part(text, head->scanned, end, TOKEN_BYTE);
	head->scanned = at;
	if (at == end)
		return 0;
	if (is_blank(text[at]))
		return refuse_head(head, 400, "white space before a colon");
	if (text[at] != ':')
		return refuse_head(head, 400, "bad header name");
	slice_end(&head->fields[head->field_count].name, at);
	head->scanned++;
	head->state = BEFORE_VALUE;
	return 0;
}

static int scan_line_start(struct http_head *head, const char *text, size_t end)
{
	size_t at = head->scanned;
	if (text[at] == '\r') {
		head->scanned++;
		head->state = HEAD_LF;
		return 0;
	}
	if (is_blank(text[at]))
		return refuse_head(head, 400, "folded header line");
	if (!is_of_part(text[at], TOKEN_BYTE))
		return refuse_head(head, 400, "bad header name");
	if (head->field_count == head->field_limit)
		return refuse_head(head, 431, "too many header fields");
	slice_begin(&head->fields[head->field_count].name, at);
	head->state = NAME;
	return scan_name(head, text, end);
}

static int scan_value(struct http_head *head, const char *text, size_t end)
{
	size_t at = skip_part(text, head->scanned, end, VALUE_BYTE);
	head->scanned = at;
	if (at == end)
		return 0;
	if (text[at] != '\r')
		return refuse_head(head, 400, "control byte in a header value");
	slice_end(&head->fields[head->field_count].value, at);
	head->scanned++;
	head->state = FIELD_LF;
	return 0;
}

static int scan_before_value(struct http_head *head, const char *text, size_t end)
{
	while (head->scanned < end && is_blank(text[head->scanned]))
		head->scanned++;
	if (head->scanned == end)
		return 0;
	slice_begin(&head->fields[head->field_count].value, head->scanned);
	head->state = VALUE;
	return scan_value(head, text, end);
}

static int scan_fields(struct http_head *head, const char *text, size_t end)
{
	switch (head->state) {
	case LINE_START:
		return scan_line_start(head, text, end);
	case NAME:
		return scan_name(head, text, end);
	case BEFORE_VALUE:
		return scan_before_value(head, text, end);
	case VALUE:
		return scan_value(head, text, end);
	case FIELD_LF:
		return text[head->scanned++] == '\n' ? finish_field(head, text)
		                                     : refuse_head(head, 400, "CR without LF");
	default: /* HEAD_LF */
		return text[head->scanned++] == '\n' ? finish_head(head)
		                                     : refuse_head(head, 400, "CR without LF");
	}
}

int http_head_parse(struct http_head *head, const char *text, size_t length)
{
	if (head->state == COMPLETE)
		return (int)head->scanned;
	if (head->state == REFUSED)
		return -(int)head->scanned;
	size_t end = length < head->limit ? length : head->limit;
	while (head->scanned < end) {
		int status = head->state < LINE_START ? scan_request_line(head, text, end)
		                                      : scan_fields(head, text, end);
		if (status != 0)
			return status;
		if (head->state == COMPLETE)
			return (int)head->scanned;
	}
	if (head->scanned >= head->limit && head->state == TARGET)
		return refuse_head(head, 414, "the target is longer than the limit of a request head");
	if (head->scanned >= head->limit)
		return refuse_head(head, 431, "the request head is longer than the limit");
	return HTTP_HEAD_MORE;
}

bool http_head_is_complete(const struct http_head *head)
{
	return head->state == COMPLETE;
}

struct http_slice http_head_line(const struct http_head *head)
{
	struct http_slice line = {.start = head->method_text.start};
	slice_end(&line, (size_t)head->version.start + head->version.length);
	return line;
}

const struct http_field *http_head_find(const struct http_head *head, const char *text,
                                        const char *name, bool *repeated)
{
	const struct http_field *found = NULL;
	if (repeated != NULL)
		*repeated = false;
	for (unsigned int i = 0; i < head->field_count; i++) {
		const struct http_field *field = &head->fields[i];
		if (!http_equal_ignoring_case(text + field->name.start, field->name.length, name))
			continue;
		if (found == NULL)
			found = field;
		else if (repeated != NULL)
			*repeated = true;
	}
	return found;
}

bool http_head_has_body(const struct http_head *head)
{
	return head->chunked || head->content_length > 0;
}
