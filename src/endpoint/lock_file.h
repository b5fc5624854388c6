#ifndef FERRY_ENDPOINT_LOCK_FILE_H
#define FERRY_ENDPOINT_LOCK_FILE_H

/* The lock beside a unix socket's path: the file PATH.lock, locked by flock(2) for as long as the socket
 * has an owner. `name` is the socket's, in the directory; every function adds the `.lock` by itself. */

/* Wins the lock: a descriptor, which holds it in every process that gets a copy, until the last of them
 * is closed. -EADDRINUSE: somebody has it. -EPERM: the file is another user's, has another name, or holds
 * what no lock holds. Else what openat(2), flock(2), fstat(2) or fchmod(2) said; -ELOOP: it is a symbolic
 * link. */
int lock_file_acquire(int directory, const char *name);

/* Writes down which process has it, for people: nobody here reads it. */
void lock_file_sign(int fd);

/* Gives it up and removes the file, if that is still the one that is locked. */
void lock_file_remove(int directory, const char *name, int fd);

#endif
