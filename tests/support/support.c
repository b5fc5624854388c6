#include "support.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct event_base *base;

static int fds_before;
static uint32_t random_seed, random_state;
static _Atomic unsigned int *skipped; /* tests; shared with the processes in which they run */

/* Generous enough for valgrind on a loaded machine; a test that works never waits for it. */
static int deadline_seconds(void)
{
	const char *seconds = getenv("FERRY_DEADLINE");
	return seconds != NULL && atoi(seconds) > 0 ? atoi(seconds) : 120;
}

int count_open_fds(void)
{
	int count = 0;
	DIR *directory = opendir("/proc/self/fd");
	ck_assert_ptr_nonnull(directory);
	while (readdir(directory) != NULL)
		count++;
	closedir(directory);
	return count - 3; /* ".", ".." and the directory itself */
}

static time_t seconds_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void set_up(void)
{
	fds_before = count_open_fds();
	base = event_base_new();
	ck_assert_ptr_nonnull(base);
}

void wait_for_threads(int fds)
{
	time_t deadline = seconds_now() + deadline_seconds();

	while (count_open_fds() > fds && seconds_now() < deadline)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void tear_down(void)
{
	/* Freed bufferevents are finalised by the loop. */
	pump_turns(3);
	event_base_free(base);
	base = NULL;
	wait_for_threads(fds_before);
	ck_assert_int_eq(count_open_fds(), fds_before);
}

TCase *support_case(Suite *suite, const char *name)
{
	TCase *tcase = tcase_create(name);
	tcase_add_checked_fixture(tcase, set_up, tear_down);
	tcase_set_timeout(tcase, 2 * deadline_seconds());
	suite_add_tcase(suite, tcase);
	return tcase;
}

int support_run(Suite *suite)
{
	const char *seed = getenv("FERRY_TEST_SEED");
	random_seed = seed != NULL ? (uint32_t)strtoul(seed, NULL, 0) : (uint32_t)time(NULL);
	random_state = random_seed;
	printf("FERRY_TEST_SEED=%u\n", random_seed);
	fflush(stdout);

	skipped =
	    mmap(NULL, sizeof(*skipped), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (skipped == MAP_FAILED) {
		perror("mmap");
		return EXIT_FAILURE;
	}
	SRunner *runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	if (failed == 0 && *skipped > 0) {
		printf("SKIPPED: %u tests, or parts of them\n", *skipped);
		return 77;
	}
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void ignore(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
}

void pump_until(bool (*condition)(void *), void *argument)
{
	/* A tick keeps the loop from sleeping past a condition that something else than an event makes
	 * true, and from returning when no event is pending. */
	struct event *tick = event_new(base, -1, EV_PERSIST, ignore, NULL);
	event_add(tick, &(struct timeval){.tv_usec = 20000});
	time_t deadline = seconds_now() + deadline_seconds();
	/* Asked once a turn: what another process does may be true for a moment. */
	bool met = condition(argument);
	while (!met && seconds_now() < deadline) {
		event_base_loop(base, EVLOOP_ONCE);
		met = condition(argument);
	}
	event_free(tick);
	ck_assert_msg(met, "the condition did not come true");
}

static bool flag_is_set(void *argument)
{
	return *(const bool *)argument;
}

void pump_until_set(const bool *flag)
{
	pump_until(flag_is_set, (void *)(uintptr_t)flag);
}

struct count {
	const unsigned int *counter;
	unsigned int value;
};

static bool count_is_reached(void *argument)
{
	const struct count *count = argument;
	return *count->counter >= count->value;
}

void pump_until_count(const unsigned int *counter, unsigned int value)
{
	pump_until(count_is_reached, &(struct count){counter, value});
}

void await_input(int fd)
{
	struct pollfd look = {.fd = fd, .events = POLLIN};
	ck_assert_int_eq(poll(&look, 1, 1000 * deadline_seconds()), 1);
}

void pump_turns(int turns)
{
	for (int i = 0; i < turns; i++)
		event_base_loop(base, EVLOOP_NONBLOCK);
}

static int64_t usec_now(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void set_flag(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	*(bool *)argument = true;
}

void pump_without_spin(int64_t usec, int64_t interval_usec)
{
	bool over = false;
	int64_t turns = 0, start = usec_now();
	struct event *end = event_new(base, -1, 0, set_flag, &over);
	event_add(end, &(struct timeval){.tv_sec = (time_t)(usec / 1000000),
	                                 .tv_usec = (suseconds_t)(usec % 1000000)});
	while (!over) {
		event_base_loop(base, EVLOOP_ONCE);
		turns++;
	}
	event_free(end);
	ck_assert_int_le(turns, 2 + (usec_now() - start) / interval_usec);
}

/* A TCP socket on a loopback address of its own. A closed connection keeps its port of the address for a minute, and
 * the sweeps would use up those of 127.0.0.1. */
static int tcp_socket(struct sockaddr_in *address)
{
	enum { ADDRESSES = 0xfffff0 };
	static uint32_t count;
	uint32_t number = ((uint32_t)getpid() * 16 + ++count) % ADDRESSES;
	socklen_t length = sizeof(*address);
	*address = (struct sockaddr_in){.sin_family = AF_INET,
	                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + number)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)address, length), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)address, &length), 0);
	return fd;
}

