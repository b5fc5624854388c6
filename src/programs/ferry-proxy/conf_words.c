#include "programs/ferry-proxy/conf_words.h"

#include <errno.h>
#include <string.h>

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static bool is_control(char c)
{
	return (c > '\0' && c < ' ' && !is_blank(c)) || c == 0x7f;
}

/* Moves the word at `*from` to `to`, without its quotes. Returns the place for its zero, or NULL. */
static char *take_conf_word(char **from, char *to, const char **why)
{
	bool quoted = false;
	char *next = *from;
	for (; *next != '\0' && (quoted || !is_blank(*next)); next++) {
		if (*next == '"') {
			quoted = !quoted;
			continue;
		}
		if (quoted && *next == '\\') {
			next++;
			if (*next != '"' && *next != '\\') {
				*why = "a backslash within quotes that neither a quote nor a backslash follows";
				return NULL;
			}
		}
		*to++ = *next;
	}
	if (quoted) {
		*why = "a quote that is not closed";
		return NULL;
	}
	*from = next;
	return to;
}

int conf_words_split(char *line, char *words[CONF_WORDS_MAX], const char **why)
{
	int count = 0;
	for (const char *c = line; *c != '\0'; c++)
		if (is_control(*c)) {
			*why = "a control character";
			return -EINVAL;
		}
	for (char *next = line;;) {
		while (is_blank(*next))
			next++;
		if (*next == '\0' || *next == '#')
			return count;
		if (count == CONF_WORDS_MAX) {
			*why = "too many words";
			return -EINVAL;
		}
		char *word = next;
		char *end = take_conf_word(&next, word, why);
		if (end == NULL)
			return -EINVAL;
		if (*next != '\0')
			next++; /* the zero may overwrite it */
		*end = '\0';
		words[count++] = word;
	}
}

/* The value of "key=value" if the key is `key`, else NULL. */
static const char *value_of(const char *word, const char *key)
{
	size_t length = strlen(key);
	return strncmp(word, key, length) == 0 && word[length] == '=' ? word + length + 1 : NULL;
}

bool conf_words_read_keys(struct settings_reader *reader, struct conf_keys *keys, char **words,
                          size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t key = 0;
		const char *value = NULL;
		while (keys->names[key] != NULL && (value = value_of(words[i], keys->names[key])) == NULL)
			key++;
		if (value == NULL)
			return settings_refuse(reader, "'%s' is not one of %s", settings_shown(words[i]),
			                       keys->expected);
		if (keys->values[key] != NULL)
			return settings_refuse(reader, "%s= is given twice", keys->names[key]);
		if (value[0] == '\0')
			return settings_refuse(reader, "%s= has no value", keys->names[key]);
		keys->values[key] = value;
	}
	return true;
}
