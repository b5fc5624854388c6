#ifndef FERRY_LOG_H
#define FERRY_LOG_H

/**
 * @file log.h
 * @brief The callback that receives ferry's log lines. ferry never prints by itself.
 *
 * @code
 * static void log_line(enum ferry_log_level level, const char *line)
 * {
 *     syslog(level == FERRY_LOG_WARNING ? LOG_WARNING : LOG_DEBUG, "%s", line);
 * }
 * ferry_log_set_cb(log_line);
 * @endcode
 *
 * @par Callers
 * In every thread, but not in the callback itself.
 */

#include "ferry/export.h"

FERRY_BEGIN_DECLS

/** The severity of a line. Since 0.1. */
enum ferry_log_level {
	FERRY_LOG_DEBUG = 0,  /**< of interest to somebody who looks for a fault */
	FERRY_LOG_WARNING = 1 /**< the process is short of something, or a peer misbehaves */
};

/** Receives one line, without a newline. @p line is valid during the call. The callback runs in the thread that
 *  logs, which may be any thread that uses ferry, and must not call ferry. */
typedef void (*ferry_log_cb)(enum ferry_log_level level, const char *line);

/** Sets the callback for all log lines of this process; NULL, the default, drops them. All transports share
 *  this setting and ferry_in_flight_set_limit(), and no other. Since 0.1. */
FERRY_EXPORT void ferry_log_set_cb(ferry_log_cb cb);

FERRY_END_DECLS

#endif
