/* Compares the result of ferry_descriptor_inspect() with the descriptor that the test has made. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "ferry/descriptor.h"

#include "samples.h"
#include "test.h"

ssize_t __real_readlink(const char *path, char *buffer, size_t size);
ssize_t __wrap_readlink(const char *path, char *buffer, size_t size);

static bool no_proc;
static const char *fake_name;

ssize_t __wrap_readlink(const char *path, char *buffer, size_t size)
{
	if (no_proc) {
		errno = ENOENT;
		return -1;
	}
	if (fake_name == NULL)
		return __real_readlink(path, buffer, size);
	size_t length = strnlen(fake_name, size);
	memcpy(buffer, fake_name, length);
	return (ssize_t)length;
}

static struct ferry_descriptor_info inspect(int fd)
{
	struct ferry_descriptor_info info, again;
	int flags = fcntl(fd, F_GETFL);

	memset(&info, 0xa5, sizeof(info));
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ferry_descriptor_inspect(fd, &info), 0);
	struct stat status;
	ck_assert_int_eq(fstat(fd, &status), 0);
	ck_assert_uint_eq(info.device, status.st_dev);
	ck_assert_uint_eq(info.inode, status.st_ino);
	for (size_t i = 0; i < sizeof(info.reserved) / sizeof(info.reserved[0]); i++)
		ck_assert_uint_eq(info.reserved[i], 0);

	/* It has changed nothing. */
	ck_assert_int_eq(fcntl(fd, F_GETFL), flags);
	ck_assert_int_eq(ferry_descriptor_inspect(fd, &again), 0);
	ck_assert_int_eq(again.kind, info.kind);
	ck_assert_int_eq(again.offset, info.offset);
	return info;
}

static struct ferry_descriptor_info inspect_and_close(int fd)
{
	struct ferry_descriptor_info info = inspect(fd);
	close(fd);
	return info;
}

/* Members that only files and sockets have. */
static void expect_nothing_else(const struct ferry_descriptor_info *info)
{
	static const struct sockaddr_storage none;

	ck_assert(!info->append);
	ck_assert_int_eq(info->offset, 0);
	ck_assert_int_eq(info->size, 0);
	ck_assert_uint_eq(info->seals, 0);
	ck_assert_int_eq(info->family, 0);
	ck_assert_int_eq(info->type, 0);
	ck_assert_int_eq(info->protocol, 0);
	ck_assert(!info->listening && !info->connected);
	ck_assert_uint_eq(info->cookie, 0);
	ck_assert_uint_eq(info->local_length + info->peer_length, 0);
	ck_assert_mem_eq(&info->local_address, &none, sizeof(none));
	ck_assert_mem_eq(&info->peer_address, &none, sizeof(none));
}

/* ---- names ---- */

static char directory[] = "/tmp/ferry-inspect-XXXXXX";
static char path[64];

/* A directory of the test's own, and the path of something in it. */
static void make_directory(void)
{
	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/name", directory);
}

static void remove_directory(void)
{
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(rmdir(directory), 0);
}

/* ---- refusals ---- */

TEST_CASE("files");

TEST(a_closed_descriptor_is_refused)
{
	struct ferry_descriptor_info info = {.size = 7};
	int fd = dup(STDERR_FILENO);
	close(fd);
	ck_assert_int_eq(ferry_descriptor_inspect(-1, &info), -EBADF);
	ck_assert_int_eq(ferry_descriptor_inspect(fd, &info), -EBADF);
	ck_assert_int_eq(ferry_descriptor_inspect(STDERR_FILENO, NULL), -EINVAL);
	ck_assert_int_eq(info.size, 7);
}

/* ---- files ---- */

static const struct {
	int flags, access;
	bool append, non_blocking;
} modes[] = {
    {O_RDONLY, O_RDONLY, false, false},
    {O_WRONLY, O_WRONLY, false, false},
    {O_RDWR, O_RDWR, false, false},
    {O_WRONLY | O_APPEND, O_WRONLY, true, false},
    {O_RDWR | O_APPEND | O_NONBLOCK, O_RDWR, true, true},
};

/* _i: of modes */
LOOP_TEST(a_file_is_a_file_with_its_name, COUNT(modes))
{
	make_directory();
	int fd = open(path, O_CREAT | O_RDWR, 0600);
	ck_assert_int_eq(write(fd, "0123456789", 10), 10);
	close(fd);
	fd = open(path, modes[_i].flags);
	ck_assert_int_eq(lseek(fd, 4, SEEK_SET), 4);

	struct ferry_descriptor_info info = inspect(fd);
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_FILE);
	ck_assert_int_eq(info.access, modes[_i].access);
	ck_assert_int_eq(info.append, modes[_i].append);
	ck_assert_int_eq(info.non_blocking, modes[_i].non_blocking);
	ck_assert_int_eq(info.offset, 4);
	ck_assert_int_eq(info.size, 10);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 4);
	info.append = false;
	info.offset = info.size = 0;
	expect_nothing_else(&info);
	close(fd);
	remove_directory();
}

