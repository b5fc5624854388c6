#ifndef FERRY_TESTS_UPGRADE_APP_H
#define FERRY_TESTS_UPGRADE_APP_H

/* A server that can be upgraded. The test is the first process; the successors are this program again, with the name of
 * a behaviour as argument. Each accepted client gets a line, "GENERATION PID STATE", and its connection ends. A
 * connection from a predecessor gets a line too, and goes on to the next successor. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "ferry/ferry.h"

struct app {
	struct event_base *base;
	struct ferry_upgrade *upgrade;
	struct ferry_service_manager *manager;
	struct ferry_listener *www;
	const char *behaviour;
	unsigned int started, serving, replaced, rejected, failed, finished, signalled;
	int rejection;
	int last_signal;
	struct ferry_upgrade_failure failure; /* without its output */
	char output[FERRY_UPGRADE_OUTPUT_MAX + 1];
	struct ferry_handoff *moved[64]; /* from predecessors */
	size_t moved_count;
	size_t state_size;              /* of the state, besides its text */
	void (*hook)(const char *name); /* inside each callback */
	const char *predecessor;        /* a path */
	const char *program;            /* another program */
	bool no_arguments;
	struct timeval timeout, probation;
};

/* In BEFORE_ALL: if the program was started as a successor, becomes one, and does not return. */
void app_become_successor(int argc, char **argv);

/* The test's own process: begins, and waits until it serves. Successors get `behaviour`. */
void app_begin(struct app *app, const char *behaviour);

/* Begins only. The status of ferry_upgrade_new(). */
int app_new(struct app *app, const char *behaviour);

/* Frees everything. */
void app_end(struct app *app);

/* Connects to `port`, waits for the line, and copies it. */
void app_ask(int port, char *line, size_t size);
unsigned long app_ask_generation(int port);
pid_t app_ask_pid(int port);

/* The port of "www". */
int app_port(const struct app *app);

/* Reads a line from a socket while the loop turns. False: the connection has ended. */
bool app_read_line(int fd, char *line, size_t size);

/* Ends the process that serves at the port, which must not be this one, and waits until it is dead. */
void app_kill(int port, int signal_number);

#endif
