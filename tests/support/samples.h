#ifndef FERRY_TESTS_SAMPLES_H
#define FERRY_TESTS_SAMPLES_H

/* A descriptor of every kind that can be sent, and its other end, to check that the received
 * descriptor works. */

#include <stdbool.h>

#include "ferry/descriptor.h"

enum {
	SAMPLE_FILE_READ, /* "0123456789", at position 4; `other` has the file open too */
	SAMPLE_FILE_WRITE,
	SAMPLE_FILE_BOTH,
	SAMPLE_FILE_APPEND,
	SAMPLE_FILE_APPEND_BOTH,
	SAMPLE_DIRECTORY,  /* of a test's own: sample_path; has a file `entry` */
	SAMPLE_PIPE_READ,  /* `other` is the other end */
	SAMPLE_PIPE_WRITE, /* `other` is the other end */
	SAMPLE_FIFO,       /* open for both */
	SAMPLE_TERMINAL,   /* raw; and here */
	SAMPLE_TERMINAL_MASTER,
	SAMPLE_DEVICE,       /* /dev/zero */
	SAMPLE_PATH,         /* O_PATH, of a file */
	SAMPLE_MEMFD,        /* as the first, open for both */
	SAMPLE_MEMFD_SEALED, /* F_SEAL_WRITE and others */
	SAMPLE_EVENTFD,
	SAMPLE_TIMERFD,
	SAMPLE_SIGNALFD, /* of SIGUSR1, which is blocked */
	SAMPLE_INOTIFY,  /* of creations in sample_path */
	SAMPLE_PIDFD,    /* of a child that ends when `other` is closed */
	SAMPLE_EPOLL,    /* of `other`, an eventfd */
	SAMPLE_UNIX_STREAM,
	SAMPLE_UNIX_DATAGRAM,
	SAMPLE_UNIX_SEQPACKET,
	SAMPLE_UNIX_LISTENING,
	SAMPLE_SEQPACKET_LISTENING,
	SAMPLE_TCP4,
	SAMPLE_TCP6,
	SAMPLE_TCP4_LISTENING,
	SAMPLE_TCP6_LISTENING,
	SAMPLE_TCP4_NEW, /* neither */
	SAMPLE_UDP4,     /* connected to each other */
	SAMPLE_UDP6,
	SAMPLE_UDP4_BOUND, /* `other` is connected to it */
	SAMPLE_UDP6_BOUND,
	SAMPLES
};

struct sample {
	enum ferry_descriptor_kind kind;
	int fd;
	int other; /* -1: none */
	int child; /* a process's number, or 0 */
};

/* The directory of the sample that has one. */
extern char sample_path[64];

/* Returns false, and prints a line, if the system has no such object (IPv6, pidfds). */
bool sample_make(struct sample *sample, int which);
void sample_close(struct sample *sample);

/* A bound socket on loopback, or -1, and a line printed, where the system has no IPv6. */
int bind_loopback(int family, int type);

/* Connects `fd` to the address that `to` is bound to. */
void connect_socket(int fd, int to);

#endif
