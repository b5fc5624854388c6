#ifndef FERRY_PROGRAMS_FERRY_PROXY_HOST_PATTERN_H
#define FERRY_PROGRAMS_FERRY_PROXY_HOST_PATTERN_H

/* The hosts that a route is for: one name, all names below one, or any host.
 *
 * Hosts are compared without case and trailing dot. "*.example.org" is every name below example.org, at any depth, and
 * not example.org itself. */

#include <stdbool.h>
#include <stddef.h>

enum { HOST_NAME_MAX_LENGTH = 253 };

/* In the order in which routes are tried. */
enum host_kind { HOST_EXACT, HOST_BELOW, HOST_ANY };

struct host_pattern {
	enum host_kind kind;
	char *text; /* in the normal form; of HOST_BELOW with the dot, ".example.org"; NULL: any */
	size_t length;
};

/* NULL: any host. 0, or -EINVAL: the text is neither a name, a numeric address, nor "*." and a name, or it has a port;
 * -ENOMEM. After a failure there is nothing to free. */
int host_pattern_set(struct host_pattern *pattern, const char *host);

void host_pattern_free(struct host_pattern *pattern);

/* Negative: `a` is more specific than `b`, and is tried first. 0: they are equal. */
int host_pattern_compare(const struct host_pattern *a, const struct host_pattern *b);

/* Writes the normal form of a host without a port. The length, or -EINVAL: it is neither a name nor an address. */
int host_normalise(const char *host, size_t length, char out[HOST_NAME_MAX_LENGTH + 1]);

/* Whether a host in the normal form is one of the pattern. With the length 0 it is one of any host. */
bool host_pattern_fits(const struct host_pattern *pattern, const char *host, size_t length);

#endif
