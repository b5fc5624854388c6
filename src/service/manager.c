#include "service/manager.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "kernel/clock.h"
#include "service/environment.h"
#include "service/outbox.h"

struct ferry_service_manager {
	struct outbox *outbox; /* NULL: there is no service manager */
	struct event *watchdog;
	struct service_environment environment;
	pid_t owner;
};

static void free_manager(struct ferry_service_manager *manager)
{
	outbox_free(manager->outbox);
	if (manager->watchdog != NULL)
		event_free(manager->watchdog);
	service_environment_clear(&manager->environment);
	free(manager);
}

int ferry_service_manager_new(struct ferry_service_manager **out, struct event_base *base,
                              bool unset)
{
	struct ferry_service_manager *manager = calloc(1, sizeof(*manager));
	int status = manager == NULL ? -ENOMEM : service_environment_read(&manager->environment);

	if (unset)
		service_environment_unset();
	if (out == NULL || base == NULL)
		status = -EINVAL;
	if (status == 0 && manager->environment.socket_variable != NULL)
		status = outbox_new(&manager->outbox, base, &manager->environment.address,
		                    manager->environment.address_length);
	if (status != 0) {
		if (manager != NULL)
			free_manager(manager);
		return status;
	}
	manager->owner = getpid();
	*out = manager;
	return 0;
}

/* A child of fork(2) is no process that the manager expects messages from. */
static bool is_owner(const struct ferry_service_manager *manager)
{
	return manager->owner == getpid();
}

void ferry_service_manager_free(struct ferry_service_manager *manager)
{
	if (manager == NULL)
		return;
	if (manager->outbox != NULL && is_owner(manager))
		outbox_flush(manager->outbox);
	free_manager(manager);
}

bool ferry_service_manager_is_present(const struct ferry_service_manager *manager)
{
	return manager != NULL && manager->outbox != NULL;
}

size_t ferry_service_manager_get_waiting(const struct ferry_service_manager *manager)
{
	return ferry_service_manager_is_present(manager) ? outbox_count(manager->outbox) : 0;
}

int ferry_service_manager_notify(struct ferry_service_manager *manager, const char *text,
                                 const int *fds, size_t count)
{
	if (manager == NULL || text == NULL || text[0] == '\0' || (fds == NULL && count > 0))
		return -EINVAL;
	if (!is_owner(manager))
		return -ECHILD;
	if (count > OUTBOX_FDS_MAX)
		return -E2BIG;
	return manager->outbox != NULL ? outbox_send(manager->outbox, text, fds, count) : 0;
}

/* ---- the usual messages ---- */

int ferry_service_manager_ready(struct ferry_service_manager *manager)
{
	return ferry_service_manager_notify(manager, "READY=1", NULL, 0);
}

int ferry_service_manager_stopping(struct ferry_service_manager *manager)
{
	return ferry_service_manager_notify(manager, "STOPPING=1", NULL, 0);
}

int ferry_service_manager_reloading(struct ferry_service_manager *manager)
{
	char text[64];

	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_now());
	return ferry_service_manager_notify(manager, text, NULL, 0);
}

int ferry_service_manager_set_main_pid(struct ferry_service_manager *manager, pid_t pid)
{
	char text[32];

	if (pid <= 0)
		return -EINVAL;
	snprintf(text, sizeof(text), "MAINPID=%ld", (long)pid);
	return ferry_service_manager_notify(manager, text, NULL, 0);
}

int ferry_service_manager_set_status(struct ferry_service_manager *manager, const char *text)
{
	static const char name[] = "STATUS=";

	if (manager == NULL || text == NULL || strchr(text, '\n') != NULL)
		return -EINVAL;
	const size_t length = strlen(text);
	char *message = malloc(sizeof(name) + length);
	if (message == NULL)
		return -ENOMEM;
	memcpy(message, name, sizeof(name) - 1);
	memcpy(message + sizeof(name) - 1, text, length + 1);
	const int status = ferry_service_manager_notify(manager, message, NULL, 0);
	free(message);
	return status;
}

/* ---- stored descriptors ---- */

/* systemd stores a descriptor with another name as "stored". */
static int check_name(const char *name)
{
	if (name == NULL || name[0] == '\0')
		return -EINVAL;
	for (const char *each = name; *each != '\0'; each++)
		if ((unsigned char)*each < ' ' || *each == 127 || *each == ':')
			return -EINVAL;
	return strlen(name) > FERRY_SERVICE_MANAGER_NAME_MAX ? -EMSGSIZE : 0;
}

static int notify_of_store(struct ferry_service_manager *manager, const char *line,
                           const char *name, const int *fds, size_t count)
{
	char text[64 + FERRY_SERVICE_MANAGER_NAME_MAX];
	const int status = check_name(name);

	if (status != 0)
		return status;
	snprintf(text, sizeof(text), "%s\nFDNAME=%s", line, name);
	return ferry_service_manager_notify(manager, text, fds, count);
}

int ferry_service_manager_store_fds(struct ferry_service_manager *manager, const char *name,
                                    const int *fds, size_t count)
{
	return count == 0 ? -EINVAL : notify_of_store(manager, "FDSTORE=1", name, fds, count);
}

int ferry_service_manager_remove_fds(struct ferry_service_manager *manager, const char *name)
{
	return notify_of_store(manager, "FDSTOREREMOVE=1", name, NULL, 0);
}

/* ---- the watchdog ---- */

uint64_t ferry_service_manager_get_watchdog(const struct ferry_service_manager *manager)
{
	return ferry_service_manager_is_present(manager) ? manager->environment.watchdog_usec : 0;
}

static void on_watchdog(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	struct ferry_service_manager *manager = argument;

	/* Messages that wait show that the loop turns when they arrive. */
	if (is_owner(manager) && outbox_count(manager->outbox) == 0)
		(void)outbox_send(manager->outbox, "WATCHDOG=1", NULL, 0);
}

int ferry_service_manager_start_watchdog(struct ferry_service_manager *manager)
{
	if (manager == NULL)
		return -EINVAL;
	if (!is_owner(manager))
		return -ECHILD;
	const uint64_t usec = ferry_service_manager_get_watchdog(manager);
	if (usec == 0 || manager->watchdog != NULL)
		return 0;
	const struct timeval interval = clock_to_timeval((int64_t)(usec / 2 > 0 ? usec / 2 : 1));
	struct event *event =
	    event_new(outbox_get_base(manager->outbox), -1, EV_PERSIST, on_watchdog, manager);
	if (event == NULL || event_add(event, &interval) < 0) {
		if (event != NULL)
			event_free(event);
		return -ENOMEM;
	}
	manager->watchdog = event;
	event_active(event, EV_TIMEOUT, 0);
	return 0;
}

/* ---- the next process of the service ---- */

const char *service_manager_get_socket_variable(const struct ferry_service_manager *manager)
{
	return manager != NULL ? manager->environment.socket_variable : NULL;
}

const char *service_manager_get_watchdog_variable(const struct ferry_service_manager *manager)
{
	return manager != NULL ? manager->environment.watchdog_variable : NULL;
}
