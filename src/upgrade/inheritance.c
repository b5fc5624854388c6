#include "upgrade/inheritance.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kernel/socket.h"

static int check_channel(void)
{
	if (socket_get_domain(INHERITANCE_CHANNEL) != AF_UNIX ||
	    socket_get_type(INHERITANCE_CHANNEL) != SOCK_STREAM)
		return -EPROTO;
	return 0;
}

static int make_close_on_exec(int fd)
{
	return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -EPROTO : 0;
}

int inheritance_read(void)
{
	const char *text = getenv(INHERITANCE_VARIABLE);
	char pid[24];

	if (text == NULL)
		return -ENOENT;
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	int status = strcmp(text, pid) == 0 ? check_channel() : -ENOENT;
	unsetenv(INHERITANCE_VARIABLE);
	for (int fd = INHERITANCE_CHANNEL; fd <= INHERITANCE_CAPTURE && status == 0; fd++)
		status = make_close_on_exec(fd);
	return status;
}

void inheritance_close(void)
{
	close(INHERITANCE_ERROR_OUTPUT);
	close(INHERITANCE_CAPTURE);
}
