/* Routes: for any routes and any request, the lookup finds one of the routes or the default, or
 * refuses the path. Two spellings of the same host or path find the same route. */

#include "fuzz.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "programs/ferry-proxy/routes.h"

enum { ROUTES = 8, TEXT_SIZE = 256, DEFAULT = 99 };

/* The next line of the input, as a text of its own; the caller's to free. */
static char *next_line(struct fuzz_input *input)
{
	const uint8_t *end = input->left > 0 ? memchr(input->at, '\n', input->left) : NULL;
	size_t length = end != NULL ? (size_t)(end - input->at) : input->left;
	size_t taken = length + (end != NULL);
	char *line = malloc(length + 1);

	FUZZ_CHECK(line != NULL);
	if (length > 0)
		memcpy(line, input->at, length);
	line[length] = '\0';
	fuzz_bytes(input, &taken);
	return line;
}

static const char *or_any(const char *text)
{
	return text[0] != '\0' ? text : NULL;
}

static unsigned int add_routes(struct routes *routes, struct fuzz_input *input, unsigned int wanted)
{
	unsigned int added = 0;

	for (; wanted > 0; wanted--) {
		char *host = next_line(input), *path = next_line(input);
		bool is_fine = (host[0] == '\0' || routes_host_is_fine(host)) &&
		               (path[0] == '\0' || routes_path_is_fine(path));
		int status = routes_add(routes, or_any(host), or_any(path), added);
		FUZZ_CHECK(status == -EEXIST || status == (is_fine ? 0 : -EINVAL));
		FUZZ_CHECK(status != -EEXIST || is_fine);
		added += status == 0;
		free(host);
		free(path);
	}
	return added;
}

static int find(const struct routes *routes, const char *host, const char *path)
{
	return routes_find(routes, host, strlen(host), path, strlen(path));
}

/* The route is the same if the host is in the other case, if the path has one more "/." or slash in
 * front, and if the path's characters are escaped. */
static void check_same(const struct routes *routes, char *host, const char *path, int found)
{
	char text[3 * TEXT_SIZE];

	for (char *at = host; *at != '\0'; at++)
		*at = (char)(islower((unsigned char)*at) ? toupper((unsigned char)*at)
		                                         : tolower((unsigned char)*at));
	FUZZ_CHECK(find(routes, host, path) == found);
	if (path[0] != '/' || strlen(path) >= TEXT_SIZE)
		return;
	snprintf(text, sizeof(text), "/.%s", path);
	FUZZ_CHECK(find(routes, host, text) == found);
	snprintf(text, sizeof(text), "/%s", path);
	FUZZ_CHECK(find(routes, host, text) == found);
	if (strchr(path, '%') != NULL)
		return;
	size_t length = 0;
	for (const char *at = path; *at != '\0'; at++)
		length += (size_t)(isalnum((unsigned char)*at)
		                       ? sprintf(text + length, "%%%02x", (unsigned int)*at)
		                       : sprintf(text + length, "%c", *at));
	FUZZ_CHECK(find(routes, host, text) == found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	struct routes *routes = NULL;

	if (size > FUZZ_INPUT_MAX)
		return 0;
	unsigned int wanted = fuzz_byte(&input);
	FUZZ_CHECK(routes_new(&routes) == 0);
	unsigned int added = add_routes(routes, &input, wanted % ROUTES);
	if ((wanted & 128) != 0)
		routes_set_default(routes, DEFAULT);
	while (input.left > 0) {
		char *host = next_line(&input), *path = next_line(&input);
		int found = find(routes, host, path);
		FUZZ_CHECK(found == -EINVAL || (found >= 0 && (unsigned int)found < added) ||
		           found == ((wanted & 128) != 0 ? DEFAULT : -ENOENT));
		check_same(routes, host, path, found);
		free(host);
		free(path);
	}
	routes_free(routes);
	return 0;
}
