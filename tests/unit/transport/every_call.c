/* Every call that a transport has, in every callback that it, its bufferevent, its producer and its files have. */

#include <errno.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include "every_call.h"
#include "recorder.h"
#include "test.h"
#include "wire.h"

enum { BIG = 300000 };

static struct ferry_transport *near;     /* NULL once freed or detached */
static struct bufferevent *detached;     /* or NULL */
static struct ferry_line_stream *lines;  /* has taken the transport; or NULL */
static struct ferry_file_producer *file; /* NULL: finished */
static int far, other_far;               /* -1: closed */
static char big[BIG];

/* ---- the callbacks ---- */

static void made(struct ferry_transport *transport, void *context)
{
	(void)transport, (void)context;
	strike("connection_made");
}

static void received(struct ferry_transport *transport, struct evbuffer *input, void *context)
{
	(void)transport, (void)context;
	strike("data_received");
	evbuffer_drain(input, evbuffer_get_length(input));
}

static void fd_received(struct ferry_transport *transport, int fd, void *context)
{
	(void)transport, (void)context;
	close(fd);
	strike("file_descriptor_received");
	strike("the fd callback");
}

static void read_lost(struct ferry_transport *transport, void *context)
{
	(void)transport, (void)context;
	strike("read_connection_lost");
}

static void lost(struct ferry_transport *transport, int reason, void *context)
{
	(void)transport, (void)reason, (void)context;
	strike("connection_lost");
}

static const struct ferry_protocol protocol = {.connection_made = made,
                                               .data_received = received,
                                               .file_descriptor_received = fd_received,
                                               .read_connection_lost = read_lost,
                                               .connection_lost = lost};
static const struct ferry_protocol silent;

static void paused(void *context)
{
	(void)context;
	strike("pause_producing");
}

static void resumed(void *context)
{
	(void)context;
	strike("resume_producing");
}

static void stopped(void *context)
{
	(void)context;
	strike("stop_producing");
	strike("stop_producing of a free");
}

static const struct ferry_producer_callbacks producer = {
    .resume_producing = resumed, .pause_producing = paused, .stop_producing = stopped};

static void progress(struct ferry_file_producer *of, uint64_t sent, uint64_t total, void *context)
{
	(void)of, (void)sent, (void)total, (void)context;
	strike("progress");
}

static void finished(struct ferry_file_producer *of, int status, uint64_t sent, void *context)
{
	(void)of, (void)status, (void)sent, (void)context;
	strike("finished");
	strike("finished of an abort");
	file = NULL;
}

static const struct ferry_file_callbacks file_callbacks = {.progress = progress,
                                                           .finished = finished};

static void on_read(struct bufferevent *bev, void *context)
{
	(void)bev, (void)context;
	strike("the read callback");
}

static void on_write(struct bufferevent *bev, void *context)
{
	(void)bev, (void)context;
	strike("the write callback");
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
	(void)bev, (void)what, (void)context;
	strike("the event callback");
}

static void on_change(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *context)
{
	(void)buffer, (void)context;
	strike(info->n_added > 0 ? "the output's growth" : "the output's drain");
}

/* ---- how they are provoked ---- */

static void run(void)
{
	for (int i = 0; i < 12; i++) {
		pump_turns(1);
		if (far >= 0)
			wire_drain(far);
	}
}

static void close_far(void)
{
	close(far);
	far = -1;
}

static void by_data(void)
{
	int fd = dup(0);

	ck_assert_int_eq(wire_send(far, "data", 4, &fd, 1), 4);
	close(fd);
	run();
}

static void by_half_close(void)
{
	shutdown(far, SHUT_WR);
	run();
}

static void by_close(void)
{
	close_far();
	run();
}

static void registers(enum ferry_producer_mode mode)
{
	ck_assert_int_eq(ferry_transport_register_producer(near, &producer, NULL, mode), 0);
}

static void by_pull(void)
{
	registers(FERRY_PRODUCER_PULL);
	run();
}

static void by_write(void)
{
	registers(FERRY_PRODUCER_PUSH);
	ferry_transport_write(near, big, BIG);
	run();
}

static void by_end(void)
{
	registers(FERRY_PRODUCER_PUSH);
	ferry_transport_abort_connection(near);
	run();
}

static void free_near(void)
{
	struct ferry_transport *freed = near;

	near = NULL;
	ferry_transport_free(freed);
}

static void by_free(void)
{
	registers(FERRY_PRODUCER_PUSH);
	free_near();
	run();
}

static void queue_file(void)
{
	int fd = make_file(BIG);

	if (ferry_transport_send_file(file == NULL ? &file : NULL, near, fd, FERRY_FD_TAKE, 0,
	                              FERRY_TO_END, 0, &file_callbacks, NULL) < 0)
		close(fd);
}

