#include "programs/ferry-proxy/conf_file.h"

#include "programs/ferry-proxy/conf_directives.h"
#include "programs/ferry-proxy/conf_words.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const directive_names[DIRECTIVES] = {
    [DIRECTIVE_LISTEN] = "listen",
    [DIRECTIVE_SERVICE] = "service",
    [DIRECTIVE_ROUTE] = "route",
    [DIRECTIVE_DEFAULT] = "default",
    [DIRECTIVE_ADMIN] = "admin",
    [DIRECTIVE_CONTROL] = "control",
    [DIRECTIVE_USER] = "user",
    [DIRECTIVE_GROUP] = "group",
    [DIRECTIVE_ACCESS_LOG] = "access-log",
    [DIRECTIVE_QUEUE] = "queue",
    [DIRECTIVE_QUEUE_TIMEOUT] = "queue-timeout",
    [DIRECTIVE_ANSWER_TIMEOUT] = "answer-timeout",
    [DIRECTIVE_HEAD_TIMEOUT] = "head-timeout",
    [DIRECTIVE_IDLE_TIMEOUT] = "idle-timeout",
    [DIRECTIVE_KEEP] = "keep",
    [DIRECTIVE_DRAIN_TIMEOUT] = "drain-timeout",
    [DIRECTIVE_LAME_DUCK] = "lame-duck",
    [DIRECTIVE_MAX_CLIENTS] = "max-clients",
    [DIRECTIVE_RETRY_AFTER] = "retry-after",
    [DIRECTIVE_HEAD_SIZE] = "head-size",
    [DIRECTIVE_HEAD_FIELDS] = "head-fields",
};

static bool is_repeatable(enum directive directive)
{
	return directive == DIRECTIVE_LISTEN || directive == DIRECTIVE_SERVICE ||
	       directive == DIRECTIVE_ROUTE;
}

static bool read_words(struct conf_reader *reader, char **words, size_t count)
{
	unsigned int directive = 0;
	while (directive < DIRECTIVES && strcmp(words[0], directive_names[directive]) != 0)
		directive++;
	if (directive == DIRECTIVES)
		return conf_reader_refuse(
		    reader,
		    "'%s' is not a directive; expected is listen, service, route, "
		    "default, admin, control, user, group, access-log, queue, max-clients, "
		    "retry-after, keep, lame-duck, "
		    "head-size, head-fields, "
		    "queue-, answer-, head-, idle- or drain-timeout",
		    conf_reader_shown(words[0]));
	reader->subject = directive_names[directive];
	unsigned int first = reader->lines[directive];
	if (first > 0 && !is_repeatable((enum directive)directive))
		return conf_reader_refuse(reader, "is already in line %u", first);
	if (first == 0)
		reader->lines[directive] = reader->line;
	return reader->by_option[directive] ||
	       conf_directive_run(reader, (enum directive)directive, words + 1, count - 1);
}

static bool read_line(struct conf_reader *reader, const char *start, size_t length)
{
	char line[CONF_LINE_MAX + 1];
	char *words[CONF_WORDS_MAX];
	const char *why;
	reader->subject = NULL;
	if (length > CONF_LINE_MAX)
		return conf_reader_refuse(reader, "the line is longer than %d bytes", CONF_LINE_MAX);
	if (memchr(start, '\0', length) != NULL)
		return conf_reader_refuse(reader, "a zero byte; a file of text is expected");
	memcpy(line, start, length);
	line[length] = '\0';
	int count = conf_words_split(line, words, &why);
	if (count < 0)
		return conf_reader_refuse(reader, "%s", why);
	return count == 0 || read_words(reader, words, (size_t)count);
}

bool conf_file_read_text(struct conf_reader *reader, const char *text, size_t length)
{
	bool fine = true;
	reader->line = 0;
	for (size_t at = 0; fine && at < length;) {
		const char *end = memchr(text + at, '\n', length - at);
		size_t line_length = (end != NULL ? (size_t)(end - text) : length) - at;
		reader->line++;
		fine = read_line(reader, text + at, line_length);
		at += line_length + 1;
	}
	reader->subject = NULL;
	if (fine)
		reader->line = 0;
	return fine;
}

/* Reads at most `room` bytes. The number of bytes, or a negative errno. */
static ssize_t read_whole_file(int fd, char *out, size_t room)
{
	size_t used = 0;
	while (used < room) {
		ssize_t count = read(fd, out + used, room - used);
		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return -errno;
		if (count == 0)
			break;
		used += (size_t)count;
	}
	return (ssize_t)used;
}

bool conf_file_read(struct conf_reader *reader, const char *path)
{
	enum { ROOM = CONF_FILE_MAX + 1 };
	reader->file = path;
	reader->line = 0;
	reader->subject = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return conf_reader_refuse(reader, "%s", strerror(errno));
	char *text = malloc(ROOM);
	ssize_t length = text != NULL ? read_whole_file(fd, text, ROOM) : -ENOMEM;
	close(fd);
	bool fine;
	if (length < 0)
		fine = conf_reader_refuse(reader, "%s", strerror((int)-length));
	else if (length == ROOM)
		fine = conf_reader_refuse(reader, "the file is longer than %d bytes", CONF_FILE_MAX);
	else
		fine = conf_file_read_text(reader, text, (size_t)length);
	free(text);
	return fine;
}

enum conf_result conf_read_text(struct conf *conf, const char *name, const char *text,
                                size_t length, char *error)
{
	struct conf_reader reader;
	bool fine = conf_reader_begin(&reader, conf, error) == 0;
	reader.file = name;
	fine = fine && conf_reader_set(&reader, &conf->file, name) &&
	       conf_file_read_text(&reader, text, length) && conf_directives_finish(&reader);
	conf_reader_end(&reader);
	if (!fine)
		conf_free(conf);
	return fine ? CONF_OK : CONF_BAD;
}
