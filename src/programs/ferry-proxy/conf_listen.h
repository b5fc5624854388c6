#ifndef FERRY_PROGRAMS_FERRY_PROXY_CONF_LISTEN_H
#define FERRY_PROGRAMS_FERRY_PROXY_CONF_LISTEN_H

/* The settings of addresses, and of those who may use them. False: the reader has the error. */

#include "programs/ferry-proxy/conf.h"

/* "listen ADDRESS|systemd:NAME [proxy-protocol] [tls-passthrough] [from=LIST] [mode=OCTAL] [group=NAME]". */
bool conf_listen_add(struct settings_reader *reader, char **words, size_t count);

bool conf_listen_admin(struct settings_reader *reader, const char *word);

/* "user" and "group": names; a group may be a number. */
bool conf_listen_user(struct settings_reader *reader, const char *word);
bool conf_listen_group(struct settings_reader *reader, const char *word);

/* The values of mode= and group=; NULL: the default. */
bool conf_listen_access(struct settings_reader *reader, const char *mode, const char *group,
                        struct conf_access *access);

#endif
