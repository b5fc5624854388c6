/* A transport becomes a handoff with its unread input, or stays as it is; and a handoff becomes a transport. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "ferry/ferry.h"

#include "handoff_info.h"
#include "moved_bufferevent.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

static unsigned int questions; /* about the socket */

int __real_getsockopt(int fd, int level, int name, void *value, socklen_t *length);
int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *length);

int __wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
	questions++;
	return __real_getsockopt(fd, level, name, value, length);
}

static int ends[2]; /* the transport's, and the client's */
static struct ferry_transport *transport;
static unsigned int deliveries;
static struct ferry_handoff *taken;
static void (*on_data)(void);

/* The protocol leaves what it is given. */
static void leave_data(struct ferry_transport *from, struct evbuffer *input, void *context)
{
	(void)from, (void)input, (void)context;
	deliveries++;
	if (on_data != NULL)
		on_data();
}

static void close_received(struct ferry_transport *from, int fd, void *context)
{
	(void)from, (void)context;
	close(fd);
}

static void pause_at_fd(struct ferry_transport *from, int fd, void *context)
{
	close_received(from, fd, context);
	(void)ferry_transport_pause_reading(from);
	deliveries++;
}

static const struct ferry_protocol leaving = {.data_received = leave_data,
                                              .file_descriptor_received = close_received};
static const struct ferry_protocol pausing = {.data_received = leave_data,
                                              .file_descriptor_received = pause_at_fd};

static void open_transport(enum pair_kind kind, int options, const struct ferry_protocol *protocol)
{
	make_pair(kind, ends);
	deliveries = 0;
	on_data = NULL;
	taken = NULL;
	ck_assert_int_eq(
	    ferry_transport_new(&transport, bufferevent_socket_new(base, ends[0], options)), 0);
	if (protocol != NULL)
		ck_assert_int_eq(ferry_transport_set_protocol(transport, protocol, NULL), 0);
	pump_turns(2);
}

static void receive(uint64_t position, size_t length)
{
	struct evbuffer *input = bufferevent_get_input(ferry_transport_get_bufferevent(transport));

	wire_put(ends[1], position, length);
	while (evbuffer_get_length(input) < position + length)
		pump_turns(1);
}

static struct ferry_handoff *take(void)
{
	struct ferry_handoff *handoff = NULL;

	ck_assert_int_eq(ferry_handoff_from_transport(&handoff, transport), 0);
	transport = NULL;
	return handoff;
}

static void expect_open(const struct ferry_handoff *handoff)
{
	int fd = ferry_handoff_get_fd(handoff);

	ck_assert_int_eq(fd, ends[0]);
	wire_put(fd, 0, 10);
	await_input(ends[1]);
	ck_assert_int_eq(wire_expect(ends[1], 0, 10), 10);
	wire_put(ends[1], 0, 10);
	await_input(fd);
	ck_assert_int_eq(wire_expect(fd, 0, 10), 10);
}

static void close_all(void)
{
	ferry_transport_free(transport);
	transport = NULL;
	pump_turns(3);
	close(ends[1]);
}

/* _i: TCP or unix; the bufferevent closes the socket or not */
LOOP_TEST(unread_input_goes_along, 4)
{
	open_transport(_i & 1 ? PAIR_TCP : PAIR_UNIX, _i & 2 ? BEV_OPT_CLOSE_ON_FREE : 0, &leaving);
	receive(0, 1000);
	struct ferry_handoff *handoff = take();
	expect_bytes(handoff, 1000);
	ck_assert_uint_eq(epoll_events(ends[0]), 0);
	unsigned int before = deliveries;
	pump_turns(5);
	ck_assert_uint_eq(deliveries, before);
	expect_open(handoff);
	ferry_handoff_free(handoff);
	close_all();
}

TEST(input_that_a_pause_defers_goes_along)
{
	open_transport(PAIR_UNIX, BEV_OPT_CLOSE_ON_FREE, &leaving);
	receive(0, 10);
	ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
	wire_put(ends[1], 10, 10);
	pump_turns(5);
	struct ferry_handoff *handoff = take();
	size_t length;
	ferry_handoff_get_bytes(handoff, &length);
	expect_bytes(handoff, length);
	/* The kernel has the others, for the next reader. */
	if (length < 20)
		ck_assert_int_eq(wire_expect(ends[0], length, 20 - length), 20 - (int)length);
	ferry_handoff_free(handoff);
	close_all();
}

