#include "programs/ferry-proxy/conf_reader.h"

#include "programs/ferry-proxy/routes.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int conf_reader_begin(struct conf_reader *reader, struct conf *conf, char *error)
{
	conf_init(conf);
	memset(reader, 0, sizeof(*reader));
	reader->conf = conf;
	reader->error = error;
	if (error != NULL)
		error[0] = '\0';
	if (routes_new(&reader->routes) < 0) {
		conf_reader_refuse(reader, "out of memory");
		return -ENOMEM;
	}
	return 0;
}

void conf_reader_end(struct conf_reader *reader)
{
	routes_free(reader->routes);
	reader->routes = NULL;
}

const char *conf_reader_shown(const char *word)
{
	enum { RING = 4, MOST = 60 };
	static char ring[RING][MOST + 4];
	static unsigned int turn;
	char *out = ring[turn++ % RING];
	size_t length = 0;
	for (; length < MOST && word[length] != '\0'; length++) {
		out[length] = word[length];
		if ((unsigned char)word[length] < ' ' || word[length] == 0x7f)
			out[length] = '?';
	}
	(void)snprintf(out + length, 4, "%s", word[length] != '\0' ? "..." : "");
	return out;
}

bool conf_reader_refuse(struct conf_reader *reader, const char *format, ...)
{
	if (reader->error == NULL || reader->error[0] != '\0')
		return false;
	char *out = reader->error;
	size_t size = CONF_ERROR_SIZE;
	int used = 0;
	if (reader->file != NULL && reader->line > 0)
		used = snprintf(out, size, "%.200s:%u: ", reader->file, reader->line);
	else if (reader->file != NULL)
		used = snprintf(out, size, "%.200s: ", reader->file);
	if (reader->subject != NULL)
		used += snprintf(out + used, size - (size_t)used, "%s: ", reader->subject);
	va_list arguments;
	va_start(arguments, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized) clang-tidy 14 does not see va_start() */
	(void)vsnprintf(out + used, size - (size_t)used, format, arguments);
	va_end(arguments);
	return false;
}

bool conf_reader_set(struct conf_reader *reader, char **member, const char *value)
{
	char *copy = strdup(value);
	if (copy == NULL)
		return conf_reader_refuse(reader, "out of memory");
	free(*member);
	*member = copy;
	return true;
}

bool conf_reader_number(struct conf_reader *reader, const char *word, unsigned long min,
                        unsigned long max, unsigned long *number)
{
	size_t digits = strspn(word, "0123456789");
	unsigned long value = 0;
	for (size_t i = 0; i < digits && value <= max; i++)
		value = value * 10 + (unsigned long)(word[i] - '0');
	if (digits == 0 || word[digits] != '\0' || value < min || value > max)
		return conf_reader_refuse(reader, "'%s' is not a number from %lu to %lu",
		                          conf_reader_shown(word), min, max);
	*number = value;
	return true;
}

bool conf_reader_directory(struct conf_reader *reader, const char *path)
{
	struct stat status;
	if (stat(path, &status) < 0)
		return conf_reader_refuse(reader, "the directory '%s': %s", conf_reader_shown(path),
		                          strerror(errno));
	if (!S_ISDIR(status.st_mode))
		return conf_reader_refuse(reader, "'%s' is not a directory", conf_reader_shown(path));
	return true;
}

bool conf_reader_socket_path(struct conf_reader *reader, const char *path)
{
	enum { MOST = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1 };
	if (path[0] == '\0' || strcmp(path, "@") == 0)
		return conf_reader_refuse(reader, "the path of a unix socket is missing");
	if (strlen(path) > MOST)
		return conf_reader_refuse(
		    reader, "'%s' is too long for a unix socket, which takes %d bytes at most",
		    conf_reader_shown(path), (int)MOST);
	return true;
}
