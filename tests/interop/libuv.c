/* ferry and libuv at the two ends of a unix socket, which is a uv_pipe_t with `ipc` there: descriptors,
 * and what stands behind them, in both directions. libuv sends one descriptor with a write
 * (uv_write2()), has room for some sixty when it reads, and hands them out one by one (uv_accept()). Its loop
 * is run by ours. */

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <uv.h>

#include "listening.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { TAKEN_MAX = 1100, CHUNK = 65536 };

static struct recorder ours;

/* A handle of libuv's; closed at the end of the test at the latest, and freed then. */
union handle {
	uv_handle_t any;
	uv_stream_t stream;
	uv_tcp_t tcp;
	uv_pipe_t pipe;
};

/* libuv's end, and the descriptors that it has accepted. */
static struct {
	uv_loop_t loop;
	uv_pipe_t pipe;
	struct event *wakeup; /* the descriptor of its loop, in ours */
	uint64_t received;
	unsigned int ended;
	int status; /* the error of the last read callback */
	unsigned int taken_count;
	struct {
		union handle *handle;
		uv_handle_type type;
		uint64_t before, after; /* bytes received before and with the read that brought it */
	} taken[TAKEN_MAX];
	unsigned int written; /* writes that have ended */
} far;

/* ---- libuv's loop ---- */

static void run_uv(void)
{
	uv_run(&far.loop, UV_RUN_NOWAIT);
}

static void uv_has_work(evutil_socket_t fd, short what, void *context)
{
	(void)fd, (void)what, (void)context;
	run_uv();
}

struct counted {
	const unsigned int *counter;
	unsigned int value;
};

static bool is_counted(void *argument)
{
	const struct counted *counted = argument;
	run_uv(); /* starts the requests made since its last turn */
	return *counted->counter >= counted->value;
}

/* Runs both loops. */
static void pump_both(const unsigned int *counter, unsigned int value)
{
	pump_until(is_counted, &(struct counted){counter, value});
}

/* ---- handles ---- */

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

static void close_handle(union handle *handle)
{
	if (!uv_is_closing(&handle->any))
		uv_close(&handle->any, free_handle);
}

static void close_any(uv_handle_t *handle, void *unused)
{
	(void)unused;
	if (handle == (uv_handle_t *)&far.pipe && !uv_is_closing(handle))
		uv_close(handle, NULL);
	else
		close_handle((union handle *)handle);
}

static union handle *new_handle(uv_handle_type type)
{
	union handle *handle = calloc(1, sizeof(*handle));
	ck_assert_ptr_nonnull(handle);
	if (type == UV_TCP)
		ck_assert_int_eq(uv_tcp_init(&far.loop, &handle->tcp), 0);
	else
		ck_assert_int_eq(uv_pipe_init(&far.loop, &handle->pipe, 0), 0);
	return handle;
}

static int fd_of(const union handle *handle)
{
	uv_os_fd_t fd = -1;
	ck_assert_int_eq(uv_fileno(&handle->any, &fd), 0);
	return fd;
}

/* ---- reading ---- */

static void give_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
	static char room[CHUNK];
	(void)handle, (void)suggested;
	*buffer = uv_buf_init(room, sizeof(room));
}

static void take_pending(uint64_t before, uint64_t after)
{
	while (uv_pipe_pending_count(&far.pipe) > 0) {
		const uv_handle_type type = uv_pipe_pending_type(&far.pipe);
		ck_assert_uint_lt(far.taken_count, TAKEN_MAX);
		far.taken[far.taken_count].handle = new_handle(type);
		far.taken[far.taken_count].type = type;
		far.taken[far.taken_count].before = before;
		far.taken[far.taken_count].after = after;
		ck_assert_int_eq(
		    uv_accept((uv_stream_t *)&far.pipe, &far.taken[far.taken_count].handle->stream), 0);
		far.taken_count++;
	}
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
	(void)buffer;
	if (length < 0) {
		far.status = (int)length;
		far.ended++;
		uv_read_stop(stream);
		return;
	}
	const uint64_t before = far.received;
	far.received += (uint64_t)length;
	take_pending(before, far.received);
}

static void start_reading(void)
{
	ck_assert_int_eq(uv_read_start((uv_stream_t *)&far.pipe, give_room, on_read), 0);
}

/* ---- writing ---- */

struct write {
	uv_write_t request;
	union handle *handle; /* closed once it is sent */
	char bytes[];
};

static void on_written(uv_write_t *request, int status)
{
	struct write *write = (struct write *)request;
	ck_assert_int_eq(status, 0);
	if (write->handle != NULL)
		close_handle(write->handle);
	free(write);
	far.written++;
}

