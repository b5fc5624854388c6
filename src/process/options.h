#ifndef FERRY_PROCESS_OPTIONS_H
#define FERRY_PROCESS_OPTIONS_H

/* What a child is to have. */

#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

/* Descriptor `number` of the child is a copy of the caller's `fd`, not close-on-exec. -1: /dev/null. */
struct child_fd {
	int number;
	int fd;
};

struct child_limit {
	int resource; /* of setrlimit(2) */
	struct rlimit limit;
};

struct child_identity {
	uid_t user;
	gid_t group;
	const gid_t *groups; /* all supplementary groups; there may be none */
	size_t group_count;
};

enum child_group {
	CHILD_GROUP_SHARED,  /* the caller's process group: the terminal's Ctrl-C is for both */
	CHILD_GROUP_OWN,     /* setpgid(2) */
	CHILD_GROUP_SESSION, /* setsid(2) */
};

/* A structure of zeros with `argv` starts a program with the caller's environment, user and limits. The caller keeps
 * all that it points to; nothing is needed after child_start(). */
struct child_options {
	const char *program; /* looked up in $PATH if its name has no slash; NULL: argv[0] */
	char *const *argv;   /* ends with NULL */

	/* Changes of the environment, ending with NULL: "NAME=VALUE" sets, "NAME" removes. NULL: none. */
	const char *const *environment;

	/* Variables to which the child's process id is appended, in decimal: "LISTEN_PID=". Ends with NULL. */
	const char *const *pid_environment;

	/* The child has 0, 1, 2 and these, and no other. A standard descriptor that is not among them is the caller's,
	 * or /dev/null if the caller has none, or one that is close-on-exec. */
	const struct child_fd *fds;
	size_t fd_count;

	const struct child_limit *limits;
	size_t limit_count;
	const struct child_identity *identity; /* NULL: the caller's */
	enum child_group group;
};

#endif
