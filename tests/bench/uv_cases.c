/* libuv, for comparison:
 *
 *   uv_cases descriptors unix COUNT   one descriptor with each byte, from one process to another
 *   uv_cases trip unix|tcp COUNT      round trips of 64 bytes, both ends in one loop
 *   uv_cases bulk unix|tcp MIB        bytes from one process to another
 *
 * Descriptors are those of streams: libuv passes no others. Each is a duplicate of one end of a socket pair. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <uv.h>

#include "bench.h"

enum { MESSAGE = 64, BLOCK = 256 * 1024, BURST = 32 };

union stream {
	uv_handle_t handle;
	uv_stream_t stream;
	uv_tcp_t tcp;
	uv_pipe_t pipe;
};

static enum bench_kind kind;
static uint64_t amount, done;
static uv_loop_t loop;
static char room[BLOCK];
static bool ipc;

static void open_stream(union stream *stream, int fd)
{
	if (kind == BENCH_TCP)
		bench_need(uv_tcp_init(&loop, &stream->tcp) == 0 && uv_tcp_open(&stream->tcp, fd) == 0,
		           "uv_tcp_open");
	else
		bench_need(uv_pipe_init(&loop, &stream->pipe, ipc) == 0 &&
		               uv_pipe_open(&stream->pipe, fd) == 0,
		           "uv_pipe_open");
}

static void give_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	(void)handle, (void)suggested;
	*buffer = uv_buf_init(room, sizeof(room));
}

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

/* ---- round trips ---- */

struct request {
	uv_write_t write;
	char bytes[MESSAGE];
};

static void written(uv_write_t *request, int status)
{
	bench_need(status == 0, "uv_write");
	free(request);
}

static void write_message(uv_stream_t *stream)
{
	struct request *request = calloc(1, sizeof(*request));

	bench_need(request != NULL, "calloc");
	uv_buf_t buffer = uv_buf_init(request->bytes, MESSAGE);
	bench_need(uv_write(&request->write, stream, &buffer, 1, written) == 0, "uv_write");
}

static void answer(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
	(void)buffer;
	bench_need(length == MESSAGE, "a message");
	if (stream->data != NULL && ++done >= amount) {
		uv_stop(&loop);
		return;
	}
	write_message(stream);
}

static void measure_trips(void)
{
	static union stream ends[2];
	int fds[2];

	bench_pair(kind, fds);
	for (int i = 0; i < 2; i++) {
		open_stream(&ends[i], fds[i]);
		ends[i].handle.data = i == 0 ? &ends[0] : NULL;
		uv_read_start(&ends[i].stream, give_room, answer);
	}
	uint64_t cpu = bench_cpu();
	write_message(&ends[0].stream);
	uv_run(&loop, UV_RUN_DEFAULT);
	bench_print("cpu_us", (double)(bench_cpu() - cpu) / 1e3 / (double)amount);
}

/* ---- bytes ---- */

static void count_bytes(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
	(void)buffer;
	if (length < 0)
		uv_close((uv_handle_t *)stream, NULL);
	else
		done += (uint64_t)length;
}

static void receive_bytes(int fd, void *argument)
{
	(void)argument;
	static union stream end;

	uv_loop_init(&loop);
	open_stream(&end, fd);
	uv_read_start(&end.stream, give_room, count_bytes);
	uv_run(&loop, UV_RUN_DEFAULT);
	bench_need(done == amount, "bytes received");
}

static void send_block(uv_write_t *request, int status)
{
	uint64_t length = amount - done < BLOCK ? amount - done : BLOCK;
	uv_buf_t buffer = uv_buf_init(room, (unsigned int)length);

	bench_need(status == 0, "uv_write");
	if (length == 0) {
		uv_close((uv_handle_t *)request->handle, NULL);
		return;
	}
	done += length;
	bench_need(uv_write(request, request->handle, &buffer, 1, send_block) == 0, "uv_write");
}

