#ifndef FERRY_PROXY_PROTOCOL_CRC32C_H
#define FERRY_PROXY_PROTOCOL_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli), in parts: start with CRC32C_START, add the bytes, and invert the result. */
#define CRC32C_START UINT32_C(0xffffffff)

uint32_t crc32c_add(uint32_t crc, const unsigned char *bytes, size_t length);

#endif
