#include "programs/ferry-proxy/tls_routes.h"

#include "programs/ferry-proxy/host_pattern.h"
#include "programs/ferry-proxy/sorted.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <ferry/client_hello.h>

enum { NO_DEFAULT = -1, PROTOCOL_MAX = 255 };

struct tls_route {
	struct host_pattern name;
	char *protocol; /* NULL: any */
	unsigned int service;
};

struct tls_routes {
	/* struct tls_route; those for one name follow each other, the most specific name first */
	struct sorted all;
	int default_service;
};

/* What the client asks for. */
struct wish {
	char name[HOST_NAME_MAX_LENGTH + 1]; /* in the normal form */
	size_t length;                       /* 0: no name, or one of no host */
	struct ferry_client_hello_protocol protocols[TLS_ROUTES_PROTOCOLS];
	unsigned int count;
};

static struct tls_route *route_at(const struct tls_routes *routes, size_t index)
{
	return (struct tls_route *)routes->all.items + index;
}

int tls_routes_new(struct tls_routes **out)
{
	*out = calloc(1, sizeof(**out));
	if (*out == NULL)
		return -ENOMEM;
	(*out)->default_service = NO_DEFAULT;
	return 0;
}

static void free_route(struct tls_route *route)
{
	host_pattern_free(&route->name);
	free(route->protocol);
}

static int fill_route(struct tls_route *route, const char *name, const char *protocol)
{
	if (protocol != NULL && (protocol[0] == '\0' || strlen(protocol) > PROTOCOL_MAX))
		return -EINVAL;
	if (name != NULL && name[0] == '[') /* RFC 6066: the server name is no address */
		return -EINVAL;
	int status = host_pattern_set(&route->name, name);
	if (status < 0 || protocol == NULL)
		return status;
	route->protocol = strdup(protocol);
	return route->protocol != NULL ? 0 : -ENOMEM;
}

static int compare_routes(const void *first, const void *second)
{
	const struct tls_route *a = first, *b = second;
	int order = host_pattern_compare(&a->name, &b->name);
	if (order != 0)
		return order;
	if (a->protocol == NULL || b->protocol == NULL)
		return (a->protocol == NULL) - (b->protocol == NULL);
	return strcmp(a->protocol, b->protocol);
}

int tls_routes_add(struct tls_routes *routes, const char *name, const char *protocol,
                   unsigned int service)
{
	struct tls_route route = {.service = service};
	int status = fill_route(&route, name, protocol);
	if (status == 0)
		status = sorted_insert(&routes->all, &route, sizeof(route), compare_routes);
	if (status < 0)
		free_route(&route);
	return status;
}

bool tls_routes_name_is_fine(const char *name)
{
	struct tls_route route = {.service = 0};
	int status = fill_route(&route, name, NULL);
	free_route(&route);
	return status == 0;
}

void tls_routes_renumber(struct tls_routes *routes, const unsigned int *services)
{
	for (size_t i = 0; i < routes->all.count; i++)
		route_at(routes, i)->service = services[route_at(routes, i)->service];
}

void tls_routes_set_default(struct tls_routes *routes, unsigned int service)
{
	routes->default_service = (int)service;
}

bool tls_routes_are_empty(const struct tls_routes *routes)
{
	return routes->all.count == 0 && routes->default_service == NO_DEFAULT;
}

/* ---- the look-up ---- */

static void read_wish(const struct ferry_client_hello *hello, struct wish *wish)
{
	struct ferry_client_hello_info info;
	ferry_client_hello_get_info(hello, &info);
	int length = -EINVAL;
	if (info.server_name != NULL)
		length = host_normalise(info.server_name, strlen(info.server_name), wish->name);
	wish->length = length > 0 ? (size_t)length : 0;
	wish->count = 0;
	while (wish->count < TLS_ROUTES_PROTOCOLS &&
	       ferry_client_hello_get_protocol(&wish->protocols[wish->count], hello, wish->count) == 0)
		wish->count++;
}

static bool has_protocol(const struct tls_route *route,
                         const struct ferry_client_hello_protocol *protocol)
{
	return route->protocol != NULL && strlen(route->protocol) == protocol->length &&
	       memcmp(route->protocol, protocol->name, protocol->length) == 0;
}

/* The route for one of the protocols, in the client's order, or for any. `group` are the routes for one name. */
static const struct tls_route *find_protocol(const struct tls_route *group, size_t count,
                                             const struct wish *wish)
{
	for (unsigned int i = 0; i < wish->count; i++)
		for (size_t j = 0; j < count; j++)
			if (has_protocol(&group[j], &wish->protocols[i]))
				return &group[j];
	return group[count - 1].protocol == NULL ? &group[count - 1] : NULL;
}

int tls_routes_find(const struct tls_routes *routes, const struct ferry_client_hello *hello)
{
	struct wish wish;
	int status = -ENOENT;
	size_t count;
	read_wish(hello, &wish);
	for (size_t i = 0; i < routes->all.count; i += count) {
		const struct tls_route *group = route_at(routes, i);
		count = 1;
		while (i + count < routes->all.count &&
		       host_pattern_compare(&group->name, &group[count].name) == 0)
			count++;
		if (!host_pattern_fits(&group->name, wish.name, wish.length))
			continue;
		const struct tls_route *route = find_protocol(group, count, &wish);
		if (route != NULL)
			return (int)route->service;
		if (group->name.kind != HOST_ANY)
			status = -EPROTONOSUPPORT;
	}
	return routes->default_service != NO_DEFAULT ? routes->default_service : status;
}

void tls_routes_free(struct tls_routes *routes)
{
	if (routes == NULL)
		return;
	for (size_t i = 0; i < routes->all.count; i++)
		free_route(route_at(routes, i));
	free(routes->all.items);
	free(routes);
}
