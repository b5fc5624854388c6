#ifndef FERRY_TESTS_FD_RECEIVER_H
#define FERRY_TESTS_FD_RECEIVER_H

/* A transport that receives descriptors, and its far end, which sends descriptors with numbers inside. */

#include <stdbool.h>
#include <stddef.h>

#include "recorder.h"
#include "wire.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

#ifndef SO_PASSSEC
#define SO_PASSSEC 34
#endif

extern int receiver_ends[2];
extern struct recorder fd_receiver;
extern const struct ferry_protocol no_fd_callback;

void open_fd_receiver(const struct ferry_protocol *protocol);
void close_fd_receiver(void);

/* Sends marked descriptors first, first + 1, … with the text. */
void send_marked(const char *text, uint32_t first, size_t count);
void check_received(uint32_t first, unsigned int count);
void check_text(const char *text);

extern unsigned int cb_fds, cb_reads, fds_at_read;

void take_and_close(struct ferry_transport *transport, int fd, void *context);
void note_read(struct bufferevent *bev, void *context);

extern unsigned int cb_events, cb_losses;
extern short cb_what;
extern int cb_errno;

void note_event(struct bufferevent *bev, short what, void *context);

#endif
