#ifndef FERRY_TESTS_TAKEOVER_PAIR_H
#define FERRY_TESTS_TAKEOVER_PAIR_H

/* The two ends of a takeover, and a set of listening sockets for the old one. */

#include <stddef.h>

#include "listening.h"

extern struct takeover_end old_end, new_end;
extern struct ferry_socket_set *old_set; /* the old process's */

extern int takeover_fds[2];

void add_to_set(const char *name, int fd);

/* A set with one of each family, the two TCP ones under one name. */
void open_set(void);
void close_all(void);
void free_takeover(struct takeover_end *end);

#endif
