#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_WORDS_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_WORDS_H

/* The words of a line of the configuration file: conf_file.h has the format. */

#include <stddef.h>

enum { CONF_WORDS_MAX = 16 };

/*
 * Splits a line, in place, into words that end with a zero. The number of words, or -EINVAL with a
 * static text in `*why`: a control character, a quote that is not closed, a backslash before another
 * character than a quote or a backslash, more words than CONF_WORDS_MAX.
 */
int conf_words_split(char *line, char *words[CONF_WORDS_MAX], const char **why);

#endif
