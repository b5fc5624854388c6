/* From ferry_descriptor_send() to the object at the other end: every kind arrives with its name, and works. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "descriptor_inbox.h"
#include "samples.h"
#include "test.h"
#include "wire.h"

FILE *__real_fdopen(int fd, const char *mode);
FILE *__wrap_fdopen(int fd, const char *mode);
ssize_t __real_readlink(const char *path, char *buffer, size_t size);
ssize_t __wrap_readlink(const char *path, char *buffer, size_t size);

static bool no_memory, no_proc;

FILE *__wrap_fdopen(int fd, const char *mode)
{
	if (no_memory) {
		errno = ENOMEM;
		return NULL;
	}
	return __real_fdopen(fd, mode);
}

ssize_t __wrap_readlink(const char *path, char *buffer, size_t size)
{
	if (no_proc) {
		errno = ENOENT;
		return -1;
	}
	return __real_readlink(path, buffer, size);
}

enum { TYPE = 0x1234 };

static struct descriptor_inbox inbox;
static struct ferry_message_stream *sender;

static void open_streams(void)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	sender = open_message_stream(ends[0], NULL);
	open_message_stream(ends[1], &inbox);
}

static void close_streams(void)
{
	ferry_message_stream_free(sender);
	inbox_close(&inbox);
}

static struct ferry_descriptor *send_over(int fd, const char *name)
{
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, name, FERRY_FD_DUP), 0);
	ck_assert_int_eq(inbox_wait(&inbox), 0);
	struct ferry_descriptor *descriptor = inbox.descriptor;
	inbox.descriptor = NULL;
	return descriptor;
}

/* ---- files, used ---- */

static FILE *to_file(struct ferry_descriptor *descriptor)
{
	FILE *file = NULL;
	int fd = ferry_descriptor_get_fd(descriptor);
	ck_assert_int_eq(ferry_descriptor_to_file(&file, descriptor), 0);
	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(fileno(file), fd);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(ferry_descriptor_get_fd(descriptor), -ENOENT);
	return file;
}

static void expect_content(int fd, const char *expected)
{
	char bytes[64] = "";
	ck_assert_int_ge(pread(fd, bytes, sizeof(bytes) - 1, 0), 0);
	ck_assert_str_eq(bytes, expected);
}

static void expect_line(FILE *file, const char *expected)
{
	char line[64] = "";
	ck_assert_ptr_nonnull(fgets(line, sizeof(line), file));
	ck_assert_str_eq(line, expected);
}

static void use_file_read(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	FILE *file = to_file(descriptor);
	ck_assert_int_eq(ftell(file), 4);
	expect_line(file, "456789");
	ck_assert_int_eq(fgetc(file), EOF);
	ck_assert_int_eq(fputc('x', file), EOF);
	fclose(file);
	expect_content(sample->other, "0123456789");
}

static void use_file_write(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	FILE *file = to_file(descriptor);
	ck_assert_int_eq(ftell(file), 4);
	ck_assert_int_eq(fgetc(file), EOF);
	clearerr(file);
	ck_assert_int_ge(fputs("xy", file), 0);
	ck_assert_int_eq(fclose(file), 0);
	expect_content(sample->other, "0123xy6789");
}

static void use_file_both(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	FILE *file = to_file(descriptor);
	ck_assert_int_eq(fgetc(file), '4');
	ck_assert_int_eq(fseek(file, 0, SEEK_CUR), 0);
	ck_assert_int_eq(fputc('x', file), 'x');
	ck_assert_int_eq(fclose(file), 0);
	expect_content(sample->other, "01234x6789");
	ck_assert_int_eq(lseek(sample->fd, 0, SEEK_CUR), 6); /* the sender shares the position */
}

static void use_file_append(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	FILE *file = to_file(descriptor);
	ck_assert_int_eq(lseek(sample->fd, 0, SEEK_CUR), 4);
	ck_assert_int_ge(fputs("abc", file), 0);
	ck_assert_int_eq(ftell(file), 13);
	ck_assert_int_eq(fclose(file), 0);
	expect_content(sample->other, "0123456789abc");
}

