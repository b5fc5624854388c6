#include "programs/ferry-proxy/upgrade.h"

#include "programs/ferry-proxy/idle_clients.h"
#include "programs/shared/program.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <event2/event.h>
#include <ferry/ferry.h>

struct upgrade {
	struct ferry_service_manager *manager;
	struct ferry_upgrade *upgrade;
	struct listeners *wanted;
	const char *take_over;
	const struct upgrade_callbacks *callbacks;
	void *context;
};

/* ---- callbacks ---- */

static void started(struct ferry_upgrade *of, struct ferry_socket_set *set, void *context)
{
	struct upgrade *upgrade = context;
	upgrade->callbacks->error_output(ferry_upgrade_get_error_output(of), upgrade->context);
	upgrade->callbacks->started(set, ferry_upgrade_get_generation(of) > 0, upgrade->context);
}

static bool is_wanted(struct listeners *wanted, const char *name)
{
	struct listener *listener = NULL;
	while ((listener = listeners_next(wanted, listener)) != NULL)
		if (strcmp(listener->name, name) == 0)
			return true;
	return name[0] == '.'; /* ferry's own */
}

/* Nobody would accept on a socket that the configuration does not list any more. One of the service manager stays open
 * there: its clients would wait. */
static void remove_unwanted(struct ferry_socket_set *set, struct listeners *wanted)
{
	for (size_t i = ferry_socket_set_count(set); i > 0; i--) {
		const char *name = ferry_socket_set_get_name(set, i - 1);
		if (name == NULL || is_wanted(wanted, name))
			continue;
		program_log("%s: closed, because the configuration does not have it", name);
		ferry_socket_set_remove(set, name);
	}
}

static void serving(struct ferry_upgrade *of, void *context)
{
	struct upgrade *upgrade = context;
	const char *control = upgrade->wanted->control.name;
	remove_unwanted(ferry_upgrade_get_set(of), upgrade->wanted);
	int status = control[0] != '\0' ? ferry_upgrade_listen(of, control) : 0;
	if (status < 0)
		program_log("%s: %s", control, strerror(-status));
	upgrade->callbacks->serving(upgrade->context);
}

static void rejected(struct ferry_upgrade *of, int status, void *context)
{
	(void)of;
	struct upgrade *upgrade = context;
	program_log("%s: not taken over: %s",
	            upgrade->take_over != NULL ? upgrade->take_over : "the old proxy",
	            strerror(-status));
	upgrade->callbacks->replaced(true, upgrade->context);
}

static void connection_received(struct ferry_upgrade *of, struct ferry_handoff *handoff,
                                void *context)
{
	(void)of;
	struct upgrade *upgrade = context;
	struct client_address address;
	uint64_t idle_msec;
	int status = idle_client_read(handoff, &address, &idle_msec);
	if (status == 0) {
		upgrade->callbacks->idle(handoff, &address, idle_msec, upgrade->context);
		return;
	}
	program_log("a connection of the old proxy is closed: %s", strerror(-status));
	ferry_handoff_free(handoff);
}

static void describe_end(int status, char *out, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(out, size, "killed by signal %d, %s", WTERMSIG(status),
		         strsignal(WTERMSIG(status)));
	else
		snprintf(out, size, "exited with status %d", WEXITSTATUS(status));
}

static void failed(struct ferry_upgrade *of, const struct ferry_upgrade_failure *failure,
                   void *context)
{
	(void)of, (void)context;
	char how[64];
	if (failure->wait_status >= 0) {
		describe_end(failure->wait_status, how, sizeof(how));
		program_log("the new proxy (pid %ld) %s: this one continues", (long)failure->pid, how);
	}
	program_log("no proxy has taken over, this one continues: %s", strerror(-failure->status));
}

static void replaced(struct ferry_upgrade *of, void *context)
{
	(void)of;
	struct upgrade *upgrade = context;
	program_log("another proxy has taken over");
	upgrade->callbacks->replaced(false, upgrade->context);
}

/* ---- making one ---- */

static bool is_of_activation(int status)
{
	return status == -EINVAL || status == -ENOTSOCK || status == -EBADF || status == -EMSGSIZE;
}

