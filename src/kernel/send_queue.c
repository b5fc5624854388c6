#include "kernel/send_queue.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

int send_queue_length(int fd)
{
	int length = 0;

	/* SIOCOUTQ has the number of TIOCOUTQ: a terminal has a send queue too. A pipe has none, but returns its
	 * unread bytes at both ends. */
	if (ioctl(fd, SIOCOUTQ, &length) == 0 || ioctl(fd, FIONREAD, &length) == 0)
		return length;
	return -errno;
}
