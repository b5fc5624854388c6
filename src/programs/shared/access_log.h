#ifndef FERRY_PROGRAMS_SHARED_ACCESS_LOG_H
#define FERRY_PROGRAMS_SHARED_ACCESS_LOG_H

/* The access log: a line for each answer, in the combined format and with the time behind it. Several processes may
 * write to one file, because each line is one write(2) to a file that is open for appending.
 *
 *     203.0.113.7:50412 - - [20/Nov/2026:12:00:00 +0000] "GET /guide.md HTTP/1.1" 200 6714 "-" "curl/8.5" 0.002
 *
 * The number behind the status is that of the bytes of the body that the kernel has taken, which may be fewer than the
 * answer was to have. The last number is the time in seconds from the complete request head to the last of these bytes.
 * The line is written then. */

#include <stddef.h>
#include <stdint.h>

struct http_head;

struct access_log {
	int fd; /* of program_reopen(); -1: none */
};

/* What the line has of the request. */
struct access_entry;

/* Copies the request, whose head has come now; `text` is the text of the head. A head that is not complete, or
 * NULL: "-". NULL: out of memory. */
struct access_entry *access_entry_new(const char *client, const struct http_head *head,
                                      const char *text);

/* Writes the line, and frees the entry. NULL: does nothing. */
void access_log_end(const struct access_log *log, struct access_entry *entry, int status,
                    uint64_t bytes);

/* Frees the entry without a line. NULL: does nothing. */
void access_entry_free(struct access_entry *entry);

#endif
