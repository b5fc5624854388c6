#ifndef FERRY_TESTS_RECORDER_H
#define FERRY_TESTS_RECORDER_H

/* A protocol that records its callbacks, and fails the test if the transport breaks a rule of all
 * callbacks: connection_made comes first, none comes after connection_lost, none after
 * ferry_transport_free(), and none inside a call that promises to run none. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/ferry.h"

enum { RECORDER_MAX_FDS = 1200, RECORDER_MAX_EVENTS = 4096 };

/* The callbacks, as letters in `events`. */
enum {
	EVENT_MADE = 'M',
	EVENT_DATA = 'D', /* once for several in a row */
	EVENT_FD = 'F',
	EVENT_FDS_LOST = 'L',
	EVENT_READ_LOST = 'R',
	EVENT_LOST = 'X'
};

struct recorder {
	struct ferry_transport *transport; /* NULL once freed */
	struct evbuffer *received;
	char events[RECORDER_MAX_EVENTS + 1];
	size_t event_count;
	unsigned int made, data, fds_lost, read_lost, lost;
	int reason;

	unsigned int fd_count;
	int fds[RECORDER_MAX_FDS];        /* -1 once taken by the test */
	uint64_t fd_at[RECORDER_MAX_FDS]; /* bytes that had been received before each */
	bool close_fds;                   /* at once, instead of keeping them */

	bool quiet; /* no callback may run now */

	/* Runs in every callback, after it was written down. */
	void (*hook)(struct recorder *recorder, char event);
	void *argument;
};

/* The callbacks, for tables with some of them missing, and the table with all. */
void recorder_connection_made(struct ferry_transport *transport, void *context);
void recorder_data_received(struct ferry_transport *transport, struct evbuffer *input,
                            void *context);
void recorder_fd_received(struct ferry_transport *transport, int fd, void *context);
void recorder_fds_lost(struct ferry_transport *transport, void *context);
void recorder_read_lost(struct ferry_transport *transport, void *context);
void recorder_connection_lost(struct ferry_transport *transport, int reason, void *context);
extern const struct ferry_protocol recorder_protocol;

/* Every callback but the one for half-close: the usual protocol. */
extern const struct ferry_protocol recorder_no_half_close;

/* A transport on a socket, which it closes when freed, without a protocol. */
struct ferry_transport *make_transport(int fd);

/* A transport with a recorder as its protocol. */
void recorder_open(struct recorder *recorder, int fd, const struct ferry_protocol *protocol);
void recorder_open_pipes(struct recorder *recorder, int read_fd, int write_fd,
                         const struct ferry_protocol *protocol);

/* Takes over a transport that stands already. */
void recorder_attach(struct recorder *recorder, struct ferry_transport *transport,
                     const struct ferry_protocol *protocol);

/* ferry_transport_free(), unless it was done; for hooks too. */
void recorder_free_transport(struct recorder *recorder);

/* Frees all that it has, received descriptors included. */
void recorder_close(struct recorder *recorder);

/* Returns the count of bytes received. */
size_t recorder_length(const struct recorder *recorder);

/* Fails the test unless all bytes received are support_byte() counted from `position`, and throws
 * them away. */
void recorder_expect_bytes(struct recorder *recorder, uint64_t position, size_t length);

/* Pumps the loop. */
void pump_until_lost(struct recorder *recorder);
void pump_until_length(struct recorder *recorder, size_t length);
void pump_until_fds(struct recorder *recorder, unsigned int count);

/* A fresh copy of the transport's counters. */
struct ferry_transport_stats stats_of(const struct ferry_transport *transport);

#endif
