/* The file of the configuration, a line after the other. */

#include "programs/ferry-proxy/conf_reader.h"
#include "programs/ferry-proxy/conf_words.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool read_line(struct settings_reader *reader, char *line, size_t length)
{
	char *words[CONF_WORDS_MAX];
	const char *why;
	if (length > CONF_LINE_MAX)
		return settings_refuse(reader, "the line is longer than %d bytes", CONF_LINE_MAX);
	if (memchr(line, '\0', length) != NULL)
		return settings_refuse(reader, "a zero byte; a file of text is expected");
	line[length] = '\0';
	int count = conf_words_split(line, words, &why);
	if (count < 0)
		return settings_refuse(reader, "%s", why);
	return count == 0 || settings_read_directive(reader, words, (size_t)count);
}

/* `text` has room for a zero at its end. */
static bool read_lines(struct settings_reader *reader, char *text, size_t length)
{
	for (size_t at = 0; at < length;) {
		char *end = memchr(text + at, '\n', length - at);
		size_t line_length = (end != NULL ? (size_t)(end - text) : length) - at;
		reader->line++;
		reader->subject = NULL;
		if (!read_line(reader, text + at, line_length))
			return false;
		at += line_length + 1;
	}
	reader->line = 0;
	reader->subject = NULL;
	return true;
}

/* The reader cuts `text`, which is NULL without memory, and the configuration owns it. */
static bool use_text(struct settings_reader *reader, char *text, size_t length)
{
	struct conf *conf = reader->target;
	conf->text = text;
	if (text == NULL)
		return settings_refuse(reader, "out of memory");
	return read_lines(reader, text, length);
}

bool conf_file_read_text(struct settings_reader *reader, const char *path, const char *text,
                         size_t length)
{
	reader->file = path;
	char *copy = malloc(length + 1);
	if (copy != NULL)
		memcpy(copy, text, length);
	return use_text(reader, copy, length);
}

bool conf_file_read(struct settings_reader *reader, const char *path)
{
	enum { ROOM = CONF_FILE_MAX + 1 };
	reader->file = path;
	FILE *file = fopen(path, "re");
	if (file == NULL)
		return settings_refuse(reader, "%s", strerror(errno));
	char *text = malloc(ROOM);
	size_t length = text != NULL ? fread(text, 1, ROOM, file) : 0;
	int error = ferror(file) ? errno : 0;
	fclose(file);
	if (error == 0 && length < ROOM)
		return use_text(reader, text, length);
	free(text);
	return error != 0 ? settings_refuse(reader, "%s", strerror(error))
	                  : settings_refuse(reader, "the file is longer than %d bytes", CONF_FILE_MAX);
}