static void use_file_append_both(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	FILE *file = to_file(descriptor);
	ck_assert_int_eq(ftell(file), 4);
	ck_assert_int_eq(fgetc(file), '4');
	ck_assert_int_eq(fseek(file, 0, SEEK_CUR), 0);
	ck_assert_int_ge(fputs("abc", file), 0);
	ck_assert_int_eq(fclose(file), 0);
	expect_content(sample->other, "0123456789abc");
}

static void use_directory(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	FILE *file = NULL;
	bool found = false;
	(void)sample;
	ck_assert_int_eq(ferry_descriptor_to_file(&file, descriptor), -EISDIR);
	ck_assert_ptr_null(file);
	DIR *directory = fdopendir(ferry_descriptor_steal_fd(descriptor));
	ck_assert_ptr_nonnull(directory);
	for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory))
		found |= strcmp(entry->d_name, "entry") == 0;
	ck_assert(found);
	closedir(directory);
}

static void use_memfd(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	int fd = ferry_descriptor_get_fd(descriptor);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	ck_assert_int_eq(fcntl(sample->fd, F_GET_SEALS), F_SEAL_SHRINK);
	FILE *file = to_file(descriptor);
	expect_line(file, "456789");
	ck_assert_int_eq(fseek(file, 0, SEEK_SET), 0);
	ck_assert_int_eq(fputc('x', file), 'x');
	ck_assert_int_eq(fclose(file), 0);
	expect_content(sample->fd, "x123456789");
}

static void use_memfd_sealed(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	(void)sample;
	ck_assert_uint_eq(ferry_descriptor_get_info(descriptor)->seals, F_SEAL_WRITE | F_SEAL_GROW);
	int fd = ferry_descriptor_get_fd(descriptor);
	ck_assert_int_eq(pwrite(fd, "x", 1, 0), -1);
	ck_assert_int_eq(errno, EPERM);
	FILE *file = to_file(descriptor);
	expect_line(file, "456789");
	fclose(file);
}

/* ---- pipes, terminals, devices ---- */

static void write_text(int fd, const char *text)
{
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void expect_text(int fd, const char *text)
{
	char bytes[64] = "";
	ck_assert_int_eq(read(fd, bytes, sizeof(bytes) - 1), (ssize_t)strlen(text));
	ck_assert_str_eq(bytes, text);
}

static void use_pipe_read(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	FILE *file = to_file(descriptor);
	write_text(sample->other, "line\n");
	expect_line(file, "line\n");
	ck_assert_int_eq(fputc('x', file), EOF);
	fclose(file);
}

static void use_pipe_write(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	FILE *file = to_file(descriptor);
	ck_assert_int_ge(fputs("text", file), 0);
	ck_assert_int_eq(fclose(file), 0);
	expect_text(sample->other, "text");
}

static void use_fifo(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	ck_assert(ferry_descriptor_get_info(descriptor)->named);
	FILE *file = to_file(descriptor);
	write_text(sample->fd, "line\n");
	expect_line(file, "line\n");
	ck_assert_int_ge(fputs("text", file), 0);
	ck_assert_int_eq(fclose(file), 0);
	expect_text(sample->fd, "text");
}

static void use_terminal(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	FILE *file = to_file(descriptor);
	ck_assert(isatty(fileno(file)));
	write_text(sample->other, "line\n");
	expect_line(file, "line\n");
	ck_assert_int_ge(fputs("answer\n", file), 0);
	ck_assert_int_eq(fclose(file), 0);
	expect_text(sample->other, "answer\n");
}

static void use_device(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	(void)sample;
	FILE *file = to_file(descriptor);
	ck_assert_int_eq(fgetc(file), 0);
	fclose(file);
}

static void use_path(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	FILE *file = NULL;
	ck_assert_int_eq(ferry_descriptor_to_file(&file, descriptor), -EBADF);
	ck_assert_ptr_null(file);
	int fd = ferry_descriptor_steal_fd(descriptor);
	ck_assert(same_file(fd, sample->other));
	close(fd);
}

/* ---- kinds without a file system ---- */

/* Takes the descriptor of a kind that can be neither a FILE nor a bufferevent nor a listener. */
static int steal(struct ferry_descriptor *descriptor)
{
	FILE *file = NULL;
	struct bufferevent *bev = NULL;
	struct evconnlistener *listener = NULL;
	ck_assert_int_eq(ferry_descriptor_to_file(&file, descriptor), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(&bev, descriptor, base, 0), -ENOTSOCK);
	ck_assert_int_eq(ferry_descriptor_to_listener(&listener, descriptor, base, NULL, NULL, 0),
	                 -ENOTSOCK);
	ck_assert(file == NULL && bev == NULL && listener == NULL);
	int fd = ferry_descriptor_steal_fd(descriptor);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ferry_descriptor_steal_fd(descriptor), -ENOENT);
	return fd;
}

