/* Faults that were found by reading the code, each with the case that showed it. */

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/thread.h>

#include "recorder.h"
#include "test.h"
#include "wire.h"

static int ends[2];
static struct recorder recorder;

static void open_transport(const struct ferry_protocol *protocol)
{
	make_pair(PAIR_UNIX, ends);
	recorder_open(&recorder, ends[0], protocol);
	pump_turns(2);
}

static void close_all(void)
{
	recorder_close(&recorder);
	if (ends[1] >= 0)
		close(ends[1]);
	pump_turns(2);
}

static struct bufferevent *bev_of(void)
{
	return ferry_transport_get_bufferevent(recorder.transport);
}

static void send_mark(uint32_t number)
{
	ck_assert_int_eq(
	    ferry_transport_send_fd(recorder.transport, make_marked_fd(number), FERRY_FD_TAKE), 0);
}

static void write_text(const char *text)
{
	ck_assert_int_eq(ferry_transport_write(recorder.transport, text, strlen(text)), 0);
}

/* ---- callbacks of the user's own on the buffers ---- */

static void free_when_added(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                            void *argument)
{
	(void)buffer, (void)argument;
	if (info->n_added > 0)
		recorder_free_transport(&recorder);
}

static void free_when_deleted(struct evbuffer *buffer, const struct evbuffer_cb_info *info,
                              void *argument)
{
	(void)buffer, (void)argument;
	if (info->n_deleted > 0)
		recorder_free_transport(&recorder);
}

TEST_CASE("callbacks on the buffers");

LOOP_TEST(the_transport_may_be_freed_in_a_callback_on_the_output, 2)
{
	open_transport(&recorder_protocol);
	evbuffer_add_cb(bufferevent_get_output(bev_of()), _i == 0 ? free_when_added : free_when_deleted,
	                NULL);
	write_text("bytes");
	pump_turns(3);
	ck_assert_ptr_null(recorder.transport);
	close_all();
}

TEST(pipes_may_be_freed_in_a_callback_on_the_output_while_the_queue_is_dropped)
{
	int in[2], out[2];
	make_pipe(in);
	make_pipe(out);
	recorder_open_pipes(&recorder, in[0], out[1], &recorder_protocol);
	pump_turns(2);
	evbuffer_add_cb(bufferevent_get_output(bev_of()), free_when_deleted, NULL);
	write_text("bytes");
	ck_assert_int_eq(ferry_transport_abort_connection(recorder.transport), 0);
	ck_assert_ptr_null(recorder.transport);
	pump_turns(3);
	recorder_close(&recorder);
	close(in[1]);
	close(out[0]);
}

/* ---- bufferevent_setfd() ---- */

TEST_CASE("another socket");

LOOP_TEST(marks_that_libevent_wrote_past_do_not_hang_the_stream, 2)
{
	int next[2];
	struct wire_read result;
	char buffer[64];

	open_transport(&recorder_protocol);
	make_pair(PAIR_UNIX, next);
	write_text("abc");
	if (_i == 0)
		send_mark(7);
	else
		ck_assert_int_eq(ferry_transport_send_file(NULL, recorder.transport, make_file(4),
		                                           FERRY_FD_TAKE, 0, 4, 0, NULL, NULL),
		                 0);
	write_text("de");
	bufferevent_setfd(bev_of(), next[0]);
	pump_turns(2);
	write_text("f");
	pump_turns(2);
	wire_receive(next[1], buffer, sizeof(buffer), &result);
	ck_assert_int_gt(result.bytes, 0);
	size_t fds = result.fd_count;
	wire_close_fds(&result);
	wire_receive(next[1], buffer, sizeof(buffer), &result);
	fds += result.bytes > 0 ? result.fd_count : 0;
	wire_close_fds(&result);
	struct ferry_transport_stats stats = stats_of(recorder.transport);
	ck_assert_uint_eq(stats.bytes_queued + stats.fds_queued + stats.files_queued, 0);
	if (_i == 0)
		ck_assert_uint_eq(fds, 1);
	close(ends[0]);
	close_all();
	close(next[1]);
}

static int swap_to[2];

