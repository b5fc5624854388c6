#include "supervisor/settings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel/clock.h"
#include "supervisor/fields.h"

enum { CRASH_LIMIT = 10, CRASH_LIMIT_MAX = 100000, STANDARD_FDS = 3, DUPLICATES_FROM = 3 };

/* ---- strings ---- */

static int copy_string(char **out, const char *text)
{
	*out = strdup(text);
	return *out != NULL ? 0 : -ENOMEM;
}

static int copy_list(char ***out, const char *const *list)
{
	size_t count = 0;

	while (list != NULL && list[count] != NULL)
		count++;
	*out = calloc(count + 1, sizeof(**out));
	if (*out == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (copy_string(&(*out)[i], list[i]) < 0)
			return -ENOMEM;
	return 0;
}

static void free_list(char **list)
{
	for (size_t i = 0; list != NULL && list[i] != NULL; i++)
		free(list[i]);
	free(list);
}

static int copy_strings(struct settings *out, const struct ferry_supervisor_options *options)
{
	const char *program = options->program != NULL ? options->program : options->argv[0];
	const char *slash = strrchr(program, '/');
	const char *name = slash != NULL ? slash + 1 : program;

	int status = copy_string(&out->program, program);
	if (status == 0)
		status = copy_string(&out->name, options->name != NULL ? options->name : name);
	if (status == 0)
		status = copy_list(&out->argv, options->argv);
	if (status == 0)
		status = copy_list(&out->environment, options->environment);
	return status;
}

int settings_set_argv(struct settings *settings, const char *const *argv)
{
	char **copy;

	if (argv == NULL || argv[0] == NULL)
		return -EINVAL;
	int status = copy_list(&copy, argv);
	if (status < 0) {
		free_list(copy);
		return status;
	}
	free_list(settings->argv);
	settings->argv = copy;
	return 0;
}

/* ---- descriptors ---- */

/* A copy; -1 for no descriptor. */
static int copy_fd(int *out, int fd)
{
	*out = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, DUPLICATES_FROM);
	if (fd >= 0 && *out < 0)
		return errno == EINVAL ? -EMFILE : -errno;
	return 0;
}

static int add_fd(struct settings *out, int number, int fd)
{
	int copy;
	int status = copy_fd(&copy, fd);

	if (status == 0)
		out->fds[out->fd_count++] = (struct child_fd){.number = number, .fd = copy};
	return status;
}

static int check_fds(const struct ferry_supervisor_options *options)
{
	for (size_t i = 0; i < options->fd_count; i++) {
		if (options->fds[i].number <= SETTINGS_CHANNEL || options->fds[i].reserved[0] != 0 ||
		    options->fds[i].reserved[1] != 0)
			return -EINVAL;
		if (options->fds[i].fd < 0)
			return -EBADF;
		for (size_t j = 0; j < i; j++)
			if (options->fds[j].number == options->fds[i].number)
				return -EINVAL;
	}
	for (int i = 0; i < STANDARD_FDS; i++)
		if (options->standard_fds[i] < FERRY_SUPERVISOR_FD_NULL)
			return -EBADF;
	return 0;
}

static int copy_fds(struct settings *out, const struct ferry_supervisor_options *options)
{
	int status = check_fds(options);

	if (status < 0)
		return status;
	out->fds = calloc(STANDARD_FDS + options->fd_count + 1, sizeof(*out->fds));
	if (out->fds == NULL)
		return -ENOMEM;
	for (int i = 0; i < STANDARD_FDS && status == 0; i++)
		if (options->standard_fds[i] != FERRY_SUPERVISOR_FD_INHERIT)
			status = add_fd(out, i, options->standard_fds[i]);
	for (size_t i = 0; i < options->fd_count && status == 0; i++)
		status = add_fd(out, options->fds[i].number, options->fds[i].fd);
	if (status == 0)
		status = add_fd(out, SETTINGS_CHANNEL, -1);
	return status;
}

static void remove_fd(struct settings *settings, int number)
{
	size_t i = 0;

	while (i < settings->fd_count && settings->fds[i].number != number)
		i++;
	if (i == settings->fd_count)
		return;
	if (settings->fds[i].fd >= 0)
		close(settings->fds[i].fd);
	settings->fd_count--;
	memmove(settings->fds + i, settings->fds + i + 1,
	        (settings->fd_count - i) * sizeof(*settings->fds));
}

/* There is room for all standard descriptors. The channel stays the last one. */
int settings_set_standard_fd(struct settings *settings, int number, int fd)
{
	int copy;

	if (number < 0 || number >= STANDARD_FDS)
		return -EINVAL;
	if (fd < FERRY_SUPERVISOR_FD_NULL)
		return -EBADF;
	int status = copy_fd(&copy, fd);
	if (status < 0)
		return status;
	remove_fd(settings, number);
	if (fd == FERRY_SUPERVISOR_FD_INHERIT)
		return 0;
	memmove(settings->fds + 1, settings->fds, settings->fd_count++ * sizeof(*settings->fds));
	settings->fds[0] = (struct child_fd){.number = number, .fd = copy};
	return 0;
}

