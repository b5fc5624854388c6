#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_WORDS_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_WORDS_H

/* The words of a line of the configuration file: ferry-proxy.conf(5) has the format. */

#include "programs/shared/settings.h"

enum { CONF_WORDS_MAX = 16, CONF_KEYS = 8 };

/*
 * Splits a line, in place, into words that end with a zero. The number of words, or -EINVAL with a
 * static text in `*why`: a control character, a quote that is not closed, a backslash before another
 * character than a quote or a backslash, more words than CONF_WORDS_MAX.
 */
int conf_words_split(char *line, char *words[CONF_WORDS_MAX], const char **why);

/* The keys that the words "key=value" of a directive may have, once each. */
struct conf_keys {
	const char *const *names; /* at most CONF_KEYS, and NULL */
	const char *expected;     /* for the message about another word */
	const char *values[CONF_KEYS];
};

/* Sets the values. False: the reader has the error. */
bool conf_words_read_keys(struct settings_reader *reader, struct conf_keys *keys, char **words,
                          size_t count);

#endif
