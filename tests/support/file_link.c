#include "file_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.h"
#include "wire.h"

/* ---- a link of each kind ---- */

/* TCP's buffers are kept small: left alone they grow to megabytes. */
enum { TCP_BUFFER = 64 * 1024 };

struct recorder sender;
int far = -1;
int far_input = -1;

void open_link(int kind)
{
	int fds[2], back[2];
	if (kind == LINK_PIPES) {
		make_pipe(fds);
		make_pipe(back);
		far = fds[0];
		far_input = back[1];
		recorder_open_pipes(&sender, back[0], fds[1], &recorder_protocol);
	} else {
		make_pair(kind == LINK_UNIX ? PAIR_UNIX : PAIR_TCP, fds);
		far = fds[1];
		if (kind == LINK_TCP) {
			int size = TCP_BUFFER;
			setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
			setsockopt(fds[1], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		}
		recorder_open(&sender, fds[0], &recorder_protocol);
		/* The far end stays open until the test has looked at it. */
		ferry_transport_set_linger_timeout(sender.transport, &(struct timeval){0});
	}
	pump_turns(2);
}

void close_far(void)
{
	if (far >= 0)
		close(far);
	if (far_input >= 0)
		close(far_input);
	far = far_input = -1;
}

void close_link(void)
{
	recorder_close(&sender);
	pump_turns(3);
	close_far();
}

/* ---- what arrives ---- */

unsigned char *arrived;
size_t arrived_length;
int arrived_end;
size_t compared;

void start_collecting(void)
{
	free(arrived);
	arrived = malloc(16 << 20);
	ck_assert_ptr_nonnull(arrived);
	arrived_length = 0;
	compared = 0;
	arrived_end = 1;
}

void collect_some(size_t size)
{
	ck_assert_uint_lt(arrived_length + size, 16 << 20);
	ssize_t n = read(far, arrived + arrived_length, size);
	if (n > 0)
		arrived_length += (size_t)n;
	else if (n == 0 || errno != EAGAIN)
		arrived_end = n == 0 ? 0 : -errno;
}

bool stream_has_ended(void *argument)
{
	(void)argument;
	size_t before;
	do {
		before = arrived_length;
		collect_some(65536);
	} while (arrived_length > before);
	return arrived_end <= 0;
}

void finish_stream(void)
{
	if (arrived == NULL)
		start_collecting();
	ck_assert_int_eq(ferry_transport_lose_connection(sender.transport), 0);
	pump_until(stream_has_ended, NULL);
	ck_assert_int_eq(arrived_end, 0);
	pump_until_lost(&sender);
	ck_assert_int_eq(sender.reason, 0);
}

void expect_text(const char *text)
{
	ck_assert_uint_le(compared + strlen(text), arrived_length);
	ck_assert_mem_eq(arrived + compared, text, strlen(text));
	compared += strlen(text);
}

void expect_range(uint64_t offset, uint64_t length)
{
	ck_assert_uint_le(compared + length, arrived_length);
	for (uint64_t i = 0; i < length; i++) /* an assertion for each would take seconds */
		if (arrived[compared + i] != support_byte(offset + i))
			ck_abort_msg("another byte at %llu of the file", (unsigned long long)(offset + i));
	compared += (size_t)length;
}

void expect_end(void)
{
	ck_assert_uint_eq(compared, arrived_length);
	free(arrived);
	arrived = NULL;
}

/* ---- a file that records its callbacks ---- */

static void told_progress(struct ferry_file_producer *producer, uint64_t sent, uint64_t total,
                          void *context)
{
	struct told *told = context;
	ck_assert(!told->quiet);
	ck_assert_uint_eq(told->finished, 0);
	ck_assert_uint_eq(sender.lost, 0);
	if (told->producer != NULL)
		ck_assert_ptr_eq(producer, told->producer);
	ck_assert_uint_gt(sent, told->sent);
	ck_assert_uint_le(sent, total);
	if (told->progress > 0)
		ck_assert_uint_eq(total, told->total);
	told->progress++;
	told->sent = sent;
	told->total = total;
	if (told->on_progress != NULL)
		told->on_progress(told);
}

static void told_finished(struct ferry_file_producer *producer, int status, uint64_t sent,
                          void *context)
{
	struct told *told = context;
	ck_assert(!told->quiet);
	ck_assert_uint_eq(told->finished, 0);
	ck_assert_uint_eq(sender.lost, 0);
	if (told->producer != NULL)
		ck_assert_ptr_eq(producer, told->producer);
	ck_assert_uint_ge(sent, told->sent);
	ck_assert_int_le(status, 0);
	if (told->fd >= 0)
		ck_assert(!fd_is_open(told->fd));
	told->finished++;
	told->status = status;
	told->sent = sent;
	if (told->on_finished != NULL)
		told->on_finished(told);
}

const struct ferry_file_callbacks told_callbacks = {.progress = told_progress,
                                                    .finished = told_finished};

int try_send(struct told *told, int fd, unsigned int ownership, int64_t offset, int64_t length)
{
	unsigned int flags = ((ownership & SEND_COPIED) != 0 ? FERRY_FILE_COPY : 0) |
	                     ((ownership & SEND_REGULAR) != 0 ? FERRY_FILE_REGULAR : 0);

	told->fd = -1;
	told->quiet = true;
	int status = ferry_transport_send_file(&told->producer, sender.transport, fd,
	                                       ownership & ~(unsigned int)(SEND_COPIED | SEND_REGULAR),
	                                       offset, length, flags, &told_callbacks, told);
	told->quiet = false;
	if (status == 0 && (ownership & FERRY_FD_TAKE) != 0)
		told->fd = fd;
	return status;
}

void send_range(struct told *told, uint64_t size, int64_t offset, int64_t length)
{
	ck_assert_int_eq(try_send(told, make_file(size), FERRY_FD_TAKE, offset, length), 0);
}

void send_text(const char *text)
{
	ck_assert_int_eq(ferry_transport_write(sender.transport, text, strlen(text)), 0);
}

void check_finished(const struct told *told, int status, uint64_t sent)
{
	ck_assert_uint_eq(told->finished, 1);
	ck_assert_int_eq(told->status, status);
	ck_assert_uint_eq(told->sent, sent);
}
