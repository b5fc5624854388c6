#ifndef FERRY_PROGRAMS_SHARED_TEMPLATE_H
#define FERRY_PROGRAMS_SHARED_TEMPLATE_H

/* HTML in which names stand for values:
 *
 *     {{name}}             the value, escaped
 *     {{?name}} … {{/}}    this part, unless the value is empty or 0; such parts are not nested
 *
 * Braces around other words stay. */

#include <stddef.h>
#include <stdint.h>

struct evbuffer;

/* A text, or a number if `text` is NULL. */
struct template_value {
	const char *name;
	const char *text;
	uint64_t number;
};

/* Adds the template with its values. 0 or -ENOMEM. */
int template_add(struct evbuffer *out, const char *text, size_t length,
                 const struct template_value *values, size_t count);

#endif
