#include "samples.h"

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
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "support.h"

static const char content[] = "0123456789";
enum { CONTENT = sizeof(content) - 1, POSITION = 4 };

char sample_path[64];

/* ---- files ---- */

static void fill(int fd)
{
	ck_assert_int_eq(pwrite(fd, content, CONTENT, 0), CONTENT);
}

static void make_file_open_for(struct sample *sample, int flags)
{
	char path[] = "/tmp/ferry-sample-XXXXXX";
	sample->other = mkostemp(path, O_CLOEXEC);
	ck_assert_int_ge(sample->other, 0);
	fill(sample->other);
	sample->fd = open(path, flags | O_CLOEXEC);
	ck_assert_int_eq(unlink(path), 0);
	if ((flags & O_PATH) == 0)
		ck_assert_int_eq(lseek(sample->fd, POSITION, SEEK_SET), POSITION);
}

static void make_sample_directory(void)
{
	snprintf(sample_path, sizeof(sample_path), "/tmp/ferry-samples-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(sample_path));
}

static void make_directory_sample(struct sample *sample)
{
	make_sample_directory();
	sample->fd = open(sample_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int entry = openat(sample->fd, "entry", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ck_assert_int_ge(entry, 0);
	close(entry);
}

static void make_memfd(struct sample *sample, bool sealed)
{
	sample->fd = memfd_create("sample", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	fill(sample->fd);
	ck_assert_int_eq(lseek(sample->fd, POSITION, SEEK_SET), POSITION);
	if (sealed)
		ck_assert_int_eq(fcntl(sample->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW), 0);
}

/* ---- pipes and terminals ---- */

static void make_pipe_sample(struct sample *sample, bool reads)
{
	int ends[2];
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	sample->fd = ends[reads ? 0 : 1];
	sample->other = ends[reads ? 1 : 0];
}

static void make_fifo(struct sample *sample)
{
	char path[80];
	make_sample_directory();
	snprintf(path, sizeof(path), "%s/fifo", sample_path);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	sample->fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(rmdir(sample_path), 0);
	sample_path[0] = '\0';
}

static void make_terminal(struct sample *sample, bool is_master)
{
	struct termios raw;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	ck_assert_int_eq(grantpt(master) + unlockpt(master), 0);
	int terminal = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	ck_assert_int_eq(tcgetattr(terminal, &raw), 0);
	cfmakeraw(&raw);
	ck_assert_int_eq(tcsetattr(terminal, TCSANOW, &raw), 0);
	sample->fd = is_master ? master : terminal;
	sample->other = is_master ? terminal : master;
}

/* ---- kinds without a file system ---- */

static int open_signalfd(void)
{
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	ck_assert_int_eq(sigprocmask(SIG_BLOCK, &signals, NULL), 0);
	return signalfd(-1, &signals, SFD_CLOEXEC);
}

static int open_inotify(void)
{
	make_sample_directory();
	int fd = inotify_init1(IN_CLOEXEC);
	ck_assert_int_ge(inotify_add_watch(fd, sample_path, IN_CREATE), 0);
	return fd;
}

static void make_pidfd(struct sample *sample)
{
	int ends[2];
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	sample->child = fork();
	ck_assert_int_ge(sample->child, 0);
	if (sample->child == 0) {
		char byte;
		close(ends[1]);
		while (read(ends[0], &byte, 1) > 0)
			continue;
		raise(SIGKILL); /* valgrind would look for the parent's leaks at an exit */
	}
	close(ends[0]);
	sample->other = ends[1];
	sample->fd = (int)syscall(SYS_pidfd_open, sample->child, 0);
	if (sample->fd < 0) { /* in valgrind 3.19 */
		ck_assert_int_eq(errno, ENOSYS);
		skip("no pidfd_open(2)");
		sample_close(sample);
	}
}

static void make_epoll(struct sample *sample)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = 42};
	sample->other = eventfd(0, EFD_CLOEXEC);
	sample->fd = epoll_create1(EPOLL_CLOEXEC);
	ck_assert_int_eq(epoll_ctl(sample->fd, EPOLL_CTL_ADD, sample->other, &event), 0);
}

/* ---- sockets ---- */

static void make_unix_pair(struct sample *sample, int type)
{
	int ends[2];
	ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), 0);
	sample->fd = ends[0];
	sample->other = ends[1];
}

