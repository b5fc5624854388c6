#include "programs/ferry-proxy/listeners.h"

#include "programs/shared/program.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <ferry/ferry.h>

static void name_listener(struct listener *listener, const char *what, unsigned int number)
{
	char text[SOCKET_ADDRESS_TEXT_SIZE];
	socket_address_format(&listener->address, text, sizeof(text));
	int length = snprintf(listener->name, sizeof(listener->name), "%s %s", what, text);
	if (number > 1)
		snprintf(listener->name + length, sizeof(listener->name) - (size_t)length, " %u", number);
}

/* Sets the address to the path of a unix socket, which a configuration gives without "unix:". */
static int set_socket_path(struct listener *listener, const char *what, const char *path)
{
	char text[SOCKET_ADDRESS_TEXT_SIZE];
	snprintf(text, sizeof(text), "unix:%s", path);
	int status = socket_address_parse(&listener->address, text);
	if (status < 0)
		program_log("%s %s: %s", what, path, strerror(-status));
	else
		name_listener(listener, what, 1);
	return status;
}

static void name_listens(struct listeners *listeners, const struct conf *conf)
{
	for (unsigned int i = 0; i < conf->listen_count; i++) {
		unsigned int number = 1;
		listeners->listens[i].address = conf->listens[i].address;
		for (unsigned int j = 0; j < i; j++)
			number += socket_address_equal(&conf->listens[i].address, &conf->listens[j].address);
		name_listener(&listeners->listens[i], "listen", number);
	}
}

int listeners_init(struct listeners *listeners, const struct conf *conf)
{
	int status = 0;
	*listeners = (struct listeners){0};
	name_listens(listeners, conf);
	for (unsigned int i = 0; i < conf->service_count && status == 0; i++)
		if (conf->services[i].socket != NULL)
			status = set_socket_path(&listeners->services[i], "service", conf->services[i].socket);
	if (conf->admin.length > 0) {
		listeners->admin.address = conf->admin;
		name_listener(&listeners->admin, "admin", 1);
	}
	if (conf->control == NULL || status < 0)
		return status;
	/* The kernel chooses an abstract name. */
	listeners->connections =
	    (struct listener){.name = "connections",
	                      .address = {.any.sa_family = AF_UNIX, .length = sizeof(sa_family_t)}};
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
	all[count++] = &listeners->connections;
	while (listener != NULL && next < count && all[next++] != listener)
		;
	while (next < count && all[next]->name[0] == '\0')
		next++;
	return next < count ? all[next] : NULL;
}

/* Whether the file of a unix socket was left by a process that was killed: nobody listens on it. */
static bool is_stale(const struct socket_address *address)
{
	if (address->any.sa_family != AF_UNIX || address->un.sun_path[0] == '\0')
		return false;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool stale = connect(fd, &address->any, address->length) < 0 && errno == ECONNREFUSED;
	close(fd);
	return stale;
}

static int listen_anew(const struct socket_address *address)
{
	int fd = socket_address_listen(address);
	if (fd == -EADDRINUSE && is_stale(address) && unlink(address->un.sun_path) == 0)
		fd = socket_address_listen(address);
	return fd;
}

static int add_to_set(struct listener *listener, struct ferry_socket_set *set)
{
	int fd = listen_anew(&listener->address);
	if (fd < 0)
		return fd;
	int status = ferry_socket_set_add(set, listener->name, fd, FERRY_FD_TAKE);
	if (status < 0) {
		close(fd);
		return status;
	}
	const struct sockaddr_un *un = &listener->address.un;
	if (un->sun_family == AF_UNIX && un->sun_path[0] != '\0')
		status = ferry_socket_set_own_path(set, listener->name);
	return status;
}

static int open_listener(struct listener *listener, struct ferry_socket_set *set)
{
	int status = 0;
	listener->fd = ferry_socket_set_find(set, listener->name);
	if (listener->fd == -ENOENT) {
		status = add_to_set(listener, set);
		listener->fd = ferry_socket_set_find(set, listener->name);
	}
	if (status < 0)
		program_log("%s: %s", listener->name, strerror(-status));
	return status;
}

int listeners_open(struct listeners *listeners, struct ferry_socket_set *set)
{
	int status = 0;
	struct listener *listener = NULL;
	while (status == 0 && (listener = listeners_next(listeners, listener)) != NULL)
		status = open_listener(listener, set);
	return status;
}
