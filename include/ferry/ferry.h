#ifndef FERRY_FERRY_H
#define FERRY_FERRY_H

/**
 * @file ferry.h
 * @brief All of ferry: bytes, open file descriptors and whole files on one ordered libevent stream.
 */

#include "ferry/address.h"
#include "ferry/channel.h"
#include "ferry/client_hello.h"
#include "ferry/connector.h"
#include "ferry/descriptor.h"
#include "ferry/dispatcher.h"
#include "ferry/file_producer.h"
#include "ferry/handoff.h"
#include "ferry/in_flight.h"
#include "ferry/line.h"
#include "ferry/listener.h"
#include "ferry/log.h"
#include "ferry/message.h"
#include "ferry/parking.h"
#include "ferry/poller.h"
#include "ferry/producer.h"
#include "ferry/proxy_protocol.h"
#include "ferry/relay.h"
#include "ferry/service_manager.h"
#include "ferry/socket_set.h"
#include "ferry/supervisor.h"
#include "ferry/takeover.h"
#include "ferry/transport.h"
#include "ferry/upgrade.h"
#include "ferry/version.h"
#include "ferry/worker.h"
#include "ferry/worker_client.h"

#endif
