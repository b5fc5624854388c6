#ifndef FERRY_PROGRAMS_FERRY_PROXY_ROUTES_H
#define FERRY_PROGRAMS_FERRY_PROXY_ROUTES_H

/* The routes of requests to services.
 *
 * A route has a host, or takes any; a path prefix, or takes any; and the number of a service. Of the routes
 * that fit a request, the one with the most specific host wins: a whole name before "*.example.org", a
 * longer such name before a shorter one, any host last. Of several routes for that host, the one with the
 * longest prefix wins. A route for any host still takes "/status" of a host whose own routes have other
 * paths.
 *
 * Hosts are compared without case, port and trailing dot. "*.example.org" is every name below example.org,
 * at any depth, and not example.org itself.
 *
 * A prefix ends at a slash of the path, or at the end of the path: "/admin" fits "/admin", "/admin/" and
 * "/admin/x", and does not fit "/administrator". The path is compared as a worker would open it, with
 * escapes decoded, and without "." segments and repeated slashes: "/%61dmin", "//admin" and "/./admin" are
 * all "/admin". A path that programs interpret differently is refused: one with ".." segments, which a
 * file system resolves after symbolic links and a text comparison before them; one with "%2F"; one with
 * invalid escapes. If no route has a path, the path is not examined: no request can be misrouted by it.
 *
 * A look-up takes time linear in the number of routes, and no memory from the heap. */

#include <stdbool.h>
#include <stddef.h>

struct http_head;
struct routes;

/* 0 or -ENOMEM. */
int routes_new(struct routes **out);

/*
 * Adds a route; the texts are copied. `host`: NULL for any; `path`: NULL for any. 0, or
 * -EINVAL: the host is neither a name, a numeric address, nor "*." and a name, or it has a port; or the
 * path does not start with a slash, is not in the form of RFC 3986, or would be refused in a request;
 * -EEXIST: there is a route for the same host and path; -ENOMEM.
 */
int routes_add(struct routes *routes, const char *host, const char *path, unsigned int service);

/* Whether routes_add() would take the host, or the path. */
bool routes_host_is_fine(const char *host);
bool routes_path_is_fine(const char *path);

/* Replaces the service `n` of each route by `services[n]`. */
void routes_renumber(struct routes *routes, const unsigned int *services);

/* Sets the service for requests that no route takes. */
void routes_set_default(struct routes *routes, unsigned int service);

/* The service, or -ENOENT: no route fits, and there is no default (404); -EINVAL: the path is refused
 * (400). `host` is the value of a Host field, empty without one; `path` is still encoded. */
int routes_find(const struct routes *routes, const char *host, size_t host_length, const char *path,
                size_t path_length);

/* The same for a request head. The host is that of the target, if the target has one (RFC 9112 section
 * 3.2.2), else that of the Host field. */
int routes_find_head(const struct routes *routes, const struct http_head *head, const char *text);

/* NULL: does nothing. */
void routes_free(struct routes *routes);

#endif
