#ifndef FERRY_FERRY_H
#define FERRY_FERRY_H

/**
 * @file ferry.h
 * @brief All of ferry: bytes, open file descriptors and whole files on one ordered libevent stream.
 */

#include "ferry/endpoint.h"
#include "ferry/file_producer.h"
#include "ferry/listeners.h"
#include "ferry/log.h"
#include "ferry/message.h"
#include "ferry/producer.h"
#include "ferry/transport.h"
#include "ferry/version.h"

#endif
