#include "programs/ferry-worker/filled_page.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/buffer.h>

bool filled_pages_have(const struct filled_pages *pages, const char *path)
{
	if (strncmp(path, "./", 2) == 0) /* the index of the root */
		path += 2;
	for (unsigned int i = 0; i < pages->count; i++)
		if (strcmp(pages->paths[i], path) == 0)
			return true;
	return false;
}

static int add_escaped(struct evbuffer *out, const char *value)
{
	int added = 0;
	while (*value != '\0' && added >= 0) {
		size_t plain = strcspn(value, "&<>\"'");
		added = evbuffer_add(out, value, plain);
		value += plain;
		if (*value != '\0' && added >= 0)
			added = evbuffer_add_printf(out, "&#%d;", *value++);
	}
	return added < 0 ? -ENOMEM : 0;
}

/* The value for a name in braces at the start of the text, or NULL; `length` gets the bytes of both. */
static const char *find_value(const char *text, size_t left, const struct fill_value *values,
                              size_t count, size_t *length)
{
	for (size_t i = 0; i < count; i++) {
		size_t name = strlen(values[i].name);
		if (left < name + 4 || memcmp(text + 2, values[i].name, name) != 0 ||
		    memcmp(text + 2 + name, "}}", 2) != 0)
			continue;
		*length = name + 4;
		return values[i].value;
	}
	return NULL;
}

int filled_page_add_text(struct evbuffer *out, const char *text, size_t length,
                         const struct fill_value *values, size_t count)
{
	const char *end = text + length;
	while (text < end) {
		const char *open = memmem(text, (size_t)(end - text), "{{", 2);
		size_t plain = (size_t)((open != NULL ? open : end) - text);
		if (evbuffer_add(out, text, plain) < 0)
			return -ENOMEM;
		text += plain;
		if (open == NULL)
			break;
		size_t taken = 1;
		const char *value = find_value(text, (size_t)(end - text), values, count, &taken);
		int status = value != NULL ? add_escaped(out, value) : evbuffer_add(out, text, 1);
		if (status < 0)
			return -ENOMEM;
		text += taken;
	}
	return 0;
}

int filled_page_add_file(struct evbuffer *out, int fd, uint64_t size,
                         const struct fill_value *values, size_t count)
{
	if (size > FILLED_PAGE_MAX)
		return -EFBIG;
	char *text = malloc((size_t)size + 1);
	if (text == NULL)
		return -ENOMEM;
	ssize_t length = pread(fd, text, (size_t)size, 0);
	int status = length < 0 ? -errno : 0;
	if (status == 0)
		status = filled_page_add_text(out, text, (size_t)length, values, count);
	free(text);
	return status;
}
