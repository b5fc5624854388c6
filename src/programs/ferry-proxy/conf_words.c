#include "programs/ferry-proxy/conf_words.h"

#include <errno.h>
#include <stdbool.h>

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
