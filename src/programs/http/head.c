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

/* <ctype.h> depends on the locale and on the sign of char. */
static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_token(char c)
{
	return is_letter(c) || is_digit(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* RFC 3986 forbids more bytes, but browsers send "|" and "^" unescaped. A "#" is refused: browsers do
 * not send the fragment. */
static bool is_target(char c)
{
	return c > ' ' && c < 0x7f && c != '#';
}

static bool is_value(char c)
{
	unsigned char byte = (unsigned char)c;
	return byte == '\t' || (byte >= ' ' && byte != 0x7f);
}

static bool is_host(char c)
{
	return is_letter(c) || is_digit(c) || (c != '\0' && strchr("-._~!$&'()*+,;=:[]%", c) != NULL);
}

char http_lower_case(char c)
{
	if (c >= 'A' && c <= 'Z')
		c = (char)(c + ('a' - 'A'));
	return c;
}

bool http_equal_ignoring_case(const char *text, size_t length, const char *word)
{
	for (size_t i = 0; i < length; i++)
		if (word[i] == '\0' || http_lower_case(text[i]) != http_lower_case(word[i]))
			return false;
	return word[length] == '\0';
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
	for (size_t i = 0; i < length; i++)
		if (!is_host(text[i]))
			return false;
	return true;
}

static void set_target_path(struct http_head *head, const char *text, size_t start, size_t end)
{
	size_t question = start;
	while (question < end && text[question] != '?')
		question++;
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
	    (value[length - 8] == ',' || value[length - 8] == ' ' || value[length - 8] == '\t'))
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
	return 0;
}

static void accept_connection(struct http_head *head, const char *value, size_t length)
{
	for (size_t at = 0; at < length;) {
		size_t start = at;
		while (at < length && value[at] != ',')
			at++;
		size_t end = at++;
		while (start < end && (value[start] == ' ' || value[start] == '\t'))
			start++;
		while (end > start && (value[end - 1] == ' ' || value[end - 1] == '\t'))
			end--;
		if (http_equal_ignoring_case(value + start, end - start, "close"))
			head->wants_close = true;
		else if (http_equal_ignoring_case(value + start, end - start, "keep-alive"))
			head->wants_keep_alive = true;
	}
}

static int finish_field(struct http_head *head, const char *text)
{
	struct http_field *field = &head->fields[head->field_count];
	const char *name = text + field->name.start;
	const char *value = text + field->value.start;
	while (field->value.length > 0 &&
	       (value[field->value.length - 1] == ' ' || value[field->value.length - 1] == '\t'))
		field->value.length--;
	head->field_count++;
	head->state = LINE_START;

	size_t length = field->value.length;
	if (http_equal_ignoring_case(name, field->name.length, "content-length"))
		return accept_content_length(head, value, length);
	if (http_equal_ignoring_case(name, field->name.length, "transfer-encoding"))
		return accept_transfer_encoding(head, value, length);
	if (http_equal_ignoring_case(name, field->name.length, "host"))
		return accept_host(head, value, length);
	if (http_equal_ignoring_case(name, field->name.length, "connection"))
		accept_connection(head, value, length);
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

static int scan_version(struct http_head *head, char c, size_t at)
{
	static const char form[] = "HTTP/#.#\r";
	size_t position = at - head->version.start;
	if (form[position] == '#' ? !is_digit(c) : c != form[position])
		return refuse_head(head, 400, "bad HTTP version");
	if (c == '\r') {
		slice_end(&head->version, at);
		head->state = REQUEST_LF;
	}
	return 0;
}

static int scan_request_line(struct http_head *head, const char *text, size_t at)
{
	char c = text[at];
	switch (head->state) {
	case BEFORE_REQUEST:
		if (c == '\r') {
			head->state = BEFORE_REQUEST_LF;
			return 0;
		}
		slice_begin(&head->method_text, at);
		head->state = METHOD;
		return is_token(c) ? 0 : refuse_head(head, 400, "bad method");
	case BEFORE_REQUEST_LF:
		head->state = BEFORE_REQUEST;
		return c == '\n' ? 0 : refuse_head(head, 400, "CR without LF");
	case METHOD:
		slice_end(&head->method_text, at);
		slice_begin(&head->target, at + 1);
		head->state = TARGET;
		return c == ' ' ? 0 : refuse_head(head, 400, "bad method");
	case TARGET:
		slice_end(&head->target, at);
		slice_begin(&head->version, at + 1);
		head->state = VERSION;
		return c == ' ' && head->target.length > 0 ? 0
		                                           : refuse_head(head, 400, "bad request target");
	case VERSION:
		return scan_version(head, c, at);
	default: /* REQUEST_LF */
		return c == '\n' ? finish_request_line(head, text)
		                 : refuse_head(head, 400, "CR without LF");
	}
}

static int scan_line_start(struct http_head *head, char c, size_t at)
{
	if (c == '\r') {
		head->state = HEAD_LF;
		return 0;
	}
	if (c == ' ' || c == '\t')
		return refuse_head(head, 400, "folded header line");
	if (!is_token(c))
		return refuse_head(head, 400, "bad header name");
	if (head->field_count == head->field_limit)
		return refuse_head(head, 431, "too many header fields");
	slice_begin(&head->fields[head->field_count].name, at);
	head->state = NAME;
	return 0;
}

static int scan_fields(struct http_head *head, const char *text, size_t at)
{
	char c = text[at];
	struct http_field *field = &head->fields[head->field_count];
	switch (head->state) {
	case LINE_START:
		return scan_line_start(head, c, at);
	case NAME:
		if (c == ' ' || c == '\t')
			return refuse_head(head, 400, "white space before a colon");
		slice_end(&field->name, at);
		head->state = BEFORE_VALUE;
		return c == ':' ? 0 : refuse_head(head, 400, "bad header name");
	case BEFORE_VALUE:
		slice_begin(&field->value, at);
		if (c == ' ' || c == '\t')
			return 0;
		head->state = VALUE;
		/* fall through */
	case VALUE:
		if (is_value(c))
			return 0;
		slice_end(&field->value, at);
		head->state = FIELD_LF;
		return c == '\r' ? 0 : refuse_head(head, 400, "control byte in a header value");
	case FIELD_LF:
		return c == '\n' ? finish_field(head, text) : refuse_head(head, 400, "CR without LF");
	default: /* HEAD_LF */
		return c == '\n' ? finish_head(head) : refuse_head(head, 400, "CR without LF");
	}
}

/* The end of the bytes that belong to the method, target, name or value which the head is in: most bytes of a head. */
static size_t skip_part(const struct http_head *head, const char *text, size_t end)
{
	size_t at = head->scanned;
	switch (head->state) {
	case METHOD:
	case NAME:
		while (at < end && is_token(text[at]))
			at++;
		return at;
	case TARGET:
		while (at < end && is_target(text[at]))
			at++;
		return at;
	case VALUE:
		while (at < end && is_value(text[at]))
			at++;
		return at;
	default:
		return at;
	}
}

int http_head_parse(struct http_head *head, const char *text, size_t length)
{
	if (head->state == COMPLETE)
		return (int)head->scanned;
	if (head->state == REFUSED)
		return -(int)head->scanned;
	size_t end = length < head->limit ? length : head->limit;
	while ((head->scanned = skip_part(head, text, end)) < end) {
		size_t at = head->scanned++;
		int status = head->state < LINE_START ? scan_request_line(head, text, at)
		                                      : scan_fields(head, text, at);
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
