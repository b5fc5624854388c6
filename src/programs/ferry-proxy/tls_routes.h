#ifndef FERRY_PROGRAMS_FERRY_PROXY_TLS_ROUTES_H
#define FERRY_PROGRAMS_FERRY_PROXY_TLS_ROUTES_H

/* The routes of TLS clients to services, by their ClientHello.
 *
 * A route has a server name (SNI) or takes any client; an application protocol (ALPN) or takes any; and the number of a
 * service. Of the routes that fit a client, those with the most specific name win: a whole name before
 * "*.example.org", a longer such name before a shorter one, any name last. Among routes for one name the order of the
 * client's protocols decides; a route without a protocol comes last. If no route for that name has one of the protocols,
 * those for less specific names are tried.
 *
 * Only routes for any name fit a client without a server name. */

#include <stdbool.h>

struct ferry_client_hello;
struct tls_routes;

/* The number of protocols of a client that are compared: its first ones. */
enum { TLS_ROUTES_PROTOCOLS = 32 };

/* 0 or -ENOMEM. */
int tls_routes_new(struct tls_routes **out);

/* Adds a route; the texts are copied. `name` and `protocol`: NULL for any. 0, or -EINVAL: the name is neither one nor
 * "*." and one; or the protocol has no byte or more than 255; -EEXIST: there is a route for the same two; -ENOMEM. */
int tls_routes_add(struct tls_routes *routes, const char *name, const char *protocol,
                   unsigned int service);

/* Whether tls_routes_add() would take the name. */
bool tls_routes_name_is_fine(const char *name);

/* Replaces the service `n` of each route by `services[n]`. */
void tls_routes_renumber(struct tls_routes *routes, const unsigned int *services);

/* Sets the service of clients that no route takes. */
void tls_routes_set_default(struct tls_routes *routes, unsigned int service);

/* Whether there is neither a route nor a default. */
bool tls_routes_are_empty(const struct tls_routes *routes);

/* The service, or -ENOENT: no route is for the server name; -EPROTONOSUPPORT: some are, and none for a protocol that the
 * client offers. */
int tls_routes_find(const struct tls_routes *routes, const struct ferry_client_hello *hello);

/* NULL: does nothing. */
void tls_routes_free(struct tls_routes *routes);

#endif