TEST(a_removed_file_has_no_name)
{
	struct ferry_descriptor_info info = inspect_and_close(make_file(100));
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_FILE);
	ck_assert_int_eq(info.size, 100);
}

TEST(a_directory_is_a_directory)
{
	struct ferry_descriptor_info info = inspect_and_close(open("/", O_RDONLY | O_DIRECTORY));
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_DIRECTORY);
	ck_assert_int_eq(info.access, O_RDONLY);
	expect_nothing_else(&info);
}

/* _i: sealed */
LOOP_TEST(a_memfd_is_known_by_its_seals, 2)
{
	int fd = memfd_create("a name that is longer than what is read of it", MFD_ALLOW_SEALING);
	ck_assert_int_eq(write(fd, "0123456789", 10), 10);
	if (_i)
		ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_WRITE), 0);

	struct ferry_descriptor_info info = inspect_and_close(fd);
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_MEMFD);
	ck_assert_int_eq(info.access, O_RDWR);
	ck_assert_int_eq(info.offset, 10);
	ck_assert_int_eq(info.size, 10);
	ck_assert_uint_eq(info.seals, _i ? F_SEAL_SHRINK | F_SEAL_WRITE : 0);
}

TEST(a_memfd_that_takes_no_seals_is_a_memfd)
{
	struct ferry_descriptor_info info = inspect_and_close(memfd_create("x", 0));
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_MEMFD);
	ck_assert_uint_eq(info.seals, F_SEAL_SEAL);
}

/* A file may be called so, in the root directory. */
TEST(a_name_alone_makes_no_memfd)
{
	int fd = open("/proc/version", O_RDONLY);
	fake_name = "/memfd:x (deleted)";
	struct ferry_descriptor_info info = inspect_and_close(fd);
	fake_name = NULL;
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_FILE);
}

/* ---- pipes, terminals, devices ---- */

TEST_CASE("others");

TEST(both_ends_of_a_pipe_are_a_pipe)
{
	int ends[2];
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_eq(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
	for (int i = 0; i < 2; i++) {
		struct ferry_descriptor_info info = inspect_and_close(ends[i]);
		ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_PIPE);
		ck_assert_int_eq(info.access, i == 0 ? O_RDONLY : O_WRONLY);
		ck_assert_int_eq(info.non_blocking, i == 1);
		ck_assert(!info.named);
		expect_nothing_else(&info);
	}
}

TEST(a_fifo_is_a_pipe_with_a_name)
{
	static const int flags[] = {O_RDWR, O_RDONLY | O_NONBLOCK, O_PATH};
	make_directory();
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	for (int i = 0; i < 3; i++) {
		struct ferry_descriptor_info info = inspect_and_close(open(path, flags[i]));
		ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_PIPE);
		ck_assert(info.named);
		ck_assert_int_eq(info.access, flags[i] & (O_ACCMODE | O_PATH));
		expect_nothing_else(&info);
	}
	remove_directory();
}

TEST(both_sides_of_a_terminal_are_a_terminal)
{
	int side = posix_openpt(O_RDWR | O_NOCTTY);
	ck_assert_int_eq(grantpt(side) + unlockpt(side), 0);
	int other = open(ptsname(side), O_RDWR | O_NOCTTY);
	struct ferry_descriptor_info info = inspect(side);
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_TTY);
	ck_assert_int_eq(info.access, O_RDWR);
	expect_nothing_else(&info);
	ck_assert_int_eq(inspect_and_close(other).kind, FERRY_DESCRIPTOR_TTY);
	close(side);
}

/* Its other side is closed: every call fails with EIO. */
TEST(a_terminal_that_was_hung_up_is_one_still)
{
	int side = posix_openpt(O_RDWR | O_NOCTTY);
	ck_assert_int_eq(grantpt(side) + unlockpt(side), 0);
	int other = open(ptsname(side), O_RDWR | O_NOCTTY);
	close(side);
	ck_assert(!isatty(other));
	ck_assert_int_eq(inspect_and_close(other).kind, FERRY_DESCRIPTOR_TTY);
}

TEST(a_device_is_a_device)
{
	struct ferry_descriptor_info info = inspect_and_close(open("/dev/null", O_WRONLY));
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_DEVICE);
	ck_assert_int_eq(info.access, O_WRONLY);
	expect_nothing_else(&info);
}

