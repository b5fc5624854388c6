#ifndef FERRY_PROGRAMS_FERRY_PROXY_DEMO_H
#define FERRY_PROGRAMS_FERRY_PROXY_DEMO_H

/* The option --demo: a page of the admin address whose button kills a worker by SIGKILL, for a demonstration.
 *
 *     GET  /-/demo        the page, which pages of the proxy's own listeners may show in a frame
 *     POST /-/demo/kill   the button: kills the worker that has run longest, and redirects to the page
 *
 * Another page in the same browser cannot press it:
 *
 * - The address is on loopback; demo_new() refuses others.
 * - The Host field must be that address: a name that resolves to it (DNS rebinding) is refused, for the page too, which
 *   has the token.
 * - The request must be a POST, with the Origin of this address, and with the token of this process.
 * - Only pages of the listeners may show the page in a frame. */

#include "programs/ferry-proxy/report.h"
#include <ferry/address.h>

struct demo;
struct evhttp_request;

/* `admin` is the address of the admin's socket, `frames` the sources that may show the page in a frame, as in the
 * Content-Security-Policy ("http://127.0.0.1:8080"); copied. 0, or -EINVAL: the address is not on loopback; -ENOMEM;
 * or the errno of getrandom(2). */
int demo_new(struct demo **out, const struct ferry_address *admin, const char *frames);

/* Whether the path is one of the demo. */
bool demo_has_path(const char *path);

/* Answers a request for such a path. */
void demo_answer(struct demo *demo, struct evhttp_request *request, const char *path,
                 const struct snapshot *snapshot);

/* NULL: does nothing. */
void demo_free(struct demo *demo);

#endif