/* uv_write2(): bytes of support_byte() counted from `position`, and a handle. */
static void uv_sends(union handle *handle, uint64_t position, size_t length)
{
	struct write *write = malloc(sizeof(*write) + length);
	ck_assert_ptr_nonnull(write);
	write->handle = handle;
	for (size_t i = 0; i < length; i++)
		write->bytes[i] = (char)support_byte(position + i);
	uv_buf_t buffer = uv_buf_init(write->bytes, (unsigned int)length);
	ck_assert_int_eq(uv_write2(&write->request, (uv_stream_t *)&far.pipe, &buffer, 1,
	                           handle != NULL ? &handle->stream : NULL, on_written),
	                 0);
}

/* ---- the fixture ---- */

static void open_ends(void)
{
	int fds[2];
	raise_descriptor_limit();
	make_pair(PAIR_UNIX, fds);
	recorder_open(&ours, fds[0], &recorder_protocol);
	memset(&far, 0, sizeof(far));
	ck_assert_int_eq(uv_loop_init(&far.loop), 0);
	ck_assert_int_eq(uv_pipe_init(&far.loop, &far.pipe, 1), 0);
	ck_assert_int_eq(uv_pipe_open(&far.pipe, fds[1]), 0);
	far.wakeup = event_new(base, uv_backend_fd(&far.loop), EV_READ | EV_PERSIST, uv_has_work, NULL);
	event_add(far.wakeup, NULL);
}

static void close_ends(void)
{
	recorder_close(&ours);
	event_free(far.wakeup);
	uv_walk(&far.loop, close_any, NULL);
	while (uv_run(&far.loop, UV_RUN_DEFAULT) != 0)
		;
	ck_assert_int_eq(uv_loop_close(&far.loop), 0);
}

/* ---- numbered descriptors, also as a uv_pipe_t ---- */

static int make_numbered_pipe(uint32_t number)
{
	int fds[2];
	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(write(fds[1], &number, sizeof(number)), sizeof(number));
	close(fds[1]);
	return fds[0];
}

static uint32_t number_of(int fd)
{
	uint32_t number = UINT32_MAX;
	ck_assert_int_eq(read(fd, &number, sizeof(number)), sizeof(number));
	return number;
}

static void send_numbered(uint32_t number)
{
	ck_assert_int_eq(
	    ferry_transport_send_fd(ours.transport, make_numbered_pipe(number), FERRY_FD_TAKE), 0);
}

static void write_bytes(size_t length)
{
	static const char bytes[CHUNK];
	ck_assert_uint_le(length, sizeof(bytes));
	ck_assert_int_eq(ferry_transport_write(ours.transport, bytes, length), 0);
}

/* The descriptors that libuv took are those with the numbers from 0 on, in order. */
static void expect_numbers(unsigned int count)
{
	ck_assert_uint_eq(far.taken_count, count);
	for (unsigned int i = 0; i < count; i++) {
		ck_assert_int_eq(far.taken[i].type, UV_NAMED_PIPE);
		ck_assert_uint_eq(number_of(fd_of(far.taken[i].handle)), i);
	}
}

/* Ends with the sending half: see bytes_libuv_has_not_read_when_its_peer_closes_both_halves_are_gone. */
static void end_sending(void)
{
	ck_assert_int_eq(ferry_transport_lose_write_connection(ours.transport), 0);
	pump_both(&far.ended, 1);
	ck_assert_int_eq(far.status, UV_EOF);
}

/* ---- from ferry to libuv ---- */

/* Gives a socket to libuv, which leaves O_NONBLOCK as it comes, and so would block in accept(2). */
static union handle *give(int given, uv_handle_type type)
{
	ck_assert_int_eq(evutil_make_socket_nonblocking(given), 0);
	ck_assert_int_eq(ferry_transport_send_fd(ours.transport, given, FERRY_FD_TAKE), 0);
	write_bytes(1);
	start_reading();
	pump_both(&far.taken_count, 1);
	ck_assert_int_eq(far.taken[0].type, type);
	return far.taken[0].handle;
}

static unsigned int echoed;

static void echo(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
	if (length <= 0)
		return;
	uv_buf_t bytes = uv_buf_init(buffer->base, (unsigned int)length);
	ck_assert_int_eq(uv_try_write(stream, &bytes, 1), length);
	echoed++;
}