static void take_now(void)
{
	taken = take();
}

static bool is_taken(void *argument)
{
	(void)argument;
	return taken != NULL;
}

TEST(it_may_be_taken_in_a_callback)
{
	open_transport(PAIR_TCP, BEV_OPT_CLOSE_ON_FREE, &leaving);
	on_data = take_now;
	wire_put(ends[1], 0, 10);
	pump_until(is_taken, NULL);
	expect_bytes(taken, 10);
	pump_turns(5);
	ck_assert_uint_eq(deliveries, 1);
	expect_open(taken);
	ferry_handoff_free(taken);
	close_all();
}

TEST(the_next_process_reads_the_end_again)
{
	open_transport(PAIR_UNIX, BEV_OPT_CLOSE_ON_FREE, &leaving);
	receive(0, 10);
	ck_assert_int_eq(ferry_transport_pause_reading(transport), 0);
	shutdown(ends[1], SHUT_WR);
	pump_turns(5);
	struct ferry_handoff *handoff = take();
	ck_assert_int_eq(wire_expect(ends[0], 0, 1), 0);
	wire_put(ends[0], 0, 10);
	ck_assert_int_eq(wire_expect(ends[1], 0, 10), 10);
	ferry_handoff_free(handoff);
	close_all();
}

/* ---- refusals ---- */

/* Nothing has changed: the transport still reads, and has its input. */
static void expect_refusal(int error)
{
	struct ferry_handoff *handoff = NULL;
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	size_t input = evbuffer_get_length(bufferevent_get_input(bev));
	size_t output = evbuffer_get_length(bufferevent_get_output(bev));
	short enabled = bufferevent_get_enabled(bev);

	ck_assert_int_eq(ferry_handoff_from_transport(&handoff, transport), error);
	ck_assert_ptr_null(handoff);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_input(bev)), input);
	ck_assert_uint_eq(evbuffer_get_length(bufferevent_get_output(bev)), output);
	ck_assert_int_eq(bufferevent_get_enabled(bev), enabled);
}

/* It works as before, and can be taken. */
static void expect_use(void)
{
	struct evbuffer *input = bufferevent_get_input(ferry_transport_get_bufferevent(transport));

	ck_assert_int_eq(ferry_transport_write(transport, "answer", 6), 0);
	char answer[6];
	ssize_t count = -1;
	while ((count = recv(ends[1], answer, sizeof(answer), MSG_DONTWAIT)) < 0)
		pump_turns(1);
	ck_assert_int_eq(count, 6);
	receive(evbuffer_get_length(input), 10);
	ferry_handoff_free(take());
	close_all();
}

TEST(queued_bytes_would_be_lost)
{
	open_transport(PAIR_UNIX, BEV_OPT_CLOSE_ON_FREE, &leaving);
	receive(0, 10);
	ck_assert_int_eq(ferry_transport_write(transport, "x", 1), 0);
	expect_refusal(-EBUSY);
	while (wire_drain(ends[1]) == 0)
		pump_turns(1);
	expect_use();
}

TEST(queued_descriptors_would_be_lost)
{
	open_transport(PAIR_UNIX, BEV_OPT_CLOSE_ON_FREE, &leaving);
	ck_assert_int_eq(ferry_transport_send_fd(transport, STDERR_FILENO, FERRY_FD_DUP), 0);
	expect_refusal(-EBUSY);
	ck_assert_int_eq(ferry_transport_write(transport, "x", 1), 0);
	while (wire_drain(ends[1]) == 0)
		pump_turns(1);
	expect_use();
}

TEST(queued_files_would_be_lost)
{
	open_transport(PAIR_UNIX, BEV_OPT_CLOSE_ON_FREE, &leaving);
	ck_assert_int_eq(ferry_transport_send_file(NULL, transport, make_file(100), FERRY_FD_TAKE, 0,
	                                           FERRY_TO_END, 0, NULL, NULL),
	                 0);
	expect_refusal(-EBUSY);
	size_t count = 0;
	while ((count += wire_drain(ends[1])) < 100)
		pump_turns(1);
	pump_turns(3);
	expect_use();
}

