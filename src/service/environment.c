#include "service/environment.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *copy_variable(const char *name, const char *value)
{
	const size_t size = strlen(name) + 1 + strlen(value) + 1;
	char *copy = malloc(size);

	if (copy != NULL)
		snprintf(copy, size, "%s=%s", name, value);
	return copy;
}

/* Only digits. */
static bool read_number(const char *text, uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 10);
	return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == '\0';
}

/* An abstract name has no zero at its end. */
static int read_address(struct service_environment *environment, const char *text)
{
	const size_t length = strlen(text);
	const bool abstract = text[0] == '@';

	if (text[0] != '/' && !abstract)
		return strchr(text, ':') != NULL ? -EAFNOSUPPORT : -EINVAL;
	if (text[1] == '\0' || length >= sizeof(environment->address.sun_path))
		return -EINVAL;
	environment->address.sun_family = AF_UNIX;
	memcpy(environment->address.sun_path, text, length + 1);
	if (abstract)
		environment->address.sun_path[0] = '\0';
	environment->address_length =
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (abstract ? 0 : 1));
	return 0;
}

/* As sd_watchdog_enabled(3): variables that cannot be read ask for nothing. */
static int read_watchdog(struct service_environment *environment)
{
	const char *usec = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");
	uint64_t number;

	if (usec == NULL || !read_number(usec, &number) || number == 0 || number > INT64_MAX)
		return 0;
	environment->watchdog_usec = number;
	if (pid != NULL && (!read_number(pid, &number) || number != (uint64_t)getpid())) {
		environment->watchdog_usec = 0;
		return 0;
	}
	environment->watchdog_variable = copy_variable("WATCHDOG_USEC", usec);
	return environment->watchdog_variable != NULL ? 0 : -ENOMEM;
}

int service_environment_read(struct service_environment *environment)
{
	const char *text = getenv("NOTIFY_SOCKET");

	*environment = (struct service_environment){.socket_variable = NULL};
	if (text == NULL || text[0] == '\0')
		return 0;
	const int status = read_address(environment, text);
	if (status != 0)
		return status;
	environment->socket_variable = copy_variable("NOTIFY_SOCKET", text);
	return environment->socket_variable != NULL ? read_watchdog(environment) : -ENOMEM;
}

void service_environment_clear(struct service_environment *environment)
{
	free(environment->socket_variable);
	free(environment->watchdog_variable);
}

void service_environment_unset(void)
{
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}
