#ifndef FERRY_TESTS_FD_SENDER_H
#define FERRY_TESTS_FD_SENDER_H

/* A transport that sends descriptors, and its far end in plain system calls. */

#include <stddef.h>

#include "recorder.h"
#include "wire.h"

extern int sender_ends[2];
extern struct recorder fd_sender;

void open_fd_sender(void);
void close_fd_sender(void);
void write_byte(void);
int send_fd(int fd, enum ferry_fd_ownership ownership);
void receive_from_sender(struct wire_read *result);
void close_receiving_end(void);
void receive_fd_count(unsigned int count);

#endif
