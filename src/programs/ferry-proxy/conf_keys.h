#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_KEYS_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_KEYS_H

/* The words "key=value" of a directive. */

#include "programs/ferry-proxy/conf_reader.h"

enum { CONF_KEYS = 8 };

/* The keys that the words of a directive may have, once each. */
struct conf_keys {
	const char *const *names; /* at most CONF_KEYS, and NULL */
	const char *expected;     /* for the message about another word */
	const char *values[CONF_KEYS];
};

/* Sets the values. False: the reader has the error. */
bool conf_keys_read(struct conf_reader *reader, struct conf_keys *keys, char **words, size_t count);

#endif
