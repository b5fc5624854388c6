#ifndef FERRY_TESTS_LISTENING_H
#define FERRY_TESTS_LISTENING_H

/* Listening sockets of every kind, and takeovers whose callbacks are written down. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ferry/ferry.h"

/* A directory for each test, as a checked fixture; `socket_path` is in it. */
extern char socket_path[128];
void make_directory(void);
void remove_directory(void); /* which must be empty */
void set_directory_mode(mode_t mode);
bool path_exists(const char *path);

/* Listening sockets by plain system calls. A name of NULL is one of the kernel's choice. */
int listen_tcp(void);
int listen_unix(const char *path);
int listen_abstract(void);

/* Connects to whatever socket listens on `fd`, without blocking. The connection, or negative errno. */
int connect_to(int fd);

/* Whether a connection can be made to it and is accepted from `fd`. */
bool is_reachable(int fd);

/* One end of a takeover. */
struct takeover_end {
	struct ferry_takeover *takeover; /* NULL once freed */
	struct ferry_socket_set *set;    /* received */
	unsigned int received, ended;
	int status;
	void (*on_received)(struct takeover_end *end);
	void (*on_ended)(struct takeover_end *end);
	void *argument;
};
extern const struct ferry_takeover_callbacks takeover_end_callbacks;

/* Over `fd`, which they take. They fail the test when the call does. */
void serve_on(struct takeover_end *end, struct ferry_socket_set *set, int fd);
void request_on(struct takeover_end *end, int fd, const char *const *names, size_t count);

/* ferry_takeover_commit(), which must succeed. For `on_received`, too. */
void commit_takeover(struct takeover_end *end);

/* Frees the takeover and the received set. */
void takeover_end_close(struct takeover_end *end);

#endif
