#include "programs/ferry-proxy/routes.h"

#include "programs/ferry-proxy/host_pattern.h"
#include "programs/ferry-proxy/sorted.h"
#include "programs/http/head.h"
#include "programs/http/path.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { NO_DEFAULT = -1 };

struct route {
	struct host_pattern host;
	char *path; /* normal; empty: any */
	size_t path_length;
	unsigned int service;
};

struct routes {
	struct sorted all; /* struct route; the first one that fits is taken */
	bool any_path;     /* a route has one */
	int default_service;
};

static struct route *route_at(const struct routes *routes, size_t index)
{
	return (struct route *)routes->all.items + index;
}

/* Decodes one segment, and moves `*at` to its end. Its length, or -EINVAL. */
static int decode_segment(const char *path, size_t length, size_t *at, char *out)
{
	int used = 0;
	while (*at < length && path[*at] != '/') {
		char c = path[*at];
		if (c == '%') {
			if (http_path_decode_escape(path + *at, length - *at, &c) < 0)
				return -EINVAL;
			*at += 2;
		}
		if (c == '\0')
			return -EINVAL;
		*at += 1;
		out[used++] = c;
	}
	return used;
}

/* The normal form has a slash before each segment and none at the end; the root is empty. `out` has room
 * for one byte more than the path. The length, or -EINVAL. */
static int normalise_path(const char *path, size_t length, char *out)
{
	size_t used = 0;
	for (size_t at = 0; at < length;) {
		if (path[at] == '/') {
			at++;
			continue;
		}
		char *segment = out + used + 1;
		int decoded = decode_segment(path, length, &at, segment);
		if (decoded < 0 || (decoded == 2 && memcmp(segment, "..", 2) == 0))
			return -EINVAL;
		if (decoded == 1 && segment[0] == '.')
			continue;
		out[used] = '/';
		used += 1 + (size_t)decoded;
	}
	return (int)used;
}

/* The length up to the colon of the port; the whole length without a port. */
static size_t length_without_port(const char *host, size_t length)
{
	size_t digits = length;
	while (digits > 0 && host[digits - 1] >= '0' && host[digits - 1] <= '9')
		digits--;
	return digits > 0 && host[digits - 1] == ':' ? digits - 1 : length;
}

int routes_new(struct routes **out)
{
	*out = calloc(1, sizeof(**out));
	if (*out == NULL)
		return -ENOMEM;
	(*out)->default_service = NO_DEFAULT;
	return 0;
}

static int set_route_path(struct route *route, const char *path)
{
	if (path == NULL)
		path = "/";
	size_t length = strlen(path);
	if (path[0] != '/' || length > HTTP_HEAD_LIMIT)
		return -EINVAL;
	for (size_t i = 0; i < length; i++)
		if (path[i] <= ' ' || path[i] >= 0x7f || path[i] == '?' || path[i] == '#')
			return -EINVAL;
	route->path = malloc(length + 1);
	if (route->path == NULL)
		return -ENOMEM;
	int normal = normalise_path(path, length, route->path);
	if (normal < 0)
		return -EINVAL;
	route->path_length = (size_t)normal;
	return 0;
}

/* For the same host the longer path is tried first. */
static int compare_routes(const void *first, const void *second)
{
	const struct route *a = first, *b = second;
	int order = host_pattern_compare(&a->host, &b->host);
	if (order != 0)
		return order;
	if (a->path_length != b->path_length)
		return a->path_length > b->path_length ? -1 : 1;
	return memcmp(a->path, b->path, a->path_length);
}

int routes_add(struct routes *routes, const char *host, const char *path, unsigned int service)
{
	struct route route = {.service = service};
	int status = host_pattern_set(&route.host, host);
	if (status == 0)
		status = set_route_path(&route, path);
	if (status == 0)
		status = sorted_insert(&routes->all, &route, sizeof(route), compare_routes);
	if (status < 0) {
		host_pattern_free(&route.host);
		free(route.path);
		return status;
	}
	routes->any_path = routes->any_path || route.path_length > 0;
	return 0;
}

bool routes_host_is_fine(const char *host)
{
	struct host_pattern pattern;
	int status = host_pattern_set(&pattern, host);
	host_pattern_free(&pattern);
	return status == 0;
}

bool routes_path_is_fine(const char *path)
{
	struct route route = {.service = 0};
	int status = set_route_path(&route, path);
	free(route.path);
	return status == 0;
}

void routes_renumber(struct routes *routes, const unsigned int *services)
{
	for (size_t i = 0; i < routes->all.count; i++)
		route_at(routes, i)->service = services[route_at(routes, i)->service];
}

void routes_set_default(struct routes *routes, unsigned int service)
{
	routes->default_service = (int)service;
}

static bool path_fits(const struct route *route, const char *path, size_t length)
{
	return length >= route->path_length && memcmp(path, route->path, route->path_length) == 0 &&
	       (length == route->path_length || path[route->path_length] == '/');
}

int routes_find(const struct routes *routes, const char *host, size_t host_length, const char *path,
                size_t path_length)
{
	char normal_host[HOST_NAME_MAX_LENGTH + 1];
	char normal_path[HTTP_HEAD_LIMIT + 1];
	int path_used = 0, otherwise = routes->default_service;
	if (otherwise == NO_DEFAULT)
		otherwise = -ENOENT;
	if (routes->all.count == 0)
		return otherwise;
	if (routes->any_path) {
		path_used = path_length <= HTTP_HEAD_LIMIT ? normalise_path(path, path_length, normal_path)
		                                           : -EINVAL;
		if (path_used < 0)
			return -EINVAL;
	}
	/* A malformed host fits only routes for any host. */
	int host_used = host_normalise(host, length_without_port(host, host_length), normal_host);
	if (host_used < 0)
		host_used = 0;
	for (size_t i = 0; i < routes->all.count; i++) {
		const struct route *route = route_at(routes, i);
		if (host_pattern_fits(&route->host, normal_host, (size_t)host_used) &&
		    path_fits(route, normal_path, (size_t)path_used))
			return (int)route->service;
	}
	return otherwise;
}

int routes_find_head(const struct routes *routes, const struct http_head *head, const char *text)
{
	struct http_slice host = head->authority.length > 0 ? head->authority : head->host;
	return routes_find(routes, text + host.start, host.length, text + head->path.start,
	                   head->path.length);
}

void routes_free(struct routes *routes)
{
	if (routes == NULL)
		return;
	for (size_t i = 0; i < routes->all.count; i++) {
		host_pattern_free(&route_at(routes, i)->host);
		free(route_at(routes, i)->path);
	}
	free(routes->all.items);
	free(routes);
}
