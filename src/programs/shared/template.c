#include "programs/shared/template.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include <event2/buffer.h>

static const char part_end[] = "{{/}}";
enum { PART_END = sizeof(part_end) - 1 };

/* The braces at the start of a text. */
struct tag {
	const struct template_value *value; /* NULL: the word is none of the names */
	bool is_part;                       /* "{{?name}}" */
	size_t length;                      /* with the braces */
};

static bool is_empty(const struct template_value *value)
{
	return value->text != NULL ? value->text[0] == '\0' : value->number == 0;
}

static int add_value(struct evbuffer *out, const struct template_value *value)
{
	const char *text = value->text;
	int added = 0;
	if (text == NULL)
		return evbuffer_add_printf(out, "%" PRIu64, value->number);
	while (*text != '\0' && added >= 0) {
		size_t plain = strcspn(text, "&<>\"'");
		added = evbuffer_add(out, text, plain);
		text += plain;
		if (*text != '\0' && added >= 0)
			added = evbuffer_add_printf(out, "&#%d;", *text++);
	}
	return added;
}

static struct tag read_tag(const char *text, size_t left, const struct template_value *values,
                           size_t count)
{
	struct tag tag = {.is_part = left > 2 && text[2] == '?'};
	size_t start = tag.is_part ? 3 : 2;
	for (size_t i = 0; i < count; i++) {
		size_t name = strlen(values[i].name);
		if (left < start + name + 2 || memcmp(text + start, values[i].name, name) != 0 ||
		    memcmp(text + start + name, "}}", 2) != 0)
			continue;
		tag.value = &values[i];
		tag.length = start + name + 2;
	}
	return tag;
}

int template_add(struct evbuffer *out, const char *text, size_t length,
                 const struct template_value *values, size_t count)
{
	const char *end = text + length, *open;
	bool in_part = false;
	while ((open = memmem(text, (size_t)(end - text), "{{", 2)) != NULL) {
		size_t left = (size_t)(end - open);
		struct tag tag = read_tag(open, left, values, count);
		if (evbuffer_add(out, text, (size_t)(open - text)) < 0)
			return -ENOMEM;
		text = open + tag.length;
		if (in_part && left >= PART_END && memcmp(open, part_end, PART_END) == 0) {
			text = open + PART_END;
			in_part = false;
		} else if (tag.value == NULL) {
			text = open + 1;
			if (evbuffer_add(out, open, 1) < 0)
				return -ENOMEM;
		} else if (!tag.is_part) {
			if (add_value(out, tag.value) < 0)
				return -ENOMEM;
		} else if (!is_empty(tag.value)) {
			in_part = true;
		} else {
			const char *part = memmem(text, (size_t)(end - text), part_end, PART_END);
			text = part != NULL ? part + PART_END : end;
		}
	}
	return evbuffer_add(out, text, (size_t)(end - text)) < 0 ? -ENOMEM : 0;
}
