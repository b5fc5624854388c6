#ifndef FERRY_PROGRAMS_FERRY_WORKER_FILLED_PAGE_H
#define FERRY_PROGRAMS_FERRY_WORKER_FILLED_PAGE_H

/* Files in which each {{name}} stands for a value of the request that asks for them: the way of that request through
 * proxy and worker. The option --fill names them; no other request pays for it. */

#include "programs/shared/template.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FILLED_PAGES = 4, FILLED_PAGE_MAX = 262144 /* bytes of a file */ };

/* The paths of the files, below the root, with a slash before them or without. */
struct filled_pages {
	const char *paths[FILLED_PAGES];
	unsigned int count;
};

/* Whether the path is one of them. */
bool filled_pages_have(const struct filled_pages *pages, const char *path);

/* Adds the text of a file with its values (template.h). 0, or -EFBIG: it is longer than FILLED_PAGE_MAX; -ENOMEM; or the errno of
 * pread(2). */
int filled_page_add_file(struct evbuffer *out, int fd, uint64_t size,
                         const struct template_value *values, size_t count);

#endif
