#ifndef FERRY_TAKEOVER_ACTIVATION_READER_H
#define FERRY_TAKEOVER_ACTIVATION_READER_H

#include <stdbool.h>

/*
 * The variables that pass sockets to a process that is started: LISTEN_PID is the process they are for,
 * LISTEN_FDS the number of descriptors from 3 on, LISTEN_FDNAMES their names.
 *
 * Two files define the function, and the build takes one of them: activation_systemd.c with libsystemd,
 * activation_environment.c without.
 */

enum { ACTIVATION_FIRST_FD = 3 };

/* Reads the variables, and makes the descriptors close-on-exec. Returns how many there are, 0 if none
 * is for this process, or -EINVAL, -EBADF or -ENOMEM. With descriptors, `names` gets an array that ends
 * with NULL; the caller frees it and each of its strings. `unset` removes the variables from the
 * environment. */
int activation_read(char ***names, bool unset);

#endif