static void swap_socket(struct recorder *r, char event)
{
	if (event != EVENT_DATA || swap_to[0] < 0)
		return;
	if (*(int *)r->argument == 0)
		ck_assert_int_eq(ferry_transport_set_socket(r->transport, swap_to[0]), 0);
	else
		ck_assert_int_eq(bufferevent_setfd(bev_of(), swap_to[0]), 0);
	/* Puts another socket into the old descriptor's slot. */
	ck_assert_int_eq(dup3(ends[1], ends[0], O_CLOEXEC), ends[0]);
	swap_to[0] = -1;
}

LOOP_TEST(a_read_does_not_go_on_with_a_socket_that_a_callback_has_replaced, 2)
{
	char zeros[8192] = {0};

	open_transport(&recorder_protocol);
	recorder.hook = swap_socket;
	recorder.argument = &_i;
	make_pair(PAIR_UNIX, swap_to);
	ck_assert_int_eq(wire_send(ends[1], zeros, sizeof(zeros), NULL, 0), sizeof(zeros));
	/* The transport must not read these bytes: they are in the other direction of the first
	 * pair. */
	int keep = fcntl(ends[0], F_DUPFD_CLOEXEC, 0);
	ck_assert_int_eq(wire_send(keep, "stolen", 6, NULL, 0), 6);
	pump_turns(3);
	ck_assert_uint_gt(recorder_length(&recorder), 0);
	ck_assert_uint_lt(recorder_length(&recorder), sizeof(zeros)); /* one read */
	char buffer[16];
	ck_assert_int_eq(read(ends[1], buffer, sizeof(buffer)), 6);
	close(keep);
	close(ends[0]);
	close_all();
	close(swap_to[1]);
}

TEST(descriptors_for_a_socket_that_became_tcp_are_an_error_and_not_dropped)
{
	int next[2];

	open_transport(&recorder_protocol);
	make_pair(PAIR_TCP, next);
	send_mark(1);
	bufferevent_setfd(bev_of(), next[0]);
	write_text("x");
	pump_until_lost(&recorder);

	ck_assert_int_eq(recorder.reason, -EOPNOTSUPP);
	struct ferry_transport_stats stats = stats_of(recorder.transport);
	ck_assert_uint_eq(stats.fds_sent, 0);
	ck_assert_uint_eq(stats.fds_unsent, 1);
	close(ends[0]);
	close_all();
	close(next[1]);
}

static void swap_and_write(void *context)
{
	unsigned int *asked = context;
	if (++*asked != 2)
		return;
	ck_assert_int_eq(ferry_transport_set_socket(recorder.transport, swap_to[0]), 0);
	write_text("new");
}

static const struct ferry_producer_callbacks swapping = {.resume_producing = swap_and_write};

TEST(a_write_does_not_go_on_with_a_socket_that_a_producer_has_replaced)
{
	unsigned int asked = 0;
	char buffer[16];

	open_transport(&recorder_protocol);
	make_pair(PAIR_UNIX, swap_to);
	ferry_transport_register_producer(recorder.transport, &swapping, &asked, FERRY_PRODUCER_PULL);
	pump_turns(1);
	write_text("old");
	pump_turns(3);
	ck_assert_uint_ge(asked, 2);
	ck_assert_int_eq(read(ends[1], buffer, sizeof(buffer)), 3);
	ck_assert_int_eq(read(swap_to[1], buffer, sizeof(buffer)), 3);
	close(ends[0]);
	close_all();
	close(swap_to[1]);
}

TEST(without_a_socket_for_a_while_the_stream_waits)
{
	int next[2];
	struct wire_read result;
	char buffer[16];

	open_transport(&recorder_protocol);
	make_pair(PAIR_UNIX, next);
	send_mark(1);
	bufferevent_setfd(bev_of(), -1);
	close(ends[0]);
	write_text("x");
	pump_turns(3);
	ck_assert_uint_eq(recorder.lost, 0);
	ck_assert_int_eq(ferry_transport_set_socket(recorder.transport, next[0]), 0);
	pump_turns(3);
	wire_receive(next[1], buffer, sizeof(buffer), &result);
	ck_assert_int_eq(result.bytes, 1);
	ck_assert_uint_eq(result.fd_count, 1);
	wire_close_fds(&result);
	close_all();
	close(next[1]);
}

static struct sockaddr_un unix_place;
static socklen_t unix_place_length;

