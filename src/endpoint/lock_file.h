#ifndef FERRY_ENDPOINT_LOCK_FILE_H
#define FERRY_ENDPOINT_LOCK_FILE_H

/* The lock of a unix socket's path: the file PATH.lock, locked by flock(2) for as long as the socket has an
 * owner. `name` is that of the socket in the directory; each function adds `.lock` to it. */

/* Returns a descriptor that has the lock, as has every copy of it in any process, until the last copy is closed.
 * -EADDRINUSE: another process has the lock. -EPERM: the file belongs to another user and this one is
 * not root, has a second name, or contains more than the lock does. -ELOOP: the file is a symbolic link. Otherwise
 * an error of openat(2), flock(2), fstat(2), fchmod(2) or unlinkat(2). Root replaces the lock of another user that
 * no process has. */
int lock_file_acquire(int directory, const char *name);

/* Writes the process id into the file, for people: ferry does not read it. */
void lock_file_sign(int fd);

/* Closes the descriptor, and removes the file if that is still the one that is locked. */
void lock_file_remove(int directory, const char *name, int fd);

#endif
