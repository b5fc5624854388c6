/* Short pieces for the reference: daemons, their workers, and their service manager. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include <ferry/ferry.h>

int bound_workers(struct ferry_dispatcher *dispatcher, const struct ferry_dispatcher_worker *worker)
{
	int status = ferry_dispatcher_set_unclaimed_limit(dispatcher, 32);

	if (status == 0) /* a worker that does not read holds at most a megabyte here */
		status =
		    ferry_transport_set_byte_limit(ferry_dispatcher_worker_get_transport(worker), 1 << 20);
	return status;
}

void adapt_worker(struct ferry_worker *worker, unsigned int room)
{
	struct ferry_worker_stats stats;

	ferry_worker_set_credits(worker, room);
	if (ferry_worker_get_stats(worker, &stats) == 0)
		printf("%llu connections are open\n", (unsigned long long)stats.outstanding);
}

void retire(struct ferry_worker *worker)
{
	if (ferry_worker_drain(worker) < 0)
		ferry_worker_free(worker); /* -ENOTCONN: the dispatcher is gone */
}

int prepare_client(struct ferry_worker_client *client, uid_t dispatcher)
{
	const struct timeval first = {.tv_usec = 100000}, longest = {.tv_sec = 10};
	int status = ferry_worker_client_allow_uid(client, dispatcher);

	return status < 0 ? status : ferry_worker_client_set_pauses(client, &first, &longest);
}

int let_signals_rule(struct ferry_supervisor *supervisor)
{
	return ferry_supervisor_handle_signals(supervisor);
}

void rotate_logs(struct ferry_supervisor *supervisor)
{
	ferry_supervisor_signal(supervisor, SIGUSR1); /* every worker opens its log again */
}

/* Without a dispatcher, the program notes what its workers report. */
void worker_has_reported(struct ferry_supervisor_worker *worker, const char *line)
{
	if (strcmp(line, "ready") == 0)
		ferry_supervisor_worker_ready(worker);
	else if (strcmp(line, "served") == 0)
		ferry_supervisor_worker_served(worker);
}

int leave_slots_free(struct ferry_parking *parking)
{
	return ferry_parking_set_fd_reserve(parking, 64);
}

int open_to_group(struct ferry_listener *listener, gid_t administrators)
{
	return ferry_listener_allow_gid(listener, administrators);
}

void print_listener(const struct ferry_listener *listener)
{
	struct ferry_listener_stats stats;

	if (ferry_listener_get_stats(listener, &stats) == 0)
		printf("%llu accepted, %llu of forbidden users\n", (unsigned long long)stats.accepted,
		       (unsigned long long)stats.refused_peers);
}

struct ferry_socket_set *sockets_of_activation(void)
{
	struct ferry_socket_set *set = NULL;
	int status = ferry_socket_set_from_environment(&set, true);

	if (status == -ENOENT) /* started by hand */
		status = ferry_socket_set_new(&set);
	return status < 0 ? NULL : set;
}

/* A socket that the program has bound by itself. */
int adopt_socket(struct ferry_socket_set *set, int fd)
{
	int status = ferry_socket_set_add(set, "control", fd, FERRY_FD_TAKE);

	return status < 0 ? status
	                  : ferry_socket_set_own_path(set, "control"); /* removes its file in the end */
}

void report_to_manager(struct ferry_service_manager *manager, unsigned int clients)
{
	char line[64];

	if (!ferry_service_manager_is_present(manager) ||
	    ferry_service_manager_get_waiting(manager) > 0)
		return;
	(void)snprintf(line, sizeof(line), "%u clients", clients);
	ferry_service_manager_set_status(manager, line);
}

/* A start that takes long: systemd waits another minute. */
int ask_for_time(struct ferry_service_manager *manager)
{
	return ferry_service_manager_notify(manager, "EXTEND_TIMEOUT_USEC=60000000", NULL, 0);
}

int follow_child(struct ferry_service_manager *manager, pid_t child)
{
	return ferry_service_manager_set_main_pid(manager, child);
}

/* The database of a session survives the restart of the service. */
int store_session(struct ferry_service_manager *manager, int fd, bool keep)
{
	if (!keep)
		return ferry_service_manager_remove_fds(manager, "session");
	return ferry_service_manager_store_fds(manager, "session", &fd, 1);
}

int start_watchdog(struct ferry_service_manager *manager)
{
	if (ferry_service_manager_get_watchdog(manager) == 0)
		return 0; /* the unit has no WatchdogSec= */
	return ferry_service_manager_start_watchdog(manager);
}

/* In the successor: goes on counting where its predecessor has stopped. */
unsigned long long predecessors_count(const struct ferry_upgrade *upgrade)
{
	unsigned long long count = 0;
	size_t length;
	const void *state = ferry_upgrade_get_state(upgrade, &length);

	if (length == sizeof(count))
		memcpy(&count, state, sizeof(count));
	return count;
}
