#ifndef FERRY_PROGRAMS_FERRY_WORKER_ACCESS_LOG_H
#define FERRY_PROGRAMS_FERRY_WORKER_ACCESS_LOG_H

/* The access log: a line for each answer. Several processes may write to one file, because each line is
 * one write(2) to a file that is open for appending.
 *
 *     203.0.113.7:50412 - - [20/Nov/2026:12:00:00 +0000] "GET /guide.md HTTP/1.1" 200 6714
 *
 * The last number is the length of the file, or of the part of it, that the answer has; 0 without a
 * file. The worker writes the line when it begins the answer. */

#include <stddef.h>
#include <stdint.h>

struct access_log {
	int fd;
};

/* Opens the file, or creates it. 0, or the negative errno of open(2). */
int access_log_open(struct access_log *log, const char *path);

/* Adds a line. `request` is the request line, "-" if it was malformed. */
void access_log_add(const struct access_log *log, const char *client, const char *request,
                    size_t request_length, int status, uint64_t length);

void access_log_close(struct access_log *log);

#endif
