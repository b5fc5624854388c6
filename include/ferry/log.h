#ifndef FERRY_LOG_H
#define FERRY_LOG_H

/**
 * @file log.h
 * @brief Where ferry says what is worth a line. It never prints by itself.
 *
 * @code
 * static void log_line(enum ferry_log_level level, const char *line)
 * {
 *     syslog(level == FERRY_LOG_WARNING ? LOG_WARNING : LOG_DEBUG, "%s", line);
 * }
 * ferry_log_set_cb(log_line);
 * @endcode
 */

#include "ferry/export.h"

FERRY_BEGIN_DECLS

/** How much a line matters. Since 0.1. */
enum ferry_log_level {
	FERRY_LOG_DEBUG = 0,  /**< of interest when looking for a fault */
	FERRY_LOG_WARNING = 1 /**< the process is short of something, or a peer misbehaves */
};

/** Takes one line, without a newline. @p line is valid during the call. Runs in whatever thread has
 *  something to say; must not call ferry. */
typedef void (*ferry_log_cb)(enum ferry_log_level level, const char *line);

/** Sets what takes the lines of all of ferry in this process; NULL, the default, drops them. The one
 *  setting that transports share. Any thread. Since 0.1. */
FERRY_EXPORT void ferry_log_set_cb(ferry_log_cb cb);

FERRY_END_DECLS

#endif
