#ifndef FERRY_PROGRAMS_HTTP_MIME_TYPE_H
#define FERRY_PROGRAMS_HTTP_MIME_TYPE_H

/* The Content-Type for a file name, by its extension in any case; "application/octet-stream" without an
 * extension, or with an unknown one. Static storage. */
const char *mime_type_of(const char *path);

#endif
