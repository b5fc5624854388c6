#include "endpoint/connection.h"

#include <errno.h>
#include <unistd.h>

#include <event2/bufferevent.h>

#include "ferry/transport.h"

int connection_try_transport(struct ferry_transport **out, struct event_base *base, int fd)
{
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (bev == NULL)
		return -ENOMEM;
	int status = ferry_transport_new(out, bev);
	if (status != 0) {
		bufferevent_setfd(bev, -1); /* or the loop would close it */
		bufferevent_free(bev);
	}
	return status;
}

int connection_to_transport(struct ferry_transport **out, struct event_base *base, int fd)
{
	int status = connection_try_transport(out, base, fd);
	if (status != 0)
		close(fd);
	return status;
}