static void make_unix_listening(struct sample *sample, int type)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	sample->fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	/* An abstract name of the kernel's choice. */
	ck_assert_int_eq(bind(sample->fd, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	ck_assert_int_eq(listen(sample->fd, 4), 0);
}

int bind_loopback(int family, int type)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(family, type | SOCK_CLOEXEC, 0);
	if (fd >= 0 && bind(fd, family == AF_INET ? (struct sockaddr *)&in : (struct sockaddr *)&in6,
	                    family == AF_INET ? sizeof(in) : sizeof(in6)) < 0) {
		close(fd);
		fd = -1;
	}
	if (fd < 0) {
		ck_assert_int_eq(family, AF_INET6);
		skip("no IPv6");
	}
	return fd;
}

void connect_socket(int fd, int to)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);
	ck_assert_int_eq(getsockname(to, (struct sockaddr *)&address, &length), 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, length), 0);
}

static void make_tcp(struct sample *sample, int family)
{
	int listener = bind_loopback(family, SOCK_STREAM);
	if (listener < 0)
		return;
	ck_assert_int_eq(listen(listener, 1), 0);
	sample->other = bind_loopback(family, SOCK_STREAM);
	connect_socket(sample->other, listener);
	sample->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
}

static void make_tcp_listening(struct sample *sample, int family)
{
	sample->fd = bind_loopback(family, SOCK_STREAM);
	if (sample->fd >= 0)
		ck_assert_int_eq(listen(sample->fd, 4), 0);
}

static void make_udp(struct sample *sample, int family, bool connected)
{
	sample->fd = bind_loopback(family, SOCK_DGRAM);
	if (sample->fd < 0)
		return;
	sample->other = bind_loopback(family, SOCK_DGRAM);
	connect_socket(sample->other, sample->fd);
	if (connected)
		connect_socket(sample->fd, sample->other);
}

/* ---- all of them ---- */

static const enum ferry_descriptor_kind kinds[SAMPLES] = {
    [SAMPLE_FILE_READ] = FERRY_DESCRIPTOR_FILE,
    [SAMPLE_FILE_WRITE] = FERRY_DESCRIPTOR_FILE,
    [SAMPLE_FILE_BOTH] = FERRY_DESCRIPTOR_FILE,
    [SAMPLE_FILE_APPEND] = FERRY_DESCRIPTOR_FILE,
    [SAMPLE_FILE_APPEND_BOTH] = FERRY_DESCRIPTOR_FILE,
    [SAMPLE_DIRECTORY] = FERRY_DESCRIPTOR_DIRECTORY,
    [SAMPLE_PIPE_READ] = FERRY_DESCRIPTOR_PIPE,
    [SAMPLE_PIPE_WRITE] = FERRY_DESCRIPTOR_PIPE,
    [SAMPLE_FIFO] = FERRY_DESCRIPTOR_PIPE,
    [SAMPLE_TERMINAL] = FERRY_DESCRIPTOR_TTY,
    [SAMPLE_TERMINAL_MASTER] = FERRY_DESCRIPTOR_TTY,
    [SAMPLE_DEVICE] = FERRY_DESCRIPTOR_DEVICE,
    [SAMPLE_PATH] = FERRY_DESCRIPTOR_FILE,
    [SAMPLE_MEMFD] = FERRY_DESCRIPTOR_MEMFD,
    [SAMPLE_MEMFD_SEALED] = FERRY_DESCRIPTOR_MEMFD,
    [SAMPLE_EVENTFD] = FERRY_DESCRIPTOR_EVENTFD,
    [SAMPLE_TIMERFD] = FERRY_DESCRIPTOR_TIMERFD,
    [SAMPLE_SIGNALFD] = FERRY_DESCRIPTOR_SIGNALFD,
    [SAMPLE_INOTIFY] = FERRY_DESCRIPTOR_INOTIFY,
    [SAMPLE_PIDFD] = FERRY_DESCRIPTOR_PIDFD,
    [SAMPLE_EPOLL] = FERRY_DESCRIPTOR_EPOLL,
};

