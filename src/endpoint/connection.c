#include "endpoint/connection.h"

#include <unistd.h>

#include "ferry/transport.h"

int connection_to_transport(struct ferry_transport **out, struct event_base *base, int fd)
{
	int status = ferry_transport_new_socket(out, base, fd);
	if (status != 0)
		close(fd);
	return status;
}
