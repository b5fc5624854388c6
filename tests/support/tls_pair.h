#ifndef FERRY_TESTS_TLS_PAIR_H
#define FERRY_TESTS_TLS_PAIR_H

/* Two connected sockets of TCP with TLS in the kernel, and keys that nobody has agreed on by a handshake. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* 0; or the reason why this kernel has none, as text. `version`: 0x0303 or 0x0304. */
const char *make_tls_pair(int fds[2], uint16_t version);

/* The records of one direction of one socket: 1 for sending, 2 for receiving. */
void use_tls_keys(int fd, int direction, uint16_t version);

/* Sends a record that is no data. Returns the number of bytes or a negative errno; tls_put() fails unless it is sent
 * whole. */
ssize_t tls_send(int fd, unsigned char type, const void *bytes, size_t length);
void tls_put(int fd, unsigned char type, const void *bytes, size_t length);

/* Reads the next records of one type. Returns the number of bytes or a negative errno; the type is 0 at the end. */
ssize_t tls_get(int fd, void *bytes, size_t size, unsigned char *type);

#endif