static void make_file_kind(struct sample *sample, int which)
{
	static const int flags[] = {
	    [SAMPLE_FILE_READ] = O_RDONLY,
	    [SAMPLE_FILE_WRITE] = O_WRONLY,
	    [SAMPLE_FILE_BOTH] = O_RDWR,
	    [SAMPLE_FILE_APPEND] = O_WRONLY | O_APPEND,
	    [SAMPLE_FILE_APPEND_BOTH] = O_RDWR | O_APPEND,
	};

	if (which <= SAMPLE_FILE_APPEND_BOTH)
		make_file_open_for(sample, flags[which]);
	else if (which == SAMPLE_DIRECTORY)
		make_directory_sample(sample);
	else if (which == SAMPLE_PIPE_READ || which == SAMPLE_PIPE_WRITE)
		make_pipe_sample(sample, which == SAMPLE_PIPE_READ);
	else if (which == SAMPLE_FIFO)
		make_fifo(sample);
	else if (which == SAMPLE_TERMINAL || which == SAMPLE_TERMINAL_MASTER)
		make_terminal(sample, which == SAMPLE_TERMINAL_MASTER);
	else if (which == SAMPLE_DEVICE)
		sample->fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	else if (which == SAMPLE_PATH)
		make_file_open_for(sample, O_PATH);
	else
		make_memfd(sample, which == SAMPLE_MEMFD_SEALED);
}

static void make_anonymous_kind(struct sample *sample, int which)
{
	switch (which) {
	case SAMPLE_EVENTFD:
		sample->fd = eventfd(0, EFD_CLOEXEC);
		break;
	case SAMPLE_TIMERFD:
		sample->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
		break;
	case SAMPLE_SIGNALFD:
		sample->fd = open_signalfd();
		break;
	case SAMPLE_INOTIFY:
		sample->fd = open_inotify();
		break;
	case SAMPLE_PIDFD:
		make_pidfd(sample);
		break;
	default:
		make_epoll(sample);
		break;
	}
}

static void make_unix_kind(struct sample *sample, int which)
{
	if (which == SAMPLE_UNIX_LISTENING)
		make_unix_listening(sample, SOCK_STREAM);
	else if (which == SAMPLE_SEQPACKET_LISTENING)
		make_unix_listening(sample, SOCK_SEQPACKET);
	else if (which == SAMPLE_UNIX_STREAM)
		make_unix_pair(sample, SOCK_STREAM);
	else
		make_unix_pair(sample, which == SAMPLE_UNIX_DATAGRAM ? SOCK_DGRAM : SOCK_SEQPACKET);
}

static void make_inet_kind(struct sample *sample, int which)
{
	switch (which) {
	case SAMPLE_TCP4:
	case SAMPLE_TCP6:
		make_tcp(sample, which == SAMPLE_TCP4 ? AF_INET : AF_INET6);
		break;
	case SAMPLE_TCP4_LISTENING:
	case SAMPLE_TCP6_LISTENING:
		make_tcp_listening(sample, which == SAMPLE_TCP4_LISTENING ? AF_INET : AF_INET6);
		break;
	case SAMPLE_TCP4_NEW:
		sample->fd = bind_loopback(AF_INET, SOCK_STREAM);
		break;
	default:
		make_udp(sample, which == SAMPLE_UDP4 || which == SAMPLE_UDP4_BOUND ? AF_INET : AF_INET6,
		         which == SAMPLE_UDP4 || which == SAMPLE_UDP6);
		break;
	}
}

bool sample_make(struct sample *sample, int which)
{
	*sample = (struct sample){.kind = kinds[which], .fd = -1, .other = -1};
	sample_path[0] = '\0';
	if (which <= SAMPLE_MEMFD_SEALED)
		make_file_kind(sample, which);
	else if (which <= SAMPLE_EPOLL)
		make_anonymous_kind(sample, which);
	else
		sample->kind = FERRY_DESCRIPTOR_SOCKET;
	if (which >= SAMPLE_UNIX_STREAM && which <= SAMPLE_SEQPACKET_LISTENING)
		make_unix_kind(sample, which);
	else if (which > SAMPLE_SEQPACKET_LISTENING)
		make_inet_kind(sample, which);
	if (sample->fd < 0)
		ck_assert(which >= SAMPLE_TCP4 || which == SAMPLE_PIDFD);
	return sample->fd >= 0;
}

void sample_close(struct sample *sample)
{
	char entry[80];

	if (sample->fd >= 0)
		close(sample->fd);
	if (sample->other >= 0)
		close(sample->other);
	if (sample->child > 0)
		ck_assert_int_eq(waitpid(sample->child, NULL, 0), sample->child);
	if (sample_path[0] != '\0') {
		snprintf(entry, sizeof(entry), "%s/entry", sample_path);
		ck_assert(unlink(entry) == 0 || errno == ENOENT);
		ck_assert_int_eq(rmdir(sample_path), 0);
		sample_path[0] = '\0';
	}
}