static void report_refusal(const struct upgrade_options *options, int status)
{
	if (options->take_over != NULL)
		program_log("--take-over %s: %s", options->take_over, strerror(-status));
	else
		program_log("%s: %s", is_of_activation(status) ? "LISTEN_FDS" : "no proxy",
		            strerror(-status));
}

static int start_upgrade(struct upgrade *upgrade, struct event_base *base,
                         const struct upgrade_options *options)
{
	static const struct ferry_upgrade_callbacks callbacks = {.started = started,
	                                                         .serving = serving,
	                                                         .rejected = rejected,
	                                                         .connection_received =
	                                                             connection_received,
	                                                         .failed = failed,
	                                                         .replaced = replaced};
	const struct ferry_upgrade_options ferry_options = {.size = sizeof(ferry_options),
	                                                    .argv = options->argv,
	                                                    .predecessor = options->take_over,
	                                                    .service_manager = upgrade->manager};
	return ferry_upgrade_new(&upgrade->upgrade, base, &ferry_options, &callbacks, upgrade);
}

int upgrade_new(struct upgrade **out, struct event_base *base,
                const struct upgrade_options *options, const struct upgrade_callbacks *callbacks,
                void *context)
{
	struct upgrade *upgrade = calloc(1, sizeof(*upgrade));
	if (upgrade == NULL)
		return -ENOMEM;
	upgrade->wanted = options->wanted;
	upgrade->take_over = options->take_over;
	upgrade->callbacks = callbacks;
	upgrade->context = context;
	int status = ferry_service_manager_new(&upgrade->manager, base, true);
	if (status < 0)
		program_log("NOTIFY_SOCKET: %s", strerror(-status));
	if (status == 0)
		status = ferry_service_manager_start_watchdog(upgrade->manager);
	if (status == 0) {
		status = start_upgrade(upgrade, base, options);
		if (status < 0)
			report_refusal(options, status);
	}
	if (status < 0)
		upgrade_free(upgrade);
	else
		*out = upgrade;
	return status;
}

int upgrade_ready(struct upgrade *upgrade)
{
	int status = ferry_upgrade_ready(upgrade->upgrade);
	upgrade->callbacks->error_output(ferry_upgrade_get_error_output(upgrade->upgrade),
	                                 upgrade->context);
	return status;
}

void upgrade_start_successor(struct upgrade *upgrade)
{
	int status = ferry_upgrade_start(upgrade->upgrade);
	long pid = (long)ferry_upgrade_get_successor(upgrade->upgrade);
	if (status == 0)
		program_log("the new proxy (pid %ld) is started", pid);
	else if (status == -EALREADY)
		program_log("the new proxy (pid %ld) is already starting", pid);
	else
		program_log("no upgrade: %s", strerror(-status));
}

int upgrade_give(struct upgrade *upgrade, struct ferry_handoff *handoff,
                 const struct client_address *address, uint64_t idle_msec)
{
	if (upgrade == NULL)
		return -ENOTCONN;
	int status = idle_client_describe(handoff, address, idle_msec);
	return status == 0 ? ferry_upgrade_give(upgrade->upgrade, handoff) : status;
}

bool upgrade_is_settled(const struct upgrade *upgrade)
{
	return upgrade == NULL || ferry_upgrade_is_settled(upgrade->upgrade);
}

unsigned long upgrade_generation(const struct upgrade *upgrade)
{
	return upgrade != NULL ? ferry_upgrade_get_generation(upgrade->upgrade) : 0;
}

void upgrade_notify_reloaded(struct upgrade *upgrade)
{
	ferry_service_manager_reloading(upgrade->manager);
	ferry_service_manager_ready(upgrade->manager);
}

void upgrade_notify_stopping(struct upgrade *upgrade)
{
	ferry_service_manager_stopping(upgrade->manager);
}

void upgrade_free(struct upgrade *upgrade)
{
	struct ferry_upgrade_stats stats;
	if (upgrade == NULL)
		return;
	if (ferry_upgrade_get_stats(upgrade->upgrade, &stats) == 0 && stats.given > 0)
		program_log("the new proxy has taken %llu of %llu connections",
		            (unsigned long long)stats.taken, (unsigned long long)stats.given);
	ferry_upgrade_free(upgrade->upgrade);
	ferry_service_manager_free(upgrade->manager);
	free(upgrade);
}
