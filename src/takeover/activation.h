#ifndef FERRY_TAKEOVER_ACTIVATION_H
#define FERRY_TAKEOVER_ACTIVATION_H

/* The variables by which sockets are passed to a process that is started: LISTEN_PID says to which,
 * LISTEN_FDS how many from 3 on, LISTEN_FDNAMES what they are called. */

#include <stdbool.h>

enum { ACTIVATION_FIRST_FD = 3 };

/* Reads them, and makes the descriptors close-on-exec. How many there are, 0: none for this process, or
 * -EINVAL, -EBADF or -ENOMEM. `names`, where there are some: an array that ends with NULL; it and each of
 * them is to be freed.
 *
 * It is there twice, and one is in the library: activation_systemd.c and activation_environment.c. */
int activation_read(char ***names, bool unset);

#endif
