/* deny ERROR CALL[,CALL…] COMMAND [ARGUMENT…]: runs a command in which the kernel answers these system calls with the
 * error, ENOSYS or EPERM, as the sandboxes of container runtimes do. `getsockopt:N` and `setsockopt:N` deny one
 * option of SOL_SOCKET. Exit status 77: this process may not install a filter. */

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static const struct {
	const char *name;
	int number;
} calls[] = {
    {"cachestat", SYS_cachestat},
    {"close_range", SYS_close_range},
    {"fchmodat2", SYS_fchmodat2},
    {"getsockopt", SYS_getsockopt},
    {"memfd_create", SYS_memfd_create},
    {"openat2", SYS_openat2},
    {"pidfd_open", SYS_pidfd_open},
    {"pidfd_send_signal", SYS_pidfd_send_signal},
    {"preadv2", SYS_preadv2},
    {"readahead", SYS_readahead},
    {"sendfile", SYS_sendfile},
    {"setsockopt", SYS_setsockopt},
    {"splice", SYS_splice},
    {"unshare", SYS_unshare},
};

enum { FILTER_MAX = 128 };
static struct sock_filter filter[FILTER_MAX];
static unsigned short length;

static void add(struct sock_filter instruction)
{
	if (length == FILTER_MAX) {
		fprintf(stderr, "deny: too many calls\n");
		exit(2);
	}
	filter[length++] = instruction;
}

/* Continues with the next instruction if the loaded word is `value`, and else after the next `skip`. */
static void add_match(unsigned int value, unsigned char skip)
{
	add((struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip));
}

static void add_load(size_t offset)
{
	add((struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned int)offset));
}

static void add_answer(unsigned int answer)
{
	add((struct sock_filter)BPF_STMT(BPF_RET | BPF_K, answer));
}

/* The low half of the argument, which has the option. */
static size_t argument(unsigned int index)
{
	const int one = 1;
	const size_t low = *(const char *)&one == 1 ? 0 : sizeof(int);
	return offsetof(struct seccomp_data, args) + index * sizeof(unsigned long long) + low;
}

static void deny_call(char *name, unsigned int answer)
{
	char *option = strchr(name, ':');
	if (option != NULL)
		*option++ = '\0';
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (strcmp(calls[i].name, name) != 0)
			continue;
		add_load(offsetof(struct seccomp_data, nr));
		add_match((unsigned int)calls[i].number, option != NULL ? 3 : 1);
		if (option != NULL) {
			add_load(argument(2));
			add_match((unsigned int)atoi(option), 1);
		}
		add_answer(answer);
		return;
	}
	fprintf(stderr, "deny: unknown call %s\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	const unsigned int error = strcmp(argv[1], "EPERM") == 0 ? EPERM : ENOSYS;
	for (char *name = strtok(argv[2], ","); name != NULL; name = strtok(NULL, ","))
		deny_call(name, SECCOMP_RET_ERRNO | error);
	add_answer(SECCOMP_RET_ALLOW);

	const struct sock_fprog program = {.len = length, .filter = filter};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
		perror("SKIPPED: prctl");
		return 77;
	}
	execvp(argv[3], argv + 3);
	perror(argv[3]);
	return 127;
}