/* libuv serves a connection that came to it. */
static void expect_echo(union handle *handle, int client)
{
	echoed = 0;
	ck_assert_int_eq(uv_read_start(&handle->stream, give_room, echo), 0);
	wire_put(client, 7, 100);
	pump_both(&echoed, 1);
	ck_assert_int_eq(wire_expect(client, 7, 100), 100);
}

TEST_CASE("to libuv", open_ends, close_ends);

LOOP_TEST(uv_accept_takes_a_connected_socket, 2)
{
	int ends[2];
	make_pair(_i == 0 ? PAIR_TCP : PAIR_UNIX, ends);
	union handle *handle = give(ends[0], _i == 0 ? UV_TCP : UV_NAMED_PIPE);
	expect_echo(handle, ends[1]);
	close(ends[1]);
}

static union handle *served;
static unsigned int accepted;

static void on_connection(uv_stream_t *listener, int status)
{
	ck_assert_int_eq(status, 0);
	served = new_handle(UV_TCP);
	ck_assert_int_eq(uv_accept(listener, &served->stream), 0);
	accepted++;
}

TEST(uv_accept_takes_a_listening_socket_and_accepts_from_it)
{
	const int listener = listen_tcp();
	const int client = connect_to(listener); /* waits in the backlog */
	ck_assert_int_ge(client, 0);
	union handle *handle = give(listener, UV_TCP);
	accepted = 0;
	ck_assert_int_eq(uv_listen(&handle->stream, 16, on_connection), 0);
	pump_both(&accepted, 1);
	expect_echo(served, client);
	close(client);
}

/* The numbers of descriptors are of the stream's bytes: each comes with the read that brings its byte. */
TEST(each_descriptor_comes_with_the_read_of_its_byte)
{
	static uint64_t positions[500];
	const unsigned int count = sizeof(positions) / sizeof(positions[0]);
	uint64_t position = 0;

	for (unsigned int i = 0; i < count; i++) {
		positions[i] = position;
		send_numbered(i);
		const size_t length = 1 + i * 379 % 5000;
		write_bytes(length);
		position += length;
	}
	start_reading();
	end_sending();
	expect_numbers(count);
	ck_assert_uint_eq(far.received, position);
	for (unsigned int i = 0; i < count; i++) {
		ck_assert_uint_le(far.taken[i].before, positions[i]);
		ck_assert_uint_gt(far.taken[i].after, positions[i]);
	}
	ck_assert_uint_eq(stats_of(ours.transport).fds_sent, count);
}

enum { BURST = 100 };

/* As many descriptors as fit at one byte, then the next byte. */
static void send_burst(void)
{
	for (uint32_t i = 0; i < BURST; i++) {
		const int fd = make_numbered_pipe(i);
		int status = ferry_transport_send_fd(ours.transport, fd, FERRY_FD_TAKE);
		if (status == -ENOBUFS) {
			write_bytes(1);
			status = ferry_transport_send_fd(ours.transport, fd, FERRY_FD_TAKE);
		}
		ck_assert_int_eq(status, 0);
	}
	write_bytes(1);
}

TEST(of_100_in_one_message_libuv_silently_loses_those_it_has_no_room_for)
{
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(ours.transport, 253), 0);
	send_burst();
	ck_assert_uint_eq(stats_of(ours.transport).fds_queued, BURST);
	start_reading();
	end_sending();
	ck_assert_uint_eq(stats_of(ours.transport).fds_sent, BURST);
	ck_assert_uint_eq(far.received, 1);
	ck_assert_uint_lt(far.taken_count, BURST);
	ck_assert_uint_ge(far.taken_count, 60); /* libuv 1.44 has room for 64 */
	expect_numbers(far.taken_count);
}

LOOP_TEST(of_a_burst_of_100_libuv_gets_all_with_max_fds_per_message_1, 2)
{
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(ours.transport, 1), 0);
	ck_assert_int_eq(ferry_transport_set_fd_coalescing(ours.transport, _i == 1), 0);
	send_burst();
	start_reading();
	end_sending();
	expect_numbers(BURST);
	ck_assert_uint_eq(far.received, BURST);
}

TEST(of_a_burst_of_100_libuv_gets_all_with_max_fds_per_message_60)
{
	ck_assert_int_eq(ferry_transport_set_max_fds_per_message(ours.transport, 60), 0);
	send_burst();
	start_reading();
	end_sending();
	expect_numbers(BURST);
	ck_assert_uint_eq(far.received, 2);
}

