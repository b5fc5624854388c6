#ifndef FERRY_PROGRAMS_FERRY_PROXY_ROUTES_H
#define FERRY_PROGRAMS_FERRY_PROXY_ROUTES_H

/* Which service gets a request.
 *
 * A route has a host, or any; a path prefix, or any; and a number, that of its service. Of the routes
 * that fit a request the one with the most particular host wins: a whole name before "*.example.org",
 * a longer such name before a shorter one, any host last; of several, the one with the longest prefix.
 * So a route for any host still takes "/status" of a host whose own routes are about other paths.
 *
 * Hosts are compared without their case, port and trailing dot. "*.example.org" is every name below
 * example.org, however deep, and not example.org itself.
 *
 * Prefixes end at a slash of the path, or at its end: "/admin" is "/admin", "/admin/" and "/admin/x",
 * not "/administrator". What is compared is what a worker would open: escapes decoded, "." segments and
 * repeated slashes taken out, so that "/%61dmin", "//admin" and "/./admin" are all "/admin". Where
 * programs differ in what a path means, it is refused: ".." segments, which a file system resolves
 * after symbolic links and a text before; "%2F"; escapes that are none. Without a route that has a
 * path, the path is not looked at: then there is nothing to be tricked into.
 *
 * A look-up is linear in the number of routes and takes no memory from the heap. */

#include <stdbool.h>
#include <stddef.h>

struct http_head;
struct conf;
struct routes;

/* 0 or -ENOMEM. */
int routes_new(struct routes **out);

/* The routes of a configuration, with the indices of its services; 0 or -ENOMEM. */
int routes_from_conf(struct routes **out, const struct conf *conf);

/*
 * Adds a route; texts are copied. `host`: NULL for any; `path`: NULL for any. 0, or -EINVAL: the host is
 * neither a name, a numeric address nor "*." and a name, or has a port, or the path does not start with
 * a slash, is not in the form of RFC 3986, or would be refused in a request; -EEXIST: there is one for
 * the same host and path; -ENOMEM.
 */
int routes_add(struct routes *routes, const char *host, const char *path, unsigned int service);

/* Whether these would be taken. */
bool routes_host_is_fine(const char *host);
bool routes_path_is_fine(const char *path);

/* What no route takes goes to this one; without a default, to none. */
void routes_set_default(struct routes *routes, unsigned int service);

/* The service, or -ENOENT: no route fits, and there is no default (404); -EINVAL: a path that is refused
 * (400). `host` is as it stands in a Host field, empty if there was none; `path` is still encoded. */
int routes_find(const struct routes *routes, const char *host, size_t host_length, const char *path,
                size_t path_length);

/* The same for a request head: the host of its target if that has one (RFC 9112 section 3.2.2), else
 * that of its Host field. */
int routes_find_head(const struct routes *routes, const struct http_head *head, const char *text);

/* NULL: nothing happens. */
void routes_free(struct routes *routes);

#endif