/* ---- limits and user ---- */

static int copy_limits(struct settings *out, const struct ferry_supervisor_options *options)
{
	out->limits = calloc(options->limit_count + 1, sizeof(*out->limits));
	if (out->limits == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < options->limit_count; i++) {
		const struct ferry_supervisor_limit *limit = &options->limits[i];
		if (limit->reserved[0] != 0 || limit->reserved[1] != 0)
			return -EINVAL;
		out->limits[i] = (struct child_limit){
		    .resource = limit->resource,
		    .limit = {.rlim_cur = (rlim_t)limit->soft, .rlim_max = (rlim_t)limit->hard}};
	}
	out->limit_count = options->limit_count;
	return 0;
}

static int copy_identity(struct settings *out, const struct ferry_supervisor_options *options)
{
	out->has_identity = options->user != (uid_t)-1;
	if (!out->has_identity)
		return options->group != (gid_t)-1 || options->group_count > 0 ? -EINVAL : 0;
	gid_t *groups = calloc(options->group_count + 1, sizeof(*groups));
	if (groups == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < options->group_count; i++)
		groups[i] = options->groups[i];
	out->identity = (struct child_identity){.user = options->user,
	                                        .group = options->group,
	                                        .groups = groups,
	                                        .group_count = options->group_count};
	return 0;
}

/* ---- times ---- */

/* Zero is the default. */
static int copy_time(int64_t *out, const struct timeval *time, int64_t usec)
{
	int64_t given = clock_from_timeval(time);

	*out = given == 0 ? usec : given;
	return given < 0 ? -EINVAL : 0;
}

static int copy_times(struct settings *out, const struct ferry_supervisor_options *options)
{
	int64_t spread = 0;
	const struct {
		int64_t *out;
		const struct timeval *time;
		int64_t usec;
	} times[] = {
	    {&out->crash_window, &options->crash_window, INT64_C(60) * CLOCK_SECOND},
	    {&out->first_pause, &options->first_pause, CLOCK_SECOND / 10},
	    {&out->longest_pause, &options->longest_pause, INT64_C(10) * CLOCK_SECOND},
	    {&out->long_life, &options->long_life, INT64_C(10) * CLOCK_SECOND},
	    {&out->start_timeout, &options->start_timeout, INT64_C(60) * CLOCK_SECOND},
	    {&out->drain_timeout, &options->drain_timeout, INT64_C(30) * CLOCK_SECOND},
	    {&out->kill_timeout, &options->kill_timeout, INT64_C(5) * CLOCK_SECOND},
	    {&spread, &options->recall_spread, CLOCK_SECOND / 5},
	};

	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
		if (copy_time(times[i].out, times[i].time, times[i].usec) < 0)
			return -EINVAL;
	out->recall_spread = clock_to_timeval(spread);
	if (out->longest_pause < out->first_pause)
		out->longest_pause = out->first_pause;
	return 0;
}

/* ---- all ---- */

int settings_copy(struct settings *out, const struct ferry_supervisor_options *options)
{
	*out = (struct settings){.name = NULL};
	if (options->argv == NULL || options->argv[0] == NULL ||
	    (options->fd_count > 0 && options->fds == NULL) ||
	    (options->limit_count > 0 && options->limits == NULL) ||
	    (options->group_count > 0 && options->groups == NULL) ||
	    options->crash_limit > CRASH_LIMIT_MAX)
		return -EINVAL;
	out->group = options->shares_group ? CHILD_GROUP_SHARED : CHILD_GROUP_OWN;
	out->replace_step = options->replace_step;
	out->crash_limit = options->crash_limit > 0 ? options->crash_limit : CRASH_LIMIT;
	int status = copy_times(out, options);
	if (status == 0)
		status = copy_strings(out, options);
	if (status == 0)
		status = copy_limits(out, options);
	if (status == 0)
		status = copy_identity(out, options);
	if (status == 0)
		status = copy_fds(out, options);
	if (status < 0)
		settings_clear(out);
	return status;
}

void settings_clear(struct settings *settings)
{
	for (size_t i = 0; i < settings->fd_count; i++)
		if (settings->fds[i].fd >= 0)
			close(settings->fds[i].fd);
	free(settings->fds);
	free(settings->limits);
	free((gid_t *)(uintptr_t)settings->identity.groups);
	free(settings->name);
	free(settings->program);
	free_list(settings->argv);
	free_list(settings->environment);
	*settings = (struct settings){.name = NULL};
}
