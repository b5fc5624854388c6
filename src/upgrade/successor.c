#include "upgrade/successor.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <event2/bufferevent.h>
#include <event2/event.h>

#include "ferry/takeover.h"
#include "ferry/transport.h"

#include "kernel/socket.h"
#include "takeover/socket_set.h"
#include "takeover/takeover.h"
#include "upgrade/output.h"
#include "upgrade/spawn.h"
#include "upgrade/succeeded.h"

/* The time for a successor that has failed to end by itself, and after SIGTERM. */
static const struct timeval grace = {.tv_sec = 1};

enum state { STARTING, FAILING, COMMITTED };

struct successor {
	const struct successor_callbacks *callbacks;
	void *context;
	struct ferry_takeover *takeover;
	struct event *deadline; /* STARTING: of readiness; FAILING: of the next step of the end */
	struct ferry_socket_set *set;
	struct spawned spawned; /* no child: somebody else has started the process */
	pid_t pid;
	enum state state;
	int status; /* FAILING: the cause */
	int next_signal;
};

static void report(struct successor *successor, int wait_status)
{
	struct ferry_upgrade_failure failure = {.status = successor->status,
	                                        .pid = successor->pid,
	                                        .wait_status = wait_status,
	                                        .output = ""};

	if (successor->spawned.output != NULL) {
		output_read(successor->spawned.output);
		failure.output = output_get_text(successor->spawned.output);
	}
	successor->callbacks->failed(&failure, successor->context);
}

/* Reports it when the child has ended. If the child has the channel's end only because it has ended, the cause is
 * that. */
static void fail(struct successor *successor, int status)
{
	successor->state = FAILING;
	successor->status = status;
	successor->next_signal = SIGTERM;
	event_del(successor->deadline);
	if (successor->spawned.child == NULL) {
		report(successor, -1);
		return;
	}
	child_look(successor->spawned.child);
	if (event_add(successor->deadline, &grace) < 0)
		(void)child_signal(successor->spawned.child, SIGKILL);
}

static void withdraw(struct successor *successor)
{
	ferry_takeover_free(successor->takeover);
	successor->takeover = NULL;
}

static void on_deadline(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct successor *successor = argument;

	if (successor->state == STARTING) {
		withdraw(successor);
		fail(successor, -ETIMEDOUT);
		return;
	}
	(void)child_signal(successor->spawned.child, successor->next_signal);
	successor->next_signal = SIGKILL;
	(void)event_add(successor->deadline, &grace);
}

static void on_child_ended(struct child *child, int wait_status, void *context)
{
	(void)child;
	struct successor *successor = context;
	const bool by_itself = successor->state == STARTING || successor->status == -ECONNRESET ||
	                       successor->status == -EPIPE;

	event_del(successor->deadline);
	if (successor->state == COMMITTED) {
		successor->callbacks->died(wait_status, successor->context);
		return;
	}
	withdraw(successor);
	/* A withdrawal that the successor could not get leaves the files to it: it does not live. */
	socket_set_own_files(successor->set);
	if (by_itself && successor->next_signal != SIGKILL)
		successor->status = -ECHILD;
	report(successor, wait_status);
}

static void on_ended(struct ferry_takeover *takeover, int status, void *context)
{
	struct successor *successor = context;
	struct ferry_socket_set *taken = takeover_steal_taken(takeover);

	successor->takeover = NULL;
	if (status != 0) {
		ferry_socket_set_free(taken);
		ferry_takeover_free(takeover);
		fail(successor, status);
		return;
	}
	successor->state = COMMITTED;
	event_del(successor->deadline);
	output_free(successor->spawned.output);
	successor->spawned.output = NULL;
	successor->callbacks->committed(taken, successor->pid, successor->spawned.child != NULL,
	                                successor->context);
	ferry_takeover_free(takeover);
}

static int on_state_requested(struct ferry_takeover *takeover, struct evbuffer *state,
                              void *context)
{
	(void)takeover;
	struct successor *successor = context;

	return successor->callbacks->state_requested(state, successor->context);
}

static int serve(struct successor *successor, const struct successor_options *options,
                 struct ferry_transport *transport)
{
	static const struct ferry_takeover_callbacks callbacks = {.ended = on_ended};

	successor->set = options->set;
	successor->deadline = evtimer_new(options->base, on_deadline, successor);
	if (successor->deadline == NULL ||
	    event_add(successor->deadline, &options->upgrade->timeout) < 0)
		return -ENOMEM;
	const int status =
	    ferry_takeover_serve(&successor->takeover, options->set, transport, &callbacks, successor);
	if (status == 0)
		takeover_set_state_cb(successor->takeover, on_state_requested);
	return status;
}

static struct successor *make(const struct successor_callbacks *callbacks, void *context)
{
	struct successor *successor = calloc(1, sizeof(*successor));

	if (successor != NULL) {
		successor->callbacks = callbacks;
		successor->context = context;
		successor->spawned.token = -1;
	}
	return successor;
}

int successor_serve(struct successor **out, const struct successor_options *options,
                    struct ferry_transport *transport, const struct successor_callbacks *callbacks,
                    void *context)
{
	struct successor *successor = make(callbacks, context);
	struct ucred peer;

	if (successor == NULL)
		return -ENOMEM;
	if (socket_get_peer(bufferevent_getfd(ferry_transport_get_bufferevent(transport)), &peer) == 0)
		successor->pid = peer.pid;
	const int status = serve(successor, options, transport);
	if (status != 0)
		successor_free(successor);
	else
		*out = successor;
	return status;
}

int successor_start(struct successor **out, const struct successor_options *options,
                    const struct successor_callbacks *callbacks, void *context)
{
	struct successor *successor = make(callbacks, context);
	struct ferry_transport *transport;

	if (successor == NULL)
		return -ENOMEM;
	int status = spawn_successor(&successor->spawned, &transport, options->base, options->upgrade,
	                             on_child_ended, successor);
	if (status == 0) {
		successor->pid = child_pid(successor->spawned.child);
		status = serve(successor, options, transport);
		if (status != 0)
			ferry_transport_free(transport);
	}
	if (status != 0)
		successor_free(successor);
	else
		*out = successor;
	return status;
}

pid_t successor_get_pid(const struct successor *successor)
{
	return successor->pid;
}

bool successor_was_replaced(const struct successor *successor)
{
	return successor->spawned.token >= 0 && succeeded_look(successor->spawned.token);
}

void successor_free(struct successor *successor)
{
	if (successor == NULL)
		return;
	withdraw(successor);
	if (successor->deadline != NULL)
		event_free(successor->deadline);
	spawned_clear(&successor->spawned, successor->state == COMMITTED);
	free(successor);
}