static bool is_readable(int fd, int milliseconds)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	return poll(&poll_fd, 1, milliseconds) == 1 && (poll_fd.revents & POLLIN) != 0;
}

enum { LONG = 60000 }; /* ms; longer than any test takes */

static void use_eventfd(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	uint64_t value = 7;
	int fd = steal(descriptor);
	ck_assert_int_eq(write(sample->fd, &value, sizeof(value)), sizeof(value));
	value = 0;
	ck_assert_int_eq(read(fd, &value, sizeof(value)), sizeof(value));
	ck_assert_uint_eq(value, 7);
	close(fd);
}

static void use_timerfd(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	const struct itimerspec soon = {.it_value.tv_nsec = 1};
	uint64_t expirations = 0;
	int fd = steal(descriptor);
	ck_assert_int_eq(timerfd_settime(fd, 0, &soon, NULL), 0);
	ck_assert(is_readable(sample->fd, LONG));
	ck_assert_int_eq(read(fd, &expirations, sizeof(expirations)), sizeof(expirations));
	ck_assert_uint_eq(expirations, 1);
	close(fd);
}

static void use_signalfd(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	struct signalfd_siginfo signal;
	(void)sample;
	int fd = steal(descriptor);
	raise(SIGUSR1);
	ck_assert_int_eq(read(fd, &signal, sizeof(signal)), sizeof(signal));
	ck_assert_uint_eq(signal.ssi_signo, SIGUSR1);
	close(fd);
}

static void use_inotify(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	union {
		struct inotify_event event;
		char bytes[256];
	} read_in;
	char path[80];
	(void)sample;
	int fd = steal(descriptor);
	snprintf(path, sizeof(path), "%s/entry", sample_path);
	int entry = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	ck_assert_int_ge(entry, 0);
	close(entry);
	ck_assert_int_gt(read(fd, &read_in, sizeof(read_in)), 0);
	ck_assert_uint_eq(read_in.event.mask, IN_CREATE);
	ck_assert_str_eq(read_in.bytes + sizeof(read_in.event), "entry");
	close(fd);
}

static void use_pidfd(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	siginfo_t end;
	int fd = steal(descriptor);
	ck_assert(!is_readable(fd, 0));
	ck_assert_int_eq(kill(sample->child, SIGKILL), 0);
	ck_assert(is_readable(fd, LONG));
	ck_assert_int_eq(waitid(P_PIDFD, (id_t)fd, &end, WEXITED | WNOWAIT), 0);
	ck_assert_int_eq(end.si_pid, sample->child);
	close(fd);
}

static void use_epoll(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	struct epoll_event event = {0};
	const uint64_t one = 1;
	int fd = steal(descriptor);
	ck_assert_int_eq(epoll_wait(fd, &event, 1, 0), 0);
	ck_assert_int_eq(write(sample->other, &one, sizeof(one)), sizeof(one));
	ck_assert_int_eq(epoll_wait(fd, &event, 1, LONG), 1);
	ck_assert_uint_eq(event.data.u32, 42);
	close(fd);
}

/* ---- sockets ---- */

static bool has_input(void *bev)
{
	return evbuffer_get_length(bufferevent_get_input(bev)) >= 5;
}

