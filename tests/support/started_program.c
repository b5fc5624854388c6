#include "started_program.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void end_note(struct child *child, int status, void *context)
{
	struct end_note *note = context;
	note->count++;
	note->status = status;
	if (note->free)
		child_free(child);
}

struct child *start_program(const struct child_options *options, struct end_note *note)
{
	struct child *child;
	ck_assert_int_eq(child_start(&child, base, options, end_note, note), 0);
	return child;
}

struct child *start_script(const char *script, struct end_note *note)
{
	char *argv[] = {"sh", "-c", (char *)(uintptr_t)script, NULL};
	return start_program(&(struct child_options){.argv = argv}, note);
}

void expect_end(struct child *child, struct end_note *note, int status)
{
	pump_until_count(&note->count, 1);
	ck_assert_int_eq(note->status, status);
	if (!note->free) {
		ck_assert(child_has_ended(child));
		ck_assert_int_eq(child_signal(child, SIGTERM), -ESRCH);
		child_free(child);
	}
	pump_turns(3);
	ck_assert_uint_eq(note->count, 1);
}

int exit_status(int code)
{
	return code << 8;
}

int kill_status(int signal_number)
{
	return signal_number;
}

size_t read_proc(pid_t pid, const char *name, char *out, size_t size)
{
	char path[64];
	size_t length = 0;
	ssize_t count;
	snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	while (length < size - 1 && (count = read(fd, out + length, size - 1 - length)) > 0)
		length += (size_t)count;
	close(fd);
	out[length] = '\0';
	return length;
}

void read_proc_status(pid_t pid, const char *name, char *out, size_t size)
{
	char text[8192], wanted[32];
	read_proc(pid, "status", text, sizeof(text));
	snprintf(wanted, sizeof(wanted), "\n%s:\t", name);
	const char *found = strstr(text, wanted);
	ck_assert_ptr_nonnull(found);
	found += strlen(wanted);
	snprintf(out, size, "%.*s", (int)strcspn(found, "\n"), found);
}

static int by_value(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static void list_fds(pid_t pid, char *out, size_t size)
{
	char path[64];
	int numbers[64];
	size_t count = 0, length = 0;
	snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	DIR *directory = opendir(path);
	ck_assert_ptr_nonnull(directory);
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
		if (entry->d_name[0] != '.' && count < sizeof(numbers) / sizeof(numbers[0]))
			numbers[count++] = atoi(entry->d_name);
	closedir(directory);
	qsort(numbers, count, sizeof(*numbers), by_value);
	*out = '\0';
	for (size_t i = 0; i < count && length < size; i++)
		length +=
		    (size_t)snprintf(out + length, size - length, "%s%d", i > 0 ? " " : "", numbers[i]);
}

struct fds_of {
	pid_t pid;
	const char *expected;
};

static bool has_these_fds(void *argument)
{
	const struct fds_of *fds = argument;
	char found[256];
	list_fds(fds->pid, found, sizeof(found));
	return strcmp(found, fds->expected) == 0;
}

void expect_open_fds(pid_t pid, const char *numbers)
{
	pump_until(has_these_fds, &(struct fds_of){pid, numbers});
}

bool has_no_child(void)
{
	siginfo_t info;
	return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD;
}
