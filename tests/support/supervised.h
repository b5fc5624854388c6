#ifndef FERRY_TESTS_SUPERVISED_H
#define FERRY_TESTS_SUPERVISED_H

/* A supervisor whose callbacks are noted, over a dispatcher. */

#include <stdbool.h>
#include <stdint.h>

#include "ferry/ferry.h"
#include "support.h"

/* The program of support/supervised_worker.c. */
extern const char worker_program[];

struct supervised_notes {
	unsigned int started, ready, leaving, ended, failed_starts, replaced, states, channels;
	int status;      /* of the last that has ended */
	int error;       /* of the last failed start */
	int replacement; /* the last status */
	enum ferry_supervisor_state state;
	struct ferry_transport *transport; /* of the last channel that was opened */
	struct ferry_supervisor_worker *last;
	unsigned int log_lines;
	char log[4096];
	unsigned int heard[FERRY_SUPERVISOR_STOPPED + 1]; /* by enum ferry_supervisor_state */
	unsigned int outcomes[FERRY_HANDOFF_KEPT + 1];    /* by enum ferry_handoff_outcome */
	unsigned int returned;
	void (*on)(const char *callback); /* runs in each callback, with its name */
};

extern struct supervised_notes notes;
extern struct ferry_supervisor *supervisor;
extern struct ferry_dispatcher *dispatcher;
extern struct ferry_supervisor_options options;

/* Default options with this program; short pauses. */
void use_program(const char *const *argv);
void use_script(const char *script);
void use_worker(void);

/* Opens the dispatcher and a supervisor with `options`. */
void open_supervisor(void);

/* The same without a dispatcher. */
void open_plain_supervisor(void);

/* Stops it, and waits until it has stopped. */
void stop_supervisor(enum ferry_supervisor_stop how);

/* Frees both, and checks that no child is left. */
void close_supervisor(void);

struct ferry_supervisor_place_info place_info(unsigned int place);
struct ferry_supervisor_stats supervisor_stats(void);

/* Pumps until so many processes have their places and are ready. */
void wait_until_ready(unsigned int count);

/* Hands a connection off; returns the client's end. */
int hand_client_off(void);

/* Sends a byte, and pumps until it comes back. False: the connection has ended. */
bool client_echoes(int client);

#endif
