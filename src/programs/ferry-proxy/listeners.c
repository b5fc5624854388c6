#include "programs/ferry-proxy/listeners.h"

#include "programs/shared/program.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ferry/ferry.h>

static void name_listener(struct listener *listener, const char *what, unsigned int number)
{
	char text[FERRY_ADDRESS_TEXT_SIZE];
	ferry_address_format(&listener->address, text, sizeof(text));
	int length = snprintf(listener->name, sizeof(listener->name), "%s %s", what, text);
	if (number > 1)
		snprintf(listener->name + length, sizeof(listener->name) - (size_t)length, " %u", number);
}

/* Sets the address to the path of a unix socket, which a configuration gives without "unix:". */
static int set_socket_path(struct listener *listener, const char *what, const char *path)
{
	char text[FERRY_ADDRESS_TEXT_SIZE];
	snprintf(text, sizeof(text), "unix:%s", path);
	int status = ferry_address_parse(&listener->address, text);
	if (status < 0)
		program_log("%s %s: %s", what, path, strerror(-status));
	else
		name_listener(listener, what, 1);
	return status;
}

static unsigned int count_passed(const struct conf *conf, unsigned int before, const char *name)
{
	unsigned int count = 0;
	for (unsigned int i = 0; i < before; i++)
		count += strcmp(conf->listens[i].systemd, name) == 0;
	return count;
}

static void name_listens(struct listeners *listeners, const struct conf *conf)
{
	for (unsigned int i = 0; i < conf->listen_count; i++) {
		struct listener *listener = &listeners->listens[i];
		const struct conf_listen *from = &conf->listens[i];
		unsigned int number = 1;
		listener->address = from->address;
		listener->access = from->access;
		if (from->systemd[0] != '\0') {
			snprintf(listener->name, sizeof(listener->name), "%s", from->systemd);
			listener->passed = count_passed(conf, i, from->systemd) + 1;
			continue;
		}
		for (unsigned int j = 0; j < i; j++)
			number += ferry_address_equal(&from->address, &conf->listens[j].address);
		name_listener(listener, "listen", number);
	}
}

int listeners_init(struct listeners *listeners, const struct conf *conf)
{
	int status = 0;
	*listeners =
	    (struct listeners){.admin.access.group = (gid_t)-1, .control.access.group = (gid_t)-1};
	name_listens(listeners, conf);
	for (unsigned int i = 0; i < conf->service_count && status == 0; i++) {
		listeners->services[i].access = conf->services[i].access;
		if (conf->services[i].socket != NULL)
			status = set_socket_path(&listeners->services[i], "service", conf->services[i].socket);
	}
	if (conf->admin.length > 0) {
		listeners->admin.address = conf->admin;
		name_listener(&listeners->admin, "admin", 1);
	}
	if (conf->control == NULL || status < 0)
		return status;
	return set_socket_path(&listeners->control, "control", conf->control);
}

struct listener *listeners_next(struct listeners *listeners, const struct listener *listener)
{
	struct listener *all[LISTENERS_MAX];
	unsigned int count = 0, next = 0;
	for (unsigned int i = 0; i < CONF_LISTENS; i++)
		all[count++] = &listeners->listens[i];
	for (unsigned int i = 0; i < CONF_SERVICES; i++)
		all[count++] = &listeners->services[i];
	all[count++] = &listeners->admin;
	all[count++] = &listeners->control;
	while (listener != NULL && next < count && all[next++] != listener)
		;
	while (next < count && all[next]->name[0] == '\0')
		next++;
	return next < count ? all[next] : NULL;
}

/* The library's listener accepts nothing; it takes the path, and the set owns the file and its lock then. */
static int add_unix_file(const struct listener *listener, struct ferry_socket_set *set,
                         struct event_base *base)
{
	struct ferry_listener_options options = FERRY_LISTENER_OPTIONS_INIT;
	struct ferry_listener *made;
	options.lock = true;
	options.mode = listener->access.mode;
	options.group = listener->access.group;
	int status = ferry_listener_new_unix(&made, base, ferry_address_get_path(&listener->address),
	                                     &options, NULL, NULL);
	if (status < 0)
		return status;
	status = ferry_socket_set_add_listener(set, listener->name, made);
	ferry_listener_free(made);
	return status;
}

