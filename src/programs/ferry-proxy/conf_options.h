#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_OPTIONS_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_OPTIONS_H

/* The command line of ferry-proxy.
 *
 * An option replaces the directive of the same name in the file: --listen, --admin, --control, --queue and
 * the others. --socket, --root and --workers describe the one service of a proxy whose file has none, or
 * that has no file. --address and --port are a shorter form of --listen. */

#include "programs/ferry-proxy/conf.h"

extern const char conf_usage[];

/*
 * Reads the command line, and the file that --config names. `conf` need not be initialised. After CONF_OK
 * and CONF_CHECK the caller frees it; after the other results it is empty. The caller may read the same
 * arguments again into another `conf`, to get the present content of the file. `error` has room for
 * CONF_ERROR_SIZE bytes; with NULL the message is dropped.
 */
enum conf_result conf_read(struct conf *conf, int argc, char **argv, char *error);

#endif