static int listen_somewhere(void)
{
	unix_place = (struct sockaddr_un){.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* Without a name the kernel picks one. */
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&unix_place, sizeof(sa_family_t)), 0);
	unix_place_length = sizeof(unix_place);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&unix_place, &unix_place_length), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	return listener;
}

static void send_when_connected(struct bufferevent *bev, short what, void *argument)
{
	(void)bev;
	if ((what & BEV_EVENT_CONNECTED) == 0)
		return;
	++*(unsigned int *)argument;
	send_mark(3);
	write_text("x");
}

TEST(a_reconnected_bufferevents_descriptor_comes_with_its_byte)
{
	unsigned int connected = 0;
	struct wire_read result;
	char buffer[16];
	int listener = listen_somewhere();

	make_pair(PAIR_UNIX, ends);
	recorder.transport = make_transport(ends[0]);
	bufferevent_setcb(bev_of(), NULL, NULL, send_when_connected, &connected);
	pump_turns(1);
	bufferevent_setfd(bev_of(), -1);
	close(ends[0]);
	close(ends[1]);
	ck_assert_int_eq(bufferevent_socket_connect(bev_of(), (struct sockaddr *)&unix_place,
	                                            (int)unix_place_length),
	                 0);
	pump_until_count(&connected, 1);
	pump_turns(3);
	ck_assert_uint_eq(connected, 1);
	int far = accept(listener, NULL, NULL);
	wire_receive(far, buffer, sizeof(buffer), &result);
	ck_assert_int_eq(result.bytes, 1);
	ck_assert_uint_eq(result.fd_count, 1);
	wire_close_fds(&result);
	ferry_transport_free(recorder.transport);
	pump_turns(2);
	close(far);
	close(listener);
}

