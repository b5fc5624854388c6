#include "process/image.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "process/options.h"

enum { PID_TEXT_SIZE = 24 };

/* ---- the paths ---- */

static size_t count_directories(const char *path)
{
	size_t count = 1;

	for (; *path != '\0'; path++)
		count += *path == ':';
	return count;
}

/* An empty directory is the working directory. */
static char *join(const char *directory, size_t length, const char *name)
{
	size_t size = length + 1 + strlen(name) + 1;
	char *path = malloc(size);

	if (path == NULL)
		return NULL;
	if (length == 0)
		snprintf(path, size, "%s", name);
	else
		snprintf(path, size, "%.*s/%s", (int)length, directory, name);
	return path;
}

static int make_paths(struct image *image, const char *program)
{
	const char *search = getenv("PATH");
	if (search == NULL)
		search = "/bin:/usr/bin";
	if (strchr(program, '/') != NULL)
		search = "";
	image->paths = calloc(count_directories(search) + 1, sizeof(*image->paths));
	if (image->paths == NULL)
		return -ENOMEM;
	for (size_t i = 0;; i++) {
		size_t length = strcspn(search, ":");
		image->paths[i] = join(search, length, program);
		if (image->paths[i] == NULL)
			return -ENOMEM;
		if (search[length] == '\0')
			return 0;
		search += length + 1;
	}
}

/* ---- the environment ---- */

static size_t count(const char *const *list)
{
	size_t length = 0;

	while (list != NULL && list[length] != NULL)
		length++;
	return length;
}

static bool has_name_of(const char *entry, const char *change)
{
	size_t length = strcspn(change, "=");

	return strncmp(entry, change, length) == 0 && (entry[length] == '=' || entry[length] == '\0');
}

static bool is_changed(const char *entry, const char *const *changes)
{
	for (; changes != NULL && *changes != NULL; changes++)
		if (has_name_of(entry, *changes))
			return true;
	return false;
}

static int make_pid_entries(struct image *image, const char *const *texts)
{
	image->pid_entries = calloc(count(texts) + 1, sizeof(*image->pid_entries));
	if (image->pid_entries == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < count(texts); i++) {
		size_t length = strlen(texts[i]);
		image->pid_entries[i] = calloc(1, length + PID_TEXT_SIZE);
		if (image->pid_entries[i] == NULL)
			return -ENOMEM;
		memcpy(image->pid_entries[i], texts[i], length);
	}
	return 0;
}

static int make_environment(struct image *image, const struct child_options *options)
{
	const char *const *before = (const char *const *)environ;
	const char *const *changes = options->environment, *const *pids = options->pid_environment;
	size_t length = 0;

	image->environment =
	    calloc(count(before) + count(changes) + count(pids) + 1, sizeof(*image->environment));
	if (image->environment == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < count(before); i++)
		if (!is_changed(before[i], changes) && !is_changed(before[i], pids))
			image->environment[length++] = environ[i];
	for (size_t i = 0; i < count(changes); i++) {
		/* Of two changes of a name the last one holds. execve(2) does not write to the strings. */
		if (strchr(changes[i], '=') != NULL && !is_changed(changes[i], changes + i + 1) &&
		    !is_changed(changes[i], pids))
			image->environment[length++] = (char *)(uintptr_t)changes[i];
	}
	for (size_t i = 0; image->pid_entries[i] != NULL; i++)
		image->environment[length++] = image->pid_entries[i];
	return 0;
}

/* ---- made and freed ---- */

int image_make(struct image *out, const struct child_options *options)
{
	const char *program = options->program;
	*out = (struct image){.argv = options->argv};
	if (options->argv == NULL || options->argv[0] == NULL)
		return -EINVAL;
	if (program == NULL)
		program = options->argv[0];
	if (*program == '\0')
		return -ENOENT;
	int status = make_paths(out, program);
	if (status == 0)
		status = make_pid_entries(out, options->pid_environment);
	if (status == 0)
		status = make_environment(out, options);
	if (status < 0)
		image_clear(out);
	return status;
}

static void free_list(char **list)
{
	for (size_t i = 0; list != NULL && list[i] != NULL; i++)
		free(list[i]);
	free(list);
}

void image_clear(struct image *image)
{
	free_list(image->paths);
	free_list(image->pid_entries);
	free(image->environment);
	*image = (struct image){.paths = NULL};
}

/* ---- in the child ---- */

/* snprintf(3) is not async-signal-safe. */
static void append_number(char *text, pid_t number)
{
	char digits[PID_TEXT_SIZE];
	size_t count = 0;

	text += strlen(text);
	do {
		digits[count++] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	while (count > 0)
		*text++ = digits[--count];
	*text = '\0';
}

int image_execute(const struct image *image, pid_t self)
{
	int error = ENOENT;

	for (size_t i = 0; image->pid_entries[i] != NULL; i++)
		append_number(image->pid_entries[i], self);
	for (size_t i = 0; image->paths[i] != NULL; i++) {
		execve(image->paths[i], image->argv, image->environment);
		/* As execvp(3): the search ends at a file that is there and cannot be executed for another reason than its
		 * permissions. */
		if (errno == EACCES)
			error = EACCES;
		else if (errno != ENOENT && errno != ENOTDIR && errno != ESTALE && errno != ENODEV)
			return -errno;
		else if (image->paths[1] == NULL)
			error = errno;
	}
	return -error;
}