TEST(received_descriptors_would_be_lost)
{
	int fds[2] = {STDERR_FILENO, STDERR_FILENO};

	open_transport(PAIR_UNIX, BEV_OPT_CLOSE_ON_FREE, &pausing);
	ck_assert_int_eq(wire_send(ends[1], "", 1, fds, 2), 1);
	pump_until_count(&deliveries, 1);
	expect_refusal(-EBUSY);
	ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	pump_until_count(&deliveries, 2);
	ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	expect_use();
}

static void resume_producing(void *context)
{
	(void)context;
}

TEST(a_producer_would_be_lost)
{
	static const struct ferry_producer_callbacks producer = {.resume_producing = resume_producing};

	open_transport(PAIR_UNIX, BEV_OPT_CLOSE_ON_FREE, &leaving);
	ck_assert_int_eq(
	    ferry_transport_register_producer(transport, &producer, NULL, FERRY_PRODUCER_PULL), 0);
	expect_refusal(-EBUSY);
	ck_assert_int_eq(ferry_transport_unregister_producer(transport), 0);
	expect_use();
}

TEST(a_message_stream_keeps_its_connection)
{
	static const struct ferry_message_callbacks callbacks = {0};
	struct ferry_message_stream *stream;

	open_transport(PAIR_UNIX, BEV_OPT_CLOSE_ON_FREE, NULL);
	ck_assert_int_eq(ferry_message_stream_new(&stream, transport, &callbacks, NULL), 0);
	expect_refusal(-EBUSY);
	ferry_message_stream_free(stream);
	transport = NULL;
	close_all();
}

TEST(a_connection_that_closes_or_is_over_does_not_travel)
{
	static char block[1 << 20];

	open_transport(PAIR_UNIX, BEV_OPT_CLOSE_ON_FREE, &leaving);
	ck_assert_int_eq(ferry_transport_write(transport, block, sizeof(block)), 0);
	ck_assert_int_eq(ferry_transport_lose_connection(transport), 0);
	expect_refusal(-EBUSY);
	ck_assert_int_eq(ferry_transport_abort_connection(transport), 0);
	expect_refusal(-ENOTCONN);
	close_all();
}

TEST(more_input_than_a_handoff_carries_stays)
{
	open_transport(PAIR_TCP, BEV_OPT_CLOSE_ON_FREE, &leaving);
	for (size_t at = 0; at <= FERRY_HANDOFF_BYTES_MAX; at += 4096)
		receive(at, 4096);
	expect_refusal(-EMSGSIZE);
	struct evbuffer *input = bufferevent_get_input(ferry_transport_get_bufferevent(transport));
	evbuffer_drain(input, evbuffer_get_length(input));
	expect_use();
}

TEST(frozen_input_is_refused)
{
	open_transport(PAIR_TCP, BEV_OPT_CLOSE_ON_FREE, &leaving);
	receive(0, 10);
	struct evbuffer *input = bufferevent_get_input(ferry_transport_get_bufferevent(transport));
	evbuffer_freeze(input, 1);
	expect_refusal(-EINVAL);
	evbuffer_unfreeze(input, 1);
	expect_use();
}

TEST(pipes_are_refused)
{
	int in[2], out[2];
	struct ferry_handoff *handoff = NULL;

	make_pipe(in);
	make_pipe(out);
	ck_assert_int_eq(ferry_transport_new_pipes(&transport, base, in[0], out[1]), 0);
	ck_assert_int_eq(ferry_handoff_from_transport(&handoff, transport), -EINVAL);
	ck_assert_ptr_null(handoff);
	ferry_transport_free(transport);
	transport = NULL;
	pump_turns(2);
	close(in[1]);
	close(out[0]);
}

TEST(a_connection_that_is_being_made_waits)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct ferry_handoff *handoff = NULL;

	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, length), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	struct bufferevent *bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	ck_assert_int_eq(bufferevent_socket_connect(bev, (struct sockaddr *)&address, sizeof(address)),
	                 0);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	ck_assert_int_eq(ferry_handoff_from_transport(&handoff, transport), -ENOTCONN);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &leaving, NULL), 0);
	while (ferry_handoff_from_transport(&handoff, transport) == -ENOTCONN)
		pump_turns(1);
	ck_assert_ptr_nonnull(handoff);
	ferry_handoff_free(handoff);
	close(listener);
}

