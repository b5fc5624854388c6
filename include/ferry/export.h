#ifndef FERRY_EXPORT_H
#define FERRY_EXPORT_H

/**
 * @file export.h
 * @brief Marks the public symbols of the shared library, and gives them C linkage in C++.
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