static void use_stream(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	FILE *file = NULL;
	struct bufferevent *bev = NULL;
	struct evconnlistener *listener = NULL;
	int fd = ferry_descriptor_get_fd(descriptor);
	ck_assert_int_eq(ferry_descriptor_to_file(&file, descriptor), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_descriptor_to_listener(&listener, descriptor, base, NULL, NULL, 0),
	                 -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(&bev, descriptor, base, BEV_OPT_CLOSE_ON_FREE),
	                 0);
	ck_assert_int_eq(ferry_descriptor_get_fd(descriptor), -ENOENT);
	ck_assert_int_eq(bufferevent_getfd(bev), fd);
	ck_assert(fcntl(fd, F_GETFL) & O_NONBLOCK);
	bufferevent_enable(bev, EV_READ);
	write_text(sample->other, "hello");
	pump_until(has_input, bev);
	ck_assert_mem_eq(evbuffer_pullup(bufferevent_get_input(bev), 5), "hello", 5);
	bufferevent_write(bev, "answer", 6);
	while (!is_readable(sample->other, 0))
		pump_turns(1);
	expect_text(sample->other, "answer");
	bufferevent_free(bev);
	pump_turns(2);
}

static void expect_no_objects(struct ferry_descriptor *descriptor, int bufferevent_status)
{
	FILE *file = NULL;
	struct bufferevent *bev = NULL;
	struct evconnlistener *listener = NULL;
	ck_assert_int_eq(ferry_descriptor_to_file(&file, descriptor), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_descriptor_to_listener(&listener, descriptor, base, NULL, NULL, 0),
	                 -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(&bev, descriptor, base, 0),
	                 bufferevent_status);
	ck_assert(file == NULL && bev == NULL && listener == NULL);
}

static void use_packets(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	expect_no_objects(descriptor, -EPROTOTYPE);
	int fd = ferry_descriptor_steal_fd(descriptor);
	write_text(sample->other, "one");
	write_text(sample->other, "two");
	expect_text(fd, "one");
	expect_text(fd, "two");
	if (ferry_descriptor_get_info(descriptor)->connected) {
		write_text(fd, "three");
	} else {
		struct sockaddr_storage address;
		socklen_t length = sizeof(address);
		ck_assert_int_eq(getsockname(sample->other, (struct sockaddr *)&address, &length), 0);
		ck_assert_int_eq(sendto(fd, "three", 5, 0, (struct sockaddr *)&address, length), 5);
	}
	expect_text(sample->other, "three");
	close(fd);
}

static unsigned int accepted;

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                      int length, void *context)
{
	(void)listener, (void)address, (void)length;
	ck_assert_ptr_eq(context, &accepted);
	write_text(fd, "welcome");
	close(fd);
	accepted++;
}

static void use_listening(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	struct bufferevent *bev = NULL;
	struct evconnlistener *listener = NULL;
	const struct ferry_descriptor_info *info = ferry_descriptor_get_info(descriptor);
	int fd = ferry_descriptor_get_fd(descriptor);
	ck_assert(info->listening && !info->connected);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(&bev, descriptor, base, 0),
	                 info->type == SOCK_STREAM ? -ENOTCONN : -EPROTOTYPE);
	ck_assert_int_eq(ferry_descriptor_to_listener(&listener, descriptor, base, on_accept, &accepted,
	                                              LEV_OPT_CLOSE_ON_FREE),
	                 0);
	ck_assert_int_eq(ferry_descriptor_get_fd(descriptor), -ENOENT);
	ck_assert_int_eq(evconnlistener_get_fd(listener), fd);
	for (unsigned int i = 1; i <= 2; i++) {
		int client = socket(info->family, info->type | SOCK_CLOEXEC, 0);
		ck_assert_int_eq(
		    connect(client, (const struct sockaddr *)&info->local_address, info->local_length), 0);
		pump_until_count(&accepted, i);
		expect_text(client, "welcome");
		close(client);
	}
	evconnlistener_free(listener);
	ck_assert(fd_is_open(sample->fd));
}

static void use_new_socket(struct ferry_descriptor *descriptor, const struct sample *sample)
{
	(void)sample;
	expect_no_objects(descriptor, -ENOTCONN);
	int fd = ferry_descriptor_steal_fd(descriptor);
	ck_assert_int_eq(listen(fd, 1), 0);
	close(fd);
}

