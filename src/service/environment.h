#ifndef FERRY_SERVICE_ENVIRONMENT_H
#define FERRY_SERVICE_ENVIRONMENT_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The variables that a service manager passes to the process that it starts. */

struct service_environment {
	char *socket_variable; /* "NOTIFY_SOCKET=…"; NULL: there is none */
	char
	    *watchdog_variable; /* "WATCHDOG_USEC=…"; NULL: there is none, or it is another process's */
	uint64_t watchdog_usec; /* 0: no sign of life is expected */
	struct sockaddr_un address;
	socklen_t address_length;
};

/* 0, -EINVAL, -EAFNOSUPPORT or -ENOMEM; the caller clears it in any case. */
int service_environment_read(struct service_environment *environment);
void service_environment_clear(struct service_environment *environment);

/* Removes the variables from the environment. */
void service_environment_unset(void);

#endif
