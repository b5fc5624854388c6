#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

const char *const bench_kind_names[BENCH_KINDS] = {"unix", "tcp"};

bool bench_is_quick(int argc, char **argv)
{
	if (argc == 1)
		return false;
	if (argc == 2 && strcmp(argv[1], "--quick") == 0)
		return true;
	fprintf(stderr, "usage: %s [--quick]\n", argv[0]);
	exit(2);
}

void bench_need(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(1);
}

void bench_print(const char *name, double value)
{
	printf("%-44s %.3f\n", name, value);
	fflush(stdout); /* a child must not have it to print again */
}

static uint64_t read_clock(clockid_t clock)
{
	struct timespec time;
	clock_gettime(clock, &time);
	return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

uint64_t bench_now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

uint64_t bench_cpu(void)
{
	return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

static uint64_t used_by(int who)
{
	struct rusage usage;

	bench_need(getrusage(who, &usage) == 0, "getrusage");
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000U +
	       (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000U;
}

uint64_t bench_user_time(void)
{
	struct rusage usage;

	bench_need(getrusage(RUSAGE_THREAD, &usage) == 0, "getrusage");
	return (uint64_t)usage.ru_utime.tv_sec * 1000000000U + (uint64_t)usage.ru_utime.tv_usec * 1000U;
}

uint64_t bench_cpu_of_all(void)
{
	return used_by(RUSAGE_SELF) + used_by(RUSAGE_CHILDREN);
}

void bench_raise_fd_limit(void)
{
	struct rlimit limit = {65536, 65536};

	if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
		return;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

uint64_t bench_number(const char *text)
{
	char *end;
	unsigned long long number = strtoull(text, &end, 10);

	if (number == 0 || *end != '\0') {
		fprintf(stderr, "'%s' is not a number from 1\n", text);
		exit(2);
	}
	return number;
}

int bench_choice(const char *word, const char *const *words)
{
	for (int i = 0; words[i] != NULL; i++)
		if (strcmp(word, words[i]) == 0)
			return i;
	fprintf(stderr, "'%s' is not one of:", word);
	for (int i = 0; words[i] != NULL; i++)
		fprintf(stderr, " %s", words[i]);
	fprintf(stderr, "\n");
	exit(2);
}

uint64_t bench_delay(void)
{
	static _Thread_local int fd = -1;
	char text[80] = "";
	unsigned long long run, delay = 0;

	if (fd < 0)
		fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
	if (pread(fd, text, sizeof(text) - 1, 0) <= 0 || sscanf(text, "%llu %llu", &run, &delay) != 2)
		return 0;
	return delay;
}

static void tcp_pair(int fds[2])
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	bench_need(listener >= 0 && bind(listener, (struct sockaddr *)&address, length) == 0 &&
	               listen(listener, 1) == 0 &&
	               getsockname(listener, (struct sockaddr *)&address, &length) == 0,
	           "listen");
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bench_need(connect(fds[0], (struct sockaddr *)&address, length) == 0, "connect");
	fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	bench_need(fds[1] >= 0 && fcntl(fds[0], F_SETFL, O_NONBLOCK) == 0, "accept");
	for (int i = 0; i < 2; i++)
		setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
	close(listener);
}

void bench_pair(enum bench_kind kind, int fds[2])
{
	if (kind == BENCH_TCP)
		tcp_pair(fds);
	else
		bench_need(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0,
		           "socketpair");
}

void bench_reset(int fd)
{
	struct linger at_once = {.l_onoff = 1};

	bench_need(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once)) == 0, "linger");
	close(fd);
}

pid_t bench_fork(enum bench_kind kind, void (*work)(int fd, void *argument), void *argument,
                 int *fd)
{
	int fds[2];

	bench_pair(kind, fds);
	pid_t child = fork();
	bench_need(child >= 0, "fork");
	if (child == 0) {
		close(fds[0]);
		work(fds[1], argument);
		_exit(0);
	}
	close(fds[1]);
	*fd = fds[0];
	return child;
}

void bench_wait(pid_t child)
{
	int status;
	bench_need(waitpid(child, &status, 0) == child && status == 0, "child");
}

void bench_poll(int fd, short events)
{
	struct pollfd query = {.fd = fd, .events = events};
	bench_need(poll(&query, 1, 60000) == 1, "poll");
}

void bench_discard(int fd, void *argument)
{
	(void)argument;
	enum { SIZE = 256 * 1024 };
	char *buffer = malloc(SIZE);

	bench_need(buffer != NULL, "malloc");
	for (;;) {
		ssize_t length = read(fd, buffer, SIZE);
		if (length == 0)
			break;
		if (length < 0) {
			bench_need(errno == EAGAIN, "read");
			bench_poll(fd, POLLIN);
		}
	}
	free(buffer);
}

int bench_file(size_t size)
{
	const char *directory = getenv("TMPDIR");
	char name[4096];
	static char block[1024 * 1024];

	snprintf(name, sizeof(name), "%s/ferry-bench-XXXXXX",
	         directory != NULL ? directory : "/var/tmp");
	int fd = mkostemp(name, O_CLOEXEC);
	bench_need(fd >= 0, name);
	unlink(name);
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = (char)(i * 7 + i / 251);
	for (size_t done = 0; done < size;) {
		size_t length = size - done < sizeof(block) ? size - done : sizeof(block);
		ssize_t written = write(fd, block, length);
		bench_need(written > 0, "write");
		done += (size_t)written;
	}
	bench_need(fsync(fd) == 0, "fsync");
	return fd;
}

bool bench_drop(int fd, size_t size)
{
	char byte;
	struct iovec vector = {&byte, 1};

	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	ssize_t length = preadv2(fd, &vector, 1, (off_t)(size / 2), RWF_NOWAIT);
	if (length >= 0 || errno != EAGAIN)
		return false;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* drop the page that the check has read in */
	return true;
}

void bench_add(struct bench_samples *samples, uint64_t value)
{
	if (samples->count == samples->size) {
		samples->size = samples->size == 0 ? 65536 : samples->size * 2;
		samples->values = realloc(samples->values, samples->size * sizeof(*samples->values));
		bench_need(samples->values != NULL, "realloc");
	}
	samples->values[samples->count++] = value;
}

static int compare(const void *a, const void *b)
{
	uint64_t first = *(const uint64_t *)a, second = *(const uint64_t *)b;
	return (first > second) - (first < second);
}

uint64_t bench_quantile(struct bench_samples *samples, double part)
{
	if (samples->count == 0)
		return 0;
	qsort(samples->values, samples->count, sizeof(*samples->values), compare);
	size_t index = (size_t)(part * (double)samples->count);
	return samples->values[index < samples->count ? index : samples->count - 1];
}

void bench_clear(struct bench_samples *samples)
{
	free(samples->values);
	*samples = (struct bench_samples){0};
}