static int add_to_set(const struct listener *listener, struct ferry_socket_set *set,
                      struct event_base *base)
{
	if (ferry_address_get_path(&listener->address) != NULL)
		return add_unix_file(listener, set, base);
	int fd = ferry_address_listen(&listener->address, 0);
	if (fd < 0)
		return fd;
	int status = ferry_socket_set_add(set, listener->name, fd, FERRY_FD_TAKE);
	if (status < 0)
		close(fd);
	return status;
}

/* The cause of a refusal that strerror(3) does not have. */
static const char *cause_of(const struct listener *listener, int status)
{
	if (ferry_address_get_path(&listener->address) == NULL)
		return strerror(-status);
	switch (status) {
	case -EADDRINUSE:
		return "another process listens there, or the file is not a socket that this user left";
	case -EPERM:
		return "the socket cannot have this mode or group, or its .lock belongs to another user";
	case -ELOOP:
		return "its .lock is a symbolic link";
	default:
		return strerror(-status);
	}
}

/* ---- sockets of the service manager ---- */

/* Also finds what another program with systemd's protocol passes and no client of HTTP can use. */
static bool accepts_streams(int fd)
{
	int type = 0, accepts = 0;
	socklen_t size = sizeof(int), length = sizeof(int);
	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &length) == 0 && accepts != 0;
}

/* The descriptor with that number, from 1, among those of the name; or -ENOENT. */
static int get_passed(const struct ferry_socket_set *set, const char *name, unsigned int number)
{
	for (size_t i = 0; i < ferry_socket_set_count(set); i++)
		if (strcmp(ferry_socket_set_get_name(set, i), name) == 0 && --number == 0)
			return ferry_socket_set_get_fd(set, i);
	return -ENOENT;
}

static int find_passed(struct listener *listener, const struct ferry_socket_set *set)
{
	listener->fd = get_passed(set, listener->name, listener->passed);
	if (listener->fd < 0) {
		program_log("systemd:%s: the service manager has passed fewer than %u sockets of this name",
		            listener->name, listener->passed);
		return -ENOENT;
	}
	if (!accepts_streams(listener->fd)) {
		program_log("systemd:%s: not a listening stream socket", listener->name);
		return -EINVAL;
	}
	return 0;
}

/* The service manager listens on them, and their clients would wait for ever. */
static void report_unused(struct listeners *listeners, const struct ferry_socket_set *set)
{
	for (unsigned int i = 0; i < CONF_LISTENS; i++) {
		const struct listener *listener = &listeners->listens[i];
		unsigned int next = listener->passed + 1;
		bool is_last = listener->passed > 0;
		for (unsigned int j = i + 1; j < CONF_LISTENS && is_last; j++)
			is_last = listeners->listens[j].passed != next ||
			          strcmp(listeners->listens[j].name, listener->name) != 0;
		if (is_last && get_passed(set, listener->name, next) >= 0)
			program_log("systemd:%s: nobody listens on more than %u of the sockets of this name",
			            listener->name, listener->passed);
	}
}

static int open_listener(struct listener *listener, struct ferry_socket_set *set,
                         struct event_base *base)
{
	int status = 0;
	if (listener->passed > 0)
		return find_passed(listener, set);
	listener->fd = ferry_socket_set_find(set, listener->name);
	if (listener->fd == -ENOENT) {
		status = add_to_set(listener, set, base);
		listener->fd = ferry_socket_set_find(set, listener->name);
	}
	if (status < 0)
		program_log("%s: %s", listener->name, cause_of(listener, status));
	return status;
}

int listeners_open(struct listeners *listeners, struct ferry_socket_set *set,
                   struct event_base *base)
{
	int status = 0;
	struct listener *listener = NULL;
	while (status == 0 && (listener = listeners_next(listeners, listener)) != NULL)
		status = open_listener(listener, set, base);
	if (status == 0)
		report_unused(listeners, set);
	return status;
}
