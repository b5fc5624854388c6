#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_LISTEN_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_LISTEN_H

/* The directive "listen", and addresses and permissions of sockets. False: the reader has the error. */

#include "programs/ferry-proxy/conf_reader.h"

/* "listen ADDRESS|systemd:NAME [proxy-protocol] [from=LIST] [mode=OCTAL] [group=NAME]". */
bool conf_listen_add(struct conf_reader *reader, char **words, size_t count);

bool conf_listen_address(struct conf_reader *reader, const char *word,
                         struct socket_address *address);

/* "user" and "group": names; a group may be a number. */
bool conf_listen_user(struct conf_reader *reader, const char *word);
bool conf_listen_group(struct conf_reader *reader, const char *word, gid_t *group);

/* The values of mode= and group=; NULL: the default. */
bool conf_listen_access(struct conf_reader *reader, const char *mode, const char *group,
                        struct conf_access *access);

#endif
