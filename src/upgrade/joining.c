#include "upgrade/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "endpoint/address.h"
#include "kernel/clock.h"
#include "kernel/socket.h"
#include "takeover/socket_set.h"
#include "upgrade/inheritance.h"
#include "util/little_endian.h"
#include "util/log.h"

/* From the start of a process to the moment from which it serves. */

/* ---- the sockets ---- */

/* The kernel chooses an abstract name. */
static int add_connections_socket(struct ferry_socket_set *set)
{
	const struct sockaddr address = {.sa_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	int status = 0;
	if (bind(fd, &address, sizeof(address.sa_family)) < 0 || listen(fd, SOMAXCONN) < 0)
		status = -errno;
	if (status == 0)
		status = ferry_socket_set_add(set, UPGRADE_CONNECTIONS, fd, FERRY_FD_TAKE);
	if (status != 0)
		close(fd);
	return status;
}

static void on_connection(struct ferry_handoff *handoff, void *context)
{
	struct ferry_upgrade *upgrade = context;

	upgrade->received++;
	if (upgrade->callbacks->connection_received == NULL) {
		ferry_handoff_free(handoff);
		return;
	}
	upgrade_enter(upgrade);
	upgrade->callbacks->connection_received(upgrade, handoff, upgrade->context);
	upgrade_leave(upgrade);
}

/* ---- the end of the beginning ---- */

static void reject(struct ferry_upgrade *upgrade, int status)
{
	const bool accepted = upgrade->phase == UPGRADE_COMMITTING;

	taker_free(upgrade->taker);
	upgrade->taker = NULL;
	upgrade->phase = accepted ? UPGRADE_REPLACED : UPGRADE_OVER;
	if (accepted)
		upgrade_reach(upgrade, upgrade->set);
	if (upgrade->callbacks->rejected != NULL)
		upgrade->callbacks->rejected(upgrade, status, upgrade->context);
}

/* MAINPID again: the predecessor may have died before it could send it. */
static void notify_manager(const struct ferry_upgrade *upgrade)
{
	struct ferry_service_manager *manager = upgrade->options.service_manager;

	if (manager == NULL)
		return;
	if (upgrade->had_predecessor)
		(void)ferry_service_manager_set_main_pid(manager, getpid());
	const int status = ferry_service_manager_ready(manager);
	if (status != 0)
		log_line(FERRY_LOG_WARNING, "the service manager is not notified: %s", strerror(-status));
}

static void serve(struct ferry_upgrade *upgrade)
{
	upgrade->phase = UPGRADE_SERVING;
	notify_manager(upgrade);
	const int status = upgrade_accept_successors(upgrade);
	if (status != 0)
		log_line(FERRY_LOG_WARNING, "nobody else can start a successor: %s", strerror(-status));
	if (upgrade->callbacks->serving != NULL)
		upgrade->callbacks->serving(upgrade, upgrade->context);
}

static void start(struct ferry_upgrade *upgrade)
{
	int status = upgrade->set != NULL ? 0 : ferry_socket_set_new(&upgrade->set);

	if (status == 0 && ferry_socket_set_find(upgrade->set, UPGRADE_CONNECTIONS) < 0)
		status = add_connections_socket(upgrade->set);
	if (status == 0)
		status = taker_new(&upgrade->taker, upgrade->base,
		                   ferry_socket_set_find(upgrade->set, UPGRADE_CONNECTIONS), on_connection,
		                   upgrade);
	if (status != 0) {
		reject(upgrade, status);
		return;
	}
	upgrade->phase = UPGRADE_PREPARING;
	upgrade->callbacks->started(upgrade, upgrade->set, upgrade->context);
}

/* ---- the standard error ---- */

/* Whether two descriptors are ends of one pipe. */
static bool same_pipe(int first, int second)
{
	struct stat one, other;

	return fstat(first, &one) == 0 && fstat(second, &other) == 0 && one.st_dev == other.st_dev &&
	       one.st_ino == other.st_ino;
}

/* The program may have changed its standard error since. */
static void leave_capture(struct ferry_upgrade *upgrade)
{
	upgrade->inherited = false;
	if (same_pipe(STDERR_FILENO, INHERITANCE_CAPTURE))
		(void)dup2(INHERITANCE_ERROR_OUTPUT, STDERR_FILENO);
	close(INHERITANCE_ERROR_OUTPUT);
	const int status =
	    output_new(&upgrade->output, upgrade->base, INHERITANCE_CAPTURE, STDERR_FILENO);
	if (status != 0)
		log_line(FERRY_LOG_WARNING, "lines of programs are lost: %s", strerror(-status));
}

/* ---- the predecessor ---- */

static void on_received(struct ferry_socket_set *set, void *state, size_t length, void *context)
{
	struct ferry_upgrade *upgrade = context;
	const size_t size = UPGRADE_GENERATION_SIZE;

	upgrade_enter(upgrade);
	ferry_socket_set_free(upgrade->set);
	upgrade->set = set;
	upgrade->had_predecessor = true;
	upgrade->state = state;
	if (length >= size) {
		upgrade->generation = (unsigned long)little_endian_get(state, UPGRADE_GENERATION_SIZE);
		upgrade->state_length = length - size;
	}
	start(upgrade);
	upgrade_leave(upgrade);
}

/* A predecessor that goes on, but has ended the channel before it could greet, still listens at its path. */
static bool listens(const struct ferry_upgrade *upgrade)
{
	struct address address;

	int status = address_open(&address, upgrade->path);
	if (status != 0)
		return status != -ENOENT;
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	status = fd < 0 ? -errno : address_connect(&address, fd);
	if (fd >= 0)
		close(fd);
	address_close(&address);
	return status != -ECONNREFUSED && status != -ENOENT;
}

/* The kernel gives a process another parent when it has closed all descriptors of the one that dies. */
static void start_when_parent_is_dead(struct ferry_upgrade *upgrade)
{
	static const struct timeval interval = {.tv_usec = 10000};

	if (getppid() != upgrade->parent) {
		leave_capture(upgrade); /* nobody reads the pipe */
		start(upgrade);
	} else if (clock_now() >= upgrade->give_up_at) {
		reject(upgrade, -ECONNRESET);
	} else {
		upgrade_run_later(upgrade, start_when_parent_is_dead, &interval);
	}
}

/* The channel has ended before the sockets came. A process that dies may have its sockets for a while, and one that has
 * withdrawn keeps them. False: it listens. */
static bool start_without_predecessor(struct ferry_upgrade *upgrade)
{
	if (!upgrade->inherited && listens(upgrade))
		return false;
	log_line(FERRY_LOG_WARNING,
	         "the old process has closed the channel before it has given its sockets");
	upgrade->give_up_at = clock_now() + clock_from_timeval(&upgrade->options.timeout);
	/* Until this callback returns the takeover has copies of sockets, which would seem to be another process's. */
	upgrade_run_in_turn(upgrade, upgrade->inherited ? start_when_parent_is_dead : start);
	return true;
}

static void on_ended(int status, void *context)
{
	struct ferry_upgrade *upgrade = context;
	const bool lost = status == -ECONNRESET || status == -EPIPE;

	upgrade_enter(upgrade);
	if (status == 0) {
		serve(upgrade);
	} else if (!lost || upgrade->phase != UPGRADE_STARTING || !start_without_predecessor(upgrade)) {
		reject(upgrade, status);
	}
	upgrade_leave(upgrade);
}

static int ask_predecessor(struct ferry_upgrade *upgrade)
{
	static const struct predecessor_callbacks callbacks = {.received = on_received,
	                                                       .ended = on_ended};
	const struct timeval *timeout = &upgrade->options.timeout;

	if (!upgrade->inherited)
		return predecessor_connect(&upgrade->predecessor, upgrade->base, upgrade->path, timeout,
		                           &callbacks, upgrade);
	struct ucred peer;
	if (socket_get_peer(INHERITANCE_CHANNEL, &peer) == 0)
		upgrade->parent = peer.pid;
	return predecessor_inherit(&upgrade->predecessor, upgrade->base, INHERITANCE_CHANNEL, timeout,
	                           &callbacks, upgrade);
}

int upgrade_join(struct ferry_upgrade *upgrade)
{
	int status = inheritance_read();

	upgrade->inherited = status == 0;
	if (status != 0 && status != -ENOENT)
		return status;
	if (!upgrade->inherited && upgrade->options.predecessor != NULL) {
		upgrade->path = strdup(upgrade->options.predecessor);
		if (upgrade->path == NULL)
			return -ENOMEM;
	}
	if (upgrade->inherited)
		return ask_predecessor(upgrade);
	/* If there is a predecessor, this set is for the case that it has died. */
	status = ferry_socket_set_from_environment(&upgrade->set, true);
	if (status != 0 && status != -ENOENT)
		return status;
	if (upgrade->path != NULL)
		return ask_predecessor(upgrade);
	upgrade_run_in_turn(upgrade, start);
	return 0;
}

/* ---- ready ---- */

int ferry_upgrade_ready(struct ferry_upgrade *upgrade)
{
	if (upgrade == NULL)
		return -EINVAL;
	if (!upgrade_is_owner(upgrade))
		return -ECHILD;
	if (upgrade->phase == UPGRADE_OVER)
		return -ENOTCONN;
	if (upgrade->phase != UPGRADE_PREPARING)
		return -EINVAL;
	const int status = upgrade->had_predecessor ? predecessor_commit(upgrade->predecessor) : 0;
	if (status != 0)
		return status;
	upgrade->phase = UPGRADE_COMMITTING;
	if (upgrade->inherited)
		leave_capture(upgrade);
	if (!upgrade->had_predecessor)
		upgrade_run_in_turn(upgrade, serve);
	return 0;
}

/* ---- getters ---- */

const void *ferry_upgrade_get_state(const struct ferry_upgrade *upgrade, size_t *length)
{
	const bool has_state = upgrade != NULL && upgrade->state_length > 0;

	if (length != NULL)
		*length = has_state ? upgrade->state_length : 0;
	return has_state ? (const char *)upgrade->state + UPGRADE_GENERATION_SIZE : "";
}

int ferry_upgrade_get_error_output(const struct ferry_upgrade *upgrade)
{
	return upgrade != NULL && upgrade->inherited ? INHERITANCE_ERROR_OUTPUT : STDERR_FILENO;
}

unsigned long ferry_upgrade_get_generation(const struct ferry_upgrade *upgrade)
{
	return upgrade != NULL ? upgrade->generation : 0;
}
