#include "cold_disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "support.h"
#include "wire.h"

_Atomic int cachestat_says, nowait_says;

_Atomic unsigned int cachestat_calls, nowait_calls, readahead_calls, pread_calls;

_Atomic bool no_threads, warm_when_read;

_Atomic int read_step_error;

/* The disk. While it is stopped (hold_disk()), reads of the read-ahead thread do not return. */
static pthread_mutex_t disk_lock = PTHREAD_MUTEX_INITIALIZER;

static pthread_cond_t disk_changed = PTHREAD_COND_INITIALIZER;

static bool disk_held;

static int held_fd = -1; /* only this file's reads are held; -1: all */

_Atomic bool loop_may_read = true;

int method_of_one;

_Atomic unsigned int disk_waiting;

static pthread_t loop_thread;

void hold_disk(bool hold)
{
	pthread_mutex_lock(&disk_lock);
	disk_held = hold;
	held_fd = -1;
	pthread_cond_broadcast(&disk_changed);
	pthread_mutex_unlock(&disk_lock);
}

void hold_disk_of(int fd)
{
	pthread_mutex_lock(&disk_lock);
	disk_held = true;
	held_fd = fd;
	pthread_mutex_unlock(&disk_lock);
}

static void wait_for_disk(int fd)
{
	pthread_mutex_lock(&disk_lock);
	disk_waiting++;
	while (disk_held && (held_fd < 0 || same_file(fd, held_fd)))
		pthread_cond_wait(&disk_changed, &disk_lock);
	disk_waiting--;
	pthread_mutex_unlock(&disk_lock);
}

long __real_syscall(long number, ...);

long __wrap_syscall(long number, ...);

ssize_t __wrap_preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags);

ssize_t __real_readahead(int fd, off_t offset, size_t length);

ssize_t __wrap_readahead(int fd, off_t offset, size_t length);

ssize_t __real_pread(int fd, void *buffer, size_t size, off_t offset);

ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t offset);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument);

/* cachestat(2): its range and result, as linux/mman.h has them. */
long __wrap_syscall(long number, ...)
{
	va_list arguments;
	va_start(arguments, number);
	int fd = va_arg(arguments, int);
	uint64_t *range = va_arg(arguments, uint64_t *);
	uint64_t *result = va_arg(arguments, uint64_t *);
	unsigned int flags = va_arg(arguments, unsigned int);
	va_end(arguments);

	ck_assert_int_eq(number, 451);
	ck_assert_uint_eq(flags, 0);
	ck_assert_uint_gt(range[1], 0);
	cachestat_calls++;
	switch (atomic_load(&cachestat_says)) {
	case WARM:
		result[0] = (range[0] + range[1] - 1) / 4096 - range[0] / 4096 + 1;
		return 0;
	case COLD:
		result[0] = (range[0] + range[1] - 1) / 4096 - range[0] / 4096; /* one is missing */
		return 0;
	case MISSING:
		errno = ENOSYS;
		return -1;
	case REFUSED:
		errno = EPERM;
		return -1;
	default:
		return __real_syscall(number, fd, range, result, flags);
	}
}

ssize_t __wrap_preadv2(int fd, const struct iovec *vectors, int count, off_t offset, int flags)
{
	ck_assert_int_eq(flags, RWF_NOWAIT);
	nowait_calls++;
	switch (atomic_load(&nowait_says)) {
	case WARM:
		return 1;
	case COLD:
		errno = EAGAIN;
		return -1;
	case MISSING:
	case REFUSED:
		errno = EOPNOTSUPP;
		return -1;
	default:
		return __real_preadv2(fd, vectors, count, offset, flags);
	}
}

ssize_t __wrap_readahead(int fd, off_t offset, size_t length)
{
	ck_assert(!pthread_equal(pthread_self(), loop_thread));
	readahead_calls++;
	wait_for_disk(fd);
	return __real_readahead(fd, offset, length);
}

