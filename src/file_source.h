#ifndef FERRY_FILE_SOURCE_H
#define FERRY_FILE_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * The next piece of a file.
 *
 * Non-blocking sendfile(2) with an offset of our own, so that the file's position stays where it is;
 * or, when the user asked for that, at the file's position, which moves by what was sent.
 */
struct file_source {
	int fd;
	bool at_position;   /* read at the file's own position */
	int64_t offset;     /* of the next byte, unless at_position */
	bool open_ended;    /* a device, whose end shows only when it comes */
	uint64_t remaining; /* bytes still to be sent */
};

/*
 * Checks a file and a range of it, as ferry_transport_send_file() documents, and sets up `source`
 * with `fd`, which stays the caller's.
 */
int file_source_init(struct file_source *source, int fd, int64_t offset, int64_t length);

/*
 * Sends up to `max` bytes to `out_fd`; SIGPIPE is the caller's to keep off. Never asks for more than
 * the file has left: the kernel would hold the tail back and wait for more.
 *   > 0  bytes sent
 *   0    the file has ended early
 *   < 0  negative errno
 */
ssize_t file_source_send(struct file_source *source, int out_fd, size_t max);

/* Copies the next bytes, without moving on. As file_source_send() otherwise. */
ssize_t file_source_peek(const struct file_source *source, void *buffer, size_t max);

/* Moves on by `count` bytes that were sent after a peek. */
void file_source_skip(struct file_source *source, size_t count);

#endif