static void by_file(void)
{
	queue_file();
	run();
}

static void by_abort(void)
{
	queue_file();
	ferry_transport_abort_connection(near);
	run();
}

/* The transport of another socket, with a bufferevent's callbacks. */
static void make_bare(void)
{
	int fds[2];

	ferry_transport_free(near);
	close_far();
	make_pair(PAIR_UNIX, fds);
	near = make_transport(fds[0]);
	far = fds[1];
	struct bufferevent *bev = ferry_transport_get_bufferevent(near);
	bufferevent_setcb(bev, on_read, on_write, on_event, NULL);
	ferry_transport_set_fd_cb(near, fd_received, NULL);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
}

static void bare_by_data(void)
{
	make_bare();
	by_data();
}

static void bare_by_write(void)
{
	make_bare();
	ferry_transport_write(near, "x", 1);
	run();
}

static void bare_by_close(void)
{
	make_bare();
	by_close();
}

static void by_change(void)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(near);

	evbuffer_add_cb(bufferevent_get_output(bev), on_change, NULL);
	ferry_transport_write(near, "x", 1);
	run();
}

static const struct every_callback callbacks[] = {
    {"connection_made", by_data},
    {"data_received", by_data},
    {"file_descriptor_received", by_data},
    {"read_connection_lost", by_half_close},
    {"connection_lost", by_abort},
    {"pause_producing", by_write},
    {"resume_producing", by_pull},
    {"stop_producing", by_end},
    {"stop_producing of a free", by_free},
    {"progress", by_file},
    {"finished", by_file},
    {"finished of an abort", by_abort},
    {"the fd callback", bare_by_data},
    {"the read callback", bare_by_data},
    {"the write callback", bare_by_write},
    {"the event callback", bare_by_close},
    {"the output's growth", by_change},
    {"the output's drain", by_change},
};

/* ---- the calls; with NULL, once the transport is freed, they do nothing ---- */

static void free_twice(void)
{
	struct ferry_transport *freed = near;

	free_near();
	ferry_transport_free(freed);
}

static void detach(void)
{
	if (ferry_transport_detach(near, &detached) == 0)
		near = NULL;
}

/* And a transport again, in the place of the first. */
static void hand_off(void)
{
	struct ferry_handoff *handoff;

	if (ferry_handoff_from_transport(&handoff, near) < 0)
		return;
	near = NULL;
	ck_assert_int_eq(ferry_handoff_to_transport(&near, handoff, base, BEV_OPT_CLOSE_ON_FREE), 0);
	ferry_handoff_free(handoff);
}

static void abort_connection(void)
{
	ferry_transport_abort_connection(near);
}

static void lose(void)
{
	ferry_transport_lose_connection(near);
}

static void lose_write(void)
{
	ferry_transport_lose_write_connection(near);
}

static void print(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void print(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	ferry_transport_vprintf(near, format, arguments);
	va_end(arguments);
}

static void write_all(void)
{
	struct evbuffer *buffer = evbuffer_new();

	ferry_transport_try_write(near, big, BIG);
	ferry_transport_write(near, big, BIG);
	ferry_transport_writev(near, &(struct iovec){big, BIG}, 1);
	ferry_transport_printf(near, "%*d", BIG, 1);
	print("%*d", BIG, 1);
	evbuffer_add(buffer, big, BIG);
	ferry_transport_write_buffer(near, buffer);
	evbuffer_free(buffer);
}

static void send_fd(void)
{
	ferry_transport_send_fd(near, 0, FERRY_FD_DUP);
}

static void stop_file(void)
{
	struct evbuffer *unsent = evbuffer_new();

	ferry_file_producer_stop(file);
	ferry_file_producer_take_unsent(file, unsent);
	evbuffer_free(unsent);
}

static void pause_file(void)
{
	ferry_file_producer_get_method(file);
	ferry_file_producer_get_unsent(file);
	ferry_file_producer_pause(file);
}

static void resume_file(void)
{
	ferry_file_producer_pause(file);
	ferry_file_producer_resume(file);
}

static void change_producer(void)
{
	ferry_transport_unregister_producer(near);
	ferry_transport_register_producer(near, &producer, NULL, FERRY_PRODUCER_PULL);
}

static void unregister(void)
{
	ferry_transport_unregister_producer(near);
}

static void pause_reading(void)
{
	ferry_transport_pause_reading(near);
}

static void resume_reading(void)
{
	ferry_transport_pause_reading(near);
	ferry_transport_resume_reading(near);
}

static void change_protocol(void)
{
	ferry_transport_set_protocol(near, &silent, NULL);
}

static void close_the_peer(void)
{
	if (far >= 0)
		close_far();
}

static void flush(void)
{
	ferry_transport_write(near, "x", 1);
	ferry_transport_flush(near, &(struct timeval){0, 0});
}

static void change_socket(void)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(near);
	int fds[2], old = bev != NULL ? bufferevent_getfd(bev) : -1;

	make_pair(PAIR_UNIX, fds);
	if (ferry_transport_set_socket(near, fds[0]) < 0)
		close(fds[0]);
	else if (old >= 0)
		close(old);
	other_far = fds[1];
}

