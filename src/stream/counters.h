#ifndef FERRY_STREAM_COUNTERS_H
#define FERRY_STREAM_COUNTERS_H

#include <stdint.h>

/*
 * The counters of both directions, with the names that they have in struct ferry_transport_stats. That struct has room
 * for later versions, and members that are computed when it is filled in: each connection would pay for these.
 */
struct stream_counters {
	uint64_t bytes_sent, bytes_received, bytes_queued_max;
	uint64_t send_calls, receive_calls;
	uint64_t send_eagain, send_retries;
	uint64_t fds_received, fds_unclaimed, fds_lost;
	uint64_t controls_ignored;
};

/* Those of a stream that has carried a descriptor or a file. */
struct item_counters {
	uint64_t fds_sent, fds_unsent, fds_queued_max;
	uint64_t files_sent, file_bytes_sent, file_bytes_unsent, file_waits;
	uint64_t sendfile_calls;
};

#endif
