#include "programs/ferry-proxy/upgrade.h"

#include "programs/ferry-proxy/child_process.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>
#include <ferry/ferry.h>

/* The time in which a new proxy has to start its workers. */
static const struct timeval patience = {.tv_sec = 60};

static const char generation_variable[] = "FERRY_PROXY_GENERATION";

struct upgrade {
	struct event_base *base;
	struct upgrade_options options;
	struct ferry_listener *listener; /* of the control socket; NULL: none, or no longer */
	struct ferry_takeover *takeover; /* NULL: no takeover is under way */
	struct event *deadline;
	pid_t successor; /* 0: none runs */
	struct event *child_ended;
};

/* ---- being taken over ---- */

static void takeover_ended(struct ferry_takeover *takeover, int status, void *context)
{
	struct upgrade *upgrade = context;
	upgrade->takeover = NULL;
	event_del(upgrade->deadline);
	if (status == 0) {
		program_log("another proxy has taken over");
		ferry_listener_free(upgrade->listener);
		upgrade->listener = NULL;
		upgrade->options.taken_over(upgrade->options.context);
	} else {
		program_log("no proxy has taken over, this one continues: %s", strerror(-status));
	}
	ferry_takeover_free(takeover);
}

static void takeover_timed_out(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what;
	struct upgrade *upgrade = context;
	program_log("the other proxy takes too long to take over, this one continues");
	ferry_takeover_free(upgrade->takeover);
	upgrade->takeover = NULL;
}

static void takeover_requested(struct ferry_listener *listener, struct ferry_transport *transport,
                               void *context)
{
	static const struct ferry_takeover_callbacks callbacks = {.ended = takeover_ended};
	(void)listener;
	struct upgrade *upgrade = context;
	int status = -EBUSY;
	if (upgrade->takeover == NULL)
		status = ferry_takeover_serve(&upgrade->takeover, upgrade->options.set, transport,
		                              &callbacks, upgrade);
	if (status < 0) {
		program_log("refused a proxy that asks to take over: %s", strerror(-status));
		ferry_transport_free(transport);
		return;
	}
	if (event_add(upgrade->deadline, &patience) < 0)
		program_log("no memory for a deadline: the other proxy has no time limit");
}

/* ---- starting the successor ---- */

unsigned long upgrade_generation(void)
{
	unsigned long number;
	const char *text = getenv(generation_variable);
	return text != NULL && program_number(text, 1000000000, &number) ? number : 0;
}

/* The arguments of this program, with its --take-over replaced. NULL: no memory. */
static char **make_successor_argv(const struct upgrade *upgrade)
{
	size_t count = 0, made = 0;
	while (upgrade->options.argv[count] != NULL)
		count++;
	char **argv = calloc(count + 3, sizeof(*argv));
	if (argv == NULL)
		return NULL;
	argv[made++] = upgrade->options.argv[0];
	argv[made++] = (char *)(uintptr_t) "--take-over";
	argv[made++] = (char *)(uintptr_t)upgrade->options.control_path;
	bool workers = false; /* after "--": the options of the workers */
	for (size_t i = 1; i < count; i++) {
		workers = workers || strcmp(upgrade->options.argv[i], "--") == 0;
		if (!workers && strcmp(upgrade->options.argv[i], "--take-over") == 0)
			i++;
		else if (workers || strncmp(upgrade->options.argv[i], "--take-over=", 12) != 0)
			argv[made++] = upgrade->options.argv[i];
	}
	return argv;
}

static int spawn_successor(struct upgrade *upgrade)
{
	char number[24];
	char **argv = make_successor_argv(upgrade);
	if (argv == NULL)
		return -ENOMEM;
	snprintf(number, sizeof(number), "%lu", upgrade_generation() + 1);
	char *before = getenv(generation_variable);
	before = before != NULL ? strdup(before) : NULL;
	setenv(generation_variable, number, 1);
	int status = child_process_start(&upgrade->successor, argv, -1, false);
	if (before != NULL)
		setenv(generation_variable, before, 1);
	else
		unsetenv(generation_variable);
	free(before);
	free(argv);
	if (status < 0)
		upgrade->successor = 0;
	return status;
}

void upgrade_start_successor(struct upgrade *upgrade)
{
	if (upgrade->successor != 0) {
		program_log("the new proxy (pid %ld) is already starting", (long)upgrade->successor);
		return;
	}
	if (upgrade->listener == NULL) {
		program_log("no upgrade: there is no control socket, see --control");
		return;
	}
	int status = spawn_successor(upgrade);
	if (status < 0)
		program_log("no upgrade: %s: %s", upgrade->options.argv[0], strerror(-status));
	else
		program_log("the new proxy (pid %ld) is started", (long)upgrade->successor);
}

static void successor_ended(evutil_socket_t signal_number, short what, void *context)
{
	(void)signal_number, (void)what;
	struct upgrade *upgrade = context;
	int status;
	char how[64];
	if (upgrade->successor == 0 || !child_process_has_ended(upgrade->successor, &status))
		return;
	child_process_describe(status, how, sizeof(how));
	program_log("the new proxy (pid %ld) %s%s", (long)upgrade->successor, how,
	            upgrade->listener != NULL ? ": this one continues" : "");
	upgrade->successor = 0;
}

static int init_upgrade(struct upgrade *upgrade)
{
	upgrade->deadline = evtimer_new(upgrade->base, takeover_timed_out, upgrade);
	upgrade->child_ended = evsignal_new(upgrade->base, SIGCHLD, successor_ended, upgrade);
	if (upgrade->deadline == NULL || upgrade->child_ended == NULL ||
	    event_add(upgrade->child_ended, NULL) < 0)
		return -ENOMEM;
	if (upgrade->options.control_fd < 0)
		return 0;
	return ferry_listener_new_fd(&upgrade->listener, upgrade->base, upgrade->options.control_fd,
	                             takeover_requested, upgrade);
}

int upgrade_new(struct upgrade **out, struct event_base *base,
                const struct upgrade_options *options)
{
	struct upgrade *upgrade = calloc(1, sizeof(*upgrade));
	if (upgrade == NULL)
		return -ENOMEM;
	upgrade->base = base;
	upgrade->options = *options;
	int status = init_upgrade(upgrade);
	if (status < 0) {
		upgrade_free(upgrade);
		return status;
	}
	*out = upgrade;
	return 0;
}

void upgrade_free(struct upgrade *upgrade)
{
	if (upgrade == NULL)
		return;
	ferry_takeover_free(upgrade->takeover);
	ferry_listener_free(upgrade->listener);
	if (upgrade->deadline != NULL)
		event_free(upgrade->deadline);
	if (upgrade->child_ended != NULL)
		event_free(upgrade->child_ended);
	free(upgrade);
}