/* ---- objects without a file system ---- */

static int open_signalfd(void)
{
	sigset_t none;
	sigemptyset(&none);
	return signalfd(-1, &none, SFD_CLOEXEC | SFD_NONBLOCK);
}

static const struct {
	const char *name;
	enum ferry_descriptor_kind kind;
} anonymous[] = {
    {"eventfd", FERRY_DESCRIPTOR_EVENTFD},   {"timerfd", FERRY_DESCRIPTOR_TIMERFD},
    {"signalfd", FERRY_DESCRIPTOR_SIGNALFD}, {"inotify", FERRY_DESCRIPTOR_INOTIFY},
    {"pidfd", FERRY_DESCRIPTOR_PIDFD},       {"epoll", FERRY_DESCRIPTOR_EPOLL},
    {"io_uring", FERRY_DESCRIPTOR_OTHER},
};
enum { ANONYMOUS = sizeof(anonymous) / sizeof(anonymous[0]) };

static int open_io_uring(void)
{
	unsigned char parameters[120] = {0}; /* struct io_uring_params */
	return (int)syscall(SYS_io_uring_setup, 1, parameters);
}

static int open_anonymous(enum ferry_descriptor_kind kind)
{
	switch (kind) {
	case FERRY_DESCRIPTOR_EVENTFD:
		return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	case FERRY_DESCRIPTOR_TIMERFD:
		return timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	case FERRY_DESCRIPTOR_SIGNALFD:
		return open_signalfd();
	case FERRY_DESCRIPTOR_INOTIFY:
		return inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	case FERRY_DESCRIPTOR_PIDFD:
		return (int)syscall(SYS_pidfd_open, getpid(), O_NONBLOCK);
	case FERRY_DESCRIPTOR_EPOLL:
		return epoll_create1(EPOLL_CLOEXEC);
	default:
		return open_io_uring();
	}
}

/* _i: of anonymous */
LOOP_TEST(kinds_without_a_file_system_are_known_by_their_links, ANONYMOUS)
{
	int fd = open_anonymous(anonymous[_i].kind);
	if (fd < 0) { /* io_uring is often forbidden */
		ck_assert(errno == ENOSYS || errno == EPERM);
		skip("%s: %s", anonymous[_i].name, strerror(errno));
		return;
	}
	struct ferry_descriptor_info info = inspect(fd);
	ck_assert_int_eq(info.kind, anonymous[_i].kind);
	ck_assert_int_eq(info.non_blocking, (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
	ck_assert_int_eq(info.access, fcntl(fd, F_GETFL) & O_ACCMODE);
	expect_nothing_else(&info);

	no_proc = true;
	info = inspect_and_close(fd);
	no_proc = false;
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_OTHER);
}

TEST(without_proc_a_memfd_is_a_file)
{
	int fd = memfd_create("x", 0);
	no_proc = true;
	struct ferry_descriptor_info info = inspect_and_close(fd);
	no_proc = false;
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_FILE);
	ck_assert_uint_eq(info.seals, 0);
}

/* ---- O_PATH ---- */

static void make_socket_file(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(address.sun_path, path, strlen(path) + 1);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

TEST_CASE("files");

TEST(a_path_is_no_access)
{
	struct ferry_descriptor_info info = inspect_and_close(open("/", O_PATH));
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_DIRECTORY);
	ck_assert_int_eq(info.access, O_PATH);

	info = inspect_and_close(open("/dev/null", O_PATH));
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_DEVICE);

	make_directory();
	close(open(path, O_CREAT | O_RDWR, 0600));
	info = inspect_and_close(open(path, O_PATH));
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_FILE);
	ck_assert_int_eq(info.access, O_PATH);
	ck_assert_int_eq(info.offset, 0);

	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(symlink("/nowhere", path), 0);
	info = inspect_and_close(open(path, O_PATH | O_NOFOLLOW));
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_OTHER);

	ck_assert_int_eq(unlink(path), 0);
	make_socket_file();
	info = inspect_and_close(open(path, O_PATH));
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_OTHER);
	expect_nothing_else(&info);
	remove_directory();
}

/* ---- sockets ---- */

static struct ferry_descriptor_info inspect_socket(int fd, int family, int type, int protocol)
{
	struct ferry_descriptor_info info = inspect(fd);
	ck_assert_int_eq(info.kind, FERRY_DESCRIPTOR_SOCKET);
	ck_assert_int_eq(info.access, O_RDWR);
	ck_assert_int_eq(info.family, family);
	ck_assert_int_eq(info.type, type);
	ck_assert_int_eq(info.protocol, protocol);
	ck_assert_uint_eq(info.cookie, cookie_of(fd));
	ck_assert_uint_ne(info.cookie, 0);
	return info;
}

