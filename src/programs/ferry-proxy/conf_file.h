#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_FILE_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_FILE_H

/* The configuration file of ferry-proxy.
 *
 * A line is a directive and its arguments, separated by blanks. "#" at the start of a word begins a
 * comment. Double quotes around a word, or around a part of one, keep its blanks; within them \" and \\
 * are a quote and a backslash. ferry-proxy.conf has every directive.
 *
 *     listen ADDRESS [proxy-protocol]     repeated; ADDRESS as in socket_address.h
 *     service NAME [root=DIRECTORY] [workers=N] [socket=PATH] [choice=least|round-robin|by-client]
 *     route [host=HOST] [path=/PREFIX] SERVICE      repeated; see routes.h
 *     default SERVICE                     for a request that no route takes; else the first service
 *     admin ADDRESS
 *     control PATH
 *     queue N              retry-after SECONDS
 *     queue-timeout MS     head-timeout SECONDS
 *     answer-timeout MS    drain-timeout SECONDS
 *     max-clients N        idle-timeout SECONDS
 *     keep SECONDS
 *
 * Every refusal is one line of text with the place, the word and the expected value:
 *
 *     ferry-proxy.conf:12: queue: '0' is not a number from 1 to 1000000
 *     --queue: '0' is not a number from 1 to 1000000
 */

#include "programs/ferry-proxy/conf_reader.h"

enum { CONF_LINE_MAX = 4096, CONF_FILE_MAX = 1048576 };

/* Runs the directives of a text, or of a file. False: the reader has the error. */
bool conf_file_read_text(struct conf_reader *reader, const char *text, size_t length);
bool conf_file_read(struct conf_reader *reader, const char *path);

/* Reads a text as if it were the file `name`, without a command line. CONF_OK or CONF_BAD; `conf` and
 * `error` as for conf_read(). */
enum conf_result conf_read_text(struct conf *conf, const char *name, const char *text,
                                size_t length, char *error);

#endif
