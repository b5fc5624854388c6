#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_DIRECTIVES_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_DIRECTIVES_H

/* The directives of the configuration: each checks its arguments and writes a member of the
 * configuration. A file and a command line run the same ones. */

#include "programs/ferry-proxy/conf_reader.h"

/* Runs a directive. `words` are its `count` arguments. False: the reader has the error. */
bool conf_directive_run(struct conf_reader *reader, enum directive directive, char **words,
                        size_t count);

/* Checks after the last directive that nothing is missing, and finds the services that routes name. False:
 * the reader has the error. */
bool conf_directives_finish(struct conf_reader *reader);

#endif
