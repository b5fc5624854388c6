#include "fake_manager.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "support.h"

static int bind_socket(const struct sockaddr_un *address, socklen_t length)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)address, length), 0);
	return fd;
}

int fake_manager_start(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t length = sizeof(address);
	char name[sizeof(address.sun_path) + 1];
	int fd = bind_socket(&address, sizeof(address.sun_family));
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	int size = (int)(length - sizeof(address.sun_family)) - 1;
	snprintf(name, sizeof(name), "@%.*s", size, address.sun_path + 1);
	setenv("NOTIFY_SOCKET", name, 1);
	return fd;
}

int fake_manager_start_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
	memcpy(address.sun_path, path, strlen(path) + 1);
	setenv("NOTIFY_SOCKET", path, 1);
	return bind_socket(&address, sizeof(address));
}

int fake_manager_read(int manager, char *text, size_t size)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec vector = {.iov_base = text, .iov_len = size - 1};
	struct msghdr message = {.msg_iov = &vector,
	                         .msg_iovlen = 1,
	                         .msg_control = &control,
	                         .msg_controllen = sizeof(control)};
	int fd = -1;
	ssize_t length = recvmsg(manager, &message, MSG_CMSG_CLOEXEC);
	ck_assert_msg(length > 0, "no message: %s", strerror(errno));
	text[length] = '\0';
	const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	if (header != NULL && header->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

void fake_manager_expect(int manager, const char *text)
{
	char message[512];
	ck_assert_int_eq(fake_manager_read(manager, message, sizeof(message)), -1);
	ck_assert_str_eq(message, text);
}

void fake_manager_expect_nothing(int manager)
{
	char byte;
	ck_assert_int_lt(recv(manager, &byte, 1, 0), 0);
	ck_assert_int_eq(errno, EAGAIN);
}

void fake_manager_stop(int manager)
{
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	close(manager);
}