static void settle_all(void)
{
	struct ferry_transport_stats stats;

	ferry_transport_set_fd_cb(near, NULL, NULL);
	ferry_transport_set_fds_lost_cb(near, NULL, NULL);
	ferry_transport_set_fd_coalescing(near, true);
	ferry_transport_set_fd_positions(near, FERRY_FD_EXACT);
	ferry_transport_set_max_fds_per_message(near, 1);
	ferry_transport_set_fd_buffer(near, 1, 1);
	ferry_transport_set_byte_limit(near, 1);
	ferry_transport_set_tls_truncation(near, true);
	ferry_transport_set_rate_limit_group(near, NULL);
	ferry_transport_get_stats(near, &stats);
	struct ferry_in_flight_info in_flight;
	ferry_in_flight_get_info(&in_flight);
	ferry_in_flight_set_limit(in_flight.limit);
}

static void make_lines(void)
{
	static const struct ferry_line_callbacks none;

	if (ferry_line_stream_new(&lines, near, &none, NULL) == 0)
		near = NULL;
}

static void make_messages(void)
{
	static const struct ferry_message_callbacks none;
	struct ferry_message_stream *messages;

	if (ferry_message_stream_new(&messages, near, &none, NULL) == 0) {
		near = NULL;
		ferry_message_stream_send(messages, 1, big, BIG, NULL, 0, 0);
		ferry_message_stream_free(messages);
	}
}

static void disable(void)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(near);

	if (bev != NULL) {
		bufferevent_disable(bev, EV_READ | EV_WRITE);
		bufferevent_setcb(bev, NULL, NULL, NULL, NULL);
	}
}

static const struct every_call calls[] = {
    {"ferry_transport_free", free_near},
    {"ferry_transport_free twice", free_twice},
    {"ferry_transport_detach", detach},
    {"ferry_handoff_from_transport, _to_transport", hand_off},
    {"ferry_transport_abort_connection", abort_connection},
    {"ferry_transport_lose_connection", lose},
    {"ferry_transport_lose_write_connection", lose_write},
    {"ferry_transport_write, _writev, _printf, _write_buffer", write_all},
    {"ferry_transport_send_fd", send_fd},
    {"ferry_transport_send_file", queue_file},
    {"ferry_file_producer_stop, _take_unsent", stop_file},
    {"ferry_file_producer_pause", pause_file},
    {"ferry_file_producer_resume", resume_file},
    {"ferry_transport_register_producer", change_producer},
    {"ferry_transport_unregister_producer", unregister},
    {"ferry_transport_pause_reading", pause_reading},
    {"ferry_transport_resume_reading", resume_reading},
    {"ferry_transport_set_protocol", change_protocol},
    {"ferry_transport_set_socket", change_socket},
    {"ferry_transport_flush", flush},
    {"ferry_transport_set_…, _get_…", settle_all},
    {"ferry_line_stream_new", make_lines},
    {"ferry_message_stream_new, _send, _free", make_messages},
    {"bufferevent_disable, _setcb", disable},
    {"close(2) by the peer", close_the_peer},
};

/* ---- the world ---- */

static void set_up(void)
{
	int fds[2];

	make_pair(PAIR_UNIX, fds);
	near = make_transport(fds[0]);
	far = fds[1];
	other_far = -1;
	ck_assert_int_eq(ferry_transport_set_protocol(near, &protocol, NULL), 0);
}

static void tear_down(void)
{
	ferry_transport_free(near);
	ferry_line_stream_free(lines);
	lines = NULL;
	if (detached != NULL)
		bufferevent_free(detached);
	detached = NULL;
	pump_turns(4);
	ck_assert_ptr_null(file);
	if (far >= 0)
		close(far);
	if (other_far >= 0)
		close(other_far);
}

LOOP_TEST(every_call_is_safe_in_every_callback_of_a_transport, COUNT(callbacks))
{
	every_call_run(&callbacks[_i], calls, COUNT(calls), set_up, tear_down);
}
