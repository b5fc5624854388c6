#ifndef FERRY_TESTS_LOCK_WATCH_H
#define FERRY_TESTS_LOCK_WATCH_H

/* Listeners that lock their path. The test counts their system calls, and disturbs one of them. A program
 * that uses this is linked with --wrap for these functions, and with the library's objects. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "ferry/listener.h"
#include "listening.h"
#include "support.h"

int __real_bind(int fd, const struct sockaddr *address, socklen_t length);
int __real_connect(int fd, const struct sockaddr *address, socklen_t length);
int __real_flock(int fd, int operation);
int __real_listen(int fd, int backlog);

struct lock_watch {
	bool armed;
	unsigned int step;    /* calls since it was armed */
	unsigned int at;      /* the call that is disturbed; 0: none */
	void (*attack)(void); /* before it */
	int error;            /* in its place */
	bool before_unlink;   /* the call was unlinkat(2) */
	bool after_bind;      /* the call was the first after bind(2) */
	unsigned int bound;   /* the step of bind(2) */
	void (*before_flock)(void);
	unsigned int flocks;
};

extern struct lock_watch lock_watch;
extern char lock_path[160], victim_path[160], other_path[160];

void set_up_lock(void);
void tear_down_lock(void);
void write_file(const char *path, const char *content, mode_t mode);
void expect_file(const char *path, const char *content, mode_t mode);
void expect_lock_of(pid_t pid);

void close_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                    void *context);
int try_to_own(struct ferry_listener **listener);

struct ferry_listener *own(void);
void own_and_leave(void);
void expect_refusal(int expected);

/* The files of a dead owner. */
void leave_stale_socket(void);
void leave_stale_files(void);

#endif