static void measure_bulk(void)
{
	static union stream end;
	static uv_write_t request;
	int fd;
	uint64_t began = bench_now(), cpu = bench_cpu_of_all();

	pid_t child = bench_fork(kind, receive_bytes, NULL, &fd);
	open_stream(&end, fd);
	request.handle = &end.stream;
	send_block(&request, 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	bench_wait(child);
	double megabytes = (double)amount / 1e6;
	bench_print("MB_per_s", megabytes / ((double)(bench_now() - began) / 1e9));
	bench_print("cpu_us_per_MB", (double)(bench_cpu_of_all() - cpu) / 1e3 / megabytes);
}

/* ---- descriptors ---- */

struct gift {
	uv_write_t write;
	uv_pipe_t *pipe;
};

static int given[2];
static uint64_t queued;

static void send_gifts(uv_stream_t *stream);

static void given_away(uv_write_t *write, int status)
{
	struct gift *gift = (struct gift *)write;
	uv_stream_t *stream = write->handle;

	bench_need(status == 0, "uv_write2");
	uv_close((uv_handle_t *)gift->pipe, free_handle);
	free(gift);
	done++;
	if (done == queued)
		send_gifts(stream);
}

static void send_gift(uv_stream_t *stream)
{
	struct gift *gift = calloc(1, sizeof(*gift));
	uv_pipe_t *pipe = calloc(1, sizeof(*pipe));
	uv_buf_t buffer = uv_buf_init(room, 1);
	int fd = fcntl(given[0], F_DUPFD_CLOEXEC, 0);

	bench_need(gift != NULL && pipe != NULL && fd >= 0, "memory");
	gift->pipe = pipe; /* NOLINT(clang-analyzer-core.NullDereference): bench_need() has ended */
	bench_need(uv_pipe_init(&loop, pipe, 0) == 0 && uv_pipe_open(pipe, fd) == 0, "uv_pipe_open");
	bench_need(uv_write2(&gift->write, stream, &buffer, 1, (uv_stream_t *)pipe, given_away) == 0,
	           "uv_write2");
}

static void send_gifts(uv_stream_t *stream)
{
	if (queued == amount) {
		/* The receiver ends first: libuv takes the hang-up of this end for the end of the stream, with descriptors
		 * still to be read. */
		uv_stop(&loop);
		return;
	}
	for (int i = 0; i < BURST && queued < amount; i++, queued++)
		send_gift(stream);
}

static void take_gifts(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
	(void)buffer;
	if (length < 0) {
		uv_close((uv_handle_t *)stream, NULL);
		return;
	}
	while (uv_pipe_pending_count((uv_pipe_t *)stream) > 0) {
		uv_pipe_t *pipe = calloc(1, sizeof(*pipe));
		bench_need(pipe != NULL && uv_pipe_init(&loop, pipe, 0) == 0 &&
		               uv_accept(stream, (uv_stream_t *)pipe) == 0,
		           "uv_accept");
		uv_close((uv_handle_t *)pipe, free_handle);
		done++;
	}
	if (done == amount)
		uv_close((uv_handle_t *)stream, NULL);
}

static void receive_gifts(int fd, void *argument)
{
	(void)argument;
	static union stream end;

	uv_loop_init(&loop);
	open_stream(&end, fd);
	uv_read_start(&end.stream, give_room, take_gifts);
	uv_run(&loop, UV_RUN_DEFAULT);
	bench_need(done == amount, "descriptors received");
}

static void measure_descriptors(void)
{
	static union stream end;
	int fd;

	ipc = true;
	bench_pair(BENCH_UNIX, given);
	uint64_t began = bench_now(), cpu = bench_cpu_of_all();
	pid_t child = bench_fork(BENCH_UNIX, receive_gifts, NULL, &fd);
	open_stream(&end, fd);
	send_gifts(&end.stream);
	uv_run(&loop, UV_RUN_DEFAULT);
	bench_wait(child);
	bench_print("per_s", (double)amount / ((double)(bench_now() - began) / 1e9));
	bench_print("cpu_us", (double)(bench_cpu_of_all() - cpu) / 1e3 / (double)amount);
}

int main(int argc, char **argv)
{
	static const char *const what[] = {"descriptors", "trip", "bulk", NULL};
	static const char *const kinds[] = {"unix", "tcp", NULL};

	if (argc != 4) {
		fprintf(stderr, "usage: %s descriptors|trip|bulk unix|tcp COUNT|MIB\n", argv[0]);
		return 2;
	}
	int measured = bench_choice(argv[1], what);
	kind = (enum bench_kind)bench_choice(argv[2], kinds);
	amount = bench_number(argv[3]);
	uv_loop_init(&loop);
	if (measured == 0)
		measure_descriptors();
	else if (measured == 1)
		measure_trips();
	else {
		amount <<= 20;
		measure_bulk();
	}
	return 0;
}
