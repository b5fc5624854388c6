#include "upgrade/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ferry/transport.h"
#include "ferry/upgrade.h"

#include "endpoint/connection.h"
#include "service/manager.h"
#include "upgrade/inheritance.h"
#include "upgrade/output.h"

/* ---- the environment ---- */

/* Sockets of activation are taken over, and not inherited. */
static const char *const removed[] = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"};

enum { REMOVED = sizeof(removed) / sizeof(removed[0]), OWN_MAX = REMOVED + 2 };

/* The changes of the environment: ferry's, and those of the options. The array is the caller's to free. */
static const char **make_environment(const struct ferry_upgrade_options *options)
{
	const char *const own[] = {service_manager_get_socket_variable(options->service_manager),
	                           service_manager_get_watchdog_variable(options->service_manager)};
	size_t count = 0, made = 0;

	while (options->environment != NULL && options->environment[count] != NULL)
		count++;
	const char **changes = calloc(OWN_MAX + count + 1, sizeof(*changes));
	if (changes == NULL)
		return NULL;
	for (size_t i = 0; i < REMOVED; i++)
		changes[made++] = removed[i];
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		if (own[i] != NULL)
			changes[made++] = own[i];
	for (size_t i = 0; i < count; i++)
		changes[made++] = options->environment[i];
	return changes;
}

/* ---- the descriptors ---- */

enum { NEAR, FAR, READING, WRITING, ENDS };

static void close_ends(const int *ends)
{
	for (int i = 0; i < ENDS; i++)
		if (ends[i] >= 0)
			close(ends[i]);
}

static int make_ends(int *ends)
{
	for (int i = 0; i < ENDS; i++)
		ends[i] = -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return -errno;
	const int status = output_make_pipe(ends + READING);
	if (status != 0)
		close_ends(ends);
	return status;
}

static int start_child(struct child **out, struct event_base *base,
                       const struct ferry_upgrade_options *options, const int *ends,
                       child_ended_cb ended, void *context)
{
	static const char *const pid_variables[] = {INHERITANCE_VARIABLE "=", NULL};
	const int error_output = fcntl(STDERR_FILENO, F_GETFD) >= 0 ? STDERR_FILENO : -1;
	const struct child_fd fds[] = {{STDERR_FILENO, ends[WRITING]},
	                               {INHERITANCE_CHANNEL, ends[FAR]},
	                               {INHERITANCE_ERROR_OUTPUT, error_output},
	                               {INHERITANCE_CAPTURE, ends[READING]}};
	const char **environment = make_environment(options);
	if (environment == NULL)
		return -ENOMEM;
	const struct child_options child = {.program = options->program,
	                                    .argv = options->argv,
	                                    .environment = environment,
	                                    .pid_environment = pid_variables,
	                                    .fds = fds,
	                                    .fd_count = sizeof(fds) / sizeof(fds[0])};
	const int status = child_start(out, base, &child, ended, context);
	free(environment);
	return status;
}

/* What this process needs is made before the program is started: a failure leaves no program. `ends` become -1 as
 * they are used. */
static int prepare(struct spawned *spawned, struct ferry_transport **transport,
                   struct event_base *base, int *ends)
{
	const int reading = fcntl(ends[READING], F_DUPFD_CLOEXEC, 0);
	if (reading < 0)
		return -errno;
	int status = output_new(&spawned->output, base, reading, STDERR_FILENO);
	if (status != 0)
		return status;
	spawned->token = fcntl(ends[NEAR], F_DUPFD_CLOEXEC, 0);
	if (spawned->token < 0)
		return -errno;
	status = connection_to_transport(transport, base, ends[NEAR]);
	ends[NEAR] = -1;
	return status;
}

int spawn_successor(struct spawned *out, struct ferry_transport **transport,
                    struct event_base *base, const struct ferry_upgrade_options *options,
                    child_ended_cb ended, void *context)
{
	struct spawned spawned = {.token = -1};
	int ends[ENDS];

	*transport = NULL;
	int status = make_ends(ends);
	if (status != 0)
		return status;
	status = prepare(&spawned, transport, base, ends);
	if (status == 0)
		status = start_child(&spawned.child, base, options, ends, ended, context);
	close_ends(ends);
	if (status != 0) {
		ferry_transport_free(*transport);
		spawned_clear(&spawned, false);
	} else {
		*out = spawned;
	}
	return status;
}

void spawned_clear(struct spawned *spawned, bool goes_on)
{
	if (goes_on)
		child_release(spawned->child);
	else
		child_free(spawned->child);
	output_free(spawned->output);
	if (spawned->token >= 0)
		close(spawned->token);
}
