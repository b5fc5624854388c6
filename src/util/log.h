#ifndef FERRY_UTIL_LOG_H
#define FERRY_UTIL_LOG_H

/* How the library's own code says something: one line, in the words of printf(3), without a
 * newline. errno stays as it was. */

#include "ferry/log.h"

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void log_line(enum ferry_log_level level, const char *format, ...);

#endif
