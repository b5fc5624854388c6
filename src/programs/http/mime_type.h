#ifndef FERRY_PROGRAMS_HTTP_MIME_TYPE_H
#define FERRY_PROGRAMS_HTTP_MIME_TYPE_H

/* The Content-Type for a file name, by its extension in any case; "application/octet-stream" when
 * there is none or it is not known. Static storage. */
const char *mime_type_of(const char *path);

#endif