static void expect_local(const struct ferry_descriptor_info *info, int fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	memset(&address, 0, sizeof(address));
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &length), 0);
	ck_assert_uint_eq(info->local_length, length);
	ck_assert_mem_eq(&info->local_address, &address, length);
	ck_assert_int_eq(info->local_address.ss_family, info->family);
}

TEST_CASE("sockets");

static const int unix_types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};

/* _i: the type */
LOOP_TEST(a_pair_of_unix_sockets_is_connected, COUNT(unix_types))
{
	int ends[2], type = unix_types[_i];
	ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	for (int i = 0; i < 2; i++) {
		struct ferry_descriptor_info info = inspect_socket(ends[i], AF_UNIX, type, 0);
		ck_assert(info.connected && !info.listening && info.non_blocking);
		ck_assert_uint_eq(info.peer_length, sizeof(sa_family_t));
		expect_local(&info, ends[i]);
	}
	ck_assert_uint_ne(cookie_of(ends[0]), cookie_of(ends[1]));

	int copy = dup(ends[0]);
	ck_assert_uint_eq(inspect_and_close(copy).cookie, cookie_of(ends[0]));
	close(ends[0]);
	close(ends[1]);
}

TEST(a_unix_listener_with_the_longest_name_is_listening)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memset(address.sun_path + 1, 'x', sizeof(address.sun_path) - 1); /* abstract */
	snprintf(address.sun_path + 1, 32, "ferry-inspect-%d-", getpid());
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert(!inspect_socket(fd, AF_UNIX, SOCK_SEQPACKET, 0).listening);
	ck_assert_int_eq(listen(fd, 1), 0);
	struct ferry_descriptor_info info = inspect_socket(fd, AF_UNIX, SOCK_SEQPACKET, 0);
	ck_assert(info.listening && !info.connected && !info.non_blocking);
	ck_assert_uint_eq(info.local_length, sizeof(address));
	ck_assert_mem_eq(&info.local_address, &address, sizeof(address));
	ck_assert_uint_eq(info.peer_length, 0);
	close(fd);
}

static const int families[] = {AF_INET, AF_INET6};

/* _i: of families */
LOOP_TEST(tcp_sockets_have_their_addresses, 2)
{
	int family = families[_i];
	int listener = bind_loopback(family, SOCK_STREAM);
	if (listener < 0)
		return;
	struct ferry_descriptor_info info = inspect_socket(listener, family, SOCK_STREAM, IPPROTO_TCP);
	ck_assert(!info.listening && !info.connected);
	ck_assert_int_eq(listen(listener, 1), 0);
	info = inspect_socket(listener, family, SOCK_STREAM, IPPROTO_TCP);
	ck_assert(info.listening && !info.connected);
	expect_local(&info, listener);
	ck_assert_uint_eq(info.peer_length, 0);

	int client = bind_loopback(family, SOCK_STREAM);
	connect_socket(client, listener);
	int server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	info = inspect_socket(client, family, SOCK_STREAM, IPPROTO_TCP);
	ck_assert(!info.listening && info.connected && !info.non_blocking);
	expect_local(&info, client);
	struct ferry_descriptor_info other = inspect_socket(server, family, SOCK_STREAM, IPPROTO_TCP);
	ck_assert(!other.listening && other.connected && other.non_blocking);
	ck_assert_uint_eq(other.peer_length, info.local_length);
	ck_assert_mem_eq(&other.peer_address, &info.local_address, info.local_length);
	close(client);
	close(server);
	close(listener);
}

/* _i: of families */
LOOP_TEST(udp_sockets_have_their_addresses, 2)
{
	int family = families[_i];
	int fd = bind_loopback(family, SOCK_DGRAM);
	if (fd < 0)
		return;
	struct ferry_descriptor_info info = inspect_socket(fd, family, SOCK_DGRAM, IPPROTO_UDP);
	ck_assert(!info.listening && !info.connected);
	connect_socket(fd, fd);
	info = inspect_socket(fd, family, SOCK_DGRAM, IPPROTO_UDP);
	ck_assert(info.connected);
	expect_local(&info, fd);
	ck_assert_mem_eq(&info.peer_address, &info.local_address, info.local_length);
	close(fd);
}

TEST(a_client_that_was_never_bound_has_its_family_only)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct ferry_descriptor_info info = inspect_socket(fd, AF_UNIX, SOCK_STREAM, 0);
	ck_assert(!info.connected && !info.listening);
	ck_assert_uint_eq(info.local_length, sizeof(sa_family_t));
	close(fd);
}