/* ---- every kind ---- */

static void (*const use[SAMPLES])(struct ferry_descriptor *, const struct sample *) = {
    [SAMPLE_FILE_READ] = use_file_read,
    [SAMPLE_FILE_WRITE] = use_file_write,
    [SAMPLE_FILE_BOTH] = use_file_both,
    [SAMPLE_FILE_APPEND] = use_file_append,
    [SAMPLE_FILE_APPEND_BOTH] = use_file_append_both,
    [SAMPLE_DIRECTORY] = use_directory,
    [SAMPLE_PIPE_READ] = use_pipe_read,
    [SAMPLE_PIPE_WRITE] = use_pipe_write,
    [SAMPLE_FIFO] = use_fifo,
    [SAMPLE_TERMINAL] = use_terminal,
    [SAMPLE_TERMINAL_MASTER] = use_terminal,
    [SAMPLE_DEVICE] = use_device,
    [SAMPLE_PATH] = use_path,
    [SAMPLE_MEMFD] = use_memfd,
    [SAMPLE_MEMFD_SEALED] = use_memfd_sealed,
    [SAMPLE_EVENTFD] = use_eventfd,
    [SAMPLE_TIMERFD] = use_timerfd,
    [SAMPLE_SIGNALFD] = use_signalfd,
    [SAMPLE_INOTIFY] = use_inotify,
    [SAMPLE_PIDFD] = use_pidfd,
    [SAMPLE_EPOLL] = use_epoll,
    [SAMPLE_UNIX_STREAM] = use_stream,
    [SAMPLE_UNIX_DATAGRAM] = use_packets,
    [SAMPLE_UNIX_SEQPACKET] = use_packets,
    [SAMPLE_UNIX_LISTENING] = use_listening,
    [SAMPLE_SEQPACKET_LISTENING] = use_listening,
    [SAMPLE_TCP4] = use_stream,
    [SAMPLE_TCP6] = use_stream,
    [SAMPLE_TCP4_LISTENING] = use_listening,
    [SAMPLE_TCP6_LISTENING] = use_listening,
    [SAMPLE_TCP4_NEW] = use_new_socket,
    [SAMPLE_UDP4] = use_packets,
    [SAMPLE_UDP6] = use_packets,
    [SAMPLE_UDP4_BOUND] = use_packets,
    [SAMPLE_UDP6_BOUND] = use_packets,
};

static void expect_arrived(const struct ferry_descriptor *descriptor, const struct sample *sample)
{
	struct ferry_descriptor_info here;
	int fd = ferry_descriptor_get_fd(descriptor);
	const struct ferry_descriptor_info *info = ferry_descriptor_get_info(descriptor);
	ck_assert_str_eq(ferry_descriptor_get_name(descriptor), "a náme");
	ck_assert_int_eq(info->kind, sample->kind);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_ne(fd, sample->fd);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert(same_file(fd, sample->fd));
	ck_assert_int_eq(ferry_descriptor_inspect(fd, &here), 0);
	ck_assert_mem_eq(&here, info, sizeof(here));
}

TEST_CASE("kinds");

/* _i: of samples */
LOOP_TEST(every_kind_arrives_and_works, SAMPLES)
{
	struct sample sample;
	if (!sample_make(&sample, _i))
		return;
	open_streams();
	struct ferry_descriptor *descriptor = send_over(sample.fd, "a náme");
	expect_arrived(descriptor, &sample);
	use[_i](descriptor, &sample);
	ferry_descriptor_free(descriptor);
	close_streams();
	sample_close(&sample);
}

/* The sending process ends before the descriptor is used. */
static void send_from_a_process(int socket, int fd)
{
	pid_t child = fork();
	ck_assert_int_ge(child, 0);
	if (child != 0) {
		ck_assert_int_eq(waitpid(child, NULL, 0), child);
		return;
	}
	base = event_base_new();
	struct descriptor_inbox end;
	struct ferry_message_stream *stream = open_message_stream(socket, &end);
	if (ferry_descriptor_send(stream, TYPE, fd, "a náme", FERRY_FD_TAKE) == 0)
		ferry_transport_lose_connection(ferry_message_stream_get_transport(stream));
	pump_until_count(&end.lost, 1);
	raise(SIGKILL); /* valgrind would look for the parent's leaks at an exit */
}

