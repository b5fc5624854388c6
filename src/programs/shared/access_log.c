#include "programs/shared/access_log.h"

#include "programs/http/head.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Bytes of a request line and of a header field; the rest is cut. */
enum { REQUEST_MAX = 2048, FIELD_MAX = 512, DATE_MAX = 64 };

struct access_entry {
	struct timespec started;
	char *behind; /* in `text`: what follows the numbers */
	char text[];  /* what is before the numbers, and a zero */
};

/* Escapes quotes and backslashes, and bytes that are not printable ASCII. Returns the end. */
static char *quote(char *out, const char *text, size_t length, size_t most)
{
	*out++ = '"';
	for (size_t i = 0; i < length && i < most; i++) {
		unsigned char byte = (unsigned char)text[i];
		if (byte < ' ' || byte >= 0x7f) {
			out += snprintf(out, 5, "\\x%02x", byte);
			continue;
		}
		if (byte == '"' || byte == '\\')
			*out++ = '\\';
		*out++ = text[i];
	}
	*out++ = '"';
	*out = '\0';
	return out;
}

static char *quote_field(char *out, const struct http_head *head, const char *text,
                         const char *name)
{
	const struct http_field *field = text != NULL ? http_head_find(head, text, name, NULL) : NULL;
	if (field == NULL || field->value.length == 0)
		return quote(out, "-", 1, 1);
	return quote(out, text + field->value.start, field->value.length, FIELD_MAX);
}

static void format_date(char *out)
{
	struct tm parts;
	time_t now = time(NULL);
	(void)gmtime_r(&now, &parts);
	(void)strftime(out, DATE_MAX, "%d/%b/%Y:%H:%M:%S +0000", &parts);
}

struct access_entry *access_entry_new(const char *client, const struct http_head *head,
                                      const char *text)
{
	char date[DATE_MAX], built[4 * (REQUEST_MAX + 2 * FIELD_MAX) + 512];
	struct http_slice line = http_head_line(head);
	if (!http_head_is_complete(head))
		text = NULL;
	format_date(date);
	char *end = built + snprintf(built, 512, "%.300s - - [%s] ", client, date);
	if (text != NULL)
		end = quote(end, text + line.start, line.length, REQUEST_MAX);
	else
		end = quote(end, "-", 1, 1);
	*end++ = '\0';
	size_t behind = (size_t)(end - built);
	end = quote_field(end, head, text, "referer");
	*end++ = ' ';
	end = quote_field(end, head, text, "user-agent");
	size_t length = (size_t)(end - built) + 1;
	struct access_entry *entry = malloc(sizeof(*entry) + length);
	if (entry == NULL)
		return NULL;
	(void)clock_gettime(CLOCK_MONOTONIC, &entry->started);
	memcpy(entry->text, built, length);
	entry->behind = entry->text + behind;
	return entry;
}

void access_log_end(const struct access_log *log, struct access_entry *entry, int status,
                    uint64_t bytes)
{
	char line[4 * (REQUEST_MAX + 2 * FIELD_MAX) + 1024];
	struct timespec now;
	if (entry == NULL)
		return;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	long milliseconds = (long)(now.tv_sec - entry->started.tv_sec) * 1000 +
	                    (now.tv_nsec - entry->started.tv_nsec) / 1000000;
	int size = snprintf(line, sizeof(line), "%s %d %" PRIu64 " %s %ld.%03ld\n", entry->text, status,
	                    bytes, entry->behind, milliseconds / 1000, milliseconds % 1000);
	if (size > 0 && (size_t)size < sizeof(line) && log->fd >= 0 &&
	    write(log->fd, line, (size_t)size) < 0)
		program_log("the access log: %s", strerror(errno));
	free(entry);
}

void access_entry_free(struct access_entry *entry)
{
	free(entry);
}
