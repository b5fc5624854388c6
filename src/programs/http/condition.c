#include "programs/http/condition.h"

#include "programs/http/date.h"

#include <string.h>

/* One field of the request as text; `text` is NULL when it is missing. */
struct value {
	const char *text;
	size_t length;
	bool repeated;
};

static struct value find_value(const struct http_head *head, const char *text, const char *name)
{
	struct value value = {0};
	const struct http_field *field = http_head_find(head, text, name, &value.repeated);
	if (field != NULL) {
		value.text = text + field->value.start;
		value.length = field->value.length;
	}
	return value;
}

static bool is_tag_byte(char c)
{
	unsigned char byte = (unsigned char)c;
	return byte == 0x21 || (byte >= 0x23 && byte != 0x7f);
}

/* The length of the entity tag at the start of `text`, 0 when there is none. */
static size_t tag_length(const char *text, size_t length)
{
	size_t at = length >= 2 && memcmp(text, "W/", 2) == 0 ? 2 : 0;
	if (at == length || text[at] != '"')
		return 0;
	for (at++; at < length && is_tag_byte(text[at]); at++)
		;
	return at < length && text[at] == '"' ? at + 1 : 0;
}

static bool same_tag(const char *text, size_t length, const char *etag, bool strong)
{
	if (length >= 2 && memcmp(text, "W/", 2) == 0) {
		if (strong)
			return false;
		text += 2;
		length -= 2;
	}
	return length == strlen(etag) && memcmp(text, etag, length) == 0;
}

/* Whether `etag` is in a list of entity tags, or the list is "*". A malformed list ends before its first
 * malformed tag. */
static bool tag_in_list(const char *text, size_t length, const char *etag, bool strong)
{
	if (length == 1 && text[0] == '*')
		return true;
	while (length > 0) {
		if (text[0] == ' ' || text[0] == '\t' || text[0] == ',') {
			text++;
			length--;
			continue;
		}
		size_t tag = tag_length(text, length);
		if (tag == 0)
			return false;
		if (same_tag(text, tag, etag, strong))
			return true;
		text += tag;
		length -= tag;
	}
	return false;
}

/* Several fields of the same name make one list. */
static bool tag_in_fields(const struct http_head *head, const char *text, const char *name,
                          const char *etag, bool strong)
{
	for (unsigned int i = 0; i < head->field_count; i++) {
		const struct http_field *field = &head->fields[i];
		if (http_equal_ignoring_case(text + field->name.start, field->name.length, name) &&
		    tag_in_list(text + field->value.start, field->value.length, etag, strong))
			return true;
	}
	return false;
}

/* A malformed date, or one that is given twice, is ignored. */
static bool find_date(const struct http_head *head, const char *text, const char *name, time_t now,
                      time_t *when)
{
	struct value value = find_value(head, text, name);
	return value.text != NULL && !value.repeated &&
	       http_date_parse(value.text, value.length, now, when) == 0;
}

static bool precondition_fails(const struct http_head *head, const char *text,
                               const struct http_validators *validators, time_t now)
{
	time_t when;
	if (find_value(head, text, "If-Match").text != NULL)
		return !tag_in_fields(head, text, "If-Match", validators->etag, true);
	return find_date(head, text, "If-Unmodified-Since", now, &when) && validators->modified > when;
}

static bool is_not_modified(const struct http_head *head, const char *text,
                            const struct http_validators *validators, time_t now)
{
	time_t when;
	if (find_value(head, text, "If-None-Match").text != NULL)
		return tag_in_fields(head, text, "If-None-Match", validators->etag, false);
	return find_date(head, text, "If-Modified-Since", now, &when) && validators->modified <= when;
}

/* Whether the part that the client has is of the present file. A date is a strong validator only if the
 * file was not changed within the second of the date (RFC 9110 section 8.8.2.2). */
static bool if_range_holds(const struct http_head *head, const char *text,
                           const struct http_validators *validators, time_t now)
{
	struct value value = find_value(head, text, "If-Range");
	if (value.text == NULL)
		return true;
	if (value.repeated)
		return false;
	if (tag_length(value.text, value.length) == value.length && value.length > 0)
		return same_tag(value.text, value.length, validators->etag, true);
	time_t when;
	return http_date_parse(value.text, value.length, now, &when) == 0 &&
	       validators->modified == when && now > when;
}

/* Most requests have no such field: whether one has a name with the first letter of If-Match and the others, or of
 * Range. */
static bool may_have_condition(const struct http_head *head, const char *text)
{
	for (unsigned int i = 0; i < head->field_count; i++) {
		char first = http_lower_case(text[head->fields[i].name.start]);
		if (first == 'i' || first == 'r')
			return true;
	}
	return false;
}

int http_condition_evaluate(const struct http_head *head, const char *text,
                            const struct http_validators *validators, time_t now,
                            struct http_range *range)
{
	*range = (struct http_range){.first = 0, .length = validators->size};
	if (!may_have_condition(head, text))
		return 200;
	if (precondition_fails(head, text, validators, now))
		return 412;
	if (is_not_modified(head, text, validators, now))
		return 304;

	/* Ranges are defined for GET only (RFC 9110 section 14.2). */
	struct value value = find_value(head, text, "Range");
	if (head->method != HTTP_GET || value.text == NULL || value.repeated ||
	    !if_range_holds(head, text, validators, now))
		return 200;
	switch (http_range_parse(value.text, value.length, validators->size, range)) {
	case HTTP_RANGE_PART:
		return 206;
	case HTTP_RANGE_UNSATISFIABLE:
		return 416;
	default:
		return 200;
	}
}
