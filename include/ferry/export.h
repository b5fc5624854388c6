#ifndef FERRY_EXPORT_H
#define FERRY_EXPORT_H

/**
 * @file export.h
 * @brief Which symbols of the shared library are public, and C linkage for C++ callers.
 */

#if defined(__GNUC__)
#define FERRY_EXPORT __attribute__((visibility("default")))
#else
#define FERRY_EXPORT
#endif

#ifdef __cplusplus
#define FERRY_BEGIN_DECLS extern "C" {
#define FERRY_END_DECLS }
#else
#define FERRY_BEGIN_DECLS
#define FERRY_END_DECLS
#endif

#endif