/* The socket is full long before libuv begins to read. */
TEST(a_libuv_that_reads_late_gets_all)
{
	const unsigned int count = 1000;
	for (unsigned int i = 0; i < count; i++) {
		send_numbered(i);
		write_bytes(1000);
	}
	pump_turns(50);
	ck_assert_uint_gt(stats_of(ours.transport).fds_queued, 0);
	start_reading();
	end_sending();
	expect_numbers(count);
	ck_assert_uint_eq(far.received, count * UINT64_C(1000));
}

/* ---- from libuv to ferry ---- */

static int receive_one(union handle *handle)
{
	uv_sends(handle, 0, 1);
	pump_both(&ours.fd_count, 1);
	pump_both(&far.written, 1);
	pump_until_length(&ours, 1);
	recorder_expect_bytes(&ours, 0, 1);
	ck_assert_str_eq(ours.events, "MFD");
	const int fd = ours.fds[0];
	ours.fds[0] = -1;
	return fd;
}

static void expect_same_connection(int mine, int other)
{
	wire_put(mine, 3, 50);
	ck_assert_int_eq(wire_expect(other, 3, 50), 50);
	wire_put(other, 4, 60);
	ck_assert_int_eq(wire_expect(mine, 4, 60), 60);
}

TEST_CASE("from libuv", open_ends, close_ends);

TEST(uv_write2_sends_a_connected_tcp_socket)
{
	int ends[2];
	make_pair(PAIR_TCP, ends);
	union handle *handle = new_handle(UV_TCP);
	ck_assert_int_eq(uv_tcp_open(&handle->tcp, ends[0]), 0);
	const int fd = receive_one(handle);
	expect_same_connection(fd, ends[1]);
	close(fd);
	close(ends[1]);
}

TEST(uv_write2_sends_a_pipe)
{
	int ends[2];
	make_pair(PAIR_UNIX, ends);
	union handle *handle = new_handle(UV_NAMED_PIPE);
	ck_assert_int_eq(uv_pipe_open(&handle->pipe, ends[0]), 0);
	const int fd = receive_one(handle);
	expect_same_connection(fd, ends[1]);
	close(fd);
	close(ends[1]);
}

static struct ferry_transport *client_transport;
static unsigned int clients;

static void on_accepted(struct ferry_listener *listener, struct ferry_transport *transport,
                        void *context)
{
	(void)listener, (void)context;
	client_transport = transport;
	clients++;
}

static void no_connection(uv_stream_t *listener, int status)
{
	(void)listener, (void)status;
	ck_abort_msg("libuv has closed this listener");
}

TEST(uv_write2_sends_a_listening_tcp_socket)
{
	union handle *handle = new_handle(UV_TCP);
	struct sockaddr_in address;
	ck_assert_int_eq(uv_ip4_addr("127.0.0.1", 0, &address), 0);
	ck_assert_int_eq(uv_tcp_bind(&handle->tcp, (const struct sockaddr *)&address, 0), 0);
	ck_assert_int_eq(uv_listen(&handle->stream, 16, no_connection), 0);
	const int fd = receive_one(handle);

	struct ferry_listener *listener = NULL;
	clients = 0;
	ck_assert_int_eq(ferry_listener_new_fd(&listener, base, fd, on_accepted, NULL), 0);
	const int client = connect_to(fd);
	pump_both(&clients, 1);
	ck_assert_int_eq(ferry_transport_write(client_transport, "hello", 5), 0);
	ck_assert_int_eq(ferry_transport_lose_connection(client_transport), 0);
	char text[16] = "";
	ssize_t length;
	while ((length = recv(client, text, sizeof(text), MSG_DONTWAIT)) < 0)
		pump_turns(1);
	ck_assert_int_eq(length, 5);
	ck_assert_str_eq(text, "hello");
	ferry_transport_free(client_transport);
	ferry_listener_free(listener);
	close(client);
	close(fd);
}

static union handle *numbered_handle(uint32_t number)
{
	union handle *handle = new_handle(UV_NAMED_PIPE);
	ck_assert_int_eq(uv_pipe_open(&handle->pipe, make_numbered_pipe(number)), 0);
	return handle;
}

static void expect_numbers_at(const uint64_t *positions, unsigned int count)
{
	ck_assert_uint_eq(ours.fd_count, count);
	for (unsigned int i = 0; i < count; i++) {
		ck_assert_uint_eq(number_of(ours.fds[i]), i);
		ck_assert_uint_le(ours.fd_at[i], positions[i]);
	}
}

/* ferry does not read at first, so that libuv meets a full socket too. Its long writes leave in pieces,
 * of which the first alone has the descriptor. */