/* _i: of samples */
LOOP_TEST(every_kind_works_when_its_sender_is_gone, SAMPLES)
{
	int ends[2];
	struct sample sample;
	if (!sample_make(&sample, _i))
		return;
	make_pair(PAIR_UNIX, ends);
	send_from_a_process(ends[0], sample.fd);
	close(ends[0]);
	open_message_stream(ends[1], &inbox);
	ck_assert_int_eq(inbox_wait(&inbox), 0);
	expect_arrived(inbox.descriptor, &sample);
	use[_i](inbox.descriptor, &sample);
	inbox_close(&inbox);
	sample_close(&sample);
}

/* _i: of samples */
LOOP_TEST(every_kind_is_closed_when_freed, SAMPLES)
{
	struct sample sample;
	if (!sample_make(&sample, _i))
		return;
	open_streams();
	int before = count_open_fds();
	struct ferry_descriptor *descriptor = send_over(sample.fd, NULL);
	ck_assert_str_eq(ferry_descriptor_get_name(descriptor), "");
	ck_assert_int_eq(count_open_fds(), before + 1);
	ferry_descriptor_free(descriptor);
	ck_assert_int_eq(count_open_fds(), before);
	close_streams();
	sample_close(&sample);
}

TEST(many_arrive_in_order_with_their_names)
{
	char name[16];
	open_streams();
	for (unsigned int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "%u", i);
		int fd = make_marked_fd(i);
		ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, name, FERRY_FD_TAKE), 0);
		ck_assert_int_eq(inbox_wait(&inbox), 0);
		ck_assert_str_eq(ferry_descriptor_get_name(inbox.descriptor), name);
		ck_assert_uint_eq(marked_number(ferry_descriptor_get_fd(inbox.descriptor)), i);
		ck_assert(!fd_is_open(fd) || fd == ferry_descriptor_get_fd(inbox.descriptor));
		inbox_discard(&inbox);
	}
	close_streams();
}

/* Kinds that only /proc distinguishes match. _i & 1: the sender has no /proc; _i & 2: the receiver has none */
LOOP_TEST_FROM(without_proc_every_kind_arrives, 1, 4)
{
	open_streams();
	for (int which = 0; which < SAMPLES; which++) {
		struct sample sample;
		if (!sample_make(&sample, which))
			continue;
		no_proc = (_i & 1) != 0;
		ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, sample.fd, "x", FERRY_FD_DUP), 0);
		no_proc = (_i & 2) != 0;
		ck_assert_int_eq(inbox_wait(&inbox), 0);
		no_proc = false;
		if ((_i & 2) == 0)
			ck_assert_int_eq(ferry_descriptor_get_info(inbox.descriptor)->kind, sample.kind);
		inbox_discard(&inbox);
		sample_close(&sample);
	}
	close_streams();
}

/* ---- changes on the way ---- */

TEST_CASE("on the way");

/* The client resets the connection, or both ends have closed it. _i: 1: resets */
LOOP_TEST(a_connection_that_ended_on_the_way_is_what_was_sent, 2)
{
	struct sample sample;
	struct bufferevent *bev = NULL;
	const struct linger now = {.l_onoff = 1};
	open_streams();
	ck_assert(sample_make(&sample, SAMPLE_TCP4));
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, sample.fd, "client", FERRY_FD_DUP), 0);
	if (_i)
		ck_assert_int_eq(setsockopt(sample.other, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	else
		ck_assert_int_eq(shutdown(sample.fd, SHUT_WR), 0);
	close(sample.other);
	sample.other = -1;
	ck_assert(is_readable(sample.fd, LONG));

	ck_assert_int_eq(inbox_wait(&inbox), 0);
	ck_assert(!ferry_descriptor_get_info(inbox.descriptor)->connected);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(&bev, inbox.descriptor, base, 0), -ENOTCONN);
	close_streams();
	sample_close(&sample);
}

