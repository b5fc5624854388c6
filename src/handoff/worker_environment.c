#include "handoff/worker_environment.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/util.h>

#include "ferry/worker.h"

/* Reads a number up to `end`, and goes behind that. -1: there is none. */
static long read_number(const char **text, char end)
{
	char *rest;

	if (**text < '0' || **text > '9')
		return -1;
	errno = 0;
	long number = strtol(*text, &rest, 10);
	if (errno != 0 || *rest != end || number > INT_MAX)
		return -1;
	*text = end != '\0' ? rest + 1 : rest;
	return number;
}

/* The descriptor in the variable, if that is for this process. */
static int find_channel(void)
{
	const char *text = getenv(WORKER_ENVIRONMENT_NAME);
	int type;
	socklen_t length = sizeof(type);

	if (text == NULL)
		return -ENOENT;
	long fd = read_number(&text, ':');
	long pid = fd >= 0 ? read_number(&text, '\0') : -1;
	if (pid < 0)
		return -EINVAL;
	if (pid != (long)getpid())
		return -ENOENT;
	if (getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0)
		return -errno;
	return (int)fd;
}

static int make_worker(struct ferry_worker **out, struct event_base *base, int fd,
                       const struct ferry_worker_callbacks *callbacks, void *context)
{
	struct ferry_transport *transport;

	int status = ferry_transport_new_socket(&transport, base, fd);
	if (status < 0)
		return status;
	status = ferry_worker_new(out, transport, callbacks, context);
	if (status < 0) {
		bufferevent_setfd(ferry_transport_get_bufferevent(transport), -1);
		ferry_transport_free(transport);
	}
	return status;
}

int ferry_worker_new_from_environment(struct ferry_worker **out, struct event_base *base,
                                      const struct ferry_worker_callbacks *callbacks, void *context)
{
	if (out == NULL || base == NULL || callbacks == NULL)
		return -EINVAL;
	int fd = find_channel();
	if (fd < 0)
		return fd;
	int status = make_worker(out, base, fd, callbacks, context);
	if (status < 0)
		return status;
	evutil_make_socket_nonblocking(fd);
	evutil_make_socket_closeonexec(fd);
	unsetenv(WORKER_ENVIRONMENT_NAME);
	return 0;
}
