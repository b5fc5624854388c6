#ifndef FERRY_VERSION_H
#define FERRY_VERSION_H

/**
 * @file version.h
 * @brief The version of ferry, at compile time and at run time.
 *
 * @par Callers
 * In every callback and in every thread.
 */

#include "ferry/export.h"

FERRY_BEGIN_DECLS

#define FERRY_VERSION_MAJOR 0 /**< the headers' version, first number */
#define FERRY_VERSION_MINOR 1 /**< second number */
#define FERRY_VERSION_PATCH 0 /**< third number */
#define FERRY_VERSION "0.1.0" /**< the headers' version */

/**
 * The headers' version as a number for `#if`, one byte for each of the three: 0x00010000 is
 * 0.1.0. A later version has a greater number. Since 0.1.
 */
#define FERRY_VERSION_NUMBER \
	((FERRY_VERSION_MAJOR << 24) | (FERRY_VERSION_MINOR << 16) | (FERRY_VERSION_PATCH << 8))

/** Returns the library's version at run time, as in FERRY_VERSION. Static storage. Since 0.1. */
FERRY_EXPORT const char *ferry_version(void);

FERRY_END_DECLS

#endif
