#include "takeover/activation_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Does what sd_listen_fds_with_names(3) does, for a build without libsystemd. */

/* A positive number; 0: no such variable; or -EINVAL. */
static int read_number(const char *variable)
{
	const char *text = getenv(variable);
	char *end;

	if (text == NULL)
		return 0;
	errno = 0;
	const long number = strtol(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || number <= 0 ||
	    number > INT_MAX - ACTIVATION_FIRST_FD)
		return -EINVAL;
	return (int)number;
}

/* The number of descriptors for this process, or -EINVAL. */
static int count_passed_fds(void)
{
	const int pid = read_number("LISTEN_PID");

	if (pid <= 0)
		return pid;
	return pid == getpid() ? read_number("LISTEN_FDS") : 0;
}

static int make_close_on_exec(int count)
{
	for (int fd = ACTIVATION_FIRST_FD; fd < ACTIVATION_FIRST_FD + count; fd++) {
		const int flags = fcntl(fd, F_GETFD);
		if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0)
			return -errno;
	}
	return 0;
}

static void free_names(char **names)
{
	for (char **name = names; *name != NULL; name++)
		free(*name);
	free(names);
}

/* Splits at the colons. -EINVAL: there are not exactly `count` names. */
static int split_names(char ***out, const char *text, int count)
{
	int status = 0;
	char **names = calloc((size_t)count + 1, sizeof(*names));
	if (names == NULL)
		return -ENOMEM;

	for (char **name = names; name < names + count && status == 0; name++) {
		const size_t length = strcspn(text, ":");
		const bool last = text[length] == '\0';
		const bool expected = name + 1 == names + count;
		*name = last == expected ? strndup(text, length) : NULL;
		if (*name == NULL)
			status = last == expected ? -ENOMEM : -EINVAL;
		text += length + (last ? 0 : 1);
	}
	if (status != 0)
		free_names(names);
	else
		*out = names;
	return status;
}

static int read_names(char ***out, int count)
{
	const char *text = getenv("LISTEN_FDNAMES");
	if (text != NULL)
		return split_names(out, text, count);

	char **names = calloc((size_t)count + 1, sizeof(*names));
	bool complete = names != NULL;
	for (int i = 0; i < count && complete; i++)
		complete = (names[i] = strdup("unknown")) != NULL;
	if (!complete && names != NULL)
		free_names(names);
	else
		*out = names;
	return complete ? 0 : -ENOMEM;
}

int activation_read(char ***names, bool unset)
{
	const int count = count_passed_fds();
	int status = count;

	/* Open descriptors first: they bound the memory for the names. */
	if (count > 0)
		status = make_close_on_exec(count);
	if (count > 0 && status == 0)
		status = read_names(names, count);
	if (unset) {
		unsetenv("LISTEN_PID");
		unsetenv("LISTEN_FDS");
		unsetenv("LISTEN_FDNAMES");
	}
	return status < 0 ? status : count;
}