TEST(a_terminal_that_was_hung_up_on_the_way_is_what_was_sent)
{
	struct sample sample;
	open_streams();
	ck_assert(sample_make(&sample, SAMPLE_TERMINAL));
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, sample.fd, "tty", FERRY_FD_DUP), 0);
	close(sample.other);
	sample.other = -1;
	ck_assert_int_eq(inbox_wait(&inbox), 0);
	FILE *file = to_file(inbox.descriptor);
	ck_assert_int_eq(fgetc(file), EOF);
	fclose(file);
	close_streams();
	sample_close(&sample);
}

/* Changes position, size, seals and O_NONBLOCK. */
TEST(what_may_change_is_not_compared)
{
	struct sample sample;
	open_streams();
	ck_assert(sample_make(&sample, SAMPLE_MEMFD));
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, sample.fd, "memfd", FERRY_FD_DUP), 0);
	ck_assert_int_eq(ftruncate(sample.fd, 8), 0);
	ck_assert_int_eq(lseek(sample.fd, 6, SEEK_SET), 6);
	ck_assert_int_eq(fcntl(sample.fd, F_ADD_SEALS, F_SEAL_GROW), 0);
	ck_assert_int_eq(fcntl(sample.fd, F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_eq(inbox_wait(&inbox), 0);
	const struct ferry_descriptor_info *info = ferry_descriptor_get_info(inbox.descriptor);
	ck_assert_int_eq(info->size, 8);
	ck_assert_int_eq(info->offset, 6);
	ck_assert_uint_eq(info->seals, F_SEAL_GROW);
	ck_assert(info->non_blocking);
	FILE *file = to_file(inbox.descriptor);
	expect_line(file, "67");
	fclose(file);
	close_streams();
	sample_close(&sample);
}

/* ---- arguments ---- */

TEST_CASE("calls");

TEST(what_cannot_be_sent_stays_the_callers)
{
	char name[258];
	struct sample sample;
	open_streams();
	ck_assert(sample_make(&sample, SAMPLE_MEMFD));
	int fd = sample.fd, gone = dup(fd);
	close(gone);
	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	ck_assert_int_eq(ferry_descriptor_send(NULL, TYPE, fd, "x", FERRY_FD_TAKE), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, "x", 0), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, -1, "x", FERRY_FD_TAKE), -EBADF);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, gone, "x", FERRY_FD_TAKE), -EBADF);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, name, FERRY_FD_TAKE), -EMSGSIZE);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, name + 1, FERRY_FD_TAKE), -EMSGSIZE);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, "\xff", FERRY_FD_TAKE), -EINVAL);
	ck_assert_int_eq(ferry_message_stream_set_limits(sender, 32, 253), 0);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, "x", FERRY_FD_TAKE), -EMSGSIZE);
	ck_assert_int_eq(ferry_message_stream_set_limits(sender, 1000, 0), 0);
	ck_assert_int_eq(ferry_descriptor_send(sender, TYPE, fd, "x", FERRY_FD_TAKE), -EMSGSIZE);
	ck_assert_int_eq(ferry_message_stream_set_limits(sender, 1000, 1), 0);
	ck_assert(fd_is_open(fd));

	/* None of these calls has queued anything; the longest name is accepted. */
	struct ferry_descriptor *descriptor = send_over(fd, name + 2);
	ck_assert_str_eq(ferry_descriptor_get_name(descriptor), name + 2);
	ck_assert_uint_eq(strlen(name + 2), FERRY_DESCRIPTOR_NAME_MAX);
	ck_assert_uint_eq(inbox.count, 1);
	ferry_descriptor_free(descriptor);
	close_streams();
	sample_close(&sample);
}

TEST(over_tcp_nothing_is_sent)
{
	int ends[2];
	make_pair(PAIR_TCP, ends);
	struct ferry_message_stream *stream = open_message_stream(ends[0], NULL);
	int fd = make_marked_fd(1);
	ck_assert_int_eq(ferry_descriptor_send(stream, TYPE, fd, "x", FERRY_FD_TAKE), -EOPNOTSUPP);
	ck_assert_int_eq(ferry_descriptor_send(stream, TYPE, ends[0], "x", FERRY_FD_DUP), -EOPNOTSUPP);
	close(fd);
	close(ends[1]);
	ferry_message_stream_free(stream);
	pump_turns(3);
}