LOOP_TEST(a_socket_may_be_given_first_and_connected_then, 2)
{
	unsigned int connected = 0;
	char buffer[16];
	int listener = listen_somewhere();

	make_pair(PAIR_UNIX, ends);
	recorder.transport = make_transport(ends[0]);
	bufferevent_setcb(bev_of(), NULL, NULL, send_when_connected, &connected);
	pump_turns(1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_eq(ferry_transport_set_socket(recorder.transport, fd), 0);
	close(ends[0]);
	close(ends[1]);
	ck_assert_int_eq(bufferevent_socket_connect(bev_of(), (struct sockaddr *)&unix_place,
	                                            (int)unix_place_length),
	                 0);
	if (_i == 1)
		write_text("y");
	pump_until_count(&connected, 1);
	pump_turns(3);
	ck_assert_uint_eq(connected, 1);
	int far = accept(listener, NULL, NULL);
	ck_assert_int_eq(read(far, buffer, sizeof(buffer)), 1 + _i);
	ferry_transport_free(recorder.transport);
	pump_turns(2);
	close(far);
	close(listener);
}

/* ---- events that libevent puts together ---- */

static void open_with_options(int options, const struct ferry_protocol *protocol)
{
	struct ferry_transport *transport;
	make_pair(PAIR_UNIX, ends);
	struct bufferevent *bev =
	    bufferevent_socket_new(base, ends[0], options | BEV_OPT_CLOSE_ON_FREE);
	ck_assert_ptr_nonnull(bev);
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	recorder_attach(&recorder, transport, protocol);
	pump_turns(2);
}

TEST_CASE("what is told");

TEST(an_end_and_a_write_error_that_are_deferred_together_both_arrive)
{
	open_with_options(BEV_OPT_DEFER_CALLBACKS, &recorder_protocol);
	close(ends[1]);
	ends[1] = -1;
	write_text("x");
	pump_turns(5);
	ck_assert_uint_eq(recorder.lost, 1);
	ck_assert_int_eq(recorder.reason, -EPIPE);
	close_all();
}

/* ---- threads ---- */

static pthread_t asking;
static atomic_bool got_in;

static void *ask(void *argument)
{
	struct ferry_transport_stats stats;
	ferry_transport_get_stats(argument, &stats);
	atomic_store(&got_in, true);
	return NULL;
}

static void ask_in_a_thread(struct recorder *r, char event)
{
	if (event != EVENT_DATA && event != EVENT_READ_LOST)
		return;
	atomic_store(&got_in, false);
	ck_assert_int_eq(pthread_create(&asking, NULL, ask, r->transport), 0);
	usleep(20000); /* less proves less, and more proves nothing more */
	ck_assert_msg(!atomic_load(&got_in), "%c without the lock", event);
}

/* A thread that still runs would answer for the next one, and would ask a transport that is freed. */
static void wait_for_the_answer(void)
{
	ck_assert_int_eq(pthread_join(asking, NULL), 0);
	ck_assert(atomic_load(&got_in));
}

TEST_CASE("threads");

TEST(a_protocols_callbacks_run_locked_whatever_the_options)
{
	ck_assert_int_eq(evthread_use_pthreads(), 0);
	event_base_free(base);
	base = event_base_new();
	open_with_options(BEV_OPT_THREADSAFE | BEV_OPT_DEFER_CALLBACKS | BEV_OPT_UNLOCK_CALLBACKS,
	                  &recorder_protocol);
	recorder.hook = ask_in_a_thread;
	ck_assert_int_eq(wire_send(ends[1], "x", 1, NULL, 0), 1);
	pump_until_count(&recorder.data, 1);
	wait_for_the_answer();
	shutdown(ends[1], SHUT_WR);
	pump_until_count(&recorder.read_lost, 1);
	wait_for_the_answer();
	close_all();
}

/* ---- without a protocol ---- */

static void note_status(struct ferry_file_producer *producer, int status, uint64_t sent,
                        void *context)
{
	(void)producer, (void)sent;
	*(int *)context = status;
}

TEST_CASE("what is told");

TEST(a_bufferevents_file_fails_when_the_peer_is_gone)
{
	static const struct ferry_file_callbacks callbacks = {.finished = note_status};
	int status = 1;

	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *transport = make_transport(ends[0]);
	close(ends[1]);
	ck_assert_int_eq(ferry_transport_send_file(NULL, transport, make_file(10), FERRY_FD_TAKE, 0, 10,
	                                           0, &callbacks, &status),
	                 0);
	pump_turns(3);
	ck_assert_int_eq(status, -EPIPE);
	ferry_transport_free(transport);
	pump_turns(2);
}

/* ---- connecting ---- */

struct slow_place {
	int listener, filler[4];
	struct sockaddr_in address;
};

/* A listener whose backlog is full: connecting takes as long as the test. */
static int connect_slowly(struct slow_place *place)
{
	socklen_t length = sizeof(place->address);
	struct sockaddr *address = (struct sockaddr *)&place->address;

	place->address = (struct sockaddr_in){.sin_family = AF_INET};
	place->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	place->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(place->listener, address, length), 0);
	ck_assert_int_eq(getsockname(place->listener, address, &length), 0);
	ck_assert_int_eq(listen(place->listener, 0), 0);
	for (int i = 0; i < 4; i++) {
		place->filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		connect(place->filler[i], address, length);
	}
	return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static void leave_slow_place(struct slow_place *place)
{
	close(place->listener);
	for (int i = 0; i < 4; i++)
		close(place->filler[i]);
}

/* The recorder itself wants connection_made first. */
static unsigned int made_count, lost_count;
static int lost_reason;

static void note_made(struct ferry_transport *transport, void *context)
{
	(void)transport, (void)context;
	made_count++;
}

static void note_lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport, (void)context;
	lost_count++;
	lost_reason = reason;
}

static const struct ferry_protocol counting = {
    .connection_made = note_made,
    .connection_lost = note_lost,
};

TEST_CASE("connecting");

LOOP_TEST(a_connection_that_never_stood_is_not_made_when_it_is_lost, 2)
{
	struct slow_place place;
	struct ferry_transport *transport = make_transport(connect_slowly(&place));
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);

	ck_assert_int_eq(
	    bufferevent_socket_connect(bev, (struct sockaddr *)&place.address, sizeof(place.address)),
	    0);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &counting, NULL), 0);
	pump_turns(2);
	ck_assert_uint_eq(made_count, 0);
	if (_i == 0)
		ck_assert_int_eq(ferry_transport_abort_connection(transport), 0);
	else
		bufferevent_set_timeouts(bev, NULL, &(struct timeval){.tv_usec = 1000});
	pump_until_count(&lost_count, 1);
	ck_assert_int_eq(lost_reason, _i == 0 ? -ECONNABORTED : -ETIMEDOUT);
	ck_assert_uint_eq(made_count, 0);
	ferry_transport_free(transport);
	pump_turns(2);
	leave_slow_place(&place);
}