TEST(all_that_uv_write2_sends_arrives_once_and_no_later_than_its_byte)
{
	static uint64_t positions[300];
	const unsigned int count = sizeof(positions) / sizeof(positions[0]);
	uint64_t position = 0;

	ck_assert_int_eq(ferry_transport_pause_reading(ours.transport), 0);
	for (unsigned int i = 0; i < count; i++) {
		const size_t length = i % 50 == 49 ? 1024 * 1024 : 1 + i * 379 % 5000;
		positions[i] = position;
		uv_sends(numbered_handle(i), position, length);
		position += length;
	}
	run_uv();
	ck_assert_uint_lt(far.written, count);
	ck_assert_int_eq(ferry_transport_resume_reading(ours.transport), 0);
	pump_both(&far.written, count);
	uv_close((uv_handle_t *)&far.pipe, NULL);
	pump_both(&ours.read_lost, 1);
	ck_assert_uint_eq(recorder_length(&ours), position);
	recorder_expect_bytes(&ours, 0, (size_t)position);
	expect_numbers_at(positions, count);
}

TEST(both_ways_at_once_nothing_is_lost)
{
	static uint64_t positions[400];
	const unsigned int count = sizeof(positions) / sizeof(positions[0]);
	start_reading();
	for (unsigned int i = 0; i < count; i++) {
		positions[i] = i * UINT64_C(700);
		uv_sends(numbered_handle(i), positions[i], 700);
		send_numbered(i);
		write_bytes(500);
	}
	pump_both(&far.written, count);
	pump_both(&ours.fd_count, count);
	pump_both(&far.taken_count, count);
	pump_until_length(&ours, (size_t)count * 700);
	recorder_expect_bytes(&ours, 0, (size_t)count * 700);
	expect_numbers_at(positions, count);
	end_sending();
	expect_numbers(count);
	ck_assert_uint_eq(far.received, count * UINT64_C(500));
}

/* ---- the end ---- */

TEST_CASE("the end", open_ends, close_ends);

/* A read that brings a descriptor is shorter than its buffer; with the hangup there, libuv takes that for
 * the last of the data. It is so with every peer that closes, ferry or not. */
TEST(bytes_libuv_has_not_read_when_its_peer_closes_both_halves_are_gone)
{
	for (uint32_t i = 0; i < 10; i++) {
		send_numbered(i);
		write_bytes(1);
	}
	ck_assert_int_eq(ferry_transport_lose_connection(ours.transport), 0);
	pump_until_lost(&ours);
	ck_assert_int_eq(ours.reason, 0);
	ck_assert_uint_eq(stats_of(ours.transport).fds_sent, 10);
	start_reading();
	pump_both(&far.ended, 1);
	ck_assert_int_eq(far.status, UV_EOF);
	ck_assert_uint_lt(far.taken_count, 10);
	expect_numbers(far.taken_count);
}

static unsigned int shut;

static void on_shutdown(uv_shutdown_t *request, int status)
{
	(void)request;
	ck_assert_int_eq(status, 0);
	shut++;
}

TEST(after_uv_shutdown_ferry_still_sends_descriptors)
{
	uv_shutdown_t request;
	shut = 0;
	start_reading();
	uv_sends(NULL, 0, 10);
	ck_assert_int_eq(uv_shutdown(&request, (uv_stream_t *)&far.pipe, on_shutdown), 0);
	pump_both(&ours.read_lost, 1);
	recorder_expect_bytes(&ours, 0, 10);
	send_numbered(0);
	write_bytes(20);
	end_sending();
	expect_numbers(1);
	pump_both(&shut, 1);
	pump_until_lost(&ours);
	ck_assert_int_eq(ours.reason, 0);
}

TEST(a_libuv_that_closes_without_reading_ends_the_connection_and_leaks_nothing)
{
	for (uint32_t i = 0; i < 50; i++) {
		send_numbered(i);
		write_bytes(CHUNK);
	}
	pump_turns(50);
	ck_assert_uint_gt(stats_of(ours.transport).fds_queued, 0);
	uv_close((uv_handle_t *)&far.pipe, NULL);
	run_uv();
	pump_until_lost(&ours);
	ck_assert(ours.reason == -EPIPE || ours.reason == -ECONNRESET);
	const struct ferry_transport_stats stats = stats_of(ours.transport);
	ck_assert_uint_gt(stats.fds_unsent, 0);
	ck_assert_uint_eq(stats.fds_sent + stats.fds_unsent, 50);
}

BEFORE_ALL
{
	/* libuv opens a pipe of its own for the process, with its first loop: not in a test. */
	uv_loop_t first;
	if (uv_loop_init(&first) != 0 || uv_loop_close(&first) != 0)
		exit(EXIT_FAILURE);
}
