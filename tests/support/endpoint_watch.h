#ifndef FERRY_TESTS_ENDPOINT_WATCH_H
#define FERRY_TESTS_ENDPOINT_WATCH_H

/* Listeners and connectors, whose system calls the test counts and makes fail, and their peers in plain
 * system calls. A program that uses this is linked with --wrap for these functions, and with the library's
 * objects. */

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "ferry/connector.h"
#include "ferry/listener.h"
#include "ferry/transport.h"
#include "support.h"

int __real_bind(int fd, const struct sockaddr *address, socklen_t length);
int __real_listen(int fd, int backlog);
int __real_connect(int fd, const struct sockaddr *address, socklen_t length);
int __real_chmod(const char *path, mode_t mode);
mode_t __real_umask(mode_t mask);

struct endpoint_watch {
	void (*after_bind)(void);
	void (*before_listen)(void);
	void (*before_openat)(void);
	int listen_error;
	int chmod_error;
	int fchmod_error;
	int fstatat_error;
	int unlinkat_error;
	int poll_error;
	unsigned int poll_calls;
	int transport_error;
	int accept_errors[8]; /* of the first accepts, one after the other */
	unsigned int accept_errors_given;
	unsigned int accept_calls;
	unsigned int connect_calls;
	unsigned int umask_calls;
	unsigned int allocation_to_fail; /* 1: the next one; 0: none */
	bool allocations_over;           /* the callback ran before that one */
};

extern struct endpoint_watch watch;

/* To be called first in a callback: check's own allocations must not fail. */
void allow_allocations(void);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *memory, size_t size);

extern char endpoint_directory[64];
extern char endpoint_path[128];
extern unsigned int warnings;

void set_up_endpoint(void);
void tear_down_endpoint(void);
bool exists(const char *name);
void make_plain_file(const char *name);
int plain_socket(void);
int plain_connect(const char *name);
int plain_bind(const char *name);
int plain_listen(const char *name, int backlog);

/* Whether the other end has closed the connection: an end of file or a reset. */
bool is_hung_up(void *argument);

enum { TRANSPORTS_MAX = 256 };

struct host {
	struct ferry_listener *listener;
	unsigned int accepted;
	struct ferry_transport *transports[TRANSPORTS_MAX];
	bool free_listener;
	bool disable_listener;
	bool free_transport;
};

void on_accepted(struct ferry_listener *listener, struct ferry_transport *transport, void *context);
void host_listen(struct host *host, const char *name, int backlog);
void host_free(struct host *host);

struct guest {
	struct ferry_connector *connector;
	unsigned int told;
	int status;
	struct ferry_transport *transport;
	bool free_connector;
};

void on_connected(struct ferry_connector *connector, int status, struct ferry_transport *transport,
                  void *context);

void on_unexpected(struct ferry_connector *connector, int status, struct ferry_transport *transport,
                   void *context);
void let_pass(int milliseconds);

/* Lowers the descriptor limit until `spare` slots are free. Returns the limit before. */
struct rlimit limit_descriptor_slots(unsigned int spare);

#endif