TEST(a_close_asked_for_while_connecting_happens_with_writing_disabled_too)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t length = sizeof(address);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, length), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	ck_assert_int_eq(listen(listener, 1), 0);

	struct ferry_transport *transport =
	    make_transport(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	ck_assert_int_eq(bufferevent_socket_connect(bev, (struct sockaddr *)&address, sizeof(address)),
	                 0);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &counting, NULL), 0);
	bufferevent_disable(bev, EV_WRITE);
	ck_assert_int_eq(ferry_transport_lose_connection(transport), 0);
	pump_until_count(&lost_count, 1);
	ck_assert_int_eq(lost_reason, 0);
	ck_assert_uint_eq(made_count, 1);
	ferry_transport_free(transport);
	pump_turns(2);
	close(listener);
}

/* ---- busy loops ---- */

TEST_CASE("no more work than there is");

LOOP_TEST(events_enabled_after_the_end_do_not_spin, 2)
{
	open_transport(&recorder_protocol);
	ck_assert_int_eq(ferry_transport_abort_connection(recorder.transport), 0);
	pump_until_lost(&recorder);
	bufferevent_enable(bev_of(), _i == 0 ? EV_READ : EV_WRITE);
	pump_turns(3);
	ck_assert(!event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED));
	close_all();
}

/* ---- items that a pause leaves undelivered ---- */

static void pause_first(struct recorder *r, char event)
{
	if (event == EVENT_FD && r->fd_count == 1)
		ck_assert_int_eq(ferry_transport_pause_reading(r->transport), 0);
}

TEST_CASE("what is told");

TEST(undelivered_descriptors_come_before_their_bytes_at_any_priority)
{
	event_base_priority_init(base, 4);
	open_transport(&recorder_protocol);
	recorder.hook = pause_first;
	recorder.close_fds = true;
	int fds[2] = {make_marked_fd(1), make_marked_fd(2)};
	ck_assert_int_eq(wire_send(ends[1], "xy", 2, fds, 2), 2);
	close(fds[0]);
	close(fds[1]);
	pump_turns(3);
	ck_assert_str_eq(recorder.events, "MF");
	ck_assert_int_eq(bufferevent_priority_set(bev_of(), 0), 0);
	ck_assert_int_eq(ferry_transport_resume_reading(recorder.transport), 0);
	pump_turns(3);
	ck_assert_str_eq(recorder.events, "MFFD");
	close_all();
}

static void trigger_at_first(struct recorder *r, char event)
{
	if (event == EVENT_FD && r->fd_count == 1)
		bufferevent_trigger(ferry_transport_get_bufferevent(r->transport), EV_READ,
		                    BEV_TRIG_IGNORE_WATERMARKS);
}

TEST(bytes_do_not_overtake_descriptors_though_a_descriptors_callback_triggers_a_read)
{
	open_transport(&recorder_protocol);
	recorder.hook = trigger_at_first;
	recorder.close_fds = true;
	int fds[2] = {make_marked_fd(1), make_marked_fd(2)};
	ck_assert_int_eq(wire_send(ends[1], "xy", 2, fds, 2), 2);
	close(fds[0]);
	close(fds[1]);
	pump_until_length(&recorder, 2);
	ck_assert_str_eq(recorder.events, "MFFD");
	close_all();
}

/* ---- a priority that changes while a callback waits for the loop ---- */

static void set_recorder_as_next(struct ferry_transport *transport, struct evbuffer *input,
                                 void *context)
{
	(void)input, (void)context;
	recorder_attach(&recorder, transport, &recorder_protocol);
	ck_assert_int_eq(bufferevent_priority_set(ferry_transport_get_bufferevent(transport), 2), 0);
}

static const struct ferry_protocol greeting = {.data_received = set_recorder_as_next};

static void count_run(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what;
	++*(unsigned int *)argument;
}

/* libevent would put the callback out of another queue than it is in: its loop would never end, and later events of
 * the old priority would be lost. */