static void make_tcp_pair(int fds[2])
{
	struct sockaddr_in own, address;
	int listener = tcp_socket(&address);
	ck_assert_int_eq(listen(listener, 1), 0);
	fds[0] = tcp_socket(&own);
	ck_assert_int_eq(connect(fds[0], (struct sockaddr *)&address, sizeof(address)), 0);
	fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	ck_assert_int_ge(fds[1], 0);
	ck_assert_int_eq(evutil_make_socket_nonblocking(fds[0]), 0);
	close(listener);
}

void make_pair(enum pair_kind kind, int fds[2])
{
	if (kind == PAIR_TCP)
		make_tcp_pair(fds);
	else
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
		                 0);
}

void make_pipe(int fds[2])
{
	ck_assert_int_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
}

bool fd_is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

bool same_file(int a, int b)
{
	struct stat first, second;
	ck_assert_int_eq(fstat(a, &first), 0);
	ck_assert_int_eq(fstat(b, &second), 0);
	return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

const char *own_abstract_name(void)
{
	static char name[100];
	if (name[0] == '\0')
		snprintf(name, sizeof(name), "@ferry-%.60s-%ld", program_invocation_short_name,
		         (long)getpid());
	return name;
}

uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);
	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
	return cookie;
}

void skip(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	printf("SKIPPED: ");
	vprintf(format, list);
	puts("");
	va_end(list);
	if (skipped != NULL)
		++*skipped;
}

bool is_root(void)
{
	if (geteuid() == 0)
		return true;
	skip("only root can be another user");
	return false;
}

int make_file(uint64_t size)
{
	char name[] = "/tmp/ferry-test-XXXXXX";
	int fd = mkostemp(name, O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	unlink(name);
	unsigned char block[65536];
	for (uint64_t done = 0; done < size;) {
		size_t length = size - done < sizeof(block) ? (size_t)(size - done) : sizeof(block);
		for (size_t i = 0; i < length; i++)
			block[i] = support_byte(done + i);
		ck_assert_int_eq(pwrite(fd, block, length, (off_t)done), (ssize_t)length);
		done += length;
	}
	return fd;
}

uint32_t support_random(void)
{
	/* xorshift32: never 0 from a state that is not. */
	if (random_state == 0)
		random_state = 2463534242U;
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state;
}

static uint32_t (*other_below)(uint32_t bound);

void support_set_random_below(uint32_t (*below)(uint32_t bound))
{
	other_below = below;
}

uint32_t support_random_below(uint32_t bound)
{
	return other_below != NULL ? other_below(bound) : support_random() % bound;
}

uint32_t support_seed(void)
{
	return random_seed;
}

void support_reseed(uint32_t seed)
{
	/* Each bit of the seed changes half of the state's. */
	seed ^= seed >> 16;
	seed *= 0x85ebca6bU;
	seed ^= seed >> 13;
	seed *= 0xc2b2ae35U;
	random_state = seed ^ seed >> 16;
}