TEST(null_is_refused_and_nothing_changes)
{
	FILE *file = NULL;
	struct bufferevent *bev = NULL;
	struct evconnlistener *listener = NULL;
	struct ferry_descriptor *out = NULL;
	struct sample sample;
	open_streams();
	ck_assert(sample_make(&sample, SAMPLE_MEMFD));
	struct ferry_descriptor *descriptor = send_over(sample.fd, "x");
	int fd = ferry_descriptor_get_fd(descriptor);
	ck_assert_int_eq(ferry_descriptor_receive(&out, NULL), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_file(NULL, descriptor), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_file(&file, NULL), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(NULL, descriptor, base, 0), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(&bev, NULL, base, 0), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(&bev, descriptor, NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_listener(NULL, descriptor, base, NULL, NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_listener(&listener, NULL, base, NULL, NULL, 0), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_to_listener(&listener, descriptor, NULL, NULL, NULL, 0),
	                 -EINVAL);
	ck_assert_int_eq(ferry_descriptor_get_fd(NULL), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_steal_fd(NULL), -EINVAL);
	ck_assert_str_eq(ferry_descriptor_get_name(NULL), "");
	ck_assert_ptr_null(ferry_descriptor_get_info(NULL));
	ferry_descriptor_free(NULL);
	ck_assert(file == NULL && bev == NULL && listener == NULL && out == NULL);

	no_memory = true;
	ck_assert_int_eq(ferry_descriptor_to_file(&file, descriptor), -ENOMEM);
	no_memory = false;
	ck_assert_ptr_null(file);
	ck_assert_int_eq(ferry_descriptor_steal_fd(descriptor), fd);
	close(fd);
	/* After the descriptor was stolen, no object can be made of it. */
	ck_assert_int_eq(ferry_descriptor_to_file(&file, descriptor), -ENOENT);
	ck_assert_int_eq(ferry_descriptor_to_bufferevent(&bev, descriptor, base, 0), -ENOENT);
	ck_assert_int_eq(ferry_descriptor_to_listener(&listener, descriptor, base, NULL, NULL, 0),
	                 -ENOENT);
	ferry_descriptor_free(descriptor);
	close_streams();
	sample_close(&sample);
}

/* ---- in the callback ---- */

static void receive_twice(struct descriptor_inbox *box, struct ferry_message *message)
{
	struct ferry_descriptor *again = NULL;
	ck_assert_int_eq(ferry_descriptor_receive(NULL, message), -EINVAL);
	ck_assert_int_eq(ferry_descriptor_receive(&box->descriptor, message), 0);
	ck_assert_int_eq(ferry_descriptor_receive(&again, message), -ENOENT);
	ck_assert_ptr_null(again);
}

TEST(a_message_gives_its_descriptor_once)
{
	open_streams();
	int fd = make_marked_fd(7);
	inbox.hook = receive_twice;
	struct ferry_descriptor *descriptor = send_over(fd, "x");
	ck_assert_uint_eq(marked_number(ferry_descriptor_get_fd(descriptor)), 7);
	ferry_descriptor_free(descriptor);
	close(fd);
	close_streams();
}

static void free_before(struct descriptor_inbox *box, struct ferry_message *message)
{
	ferry_message_stream_free(box->stream);
	box->stream = NULL;
	ck_assert_int_eq(ferry_descriptor_receive(&box->descriptor, message), 0);
}

TEST(a_message_outlives_its_stream)
{
	open_streams();
	int fd = make_marked_fd(7);
	inbox.hook = free_before;
	struct ferry_descriptor *descriptor = send_over(fd, "x");
	ck_assert_uint_eq(marked_number(ferry_descriptor_get_fd(descriptor)), 7);
	ferry_descriptor_free(descriptor);
	close(fd);
	close_streams();
}
