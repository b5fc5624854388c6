#include "programs/shared/socket_transport.h"

#include <errno.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <ferry/transport.h>

int socket_transport_new(struct ferry_transport **out, struct event_base *base, int fd)
{
	struct bufferevent *bev = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (bev == NULL) {
		close(fd);
		return -ENOMEM;
	}
	int status = ferry_transport_new(out, bev);
	if (status < 0)
		bufferevent_free(bev);
	return status;
}
