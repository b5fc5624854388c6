#ifndef FERRY_EXPORT_H
#define FERRY_EXPORT_H

/**
 * @file export.h
 * @brief Marks the public symbols of the shared library, and gives them C linkage in C++; marks formats of printf(3).
 */

/** @def FERRY_EXPORT
 *  A symbol that is visible outside of the library. */

/** @def FERRY_PRINTF
 *  The compiler compares the arguments from number `first` on with the format, which is argument number `text`. */

/** @def FERRY_BEGIN_DECLS
 *  Begins declarations that have C linkage in C++. */

/** @def FERRY_END_DECLS
 *  Ends them. */

#if defined(__GNUC__)
#define FERRY_EXPORT __attribute__((visibility("default")))
#define FERRY_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define FERRY_EXPORT
#define FERRY_PRINTF(text, first)
#endif

#ifdef __cplusplus
#define FERRY_BEGIN_DECLS extern "C" {
#define FERRY_END_DECLS }
#else
#define FERRY_BEGIN_DECLS
#define FERRY_END_DECLS
#endif

#endif