TEST(the_priority_may_change_while_input_waits_to_be_offered)
{
	unsigned int runs = 0;
	event_base_priority_init(base, 3);
	make_pair(PAIR_UNIX, ends);
	struct ferry_transport *transport = make_transport(ends[0]);
	ck_assert_int_eq(ferry_transport_set_protocol(transport, &greeting, NULL), 0);
	ck_assert_int_eq(write(ends[1], "x", 1), 1);
	pump_until_count(&recorder.data, 1);
	event_base_once(base, -1, EV_TIMEOUT, count_run, &runs, NULL);
	pump_until_count(&runs, 1);
	ck_assert_str_eq(recorder.events, "MD");
	close_all();
}

/* ---- the work of one wake-up ---- */

static void write_one_byte(void *context)
{
	unsigned int *asked = context;
	++*asked;
	write_text(".");
}

static const struct ferry_producer_callbacks one_byte = {.resume_producing = write_one_byte};

TEST_CASE("no more work than there is");

TEST(a_producer_of_single_bytes_does_not_keep_the_loop)
{
	unsigned int asked = 0;
	make_pair(PAIR_TCP, ends);
	recorder_open(&recorder, ends[0], &recorder_protocol);
	pump_turns(2);
	ferry_transport_register_producer(recorder.transport, &one_byte, &asked, FERRY_PRODUCER_PULL);
	event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	ck_assert_uint_le(asked, 1000);
	ck_assert_int_eq(ferry_transport_unregister_producer(recorder.transport), 0);
	close_all();
}

static void count_fd(struct recorder *r, char event)
{
	/* A sender that is as fast as the receiver. */
	if (event == EVENT_FD && r->fd_count < RECORDER_MAX_FDS)
		ck_assert_int_eq(wire_send(ends[1], ".", 1, &ends[1], 1), 1);
}

TEST(a_peer_that_sends_single_descriptors_does_not_keep_the_loop)
{
	open_transport(&recorder_protocol);
	recorder.hook = count_fd;
	recorder.close_fds = true;
	int fd = make_marked_fd(1);
	ck_assert_int_eq(wire_send(ends[1], ".", 1, &fd, 1), 1);
	close(fd);
	event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	ck_assert_uint_ge(recorder.fd_count, 1);
	ck_assert_uint_le(recorder.fd_count, 256);
	recorder.hook = NULL;
	pump_turns(3);
	close_all();
}

/* ---- a pause when both ends have closed ---- */

static void pause_at_fd(struct recorder *r, char event)
{
	if (event == EVENT_FD)
		ck_assert_int_eq(ferry_transport_pause_reading(r->transport), 0);
}

TEST_CASE("what is told");

/* _i: whether the test takes the undelivered items by hand and leaves none to deliver */
LOOP_TEST(paused_bytes_outlive_the_close_of_both_halves, 2)
{
	make_pair(PAIR_UNIX, ends);
	struct bufferevent *bev =
	    bufferevent_socket_new(base, ends[0], BEV_OPT_CLOSE_ON_FREE | BEV_OPT_DEFER_CALLBACKS);
	struct ferry_transport *transport = NULL;
	ck_assert_int_eq(ferry_transport_new(&transport, bev), 0);
	recorder_attach(&recorder, transport, &recorder_protocol);
	recorder.hook = pause_at_fd;
	pump_turns(2);
	ck_assert_int_eq(ferry_transport_lose_write_connection(transport), 0);
	int fd = make_marked_fd(1);
	ck_assert_int_eq(wire_send(ends[1], "held", 4, &fd, 1), 4);
	close(fd);
	ck_assert_int_eq(shutdown(ends[1], SHUT_WR), 0);
	pump_turns(3);
	/* The pause came before the end was seen. Now it is. */
	bufferevent_enable(bev, EV_READ);
	pump_turns(3);
	ck_assert_uint_eq(recorder.lost, 0);
	ck_assert_uint_eq(recorder_length(&recorder), 0);
	if (_i == 1)
		evbuffer_drain(bufferevent_get_input(bev), 4);

	ck_assert_int_eq(ferry_transport_resume_reading(transport), 0);
	pump_until_lost(&recorder);

	ck_assert_int_eq(recorder.reason, 0);
	ck_assert_uint_eq(recorder_length(&recorder), _i == 1 ? 0 : 4);
	close_all();
}
