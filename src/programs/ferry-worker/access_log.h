#ifndef FERRY_PROGRAMS_FERRY_WORKER_ACCESS_LOG_H
#define FERRY_PROGRAMS_FERRY_WORKER_ACCESS_LOG_H

/* A line for each answer, in a file that several processes may write to: each line is one write(2) to a
 * file opened for appending.
 *
 *     203.0.113.7:50412 - - [20/Nov/2026:12:00:00 +0000] "GET /guide.md HTTP/1.1" 200 6714
 *
 * The number at the end is the length of the file or part of it that is sent, 0 if it is none. A line is
 * written when its answer begins. */

#include <stddef.h>
#include <stdint.h>

struct access_log {
	int fd;
};

/* Opens the file, or makes it. 0, or what open(2) said. */
int access_log_open(struct access_log *log, const char *path);

/* `request` is the request line, "-" if there was none to be understood. */
void access_log_add(const struct access_log *log, const char *client, const char *request,
                    size_t request_length, int status, uint64_t length);

void access_log_close(struct access_log *log);

#endif
