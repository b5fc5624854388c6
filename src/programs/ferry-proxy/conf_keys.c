#include "programs/ferry-proxy/conf_keys.h"

#include <string.h>

/* The value of "key=value" if the key is `key`, else NULL. */
static const char *value_of(const char *word, const char *key)
{
	size_t length = strlen(key);
	return strncmp(word, key, length) == 0 && word[length] == '=' ? word + length + 1 : NULL;
}

bool conf_keys_read(struct conf_reader *reader, struct conf_keys *keys, char **words, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		size_t key = 0;
		const char *value = NULL;
		while (keys->names[key] != NULL && (value = value_of(words[i], keys->names[key])) == NULL)
			key++;
		if (value == NULL)
			return conf_reader_refuse(reader, "'%s' is not one of %s", conf_reader_shown(words[i]),
			                          keys->expected);
		if (keys->values[key] != NULL)
			return conf_reader_refuse(reader, "%s= is given twice", keys->names[key]);
		if (value[0] == '\0')
			return conf_reader_refuse(reader, "%s= has no value", keys->names[key]);
		keys->values[key] = value;
	}
	return true;
}
