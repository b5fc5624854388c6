#ifndef FERRY_TESTS_WIRE_H
#define FERRY_TESTS_WIRE_H

/* The far end of a connection in bare system calls: no code of ferry's judges the bytes that ferry
 * sends. Also descriptors that hold a number, to identify them after they were sent. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The kernel's SCM_MAX_FD. */
enum { WIRE_MAX_FDS = 253 };

/* A memfd with a number inside. */
int make_marked_fd(uint32_t number);

/* The number inside; fails the test when there is none. Does not move the file's position. */
uint32_t marked_number(int fd);

/* One recvmsg(2) with room for everything. `bytes` is negative errno on failure. */
struct wire_read {
	ssize_t bytes;
	bool truncated; /* MSG_CTRUNC */
	size_t fd_count;
	int fds[WIRE_MAX_FDS];
};
void wire_receive(int socket, void *buffer, size_t size, struct wire_read *result);
void wire_close_fds(struct wire_read *result);

/* One sendmsg(2) with MSG_NOSIGNAL. Returns the count of bytes taken, or a negative errno. */
ssize_t wire_send(int socket, const void *bytes, size_t length, const int *fds, size_t fd_count);

/* Fills a socket or pipe with support_byte() of 0, 1, … until it takes no more. Returns the count
 * of bytes it took. */
size_t wire_fill(int fd);

/* Reads and throws away bytes until EAGAIN, end or error, and closes descriptors. Returns the count
 * of bytes. */
size_t wire_drain(int socket);

/* Writes and reads bytes of support_byte() counted from `position`. wire_expect() fails the test when
 * other bytes come; it returns what read(2) does, or negative errno. */
void wire_put(int fd, uint64_t position, size_t length);
ssize_t wire_expect(int fd, uint64_t position, size_t size);

/* The smallest buffers that the kernel allows. */
void wire_shrink(int socket);

/* Lets this process open only `free_numbers` descriptors more, until unlimit_descriptors(). */
void limit_descriptors(unsigned int free_numbers);
void unlimit_descriptors(void);

/* Makes room for a test with thousands of descriptors, as far as the hard limit goes. */
void raise_descriptor_limit(void);

#endif