TEST(arguments_are_checked)
{
	struct ferry_handoff *handoff = NULL;
	struct ferry_transport *other = NULL;

	open_transport(PAIR_TCP, BEV_OPT_CLOSE_ON_FREE, &leaving);
	ck_assert_int_eq(ferry_handoff_from_transport(NULL, transport), -EINVAL);
	ck_assert_int_eq(ferry_handoff_from_transport(&handoff, NULL), -EINVAL);
	handoff = take();
	ck_assert_int_eq(ferry_handoff_to_transport(NULL, handoff, base, 0), -EINVAL);
	ck_assert_int_eq(ferry_handoff_to_transport(&other, NULL, base, 0), -EINVAL);
	ck_assert_int_eq(ferry_handoff_to_transport(&other, handoff, NULL, 0), -EINVAL);
	int fd = ferry_handoff_steal_fd(handoff);
	ck_assert_int_eq(ferry_handoff_to_transport(&other, handoff, base, 0), -ENOENT);
	ck_assert_ptr_null(other);
	ferry_handoff_free(handoff);
	close(fd);
	close_all();
}

/* ---- the other way ---- */

TEST(the_bytes_already_read_come_first)
{
	struct recorder recorder = {0};

	open_transport(PAIR_UNIX, BEV_OPT_CLOSE_ON_FREE, &leaving);
	receive(0, 1000);
	struct ferry_handoff *handoff = take();
	wire_put(ends[1], 1000, 500);
	ck_assert_int_eq(ferry_handoff_to_transport(&transport, handoff, base, BEV_OPT_CLOSE_ON_FREE),
	                 0);
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), -ENOENT);
	ferry_handoff_free(handoff);
	recorder_attach(&recorder, transport, &recorder_protocol);
	transport = NULL;
	pump_until_length(&recorder, 1500);
	recorder_expect_bytes(&recorder, 0, 1500);
	int fd = STDERR_FILENO;
	ck_assert_int_eq(wire_send(ends[1], "", 1, &fd, 1), 1);
	pump_until_fds(&recorder, 1);
	recorder_close(&recorder);
	close_all();
}

/* _i: the owner has stated it; the handoff was a transport before; neither */
LOOP_TEST(the_kernel_is_asked_nothing_about_a_known_stream_of_inet, 3)
{
	struct ferry_handoff *handoff = NULL;
	struct recorder recorder = {0};

	if (_i == 1) {
		open_transport(PAIR_TCP, BEV_OPT_CLOSE_ON_FREE, NULL);
		handoff = take();
	} else {
		make_pair(PAIR_TCP, ends);
		ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	}
	if (_i == 0)
		ck_assert_int_eq(ferry_handoff_set_inet_stream(handoff), 0);
	ck_assert(handoff_info(handoff).inet_stream == (_i != 2));
	ck_assert_int_eq(fcntl(ends[0], F_SETFL, 0), 0);
	questions = 0;
	ck_assert_int_eq(ferry_handoff_to_transport(&transport, handoff, base, BEV_OPT_CLOSE_ON_FREE),
	                 0);
	ck_assert_uint_eq(questions > 0, _i == 2);
	ck_assert_int_eq((fcntl(ends[0], F_GETFL) & O_NONBLOCK) != 0, _i == 2);
	ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	ferry_handoff_free(handoff);
	ck_assert_int_eq(ferry_transport_send_fd(transport, STDERR_FILENO, FERRY_FD_DUP), -EOPNOTSUPP);
	recorder_attach(&recorder, transport, &recorder_protocol);
	transport = NULL;
	wire_put(ends[1], 0, 500);
	pump_until_length(&recorder, 500);
	recorder_close(&recorder);
	close_all();
}

/* _i: a datagram socket, a pipe */
LOOP_TEST(what_is_no_stream_socket_stays_a_handoff, 2)
{
	struct ferry_handoff *handoff = NULL;
	struct ferry_transport *made = NULL;

	if (_i == 0)
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
	else
		make_pipe(ends);
	ck_assert_int_eq(ferry_handoff_new(&handoff, ends[0]), 0);
	ck_assert_int_eq(ferry_handoff_set_bytes(handoff, "x", 1), 0);
	ck_assert_int_eq(ferry_handoff_to_transport(&made, handoff, base, BEV_OPT_CLOSE_ON_FREE),
	                 _i == 0 ? -EPROTOTYPE : -ENOTSOCK);
	ck_assert_ptr_null(made);
	pump_turns(2);
	ck_assert_int_eq(ferry_handoff_get_fd(handoff), ends[0]);
	ck_assert(fd_is_open(ends[0]));
	ferry_handoff_free(handoff);
	close(ends[1]);
}
