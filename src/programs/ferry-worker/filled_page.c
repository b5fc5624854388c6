#include "programs/ferry-worker/filled_page.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Users write a path as it is in the address, too; the index of the root has "./". */
static const char *skip_root(const char *path)
{
	while (path[0] == '/' || strncmp(path, "./", 2) == 0)
		path++;
	return path;
}

bool filled_pages_have(const struct filled_pages *pages, const char *path)
{
	path = skip_root(path);
	for (unsigned int i = 0; i < pages->count; i++)
		if (strcmp(skip_root(pages->paths[i]), path) == 0)
			return true;
	return false;
}

int filled_page_add_file(struct evbuffer *out, int fd, uint64_t size,
                         const struct template_value *values, size_t count)
{
	if (size > FILLED_PAGE_MAX)
		return -EFBIG;
	char *text = malloc((size_t)size + 1);
	if (text == NULL)
		return -ENOMEM;
	ssize_t length = pread(fd, text, (size_t)size, 0);
	int status = length < 0 ? -errno : 0;
	if (status == 0)
		status = template_add(out, text, (size_t)length, values, count);
	free(text);
	return status;
}
