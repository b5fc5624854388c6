#ifndef FERRY_UTIL_LOG_H
#define FERRY_UTIL_LOG_H

/* Gives one line to the user's log callback, if there is one. `format` is that of printf(3), and has no newline
 * at its end. errno stays as it was. */

#include "ferry/log.h"

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void log_line(enum ferry_log_level level, const char *format, ...);

#endif