/* Of the thread that reads ahead; and of a file that is copied. */
ssize_t __wrap_pread(int fd, void *buffer, size_t size, off_t offset)
{
	if (pthread_equal(pthread_self(), loop_thread)) {
		ck_assert(loop_may_read);
		return __real_pread(fd, buffer, size, offset);
	}
	pread_calls++;
	wait_for_disk(fd);
	if (warm_when_read)
		cachestat_says = WARM;
	if (read_step_error != 0) {
		errno = read_step_error;
		return -1;
	}
	return __real_pread(fd, buffer, size, offset);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument)
{
	return no_threads ? EAGAIN : __real_pthread_create(thread, attributes, function, argument);
}

/* Those that read ahead; a sanitizer has threads too. */
static unsigned int count_threads(void)
{
	unsigned int count = 0;
	DIR *directory = opendir("/proc/self/task");
	ck_assert_ptr_nonnull(directory);
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
		char path[300], name[32] = "";
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		count += read(fd, name, sizeof(name) - 1) > 0 && strcmp(name, "ferry-readahead\n") == 0;
		close(fd);
	}
	closedir(directory);
	return count;
}

static bool threads_are(void *count)
{
	return count_threads() == *(unsigned int *)count;
}

void expect_threads(unsigned int count)
{
	if (count_threads() != count)
		pump_until(threads_are, &count);
}

void open_cold_link_at(struct cold_link *cold_link, int kind)
{
	int fds[2];
	*cold_link = (struct cold_link){.far = -1};
	make_pair(kind == 0 ? PAIR_UNIX : PAIR_TCP, fds);
	cold_link->far = fds[1];
	recorder_open(&cold_link->sender, fds[0], &recorder_protocol);
}

struct cold_link one, two;

void open_cold_link(int kind)
{
	loop_thread = pthread_self();
	open_cold_link_at(&one, kind);
	pump_turns(2);
}

void close_cold_link_of(struct cold_link *cold_link)
{
	recorder_close(&cold_link->sender);
	pump_turns(3);
	if (cold_link->far >= 0)
		close(cold_link->far);
}

void close_cold_link(void)
{
	hold_disk(false);
	close_cold_link_of(&one);
	expect_threads(0);
}

static void told_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                          void *context)
{
	struct cold_link *cold_link = context;
	if (cold_link == &one)
		method_of_one = ferry_file_producer_get_method(producer);
	cold_link->finished++;
	cold_link->status = status;
	cold_link->sent = sent;
	cold_link->producer = NULL;
}

static const struct ferry_file_callbacks cold_callbacks = {.finished = told_finished};

void send_cold_fd(struct cold_link *cold_link, int fd, unsigned int ownership)
{
	cold_link->finished = 0;
	ck_assert_int_eq(ferry_transport_send_file(&cold_link->producer, cold_link->sender.transport,
	                                           fd, ownership, 0, FERRY_TO_END, 0, &cold_callbacks,
	                                           cold_link),
	                 0);
}

void send_new_file(struct cold_link *cold_link)
{
	send_cold_fd(cold_link, make_file(SIZE), FERRY_FD_TAKE);
}

bool cold_file_has_arrived(void *argument)
{
	struct cold_link *cold_link = argument;
	ssize_t length;
	do {
		length = wire_expect(cold_link->far, cold_link->arrived, 65536);
		if (length > 0)
			cold_link->arrived += (uint64_t)length;
	} while (length > 0);
	return cold_link->arrived >= SIZE && cold_link->finished > 0;
}

void check_whole(struct cold_link *cold_link)
{
	pump_until(cold_file_has_arrived, cold_link);
	ck_assert_uint_eq(cold_link->arrived, SIZE);
	ck_assert_int_eq(cold_link->status, 0);
	ck_assert_uint_eq(cold_link->sent, SIZE);
}

uint64_t waits(const struct cold_link *cold_link)
{
	return stats_of(cold_link->sender.transport).file_waits;
}

bool is_waiting(void *argument)
{
	return disk_waiting > 0 && waits(argument) > 0;
}

void send_stuck_file(struct cold_link *cold_link)
{
	cachestat_says = COLD;
	hold_disk(true);
	send_new_file(cold_link);
	pump_until(is_waiting, cold_link);
}
