/* A descriptor of every kind is sent over a stream of messages. The received descriptor has the same kind and
 * works. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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
#include "descriptor_link.h"
#include "samples.h"
#include "test.h"
#include "wire.h"

static void expect_content(int fd, const char *expected)
{
	char bytes[64] = "";
	ck_assert_int_ge(pread(fd, bytes, sizeof(bytes) - 1, 0), 0);
	ck_assert_str_eq(bytes, expected);
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
