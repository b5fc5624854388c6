#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_RELOAD_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_RELOAD_H

/* A new configuration in the place of the one that is in use. A proxy that runs takes over routes, numbers and the
 * addresses after from=; sockets, services and files are opened at the start only, and changes of those need an
 * upgrade. */

#include "programs/ferry-proxy/conf.h"

/* NULL: `fresh` can take the place of `conf`. Otherwise what it changes and a running proxy cannot, static text. */
const char *conf_reload_obstacle(const struct conf *conf, const struct conf *fresh);

/* Exchanges both. The texts that others refer to stay in `conf`: those of services and files. */
void conf_reload_exchange(struct conf *conf, struct conf *fresh);

#endif
